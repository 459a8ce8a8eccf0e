//! Bodies that are files, through the real binary: one that is lost or damaged is told by `doctor`, and one that is sent
//! again is whole.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::home::{Home, Server, block_on};

/// Sends a text of 300 KB, which lies in a file, and returns the answer.
fn say(server: &Server) -> Value {
    let text = format!("@say heard\n{}", "x".repeat(300_000));
    let (status, answer) = block_on(server.event(&json!({"text": text, "wait": true})));
    assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    answer
}

/// The files of bodies of a home.
fn files(home: &Home) -> Vec<PathBuf> {
    let listed = |dir: PathBuf| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).expect("is listed");
        entries.map(|entry| entry.expect("is listed").path()).collect()
    };
    listed(home.path().join("store/blobs")).into_iter().flat_map(listed).collect()
}

/// The exit code of `doctor` about bodies, and what it says.
fn doctor(home: &Home) -> (Option<i32>, String) {
    let output = home.run(&["doctor", "--only", "store.bodies"]);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn doctor_reports_missing_and_damaged_bodies() {
    let home = Home::new();
    let server = home.serve();
    say(&server);
    server.terminate();
    assert_eq!(doctor(&home).0, Some(0));
    let files = files(&home);
    let whole = std::fs::read(&files[0]).expect("is read");
    std::fs::write(&files[0], &whole[1..]).expect("is damaged");
    let (code, told) = doctor(&home);
    assert!(code == Some(1) && told.contains("0 are missing and 1 are unreadable or changed"), "{told}");
    std::fs::remove_file(&files[0]).expect("is removed");
    let (code, told) = doctor(&home);
    assert!(code == Some(1) && told.contains("1 are missing and 0 are unreadable or changed"), "{told}");
}

#[test]
fn a_damaged_body_that_is_sent_again_is_read_again() {
    let home = Home::new();
    let server = home.serve();
    let answer = say(&server);
    let session = answer["session"].as_str().expect("a session").to_owned();
    let transcript = |server: &Server| block_on(server.get(&format!("/v1/sessions/{session}/transcript"))).0;
    server.terminate();
    for file in files(&home) {
        std::fs::write(file, "something else").expect("is damaged");
    }
    let server = home.serve();
    assert_eq!(transcript(&server), 500);
    say(&server);
    assert_eq!(transcript(&server), 200);
}

#[test]
fn a_server_raises_its_bound_on_open_files() {
    let home = Home::new();
    let mut limited = Command::new("sh");
    limited.arg("-c").arg("ulimit -S -n 256; exec \"$0\" \"$@\"").arg(env!("CARGO_BIN_EXE_dromia"));
    limited.env("DROMIA_HOME", home.path()).env_remove("OPENAI_API_KEY");
    let server = home.serve_by(limited);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).expect("is read");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let soft = line.split_ascii_whitespace().nth(3).and_then(|word| word.parse::<u64>().ok());
    assert!(soft.is_some_and(|soft| soft > 256), "{line}");
    assert_eq!(block_on(server.get("/ready")).0, 200);
}
