//! Listings on a terminal of 80 and of 100 columns: one line per row, and no word or number in pieces. A pipe gets all of it.

use serde_json::{Value, json};

use crate::server::{Asked, Server};

const ID: &str = "0199c0de000000000000000000000000";

const AT: &str = "2026-01-02T03:04:05Z";

const QUESTION: &str = "what is due today? please list all of it by date, and name who owes it";

fn of(prefix: &str) -> String {
    format!("{prefix}_{ID}")
}

fn run() -> Value {
    json!({
        "id": of("run"), "kind": "turn", "agent": of("agt"), "session": of("ses"), "status": "completed",
        "started_at": AT, "updated_at": AT, "wake_at": null, "last_seq": 4, "epoch": 1, "model_calls": 1,
        "usage": {"input_tokens": 12345, "output_tokens": 540}, "cost_micros": 3, "question": QUESTION,
    })
}

fn journal() -> Value {
    let entry = |seq: u64, kind: &str, fields: Value| {
        json!({
            "seq": seq, "at": format!("2026-01-02T03:04:{:02}Z", 4 + seq), "epoch": 1, "kind": kind, "version": 1,
            "fields": fields, "body": null, "chain": "0".repeat(64),
        })
    };
    let usage = json!({"input_tokens": 12345, "output_tokens": 540});
    json!({
        "entries": [
            entry(1, "model_called", json!({"step": 1, "attempt": 1, "model": "default"})),
            entry(2, "model_replied", json!({"step": 1, "attempt": 1, "finish": "tool_calls", "usage": usage, "cost_micros": 3})),
            entry(3, "tool_started", json!({"call": "call_1_0", "tool": "file.append", "attempt": 1})),
            entry(4, "tool_finished", json!({"call": "call_1_0", "status": "ok"})),
        ],
        "last_seq": 4, "status": "completed",
    })
}

fn served(asked: &Asked, _: usize) -> (u16, String) {
    let item = match asked.line.split(['?', ' ']).nth(1).unwrap() {
        "/v1/agents" => json!({
            "id": of("agt"), "handle": "assistant", "display_name": "Assistant", "labels": {}, "created_at": AT,
            "state": "running", "revision": 1,
        }),
        "/v1/runs" => run(),
        "/v1/sessions" => json!({
            "id": of("ses"), "agent": of("agt"), "platform": "cli", "channel": "0199c0de-0000-7000-8000-000000000000",
            "actor": "cli:0", "opened_at": AT, "last": 1, "waiting": 1, "active": of("run"),
            "question": QUESTION,
        }),
        "/v1/deliveries" => json!({
            "id": of("dlv"), "target": "webhook:orders", "position": 1, "state": "delivered", "attempts": 1,
            "redrives": 0, "agent": of("agt"), "session": of("ses"), "run": of("run"), "prepared_at": AT,
            "updated_at": AT,
        }),
        "/v1/approvals" => json!({
            "id": of("apr"), "state": "holding", "agent": of("agt"), "session": of("ses"), "run": of("run"),
            "call": "call_1_0", "author": "cli:0", "tool": "file.append",
            "arguments": "{\"content\":\"hello\",\"path\":\"log\"}", "origins": [], "context": "untrusted/actor",
            "action": "0".repeat(64), "binding": "0".repeat(64), "rule": "permission", "reason": "it writes",
            "asked_at": AT, "holds_until": AT, "expires_at": AT,
        }),
        path if path.ends_with("/journal") => return (200, journal().to_string()),
        _ => return (200, run().to_string()),
    };
    (200, json!({"items": [item, item], "next": null}).to_string())
}

async fn shown(line: &[&str], columns: u16) -> String {
    let ended = Server::new(served).shown(line, columns).await;
    let widest = ended.out.lines().map(|line| line.chars().count()).max();
    assert!(widest.is_some_and(|widest| widest <= usize::from(columns)), "at {columns}:\n{}", ended.out);
    // The second row says what the first one does.
    let mut lines: Vec<_> = ended.out.lines().collect();
    if line[1] == "list" {
        assert_eq!((lines.len(), lines[1]), (3, lines[2]), "{}", ended.out);
        lines.pop();
    }
    lines.join("\n")
}

