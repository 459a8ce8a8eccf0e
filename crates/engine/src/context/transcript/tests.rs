//! Units that wait for a client: what closes them, and what a model is told.

use bytes::Bytes;
use dromia_contracts::busy_policy::BusyPolicy;
use dromia_contracts::client::{ClientOptions, ClientTool};
use dromia_contracts::content::{CallStatus, parts_text};
use dromia_contracts::entry::{CallAsked, ModelReplied, RunCompleted, ToolFinished, ToolHanded};
use dromia_contracts::model::{FinishReason, TokenUsage, UsageDetail};
use dromia_contracts::{Actor, ItemId};
use jiff::Timestamp;

use super::*;

const RUN: RunId = RunId::from_bytes([7; 16]);
const OTHER: RunId = RunId::from_bytes([8; 16]);

fn id(index: u32) -> CallId {
    CallId { step: 1, index }
}

/// The entry of a reply that asks for calls of these tools; it ends there where it asks for none.
fn replied_with(
    step: u32,
    tools: &[&str],
    withheld: Option<WithheldReply>,
    masked: Vec<MaskedCall>,
) -> Entry {
    Entry::ModelReplied(ModelReplied {
        step,
        attempt: 1,
        usage: TokenUsage::default(),
        detail: UsageDetail::default(),
        cost_micros: 0,
        finish: if tools.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls },
        stopped_at: None,
        tools: tools.iter().map(|&tool| tool.into()).collect(),
        clean: true,
        withheld,
        masked,
    })
}

/// A story whose last run completed with two calls, the second of them handed to the client if so wished.
fn ended(both: bool) -> ConversationTranscript {
    let mut story = asked(both);
    let completed = Entry::RunCompleted(RunCompleted { rule: "reply".into(), policy: None });
    story.add_entry(&completed, None).expect("it is readable");
    story.end_run(RUN);
    story
}

/// The same, and the run goes on.
fn asked(both: bool) -> ConversationTranscript {
    let call = |index| ToolCall { id: id(index), tool: "weather".into(), arguments: "{}".into() };
    let message = AssistantMessage { parts: vec![], calls: vec![call(0), call(1)] };
    let replied = replied_with(1, &["weather"; 2], None, Vec::new());
    let mut story = ConversationTranscript::new(1);
    let body = serde_json::to_vec(&message).expect("it is JSON");
    story.add_entry(&replied, Some(&body)).expect("it is readable");
    for index in 0..=u32::from(both) {
        let handed = Entry::ToolHanded(ToolHanded { call: id(index), tool: "weather".into() });
        story.add_entry(&handed, None).expect("it is readable");
    }
    story
}

fn gave(index: u32, text: &str) -> ToolResult {
    ToolResult {
        call: id(index),
        status: CallStatus::Ok,
        parts: vec![ContentPart::new_text(text, Label::CLAIM)],
    }
}

fn item(text: &str, answers: Option<ClientToolResults>, offer: ClientOptions) -> InboxItem {
    let parts = if text.is_empty() { vec![] } else { vec![ContentPart::new_text(text, Label::ACTOR_TEXT)] };
    let message = InputMessage { author: Actor::new("cli:ada"), parts, hops: 0 };
    let body = InputBody {
        history: vec![],
        answers,
        offer,
        call: None,
        workspace: None,
        when_busy: BusyPolicy::default(),
        compaction: None,
        message,
    };
    InboxItem {
        id: ItemId::from_bytes([3; 16]),
        position: 2,
        at: Timestamp::UNIX_EPOCH,
        kind: ItemKind::Input,
        author: Actor::new("cli:ada"),
        body: Some(Bytes::from(body.encode().expect("it is JSON"))),
        taken_by: None,
    }
}

/// One line for each turn.
fn told(story: &ConversationTranscript) -> Vec<String> {
    let told = |turn: &TranscriptTurn| match turn {
        TranscriptTurn::Input(message) => format!("input {}", parts_text(&message.parts)),
        TranscriptTurn::Summary(parts) => format!("summary {}", parts_text(parts)),
        TranscriptTurn::Unit(unit) => {
            let results = unit.results().iter();
            let results = results.map(|result| format!("{:?} {}", result.status, parts_text(&result.parts)));
            format!("unit {}", results.collect::<Vec<_>>().join(" | "))
        }
    };
    story.transcript.turns().iter().map(told).collect()
}

