//! Tasks through the real binary: how they stand, and that what is killed is gone with all that it started.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::{DEADLINE, Home, Server, block_on, count, stderr, tell};

/// A home with an agent that may run programs.
fn home() -> Home {
    let home = Home::new();
    let server = home.serve();
    let grants = ["model", "reply", "shell.execute"].map(|grant| ["--grant", grant]).concat();
    let created = home.run(&[&["agent", "create", "dev"][..], &grants].concat());
    assert!(created.status.success(), "{}", stderr(&created));
    drop(server);
    home
}

async fn post(server: &Server, path: &str, body: &Value) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("{}{path}", server.url)).bearer_auth(&server.token);
    server.send(request.json(body)).await
}

/// Runs a command and takes its document.
fn told(home: &Home, line: &[&str]) -> Value {
    let output = home.run(&[line, &["--json"]].concat());
    assert!(output.status.success(), "{line:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("a document")
}

/// Reads the command lines of this machine's processes that have a word in them. The walls around a program may have it
/// too.
pub(crate) fn lines_with(word: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("the processes").flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    lines.filter(|line| line.contains(word)).collect()
}

/// Waits until the command lines with a word are as wanted, and returns how long that took.
fn until(word: &str, wanted: impl Fn(&[String]) -> bool) -> Duration {
    let began = Instant::now();
    loop {
        let lines = lines_with(word);
        if wanted(&lines) {
            return began.elapsed();
        }
        assert!(began.elapsed() < DEADLINE, "{lines:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until nothing of a program is left, and tells how long that took: on an idle machine far below the second that
/// is promised. Left alone, it would be there for ten minutes.
pub(crate) fn gone(word: &str) -> Duration {
    until(word, <[String]>::is_empty)
}

/// Gives `dev` a task that runs a program for a long time, and waits until that program runs. Returns the task, and the
/// word in the command lines of its processes.
fn sleeping(server: &Server, number: u32) -> (Value, String) {
    // Nobody else sleeps for so many seconds, also not in another run of these tests.
    let word = format!("{number}{:07}", std::process::id());
    let command = format!("(setsid sleep {word} &); sleep {word}");
    let task = format!("@tool shell.execute {}\n@say done", json!({"command": command, "timeout_s": 600}));
    let (status, task) = block_on(post(server, "/v1/agents/dev/spawn", &json!({"task": task})));
    assert_eq!((status, &task["state"]), (202, &json!("running")), "{task}");
    let sleep = format!("sleep\0{word}\0");
    until(&word, |lines| lines.iter().filter(|line| **line == sleep).count() == 2);
    (task, word)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {value}"))
}

fn finished(entries: &[Value]) -> (String, String) {
    let end = entries.iter().find(|entry| entry["kind"] == "tool_finished").expect("the call has a result");
    let told = text(&end["body"]["parts"][0], "text").to_owned();
    (text(&end["fields"], "status").to_owned(), told)
}

#[test]
fn a_kill_ends_a_runs_programs_within_a_second() {
    let home = home();
    let server = home.serve();
    let (task, word) = sleeping(&server, 1);
    let run = text(&task, "run");
    let (status, killed) = block_on(post(&server, "/v1/agents/dev/kill", &json!({"run": run})));
    assert_eq!((status, &killed["runs"]), (202, &json!([run])), "{killed}");
    tell("the program was there for", gone(&word));

    let session = text(&task, "session");
    let entries = block_on(server.journal_until(session, |entries| count(entries, "run_cancelled") == 1));
    let kinds: Vec<_> = entries.iter().map(|entry| text(entry, "kind")).collect();
    let expected = ["tool_started", "signal_taken", "tool_finished", "run_cancelled"];
    assert_eq!(kinds[kinds.len() - expected.len()..], expected, "{kinds:?}");
    let (status, told_model) = finished(&entries);
    assert_eq!(status, "unknown");
    assert!(told_model.contains("the run was ended before it could report"), "{told_model}");

    let tasks = told(&home, &["agent", "tasks", "dev"]);
    let first = &tasks["items"][0];
    assert_eq!((text(first, "state"), text(first, "status")), ("failed", "cancelled"), "{tasks}");
    let (status, again) = block_on(post(&server, "/v1/agents/dev/kill", &json!({"run": run})));
    assert_eq!(status, 202, "asking again changes nothing: {again}");
}

#[test]
fn killing_all_runs_leaves_the_agent_running() {
    let home = home();
    let server = home.serve();
    let (_, first) = sleeping(&server, 2);
    let (_, second) = sleeping(&server, 3);
    let killed = told(&home, &["agent", "kill", "dev"]);
    assert_eq!(killed["runs"].as_array().map(Vec::len), Some(2), "{killed}");
    tell("the programs were there for", gone(&first) + gone(&second));
    let answered = home.run(&["agent", "spawn", "dev", "--task", "hello", "--wait"]);
    assert!(answered.status.success() && !answered.stdout.is_empty(), "{}", stderr(&answered));
    assert_eq!(told(&home, &["agent", "kill", "dev"])["runs"], json!([]), "nothing is left");
}

#[test]
fn a_killed_server_leaves_no_program_and_an_honest_journal() {
    let home = home();
    let server = home.serve();
    let (task, word) = sleeping(&server, 4);
    server.kill();
    tell("the program outlived its server by", gone(&word));
    let server = home.serve();
    let session = text(&task, "session");
    let entries = block_on(server.journal_until(session, |entries| count(entries, "run_completed") == 1));
    assert_eq!(count(&entries, "tool_started"), 1, "it is not begun again");
    assert_eq!(finished(&entries).0, "unknown");
    assert_eq!(lines_with(&word), Vec::<String>::new());
}

#[test]
fn a_task_is_reported_in_each_of_its_states() {
    let home = home();
    let server = home.serve();
    let states = |agent: &str| {
        let tasks = told(&home, &["agent", "tasks", agent]);
        let items = tasks["items"].as_array().expect("rows").iter();
        items.map(|task| text(task, "state").to_owned()).collect::<Vec<_>>()
    };
    let done = told(&home, &["agent", "spawn", "dev", "--task", "hello", "--wait"]);
    assert_eq!((text(&done, "state"), text(&done, "status")), ("completed", "completed"), "{done}");
    assert!(!text(&done["ended"], "reply").is_empty(), "{done}");

    assert!(home.run(&["agent", "pause", "dev"]).status.success());
    let spawn = ["agent", "spawn", "dev", "--task", "hello again", "--idempotency-key", "k"];
    let first = told(&home, &spawn);
    assert_eq!((text(&first, "state"), &first["run"]), ("pending", &Value::Null), "{first}");
    let again = told(&home, &spawn);
    assert_eq!((&again["item"], &again["replayed"]), (&first["item"], &json!(true)));
    let second = told(&home, &["agent", "spawn", "dev", "--task", "and again"]);
    assert_eq!(states("dev"), ["pending", "pending", "completed"]);

    // It ends before it begins, though nothing of the agent runs, and what else waits stays.
    let killed = told(&home, &["agent", "kill", "dev", "--session", text(&second, "session")]);
    assert_eq!(killed["runs"].as_array().map(Vec::len), Some(1), "{killed}");
    assert_eq!(states("dev"), ["failed", "pending", "completed"]);
    assert!(home.run(&["agent", "resume", "dev"]).status.success());
    let end = Instant::now() + DEADLINE;
    while states("dev") != ["failed", "completed", "completed"] {
        assert!(Instant::now() < end, "{:?}", states("dev"));
        std::thread::sleep(Duration::from_millis(20));
    }

    let busy = ["agent", "create", "busy", "--model-calls-max", "2", "--grant", "model", "--grant", "file.*"];
    let created = home.run(&busy);
    assert!(created.status.success(), "{}", stderr(&created));
    let paused = home.run(&["agent", "spawn", "busy", "--task", "@loop file.list {}", "--wait"]);
    assert_eq!(paused.status.code(), Some(7), "{}", stderr(&paused));
    assert!(stderr(&paused).contains("the task is paused"), "{}", stderr(&paused));
    assert_eq!(states("busy"), ["paused"]);

    block_on(async {
        let asked = reqwest::Client::new().get(format!("{}/metrics", server.url)).bearer_auth(&server.token);
        let text = asked.send().await.expect("an answer").text().await.expect("a text");
        for line in [r#"dromia_tasks_total{state="failed"} 1"#, r#"dromia_tasks_total{state="paused"} 1"#] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    });
}

#[test]
fn a_stranger_gives_no_task_and_ends_none() {
    let home = home();
    let server = home.serve();
    let stranger = text(&told(&home, &["tenant", "create", "stranger"]), "token").to_owned();
    let (task, word) = sleeping(&server, 5);
    block_on(async {
        let agent = text(&task, "agent");
        let http = reqwest::Client::new();
        for (path, body) in [
            ("spawn", json!({"task": "hello"})),
            ("kill", json!({"run": task["run"]})),
            ("kill", json!({"all": true})),
        ] {
            let url = format!("{}/v1/agents/{agent}/{path}", server.url);
            let asked = || http.post(&url).json(&body);
            assert_eq!(server.send(asked().bearer_auth(&stranger)).await.0, 404, "{path}");
            assert_eq!(server.send(asked()).await.0, 401, "{path}");
        }
        let url = format!("{}/v1/agents/{agent}/tasks", server.url);
        assert_eq!(server.send(http.get(&url).bearer_auth(&stranger)).await.0, 404);
    });
    assert!(!lines_with(&word).is_empty(), "it was ended");
    assert_eq!(told(&home, &["agent", "kill", "dev"])["runs"], json!([task["run"]]));
    gone(&word);
}
