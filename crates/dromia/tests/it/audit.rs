//! The audit through the real binary: what was decided is found again, and what was removed or changed is missed.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::egress::create;
use crate::home::{Home, block_on, stderr};

/// A text that stands nowhere else in a store.
const MARK: &str = "MARK-51c0ffee";

/// Runs a command with `--json`; returns its exit code and its document.
pub(crate) fn asked(home: &Home, line: &[&str]) -> (i32, Value) {
    let output = home.run(&[line, &["--json"]].concat());
    let document = serde_json::from_slice(&output.stdout);
    let document = document.unwrap_or_else(|error| panic!("{line:?}: {error}: {}", stderr(&output)));
    (output.status.code().expect("it ended"), document)
}

pub(crate) fn good(home: &Home, line: &[&str]) -> Value {
    let (code, document) = asked(home, line);
    assert_eq!(code, 0, "{line:?}: {document:#}");
    document
}

pub(crate) fn problems(document: &Value) -> Vec<&str> {
    let findings = document["findings"].as_array().expect("findings");
    findings.iter().map(|finding| finding["problem"].as_str().expect("a word")).collect()
}

fn checkpoints(home: &Home) -> PathBuf {
    home.path().join("audit").join("checkpoints.jsonl")
}

/// Says something that is answered, and something that is denied.
fn served(home: &Home) -> Value {
    let server = home.serve();
    let answer = block_on(async {
        let (status, answer) = server.event(&json!({"text": format!("{MARK} please"), "wait": true})).await;
        assert_eq!(status, 200, "{answer}");
        let denied = json!({"text": "@tool exec {\"argv\":[\"true\"]}", "wait": true});
        assert_eq!(server.event(&denied).await.0, 200);
        answer
    });
    server.terminate();
    answer
}

#[test]
fn decisions_are_queried_followed_explained_and_exported() {
    let home = Home::new();
    drop(served(&home));
    let server = home.serve();

    let denied = good(&home, &["audit", "query", "--decision", "deny"]);
    let denied = denied["items"].as_array().expect("items");
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!((&denied[0]["kind"], &denied[0]["what"]), (&json!("tool_refused"), &json!("exec")));
    let id = denied[0]["id"].as_str().expect("an id");
    let explained = good(&home, &["audit", "explain", id]);
    let why = explained["why"].as_str().expect("a why");
    assert!(why.contains("denied exec, by the rule `default deny`") && why.contains("not granted"), "{why}");
    let facts = explained["facts"].to_string();
    assert!(facts.contains("author") && facts.contains("grants"), "{facts}");

    let kinds = good(&home, &["audit", "query"]).to_string();
    for kind in ["tenant_created", "token_created", "agent_created", "config_applied", "run_completed"] {
        assert!(kinds.contains(kind), "no {kind} in {kinds}");
    }
    // Whoever gave the inputs is found with the runs that they began; the newest can be had without all that came before.
    let begun = good(&home, &["audit", "query", "--kind", "run_started"]);
    let token = begun["items"][0]["actor"].as_str().expect("whose input began it").to_owned();
    let mine = good(&home, &["audit", "query", "--actor", &token, "--kind", "run_started"]);
    assert_eq!(mine["items"].as_array().map(Vec::len), Some(2), "{token}: {mine}");
    let newest = good(&home, &["audit", "query", "--newest", "--limit", "1"]);
    let oldest_first = good(&home, &["audit", "query", "--limit", "256"]);
    let last = oldest_first["items"].as_array().expect("items").last().expect("one");
    assert_eq!((newest["items"].as_array().map(Vec::len), &newest["items"][0]), (Some(1), last));

    let tail = home.run(&["audit", "tail", "--after", "0.0.0", "--count", "3", "--jsonl"]);
    let tail = String::from_utf8(tail.stdout).expect("JSON is text");
    let first: Vec<Value> = tail.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    let page = good(&home, &["audit", "query"]);
    assert_eq!(first, page["items"].as_array().expect("items")[..3]);

    // Another tenant sees what is its own, and is told nothing of this one.
    good(&home, &["tenant", "create", "acme"]);
    let theirs = good(&home, &["--tenant", "acme", "audit", "query"]);
    let kinds: Vec<_> = theirs["items"].as_array().expect("items").iter().map(|item| &item["kind"]).collect();
    assert_eq!(kinds, ["tenant_created", "token_created"]);
    let (code, refused) = asked(&home, &["--tenant", "acme", "audit", "explain", id]);
    assert_eq!((code, &refused["error"]["code"]), (1, &json!("record_not_found")), "{refused}");

    let file = home.path().join("audit-export.jsonl");
    let path = file.to_str().expect("a path");
    let written = home.run(&["audit", "export", "--jsonl", "--file", path]);
    assert!(written.status.success(), "{}", stderr(&written));
    let whole = fs::read_to_string(&file).expect("it is written");
    assert!(
        !whole.contains(&home.token_path()) && !whole.contains(MARK),
        "what is said is no part of a record"
    );
    let verified = good(&home, &["audit", "verify", "--file", path]);
    assert_eq!(verified["records"], whole.lines().count() - 2);
    assert_eq!(
        (&verified["about"]["tenant"], &verified["about"]["filters"]),
        (&json!("default"), &json!(""))
    );
    let lines: Vec<_> = whole.split_inclusive('\n').collect();
    for gone in [0, 1, lines.len() / 2, lines.len() - 1] {
        let left: String =
            lines.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, line)| *line).collect();
        fs::write(&file, left).expect("it is written");
        let (code, found) = asked(&home, &["audit", "verify", "--file", path]);
        assert_eq!((code, found["ok"].as_bool()), (6, Some(false)), "line {gone}: {found:#}");
    }
    fs::write(&file, &whole).expect("it is written");
    let other = "0".repeat(64);
    let (code, found) = asked(&home, &["audit", "verify", "--file", path, "--key", &other]);
    assert_eq!((code, problems(&found)), (6, vec!["key_differs"]), "{found:#}");
    let text = found["findings"][0]["text"].as_str().expect("a text");
    let signed = verified["key"].as_str().expect("a key");
    assert!(text.contains(signed) && text.contains(&other), "both keys are named: {text}");
    assert_eq!((&found["key"], &found["key_is_known"]), (&json!(signed), &json!(false)), "{found:#}");
    // A key that is another one hides nothing of what is wrong.
    fs::write(&file, whole.replacen("token_created", "token_forged", 1)).expect("it is written");
    let (code, found) = asked(&home, &["audit", "verify", "--file", path, "--key", &other]);
    assert_eq!((code, problems(&found)), (6, vec!["record_removed_or_changed"]), "{found:#}");
    // What this program cannot read is not said to be changed.
    fs::write(&file, whole.replacen("{\"dromia_audit\":1", "{\"dromia_audit\":2", 1)).expect("it is written");
    let (code, refused) = asked(&home, &["audit", "verify", "--file", path]);
    let message = refused["error"]["message"].as_str().expect("a message");
    assert!(
        code == 2
            && message.contains("has version 2, and this program supports up to 1; use the newer program"),
        "{refused}"
    );
    server.terminate();
}

