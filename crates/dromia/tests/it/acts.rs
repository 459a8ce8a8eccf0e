//! What people do, through the real binary: each act is found in the audit, by whoever did it and without what is secret,
//! and a byte that changes in the record of one is found.

use std::fs;

use serde_json::{Value, json};

use crate::approvals::{document, id, until};
use crate::audit::{asked, assert_settled, good, problems};
use crate::home::{Home, Server, append, block_on, count, stderr};
use crate::vault::piped;

/// A value that nobody may find in a record.
const VALUE: &str = "a-value-51c0ffee-of-acts";

/// What a call says that a person is asked about.
const SAID: &str = "said-51c0ffee-of-acts";

/// Every kind of act that the walk leaves, and how often.
const LEFT: [(&str, usize); 23] = [
    ("agent_created", 2),
    ("agent_state_set", 4),
    ("agent_revised", 1),
    ("agent_renamed", 2),
    ("capability_granted", 1),
    ("capability_delegated", 1),
    ("capability_revoked", 1),
    ("secret_set", 2),
    ("secret_erased", 1),
    ("budget_set", 1),
    ("budget_removed", 1),
    ("approval_answered", 1),
    ("approval_rule_set", 1),
    ("approval_rule_removed", 1),
    ("session_exported", 1),
    ("session_trusted", 1),
    ("state_put", 1),
    ("file_put", 1),
    ("picture_fetched", 1),
    ("token_created", 2),
    ("token_revoked", 1),
    ("tenant_created", 1),
    ("tenant_suspension_set", 2),
];

/// The records of a kind, oldest first.
fn of_kind(home: &Home, kind: &str) -> Vec<Value> {
    let page = good(home, &["audit", "query", "--kind", kind, "--limit", "256"]);
    page["items"].as_array().expect("items").clone()
}

/// Sees that the newest record of a kind is by somebody and about something, and says how it ended.
#[track_caller]
fn left(home: &Home, kind: &str, by: &str, what: &str, outcome: Option<&str>) -> Value {
    let records = of_kind(home, kind);
    let last = records.last().unwrap_or_else(|| panic!("nothing is {kind}"));
    assert_eq!(last["actor"], by, "{last}");
    assert!(last["what"].as_str().unwrap_or_default().contains(what), "{what} is not in {last}");
    assert_eq!(last["outcome"].as_str(), outcome, "{last}");
    last.clone()
}

/// Does every act once, looks for its record, and returns who did it.
fn walked(home: &Home, server: &Server) -> String {
    let who = document(home, &["whoami"])["actor"].as_str().expect("an actor").to_owned();
    let by = who.as_str();
    let grants = ["--grant", "model", "--grant", "reply", "--grant", "file.*"];
    let clerk = document(home, &[&["agent", "create", "clerk"][..], &grants].concat());
    left(home, "agent_created", by, "clerk", None);
    for (verb, state) in [("pause", "paused"), ("resume", "running")] {
        document(home, &["agent", verb, "clerk"]);
        let record = left(home, "agent_state_set", by, "", Some(state));
        assert_eq!(record["agent"], clerk["id"]);
    }
    document(home, &["agent", "set", "clerk", "grants+=time.now"]);
    let record = left(home, "agent_revised", by, "grants +time.now", Some("revision 2"));
    assert_eq!(record["agent"], clerk["id"]);
    for name in ["scribe", "clerk"] {
        let old = if name == "clerk" { "scribe" } else { "clerk" };
        document(home, &["agent", "rename", old, name]);
        left(home, "agent_renamed", by, name, None);
    }
    rights(home, by, &clerk);
    means(home, server, by);
    talk(home, server, by);
    document(home, &["token", "create", "laptop", "--scope", "read"]);
    left(home, "token_created", by, "laptop", Some("read"));
    document(home, &["token", "revoke", "laptop"]);
    left(home, "token_revoked", by, "tok_", None);
    document(home, &["agent", "terminate", "clerk", "--yes"]);
    left(home, "agent_state_set", by, "", Some("terminated"));
    document(home, &["agent", "delete", "clerk", "--yes"]);
    left(home, "agent_state_set", by, "", Some("deleting"));
    for (verb, outcome) in [("suspend", "suspended"), ("resume", "resumed")] {
        document(home, &["tenant", verb, "default"]);
        left(home, "tenant_suspension_set", "operator", "", Some(outcome));
    }
    document(home, &["tenant", "create", "acme"]);
    let theirs = good(home, &["--tenant", "acme", "audit", "query"]);
    assert_eq!(
        (&theirs["items"][0]["kind"], &theirs["items"][0]["actor"], &theirs["items"][0]["what"]),
        (&json!("tenant_created"), &json!("operator"), &json!("acme"))
    );
    who
}

