//! Messages that come while a turn of their session runs, through the real binary: one that joins the turn, one that ends it,
//! some that are answered together, and what a crash leaves of them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::approvals::{document, ended};
use crate::egress::create;
use crate::home::{Home, Server, block_on, count, stderr};

/// Until when something happens.
const DEADLINE: Duration = Duration::from_secs(30);

/// The command of a call that goes on until the file `go` is there.
const WAITS: &str = "while [ ! -e go ]; do sleep 0.02; done";

/// A server whose agent `dev` runs programs, and a turn of it in the middle of a call.
struct BusySession {
    home: Home,
    server: Server,
    session: String,
    run: String,
}

impl BusySession {
    fn begin(then: &str) -> Self {
        let home = Home::new();
        let server = home.serve();
        create(&home, "dev", &["shell.execute".to_owned(), "time.now".to_owned()]);
        let call = json!({"command": WAITS, "timeout_s": 120});
        let text = format!("@tool shell.execute {call}\n{then}");
        let begun = document(&home, &["event", "send", &text, "--agent", "dev"]);
        let (session, run) = (text_of(&begun["session"]), text_of(&begun["run"]));
        let busy = Self { home, server, session, run };
        busy.until_kind("tool_started");
        busy
    }

    /// Waits until the run has an entry of a kind.
    fn until_kind(&self, kind: &str) {
        let until = Instant::now() + DEADLINE;
        while !self.kinds().iter().any(|known| known == kind) {
            assert!(Instant::now() < until, "no {kind}: {:?}", self.kinds());
            sleep(Duration::from_millis(20));
        }
    }

    fn kinds(&self) -> Vec<String> {
        let path = format!("/v1/runs/{}/journal?limit=256", self.run);
        let (_, journal) = block_on(self.server.get(&path));
        items(&journal["entries"]).iter().map(|entry| text_of(&entry["kind"])).collect()
    }

    fn send(&self, text: &str, policy: &str) -> Value {
        document(&self.home, &["event", "send", text, "--session", &self.session, "--when-busy", policy])
    }

    /// Lets the running call end.
    fn go(&self) {
        let file = self.home.path().join("go");
        std::fs::write(&file, "").expect("it is written");
        document(&self.home, &["file", "put", &file.display().to_string(), "go", "--agent", "dev"]);
    }

    /// The runs of the session, the oldest first, when so many have ended.
    fn runs(&self, wanted: usize) -> Vec<Value> {
        let until = Instant::now() + DEADLINE;
        loop {
            let listed = document(&self.home, &["run", "list", "--session", &self.session]);
            let mut runs = items(&listed["items"]).to_vec();
            let over = ["completed", "cancelled", "failed", "yielded"];
            if runs.len() >= wanted && runs.iter().all(|run| over.iter().any(|end| run["status"] == *end)) {
                runs.reverse();
                assert_eq!(runs.len(), wanted, "{listed}");
                return runs;
            }
            assert!(Instant::now() < until, "{listed}");
            sleep(Duration::from_millis(20));
        }
    }

    /// What the transcript of the session says, in order: `>` before what was typed.
    fn said(&self) -> Vec<String> {
        let shown = document(&self.home, &["session", "show", &self.session]);
        let turns = items(&shown["transcript"]["turns"]).iter();
        let line = |turn: &Value| match turn["role"].as_str() {
            Some("input") => format!("> {}", turn["text"].as_str().unwrap_or_default()),
            _ => turn["text"].as_str().unwrap_or_default().to_owned(),
        };
        turns.map(line).filter(|line| !line.is_empty()).collect()
    }
}

