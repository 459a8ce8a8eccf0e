//! Documents of agents, through the real binary: where one counts, that a run keeps those that it began with, and what is refused.

use std::fs;

use serde_json::{Value, json};

use crate::approvals::document;
use crate::compaction::{fact, post, small_home, summarized};
use crate::home::{Home, append, block_on, count, stderr};
use crate::minds::{MindHome, items, session_in, text_of};

impl MindHome {
    /// Writes a document of the agent.
    pub(crate) fn write(&self, name: &str, text: &str) -> Value {
        let path = self.home.path().join("document.md");
        fs::write(&path, text).expect("a file");
        let path = path.display().to_string();
        document(&self.home, &["agent", "identity", "edit", "mind", name, "--file", &path])
    }

    /// Has the agent take a message in a channel, and returns the first request of its run.
    fn ask_in(&self, channel: &str, text: &str) -> (Value, Value) {
        let event = json!({"text": text, "agent": "mind", "channel": channel, "wait": true});
        let (status, answer) = block_on(self.server.event(&event));
        assert_eq!(status, 200, "{answer}");
        let run = self.ended_runs(&text_of(&answer["session"]), 1).remove(0);
        let request = self.request(&run, 1);
        (run, request)
    }
}

fn system_of(request: &Value) -> String {
    let first = &items(&request["messages"])[0];
    assert_eq!(first["role"], "system", "{request}");
    text_of(&first["content"])
}

/// What of a system text is missing, in the wrong order, or too much.
fn wrong_texts(system: &str, in_order: &[&str], absent: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut from = 0;
    for text in in_order {
        match system[from..].find(text) {
            Some(at) => from += at + text.len(),
            None => wrong.push(format!("{text} is missing or too early")),
        }
    }
    wrong.extend(absent.iter().filter(|text| system.contains(**text)).map(|text| format!("{text} is there")));
    wrong
}

#[test]
fn a_document_counts_in_its_sessions_and_in_no_other() {
    let mind = MindHome::begin();
    document(&mind.home, &["agent", "set", "mind", "instructions=You are the base."]);
    let (run, plain) = mind.ask_in("desk", "@say hi");
    assert_eq!(system_of(&plain), "You are the base.");
    let session = mind.get(&format!("/v1/sessions/{}", text_of(&run["session"])));
    let (platform, actor) = (text_of(&session["platform"]), text_of(&session["actor"]));
    mind.write("USER.md", "You work for Ada.\n");
    mind.write(&format!("channels/{platform}/desk.md"), "The desk is quiet.");
    mind.write(&format!("platforms/{platform}.md"), "Answer in plain text.");
    mind.write(&format!("actors/{actor}.md"), "She likes short answers.");
    mind.write("actors/cli:someone-else.md", "He likes long answers.");
    let shared =
        ["You are the base.", "You work for Ada.", "Answer in plain text.", "She likes short answers."];
    let (_, hall) = mind.ask_in("hall", "@say hi");
    assert_eq!(
        wrong_texts(&system_of(&hall), &shared, &["desk is quiet", "long answers"]),
        Vec::<String>::new()
    );
    mind.write("SOUL.md", "# Soul\nYou are kind.\n");
    mind.write("IDENTITY.md", "Your name is Otto.");
    let (_, door) = mind.ask_in("door", "@say hi");
    let shared = ["You are kind.", "Your name is Otto.", "You work for Ada.", "Answer in plain text."];
    assert_eq!(wrong_texts(&system_of(&door), &shared, &["You are the base."]), Vec::<String>::new());
    // What was sent before any of them is written again as it was.
    assert_eq!(mind.request(&run, 1), plain);
    let event = json!({"text": "@say again", "agent": "mind", "channel": "desk", "wait": true});
    let (status, answer) = block_on(mind.server.event(&event));
    assert_eq!(status, 200, "{answer}");
    let second = mind.ended_runs(&text_of(&run["session"]), 2).remove(1);
    let desk = system_of(&mind.request(&second, 1));
    let all = [
        "You are kind.",
        "Your name is Otto.",
        "You work for Ada.",
        "Answer in plain text.",
        "The desk is quiet.",
        "She likes short answers.",
    ];
    assert_eq!(wrong_texts(&desk, &all, &["You are the base.", "long answers"]), Vec::<String>::new());
    let verified = mind.home.run(&["audit", "verify"]);
    assert!(verified.status.success(), "{}", stderr(&verified));
}

#[test]
fn a_text_that_is_missing_or_of_another_session_is_caught() {
    assert_eq!(wrong_texts("a\n\nb", &["a", "b"], &["c"]).len(), 0);
    for (system, in_order, absent) in
        [("b\n\na", &["a", "b"], &[][..]), ("a", &["a", "b"], &[]), ("a\n\nb", &["a", "b"], &["b"])]
    {
        assert_eq!(wrong_texts(system, in_order, absent).len(), 1, "{system}");
    }
}

