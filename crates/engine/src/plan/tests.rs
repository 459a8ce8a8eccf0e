//! What is in a plan, what freezes it, and that nothing thaws it.

use dromia_contracts::client::Offer;
use dromia_contracts::content::{AssistantMessage, InputMessage, Part, ToolCall, ToolResult};
use dromia_contracts::entry::{Entry, ModelReplied, ToolFinished, ToolRefused};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::{Integrity, Label, Readers};
use dromia_contracts::model::{Finish, Usage, UsageDetail};
use dromia_contracts::sandbox::Limits;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::terms::ToolTerms;
use dromia_contracts::tool::{EffectClass, Pieces, PrepareError, ToolContext, ToolOutput};
use dromia_contracts::{Actor, BoxFuture, CallId, Digest, ItemId};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Tools that take any JSON object; `pay` and `mail.send` lead somewhere, `look` does not.
#[derive(Debug)]
struct Shelf(Vec<ToolDescriptor>);

impl Shelf {
    fn new() -> Self {
        let tool = |name: &str, leads: &[&str]| ToolDescriptor {
            name: name.to_owned(),
            description: String::new(),
            parameters: json!({}),
            effect: EffectClass::Pure,
            roles: leads.iter().map(|lead| ((*lead).to_owned(), ArgumentRole::Destination)).collect(),
            result_label: Label::PUBLIC_FACT,
        };
        Self(vec![
            tool("look", &[]),
            tool("mail.send", &["cc", "to"]),
            tool("pay", &["to"]),
            tool(DECLARE, &[]),
        ])
    }
}

impl ToolHost for Shelf {
    fn descriptors(&self) -> &[ToolDescriptor] {
        &self.0
    }

    fn prepare(&self, call: &ToolCall) -> Result<PreparedCall, PrepareError> {
        let known = self.0.iter().any(|tool| tool.name == call.tool);
        let value: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
        if !known || !value.is_object() {
            return Err(PrepareError::UnknownTool { name: call.tool.clone() });
        }
        Ok(PreparedCall {
            id: call.id,
            tool: call.tool.clone(),
            effect: EffectClass::Pure,
            arguments: value.to_string(),
            action: Digest::default(),
            reaches: None,
            network: None,
            contents: None,
        })
    }

    fn call<'a>(&'a self, _: ToolContext, _: PreparedCall, _: &'a dyn Pieces) -> BoxFuture<'a, ToolOutput> {
        Box::pin(std::future::ready(ToolOutput::default()))
    }

    fn limits(&self, _: &str, _: &ToolTerms) -> Option<Limits> {
        None
    }
}

/// A story to which somebody said something.
fn asked(label: Label) -> Story {
    let mut story = Story::new(1);
    story.add_item(&item(label)).expect("it is readable");
    story
}

fn item(label: Label) -> InboxItem {
    let parts = vec![Part::text("do it", label)];
    let message = InputMessage { author: Actor::new("cli:ada"), parts, hops: 0 };
    let body = InputBody { history: vec![], answers: None, offer: Offer::default(), call: None, message };
    InboxItem {
        id: ItemId::from_bytes([3; 16]),
        position: 1,
        at: Timestamp::UNIX_EPOCH,
        kind: ItemKind::Input,
        author: Actor::new("cli:ada"),
        body: Some(body.encode().expect("it is JSON").into()),
        taken_by: None,
    }
}

/// The entry of an answer with calls, and its body.
fn replied(step: u32, clean: bool, calls: &[(&str, Value)]) -> (Entry, Vec<u8>) {
    let call = |(index, (tool, arguments)): (u32, &(&str, Value))| ToolCall {
        id: CallId { step, index },
        tool: (*tool).to_owned(),
        arguments: arguments.to_string(),
    };
    let message = AssistantMessage { parts: vec![], calls: (0..).zip(calls).map(call).collect() };
    let entry = Entry::ModelReplied(ModelReplied {
        step,
        attempt: 1,
        usage: Usage::default(),
        detail: UsageDetail::default(),
        cost_micros: 0,
        finish: Finish::ToolCalls,
        stopped_at: None,
        tools: calls.iter().map(|(tool, _)| (*tool).to_owned()).collect(),
        clean,
        withheld: None,
        masked: Vec::new(),
    });
    (entry, serde_json::to_vec(&message).expect("it is JSON"))
}