/// Checks that journals, inboxes and rows say the same.
fn verify(home: &Home) {
    let verified = home.run(&["audit", "verify"]);
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "{said}{}", stderr(&verified));
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn a_steered_message_joins_the_turn_before_its_next_model_call() {
    let busy = BusySession::begin("@say first");
    let plain = busy.send("@say before", "follow-up");
    let steered = busy.send("@say steered", "steer");
    assert_eq!((&plain["run"], &steered["run"]), (&Value::Null, &Value::Null), "both wait");
    // A second message that joins too.
    busy.send("@say both steered", "steer");
    busy.go();
    let runs = busy.runs(1);
    assert_eq!(runs[0]["id"], busy.run.as_str());
    let kinds = busy.kinds();
    let place = |kind: &str| kinds.iter().position(|known| known == kind).expect("it is there");
    assert_eq!(kinds.iter().filter(|kind| *kind == "inputs_taken").count(), 1, "{kinds:?}");
    assert!(place("tool_finished") < place("inputs_taken"), "{kinds:?}");
    assert_eq!(kinds[place("inputs_taken") + 1], "model_called", "{kinds:?}");
    let said = busy.said();
    let last: Vec<_> = said.iter().skip(said.len() - 4).map(String::as_str).collect();
    assert_eq!(last[..3], ["> @say before", "> @say steered", "> @say both steered"], "{said:?}");
    assert!(last[3].contains("both steered"), "{said:?}");
    // The request is rebuilt byte for byte, with the messages where they joined.
    let (status, request) = block_on(busy.server.get(&format!("/v1/runs/{}/requests/2", busy.run)));
    assert_eq!(status, 200, "{request}");
    assert!(request.to_string().contains("both steered"), "{request}");
    verify(&busy.home);
    // A copy of the session says the same, in the same order.
    let file = busy.home.path().join("session.json");
    let path = file.display().to_string();
    let exported = busy.home.run(&["session", "export", &busy.session, "--file", &path]);
    assert!(exported.status.success(), "{}", stderr(&exported));
    let imported = document(&busy.home, &["session", "import", &path, "--agent", "dev"]);
    let copy = text_of(&imported["session"]);
    let shown = document(&busy.home, &["session", "show", &copy]);
    let turns = items(&shown["transcript"]["turns"]).iter();
    let typed: Vec<_> = turns.filter_map(|turn| turn["text"].as_str()).collect();
    let original: Vec<_> = said.iter().map(|line| line.trim_start_matches("> ")).collect();
    let typed: Vec<_> = typed.into_iter().filter(|text| !text.is_empty()).collect();
    assert_eq!(typed, original);
    verify(&busy.home);
    busy.server.terminate();
}

#[test]
fn a_message_that_misses_the_last_model_call_is_the_next_turn() {
    let home = Home::new();
    let server = home.serve();
    create(&home, "dev", &["time.now".to_owned()]);
    let begun = document(&home, &["event", "send", "@slow 1500\n@say first", "--agent", "dev"]);
    let (session, run) = (text_of(&begun["session"]), text_of(&begun["run"]));
    let steer = ["event", "send", "@say late", "--session", &session, "--when-busy", "steer", "--wait"];
    let late = document(&home, &steer);
    assert_ne!(late["run"], run.as_str());
    assert!(text_of(&late["reply"]).contains("late"), "{late}");
    let entries = block_on(ended(&server, &run));
    assert_eq!((count(&entries, "inputs_taken"), count(&entries, "run_completed")), (0, 1));
}

#[test]
fn a_message_that_joined_survives_a_kill() {
    let busy = BusySession::begin("@say first");
    busy.send("@slow 60000\n@say steered", "steer");
    busy.go();
    // The message is taken with the model call that sends it, and the server dies in the middle of that call.
    busy.until_kind("inputs_taken");
    let BusySession { home, server, session, run } = busy;
    server.kill();
    let server = home.serve();
    let busy = BusySession { home, server, session, run };
    busy.until_kind("model_failed");
    document(&busy.home, &["run", "cancel", &busy.run]);
    busy.runs(1);
    let said = busy.said();
    assert_eq!(said.iter().filter(|line| line.contains("steered")).count(), 1, "once: {said:?}");
    verify(&busy.home);
}

#[test]
fn a_message_that_waited_through_a_kill_joins_all_the_same() {
    let busy = BusySession::begin("@tool time.now {}\n@say first");
    busy.send("@say steered", "steer");
    let BusySession { home, server, session, run } = busy;
    server.kill();
    // The call is unknown after the kill, and the turn goes on to its next model call.
    let server = home.serve();
    let busy = BusySession { home, server, session, run };
    busy.runs(1);
    assert_eq!(busy.kinds().iter().filter(|kind| *kind == "inputs_taken").count(), 1, "{:?}", busy.kinds());
    assert!(busy.said().last().is_some_and(|last| last.contains("steered")), "{:?}", busy.said());
}

