//! What a run waits for, told to whoever waits for it: once, on stderr, and only while it waits.

use dromia_api::ErrorCode;
use dromia_cli::CommandExit;
use serde_json::{Value, json};

use crate::server::{Asked, Ended, Script, Server};

const ID: &str = "0199c0de000000000000000000000000";

/// Every command that waits for a run, with what it prints for a program at most.
const WAITING: [&[&str]; 10] = [
    &["ask", "x"],
    &["ask", "x", "--json"],
    &["ask", "x", "--jsonl"],
    &["event", "send", "x", "--wait"],
    &["chat"],
    &["agent", "spawn", "clerk", "--task", "x", "--wait"],
    &["tool", "call", "file.append", "--agent", "clerk", "-d", "{}"],
    &["run", "watch", "run_0199c0de000000000000000000000000"],
    &["run", "watch", "run_0199c0de000000000000000000000000", "--json"],
    &["run", "watch", "run_0199c0de000000000000000000000000", "--jsonl"],
];

fn entry(seq: u64, kind: &str, fields: &Value, body: &Value) -> String {
    let entry = json!({
        "seq": seq, "at": "2026-01-02T03:04:05Z", "epoch": 1, "kind": kind, "version": 1, "fields": fields,
        "body": body, "chain": "0".repeat(64),
    });
    format!("id: {seq}\nevent: entry\ndata: {entry}\n\n")
}

/// The stream of a run that rested twice for this, and then answered.
fn rested(fields: &Value) -> String {
    let body = json!({"parts": [{"type": "text", "text": "forty-two", "label": "untrusted/actor"}]});
    [
        entry(1, "run_parked", fields, &Value::Null),
        entry(2, "run_parked", fields, &Value::Null),
        entry(3, "model_replied", &json!({}), &body),
        "event: end\ndata: {\"status\":\"completed\",\"last_seq\":3,\"model_calls\":1,\"usage\":{\"input_tokens\":1,\"output_tokens\":2},\"cost_micros\":3}\n\n".to_owned(),
    ]
    .concat()
}

fn parked(asked: &Asked, rest: &Value, more: &Value) -> (u16, String) {
    let answer = match asked.line.as_str() {
        "POST /v1/agents/clerk/spawn" => json!({
            "agent": format!("agt_{ID}"), "session": format!("ses_{ID}"), "item": format!("itm_{ID}"),
            "run": format!("run_{ID}"), "state": "running", "status": "running", "replayed": false,
        }),
        line if line.ends_with("/journal?after=0&limit=256") => {
            let finished = json!({
                "seq": 3, "at": "2026-01-02T03:04:05Z", "epoch": 1, "kind": "tool_finished", "version": 1, "fields": {},
                "body": {"call": "call_1_0", "status": "ok", "parts": [{"type": "text", "text": "forty-two"}]},
                "chain": "0".repeat(64),
            });
            json!({"entries": [finished], "last_seq": 3, "status": "completed"})
        }
        line if line.contains("/journal?") => json!({"entries": [], "last_seq": 3, "status": "completed"}),
        "POST /v1/events" | "POST /v1/agents/clerk/tools/file.append/call" => {
            let ids = json!({"item": format!("itm_{ID}"), "session": format!("ses_{ID}"), "run": format!("run_{ID}"),
                "position": 1, "replayed": false});
            return (202, ids.to_string());
        }
        line if line.ends_with("/journal") => return (200, rested(rest)),
        line if line.ends_with("/why") || line.contains("/approvals/") => more.clone(),
        _ => json!({
            "id": format!("run_{ID}"), "kind": "turn", "agent": format!("agt_{ID}"), "session": format!("ses_{ID}"),
            "status": "completed", "started_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z",
            "wake_at": null, "last_seq": 3, "epoch": 1, "model_calls": 1,
            "usage": {"input_tokens": 1, "output_tokens": 2}, "cost_micros": 3,
        }),
    };
    (200, answer.to_string())
}

fn approval(state: &str, cools: Option<u64>) -> Value {
    let at = "2026-01-02T03:04:05Z";
    let mut approval = json!({
        "id": format!("apr_{ID}"), "state": state, "agent": format!("agt_{ID}"), "session": format!("ses_{ID}"),
        "run": format!("run_{ID}"), "call": "call_1_0", "author": "cli:0", "tool": "file.append",
        "arguments": "{\"content\":\"a\u{202e}b\",\"path\":\"log\"}", "origins": [], "context": "untrusted/actor",
        "action": "0".repeat(64), "binding": "0".repeat(64), "rule": "permission", "reason": "it writes",
        "asked_at": at, "holds_until": at, "expires_at": at,
    });
    if let Some(seconds) = cools {
        approval["cools_until"] = at.into();
        approval["cools_in_seconds"] = seconds.into();
    }
    approval
}

