//! Calls that are put off, through the real binary: they begin by themselves once their time is over, and a person may refuse
//! them or let them go before.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{agent, asked, document, id, is, lines, look, task, until};
use crate::home::{Home, append, block_on, count};

/// A home where appending to a file is put off for so long.
pub(super) fn unhurried(cooling_ms: u64) -> Home {
    let home = Home::new();
    let file = format!(
        "permissions: {{ delay: [file.append] }}\nirreversible: {{ cooling_ms: {cooling_ms} }}\napprovals: {{ hold_ms: 0, \
         unattended: [task] }}\n"
    );
    append(&home.path().join("dromia.yaml"), &file);
    home
}

#[test]
fn an_unattended_delayed_call_begins_by_itself() {
    let home = unhurried(1_500);
    let server = home.serve();
    agent(&home, "clerk");
    let (session, approval) = asked(&home, "unhurried");
    // Nobody attends the session, and nobody is needed.
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        let told = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("it is put off");
        assert_eq!(told["fields"]["status"], "awaiting", "{told}");
    });
    assert_eq!(look(&home, &server, &approval, "unhurried"), Ok(false));
    let used = until(&home, is(&approval, "used"));
    assert_eq!(used["answered_by"], "engine", "{used}");
    let time = |name: &str| used[name].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    assert!(time("cools_until").is_some() && time("answered_at") >= time("cools_until"), "{used}");
    assert!(used["cools_in_seconds"].is_null(), "{used}");
    drop(server);
}

#[test]
fn a_delayed_call_shows_its_time_and_may_be_answered() {
    let home = unhurried(600_000);
    let server = home.serve();
    agent(&home, "clerk");
    let (_, refused) = asked(&home, "never");
    until(&home, is(&refused, "waiting"));
    let list = home.run(&["approval", "list"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("begins in 9m"), "{list:?}");
    let card = home.run(&["approval", "show", id(&refused)]);
    let card = String::from_utf8_lossy(&card.stdout).into_owned();
    assert!(card.contains("starts by itself") && card.contains(", in 9m"), "{card}");
    // The run went on; whoever asks what was decided is told that it waits, and not that it was refused.
    let (run, call) = (refused["run"].as_str().expect("a run"), refused["call"].as_str().expect("a call"));
    let explained = document(&home, &["policy", "explain", run, call]);
    assert_eq!((&explained["by"], &explained["rule"]), (&json!("approval"), &json!("delay permission")));
    assert_eq!(explained["waits"], refused["id"], "{explained}");
    let told = home.run(&["policy", "explain", run, call]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("delayed as apr_") && told.contains("delay permission"), "{told}");
    let records = document(&home, &["audit", "query"]);
    let records = records["items"].as_array().expect("records");
    let is_ours = |record: &&Value| record["kind"] == "tool_refused" && record["run"] == run;
    let record = id(records.iter().find(is_ours).expect("it was put off"));
    let explained = document(&home, &["audit", "explain", record]);
    let why = explained["why"].as_str().unwrap_or_default();
    for part in ["delayed", "`delay permission`", id(&refused)] {
        assert!(why.contains(part), "{part}: {explained}");
    }
    document(&home, &["approval", "deny", id(&refused), "--reason", "not at all"]);
    let (_, early) = asked(&home, "early");
    until(&home, is(&early, "waiting"));
    document(&home, &["approval", "approve", id(&early)]);
    assert_eq!(look(&home, &server, &early, "early"), Ok(false));
    until(&home, is(&refused, "denied"));
    assert_eq!(lines(&home, "never"), 0);
    drop(server);
}

#[test]
fn the_abort_setting_stops_an_irreversible_call() {
    let home = Home::new();
    let file = "irreversible: { action: abort }\ntools: { exec: { network: proxy } }\n";
    append(&home.path().join("dromia.yaml"), file);
    let server = home.serve();
    // What its programs send is seen by others.
    let grants =
        ["model", "reply", "exec", "file.*", "net:h.example"].map(|grant| ["--grant", grant]).concat();
    document(&home, &[&["agent", "create", "clerk"][..], &grants].concat());
    let program = format!("@tool exec {}", json!({"argv": ["true"]}));
    let spawned = document(&home, &["agent", "spawn", "clerk", "--task", &program]);
    let session = spawned["session"].as_str().expect("a session").to_owned();
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        let refused = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("it is refused");
        assert_eq!(refused["fields"]["rule"], "policy irreversible", "{refused}");
        assert_eq!(count(&entries, "tool_started"), 0);
    });
    // What stays in the workspace can be looked at and undone.
    let kept = document(&home, &["agent", "spawn", "clerk", "--task", &task("kept"), "--wait"]);
    assert_eq!(kept["status"], "completed", "{kept}");
    assert_eq!(lines(&home, "kept"), 1);
    drop(server);
}
