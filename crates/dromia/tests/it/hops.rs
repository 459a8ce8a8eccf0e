//! Agents that answer one another by messages: the chain ends at its bound, across a kill too, and whoever speaks
//! from outside begins a new one.
//!
//! `a_chain_that_nothing_bounds_is_caught` plants the fault: with the bound out of reach the same two agents go on
//! past every count that the other tests allow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::{DEADLINE, Home, Server, block_on, count};
use crate::model::{Model, Say, is_asked};
use crate::reloads::{read, until, write};

/// Two agents with a session each; asked anything, each sends a message to the other's session.
struct Pair {
    home: Home,
    targets: Arc<Mutex<HashMap<String, String>>>,
}

/// Has messages put off, and runs not wait for them.
const DELAYED: &str =
    "permissions: { delay: [message.send] }\nirreversible: { cooling_ms: 300 }\napprovals: { hold_ms: 0 }\n";

impl Pair {
    fn new(hops_max: u32) -> Self {
        Self::with(hops_max, "")
    }

    fn with(hops_max: u32, more: &str) -> Self {
        let home = Home::new();
        let targets = Arc::<Mutex<HashMap<String, String>>>::default();
        let known = Arc::clone(&targets);
        let model = Model::start(move |model, messages| {
            let known = known.lock().expect("no test panics while it holds this");
            match known.get(model) {
                Some(session) if is_asked(messages) => {
                    let arguments = json!({"session": session, "text": "your turn"});
                    Say::Call("message__send", arguments.to_string())
                }
                _ => Say::Text("done".to_owned()),
            }
        });
        let models = model.alias("ping") + &model.alias("pong");
        let config = format!(
            "version: 1\nmodels:\n  default: {{ kind: scripted }}\n{models}tools: {{ message_hops_max: {hops_max} }}\n{more}"
        );
        std::fs::write(home.path().join("dromia.yaml"), config).expect("the configuration can be written");
        Self { home, targets }
    }

    /// Registers the agents, opens their sessions, and lets them know each other from then on.
    async fn meet(&self, server: &Server) -> [String; 2] {
        let mut sessions = Vec::new();
        for name in ["ping", "pong"] {
            let grants = ["--grant", "model", "--grant", "reply", "--grant", "message.send"];
            let line = [&["agent", "create", name, "--model", name][..], &grants[..]].concat();
            let made = self.home.run(&line);
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let (_, answer) =
                server.event(&json!({"text": "hello", "agent": name, "channel": name, "wait": true})).await;
            assert_eq!(answer["reply"], "done", "{answer}");
            sessions.push(answer["session"].as_str().expect("a session").to_owned());
        }
        let mut targets = self.targets.lock().expect("nobody panics while it holds this");
        targets.insert("ping".to_owned(), sessions[1].clone());
        targets.insert("pong".to_owned(), sessions[0].clone());
        sessions.try_into().expect("two sessions")
    }
}

async fn runs(server: &Server, session: &str) -> Vec<Value> {
    let (_, page) = server.get(&format!("/v1/runs?session={session}&limit=256")).await;
    page["items"].as_array().cloned().unwrap_or_default()
}

