//! `ask` as a person has it: text as it is made, Ctrl-C that cancels, calls that are answered at the terminal, piped text,
//! and conversations that continue.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::approvals::{document, until};
use crate::home::{DEADLINE, Home, append, stderr};
use crate::terminal::Asked;

pub(crate) const CLERK: [&str; 9] =
    ["agent", "create", "clerk", "--grant", "model", "--grant", "reply", "--grant", "file.*"];

/// A home whose agent must be allowed to append to a file.
pub(crate) fn home_with_approvals() -> Home {
    let home = Home::new();
    let file = "permissions: { ask: [file.append] }\napprovals: { hold_ms: 60000 }\n";
    append(&home.path().join("dromia.yaml"), file);
    home
}

/// Asks to append a line.
pub(crate) fn question(line: &str) -> String {
    let call = json!({"path": "log", "content": line});
    format!("@tool file.append {call}\n@say all done")
}

/// Runs a command with this on stdin, through a pipe.
pub(crate) fn piped(home: &Home, line: &[&str], input: &str) -> Output {
    let mut command = home.command();
    command.args(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    // A command that refuses it need not read all of it.
    drop(child.stdin.take().expect("a pipe").write_all(input.as_bytes()));
    child.wait_with_output().expect("it ends")
}

fn newest_status(home: &Home) -> String {
    let runs = document(home, &["run", "list", "--limit", "1"]);
    runs["items"][0]["status"].as_str().unwrap_or_default().to_owned()
}

/// Presses Ctrl-C while a run goes on, and says what is wrong with what becomes of the run.
fn check_interrupt(line: &[&str], goes_on: &[&str]) -> Result<(), String> {
    let home = Home::new();
    let _server = home.serve();
    let mut asked = Asked::of(&home, &[line, &["@slow 60000\n@say late"]].concat(), "");
    asked.sees_one_of(goes_on);
    let end = Instant::now() + DEADLINE;
    while newest_status(&home) != "running" {
        assert!(Instant::now() < end, "no run begins: {}", asked.seen);
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = asked.signalled(Signal::INT);
    let status = newest_status(&home);
    match (ended.code(), status.as_str()) {
        (Some(130), "cancelled") => {
            asked.sees("cancelled run ");
            Ok(())
        }
        (code, status) => Err(format!("{code:?}, {:?}, {status}: {}", ended.signal(), asked.seen)),
    }
}

#[test]
fn ctrl_c_cancels_the_run_of_an_ask() {
    assert_eq!(check_interrupt(&["ask"], &["thinking ", "late"]), Ok(()));
}

#[test]
fn a_ctrl_c_that_leaves_the_run_running_is_caught() {
    // This command is about the event: its run continues.
    assert!(check_interrupt(&["event", "send", "--wait"], &[""]).is_err());
}

#[test]
fn a_key_answers_the_call_that_an_ask_waits_for() {
    let home = home_with_approvals();
    let _server = home.serve();
    document(&home, &CLERK);
    for (key, word, ends) in [
        ("a", "allow once", "✓ file.append"),
        ("d", "deny", "✗ file.append"),
        ("s", "allow in this session", "answers from now on, until "),
        // The last: from then on nobody is asked.
        ("A", "always allow", "answers from now on, until "),
    ] {
        let line = question(&format!("{word}\n"));
        let mut asked = Asked::of(&home, &["ask", &line, "--agent", "clerk"], "[d]eny  [?] ");
        assert!(asked.seen.contains("[A]lways: file.append path=log"), "{}", asked.seen);
        assert!(!asked.shows(), "a key is not echoed");
        // An arrow ends with the letter of another key.
        asked.types("\u{1b}[A");
        // What comes in one read is one key, or was pasted.
        std::thread::sleep(Duration::from_millis(200));
        asked.types(key);
        asked.sees(word);
        asked.sees(ends);
        asked.sees("all done");
        assert!(asked.child.wait().expect("it ends").success(), "{}", asked.seen);
        assert!(asked.shows(), "the terminal is as it was");
    }
    let mut asked = Asked::of(&home, &["ask", &question("no one\n"), "--agent", "clerk"], "all done");
    assert!(asked.child.wait().expect("it ends").success());
    assert!(!asked.seen.contains("[d]eny"), "{}", asked.seen);
}

#[test]
fn a_prompt_says_who_answered_elsewhere() {
    let home = home_with_approvals();
    let _server = home.serve();
    document(&home, &CLERK);
    let mut asked = Asked::of(&home, &["ask", &question("x\n"), "--agent", "clerk"], "[d]eny  [?] ");
    let open = until(&home, |approval: &Value| approval["state"] == "holding");
    document(&home, &["approval", "approve", open["id"].as_str().expect("an id")]);
    asked.sees("was approved by cli:");
    asked.sees("all done");
    assert!(asked.child.wait().expect("it ends").success(), "{}", asked.seen);
    assert!(asked.shows());
}

#[test]
fn the_terminal_returns_however_an_approval_prompt_ends() {
    let home = home_with_approvals();
    let _server = home.serve();
    document(&home, &CLERK);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 1), (Signal::HUP, 1)] {
        let line = question(&format!("{code}{signal:?}\n"));
        let mut asked = Asked::of(&home, &["ask", &line, "--agent", "clerk"], "[d]eny  [?] ");
        assert!(!asked.shows());
        let ended = asked.signalled(signal);
        assert_eq!(ended.code(), Some(code), "{signal:?}: {}", asked.seen);
        assert!(asked.shows(), "after {signal:?}");
        assert_eq!(newest_status(&home), "parked", "the run still waits");
    }
}

