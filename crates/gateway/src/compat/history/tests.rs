//! What a client may tell of the past: by table, and for any conversation cut anywhere.

use super::*;
use dromia_contracts::RunId;
use dromia_contracts::busy_policy::BusyPolicy;
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::{ImageMediaType, parts_text};
use dromia_contracts::input::InputBody;
use proptest::prelude::*;

/// One message of a client, as dice make it.
#[derive(Debug, Clone)]
enum Message {
    User(String),
    System(String),
    Assistant(String, u8),
    /// A result for one of so many calls of the newest message with calls.
    Result(u8),
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        "[a-c]{0,3}".prop_map(Message::User),
        "[a-c]{0,3}".prop_map(Message::System),
        ("[a-c]{0,3}", 0..3_u8).prop_map(|(text, calls)| Message::Assistant(text, calls)),
        (0..3_u8).prop_map(Message::Result),
    ]
}

fn said(text: &str) -> Vec<ContentPart> {
    vec![ContentPart::new_text(text, Label::ACTOR_TEXT)]
}

/// What a tool is said to have given.
fn given(text: &str) -> Vec<ContentPart> {
    vec![ContentPart::new_text(text, Label::CLAIM)]
}

fn image() -> ContentPart {
    ContentPart::Image { media: ImageMediaType::Png, data: "iVBORw0KGgo=".into(), label: Label::CLAIM }
}

fn told(messages: &[Message]) -> Answer<ConversationInput> {
    let mut history = ConversationHistory::new(Actor::new("token:ci"), PastLocation::Request);
    for (at, message) in messages.iter().enumerate() {
        let path = format!("messages[{at}]");
        match message {
            Message::User(text) => history.add_user(&path, said(text))?,
            Message::System(text) => history.add_system(&path, std::slice::from_ref(text))?,
            Message::Assistant(text, calls) => {
                let call =
                    |n| ClaimedToolCall { id: format!("c{n}"), tool: "t".into(), arguments: "{}".into() };
                history.add_assistant(&path, vec![text.clone()], (0..*calls).map(call).collect())?;
            }
            Message::Result(n) => history.add_result(&path, &format!("c{n}"), given("r"), false)?,
        }
    }
    history.finish("messages")
}

