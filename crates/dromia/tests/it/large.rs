//! What is large: an answer that is too long to keep, and a run whose own input passes the bound of the past.

use serde_json::json;

use crate::home::{Home, block_on, count};
use crate::model::{Model, Say, is_asked};

#[test]
fn an_oversized_call_is_refused_and_the_model_continues() {
    let home = Home::new();
    let content = "x".repeat(900 << 10);
    let model = Model::start(move |_, messages| {
        if is_asked(messages) {
            return Say::Call("file__write", json!({"path": "big.txt", "content": content}).to_string());
        }
        let told = messages.last().map(|message| message["content"].to_string()).unwrap_or_default();
        Say::Text(told)
    });
    let config = format!("version: 1\nmodels:\n{}", model.alias("default"));
    std::fs::write(home.path().join("dromia.yaml"), config).expect("the configuration can be written");
    let server = home.serve();
    block_on(async {
        let (status, answer) = server.event(&json!({"text": "write it", "wait": true})).await;
        assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
        assert_eq!(answer["model_calls"], 2, "it was asked once more instead of told: {answer}");
        let reply = answer["reply"].as_str().expect("a reply");
        assert!(reply.contains("Nothing ran") && reply.contains("append the others"), "{reply}");
        let session = answer["session"].as_str().expect("a session");
        let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
        assert_eq!((count(&entries, "tool_refused"), count(&entries, "tool_started")), (1, 0));
    });
}

#[test]
fn a_call_over_its_tools_limit_is_refused_with_place() {
    let home = Home::new();
    let content = "x".repeat(600 << 10);
    let model = Model::start(move |_, messages| {
        if is_asked(messages) {
            return Say::Call("file__write", json!({"path": "big.txt", "content": content}).to_string());
        }
        let told = messages.last().map(|message| message["content"].to_string()).unwrap_or_default();
        Say::Text(told)
    });
    let config = format!("version: 1\nmodels:\n{}", model.alias("default"));
    std::fs::write(home.path().join("dromia.yaml"), config).expect("the configuration can be written");
    let server = home.serve();
    let (_, answer) = block_on(server.event(&json!({"text": "write it", "wait": true})));
    let reply = answer["reply"].as_str().expect("a reply");
    assert!(reply.contains("content: 614400 bytes are more than the 524288 allowed"), "{answer}");
}

/// Planted fault: a takeover that reads the run's own input within the limits of the past tells its model nothing,
/// and the model answers something else than what the input asks for.
#[test]
fn a_turn_with_oversized_input_finishes_unchanged_after_a_kill() {
    let home = Home::new();
    let server = home.serve();
    let text = format!("@slow 10000\n@say it was told whole\n{}", "lorem ipsum ".repeat(6 << 10));
    let session = block_on(async {
        let (status, accepted) = server.event(&json!({"text": text})).await;
        assert_eq!(status, 202, "{accepted}");
        let session = accepted["session"].as_str().expect("a session").to_owned();
        server.journal_until(&session, |entries| count(entries, "model_called") == 1).await;
        session
    });
    server.kill();
    let server = home.serve();
    let entries = block_on(server.journal_until(&session, |entries| count(entries, "run_completed") == 1));
    assert_eq!((count(&entries, "model_called"), count(&entries, "model_failed")), (2, 1));
    let replied = entries.iter().find(|entry| entry["kind"] == "model_replied").expect("a reply");
    assert_eq!(replied["body"]["parts"][0]["text"], "it was told whole");
}
