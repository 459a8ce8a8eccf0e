//! What becomes a handle, what stays, and which label is left.

use bytes::Bytes;
use dromia_contracts::client::ClientToolResults;
use dromia_contracts::content::{CallStatus, ImageMediaType, InputMessage, parts_text};
use dromia_contracts::entry::{Entry, ModelReplied, RunCompleted, ToolFinished, ToolHanded, ToolStarted};
use dromia_contracts::input::InputBody;
use dromia_contracts::model::{FinishReason, TokenUsage, UsageDetail};
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::tool::EffectClass;
use dromia_contracts::{Actor, Digest, ItemId, RunId};
use jiff::Timestamp;
use serde::Serialize;

use super::*;

const RUN: RunId = RunId::from_bytes([7; 16]);
const ASKS: &str = r#"{"path":"a"}"#;

/// A story that is told as the configuration says by default.
fn story() -> ConversationTranscript {
    ConversationTranscript {
        taint: crate::context::taint::TaintTracker::new(TaintedPast::Handle),
        ..ConversationTranscript::new(1)
    }
}

fn text(text: &str, label: Label) -> ContentPart {
    ContentPart::new_text(text, label)
}

impl ConversationTranscript {
    /// Tells the story up to here again, as if nothing were replaced.
    fn whole(mut self) -> Self {
        self.taint.tainted_past = TaintedPast::Whole;
        self
    }

    fn says(&mut self, place: u64, parts: Vec<ContentPart>) {
        self.item(place, ItemKind::Input, None, parts);
    }

    fn types(&mut self, place: u64, words: &str) {
        self.says(place, vec![text(words, Label::ACTOR_TEXT)]);
    }

    fn item(
        &mut self,
        place: u64,
        kind: ItemKind,
        answers: Option<ClientToolResults>,
        parts: Vec<ContentPart>,
    ) {
        let message = InputMessage { author: Actor::new("cli:ada"), parts, hops: 0 };
        let body = InputBody { answers, ..InputBody::from_message(message) };
        let item = InboxItem {
            id: ItemId::from_bytes([3; 16]),
            position: place,
            at: Timestamp::UNIX_EPOCH,
            kind,
            author: Actor::new("cli:ada"),
            body: Some(Bytes::from(body.encode().expect("it is JSON"))),
            taken_by: None,
        };
        self.add_item(&item).expect("it is readable");
    }

    /// A step of the model, whose words have the label of all that it was sent.
    fn replies(&mut self, step: u32, words: &str, tools: &[&str]) {
        let clean = self.taint.label.integrity == IntegrityLevel::Trusted;
        let parts = if words.is_empty() { vec![] } else { vec![text(words, self.taint.label)] };
        self.replies_with(step, clean, parts, tools);
    }

    fn replies_with(&mut self, step: u32, clean: bool, parts: Vec<ContentPart>, tools: &[&str]) {
        let call = |(index, tool): (u32, &&str)| ToolCall {
            id: CallId { step, index },
            tool: (*tool).to_owned(),
            arguments: ASKS.to_owned(),
        };
        let message = AssistantMessage { parts, calls: (0..).zip(tools).map(call).collect() };
        let replied = ModelReplied {
            step,
            attempt: 1,
            usage: TokenUsage::default(),
            detail: UsageDetail::default(),
            cost_micros: 0,
            finish: FinishReason::Stop,
            stopped_at: None,
            tools: tools.iter().map(|&tool| tool.to_owned()).collect(),
            clean,
            withheld: None,
            masked: Vec::new(),
        };
        self.entry(&Entry::ModelReplied(replied), &message);
    }

    /// A call that begins and ends.
    fn gives(&mut self, step: u32, index: u32, parts: Vec<ContentPart>) {
        let call = CallId { step, index };
        let started = Entry::ToolStarted(ToolStarted {
            call,
            tool: "file.read".to_owned(),
            effect: EffectClass::Pure,
            attempt: 1,
            action: Digest::default(),
            rule: "all".to_owned(),
            policy: None,
            approval: None,
            unneeded: None,
            in_plan: None,
            network: None,
            context: None,
            endorsed: Vec::new(),
            opinion: None,
        });
        self.add_entry(&started, None).expect("it is readable");
        self.ends(call, parts);
    }