#[test]
fn client_results_close_their_unit_in_call_order() {
    let mut story = ended(true);
    assert_eq!(told(&story), Vec::<String>::new(), "an open unit is in no transcript");
    let answers = ClientToolResults { run: RUN, results: vec![gave(1, "b"), gave(0, "a")] };
    story.add_item(&item("", Some(answers), ClientOptions::default())).expect("it is readable");
    assert_eq!(told(&story), ["unit Ok a | Ok b"]);
    assert_eq!(story.taint.label, Label::CLAIM, "what a client says of its tools is a claim");
}

#[test]
fn another_input_closes_the_open_unit_as_unknown() {
    let mut story = ended(true);
    story.add_item(&item("never mind", None, ClientOptions::default())).expect("it is readable");
    let told_now = told(&story);
    assert!(
        told_now[0].starts_with("unit Unknown The client") && told_now[0].contains("| Unknown The client")
    );
    assert_eq!(told_now[1..], ["input never mind"]);

    let mut story = ended(true);
    let resume = InboxItem { kind: ItemKind::Resume, ..item("x", None, ClientOptions::default()) };
    story.add_item(&resume).expect("it is readable");
    assert_eq!(told(&story).len(), 1, "the unit is whole before the model is asked again");
}

#[test]
fn calls_of_a_run_that_did_not_complete_never_left() {
    let mut story = asked(true);
    story.end_run(RUN);
    story.add_item(&item("again", None, ClientOptions::default())).expect("it is readable");
    let told = told(&story);
    assert!(told[0].starts_with("unit Cancelled The run ended before"), "{told:?}");
    assert_eq!(told[1..], ["input again"]);
}

#[test]
fn results_without_a_matching_call_become_an_input() {
    let mut story = ended(true);
    let answers = ClientToolResults { run: OTHER, results: vec![gave(0, "late")] };
    story.add_item(&item("and?", Some(answers), ClientOptions::default())).expect("it is readable");
    let told = told(&story);
    assert!(told[0].starts_with("unit Unknown"), "{told:?}");
    assert!(told[1].contains("closed already (call_1_0)") && told[1].ends_with("late\nand?"), "{told:?}");
}

#[test]
fn a_unit_with_an_erased_body_waits_for_no_client() {
    let mut story = ended(false);
    story.add_item(&item("hi", None, ClientOptions::default())).expect("it is readable");
    assert_eq!(told(&story), ["input hi"]);
}

#[test]
fn the_newest_input_says_what_is_offered() {
    let parameters = serde_json::json!({"type": "object"});
    let tool = ClientTool { name: "weather".into(), description: String::new(), parameters };
    let offer = ClientOptions { tools: vec![tool], ..ClientOptions::default() };
    let mut story = ConversationTranscript::new(1);
    story.add_item(&item("a", None, offer)).expect("it is readable");
    assert!(story.client.offered.has_tool("weather", &[]));
    let resume = InboxItem { kind: ItemKind::Resume, ..item("x", None, ClientOptions::default()) };
    story.add_item(&resume).expect("it is readable");
    assert!(story.client.offered.has_tool("weather", &[]), "who goes on from a limit has what it had");
    story.add_item(&item("b", None, ClientOptions::default())).expect("it is readable");
    assert!(!story.client.offered.has_tool("weather", &[]));
}

#[test]
fn a_call_by_hand_is_a_unit_and_replies_itself() {
    let call = ManualCall { tool: "look".into(), arguments: "{}".into() };
    let parts = vec![ContentPart::new_text("Call look.", Label::ACTOR_TEXT)];
    let message = InputMessage { author: Actor::new("cli:ada"), parts, hops: 0 };
    let body = InputBody {
        history: vec![],
        answers: None,
        offer: ClientOptions::default(),
        call: Some(call.clone()),
        workspace: None,
        when_busy: BusyPolicy::default(),
        compaction: None,
        message,
    };
    let mut asked = item("x", None, ClientOptions::default());
    asked.body = Some(Bytes::from(body.encode().expect("it is JSON")));
    let mut story = ConversationTranscript::new(1);
    story.add_item(&asked).expect("it is readable");
    assert_eq!(story.asked, Some(call));
    let calls = vec![ToolCall { id: id(0), tool: "look".into(), arguments: "{}".into() }];
    let body = serde_json::to_vec(&AssistantMessage { parts: vec![], calls }).expect("it is JSON");
    let entry = Entry::CallAsked(CallAsked { call: id(0), tool: "look".into() });
    story.add_entry(&entry, Some(&body)).expect("it is readable");
    assert!(story.open_call(id(0)).is_some(), "it can be judged");
    let body = serde_json::to_vec(&gave(0, "two lines")).expect("it is JSON");
    let status = CallStatus::Ok;
    let finished = Entry::ToolFinished(ToolFinished {
        call: id(0),
        status,
        egress: vec![],
        result: None,
        withdrawn: None,
        reply: false,
    });
    story.add_entry(&finished, Some(&body)).expect("it is readable");
    assert_eq!(parts_text(&story.reply), "two lines");
    assert_eq!(told(&story).len(), 2, "{:?}", told(&story));
    story.add_item(&item("and now?", None, ClientOptions::default())).expect("it is readable");
    assert_eq!(story.asked, None, "the next input asks for no call");
}

