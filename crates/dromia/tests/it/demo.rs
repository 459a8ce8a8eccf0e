//! The demo as a person sees it: whatever ends it takes its server and its home along, and what it tells fits the terminal.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::home::{DEADLINE, stderr};

/// A demo whose home lies in this directory.
fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dromia"));
    command.arg("demo").env("TMPDIR", temporary).env_remove("COLUMNS").env_remove("DROMIA_HOME");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts a demo and waits until its server runs; returns the server's process too.
fn begun(temporary: &Path, arguments: &[&str]) -> (Child, BufReader<ChildStdout>, u32) {
    let mut child = demo(temporary).args(arguments).spawn().expect("the program runs");
    let mut told = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while !line.starts_with("1 start") {
        line.clear();
        assert!(told.read_line(&mut line).expect("it tells what it does") > 0, "it ended");
    }
    let process = line.split_once(" by process ").expect("the server's process").1;
    let pid = process.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a number");
    (child, told, pid)
}

/// Whether a process has ended, reaped or not.
fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|state| state.is_empty() || state.starts_with(['Z', 'X']))
}

fn until_ended(pid: u32) {
    let until = Instant::now() + DEADLINE;
    while !has_ended(pid) {
        assert!(Instant::now() < until, "process {pid} goes on");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).expect("it is there").next().is_none()
}

#[test]
fn an_interrupted_demo_ends_its_server_and_removes_its_home() {
    for (signal, code, word, arguments) in [
        (Signal::INT, 130, "interrupted: ", &[][..]),
        (Signal::TERM, 143, "terminated: ", &[][..]),
        (Signal::INT, 130, "interrupted: ", &["--keep"][..]),
    ] {
        let temporary = tempfile::tempdir().expect("a directory");
        let (child, told, server) = begun(temporary.path(), arguments);
        assert!(!has_ended(server) && !is_empty(temporary.path()));
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        let output = child.wait_with_output().expect("it ends");
        drop(told);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains(word) && said.contains("the demo removed"), "{said}");
        // The demo has waited for it, so it is gone by now, unless another one took its place just then.
        until_ended(server);
        assert!(is_empty(temporary.path()), "the home is left");
    }
}

#[test]
fn a_demo_that_is_killed_leaves_no_server_behind() {
    let temporary = tempfile::tempdir().expect("a directory");
    let (mut child, _told, server) = begun(temporary.path(), &[]);
    child.kill().expect("it runs");
    child.wait().expect("it is gone");
    until_ended(server);
}

fn string_field(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_demo_fits_the_terminal_and_names_working_commands() {
    let temporary = tempfile::tempdir().expect("a directory");
    let output = demo(temporary.path()).env("COLUMNS", "80").output().expect("the program runs");
    let told = string_field(&output);
    assert!(output.status.success(), "{told}\n{}", stderr(&output));
    assert!(told.contains("lost 0 doubled 0"), "{told}");
    // What is to be copied stays whole, whatever the width.
    let is_long = |line: &&str| line.chars().count() > 80 && !line.contains('`');
    assert_eq!(told.lines().find(is_long), None, "{told}");
    let spaced = told.split_whitespace().collect::<Vec<_>>().join(" ");
    for call in [
        "call_1_0 file.append (unkeyed) -> unknown",
        "call_2_0 file.read (pure) -> error",
        "call_3_0 file.append -> denied",
    ] {
        assert_eq!(spaced.matches(call).count(), 1, "{call}: {told}");
    }
    assert_eq!(spaced.matches("The identical action started earlier").count(), 1, "{told}");
    assert!(spaced.contains("Appending it once more ended as denied."), "{told}");
    let program = env!("CARGO_BIN_EXE_dromia");
    assert!(told.contains(&format!("`{program} ask '@tool time.now'`")), "{told}");
    assert!(is_empty(temporary.path()), "the home is left");
}

#[test]
fn a_demo_that_cannot_make_its_home_says_why_once() {
    let temporary = tempfile::tempdir().expect("a directory");
    let output =
        demo(temporary.path()).env("DROMIA_TOOLS_PACE_MS", "abc").output().expect("the program runs");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("DROMIA_TOOLS_PACE_MS") && said.matches("error: ").count() == 1, "{said}");
    assert!(is_empty(temporary.path()), "the home is left");
}

#[test]
fn make_keeps_the_demo_only_when_keep_is_one() {
    let makefile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Makefile");
    let text = std::fs::read_to_string(makefile).expect("the Makefile");
    assert!(text.contains("dromia demo $(if $(filter 1,$(KEEP)),--keep)"), "{text}");
}
