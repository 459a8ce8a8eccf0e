//! The body of an input item: what was said, what its sender says was said before, and what a client brings along.
//!
//! A body says its version first. A program refuses a version that it does not know, holds the run and loses nothing.

use serde::{Deserialize, Serialize};

use crate::busy_policy::BusyPolicy;
use crate::client::{ClientOptions, ClientToolResults};
use crate::compaction::CompactionRange;
use crate::content::InputMessage;
use crate::transcript::TranscriptTurn;
use crate::workspace::WorkspaceReference;

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
    pub call: Option<ManualCall>,
    /// The directory that its run works in, in the place of the agent's workspace.
    pub workspace: Option<WorkspaceReference>,
    /// What it does while a turn of its session runs. Only a plain message has another policy than the default.
    pub when_busy: BusyPolicy,
    /// The part of another session that its run summarizes, if that is what the run is for.
    pub compaction: Option<Box<CompactionRange>>,
    /// What is said now; without parts where results are the last word.
    pub message: InputMessage,
}

/// A call that an actor asks for by hand. It is judged and run as a model's call is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManualCall {
    /// The tool's name.
    pub tool: String,
    /// The arguments, as JSON text.
    pub arguments: String,
}

/// A body as it is stored. The version comes first, so that the first bytes show the form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredInput {
    version: u32,
    #[serde(default)]
    answers: Option<ClientToolResults>,
    #[serde(default)]
    offer: ClientOptions,
    #[serde(default)]
    call: Option<ManualCall>,
    #[serde(default)]
    workspace: Option<WorkspaceReference>,
    #[serde(default)]
    when_busy: BusyPolicy,
    #[serde(default)]
    compaction: Option<Box<CompactionRange>>,
    #[serde(default)]
    history: Vec<TranscriptTurn>,
    message: InputMessage,
}

/// The same, borrowed for writing.
#[derive(Serialize)]
struct StoredInputRef<'a> {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<&'a ClientToolResults>,
    #[serde(skip_serializing_if = "ClientOptions::is_empty")]
    offer: &'a ClientOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'a ManualCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace: Option<&'a WorkspaceReference>,
    #[serde(skip_serializing_if = "BusyPolicy::is_default")]
    when_busy: BusyPolicy,
    #[serde(skip_serializing_if = "Option::is_none")]
    compaction: Option<&'a CompactionRange>,
    #[serde(skip_serializing_if = "<[TranscriptTurn]>::is_empty")]
    history: &'a [TranscriptTurn],
    message: &'a InputMessage,
}

/// The one thing that every version says.
#[derive(Deserialize)]
struct InputVersion {
    version: u32,
}

/// The version of the form that this program reads and writes.
const VERSION: u32 = 1;

/// How a body begins that brings results of client tools along.
const ANSWERS_MARK: &[u8] = br#"{"version":1,"answers":"#;

impl InputBody {
    /// A message and nothing else.
    pub fn from_message(message: InputMessage) -> Self {
        let (offer, when_busy) = (ClientOptions::default(), BusyPolicy::default());
        Self {
            history: Vec::new(),
            answers: None,
            offer,
            call: None,
            workspace: None,
            when_busy,
            compaction: None,
            message,
        }
    }

    /// Returns whether it is a message and nothing else, so that it may enter a turn beside others.
    pub fn is_plain(&self) -> bool {
        self.history.is_empty()
            && self.answers.is_none()
            && self.offer.is_empty()
            && self.call.is_none()
            && self.workspace.is_none()
            && self.compaction.is_none()
            && !self.message.parts.is_empty()
    }

    /// Writes the body.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let Self { history, answers, offer, call, workspace, when_busy, compaction, message } = self;
        let (answers, call, workspace) = (answers.as_ref(), call.as_ref(), workspace.as_ref());
        serde_json::to_vec(&StoredInputRef {
            version: VERSION,
            answers,
            offer,
            call,
            workspace,
            when_busy: *when_busy,
            compaction: compaction.as_deref(),
            history,
            message,
        })
    }

    /// Returns whether a body, by its first bytes, may bring results of client tools along; decoding it shows which.
    pub fn may_answer(bytes: &[u8]) -> bool {
        bytes.starts_with(ANSWERS_MARK)
    }

    /// Reads what [`InputBody::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        match serde_json::from_slice::<StoredInput>(bytes) {
            Ok(StoredInput {
                version: VERSION,
                answers,
                offer,
                call,
                workspace,
                when_busy,
                compaction,
                history,
                message,
            }) => Ok(Self { history, answers, offer, call, workspace, when_busy, compaction, message }),
            Ok(StoredInput { version, .. }) => Err(unknown_version(version)),
            // A newer form has fields of its own; its version says more than the first of them.
            Err(error) => match serde_json::from_slice::<InputVersion>(bytes) {
                Ok(InputVersion { version }) if version != VERSION => Err(unknown_version(version)),
                _ => Err(error),
            },
        }
    }
}