/// Grants, hands on and takes back.
fn rights(home: &Home, by: &str, clerk: &Value) {
    let granted = document(home, &["capability", "grant", "clerk", "file:write:docs"]);
    let record = left(home, "capability_granted", by, id(&granted), Some("file:write:docs"));
    assert_eq!(record["agent"], clerk["id"]);
    let line = ["capability", "delegate", id(&granted), "--to", "clerk", "file:write:docs/a"];
    let handed = document(home, &line);
    let record = left(home, "capability_delegated", by, id(&handed), Some("file:write:docs/a"));
    assert!(record["what"].as_str().is_some_and(|what| what.ends_with(id(&granted))), "{record}");
    document(home, &["capability", "revoke", id(&handed)]);
    left(home, "capability_revoked", by, id(&handed), None);
    // One that is refused leaves none.
    let refused = home.run(&["capability", "delegate", id(&granted), "--to", "clerk", "file:write:etc"]);
    assert!(!refused.status.success());
    assert_eq!(of_kind(home, "capability_delegated").len(), 1);
}

/// Changes secrets and budgets.
fn means(home: &Home, server: &Server, by: &str) {
    let set = ["secret", "set", "hub", "--stdin", "--host", "hub.example", "--placement", "bearer"];
    assert!(piped(home, &set, VALUE).status.success());
    left(home, "secret_set", by, "hub for https://hub.example", Some("version 1"));
    assert!(piped(home, &["secret", "rotate", "hub", "--stdin"], &VALUE.repeat(2)).status.success());
    left(home, "secret_set", by, "hub for", Some("version 2"));
    document(home, &["secret", "delete", "hub", "--yes"]);
    left(home, "secret_erased", by, "hub", None);
    let set = ["budget", "set", "hourly", "--measure", "calls", "--period", "hour", "--limit", "100000"];
    document(home, &set);
    left(home, "budget_set", by, "hourly", Some("100000 calls per hour and tenant"));
    // By a token, and not by a user of this machine.
    let path = format!("{}/v1/budgets/hourly", server.url);
    let (status, gone) = block_on(async {
        let delete = reqwest::Client::new().delete(path).bearer_auth(&server.token);
        server.send(delete).await
    });
    assert_eq!(status, 200, "{gone}");
    let record = of_kind(home, "budget_removed").pop().expect("a record");
    assert!(record["actor"].as_str().is_some_and(|actor| actor.starts_with("token:")), "{record}");
}

/// Answers, keeps rules, and takes a session out.
fn talk(home: &Home, server: &Server, by: &str) {
    let task = format!("@tool file.append {}", json!({"path": "log", "content": SAID}));
    let spawned = document(home, &["agent", "spawn", "clerk", "--task", &task]);
    let session = spawned["session"].as_str().expect("a session");
    let approval = until(home, |approval| approval["session"] == session && approval["state"] == "holding");
    document(home, &["approval", "deny", id(&approval), "--reason", SAID]);
    let record = left(home, "approval_answered", by, id(&approval), Some("denied"));
    assert!(record.get("decision").is_none(), "it is no decision of the gate: {record}");
    block_on(server.journal_until(session, |entries| count(entries, "run_completed") == 1));
    let rule = format!("file.append path={SAID}");
    document(home, &["approval", "rule", "add", "notes", &rule]);
    let record = left(home, "approval_rule_set", by, "notes", Some("allow"));
    assert_eq!(record["action"].as_str().map(str::len), Some(64), "the rule is told by its digest: {record}");
    document(home, &["approval", "rule", "remove", "notes"]);
    left(home, "approval_rule_removed", by, "notes", None);
    let plan = home.path().join("plan.md");
    std::fs::write(&plan, SAID).expect("written");
    document(home, &["file", "put", plan.to_str().expect("a path"), "notes/plan.md", "--agent", "clerk"]);
    left(home, "file_put", by, "notes/plan.md", None);
    let shown = json!({"type": "image_url", "image_url": {"url": format!("https://img.example/{SAID}.png")}});
    let asked = json!({"model": "clerk", "messages": [{"role": "user", "content": [shown]}]});
    let chat = format!("{}/v1/chat/completions", server.url);
    let refused = block_on(async {
        server.send(reqwest::Client::new().post(chat).bearer_auth(&server.token).json(&asked)).await
    });
    assert_eq!(refused.0, 400, "{refused:?}");
    let record = of_kind(home, "picture_fetched").remove(0);
    assert_eq!((&record["what"], &record["outcome"]), (&json!("img.example"), &json!("failed")), "{record}");
    let file = home.path().join("talk.session");
    let written = home.run(&["session", "export", session, "--file", file.to_str().expect("a path")]);
    assert!(written.status.success(), "{}", stderr(&written));
    let record = left(home, "session_exported", by, session, None);
    assert_eq!(record["session"], session);
    let import = ["session", "import", file.to_str().expect("a path"), "--agent", "clerk"];
    document(home, &import);
    assert!(of_kind(home, "session_trusted").is_empty(), "nobody vouched for anything");
    let imported = document(home, &[&import[..], &["--trust-labels"]].concat());
    let copy = imported["session"].as_str().expect("a session");
    let record = left(home, "session_trusted", by, copy, None);
    assert_eq!(record["session"], copy);
    let path = format!("{}/v1/sessions/{session}/state/note", server.url);
    let (status, written) = block_on(async {
        let put = reqwest::Client::new().put(path).bearer_auth(&server.token).json(&json!(1));
        server.send(put).await
    });
    assert_eq!(status, 200, "{written}");
}

