//! What is in a plan and how much of it is left, what freezes it, and that nothing thaws it.

use dromia_contracts::content::ToolCall;
use dromia_contracts::content::{AssistantMessage, ContentPart, InputMessage, ToolResult};
use dromia_contracts::entry::{Entry, ModelReplied, ToolFinished, ToolRefused};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::{IntegrityLevel, Label, ReaderSet};
use dromia_contracts::model::{FinishReason, TokenUsage, UsageDetail};
use dromia_contracts::sandbox::ProcessLimits;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::tool::{
    CallProgressSink, PrepareError, RecordFields, ToolContext, ToolDescriptor, ToolHost, ToolOutput,
};
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::{Actor, BoxFuture, CallId, Digest, ItemId};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Tools that take any JSON object; `pay` and `mail.send` lead somewhere, `look` does not and tells records of somebody's own.
#[derive(Debug)]
struct PlannedToolHost(ToolCatalogue);

impl PlannedToolHost {
    fn new() -> Self {
        let roles = [
            ("sum", ArgumentRole::Amount),
            ("id", ArgumentRole::Object),
            ("key", ArgumentRole::Credential),
            ("note", ArgumentRole::Payload),
        ];
        let records = || RecordFields { keys: vec!["id".into(), "with".into()], names: vec!["title".into()] };
        let tool = |name: &str, leads: &[&str]| ToolDescriptor {
            name: name.to_owned(),
            description: String::new(),
            parameters: json!({}),
            effect: if name == "look" { EffectClass::Pure } else { EffectClass::Keyed },
            roles: leads
                .iter()
                .map(|lead| (*lead, ArgumentRole::Destination))
                .chain(roles)
                .map(|(name, role)| (name.to_owned(), role))
                .collect(),
            result_label: Label::PUBLIC_FACT,
            sensitivity: if name == "look" { Sensitivity::High } else { Sensitivity::Low },
            records: (name == "look").then(records),
        };
        Self(ToolCatalogue::from_builtins([
            tool("look", &[]),
            tool("mail.send", &["cc", "to"]),
            tool("pay", &["to"]),
            tool(DECLARE, &[]),
        ]))
    }

    fn run_tools(&self) -> RunTools<'_> {
        RunTools { host: self, catalogue: &self.0 }
    }
}

impl ToolHost for PlannedToolHost {
    fn shared_catalogue(&self) -> ToolCatalogue {
        self.0.clone()
    }

    fn prepare_call(&self, tools: &ToolCatalogue, call: &ToolCall) -> Result<PreparedCall, PrepareError> {
        let known = tools.find_tool(&call.tool).is_some();
        let value: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
        if !known || !value.is_object() {
            return Err(PrepareError::UnknownTool { name: call.tool.clone() });
        }
        Ok(PreparedCall {
            id: call.id,
            tool: call.tool.clone(),
            effect: if call.tool == "look" { EffectClass::Pure } else { EffectClass::Keyed },
            arguments: value.to_string(),
            action: Digest::default(),
            reaches: None,
            network: None,
            contents: None,
        })
    }

    fn execute_call<'a>(
        &'a self,
        _: ToolContext,
        _: PreparedCall,
        _: &'a dyn CallProgressSink,
    ) -> BoxFuture<'a, ToolOutput> {
        Box::pin(std::future::ready(ToolOutput::default()))
    }

    fn process_limits(&self, _: &str, _: &ToolTerms) -> Option<ProcessLimits> {
        None
    }
}

/// A story to which somebody said something.
fn asked(label: Label) -> ConversationTranscript {
    let mut story = ConversationTranscript::new(1);
    story.add_item(&item(label)).expect("it is readable");
    story
}

fn item(label: Label) -> InboxItem {
    let parts = vec![ContentPart::new_text("do it", label)];
    let message = InputMessage { author: Actor::new("cli:ada"), parts, hops: 0 };
    let body = InputBody::from_message(message);
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
        usage: TokenUsage::default(),
        detail: UsageDetail::default(),
        cost_micros: 0,
        finish: FinishReason::ToolCalls,
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
    let result = ToolResult { call, status, parts: vec![ContentPart::new_text("so", label)] };
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
        Entry::ToolFinished(ToolFinished {
            call,
            status,
            egress: vec![],
            result: None,
            withdrawn: None,
            reply: false,
        })
    };
    (entry, serde_json::to_vec(&result).expect("it is JSON"))
}

