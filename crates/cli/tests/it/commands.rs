//! Commands that ask once: their request, their output, their exit code.

use std::os::unix::fs::PermissionsExt as _;

use dromia_cli::CommandExit;

use crate::server::{Asked, CUT, KEY, Script, Server};

const ID: &str = "0199c0de000000000000000000000000";

fn answered(status: &str, failure: &str) -> String {
    format!(
        r#"{{"item":"itm_{ID}","session":"ses_{ID}","position":1,"run":"run_{ID}","replayed":false,
        "status":"{status}","reply":"forty-two","last_seq":4,"model_calls":1,
        "usage":{{"input_tokens":1,"output_tokens":2}},"cost_micros":3{failure}}}"#
    )
}

fn accepted() -> String {
    format!(r#"{{"item":"itm_{ID}","session":"ses_{ID}","position":1,"run":"run_{ID}","replayed":false}}"#)
}

fn problem(status: u16, code: &str) -> (u16, String) {
    let body = format!(
        r#"{{"type":"about:blank","title":"t","status":{status},"code":"{code}","detail":"it is so","hint":"do that","request_id":"req_1"}}"#
    );
    (status, body)
}

fn agent() -> String {
    format!(
        r#"{{"id":"agt_{ID}","handle":"ops","display_name":"Ops","labels":{{}},"created_at":"2026-01-02T03:04:05Z","state":"running","revision":1}}"#
    )
}

#[tokio::test]
async fn without_a_server_one_line_names_the_next_command() {
    let server = Server::absent();
    let ended = server.run(&["status", "--node"]).await;
    assert_eq!((ended.exit, ended.out.as_str()), (CommandExit::Unreachable, ""));
    let lines: Vec<_> = ended.err.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ended.err);
    assert!(lines[0].starts_with("error: no server answers on ") && lines[0].ends_with("dromia.sock"));
    assert_eq!(lines[1], "hint: start the server with `dromia up`");
}

#[tokio::test]
async fn ask_prints_the_answer_and_nothing_else() {
    let server = Server::new(|_, _| (200, answered("completed", "")));
    let ended = server.run(&["ask", "what is it?", "--agent", "ops", "-T", "acme"]).await;
    assert_eq!((ended.exit, ended.out.as_str(), ended.err.as_str()), (CommandExit::Done, "forty-two\n", ""));
    let asked = server.asked.lock().unwrap()[0].clone();
    assert_eq!((asked.line.as_str(), asked.tenant.as_str()), ("POST /v1/events", "acme"));
    let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "type": "channel.message.received", "text": "what is it?", "agent": "ops", "platform": "cli",
            "wait": true, "wait_ms": 2_000,
        })
    );
}

#[tokio::test]
async fn ask_reads_its_question_from_stdin() {
    let server = Server::new(|_, _| (200, answered("completed", "")));
    server.typed(&["ask", "-"], "from a pipe\n", false).await;
    assert!(server.asked.lock().unwrap()[0].body.contains("from a pipe\\n"));
}

#[tokio::test]
async fn input_that_is_not_utf8_is_refused_and_not_sent() {
    let server = Server::new(|_, _| (200, answered("completed", "")));
    for (line, input, place) in [
        (&["ask", "-"][..], &b"one\ntw\xffo\n"[..], "not UTF-8 from byte 7 on, in line 2;"),
        (&["event", "send", "-"], b"\xc3", "not UTF-8 from byte 1 on;"),
        (&["chat"], b"tw\xffo\n", "not UTF-8 from byte 3 on;"),
    ] {
        let ended = server.fed(line, input).await;
        assert_eq!(ended.exit, CommandExit::Usage, "{line:?}: {ended:?}");
        assert!(ended.err.contains(place), "{line:?}: {ended:?}");
    }
    assert!(server.lines().is_empty(), "{:?}", server.lines());
}

