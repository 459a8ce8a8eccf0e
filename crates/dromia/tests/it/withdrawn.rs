//! A narrowing reaches what is open, through the real binary: a program that runs, a tunnel of its proxy, an approval that
//! waits.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::approvals::{document, ended, id, is, until};
use crate::egress::create;
use crate::home::{DEADLINE, Home, Server, append, block_on, count, stderr};
use crate::tasks::{gone, lines_with};

/// Gives `dev` a task that runs a command, and returns its run.
fn spawn(home: &Home, command: &str) -> String {
    let arguments = json!({"command": command, "timeout_s": 120});
    let task = format!("@tool shell.execute {arguments}\n@say done");
    let spawned = document(home, &["agent", "spawn", "dev", "--task", &task]);
    let session = spawned["session"].as_str().expect("a session").to_owned();
    let runs = document(home, &["run", "list", "--session", &session]);
    runs["items"][0]["id"].as_str().unwrap_or_else(|| panic!("{runs}")).to_owned()
}

fn narrow(home: &Home, grant: &str) {
    document(home, &["agent", "set", "dev", &format!("grants-={grant}")]);
}

/// The result of the one call of a run that goes on to its end.
fn result_of(server: &Server, run: &str) -> (Value, String) {
    let entries = block_on(ended(server, run));
    assert_eq!(count(&entries, "run_completed"), 1, "the run goes on: {entries:?}");
    let finished = entries.iter().find(|entry| entry["kind"] == "tool_finished").expect("a result");
    let parts = finished["body"]["parts"].as_array().expect("parts").iter();
    (finished["fields"].clone(), parts.filter_map(|part| part["text"].as_str()).collect())
}

#[test]
fn a_narrowing_ends_a_running_program() {
    let home = Home::new();
    let server = home.serve();
    create(&home, "dev", &["shell.execute".to_owned(), "exec".to_owned()]);
    let word = format!("97{:07}", std::process::id());
    let run = spawn(&home, &format!("(setsid sleep {word} &); sleep {word}"));
    let end = std::time::Instant::now() + DEADLINE;
    while lines_with(&format!("sleep\0{word}")).len() < 2 {
        assert!(std::time::Instant::now() < end, "the program does not run");
        std::thread::sleep(Duration::from_millis(20));
    }
    narrow(&home, "exec");
    assert!(!lines_with(&word).is_empty(), "what another tool may do is no matter of this one");
    narrow(&home, "shell.execute");
    assert!(gone(&word) < Duration::from_secs(20), "the program goes on");
    let (fields, told) = result_of(&server, &run);
    assert_eq!(
        (&fields["status"], &fields["withdrawn"]),
        (&json!("unknown"), &json!("default deny")),
        "{fields}"
    );
    assert!(told.contains("was withdrawn while it ran"), "{told}");
    let acts = document(&home, &["audit", "query", "--kind", "tool_finished"]);
    assert_eq!(acts["items"][0]["rule"], "default deny", "{acts}");
}

#[test]
fn a_narrowing_closes_an_open_tunnel() {
    assert!(Path::new("/usr/bin/curl").is_file(), "this test needs curl: apt-get install curl");
    let home = Home::new();
    let settings = "egress: { private_tools: ['127.0.0.1'] }\ntools: { exec: { network: proxy } }\n";
    append(&home.path().join("dromia.yaml"), settings);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let to = listener.local_addr().expect("an address").to_string();
    let (says, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut piece = [0; 4096];
        let _asked = stream.read(&mut piece);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nbegun").expect("it is sent");
        says.send("open").expect("the test waits");
        let _closed = stream.read(&mut piece);
        says.send("closed").expect("the test waits");
    });
    let server = home.serve();
    create(&home, "dev", &["shell.execute".to_owned(), format!("net:{to}"), "net:other.example".to_owned()]);
    let run = spawn(&home, &format!("curl -sN -m 100 -p http://{to}/; echo; echo curl ended"));
    assert_eq!(heard.recv_timeout(DEADLINE), Ok("open"));
    narrow(&home, "net:other.example");
    let still = heard.recv_timeout(Duration::from_millis(300));
    assert!(still.is_err(), "the right to another host is no matter of this tunnel: {still:?}");
    narrow(&home, &format!("net:{to}"));
    assert_eq!(heard.recv_timeout(DEADLINE), Ok("closed"));
    let (fields, told) = result_of(&server, &run);
    assert!(told.ends_with("begun\ncurl ended\n") && told.contains("1 allowed, 1 refused"), "{told}");
    let judged: Vec<_> = fields["egress"].as_array().expect("decisions").iter().collect();
    assert_eq!(judged[1]["rule"], "default deny", "{judged:?}");
    assert_eq!((&fields["status"], &judged[1]["allowed"]), (&json!("ok"), &json!(false)));
}

