//! Calls that a person must allow, through the real binary: asked for, approved, refused and left waiting.
//!
//! Around each of it the server is killed in `crashes`.

mod crashes;
mod delayed;
mod rules;
mod together;
mod undone;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::{DEADLINE, Home, Server, append, block_on, count, stderr};
use crate::keys::set;

/// A home where appending to a file must be approved.
fn home(approvals: &str) -> Home {
    let home = Home::new();
    let file = format!("permissions: {{ ask: [file.append] }}\napprovals: {{ {approvals} }}\n");
    append(&home.path().join("dromia.yaml"), &file);
    home
}

pub(crate) fn document(home: &Home, line: &[&str]) -> Value {
    let output = home.run(&[line, &["--json"]].concat());
    assert!(output.status.success(), "{line:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("a document")
}

fn agent(home: &Home, name: &str) {
    let grants = ["--grant", "model", "--grant", "reply", "--grant", "file.*"];
    document(home, &[&["agent", "create", name][..], &grants].concat());
}

/// What the model is told to do: append a line to a file.
fn task(line: &str) -> String {
    format!("@tool file.append {}", json!({"path": "log", "content": format!("{line}\n")}))
}

/// Gives an agent a task that appends a line, and waits until somebody is asked. Returns the task's session and the
/// approval.
fn asked(home: &Home, line: &str) -> (String, Value) {
    let spawned = document(home, &["agent", "spawn", "clerk", "--task", &task(line)]);
    let session = spawned["session"].as_str().expect("a session").to_owned();
    let mine = |approval: &Value| approval["session"] == session.as_str();
    (session.clone(), until(home, mine))
}

/// Waits until an approval is as wanted.
pub(crate) fn until(home: &Home, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + DEADLINE;
    loop {
        let list = document(home, &["approval", "list", "--all", "--limit", "256"]);
        let items = list["items"].as_array().expect("rows");
        if let Some(found) = items.iter().find(|approval| wanted(approval)) {
            return found.clone();
        }
        assert!(Instant::now() < end, "no approval comes to it: {list}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn id(approval: &Value) -> &str {
    approval["id"].as_str().expect("an id")
}

pub(crate) fn is(approval: &Value, state: &str) -> impl Fn(&Value) -> bool + use<> {
    let (id, state) = (approval["id"].clone(), state.to_owned());
    move |found| found["id"] == id && found["state"] == state.as_str()
}

/// How often a line stands in the file, in whichever workspace that is.
fn lines(home: &Home, line: &str) -> usize {
    let agents = std::fs::read_dir(home.path().join("agents")).into_iter().flatten();
    let logs = agents.filter_map(Result::ok).map(|agent| agent.path().join("workspace").join("log"));
    let texts: Vec<String> = logs.filter_map(|log: PathBuf| std::fs::read_to_string(log).ok()).collect();
    texts.iter().flat_map(|text| text.lines()).filter(|found| *found == line).count()
}

/// The entries of a run.
async fn journal(server: &Server, run: &str) -> Vec<Value> {
    let (_, page) = server.get(&format!("/v1/runs/{run}/journal?limit=256")).await;
    page["entries"].as_array().cloned().unwrap_or_default()
}

/// Waits until a run has ended and returns its entries.
pub(crate) async fn ended(server: &Server, run: &str) -> Vec<Value> {
    let end = Instant::now() + DEADLINE;
    loop {
        let entries = journal(server, run).await;
        let last = entries.last().and_then(|entry| entry["kind"].as_str()).unwrap_or_default();
        if ["run_completed", "run_failed", "run_cancelled", "run_yielded"].contains(&last) {
            return entries;
        }
        assert!(Instant::now() < end, "the run does not end: {entries:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Says what is wrong with how an approved call ended: once, or unknown and at most once.
fn judged(starts: usize, times: usize, is_unknown: bool) -> Result<(), String> {
    match (starts, times, is_unknown) {
        (1, 1, false) | (1, 0 | 1, true) => Ok(()),
        _ => Err(format!(
            "it began {starts} times, its line stands there {times} times, unknown: {is_unknown}"
        )),
    }
}

/// Looks at the run in which an approved call began.
fn look(home: &Home, server: &Server, approval: &Value, line: &str) -> Result<bool, String> {
    let used = until(home, is(approval, "used"));
    let run = used["used_by"].as_str().expect("a run").to_owned();
    let entries = block_on(ended(server, &run));
    let of_call = |entry: &&Value| entry["fields"]["approval"] == approval["id"];
    let starts = entries.iter().filter(|entry| entry["kind"] == "tool_started").filter(of_call).count();
    let is_unknown =
        |entry: &Value| entry["kind"] == "tool_finished" && entry["fields"]["status"] == "unknown";
    let unknown = entries.iter().any(is_unknown);
    judged(starts, lines(home, line), unknown).map(|()| unknown)
}

#[test]
fn an_approved_call_runs_in_the_session_that_asked() {
    let home = home("hold_ms: 60000");
    let server = home.serve();
    agent(&home, "clerk");
    let (session, approval) = asked(&home, "first");
    assert_eq!(
        (approval["tool"].as_str(), approval["state"].as_str()),
        (Some("file.append"), Some("holding"))
    );
    assert!(approval["arguments"].as_str().is_some_and(|text| text.contains("first\\n")), "{approval}");
    let card = home.run(&["approval", "show", id(&approval)]);
    let card = String::from_utf8_lossy(&card.stdout).into_owned();
    assert!(
        card.contains("file.append")
            && card.contains("first\\u{a}")
            && card.contains("  [said trusted/actor]  ")
            && card.contains("\n      found in: "),
        "{card}"
    );
    assert_eq!(lines(&home, "first"), 0);
    // While the run rests, whoever looks at it, or asks what was decided, is told what it waits for.
    let (run, call) = (approval["run"].as_str().expect("a run"), approval["call"].as_str().expect("a call"));
    let shown = home.run(&["run", "show", run]);
    let waits = format!("waits for {} (holding)", id(&approval));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(&waits) && shown.contains("tool file.append"), "{shown}");
    let why = document(&home, &["run", "why", run]);
    let waits = why["waits_for"].as_str().expect("a text");
    let (first, then) = ("; the run continues without the call at ", "; an answer is valid until ");
    assert!(waits.contains(first) && waits.contains(then), "{why}");
    let explained = home.run(&["policy", "explain", run, call]);
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(
        explained.contains("waits for a person")
            && explained.contains(&format!("{} (holding)", id(&approval))),
        "{explained}"
    );
    let answered = document(&home, &["approval", "approve", id(&approval)]);
    assert_eq!(answered["state"], "approved", "{answered}");
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        assert_eq!((count(&entries, "run_parked"), count(&entries, "tool_started")), (1, 1));
    });
    assert_eq!(lines(&home, "first"), 1);
    let again = document(&home, &["approval", "approve", id(&approval)]);
    assert_eq!(again["answered_at"], answered["answered_at"], "the same answer changes nothing: {again}");
    for other in [&["deny"][..], &["approve", "--session"], &["approve", "--always", "file.append path=log"]]
    {
        let (verb, rest) = other.split_first().expect("a command");
        let late = home.run(&[&["approval", *verb, id(&approval)][..], rest].concat());
        assert_eq!(late.status.code(), Some(6), "{other:?}: {}", stderr(&late));
        assert!(stderr(&late).contains("(once)"), "what stands is said: {}", stderr(&late));
    }
    assert_eq!(document(&home, &["approval", "rule", "list"])["items"], json!([]));

    let (session, refused) = asked(&home, "second");
    document(&home, &["approval", "deny", id(&refused), "--reason", "not on a Friday"]);
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        let told = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("it is refused");
        assert!(told.to_string().contains("not on a Friday"), "{told}");
    });
    assert_eq!(lines(&home, "second"), 0);
}

/// What stands around an argument may hold a value that somebody typed; whoever may answer is not told it.
#[test]
fn an_approval_card_quotes_no_secret_and_no_hidden_character() {
    const VALUE: &str = "canary-4711-of-a-card";
    let home = home("hold_ms: 60000");
    let _server = home.serve();
    agent(&home, "clerk");
    set(&home, "deploy", "api.example.com", "bearer", VALUE);
    let text = format!("{VALUE}\u{202e}\n{}", task("fifth"));
    let spawned = document(&home, &["agent", "spawn", "clerk", "--task", &text]);
    let approval = until(&home, |approval| approval["session"] == spawned["session"]);
    let shown = document(&home, &["approval", "show", id(&approval)]);
    let card = home.run(&["approval", "show", id(&approval)]);
    let card = String::from_utf8_lossy(&card.stdout).into_owned();
    for told in [shown["origins"].to_string(), card.clone()] {
        assert!(told.contains(&"*".repeat(VALUE.len())), "it is quoted, with stars: {told}");
        assert!(!told.contains("canary-4711") && !told.contains("of-a-card"), "{told}");
    }
    assert!(card.contains("\\u{202e}\\u{a}@tool") && !card.contains('\u{202e}'), "{card}");
}

#[test]
fn a_late_approval_runs_its_call_and_informs_the_session() {
    let home = home("hold_ms: 300");
    let server = home.serve();
    agent(&home, "clerk");
    let (session, approval) = asked(&home, "late");
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        let told = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("it waits");
        assert_eq!(told["fields"]["status"], "awaiting", "{told}");
    });
    until(&home, is(&approval, "waiting"));
    document(&home, &["approval", "approve", id(&approval)]);
    assert_eq!(look(&home, &server, &approval, "late"), Ok(false));
    let worker = until(&home, is(&approval, "used"))["used_by"].as_str().expect("a run").to_owned();
    block_on(async {
        let started = journal(&server, &worker).await.swap_remove(0);
        assert_eq!(started["fields"]["kind"], "approved_call", "{started}");
        assert_eq!(started["fields"]["approved"]["run"], approval["run"], "it names the run that asked");
        // A turn of the session that asked takes the news.
        let newest = server.journal_until(&session, |entries| {
            entries.iter().any(|entry| entry["fields"]["after"] == 1) && count(entries, "run_completed") == 1
        });
        newest.await;
    });
}

#[test]
fn a_call_that_ran_twice_or_never_is_caught() {
    assert!(judged(1, 1, false).is_ok() && judged(1, 0, true).is_ok() && judged(1, 1, true).is_ok());
    for (starts, times, is_unknown) in
        [(2, 1, false), (1, 2, false), (1, 2, true), (1, 0, false), (0, 0, false)]
    {
        assert!(judged(starts, times, is_unknown).is_err(), "{starts} {times} {is_unknown}");
    }
}