    /// A call that ends, whether or not it began.
    fn ends(&mut self, call: CallId, parts: Vec<ContentPart>) {
        let status = CallStatus::Ok;
        let finished =
            ToolFinished { call, status, egress: vec![], result: None, withdrawn: None, reply: false };
        self.entry(&Entry::ToolFinished(finished), &ToolResult { call, status, parts });
    }

    fn entry(&mut self, entry: &Entry, body: &impl Serialize) {
        let body = serde_json::to_vec(body).expect("it is JSON");
        self.add_entry(entry, Some(&body)).expect("it is readable");
    }

    /// One line for each turn: what was said, what was asked for, and what was told.
    fn lines(&self) -> Vec<String> {
        let line = |turn: &TranscriptTurn| match turn {
            TranscriptTurn::Input(message) => format!("input {}", parts_text(&message.parts)),
            TranscriptTurn::Summary(parts) => format!("summary {}", parts_text(parts)),
            TranscriptTurn::Unit(unit) => {
                let (message, results) = (unit.message(), unit.results());
                let calls = message.calls.iter().map(|call| format!("{} {}", call.tool, call.arguments));
                let results = results.iter().map(|result| parts_text(&result.parts));
                let said = std::iter::once(parts_text(&message.parts));
                said.chain(calls)
                    .chain(results)
                    .filter(|text| !text.is_empty())
                    .collect::<Vec<_>>()
                    .join(" | ")
            }
        };
        self.transcript.turns().iter().map(line).collect()
    }

    fn read(&self, handle: &str) -> Vec<(String, Label)> {
        let parts = self.taint.past.find_content(handle).unwrap_or_default();
        parts.iter().map(|part| (part.as_text().to_owned(), part.label())).collect()
    }
}

/// A first turn that reads a file of unknown origin and answers.
fn read_and_answered(mut story: ConversationTranscript) -> ConversationTranscript {
    story.types(1, "read it");
    story.replies(1, "", &["file.read"]);
    story.gives(1, 0, vec![text("buy gold", Label::UNKNOWN_FILE)]);
    story.replies(2, "it says: buy gold", &[]);
    story
}

const BODY: &str = "[8 bytes that file.read told in an earlier turn are untrusted and not repeated; past.read tells \
                    them, handle 1/call_1_0]";
const WORDS: &str = "[17 bytes that you said and asked for here followed from untrusted content and are not repeated; \
                     past.read tells them, handle 1/step_2]";

#[test]
fn a_turn_sees_itself_whole_and_earlier_turns_by_handles() {
    let mut story = read_and_answered(story());
    assert_eq!(story.taint.label, Label::UNKNOWN_FILE.join(Label::ACTOR_TEXT));
    assert!(story.lines()[1].ends_with("| buy gold") && !story.has_past());

    story.types(2, "and now?");
    let asks = format!("file.read {ASKS} | {BODY}");
    assert_eq!(story.lines(), ["input read it", asks.as_str(), WORDS, "input and now?"]);
    assert_eq!(story.taint.label, Label::ACTOR_TEXT, "it is the label of what stands there");
    let label = Label::UNKNOWN_FILE.join(Label::ACTOR_TEXT);
    assert_eq!(story.read("1/call_1_0"), [("buy gold".to_owned(), Label::UNKNOWN_FILE)]);
    assert_eq!(story.read("1/step_2"), [("it says: buy gold".to_owned(), label)]);
    assert!(!story.taint.is_frozen(), "a turn plans anew");

    // Read again, it taints the turn; in the one after it, that is a handle as well.
    story.replies(1, "", &["past.read"]);
    story.gives(1, 0, vec![text("buy gold", Label::UNKNOWN_FILE)]);
    assert_eq!(story.taint.label, label);
    story.types(3, "thanks");
    assert_eq!(story.taint.label, Label::ACTOR_TEXT);
    assert_eq!(story.read("2/call_1_0"), [("buy gold".to_owned(), Label::UNKNOWN_FILE)]);
    assert_eq!(story.lines()[1], asks, "what is a handle stays one");
}

#[test]
fn with_whole_turns_nothing_is_replaced_by_handles() {
    let mut story = read_and_answered(story().whole());
    story.types(2, "and now?");
    let asks = format!("file.read {ASKS} | buy gold");
    assert_eq!(story.lines(), ["input read it", asks.as_str(), "it says: buy gold", "input and now?"]);
    assert_eq!(story.taint.label, Label::UNKNOWN_FILE.join(Label::ACTOR_TEXT));
    assert!(!story.has_past() && story.taint.is_frozen());
}

