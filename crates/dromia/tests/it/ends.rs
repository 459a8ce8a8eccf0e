//! Whoever waits for an agent that ends meanwhile is told so at once, and not by a deadline of their own.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::home::{DEADLINE, Home, Server, block_on, stderr};

/// How long the callers would wait.
const PATIENCE_MS: u64 = 25_000;
/// How soon they are answered, on a slow machine too.
const AT_ONCE: Duration = Duration::from_secs(20);

/// How an agent ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Terminated,
    Erased,
}

fn agent(home: &Home, name: &str) {
    let made = home.run(&["agent", "create", name]);
    assert!(made.status.success(), "{}", stderr(&made));
}

async fn end(server: &Server, agent: &str, how: End) {
    let client = reqwest::Client::new();
    let request = match how {
        End::Terminated => client.post(format!("{}/v1/agents/{agent}/terminate", server.url)),
        End::Erased => client.delete(format!("{}/v1/agents/{agent}", server.url)),
    };
    let (status, body) = server.send(request.bearer_auth(&server.token)).await;
    assert!((200..300).contains(&status), "{status}: {body}");
}

/// Waits until so many inputs of a session lie behind its turn.
async fn until_waiting(server: &Server, session: &str, inputs: u64) {
    let until = Instant::now() + DEADLINE;
    loop {
        let (_, found) = server.get(&format!("/v1/sessions/{session}")).await;
        if found["waiting"].as_u64() == Some(inputs) {
            return;
        }
        assert!(Instant::now() < until, "the inputs do not come: {found}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Begins a turn that takes long, lets two callers wait behind it, ends the agent, and returns what they got.
async fn waits_behind_a_turn(server: &Server, name: &str, how: End) -> [(u16, Value); 2] {
    let (code, accepted) = server.event(&json!({"text": "@slow 60000", "agent": name})).await;
    assert_eq!(code, 202, "{accepted}");
    let session = accepted["session"].as_str().expect("a session").to_owned();
    let event = json!({"text": "and now?", "session": session, "wait": true, "wait_ms": PATIENCE_MS});
    let chat = reqwest::Client::new()
        .post(format!("{}/v1/chat/completions", server.url))
        .bearer_auth(&server.token)
        .header("x-dromia-session", &session)
        .header("x-dromia-wait-ms", PATIENCE_MS)
        .json(&json!({"model": name, "messages": [{"role": "user", "content": "and now?"}]}));
    let ends = async {
        until_waiting(server, &session, 2).await;
        let began = Instant::now();
        end(server, name, how).await;
        began
    };
    let (first, second, began) = tokio::join!(server.event(&event), server.send(chat), ends);
    assert!(began.elapsed() < AT_ONCE, "{how:?}: they waited for {:?}", began.elapsed());
    [first, second]
}

#[test]
fn a_queued_caller_hears_at_once_that_the_agent_ended() {
    let home = Home::new();
    let server = home.serve();
    for (name, how) in [("ended", End::Terminated), ("erased", End::Erased)] {
        agent(&home, name);
        let [(status, problem), (chat_status, chat)] = block_on(waits_behind_a_turn(&server, name, how));
        assert_eq!((status, &problem["code"]), (409, &json!("agent_terminated")), "{how:?}: {problem}");
        assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("POST /v1/agents")), "{problem}");
        assert_eq!(
            (chat_status, &chat["error"]["code"]),
            (409, &json!("agent_terminated")),
            "{how:?}: {chat}"
        );
    }
}

#[test]
fn callers_of_paused_agents_and_parked_runs_hear_the_end() {
    let home = Home::new();
    let server = home.serve();
    for (name, how) in [("paused", End::Terminated), ("gone", End::Erased)] {
        agent(&home, name);
        assert!(home.run(&["agent", "pause", name]).status.success());
        let (status, problem) = block_on(async {
            let channel = json!({"text": "hello", "agent": name, "channel": "here"});
            let (code, accepted) = server.event(&channel).await;
            assert_eq!(code, 202, "{accepted}");
            let session = accepted["session"].as_str().expect("a session").to_owned();
            let event = json!({"text": "hello?", "session": session, "wait": true, "wait_ms": PATIENCE_MS});
            let ends = async {
                until_waiting(&server, &session, 2).await;
                let began = Instant::now();
                end(&server, name, how).await;
                began
            };
            let (answer, began) = tokio::join!(server.event(&event), ends);
            assert!(began.elapsed() < AT_ONCE, "{how:?}: the caller waited for {:?}", began.elapsed());
            answer
        });
        assert_eq!((status, &problem["code"]), (409, &json!("agent_terminated")), "{how:?}: {problem}");
    }
    // A run that rests until a later attempt has no task: its rows go, and nobody else could answer.
    agent(&home, "resting");
    let (status, problem) = block_on(async {
        let event = json!({
            "text": "@fail unavailable\n@slow 60000", "agent": "resting", "wait": true, "wait_ms": PATIENCE_MS,
        });
        let ends = async {
            let until = Instant::now() + DEADLINE;
            loop {
                let (_, runs) = server.get("/v1/runs?agent=resting").await;
                if runs["items"].as_array().is_some_and(|runs| !runs.is_empty()) {
                    break;
                }
                assert!(Instant::now() < until, "the run does not begin: {runs}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let began = Instant::now();
            end(&server, "resting", End::Erased).await;
            began
        };
        let (answer, began) = tokio::join!(server.event(&event), ends);
        assert!(began.elapsed() < AT_ONCE, "the caller waited for {:?}", began.elapsed());
        answer
    });
    // Where the run had a task at that moment, that task may have ended it before its rows went.
    let cancelled = status == 200 && problem["status"] == "cancelled";
    assert!(
        cancelled || (status, &problem["code"]) == (409, &json!("agent_terminated")),
        "{status}: {problem}"
    );
}

#[test]
fn an_erasure_during_a_turn_is_counted_and_answers_waiters() {
    let home = Home::new();
    let server = home.serve();
    agent(&home, "busy");
    block_on(async {
        let (status, answered) = server.event(&json!({"text": "hello", "agent": "busy", "wait": true})).await;
        assert_eq!(status, 200, "{answered}");
        let event = json!({"text": "@slow 60000", "agent": "busy", "wait": true, "wait_ms": PATIENCE_MS});
        let erased = async {
            let until = Instant::now() + DEADLINE;
            loop {
                let (_, runs) = server.get("/v1/runs?agent=busy&status=running").await;
                if runs["items"][0]["model_calls"] == 1 {
                    break;
                }
                assert!(Instant::now() < until, "the turn does not begin: {runs}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let url = format!("{}/v1/agents/busy", server.url);
            server.send(reqwest::Client::new().delete(url).bearer_auth(&server.token)).await
        };
        let ((status, problem), (code, erased)) = tokio::join!(server.event(&event), erased);
        // The turn may have ended the run before its rows went.
        if (status, &problem["status"]) != (200, &json!("cancelled")) {
            assert_eq!((status, &problem["code"]), (409, &json!("agent_terminated")), "{problem}");
            let why = problem["detail"].as_str().unwrap_or_default();
            assert!(why.contains("was erased") && !why.contains("before a turn"), "{why}");
        }
        assert_eq!(
            (code, &erased["erased"]["runs"], &erased["erased"]["sessions"]),
            (200, &json!(2), &json!(2)),
            "{erased}"
        );
        assert!(erased["erased"]["entries"].as_u64().is_some_and(|entries| entries > 2), "{erased}");
    });
}

#[test]
fn ctrl_c_drains_the_server_and_a_second_ends_it() {
    let home = Home::new();
    let mut command = home.command();
    command.args(["up", "--listen", "127.0.0.1:0", "--set", "limits.drain_ms=60000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the server starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("it announces itself");
    assert!(line.starts_with("listening "), "{line}");
    let sent = home.run(&["event", "send", "@slow 120000", "--json"]);
    assert!(sent.status.success(), "{}", stderr(&sent));
    let until = Instant::now() + DEADLINE;
    loop {
        // A run is open before its model is called; only a call that is journaled is there to be made again.
        let runs = home.run(&["run", "list", "--json"]);
        let found: Value = serde_json::from_slice(&runs.stdout).unwrap_or_default();
        if found["items"][0]["model_calls"] == 1 {
            break;
        }
        assert!(Instant::now() < until, "the run does not begin: {found}");
    }
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).expect("it runs");
    let mut told = String::new();
    let mut err = BufReader::new(child.stderr.take().expect("a pipe"));
    while !told.contains("stopping: ") {
        assert!(err.read_line(&mut told).expect("it tells") > 0, "it ended: {told}");
    }
    assert!(told.contains("1 run is open; waiting up to 60 s; press Ctrl-C again to stop at once"), "{told}");
    kill_process(pid, Signal::INT).expect("it waits for the run");
    // One that drains would end with 0.
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{told}");
    // What was open goes on: nothing is lost by that.
    let server = home.serve();
    let session = serde_json::from_slice::<Value>(&sent.stdout).expect("a document")["session"].clone();
    let session = session.as_str().expect("a session").to_owned();
    block_on(server.journal_until(&session, |entries| {
        entries.iter().filter(|entry| entry["kind"] == "model_called").count() == 2
    }));
}
