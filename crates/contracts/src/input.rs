//! The body of an input item: what was said, what its sender says was said before, and what a client brings along.
//!
//! Five forms, each read for ever. An input that is nothing but a message is stored as its [`InputMessage`] alone, as
//! it always was; one with a past says `version` 2 first; one with a client's tools, wishes or results, or without
//! words, says `version` 3; one that asks for a call and for no answer of a model says `version` 4; one with a picture
//! in a tool's result says `version` 5 and may hold what a form 3 may. An older program refuses a form that it does not
//! know, holds the run and loses nothing.

use serde::{Deserialize, Serialize};

use crate::client::{ClientOptions, ClientToolResults};
use crate::content::{ContentPart, InputMessage, ToolResult};
use crate::transcript::TranscriptTurn;

/// What an input item holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputBody {
    /// Earlier turns that the sender supplies, in whole units.
    pub history: Vec<TranscriptTurn>,
    /// What the sender's tools gave for the calls with which an earlier run of the session ended.
    pub answers: Option<ClientToolResults>,
    /// What the sender offers to the model.
    pub offer: ClientOptions,
    /// The one call that is asked for, if the run is to be that call and nothing else.
    pub call: Option<AskedCall>,
    /// What is said now; without parts where results are the last word.
    pub message: InputMessage,
}

/// A call that an actor asks for by hand. It is judged and run as a model's call is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedCall {
    /// The tool's name.
    pub tool: String,
    /// The arguments, as JSON text.
    pub arguments: String,
}

/// A body with more than a message. The version comes first, so that the first bytes show the form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionedInput {
    version: u32,
    #[serde(default)]
    history: Vec<TranscriptTurn>,
    #[serde(default)]
    answers: Option<ClientToolResults>,
    #[serde(default)]
    offer: ClientOptions,
    #[serde(default)]
    call: Option<AskedCall>,
    message: InputMessage,
}

/// The same, borrowed for writing.
#[derive(Serialize)]
struct VersionedRef<'a> {
    version: u32,
    #[serde(skip_serializing_if = "<[TranscriptTurn]>::is_empty")]
    history: &'a [TranscriptTurn],
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<&'a ClientToolResults>,
    #[serde(skip_serializing_if = "ClientOptions::is_empty")]
    offer: &'a ClientOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'a AskedCall>,
    message: &'a InputMessage,
}

/// The one thing that every version says.
#[derive(Deserialize)]
struct InputVersion {
    version: u32,
}

/// The form of a body with a past.
const PAST: u32 = 2;

/// The form of a body with what a client brings along.
const CLIENT: u32 = 3;

/// The form of a body that asks for a call.
const CALL: u32 = 4;

/// The form of a body with a picture in a result. An older program would give its model the result without it.
const PICTURES: u32 = 5;

/// How a body with more than a message begins; no [`InputMessage`] has such a field.
const MARK: &[u8] = br#"{"version":"#;

