//! What a person allows to run is what runs: the approval of a program is bound to the files that it could execute.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::approvals::{document, id, is, until};
use crate::home::{Home, Server, append, block_on, count, stderr};

/// What the script says.
const SCRIPT: &str = "echo built > done\n";

/// A home where programs wait.
fn home(file: &str) -> Home {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), file);
    home
}

/// Makes an agent whose workspace holds a script and notes. Returns the workspace.
fn workspace(home: &Home, server: &Server) -> PathBuf {
    let grants = ["--grant", "model", "--grant", "reply", "--grant", "exec", "--grant", "file.*"];
    let agent = document(home, &[&["agent", "create", "clerk"][..], &grants].concat());
    let script = json!({"path": "build.sh", "content": SCRIPT});
    let notes = json!({"path": "notes", "content": "one\n"});
    let task = format!("@tool file.write {script}\n@tool file.write {notes}");
    let spawned = document(home, &["agent", "spawn", "clerk", "--task", &task]);
    ended(server, spawned["session"].as_str().expect("a session"));
    home.path().join("agents").join(agent["id"].as_str().expect("an id")).join("workspace")
}

/// Asks for the script to be run. Returns the session of the task, and the approval.
fn asked(home: &Home) -> (String, Value) {
    let task = format!("@tool exec {}", json!({"argv": ["sh", "./build.sh"]}));
    let spawned = document(home, &["agent", "spawn", "clerk", "--task", &task]);
    let session = spawned["session"].as_str().expect("a session").to_owned();
    let approval = until(home, |approval| approval["session"] == session.as_str());
    (session, document(home, &["approval", "show", id(&approval)]))
}

/// Another run of the agent writes a file.
fn write(home: &Home, path: &str, content: &str) {
    let task = format!("@tool file.write {}", json!({"path": path, "content": content}));
    document(home, &["agent", "spawn", "clerk", "--task", &task, "--wait"]);
}

fn ended(server: &Server, session: &str) -> Vec<Value> {
    block_on(server.journal_until(session, |entries| count(entries, "run_completed") == 1))
}

fn refusal(entries: &[Value]) -> Option<&Value> {
    entries.iter().find(|entry| entry["kind"] == "tool_refused")
}

#[test]
fn an_approval_is_refused_when_its_files_changed() {
    let home = home("permissions: { ask: [exec] }\napprovals: { hold_ms: 600000 }\n");
    let server = home.serve();
    let workspace = workspace(&home, &server);
    for (path, content, before) in
        [("build.sh", "echo fake > done\n", Some(SCRIPT)), ("lib.sh", "echo\n", None)]
    {
        let (session, card) = asked(&home);
        assert_eq!(card["contents"]["extent"], "all", "{card}");
        write(&home, path, content);
        let answer = home.run(&["approval", "approve", id(&card)]);
        assert_eq!(answer.status.code(), Some(6), "{path}: {}", stderr(&answer));
        let told = stderr(&answer);
        assert!(
            told.contains("changed after the request") && told.contains("dromia approval deny"),
            "{told}"
        );
        let how =
            if before.is_some() { "as before, but with other contents, names or rights" } else { " now)" };
        assert!(told.contains("of the whole workspace, ") && told.contains(how), "{told}");
        assert_eq!(document(&home, &["approval", "show", id(&card)])["state"], "holding", "{path}");
        assert!(!workspace.join("done").exists(), "{path}: it did not run");
        // As it was when it was asked for, it may be allowed.
        match before {
            Some(before) => write(&home, path, before),
            None => std::fs::remove_file(workspace.join(path)).expect("removed"),
        }
        document(&home, &["approval", "approve", id(&card)]);
        let entries = ended(&server, &session);
        assert_eq!((count(&entries, "tool_started"), refusal(&entries)), (1, None), "{entries:?}");
        assert_eq!(std::fs::read_to_string(workspace.join("done")).expect("it ran"), "built\n");
        std::fs::remove_file(workspace.join("done")).expect("removed");
    }
}

/// Nobody looks at a delayed call again, so its start does.
#[test]
fn a_program_whose_files_changed_since_is_caught() {
    let home = home(
        "permissions: { delay: [exec] }\nirreversible: { cooling_ms: 15000 }\napprovals: { hold_ms: 600000 }\n",
    );
    let server = home.serve();
    let workspace = workspace(&home, &server);
    let (session, card) = asked(&home);
    // At once: a run of its own could take longer than the call cools.
    std::fs::write(workspace.join("build.sh"), "echo fake > done\n").expect("written");
    let entries = ended(&server, &session);
    assert_eq!(count(&entries, "tool_started"), 0, "{entries:?}");
    let refused = refusal(&entries).expect("it is refused");
    assert_eq!(refused["fields"]["rule"], "approval-mismatch", "{refused}");
    let told = refused.to_string();
    assert!(told.contains("changed since: files of its workspace that its program could execute"), "{told}");
    assert!(!workspace.join("done").exists(), "it did not run");
    until(&home, is(&card, "withdrawn"));
}

#[test]
fn where_only_named_files_count_others_may_change() {
    let home = home("permissions: { ask: [exec] }\napprovals: { hold_ms: 600000, files: named }\n");
    let server = home.serve();
    let workspace = workspace(&home, &server);
    let (session, card) = asked(&home);
    assert_eq!((&card["contents"]["extent"], &card["contents"]["files"]), (&json!("named"), &json!(1)));
    let page = home.run(&["approval", "show", id(&card)]);
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("1 that the call names, as they were at the request"), "{page}");
    write(&home, "notes", "two\n");
    document(&home, &["approval", "approve", id(&card)]);
    assert_eq!(refusal(&ended(&server, &session)), None);
    let (_, card) = asked(&home);
    write(&home, "build.sh", "echo fake > done\n");
    assert!(!home.run(&["approval", "approve", id(&card)]).status.success());
    assert_eq!(std::fs::read_to_string(workspace.join("done")).expect("it ran once"), "built\n");
}

/// What nobody can look at as a whole, nobody is asked about.
#[test]
fn a_workspace_too_deep_to_inspect_refuses_the_call() {
    let home = home("permissions: { ask: [exec] }\napprovals: { hold_ms: 600000 }\n");
    let server = home.serve();
    let workspace = workspace(&home, &server);
    std::fs::create_dir_all(workspace.join(["d"; 65].join("/"))).expect("made");
    let task = format!("@tool exec {}", json!({"argv": ["sh", "./build.sh"]}));
    let spawned = document(&home, &["agent", "spawn", "clerk", "--task", &task]);
    let entries = ended(&server, spawned["session"].as_str().expect("a session"));
    let refused = refusal(&entries).expect("it is refused");
    assert_eq!(refused["fields"]["rule"], "approval-files", "{refused}");
    assert!(refused.to_string().contains("nested deeper than 64 levels"), "{refused}");
    assert!(!workspace.join("done").exists(), "it did not run");
}
