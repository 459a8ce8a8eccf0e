//! Answers that the gate refused, through the real binary: whoever asks gets no word of them, by no way out, and hears why.
//! A secret is under stars wherever text is shown, also in the record; where nobody can look, the record has nothing.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};

use crate::egress::create;
use crate::home::{DEADLINE, Home, Server, append, block_on, count, stderr};
use crate::model::{Model, Say, is_asked};
use crate::vault::{holding, piped};

/// What no answer may tell.
const CANARY: &str = "tll_CanaryOfTheTill_4711";

/// What is said, so that the scripted model says it back.
const ASKED: &str = "@say it is tll_CanaryOfTheTill_4711";

/// The agent that is asked.
const AGENT: &str = "teller";

/// A way by which somebody gets an answer: what it is called, and all that comes out there.
struct Way(&'static str, fn(&Home, &Server) -> String);

const WAYS: [Way; 15] = [
    Way("events", |_, server| {
        let event = json!({"text": ASKED, "agent": AGENT, "wait": true});
        block_on(server.event(&event)).1.to_string()
    }),
    Way("tasks", |_, server| {
        let path = format!("/v1/agents/{AGENT}/spawn");
        body(server, &path, &json!({"task": ASKED, "wait": true}))
    }),
    Way("chat completions", |_, server| body(server, "/v1/chat/completions", &chat(false))),
    Way("chat completions, streamed", |_, server| body(server, "/v1/chat/completions", &chat(true))),
    Way("messages", |_, server| body(server, "/v1/messages", &chat(false))),
    Way("messages, streamed", |_, server| body(server, "/v1/messages", &chat(true))),
    Way("responses", |_, server| {
        body(server, "/v1/responses", &json!({"model": AGENT, "input": ASKED, "stream": false}))
    }),
    Way("responses, streamed", |_, server| {
        body(server, "/v1/responses", &json!({"model": AGENT, "input": ASKED, "stream": true}))
    }),
    Way("ask", |home, _| printed(&home.run(&["ask", ASKED, "--agent", AGENT]))),
    Way("ask --json", |home, _| printed(&home.run(&["ask", ASKED, "--agent", AGENT, "--json"]))),
    // The lines before are the record.
    Way("ask --jsonl", |home, _| {
        let output = printed(&home.run(&["ask", ASKED, "--agent", AGENT, "--jsonl"]));
        let answers = output.lines().filter(|line| line.contains("\"kind\":\"answer\""));
        answers.collect()
    }),
    Way("chat", |home, _| printed(&piped(home, &["chat", "--agent", AGENT], ASKED))),
    Way("event send", |home, _| printed(&home.run(&["event", "send", ASKED, "--agent", AGENT, "--wait"]))),
    Way("agent spawn", |home, _| printed(&home.run(&["agent", "spawn", AGENT, "--task", ASKED, "--wait"]))),
    Way("agent spawn --json", |home, _| {
        printed(&home.run(&["agent", "spawn", AGENT, "--task", ASKED, "--wait", "--json"]))
    }),
];

fn chat(stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": ASKED}]);
    json!({"model": AGENT, "max_tokens": 64, "messages": messages, "stream": stream})
}

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(output))
}

/// Posts and takes all that comes back; of a stream, its pieces of text also as one.
fn body(server: &Server, path: &str, body: &Value) -> String {
    block_on(async {
        let request = reqwest::Client::new().post(format!("{}{path}", server.url)).bearer_auth(&server.token);
        let response = request.json(body).timeout(DEADLINE).send().await.expect("the server answers");
        let text = response.text().await.expect("it is text");
        let said = data(&text).filter_map(|data| {
            let places = [&data["choices"][0]["delta"]["content"], &data["delta"]["text"], &data["delta"]];
            places.into_iter().find_map(|place| place.as_str().map(str::to_owned))
        });
        let said: String = said.collect();
        format!("{text}\n{said}")
    })
}

/// The documents of a stream of events.
fn data(stream: &str) -> impl Iterator<Item = Value> {
    let lines = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.filter_map(|data| serde_json::from_str(data).ok())
}