#[test]
fn an_interrupt_ends_the_turn_and_goes_next() {
    let busy = BusySession::begin("@say first");
    busy.send("@say waited", "follow-up");
    busy.send("@say instead", "interrupt");
    let runs = busy.runs(2);
    assert_eq!((&runs[0]["status"], &runs[1]["status"]), (&json!("cancelled"), &json!("completed")));
    // What waited before it enters with it, so the order of the inbox stays.
    let said = busy.said();
    let at = |text: &str| said.iter().position(|line| line.contains(text)).expect("it was said");
    assert!(at("> @say waited") < at("> @say instead"), "{said:?}");
    assert!(said.last().is_some_and(|last| last.contains("instead")), "{said:?}");
    // The call that was cut off had begun: its outcome is unknown, and nothing else is said of it.
    let entries = block_on(ended(&busy.server, &busy.run));
    let finished = entries.iter().find(|entry| entry["kind"] == "tool_finished").expect("a result");
    assert_eq!(finished["fields"]["status"], "unknown", "{finished}");
}

#[test]
fn collected_messages_are_answered_in_one_turn() {
    let busy = BusySession::begin("@say first");
    for text in ["@say one", "@say two", "@say three"] {
        busy.send(text, "collect");
    }
    busy.go();
    let runs = busy.runs(2);
    assert_eq!(runs[1]["status"], "completed");
    let said = busy.said();
    let last: Vec<_> = said.iter().skip(said.len() - 4).map(String::as_str).collect();
    assert_eq!(last[..3], ["> @say one", "> @say two", "> @say three"], "{said:?}");
    assert!(last[3].contains("three"), "{said:?}");
}

#[test]
fn another_persons_message_joins_no_turn() {
    let busy = BusySession::begin("@say first");
    // The bearer of the token is another actor than the user of the socket.
    let body = json!({"text": "@say other", "session": busy.session, "when_busy": "steer"});
    let (status, answer) = block_on(busy.server.event(&body));
    assert_eq!((status, &answer["run"]), (202, &Value::Null), "{answer}");
    busy.go();
    let runs = busy.runs(2);
    assert!(!busy.kinds().contains(&"inputs_taken".to_owned()), "{:?}", busy.kinds());
    assert_eq!(runs[1]["status"], "completed");
}

#[test]
fn another_persons_message_ends_no_turn() {
    let busy = BusySession::begin("@say first");
    let body = json!({"text": "@say other", "session": busy.session, "when_busy": "interrupt"});
    let (status, answer) = block_on(busy.server.event(&body));
    assert_eq!((status, &answer["run"]), (202, &Value::Null), "{answer}");
    busy.go();
    let runs = busy.runs(2);
    assert_eq!((&runs[0]["status"], &runs[1]["status"]), (&json!("completed"), &json!("completed")));
}

#[test]
fn a_steering_message_joins_the_turn_of_one_before_it() {
    let busy = BusySession::begin("@say first");
    // The turn that runs takes neither: an input of another person comes first.
    let body = json!({"text": "@say other", "session": busy.session});
    block_on(busy.server.event(&body));
    busy.send("@tool time.now {}\n@say second", "follow-up");
    busy.send("@say steered", "steer");
    busy.go();
    let runs = busy.runs(3);
    let said = busy.said();
    assert_eq!(runs.len(), 3);
    assert!(said.last().is_some_and(|last| last.contains("steered")), "{said:?}");
}

#[test]
fn only_a_plain_message_of_a_known_session_has_a_policy() {
    let home = Home::new();
    let server = home.serve();
    let lone = home.run(&["ask", "hello", "--when-busy", "steer"]);
    assert_eq!(lone.status.code(), Some(2));
    assert!(stderr(&lone).contains("--when-busy needs --session or --continue"), "{}", stderr(&lone));
    let odd = home.run(&["event", "send", "hello", "--when-busy", "sometimes"]);
    assert_eq!(odd.status.code(), Some(2));
    assert!(stderr(&odd).contains("follow-up"), "{}", stderr(&odd));
    let body = json!({"text": "hello", "workspace": "/srv/work/site", "when_busy": "steer"});
    let (status, problem) = block_on(server.event(&body));
    assert_eq!((status, problem["code"].as_str()), (400, Some("invalid_request")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("plain message")), "{problem}");
}