#[test]
fn audit_verify_passes_served_at_rest_and_after_a_kill() {
    let home = Home::new();
    drop(served(&home));
    let at_rest = good(&home, &["audit", "verify"]);
    assert!(at_rest["checkpoints"].as_u64() >= Some(2), "one at the start, one at the end: {at_rest:#}");
    assert!(at_rest["entries"].as_u64() >= Some(8) && at_rest["key_is_known"] == true, "{at_rest:#}");
    let last = at_rest["last_checkpoint"].as_str().expect("a checkpoint");

    let server = home.serve();
    good(&home, &["audit", "verify", "--checkpoint", last]);
    let said = block_on(server.event(&json!({"text": "one more", "wait": true})));
    assert_eq!(said.0, 200);
    server.kill();
    good(&home, &["audit", "verify", "--checkpoint", last]);
    // What a crash left of a line is no sign of anything.
    let torn = fs::read_to_string(checkpoints(&home)).expect("is read") + "{\"dromia_checkpoint\":1,\"num";
    fs::write(checkpoints(&home), torn).expect("is torn");
    home.serve().terminate();
    let after = good(&home, &["audit", "verify", "--checkpoint", last]);
    assert!(after["checkpoints"].as_u64() > at_rest["checkpoints"].as_u64());
    let forged = format!("1:{}", "0".repeat(64));
    let (code, found) = asked(&home, &["audit", "verify", "--checkpoint", &forged]);
    assert_eq!((code, problems(&found)), (6, vec!["checkpoint_changed"]));
}

