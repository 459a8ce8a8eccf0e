//! `dromia run why` on each way in which a run stands or rests: it names the cause, who can change it, and a command
//! that does, which is then tried.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::{DEADLINE, Home, Server, append, block_on, stderr};

fn agent(home: &Home, name: &str, more: &[&str]) {
    let line =
        [&["agent", "create", name, "--grant", "model", "--grant", "reply", "--grant", "time.now"][..], more];
    let made = home.run(&line.concat());
    assert!(made.status.success(), "{}", stderr(&made));
}

/// Says something to an agent and waits until its run stands so; returns the run.
async fn run_at(server: &Server, agent: &str, text: &str, status: &str) -> String {
    let (code, accepted) = server.event(&json!({"text": text, "agent": agent})).await;
    assert_eq!(code, 202, "{accepted}");
    let path = format!("/v1/runs?session={}", accepted["session"].as_str().expect("a session"));
    let until = Instant::now() + DEADLINE;
    loop {
        let (_, runs) = server.get(&path).await;
        let run = &runs["items"][0];
        if run["status"] == status {
            return run["id"].as_str().expect("an id").to_owned();
        }
        assert!(Instant::now() < until, "the run is not {status}: {run}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until a run stands so.
async fn until_status(server: &Server, run: &str, status: &str) {
    let until = Instant::now() + DEADLINE;
    loop {
        let (_, known) = server.get(&format!("/v1/runs/{run}")).await;
        if known["status"] == status {
            return;
        }
        assert!(Instant::now() < until, "the run is not {status}: {known}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Asks why, through the command, and checks that person and program are told alike.
fn why(home: &Home, run: &str) -> Value {
    let document = || {
        let document = home.run(&["run", "why", run, "--json"]);
        serde_json::from_slice::<Value>(&document.stdout).expect("a document")
    };
    let until = Instant::now() + DEADLINE;
    // A run moves on by itself: only what is the same before and after was the same in between.
    let (why, text) = loop {
        let before = document();
        let shown = home.run(&["run", "why", run]);
        assert!(shown.status.success(), "{}", stderr(&shown));
        if document() == before {
            break (before, String::from_utf8(shown.stdout).expect("is UTF-8"));
        }
        assert!(Instant::now() < until, "the run never rests: {before}");
    };
    for field in ["status", "waits_for", "unblocked_by"] {
        let told = why[field].as_str().expect("a text");
        assert!(!told.is_empty() && text.contains(told), "{field}: {why} is shown as\n{text}");
    }
    if let Some(command) = why["command"].as_str() {
        assert!(text.contains(command), "{text}");
    }
    why
}

/// Runs the command that `why` names.
#[track_caller]
fn follow(home: &Home, why: &Value) {
    let command = why["command"].as_str().expect("a command");
    let words: Vec<_> = command.strip_prefix("dromia ").expect("one of ours").split(' ').collect();
    let output = home.run(&words);
    assert!(output.status.success(), "{command}: {}", stderr(&output));
}

#[test]
fn an_ended_run_explains_its_end_and_next_command() {
    let home = Home::new();
    let server = home.serve();
    agent(&home, "short", &["--model-calls-max", "1"]);
    let completed = block_on(run_at(&server, "assistant", "hello", "completed"));
    let told = why(&home, &completed);
    assert_eq!(told["status"], json!("completed"));
    assert_eq!(told["command"], json!(format!("dromia run show {completed}")));
    let failed = block_on(run_at(&server, "assistant", "@fail rejected", "failed"));
    let told = why(&home, &failed);
    assert!(
        told["waits_for"].as_str().is_some_and(|text| text.starts_with("it failed with model_rejected")),
        "{told}"
    );
    assert_eq!(told["command"], "dromia model test default", "the end does not lead in a circle");
    let who = home.run(&["whoami", "--json"]);
    let who: Value = serde_json::from_slice(&who.stdout).expect("a document");
    let who = who["actor"].as_str().expect("an actor");
    for (verb, ended) in [("cancel", "cancelled"), ("terminate", "terminated")] {
        let working = block_on(run_at(&server, "assistant", "@slow 60000", "running"));
        assert!(home.run(&["run", verb, "--yes", &working]).status.success());
        block_on(until_status(&server, &working, "cancelled"));
        assert_eq!(why(&home, &working)["waits_for"], format!("it was {ended} by {who}"));
    }
    let yielded = block_on(run_at(&server, "short", "@loop time.now", "yielded"));
    let told = why(&home, &yielded);
    assert!(told["waits_for"].as_str().is_some_and(|text| text.contains("limit of 1 model calls")), "{told}");
    follow(&home, &told);
    let resumed = why(&home, &yielded);
    assert_ne!(resumed["command"], told["command"], "it was resumed already: {resumed}");
    let by = resumed["unblocked_by"].as_str().expect("a text");
    assert!(by.contains("continued it") || by.contains("it was resumed"), "{resumed}");
}

#[test]
fn an_open_run_names_its_wait_and_a_working_command() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "tools: { pace_ms: 600000 }\n");
    let server = home.serve();
    agent(&home, "paused", &[]);
    let retried = block_on(run_at(&server, "assistant", "@fail unavailable\n@slow 60000", "parked"));
    let told = why(&home, &retried);
    // The next attempt may be due by now: then it waits for its model.
    let text = told["waits_for"].as_str().expect("a text");
    assert!(text.contains("its model"), "{told}");
    let calling = block_on(run_at(&server, "assistant", "@slow 60000", "running"));
    let told = why(&home, &calling);
    assert_eq!(told["waits_for"], "its model: step 1, attempt 1");
    follow(&home, &told);
    let working = block_on(async {
        let run = run_at(&server, "assistant", "@tool time.now", "running").await;
        let until = Instant::now() + DEADLINE;
        loop {
            let (_, told) = server.get(&format!("/v1/runs/{run}/why")).await;
            if told["waits_for"].as_str().is_some_and(|text| text.starts_with("its tool time.now")) {
                return run;
            }
            assert!(Instant::now() < until, "{told}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert_eq!(why(&home, &working)["command"], format!("dromia run cancel {working}"));
    let terminated = home.run(&["run", "terminate", &working]);
    assert!(terminated.status.success(), "{}", stderr(&terminated));
    let told = why(&home, &working);
    let ends = told["waits_for"].as_str().is_some_and(|text| text.ends_with("it is ending"));
    assert!(told["command"].is_null() && (ends || told["status"] == "cancelled"), "{told}");
    assert!(home.run(&["agent", "pause", "paused"]).status.success());
    // The input of a paused agent waits in its session: there is no run of it yet, and it begins on resume.
    let (code, accepted) = block_on(server.event(&json!({"text": "later", "agent": "paused"})));
    assert_eq!((code, &accepted["run"]), (202, &Value::Null), "{accepted}");
    assert!(home.run(&["agent", "resume", "paused"]).status.success());
    let session = accepted["session"].as_str().expect("a session").to_owned();
    block_on(server.journal_until(&session, |entries| crate::home::count(entries, "run_completed") == 1));
}
