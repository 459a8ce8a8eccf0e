//! Damage that no page and no digest shows, through the real binary: rows that sum up others, the log, and inputs that the audit
//! names. It is found, `dromia doctor --fix` repairs what journals and inboxes determine, and nothing is left out in silence.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::home::{Home, block_on, stderr};

fn database(home: &Home) -> PathBuf {
    home.path().join("store").join("dromia.db")
}

/// Changes rows of a store that no server has open.
fn damage(home: &Home, sql: &str) {
    let db = Connection::open(database(home)).expect("the file opens");
    db.execute_batch(sql).expect("the rows are changed");
    assert!(db.changes() > 0, "{sql} changed nothing");
}

/// Runs a command; returns its exit code and what it printed.
fn asked(home: &Home, arguments: &[&str]) -> (Option<i32>, String) {
    let output = home.run(arguments);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output))
}

/// Says two things in one session and stops the server in good order; returns the second answer.
fn two_turns(home: &Home) -> Value {
    let server = home.serve();
    let answer = block_on(async {
        let (_, first) = server.event(&json!({"text": "one", "wait": true})).await;
        server.event(&json!({"text": "two", "session": first["session"], "wait": true})).await.1
    });
    server.terminate();
    answer
}

#[test]
fn damaged_projection_rows_are_detected_and_fixed() {
    let home = Home::new();
    let session = two_turns(&home)["session"].as_str().expect("a session").to_owned();
    let sound = |why: &str| {
        let (code, text) = asked(&home, &["doctor", "--only", "store"]);
        assert!(code == Some(0) && text.contains("0 errors"), "{why}: {text}");
        let (code, text) = asked(&home, &["audit", "verify"]);
        assert_eq!(code, Some(0), "{why}: {text}");
    };
    sound("before");
    // What `doctor` sees as well, and what only the journals contradict.
    for (sql, is_of_doctor) in [
        ("DELETE FROM session_heads", true),
        ("UPDATE session_heads SET last = 9", true),
        ("UPDATE session_heads SET taken = 1", true),
        ("UPDATE inbox SET taken_by = NULL WHERE position = 1", true),
        ("UPDATE inbox SET taken_by = (SELECT max(run) FROM runs)", false),
        ("UPDATE runs SET cost_micros = cost_micros + 1", false),
        ("UPDATE runs SET input_tokens = input_tokens + 1", false),
        ("UPDATE runs SET model_calls = model_calls + 1", false),
    ] {
        damage(&home, sql);
        let (code, text) = asked(&home, &["audit", "verify"]);
        assert_eq!(code, Some(6), "{sql}: {text}");
        if is_of_doctor {
            let (code, text) = asked(&home, &["doctor", "--only", "store"]);
            assert!(code == Some(1) && text.contains("doctor --fix"), "{sql}: {text}");
        }
        let (code, text) = asked(&home, &["doctor", "--fix", "--only", "store"]);
        assert!(code == Some(0) && text.contains("fixed    rebuilt the rows of runs (2)"), "{sql}: {text}");
        sound(sql);
    }
    let server = home.serve();
    block_on(async {
        let (_, page) = server.get("/v1/sessions").await;
        let listed =
            page["items"].as_array().expect("sessions").iter().any(|item| item["id"] == session.as_str());
        assert!(listed, "{page}");
        let (status, answer) =
            server.event(&json!({"text": "three", "session": session, "wait": true})).await;
        assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    });
}

#[test]
fn a_changed_state_row_is_refused_and_not_fixed() {
    let home = Home::new();
    let server = home.serve();
    let (_, answer) = block_on(server.event(&json!({"text": "hello", "wait": true})));
    let path = format!("/v1/sessions/{}/state", answer["session"].as_str().expect("a session"));
    block_on(async {
        let put = reqwest::Client::new().put(format!("{}{path}/note", server.url)).bearer_auth(&server.token);
        assert_eq!(server.send(put.json(&"before")).await.0, 200);
    });
    server.terminate();
    damage(&home, "UPDATE state SET value = CAST('\"after\"' AS BLOB)");
    for arguments in [&["doctor", "--only", "store.rows"][..], &["doctor", "--fix", "--only", "store.rows"]] {
        let (code, text) = asked(&home, arguments);
        assert!(code == Some(1) && text.contains("row of state") && text.contains("check value"), "{text}");
    }
    assert_eq!(asked(&home, &["audit", "verify"]).0, Some(6));
    let server = home.serve();
    let (status, problem) = block_on(server.get(&path));
    assert_eq!((status, problem["code"].as_str()), (500, Some("journal_damaged")), "{problem}");
    let (code, text) = asked(&home, &["doctor", "--fix"]);
    assert!(code == Some(6) && text.contains("stop the server"), "a server has the store open: {text}");
}