fn tell(story: &mut ConversationTranscript, (entry, body): &(Entry, Vec<u8>)) {
    story.add_entry(entry, Some(body)).expect("it is readable");
}

/// A step as an owner writes it: it is clean if the story is, and each call gives a part with a label.
fn step(
    story: &mut ConversationTranscript,
    step: u32,
    calls: &[(&str, Value)],
    status: CallStatus,
    label: Label,
) {
    let clean = story.taint.label.integrity == IntegrityLevel::Trusted;
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
    PlannedToolHost::new().run_tools().prepare_call(&call).expect("it is a call")
}

/// How a call stands: `None` while the plan is open.
fn stands(story: &ConversationTranscript, tool: &str, arguments: &Value) -> Option<bool> {
    let provenance = stands_with(story, tool, arguments);
    assert!(provenance.frozen || provenance.in_plan);
    provenance.frozen.then_some(provenance.in_plan)
}

fn stands_with(story: &ConversationTranscript, tool: &str, arguments: &Value) -> CallProvenance {
    plan_provenance(story, PlannedToolHost::new().run_tools(), &prepared(tool, arguments))
}

#[test]
fn a_plan_freezes_at_the_first_untrusted_part() {
    for (label, frozen) in [
        (Label::ACTOR_TEXT, false),
        (Label::PUBLIC_FACT, false),
        (Label::OUTSIDE, true),
        (Label::CLAIM, true),
        (Label::UNKNOWN_FILE, true),
    ] {
        assert_eq!(asked(label).taint.is_frozen(), frozen, "an input {label}");
        let mut story = asked(Label::ACTOR_TEXT);
        step(&mut story, 1, &[("look", json!({}))], CallStatus::Ok, label);
        assert_eq!(story.taint.is_frozen(), frozen, "a result {label}");
        assert!(!story.taint.is_closed(), "the step itself was clean");
        step(&mut story, 2, &[("look", json!({}))], CallStatus::Ok, Label::PUBLIC_FACT);
        assert_eq!(story.taint.is_closed(), frozen, "the step after {label}");
    }
}

#[test]
fn a_plan_holds_exactly_the_calls_of_clean_steps() {
    let mut story = asked(Label::ACTOR_TEXT);
    let declared = json!({"tools": {"pay": {"to": ["bob"]}, "mail.send": {"to": ["a", "b"]}}});
    step(&mut story, 1, &[(DECLARE, declared)], CallStatus::Ok, Label::PUBLIC_FACT);
    assert_eq!(stands(&story, "pay", &json!({"to": "eve"})), None, "it is open");
    let second = [("look", json!({})), ("pay", json!({"to": "ann"}))];
    step(&mut story, 2, &second, CallStatus::Ok, Label::OUTSIDE);
    step(&mut story, 3, &[("pay", json!({"to": "eve"}))], CallStatus::Denied, Label::PUBLIC_FACT);
    for (tool, arguments, is_in) in [
        ("look", json!({"at": "anything"}), true),
        ("pay", json!({"to": "bob"}), true),
        ("pay", json!({"to": "bob", "sum": 9}), true),
        ("pay", json!({"to": "eve"}), false),
        ("pay", json!({"to": "ann"}), false),
        ("pay", json!({"to": "a"}), false),
        ("pay", json!({"to": ["bob", "eve"]}), false),
        ("pay", json!({"to": {"name": "eve"}}), false),
        ("pay", json!({"to": "bob "}), false),
        ("mail.send", json!({"to": ["b"]}), true),
        ("mail.send", json!({"to": ["b"], "cc": "a"}), true),
        ("mail.send", json!({"to": ["b"], "cc": "eve"}), false),
        ("mail.send", json!({"to": "bob"}), false),
        (DECLARE, json!({"tools": {"look": {}}}), false),
    ] {
        assert_eq!(stands(&story, tool, &arguments), Some(is_in), "{tool} {arguments}");
    }
    let call = prepared("look", &json!({}));
    assert_eq!(
        plan_provenance(&story, PlannedToolHost::new().run_tools(), &call).tools,
        ["look", "mail.send", "pay"]
    );
}

