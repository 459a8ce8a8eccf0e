//! Capabilities and roles through the real binary: granted, used, handed on, taken back while a run goes on, kept over a
//! kill, and told by the journal.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::egress::create;
use crate::home::{Home, Server, append, block_on, count, stderr};

/// Within which a revocation must count.
const AT_ONCE: Duration = Duration::from_secs(1);

fn told(home: &Home, line: &[&str]) -> Value {
    let output = home.run(&[line, &["--json"]].concat());
    assert!(output.status.success(), "{line:?}: {}", stderr(&output));
    document(&output)
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {value}"))
}

fn write(path: &str) -> String {
    format!("@tool file.write {}", json!({"path": path, "content": path}))
}

/// Asks an agent and returns the run and what was decided about its calls.
fn decided(server: &Server, agent: &str, lines: &[String]) -> (String, Vec<Value>) {
    let event = json!({"text": lines.join("\n"), "agent": agent, "wait": true});
    let (status, answer) = block_on(server.event(&event));
    assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    let run = text(&answer, "run").to_owned();
    let decisions = decisions(server, &run);
    assert_eq!(decisions.len(), lines.len(), "{decisions:?}");
    (run, decisions)
}

fn decisions(server: &Server, run: &str) -> Vec<Value> {
    let (status, page) = block_on(server.get(&format!("/v1/runs/{run}/decisions")));
    assert_eq!(status, 200, "{page}");
    page["items"].as_array().expect("a list").clone()
}

