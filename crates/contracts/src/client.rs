//! What a client brings along with an input: tools of its own, wishes about the answer, and what its tools gave.
//!
//! A client's tool is offered to the model beside the agent's own. A call to one never runs here: it is handed to the
//! client, the run ends with it, and the client's next input carries the result. Nothing of this reaches the gate as
//! an action, because nothing is done here; what a client says that its tool gave is a claim.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::answer_format::AnswerFormat;
use crate::content::{CallStatus, ContentPart, ToolResult};
use crate::id::{CallId, ParseIdError, RunId};
use crate::label::Label;
use crate::tool::{EffectClass, Sensitivity, ToolDescriptor};

/// What is offered to the model for one input, beside what its agent has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientOptions {
    /// The client's tools, each name once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ClientTool>,
    /// How the model shall answer.
    #[serde(default, skip_serializing_if = "SamplingOptions::is_empty")]
    pub wishes: SamplingOptions,
}

impl ClientOptions {
    /// Returns whether nothing is offered and nothing wished.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty() && self.wishes.is_empty()
    }
}

/// A tool that runs at the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTool {
    /// The name.
    pub name: String,
    /// What the client says of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The JSON Schema of the arguments; an object.
    pub parameters: Value,
}

impl ClientTool {
    /// Describes the tool to a model. Nothing is known of what a repeated call does.
    pub fn to_descriptor(&self) -> ToolDescriptor {
        ToolDescriptor {
            name: self.name.clone(),
            description: self.description.clone(),
            parameters: self.parameters.clone(),
            effect: EffectClass::Unkeyed,
            roles: Vec::new(),
            result_label: Label::CLAIM,
            sensitivity: Sensitivity::Low,
            records: None,
        }
    }
}

/// Wishes about the answers of the model. What is absent is the agent's and the operator's business.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingOptions {
    /// Whether the first answer must call a tool.
    #[serde(default, skip_serializing_if = "ToolChoice::is_free")]
    pub choice: ToolChoice,
    /// Whether an answer may have one call at most.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_call: bool,
    /// The most tokens of an answer; it lowers the operator's bound and never raises it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_max: Option<u32>,
    /// How freely the model chooses its words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Number>,
    /// From which share of the likeliest words it chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<Number>,
    /// Texts before which an answer stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// The form that the last answer must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerFormat>,
}

impl SamplingOptions {
    /// Returns whether nothing is wished.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether the model must call a tool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// It may.
    #[default]
    Free,
    /// It must call one of those it is offered.
    Required,
    /// It must call this one.
    Named(String),
}

impl ToolChoice {
    /// Returns whether everything is left to the model.
    pub fn is_free(&self) -> bool {
        *self == Self::Free
    }
}

/// What the tools of a client gave, for the calls with which one run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientToolResults {
    /// The run that handed the calls over.
    pub run: RunId,
    /// The results, one per call.
    pub results: Vec<ToolResult>,
}

impl ClientToolResults {
    /// Makes the result of a handed call of which its client said nothing before it went on.
    pub fn none_for(call: CallId) -> ToolResult {
        let text = "The client that has this tool went on without telling what the call gave. It may have had its \
                    effect or not.";
        ToolResult {
            call,
            status: CallStatus::Unknown,
            parts: vec![ContentPart::new_text(text, Label::PUBLIC_FACT)],
        }
    }

    /// Makes the result of a call to a client's tool whose run did not complete: calls leave with the reply or not at
    /// all.
    pub fn kept_back(call: CallId) -> ToolResult {
        let text = "The run ended before this call was let out to the client that has the tool.";
        ToolResult {
            call,
            status: CallStatus::Cancelled,
            parts: vec![ContentPart::new_text(text, Label::PUBLIC_FACT)],
        }
    }
}

/// A call as its client knows it, such as `run_…_1_0`: the run, the model step and the place within it. A call's own id
/// is unique within its run only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientCallId {
    /// The run that handed it over.
    pub run: RunId,
    /// The call.
    pub call: CallId,
}

impl fmt::Display for ClientCallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}", self.run, self.call.step, self.call.index)
    }
}

impl FromStr for ClientCallId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (rest, index) = text.rsplit_once('_')?;
            let (run, step) = rest.rsplit_once('_')?;
            let call = CallId { step: step.parse().ok()?, index: index.parse().ok()? };
            Some(Self { run: run.parse().ok()?, call })
        };
        // A number has more than one spelling; a call has one name.
        read()
            .filter(|known| known.to_string() == text)
            .ok_or_else(|| ParseIdError { expected: RunId::PREFIX, found: text.chars().take(64).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handed_call_has_one_name_and_it_comes_back() {
        let handed = ClientCallId { run: RunId::from_bytes([7; 16]), call: CallId { step: 12, index: 3 } };
        let name = handed.to_string();
        assert_eq!(name.parse(), Ok(handed));
        assert!(name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        for bad in [name.replace("12", "012"), name.replace("run", "ses"), "call_1_0".into(), String::new()] {
            assert!(bad.parse::<ClientCallId>().is_err(), "{bad}");
        }
    }

    /// The request is written anew after a takeover, from the body as it was stored; its digest is that of the first one.
    #[test]
    fn a_number_is_the_same_however_often_it_is_stored() {
        let mut bits = 7_u64;
        for _ in 0..1_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // From 1 to 2, with every digit there is.
            let number = f64::from_bits((bits >> 12) | 0x3ff0_0000_0000_0000);
            let parameters = serde_json::json!({"minimum": number});
            let tool = ClientTool { name: "t".into(), description: String::new(), parameters };
            let wishes =
                SamplingOptions { temperature: Number::from_f64(number), ..SamplingOptions::default() };
            let offer = ClientOptions { tools: vec![tool], wishes };
            let text = serde_json::to_string(&offer).expect("it is JSON");
            let again: ClientOptions = serde_json::from_str(&text).expect("it was just written");
            assert_eq!(serde_json::to_string(&again).expect("it is JSON"), text);
            assert_eq!(again, offer);
        }
    }

    #[test]
    fn client_options_are_written_minimally_and_read_back() {
        assert_eq!(serde_json::to_string(&ClientOptions::default()).expect("it is JSON"), "{}");
        let parameters = serde_json::json!({"type": "object"});
        let tool = ClientTool { name: "weather".into(), description: String::new(), parameters };
        let wishes = SamplingOptions {
            choice: ToolChoice::Named("weather".into()),
            temperature: Number::from_f64(0.7),
            stop: vec!["END".into()],
            ..SamplingOptions::default()
        };
        let offer = ClientOptions { tools: vec![tool], wishes };
        let text = serde_json::to_string(&offer).expect("it is JSON");
        assert_eq!(
            text,
            r#"{"tools":[{"name":"weather","parameters":{"type":"object"}}],"wishes":{"choice":{"named":"weather"},"temperature":0.7,"stop":["END"]}}"#
        );
        assert_eq!(serde_json::from_str::<ClientOptions>(&text).expect("it was just written"), offer);
        assert!(
            serde_json::from_str::<ClientOptions>(r#"{"wishes":{"mood":"fine"}}"#).is_err(),
            "a field of tomorrow"
        );
    }
}
