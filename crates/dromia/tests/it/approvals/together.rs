//! Calls of one step that a person must allow, through the real binary: they wait together, are shown together, and one command
//! that names each of them answers them all or none.

use std::collections::BTreeSet;
use std::process::Stdio;

use super::crashes::{kills, reap};
use super::*;

/// Gives an agent a task that appends lines in one step, and waits until somebody is asked about each. Returns the task's
/// session and the approvals, in the order of the calls.
fn asked_together(home: &Home, lines: &[&str]) -> (String, Vec<Value>) {
    let step = lines.iter().map(|line| task(line)).collect::<Vec<_>>().join(" &\n");
    let spawned = document(home, &["agent", "spawn", "clerk", "--task", &step]);
    let session = spawned["session"].as_str().expect("a session").to_owned();
    let end = Instant::now() + DEADLINE;
    loop {
        let list = document(home, &["approval", "list", "--all", "--limit", "256"]);
        let items = list["items"].as_array().expect("rows").iter();
        let mut mine: Vec<Value> =
            items.filter(|approval| approval["session"] == session.as_str()).cloned().collect();
        if mine.len() == lines.len() {
            mine.sort_by_key(|approval| approval["call"].to_string());
            return (session, mine);
        }
        assert!(Instant::now() < end, "nobody is asked about all of them: {list}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A command about several approvals.
fn about<'a>(verb: &'a str, approvals: &'a [Value]) -> Vec<&'a str> {
    ["approval", verb].into_iter().chain(approvals.iter().map(id)).collect()
}

fn text(home: &Home, line: &[&str]) -> String {
    let output = home.run(line);
    assert!(output.status.success(), "{line:?}: {}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn one_answer_allows_all_waiting_calls_of_a_step() {
    let home = home("hold_ms: 60000");
    let server = home.serve();
    agent(&home, "clerk");
    let (session, approvals) = asked_together(&home, &["one", "two", "three"]);
    assert!(approvals.iter().all(|approval| approval["state"] == "holding"), "{approvals:?}");
    let steps: BTreeSet<String> = approvals.iter().map(|approval| approval["run"].to_string()).collect();
    assert_eq!(steps.len(), 1, "they are of one run");
    let run = approvals[0]["run"].as_str().expect("a run");
    let step = approvals[0]["call"].as_str().and_then(|call| call.split('_').nth(1)).expect("a step");
    let mark = format!("#{}.{step}", &run[run.len() - 6..]);
    assert_eq!(
        text(&home, &["approval", "list"]).matches(&mark).count(),
        3,
        "the list says what belongs together"
    );
    let card = text(&home, &["approval", "show", id(&approvals[0])]);
    let command = format!("dromia {}", about("approve", &approvals).join(" "));
    assert!(card.contains("two") && card.contains("three") && card.contains(&command), "{card}");
    let why = document(&home, &["run", "why", run]);
    let first = format!("dromia approval show {}", id(&approvals[0]));
    assert_eq!(why["command"], first.as_str(), "it says nothing of the calls, so it allows none: {why}");
    assert!(approvals.iter().all(|approval| why["waits_for"].to_string().contains(id(approval))), "{why}");
    let answered = document(&home, &about("approve", &approvals));
    assert_eq!(
        (&answered["state"], &answered["id"]),
        (&json!("approved"), &approvals[0]["id"]),
        "{answered}"
    );
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        assert_eq!((count(&entries, "run_parked"), count(&entries, "signal_taken")), (3, 3), "{entries:?}");
        let began = entries.iter().filter(|entry| entry["kind"] == "tool_started");
        let began: Vec<&Value> = began.map(|entry| &entry["fields"]["call"]).collect();
        assert_eq!(began, ["call_1_0", "call_1_1", "call_1_2"], "in their order");
    });
    for (approval, line) in approvals.iter().zip(["one", "two", "three"]) {
        until(&home, is(approval, "used"));
        assert_eq!(lines(&home, line), 1);
    }
    let again = document(&home, &about("approve", &approvals));
    assert_eq!(again["answered_at"], answered["answered_at"], "the same answer changes nothing: {again}");
    drop(server);
}

#[test]
fn an_approved_call_behind_a_waiting_one_is_explained() {
    let home = home("hold_ms: 60000");
    let server = home.serve();
    agent(&home, "clerk");
    let (_, approvals) = asked_together(&home, &["front", "behind"]);
    document(&home, &["approval", "approve", id(&approvals[1])]);
    let told = [("waits for a person", "holding"), ("approved it, and the gate judges it again", "approved")];
    for (approval, (verdict, state)) in approvals.iter().zip(told) {
        let (run, call) =
            (approval["run"].as_str().expect("a run"), approval["call"].as_str().expect("a call"));
        let explained = text(&home, &["policy", "explain", run, call]);
        let stands = format!("{} ({state})", id(approval));
        assert!(explained.contains(verdict) && explained.contains(&stands), "{explained}");
    }
    let run = approvals[0]["run"].as_str().expect("a run");
    assert!(!home.run(&["policy", "explain", run, "call_9_0"]).status.success(), "there is no such call");
    drop(server);
}

#[test]
fn a_shortened_call_is_in_no_batch_command() {
    let home = home("hold_ms: 60000");
    let server = home.serve();
    agent(&home, "clerk");
    let long = format!("{} and what nobody sees", "x".repeat(400));
    let (_, approvals) = asked_together(&home, &["first", "second", long.as_str()]);
    let card = text(&home, &["approval", "show", id(&approvals[0])]);
    let command = format!("dromia {}", about("approve", &approvals[..2]).join(" "));
    assert!(card.trim_end().ends_with(&command), "it names the two that are shown whole: {card}");
    assert!(!card.contains("what nobody sees"), "{card}");
    let see = format!("dromia approval show {}", id(&approvals[2]));
    assert!(card.contains(&see), "{card}");
    assert!(text(&home, &["approval", "show", id(&approvals[2])]).contains("what nobody sees"));
    drop(server);
}

#[test]
fn a_batch_with_a_closed_approval_answers_none() {
    let home = home("hold_ms: 60000");
    let server = home.serve();
    agent(&home, "clerk");
    let (session, approvals) = asked_together(&home, &["kept", "refused", "also-kept"]);
    document(&home, &["approval", "deny", id(&approvals[1]), "--reason", "not that one"]);
    let late = home.run(&about("approve", &approvals));
    assert_eq!(late.status.code(), Some(6), "{}", stderr(&late));
    assert!(stderr(&late).contains(id(&approvals[1])), "the closed one is named: {}", stderr(&late));
    for open in [&approvals[0], &approvals[2]] {
        until(&home, is(open, "holding"));
    }
    document(&home, &about("approve", &[approvals[0].clone(), approvals[2].clone()]));
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        let told = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("one is refused");
        assert!(told.to_string().contains("not that one"), "{told}");
        assert_eq!(told["fields"]["call"], "call_1_1");
    });
    assert_eq!(["kept", "refused", "also-kept"].map(|line| lines(&home, line)), [1, 0, 1]);
    let (_, denied) = asked_together(&home, &["never", "nor-this"]);
    document(&home, &[&about("deny", &denied)[..], &["--reason", "neither"]].concat());
    for approval in &denied {
        assert_eq!(until(&home, is(approval, "denied"))["answer_reason"], "neither");
    }
    drop(server);
}