/// The entry of a result, and its body.
fn ended(step: u32, index: u32, status: CallStatus, label: Label) -> (Entry, Vec<u8>) {
    let call = CallId { step, index };
    let result = ToolResult { call, status, parts: vec![Part::text("so", label)] };
    let entry = if status == CallStatus::Denied {
        let (tool, rule) = ("pay".to_owned(), Some("no".to_owned()));
        Entry::ToolRefused(ToolRefused {
            call,
            tool,
            status,
            rule,
            policy: None,
            approval: None,
            in_plan: None,
            network: None,
            opinion: None,
        })
    } else {
        Entry::ToolFinished(ToolFinished { call, status, egress: vec![], result: None })
    };
    (entry, serde_json::to_vec(&result).expect("it is JSON"))
}

fn tell(story: &mut Story, (entry, body): &(Entry, Vec<u8>)) {
    story.add_entry(entry, Some(body)).expect("it is readable");
}

/// A step as an owner writes it: it is clean if the story is, and each call gives a part with a label.
fn step(story: &mut Story, step: u32, calls: &[(&str, Value)], status: CallStatus, label: Label) {
    let clean = story.label.integrity == Integrity::Trusted;
    tell(story, &replied(step, clean, calls));
    for index in (0..).take(calls.len()) {
        tell(story, &ended(step, index, status, label));
    }
}

fn prepared(tool: &str, arguments: &Value) -> PreparedCall {
    let call = ToolCall {
        id: CallId { step: 99, index: 0 },
        tool: tool.to_owned(),
        arguments: arguments.to_string(),
    };
    Shelf::new().prepare(&call).expect("it is a call")
}

/// How a call stands: `None` while the plan is open.
fn stands(story: &Story, tool: &str, arguments: &Value) -> Option<bool> {
    let standing = standing(story, &Shelf::new(), &prepared(tool, arguments));
    assert!(standing.frozen || standing.in_plan);
    standing.frozen.then_some(standing.in_plan)
}

#[test]
fn a_plan_freezes_at_the_first_untrusted_part_and_not_before() {
    for (label, frozen) in [
        (Label::ACTOR_TEXT, false),
        (Label::PUBLIC_FACT, false),
        (Label::OUTSIDE, true),
        (Label::CLAIM, true),
        (Label::UNKNOWN_FILE, true),
    ] {
        assert_eq!(asked(label).is_frozen(), frozen, "an input {label}");
        let mut story = asked(Label::ACTOR_TEXT);
        step(&mut story, 1, &[("look", json!({}))], CallStatus::Ok, label);
        assert_eq!(story.is_frozen(), frozen, "a result {label}");
        assert!(!story.is_closed(), "the step itself was clean");
        step(&mut story, 2, &[("look", json!({}))], CallStatus::Ok, Label::PUBLIC_FACT);
        assert_eq!(story.is_closed(), frozen, "the step after {label}");
    }
}

#[test]
fn what_was_asked_for_in_clean_steps_is_in_the_plan_and_nothing_else() {
    let mut story = asked(Label::ACTOR_TEXT);
    step(&mut story, 1, &[("pay", json!({"to": "bob", "sum": 1}))], CallStatus::Ok, Label::PUBLIC_FACT);
    assert_eq!(stands(&story, "pay", &json!({"to": "eve"})), None, "it is open");
    let second = [("look", json!({})), ("mail.send", json!({"to": ["a", "b"], "cc": null}))];
    step(&mut story, 2, &second, CallStatus::Ok, Label::OUTSIDE);
    step(&mut story, 3, &[("pay", json!({"to": "eve"}))], CallStatus::Ok, Label::PUBLIC_FACT);
    for (tool, arguments, is_in) in [
        ("look", json!({"at": "anything"}), true),
        ("pay", json!({"to": "bob"}), true),
        ("pay", json!({"to": "bob", "sum": 9}), true),
        ("pay", json!({"to": "eve"}), false),
        ("pay", json!({"to": "a"}), false),
        ("pay", json!({"to": ["bob", "eve"]}), false),
        ("pay", json!({"to": {"name": "eve"}}), false),
        ("pay", json!({"to": "bob "}), false),
        ("mail.send", json!({"to": ["b"]}), true),
        ("mail.send", json!({"to": ["b"], "cc": "a"}), true),
        ("mail.send", json!({"to": ["b"], "cc": "eve"}), false),
        ("mail.send", json!({"to": "bob"}), false),
        (DECLARE, json!({"tools": {"look": []}}), false),
    ] {
        assert_eq!(stands(&story, tool, &arguments), Some(is_in), "{tool} {arguments}");
    }
    let call = prepared("look", &json!({}));
    assert_eq!(standing(&story, &Shelf::new(), &call).tools, ["look", "mail.send", "pay"]);
}

