//! Rules that are proposed, through the real binary: each of them is taken as it is printed.

use std::process::Command;

use serde_json::json;

use crate::approvals::{document, id, is, until};
use crate::home::{Home, append, stderr};

/// Has an agent ask for a call three times, each time with another path, and approves each.
fn approved(home: &Home, agent: &str, tool: &str, paths: [&str; 3]) {
    document(home, &["agent", "create", agent, "--grant", "model", "--grant", "reply", "--grant", "file.*"]);
    for path in paths {
        let call = json!({"path": path, "content": "the same\n"});
        let spawned = document(home, &["agent", "spawn", agent, "--task", &format!("@tool {tool} {call}")]);
        let session = spawned["session"].clone();
        let asked = until(home, |approval| approval["session"] == session && approval["state"] == "holding");
        document(home, &["approval", "approve", id(&asked)]);
        until(home, is(&asked, "used"));
    }
}

#[test]
fn every_suggested_rule_is_accepted_as_printed() {
    let home = Home::new();
    let file = "permissions: { ask: [file.append, file.write] }\napprovals: { hold_ms: 60000 }\n";
    append(&home.path().join("dromia.yaml"), file);
    let server = home.serve();
    // What these have in common is the text only, and a rule says where.
    approved(&home, "sower", "file.write", ["a.md", "b.md", "c.md"]);
    approved(&home, "clerk", "file.write", ["notes/a.md", "notes/b.md", "notes/c/d.md"]);
    approved(&home, "scribe", "file.append", ["log", "log", "log"]);
    // A name that is taken is not proposed.
    document(&home, &["approval", "rule", "add", "rule-1", "file.append path=mine"]);
    let suggested = document(&home, &["approval", "suggest"]);
    let mut rules = Vec::new();
    for found in suggested["items"].as_array().expect("rows") {
        let command = found["command"].as_str().expect("a command").strip_prefix("dromia ").expect("ours");
        let shell = format!("{} {command}", env!("CARGO_BIN_EXE_dromia"));
        let added = Command::new("sh").args(["-c", &shell]).env("DROMIA_HOME", home.path()).output();
        let added = added.expect("a shell");
        assert!(added.status.success(), "{found}: {}", stderr(&added));
        rules.push(found["rule"].as_str().expect("a rule").to_owned());
    }
    rules.sort();
    let exact = r#"file.append content="the same\n" path=log only"#;
    assert_eq!(rules, [exact, r#"file.write content="the same\n" path=notes/**"#]);
    let kept = document(&home, &["approval", "rule", "list"]);
    let names: Vec<_> = kept["items"].as_array().expect("rows").iter().map(|rule| &rule["name"]).collect();
    assert_eq!(names, ["rule-1", "rule-2", "rule-3"], "{kept}");
    drop(server);
}