/// Asks, and follows the run from its beginning to its end; returns its live text, and all that came.
fn followed(server: &Server) -> (String, String) {
    let event = json!({"text": format!("@slow 300\n{ASKED}"), "agent": AGENT});
    block_on(async {
        let (status, accepted) = server.event(&event).await;
        assert_eq!(status, 202, "{accepted}");
        let session = accepted["session"].as_str().expect("a session");
        server.journal_until(session, |entries| !entries.is_empty()).await;
        let (_, runs) = server.get(&format!("/v1/runs?session={session}")).await;
        let run = runs["items"][0]["id"].as_str().expect("a run");
        let request = reqwest::Client::new()
            .get(format!("{}/v1/runs/{run}/journal", server.url))
            .bearer_auth(&server.token)
            .header("accept", "text/event-stream");
        let response = request.timeout(DEADLINE).send().await.expect("the server answers");
        let stream = response.text().await.expect("it is text");
        let live: String = data(&stream)
            .filter(|data| !data["offset"].is_null())
            .filter_map(|data| data["text"].as_str().map(str::to_owned))
            .collect();
        (live, stream)
    })
}

/// Lists the ways by which the canary comes out, and those that do not say why there is no answer.
fn out(home: &Home, server: &Server) -> (Vec<&'static str>, Vec<String>) {
    let (mut told, mut silent) = (Vec::new(), Vec::new());
    for Way(name, way) in WAYS {
        let text = way(home, server);
        if text.contains(CANARY) {
            told.push(name);
        }
        if !text.contains("action_denied") {
            silent.push(format!("{name}: {text}"));
        }
    }
    (told, silent)
}

/// Asserts that nothing of a refused answer comes out, and that everybody hears why.
fn assert_refused(home: &Home, server: &Server, why: &str) {
    assert_eq!(out(home, server), (Vec::new(), Vec::new()), "{why}");
    let (live, _) = followed(server);
    assert!(!live.contains(CANARY), "{why}: {live}");
    let event = json!({"text": ASKED, "agent": AGENT, "wait": true});
    let (status, answer) = block_on(server.event(&event));
    assert_eq!(
        (status, &answer["status"], &answer["reply"]),
        (200, &json!("failed"), &Value::Null),
        "{answer}"
    );
    let message = answer["failure"]["message"].as_str().expect("a reason");
    assert!(message.contains(why), "{message}");
}

/// Everything by which the record of a refused answer is read.
fn records(home: &Home, server: &Server) -> String {
    let event = json!({"text": ASKED, "agent": AGENT, "wait": true});
    let (_, answer) = block_on(server.event(&event));
    let run = answer["run"].as_str().expect("a run");
    let (_, journal) = block_on(server.get(&format!("/v1/runs/{run}/journal?limit=256")));
    let mut all = format!("{journal}{}", followed(server).1);
    let lines: [&[&str]; 6] = [
        &["run", "export", run],
        &["run", "export", run, "--jsonl"],
        &["run", "show", run, "--json"],
        &["run", "watch", run],
        &["run", "watch", run, "--jsonl"],
        &["ask", ASKED, "--agent", AGENT, "--jsonl"],
    ];
    for line in lines {
        all.push_str(&printed(&home.run(line)));
    }
    all
}

/// Writes a policy that refuses one kind of action.
fn forbid(home: &Home, kind: &str, rule: &str) {
    let policies = home.path().join("policies");
    fs::create_dir_all(&policies).expect("it is made");
    let policy = format!(
        "package dromia.policy\n\nimport rego.v1\n\nverdicts contains {{\"verdict\": \"deny\", \"rule\": \"{rule}\", \
         \"reason\": \"not here\"}} if input.action.kind == \"{kind}\"\n"
    );
    fs::write(policies.join("own.rego"), policy).expect("it is written");
}

fn set_secret(home: &Home) {
    let line = ["secret", "set", "till", "--stdin", "--host", "till.example", "--placement", "bearer"];
    let set = piped(home, &line, CANARY);
    assert!(set.status.success(), "{}", stderr(&set));
}

/// Puts another key in the place of the one that opens the vault.
fn lock(home: &Home) {
    let key = home.path().join("vault.key");
    let own = fs::read_to_string(&key).expect("the key");
    let digits: String = own.trim().chars().rev().take(64).collect();
    fs::write(&key, format!("dromia-vault-key-1 {digits}\n")).expect("another key");
}

#[test]
fn an_answer_without_a_reply_grant_is_never_delivered() {
    let home = Home::new();
    let server = home.serve();
    let made = home.run(&["agent", "create", AGENT, "--grant", "model"]);
    assert!(made.status.success(), "{}", stderr(&made));
    assert_refused(&home, &server, "default deny");
    // The record has it, and says that nobody was told.
    let event = json!({"text": ASKED, "agent": AGENT, "wait": true});
    let (_, answer) = block_on(server.event(&event));
    let session = answer["session"].as_str().expect("a session");
    let shown = printed(&home.run(&["session", "show", session]));
    assert!(shown.contains(&format!("\n{AGENT} (withheld by the rule default deny), ")), "{shown}");
    let document = printed(&home.run(&["session", "show", session, "--json"]));
    assert!(document.contains("\"withheld\"") && document.contains("\"default deny\""), "{document}");
}