proptest! {
    #[test]
    fn any_part_of_a_history_is_whole_units_or_refused(
        messages in prop::collection::vec(message(), 0..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let from = cut.index(messages.len() + 1);
        for part in [&messages[..from], &messages[from..], &messages[..]] {
            let Ok(said) = told(part) else { continue };
            for turn in &said.history {
                let TranscriptTurn::Unit(unit) = turn else { continue };
                let calls: Vec<_> = unit.message().calls.iter().map(|call| call.id).collect();
                let results: Vec<_> = unit.results().iter().map(|result| result.call).collect();
                prop_assert_eq!(calls, results);
            }
            // What is stored is read back as it was, and stored units are checked when they are read.
            let message = InputMessage { author: Actor::new("a"), parts: said.parts, hops: 0 };
            let offer = ClientOptions::default();
            let body = InputBody { history: said.history, answers: said.answers, offer, call: None, workspace: None, when_busy: BusyPolicy::default(), compaction: None, message };
            let bytes = body.encode().expect("it is JSON");
            prop_assert_eq!(InputBody::decode(&bytes).expect("it was just written"), body);
        }
    }
}

fn place(messages: &[Message]) -> (String, String) {
    let refused = told(messages).expect_err("it is refused");
    (refused.field_path().unwrap_or_default().to_owned(), refused.full_message())
}

#[test]
fn a_torn_or_badly_ended_history_is_refused_by_place() {
    let user = || Message::User("a".into());
    let asks = |calls| Message::Assistant(String::new(), calls);
    for (messages, at, says) in [
        (vec![], "messages", "no message to answer"),
        (vec![user(), Message::Assistant("b".into(), 0)], "messages", "must come from the user"),
        (vec![user(), asks(1), user()], "messages[2]", "\"c0\" of `messages[1]` has no result"),
        (vec![user(), asks(1)], "messages", "has no result"),
        (vec![Message::Result(0), user()], "messages[0]", "no call with the id"),
        (vec![asks(1), Message::Result(2)], "messages[1]", "no call of `messages[0]`"),
        (vec![asks(2), Message::Result(0), Message::Result(0)], "messages[2]", "already has a result"),
        (vec![Message::User("  ".into())], "messages", "is empty"),
    ] {
        let (found, text) = place(&messages);
        assert_eq!(found, at, "{messages:?}");
        assert!(text.contains(says), "{messages:?}: {text}");
    }
}

#[test]
fn results_may_be_the_last_word() {
    let user = || Message::User("a".into());
    let said = told(&[user(), Message::Assistant(String::new(), 2), Message::Result(1), Message::Result(0)]);
    let said = said.expect("every call has its result");
    assert_eq!((said.history.len(), said.parts.len()), (2, 0));
    let TranscriptTurn::Unit(unit) = &said.history[1] else { panic!("the results close it") };
    assert_eq!(unit.results().len(), 2);
}

#[test]
fn a_session_accepts_results_only_for_its_handed_calls() {
    let run = RunId::from_bytes([7; 16]);
    let name = |index| ClientCallId { run, call: CallId { step: 2, index } }.to_string();
    let other = ClientCallId { run: RunId::from_bytes([8; 16]), call: CallId { step: 2, index: 1 } };
    let history = || ConversationHistory::new(Actor::new("token:ci"), PastLocation::Session);
    let mut good = history();
    good.add_result("m[0]", &name(1), given("b"), true).expect("it is a call");
    good.add_result("m[1]", &name(0), given("a"), false).expect("it is another");
    let said = good.finish("m[1]").expect("results are enough");
    let answers = said.answers.expect("they are there");
    let told: Vec<_> = answers.results.iter().map(|result| (result.call.index, result.status)).collect();
    assert_eq!((answers.run, told), (run, vec![(1, CallStatus::Error), (0, CallStatus::Ok)]));
    assert!(answers.results.iter().flat_map(|result| &result.parts).all(|part| part.label() == Label::CLAIM));
    for (second, says) in [
        (name(0), "already has a result"),
        (other.to_string(), "does not belong to the answer"),
        ("call_1_0".to_owned(), "no call of this session has the id \"call_1_0\""),
    ] {
        let mut bad = history();
        bad.add_result("m[0]", &name(0), vec![], false).expect("it is a call");
        let refused = bad.add_result("m[1]", &second, vec![], false).expect_err(says);
        assert_eq!(refused.field_path(), Some("m[1]"));
        assert!(refused.full_message().contains(says), "{refused:?}");
    }
}

#[test]
fn a_session_takes_the_last_message_or_all_trailing_results() {
    let is_result = |word: &&str| *word == "result";
    for (messages, before) in [
        (vec![], 0),
        (vec!["user"], 0),
        (vec!["user", "call", "result", "result"], 2),
        (vec!["result", "user"], 1),
        (vec!["result"], 0),
    ] {
        assert_eq!(before_the_last(&messages, is_result), before, "{messages:?}");
    }
}

#[test]
fn the_author_of_each_message_decides_its_label() {
    let messages = [
        Message::System("be kind".into()),
        Message::User("a".into()),
        Message::Assistant("b".into(), 1),
        Message::Result(0),
        Message::User("c".into()),
    ];
    let said = told(&messages).expect("it is whole");
    assert_eq!(said.parts, [ContentPart::new_text("c", Label::ACTOR_TEXT)]);
    let labels: Vec<Vec<Label>> = said
        .history
        .iter()
        .map(|turn| match turn {
            TranscriptTurn::Summary(parts) => parts.iter().map(ContentPart::label).collect(),
            TranscriptTurn::Input(message) => message.parts.iter().map(ContentPart::label).collect(),
            TranscriptTurn::Unit(unit) => {
                let results = unit.results().iter().flat_map(|result| &result.parts);
                unit.message().parts.iter().chain(results).map(ContentPart::label).collect()
            }
        })
        .collect();
    assert_eq!(labels, [vec![Label::ACTOR_TEXT], vec![Label::ACTOR_TEXT], vec![Label::CLAIM, Label::CLAIM]]);
    let TranscriptTurn::Input(system) = &said.history[0] else { panic!("the system text comes first") };
    assert_eq!(parts_text(&system.parts), format!("{SYSTEM_HEAD}\nbe kind"));
}

#[test]
fn a_picture_alone_is_an_input_and_pictures_are_bounded() {
    let mut history = ConversationHistory::new(Actor::new("token:ci"), PastLocation::Request);
    history.add_user("m[0]", vec![image(), ContentPart::new_text("", Label::ACTOR_TEXT)]).expect("a picture");
    assert_eq!(history.finish("m[0]").expect("it is enough").parts, [image()]);
    let mut history = ConversationHistory::new(Actor::new("token:ci"), PastLocation::Request);
    history.add_user("m[0]", vec![image(); IMAGES_MAX]).expect("so many are taken");
    assert_eq!(history.add_user("m[1]", vec![image()]).expect_err("one more").field_path(), Some("m[1]"));
}

#[test]
fn pictures_of_tools_stay_in_order_and_share_the_bound() {
    let call = || ClaimedToolCall { id: "c".into(), tool: "shot".into(), arguments: "{}".into() };
    let asked = || {
        let mut history = ConversationHistory::new(Actor::new("token:ci"), PastLocation::Request);
        history.add_user("m[0]", vec![image()]).expect("a picture");
        history.add_assistant("m[1]", vec![], vec![call()]).expect("a call");
        history
    };
    let mut history = asked();
    let parts =
        vec![ContentPart::new_text("a", Label::CLAIM), image(), ContentPart::new_text("", Label::CLAIM)];
    history.add_result("m[2]", "c", parts.clone(), false).expect("it is the call");
    let said = history.finish("m[2]").expect("results may be the last word");
    let TranscriptTurn::Unit(unit) = &said.history[1] else { panic!("the result closes it") };
    assert_eq!(unit.results()[0].parts, parts[..2]);
    let refused =
        asked().add_result("m[2]", "c", vec![image(); IMAGES_MAX], false).expect_err("one too many");
    assert_eq!(refused.field_path(), Some("m[2]"));
}
