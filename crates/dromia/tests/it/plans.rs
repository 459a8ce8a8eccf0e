//! Frozen plans through the real binary: a turn declares what it will pay, reads somebody else's text, and is then hijacked.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::approvals::{document, ended, id, is, until};
use crate::egress::create;
use crate::external::bank;
use crate::home::{Home, append, block_on, count};

pub(crate) const ENDORSED: &str = include_str!("../../../../eval/security/policies/endorsed/endorsed.rego");

/// A home with a tool that pays somebody, and what the bank hears.
pub(crate) fn home_with_bank(approvals: &str, texts: &[(&str, &str)]) -> (Home, Arc<Mutex<Vec<String>>>) {
    let (home, (port, heard)) = (Home::new(), bank());
    let pays = "description: Pays., effect: keyed, \
                roles: { to: destination, sum: amount, order: object, note: payload }, \
                arguments: { properties: { to: { type: string }, sum: { type: [number, string] }, order: { type: integer }, \
                note: { type: string }, again: { type: boolean } } }";
    let looks = "description: Tells orders., effect: pure, sink: inside, sensitivity: high, \
                 records: { keys: [id], names: [subject] }";
    let file = format!(
        "approvals: {{ {approvals} }}\ntools:\n  external:\n    bank.pay: {{ {pays}, url: \
         'http://127.0.0.1:{port}/pay' }}\n    bank.orders: {{ {looks}, url: 'http://127.0.0.1:{port}/orders' }}\n"
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

/// The same where nothing of the calls stands in what a person typed, but for these words: what is escaped in JSON stands in no
/// text as it is meant.
fn hidden(calls: &[(&str, Value)], words: &str) -> Value {
    let code = |c: char| format!(r"\u{:04x}", u32::from(c));
    let escaped = |text: String| {
        let pieces = text.split('"').enumerate();
        let pieces =
            pieces.map(
                |(place, piece)| {
                    if place % 2 == 1 { piece.chars().map(code).collect() } else { piece.to_owned() }
                },
            );
        pieces.collect::<Vec<String>>().join("\"")
    };
    let line = |(tool, arguments): &(&str, Value)| format!("@tool {tool} {}", escaped(arguments.to_string()));
    let lines: Vec<_> = calls.iter().map(line).chain([words.to_owned()]).collect();
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
        Self::live(grants, calls, &event(calls))
    }

    /// The same where nothing of the calls stands in what a person typed, but for these words.
    fn typed(grants: &[&str], calls: &[(&str, Value)], words: &str) -> Self {
        Self::live(grants, calls, &hidden(calls, words))
    }

    fn live(grants: &[&str], calls: &[(&str, Value)], event: &Value) -> Self {
        let (home, heard) = home_with_bank("unattended: [http]", &[]);
        let server = home.serve();
        let grants: Vec<_> = grants.iter().map(|&grant| grant.to_owned()).collect();
        create(&home, "clerk", &grants);
        let (run, entries) = block_on(async {
            let (status, answer) = server.event(event).await;
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

fn paying(arguments: Value) -> (&'static str, Value) {
    ("bank.pay", arguments)
}

fn planning(calls: &Value) -> (&'static str, Value) {
    ("plan.declare", json!({"tools": {"bank.pay": calls}}))
}

fn orders() -> (&'static str, Value) {
    ("bank.orders", json!({}))
}

fn pay(to: &str) -> (&'static str, Value) {
    ("bank.pay", json!({ "to": to }))
}

fn declare(to: &str) -> (&'static str, Value) {
    ("plan.declare", json!({"tools": {"bank.pay": {"to": [to]}}}))
}

#[test]
fn calls_outside_a_frozen_plan_are_asked_about_and_explained() {
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
fn a_started_call_records_its_context_and_typed_arguments() {
    // Three letters are too few to be taken for typed.
    let calls = [declare("bob-the-builder"), pay("ann"), pay("bob-the-builder")];
    let turn = Turn::of(&["bank.pay", "plan.declare"], &calls);
    let kept = |of: &Value| (of["context"].clone(), of["endorsed"].clone());
    let explained: Vec<_> = turn.explained[1..].iter().map(kept).collect();
    // The answer to the first payment is somebody else's text.
    let expected = [(json!("trusted/actor"), Value::Null), (json!("untrusted/actor"), json!(["to"]))];
    assert_eq!(explained, expected, "{:?}", turn.entries);
    let started = turn.entries.iter().filter(|entry| entry["kind"] == "tool_started");
    let pays = started.map(|entry| &entry["fields"]).filter(|fields| fields["tool"] == "bank.pay");
    assert_eq!(pays.map(kept).collect::<Vec<_>>(), expected);
}

#[test]
fn a_declaration_that_is_not_granted_plans_nothing() {
    let turn = Turn::of(&["bank.pay"], &[declare("bob"), pay("ann"), pay("bob"), pay("ann")]);
    assert_eq!(turn.said(1), (false, "default deny", None));
    assert_eq!(turn.said(2), (true, "grant bank.pay", None));
    assert_eq!(turn.said(3), (false, "ask unplanned", Some(false)));
    assert_eq!(turn.said(4), (false, "ask unplanned", Some(false)), "it was asked for before, and once");
    assert_eq!(turn.paid, [r#"{"to":"ann"}"#], "{:?}", turn.entries);
}

/// The grants of whoever pays by a plan.
const PAYER: [&str; 3] = ["bank.orders", "bank.pay", "plan.declare"];

#[test]
fn a_plan_allows_only_the_arguments_it_bounds() {
    let bound = json!({"to": ["bob"], "amount_max": 50, "objects": ["12"], "texts": ["as ever"], "times": 9});
    let calls = [
        planning(&bound),
        orders(),
        paying(json!({"to": "bob", "sum": 50, "order": 12, "note": "as ever"})),
        paying(json!({"to": "bob", "sum": 50_000})),
        paying(json!({"to": "bob", "order": 13})),
        paying(json!({"to": "bob", "note": "my orders are 7 and 9"})),
        paying(json!({"note": "as ever"})),
        paying(json!({"note": "nobody said so"})),
    ];
    let turn = Turn::typed(&PAYER, &calls, "");
    assert_eq!(turn.said(3), (true, "grant bank.pay", Some(true)), "{:?}", turn.explained);
    assert_eq!(turn.said(7), (true, "grant bank.pay", Some(true)), "{:?}", turn.explained);
    for (step, rule, words) in [
        (
            4,
            "ask unsaid-object",
            "somebody else may have chosen sum; planned was 9 calls (8 left) to bob, upon 12",
        ),
        (5, "ask unsaid-object", "somebody else may have chosen order; planned was 9 calls"),
        (6, "ask unplanned-content", "note may tell what bank.orders told; planned was"),
        (8, "ask unplanned-content", "amount as typed, at most 50"),
    ] {
        assert_eq!(turn.said(step), (false, rule, Some(true)), "{:?}", turn.explained[step - 1]);
        let why = turn.explained[step - 1]["why"].as_str().unwrap_or_default();
        assert!(why.contains(words), "{why}");
    }
    assert_eq!(turn.paid.len(), 3, "a look and two payments: {:?}", turn.paid);
}

#[test]
fn a_payment_is_of_the_typed_amount_and_the_planned_flag() {
    let bound = json!({"to": ["bob"], "amount_max": 60, "times": 9, "arguments": {"again": [false]}});
    let calls = [
        planning(&bound),
        orders(),
        paying(json!({"to": "bob", "sum": 60, "again": false})),
        paying(json!({"to": "bob", "sum": "59"})),
        paying(json!({"to": "bob", "again": true})),
    ];
    let turn = Turn::typed(&PAYER, &calls, "Pay bob 60 for it.");
    assert_eq!(turn.said(3), (true, "grant bank.pay", Some(true)), "{:?}", turn.explained);
    for (step, words) in [(4, "may have chosen sum; planned was"), (5, "may have chosen again; planned was")]
    {
        assert_eq!(
            turn.said(step),
            (false, "ask unsaid-object", Some(true)),
            "{:?}",
            turn.explained[step - 1]
        );
        let why = turn.explained[step - 1]["why"].as_str().unwrap_or_default();
        assert!(why.contains(words) && why.contains("amount as typed, at most 60, again false"), "{why}");
    }
    assert_eq!(turn.paid.len(), 2, "a look and a payment: {:?}", turn.paid);
}

#[test]
fn a_planned_payment_is_made_as_often_as_was_planned() {
    let calls = [planning(&json!({"to": ["bob"], "times": 2})), orders(), pay("bob"), pay("bob"), pay("bob")];
    let turn = Turn::typed(&PAYER, &calls, "");
    assert_eq!(turn.said(4), (true, "grant bank.pay", Some(true)));
    assert_eq!(turn.said(5), (false, "ask unplanned", Some(false)));
    let why = turn.explained[4]["why"].as_str().unwrap_or_default();
    assert!(why.contains("planned was 2 calls (0 left) to bob"), "{why}");
    assert_eq!(turn.paid.len(), 3, "a look and two payments: {:?}", turn.paid);
}

#[test]
fn a_planned_payment_may_carry_the_data_in_its_plan() {
    let carries = json!({"to": ["bob"], "carries": ["bank__orders"]});
    let calls = [planning(&carries), orders(), paying(json!({"to": "bob", "note": "7 and 9"}))];
    let turn = Turn::typed(&PAYER, &calls, "");
    assert_eq!(turn.said(3), (true, "grant bank.pay", Some(true)), "{:?}", turn.explained);
}

#[test]
fn only_an_order_named_by_a_person_is_allowed() {
    let order = |order: u32| paying(json!({"to": "bob", "order": order}));
    let twice = || planning(&json!({"to": ["bob"], "times": 2}));
    let turn = Turn::typed(&PAYER, &[twice(), orders(), order(9), order(7)], "Pay the rent.");
    assert_eq!(turn.said(3), (false, "ask unsaid-object", Some(true)), "nobody named it");
    assert_eq!(turn.said(4), (true, "grant bank.pay", Some(true)), "{:?}", turn.explained);
    let turn = Turn::typed(&PAYER, &[twice(), orders(), order(7)], "Pay the rental car.");
    assert_eq!(turn.said(3), (false, "ask unsaid-object", Some(true)));
}

#[test]
fn an_approved_call_is_judged_by_its_original_plan() {
    let (home, heard) = home_with_bank("hold_ms: 300", &[("endorsed.rego", ENDORSED)]);
    let server = home.serve();
    create(&home, "clerk", &["bank.pay".to_owned(), "plan.declare".to_owned()]);
    // Nobody typed the name, so what was planned is asked about for that reason and for no other.
    let calls = [declare("bob"), pay("ann"), pay("bob")];
    block_on(async {
        let (status, answer) = server.event(&hidden(&calls, "")).await;
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