impl InputBody {
    /// Writes the body.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let Self { history, answers, offer, call, message } = self;
        // An older program would give the model an empty message.
        let wordless = message.parts.is_empty() && !history.is_empty();
        let version = if call.is_some() {
            CALL
        } else if self.shows_results() {
            PICTURES
        } else if answers.is_some() || !offer.is_empty() || wordless {
            CLIENT
        } else if history.is_empty() {
            return serde_json::to_vec(message);
        } else {
            PAST
        };
        let (answers, call) = (answers.as_ref(), call.as_ref());
        serde_json::to_vec(&VersionedRef { version, history, answers, offer, call, message })
    }

    /// Returns whether a body, by its first bytes, may bring anything of a client along; decoding it shows what.
    pub fn may_answer(bytes: &[u8]) -> bool {
        let may = |rest: &[u8]| rest.starts_with(b"3,") || rest.starts_with(b"5,");
        bytes.starts_with(MARK) && bytes.get(MARK.len()..).is_some_and(may)
    }

    /// Returns whether a tool's result has a picture: one of the past, or one that the sender's tools gave.
    fn shows_results(&self) -> bool {
        let shows = |result: &ToolResult| result.parts.iter().any(ContentPart::is_image);
        let given = self.answers.iter().flat_map(|answers| &answers.results);
        let told = self.history.iter().filter_map(|turn| match turn {
            TranscriptTurn::Input(_) => None,
            TranscriptTurn::Unit(unit) => Some(unit.results()),
        });
        given.chain(told.flatten()).any(shows)
    }

    /// Reads a body of any form that this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        if !bytes.starts_with(MARK) {
            let message = serde_json::from_slice(bytes)?;
            return Ok(Self {
                history: Vec::new(),
                answers: None,
                offer: ClientOptions::default(),
                call: None,
                message,
            });
        }
        let read = serde_json::from_slice::<VersionedInput>(bytes);
        let VersionedInput { version, history, answers, offer, call, message } = match read {
            Ok(read) if (PAST..=PICTURES).contains(&read.version) => read,
            Ok(read) => return Err(unknown_version(read.version)),
            // A newer form has fields of its own; its version says more than the first of them.
            Err(error) => match serde_json::from_slice::<InputVersion>(bytes) {
                Ok(InputVersion { version }) if version > PICTURES => return Err(unknown_version(version)),
                _ => return Err(error),
            },
        };
        if version == PAST && (answers.is_some() || !offer.is_empty()) {
            return Err(serde::de::Error::custom("an input of version 2 brings nothing along"));
        }
        if (version == CALL) != call.is_some() {
            return Err(serde::de::Error::custom("an input of version 4, and of no other, asks for a call"));
        }
        Ok(Self { history, answers, offer, call, message })
    }
}

