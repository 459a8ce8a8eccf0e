//! What a program says while it runs, through the real binary: seen by who watches, and read on from its handle after
//! the server was killed.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::home::{Home, block_on, stderr};
use crate::programs::{told, workspace};

/// The texts of the result of the one call of a run.
fn result(journal: &Value) -> String {
    let entries = journal["entries"].as_array().expect("entries");
    let finished = entries.iter().find(|entry| entry["kind"] == "tool_finished").expect("it has a result");
    let parts = finished["body"]["parts"].as_array().expect("parts");
    parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_programs_output_is_streamed_and_readable_after_a_kill() {
    let home = Home::new();
    let server = home.serve();
    let grants = ["model", "reply", "shell.execute", "file.read"].map(|grant| ["--grant", grant]).concat();
    let created = home.run(&[&["agent", "create", "dev"][..], &grants].concat());
    assert!(created.status.success(), "{}", stderr(&created));

    let script = "while [ ! -f go ]; do echo waiting; sleep 0.1; done; seq 1 20000";
    let arguments = json!({"command": script, "timeout_s": 60});
    let event = json!({"text": format!("@tool shell.execute {arguments}"), "agent": "dev"});
    let (status, accepted) = block_on(server.event(&event));
    assert_eq!(status, 202, "{accepted}");
    let run = accepted["run"].as_str().expect("the agent is free").to_owned();
    let mut watch = home
        .command()
        .args(["run", "watch", &run])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = Vec::new();
    for line in BufReader::new(watch.stderr.take().expect("a pipe")).lines() {
        let line = line.expect("text");
        // It goes on only once it was heard.
        if line == "  | waiting" && !lines.contains(&line) {
            std::fs::write(workspace(&home).expect("it is there").join("go"), "").expect("written");
        }
        lines.push(line);
    }
    assert!(watch.wait().expect("it ends").success());
    assert!(lines.contains(&"  | waiting".to_owned()), "it was not heard while it ran: {lines:?}");
    assert!(lines.contains(&"  | 20000".to_owned()), "its end was not heard: {lines:?}");
    let ended = lines.iter().find(|line| line.starts_with("  | [exit code 0; ")).expect("its end is shown");
    assert!(ended.contains("; ran ") && ended.ends_with(" s of 60 s]"), "{ended}");
    assert_eq!(lines.last(), Some(&format!("{run} is completed")));
    assert!(!lines.iter().any(|line| line.contains('\u{1b}')), "nobody looks on: {lines:?}");

    let (_, journal) = block_on(server.get(&format!("/v1/runs/{run}/journal?limit=256")));
    let text = result(&journal);
    let (_, kept) = text.split_once(" bytes are in ").expect("it is longer than what is told");
    let (path, kept) = kept.split_once("; read on there from offset ").expect("it says how");
    let offset: u64 = kept.trim_end_matches(']').parse().expect("a number");
    server.kill();
    let server = home.serve();
    let whole = std::fs::read(workspace(&home).expect("it is there").join(path)).expect("it is kept");
    assert!(whole.ends_with(b"\n19999\n20000\n"));
    let from = usize::try_from(offset).expect("it is small");
    let expected = String::from_utf8_lossy(&whole[from..from + 100]).into_owned();
    let arguments = json!({"path": path, "offset": offset, "limit": 100});
    let read = block_on(told(&server, "file.read", arguments));
    assert!(read.starts_with(&expected), "{read:?} does not begin with {expected:?}");
}
