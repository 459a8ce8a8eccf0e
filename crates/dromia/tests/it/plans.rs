//! Frozen plans through the real binary: a turn declares what it will pay, reads somebody else's text, and is then hijacked.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::approvals::{document, ended, id, is, until};
use crate::egress::create;
use crate::external::bank;
use crate::home::{Home, append, block_on, count};

pub(crate) const ENDORSED: &str = include_str!("../../../../eval/security/policies/endorsed/endorsed.rego");

/// A home with a tool that pays somebody, and what the bank hears.
pub(crate) fn house(approvals: &str, texts: &[(&str, &str)]) -> (Home, Arc<Mutex<Vec<String>>>) {
    let (home, (port, heard)) = (Home::new(), bank());
    let pays = "description: Pays., effect: keyed, roles: { to: destination }, \
                arguments: { properties: { to: { type: string } }, required: [to] }";
    let file = format!(
        "approvals: {{ {approvals} }}\ntools:\n  external:\n    bank.pay: {{ {pays}, url: \
         'http://127.0.0.1:{port}/pay' }}\n"
    );
    append(&home.path().join("dromia.yaml"), &file);
    let policies = home.path().join("policies");
    std::fs::create_dir_all(&policies).expect("a folder");
    for (name, text) in texts {
        std::fs::write(policies.join(name), text).expect("a policy");
    }
    (home, heard)
}

/// What the model is told to do, one call after the other.
fn event(calls: &[(&str, Value)]) -> Value {
    let lines: Vec<_> = calls.iter().map(|(tool, arguments)| format!("@tool {tool} {arguments}")).collect();
    json!({"text": lines.join("\n"), "agent": "clerk", "wait": true})
}

/// What was paid, in order.
pub(crate) fn paid(heard: &Mutex<Vec<String>>) -> Vec<String> {
    let body = |told: &String| told.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned();
    heard.lock().expect("nobody panics with it").iter().map(body).collect()
}

/// What a turn came to: its entries, the payments that arrived, and what `policy explain` says of each call.
struct Turn {
    entries: Vec<Value>,
    paid: Vec<String>,
    explained: Vec<Value>,
}

impl Turn {
    /// Lives through a turn of an agent with these grants, which makes the calls one after the other.
    fn of(grants: &[&str], calls: &[(&str, Value)]) -> Self {
        let (home, heard) = house("unattended: [http]", &[]);
        let server = home.serve();
        let grants: Vec<_> = grants.iter().map(|&grant| grant.to_owned()).collect();
        create(&home, "clerk", &grants);
        let (run, entries) = block_on(async {
            let (status, answer) = server.event(&event(calls)).await;
            assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
            let session = answer["session"].as_str().expect("a session").to_owned();
            let entries =
                server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
            (answer["run"].as_str().expect("a run").to_owned(), entries)
        });
        let explain = |step: usize| document(&home, &["policy", "explain", &run, &format!("call_{step}_0")]);
        let explained = (1..=calls.len()).map(explain).collect();
        drop(server);
        Self { entries, paid: paid(&heard), explained }
    }

    /// What was said of a call: whether it was let through, by which rule, and how it stood to the plan.
    fn said(&self, step: usize) -> (bool, &str, Option<bool>) {
        let one = &self.explained[step - 1];
        (
            one["allowed"].as_bool().expect("a verdict"),
            one["rule"].as_str().expect("a rule"),
            one["in_plan"].as_bool(),
        )
    }
}

fn pay(to: &str) -> (&'static str, Value) {
    ("bank.pay", json!({ "to": to }))
}

fn declare(to: &str) -> (&'static str, Value) {
    ("plan.declare", json!({"tools": {"bank.pay": [to]}}))
}

#[test]
fn what_is_outside_of_a_frozen_plan_is_asked_about_and_explained() {
    let calls = [declare("bob"), pay("ann"), pay("bob"), pay("eve"), declare("eve"), pay("eve")];
    let turn = Turn::of(&["bank.pay", "plan.declare"], &calls);
    assert_eq!(turn.said(1), (true, "grant plan.declare", None));
    // The first payment was asked for while nothing untrusted had come; its answer is somebody else's text.
    assert_eq!(turn.said(2), (true, "grant bank.pay", None));
    assert_eq!(turn.said(3), (true, "grant bank.pay", Some(true)));
    assert_eq!(turn.said(4), (false, "ask unplanned", Some(false)));
    assert_eq!(turn.said(5), (false, "plan-frozen", None));
    assert_eq!(turn.said(6), (false, "ask unplanned", Some(false)));
    assert_eq!(turn.paid, [r#"{"to":"ann"}"#, r#"{"to":"bob"}"#], "{:?}", turn.entries);
    let clean = |entry: &&Value| entry["kind"] == "model_replied" && entry["fields"]["clean"] == true;
    assert_eq!(turn.entries.iter().filter(clean).count(), 2, "the steps before somebody else's text");
    let late = &turn.explained[4]["why"];
    assert!(late.as_str().is_some_and(|why| why.contains("is frozen")), "{late}");
}

#[test]
fn a_declaration_that_is_not_granted_plans_nothing() {
    let turn = Turn::of(&["bank.pay"], &[declare("bob"), pay("ann"), pay("bob"), pay("ann")]);
    assert_eq!(turn.said(1), (false, "default deny", None));
    assert_eq!(turn.said(2), (true, "grant bank.pay", None));
    assert_eq!(turn.said(3), (false, "ask unplanned", Some(false)));
    assert_eq!(turn.said(4), (true, "grant bank.pay", Some(true)), "it was asked for before");
    assert_eq!(turn.paid, [r#"{"to":"ann"}"#, r#"{"to":"ann"}"#], "{:?}", turn.entries);
}

#[test]
fn a_call_that_runs_by_itself_stands_to_the_plan_as_it_stood_when_it_was_asked_for() {
    let (home, heard) = house("hold_ms: 300", &[("endorsed.rego", ENDORSED)]);
    let server = home.serve();
    create(&home, "clerk", &["bank.pay".to_owned(), "plan.declare".to_owned()]);
    // Three letters are nobody's word, so what was planned is asked about for that reason and for no other.
    let calls = [declare("bob"), pay("ann"), pay("bob")];
    block_on(async {
        let (status, answer) = server.event(&event(&calls)).await;
        assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    });
    let waiting = until(&home, |approval| approval["state"] == "waiting");
    assert_eq!((waiting["tool"].as_str(), waiting["rule"].as_str()), (Some("bank.pay"), Some("unsaid")));
    document(&home, &["approval", "approve", id(&waiting)]);
    let used = until(&home, is(&waiting, "used"));
    let worker = used["used_by"].as_str().expect("a run");
    block_on(ended(&server, worker));
    let explained = document(&home, &["policy", "explain", worker, "call_1_0"]);
    assert_eq!(explained["in_plan"], true, "{explained}");
    assert_eq!(paid(&heard), [r#"{"to":"ann"}"#, r#"{"to":"bob"}"#]);
    drop(server);
}
