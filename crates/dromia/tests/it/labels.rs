//! Labels of files through the real binary: what was written is read back with the label of what led to it, in a later turn,
//! in another session and after a restart.

use serde_json::{Value, json};

use crate::egress::{create, hello};
use crate::home::{Home, Server, append, block_on, count};

/// Lets the agent make calls, one after the other, in a session of their own, and returns the label of what each of them
/// told first.
async fn labels(server: &Server, calls: &[(&str, Value)]) -> Vec<String> {
    let text: Vec<_> = calls.iter().map(|(tool, arguments)| format!("@tool {tool} {arguments}")).collect();
    let event = json!({"text": text.join("\n"), "agent": "scribe", "wait": true});
    let (status, answer) = server.event(&event).await;
    assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    let session = answer["session"].as_str().expect("a session");
    let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
    let ended: Vec<_> = entries.iter().filter(|entry| entry["kind"] == "tool_finished").collect();
    assert_eq!(ended.len(), calls.len(), "{entries:?}");
    assert!(ended.iter().all(|entry| entry["fields"]["status"] == "ok"), "{ended:?}");
    let label = |entry: &&Value| entry["body"]["parts"][0]["label"].as_str().expect("a label").to_owned();
    ended.iter().map(label).collect()
}

async fn read(server: &Server, path: &str) -> String {
    labels(server, &[("file.read", json!({"path": path}))]).await.remove(0)
}

fn write(path: &str, content: &str) -> (&'static str, Value) {
    ("file.write", json!({"path": path, "content": content}))
}

#[test]
fn a_file_keeps_its_label_across_turns_and_restarts() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "egress: { private_tools: ['127.0.0.0/8'] }\n");
    let (port, _heard) = hello();
    let server = home.serve();
    create(
        &home,
        "scribe",
        &["file.*".to_owned(), "http.request".to_owned(), format!("net:127.0.0.1:{port}")],
    );
    let ask = ("http.request", json!({"url": format!("http://127.0.0.1:{port}/")}));
    block_on(async {
        labels(&server, &[write("notes/mine", "as I was told")]).await;
        assert_eq!(read(&server, "notes/mine").await, "trusted/actor");
        // What another system said led to this file.
        labels(&server, &[ask.clone(), write("theirs", "as they said")]).await;
        assert_eq!(read(&server, "theirs").await, "untrusted/actor");
        let appended = ("file.append", json!({"path": "theirs", "content": ", and I"}));
        labels(&server, &[appended]).await;
        assert_eq!(read(&server, "theirs").await, "untrusted/actor", "what is appended does not clean it");
        labels(&server, &[write("notes/both", "mine"), ask.clone(), write("notes/both", "theirs")]).await;
        assert_eq!(read(&server, "notes/both").await, "untrusted/actor");
        labels(&server, &[write("theirs", "mine again")]).await;
        assert_eq!(read(&server, "theirs").await, "trusted/actor", "nothing of what they said is left");
    });
    server.kill();
    let server = home.serve();
    block_on(async {
        assert_eq!(read(&server, "notes/mine").await, "trusted/actor");
        assert_eq!(read(&server, "notes/both").await, "untrusted/actor");
        let agents = std::fs::read_dir(home.path().join("agents")).expect("it wrote");
        let mut workspaces = agents.map(|agent| agent.expect("a home").path().join("workspace"));
        let workspace = workspaces.find(|path| path.join("theirs").exists()).expect("it is there");
        std::fs::write(workspace.join("notes/mine"), "as somebody says").expect("written by hand");
        assert_eq!(read(&server, "notes/mine").await, "untrusted/agent", "nobody said what it holds");
        std::fs::write(workspace.join("notes/mine"), "as I was told").expect("written by hand");
        assert_eq!(read(&server, "notes/mine").await, "trusted/actor", "it holds again what is known");
    });
    drop(server);
}