#[test]
fn branches_repeat_the_documents_and_workers_have_a_prompt_of_their_own() {
    let mind = MindHome::begin();
    mind.write("SOUL.md", "You are kind.");
    let prompt = "You are a worker: another run gave you one task";
    let branch = json!({"task": "@say thought"});
    let spawn = json!({"task": "@say worked"});
    let text = format!("@tool branch {branch}\n@tool worker.spawn {spawn}\n@say on it");
    let (session, _) = mind.send(None, &text);
    let first = mind.ended_runs_at_least(&session, 2).remove(0);
    let (turn, results) = (mind.request(&first, 1), mind.results(&first));
    assert_eq!(system_of(&turn), "You are kind.");
    // The agent gets another character while it is asked what its children were sent.
    mind.write("SOUL.md", "You are strict.");
    let branch = mind.ended_runs(&session_in(&results[0].1), 1).remove(0);
    assert_eq!(mind.request(&branch, 1)["system"], turn["system"]);
    let worker = mind.ended_runs(&session_in(&results[1].1), 1).remove(0);
    let sent = system_of(&mind.request(&worker, 1));
    assert_eq!(wrong_texts(&sent, &[prompt, "You are kind."], &[]), Vec::<String>::new());
    mind.write("prompts/worker.md", "Work.");
    let (session, _) = mind.send(None, &format!("@tool worker.spawn {spawn}\n@say on it"));
    let first = mind.ended_runs(&session, 2).remove(0);
    let worker = mind.ended_runs(&session_in(&mind.results(&first)[0].1), 1).remove(0);
    assert_eq!(system_of(&mind.request(&worker, 1)), "Work.\n\nYou are strict.");
}

#[test]
fn a_run_keeps_its_documents_over_a_takeover() {
    let mind = MindHome::begin();
    mind.write("SOUL.md", "You are kind.");
    let text =
        "@tool past.read {\"handle\":\"1\"}\n@slow 3000\n@tool past.read {\"handle\":\"1\"}\n@say done";
    let (session, _) = mind.send(None, text);
    block_on(mind.server.journal_until(&session, |entries| count(entries, "tool_finished") >= 1));
    mind.write("SOUL.md", "You are strict.");
    let MindHome { home, server } = mind;
    server.kill();
    let server = home.serve();
    let mind = MindHome { home, server };
    let run = mind.ended_runs(&session, 1).remove(0);
    for step in [1, 2] {
        assert_eq!(system_of(&mind.request(&run, step)), "You are kind.", "step {step}");
    }
    assert_eq!(run["status"], "completed", "{run}");
}

#[test]
fn the_operators_prompts_count_where_the_agent_has_none() {
    let home = Home::new();
    let path = home.path().join("dromia.yaml");
    let yaml = fs::read_to_string(&path).expect("a configuration");
    let prompts = "engine:\n  prompts: { turn: 'Be exact.', worker: 'Work for all.' }\n";
    fs::write(&path, yaml.replace("engine:\n", prompts)).expect("it can be written");
    append(&path, "tenants: { default: { prompts: { worker: 'Work here.' } } }\n");
    let mind = MindHome::begin_in(home);
    document(&mind.home, &["agent", "set", "mind", "instructions=You help."]);
    let spawn = json!({"task": "@say worked"});
    let (session, _) = mind.send(None, &format!("@tool worker.spawn {spawn}\n@say on it"));
    let turn = mind.ended_runs(&session, 2).remove(0);
    assert_eq!(system_of(&mind.request(&turn, 1)), "Be exact.\n\nYou help.");
    let worker = mind.ended_runs(&session_in(&mind.results(&turn)[0].1), 1).remove(0);
    assert_eq!(system_of(&mind.request(&worker, 1)), "Work here.\n\nYou help.");
    mind.write("prompts/turn.md", "Be quick.");
    let (_, request) = mind.ask_in("desk", "@say hi");
    assert_eq!(system_of(&request), "Be quick.\n\nYou help.");
}