#[test]
fn an_answer_that_a_policy_forbids_is_never_delivered() {
    let home = Home::new();
    forbid(&home, "reply", "no-replies");
    let server = home.serve();
    create(&home, AGENT, &[]);
    assert_refused(&home, &server, "policy no-replies");
}

#[test]
fn an_answer_with_a_secret_is_withheld_and_recorded_masked() {
    let home = Home::new();
    let server = home.serve();
    create(&home, AGENT, &[]);
    set_secret(&home);
    assert_refused(&home, &server, "the secret \"till\"");
    // The question is what a person typed, in the words of their input.
    let all = records(&home, &server).replace(&format!("\"question\": \"{ASKED}\""), "");
    assert!(!all.contains(CANARY), "{all}");
    assert!(all.contains("it is ****"), "{all}");

    server.terminate();
    lock(&home);
    let server = home.serve();
    assert_refused(&home, &server, "failed to check whether");
    let all = records(&home, &server).replace(&format!("\"question\": \"{ASKED}\""), "");
    // What was written down before is under its stars.
    assert!(!all.contains(CANARY) && all.contains("(withheld: the server could not check"), "{all}");
    let (live, _) = followed(&server);
    assert_eq!(live, "", "live text is withheld, too");
}

#[test]
fn a_way_that_hands_out_an_answer_is_caught() {
    let home = Home::new();
    let server = home.serve();
    create(&home, AGENT, &[]);
    let (told, _) = out(&home, &server);
    assert_eq!(told, WAYS.map(|Way(name, _)| name), "the same search finds an answer that is let out");
    let (_, stream) = followed(&server);
    assert!(stream.contains(CANARY) && records(&home, &server).contains(CANARY), "{stream}");
}

#[test]
fn a_secret_a_model_says_is_never_stored_or_used() {
    let home = Home::new();
    let model = Model::start(|_, messages| {
        if is_asked(messages) {
            let arguments = json!({"path": "note.txt", "content": format!("it is {CANARY}")});
            Say::Call("file__write", arguments.to_string())
        } else {
            Say::Text(format!("I wrote down that it is {CANARY}"))
        }
    });
    let config = format!("version: 1\nmodels:\n{}", model.alias("default"));
    fs::write(home.path().join("dromia.yaml"), config).expect("it is written");
    let server = home.serve();
    create(&home, AGENT, &["file.*".to_owned()]);
    set_secret(&home);
    let event = json!({"text": "what is it?", "agent": AGENT, "wait": true});
    let (status, answer) = block_on(server.event(&event));
    assert_eq!(
        (status, &answer["status"], &answer["reply"]),
        (200, &json!("failed"), &Value::Null),
        "{answer}"
    );
    let session = answer["session"].as_str().expect("a session");
    let entries = block_on(server.journal_until(session, |entries| count(entries, "run_failed") == 1));
    assert_eq!(count(&entries, "tool_started"), 0, "{entries:?}");
    let refused = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("the call is refused");
    assert_eq!(refused["fields"]["rule"], "leak scan", "{refused}");
    assert!(refused["body"].to_string().contains("till"), "{refused}");
    for line in [&["session", "show", session][..], &["session", "export", session]] {
        let told = printed(&home.run(line));
        assert!(!told.contains(CANARY) && told.contains("****"), "{line:?}: {told}");
    }
    server.terminate();
    assert_eq!(holding(&home.path(), CANARY.as_bytes()), Vec::<String>::new());
    append(&home.path().join("dromia.yaml"), CANARY);
    assert_eq!(holding(&home.path(), CANARY.as_bytes()).len(), 1, "the search finds what is there");
}

#[test]
fn a_policy_refusal_is_not_reported_as_model_failure() {
    let home = Home::new();
    forbid(&home, "model", "no-models");
    let server = home.serve();
    create(&home, AGENT, &[]);
    let (status, answer) = block_on(server.event(&json!({"text": "hello", "agent": AGENT, "wait": true})));
    assert_eq!((status, &answer["failure"]["code"]), (200, &json!("action_denied")), "{answer}");
    let message = answer["failure"]["message"].as_str().expect("a reason");
    assert!(message.contains("policy no-models") && !message.contains("the model failed"), "{message}");
    assert_eq!((&answer["cost_micros"], &answer["reply"]), (&json!(0), &Value::Null), "{answer}");
}
