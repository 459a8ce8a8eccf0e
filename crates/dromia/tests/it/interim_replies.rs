//! Interim replies through the real binary: what a turn says before its answer, to a channel, to a terminal and to other clients,
//! and what refuses it.

use std::process::Output;

use serde_json::{Value, json};

use crate::egress::create;
use crate::home::{Home, Server, append, block_on, stderr};
use crate::programs::workspace;
use crate::vault::piped;
use crate::webhook::{Heard, Receiver, VARIABLE, deliveries, say, serve, until_all};

/// What is said before the answer.
const INTERIM: &str = "Looking into it";
const ANSWER: &str = "It is on its way";

/// A turn that says both.
fn both() -> String {
    format!("@tool reply {}\n@say {ANSWER}", json!({"text": INTERIM}))
}

/// A home that serves an agent with these grants, whose channel leads to a receiver.
fn serving(receiver: &Receiver, grants: &[&str]) -> (Home, Server) {
    let home = Home::new();
    let channel = format!(
        "channels:\n  orders: {{ kind: webhook, agent: herald, url: '{}', secret: 'env:{VARIABLE}' }}\n",
        receiver.url
    );
    append(&home.path().join("dromia.yaml"), &channel);
    let server = serve(&home);
    create(&home, "herald", &grants.iter().map(|grant| (*grant).to_owned()).collect::<Vec<_>>());
    (home, server)
}

/// The kind, the text and the status of each message.
fn said(heard: &[Heard]) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let read = |one: &Heard| {
        let event: Value = serde_json::from_slice(one.body()).expect("a message is JSON");
        (text(&event["type"]), text(&event["data"]["text"]), text(&event["data"]["status"]))
    };
    heard.iter().map(read).collect()
}

fn expected() -> Vec<(String, String, String)> {
    let both = [("agent.interim_reply", INTERIM, "running"), ("agent.replied", ANSWER, "completed")];
    both.map(|(kind, text, status)| (kind.to_owned(), text.to_owned(), status.to_owned())).to_vec()
}

/// Has an agent do a turn; returns its run and the entries that ended its calls.
fn turn(server: &Server, agent: &str, text: &str) -> (String, Vec<Value>) {
    let event = json!({"text": text, "agent": agent, "wait": true});
    block_on(async {
        let (status, answer) = server.event(&event).await;
        assert_eq!(status, 200, "{answer}");
        let run = answer["run"].as_str().expect("a run").to_owned();
        let (_, page) = server.get(&format!("/v1/runs/{run}/journal?limit=256")).await;
        let entries = page["entries"].as_array().expect("entries").clone();
        let ends = |entry: &Value| entry["kind"] == "tool_finished" || entry["kind"] == "tool_refused";
        (run, entries.into_iter().filter(ends).collect())
    })
}

