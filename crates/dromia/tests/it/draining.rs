//! SIGTERM while turns are at their model: those in flight end before the process does, whoever waits gets its answer, and what
//! was accepted behind them is there for the next start. The store is read after the end and before that start, so that no
//! takeover can mend what the drain let go.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{PageRequest, Store as _};
use dromia_contracts::{Actor, RunId, ScopeAuthority, SessionId};
use dromia_store::{SqliteStore, StoreConfig};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::home::{DEADLINE, Home, Server, block_on, count, stderr};
use crate::model::{Model, Say};

/// Turns in flight, each in a session of its own, with another input in line behind it.
const TURNS: usize = 6;

/// A model that answers nobody until it is told to.
#[derive(Clone, Default)]
struct Held {
    asked: Arc<AtomicUsize>,
    is_released: Arc<AtomicBool>,
}

impl Held {
    fn start(&self) -> Model {
        let held = self.clone();
        Model::start(move |_, messages| {
            held.asked.fetch_add(1, Ordering::SeqCst);
            while !held.is_released.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let text = messages.last().map(|message| message["content"].to_string()).unwrap_or_default();
            let after = text.split("number-").nth(1).unwrap_or_default();
            Say::Text(heard(&after.chars().take_while(char::is_ascii_digit).collect::<String>()))
        })
    }
}

/// What the model says to the input of a number.
fn heard(number: &str) -> String {
    format!("I heard {number}.")
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "{what} never comes");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A home whose agent has that model, and whose server waits so long for its turns.
fn home(model: &Model, drain_ms: u32) -> (Home, Server) {
    let home = Home::new();
    let alias = model.alias("held");
    let config = format!(
        "version: 1\nmodels:\n  default: {{ kind: scripted }}\n{alias}limits: {{ drain_ms: {drain_ms} }}\n"
    );
    std::fs::write(home.path().join("dromia.yaml"), config).expect("the configuration can be written");
    let server = home.serve();
    let grants = ["--grant", "model", "--grant", "reply"];
    let made = home.run(&[&["agent", "create", "held", "--model", "held"][..], &grants].concat());
    assert!(made.status.success(), "{}", stderr(&made));
    (home, server)
}

fn event(number: usize, channel: usize, wait: bool) -> Value {
    let (text, channel) = (format!("number-{number}"), format!("c{channel}"));
    json!({
        "text": text, "agent": "held", "platform": "drain", "channel": channel, "wait": wait, "wait_ms": 60_000
    })
}

/// What is in flight.
struct Flight {
    /// The callers that wait for the turns; each ends with its number, its status and its answer.
    callers: JoinSet<(usize, u16, Value)>,
    /// The runs of the turns.
    runs: Vec<String>,
    /// What was accepted behind them: the session and the item.
    behind: Vec<(String, String)>,
}

impl Flight {
    /// Sends everything, and waits until the model was asked by every turn.
    async fn begin(server: &Server, held: &Held) -> Self {
        let mut callers = JoinSet::new();
        for number in 0..TURNS {
            let request = reqwest::Client::new()
                .post(format!("{}/v1/events", server.url))
                .bearer_auth(&server.token)
                .timeout(DEADLINE)
                .json(&event(number, number, true));
            callers.spawn(async move {
                let response = request.send().await.expect("a caller that waits is answered");
                let status = response.status().as_u16();
                (number, status, response.json().await.expect("a document"))
            });
        }
        until("the last turn", || held.asked.load(Ordering::SeqCst) == TURNS).await;
        let (mut runs, mut behind) = (Vec::new(), Vec::new());
        for number in 0..TURNS {
            let (status, accepted) = server.event(&event(100 + number, number, false)).await;
            assert_eq!((status, &accepted["run"]), (202, &Value::Null), "its session has a turn: {accepted}");
            let text = |name: &str| accepted[name].as_str().expect("an id").to_owned();
            let (session, item) = (text("session"), text("item"));
            let (_, page) = server.get(&format!("/v1/runs?session={session}")).await;
            assert_eq!(page["items"][0]["status"], "running", "{page}");
            runs.push(page["items"][0]["id"].as_str().expect("an id").to_owned());
            behind.push((session, item));
        }
        Self { callers, runs, behind }
    }
}

/// Says what is wrong with what a server left that has ended: its turns have ended too, and of what was behind them nothing
/// has begun and nothing is lost.
fn left(home: &Home, runs: &[String], behind: &[(String, String)]) -> Result<(), String> {
    let store = SqliteStore::open(StoreConfig::new(home.path().join("store"))).expect("the store opens");
    let authority = ScopeAuthority::claim();
    let tenants =
        block_on(store.tenants(&authority.issue_operator(), PageRequest::first_page(1))).expect("it is read");
    let scope = authority.issue_scope(tenants[0].id, Actor::new("test"));
    for run in runs {
        let id: RunId = run.parse().expect("an id");
        let row = block_on(store.run(&scope, id)).expect("it is read").expect("it is there");
        if row.head.status != RunStatus::Completed {
            return Err(format!("{id} was {} when its server had ended", row.head.status.as_str()));
        }
    }
    for (session, item) in behind {
        let id: SessionId = session.parse().expect("an id");
        let inbox = block_on(store.inbox_items(&scope, InboxOwner::Session(id), 0, 9)).expect("it is read");
        let waits = inbox.last().is_some_and(|last| last.id.to_string() == *item && last.taken_by.is_none());
        if inbox.len() != 2 || !waits {
            return Err(format!("{item} does not wait in {session}: {inbox:?}"));
        }
    }
    Ok(())
}

