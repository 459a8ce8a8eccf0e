//! Following a run: across broken streams, to its end, in each form.

use dromia_cli::CommandExit;

use crate::server::{Asked, Script, Server};

const RUN: &str = "run_0199c0de000000000000000000000000";

fn entry(seq: u64) -> String {
    let chain = "0".repeat(64);
    format!(
        "id: {seq}\nevent: entry\ndata: {{\"seq\":{seq},\"at\":\"2026-01-02T03:04:05Z\",\"epoch\":1,\"kind\":\"tool_started\",\"version\":1,\"fields\":{{}},\"body\":null,\"chain\":\"{chain}\"}}\n\n"
    )
}

fn end(status: &str) -> String {
    format!(
        "event: end\ndata: {{\"status\":\"{status}\",\"last_seq\":4,\"model_calls\":1,\"usage\":{{\"input_tokens\":1,\"output_tokens\":2}},\"cost_micros\":3}}\n\n"
    )
}

/// A stream that breaks twice: once at a border, once inside an entry.
fn breaking(asked: &Asked, before: usize) -> (u16, String) {
    assert_eq!(asked.line, format!("GET /v1/runs/{RUN}/journal"));
    match before {
        0 => (200, entry(1) + &entry(2)),
        1 => (200, entry(3) + &entry(4)[..20]),
        _ => (200, entry(4) + &end("completed")),
    }
}

#[tokio::test]
async fn a_broken_stream_resumes_and_shows_each_entry_once() {
    let server = Server::new(breaking);
    let ended = server.run(&["run", "watch", RUN, "--jsonl"]).await;
    assert_eq!(ended.exit, CommandExit::Done, "{ended:?}");
    let seqs: Vec<_> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
    let cursors: Vec<_> =
        server.asked.lock().unwrap().iter().map(|asked| asked.last_event.clone().unwrap()).collect();
    assert_eq!(cursors, ["0", "2", "3"]);
}

/// A stream that breaks behind each of its entries: more often than a server is tried of which nothing is heard.
fn crumbling(asked: &Asked, before: usize) -> (u16, String) {
    assert_eq!(asked.last_event.as_deref(), Some(before.to_string().as_str()));
    let next = entry(before as u64 + 1);
    (200, if before < 10 { next } else { next + &end("completed") })
}

#[tokio::test]
async fn breaks_do_not_add_up_while_the_stream_goes_on() {
    let server = Server::new(crumbling);
    let ended = server.run(&["run", "watch", RUN, "--jsonl"]).await;
    assert_eq!(ended.exit, CommandExit::Done, "{ended:?}");
    assert_eq!((ended.out.lines().count(), server.lines().len()), (11, 11));
}

#[tokio::test]
async fn a_watch_prints_lines_or_one_document() {
    let named: Script = |asked, before| {
        let fields = r#""fields":{"call":"call_1_0","tool":"exec","rule":"grant exec","attempt":1}"#;
        let (status, stream) = breaking(asked, before);
        (status, stream.replace("\"fields\":{}", fields))
    };
    let ended = Server::new(named).run(&["run", "watch", RUN]).await;
    assert_eq!(ended.out.lines().count(), 4);
    assert_eq!(
        ended.out.lines().next().unwrap(),
        "   1  2026-01-02 03:04:05Z  tool_started    exec call_1_0, by grant exec"
    );
    assert_eq!(ended.err, format!("{RUN} is completed\n"));
    let ended = Server::new(breaking).run(&["run", "watch", RUN, "--json"]).await;
    let document: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        (document["entries"].as_array().unwrap().len(), &document["status"]),
        (4, &"completed".into())
    );
}

#[tokio::test]
async fn the_exit_status_is_returned_only_when_requested() {
    let failed: Script = |_, _| (200, end("failed"));
    assert_eq!(Server::new(failed).run(&["run", "watch", RUN]).await.exit, CommandExit::Done);
    assert_eq!(
        Server::new(failed).run(&["run", "watch", RUN, "--exit-status"]).await.exit,
        CommandExit::RunFailed
    );
}

