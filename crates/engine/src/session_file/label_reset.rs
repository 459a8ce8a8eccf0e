//! The label reset for an imported file that the importer does not vouch for.
//!
//! The author of a file writes its labels too, so an import accepts none of them unchanged: it joins each with the
//! label of a claim. Not everything in a transcript has a label of its own (the arguments of a call, a client's tools,
//! an item whose words are gone), and such a thing is as trusted as the input before it. So every item ends up with
//! words that are untrusted, its own or [`NOTE`]; and no step of the model counts as one that saw trusted text only.
//!
//! The reset changes no text and drops none.

use bytes::Bytes;
use dromia_contracts::approval::ApprovedBody;
use dromia_contracts::conclusion::ConclusionBody;
use dromia_contracts::content::{AssistantMessage, ContentPart, InputMessage, ToolResult};
use dromia_contracts::entry::Entry;
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;
use dromia_contracts::session::ItemKind;
use dromia_contracts::store::NewEntry;
use dromia_contracts::transcript::{AssistantUnit, TranscriptTurn};
use dromia_contracts::{ErrorCode, Fault};
use serde::de::DeserializeOwned;

use super::format::{FileItem, TextOrHex};

/// The label that is joined to every label of the file: this server did not observe its content.
const CLAIM: Label = Label::CLAIM;

/// The text of an item whose words are gone.
const NOTE: &str = "[read from a file; nobody here saw what was said or done]";

/// The labelled content of an item.
enum ItemPayload {
    Input(Box<InputBody>),
    Approved(ApprovedBody),
    Conclusion(Box<ConclusionBody>),
    /// An item without text, or whose text was erased.
    Nothing,
}

impl FileItem {
    /// Tells whether its labels can be lowered; a body that cannot be read may hold any.
    pub(super) fn check_labels(&self) -> Result<(), Fault> {
        self.decode_payload().map(|_| ())
    }

    /// Lowers its labels.
    pub(super) fn lower_labels(&mut self) -> Result<(), Fault> {
        let body = match self.decode_payload()? {
            ItemPayload::Approved(mut approved) => {
                approved.context = approved.context.join(CLAIM);
                serde_json::to_vec(&approved)
            }
            ItemPayload::Input(body) => lower_input(*body).encode(),
            ItemPayload::Conclusion(mut body) => {
                lower_parts(&mut body.message.parts);
                body.encode()
            }
            ItemPayload::Nothing => {
                self.kind = ItemKind::Input;
                let parts = vec![ContentPart::new_text(NOTE, CLAIM)];
                InputBody::from_message(InputMessage { author: self.author.clone(), parts, hops: 0 }).encode()
            }
        };
        let body = body.map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
        self.body = Some(TextOrHex::from(&Bytes::from(body)));
        Ok(())
    }

    fn decode_payload(&self) -> Result<ItemPayload, Fault> {
        let unreadable = |problem: String| {
            let text = format!("the session file: the body of {} cannot be read: {problem}", self.id);
            Fault::new(ErrorCode::InvalidRequest, text)
        };
        let body = match (self.kind, &self.body) {
            (ItemKind::Input | ItemKind::Approved | ItemKind::Conclusion, Some(TextOrHex::Utf8(body))) => {
                body.as_bytes()
            }
            // An export writes what is text as text.
            (ItemKind::Input | ItemKind::Approved | ItemKind::Conclusion, Some(TextOrHex::Hex(_))) => {
                return Err(unreadable("it is not text".to_owned()));
            }
            _ => return Ok(ItemPayload::Nothing),
        };
        let said = match self.kind {
            ItemKind::Approved => ApprovedBody::decode(body).map(ItemPayload::Approved),
            ItemKind::Conclusion => {
                ConclusionBody::decode(body).map(|body| ItemPayload::Conclusion(Box::new(body)))
            }
            _ => InputBody::decode(body).map(|body| ItemPayload::Input(Box::new(body))),
        };
        said.map_err(|error| unreadable(error.to_string()))
    }
}

fn lower_input(mut body: InputBody) -> InputBody {
    body.history = body.history.into_iter().map(lower_turn).collect();
    for result in body.answers.iter_mut().flat_map(|answers| &mut answers.results) {
        lower_parts(&mut result.parts);
    }
    lower_parts(&mut body.message.parts);
    if body.message.parts.is_empty() {
        body.message.parts.push(ContentPart::new_text(NOTE, CLAIM));
    }
    body
}

fn lower_turn(turn: TranscriptTurn) -> TranscriptTurn {
    match turn {
        TranscriptTurn::Input(mut message) => {
            lower_parts(&mut message.parts);
            TranscriptTurn::Input(message)
        }
        TranscriptTurn::Unit(known) => TranscriptTurn::Unit(lower_unit(&known)),
        TranscriptTurn::Summary(mut parts) => {
            lower_parts(&mut parts);
            TranscriptTurn::Summary(parts)
        }
    }
}

fn lower_unit(unit: &AssistantUnit) -> AssistantUnit {
    let parts = |parts: &[ContentPart]| {
        let mut parts = parts.to_vec();
        lower_parts(&mut parts);
        parts
    };
    unit.map_content(
        parts(&unit.message().parts),
        |call| (call.tool.clone(), call.arguments.clone()),
        |result| parts(&result.parts),
    )
}

fn lower_parts(parts: &mut [ContentPart]) {
    for part in parts {
        let (ContentPart::Text { label, .. } | ContentPart::Image { label, .. }) = part;
        *label = label.join(CLAIM);
    }
}

/// Lowers the labels of what the entries of a run say to a model.
pub(super) fn doubt_entries(entries: &mut [NewEntry]) -> Result<(), Fault> {
    for (index, new) in entries.iter_mut().enumerate() {
        let said = match &mut new.entry {
            Entry::ModelReplied(replied) => {
                replied.clean = false;
                lower_message(new.body.as_deref())
            }
            Entry::CallAsked(_) => lower_message(new.body.as_deref()),
            Entry::ToolFinished(_) | Entry::ToolRefused(_) => lower_result(new.body.as_deref()),
            // What these say is for no model.
            _ => continue,
        };
        let unreadable = |error: serde_json::Error| {
            let text = format!("the session file: the body of entry {} cannot be read: {error}", index + 1);
            Fault::new(ErrorCode::InvalidRequest, text)
        };
        new.body = said.map_err(unreadable)?;
    }
    Ok(())
}

fn lower_message(body: Option<&[u8]>) -> Result<Option<Bytes>, serde_json::Error> {
    rewrite_body(body, |said: &mut AssistantMessage| lower_parts(&mut said.parts))
}

fn lower_result(body: Option<&[u8]>) -> Result<Option<Bytes>, serde_json::Error> {
    rewrite_body(body, |told: &mut ToolResult| lower_parts(&mut told.parts))
}

/// Reads a body, changes it and writes it again; one that was erased stays so.
fn rewrite_body<T: DeserializeOwned + serde::Serialize>(
    body: Option<&[u8]>,
    change: impl FnOnce(&mut T),
) -> Result<Option<Bytes>, serde_json::Error> {
    let Some(body) = body else { return Ok(None) };
    let mut read = serde_json::from_slice(body)?;
    change(&mut read);
    serde_json::to_vec(&read).map(|body| Some(Bytes::from(body)))
}

#[cfg(test)]
mod tests;
