//! Workers that a run spawns, through the real binary: what becomes of their results, what they may do, how many there may be, and
//! what a crash leaves of them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::approvals::document;
use crate::egress::create;
use crate::home::{Home, Server, block_on, stderr};

/// Until when something happens.
const DEADLINE: Duration = Duration::from_secs(30);

/// A server with the agent `lead`, which may spawn workers and look at the time.
struct SpawningHome {
    home: Home,
    server: Server,
}

impl SpawningHome {
    fn begin() -> Self {
        let home = Home::new();
        let server = home.serve();
        create(&home, "lead", &["worker.spawn".to_owned(), "time.now".to_owned()]);
        Self { home, server }
    }

    /// Has an agent say something to itself, and returns its run and session.
    fn ask(&self, agent: &str, text: &str) -> (String, String) {
        let sent = document(&self.home, &["event", "send", text, "--agent", agent]);
        (text_of(&sent["run"]), text_of(&sent["session"]))
    }

    fn get(&self, path: &str) -> Value {
        let (status, answer) = block_on(self.server.get(path));
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// The runs of a session, the oldest first, once so many have ended.
    fn ended_runs(&self, session: &str, wanted: usize) -> Vec<Value> {
        let until = Instant::now() + DEADLINE;
        loop {
            let listed = self.get(&format!("/v1/runs?session={session}&limit=256"));
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

    /// Waits until the turns of a session took so many ends.
    fn told_ends(&self, session: &str, wanted: usize) {
        let until = Instant::now() + DEADLINE;
        let is_end = |input: &&String| input.contains("of your call");
        while self.inputs(session).iter().filter(is_end).count() < wanted {
            assert!(Instant::now() < until, "{:?}", self.inputs(session));
            sleep(Duration::from_millis(20));
        }
    }

    /// What the call of a run gave: its status and text.
    fn result(&self, run: &str) -> (String, String) {
        let entries = self.get(&format!("/v1/runs/{run}/journal?limit=256"));
        let ended = |entry: &&Value| entry["kind"] == "tool_finished" || entry["kind"] == "tool_refused";
        let entry = items(&entries["entries"]).iter().find(ended).unwrap_or_else(|| panic!("{entries}"));
        (text_of(&entry["fields"]["status"]), text_of(&entry["body"]["parts"][0]["text"]))
    }

    /// What was typed into a session, in order.
    fn inputs(&self, session: &str) -> Vec<String> {
        let shown = document(&self.home, &["session", "show", session]);
        let turns = items(&shown["transcript"]["turns"]).iter();
        turns
            .filter(|turn| turn["role"] == "input")
            .map(|turn| turn["text"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

/// What the model is told to call.
fn spawn(arguments: &Value) -> String {
    format!("@tool worker.spawn {arguments}\n@say spawned")
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The session that a spawn's result names.
fn session_in(result: &str) -> String {
    let at = result.find("ses_").unwrap_or_else(|| panic!("{result} names no session"));
    result[at..at + 36].to_owned()
}

/// Checks that journals, inboxes and rows say the same.
fn verify(home: &Home) {
    let verified = home.run(&["audit", "verify"]);
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "{said}{}", stderr(&verified));
}

#[test]
fn a_worker_tells_its_parents_session_how_it_ended() {
    let spawning = SpawningHome::begin();
    let (parent, session) = spawning.ask("lead", &spawn(&json!({"task": "@say forty-two"})));
    let runs = spawning.ended_runs(&session, 2);
    let (status, said) = spawning.result(&parent);
    assert_eq!(status, "ok", "{said}");
    let child = session_in(&said);
    let done = spawning.ended_runs(&child, 1);
    assert_eq!((&done[0]["kind"], &done[0]["status"]), (&json!("worker"), &json!("completed")));
    assert_eq!((&runs[0]["kind"], &runs[1]["kind"]), (&json!("turn"), &json!("turn")));
    let inputs = spawning.inputs(&session);
    assert_eq!(inputs.len(), 2, "{inputs:?}");
    assert!(inputs[1].contains("is done") && inputs[1].contains("forty-two"), "{inputs:?}");
    // The result is no more trusted than the message of another agent.
    let journal = spawning.get(&format!("/v1/runs/{}/journal?limit=1", text_of(&done[0]["id"])));
    let task = &journal["entries"][0]["fields"]["origin"];
    assert_eq!((&task["run"], &task["root"], &task["depth"]), (&json!(parent), &json!(parent), &json!(1)));
    verify(&spawning.home);
}

#[test]
fn a_worker_may_not_do_what_its_parent_could_not() {
    let spawning = SpawningHome::begin();
    create(&spawning.home, "writer", &["file.*".to_owned(), "time.now".to_owned()]);
    let write = format!("@tool file.write {}", json!({"path": "a", "content": "x"}));
    // By itself the agent writes; as a child of one that may not, it does not.
    let (alone, own) = spawning.ask("writer", &write);
    spawning.ended_runs(&own, 1);
    assert_eq!(spawning.result(&alone).0, "ok");
    for (task, wanted) in [(write.as_str(), "denied"), ("@tool time.now {}", "ok")] {
        let (parent, session) = spawning.ask("lead", &spawn(&json!({"agent": "writer", "task": task})));
        spawning.ended_runs(&session, 2);
        let child = session_in(&spawning.result(&parent).1);
        let run = text_of(&spawning.ended_runs(&child, 1)[0]["id"]);
        assert_eq!(spawning.result(&run).0, wanted, "{task}");
    }
}

#[test]
fn rights_narrow_a_worker_and_wrong_ones_spawn_nothing() {
    let spawning = SpawningHome::begin();
    let spawned = |rights: Value| {
        let task = "@tool time.now {}";
        let (parent, session) = spawning.ask("lead", &spawn(&json!({"rights": rights, "task": task})));
        spawning.ended_runs(&session, 2);
        let child = session_in(&spawning.result(&parent).1);
        spawning.result(&text_of(&spawning.ended_runs(&child, 1)[0]["id"])).0
    };
    assert_eq!(spawned(json!(["time.now"])), "ok");
    assert_eq!(spawned(json!(["worker.spawn"])), "denied");
    for (rights, problem) in [(json!(["time.nwo"]), "did you mean"), (json!(["*"]), "every future tool")] {
        let (parent, session) = spawning.ask("lead", &spawn(&json!({"rights": rights, "task": "x"})));
        spawning.ended_runs(&session, 1);
        let (status, said) = spawning.result(&parent);
        assert!(status == "error" && said.contains(problem), "{status} {said}");
    }
}

#[test]
fn a_worker_for_an_agent_that_is_not_there_spawns_nothing() {
    let spawning = SpawningHome::begin();
    create(&spawning.home, "gone", &[]);
    document(&spawning.home, &["agent", "terminate", "gone", "--yes"]);
    for (agent, problem) in [("nobody", "does not exist"), ("gone", "accepts no more input")] {
        let (parent, session) = spawning.ask("lead", &spawn(&json!({"agent": agent, "task": "x"})));
        spawning.ended_runs(&session, 1);
        let (status, said) = spawning.result(&parent);
        assert!(status == "error" && said.contains(problem), "{status} {said}");
    }
}

#[test]
fn workers_go_no_deeper_than_their_bound() {
    let spawning = SpawningHome::begin();
    let mut text = spawn(&json!({"task": "@say too deep"}));
    for _ in 0..3 {
        text = spawn(&json!({ "task": text }));
    }
    let (_, mut session) = spawning.ask("lead", &text);
    for depth in 0..=3 {
        let (status, said) = loop {
            let runs = spawning.get(&format!("/v1/runs?session={session}&limit=256"));
            if let Some(first) = items(&runs["items"]).last().filter(|run| run["status"] == "completed") {
                break spawning.result(&text_of(&first["id"]));
            }
            sleep(Duration::from_millis(20));
        };
        if depth == 3 {
            assert!(status == "error" && said.contains("at depth 3"), "{status} {said}");
        } else {
            assert_eq!(status, "ok", "{said}");
            session = session_in(&said);
        }
    }
}

#[test]
fn a_crash_between_spawn_and_end_loses_neither() {
    let mut spawning = SpawningHome::begin();
    create(&spawning.home, "waiter", &["shell.execute".to_owned()]);
    create(&spawning.home, "boss", &["shell.execute".to_owned(), "worker.spawn".to_owned()]);
    let wait = json!({"command": "while [ ! -e go ]; do sleep 0.02; done", "timeout_s": 120});
    let task = format!("@tool shell.execute {wait}\n@say over");
    let (parent, session) = spawning.ask("boss", &spawn(&json!({"agent": "waiter", "task": task})));
    spawning.ended_runs(&session, 1);
    let child = session_in(&spawning.result(&parent).1);
    let until = Instant::now() + DEADLINE;
    while items(&spawning.get(&format!("/v1/runs?session={child}"))["items"]).is_empty() {
        assert!(Instant::now() < until, "the task does not begin");
        sleep(Duration::from_millis(20));
    }
    spawning.server.kill();
    spawning.server = spawning.home.serve();
    // The call's outcome is unknown, the task ends all the same, and its parent hears of it once.
    spawning.ended_runs(&child, 1);
    spawning.ended_runs(&session, 2);
    assert_eq!(spawning.inputs(&session).len(), 2);
    let sessions = spawning.get("/v1/agents/waiter/tasks?limit=256");
    assert_eq!(items(&sessions["items"]).len(), 1, "{sessions}");
    verify(&spawning.home);
}

/// What is wrong with the ends of workers: each spawn that succeeded has one worker, and each end is reported once.
fn wrong_ends(spawned: &[String], tasks: &[String], inputs: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for session in spawned {
        let told = inputs
            .iter()
            .filter(|input| input.contains("The worker of your call") && input.contains(session.as_str()));
        if told.count() != 1 {
            wrong.push(format!("the end of {session} is not told once"));
        }
    }
    let mut strays: Vec<_> = tasks.iter().filter(|task| !spawned.contains(task)).cloned().collect();
    wrong.append(&mut strays);
    wrong
}

#[test]
fn a_lost_end_and_a_second_spawn_are_caught() {
    let both = ["ses_1".to_owned(), "ses_2".to_owned()];
    let told = ["The worker of your call c is done; it ran in ses_1.".to_owned()];
    let twice = [&told[..], &told].concat();
    assert!(wrong_ends(&both[..1], &both[..1], &told).is_empty());
    assert_eq!(wrong_ends(&both[..1], &both[..1], &[]).len(), 1, "a lost end");
    assert_eq!(wrong_ends(&both[..1], &both[..1], &twice).len(), 1, "an end that is told twice");
    assert_eq!(wrong_ends(&both[..1], &both, &told).len(), 1, "a second spawn");
}

#[test]
fn crashes_at_any_moment_spawn_once_and_tell_each_end_once() {
    let mut spawning = SpawningHome::begin();
    create(&spawning.home, "helper", &["time.now".to_owned()]);
    let line = |number: usize| {
        let arguments = json!({"agent": "helper", "task": format!("@say done {number}")});
        format!("@tool worker.spawn {arguments}")
    };
    for pause in [4, 9, 15, 22, 30, 45, 70, 110] {
        let text: Vec<_> = (0..4).map(line).collect();
        let (run, session) = spawning.ask("lead", &text.join("\n"));
        sleep(Duration::from_millis(pause));
        spawning.server.kill();
        spawning.server = spawning.home.serve();
        // The turn itself, and then at least one that takes the ends.
        spawning.told_ends(&session, 4);
        let entries = spawning.get(&format!("/v1/runs/{run}/journal?limit=256"));
        let done = items(&entries["entries"]).iter().filter(|entry| entry["kind"] == "tool_finished");
        let spawned: Vec<_> =
            done.map(|entry| session_in(&text_of(&entry["body"]["parts"][0]["text"]))).collect();
        assert_eq!(spawned.len(), 4, "{entries}");
        let tree = spawning.get(&format!("/v1/runs/{run}/tree"));
        let below = items(&tree["nodes"]).iter().skip(1);
        let tasks: Vec<_> = below.map(|node| text_of(&node["session"])).collect();
        assert_eq!(tasks.len(), 4, "{tree}");
        let wrong = wrong_ends(&spawned, &tasks, &spawning.inputs(&session));
        assert!(wrong.is_empty(), "after {pause} ms: {wrong:?}");
    }
    verify(&spawning.home);
}

#[test]
fn a_run_tree_sums_up_to_the_ledger() {
    let spawning = SpawningHome::begin();
    let below = spawn(&json!({"task": "@say deepest"}));
    let (parent, session) = spawning.ask("lead", &spawn(&json!({ "task": below })));
    // The child hears of its own child and concludes once more.
    spawning.ended_runs(&session, 3);
    let child = session_in(&spawning.result(&parent).1);
    spawning.ended_runs(&child, 2);
    let tree = document(&spawning.home, &["run", "tree", &parent]);
    let nodes = items(&tree["nodes"]);
    let depths: Vec<_> = nodes.iter().map(|node| node["depth"].as_u64()).collect();
    assert_eq!(depths, [Some(0), Some(1), Some(2), Some(1)], "{tree}");
    assert_eq!((&nodes[1]["parent"], &nodes[2]["parent"]), (&json!(parent), &nodes[1]["run"]));
    // Each run's own sum is that of its row, and the totals add up.
    let mut sums = [0; 3];
    for node in nodes {
        let below = nodes.iter().filter(|child| !node["run"].is_null() && child["parent"] == node["run"]);
        let below: Vec<_> = below.collect();
        let run = spawning.get(&format!("/v1/runs/{}", text_of(&node["run"])));
        for (sum, (name, own)) in sums.iter_mut().zip([
            ("input_tokens", &run["usage"]["input_tokens"]),
            ("output_tokens", &run["usage"]["output_tokens"]),
            ("cost_micros", &run["cost_micros"]),
        ]) {
            assert_eq!(node["own"][name], *own, "{tree}");
            let own = own.as_u64().expect("a number");
            let total: u64 = below.iter().filter_map(|child| child["total"][name].as_u64()).sum();
            assert_eq!(node["total"][name].as_u64(), Some(own + total), "{name}: {tree}");
            *sum += own;
        }
    }
    assert!(sums[0] > 0 && sums[1] > 0, "{tree}");
    assert_eq!(nodes[0]["total"]["input_tokens"].as_u64(), Some(sums[0]), "{tree}");
    // A run below shows the same tree, and people read it with indented ids.
    let same = document(&spawning.home, &["run", "tree", &text_of(&nodes[2]["run"])]);
    assert_eq!((&same["root"], &same["nodes"]), (&tree["root"], &tree["nodes"]));
    let shown = spawning.home.run(&["run", "tree", &parent]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(text.lines().count(), 5, "{text}");
}

#[test]
fn ending_a_run_spares_its_workers_unless_the_tree_is_named() {
    let spawning = SpawningHome::begin();
    create(&spawning.home, "boss", &["shell.execute".to_owned(), "worker.spawn".to_owned()]);
    let wait = json!({"command": "sleep 120", "timeout_s": 300});
    let waits = format!("@tool shell.execute {wait}");
    let text = format!("@tool worker.spawn {}\n{waits}", json!({ "task": waits }));
    let (parent, session) = spawning.ask("boss", &text);
    let until = Instant::now() + DEADLINE;
    let child = loop {
        let tree = spawning.get(&format!("/v1/runs/{parent}/tree"));
        if let Some(run) = tree["nodes"][1]["run"].as_str() {
            break run.to_owned();
        }
        assert!(Instant::now() < until, "{tree}");
        sleep(Duration::from_millis(20));
    };
    document(&spawning.home, &["run", "terminate", &parent, "--yes"]);
    spawning.ended_runs(&session, 1);
    assert_eq!(spawning.get(&format!("/v1/runs/{child}"))["status"], "running");
    let again = spawning.home.run(&["run", "terminate", &parent, "--yes", "--tree", "--json"]);
    assert!(again.status.success(), "{}", stderr(&again));
    let ended = spawning.get(&format!("/v1/runs/{child}"));
    let over = spawning.ended_runs(&text_of(&ended["session"]), 1);
    assert_eq!(over[0]["status"], "cancelled");
    // The end is told all the same.
    spawning.ended_runs(&session, 2);
    assert!(spawning.inputs(&session)[1].contains("is not done"), "{:?}", spawning.inputs(&session));
}

#[test]
fn a_run_that_is_not_there_has_no_tree() {
    let spawning = SpawningHome::begin();
    let (_, session) = spawning.ask("lead", "@say hello");
    let run = text_of(&spawning.ended_runs(&session, 1)[0]["id"]);
    let other = run.replace(&run[run.len() - 4..], "0000");
    let (status, answer) = block_on(spawning.server.get(&format!("/v1/runs/{other}/tree")));
    assert_eq!((status, &answer["code"]), (404, &json!("run_not_found")), "{answer}");
}