fn for_approval(asked: &Asked, approval: &Value) -> (u16, String) {
    parked(asked, &json!({"on": "approval", "approval": format!("apr_{ID}"), "call": "call_1_0"}), approval)
}

async fn run(script: Script, line: &[&str]) -> (Ended, Server) {
    let server = Server::new(script);
    (server.typed(line, "x\n/quit\n", false).await, server)
}

/// How often something was asked of the server.
fn asked(server: &Server, what: &str) -> usize {
    server.lines().iter().filter(|line| line.contains(what)).count()
}

#[tokio::test]
async fn every_waiting_command_reports_an_approval_once() {
    for line in WAITING {
        let (ended, server) = run(|asked, _| for_approval(asked, &approval("holding", None)), line).await;
        assert_eq!(ended.exit, CommandExit::Done, "{line:?}: {ended:?}");
        let told: Vec<_> = ended.err.lines().filter(|line| line.contains("apr_")).collect();
        let call = r#"file.append {"content":"a\u{202e}b","path":"log"}"#;
        assert_eq!(
            told,
            [
                format!("a call waits for approval (apr_{ID}): {call}"),
                format!(
                    "hint: `dromia approval show apr_{ID}` shows the whole call; answer with `dromia \
                     approval approve apr_{ID}` or `dromia approval deny apr_{ID}`"
                ),
            ],
            "{line:?}"
        );
        assert_eq!(asked(&server, "/approvals/"), 1, "{line:?}");
        let by_line = line.contains(&"--jsonl");
        if by_line || line.contains(&"--json") {
            let documents: Vec<&str> =
                if by_line { ended.out.lines().collect() } else { vec![ended.out.as_str()] };
            for document in documents {
                assert!(serde_json::from_str::<Value>(document).is_ok(), "{line:?}: {document}");
            }
        } else if line[0] != "run" {
            assert_eq!(ended.out, "forty-two\n", "{line:?}");
        }
    }
}

#[tokio::test]
async fn every_waiting_call_is_listed_with_one_hint() {
    const OTHER: &str = "0199c0de000000000000000000000001";
    let two: Script = |asked, _| {
        let answer = approval("holding", None);
        let (status, text) = for_approval(asked, &answer);
        let (first, other) = (format!("apr_{ID}"), format!("apr_{OTHER}"));
        if asked.line.ends_with("/journal") {
            let (begin, rest) = text.split_once("\n\n").unwrap();
            return (status, format!("{begin}\n\n{}", rest.replacen(&first, &other, 1)));
        }
        let is_other = asked.line.ends_with(&other);
        (status, if is_other { text.replace(&first, &other) } else { text })
    };
    let (ended, _) = run(two, &["ask", "x"]).await;
    for id in [ID, OTHER] {
        let told = format!("a call waits for approval (apr_{id}): file.append ");
        assert_eq!(ended.err.matches(&told).count(), 1, "{}", ended.err);
    }
    assert_eq!(ended.err.matches("hint: ").count(), 1, "{}", ended.err);
    assert!(ended.err.contains(&format!("`dromia approval approve apr_{ID}`")), "{}", ended.err);
}

#[tokio::test]
async fn a_delayed_call_is_reported_with_the_remaining_time() {
    let script: Script = |asked, _| for_approval(asked, &approval("waiting", Some(600)));
    let (ended, _) = run(script, &["ask", "x"]).await;
    let text = format!(
        "a call is delayed; it starts by itself in 600 s, at 2026-01-02 03:04:05Z (apr_{ID}): file.append "
    );
    assert!(ended.err.starts_with(&text), "{}", ended.err);
}

#[tokio::test]
async fn an_approval_that_no_longer_waits_is_not_reported() {
    for line in WAITING {
        let (ended, _) = run(|asked, _| for_approval(asked, &approval("used", None)), line).await;
        assert!(!ended.err.contains("apr_"), "{line:?}: {}", ended.err);
    }
    let gone: Script = |asked, _| {
        if !asked.line.contains("/approvals/") {
            return for_approval(asked, &Value::Null);
        }
        let problem = json!({"type": "about:blank", "title": "t", "status": 404, "code": "approval_not_found",
            "detail": "no such approval", "request_id": "r"});
        (404, problem.to_string())
    };
    let (ended, _) = run(gone, &["ask", "x"]).await;
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("forty-two\n", ""));
}

#[tokio::test]
async fn an_unreadable_approval_is_reported_by_its_id() {
    let broken: Script = |asked, _| {
        let looks = asked.line.contains("/approvals/");
        if looks { (500, "no document".to_owned()) } else { for_approval(asked, &Value::Null) }
    };
    let (ended, _) = run(broken, &["ask", "x"]).await;
    assert!(ended.err.starts_with(&format!("a call waits for approval (apr_{ID})\nhint: ")), "{}", ended.err);
    assert_eq!((ended.exit, ended.out.as_str()), (CommandExit::Done, "forty-two\n"));
}

