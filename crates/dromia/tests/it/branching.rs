//! Branches, through the real binary: what one sees, what becomes of its conclusion, and what a crash leaves of both.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::approvals::document;
use crate::compaction::{fact, post, small_home, summarized};
use crate::home::{block_on, stderr};
use crate::minds::{MindHome, items, session_in, text_of};

/// Until when something happens.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the model is told to call.
fn branch(task: &str) -> String {
    format!("@tool branch {}\n@say working on it", json!({ "task": task }))
}

impl MindHome {
    /// The session of the branch that the first run of a session began.
    fn branch_of(&self, session: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let runs = self.get(&format!("/v1/runs?session={session}&limit=256"));
            let first = items(&runs["items"]).last().filter(|run| run["status"] == "completed");
            if let Some((_, said)) = first.and_then(|run| self.results(run).into_iter().next()) {
                return session_in(&said);
            }
            assert!(Instant::now() < until, "{runs}");
            sleep(Duration::from_millis(20));
        }
    }

    /// What was said into a session, in order.
    fn inputs(&self, session: &str) -> Vec<String> {
        let shown = document(&self.home, &["session", "show", session]);
        let inputs = items(&shown["transcript"]["turns"]).iter().filter(|turn| turn["role"] == "input");
        inputs.map(|turn| turn["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Kills the server, and starts another one.
    fn restarted(self) -> Self {
        let Self { home, server } = self;
        server.kill();
        let server = home.serve();
        Self { home, server }
    }
}

/// The elements of a request's transcript.
fn messages(request: &Value) -> &[Value] {
    items(&request["messages"])
}

/// What differs between the request of a branch and the one of its parent that it begins with.
fn wrong_beginning(parent: &Value, branch: &Value) -> Vec<String> {
    let mut wrong: Vec<_> = ["model", "tools"]
        .iter()
        .filter(|part| parent[**part] != branch[**part])
        .map(ToString::to_string)
        .collect();
    if !messages(branch).starts_with(messages(parent)) {
        wrong.push("the transcript".to_owned());
    }
    wrong
}

#[test]
fn a_turn_answers_while_its_branch_works() {
    let mind = MindHome::begin();
    let (session, _) = mind.send(None, &branch("@slow 1500\n@say forty-two"));
    let first = &mind.ended_runs(&session, 1)[0];
    assert_eq!(first["status"], "completed");
    let child = session_in(&mind.results(first)[0].1);
    let busy = mind.get(&format!("/v1/runs?session={child}"));
    assert!(items(&busy["items"]).iter().all(|run| run["status"] == "running"), "{busy}");
    // The next message is answered, and knows of no conclusion yet; then the conclusion begins a turn.
    mind.send(Some(&session), "@say still here");
    let runs = mind.ended_runs(&session, 3);
    let inputs = mind.inputs(&session);
    assert!(inputs[2].contains("forty-two"), "{inputs:?}");
    let woken = mind.request(&runs[2], 1).to_string();
    assert!(woken.contains("before the last 1 input"), "{woken}");
    let run = &mind.ended_runs(&child, 1)[0];
    assert_eq!((&run["kind"], &run["status"]), (&json!("branch"), &json!("completed")));
    assert_eq!(runs[2]["kind"], "turn");
    let verified = mind.home.run(&["audit", "verify"]);
    assert!(verified.status.success(), "{}", stderr(&verified));
}

#[test]
fn a_branch_begins_with_the_bytes_of_its_parent() {
    let mut mind = MindHome::begin();
    let (session, _) = mind.send(None, "@say remember the blue door");
    mind.ended_runs(&session, 1);
    mind.send(Some(&session), &branch("@tool time.now {}\n@say seen"));
    let runs = mind.ended_runs(&session, 3);
    let child = session_in(&mind.results(&runs[1])[0].1);
    let run = mind.ended_runs(&child, 1).remove(0);
    let (parent, first) = (mind.request(&runs[1], 1), mind.request(&run, 1));
    assert_eq!(wrong_beginning(&parent, &first), Vec::<String>::new());
    assert!(messages(&first).len() == messages(&parent).len() + 1, "{first}");
    assert!(first.to_string().contains("blue door"), "{first}");
    // More input, another process and another configuration change nothing of it.
    mind.send(Some(&session), "@say more");
    mind.ended_runs(&session, 4);
    document(&mind.home, &["agent", "set", "mind", "instructions=Be brief."]);
    mind = mind.restarted();
    for step in [1, 2] {
        let again = mind.request(&run, step);
        assert_eq!(wrong_beginning(&parent, &again), Vec::<String>::new());
        assert!(step != 1 || again == first, "{again}");
    }
}

#[test]
fn a_branch_that_begins_otherwise_is_caught() {
    let parent = json!({"model": "s", "tools": ["a"], "messages": ["one", "two"]});
    let good = json!({"model": "s", "tools": ["a"], "messages": ["one", "two", "three"]});
    assert!(wrong_beginning(&parent, &good).is_empty());
    for (part, value) in [("model", json!("t")), ("tools", json!([])), ("messages", json!(["two", "three"]))]
    {
        let mut bad = good.clone();
        bad[part] = value;
        assert_eq!(wrong_beginning(&parent, &bad).len(), 1, "{part}");
    }
}

#[test]
fn a_branch_only_reads() {
    let mind = MindHome::begin();
    let write = format!("@tool file.write {}", json!({"path": "a", "content": "x"}));
    let list = "@tool file.list {}";
    let (session, _) = mind.send(None, &branch(&format!("{write}\n{list}\n@tool branch {{\"task\":\"x\"}}")));
    let child = mind.branch_of(&session);
    let results = mind.results(&mind.ended_runs(&child, 1)[0]);
    let statuses: Vec<_> = results.iter().map(|(status, _)| status.as_str()).collect();
    assert_eq!(statuses, ["denied", "ok", "denied"], "{results:?}");
    assert!(results[0].1.contains("worker.spawn"), "{results:?}");
}

#[test]
fn a_solo_agent_has_no_branches() {
    let mind = MindHome::begin();
    document(&mind.home, &["agent", "set", "mind", "mind=solo", "grants+=branch"]);
    let (session, _) = mind.send(None, &branch("@say x"));
    let run = &mind.ended_runs(&session, 1)[0];
    let (status, said) = &mind.results(run)[0];
    assert!(status == "denied" && said.contains("branching"), "{status} {said}");
    assert!(!mind.request(run, 1)["tools"].to_string().contains("\"branch\""));
}

#[test]
fn a_session_has_so_many_branches_at_once() {
    let mind = MindHome::begin();
    let one = format!("@tool branch {}", json!({"task": "@slow 5000\n@say x"}));
    let all: Vec<_> = std::iter::repeat_n(format!("{one} &"), 5).chain([one]).collect();
    let (session, _) = mind.send(None, &format!("{}\n@say begun", all.join("\n")));
    let run = &mind.ended_runs(&session, 1)[0];
    let results = mind.results(run);
    let begun = results.iter().filter(|(status, _)| status == "ok").count();
    assert!(begun == 5 && results[5].1.contains("5 runs of kind branch"), "{results:?}");
}

#[test]
fn a_superseded_conclusion_waits_for_the_next_input() {
    let mind = MindHome::begin();
    let about = |text: &str| format!("@tool branch {}", json!({"topic": "door", "task": text}));
    let lines = [about("@slow 1500\n@say first"), about("@slow 100\n@say second")];
    let (session, _) = mind.send(None, &format!("{} &\n{}\n@say begun", lines[0], lines[1]));
    // The second one begins a turn.
    let runs = mind.ended_runs(&session, 2);
    let first = session_in(&mind.results(&runs[0])[0].1);
    mind.ended_runs(&first, 1);
    sleep(Duration::from_millis(500));
    assert_eq!(mind.inputs(&session).len(), 2);
    mind.send(Some(&session), "@say go on");
    let runs = mind.ended_runs(&session, 3);
    let inputs = mind.inputs(&session);
    assert!(inputs[2].contains("first") && inputs[3] == "@say go on", "{inputs:?}");
    assert!(mind.request(&runs[2], 1).to_string().contains("replaces it"));
}

#[test]
fn a_branchs_session_is_no_export_and_takes_no_input() {
    let mind = MindHome::begin();
    let (session, _) = mind.send(None, &branch("@say x"));
    let child = mind.branch_of(&session);
    mind.ended_runs(&child, 1);
    let exported = mind.home.run(&["session", "export", &child]);
    assert!(!exported.status.success() && stderr(&exported).contains(&session), "{}", stderr(&exported));
    let (status, answer) = block_on(mind.server.get(&format!("/v1/sessions/{session}/export")));
    assert_eq!(status, 200, "{answer}");
    let sent = mind.home.run(&["event", "send", "hello", "--session", &child]);
    assert!(!sent.status.success() && stderr(&sent).contains("reserved"), "{}", stderr(&sent));
}

/// What is wrong with the conclusions of branches: each branch that began concluded once.
fn wrong_conclusions(begun: &[String], inputs: &[String]) -> Vec<String> {
    let told = |session: &str| {
        inputs
            .iter()
            .filter(|input| input.contains("The branch of your call") && input.contains(session))
            .count()
    };
    begun.iter().filter(|session| told(session) != 1).cloned().collect()
}

#[test]
fn a_lost_conclusion_is_caught() {
    let begun = ["ses_1".to_owned()];
    let told = ["The branch of your call c is done; it ran in ses_1.".to_owned()];
    assert!(wrong_conclusions(&begun, &told).is_empty());
    assert_eq!(wrong_conclusions(&begun, &[]).len(), 1, "a lost one");
    assert_eq!(wrong_conclusions(&begun, &[&told[..], &told].concat()).len(), 1, "one that is told twice");
}

#[test]
fn crashes_at_any_moment_conclude_each_branch_once() {
    let mut mind = MindHome::begin();
    for pause in [5, 12, 20, 35, 60, 100] {
        let line = |number: usize| format!("@tool branch {}", json!({"task": format!("@say done {number}")}));
        let lines: Vec<_> = (0..3).map(line).collect();
        let (session, _) = mind.send(None, &lines.join("\n"));
        sleep(Duration::from_millis(pause));
        mind = mind.restarted();
        let until = Instant::now() + DEADLINE;
        loop {
            let inputs = mind.inputs(&session);
            if inputs.iter().filter(|input| input.contains("of your call")).count() == 3 {
                break;
            }
            assert!(Instant::now() < until, "after {pause} ms: {inputs:?}");
            sleep(Duration::from_millis(20));
        }
        let runs = mind.get(&format!("/v1/runs?session={session}&limit=256"));
        let first = items(&runs["items"]).last().expect("a run");
        let begun: Vec<_> = mind.results(first).iter().map(|(_, said)| session_in(said)).collect();
        let inputs = mind.inputs(&session);
        assert_eq!(wrong_conclusions(&begun, &inputs), Vec::<String>::new(), "after {pause} ms: {inputs:?}");
        let tree = mind.get(&format!("/v1/runs/{}/tree", text_of(&first["id"])));
        let kinds: Vec<_> = items(&tree["nodes"]).iter().map(|node| text_of(&node["kind"])).collect();
        assert_eq!(kinds, ["turn", "branch", "branch", "branch"], "{tree}");
    }
    let verified = mind.home.run(&["audit", "verify"]);
    assert!(verified.status.success(), "{}", stderr(&verified));
}

#[test]
fn a_branch_of_a_summarized_session_reads_its_first_words() {
    let mut mind = MindHome::begin_in(small_home(8_000));
    let (session, _) = mind.send(None, &fact(1));
    for number in 2..=12 {
        mind.send(Some(&session), &fact(number));
    }
    mind.ended_runs(&session, 12);
    block_on(async {
        post(&mind.server, &format!("/v1/sessions/{session}/compaction")).await;
        summarized(&mind.server, &session, 1).await;
    });
    // The second input is summarized. Behind the thirteenth, which begins the branch, follows the branch's own.
    let reads: Vec<_> =
        [2, 14, 15].iter().map(|handle| format!("@tool past.read {{\"handle\":\"{handle}\"}}")).collect();
    mind.send(Some(&session), &branch(&format!("{}\n@say read", reads.join("\n"))));
    let runs = mind.ended_runs(&session, 14);
    let child = session_in(&mind.results(&runs[12])[0].1);
    let run = mind.ended_runs(&child, 1).remove(0);
    let results = mind.results(&run);
    assert!(results[0].1.contains("QX-2-14"), "{results:?}");
    assert!(results[1].1.contains("past.read"), "{results:?}");
    assert_ne!(results[2].0, "ok", "the conversation goes on without the branch: {results:?}");
    let (parent, first) = (mind.request(&runs[12], 1), mind.request(&run, 1));
    assert_eq!(wrong_beginning(&parent, &first), Vec::<String>::new());
    assert!(!first.to_string().contains("The code of locker 2 is"), "{first}");
    let (status, answer) = block_on(post(&mind.server, &format!("/v1/sessions/{child}/compaction")));
    assert!(status == 200 && answer.to_string().contains("nothing_to_do"), "{status} {answer}");
    mind = mind.restarted();
    assert_eq!(mind.request(&run, 1), first);
    let context = mind.get(&format!("/v1/sessions/{child}/context"));
    assert!(context["past"].as_u64() > Some(500), "{context}");
}

#[test]
fn a_turn_is_told_what_goes_on_beside_it() {
    let mut mind = MindHome::begin();
    let (session, _) = mind.send(None, &branch("@slow 3000\n@say late"));
    let child = mind.branch_of(&session);
    mind.send(Some(&session), "@tool past.read {\"handle\":\"1\"}\n@say still here");
    let runs = mind.ended_runs(&session, 3);
    let told = |run: &Value, step: u32| mind.request(run, step).to_string();
    // Both requests of the second turn say it, before its input; no other turn repeats it.
    let line = format!("- branch {child}, begun by call_1_0 for input 1, running for");
    for step in [1, 2] {
        let request = told(&runs[1], step);
        let (said, asked) = (request.find(&line), request.find("still here"));
        assert!(said.is_some_and(|said| asked.is_some_and(|asked| said < asked)), "{request}");
    }
    for run in [&runs[0], &runs[2]] {
        assert!(!told(run, 1).contains("Beside this conversation"), "{}", told(run, 1));
    }
    let before = mind.request(&runs[1], 2);
    mind = mind.restarted();
    assert_eq!(mind.request(&runs[1], 2), before);
}
