//! Branches and workers of a session, as a person and the conversation's own turns see them, steer them and end them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::approvals::document;
use crate::chat::ChatPerson;
use crate::home::{DEADLINE, Home, block_on, stderr};
use crate::minds::{MindHome, items, session_in, text_of};

impl MindHome {
    /// Has a turn spawn a worker in a session of its own. Returns that session and the worker's.
    fn spawn(&self, task: &str) -> (String, String) {
        let line = format!("@tool worker.spawn {}\n@say begun", json!({ "task": task }));
        let (session, _) = self.send(None, &line);
        let until = Instant::now() + DEADLINE;
        loop {
            let runs = self.get(&format!("/v1/runs?session={session}&limit=256"));
            let first = items(&runs["items"]).last().cloned().unwrap_or_default();
            if let Some((_, said)) = self.results_of(&first).into_iter().next() {
                return (session, session_in(&said));
            }
            assert!(Instant::now() < until, "{runs}");
            sleep(Duration::from_millis(20));
        }
    }

    fn results_of(&self, run: &Value) -> Vec<(String, String)> {
        if run["id"].is_null() { Vec::new() } else { self.results(run) }
    }

    /// Has a turn of a session say something to a worker, and returns what the call gave.
    fn route(&self, session: &str, worker: &str, text: &str) -> (String, String) {
        self.call(session, "worker.route", &json!({"worker": worker, "text": text}))
    }