fn unknown_version(version: u32) -> serde_json::Error {
    serde::de::Error::custom(format!("this version does not know inputs of version {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ClientTool, SamplingOptions};
    use crate::content::{AssistantMessage, CallStatus, ImageMediaType, ToolCall};
    use crate::id::{CallId, RunId};
    use crate::label::Label;
    use crate::scope::Actor;
    use crate::transcript::OpenUnit;

    fn message(text: &str) -> InputMessage {
        InputMessage {
            author: Actor::new("cli:ada"),
            parts: vec![ContentPart::new_text(text, Label::ACTOR_TEXT)],
            hops: 0,
        }
    }

    fn plain(history: Vec<TranscriptTurn>, message: InputMessage) -> InputBody {
        InputBody { history, answers: None, offer: ClientOptions::default(), call: None, message }
    }

    #[test]
    fn an_input_without_a_past_keeps_the_bytes_it_always_had() {
        let old = r#"{"author":"cli:ada","parts":[{"type":"text","text":"hi","label":"trusted/actor"}]}"#;
        let body = InputBody::decode(old.as_bytes()).expect("the form of before is read");
        assert_eq!(body, plain(vec![], message("hi")));
        assert_eq!(body.encode().expect("it is JSON"), old.as_bytes());
    }

    #[test]
    fn a_past_comes_back_in_whole_units_and_a_program_of_before_refuses_it() {
        let said =
            AssistantMessage { parts: vec![ContentPart::new_text("hello", Label::CLAIM)], calls: vec![] };
        let unit = OpenUnit::new(said).close().expect("it has no calls");
        let history = vec![TranscriptTurn::Input(message("hi")), TranscriptTurn::Unit(unit)];
        let body = plain(history, message("and now?"));
        let bytes = body.encode().expect("it is JSON");
        assert!(bytes.starts_with(br#"{"version":2,"history":[{"role":"input","#), "{bytes:?}");
        assert!(!InputBody::may_answer(&bytes));
        assert_eq!(InputBody::decode(&bytes).expect("it was just written"), body);
        assert!(serde_json::from_slice::<InputMessage>(&bytes).is_err());
    }

    #[test]
    fn a_version_of_tomorrow_and_an_orphaned_call_are_refused() {
        for newer in [
            r#"{"version":6,"history":[],"message":{"author":"a","parts":[]}}"#,
            r#"{"version":6,"mood":"fine","message":{"author":"a","parts":[]}}"#,
        ] {
            let error = InputBody::decode(newer.as_bytes()).expect_err("version 6 does not exist");
            assert!(error.to_string().contains("version 6"), "{error}");
        }
        let mixed = r#"{"version":2,"history":[],"offer":{"wishes":{"one_call":true}},"message":{"author":"a","parts":[]}}"#;
        assert!(InputBody::decode(mixed.as_bytes()).is_err(), "version 2 brings nothing along");
        let torn = r#"{"version":2,"history":[{"role":"unit","message":{"calls":[{"id":"call_1_0","tool":"t","arguments":"{}"}]}}],"message":{"author":"a","parts":[]}}"#;
        let error = InputBody::decode(torn.as_bytes()).expect_err("the call has no result");
        assert!(error.to_string().contains("call_1_0 has no result"), "{error}");
    }

    #[test]
    fn a_call_that_is_asked_for_comes_back_and_stands_in_no_other_form() {
        let call = AskedCall { tool: "exec".to_owned(), arguments: r#"{"argv":["true"]}"#.to_owned() };
        let body = InputBody { call: Some(call), ..plain(vec![], message("Call exec.")) };
        let bytes = body.encode().expect("it is JSON");
        assert!(bytes.starts_with(br#"{"version":4,"call":{"tool":"exec","#), "{bytes:?}");
        assert!(!InputBody::may_answer(&bytes));
        assert_eq!(InputBody::decode(&bytes).expect("it was just written"), body);
        for wrong in [
            r#"{"version":3,"call":{"tool":"t","arguments":"{}"},"message":{"author":"a","parts":[]}}"#,
            r#"{"version":4,"message":{"author":"a","parts":[]}}"#,
        ] {
            assert!(InputBody::decode(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_client_brings_along_comes_back_and_a_program_of_before_refuses_it() {
        let call = CallId { step: 1, index: 0 };
        let result = ToolResult {
            call,
            status: CallStatus::Ok,
            parts: vec![ContentPart::new_text("sunny", Label::CLAIM)],
        };
        let answers = ClientToolResults { run: RunId::from_bytes([7; 16]), results: vec![result] };
        let parameters = serde_json::json!({"type": "object"});
        let tool = ClientTool { name: "weather".into(), description: "Looks out.".into(), parameters };
        let wishes = SamplingOptions { output_tokens_max: Some(9), ..SamplingOptions::default() };
        let offer = ClientOptions { tools: vec![tool], wishes };
        let wordless = InputMessage { parts: vec![], ..message("") };
        let said = OpenUnit::new(AssistantMessage::default()).close().expect("it has no calls");
        for body in [
            InputBody { offer: offer.clone(), ..plain(vec![], message("hi")) },
            InputBody { answers: Some(answers), offer, ..plain(vec![], wordless.clone()) },
            plain(vec![TranscriptTurn::Unit(said)], wordless),
        ] {
            let bytes = body.encode().expect("it is JSON");
            assert!(bytes.starts_with(br#"{"version":3,"#), "{bytes:?}");
            assert!(InputBody::may_answer(&bytes));
            assert_eq!(InputBody::decode(&bytes).expect("it was just written"), body);
        }
    }

    #[test]
    fn a_picture_in_a_result_comes_back_and_a_program_of_before_refuses_it() {
        let call = CallId { step: 1, index: 0 };
        let image = ContentPart::Image {
            media: ImageMediaType::Png,
            data: "iVBORw0KGgo=".into(),
            label: Label::CLAIM,
        };
        let result = ToolResult { call, status: CallStatus::Ok, parts: vec![image] };
        let asked = ToolCall { id: call, tool: "shot".into(), arguments: "{}".into() };
        let mut open = OpenUnit::new(AssistantMessage { parts: vec![], calls: vec![asked] });
        open.add_result(result.clone()).expect("it is open");
        let unit = open.close().expect("its call has a result");
        let wordless = InputMessage { parts: vec![], ..message("") };
        let answers = Some(ClientToolResults { run: RunId::from_bytes([7; 16]), results: vec![result] });
        for body in [
            plain(vec![TranscriptTurn::Unit(unit)], message("what is it?")),
            InputBody { answers, ..plain(vec![], wordless) },
        ] {
            let bytes = body.encode().expect("it is JSON");
            assert!(bytes.starts_with(br#"{"version":5,"#), "{bytes:?}");
            assert!(InputBody::may_answer(&bytes));
            assert_eq!(InputBody::decode(&bytes).expect("it was just written"), body);
        }
    }
}
