//! A request in a provider's wire format. One function encodes it, for the attempt that is sent and for later displays
//! of it, so the two cannot differ.
//!
//! Everything that the bytes follow from is in the [`RequestEncoding`] and in the request; no setting of an adapter is asked.

use std::borrow::Cow;

use bytes::Bytes;
use dromia_contracts::ErrorCode;
use dromia_contracts::encoded_request::RequestEncoding;
use dromia_contracts::model::{ModelError, ModelRequest};
use dromia_contracts::transcript::TranscriptTurn;

use crate::http::{OutputLimit, WireFormat, cut_error};
use crate::scripted::ScriptedModel;

/// How the calls of a conversation are named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallNames {
    /// As in the runs that made them. Two runs of a conversation give the same names.
    OfTheirRuns,
    /// After the place of their unit in the conversation, so that no two are the same; providers insist on it.
    OfTheConversation,
}

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
    let format = if is_scripted {
        Some((WireFormat::OpenAiChat, CallNames::OfTheirRuns))
    } else {
        WireFormat::of_form(&wording.form)
    };
    let (format, names) = format.ok_or_else(|| {
        unwritable_error(format!("this version does not write the format {:?}", wording.form))
    })?;
    let output_limit = OutputLimit::of_field(wording.limit.as_deref()).ok_or_else(|| {
        unwritable_error(format!("this version does not know the output limit {:?}", wording.limit))
    })?;
    let turns = sent_turns(wording, request).ok_or_else(|| {
        unwritable_error("the request leaves out more than the conversation has".to_owned())
    })?;
    let turns = match names {
        CallNames::OfTheirRuns => Cow::Borrowed(turns),
        CallNames::OfTheConversation => rename_calls(turns, wording.left_out),
    };
    let letter = EncodableRequest {
        model: if is_scripted { ScriptedModel::ALIAS } else { &wording.model },
        stream: !wording.whole && !is_scripted,
        output_limit,
        output_tokens_max,
        request,
        turns: &turns,
    };
    format.encode_body(&letter).map_err(|_| cut_error("the request cannot be written as JSON"))
}

/// The turns that are sent.
pub(crate) fn sent_turns<'a>(
    wording: &RequestEncoding,
    request: &'a ModelRequest,
) -> Option<&'a [TranscriptTurn]> {
    request.transcript.turns().get(wording.left_out as usize..)
}

/// Names calls after the index of their unit in the conversation, including the units that are left out, so that a call
/// keeps its name while the conversation grows.
fn rename_calls(turns: &[TranscriptTurn], left_out: u32) -> Cow<'_, [TranscriptTurn]> {
    let has_calls = |turn: &TranscriptTurn| match turn {
        TranscriptTurn::Unit(unit) => !unit.message().calls.is_empty(),
        TranscriptTurn::Input(_) => false,
    };
    if !turns.iter().any(has_calls) {
        return Cow::Borrowed(turns);
    }
    let places = left_out.saturating_add(1)..;
    let renamed = turns.iter().zip(places).map(|(turn, place)| match turn {
        TranscriptTurn::Unit(unit) => TranscriptTurn::Unit(unit.renamed_for_step(place)),
        TranscriptTurn::Input(_) => turn.clone(),
    });
    Cow::Owned(renamed.collect())
}

fn unwritable_error(message: String) -> ModelError {
    ModelError { code: ErrorCode::RequestUnavailable, message, retry_after: None }
}