#[test]
fn every_act_of_a_person_is_audited_with_its_actor() {
    let home = Home::new();
    let asks = "permissions: { ask: [file.append] }\napprovals: { hold_ms: 60000 }\n";
    append(&home.path().join("dromia.yaml"), asks);
    let server = home.serve();
    let who = walked(&home, &server);
    for (kind, times) in LEFT {
        assert_eq!(of_kind(&home, kind).len(), times, "{kind}");
    }
    let mine = good(&home, &["audit", "query", "--actor", &who, "--limit", "256"]);
    let mine = mine["items"].as_array().expect("items");
    assert!(mine.iter().all(|record| record["actor"] == who.as_str()));
    assert!(mine.iter().any(|record| record["kind"] == "session_exported"), "{mine:?}");
    let exported = of_kind(&home, "session_exported").remove(0);
    let explained = good(&home, &["audit", "explain", id(&exported)]);
    assert!(explained["why"].as_str().is_some_and(|why| why.starts_with(&who)), "{explained}");
    let kind = ["--kind", "session_exported"];
    let line = ["audit", "tail", "--after", "0.0.0", "--count", "1", "--jsonl"];
    let tail = home.run(&[&line[..], &kind].concat());
    assert_eq!(serde_json::from_slice::<Value>(&tail.stdout).expect("a record"), exported);

    let file = home.path().join("audit-export.jsonl");
    let path = file.to_str().expect("a path");
    let written = home.run(&["audit", "export", "--jsonl", "--file", path]);
    assert!(written.status.success(), "{}", stderr(&written));
    let whole = fs::read_to_string(&file).expect("it is written");
    for (kind, _) in LEFT {
        assert!(whole.contains(&format!("\"{kind}\"")), "{kind} is not in the file");
    }
    assert!(!whole.contains(VALUE) && !whole.contains(SAID), "what is secret or said is no part of a record");
    good(&home, &["audit", "verify", "--file", path]);

    // Looking left nothing.
    let before = good(&home, &["audit", "query", "--limit", "256"])["items"].as_array().map(Vec::len);
    for line in [&["session", "list"][..], &["secret", "list"], &["agent", "list"], &["audit", "query"]] {
        good(&home, line);
    }
    let after = good(&home, &["audit", "query", "--limit", "256"])["items"].as_array().map(Vec::len);
    assert_eq!(before, after);
    good(&home, &["audit", "verify"]);
    server.terminate();
}

#[test]
fn a_changed_byte_in_an_act_record_is_detected() {
    let home = Home::new();
    let asks = "permissions: { ask: [file.append] }\napprovals: { hold_ms: 60000 }\n";
    append(&home.path().join("dromia.yaml"), asks);
    let server = home.serve();
    walked(&home, &server);
    server.terminate();
    good(&home, &["audit", "verify"]);
    assert_settled(&home);
    let database = home.path().join("store").join("dromia.db");
    let whole = fs::read(&database).expect("the store is there");
    for (kind, _) in LEFT {
        let record = format!("\"kind\":\"{kind}\"");
        let mut changed = whole.clone();
        let places: Vec<_> = whole
            .windows(record.len())
            .enumerate()
            .filter(|(_, window)| *window == record.as_bytes())
            .map(|(place, _)| place)
            .collect();
        assert!(!places.is_empty(), "no record is {kind}");
        for place in places {
            // The last letter of the kind.
            changed[place + record.len() - 2] ^= 1;
        }
        fs::write(&database, changed).expect("the store can be written");
        let (code, found) = asked(&home, &["audit", "verify"]);
        assert!(code == 6 && problems(&found).contains(&"seal_changed"), "{kind}: {found:#}");
    }
    fs::write(&database, whole).expect("the store can be written");
    good(&home, &["audit", "verify"]);
}
