//! Calls that a model should not have made, through the real binary: each ends as one typed result that the model
//! is told, and nothing outside the agent's workspace is touched.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};
use serde_json::{Value, json};

use crate::home::{Home, Server, block_on, count};

/// Asks for calls, one after the other, and returns the status and the text of each result.
async fn call(server: &Server, session: Option<&str>, calls: &[(&str, String)]) -> Vec<(String, String)> {
    let lines: Vec<_> = calls.iter().map(|(tool, arguments)| format!("@tool {tool} {arguments}")).collect();
    let mut event = json!({"text": lines.join("\n"), "wait": true});
    if let Some(session) = session {
        event["session"] = json!(session);
    }
    let (status, answer) = server.event(&event).await;
    assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    let session = answer["session"].as_str().expect("a session");
    let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
    let results =
        entries.iter().filter(|entry| entry["kind"] == "tool_finished" || entry["kind"] == "tool_refused");
    let told = |entry: &Value| {
        let status = entry["fields"]["status"].as_str().expect("a status").to_owned();
        (status, entry["body"]["parts"][0]["text"].as_str().expect("a text").to_owned())
    };
    let results: Vec<_> = results.map(told).collect();
    assert_eq!(results.len(), calls.len(), "each call has exactly one result");
    results
}

/// The workspace of the home's one agent, which has written a file already.
fn workspace(home: &Home) -> PathBuf {
    let mut agents = std::fs::read_dir(home.path().join("agents")).expect("an agent has written");
    agents.next().expect("one agent").expect("is readable").path().join("workspace")
}

#[test]
fn arguments_outside_the_schema_are_refused_with_their_place() {
    let home = Home::new();
    let server = home.serve();
    let cases = [
        ("file.read", r#"{"path":7}"#, "path: invalid type"),
        ("file.read", r#"{"pth":"a"}"#, "unknown field `pth`"),
        ("file.read", r"{}", "missing field `path`"),
        ("file.read", r#"{"path":"a","limit":-1}"#, "limit: invalid value"),
        ("file.read", r"[]", "expected a JSON object"),
        ("file.read", r#"{"path":"a"} trailing"#, "trailing characters"),
        ("file.read", "not JSON", "expected a JSON object"),
        ("message.send", r#"{"session":"run_1","text":"x"}"#, "session: expected ses_"),
        ("worker.spawn", r#"{"agent":"No","task":"x"}"#, "agent: "),
        ("branch", r#"{"task":"x","topic":" "}"#, "topic: a topic has 1 to 80 bytes"),
        ("worker.spawn", r#"{"task":""}"#, "task: the text is empty"),
        ("time.now", r#"{"zone":"x"}"#, "unknown field `zone`"),
        ("file.format", r"{}", "there is no tool named \"file.format\""),
    ];
    let calls = cases.map(|(tool, arguments, _)| (tool, arguments.to_owned()));
    let results = block_on(call(&server, None, &calls));
    for ((tool, arguments, says), (status, text)) in cases.iter().zip(&results) {
        assert_eq!(status, "error", "{tool} {arguments}: {text}");
        assert!(text.contains(says), "{tool} {arguments}: {text}");
    }
    assert!(!home.path().join("agents").exists(), "a refused call made a workspace");
}

#[test]
fn a_path_out_of_the_workspace_touches_nothing_outside() {
    let home = Home::new();
    let server = home.serve();
    let outside = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(outside.path().join("secret"), "the secret").expect("is written");
    let write = |path: &str| ("file.write", json!({"path": path, "content": "x"}).to_string());
    let read = |path: &str| ("file.read", json!({"path": path}).to_string());
    block_on(async {
        call(&server, None, &[write("mine.txt")]).await;
        let inside = workspace(&home);
        symlink(outside.path(), inside.join("dir")).expect("is linked");
        symlink(outside.path().join("secret"), inside.join("link")).expect("is linked");
        let absolute = outside.path().join("secret").display().to_string();
        let calls = [
            write("../mine.txt"),
            write("a/../../b"),
            write(&absolute),
            read(&absolute),
            read("../../../token"),
            read("a\u{0}b"),
            read("dir/secret"),
            write("dir/new"),
            read("link"),
            write("link"),
            ("file.append", json!({"path": "link", "content": "x"}).to_string()),
            ("file.delete", json!({"path": "dir/secret"}).to_string()),
            ("file.list", json!({"path": "dir"}).to_string()),
        ];
        for ((tool, arguments), (status, text)) in calls.iter().zip(call(&server, None, &calls).await) {
            assert_eq!(status, "error", "{tool} {arguments}: {text}");
            assert!(!text.contains("the secret") && !text.contains("drm_"), "{tool} {arguments}: {text}");
            assert!(!text.contains(&home.path().display().to_string()), "{text} tells of the machine");
        }
    });
    untouched(outside.path());
}

fn untouched(outside: &Path) {
    let names: Vec<_> =
        std::fs::read_dir(outside).expect("is there").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["secret"], "something was made outside");
    assert_eq!(std::fs::read_to_string(outside.join("secret")).expect("is there"), "the secret");
}

/// A directory of the workspace is swapped for a link to the outside and back, as fast as it goes, while an agent
/// reads and writes below it. The planted fault, a check followed by an open, is kept as a test of the tools
/// themselves (`a_check_followed_by_an_open_is_caught`).
#[test]
fn a_directory_swapped_for_a_link_reaches_nothing_outside() {
    let home = Home::new();
    let server = home.serve();
    let outside = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(outside.path().join("secret"), "the secret").expect("is written");
    let write = |path: &str| ("file.write", json!({"path": path, "content": "x"}).to_string());
    block_on(call(&server, None, &[write("dir/secret")]));
    let inside = workspace(&home);
    symlink(outside.path(), inside.join("other")).expect("is linked");
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (stop, inside) = (Arc::clone(&stop), inside.clone());
        move || {
            let mut swaps = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                // One step, so that the name is always there: once the directory, once the link.
                let (dir, other) = (inside.join("dir"), inside.join("other"));
                rustix::fs::renameat_with(CWD, &dir, CWD, &other, RenameFlags::EXCHANGE)
                    .expect("both are there");
                swaps += 1;
            }
            swaps
        }
    });
    let one = |tool: &'static str, path: &str| {
        let arguments =
            if tool == "file.read" { json!({"path": path}) } else { json!({"path": path, "content": "y"}) };
        (tool, arguments.to_string())
    };
    let mut told = Vec::new();
    for round in 0..4 {
        let calls: Vec<_> = (0..24)
            .map(|number| match number % 3 {
                0 => one("file.read", "dir/secret"),
                1 => one("file.write", "dir/secret"),
                _ => one("file.append", &format!("dir/n{round}")),
            })
            .collect();
        told.extend(block_on(call(&server, None, &calls)));
    }
    stop.store(true, Ordering::Relaxed);
    assert!(swapper.join().expect("the swapper ends") > 0);
    assert_eq!(told.len(), 96);
    for (status, text) in &told {
        assert!(status == "ok" || status == "error", "{status}: {text}");
        assert!(!text.contains("the secret"), "{text}");
    }
    untouched(outside.path());
}