#[test]
fn a_run_whose_journal_is_gone_is_left_and_named() {
    let home = Home::new();
    let run = two_turns(&home)["run"].as_str().expect("a run").to_owned();
    damage(&home, "DELETE FROM entries WHERE run = (SELECT max(run) FROM runs)");
    let (code, text) = asked(&home, &["doctor", "--fix", "--only", "store"]);
    assert!(code == Some(1) && text.contains(&format!("left     {run}")), "{text}");
    let (code, text) = asked(&home, &["--json", "doctor", "--fix", "--only", "store"]);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, report["left"].as_array().map(Vec::len)), (Some(1), Some(1)), "{text}");
}

#[test]
fn a_damaged_log_frame_is_refused_at_the_start() {
    let home = Home::new();
    let record = database(&home).with_extension("db-acknowledged");
    let mut tries = 0;
    // A writer that was idle before the kill has copied the log, and nothing of it is needed.
    while fs::read(&record).map_or(true, |record| record.iter().all(|byte| *byte == 0)) {
        tries += 1;
        assert!(tries < 50, "the log is never in use");
        let server = home.serve();
        let (status, _) = block_on(server.event(&json!({"text": "hello", "wait": true})));
        assert_eq!(status, 200);
        server.kill();
    }
    let log = database(&home).with_extension("db-wal");
    let mut bytes = fs::read(&log).expect("a log");
    bytes[32 + 24 + 100] ^= 1;
    fs::write(&log, bytes).expect("it is damaged");
    let (code, text) = asked(&home, &["doctor", "--only", "store.log"]);
    assert!(code == Some(1) && text.contains("acknowledged"), "{text}");
    let (code, text) = asked(&home, &["up", "--listen", "127.0.0.1:0"]);
    assert!(code == Some(1) && text.contains("acknowledged") && text.contains("backup"), "{text}");
    fs::remove_file(record).expect("the way on that the message names");
    drop(home.serve());
}

/// The records of one actor, and the same of a signed export.
fn records_of_an_actor(home: &Home, actor: &str) -> [Vec<Value>; 2] {
    let server = home.serve();
    let (status, page) = block_on(server.get(&format!("/v1/audit?kind=run_started&actor={actor}")));
    assert_eq!(status, 200, "{page}");
    let file = home.path().join("export.jsonl");
    let path = file.to_str().expect("a path");
    let filters = ["audit", "export", "--kind", "run_started", "--actor", actor, "--file", path];
    let (code, text) = asked(home, &filters);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(asked(home, &["audit", "verify", "--file", path]).0, Some(0), "the file is whole");
    let exported = fs::read_to_string(&file).expect("it is written");
    fs::remove_file(&file).expect("it is there");
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    server.terminate();
    let records = lines.iter().filter_map(|line| line.get("record")).cloned().collect();
    [page["items"].as_array().expect("records").clone(), records]
}

#[test]
fn a_damaged_input_stays_in_audit_queries_and_exports() {
    let home = Home::new();
    two_turns(&home);
    let server = home.serve();
    let (_, page) = block_on(server.get("/v1/audit?kind=run_started"));
    let actor = page["items"][0]["actor"].as_str().expect("an actor").to_owned();
    server.terminate();
    for found in records_of_an_actor(&home, &actor) {
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|record| record["actor"] == actor.as_str()), "{found:?}");
    }
    for sql in [
        "UPDATE inbox SET body = CAST('other' AS BLOB) WHERE position = 1",
        "UPDATE inbox SET author = 'cli:99' WHERE position = 1",
        "DELETE FROM inbox WHERE position = 1",
    ] {
        damage(&home, sql);
        for found in records_of_an_actor(&home, &actor) {
            assert_eq!(found.len(), 2, "{sql}: {found:?}");
            assert_eq!(
                (&found[0]["actor_unread"], &found[0]["actor"]),
                (&json!(true), &Value::Null),
                "{sql}"
            );
            assert_eq!(
                (&found[1]["actor_unread"], &found[1]["actor"]),
                (&Value::Null, &json!(actor)),
                "{sql}"
            );
        }
    }
}
