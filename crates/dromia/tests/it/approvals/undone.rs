//! Calls that were approved and are not done, through the real binary: by the time they would begin, the policy is another one,
//! or what they ran for has ended or is taken back.

use std::time::{Duration, Instant};

use super::{agent, asked, document, home, id, is, lines, look, task, until};
use crate::home::{DEADLINE, Home, block_on, count, stderr};

/// Writes a policy that the home did not have; a server takes it with its start.
fn another_policy(home: &Home) {
    let policies = home.path().join("policies");
    std::fs::create_dir_all(&policies).expect("it is made");
    let policy = "package dromia.policy\n\nimport rego.v1\n\nverdicts contains {\"verdict\": \"ask\", \"rule\": \
                  \"sends\", \"reason\": \"it sends\"} if input.action.tool == \"message.send\"\n";
    std::fs::write(policies.join("other.rego"), policy).expect("it is written");
}

#[test]
fn an_approved_call_does_not_run_under_a_changed_policy() {
    let home = home("hold_ms: 60000");
    let server = home.serve();
    agent(&home, "clerk");
    let (session, approval) = asked(&home, "third");
    server.terminate();
    another_policy(&home);
    let server = home.serve();
    document(&home, &["approval", "approve", id(&approval)]);
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        assert_eq!(count(&entries, "tool_started"), 0);
        let refused = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("it is refused");
        assert_eq!(refused["fields"]["rule"], "approval-mismatch", "{refused}");
    });
    assert_eq!(lines(&home, "third"), 0);
    until(&home, is(&approval, "withdrawn"));
    let card = home.run(&["approval", "show", id(&approval)]);
    let card = String::from_utf8_lossy(&card.stdout).into_owned();
    assert!(
        card.contains("did not run") && card.contains("changed since: the rule that asks, or its policy"),
        "{card}"
    );
}

#[test]
fn a_session_learns_that_an_approved_call_was_refused() {
    let home = home("hold_ms: 0");
    let server = home.serve();
    agent(&home, "clerk");
    let (session, approval) = asked(&home, "changed");
    until(&home, is(&approval, "waiting"));
    server.terminate();
    another_policy(&home);
    let server = home.serve();
    document(&home, &["approval", "approve", id(&approval)]);
    until(&home, is(&approval, "withdrawn"));
    let end = Instant::now() + DEADLINE;
    let told = loop {
        let (_, told) = block_on(server.get(&format!("/v1/sessions/{session}/transcript")));
        let told = told.to_string();
        if told.contains("that waited for approval") {
            break told;
        }
        assert!(Instant::now() < end, "the session is not told: {told}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(told.contains("It did not run: nothing was done") && !told.contains("It ran in"), "{told}");
    assert_eq!(lines(&home, "changed"), 0);
    // Why is told by the run that was to begin it, not by the one that left it waiting.
    let card = home.run(&["approval", "show", id(&approval)]);
    let card = String::from_utf8_lossy(&card.stdout).into_owned();
    assert!(card.contains("did not run") && card.contains("approval-mismatch"), "{card}");
    assert!(!card.contains("This call waits for a person's approval"), "{card}");
    drop(server);
}

#[test]
fn an_approval_whose_call_cannot_begin_is_withdrawn() {
    // The run that asked waits still, and later it has gone on; what ends it, or its agent, comes before its call.
    for (approvals, state, end) in
        [("hold_ms: 60000", "holding", "kill"), ("hold_ms: 0", "waiting", "terminate")]
    {
        let home = home(approvals);
        let server = home.serve();
        agent(&home, "clerk");
        let (_, approval) = asked(&home, "withdrawn");
        until(&home, is(&approval, state));
        assert!(home.run(&["agent", "pause", "clerk"]).status.success());
        document(&home, &["approval", "approve", id(&approval)]);
        until(&home, is(&approval, "approved"));
        let ended = home.run(&["agent", end, "clerk", "--yes"]);
        assert!(ended.status.success(), "{end}: {}", stderr(&ended));
        let withdrawn = until(&home, is(&approval, "withdrawn"));
        assert!(withdrawn["answered_by"].is_string() && withdrawn["used_by"].is_null(), "{withdrawn}");
        assert_eq!(lines(&home, "withdrawn"), 0);
        drop(server);
    }
}

#[test]
fn a_bounded_tasks_late_call_stays_within_its_bound() {
    let home = home("hold_ms: 100");
    let server = home.serve();
    agent(&home, "clerk");
    for (line, is_taken_back) in [("inside", false), ("late", true)] {
        let task = task(line);
        let spawn = ["agent", "spawn", "clerk", "--task", &task, "--may", "file:write:log"];
        let session = document(&home, &spawn)["session"].clone();
        let approval = until(&home, |found| found["session"] == session && found["state"] == "waiting");
        if is_taken_back {
            let bounds = document(&home, &["capability", "list"]);
            for bound in bounds["items"].as_array().expect("rows") {
                document(&home, &["capability", "revoke", id(bound)]);
            }
        }
        // The rule that this leaves answers before anybody compares what was approved.
        document(&home, &["approval", "approve", id(&approval), "--session"]);
        if is_taken_back {
            until(&home, is(&approval, "withdrawn"));
            assert_eq!(lines(&home, line), 0, "it was done outside of what bounds its task");
        } else {
            assert_eq!(look(&home, &server, &approval, line), Ok(false));
        }
    }
    drop(server);
}
