//! Tools that come, go and are for some agents only, while a server runs: who sees them, when, and what a run in flight does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};

use crate::egress::create;
use crate::home::{Home, Server, block_on, count, stderr};
use crate::model::{Model, Say};
use crate::reloads::{until, write};

/// The longest time until an edit counts.
const COUNTS: Duration = Duration::from_secs(2);

/// A configuration with these models and these tools, each a name with further keys.
fn with_tools(models: &str, tools: &[(&str, &str)]) -> String {
    let tool = |(name, keys): &(&str, &str)| {
        format!("    {name}: {{ description: Does {name}., url: 'http://127.0.0.1:9/x'{keys} }}\n")
    };
    let tools: String = tools.iter().map(tool).collect();
    format!("version: 1\nmodels:\n{models}tools:\n  external:\n{tools}")
}

const SCRIPTED: &str = "  default: { kind: scripted }\n";

/// The tools of others that `dromia tool list` shows of an agent, each with whether the agent may use it.
fn listed(home: &Home, agent: &str) -> Vec<(String, bool)> {
    let shown = home.run(&["tool", "list", "--agent", agent, "--json"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("a document");
    let items = shown["items"].as_array().or(shown.as_array()).expect("a list");
    let row = |tool: &Value| {
        let name = tool["name"].as_str().expect("a name").to_owned();
        (name, tool["granted"]["allowed"] == true)
    };
    items.iter().map(row).filter(|(name, _)| name.starts_with("bank.") || name.starts_with("crm.")).collect()
}

fn rows(expected: &[(&str, bool)]) -> Vec<(String, bool)> {
    expected.iter().map(|(name, allowed)| ((*name).to_owned(), *allowed)).collect()
}

#[test]
fn an_edited_tool_is_listed_for_its_agents_within_two_seconds() {
    let home = Home::new();
    write(&home, &with_tools(SCRIPTED, &[("bank.pay", "")]));
    let server = home.serve();
    for agent in ["clerk", "guest"] {
        create(&home, agent, &["bank.*".to_owned()]);
    }
    create(&home, "reader", &["file.read".to_owned()]);
    assert_eq!(listed(&home, "clerk"), rows(&[("bank.pay", true)]));
    let added = [("bank.pay", ""), ("bank.send", ", agents: [clerk]"), ("crm.find", ", tenants: [acme]")];
    write(&home, &with_tools(SCRIPTED, &added));
    let edited = Instant::now();
    while listed(&home, "clerk") != rows(&[("bank.pay", true), ("bank.send", true)]) {
        assert!(edited.elapsed() < COUNTS, "{:?}", listed(&home, "clerk"));
    }
    assert_eq!(listed(&home, "guest"), rows(&[("bank.pay", true)]));
    assert_eq!(listed(&home, "reader"), rows(&[("bank.pay", false)]));
    // A tool of others is answered as one that nobody has.
    let told = |line: &[&str], name: &str| {
        let mut line = line.to_vec();
        line.insert(2, name);
        let answered = home.run(&line);
        let text = stderr(&answered).replace(name, "TOOL");
        (answered.status.code(), text.split(", req_").next().unwrap_or_default().to_owned())
    };
    for line in [&["tool", "show", "--agent", "guest"][..], &["tool", "call", "--agent", "guest", "-d", "{}"]]
    {
        for hidden in ["bank.send", "crm.find"] {
            let (code, text) = told(line, hidden);
            assert_eq!((code, &text), (Some(1), &told(line, "bank.none").1), "{line:?}");
            assert!(text.contains("there is no tool"), "{text}");
        }
    }
    let event = json!({"text": "@tool bank.send {}\n@tool bank.none {}", "agent": "guest", "wait": true});
    let entries = block_on(async {
        let (_, answer) = server.event(&event).await;
        let session = answer["session"].as_str().expect("a session").to_owned();
        server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await
    });
    let said: Vec<_> =
        results(&entries).into_iter().map(|text| text.replace("bank.send", "bank.none")).collect();
    assert_eq!(said, ["there is no tool named \"bank.none\""; 2]);
    write(&home, &with_tools(SCRIPTED, &[("bank.pay", ", agents: [guest]")]));
    let edited = Instant::now();
    while !listed(&home, "clerk").is_empty() {
        assert!(edited.elapsed() < COUNTS, "{:?}", listed(&home, "clerk"));
    }
    assert_eq!(listed(&home, "guest"), rows(&[("bank.pay", true)]));
}

#[test]
fn a_tool_of_another_tenant_is_refused_as_one_that_nobody_has() {
    let home = Home::new();
    write(
        &home,
        &with_tools(SCRIPTED, &[("bank.pay", ", tenants: [default]"), ("crm.find", ", agents: [acme/ops]")]),
    );
    let server = home.serve();
    let made = home.run(&["tenant", "create", "acme", "--json"]);
    let made: Value = serde_json::from_slice(&made.stdout).expect("a document");
    let token = made["token"].as_str().expect("a token").to_owned();
    block_on(async {
        let (client, url) = (Client::new(), |path: &str| format!("{}{path}", server.url));
        let get = async |path: &str| server.send(client.get(url(path)).bearer_auth(&token)).await;
        let post = async |path: &str, body: Value| {
            server.send(client.post(url(path)).bearer_auth(&token).json(&body)).await
        };
        let agent = |grant: &str, handle: &str| json!({"handle": handle, "config": {"model": "default", "grants": ["model", "reply", grant]}});
        let (status, made) = post("/v1/agents", agent("crm.find", "ops")).await;
        assert_eq!(status, 201, "{made}");
        let (_, seen) = get("/v1/tools?agent=ops").await;
        assert!(seen.to_string().contains("crm.find") && !seen.to_string().contains("bank.pay"), "{seen}");
        let message = |answer: &Value, name: &str| answer["detail"].to_string().replace(name, "TOOL");
        for name in ["bank.pay", "bank.none"] {
            let (status, refused) = post("/v1/agents", agent(name, "other")).await;
            assert_eq!(status, 400, "{refused}");
            let (_, nobodys) = post("/v1/agents", agent("bank.nay", "other")).await;
            assert_eq!(message(&refused, name), message(&nobodys, "bank.nay"), "{name}");
            assert!(!nobodys.to_string().contains("bank.pay"), "a hint names a tool of others: {nobodys}");
            for path in [format!("/v1/tools/{name}"), format!("/v1/tools/{name}?agent=ops")] {
                assert_eq!(get(&path).await.1["code"], "tool_not_found", "{path}");
            }
            let rule = client.put(url("/v1/approval-rules/r")).bearer_auth(&token);
            let (_, refused) = server.send(rule.json(&json!({"answer": "deny", "rule": name}))).await;
            assert!(message(&refused, name).contains("there is no tool"), "{refused}");
            let capability = json!({"agent": "ops", "rights": [format!("tool:{name}")]});
            let (status, refused) = post("/v1/capabilities", capability).await;
            assert_eq!(status, 400, "{refused}");
            assert!(!refused.to_string().contains("did you mean"), "{refused}");
        }
    });
}

/// What each call of a run was answered.
fn results(entries: &[Value]) -> Vec<String> {
    let ends =
        entries.iter().filter(|entry| entry["kind"] == "tool_refused" || entry["kind"] == "tool_finished");
    ends.map(|entry| entry["body"]["parts"][0]["text"].as_str().expect("a text").to_owned()).collect()
}

/// The body of a request that a run sent.
async fn sent(server: &Server, run: &str, step: u32) -> Vec<u8> {
    let url = format!("{}/v1/runs/{run}/requests/{step}", server.url);
    let answer = Client::new().get(url).bearer_auth(&server.token).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.bytes().await.expect("a body").to_vec()
}

fn offered(body: &[u8]) -> Value {
    serde_json::from_slice::<Value>(body).expect("it is JSON")["tools"].clone()
}

/// Changes the tools while a model thinks about the first step of a run, and ends the server before the model answers if
/// `crashes`.
fn run_in_flight(crashes: bool) {
    let (home, asked, is_changed) =
        (Home::new(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (count_asked, may_answer) = (Arc::clone(&asked), Arc::clone(&is_changed));
    let model = Model::start(move |_, messages| {
        count_asked.fetch_add(1, Ordering::SeqCst);
        while !may_answer.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        match messages.iter().filter(|message| message["role"] == "tool").count() {
            0 => Say::Call("bank__pay", "{}".to_owned()),
            1 => Say::Call("bank__send", "{}".to_owned()),
            _ => Say::Text("done".to_owned()),
        }
    });
    let alias = model.alias("default");
    write(&home, &with_tools(&alias, &[("bank.pay", "")]));
    let mut server = home.serve();
    create(&home, "clerk", &["bank.*".to_owned()]);
    block_on(async {
        let (_, accepted) = server.event(&json!({"text": "go", "agent": "clerk"})).await;
        let session = accepted["session"].as_str().expect("a session").to_owned();
        while asked.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        write(&home, &with_tools(&alias, &[("bank.send", "")]));
        until(&server, |found| found["revision"] == 2).await;
        if crashes {
            server.kill();
            server = home.serve();
        }
        is_changed.store(true, Ordering::SeqCst);
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        let said = results(&entries);
        assert!(said[0].starts_with("there is no tool named \"bank.pay\" any more"), "{said:?}");
        assert_eq!(said[1], "there is no tool named \"bank.send\"", "it waits for the next run");
        let (_, runs) = server.get(&format!("/v1/runs?session={session}")).await;
        let run = runs["items"][0]["id"].as_str().expect("a run").to_owned();
        let first = offered(&sent(&server, &run, 1).await);
        assert!(
            first.to_string().contains("bank__pay") && !first.to_string().contains("bank__send"),
            "{first}"
        );
        for step in [2, 3] {
            assert_eq!(offered(&sent(&server, &run, step).await), first, "step {step}");
        }
        let (_, next) = server.event(&json!({"text": "go", "agent": "clerk", "wait": true})).await;
        let next = offered(&sent(&server, next["run"].as_str().expect("a run"), 1).await);
        assert!(next.to_string().contains("bank__send") && !next.to_string().contains("bank__pay"), "{next}");
    });
}

#[test]
fn a_run_in_flight_keeps_its_tools_and_loses_a_removed_one() {
    run_in_flight(false);
}

#[test]
fn a_takeover_keeps_the_tools_that_the_run_began_with() {
    run_in_flight(true);
}

#[test]
fn a_tool_that_an_agent_was_not_given_changes_no_byte_of_its_requests() {
    let home = Home::new();
    let model = Model::start(|_, _| Say::Text("done".to_owned()));
    let alias = model.alias("default");
    write(&home, &with_tools(&alias, &[("bank.pay", "")]));
    let server = home.serve();
    create(&home, "clerk", &["bank.*".to_owned()]);
    block_on(async {
        let request = async || {
            let event = json!({"text": "go", "agent": "clerk", "wait": true});
            let (_, answer) = server.event(&event).await;
            sent(&server, answer["run"].as_str().expect("a run"), 1).await
        };
        let before = request().await;
        let others =
            [("aaa.first", ""), ("bank.pay", ""), ("bank.send", ", tenants: [acme]"), ("zzz.last", "")];
        write(&home, &with_tools(&alias, &others));
        until(&server, |found| found["revision"] == 2).await;
        assert_eq!(String::from_utf8(request().await), String::from_utf8(before.clone()));
        write(&home, &with_tools(&alias, &[("bank.pay", ""), ("bank.send", "")]));
        until(&server, |found| found["revision"] == 3).await;
        assert_ne!(request().await, before, "a tool that it was given is in its requests");
    });
}