#[test]
fn a_removed_or_changed_checkpoint_is_reported_by_its_number() {
    let home = Home::new();
    for _ in 0..2 {
        drop(served(&home));
    }
    let whole = fs::read_to_string(checkpoints(&home)).expect("is read");
    let lines: Vec<_> = whole.split_inclusive('\n').collect();
    assert!(lines.len() >= 4, "{whole}");
    let verified = |text: &str| {
        fs::write(checkpoints(&home), text).expect("is written");
        asked(&home, &["audit", "verify"])
    };
    for gone in 0..lines.len() {
        let left: String =
            lines.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, line)| *line).collect();
        let (code, found) = verified(&left);
        let is_missed =
            found["findings"].as_array().expect("findings").iter().any(|finding| {
                finding["problem"] == "checkpoint_removed" && finding["checkpoint"] == gone + 1
            });
        assert!(code == 6 && is_missed, "checkpoint {}: {found:#}", gone + 1);
    }
    for (at, line) in lines.iter().enumerate() {
        let mut changed = lines.clone();
        let line = line.replacen("\"number\":", "\"number\":1", 1);
        changed[at] = &line;
        let (code, found) = verified(&changed.concat());
        assert!(code == 6 && found["findings"][0]["line"] == at + 1, "line {}: {found:#}", at + 1);
    }
    let newer = whole.replacen("{\"dromia_checkpoint\":1", "{\"dromia_checkpoint\":2", 1);
    let (code, refused) = verified(&newer);
    let message = refused["error"]["message"].as_str().expect("a message");
    assert!(code == 2 && message.contains("line 1: it has version 2"), "{refused}");
    fs::write(checkpoints(&home), &whole).expect("is written");
    let other = "0".repeat(64);
    let (code, found) = asked(&home, &["audit", "verify", "--key", &other]);
    assert_eq!((code, problems(&found)), (6, vec!["key_differs"]), "once, and not for each line: {found:#}");
    assert_eq!(found["key_is_known"], false, "{found:#}");
    fs::remove_file(checkpoints(&home)).expect("is removed");
    let public = fs::read_to_string(home.path().join("audit").join("public.key")).expect("is read");
    let (code, found) = asked(&home, &["audit", "verify", "--key", public.trim()]);
    assert_eq!(
        (code, found["findings"][0]["text"].as_str()),
        (6, Some("the key that you named signed no checkpoint"))
    );
    assert_eq!(asked(&home, &["audit", "verify"]).0, 6, "the store remembers that there were some");
    assert_eq!(verified(&whole).0, 0);
}

/// Sees that a server that ended in order left everything in the main file: a page of the log would hide the one of the
/// main file, and whoever copies that file alone would lose what was said last.
pub(crate) fn assert_settled(home: &Home) {
    let log = home.path().join("store").join("dromia.db-wal");
    assert_eq!(fs::metadata(&log).map_or(0, |found| found.len()), 0, "a log is left");
}

/// Changes one bit of every place where the mark stands in the main file.
fn change_marks(database: &Path) {
    let mut bytes = fs::read(database).expect("the store is there");
    let places: Vec<_> = bytes
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| *window == MARK.as_bytes())
        .map(|(place, _)| place)
        .collect();
    assert!(!places.is_empty(), "the mark is not in the main file");
    for place in places {
        bytes[place] ^= 1;
    }
    fs::write(database, bytes).expect("the store can be written");
}

#[test]
fn a_changed_message_is_reported_with_its_session_and_entry() {
    let home = Home::new();
    let answer = served(&home);
    good(&home, &["audit", "verify"]);
    assert_settled(&home);
    change_marks(&home.path().join("store").join("dromia.db"));
    let (code, found) = asked(&home, &["audit", "verify"]);
    // The input stands in its inbox, and the answer that repeats it in the journal.
    assert_eq!((code, problems(&found)), (6, vec!["entry_changed", "row_changed"]), "{found:#}");
    let finding = &found["findings"][0];
    assert_eq!((&finding["run"], &finding["session"]), (&answer["run"], &answer["session"]));
    assert!(finding["seq"].as_u64() >= Some(1) && finding["tenant"].is_string(), "{finding}");
}

#[test]
fn grants_edited_in_the_database_are_found_and_not_used() {
    let home = Home::new();
    let server = home.serve();
    create(&home, "clerk", &["file.read".to_owned()]);
    server.terminate();
    let verified = good(&home, &["audit", "verify"]);
    assert!(verified["rights"].as_u64() >= Some(3), "{verified:#}");
    assert_settled(&home);
    let database = home.path().join("store").join("dromia.db");
    let mut bytes = fs::read(&database).expect("the store is there");
    let (granted, more) = (b"\"file.read\"", b"\"file.edit\"");
    let places: Vec<_> = bytes
        .windows(granted.len())
        .enumerate()
        .filter(|(_, window)| *window == granted)
        .map(|(place, _)| place)
        .collect();
    assert!(!places.is_empty(), "the grant is not in the main file");
    for place in places {
        bytes[place..place + more.len()].copy_from_slice(more);
    }
    fs::write(&database, bytes).expect("the store can be written");

    let (code, found) = asked(&home, &["audit", "verify"]);
    assert_eq!((code, problems(&found)), (6, vec!["row_changed"]), "{found:#}");
    let row = found["findings"][0]["row"].as_str().expect("a row");
    assert!(row.starts_with("revision of agent agt_"), "{row}");
    let server = home.serve();
    let (_, refused) = asked(&home, &["ask", "--agent", "clerk", "hi"]);
    assert_eq!(refused["error"]["code"], "journal_damaged", "{refused}");
    let (code, other) = asked(&home, &["ask", "hi"]);
    assert_eq!(code, 0, "the other agents work on: {other}");
    server.terminate();
}