#[test]
fn an_answer_that_goes_beyond_its_run_is_caught() {
    let home = home("hold_ms: 60000");
    let server = home.serve();
    agent(&home, "clerk");
    let (_, approvals) = asked_together(&home, &["mine", "mine-too"]);
    let (_, foreign) = asked_together(&home, &["foreign"]);
    let nobodys = format!("apr_{}", "ee".repeat(16));
    for other in [id(&foreign[0]), nobodys.as_str(), id(&approvals[0])] {
        let refused = home.run(&["approval", "approve", id(&approvals[0]), id(&approvals[1]), other]);
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(other), "it is named: {}", stderr(&refused));
    }
    let ruled = about("approve", &approvals);
    let ruled = home.run(&[&ruled[..], &["--always", "file.append path=log"]].concat());
    assert_eq!(ruled.status.code(), Some(2), "{}", stderr(&ruled));
    assert_eq!(document(&home, &["approval", "rule", "list"])["items"], json!([]));
    for approval in approvals.iter().chain(&foreign) {
        until(&home, is(approval, "holding"));
    }
    assert_eq!(["mine", "mine-too", "foreign"].map(|line| lines(&home, line)), [0, 0, 0]);
    drop(server);
}

#[test]
fn a_call_allowed_by_a_new_rule_stops_waiting() {
    let home = home("hold_ms: 60000");
    let server = home.serve();
    agent(&home, "clerk");
    let (session, approvals) = asked_together(&home, &["first", "ruled", "ruled-too"]);
    document(&home, &["approval", "approve", id(&approvals[0]), "--always", "file.append path=log"]);
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        assert_eq!((count(&entries, "tool_started"), count(&entries, "tool_refused")), (3, 0), "{entries:?}");
    });
    for (approval, state) in approvals.iter().zip(["used", "withdrawn", "withdrawn"]) {
        until(&home, is(approval, state));
    }
    assert_eq!(["first", "ruled", "ruled-too"].map(|line| lines(&home, line)), [1, 1, 1]);
    drop(server);
}

#[test]
fn one_answer_allows_waiting_calls_whose_run_ended() {
    let home = home("hold_ms: 300");
    let server = home.serve();
    agent(&home, "clerk");
    let (session, approvals) = asked_together(&home, &["late", "later"]);
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        let awaiting = |entry: &&Value| entry["fields"]["status"] == "awaiting";
        assert_eq!(entries.iter().filter(awaiting).count(), 2, "{entries:?}");
    });
    for approval in &approvals {
        until(&home, is(approval, "waiting"));
    }
    document(&home, &about("approve", &approvals));
    for (approval, line) in approvals.iter().zip(["late", "later"]) {
        assert_eq!(look(&home, &server, approval, line), Ok(false));
    }
    drop(server);
}

#[test]
fn batched_calls_during_a_kill_run_once_or_are_unknown() {
    let home = home("hold_ms: 60000");
    let mut server = home.serve();
    agent(&home, "clerk");
    for number in 0..kills() {
        let named = [format!("a-{number}"), format!("b-{number}"), format!("c-{number}")];
        let (_, approvals) = asked_together(&home, &named.each_ref().map(String::as_str));
        let mut command = home.command();
        command.args(about("approve", &approvals)).stdout(Stdio::null()).stderr(Stdio::null());
        let approving = command.spawn().expect("the program runs");
        std::thread::sleep(Duration::from_millis(u64::from(number % 16) * 9));
        server.kill();
        reap(approving);
        server = home.serve();
        let known = approvals.iter().map(|approval| until(&home, |found| found["id"] == approval["id"]));
        let open = known.filter(|found| found["state"] == "holding").count();
        assert!(open == 0 || open == 3, "the answer is whole or none: {open} are open");
        if open == 3 {
            document(&home, &about("approve", &approvals));
        }
        for (approval, line) in approvals.iter().zip(&named) {
            assert_eq!(look(&home, &server, approval, line).map(drop), Ok(()), "kill {number}, {line}");
        }
    }
    drop(server);
}