#[test]
fn a_declared_plan_counts_when_accepted_in_a_clean_step() {
    let declared = |tools: Value| [(DECLARE, json!({ "tools": tools }))];
    let mut story = asked(Label::ACTOR_TEXT);
    let named =
        json!({"pay": {"to": ["bob"]}, "mail__send": {"to": ["a"]}, "look": {}, "no.tool": {"to": ["x"]}});
    step(&mut story, 1, &declared(named), CallStatus::Ok, Label::PUBLIC_FACT);
    let refused = declared(json!({"pay": {"to": ["mallory"]}}));
    step(&mut story, 2, &refused, CallStatus::Denied, Label::PUBLIC_FACT);
    step(&mut story, 3, &[("look", json!({}))], CallStatus::Ok, Label::OUTSIDE);
    step(&mut story, 4, &declared(json!({"pay": {"to": ["eve"]}})), CallStatus::Ok, Label::PUBLIC_FACT);
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
    assert_eq!(
        plan_provenance(&story, PlannedToolHost::new().run_tools(), &call).tools,
        ["look", "mail.send", "pay"]
    );
}

#[test]
fn a_refused_call_is_unplanned_but_one_queued_is_planned() {
    let mut story = asked(Label::ACTOR_TEXT);
    tell(&mut story, &replied(1, true, &[("look", json!({})), ("pay", json!({"to": "bob"}))]));
    tell(&mut story, &ended(1, 0, CallStatus::Ok, Label::OUTSIDE));
    let waits = CallId { step: 1, index: 1 };
    let own = PreparedCall { id: waits, ..prepared("pay", &json!({"to": "bob", "id": "7", "again": true})) };
    let own = plan_provenance(&story, PlannedToolHost::new().run_tools(), &own);
    assert!(own.in_plan, "it was asked for before");
    assert_eq!(own.planned, ["again", "id", "to"], "as it is");
    assert_eq!(stands(&story, "pay", &json!({"to": "bob"})), Some(false), "and once");
    tell(&mut story, &ended(1, 1, CallStatus::Denied, Label::PUBLIC_FACT));
    assert_eq!(stands(&story, "pay", &json!({"to": "bob"})), Some(false), "somebody refused it");
}

#[test]
fn another_turn_has_a_plan_of_its_own() {
    let mut story = asked(Label::ACTOR_TEXT);
    let twice = json!({"tools": {"pay": {"to": ["bob"], "times": 2}}});
    step(&mut story, 1, &[(DECLARE, twice)], CallStatus::Ok, Label::OUTSIDE);
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
    let declared = |to: &[String]| [(DECLARE, json!({"tools": {"pay": {"to": to, "times": 9}}}))];
    let leads: Vec<_> = (0..=DESTINATIONS_MAX).map(|n| format!("d{n:03}")).collect();
    let mut story = asked(Label::ACTOR_TEXT);
    step(&mut story, 1, &declared(&leads[1..]), CallStatus::Ok, Label::PUBLIC_FACT);
    step(&mut story, 2, &declared(&["one more".to_owned()]), CallStatus::Ok, Label::OUTSIDE);
    assert_eq!(stands(&story, "pay", &json!({"to": leads[1..]})), Some(true));
    assert_eq!(stands(&story, "pay", &json!({ "to": leads })), Some(false), "too many to look for");
    assert_eq!(stands(&story, "pay", &json!({"to": "one more"})), Some(false), "one too many");

    let mut story = asked(Label::ACTOR_TEXT);
    let calls: Vec<_> = (0..=CALLS_MAX).map(|n| ("look", json!({ "at": n }))).collect();
    step(&mut story, 1, &declared(&leads[..1]), CallStatus::Ok, Label::PUBLIC_FACT);
    assert_eq!(stands(&story, "pay", &json!({"to": "d000"})), None);
    step(&mut story, 2, &calls[2..], CallStatus::Ok, Label::OUTSIDE);
    assert_eq!(stands(&story, "pay", &json!({"to": "d000"})), Some(true));
    step(&mut story, 3, &calls[..1], CallStatus::Ok, Label::OUTSIDE);
    assert_eq!(stands(&story, "pay", &json!({"to": "d000"})), Some(false), "nobody looks at more calls");

    let mut story = asked(Label::ACTOR_TEXT);
    let long = ("look", json!({"at": "x".repeat(BYTES_MAX)}));
    let [declared] = declared(&leads[..1]);
    step(&mut story, 1, &[declared, long], CallStatus::Ok, Label::OUTSIDE);
    assert_eq!(stands(&story, "pay", &json!({"to": "d000"})), Some(false), "nobody looks at so much");
    assert_eq!(stands(&story, "look", &json!({})), Some(false));
}