fn result(entry: &Value) -> &str {
    entry["body"]["parts"][0]["text"].as_str().unwrap_or_default()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_interim_reply_leaves_before_the_answer() {
    let receiver = Receiver::start(200);
    let (home, server) = serving(&receiver, &["tool:reply"]);
    assert_eq!(say(&server, "msg_1", &both()).0, 202);
    let heard = receiver.until(2);
    assert_eq!(said(&heard), expected());
    let found = until_all(&home, "delivered", 2);
    let places: Vec<_> = found.iter().map(|delivery| (&delivery["target"], &delivery["position"])).collect();
    let target = json!("webhook:orders");
    assert_eq!(places, [(&target, &json!(2)), (&target, &json!(1))]);
    let (_, feed) = block_on(server.get("/v1/feed"));
    assert_eq!(feed["items"][0]["message"]["data"]["text"], INTERIM, "{feed}");
    assert_eq!(feed["items"][1]["message"]["data"]["text"], ANSWER, "{feed}");
}

#[test]
fn an_answer_waits_for_the_interim_reply_before_it() {
    let receiver = Receiver::start(500);
    let (home, server) = serving(&receiver, &["tool:reply"]);
    assert_eq!(say(&server, "msg_1", &both()).0, 202);
    let heard = receiver.until(2);
    assert_eq!(heard[0].id, heard[1].id, "the first is repeated, and the second waits");
    receiver.answer(200);
    until_all(&home, "delivered", 2);
    let heard = receiver.heard();
    assert_eq!(said(&heard[heard.len() - 2..]), expected());
    assert!(heard[..heard.len() - 1].iter().all(|one| one.id == heard[0].id));
    drop(server);
}

#[test]
fn a_kill_during_an_interim_reply_sends_both_messages_in_order() {
    let receiver = Receiver::start(crate::webhook::NEVER);
    let (home, server) = serving(&receiver, &["tool:reply"]);
    assert_eq!(say(&server, "msg_1", &both()).0, 202);
    receiver.until(1);
    server.kill();
    receiver.answer(200);
    let server = serve(&home);
    until_all(&home, "delivered", 2);
    let heard = receiver.heard();
    assert_eq!(heard[0].id, heard[1].id, "it is repeated under its id");
    assert_eq!(said(&heard[1..]), expected());
    drop(server);
}

#[test]
fn clients_show_an_interim_reply_as_words_of_the_agent() {
    let (home, server) = serving(&Receiver::start(200), &["tool:reply"]);
    let (run, ended) = turn(&server, "herald", &both());
    assert_eq!((&ended[0]["fields"]["reply"], result(&ended[0])), (&json!(true), INTERIM), "{ended:?}");
    assert!(deliveries(&home).is_empty(), "whoever waits for the answer gets no message");
    let watched = printed(&home.run(&["run", "watch", &run]));
    assert!(watched.contains("interim reply"), "{watched}");
    let chat = printed(&piped(
        &home,
        &["chat", "--agent", "herald"],
        &format!("@tool reply {}", json!({"text": INTERIM})),
    ));
    assert!(chat.contains(&format!("{INTERIM}\n")) && !chat.contains("reply "), "{chat}");
    // Compatible APIs answer with the answer.
    let messages = json!([{"role": "user", "content": both()}]);
    for (path, body) in [
        ("/v1/chat/completions", json!({"model": "herald", "messages": messages})),
        ("/v1/messages", json!({"model": "herald", "max_tokens": 64, "messages": messages})),
        ("/v1/responses", json!({"model": "herald", "input": both()})),
    ] {
        let (status, answer) = block_on(async {
            let request =
                reqwest::Client::new().post(format!("{}{path}", server.url)).bearer_auth(&server.token);
            server.send(request.json(&body)).await
        });
        let answer = answer.to_string();
        assert!(status == 200 && answer.contains(ANSWER), "{path}: {answer}");
        assert!(!answer.contains(&format!("\"{INTERIM}")), "{path}: {answer}");
    }
}

#[test]
fn only_an_agent_that_asks_for_interim_replies_is_offered_them() {
    let (home, server) = serving(&Receiver::start(200), &["tool:reply"]);
    create(&home, "silent", &["time.now".to_owned()]);
    for (agent, offered) in [("herald", true), ("silent", false)] {
        let (run, _) = turn(&server, agent, "@say hello");
        let request = printed(&home.run(&["run", "show", &run, "--request", "--step", "1"]));
        assert_eq!(request.contains("before your answer"), offered, "{agent}: {request}");
    }
    let (_, ended) = turn(&server, "silent", &both());
    assert_eq!(ended[0]["fields"]["status"], "denied", "{ended:?}");
    // The grant for the tool is none for answers.
    let made = home.run(&["agent", "create", "mute", "--grant", "model", "--grant", "tool:reply"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let (_, ended) = turn(&server, "mute", &both());
    assert_eq!(ended[0]["fields"]["status"], "denied", "{ended:?}");
    assert!(result(&ended[0]).contains("not granted to reply"), "{ended:?}");
}

#[test]
fn a_policy_about_replies_refuses_interim_replies() {
    let receiver = Receiver::start(200);
    let (home, server) = serving(&receiver, &["tool:reply"]);
    let policies = home.path().join("policies");
    std::fs::create_dir_all(&policies).expect("it is made");
    let policy = "package dromia.policy\n\nimport rego.v1\n\nverdicts contains {\"verdict\": \"deny\", \"rule\": \"quiet\", \
                  \"reason\": \"not here\"} if input.action.kind == \"reply\"\n";
    std::fs::write(policies.join("own.rego"), policy).expect("it is written");
    drop(server);
    let server = serve(&home);
    assert_eq!(say(&server, "msg_1", &both()).0, 202);
    let heard = receiver.until(1);
    let kinds: Vec<_> = said(&heard).into_iter().map(|(kind, text, _)| (kind, text)).collect();
    assert_eq!(kinds, [("agent.failed".to_owned(), String::new())], "only the failure is told");
    let (_, ended) = turn(&server, "herald", &both());
    assert_eq!(
        (&ended[0]["kind"], &ended[0]["fields"]["status"]),
        (&json!("tool_refused"), &json!("denied"))
    );
}

#[test]
fn interim_replies_are_bounded_in_size_and_number() {
    let (_home, server) = serving(&Receiver::start(200), &["tool:reply"]);
    let reply = |text: String| format!("@tool reply {}\n", json!({ "text": text }));
    let (_, ended) = turn(&server, "herald", &reply("x".repeat((16 << 10) + 1)));
    assert_eq!(ended[0]["fields"]["status"], "error", "{ended:?}");
    assert!(result(&ended[0]).contains("16385 bytes are more than the 16384 allowed"), "{ended:?}");
    let many: String = (1..=9).map(|number| reply(format!("step {number}"))).collect();
    let (_, ended) = turn(&server, "herald", &many);
    let states: Vec<_> =
        ended.iter().map(|entry| entry["fields"]["status"].as_str().unwrap_or_default()).collect();
    assert_eq!(states, [["ok"; 8].as_slice(), &["error"]].concat());
    assert!(result(&ended[8]).contains("this run has sent 8 interim replies"), "{ended:?}");
}

/// Whether any message that left contains words.
fn left_with(heard: &[Heard], words: &str) -> bool {
    heard.iter().any(|one| String::from_utf8_lossy(one.body()).contains(words))
}

#[test]
fn an_interim_reply_with_a_secret_never_leaves() {
    let canary = "tll_CanaryOfTheTill_4711";
    let receiver = Receiver::start(200);
    let (home, server) = serving(&receiver, &["tool:reply"]);
    let line = ["secret", "set", "till", "--stdin", "--host", "till.example", "--placement", "bearer"];
    let set = piped(&home, &line, canary);
    assert!(set.status.success(), "{}", stderr(&set));
    let text = format!("@tool reply {}\n@say {ANSWER}", json!({"text": format!("it is {canary}")}));
    assert_eq!(say(&server, "msg_1", &text).0, 202);
    let heard = receiver.until(1);
    assert_eq!(said(&heard), expected()[1..], "the answer alone leaves");
    let (_, ended) = turn(&server, "herald", &text);
    assert_eq!(ended[0]["kind"], "tool_refused", "{ended:?}");
    assert!(result(&ended[0]).contains("secret"), "{ended:?}");
    assert!(!left_with(&receiver.until(1), canary));
    // The same search finds one that leaves.
    let text = format!("@tool reply {}\n@say {ANSWER}", json!({"text": "it is tll_Another"}));
    assert_eq!(say(&server, "msg_2", &text).0, 202);
    assert!(left_with(&receiver.until(3), "tll_Another"));
}

#[test]
fn an_interim_reply_after_untrusted_text_is_judged_by_what_led_to_it() {
    let receiver = Receiver::start(200);
    let (home, server) = serving(&receiver, &["tool:reply", "file.*"]);
    let policies = home.path().join("policies");
    std::fs::create_dir_all(&policies).expect("it is made");
    let policy = "package dromia.policy\n\nimport rego.v1\n\nverdicts contains {\"verdict\": \"deny\", \"rule\": \"clean\", \
                  \"reason\": \"it read something untrusted\"} if {\n\tinput.action.kind == \"reply\"\n\
                  \tinput.context.integrity == \"untrusted\"\n}\n";
    std::fs::write(policies.join("own.rego"), policy).expect("it is written");
    drop(server);
    let server = serve(&home);
    let reply = |text: &str| format!("@tool reply {}", json!({ "text": text }));
    turn(&server, "herald", &format!("@tool file.write {}", json!({"path": "note", "content": "mine"})));
    let note = workspace(&home).expect("it wrote").join("note");
    std::fs::write(note, "as somebody says").expect("written by hand");
    let read = format!("@tool file.read {}", json!({"path": "note"}));
    let text = format!("{}\n{read}\n{}\n@say {ANSWER}", reply("before"), reply("after"));
    let (_, ended) = turn(&server, "herald", &text);
    let states: Vec<_> =
        ended.iter().map(|entry| entry["fields"]["status"].as_str().unwrap_or_default()).collect();
    assert_eq!(states, ["ok", "ok", "denied"], "{ended:?}");
    assert_eq!(ended[2]["kind"], "tool_refused", "{ended:?}");
}