#[test]
fn sigterm_under_load_finishes_open_turns_and_loses_nothing() {
    let held = Held::default();
    let model = held.start();
    // As long as any wait of a test; it ends as soon as the turns do.
    let (home, server) = home(&model, 60_000);
    let socket = home.path().join("run").join("dromia.sock");
    let (flight, answers) = block_on(async {
        let mut flight = Flight::begin(&server, &held).await;
        assert!(socket.exists(), "it serves");
        server.tell_to_end();
        until("the drain", || !socket.exists()).await;
        // Only now: every turn was at its model when the server was told to end.
        held.is_released.store(true, Ordering::SeqCst);
        let mut answers = Vec::new();
        while let Some(answer) = flight.callers.join_next().await {
            answers.push(answer.expect("every caller is answered"));
        }
        (flight, answers)
    });
    server.ended();
    assert_eq!(left(&home, &flight.runs, &flight.behind), Ok(()));

    let server = home.serve();
    block_on(async {
        assert_eq!(answers.len(), TURNS);
        for (number, status, answer) in &answers {
            let reply = heard(&number.to_string());
            assert_eq!((*status, &answer["status"]), (200, &json!("completed")), "{answer}");
            assert_eq!((&answer["run"], &answer["reply"]), (&json!(flight.runs[*number]), &json!(reply)));
            let (_, page) = server.get(&format!("/v1/runs/{}/journal", flight.runs[*number])).await;
            let entries = page["entries"].as_array().expect("entries");
            let replied = entries.iter().find(|entry| entry["kind"] == "model_replied").expect("it replied");
            assert_eq!(replied["body"]["parts"][0]["text"], reply, "what was told is what is written");
        }
        for (session, item) in &flight.behind {
            let took = |entries: &[Value]| {
                let items = entries.first().and_then(|first| first["fields"]["items"].as_array());
                items.is_some_and(|items| items.contains(&json!(item)))
            };
            server
                .journal_until(session, |entries| took(entries) && count(entries, "run_completed") == 1)
                .await;
        }
    });
}

/// Tells how many streams a server has open.
async fn streams_open(server: &Server) -> String {
    let asked = reqwest::Client::new().get(format!("{}/metrics", server.url)).bearer_auth(&server.token);
    let text = asked.send().await.expect("an answer").text().await.expect("a text");
    let open = text.lines().find_map(|line| line.strip_prefix("dromia_http_streams_open "));
    open.expect("it is counted").to_owned()
}

#[test]
fn ask_ends_with_its_answer_though_the_server_stops_meanwhile() {
    let held = Held::default();
    let model = held.start();
    let (home, server) = home(&model, 60_000);
    let socket = home.path().join("run").join("dromia.sock");
    let usage = home.path().join("usage.json");
    let usage = usage.to_str().expect("a path");
    let lines = [
        &["ask", "number-1", "--agent", "held", "--usage-file", usage][..],
        &["ask", "number-2", "--agent", "held", "--jsonl"],
    ];
    let ask = |line: &[&str]| {
        let mut command = home.command();
        command.args(line).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("it starts")
    };
    let asked = lines.map(ask);
    block_on(async {
        until("the last turn", || held.asked.load(Ordering::SeqCst) == lines.len()).await;
        // The one without lines follows its run, too, once its request has waited for a moment.
        let end = Instant::now() + DEADLINE;
        while streams_open(&server).await != "2" {
            assert!(Instant::now() < end, "nobody follows the runs");
        }
        server.tell_to_end();
        until("the drain", || !socket.exists()).await;
        held.is_released.store(true, Ordering::SeqCst);
    });
    for (number, child) in (1..).zip(asked) {
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&heard(&i32::to_string(&number))), "{text}");
    }
    server.ended();
    let used: Value = serde_json::from_slice(&std::fs::read(usage).expect("it is written")).expect("JSON");
    assert_eq!(
        (&used["status"], &used["usage"]["output_tokens"]),
        (&json!("completed"), &json!(5)),
        "{used}"
    );
}

#[test]
fn a_stop_that_waits_for_no_turn_is_caught() {
    let held = Held::default();
    let model = held.start();
    let (home, server) = home(&model, 1);
    let flight = block_on(async {
        let flight = Flight::begin(&server, &held).await;
        server.terminate();
        flight.runs
    });
    let found = left(&home, &flight, &[]).expect_err("the turns are let go");
    assert!(found.contains("was running when its server had ended"), "{found}");
}