/// A turn that plans, and then reads something.
fn planned(calls: &Value) -> ConversationTranscript {
    let mut story = asked(Label::ACTOR_TEXT);
    step(&mut story, 1, &[(DECLARE, json!({ "tools": calls }))], CallStatus::Ok, Label::PUBLIC_FACT);
    step(&mut story, 2, &[("look", json!({}))], CallStatus::Ok, Label::OUTSIDE);
    story
}

#[test]
fn each_begun_call_uses_up_one_planned_call() {
    let to_bob = json!({"to": "bob"});
    for (times, status, left) in [
        (None, CallStatus::Ok, false),
        (Some(2), CallStatus::Ok, true),
        (None, CallStatus::Error, false),
        (None, CallStatus::Unknown, false),
        (None, CallStatus::Awaiting, false),
        (None, CallStatus::Denied, true),
        (None, CallStatus::Cancelled, true),
    ] {
        let mut story = planned(&json!({"pay": {"to": ["bob"], "times": times}}));
        assert_eq!(stands(&story, "pay", &to_bob), Some(true));
        step(&mut story, 3, &[("pay", to_bob.clone())], status, Label::OUTSIDE);
        assert_eq!(stands(&story, "pay", &to_bob), Some(left), "{times:?} {status:?}");
        let bounds = stands_with(&story, "pay", &to_bob).bounds;
        let words = format!("{} left) to bob", u32::from(left));
        assert!(bounds.contains(&words), "{bounds}");
    }
    // One that was declared and then made before anything came is made.
    let mut story = asked(Label::ACTOR_TEXT);
    let declared = (DECLARE, json!({"tools": {"pay": {"to": ["bob"]}}}));
    step(&mut story, 1, &[declared], CallStatus::Ok, Label::PUBLIC_FACT);
    step(&mut story, 2, &[("pay", to_bob.clone())], CallStatus::Ok, Label::OUTSIDE);
    assert_eq!(stands(&story, "pay", &to_bob), Some(false));
}

/// Planted fault: a plan that does not count what began after it froze. A repeated payment lies within it.
#[test]
fn a_plan_that_counts_nothing_is_caught() {
    let to_bob = json!({"to": "bob"});
    let mut story = planned(&json!({"pay": {"to": ["bob"]}}));
    step(&mut story, 3, &[("pay", to_bob.clone())], CallStatus::Ok, Label::OUTSIDE);
    let (host, call) = (PlannedToolHost::new(), prepared("pay", &to_bob));
    let read = |before| {
        TurnPlan::from_transcript(&story, host.run_tools(), &KnownRecords::default(), before)
            .contains_call(&call, &host.0)
    };
    assert!(!read(call.id));
    assert!(read(CallId { step: 0, index: 0 }), "nothing notices it");
}

#[test]
fn a_plan_binds_objects_texts_and_amounts_and_no_key() {
    let story = planned(&json!({"pay": {
        "to": ["bob"], "objects": ["12"], "texts": ["rent"], "amount_max": 50, "times": 9,
    }}));
    for (arguments, bound) in [
        (json!({"to": "bob", "id": 12, "note": "rent", "sum": 50}), &["id", "note", "sum", "to"][..]),
        (json!({"to": "bob", "id": "13"}), &["to"]),
        (json!({"to": "bob", "id": ["12", "13"]}), &["to"]),
        (json!({"to": "bob", "note": "rent!"}), &["to"]),
        (json!({"to": "bob", "sum": 50.01}), &["to"]),
        (json!({"to": "bob", "sum": 50_000}), &["to"]),
        (json!({"to": "bob", "sum": -1}), &["to"]),
        (json!({"to": "bob", "sum": "49.99"}), &["sum", "to"]),
        (json!({"to": "bob", "sum": "1e9"}), &["to"]),
        (json!({"to": "bob", "sum": "NaN"}), &["to"]),
        (json!({"to": "bob", "key": "rent"}), &["to"]),
    ] {
        let provenance = stands_with(&story, "pay", &arguments);
        assert!(provenance.in_plan, "{arguments}");
        assert_eq!(provenance.planned, bound, "{arguments}");
    }
    let unbounded = planned(&json!({"pay": {"to": ["bob"]}}));
    assert_eq!(stands_with(&unbounded, "pay", &json!({"to": "bob", "sum": 1})).planned, ["to"]);
    let bounds = stands_with(&story, "pay", &json!({"to": "eve"})).bounds;
    assert_eq!(bounds, "9 calls (9 left) to bob, upon 12, saying rent, amount at most 50");
}

