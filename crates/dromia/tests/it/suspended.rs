//! A tenant that is suspended, through the real binary: what runs rests where it is, nothing begins, all of it outlives a restart,
//! and everything goes on when the tenant does.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::approvals::document;
use crate::home::{Home, stderr};

/// Until when a run comes to a status.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until a run has a status.
fn until_status(home: &Home, run: &str, status: &str) {
    let until = Instant::now() + DEADLINE;
    loop {
        let shown = document(home, &["run", "show", run]);
        if shown["run"]["status"] == status {
            return;
        }
        assert!(Instant::now() < until, "{run} does not come to {status}: {shown}");
        sleep(Duration::from_millis(20));
    }
}

/// Asks for what a suspended tenant does not do, and sees that it is refused with its code and the way on.
fn refused(home: &Home) {
    for line in [&["ask", "hello"][..], &["agent", "pause", "assistant"], &["tool", "call", "time.now"]] {
        let output = home.run(&[line, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(4), "{line:?}: {}", stderr(&output));
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
        assert!(
            said.contains("tenant_suspended") && said.contains("dromia tenant resume"),
            "{line:?}: {said}"
        );
    }
}

#[test]
fn a_suspension_outlives_a_restart_and_loses_nothing() {
    let home = Home::new();
    let server = home.serve();
    let begun = document(&home, &["event", "send", "@slow 1500\n@tool time.now {}\n@say done"]);
    let run = begun["run"].as_str().expect("a run").to_owned();
    let suspended = document(&home, &["tenant", "suspend", "default"]);
    assert!(suspended["suspended_at"].is_string(), "{suspended}");
    refused(&home);
    let first = home.run(&["status"]);
    assert!(
        String::from_utf8_lossy(&first.stdout).contains("  next: dromia tenant resume default\n"),
        "{first:?}"
    );
    let who = home.run(&["whoami"]);
    assert!(String::from_utf8_lossy(&who.stdout).contains("`dromia tenant resume default`"), "{who:?}");
    until_status(&home, &run, "parked");
    let why = document(&home, &["run", "why", &run]);
    assert_eq!(why["command"], "dromia tenant resume default", "{why}");
    server.kill();

    let server = home.serve();
    refused(&home);
    let again = document(&home, &["tenant", "suspend", "default"]);
    assert_eq!(again["suspended_at"], suspended["suspended_at"], "a repetition changes nothing");
    let shown = document(&home, &["tenant", "show", "default"]);
    assert_eq!(shown["counts"]["open_runs"], 1, "{shown}");
    until_status(&home, &run, "parked");

    let resumed = document(&home, &["tenant", "resume", "default"]);
    assert_eq!(resumed.get("suspended_at"), None, "{resumed}");
    until_status(&home, &run, "completed");
    let answer = document(&home, &["ask", "hello"]);
    assert_eq!(answer["status"], "completed", "{answer}");
    let acts = document(&home, &["audit", "query", "--kind", "tenant_suspension_set"]);
    let outcomes: Vec<&Value> =
        acts["items"].as_array().expect("items").iter().map(|act| &act["outcome"]).collect();
    assert_eq!(outcomes, ["suspended", "resumed"], "each act once: {acts}");
    server.terminate();
}