#[tokio::test]
async fn how_a_run_ended_is_the_exit_code() {
    let cases: [(Script, CommandExit, &str); 11] = [
        (
            |_, _| (200, answered("yielded", "")),
            CommandExit::RunFailed,
            "model calls\nhint: see why with `dromia run why run_",
        ),
        (
            |_, _| {
                (200, answered("failed", r#","failure":{"code":"model_rejected","message":"no such model"}"#))
            },
            CommandExit::RunFailed,
            "failed: no such model (model_rejected)\nhint: see why with `dromia run why run_",
        ),
        (|_, _| (202, accepted()), CommandExit::TimedOut, "dromia run watch run_"),
        (
            |_, _| problem(401, "unauthorized"),
            CommandExit::Denied,
            "error: it is so (unauthorized, req_1)\nhint: do that",
        ),
        (|_, _| problem(400, "invalid_request"), CommandExit::Usage, "invalid_request"),
        (|_, _| problem(409, "idempotency_conflict"), CommandExit::Conflict, "idempotency_conflict"),
        (|_, _| problem(404, "agent_not_found"), CommandExit::Failed, "agent_not_found"),
        (|_, _| problem(503, "shutting_down"), CommandExit::Unreachable, "shutting_down"),
        (|_, _| problem(418, "a_code_of_tomorrow"), CommandExit::Failed, "a_code_of_tomorrow"),
        (|_, _| (200, "not json".to_owned()), CommandExit::Failed, "is not valid"),
        (|_, _| (500, "not json".to_owned()), CommandExit::Failed, "without a problem"),
    ];
    for (script, exit, says) in cases {
        let ended = Server::new(script).run(&["ask", "x", "--timeout", "500ms"]).await;
        assert_eq!(ended.exit, exit, "{ended:?}");
        assert!(ended.err.contains(says), "{says} is not in {ended:?}");
    }
}

#[tokio::test]
async fn with_json_stdout_is_always_one_document() {
    let cases: [(Script, Vec<&str>); 9] = [
        (|_, _| (200, answered("completed", "")), vec!["ask", "x"]),
        (|_, _| (202, accepted()), vec!["ask", "x", "--timeout", "500ms"]),
        (|_, _| (202, accepted()), vec!["event", "send", "x"]),
        (|_, _| problem(404, "run_not_found"), vec!["run", "list"]),
        (|_, _| (200, r#"{"items":[],"next":null}"#.to_owned()), vec!["agent", "list"]),
        (|_, _| (200, agent()), vec!["agent", "show", "ops"]),
        (|_, _| (200, agent()), vec!["agent", "switch", "ops"]),
        (|_, _| (200, agent()), vec!["agent", "rm", "ops"]),
        (|_, _| (200, agent()), vec!["chat"]),
    ];
    for (script, line) in cases {
        let line = [line, vec!["--json"]].concat();
        let ended = Server::new(script).run(&line).await;
        let document: Result<serde_json::Value, _> = serde_json::from_str(&ended.out);
        assert!(document.is_ok(), "{line:?}: {ended:?}");
    }
}

#[tokio::test]
async fn an_interrupted_input_is_resent_under_its_key() {
    let breaks: Script = |asked, before| match before {
        0 => (CUT, String::new()),
        1 => problem(503, "outcome_unknown"),
        _ => one_run(asked, before),
    };
    for line in [&["ask", "x"][..], &["event", "send", "x", "--wait"], &["event", "send", "x"], &["chat"]] {
        let server = Server::new(breaks);
        let ended = server.typed(line, "hello\n", false).await;
        assert_eq!(ended.exit, CommandExit::Done, "{line:?}: {ended:?}");
        let asked = server.asked.lock().unwrap();
        let sent: Vec<_> = asked.iter().filter(|asked| asked.line == "POST /v1/events").collect();
        assert_eq!(sent.len(), 3, "{line:?}");
        let first = if line == ["chat"] { format!("{KEY}-1") } else { KEY.to_owned() };
        for again in &sent {
            assert_eq!(
                (again.key.as_deref(), &again.body),
                (Some(first.as_str()), &sent[0].body),
                "{line:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_later_break_does_not_hide_an_unknown_outcome() {
    let breaks: Script = |_, before| match before {
        0 => (CUT, String::new()),
        _ => problem(503, "shutting_down"),
    };
    let ended = Server::new(breaks).run(&["ask", "x", "--timeout", "1s"]).await;
    assert_eq!(ended.exit, CommandExit::Unreachable, "{ended:?}");
    assert!(ended.err.contains("; it is not known whether the server stored the input"), "{ended:?}");
    assert!(ended.err.contains(&format!("`--idempotency-key {KEY}`")), "{ended:?}");
}

#[tokio::test]
async fn interrupted_tasks_and_calls_are_resent_under_their_key() {
    let breaks: Script = |asked, before| match (before, asked.line.as_str()) {
        (0, _) => (CUT, String::new()),
        (1, _) => problem(503, "outcome_unknown"),
        (_, "POST /v1/agents/ops/spawn") => {
            let task = format!(
                r#"{{"agent":"agt_{ID}","session":"ses_{ID}","item":"itm_{ID}","run":"run_{ID}","state":"running",
                "replayed":true}}"#
            );
            (202, task)
        }
        _ => {
            let called = format!(
                r#"{{"run":"run_{ID}","session":"ses_{ID}","status":"completed",
                "result":{{"status":"ok","text":"forty-two"}}}}"#
            );
            (200, called)
        }
    };
    for line in
        [&["agent", "spawn", "ops", "--task", "x"][..], &["tool", "call", "file.append", "--agent", "ops"]]
    {
        let server = Server::new(breaks);
        let ended = server.run(line).await;
        assert_eq!(ended.exit, CommandExit::Done, "{line:?}: {ended:?}");
        let asked = server.asked.lock().unwrap().clone();
        assert_eq!(asked.len(), 3, "{line:?}");
        for again in &asked {
            let sent = (again.key.as_deref(), &again.line, &again.body);
            assert_eq!(sent, (Some(KEY), &asked[0].line, &asked[0].body), "{line:?}");
        }
    }
}

#[tokio::test]
async fn an_unanswered_input_ends_with_a_next_step() {
    let line = ["ask", "x", "--timeout", "500ms"];
    let gone = Server::new(|_, _| (CUT, String::new())).run(&line).await;
    assert_eq!((gone.exit, gone.out.as_str()), (CommandExit::Unreachable, ""), "{gone:?}");
    assert!(
        gone.err.contains("; it is not known whether the server stored the input\nhint: repeat the command"),
        "{gone:?}"
    );
    assert!(gone.err.contains(&format!("`--idempotency-key {KEY}`")), "{gone:?}");

    for line in [&["ask", "x"][..], &["ask", "x", "--jsonl"], &["event", "send", "x", "--wait"], &["chat"]] {
        // The server takes the input and is gone.
        let server = Server::serving(|_, _| (202, accepted()), 1);
        let ended = server.typed(&[line, &["--timeout", "1s"]].concat(), "hello\n", false).await;
        assert_eq!(ended.exit, CommandExit::Unreachable, "{line:?}: {ended:?}");
        // A program learns of a failure on stdout, in the form that it asked for.
        let documents = usize::from(line.contains(&"--jsonl"));
        assert_eq!(ended.out.matches("{\"error\":{").count(), documents, "{line:?}: {ended:?}");
        assert_eq!(ended.out.trim().lines().count(), documents, "{line:?}: {ended:?}");
        let known = format!("the server stored the input in ses_{ID}, and run_{ID} took it\n");
        assert!(ended.err.contains(&known), "{line:?}: {ended:?}");
        assert!(ended.err.contains(&format!("`dromia run watch run_{ID}`")), "{line:?}: {ended:?}");
        // Without a server nothing goes on; that it is away was told once, while it was waited for.
        let hint = "hint: start the server with `dromia up`; then the run continues by itself";
        assert!(ended.err.contains(hint), "{line:?}: {ended:?}");
        assert_eq!(ended.err.matches("waiting for it to come back\n").count(), 1, "{line:?}: {ended:?}");
        let talks_on = ended.err.contains(&format!("`dromia chat --session ses_{ID}`"));
        assert_eq!(talks_on, line == ["chat"], "{line:?}: {ended:?}");
        assert_eq!(server.lines(), ["POST /v1/events"]);
    }

    // Of what is sent elsewhere too, under the key that was given or one of the command.
    let keys: [(&[&str], &str); 2] = [(&[], KEY), (&["--idempotency-key", "mine"], "mine")];
    for (line, what) in [
        (&["agent", "spawn", "ops", "--task", "x", "--wait"][..], "task"),
        (&["agent", "spawn", "ops", "--task", "x"], "task"),
        (&["tool", "call", "file.append", "--agent", "ops"], "call"),
    ] {
        for (given, key) in keys {
            let server = Server::new(|_, _| (CUT, String::new()));
            let gone = server.run(&[line, &["--timeout", "500ms"], given].concat()).await;
            assert_eq!((gone.exit, gone.out.as_str()), (CommandExit::Unreachable, ""), "{line:?}: {gone:?}");
            let known = format!(
                "; it is not known whether the server stored the {what}\nhint: repeat the command with"
            );
            assert!(gone.err.contains(&known), "{line:?}: {gone:?}");
            assert!(gone.err.contains(&format!("`--idempotency-key {key}`")), "{line:?}: {gone:?}");
            let asked = server.asked.lock().unwrap();
            assert!(asked.iter().all(|asked| asked.key.as_deref() == Some(key)), "{asked:?}");
        }
    }

    // What the server said for certain is not asked again, and the key that was given is the one that is sent.
    let server = Server::new(|_, _| problem(503, "shutting_down"));
    let ended = server.run(&["ask", "x", "--idempotency-key", "mine"]).await;
    assert_eq!((ended.exit, server.lines().len()), (CommandExit::Unreachable, 1), "{ended:?}");
    assert_eq!(server.asked.lock().unwrap()[0].key.as_deref(), Some("mine"));
}

#[tokio::test]
async fn an_agent_is_terminated_only_after_a_yes() {
    let terminated: Script = |_, _| (200, agent().replace("running", "terminated"));
    let server = Server::new(terminated);
    let asked = server.run(&["agent", "terminate", "ops"]).await;
    assert_eq!((asked.exit, server.lines().len()), (CommandExit::Usage, 0), "{asked:?}");
    assert!(asked.err.contains("for good?") && asked.err.contains("--yes"), "{asked:?}");
    let ended = server.run(&["agent", "terminate", "ops", "--yes"]).await;
    assert_eq!((ended.exit, ended.out.as_str()), (CommandExit::Done, "ops is terminated\n"));
    let switched = server.run(&["agent", "switch", "ops"]).await;
    assert_eq!(switched.exit, CommandExit::Conflict, "{switched:?}");
    assert!(switched.err.contains("ops is terminated"), "{switched:?}");
}

/// A run that stands so, and so after it was looked at.
fn stands(asked: &Asked, first: &str, then: &str) -> (u16, String) {
    let line = asked.line.as_str();
    if line.ends_with("/resume") {
        return (202, accepted());
    }
    let status = if line.starts_with("POST") { first } else { then };
    let run = format!(
        r#"{{"id":"run_{ID}","kind":"turn","agent":"agt_{ID}","session":"ses_{ID}","status":"{status}",
        "started_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:05Z","wake_at":null,"last_seq":3,"epoch":1,
        "model_calls":1,"usage":{{"input_tokens":1,"output_tokens":2}},"cost_micros":3}}"#
    );
    (202, run)
}

#[tokio::test]
async fn terminating_a_run_asks_first_and_reports_the_end() {
    let run = format!("run_{ID}");
    let ends: Script = |asked, _| stands(asked, "running", "cancelled");
    let cases: [(&[&str], &str, bool, CommandExit); 5] = [
        (&[], "n\n", true, CommandExit::Usage),
        (&[], "y\n", true, CommandExit::Done),
        (&["--yes"], "", true, CommandExit::Done),
        (&["--no-input"], "", true, CommandExit::Done),
        (&[], "", false, CommandExit::Done),
    ];
    for (more, typed, is_terminal, exit) in cases {
        let server = Server::new(ends);
        let line = [&["run", "terminate", &run, "--color", "never"][..], more].concat();
        let ended = server.typed(&line, typed, is_terminal).await;
        assert_eq!(ended.exit, exit, "{more:?}: {ended:?}");
        let expected =
            if exit == CommandExit::Done { format!("{run} is cancelled\n") } else { String::new() };
        assert_eq!(
            (ended.out, server.lines().is_empty()),
            (expected, exit == CommandExit::Usage),
            "{more:?}"
        );
    }
    let works: Script = |asked, _| stands(asked, "running", "running");
    for (verb, says) in [("cancel", "after its current tool call"), ("terminate", "is being stopped")] {
        let ended = Server::new(works).run(&["run", verb, &run]).await;
        assert_eq!(ended.out, format!("{run} is ending\n"));
        assert!(ended.err.contains(says) && ended.err.contains("`dromia run watch"), "{ended:?}");
    }
}

#[tokio::test]
async fn resuming_a_held_run_reports_when_it_continues() {
    let run = format!("run_{ID}");
    let goes_on: Script = |asked, _| stands(asked, "held", "running");
    let ended = Server::new(goes_on).run(&["run", "resume", &run]).await;
    assert_eq!((ended.out, ended.err.as_str()), (format!("{run}\n"), "released; the run continues\n"));
    let held: Script = |asked, _| stands(asked, "held", "held");
    let server = Server::new(held);
    let ended = server.run(&["run", "resume", &run]).await;
    assert_eq!(ended.err, "released; the run will continue soon\n");
    assert_eq!(server.lines().len(), 5, "it is looked at for a moment");
}

#[tokio::test]
async fn a_missing_switched_agent_is_explained_when_not_named() {
    let script: Script = |asked, _| {
        if asked.line == "GET /v1/agents/ops" {
            return (200, agent());
        }
        let (status, body) = problem(404, "agent_not_found");
        (status, body.replace("it is so", r#"there is no agent \"ops\""#))
    };
    let server = Server::new(script);
    assert_eq!(server.run(&["agent", "switch", "ops"]).await.exit, CommandExit::Done);
    for line in [&["tool", "show", "exec"][..], &["ask", "x"]] {
        let ended = server.run(line).await;
        assert!(ended.err.contains("`dromia agent switch` chose ops"), "{line:?}: {ended:?}");
    }
    let ended = server.run(&["ask", "x", "--agent", "ops"]).await;
    assert!(ended.err.contains("hint: do that"), "{ended:?}");
}

#[tokio::test]
async fn agent_and_session_flags_together_are_refused_before_sending() {
    let server = Server::new(one_run);
    let session = format!("ses_{ID}");
    for line in [&["ask", "x"][..], &["event", "send", "x"], &["chat"]] {
        let ended = server.run(&[line, &["--session", &session, "--agent", "nobody"]].concat()).await;
        assert_eq!((ended.exit, ended.out.as_str()), (CommandExit::Usage, ""), "{line:?}: {ended:?}");
        assert!(ended.err.contains("leave out --agent or --session"), "{ended:?}");
    }
    assert!(server.lines().is_empty(), "{:?}", server.lines());
}

#[tokio::test]
async fn a_listing_is_a_table_and_names_the_next_page() {
    let server = Server::new(|_, _| (200, format!(r#"{{"items":[{}],"next":"agt_{ID}"}}"#, agent())));
    let ended = server.run(&["agents", "ls", "--limit", "1"]).await;
    assert_eq!(server.lines(), ["GET /v1/agents?limit=1"]);
    insta::assert_snapshot!(ended.out, @r"
    HANDLE  NAME  STATE    CREATED               ID
    ops     Ops   running  2026-01-02 03:04:05Z  agt_0199c0de000000000000000000000000
    ");
    assert_eq!(ended.err, format!("this page may not be the last: continue with --after agt_{ID}\n"));
}

#[tokio::test]
async fn an_agent_is_erased_only_after_a_yes() {
    let script: Script = |_, _| {
        (200, r#"{"erased":{"sessions":1,"runs":2,"entries":3,"items":4,"bodies":5,"files":6}}"#.to_owned())
    };
    let asks = [
        (vec!["agent", "delete", "ops"], "", false, CommandExit::Usage, "--yes"),
        (vec!["agent", "delete", "ops", "--no-input"], "y\n", true, CommandExit::Usage, "--yes"),
        (vec!["agent", "delete", "ops"], "n\n", true, CommandExit::Usage, "the command changed nothing"),
        (vec!["agent", "delete", "ops"], "", true, CommandExit::Usage, "the command changed nothing"),
    ];
    for (line, input, is_terminal, exit, says) in asks {
        let server = Server::new(script);
        let ended = server.typed(&line, input, is_terminal).await;
        assert_eq!(ended.exit, exit, "{line:?}");
        assert!(ended.err.contains(says), "{line:?}: {}", ended.err);
        assert!(server.lines().is_empty(), "{line:?} reached the server");
    }
    for (line, input, is_terminal) in
        [(vec!["agent", "delete", "ops"], "y\n", true), (vec!["agent", "rm", "ops", "--yes"], "", false)]
    {
        let server = Server::new(script);
        let ended = server.typed(&line, input, is_terminal).await;
        assert_eq!(ended.exit, CommandExit::Done, "{ended:?}");
        assert_eq!(server.lines(), ["DELETE /v1/agents/ops"]);
        assert!(ended.out.contains("entries   3"), "{}", ended.out);
    }
}

#[tokio::test]
async fn a_switched_agent_counts_only_in_its_tenant() {
    let server = Server::new(|asked, _| match asked.line.as_str() {
        "POST /v1/events" => (202, accepted()),
        _ => (200, agent()),
    });
    assert_eq!(server.run(&["agent", "switch", "ops", "-T", "acme"]).await.exit, CommandExit::Done);
    for (line, agent) in [
        (vec!["event", "send", "x", "-T", "acme"], Some("ops")),
        (vec!["event", "send", "x", "-T", "acme", "--agent", "rev"], Some("rev")),
        (vec!["event", "send", "x"], None),
    ] {
        server.run(&line).await;
        let body = server.asked.lock().unwrap().last().unwrap().body.clone();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body.get("agent").and_then(|agent| agent.as_str()), agent, "{line:?}");
    }
}

#[tokio::test]
async fn a_misspelt_agent_is_not_switched_to() {
    let server = Server::new(|_, _| problem(404, "agent_not_found"));
    assert_eq!(server.run(&["agent", "switch", "opps"]).await.exit, CommandExit::Failed);
    assert!(!server.home.path().join("cli.json").exists());
}

#[tokio::test]
async fn an_event_carries_its_key() {
    let server = Server::new(|_, _| (202, accepted()));
    server.run(&["event", "send", "x", "--idempotency-key", "k1"]).await;
    assert_eq!(server.asked.lock().unwrap()[0].key.as_deref(), Some("k1"));
}

#[tokio::test]
async fn an_agents_instructions_come_from_a_file() {
    let server = Server::new(|_, _| (201, agent()));
    let file = server.home.path().join("ops.md");
    std::fs::write(&file, "Run the servers.").unwrap();
    let file = file.to_str().unwrap();
    let line = ["agent", "new", "ops", "--instructions-file", file, "--grant", "reply", "--label", "team=a"];
    let made = server.run(&line).await;
    assert_eq!(made.exit, CommandExit::Done);
    assert!(made.err.contains("add `--grant model`"), "an agent without a model is no use: {}", made.err);
    let body: serde_json::Value = serde_json::from_str(&server.asked.lock().unwrap()[0].body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "handle": "ops", "labels": {"team": "a"},
            "config": {"model": "default", "instructions": "Run the servers.", "grants": ["reply"]},
        })
    );
}

fn token(state: &str, more: &str) -> String {
    format!(
        r#"{{"id":"tok_{ID}","name":"ci","scopes":["read"],"state":"{state}","created_at":"2026-01-02T03:04:05Z"{more}}}"#
    )
}

#[tokio::test]
async fn a_new_token_is_alone_on_stdout_described_on_stderr() {
    let script: Script =
        |_, _| (201, token("active", r#","expires_at":"2026-02-01T03:04:05Z","token":"drm_secret""#));
    let server = Server::new(script);
    let line = ["token", "create", "ci", "--scope", "read", "--expires", "30d", "-T", "acme"];
    let ended = server.run(&line).await;
    assert_eq!((ended.exit, ended.out.as_str()), (CommandExit::Done, "drm_secret\n"));
    assert_eq!(
        ended.err,
        format!(
            "ci (tok_{ID}): read; expires 2026-02-01 03:04:05Z\ncopy the token now; it is not shown again\n"
        )
    );
    let asked = server.asked.lock().unwrap()[0].clone();
    assert_eq!((asked.line.as_str(), asked.tenant.as_str()), ("POST /v1/tokens", "acme"));
    let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(body, serde_json::json!({"name": "ci", "scopes": ["read"], "expires_in_seconds": 2_592_000}));
    let ended = server.run(&["token", "create", "ci", "--json"]).await;
    let document: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&document["token"], &document["name"]), (&"drm_secret".into(), &"ci".into()));
    let body: serde_json::Value = serde_json::from_str(&server.asked.lock().unwrap()[1].body).unwrap();
    assert_eq!(body, serde_json::json!({"name": "ci", "scopes": ["read", "invoke"]}));
}

#[tokio::test]
async fn tokens_are_listed_and_taken_back_by_name() {
    let server = Server::new(|asked, _| match asked.line.split(' ').next() {
        Some("GET") => (200, format!(r#"{{"items":[{}],"next":null}}"#, token("active", ""))),
        _ => (200, token("revoked", r#","revoked_at":"2026-01-02T03:04:06Z""#)),
    });
    insta::assert_snapshot!(server.run(&["tokens", "ls"]).await.out, @r"
    NAME  SCOPES  STATE   CREATED               EXPIRES  ID
    ci    read    active  2026-01-02 03:04:05Z  never    tok_0199c0de000000000000000000000000
    ");
    let ended = server.run(&["token", "revoke", "ci#1"]).await;
    assert_eq!(
        (ended.exit, ended.out.as_str(), ended.err.as_str()),
        (CommandExit::Done, "ci is revoked\n", "")
    );
    assert_eq!(server.lines(), ["GET /v1/tokens?limit=50", "DELETE /v1/tokens/ci%231"]);
}

/// Who asks, with what else the server says.
fn who(more: &str) -> String {
    format!(
        r#"{{"version":"0.1.0","tenant":"ten_{ID}","tenant_handle":"acme",{more}"actor":"cli:0","credential":"socket","scopes":["admin"]}}"#
    )
}

/// A server whose configuration names an agent that the tenant has, or has not.
fn with_default(asked: &Asked, there: bool) -> (u16, String) {
    match asked.line.as_str() {
        "GET /v1/whoami" => (200, who(r#""default_agent":"clerk","#)),
        "GET /v1/tools?agent=clerk" if !there => problem(404, "agent_not_found"),
        line if line.starts_with("GET /v1/tools") => (200, r#"{"items":[],"next":null}"#.to_owned()),
        line if line.starts_with("POST /v1/sessions/import") => (201, format!(r#"{{"session":"ses_{ID}"}}"#)),
        _ => problem(409, "agent_terminated"),
    }
}

#[tokio::test]
async fn the_default_agent_is_used_where_none_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    for (line, last) in [
        (&["tool", "list"][..], "GET /v1/tools?agent=clerk"),
        (&["tool", "call", "file.list"], "POST /v1/agents/clerk/tools/file.list/call"),
        (&["session", "import", file], "POST /v1/sessions/import?agent=clerk"),
    ] {
        let server = Server::new(|asked, _| with_default(asked, true));
        server.run(line).await;
        assert_eq!(server.lines(), ["GET /v1/whoami", last], "{line:?}");
        // Whoever is named is meant, and nobody else is asked for.
        let server = Server::new(|asked, _| with_default(asked, true));
        server.run(&[line, &["--agent", "ops"]].concat()).await;
        assert_eq!(server.lines(), [last.replace("clerk", "ops")], "{line:?}");
    }
    // A tenant without it still has its tools.
    let server = Server::new(|asked, _| with_default(asked, false));
    assert_eq!(server.run(&["tool", "list"]).await.exit, CommandExit::Done);
    assert_eq!(server.lines(), ["GET /v1/whoami", "GET /v1/tools?agent=clerk", "GET /v1/tools"]);
}

#[tokio::test]
async fn whoami_shows_server_tenant_and_scopes() {
    let script: Script = |_, _| (200, who(""));
    let named: Script = |_, _| (200, who(r#""default_agent":"clerk","#));
    let told = Server::new(named).run(&["whoami"]).await;
    assert!(told.out.contains("\nagent       clerk, used when you name none\n"), "{told:?}");
    insta::assert_snapshot!(Server::new(script).run(&["whoami"]).await.out, @r"
    server      dromia 0.1.0
    tenant      acme (ten_0199c0de000000000000000000000000)
    actor       cli:0
    credential  socket
    role        admin
    scopes      admin
    ");
}

#[tokio::test]
async fn the_current_agent_is_shown_and_marked() {
    let server = Server::new(|asked, _| match asked.line.as_str() {
        "GET /v1/whoami" => (200, who(r#""default_agent":"clerk","#)),
        "GET /v1/agents/ops" => (200, agent()),
        _ => (200, format!(r#"{{"items":[{},{}],"next":null}}"#, agent(), agent().replace("ops", "other"))),
    });
    let listed = server.run(&["agent", "list"]).await;
    assert!(!listed.out.contains('*') && listed.err.is_empty(), "{listed:?}");
    server.run(&["agent", "switch", "ops"]).await;
    let cases: [(&[&str], &str, &str); 2] =
        [(&[], "ops, chosen by `dromia agent switch`", "ops"), (&["--agent", "w"], "w, by --agent", "w")];
    for (named, told, agent) in cases {
        let shown = server.run(&[&["whoami"][..], named].concat()).await;
        assert!(shown.out.contains(&format!("\nagent       {told}\n")), "{shown:?}");
        let document = server.run(&[&["whoami", "--json"][..], named].concat()).await.out;
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!((&document["agent"], &document["default_agent"]), (&agent.into(), &"clerk".into()));
    }
    let listed = server.run(&["agent", "list"]).await;
    insta::assert_snapshot!(listed.out, @r"
    HANDLE  NAME  STATE    CREATED               ID
    ops *   Ops   running  2026-01-02 03:04:05Z  agt_0199c0de000000000000000000000000
    other   Ops   running  2026-01-02 03:04:05Z  agt_0199c0de000000000000000000000000
    ");
    assert_eq!(listed.err, "* marks the agent that commands use when you name none\n");
}

#[tokio::test]
async fn an_agents_answer_cannot_control_the_terminal() {
    let server = Server::new(|asked, before| {
        let (status, body) = one_run(asked, before);
        (status, body.replace("forty-two", "a\\u001b[2Jb"))
    });
    let shown = server.typed(&["ask", "x"], "", true).await;
    assert!(!shown.out.contains('\u{1b}'), "{:?}", shown.out);
    let piped = server.run(&["ask", "x"]).await;
    assert_eq!(piped.out, "a\u{1b}[2Jb\n", "a pipe gets what was said");
}

#[tokio::test]
async fn a_session_is_exported_to_and_imported_from_a_file() {
    let server = Server::new(|asked, _| match asked.line.split(' ').next() {
        _ if asked.line == "GET /v1/whoami" => (200, who("")),
        Some("GET") => (200, "a session".to_owned()),
        _ => (201, format!(r#"{{"session":"ses_{ID}"}}"#)),
    });
    let file = server.home.path().join("talk.session");
    let (id, name) = (format!("ses_{ID}"), file.to_str().unwrap());
    std::fs::write(&file, "of before").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    // What is there stays, unless somebody says otherwise.
    let export = ["session", "export", &id, "--file", name, "--color", "never"];
    for (typed, is_terminal) in [("", false), ("n\n", true)] {
        let kept = server.typed(&export, typed, is_terminal).await;
        assert_eq!((kept.exit, server.lines().len()), (CommandExit::Usage, 0), "{kept:?}");
        assert!(kept.err.contains("exists. Overwrite it?") && kept.err.contains("--force"), "{kept:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "of before");
    }
    assert_eq!(server.typed(&export, "y\n", true).await.exit, CommandExit::Done);
    std::fs::write(&file, "of before").unwrap();
    assert_eq!(server.run(&[&export[..], &["--force"]].concat()).await.exit, CommandExit::Done);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!((std::fs::read_to_string(&file).unwrap().as_str(), mode & 0o777), ("a session", 0o600));
    let ended = server.run(&["session", "import", name, "--agent", "a b"]).await;
    assert_eq!(ended.out, format!("ses_{ID}\n"));
    let asked = server.asked.lock().unwrap().pop().unwrap();
    assert_eq!(
        (asked.line.as_str(), asked.body.as_str()),
        ("POST /v1/sessions/import?agent=a%20b", "a session")
    );
    server.typed(&["session", "import", "-", "--agent", "ops"], "a session in a pipe", false).await;
    assert_eq!(server.asked.lock().unwrap().pop().unwrap().body, "a session in a pipe");
    let ended = server.run(&["session", "import", name, "--agent", "ops", "--trust-labels"]).await;
    assert_eq!(ended.out, format!("ses_{ID}\n"));
    let asked = server.asked.lock().unwrap().pop().unwrap();
    assert_eq!(asked.line, "POST /v1/sessions/import?agent=ops&trust_labels=true");
    let ended = server.run(&["session", "import", name, "--agent", "ops", "--copy", "a b"]).await;
    assert_eq!(ended.exit, CommandExit::Done);
    let asked = server.asked.lock().unwrap().pop().unwrap();
    assert_eq!(asked.line, "POST /v1/sessions/import?agent=ops&copy=a%20b");
    assert_eq!(server.run(&["session", "import", name]).await.exit, CommandExit::Usage, "no agent is named");
    assert_eq!(server.typed(&["session", "export", &id], "", true).await.exit, CommandExit::Usage);
}

#[tokio::test]
async fn a_cut_off_audit_export_keeps_the_old_file() {
    let server = Server::new(|_, earlier| match earlier {
        0 => (200, "{\"dromia_audit\":1}\n{\"end\":{}}\n".to_owned()),
        _ => (200, "{\"dromia_audit\":1}\n".to_owned()),
    });
    let file = server.home.path().join("audit.jsonl");
    let export = ["audit", "export", "--file", file.to_str().unwrap()];
    assert_eq!(server.run(&export).await.exit, CommandExit::Done);
    let whole = std::fs::read_to_string(&file).unwrap();
    assert!(whole.ends_with("{\"end\":{}}\n"), "{whole}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let ended = server.run(&export).await;
    assert_eq!(ended.exit, CommandExit::Failed);
    assert!(ended.err.contains("without its signed last line"), "{}", ended.err);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), whole);
    let entries = std::fs::read_dir(server.home.path()).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{names:?}");
}

/// A server with one run that answers: its event, its journal as a stream, its row.
fn one_run(asked: &crate::server::Asked, _: usize) -> (u16, String) {
    let run = format!(
        r#"{{"id":"run_{ID}","kind":"turn","agent":"agt_{ID}","session":"ses_{ID}","status":"completed",
        "started_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:05Z","wake_at":null,"last_seq":1,
        "epoch":1,"model_calls":1,"usage":{{"input_tokens":1,"output_tokens":2}},"cost_micros":3}}"#
    );
    match asked.line.as_str() {
        "POST /v1/events" if asked.body.contains("\"wait\":true") => (200, answered("completed", "")),
        "POST /v1/events" => (202, accepted()),
        line if line.ends_with("/journal") => {
            let chain = "0".repeat(64);
            let body = r#"{"parts":[{"type":"text","text":"forty-two","label":"untrusted/actor"}]}"#;
            (
                200,
                format!(
                    "event: entry\ndata: {{\"seq\":1,\"at\":\"2026-01-02T03:04:05Z\",\"epoch\":1,\"kind\":\"model_replied\",\"version\":1,\"fields\":{{}},\"body\":{body},\"chain\":\"{chain}\"}}\n\nevent: end\ndata: {{\"status\":\"completed\",\"last_seq\":1,\"model_calls\":1,\"usage\":{{\"input_tokens\":1,\"output_tokens\":2}},\"cost_micros\":3}}\n\n"
                ),
            )
        }
        _ => (200, run),
    }
}

#[tokio::test]
async fn ask_by_line_ends_with_the_answer() {
    let ended = Server::new(one_run).run(&["ask", "x", "--jsonl"]).await;
    assert_eq!(ended.exit, CommandExit::Done, "{ended:?}");
    let lines: Vec<serde_json::Value> =
        ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["model_replied", "answer"]);
    assert_eq!((&lines[1]["reply"], &lines[1]["status"]), (&"forty-two".into(), &"completed".into()));
}

#[tokio::test]
async fn the_usage_file_is_written_however_ask_ends() {
    let read = |server: &Server| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(server.home.path().join("used.json")).unwrap()).unwrap()
    };
    for more in [None, Some("--jsonl")] {
        let server = Server::new(one_run);
        let file = server.home.path().join("used.json");
        let line = ["ask", "x", "--usage-file", file.to_str().unwrap()];
        server.run(&[&line[..], more.as_slice()].concat()).await;
        assert_eq!(
            read(&server),
            serde_json::json!({
                "run": format!("run_{ID}"), "status": "completed", "cost_micros": 3, "model_calls": 1,
                "usage": {"input_tokens": 1, "output_tokens": 2},
            })
        );
    }
    let server = Server::new(|_, _| problem(429, "overloaded"));
    let file = server.home.path().join("used.json");
    let ended = server.run(&["ask", "x", "--usage-file", file.to_str().unwrap()]).await;
    assert_eq!(ended.exit, CommandExit::Failed);
    let used = read(&server);
    assert_eq!((&used["run"], &used["error"]["code"]), (&serde_json::Value::Null, &"overloaded".into()));

    let server = Server::new(one_run);
    assert_eq!(
        server.run(&["ask", "x", "--usage-file", "/nowhere/used.json"]).await.exit,
        CommandExit::Failed
    );
    assert!(server.lines().is_empty(), "a path that cannot be written costs no question");
}

#[tokio::test]
async fn a_format_is_a_choice_of_the_caller() {
    let list: Script = |_, _| (200, format!(r#"{{"items":[{},{}],"next":"agt_{ID}"}}"#, agent(), agent()));
    let ended = Server::new(list).run(&["agent", "list", "-o", "jsonl"]).await;
    assert_eq!(ended.out.lines().count(), 2, "{}", ended.out);
    assert!(ended.out.lines().all(|line| line.starts_with('{') && line.contains("\"handle\":\"ops\"")));
    assert!(
        ended.err.contains("--after"),
        "a program that reads rows learns of more on stderr: {}",
        ended.err
    );

    let ended = Server::new(list).run(&["agent", "list", "--json=state,handle"]).await;
    insta::assert_snapshot!(ended.out, @r#"
    {
      "items": [
        {
          "handle": "ops",
          "state": "running"
        },
        {
          "handle": "ops",
          "state": "running"
        }
      ],
      "next": "agt_0199c0de000000000000000000000000"
    }
    "#);
    let ended = Server::new(list).run(&["agent", "list", "-o", "jsonl", "--json=state,handle"]).await;
    assert_eq!(ended.out.lines().next(), Some(r#"{"state":"running","handle":"ops"}"#));
    for form in [&["-o", "jsonl"][..], &["--jsonl"]] {
        let line = [&["agent", "show", "ops"][..], form].concat();
        let ended = Server::new(|_, _| (200, agent())).run(&line).await;
        assert_eq!(ended.out.lines().count(), 1, "{form:?}: {ended:?}");
        let rows = Server::new(list).run(&[&["agent", "list", "--json=handle"][..], form].concat()).await;
        assert_eq!(rows.out, "{\"handle\":\"ops\"}\n{\"handle\":\"ops\"}\n", "{form:?}: {rows:?}");
    }
    for torn in ["table", "json"] {
        let server = Server::new(list);
        let ended = server.run(&["agent", "list", "--jsonl", "-o", torn]).await;
        assert_eq!((ended.exit, server.lines().len()), (CommandExit::Usage, 0), "{ended:?}");
        assert!(ended.err.contains(&format!("--jsonl and -o {torn} exclude each other")), "{ended:?}");
    }
}

#[tokio::test]
async fn a_request_is_printed_as_it_is_and_nothing_else() {
    let server = Server::new(|_, _| (200, "{\"a\": \"\u{e4}\u{9b}\"}".to_owned()));
    let line = format!("run show run_{ID} --step 2 --request --attempt 3");
    let words: Vec<_> = line.split(' ').collect();
    let ended = server.run(&words).await;
    assert_eq!(
        (ended.exit, ended.out.as_str(), ended.err.as_str()),
        (CommandExit::Done, "{\"a\": \"\u{e4}\u{9b}\"}", "")
    );
    assert_eq!(server.lines(), [format!("GET /v1/runs/run_{ID}/requests/2?attempt=3")]);
    // A terminal is not driven by what others wrote.
    let ended = server.typed(&words, "", true).await;
    assert_eq!(ended.out, "{\"a\": \"\u{e4}\u{fffd}\"}");

    let refused = Server::new(|_, _| problem(409, "request_unavailable"));
    let ended = refused.run(&words).await;
    assert_eq!((ended.exit, ended.out.as_str()), (CommandExit::Failed, ""));
    assert!(ended.err.contains("it is so") && ended.err.contains("request_unavailable"), "{}", ended.err);
}

#[tokio::test]
async fn an_unknown_field_is_refused_before_anything_is_asked() {
    let server = Server::new(|_, _| (200, agent()));
    let ended = server.run(&["agent", "create", "ops", "--json=handel"]).await;
    assert_eq!(ended.exit, CommandExit::Usage);
    assert!(server.lines().is_empty());
    insta::assert_snapshot!(ended.err, @r#"error: there is no field "handel"; the fields are config, created_at, display_name, handle, id, labels, revision, state"#);
    let ended = server.run(&["agent", "list", "--json", "-o", "table"]).await;
    assert_eq!(ended.exit, CommandExit::Usage);
    let ended = server.run(&["chat", "--json=x"]).await;
    assert!(ended.err.contains("no fields to choose from"), "{}", ended.err);
}

#[tokio::test]
async fn colour_is_for_people_and_never_in_json() {
    let list: Script = |_, _| (200, format!(r#"{{"items":[{}],"next":null}}"#, agent()));
    let escapes = |text: &str| text.contains('\u{1b}');
    for (line, is_terminal, colored) in [
        (vec!["agent", "list"], false, false),
        (vec!["agent", "list"], true, true),
        (vec!["agent", "list", "--color", "always"], false, true),
        (vec!["agent", "list", "--color", "never"], true, false),
        (vec!["agent", "list", "--color", "always", "--json"], true, false),
        (vec!["agent", "list", "--color", "always", "-o", "jsonl"], true, false),
    ] {
        let ended = Server::new(list).typed(&line, "", is_terminal).await;
        assert_eq!(escapes(&ended.out), colored, "{line:?}: {:?}", ended.out);
    }
}

/// What a secret is, as a server tells it.
fn bank(placement: &str) -> String {
    format!(
        r#"{{"name":"bank","version":1,"host":"https://bank.example:443","placement":"{placement}","created_at":"2026-01-02T03:04:05Z","changed_at":"2026-01-02T03:04:05Z"}}"#
    )
}

const SET_BANK: [&str; 7] = ["secret", "set", "bank", "--host", "bank.example", "--placement", "bearer"];

#[tokio::test]
async fn a_secret_is_typed_while_the_terminal_shows_nothing() {
    let server = Server::new(|_, _| (200, bank("bearer")));
    let ended = server.typed(&SET_BANK, "open sesame 🔑\r\nrm -rf notes\n", true).await;
    assert_eq!(ended.exit, CommandExit::Done, "{}", ended.err);
    insta::assert_snapshot!(ended.err, @r"
    [hidden]
    the value, which is not echoed (or use --stdin and a pipe):
    [shown]
    16 bytes taken
    an agent may use it in a call if it has the grant secret:bank; a model or a tool that names it in dromia.yaml needs no grant
    ");
    let body: serde_json::Value = serde_json::from_str(&server.asked.lock().unwrap()[0].body).unwrap();
    assert_eq!(body["value"], "open sesame 🔑");
    let rotated = server.typed(&["secret", "rotate", "bank"], "another one\n", true).await;
    assert!(
        rotated.err.starts_with("[hidden]\n") && rotated.err.contains("11 bytes taken"),
        "{}",
        rotated.err
    );
}

#[tokio::test]
async fn an_empty_or_overlong_typed_secret_is_not_sent() {
    let server = Server::new(|_, _| (200, bank("bearer")));
    let long = format!("{}\n", "x".repeat(4095));
    for (typed, says) in
        [("", "you typed no value"), ("\n", "you typed no value"), (long.as_str(), "--stdin")]
    {
        let ended = server.typed(&SET_BANK, typed, true).await;
        assert_eq!(ended.exit, CommandExit::Usage, "{}", ended.err);
        assert!(ended.err.contains(says) && ended.err.contains("[shown]\n"), "{}", ended.err);
    }
    assert_eq!(server.lines(), [""; 0], "nothing was sent");
}