#[test]
fn an_argument_without_a_role_has_a_declared_value() {
    let arguments = json!({"again": [true, "no"], "on": ["Monday", 7]});
    let story = planned(&json!({"pay": {"to": ["bob"], "texts": ["Sunday"], "arguments": arguments}}));
    let bound = |more: Value| {
        let mut arguments = json!({"to": "bob"});
        arguments.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        stands_with(&story, "pay", &arguments).planned
    };
    assert_eq!(bound(json!({"again": true, "on": "Monday"})), ["again", "on", "to"]);
    assert_eq!(bound(json!({"again": "no", "on": 7})), ["again", "on", "to"]);
    for other in [
        json!({"again": false}),
        json!({"again": "true"}),
        json!({"again": [true]}),
        json!({"on": "Sunday"}),
        json!({"on": "monday"}),
        json!({"on": ["Monday"]}),
        json!({"on": {}}),
        json!({"on": true}),
        json!({"again": "Monday"}),
        json!({"else": "Monday"}),
    ] {
        assert_eq!(bound(other.clone()), ["to"], "{other}");
    }
    let bounds = stands_with(&story, "pay", &json!({})).bounds;
    assert_eq!(bounds, "1 call (1 left) to bob, saying Sunday, again \"no\", true, on \"Monday\", 7");
}

/// A turn in which a person types something and the model declares amounts up to 60, and then something comes.
fn paying_up_to_60(text: &str) -> ConversationTranscript {
    let mut story = typed(text);
    let declared = json!({"tools": {"pay": {"to": ["bob"], "amount_max": 60}}});
    step(&mut story, 1, &[(DECLARE, declared)], CallStatus::Ok, Label::OUTSIDE);
    story
}

#[test]
fn a_typed_bound_allows_no_amount_that_was_not_typed() {
    let binds = |story: &ConversationTranscript, sum: Value| {
        let planned = stands_with(story, "pay", &json!({"to": "bob", "sum": sum})).planned;
        planned.contains(&"sum".to_owned())
    };
    let exact = paying_up_to_60("Pay bob 60.00 for the rent, and 12.50 or 70 later.");
    for (sum, is_bound) in [
        (json!(60), true),
        (json!("60.0"), true),
        (json!(12.5), true),
        (json!([12.5, 60]), true),
        (json!(59), false),
        (json!("1"), false),
        (json!(0), false),
        (json!([60, 59]), false),
        (json!(70), false),
    ] {
        assert_eq!(binds(&exact, sum.clone()), is_bound, "{sum}");
    }
    assert!(stands_with(&exact, "pay", &json!({})).bounds.ends_with("amount as typed, at most 60"));
    let bounded = paying_up_to_60("Pay bob what he asks for the 12 eggs.");
    for (sum, is_bound) in [(60, true), (59, true), (0, true), (61, false)] {
        assert_eq!(binds(&bounded, json!(sum)), is_bound, "{sum} of an amount that nobody typed");
    }
}

/// Planted fault: a plan that knows of no typed number. It pays any part of a typed amount.
#[test]
fn a_plan_that_hears_no_typed_amount_is_caught() {
    let story = paying_up_to_60("Pay bob 60 for the rent.");
    let (host, call) = (PlannedToolHost::new(), prepared("pay", &json!({"to": "bob", "sum": 1})));
    let binds = |typed: &[f64]| {
        let mut plan = TurnPlan { typed_numbers: typed.to_vec(), ..TurnPlan::default() };
        let declared = r#"{"tools": {"pay": {"to": ["bob"], "amount_max": 60}}}"#;
        plan.declare_tools(declared, &host.0);
        let (_, bound) = plan.choose_entry(&call, &host.0, &KnownRecords::default()).expect("it is planned");
        bound.contains(&"sum".to_owned())
    };
    assert!(!binds(&typed_numbers(&story.transcript)));
    assert!(binds(&[]), "nothing notices it");
}

