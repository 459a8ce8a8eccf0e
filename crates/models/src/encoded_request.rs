//! A request in a provider's wire format. One function encodes it, for the attempt that is sent and for later displays
//! of it, so the two cannot differ.
//!
//! Everything that the bytes follow from is in the [`RequestEncoding`] and in the request; no setting of an adapter is asked.

use bytes::Bytes;
use dromia_contracts::ErrorCode;
use dromia_contracts::answer_format::AnswerFormat;
use dromia_contracts::encoded_request::RequestEncoding;
use dromia_contracts::model::{ModelError, ModelRequest};
use dromia_contracts::transcript::TranscriptTurn;
use serde_json::{Value, json};

use crate::http::{OutputLimit, WireFormat, cut_error};
use crate::scripted::ScriptedModel;
use crate::sent_turns::sent_turns;

/// A request as one model is sent it.
pub(crate) struct EncodableRequest<'a> {
    /// The model's id at its provider.
    pub(crate) model: &'a str,
    /// Whether a stream is asked for.
    pub(crate) stream: bool,
    /// Which field carries the output limit.
    pub(crate) output_limit: OutputLimit,
    /// The most tokens of the answer.
    pub(crate) output_tokens_max: u32,
    /// The form of the answer, if it is sent in a field of its own.
    pub(crate) answer: Option<&'a AnswerFormat>,
    /// What is asked; of its conversation only `turns` is sent.
    pub(crate) request: &'a ModelRequest,
    /// The conversation, without what is left out.
    pub(crate) turns: &'a [TranscriptTurn],
}

/// Writes a request.
pub(crate) fn encode_request(
    wording: &RequestEncoding,
    request: &ModelRequest,
    output_tokens_max: u32,
) -> Result<Bytes, ModelError> {
    let is_scripted = wording.form == ScriptedModel::FORM;
    // The scripted model runs inside the process; its request is encoded as a full chat completion.
    let format = if is_scripted { Some(WireFormat::OpenAiChat) } else { WireFormat::of_form(&wording.form) };
    let format =
        format.ok_or_else(|| unwritable_error(format!("this version writes no form {:?}", wording.form)))?;
    let output_limit = OutputLimit::of_field(wording.limit.as_deref())
        .ok_or_else(|| unwritable_error(format!("this version knows no output limit {:?}", wording.limit)))?;
    let turns = sent_turns(wording, request.transcript.turns())
        .ok_or_else(|| unwritable_error("more was left out than the conversation has".to_owned()))?;
    let letter = EncodableRequest {
        model: if is_scripted { ScriptedModel::ALIAS } else { &wording.model },
        stream: !wording.whole && !is_scripted,
        output_limit,
        output_tokens_max,
        answer: request.wishes.answer.as_ref().filter(|_| wording.answer_field),
        request,
        turns: &turns,
    };
    format.encode_body(&letter).map_err(|_| cut_error("the request cannot be written as JSON"))
}

/// Describes the form of an answer as OpenAI does: beside the type, or in a map of its own.
pub(crate) fn openai_answer_format(answer: &AnswerFormat, is_nested: bool) -> Value {
    let Some(schema) = &answer.schema else { return json!({"type": "json_object"}) };
    // What cannot be enforced is a hint.
    let strict = answer.strict && answer.is_closed(true);
    let mut format = json!({"name": answer.name, "schema": schema, "strict": strict});
    if is_nested {
        return json!({"type": "json_schema", "json_schema": format});
    }
    format["type"] = json!("json_schema");
    format
}

fn unwritable_error(message: String) -> ModelError {
    ModelError { code: ErrorCode::RequestUnavailable, message, retry_after: None }
}
