//! The server is killed at each moment of a message on its way out and of a program that runs: what may have happened is
//! said to be unknown, nothing happens twice unless whoever hears it counts by id, and nothing is left behind.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::{DEADLINE, Home, block_on, count, stderr, tell};
use crate::programs::{self, workspace};
use crate::tasks::{gone, lines_with};
use crate::webhook::{NEVER, Receiver, deliveries, say, serve, until_all, with_channel};

/// Where the first message is when its server is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Behind another one, which the receiver has and does not answer.
    Prepared,
    /// Its attempt is durable, and the receiver has nothing of it.
    Sending,
    /// The receiver has it and did not answer.
    Heard,
    /// The receiver took it, and that is durable.
    Delivered,
}

/// How it went: each message with how it ended, the newest first, and the ids in the order in which they were heard.
struct Lived {
    ends: Vec<(String, String)>,
    heard: Vec<String>,
}

/// The states of all messages, the newest first.
fn states(home: &Home) -> Vec<(String, String)> {
    let text = |delivery: &Value, name: &str| delivery[name].as_str().expect("a text").to_owned();
    deliveries(home).iter().map(|delivery| (text(delivery, "id"), text(delivery, "state"))).collect()
}

/// Waits until the messages stand as wanted.
fn until(home: &Home, wanted: impl Fn(&[(String, String)]) -> bool) -> Vec<(String, String)> {
    let end = Instant::now() + DEADLINE;
    loop {
        let found = states(home);
        if wanted(&found) {
            return found;
        }
        assert!(Instant::now() < end, "the messages stay at {found:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn lived(idempotent: bool, moment: Moment) -> Lived {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    with_channel(&home, &url, if idempotent { "" } else { ", idempotent: false" });
    let server = serve(&home);
    assert_eq!(say(&server, "msg_1", "hello").0, 202);
    let receiver = match moment {
        Moment::Prepared => {
            let receiver = Receiver::on(listener, NEVER);
            receiver.until(1);
            assert_eq!(say(&server, "msg_2", "hello").0, 202);
            until(&home, |found| found.iter().map(|(_, state)| state).eq(["prepared", "sending"]));
            server.kill();
            receiver
        }
        Moment::Sending => {
            until_all(&home, "sending", 1);
            server.kill();
            // This machine took the connection, and the receiver never does.
            listener.set_nonblocking(true).expect("it can be told");
            while listener.accept().is_ok() {}
            listener.set_nonblocking(false).expect("it can be told");
            Receiver::on(listener, 200)
        }
        Moment::Heard => {
            let receiver = Receiver::on(listener, NEVER);
            receiver.until(1);
            server.kill();
            receiver
        }
        Moment::Delivered => {
            let receiver = Receiver::on(listener, 200);
            until_all(&home, "delivered", 1);
            server.kill();
            receiver
        }
    };
    receiver.answer(200);
    let server = serve(&home);
    // What comes later goes out behind all of it.
    assert_eq!(say(&server, "msg_last", "hello").0, 202);
    let all = if moment == Moment::Prepared { 3 } else { 2 };
    let is_over = |state: &str| ["delivered", "unknown_after_send", "dead"].contains(&state);
    let ends = until(&home, |found| found.len() == all && found.iter().all(|(_, state)| is_over(state)));
    drop(server);
    Lived { ends, heard: receiver.heard().into_iter().map(|one| one.id).collect() }
}

/// Says what is wrong with how it went: a receiver that counts by id counts each message once, and one that does not is
/// told none twice.
fn judged(idempotent: bool, lived: &Lived) -> Result<(), String> {
    for (id, state) in &lived.ends {
        let times = lived.heard.iter().filter(|heard| *heard == id).count();
        match (idempotent, state.as_str(), times) {
            (true, "delivered", 1 | 2) | (false, "delivered", 1) | (false, "unknown_after_send", 0 | 1) => {}
            _ => return Err(format!("{id} is {state} and was heard {times} times")),
        }
    }
    let mut order = lived.heard.clone();
    order.dedup();
    let made: Vec<_> = lived.ends.iter().rev().map(|(id, _)| id).filter(|id| order.contains(id)).collect();
    if order.iter().collect::<Vec<_>>() == made { Ok(()) } else { Err(format!("reordered: {order:?}")) }
}

/// Lives through all moments: how often something is heard in each, and how much is unknown.
fn sweep(idempotent: bool, expected: [(Moment, usize, usize); 4]) {
    for (moment, heard, unknown) in expected {
        let lived = lived(idempotent, moment);
        assert_eq!(judged(idempotent, &lived), Ok(()), "{moment:?}");
        let found = lived.ends.iter().filter(|(_, state)| state == "unknown_after_send").count();
        assert_eq!((lived.heard.len(), found), (heard, unknown), "{moment:?}: {:?}", lived.ends);
    }
}

#[test]
fn a_kill_repeats_a_message_under_its_id_without_loss() {
    sweep(
        true,
        [(Moment::Prepared, 4, 0), (Moment::Sending, 2, 0), (Moment::Heard, 3, 0), (Moment::Delivered, 2, 0)],
    );
}

#[test]
fn a_kill_leaves_honest_outcomes_for_receivers_without_ids() {
    sweep(
        false,
        [(Moment::Prepared, 3, 1), (Moment::Sending, 1, 1), (Moment::Heard, 2, 1), (Moment::Delivered, 2, 0)],
    );
}

/// The planted faults: what a careless outbox would have done.
#[test]
fn a_message_that_is_lost_doubled_or_claimed_is_caught() {
    let lived = |state: &str, heard: &[&str]| Lived {
        ends: vec![("b".to_owned(), "delivered".to_owned()), ("a".to_owned(), state.to_owned())],
        heard: heard.iter().map(|id| (*id).to_owned()).collect(),
    };
    for (idempotent, lived, is_good) in [
        (true, lived("delivered", &["a", "a", "b"]), true),
        (true, lived("delivered", &["b"]), false),
        (true, lived("delivered", &["b", "a"]), false),
        (true, lived("unknown_after_send", &["a", "b"]), false),
        (false, lived("delivered", &["a", "b"]), true),
        (false, lived("unknown_after_send", &["b"]), true),
        (false, lived("delivered", &["b"]), false),
        (false, lived("delivered", &["a", "a", "b"]), false),
        (false, lived("unknown_after_send", &["a", "a", "b"]), false),
        (false, lived("dead", &["a", "b"]), false),
    ] {
        assert_eq!(judged(idempotent, &lived).is_ok(), is_good, "{:?} {:?}", lived.ends, lived.heard);
    }
}

/// Where a program is when its server is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its run was accepted.
    Accepted,
    /// Its start is durable.
    Started,
    /// It did its work and runs on.
    Running,
    /// Its result is durable.
    Done,
}

/// Compares what the journal says with how often the program did its work.
fn honest(status: &str, times: usize) -> Result<(), String> {
    match (status, times) {
        ("unknown", 0 | 1) | ("ok" | "error", 1) => Ok(()),
        _ => Err(format!("it did its work {times} times, and its result is {status}")),
    }
}

/// Kills a server whose program is so far; returns the status of its result, and how often it did its work.
fn killed(home: &Home, stage: Stage, word: &str) -> (String, usize) {
    let server = home.serve();
    let file = format!("{stage:?}");
    let rest = if stage == Stage::Done {
        "true".to_owned()
    } else {
        format!("(setsid sleep {word} &); sleep {word}")
    };
    // One that may begin after the kill ends by itself; one that is killed would be there for ten minutes.
    let timeout_s = if stage == Stage::Running { 600 } else { 2 };
    let arguments = json!({"command": format!("echo line >> {file}; {rest}"), "timeout_s": timeout_s});
    let event = json!({"text": format!("@tool shell.execute {arguments}"), "agent": "dev"});
    let (status, answer) = block_on(server.event(&event));
    assert_eq!(status, 202, "{answer}");
    let session = answer["session"].as_str().expect("a session");
    let times = || {
        let text = workspace(home).and_then(|at| std::fs::read_to_string(at.join(&file)).ok());
        text.unwrap_or_default().lines().count()
    };
    match stage {
        Stage::Accepted => {}
        Stage::Started => {
            block_on(server.journal_until(session, |entries| count(entries, "tool_started") == 1));
        }
        Stage::Running => {
            let end = Instant::now() + DEADLINE;
            while times() == 0 {
                assert!(Instant::now() < end, "it does not run");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Stage::Done => {
            block_on(server.journal_until(session, |entries| count(entries, "tool_finished") == 1));
        }
    }
    server.kill();
    tell(&format!("{stage:?}: the program outlived its server by"), gone(word));
    let server = home.serve();
    let entries = block_on(server.journal_until(session, |entries| count(entries, "run_completed") == 1));
    gone(word);
    assert_eq!((count(&entries, "tool_started"), count(&entries, "tool_finished")), (1, 1), "{stage:?}");
    let finished = entries.iter().find(|entry| entry["kind"] == "tool_finished").expect("it was counted");
    (finished["fields"]["status"].as_str().expect("a status").to_owned(), times())
}

#[test]
fn a_kill_at_any_program_stage_leaves_an_honest_journal() {
    let home = programs::home();
    let word = format!("6{:07}", std::process::id());
    for stage in [Stage::Accepted, Stage::Started, Stage::Running, Stage::Done] {
        let (status, times) = killed(&home, stage, &word);
        assert_eq!(honest(&status, times), Ok(()), "{stage:?}");
        match stage {
            Stage::Accepted | Stage::Started => {}
            Stage::Running => assert_eq!((status.as_str(), times), ("unknown", 1)),
            Stage::Done => assert_eq!((status.as_str(), times), ("ok", 1)),
        }
    }
}

/// The planted faults: a program that nobody ended, and journals that claim too much.
#[test]
fn a_leftover_program_and_a_false_journal_are_caught() {
    let word = format!("7{:07}", std::process::id());
    let mut left = Command::new("sleep").arg(&word).stdin(Stdio::null()).spawn().expect("it starts");
    let end = Instant::now() + DEADLINE;
    while lines_with(&word).is_empty() {
        assert!(Instant::now() < end, "it is not seen");
        std::thread::sleep(Duration::from_millis(5));
    }
    left.kill().expect("it is there");
    left.wait().expect("it ends");
    gone(&word);
    for (status, times) in [("ok", 0), ("ok", 2), ("error", 0), ("unknown", 2), ("cancelled", 1)] {
        assert!(honest(status, times).is_err(), "{status} {times}");
    }
}

#[test]
fn an_ask_cut_short_continues_as_one_run() {
    for is_killed in [true, false] {
        let home = Home::new();
        let server = home.serve();
        let line = ["ask", "@slow 8000\n@say done", "--idempotency-key", "once", "--timeout", "30s"];
        let mut command = home.command();
        let asking =
            command.args(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        block_on(async {
            let end = Instant::now() + DEADLINE;
            while server.get("/v1/runs").await.1["items"][0]["model_calls"] != 1 {
                assert!(Instant::now() < end, "no run takes the question");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        if is_killed {
            server.kill();
        } else {
            server.terminate();
        }
        let ended = asking.wait_with_output().expect("it ends");
        let told = stderr(&ended);
        // A server that is ended may wait for the answer first.
        if is_killed || !ended.status.success() {
            assert_eq!((ended.status.code(), ended.stdout.len()), (Some(5), 0), "{told}");
            let goes_on = ["--idempotency-key once`", "`dromia run watch run_"];
            assert!(goes_on.iter().any(|hint| told.contains(hint)), "{told}");
        }
        let server = home.serve();
        let again = home.run(&line);
        assert_eq!(String::from_utf8_lossy(&again.stdout), "done\n", "{}", stderr(&again));
        let (_, runs) = block_on(server.get("/v1/runs"));
        assert_eq!(runs["items"].as_array().map(Vec::len), Some(1), "{runs}");
    }
}
