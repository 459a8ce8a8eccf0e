//! Budgets of `dromia.yaml`, through the real binary: what is said of one that is used up can be done.

use std::fs;

use serde_json::{Value, json};

use crate::approvals::document;
use crate::home::{Home, Server, append, block_on, stderr};

fn said(server: &Server, text: &str) -> Value {
    block_on(server.event(&json!({"text": text, "wait": true}))).1
}

#[test]
fn a_declared_budgets_next_step_names_its_key_and_works() {
    let home = Home::new();
    let file = home.path().join("dromia.yaml");
    let budgets = "[{ name: strangers, per: tenant, measure: calls, period: total, limit: '1' }]";
    append(&file, &format!("tenants: {{ default: {{ budgets: {budgets} }} }}\n"));
    let server = home.serve();
    let by_hand = ["budget", "set", "by-hand", "--measure", "calls", "--period", "total", "--limit", "100"];
    document(&home, &by_hand);
    assert_eq!(said(&server, "one")["status"], "completed");
    let stopped = said(&server, "two");
    assert_eq!(stopped["status"], "yielded", "{stopped}");
    let run = stopped["run"].as_str().expect("a run");
    let why = document(&home, &["run", "why", run]);
    let next = why["command"].as_str().expect("a next step");
    assert!(!next.contains("budget set"), "that command is refused: {next}");
    assert!(next.contains("dromia.yaml (tenants.default.budgets)"), "{next}");
    assert!(next.ends_with(&format!("`dromia run resume {run}`")), "{next}");
    let refused = home.run(&["budget", "set", "strangers", "--limit", "5"]);
    assert!(stderr(&refused).contains("budget_declared"), "{}", stderr(&refused));

    let list = home.run(&["budget", "list"]);
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let row = |name: &str| list.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    assert!(list.lines().next().is_some_and(|head| head.contains("SET IN")), "{list}");
    assert!(row("strangers").is_some_and(|row| row.contains("dromia.yaml")), "{list}");
    assert!(row("by-hand").is_some_and(|row| !row.contains("dromia.yaml")), "{list}");

    // What it says is done.
    server.terminate();
    let text = fs::read_to_string(&file).expect("the file").replace("limit: '1'", "limit: '50'");
    fs::write(&file, text).expect("it is written");
    let server = home.serve();
    let resumed = home.run(&["run", "resume", run]);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    // One of people is raised by the command that is named.
    document(&home, &["budget", "set", "by-hand", "--limit", "1"]);
    let stopped = said(&server, "three");
    let why = document(&home, &["run", "why", stopped["run"].as_str().expect("a run")]);
    assert!(why["command"].as_str().is_some_and(|next| next.contains("dromia budget set by-hand")), "{why}");
    // Where it is gone, nobody is told to make it anew.
    document(&home, &["budget", "remove", "by-hand"]);
    let run = stopped["run"].as_str().expect("a run");
    let why = document(&home, &["run", "why", run]);
    assert_eq!(why["command"], format!("dromia run resume {run}"), "{why}");
    assert!(
        why["waits_for"].as_str().is_some_and(|text| text.ends_with("by-hand was removed since then")),
        "{why}"
    );
    assert_eq!(why["unblocked_by"], "a person who resumes it", "{why}");
    let resumed = home.run(&["run", "resume", run]);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
}

#[test]
fn budget_list_shows_idle_run_budgets_and_amounts_with_units() {
    let home = Home::new();
    let server = home.serve();
    let set = ["budget", "set", "one-run", "--per", "run", "--measure", "calls", "--period", "total"];
    let set = home.run(&[&set[..], &["--limit", "100"]].concat());
    let told = String::from_utf8_lossy(&set.stdout).into_owned();
    assert!(told.contains("; counted per run; no run is active"), "{told}");
    assert_eq!(said(&server, "one")["status"], "completed");
    document(&home, &["budget", "set", "daily", "--limit", "5.00"]);
    let list = home.run(&["budget", "list"]);
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let row = |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(row("one-run").contains("counted per run; no run is active"), "{list}");
    assert!(row("daily").contains("5.000000") && !row("daily").contains("per run"), "{list}");
    let listed = document(&home, &["budget", "list"]);
    let units: Vec<_> = listed["items"].as_array().expect("rows").iter().map(|one| &one["unit"]).collect();
    assert_eq!(units, ["micros", "calls"], "{listed}");
}