    /// Has a turn of a session call a tool, and returns what the call gave.
    fn call(&self, session: &str, tool: &str, arguments: &Value) -> (String, String) {
        let (_, item) = self.send(Some(session), &format!("@tool {tool} {arguments}\n@say passed on"));
        let until = Instant::now() + DEADLINE;
        loop {
            let runs = self.get(&format!("/v1/runs?session={session}&limit=256"));
            for run in items(&runs["items"]) {
                let began = self.journal(run).first().cloned().unwrap_or_default();
                let took = items(&began["fields"]["items"]).iter().any(|taken| *taken == json!(item));
                if let Some(result) = self.results(run).into_iter().next().filter(|_| took) {
                    return result;
                }
            }
            assert!(Instant::now() < until, "{runs}");
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a conclusion says something in a session.
    fn hears(&self, session: &str, words: &str) -> Vec<String> {
        let until = Instant::now() + DEADLINE;
        loop {
            let shown = document(&self.home, &["session", "show", session]);
            let inputs = items(&shown["transcript"]["turns"]).iter().filter(|turn| turn["role"] == "input");
            let inputs: Vec<_> =
                inputs.map(|turn| turn["text"].as_str().unwrap_or_default().to_owned()).collect();
            let concludes = |input: &&String| input.contains("of your call") && input.contains(words);
            if inputs.iter().any(|input| concludes(&input)) {
                return inputs;
            }
            assert!(Instant::now() < until, "nothing says {words:?}: {inputs:?}");
            sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_worker_that_ended_gets_more_to_do_and_concludes_again() {
    let mind = MindHome::begin();
    let (session, worker) = mind.spawn("@say first result");
    mind.hears(&session, "first result");
    let sent = document(&mind.home, &["worker", "send", &worker, "@say second result"]);
    assert_eq!(sent["session"], json!(worker));
    mind.hears(&session, "second result");
    let runs = mind.ended_runs(&worker, 2);
    assert!(runs.iter().all(|run| run["kind"] == "worker"), "{runs:?}");
    let shown = document(&mind.home, &["worker", "show", &worker]);
    assert_eq!((&shown["state"], &shown["parent_session"]), (&json!("completed"), &json!(session)));
    assert_eq!(shown["task"], "@say first result");
    // Each of its runs is in the tree, and the total of the root is what all of them used.
    let tree = mind.get(&format!("/v1/runs/{}/tree", text_of(&runs[0]["id"])));
    let nodes = items(&tree["nodes"]);
    let kinds: Vec<_> = nodes.iter().map(|node| text_of(&node["kind"])).collect();
    assert_eq!(kinds, ["turn", "worker", "worker"], "{tree}");
    let own: u64 = nodes.iter().filter_map(|node| node["own"]["input_tokens"].as_u64()).sum();
    assert_eq!(nodes[0]["total"]["input_tokens"], own, "{tree}");
}

#[test]
fn a_turn_says_more_to_a_worker_that_works_or_has_ended() {
    let mind = MindHome::begin();
    let (session, worker) = mind.spawn("@slow 1500\n@tool time.now {}\n@say first");
    let (status, said) = mind.route(&session, &worker, "@say steered");
    assert_eq!(status, "ok", "{said}");
    mind.hears(&session, "steered");
    mind.route(&session, &worker, "@say once more");
    mind.hears(&session, "once more");
    let runs = mind.get(&format!("/v1/runs?session={worker}&limit=256"));
    let kinds: Vec<_> = items(&runs["items"]).iter().map(|run| text_of(&run["kind"])).collect();
    assert!(kinds.len() >= 2 && kinds.iter().all(|kind| kind == "worker"), "{runs}");
}

#[test]
fn words_reach_workers_of_the_own_conversation_only() {
    let mind = MindHome::begin();
    let (session, worker) = mind.spawn("@say done");
    let (other, _) = mind.send(None, "@say another conversation");
    mind.ended_runs(&other, 1);
    mind.hears(&session, "done");
    let none = "ses_00000000000000000000000000000000";
    for target in [worker.as_str(), other.as_str(), none] {
        let (status, said) = mind.route(&other, target, "@say hello");
        assert!(status == "error" && said.contains("has no such worker"), "{target}: {status} {said}");
    }
    assert_eq!(mind.ended_runs(&worker, 1).len(), 1);
}

#[test]
fn workers_are_listed_and_cancelled() {
    let mind = MindHome::begin();
    let (session, worker) = mind.spawn("@slow 20000\n@say never");
    let listed = document(&mind.home, &["worker", "list"]);
    assert_eq!(listed["items"][0]["id"], json!(worker), "{listed}");
    let until = Instant::now() + DEADLINE;
    while document(&mind.home, &["worker", "show", &worker])["state"] != "running" {
        assert!(Instant::now() < until, "no run takes the task");
        sleep(Duration::from_millis(20));
    }
    let open = document(&mind.home, &["worker", "list", "--open", "--session", &session]);
    assert_eq!(items(&open["items"]).len(), 1, "{open}");
    document(&mind.home, &["worker", "cancel", &worker]);
    mind.hears(&session, "is not done");
    let open = document(&mind.home, &["worker", "list", "--open", "--session", &session]);
    assert!(items(&open["items"]).is_empty(), "{open}");
    for (words, told) in [
        (["worker", "show", &session], "session of no branch and no worker"),
        (["worker", "show", "ses_00000000000000000000000000000000"], "there is no such session"),
    ] {
        let refused = mind.home.run(&words);
        assert!(!refused.status.success() && stderr(&refused).contains(told), "{}", stderr(&refused));
    }
}

#[test]
fn a_branch_takes_no_messages() {
    let mind = MindHome::begin();
    let (session, _) = mind.send(None, "@tool branch {\"task\":\"@say thought\"}\n@say begun");
    mind.hears(&session, "thought");
    let listed = document(&mind.home, &["worker", "list", "--session", &session]);
    let branch = text_of(&listed["items"][0]["id"]);
    let refused = mind.home.run(&["worker", "send", &branch, "hello"]);
    assert!(stderr(&refused).contains("takes no messages"), "{}", stderr(&refused));
    let event = json!({"session": branch, "text": "hello"});
    let (status, answer) = block_on(mind.server.event(&event));
    assert!(status == 400 && answer.to_string().contains("reserved for branches"), "{status} {answer}");
}

#[test]
fn a_question_waits_for_what_its_branches_lead_to() {
    let mind = MindHome::begin();
    let line = "@tool branch {\"task\":\"@slow 300\\n@say the blue door\"}\n@say looking";
    let asked = mind.home.run(&["ask", "--agent", "mind", "--until-idle", line]);
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(asked.status.success(), "{}", stderr(&asked));
    assert!(said.starts_with("looking\n") && said.contains("the blue door"), "{said}");
    let plain = mind.home.run(&["ask", "--agent", "mind", "--until-idle", "@say alone"]);
    assert_eq!(String::from_utf8_lossy(&plain.stdout), "alone\n");
}

#[test]
fn a_chat_shows_what_a_branch_leads_to_while_one_types() {
    let mind = MindHome::begin();
    let mut person = ChatPerson::begin(&mind.home, 80, &["chat", "--agent", "mind"]);
    person.sees("mind > ");
    person.types("@tool branch {\"task\":\"@slow 2500\\n@say the blue door\"}\r");
    person.sees("1 branch");
    person.types("@say still here\r");
    person.sees("still here");
    person.sees("is done; its result");
    person.types("/workers\r");
    person.sees("completed");
    person.types("/quit\r");
    assert!(person.ends().success());
}

#[test]
fn a_turn_ends_the_children_of_its_own_conversation_only() {
    let mind = MindHome::begin();
    let (session, worker) = mind.spawn("@slow 20000\n@say late");
    let (other, _) = mind.send(None, "@say another conversation");
    mind.ended_runs(&other, 1);
    let cancel = |session: &str, child: &str| mind.call(session, "worker.cancel", &json!({"worker": child}));
    for target in [worker.as_str(), session.as_str(), "ses_00000000000000000000000000000000"] {
        let (status, said) = cancel(&other, target);
        assert!(status == "error" && said.contains("has no such worker or branch"), "{status} {said}");
    }
    let (status, said) = cancel(&session, &worker);
    assert_eq!(status, "ok", "{said}");
    mind.hears(&session, "was cancelled");
    let run = mind.ended_runs(&worker, 1).remove(0);
    assert_eq!(run["status"], "cancelled", "{run}");
    let end = mind.journal(&run).pop().expect("an entry");
    assert_eq!(end["kind"], "run_cancelled", "{end}");
    let (status, said) = cancel(&session, &worker);
    assert!(status == "error" && said.contains("has ended already"), "{status} {said}");
    let branch = json!({"task": "@slow 20000\n@say late"});
    let (_, said) = mind.call(&session, "branch", &branch);
    let (status, said) = cancel(&session, &session_in(&said));
    assert_eq!(status, "ok", "{said}");
    mind.hears(&session, "The branch of your call");
}

/// What is wrong with the end of a worker whose time was up.
fn wrong_deadline(run: &Value, end: &Value, said: &str) -> Option<&'static str> {
    match (run["status"].as_str(), end["fields"]["deadline"].as_str()) {
        (Some("yielded"), Some(_)) if said.contains("reached its deadline") => None,
        (Some("yielded"), Some(_)) => Some("its parent doesn't hear why"),
        (Some("yielded"), None) => Some("it yielded for another reason"),
        _ => Some("it went on"),
    }
}

#[test]
fn a_worker_that_goes_on_behind_its_deadline_is_caught() {
    let end = |deadline: &Value| json!({"fields": {"deadline": deadline}});
    let (late, none) = (end(&json!("2026-01-01T00:00:00Z")), end(&Value::Null));
    let run = |status: &str| json!({"status": status});
    assert_eq!(wrong_deadline(&run("yielded"), &late, "reached its deadline"), None);
    assert!(wrong_deadline(&run("yielded"), &late, "reached its limit").is_some());
    assert!(wrong_deadline(&run("yielded"), &none, "reached its deadline").is_some());
    assert!(wrong_deadline(&run("completed"), &none, "is done").is_some());
}

#[test]
fn a_worker_has_the_role_and_the_time_that_it_was_given() {
    let mind = MindHome::begin();
    let (session, _) = mind.send(None, "@say hi");
    mind.ended_runs(&session, 1);
    let spawn = |role: &str, task: &str| {
        let arguments = json!({"role": role, "deadline_s": 1, "task": task});
        mind.call(&session, "worker.spawn", &arguments)
    };
    let (_, said) = spawn("tester", "@slow 1200\n@tool time.now {}\n@say all done");
    let worker = session_in(&said);
    mind.hears(&session, "reached its deadline");
    let run = mind.ended_runs(&worker, 1).remove(0);
    assert_eq!(run["status"], "yielded", "{run}");
    let asked = mind.request(&run, 1).to_string();
    assert!(asked.contains("You find out whether something works."), "{asked}");
    let shown = document(&mind.home, &["worker", "show", &worker]);
    assert_eq!(
        (&shown["role"], shown["task"].as_str()),
        (&json!("tester"), Some("@slow 1200 @tool time.now {} @say all done")),
        "{shown}"
    );
    // A document of the agent takes the place of the built-in role, and adds roles of its own.
    mind.write("roles/tester.md", "Break it.");
    mind.write("roles/poet.md", "Rhyme.");
    for (role, text) in [("tester", "Break it."), ("poet", "Rhyme.")] {
        let (_, said) = spawn(role, "@say done");
        let run = mind.ended_runs(&session_in(&said), 1).remove(0);
        let asked = mind.request(&run, 1).to_string();
        assert!(asked.contains(text) && !asked.contains("You find out whether"), "{asked}");
    }
    // A worker keeps the role that it began with, also in its later runs.
    let (_, said) = spawn("poet", "@say done");
    let poet = session_in(&said);
    mind.ended_runs(&poet, 1);
    mind.write("roles/poet.md", "Write prose.");
    mind.call(&session, "worker.route", &json!({"worker": poet, "text": "@say again"}));
    let again = mind.ended_runs(&poet, 2).remove(1);
    let asked = mind.request(&again, 1).to_string();
    assert!(asked.contains("Rhyme.") && !asked.contains("Write prose."), "{asked}");
    let (status, said) = spawn("cook", "@say done");
    assert_eq!(status, "error", "{said}");
    let known = "there is no role cook; there are analyst, coder, poet, researcher, reviewer, tester, writer";
    assert!(said.contains(known), "{said}");
}

#[test]
fn a_worker_concludes_at_its_deadline_and_can_be_resumed() {
    let home = Home::new();
    let path = home.path().join("dromia.yaml");
    let yaml = std::fs::read_to_string(&path).expect("a configuration");
    let yaml = yaml.replace("engine:\n", "engine:\n  worker_deadline_ms: 1000\n");
    std::fs::write(&path, yaml).expect("it can be written");
    let mind = MindHome::begin_in(home);
    // A longer time is not the agent's to give.
    let task = "@slow 1200\n@tool time.now {}\n@tool time.now {}\n@say all done";
    let (session, _) = mind.send(None, "@say hi");
    mind.ended_runs(&session, 1);
    let (_, said) = mind.call(&session, "worker.spawn", &json!({"deadline_s": 600, "task": task}));
    let worker = session_in(&said);
    let inputs = mind.hears(&session, "deadline");
    let run = mind.ended_runs(&worker, 1).remove(0);
    let end = mind.journal(&run).pop().expect("an entry");
    let said = inputs.last().cloned().unwrap_or_default();
    assert_eq!(wrong_deadline(&run, &end, &said), None, "{run} {end} {said}");
    // Its last call was asked without tools, and is written again from the journal alone.
    let last = mind.request(&run, 2);
    assert!(last.to_string().contains("This is your last step"), "{last}");
    let id = text_of(&run["id"]);
    let why = document(&mind.home, &["run", "why", &id]);
    assert_eq!(why["waits_for"], "it reached its deadline", "{why}");
    document(&mind.home, &["run", "resume", &id]);
    let runs = mind.ended_runs(&worker, 2);
    assert_eq!(runs[1]["status"], "completed", "{runs:?}");
    // A solo agent's worker just stops.
    document(&mind.home, &["agent", "set", "mind", "mind=solo", "grants+=worker.spawn"]);
    let (session, worker) = mind.spawn("@slow 1200\n@tool time.now {}\n@say all done");
    mind.hears(&session, "stopped at its deadline");
    let run = mind.ended_runs(&worker, 1).remove(0);
    assert_eq!((&run["status"], &run["model_calls"]), (&json!("yielded"), &json!(1)), "{run}");
}

/// Those of some sessions that are still there.
fn left_sessions(mind: &MindHome, sessions: &[String]) -> Vec<String> {
    let is_there = |session: &&String| block_on(mind.server.get(&format!("/v1/sessions/{session}"))).0 != 404;
    sessions.iter().filter(is_there).cloned().collect()
}

#[test]
fn a_session_is_deleted_with_more_workers_than_one_commit_takes() {
    let mind = MindHome::begin();
    let (session, _) = mind.send(None, "@say hi");
    mind.ended_runs(&session, 1);
    let mut all = vec![session.clone()];
    for number in 0..50 {
        let task = json!({"task": format!("@say {number}")});
        let (_, said) = mind.call(&session, "worker.spawn", &task);
        let worker = session_in(&said);
        mind.ended_runs(&worker, 1);
        all.push(worker);
    }
    assert_eq!(left_sessions(&mind, &all), all, "the same search finds those that are left");
    // The last conclusion may still begin a turn.
    let until = Instant::now() + DEADLINE;
    loop {
        let deleted = mind.home.run(&["session", "delete", &session, "--yes"]);
        if deleted.status.success() {
            break;
        }
        let said = stderr(&deleted);
        assert!(said.contains("session_in_use") && Instant::now() < until, "{said}");
        sleep(Duration::from_millis(20));
    }
    assert_eq!(left_sessions(&mind, &all), Vec::<String>::new());
    let verified = mind.home.run(&["audit", "verify"]);
    assert!(verified.status.success(), "{}", stderr(&verified));
}