/// Runs a program by a capability that lasts so long, and returns how its call ended.
fn end_of_call_within(seconds: u32) -> (Value, String) {
    let home = Home::new();
    let server = home.serve();
    create(&home, "dev", &[]);
    let expires = format!("{seconds}s");
    document(&home, &["capability", "grant", "dev", "tool:shell.execute", "--expires", &expires]);
    let word = format!("98{:07}", std::process::id());
    // Of two programs, one outlives the end of a short capability, and the other begins another session.
    let run = spawn(&home, &format!("(setsid sleep {word} &); sleep 12"));
    let result = result_of(&server, &run);
    assert!(gone(&word) < Duration::from_secs(20), "a program goes on");
    result
}

#[test]
fn an_expired_capability_ends_a_running_program() {
    let (fields, told) = end_of_call_within(6);
    assert_eq!(fields["status"], "unknown", "{fields}");
    let rule = fields["withdrawn"].as_str().expect("the rule");
    assert!(rule.starts_with("capability cap_"), "{rule}");
    assert!(told.contains("was withdrawn while it ran"), "{told}");
}

/// Planted fault: the capability lasts longer than the program.
#[test]
fn a_program_that_ends_by_itself_is_caught() {
    let (fields, _) = end_of_call_within(600);
    assert_eq!((&fields["status"], &fields["withdrawn"]), (&json!("ok"), &Value::Null), "{fields}");
}

#[test]
fn an_approval_of_a_narrowed_agent_is_outdated() {
    let home = Home::new();
    append(
        &home.path().join("dromia.yaml"),
        "permissions: { ask: [file.append] }\napprovals: { hold_ms: 60000 }\n",
    );
    let server = home.serve();
    create(&home, "dev", &["file.*".to_owned()]);
    let task = format!("@tool file.append {}\n@say done", json!({"path": "log", "content": "never\n"}));
    let spawned = document(&home, &["agent", "spawn", "dev", "--task", &task]);
    let mine = |approval: &Value| approval["session"] == spawned["session"];
    let asked = until(&home, mine);
    narrow(&home, "file.*");
    let refused = home.run(&["approval", "approve", id(&asked), "--json"]);
    let error = stderr(&refused);
    assert!(!refused.status.success() && error.contains("approval_outdated"), "{error}");
    assert!(error.contains("file.append"), "it names what is not covered any more: {error}");
    // A refusal is still possible, and ends the wait.
    assert!(until(&home, mine)["state"] == "holding", "no answer was stored");
    document(&home, &["approval", "deny", id(&asked)]);
    until(&home, is(&asked, "denied"));
    let run = asked["run"].as_str().expect("a run");
    let entries = block_on(ended(&server, run));
    assert_eq!(count(&entries, "tool_started"), 0, "nothing ran: {entries:?}");
    let files = std::fs::read_dir(home.path().join("agents")).into_iter().flatten().flatten();
    assert!(files.map(|agent| agent.path().join("workspace/log")).all(|log| !log.exists()));
}
