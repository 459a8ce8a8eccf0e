//! Agents whose mind is `branching`, through the real binary: which tools each kind of run has, and how a run concludes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::approvals::document;
use crate::egress::create;
use crate::home::{Home, Server, block_on};

/// Until when something happens.
const DEADLINE: Duration = Duration::from_secs(30);

/// A server with the branching agent `mind`, which may use files and look at the time.
pub(crate) struct MindHome {
    pub(crate) home: Home,
    pub(crate) server: Server,
}

impl MindHome {
    pub(crate) fn begin() -> Self {
        Self::begin_in(Home::new())
    }

    pub(crate) fn begin_in(home: Home) -> Self {
        let server = home.serve();
        create(&home, "mind", &["file.*".to_owned(), "time.now".to_owned()]);
        document(&home, &["agent", "set", "mind", "mind=branching"]);
        Self { home, server }
    }

    /// Sends a message, and returns its session and the item.
    pub(crate) fn send(&self, session: Option<&str>, text: &str) -> (String, String) {
        let mut line = vec!["event", "send", text];
        match session {
            Some(session) => line.extend(["--session", session]),
            None => line.extend(["--agent", "mind"]),
        }
        let sent = document(&self.home, &line);
        (text_of(&sent["session"]), text_of(&sent["item"]))
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, answer) = block_on(self.server.get(path));
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// The runs of a session, the oldest first, once it has so many and all of them have ended.
    pub(crate) fn ended_runs(&self, session: &str, wanted: usize) -> Vec<Value> {
        let runs = self.ended_runs_at_least(session, wanted);
        assert_eq!(runs.len(), wanted, "{runs:?}");
        runs
    }

    /// The same where two children end: one turn takes both conclusions, or each begins a turn.
    pub(crate) fn ended_runs_at_least(&self, session: &str, wanted: usize) -> Vec<Value> {
        let until = Instant::now() + DEADLINE;
        loop {
            let listed = self.get(&format!("/v1/runs?session={session}&limit=256"));
            let mut runs = items(&listed["items"]).to_vec();
            let over = ["completed", "cancelled", "failed", "yielded"];
            if runs.len() >= wanted && runs.iter().all(|run| over.iter().any(|end| run["status"] == *end)) {
                runs.reverse();
                return runs;
            }
            assert!(Instant::now() < until, "{listed}");
            sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn journal(&self, run: &Value) -> Vec<Value> {
        let entries = self.get(&format!("/v1/runs/{}/journal?limit=256", text_of(&run["id"])));
        items(&entries["entries"]).to_vec()
    }

    /// The results of a run's calls, each with its status.
    pub(crate) fn results(&self, run: &Value) -> Vec<(String, String)> {
        let ended = |entry: &Value| entry["kind"] == "tool_finished" || entry["kind"] == "tool_refused";
        let told =
            |entry: Value| (text_of(&entry["fields"]["status"]), text_of(&entry["body"]["parts"][0]["text"]));
        self.journal(run).into_iter().filter(ended).map(told).collect()
    }

    /// The request of a step, as it is written again.
    pub(crate) fn request(&self, run: &Value, step: u32) -> Value {
        let run = text_of(&run["id"]);
        let shown = self.home.run(&["run", "show", &run, "--step", &step.to_string(), "--request"]);
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        serde_json::from_slice(&shown.stdout).expect("a request")
    }
}

pub(crate) fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The session that a result names.
pub(crate) fn session_in(result: &str) -> String {
    let at = result.find("ses_").unwrap_or_else(|| panic!("{result} names no session"));
    result[at..at + 36].to_owned()
}

/// What is wrong with the call of a tool that the kind of its run does not have: it must be refused, and say what to use instead.
fn wrong_refusal((status, said): &(String, String), instead: &str) -> Option<String> {
    (status != "denied" || !said.contains(instead)).then(|| format!("{status}: {said}"))
}

#[test]
fn a_turn_leaves_files_to_its_workers() {
    let mind = MindHome::begin();
    let write = format!("@tool file.write {}", json!({"path": "a", "content": "x"}));
    let spawn = format!("@tool worker.spawn {}", json!({"task": write}));
    let (session, _) = mind.send(None, &format!("{write}\n{spawn}\n@say spawned"));
    let runs = mind.ended_runs(&session, 2);
    let results = mind.results(&runs[0]);
    assert_eq!(wrong_refusal(&results[0], "worker.spawn"), None);
    assert_eq!(results[1].0, "ok", "{results:?}");
    let worker = &mind.ended_runs(&session_in(&results[1].1), 1)[0];
    assert_eq!(mind.results(worker)[0].0, "ok");
    // Grants still bound a worker.
    let spawn = format!(
        "@tool worker.spawn {}",
        json!({"task": "@tool http.request {\"url\":\"http://127.0.0.1:9\"}"})
    );
    let (session, _) = mind.send(Some(&session), &spawn);
    let runs = mind.ended_runs(&session, 4);
    let worker = &mind.ended_runs(&session_in(&mind.results(&runs[2])[0].1), 1)[0];
    assert_eq!(mind.results(worker)[0].0, "denied");
}

#[test]
fn a_tool_of_another_kind_is_caught() {
    let done = ("ok".to_owned(), "written".to_owned());
    let unsaid = ("denied".to_owned(), "the rule `mind` denied this call".to_owned());
    assert!(wrong_refusal(&done, "worker.spawn").is_some(), "a turn that writes");
    assert!(wrong_refusal(&unsaid, "worker.spawn").is_some(), "a refusal without a next step");
}

#[test]
fn a_run_concludes_at_its_limit_without_tools() {
    let mind = MindHome::begin();
    let (session, _) = mind.send(None, "@loop past.read {\"handle\":\"1/step_1\"}");
    let run = &mind.ended_runs(&session, 1)[0];
    assert_eq!((&run["status"], &run["model_calls"]), (&json!("yielded"), &json!(5)), "{run}");
    let (first, last) = (mind.request(run, 1), mind.request(run, 5));
    assert!(!items(&first["tools"]).is_empty() && items(&last["tools"]).is_empty(), "{last}");
    assert!(last.to_string().contains("This is your last step"), "{last}");
    let end = mind.journal(run).pop().expect("an entry");
    assert!(end["fields"]["concluded"].is_object(), "{end}");
    // A solo agent keeps its form: it stops, and asks for no conclusion.
    document(&mind.home, &["agent", "set", "mind", "mind=solo", "model_calls_max=3"]);
    let (session, _) = mind.send(None, "@loop time.now {}");
    let run = mind.ended_runs(&session, 1).pop().expect("a run");
    assert_eq!((&run["status"], &run["model_calls"]), (&json!("yielded"), &json!(3)), "{run}");
    assert!(!items(&mind.request(&run, 3)["tools"]).is_empty());
}