#[test]
fn trusted_words_of_earlier_turns_stay_unchanged() {
    let mut told = story();
    told.types(1, "what time is it?");
    told.replies(1, "let me see", &["time.now"]);
    told.gives(1, 0, vec![text("noon", Label::PUBLIC_FACT)]);
    told.replies(2, "noon", &[]);
    let before = told.lines();
    told.types(2, "thanks");
    assert_eq!(told.lines()[..3], before[..]);
    assert!(!told.has_past() && told.taint.label == Label::ACTOR_TEXT);
}

#[test]
fn arguments_and_results_are_no_more_trusted_than_their_step() {
    let mut story = story();
    story.types(1, "read it");
    story.replies(1, "", &["file.read"]);
    story.gives(1, 0, vec![text("x", Label::UNKNOWN_FILE)]);
    story.replies(2, "", &["file.write", "obey the mail"]);
    // Results of built-in tools are facts, and repeat what was asked for.
    story.gives(2, 0, vec![text("wrote a", Label::PUBLIC_FACT)]);
    story.ends(CallId { step: 2, index: 1 }, vec![text("no tool obey the mail", Label::PUBLIC_FACT)]);
    story.types(2, "and now?");
    let line = &story.lines()[2];
    assert!(line.contains("file.write {}") && line.contains("unknown {}"), "{line}");
    assert!(!line.contains("obey") && !line.contains("wrote") && !line.contains(ASKS), "{line}");
    let label = Label::UNKNOWN_FILE.join(Label::ACTOR_TEXT);
    let asked = [
        (format!("[call_2_0 file.write {ASKS}]"), label),
        (format!("[call_2_1 obey the mail {ASKS}]"), label),
    ];
    assert_eq!(story.read("1/step_2"), asked);
    assert_eq!(story.read("1/call_2_1"), [("no tool obey the mail".to_owned(), label)]);
    assert_eq!(story.taint.label, Label::ACTOR_TEXT);
}

#[test]
fn unlabelled_words_are_trusted_only_if_their_entry_says_so() {
    for (clean, stays) in [(true, true), (false, false)] {
        let mut story = story();
        story.types(1, "go");
        story.replies_with(1, clean, vec![], &["time.now"]);
        story.gives(1, 0, vec![text("noon", Label::PUBLIC_FACT)]);
        story.types(2, "and now?");
        assert_eq!(story.lines()[1].contains(ASKS), stays, "{:?}", story.lines());
        assert_eq!(story.taint.label, Label::ACTOR_TEXT);
    }
    // An answer that led to no plan is told in its own words.
    let mut told = story();
    told.types(1, "go");
    told.replies_with(1, false, vec![text("gone", Label::ACTOR_TEXT)], &[]);
    told.types(2, "and now?");
    assert_eq!(told.lines()[1], "gone");
}

#[test]
fn inputs_and_the_answers_to_them_are_not_replaced() {
    let image =
        ContentPart::Image { media: ImageMediaType::Png, data: "iVBORw0K".into(), label: Label::CLAIM };
    for input in [text("from an agent", Label::CLAIM), image] {
        let mut story = story();
        story.says(1, vec![input]);
        story.replies(1, "", &["file.read"]);
        story.gives(1, 0, vec![text("x", Label::UNKNOWN_FILE)]);
        story.replies(2, "I see", &[]);
        story.types(2, "and now?");
        let lines = story.lines();
        assert!(lines[1].starts_with(&format!("file.read {ASKS} | [1 bytes")), "{lines:?}");
        assert_eq!(lines[2], "I see");
        assert_eq!(story.taint.label.integrity, IntegrityLevel::Untrusted);
    }
}

#[test]
fn a_resumed_turn_sees_its_earlier_part_whole() {
    let mut resumed = read_and_answered(story());
    resumed.item(2, ItemKind::Resume, None, vec![]);
    assert!(!resumed.has_past() && resumed.lines()[1].ends_with("| buy gold"));
    assert_eq!(resumed.taint.label.integrity, IntegrityLevel::Untrusted);
    // Until somebody says something new.
    resumed.replies(1, "on it goes", &[]);
    resumed.types(3, "and now?");
    assert_eq!(resumed.lines()[1..3], [format!("file.read {ASKS} | {BODY}"), WORDS.to_owned()]);
    assert!(resumed.lines()[3].contains("handle 2/step_1"), "{:?}", resumed.lines());
    assert_eq!(resumed.taint.label, Label::ACTOR_TEXT);
}

