//! Ids as people type them: what is asked of the server for each form, and that an id which fits two things names neither.

use dromia_cli::CommandExit;
use serde_json::{Value, json};

use crate::server::{Asked, Server};

const AT: &str = "2026-01-02T03:04:05Z";
const FIRST: &str = "run_0199c0de0000700080000000cafe0001";
const SECOND: &str = "run_0199c0de0000700080000000cafe0002";

fn run(id: &str) -> Value {
    let ending = format!("{}0", &id[4..35]);
    json!({
        "id": id, "kind": "turn", "agent": format!("agt_{ending}"), "session": format!("ses_{ending}"),
        "status": "completed", "started_at": AT, "updated_at": AT, "wake_at": null, "last_seq": 4, "epoch": 1,
        "model_calls": 1, "usage": {"input_tokens": 1, "output_tokens": 1}, "cost_micros": 3,
        "question": "what is due today?",
    })
}

fn matches(ids: &[&str], more: bool) -> String {
    let found = ids.iter().map(|id| json!({"id": id, "at": AT, "text": "what is due today?"}));
    json!({"kind": "run", "matches": found.collect::<Vec<_>>(), "more": more}).to_string()
}

fn served(asked: &Asked, _: usize) -> (u16, String) {
    let path = asked.line.split(' ').nth(1).unwrap();
    let why = json!({
        "status": "completed", "waits_for": "its model gave the answer", "since": AT, "unblocked_by": "no action",
        "command": null,
    });
    (
        200,
        match path {
            "/v1/ids/cafe0001?kind=run" => matches(&[FIRST], false),
            "/v1/ids/cafe?kind=run" | "/v1/ids/0199?kind=run" => matches(&[SECOND, FIRST], false),
            "/v1/ids/0198?kind=run" => matches(&[FIRST], true),
            path if path.ends_with("/why") => why.to_string(),
            path if path.starts_with("/v1/runs?") => {
                json!({"items": [run(SECOND), run(FIRST)], "next": null}).to_string()
            }
            _ => run(FIRST).to_string(),
        },
    )
}

/// The requests of a command, as paths.
async fn asked(line: &[&str]) -> Vec<String> {
    let server = Server::new(served);
    let ended = server.run(line).await;
    assert_eq!(ended.exit, CommandExit::Done, "{line:?}: {}", ended.err);
    server.lines().iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn each_form_of_an_id_costs_at_most_one_request() {
    let why = |id: &str| format!("/v1/runs/{id}/why");
    for typed in [FIRST, &FIRST[4..]] {
        assert_eq!(asked(&["run", "why", typed]).await, [why(FIRST)], "a whole id is taken at its word");
    }
    for typed in ["cafe0001", "run_cafe0001", "CAFE0001"] {
        let found = "/v1/ids/cafe0001?kind=run".to_owned();
        assert_eq!(asked(&["run", "why", typed]).await, [found, why(FIRST)], "{typed}");
    }
    for (line, listing, id) in [
        (&["run", "why"][..], "/v1/runs?limit=17", SECOND),
        (&["run", "why", "@last"], "/v1/runs?limit=17", SECOND),
        (&["run", "why", "@last~1"], "/v1/runs?limit=18", FIRST),
        (&["run", "why", "--agent", "ops"], "/v1/runs?limit=17&agent=ops", SECOND),
    ] {
        assert_eq!(asked(line).await, [listing.to_owned(), why(id)], "{line:?}");
    }
}

#[tokio::test]
async fn digits_of_two_ids_name_neither_of_them() {
    for (typed, count) in [("cafe", "2 runs"), ("0199", "2 runs"), ("0198", "more than 1 runs")] {
        for verb in ["cancel", "terminate", "why"] {
            let server = Server::new(served);
            let ended = server.run(&["run", verb, typed]).await;
            assert_eq!(ended.exit, CommandExit::Usage, "{verb} {typed}: {}", ended.out);
            assert!(ended.out.is_empty(), "{}", ended.out);
            for part in [FIRST, AT_SHOWN, "what is due today?", count] {
                assert!(ended.err.contains(part), "{part:?} is missing in {}", ended.err);
            }
            let done: Vec<_> =
                server.lines().iter().filter(|line| line.contains("/v1/runs/")).cloned().collect();
            assert!(done.is_empty(), "{verb} {typed} did {done:?}");
        }
    }
}

const AT_SHOWN: &str = "2026-01-02 03:04:05Z";

#[tokio::test]
async fn each_output_form_has_the_ids_whole_but_a_terminal() {
    let server = Server::new(served);
    for form in ["wide", "json", "jsonl", "yaml", "name"] {
        let ended = server.shown(&["run", "list", "-o", form], 80).await;
        assert!(ended.out.contains(FIRST) && ended.out.contains(SECOND), "{form}: {}", ended.out);
    }
    let names = server.run(&["run", "list", "-o", "name"]).await;
    assert_eq!(names.out, format!("{SECOND}\n{FIRST}\n"));
    let piped = server.run(&["run", "list"]).await;
    assert!(piped.out.contains(FIRST) && piped.out.contains(AT_SHOWN), "{}", piped.out);
    let shown = server.shown(&["run", "list"], 80).await;
    assert!(shown.out.contains("cafe0001") && !shown.out.contains(FIRST), "{}", shown.out);
    assert!(shown.out.contains("3 min ago") && shown.out.contains("what is due today?"), "{}", shown.out);
}