#[test]
fn a_declared_plan_counts_once_it_is_accepted_and_while_its_step_was_clean() {
    let declared = |tools: Value| [(DECLARE, json!({ "tools": tools }))];
    let mut story = asked(Label::ACTOR_TEXT);
    let named = json!({"pay": ["bob"], "mail__send": ["a"], "look": [], "no.tool": ["x"]});
    step(&mut story, 1, &declared(named), CallStatus::Ok, Label::PUBLIC_FACT);
    let refused = declared(json!({"pay": ["mallory"]}));
    step(&mut story, 2, &refused, CallStatus::Denied, Label::PUBLIC_FACT);
    step(&mut story, 3, &[("look", json!({}))], CallStatus::Ok, Label::OUTSIDE);
    step(&mut story, 4, &declared(json!({"pay": ["eve"]})), CallStatus::Ok, Label::PUBLIC_FACT);
    for (tool, to, is_in) in [
        ("pay", "bob", true),
        ("pay", "mallory", false),
        ("pay", "eve", false),
        ("mail.send", "a", true),
        ("mail.send", "bob", false),
    ] {
        assert_eq!(stands(&story, tool, &json!({ "to": to })), Some(is_in), "{tool} {to}");
    }
    let call = prepared("look", &json!({}));
    assert_eq!(standing(&story, &Shelf::new(), &call).tools, ["look", "mail.send", "pay"]);
}

#[test]
fn a_refused_call_is_in_no_plan_and_one_that_waits_behind_a_tainted_one_is() {
    let mut story = asked(Label::ACTOR_TEXT);
    tell(&mut story, &replied(1, true, &[("look", json!({})), ("pay", json!({"to": "bob"}))]));
    tell(&mut story, &ended(1, 0, CallStatus::Ok, Label::OUTSIDE));
    assert_eq!(stands(&story, "pay", &json!({"to": "bob"})), Some(true), "it was asked for before");
    tell(&mut story, &ended(1, 1, CallStatus::Denied, Label::PUBLIC_FACT));
    assert_eq!(stands(&story, "pay", &json!({"to": "bob"})), Some(false), "somebody refused it");
}

#[test]
fn another_turn_has_a_plan_of_its_own() {
    let mut story = asked(Label::ACTOR_TEXT);
    step(&mut story, 1, &[("pay", json!({"to": "bob"}))], CallStatus::Ok, Label::OUTSIDE);
    assert_eq!(stands(&story, "pay", &json!({"to": "bob"})), Some(true));
    story.add_item(&item(Label::ACTOR_TEXT)).expect("it is readable");
    assert_eq!(
        stands(&story, "pay", &json!({"to": "bob"})),
        Some(false),
        "the past taints it from the start"
    );
    step(&mut story, 1, &[("pay", json!({"to": "eve"}))], CallStatus::Ok, Label::PUBLIC_FACT);
    assert_eq!(stands(&story, "pay", &json!({"to": "eve"})), Some(false));
}

