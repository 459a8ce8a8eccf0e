//! What a person allows to run is what runs: the approval of a program is bound to the files that it could execute.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::approvals::{document, id, is, until};
use crate::home::{Home, Server, append, block_on, count};

/// A home where running programs must be approved.
fn home(approvals: &str) -> Home {
    let home = Home::new();
    let file = format!("permissions: {{ ask: [exec] }}\napprovals: {{ hold_ms: 60000{approvals} }}\n");
    append(&home.path().join("dromia.yaml"), &file);
    home
}

/// Makes an agent whose workspace holds a script and notes. Returns the workspace.
fn workspace(home: &Home, server: &Server) -> PathBuf {
    let grants = ["--grant", "model", "--grant", "reply", "--grant", "exec", "--grant", "file.*"];
    let agent = document(home, &[&["agent", "create", "clerk"][..], &grants].concat());
    let script = json!({"path": "build.sh", "content": "echo built > done\n"});
    let notes = json!({"path": "notes", "content": "one\n"});
    let task = format!("@tool file.write {script}\n@tool file.write {notes}");
    let spawned = document(home, &["agent", "spawn", "clerk", "--task", &task]);
    let session = spawned["session"].as_str().expect("a session");
    let ended = |entries: &[Value]| count(entries, "run_completed") == 1;
    block_on(server.journal_until(session, ended));
    home.path().join("agents").join(agent["id"].as_str().expect("an id")).join("workspace")
}

/// Asks for the script to be run; lets something happen, and approves it. Returns the approval's card before that, and the
/// journal of the run when it has ended.
fn approved(home: &Home, server: &Server, meanwhile: impl FnOnce()) -> (Value, Vec<Value>) {
    let task = format!("@tool exec {}", json!({"argv": ["sh", "./build.sh"]}));
    let spawned = document(home, &["agent", "spawn", "clerk", "--task", &task]);
    let session = spawned["session"].as_str().expect("a session").to_owned();
    let approval = until(home, |approval| approval["session"] == session.as_str());
    let card = document(home, &["approval", "show", id(&approval)]);
    meanwhile();
    document(home, &["approval", "approve", id(&approval)]);
    let entries = block_on(server.journal_until(&session, |entries| count(entries, "run_completed") == 1));
    let state = if count(&entries, "tool_started") == 1 { "used" } else { "withdrawn" };
    until(home, is(&approval, state));
    (card, entries)
}

fn refusal(entries: &[Value]) -> Option<&Value> {
    entries.iter().find(|entry| entry["kind"] == "tool_refused")
}

#[test]
fn a_program_whose_files_changed_since_is_caught() {
    let home = home("");
    let server = home.serve();
    let workspace = workspace(&home, &server);
    // Another run of the agent has the time in which a person looks.
    let other = |path: &str, content: &str| {
        let task = format!("@tool file.write {}", json!({"path": path, "content": content}));
        document(&home, &["agent", "spawn", "clerk", "--task", &task, "--wait"]);
    };
    for (path, content) in [("build.sh", "echo fake > done\n"), ("lib.sh", "echo fake\n")] {
        let (card, entries) = approved(&home, &server, || other(path, content));
        assert_eq!(card["contents"]["extent"], "all", "{card}");
        assert_eq!(count(&entries, "tool_started"), 0, "{path}: {entries:?}");
        let refused = refusal(&entries).expect("it is refused");
        assert_eq!(refused["fields"]["rule"], "approval-mismatch", "{refused}");
        let told = refused.to_string();
        assert!(
            told.contains("changed since: files of its workspace that its program could execute"),
            "{told}"
        );
        assert!(!workspace.join("done").exists(), "{path}: it did not run");
    }
    // Looked at as it is now, it runs.
    let (card, entries) = approved(&home, &server, || {});
    assert_eq!(card["contents"]["files"], 3, "{card}");
    assert_eq!((count(&entries, "tool_started"), refusal(&entries)), (1, None), "{entries:?}");
    assert_eq!(std::fs::read_to_string(workspace.join("done")).expect("it ran"), "fake\n");
}

#[test]
fn where_only_named_files_count_others_may_change() {
    let home = home(", files: named");
    let server = home.serve();
    let workspace = workspace(&home, &server);
    let write = |path: &str, content: &str| std::fs::write(workspace.join(path), content).expect("written");
    let (card, entries) = approved(&home, &server, || write("notes", "two\n"));
    assert_eq!((&card["contents"]["extent"], &card["contents"]["files"]), (&json!("named"), &json!(1)));
    assert_eq!(refusal(&entries), None, "{entries:?}");
    let (_, entries) = approved(&home, &server, || write("build.sh", "echo fake > done\n"));
    assert_eq!(count(&entries, "tool_started"), 0, "{entries:?}");
    assert_eq!(std::fs::read_to_string(workspace.join("done")).expect("it ran once"), "built\n");
}