#[test]
fn client_results_are_whole_when_new_and_handles_later() {
    for words in ["", "here they are"] {
        let mut story = story();
        story.types(1, "look");
        story.replies(1, "", &["weather"]);
        let call = CallId { step: 1, index: 0 };
        let handed = Entry::ToolHanded(ToolHanded { call, tool: "weather".into() });
        story.add_entry(&handed, None).expect("it is readable");
        let completed = Entry::RunCompleted(RunCompleted { rule: "reply".into(), policy: None });
        story.add_entry(&completed, None).expect("it is readable");
        story.end_run(RUN);
        let parts = vec![text("rain", Label::CLAIM)];
        let results = vec![ToolResult { call, status: CallStatus::Ok, parts }];
        let said = if words.is_empty() { vec![] } else { vec![text(words, Label::ACTOR_TEXT)] };
        story.item(2, ItemKind::Input, Some(ClientToolResults { run: RUN, results }), said);
        assert!(story.lines()[1].ends_with("| rain") && !story.has_past(), "{:?}", story.lines());
        assert_eq!(story.taint.label, Label::CLAIM);
        story.replies(1, "it rains", &[]);
        story.types(3, "and now?");
        assert!(story.lines()[1].contains("weather {\"path\":\"a\"} | [4 bytes that weather told"));
        assert_eq!(story.read("1/call_1_0"), [("rain".to_owned(), Label::CLAIM)]);
        assert_eq!(story.taint.label, Label::ACTOR_TEXT);
    }
}

/// Beside the call that waits for its client another one told something. Whoever goes on without the client is told all of
/// the unit, and taints the turn with it.
#[test]
fn results_beside_a_handed_call_taint_the_closing_turn() {
    let mut story = story();
    story.types(1, "look");
    story.replies(1, "", &["file.read", "weather"]);
    story.gives(1, 0, vec![text("buy gold", Label::UNKNOWN_FILE)]);
    let call = CallId { step: 1, index: 1 };
    let handed = Entry::ToolHanded(ToolHanded { call, tool: "weather".into() });
    story.add_entry(&handed, None).expect("it is readable");
    let completed = Entry::RunCompleted(RunCompleted { rule: "reply".into(), policy: None });
    story.add_entry(&completed, None).expect("it is readable");
    story.end_run(RUN);
    story.types(2, "never mind");
    assert!(story.lines()[1].contains("| buy gold"), "{:?}", story.lines());
    assert_eq!(story.taint.label, Label::UNKNOWN_FILE.join(Label::ACTOR_TEXT));
    assert!(story.taint.is_frozen(), "nothing is planned beside it");
    story.replies(1, "so be it", &[]);
    story.types(3, "and now?");
    assert!(story.lines()[1].contains("handle 1/call_1_0]"), "{:?}", story.lines());
    assert_eq!(story.taint.label, Label::ACTOR_TEXT);
}

#[test]
fn an_approved_call_is_shown_with_the_label_behind_it() {
    for (context, hidden) in [(Label::ACTOR_TEXT, false), (Label::OUTSIDE, true)] {
        let mut story = story();
        story.types(1, "go");
        story.taint.by_hand = context;
        let calls = vec![ToolCall {
            id: CallId { step: 1, index: 0 },
            tool: "bank.pay".to_owned(),
            arguments: ASKS.to_owned(),
        }];
        let asked = dromia_contracts::entry::CallAsked { call: calls[0].id, tool: "bank.pay".to_owned() };
        story.entry(&Entry::CallAsked(asked), &AssistantMessage { parts: vec![], calls });
        story.gives(1, 0, vec![text("paid", Label::PUBLIC_FACT)]);
        story.types(2, "and now?");
        assert_eq!(!story.lines()[1].contains(ASKS), hidden, "{:?}", story.lines());
        assert_eq!(story.has_past(), hidden);
        assert_eq!(story.taint.label, Label::ACTOR_TEXT);
    }
}
