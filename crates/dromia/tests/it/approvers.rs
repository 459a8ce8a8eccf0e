//! Who may answer an approval where the file names somebody, through the real binary: they, and nobody else.

use std::fs;

use serde_json::{Value, json};

use crate::approvals::{document, id, is, until};
use crate::home::{Home, append, block_on, stderr};

/// Gives the agent a task whose call must be approved, and waits until somebody is asked.
fn asked(home: &Home, task: &str) -> Value {
    let spawned = document(home, &["agent", "spawn", "clerk", "--task", task]);
    let session = spawned["session"].clone();
    until(home, |approval| approval["session"] == session && approval["state"] == "holding")
}

#[test]
fn only_named_approvers_may_answer_an_approval() {
    let home = Home::new();
    let file = home.path().join("dromia.yaml");
    let server = home.serve();
    let mint = || document(&home, &["token", "create", "ops", "--role", "approver"]);
    let named = mint();
    let me = format!("token:{}", named["id"].as_str().expect("an id"));
    server.terminate();
    append(&file, &format!("permissions: {{ ask: [file.append] }}\napprovals: {{ approvers: ['{me}'] }}\n"));
    let server = home.serve();
    let clerk = ["agent", "create", "clerk", "--grant", "model", "--grant", "reply", "--grant", "file.*"];
    document(&home, &clerk);
    let task = format!("@tool file.append {}", json!({"path": "log", "content": "x"}));
    let first = asked(&home, &task);
    // Whoever owns the process is not named.
    let refused = home.run(&["approval", "approve", id(&first)]);
    assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    assert!(stderr(&refused).contains(&format!("these may: {me}")), "{}", stderr(&refused));
    let answers = |token: &str| {
        let path = format!("{}/v1/approvals/{}/answer", server.url, id(&first));
        block_on(async {
            let request = reqwest::Client::new().post(path).bearer_auth(token);
            server.send(request.body(r#"{"approve":true}"#)).await
        })
    };
    // A token that may do everything else is another one, and so is one that any admin of the tenant gives the same name.
    assert_eq!(answers(&home.token_path()).0, 403);
    let again = mint();
    assert_eq!(
        (again["name"].as_str(), answers(again["token"].as_str().expect("a token")).0),
        (Some("ops"), 403)
    );
    let (status, answered) = answers(named["token"].as_str().expect("a token"));
    assert_eq!((status, &answered["answered_by"]), (200, &json!("token:ops")), "{answered}");
    until(&home, is(&first, "used"));

    // The user of the socket, by the name that `whoami` says.
    let user = document(&home, &["whoami"])["actor"].as_str().expect("an actor").to_owned();
    server.terminate();
    assert!(user.starts_with("cli:"), "{user}");
    let text = fs::read_to_string(&file).expect("the file").replace(&me, &user);
    fs::write(&file, text).expect("it is written");
    let server = home.serve();
    let second = asked(&home, &task);
    document(&home, &["approval", "approve", id(&second)]);
    until(&home, is(&second, "used"));
    drop(server);
}

#[test]
fn an_approver_token_must_be_named_by_its_id() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "approvals: { approvers: ['token:ops'] }\n");
    let refused = home.run(&["up"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("approvals.approvers.0") && stderr(&refused).contains("token:tok_"));
}