#[test]
fn a_plan_has_its_bounds() {
    let mut story = asked(Label::ACTOR_TEXT);
    let leads: Vec<_> = (0..=DESTINATIONS_MAX).map(|n| format!("d{n}")).collect();
    step(&mut story, 1, &[("pay", json!({ "to": leads }))], CallStatus::Ok, Label::PUBLIC_FACT);
    step(&mut story, 2, &[("mail.send", json!({"to": leads[1..]}))], CallStatus::Ok, Label::PUBLIC_FACT);
    step(&mut story, 3, &[("mail.send", json!({"to": "one more"}))], CallStatus::Ok, Label::OUTSIDE);
    assert_eq!(stands(&story, "pay", &json!({"to": "d1"})), Some(false), "too many of one call");
    assert_eq!(stands(&story, "mail.send", &json!({"to": leads[1..]})), Some(true));
    assert_eq!(stands(&story, "mail.send", &json!({"to": leads})), Some(false), "too many to look for");
    assert_eq!(stands(&story, "mail.send", &json!({"to": "one more"})), Some(false), "one too many");

    let mut story = asked(Label::ACTOR_TEXT);
    let calls: Vec<_> = (0..=CALLS_MAX).map(|n| ("pay", json!({"to": format!("d{n}")}))).collect();
    step(&mut story, 1, &calls, CallStatus::Ok, Label::OUTSIDE);
    let of = |n: usize| stands(&story, "pay", &json!({"to": format!("d{n}")}));
    assert_eq!((of(CALLS_MAX - 1), of(CALLS_MAX)), (Some(true), Some(false)));

    let mut story = asked(Label::ACTOR_TEXT);
    let long = ("look", json!({"at": "x".repeat(BYTES_MAX)}));
    step(&mut story, 1, &[("pay", json!({"to": "bob"})), long], CallStatus::Ok, Label::OUTSIDE);
    assert_eq!(stands(&story, "pay", &json!({"to": "bob"})), Some(true));
    assert_eq!(stands(&story, "look", &json!({})), Some(false), "nobody looks at so much");
}

fn label() -> impl Strategy<Value = Label> {
    let integrity = prop_oneof![Just(Integrity::Trusted), Just(Integrity::Untrusted)];
    let readers = prop_oneof![Just(Readers::Public), Just(Readers::Agent), Just(Readers::Actor)];
    (integrity, readers).prop_map(|(integrity, readers)| Label { integrity, readers })
}

proptest! {
    // Whatever labels are joined, in whatever order: what was frozen stays frozen, and its plan stays what it was.
    #[test]
    fn no_label_thaws_a_plan(labels in prop::collection::vec(label(), 1..12)) {
        let mut story = asked(Label::ACTOR_TEXT);
        let mut frozen: Option<Plan> = None;
        for (number, label) in (1..).zip(labels) {
            let calls = [("pay", json!({"to": format!("d{number}")}))];
            step(&mut story, number, &calls, CallStatus::Ok, label);
            let plan = Plan::read(&story, &Shelf::new());
            match &frozen {
                Some(known) => {
                    prop_assert!(story.is_frozen());
                    prop_assert_eq!(known, &plan);
                }
                None if story.is_frozen() => frozen = Some(plan),
                None => prop_assert_eq!(plan.destinations, usize::try_from(number).expect("few")),
            }
        }
    }

    // A takeover may be told less of the past than the live run was. Its plan is the live one all the same, and the step
    // that was not clean stays so.
    #[test]
    fn a_shorter_past_thaws_no_plan(before in label(), labels in prop::collection::vec(label(), 1..8)) {
        let mut live = Story::new(1);
        live.add_item(&item(before)).expect("it is readable");
        let mut again = Story::new(2);
        for story in [&mut live, &mut again] {
            story.add_item(&item(Label::ACTOR_TEXT)).expect("it is readable");
        }
        for (number, label) in (1..).zip(labels) {
            let clean = live.label.integrity == Integrity::Trusted;
            let entries = [
                replied(number, clean, &[("pay", json!({"to": format!("d{number}")}))]),
                ended(number, 0, CallStatus::Ok, label),
            ];
            for entry in &entries {
                tell(&mut live, entry);
                tell(&mut again, entry);
            }
            prop_assert_eq!(Plan::read(&live, &Shelf::new()), Plan::read(&again, &Shelf::new()));
            prop_assert_eq!(live.is_closed(), again.is_closed());
        }
    }
}