#[test]
fn a_compaction_is_told_what_the_operator_says() {
    let home = small_home(8_000);
    let path = home.path().join("dromia.yaml");
    append(&path, "tenants: { default: { prompts: { compaction: 'Sum it up.', turn: 'Be exact.' } } }\n");
    let yaml = fs::read_to_string(&path).expect("a configuration");
    let prompts = "engine:\n  prompts: { compaction: 'Sum up for all.' }\n";
    fs::write(&path, yaml.replace("engine:\n", prompts)).expect("it can be written");
    let mind = MindHome::begin_in(home);
    let (session, _) = mind.send(None, &fact(1));
    for number in 2..=12 {
        mind.send(Some(&session), &fact(number));
    }
    let turn = mind.ended_runs(&session, 12).remove(0);
    assert_eq!(system_of(&mind.request(&turn, 1)), "Be exact.");
    let context = block_on(async {
        post(&mind.server, &format!("/v1/sessions/{session}/compaction")).await;
        summarized(&mind.server, &session, 1).await
    });
    let run = mind.get(&format!("/v1/runs/{}", text_of(&context["summaries"][0]["run"])));
    assert_eq!(system_of(&mind.request(&run, 1)), "Sum it up.");
}

#[test]
fn a_document_is_listed_compared_reverted_and_removed() {
    let mind = MindHome::begin();
    let first = mind.write("SOUL.md", "You are kind.\n");
    assert_eq!((&first["changed"], &first["fields"]), (&json!(true), &json!(["identity"])));
    assert_eq!(mind.write("SOUL.md", "You are kind.\n")["changed"], false);
    mind.write("SOUL.md", "You are strict.\n");
    let listed = document(&mind.home, &["agent", "identity", "list", "mind"]);
    assert_eq!((&listed["items"][0]["name"], &listed["items"][0]["bytes"]), (&json!("SOUL.md"), &json!(16)));
    let diff = document(&mind.home, &["agent", "identity", "diff", "mind", "SOUL.md"]);
    assert_eq!(diff["lines"], json!(["-You are kind.", "+You are strict."]));
    let history = document(&mind.home, &["agent", "identity", "history", "mind"]);
    assert_eq!(items(&history["items"]).len(), 2, "{history}");
    let number = first["agent"]["revision"].to_string();
    document(&mind.home, &["agent", "revert", "mind", &number]);
    let shown = document(&mind.home, &["agent", "identity", "show", "mind", "SOUL.md"]);
    assert_eq!(shown["text"], "You are kind.\n");
    document(&mind.home, &["agent", "identity", "remove", "mind", "SOUL.md"]);
    let gone = mind.home.run(&["agent", "identity", "show", "mind", "SOUL.md"]);
    assert!(stderr(&gone).contains("mind has no document SOUL.md"), "{}", stderr(&gone));
    let old = document(&mind.home, &["agent", "identity", "show", "mind", "SOUL.md", "--revision", &number]);
    assert_eq!(old["text"], "You are kind.\n");
}

#[test]
fn what_is_no_document_is_refused_with_the_next_step() {
    let mind = MindHome::begin();
    let path = mind.home.path().join("bad.md");
    let refused = |name: &str, content: &[u8]| {
        fs::write(&path, content).expect("a file");
        let path = path.display().to_string();
        let output = mind.home.run(&["agent", "identity", "edit", "mind", name, "--file", &path]);
        assert_eq!(output.status.code(), Some(2), "{name}: {}", stderr(&output));
        stderr(&output)
    };
    for (name, content, told) in [
        ("soul.md", &b"kind"[..], "the documents are SOUL.md, IDENTITY.md, USER.md"),
        ("prompts/branch.md", b"kind", "prompts/turn.md, prompts/worker.md and prompts/compaction.md"),
        ("SOUL.md", b" \n", "the text is empty"),
        ("SOUL.md", b"ki\xffnd", "is not UTF-8 text (byte 2)"),
        ("SOUL.md", &vec![b'a'; 70_000], "a document has at most 65536"),
        ("SOUL.md", b"a\x1b[0m", "the control character U+001B at byte 1"),
    ] {
        let said = refused(name, content);
        assert!(said.contains(told), "{name}: {said}");
    }
    let listed = document(&mind.home, &["agent", "identity", "list", "mind"]);
    assert_eq!(listed["items"], json!([]));
    // A new agent has none, and one revision is changed once.
    let config = json!({"model": "default", "identity": {"SOUL.md": {"digest": "0".repeat(64), "bytes": 1}}});
    let (status, answer) = block_on(async {
        let request = reqwest::Client::new().post(format!("{}/v1/agents", mind.server.url));
        let request = request.json(&json!({"handle": "x", "config": config}));
        mind.server.send(request.bearer_auth(&mind.server.token)).await
    });
    assert_eq!((status, answer["code"].as_str()), (400, Some("invalid_request")), "{answer}");
    let (status, answer) = block_on(async {
        let url = format!("{}/v1/agents/mind/identity/SOUL.md", mind.server.url);
        let request = reqwest::Client::new().put(url).header("if-match", "\"1\"");
        mind.server.send(request.json(&json!({"text": "kind"})).bearer_auth(&mind.server.token)).await
    });
    assert_eq!((status, answer["code"].as_str()), (412, Some("version_conflict")), "{answer}");
}