/// Waits until both sessions together have had so many runs, all of them completed.
async fn completed(server: &Server, sessions: &[String; 2], wanted: usize) -> [usize; 2] {
    let until = Instant::now() + DEADLINE;
    loop {
        let both = [runs(server, &sessions[0]).await, runs(server, &sessions[1]).await];
        let ended = both.iter().flatten().filter(|run| run["status"] == "completed").count();
        if ended >= wanted {
            return both.map(|runs| runs.len());
        }
        assert!(Instant::now() < until, "{ended} of {wanted} runs completed: {both:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until nothing goes on and nothing will by itself: every call that was put off has begun, every run has ended and
/// every input is taken, in two looks that find the same.
async fn quiet(server: &Server, sessions: &[String; 2]) {
    let until = Instant::now() + DEADLINE;
    let mut before = None;
    loop {
        let (_, asked) = server.get("/v1/approvals?limit=256").await;
        let (_, runs) = server.get("/v1/runs?limit=256").await;
        let all = |page: &Value, holds: fn(&Value) -> bool| {
            page["items"].as_array().is_some_and(|all| all.iter().all(holds))
        };
        let mut rests = all(&asked, |approval| approval["state"] == "used")
            && all(&runs, |run| !matches!(run["status"].as_str(), Some("running" | "parked" | "held")));
        for session in sessions {
            let (_, session) = server.get(&format!("/v1/sessions/{session}")).await;
            rests &= session["waiting"] == 0 && session["active"].is_null();
        }
        let found = rests.then_some((asked, runs));
        if found.is_some() && found == before {
            return;
        }
        before = found;
        assert!(Instant::now() < until, "it does not come to rest");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Tells whether some call of a session was refused by a rule.
async fn is_refused(server: &Server, session: &str, rule: &str) -> bool {
    for run in runs(server, session).await {
        let id = run["id"].as_str().expect("an id");
        let (_, page) = server.get(&format!("/v1/runs/{id}/journal?limit=256")).await;
        let entries = page["entries"].as_array().cloned().unwrap_or_default();
        if entries.iter().any(|entry| entry["kind"] == "tool_refused" && entry["fields"]["rule"] == rule) {
            return true;
        }
    }
    false
}

/// The newest run's one tool result, as its status and text.
async fn last_result(server: &Server, session: &str) -> (String, String) {
    let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
    let finished = entries.iter().find(|entry| entry["kind"] == "tool_finished").expect("one call ended");
    let text = finished["body"]["parts"][0]["text"].as_str().expect("a text");
    (finished["fields"]["status"].as_str().expect("a status").to_owned(), text.to_owned())
}

#[test]
fn two_agents_messaging_each_other_stop_at_the_hop_bound() {
    let pair = Pair::new(5);
    let server = pair.home.serve();
    let sessions = block_on(async {
        let sessions = pair.meet(&server).await;
        let (status, _) = server.event(&json!({"text": "go", "session": sessions[0]})).await;
        assert_eq!(status, 202);
        // 2 hellos, the input from outside and 5 messages; the sixth is refused.
        assert_eq!(completed(&server, &sessions, 8).await, [4, 4]);
        let (status, text) = last_result(&server, &sessions[1]).await;
        assert_eq!(status, "error");
        assert!(text.contains("at most 5 may") && text.contains("in your answer"), "{text}");
        sessions
    });
    // A new word from outside begins a new chain, and a kill in the middle of it forgets no hop.
    block_on(async {
        let (status, _) = server.event(&json!({"text": "again", "session": sessions[0]})).await;
        assert_eq!(status, 202);
        completed(&server, &sessions, 10).await;
    });
    server.kill();
    let server = pair.home.serve();
    block_on(async {
        assert_eq!(completed(&server, &sessions, 14).await, [7, 7]);
        let (_, told) = server.get("/v1/status").await;
        assert_eq!(told["load"]["ready"], 0, "{told}");
        for session in &sessions {
            let (_, session) = server.get(&format!("/v1/sessions/{session}")).await;
            assert_eq!((&session["waiting"], &session["active"]), (&json!(0), &Value::Null));
        }
    });
}

#[test]
fn an_edited_hop_bound_counts_without_a_restart() {
    let pair = Pair::new(1);
    let server = pair.home.serve();
    block_on(async {
        let sessions = pair.meet(&server).await;
        write(&pair.home, &read(&pair.home).replace("message_hops_max: 1 ", "message_hops_max: 3 "));
        until(&server, |found| found["revision"] == 2).await;
        let (status, _) = server.event(&json!({"text": "go", "session": sessions[0]})).await;
        assert_eq!(status, 202);
        // 2 hellos, the input from outside and 3 messages.
        assert_eq!(completed(&server, &sessions, 6).await, [3, 3]);
    });
}

#[test]
fn two_agents_with_delayed_messages_stop_at_the_hop_bound() {
    let pair = Pair::with(3, DELAYED);
    let server = pair.home.serve();
    block_on(async {
        let sessions = pair.meet(&server).await;
        let (status, _) = server.event(&json!({"text": "go", "session": sessions[0]})).await;
        assert_eq!(status, 202);
        quiet(&server, &sessions).await;
        // 2 hellos. A delayed message counts one hop when it begins by itself and one when it is taken, and its sender, who is
        // told of its end, has the first of them: that makes 7 turns. One that is allowed before its run let go of it is sent
        // by that run, as any message is; if all are, that makes 4.
        let [ping, pong] = completed(&server, &sessions, 6).await;
        assert!((6..=9).contains(&(ping + pong)), "{ping} and {pong}");
        let mut stopped = false;
        for session in &sessions {
            stopped |= is_refused(&server, session, "delay-hops").await;
        }
        assert!(stopped, "what stopped them was the bound");
    });
}

#[test]
fn a_chain_that_nothing_bounds_is_caught() {
    for more in ["", DELAYED] {
        unbounded(more);
    }
}

/// Lets two agents go on for longer than any bound of these tests lets them.
fn unbounded(more: &str) {
    let pair = Pair::with(u32::MAX, more);
    let server = pair.home.serve();
    block_on(async {
        let sessions = pair.meet(&server).await;
        server.event(&json!({"text": "go", "session": sessions[0]})).await;
        let [ping, pong] = completed(&server, &sessions, 40).await;
        assert!(ping + pong >= 40, "the two stop by themselves, so the bound is not what stops them");
    });
}