#[test]
fn a_masked_call_is_not_judged_unlike_the_next() {
    let answered = |step: u32, withheld: Option<WithheldReply>, masked: Vec<MaskedCall>| {
        let call = CallId { step, index: 0 };
        let calls = vec![ToolCall { id: call, tool: "look".into(), arguments: "{}".into() }];
        let body = serde_json::to_vec(&AssistantMessage { parts: vec![], calls }).expect("it is JSON");
        let entry = replied_with(step, &["look"], withheld, masked);
        (entry, body)
    };
    let withheld = WithheldReply { rule: "leak scan".into(), reason: "no".into() };
    let masked = vec![MaskedCall { call: id(0), reason: "it holds a secret".into() }];
    let mut story = ConversationTranscript::new(1);
    let (entry, body) = answered(1, Some(withheld.clone()), masked);
    story.add_entry(&entry, Some(&body)).expect("it is readable");
    assert!(story.open_call(id(0)).is_none(), "nobody judges it");
    let told = story.masked_call(id(0)).map(|(call, reason)| (call.tool.as_str(), reason));
    assert_eq!(told, Some(("look", "it holds a secret")));
    assert_eq!(story.withheld, Some(withheld));
    let refused = serde_json::to_vec(&gave(0, "it holds a secret")).expect("it is JSON");
    let finished = ToolFinished {
        call: id(0),
        status: CallStatus::Denied,
        egress: vec![],
        result: None,
        withdrawn: None,
        reply: false,
    };
    story.add_entry(&Entry::ToolFinished(finished), Some(&refused)).expect("it is readable");
    let (entry, body) = answered(2, None, Vec::new());
    story.add_entry(&entry, Some(&body)).expect("it is readable");
    let next = CallId { step: 2, index: 0 };
    assert!(story.open_call(next).is_some() && story.masked_call(next).is_none() && story.withheld.is_none());
}

#[test]
fn a_withheld_answer_is_removed_when_its_run_ends() {
    let (label, said) = (Label::CLAIM, "the till is open");
    let words = |story: &ConversationTranscript| {
        let units = story.transcript.turns().iter().filter_map(|turn| match turn {
            TranscriptTurn::Unit(unit) => Some(unit.message().parts.clone()),
            TranscriptTurn::Input(_) | TranscriptTurn::Summary(_) => None,
        });
        units.flatten().collect::<Vec<_>>()
    };
    for withheld in [None, Some(WithheldReply { rule: "default deny".into(), reason: "no".into() })] {
        let message = AssistantMessage { parts: vec![ContentPart::new_text(said, label)], calls: vec![] };
        let body = serde_json::to_vec(&message).expect("it is JSON");
        let replied = replied_with(1, &[], withheld.clone(), Vec::new());
        let mut story = ConversationTranscript::new(1);
        story.add_entry(&replied, Some(&body)).expect("it is readable");
        assert_eq!(words(&story), [ContentPart::new_text(said, label)], "its own run has it");
        assert_eq!(parts_text(&story.reply), said, "what is judged is what was said");
        story.end_run(RUN);
        story.add_item(&item("and?", None, ClientOptions::default())).expect("it is readable");
        let told = match withheld {
            None => said,
            Some(_) => "[what you said here was refused by default deny and told to nobody]",
        };
        assert_eq!(words(&story), [ContentPart::new_text(told, label)]);
    }
}