#[tokio::test]
async fn a_problem_ends_the_watch_at_once() {
    let refused: Script = |_, _| {
        (404, r#"{"type":"about:blank","title":"t","status":404,"code":"run_not_found","detail":"no such run","request_id":"r"}"#.to_owned())
    };
    let server = Server::new(refused);
    let ended = server.run(&["run", "watch", RUN]).await;
    assert_eq!((ended.exit, server.lines().len()), (CommandExit::Failed, 1), "{ended:?}");
}

#[tokio::test]
async fn a_stream_that_never_says_anything_new_is_given_up() {
    let server = Server::new(|_, _| (200, String::new()));
    let ended = server.run(&["run", "watch", RUN, "--timeout", "100ms"]).await;
    assert_eq!(ended.exit, CommandExit::TimedOut, "{ended:?}");
    assert!(ended.err.contains("dromia run watch"), "{}", ended.err);
}

/// A server that has taken an input, stops before the stream of its run is opened, and is back then.
fn stopping(asked: &Asked, before: usize) -> (u16, String) {
    if asked.line.starts_with("POST") {
        let id = "0199c0de000000000000000000000000";
        let ids = format!(r#""item":"itm_{id}","session":"ses_{id}","run":"run_{id}""#);
        return (202, format!(r#"{{{ids},"position":1,"replayed":false}}"#));
    }
    assert_eq!(asked.line, format!("GET /v1/runs/{RUN}/journal"));
    if before == 1 {
        return (503, r#"{"type":"about:blank","title":"t","status":503,"code":"shutting_down","detail":"it stops","request_id":"r"}"#.to_owned());
    }
    let body = r#"{"parts":[{"type":"text","text":"forty-two","label":"untrusted/actor"}]}"#;
    (200, entry(1).replace("tool_started", "model_replied").replace("null", body) + &end("completed"))
}

#[tokio::test]
async fn ask_follows_its_run_across_a_server_stop() {
    for line in [&["ask", "what?"][..], &["ask", "what?", "--jsonl"]] {
        let server = Server::new(stopping);
        let ended = server.run(line).await;
        assert_eq!(ended.exit, CommandExit::Done, "{line:?}: {ended:?}");
        assert!(ended.out.contains("forty-two"), "{line:?}: {ended:?}");
        let sent = server.lines().iter().filter(|line| line.starts_with("POST")).count();
        assert_eq!((sent, server.lines().len()), (1, 3), "{line:?}: {:?}", server.lines());
    }
}

#[tokio::test]
async fn a_chat_prints_each_answer_and_stays_in_its_session() {
    let server = Server::new(|asked, _| {
        if asked.line == "POST /v1/events" {
            let id = "0199c0de000000000000000000000000";
            let ids = format!(r#""item":"itm_{id}","session":"ses_{id}","run":"run_{id}""#);
            (202, format!(r#"{{{ids},"position":1,"replayed":false}}"#))
        } else {
            let delta = r#"{"step":1,"attempt":1,"offset":0,"text":"for"}"#;
            let body = r#"{"parts":[{"type":"text","text":"forty-two","label":"untrusted/actor"}]}"#;
            let reply = entry(1).replace("tool_started", "model_replied").replace("null", body);
            (200, format!("event: delta\ndata: {delta}\n\n{reply}{}", end("completed")))
        }
    });
    let ended = server.typed(&["chat"], "what?\n\nand now?\n/quit\nnever sent\n", false).await;
    assert_eq!((ended.exit, ended.out.as_str()), (CommandExit::Done, "forty-two\nforty-two\n"));
    let sent: Vec<serde_json::Value> = server
        .asked
        .lock()
        .unwrap()
        .iter()
        .filter(|asked| asked.line == "POST /v1/events")
        .map(|asked| serde_json::from_str(&asked.body).unwrap())
        .collect();
    assert_eq!(sent.len(), 2);
    assert_eq!((&sent[0]["text"], sent[0].get("session")), (&"what?".into(), None));
    assert_eq!(sent[1]["session"], "ses_0199c0de000000000000000000000000");
    assert!(ended.err.contains("dromia chat --session ses_"), "{}", ended.err);
}

#[tokio::test]
async fn a_mistyped_chat_command_is_not_sent_to_the_agent() {
    let good: Script = |asked, before| turns(asked, before, end("completed"));
    let typed = "/qiut now\n//qiut now\n/etc/hosts is what?\n/exit\nnever sent\n";
    for (is_terminal, expected) in [
        (true, &["/qiut now", "/etc/hosts is what?"][..]),
        (false, &["/qiut now", "/qiut now", "/etc/hosts is what?"]),
    ] {
        let server = Server::new(good);
        let ended = server.typed(&["chat", "--color", "never"], typed, is_terminal).await;
        assert_eq!(ended.exit, CommandExit::Done, "{ended:?}");
        let asked = server.asked.lock().unwrap().clone();
        let said: Vec<String> = asked
            .iter()
            .filter(|asked| asked.line == "POST /v1/events")
            .map(|asked| serde_json::from_str::<serde_json::Value>(&asked.body).unwrap()["text"].to_string())
            .collect();
        let expected: Vec<_> = expected.iter().map(|text| format!("\"{text}\"")).collect();
        assert_eq!(said, expected, "{ended:?}");
        let is_told = ended.err.contains("hint: to send the line to the agent, type //qiut now\n");
        assert_eq!(is_told, is_terminal, "{ended:?}");
    }
}

/// Two turns, of which the first ends so.
fn turns(asked: &Asked, before: usize, first: String) -> (u16, String) {
    let id = "0199c0de000000000000000000000000";
    match asked.line.as_str() {
        "POST /v1/events" => {
            let ids = format!(r#""item":"itm_{id}","session":"ses_{id}","run":"run_{id}""#);
            (202, format!(r#"{{{ids},"position":1,"replayed":false}}"#))
        }
        _ if before == 1 => (200, first),
        _ => (200, end("completed")),
    }
}

#[tokio::test]
async fn only_a_piped_chat_exits_with_its_last_failure() {
    let failed: Script = |asked, before| turns(asked, before, end("failed"));
    let unfunded: Script = |asked, before| {
        let budget = r#""fields":{"model_calls":2,"budget":{"budget":"small","per":"tenant","measure":"tokens","limit":10,"used":9,"needed":5}}"#;
        let yielded = entry(1).replace("tool_started", "run_yielded").replace("\"fields\":{}", budget);
        turns(asked, before, yielded + &end("yielded"))
    };
    let good: Script = |asked, before| turns(asked, before, end("completed"));
    // After a failed turn the server is asked for the next step.
    for (script, is_terminal, exit, requests) in [
        (failed, false, CommandExit::RunFailed, 5),
        (unfunded, false, CommandExit::Budget, 5),
        (good, false, CommandExit::Done, 4),
        (failed, true, CommandExit::Done, 5),
    ] {
        let server = Server::new(script);
        let ended = server.typed(&["chat"], "one\ntwo\n/quit\n", is_terminal).await;
        assert_eq!((ended.exit, server.lines().len()), (exit, requests), "{ended:?}");
    }
}

#[tokio::test]
async fn a_piped_chat_remembers_its_session_without_a_request() {
    let script: Script = |asked, before| {
        let id = "0199c0de000000000000000000000000";
        let fields = format!("\"fields\":{{\"agent\":\"agt_{id}\",\"session\":\"ses_{id}\"}}");
        let started = entry(1).replace("tool_started", "run_started").replace("\"fields\":{}", &fields);
        turns(asked, before, started + &end("completed"))
    };
    let server = Server::new(script);
    let ended = server.typed(&["chat"], "one\n", false).await;
    assert_eq!((ended.exit, server.lines().len()), (CommandExit::Done, 2), "{ended:?}");
    let known = std::fs::read_to_string(server.home.path().join("cli.json")).expect("it was written");
    let known: serde_json::Value = serde_json::from_str(&known).unwrap();
    let sessions = known["sessions"]["default"].as_object().expect("the sessions of the tenant");
    let remembered: Vec<_> = sessions.iter().map(|(agent, session)| (agent.as_str(), session)).collect();
    let session = serde_json::Value::from("ses_0199c0de000000000000000000000000");
    assert_eq!(remembered, [("agt_0199c0de000000000000000000000000", &session)]);
}

#[tokio::test]
async fn a_chat_line_is_resent_after_a_server_absence() {
    let away: Script = |asked, before| match before {
        2 => {
            let problem = r#"{"type":"about:blank","title":"t","status":503,"code":"shutting_down","detail":"it stops","request_id":"r"}"#;
            (503, problem.to_owned())
        }
        _ => turns(asked, before, end("completed")),
    };
    let server = Server::new(away);
    let ended = server.typed(&["chat"], "one\ntwo\n/quit\n", false).await;
    assert_eq!((ended.exit, server.lines().len()), (CommandExit::Done, 5), "{ended:?}");
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!((&asked[2].key, &asked[2].body), (&asked[3].key, &asked[3].body));
    assert!(asked[3].body.contains("\"two\""), "{}", asked[3].body);

    // It does not come back in time.
    let server = Server::serving(|asked, before| turns(asked, before, end("completed")), 2);
    let ended = server.typed(&["chat", "--timeout", "1s"], "one\ntwo\n", false).await;
    assert_eq!(ended.exit, CommandExit::Unreachable, "{ended:?}");
    let session = "ses_0199c0de000000000000000000000000";
    let told = format!(
        "; the line was not sent\nhint: start the server with `dromia up`, then continue with `dromia chat --session {session}`\n"
    );
    assert!(ended.err.ends_with(&told), "{ended:?}");
    assert_eq!(ended.err.matches("waiting for it to come back\n").count(), 1, "{ended:?}");

    // Where no conversation has begun, nothing is waited for.
    let ended = Server::absent().typed(&["chat"], "one\n", false).await;
    assert_eq!(ended.exit, CommandExit::Unreachable, "{ended:?}");
    assert!(!ended.err.contains("waiting"), "{ended:?}");
}

fn output(offset: u64, bytes: u64, text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(
        "event: output\ndata: {{\"call\":\"call_1_0\",\"offset\":{offset},\"bytes\":{bytes},\"text\":{text}}}\n\n"
    )
}

fn said(seq: u64, kind: &str, fields: &str, text: &str) -> String {
    let body = serde_json::json!({"parts": [{"type": "text", "text": text, "label": "untrusted/agent"}]});
    let entry = entry(seq).replace("tool_started", kind).replace("null", &body.to_string());
    entry.replace("\"fields\":{}", &format!("\"fields\":{fields}"))
}

/// A run whose program speaks while it runs; some of that is left out on the way.
fn speaking(asked: &Asked, _: usize) -> (u16, String) {
    let id = "0199c0de000000000000000000000000";
    match asked.line.as_str() {
        "POST /v1/events" => {
            assert!(!asked.body.contains("\"wait\":true"), "{}", asked.body);
            let ids = format!(r#""item":"itm_{id}","session":"ses_{id}","run":"{RUN}""#);
            (202, format!(r#"{{{ids},"position":1,"replayed":false}}"#))
        }
        line if line.ends_with("/journal") => {
            let pieces = [(0, 4, "one\n"), (4, 1, "t"), (5, 3, "wo\r"), (13, 4, "\u{1b}[2J")];
            let pieces: String = pieces.map(|(offset, bytes, text)| output(offset, bytes, text)).concat();
            let call = r#"{"call":"call_1_0","status":"ok"}"#;
            let ended = said(2, "tool_finished", call, "[exit code 0; walls; ran 1.0 s of 60 s]\nmore");
            let reply = said(3, "model_replied", "{}", "forty-two");
            (200, [entry(1), pieces, ended, reply, end("completed")].concat())
        }
        _ => (
            200,
            format!(
                r#"{{"id":"{RUN}","kind":"turn","agent":"agt_{id}","session":"ses_{id}","status":"completed",
                "started_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:05Z","wake_at":null,"last_seq":3,
                "epoch":1,"model_calls":1,"usage":{{"input_tokens":1,"output_tokens":2}},"cost_micros":3}}"#
            ),
        ),
    }
}

/// What is shown of it where nobody looks on.
const SPOKEN: &str = "  | one\n  | two\n  | [5 bytes not shown]\n  | \u{fffd}[2J\n  | [exit code 0; walls; \
                      ran 1.0 s of 60 s]\n";

#[tokio::test]
async fn program_output_is_shown_and_dimmed_only_on_a_terminal() {
    let watched = Server::new(speaking).run(&["run", "watch", RUN]).await;
    assert_eq!(watched.err, format!("{SPOKEN}{RUN} is completed\n"));
    assert_eq!(watched.out.lines().count(), 5, "{}", watched.out);
    assert!(watched.out.ends_with("call_1_0: ok\n   3  2026-01-02 03:04:05Z  model_replied   ; 0 tokens in, 0 out, cost 0.000000\n\nforty-two\n"), "{}", watched.out);
    let talked = Server::new(speaking).typed(&["chat"], "what?\n/quit\n", false).await;
    assert!(talked.err.starts_with(SPOKEN), "{}", talked.err);
    assert_eq!(talked.out, "forty-two\n");
    for line in [vec!["run", "watch", RUN], vec!["ask", "what?"]] {
        let shown = Server::new(speaking).typed(&line, "", true).await;
        assert!(shown.err.contains("\u{1b}[2m  | one\u{1b}[0m\n"), "{line:?}: {:?}", shown.err);
        assert!(!shown.err.contains("\u{1b}[2J"), "{line:?}: {:?}", shown.err);
    }
    let asked = Server::new(speaking).typed(&["ask", "what?", "--color", "never"], "", true).await;
    assert_eq!((asked.exit, asked.out.as_str()), (CommandExit::Done, "forty-two\n"));
    let summary = asked.err.strip_prefix(SPOKEN).unwrap_or_else(|| panic!("{}", asked.err));
    // Where the locale is not known to be UTF-8, the line has no symbol.
    assert!(
        summary.starts_with("3 tokens, $0.000003, ") && summary.ends_with(" ask -c \"...\")\n"),
        "{summary}"
    );
    assert_eq!(summary.lines().count(), 1, "{summary}");
}

#[tokio::test]
async fn programs_get_entries_and_no_live_output() {
    for line in [vec!["run", "watch", RUN, "--jsonl"], vec!["run", "watch", RUN, "--json"]] {
        let ended = Server::new(speaking).run(&line).await;
        assert!(!ended.err.contains(" | ") && !ended.out.contains("\"offset\""), "{line:?}: {ended:?}");
    }
}