/// A story in which a person types something.
fn typed(text: &str) -> ConversationTranscript {
    let mut story = ConversationTranscript::new(1);
    let mut item = item(Label::ACTOR_TEXT);
    let parts = vec![ContentPart::new_text(text, Label::ACTOR_TEXT)];
    let message = InputMessage { author: Actor::new("cli:ada"), parts, hops: 0 };
    let body = InputBody::from_message(message);
    item.body = Some(body.encode().expect("it is JSON").into());
    story.add_item(&item).expect("it is readable");
    story
}

#[test]
fn planned_short_values_are_endorsed_when_also_typed() {
    let mut story = typed("1. Pay bob 10.00 for order 12, as ever.");
    let declared = json!({"tools": {"pay": {"to": ["bob"], "objects": ["12", "77"], "amount_max": 10}}});
    step(&mut story, 1, &[(DECLARE, declared)], CallStatus::Ok, Label::OUTSIDE);
    let endorsed = |arguments: Value| stands_with(&story, "pay", &arguments).endorsed;
    assert_eq!(endorsed(json!({"to": "bob", "id": 12, "sum": 10.0})), ["id", "sum", "to"]);
    assert_eq!(endorsed(json!({"to": "bob", "id": "77", "sum": 9})), ["to"], "planned, and not typed");
    assert_eq!(endorsed(json!({"to": "bob", "id": "1"})), ["to"], "typed, and not planned");
}

#[test]
fn a_standing_lists_read_sources_and_the_unplanned_ones() {
    let story = planned(&json!({"pay": {"to": ["bob"]}, "mail.send": {"to": ["bob"], "carries": ["look"]}}));
    let provenance = stands_with(&story, "pay", &json!({"to": "bob"}));
    assert_eq!(
        (provenance.sources, provenance.uncarried),
        (vec!["look".to_owned()], vec!["look".to_owned()])
    );
    assert_eq!(provenance.called, ["look", DECLARE]);
    let provenance = stands_with(&story, "mail.send", &json!({"to": "bob"}));
    assert_eq!((provenance.sources.len(), provenance.uncarried.len()), (1, 0));
    let unread = asked(Label::ACTOR_TEXT);
    assert!(stands_with(&unread, "pay", &json!({"to": "bob"})).sources.is_empty(), "a turn starts low");
    let mut personal = asked(Label::ACTOR_TEXT);
    let own = Label { readers: ReaderSet::Actor, ..Label::PUBLIC_FACT };
    step(&mut personal, 1, &[("pay", json!({"to": "bob"}))], CallStatus::Ok, own);
    assert_eq!(
        stands_with(&personal, "pay", &json!({"to": "bob"})).sources,
        ["pay"],
        "only its actor may read it"
    );
    let mut opened = asked(Label::ACTOR_TEXT);
    let secret = json!({"to": {"secret": "till"}});
    step(&mut opened, 1, &[("pay", secret)], CallStatus::Ok, Label::PUBLIC_FACT);
    assert_eq!(stands_with(&opened, "pay", &json!({"to": "bob"})).sources, ["pay"], "a secret opened it");
}

/// Compares a way to find which tools gave a turn something sensitive with what it must find while the turn goes on.
fn check_sensitivity(
    sources: impl Fn(&ConversationTranscript, RunTools<'_>) -> Vec<String>,
) -> Result<(), String> {
    let mut story = asked(Label::ACTOR_TEXT).by_handles();
    let find = |story: &ConversationTranscript, expected: &[&str], when: &str| {
        let found = sources(story, PlannedToolHost::new().run_tools());
        if found == expected { Ok(()) } else { Err(format!("{found:?} {when}")) }
    };
    step(&mut story, 1, &[("look", json!({}))], CallStatus::Ok, Label::OUTSIDE);
    find(&story, &["look"], "at once")?;
    step(&mut story, 2, &[("pay", json!({"to": "bob"}))], CallStatus::Ok, Label::PUBLIC_FACT);
    find(&story, &["look"], "behind another call")?;
    story.add_item(&item(Label::ACTOR_TEXT)).expect("it is readable");
    find(&story, &[], "where it is told by a handle")?;
    let told = Label { readers: ReaderSet::Agent, ..Label::PUBLIC_FACT };
    step(&mut story, 3, &[("look", json!({}))], CallStatus::Ok, told);
    for _ in 0..2 {
        story.add_item(&item(Label::ACTOR_TEXT)).expect("it is readable");
        find(&story, &["look"], "in a later turn that is told it still")?;
    }
    Ok(())
}

#[test]
fn sensitivity_rises_within_a_turn_and_falls_with_replaced_results() {
    assert_eq!(check_sensitivity(sensitive_sources), Ok(()));
}

/// Planted fault: only the newest call counts.
#[test]
fn sensitivity_that_falls_within_a_turn_is_caught() {
    let newest = |story: &ConversationTranscript, tools: RunTools<'_>| {
        let last = story.own_calls().last().and_then(|(call, _)| tools.catalogue.find_spelled(&call.tool));
        last.filter(|tool| tool.sensitivity == Sensitivity::High)
            .map(|tool| tool.name.clone())
            .into_iter()
            .collect()
    };
    let found = check_sensitivity(newest).expect_err("nothing notices it");
    assert!(found.ends_with("behind another call"), "{found}");
}