#[tokio::test]
async fn a_listing_row_fits_one_line_of_80_columns() {
    insta::assert_snapshot!(shown(&["run", "list"], 80).await, @r"
    ID        STATUS     AGENT      STARTED    COST      QUESTION
    00000000  completed  assistant  3 min ago  0.000003  what is due today? please…
    ");
    insta::assert_snapshot!(shown(&["session", "list"], 80).await, @r"
    ID        AGENT      OPENED     WAITING  ACTIVE  QUESTION
    00000000  assistant  3 min ago  1        yes     what is due today? please list…
    ");
    insta::assert_snapshot!(shown(&["approval", "list"], 80).await, @r#"
    ID        STATE      AGENT      RUN WAITS UNTIL  STEP       CALL
    00000000  run waits  assistant  3 min ago        #000000.1  file.append {"conte…
    "#);
    insta::assert_snapshot!(shown(&["agent", "list"], 80).await, @r"
    HANDLE     NAME      STATE    CREATED       ID
    assistant  Assista…  running  01-02 03:04Z  agt_0199c0de000000000000000000000000
    ");
    insta::assert_snapshot!(shown(&["delivery", "list"], 80).await, @r"
    ID        TARGET          STATE      ATTEMPTS  PREPARED   RUN
    00000000  webhook:orders  delivered  1         3 min ago  00000000
    ");
}

#[tokio::test]
async fn a_listing_row_shows_more_on_100_columns() {
    insta::assert_snapshot!(shown(&["run", "list"], 100).await, @r"
    ID        STATUS     AGENT      STARTED    CALLS  COST      QUESTION
    00000000  completed  assistant  3 min ago  1      0.000003  what is due today? please list all of i…
    ");
    insta::assert_snapshot!(shown(&["session", "list"], 100).await, @r"
    ID        AGENT      OPENED     WAITING  ACTIVE  QUESTION
    00000000  assistant  3 min ago  1        yes     what is due today? please list all of it by dat…
    ");
    insta::assert_snapshot!(shown(&["approval", "list"], 100).await, @r#"
    ID        STATE      AGENT      RUN WAITS UNTIL  STEP       CALL
    00000000  run waits  assistant  3 min ago        #000000.1  file.append {"content":"hello…
    "#);
    insta::assert_snapshot!(shown(&["agent", "list"], 100).await, @r"
    HANDLE     NAME       STATE    CREATED               ID
    assistant  Assistant  running  2026-01-02 03:04:05Z  agt_0199c0de000000000000000000000000
    ");
    insta::assert_snapshot!(shown(&["delivery", "list"], 100).await, @r"
    ID        TARGET          STATE      ATTEMPTS  PREPARED   RUN
    00000000  webhook:orders  delivered  1         3 min ago  00000000
    ");
}

/// The steps of a run.
async fn steps(columns: u16) -> String {
    let text = shown(&["run", "show", &of("run")], columns).await;
    text.split_once("\n\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn no_word_of_a_runs_steps_is_in_pieces() {
    insta::assert_snapshot!(steps(80).await, @r"
    STEP  WHAT              CALL      TOOK     IN     OUT  COST      OUTCOME
    1     model default               1000 ms  12345  540  0.000003  tool_calls
    1     tool file.append  call_1_0  1000 ms                        ok
    ");
    insta::assert_snapshot!(steps(100).await, @r"
    SEQ  STEP  ATTEMPT  WHAT              CALL      BEGAN     TOOK     IN     OUT  COST      OUTCOME
    1    1     1        model default               03:04:05  1000 ms  12345  540  0.000003  tool_calls
    3    1     1        tool file.append  call_1_0  03:04:07  1000 ms                        ok
    ");
}

#[tokio::test]
async fn a_pipe_gets_every_column_whatever_the_width() {
    for (line, says) in [
        (["run", "list"], &["SESSION", "0.000003", "540"][..]),
        (["session", "list"], &["CHANNEL", "0199c0de-0000-7000-8000-000000000000"]),
        (["approval", "list"], &["assistant", "UNTIL"]),
        (["agent", "list"], &["Assistant", "2026-01-02"]),
        (["delivery", "list"], &["ATTEMPTS", "run_"]),
    ] {
        let ended = Server::new(served).piped(&line, 80).await;
        for word in says {
            assert!(ended.out.contains(word), "{line:?} without {word}:\n{}", ended.out);
        }
    }
}