fn why(status: &str, waits_for: &str, command: &str) -> Value {
    json!({
        "status": status, "waits_for": waits_for, "since": "2026-01-02T03:04:05Z", "unblocked_by": "somebody",
        "command": command,
    })
}

#[tokio::test]
async fn a_long_wait_is_reported_as_run_why_reports_it() {
    let paused: Script = |asked, _| {
        let why = why("parked", "its agent, which is paused", "dromia agent resume ops");
        parked(asked, &json!({"on": "agent_paused"}), &why)
    };
    let told =
        "the run waits for its agent, which is paused\nhint: continue with `dromia agent resume ops`\n";
    assert_eq!(run(paused, &["ask", "x"]).await.0.err, told);

    let later: Script = |asked, _| {
        let why = why("parked", "the next attempt at its model, due at 03:05", "dromia run cancel run_1");
        parked(asked, &json!({"on": "retry", "until": "2026-01-02T03:05:05Z"}), &why)
    };
    let told = "the run waits for the next attempt at its model, due at 03:05\n";
    assert_eq!(run(later, &["ask", "x"]).await.0.err, told);

    let soon: Script =
        |asked, _| parked(asked, &json!({"on": "retry", "until": "2026-01-02T03:04:06Z"}), &Value::Null);
    let (ended, server) = run(soon, &["ask", "x"]).await;
    assert_eq!((ended.err.as_str(), asked(&server, "/why")), ("", 0));

    let over: Script =
        |asked, _| parked(asked, &json!({"on": "agent_paused"}), &why("completed", "it is completed", ""));
    assert_eq!(run(over, &["ask", "x"]).await.0.err, "");
}

/// A server whose agent is not free: no run takes the input before the seventh request.
fn queued(asked: &Asked, before: usize, state: &str) -> (u16, String) {
    let (item, run) = (format!("itm_{ID}"), format!("run_{ID}"));
    let at = "2026-01-02T03:04:05Z";
    let (_, row) =
        parked(&Asked { line: format!("GET /v1/runs/{run}"), ..asked.clone() }, &Value::Null, &Value::Null);
    let row: Value = serde_json::from_str(&row).unwrap();
    let answer = match asked.line.as_str() {
        "POST /v1/events" => {
            let answer = json!({"item": item, "session": format!("ses_{ID}"), "run": null, "position": 1, "replayed": false});
            return (202, answer.to_string());
        }
        line if line.contains("/runs?session=") && before < 7 => json!({"items": [], "next": null}),
        line if line.contains("/runs?session=") => json!({"items": [row], "next": null}),
        line if line.contains("/journal?after=0") => {
            let started = json!({
                "seq": 1, "at": at, "epoch": 1, "kind": "run_started", "version": 1, "fields": {"items": [item]},
                "body": null, "chain": "0".repeat(64),
            });
            json!({"entries": [started], "last_seq": 3, "status": "completed"})
        }
        line if line.contains("/sessions/") => json!({
            "id": format!("ses_{ID}"), "agent": format!("agt_{ID}"), "platform": "cli", "channel": "c",
            "actor": "cli:0", "opened_at": at, "last": 1, "waiting": 1, "active": null,
        }),
        line if line.contains("/agents/") => json!({
            "id": format!("agt_{ID}"), "handle": "ops", "display_name": "Ops", "labels": {}, "created_at": at,
            "state": state, "revision": 1,
        }),
        _ => return parked(asked, &json!({"on": "retry", "until": at}), &Value::Null),
    };
    (200, answer.to_string())
}

#[tokio::test]
async fn an_input_without_a_run_is_reported_once() {
    let (ended, _) = run(|asked, before| queued(asked, before, "paused"), &["ask", "x"]).await;
    assert_eq!((ended.exit, ended.out.as_str()), (CommandExit::Done, "forty-two\n"), "{ended:?}");
    assert_eq!(ended.err, "the input waits: its agent ops is paused\nhint: run `dromia agent resume ops`\n");

    let line = ["event", "send", "x", "--wait", "--timeout", "2s"];
    let (ended, server) = run(|asked, _| queued(asked, 0, "paused"), &line).await;
    assert_eq!(ended.exit, CommandExit::TimedOut, "{ended:?}");
    assert!(ended.err.starts_with("the input waits: its agent ops is paused\n"), "{}", ended.err);
    let sent = server.asked.lock().unwrap()[0].body.clone();
    assert!(sent.contains("\"wait_ms\":1000"), "{sent}");

    let (ended, server) = run(|asked, before| queued(asked, before, "terminated"), &["ask", "x"]).await;
    assert_eq!(
        (ended.exit, asked(&server, "/runs?")),
        (CommandExit::from(ErrorCode::AgentTerminated), 1),
        "{ended:?}"
    );
    assert!(ended.err.contains("ops has ended, so it will not answer the input"), "{}", ended.err);
}