fn unknown_version(version: u32) -> serde_json::Error {
    serde::de::Error::custom(format!("this version does not know inputs of version {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ClientTool, SamplingOptions};
    use crate::content::{AssistantMessage, CallStatus, ContentPart, ImageMediaType, ToolCall, ToolResult};
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
        InputBody { history, ..InputBody::from_message(message) }
    }

    /// Writes a body, which begins so, and reads it again.
    fn check_written(body: &InputBody, begins: &str) {
        let bytes = body.encode().expect("it is JSON");
        assert!(bytes.starts_with(begins.as_bytes()), "{}", String::from_utf8_lossy(&bytes));
        assert_eq!(InputBody::may_answer(&bytes), body.answers.is_some());
        assert_eq!(InputBody::decode(&bytes).expect("it was just written"), *body);
    }

    #[test]
    fn a_message_is_written_behind_its_version() {
        let text = r#"{"version":1,"message":{"author":"cli:ada","parts":[{"type":"text","text":"hi","label":"trusted/actor"}]}}"#;
        let body = InputBody::decode(text.as_bytes()).expect("it is read");
        assert_eq!(body, plain(vec![], message("hi")));
        assert_eq!(body.encode().expect("it is JSON"), text.as_bytes());
        let bare = r#"{"author":"cli:ada","parts":[]}"#;
        assert!(InputBody::decode(bare.as_bytes()).is_err(), "every body says its version");
    }

    #[test]
    fn a_history_round_trips_in_whole_units() {
        let said =
            AssistantMessage { parts: vec![ContentPart::new_text("hello", Label::CLAIM)], calls: vec![] };
        let unit = OpenUnit::new(said).close().expect("it has no calls");
        let history = vec![TranscriptTurn::Input(message("hi")), TranscriptTurn::Unit(unit)];
        check_written(&plain(history, message("and now?")), r#"{"version":1,"history":[{"role":"input","#);
    }

    #[test]
    fn another_version_and_an_orphaned_call_are_refused() {
        for newer in [
            r#"{"version":2,"history":[],"message":{"author":"a","parts":[]}}"#,
            r#"{"version":2,"mood":"fine","message":{"author":"a","parts":[]}}"#,
        ] {
            let error = InputBody::decode(newer.as_bytes()).expect_err("version 2 does not exist");
            assert!(error.to_string().contains("version 2"), "{error}");
        }
        let torn = r#"{"version":1,"history":[{"role":"unit","message":{"calls":[{"id":"call_1_0","tool":"t","arguments":"{}"}]}}],"message":{"author":"a","parts":[]}}"#;
        let error = InputBody::decode(torn.as_bytes()).expect_err("the call has no result");
        assert!(error.to_string().contains("call_1_0 has no result"), "{error}");
    }

    #[test]
    fn a_manual_call_and_a_workspace_round_trip() {
        let call = ManualCall { tool: "exec".to_owned(), arguments: r#"{"argv":["true"]}"#.to_owned() };
        let body = InputBody { call: Some(call), ..plain(vec![], message("Call exec.")) };
        check_written(&body, r#"{"version":1,"call":{"tool":"exec","#);
        let body =
            InputBody { workspace: "/srv/a:ro".parse().ok(), ..InputBody::from_message(message("hi")) };
        check_written(&body, r#"{"version":1,"workspace":"/srv/a:ro","#);
        let body = InputBody { when_busy: BusyPolicy::Steer, ..InputBody::from_message(message("use tabs")) };
        check_written(&body, r#"{"version":1,"when_busy":"steer","#);
        assert!(body.is_plain() && !plain(vec![], InputMessage { parts: vec![], ..message("") }).is_plain());
    }

    #[test]
    fn client_tools_and_results_round_trip() {
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
            check_written(&body, r#"{"version":1,"#);
        }
    }

    #[test]
    fn a_picture_in_a_result_round_trips() {
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
            check_written(&body, r#"{"version":1,"#);
        }
    }
}