#[test]
fn an_ask_that_may_not_ask_ends_with_its_own_code() {
    let home = home_with_approvals();
    let _server = home.serve();
    document(&home, &CLERK);
    for (number, more) in
        [&["--no-input"][..], &["--timeout", "3s"], &["--no-input", "--json"]].iter().enumerate()
    {
        let line = question(&format!("{number}\n"));
        let ended = home.run(&[&["ask", &line, "--agent", "clerk"][..], *more].concat());
        assert_eq!(ended.status.code(), Some(8), "{more:?}: {}", stderr(&ended));
        assert!(stderr(&ended).contains("dromia approval approve"), "{}", stderr(&ended));
    }
}

#[test]
fn piped_text_joins_the_question() {
    let home = Home::new();
    let _server = home.serve();
    let long = "x".repeat(600 << 10);
    for (line, input, says) in [
        (&["ask", "@say", "some", "words"][..], "", Ok("some words\n")),
        (&["ask", "hello"][..], "@say two", Ok("two\n")),
        (&["ask", "@say one", "--no-stdin"][..], "@say two", Ok("one\n")),
        (&["ask"][..], "@say alone", Ok("alone\n")),
        (&["ask", "-"][..], "@say dash", Ok("dash\n")),
        (&["ask"][..], " \n", Err("there is no question")),
        (&["ask", "@say one"][..], long.as_str(), Err("longer than 512 KiB")),
        (&["ask", "-", "--no-stdin"][..], "", Err("leave one out")),
    ] {
        let ended = piped(&home, line, input);
        match says {
            Ok(says) => {
                assert_eq!(String::from_utf8_lossy(&ended.stdout), says, "{line:?}: {}", stderr(&ended));
            }
            Err(says) => {
                assert_eq!(ended.status.code(), Some(2), "{line:?}");
                assert!(stderr(&ended).contains(says), "{line:?}: {}", stderr(&ended));
            }
        }
    }
}

#[test]
fn a_silent_pipe_is_left_out_and_the_ask_goes_on() {
    let home = Home::new();
    let _server = home.serve();
    let mut command = home.command();
    command.args(["ask", "@say alone"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let held = child.stdin.take().expect("a pipe");
    let ended = child.wait_with_output().expect("it ends although the pipe stays open");
    drop(held);
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "alone\n", "{}", stderr(&ended));
    assert!(stderr(&ended).contains("stdin said nothing for 3 seconds"), "{}", stderr(&ended));
}

#[test]
fn an_ask_continues_the_last_session_of_its_agent() {
    let home = Home::new();
    let _server = home.serve();
    document(&home, &CLERK);
    let none = home.run(&["ask", "-c", "hello", "--agent", "clerk"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(stderr(&none).contains("there is no session with clerk to continue"), "{}", stderr(&none));
    let first = document(&home, &["ask", "@say one", "--agent", "clerk"]);
    let other = document(&home, &["ask", "@say other"]);
    let next = document(&home, &["ask", "--continue", "@say two", "--agent", "clerk"]);
    assert_eq!(next["session"], first["session"]);
    assert!(next["position"].as_u64() > first["position"].as_u64(), "{next}");
    assert_eq!(document(&home, &["ask", "-c", "@say three"])["session"], other["session"]);
    // What the file names may be gone from the server.
    let file = home.path().join("cli.json");
    let session = first["session"].as_str().expect("a session");
    let known = std::fs::read_to_string(&file).expect("it was written");
    std::fs::write(&file, known.replace(session, &format!("ses_{}", "0".repeat(32)))).expect("it is written");
    let gone = home.run(&["ask", "-c", "hello", "--agent", "clerk"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(stderr(&gone).contains("it is not there any more; ask without --continue"), "{}", stderr(&gone));
}

#[test]
fn a_detached_ask_prints_its_run_and_leaves_it() {
    let home = Home::new();
    let _server = home.serve();
    let ended = home.run(&["ask", "--detach", "@slow 1000\n@say later"]);
    assert!(ended.status.success(), "{}", stderr(&ended));
    let run = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
    assert!(run.starts_with("run_"), "{run}");
    assert!(stderr(&ended).contains(&format!("`dromia run watch {run}`")), "{}", stderr(&ended));
    let timeout = format!("{}s", DEADLINE.as_secs());
    let watched = home.run(&["run", "watch", &run, "--timeout", &timeout]);
    assert!(String::from_utf8_lossy(&watched.stdout).contains("later"));
}

#[test]
fn an_answer_at_a_terminal_is_summed_up_beside_it() {
    let home = Home::new();
    let _server = home.serve();
    let mut asked = Asked::of(&home, &["ask", "@say forty-two"], "forty-two\r\n");
    asked.sees(" tokens · $0 · ");
    asked.sees("(continue with: dromia ask -c ");
    assert!(asked.child.wait().expect("it ends").success());
    assert_eq!(asked.seen.matches("forty-two").count(), 1, "it is printed once: {}", asked.seen);
    // Into a pipe goes the answer and nothing else.
    let plain = home.run(&["ask", "@say forty-two"]);
    assert_eq!((plain.stdout.as_slice(), plain.stderr.len()), (&b"forty-two\n"[..], 0));
}