/// Planted fault: a result counts in its own turn alone.
#[test]
fn sensitivity_that_a_later_turn_forgets_is_caught() {
    let own = |story: &ConversationTranscript, tools: RunTools<'_>| {
        let told = story.own_calls().filter_map(|(call, _)| tools.catalogue.find_spelled(&call.tool));
        let told: BTreeSet<_> =
            told.filter(|tool| tool.sensitivity == Sensitivity::High).map(|tool| tool.name.clone()).collect();
        told.into_iter().collect()
    };
    let found = check_sensitivity(own).expect_err("nothing notices it");
    assert!(found.ends_with("that is told it still"), "{found}");
}

fn label() -> impl Strategy<Value = Label> {
    let integrity = prop_oneof![Just(IntegrityLevel::Trusted), Just(IntegrityLevel::Untrusted)];
    let readers = prop_oneof![Just(ReaderSet::Public), Just(ReaderSet::Agent), Just(ReaderSet::Actor)];
    (integrity, readers).prop_map(|(integrity, readers)| Label { integrity, readers })
}

/// Later than any call.
const LAST: CallId = CallId { step: u32::MAX, index: 0 };

proptest! {
    // Whatever labels are joined, in whatever order: what was frozen stays frozen, and its plan stays what it was.
    #[test]
    fn no_label_thaws_a_plan(labels in prop::collection::vec(label(), 1..12)) {
        let mut story = asked(Label::ACTOR_TEXT);
        let mut frozen: Option<TurnPlan> = None;
        for (number, label) in (1..).zip(labels) {
            let calls = [("pay", json!({"to": format!("d{number}")}))];
            step(&mut story, number, &calls, CallStatus::Ok, label);
            let plan = TurnPlan::from_transcript(&story, PlannedToolHost::new().run_tools(), &KnownRecords::default(), LAST);
            match &frozen {
                Some(known) => {
                    prop_assert!(story.taint.is_frozen());
                    prop_assert_eq!(known, &plan);
                }
                None if story.taint.is_frozen() => frozen = Some(plan),
                None => prop_assert_eq!(plan.destinations, usize::try_from(number).expect("few")),
            }
        }
    }

    // A takeover may be told less of the past than the live run was. Its plan is the live one all the same, and the step
    // that was not clean stays so.
    #[test]
    fn a_shorter_past_thaws_no_plan(before in label(), labels in prop::collection::vec(label(), 1..8)) {
        let mut live = ConversationTranscript::new(1);
        live.add_item(&item(before)).expect("it is readable");
        let mut again = ConversationTranscript::new(2);
        for story in [&mut live, &mut again] {
            story.add_item(&item(Label::ACTOR_TEXT)).expect("it is readable");
        }
        for (number, label) in (1..).zip(labels) {
            let clean = live.taint.label.integrity == IntegrityLevel::Trusted;
            let entries = [
                replied(number, clean, &[("pay", json!({"to": format!("d{number}")}))]),
                ended(number, 0, CallStatus::Ok, label),
            ];
            for entry in &entries {
                tell(&mut live, entry);
                tell(&mut again, entry);
            }
            let read = |story| TurnPlan::from_transcript(story, PlannedToolHost::new().run_tools(), &KnownRecords::default(), LAST);
            prop_assert_eq!(read(&live), read(&again));
            prop_assert_eq!(live.taint.is_closed(), again.taint.is_closed());
        }
    }
}