/// How capabilities are said to stand: in the document, and in the table that a person reads.
fn states<const N: usize>(home: &Home, ids: [&str; N]) -> [String; N] {
    let listed = told(home, &["capability", "list"]);
    let table = home.run(&["capability", "list"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    ids.map(|id| {
        let mut items = listed["items"].as_array().expect("a list").iter();
        let item = items.find(|item| item["id"] == id).unwrap_or_else(|| panic!("{id} in {listed}"));
        let state = text(item, "state").to_owned();
        let line =
            table.lines().find(|line| line.starts_with(id)).unwrap_or_else(|| panic!("{id} in {table}"));
        assert!(line.split_whitespace().any(|word| word == state), "{state} in {line}");
        state
    })
}

fn rule(decision: &Value) -> (bool, &str) {
    (decision["allowed"] == true, text(decision, "rule"))
}

#[test]
fn rights_are_granted_handed_on_and_taken_back_at_once() {
    let home = Home::new();
    let server = home.serve();
    for agent in ["scribe", "helper"] {
        create(&home, agent, &[]);
    }
    let (_, before) = decided(&server, "scribe", &[write("docs/a.md")]);
    assert_eq!(rule(&before[0]), (false, "default deny"));

    let granted = told(&home, &["capability", "grant", "scribe", "file:write:docs", "--expires", "1h"]);
    let id = text(&granted, "id").to_owned();
    let (run, after) = decided(&server, "scribe", &[write("docs/a.md"), write("etc/a.md")]);
    assert_eq!(rule(&after[0]), (true, format!("capability {id} block 0 file:write:docs").as_str()));
    assert_eq!(rule(&after[1]), (false, "default deny"));
    let explained = told(&home, &["policy", "explain", &run, "call_1_0"]);
    assert_eq!((&explained["by"], &explained["rule"]), (&json!("capability"), &after[0]["rule"]));
    assert!(explained["policy"].is_string(), "the policy was asked as well: {explained}");
    let explained = told(&home, &["policy", "explain", &run, "call_2_0"]);
    assert_eq!((&explained["by"], &explained["allowed"]), (&json!("grants"), &json!(false)));
    let says = format!("does not cover this call ({id}: its block 0 allows file:write under docs)");
    assert!(text(&explained, "why").contains(&says), "{explained}");
    let unknown = home.run(&["policy", "explain", &run, "call_9_0", "--json"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", stderr(&unknown));

    let handed = told(&home, &["capability", "delegate", &id, "--to", "helper", "file:write:docs/h"]);
    let handed = text(&handed, "id").to_owned();
    let (_, helped) = decided(&server, "helper", &[write("docs/h/x"), write("docs/a.md")]);
    assert_eq!(rule(&helped[0]), (true, format!("capability {handed} block 1 file:write:docs/h").as_str()));
    assert_eq!(rule(&helped[1]), (false, "default deny"));

    assert_eq!(states(&home, [&id, &handed]), ["active", "active"]);

    let arguments = json!({"path": "docs/h/y", "content": ""}).to_string();
    let checked = told(&home, &["capability", "check", "helper", "file.write", &arguments]);
    assert_eq!((&checked["allowed"], &checked["capabilities"][0]["block"]), (&json!(true), &json!(1)));
    let arguments = json!({"path": "docs/y", "content": ""}).to_string();
    let denied = home.run(&["capability", "check", "helper", "file.write", &arguments, "--json"]);
    assert_eq!(denied.status.code(), Some(4), "{}", stderr(&denied));

    let revoked_at = Instant::now();
    told(&home, &["capability", "revoke", &id]);
    loop {
        let (_, late) = decided(&server, "helper", &[write("docs/h/z")]);
        match rule(&late[0]) {
            (false, rule) => {
                assert_eq!(rule, format!("capability {handed} block 0"));
                break;
            }
            (true, _) => assert!(revoked_at.elapsed() < AT_ONCE, "a revocation does not count in time"),
        }
    }
    let arguments = json!({"path": "docs/h/y", "content": ""}).to_string();
    let explained = told(&home, &["capability", "explain", "helper", "file.write", &arguments]);
    assert!(
        text(&explained["capabilities"][0], "why").contains("block 0 of its token was revoked"),
        "{explained}"
    );
    assert_eq!(states(&home, [&id, &handed]), ["revoked", "parent_revoked"]);
    // What is durable is durable: a killed server comes back with the same answer.
    server.kill();
    let server = home.serve();
    assert_eq!(states(&home, [&id, &handed]), ["revoked", "parent_revoked"]);
    let (_, late) = decided(&server, "helper", &[write("docs/h/z")]);
    assert_eq!(rule(&late[0]), (false, format!("capability {handed} block 0").as_str()));
    drop(server);
}

#[test]
fn a_capability_token_does_not_allow_a_forbidden_call() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "agents: { scribe: { permissions: { deny: [file.write] } } }\n");
    let server = home.serve();
    for agent in ["scribe", "helper"] {
        create(&home, agent, &[]);
    }
    let arguments = json!({"path": "docs/a", "content": ""}).to_string();
    for (agent, allowed) in [("scribe", false), ("helper", true)] {
        let granted = told(&home, &["capability", "grant", agent, "file:write:docs"]);
        let line = ["capability", "check", agent, "file.write", arguments.as_str(), "--json"];
        let token = ["--token", text(&granted, "token")];
        let bare = home.run(&line);
        let presented = home.run(&[&line[..], &token[..]].concat());
        let code = Some(if allowed { 0 } else { 4 });
        assert_eq!((bare.status.code(), presented.status.code()), (code, code), "{}", stderr(&presented));
        let (bare, presented) = (document(&bare), document(&presented));
        assert_eq!(
            (&presented["allowed"], &presented["rule"]),
            (&json!(allowed), &bare["rule"]),
            "{presented}"
        );
        assert_eq!(presented["capabilities"][0]["covers"], true, "the token itself covers it: {presented}");
    }
    drop(server);
}

#[test]
fn a_deleted_agents_delegated_rights_end_with_it() {
    let home = Home::new();
    let server = home.serve();
    for agent in ["scribe", "helper"] {
        create(&home, agent, &[]);
    }
    let granted = told(&home, &["capability", "grant", "scribe", "file:write:docs"]);
    let handed = told(&home, &["capability", "delegate", text(&granted, "id"), "--to", "helper"]);
    let handed = text(&handed, "id").to_owned();
    let (_, before) = decided(&server, "helper", &[write("docs/a")]);
    assert!(rule(&before[0]).0, "{before:?}");
    told(&home, &["agent", "delete", "scribe", "--yes"]);
    let (_, after) = decided(&server, "helper", &[write("docs/a")]);
    assert_eq!(rule(&after[0]), (false, format!("capability {handed}").as_str()), "no restart was needed");
    let listed = told(&home, &["capability", "list"]);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(states(&home, [&handed]), ["parent_gone"]);
    drop(server);
}

#[test]
fn a_revocation_stops_a_run_that_goes_on() {
    let home = Home::new();
    let server = home.serve();
    create(&home, "scribe", &[]);
    let granted = told(&home, &["capability", "grant", "scribe", "file:write:docs"]);
    let id = text(&granted, "id").to_owned();
    let task = format!("{}\n@slow 10000\n{}\n@say done", write("docs/a"), write("docs/b"));
    let spawned = told(&home, &["agent", "spawn", "scribe", "--task", &task]);
    let session = text(&spawned, "session");
    block_on(server.journal_until(session, |entries| count(entries, "tool_finished") == 1));
    // The run waits for its next step, with the grants that it began with.
    told(&home, &["capability", "revoke", &id]);
    let entries = block_on(server.journal_until(session, |entries| count(entries, "tool_refused") == 1));
    let refused = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("it was refused");
    assert_eq!(refused["fields"]["rule"], json!(format!("capability {id} block 0")), "{refused}");
    assert_eq!(count(&entries, "tool_finished"), 1, "nothing was written after the revocation");
    drop(server);
}

#[test]
fn a_right_that_could_never_count_is_refused() {
    let home = Home::new();
    let _server = home.serve();
    create(&home, "scribe", &[]);
    for (rights, says) in [
        (&["tool:nosuch"][..], "rights[0]: the grant \"nosuch\" covers no tool"),
        (
            &["file:read", "tool:file.raed"][..],
            "rights[1]: the grant \"file.raed\" covers no tool; did you mean \"file.read\"?",
        ),
        (&["tool:model"][..], "rights[0]: tool:model covers no tool"),
        (&["tool:file.read", "--wall", "30s"][..], "rights[0]: tool:file.read runs no program"),
    ] {
        let output = home.run(&[&["capability", "grant", "scribe"][..], rights].concat());
        assert_eq!(output.status.code(), Some(2), "{rights:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{rights:?}: {}", stderr(&output));
    }
    let task = home.run(&["agent", "spawn", "scribe", "--task", "x", "--may", "tool:nosuch"]);
    assert!(stderr(&task).contains("covers no tool"), "{}", stderr(&task));
    told(&home, &["capability", "grant", "scribe", "tool:shell.*", "--wall", "30s"]);
    told(&home, &["capability", "grant", "scribe", "tool:file.*", "tool:time.now"]);
}

#[test]
fn a_task_may_do_no_more_than_it_is_given() {
    let home = Home::new();
    let server = home.serve();
    create(&home, "dev", &["file.*".to_owned(), "time.now".to_owned()]);
    let task = format!("{}\n{}\n@tool time.now {{}}\n@say done", write("out/a"), write("etc/a"));
    let line = ["agent", "spawn", "dev", "--task", &task, "--may", "file:write:out", "--wait"];
    let line = [&line[..], &["--idempotency-key", "once"]].concat();
    let spawned = told(&home, &line);
    let run = text(&spawned, "run").to_owned();
    let judged = decisions(&server, &run);
    let bound = told(&home, &["capability", "list"])["items"][0].clone();
    assert_eq!((&bound["usage"], &bound["rights"]), (&json!("task"), &json!(["file:write:out"])));
    let id = text(&bound, "id").to_owned();
    let inside = format!("grant file.* and within {id} block 0 file:write:out");
    let outside = format!("within {id} block 0");
    let expected = [(true, inside.as_str()), (false, outside.as_str()), (false, outside.as_str())];
    assert_eq!(judged.iter().map(rule).collect::<Vec<_>>(), expected);
    let explained = told(&home, &["policy", "explain", &run, "call_2_0"]);
    assert_eq!(explained["by"], json!("task"));
    let acts = || told(&home, &["audit", "query", "--limit", "256"])["items"].as_array().map(Vec::len);
    let before = acts();
    let again = told(&home, &line);
    assert_eq!((&again["replayed"], &again["run"]), (&json!(true), &json!(run)));
    // Another request under the key is a conflict, and makes nothing either.
    let other = ["agent", "spawn", "dev", "--task", "@say hi", "--may", "file:write:out"];
    let refused = home.run(&[&other[..], &["--idempotency-key", "once"]].concat());
    assert!(!refused.status.success(), "{}", stderr(&refused));
    assert_eq!(acts(), before, "nothing happened a second time, so the audit says nothing more");
    let listed = told(&home, &["capability", "list"]);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "a repeated task has one bound: {listed}");

    // A parent's capability: what it covers, and only as long as it stands.
    let parent = told(&home, &["capability", "grant", "assistant", "file:write:shared"]);
    let parent = text(&parent, "id").to_owned();
    let wider = ["agent", "spawn", "dev", "--task", "@say hi", "--under", &parent, "--may", "file:write:out"];
    let refused = home.run(&[&wider[..], &["--json"]].concat());
    assert_eq!(refused.status.code(), Some(6), "{}", stderr(&refused));
    let task = write("shared/a");
    let line = ["agent", "spawn", "dev", "--task", &task, "--under", &parent, "--wait"];
    let first = decisions(&server, text(&told(&home, &line), "run"));
    assert!(rule(&first[0]).0, "{first:?}");
    told(&home, &["capability", "revoke", &parent]);
    let late = home.run(&[&line[..], &["--json"]].concat());
    assert_eq!(late.status.code(), Some(6), "nothing is made from what was taken back: {}", stderr(&late));
    drop(server);
}

#[test]
fn a_role_of_the_file_is_a_role_of_tokens() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "roles: { courier: { scopes: [invoke] } }\n");
    let server = home.serve();
    let courier = told(&home, &["token", "create", "bike", "--role", "courier"]);
    assert_eq!(courier["scopes"], json!(["invoke"]));
    let with = |path: &str| {
        block_on(async {
            let request = reqwest::Client::new().get(format!("{}{path}", server.url));
            server.send(request.bearer_auth(text(&courier, "token"))).await
        })
    };
    assert_eq!(with("/v1/whoami").0, 200);
    let (status, refused) = with("/v1/agents");
    assert_eq!((status, text(&refused, "code")), (403, "forbidden"));
    let unknown = home.run(&["token", "create", "car", "--role", "king", "--json"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", stderr(&unknown));
    let says = stderr(&unknown);
    assert!(says.contains("courier") && says.contains("add it under `roles` in dromia.yaml"), "{says}");
    drop(server);
}
