//! Turns over real sockets, killed where it hurts.

use std::io::Write as _;
use std::time::Duration;

use serde_json::json;

use crate::home::{Home, append, block_on, count};

#[test]
fn a_waiting_caller_gets_the_answer_of_a_durable_turn() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let (status, answer) = server.event(&json!({"text": "hello", "wait": true})).await;
        assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
        let (_, stats) = server.get("/v1/status").await;
        assert_eq!(answer["last_seq"], 4, "{stats}");
    });
}

#[test]
fn a_turn_killed_during_a_model_call_finishes_after_restart() {
    let home = Home::new();
    let server = home.serve();
    let text = "@tool file.write {\"path\":\"a.txt\",\"content\":\"once\"}\n@slow 10000\n@say done";
    let session = block_on(async {
        let (status, accepted) = server.event(&json!({"text": text})).await;
        assert_eq!(status, 202, "{accepted}");
        let session = accepted["session"].as_str().expect("a session").to_owned();
        server.journal_until(&session, |entries| count(entries, "model_called") == 2).await;
        session
    });
    server.kill();
    let server = home.serve();
    let entries = block_on(server.journal_until(&session, |entries| count(entries, "run_completed") == 1));
    assert_eq!((count(&entries, "tool_started"), count(&entries, "tool_finished")), (1, 1));
    assert_eq!((count(&entries, "model_called"), count(&entries, "model_failed")), (3, 1));
}

#[test]
fn an_unkeyed_call_killed_midway_has_an_unknown_outcome() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "tools: { pace_ms: 60000 }\n");
    let server = home.serve();
    let text = "@tool file.append {\"path\":\"a.txt\",\"content\":\"once\\n\"}";
    let session = block_on(async {
        let (_, accepted) = server.event(&json!({"text": text})).await;
        let session = accepted["session"].as_str().expect("a session").to_owned();
        server.journal_until(&session, |entries| count(entries, "tool_started") == 1).await;
        session
    });
    server.kill();
    let config = home.path().join("dromia.yaml");
    let text = std::fs::read_to_string(&config).expect("the configuration").replace("60000", "0");
    std::fs::write(&config, text).expect("the configuration can be written");
    let server = home.serve();
    let entries = block_on(server.journal_until(&session, |entries| count(entries, "run_completed") == 1));
    let appended = |kind: &str| {
        let calls =
            entries.iter().filter(|entry| entry["kind"] == kind && entry["fields"]["call"] == "call_1_0");
        calls.cloned().collect::<Vec<_>>()
    };
    assert_eq!(appended("tool_started").len(), 1);
    let finished = appended("tool_finished");
    assert_eq!(finished.len(), 1);
    assert_eq!(finished[0]["fields"]["status"], "unknown");
}

#[test]
fn a_stranger_and_an_anonymous_caller_see_nothing() {
    let home = Home::new();
    let server = home.serve();
    let created = home.run(&["tenant", "create", "stranger", "--json"]);
    let created: serde_json::Value = serde_json::from_slice(&created.stdout).expect("a document");
    let stranger = created["token"].as_str().expect("a token").to_owned();
    block_on(async {
        let (_, answer) = server.event(&json!({"text": "hello", "wait": true})).await;
        let run = answer["run"].as_str().expect("a run");
        let session = answer["session"].as_str().expect("a session");
        let http = reqwest::Client::new();
        for path in
            [format!("/v1/runs/{run}"), format!("/v1/runs/{run}/journal"), format!("/v1/sessions/{session}")]
        {
            let url = format!("{}{path}", server.url);
            assert_eq!(server.get(&path).await.0, 200, "{path}");
            assert_eq!(server.send(http.get(&url).bearer_auth(&stranger)).await.0, 404, "{path}");
            assert_eq!(server.send(http.get(&url)).await.0, 401, "{path}");
            assert_eq!(server.send(http.get(&url).bearer_auth("drm_garbage")).await.0, 401, "{path}");
        }
    });
}

#[test]
fn a_repeated_key_joins_the_run_or_conflicts() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let send = |text: &str| {
            let request = reqwest::Client::new()
                .post(format!("{}/v1/events", server.url))
                .bearer_auth(&server.token)
                .header("Idempotency-Key", "k1")
                .json(&json!({"text": text, "wait": true}));
            server.send(request)
        };
        let (_, first) = send("hello").await;
        let (status, again) = send("hello").await;
        assert_eq!(status, 200, "{again}");
        assert_eq!(
            (&again["run"], &again["replayed"], &again["reply"]),
            (&first["run"], &json!(true), &first["reply"])
        );
        let (status, conflict) = send("something else").await;
        assert_eq!((status, conflict["code"].as_str()), (409, Some("idempotency_conflict")), "{conflict}");
    });
}

#[test]
fn resuming_a_yielded_run_starts_one_naming_the_old() {
    let home = Home::new();
    // Equal calls would end the run before its limit does.
    let mut command = home.command();
    command.env("DROMIA_ENGINE_LOOP_SAME", "0");
    let server = home.serve_by(command);
    block_on(async {
        let (_, answer) = server.event(&json!({"text": "@loop time.now {}", "wait": true})).await;
        assert_eq!(
            (answer["status"].as_str(), answer["model_calls"].as_u64()),
            (Some("yielded"), Some(50)),
            "{answer}"
        );
        let run = answer["run"].as_str().expect("a run").to_owned();
        let resume = reqwest::Client::new()
            .post(format!("{}/v1/runs/{run}/resume", server.url))
            .bearer_auth(&server.token);
        let (status, resumed) = server.send(resume).await;
        assert!((200..300).contains(&status), "{resumed}");
        let session = answer["session"].as_str().expect("a session");
        let entries = server
            .journal_until(session, |entries| {
                entries.first().is_some_and(|first| !first["fields"]["resumes"].is_null())
            })
            .await;
        assert_eq!(entries[0]["fields"]["resumes"], json!(run));
    });
}

#[test]
fn a_stop_has_one_deadline_for_connections_and_turns() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "limits: { drain_ms: 10000 }\n");
    let server = home.serve();
    let door = server.url.strip_prefix("http://").expect("a plain address");
    let mut dawdler = std::net::TcpStream::connect(door).expect("the door is open");
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: 10\r\n\r\n{{",
        server.token
    );
    dawdler.write_all(head.as_bytes()).expect("the server reads");
    block_on(async {
        let (status, accepted) = server.event(&json!({"text": "@slow 60000\n@say done"})).await;
        assert_eq!(status, 202, "{accepted}");
        let session = accepted["session"].as_str().expect("a session").to_owned();
        server.journal_until(&session, |entries| count(entries, "model_called") == 1).await;
    });
    // The client holds the door until it is cut, and the turn goes on until it is let go.
    let took = server.terminate();
    assert!(took >= Duration::from_millis(9_500), "the turn was let go after {took:?}");
    // Two deadlines in a row would be twenty seconds, and without any the turn would go on for a minute.
    assert!(took < Duration::from_secs(18), "the stop took {took:?}");
}
