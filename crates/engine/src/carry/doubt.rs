//! What becomes of the labels in a file that nobody vouches for.
//!
//! Whoever writes a file writes its labels too, so an import takes none of them as it is: each is joined with the label of
//! a claim. Not everything in a transcript has a label of its own (the arguments of a call, a client's tools, an item whose
//! words are gone), and such a thing is as trusted as the input before it. So every item ends up with words that are
//! untrusted, its own or [`NOTE`]; and no step of the model counts as one that saw trusted text only.
//!
//! No word that was said is changed here, and none is left out.

use bytes::Bytes;
use dromia_contracts::approval::ApprovedBody;
use dromia_contracts::content::{AssistantMessage, InputMessage, Part, ToolResult};
use dromia_contracts::entry::Entry;
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;
use dromia_contracts::session::ItemKind;
use dromia_contracts::store::NewEntry;
use dromia_contracts::transcript::{Turn, Unit};
use dromia_contracts::{ErrorCode, Fault};
use serde::de::DeserializeOwned;

use super::file::{FileItem, Text};

/// What no label of the file is better than: nobody here saw what it tells.
const CLAIM: Label = Label::CLAIM;

/// What an item without words is told as.
const NOTE: &str = "[read from a file; nobody here saw what was said or done]";

/// What an item says, as far as labels are concerned.
enum Said {
    Input(Box<InputBody>),
    Approved(ApprovedBody),
    /// Something that goes on without words, or whose words were erased.
    Nothing,
}

impl FileItem {
    /// Tells whether its labels can be lowered; a body that cannot be read may hold any.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.said().map(|_| ())
    }

    /// Lowers its labels.
    pub(super) fn doubt(&mut self) -> Result<(), Fault> {
        let body = match self.said()? {
            Said::Approved(mut approved) => {
                approved.context = approved.context.join(CLAIM);
                serde_json::to_vec(&approved)
            }
            Said::Input(body) => lowered(*body).encode(),
            Said::Nothing => {
                self.kind = ItemKind::Input;
                let parts = vec![Part::text(NOTE, CLAIM)];
                serde_json::to_vec(&InputMessage { author: self.author.clone(), parts, hops: 0 })
            }
        };
        let body = body.map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
        self.body = Some(Text::from(&Bytes::from(body)));
        Ok(())
    }

    fn said(&self) -> Result<Said, Fault> {
        let unreadable = |problem: String| {
            let text = format!("the session file: the body of {} is unreadable: {problem}", self.id);
            Fault::new(ErrorCode::InvalidRequest, text)
        };
        let body = match (self.kind, &self.body) {
            (ItemKind::Input | ItemKind::Approved, Some(Text::Utf8(body))) => body.as_bytes(),
            // An export writes what is text as text.
            (ItemKind::Input | ItemKind::Approved, Some(Text::Hex(_))) => {
                return Err(unreadable("it is not text".to_owned()));
            }
            _ => return Ok(Said::Nothing),
        };
        let said = if self.kind == ItemKind::Approved {
            ApprovedBody::decode(body).map(Said::Approved)
        } else {
            InputBody::decode(body).map(|body| Said::Input(Box::new(body)))
        };
        said.map_err(|error| unreadable(error.to_string()))
    }
}

fn lowered(mut body: InputBody) -> InputBody {
    body.history = body.history.into_iter().map(turn).collect();
    for result in body.answers.iter_mut().flat_map(|answers| &mut answers.results) {
        lower(&mut result.parts);
    }
    lower(&mut body.message.parts);
    if body.message.parts.is_empty() {
        body.message.parts.push(Part::text(NOTE, CLAIM));
    }
    body
}

fn turn(turn: Turn) -> Turn {
    match turn {
        Turn::Input(mut message) => {
            lower(&mut message.parts);
            Turn::Input(message)
        }
        Turn::Unit(known) => Turn::Unit(unit(&known)),
    }
}

fn unit(unit: &Unit) -> Unit {
    let parts = |parts: &[Part]| {
        let mut parts = parts.to_vec();
        lower(&mut parts);
        parts
    };
    unit.retold(
        parts(&unit.message().parts),
        |call| (call.tool.clone(), call.arguments.clone()),
        |result| parts(&result.parts),
    )
}

fn lower(parts: &mut [Part]) {
    for part in parts {
        let (Part::Text { label, .. } | Part::Image { label, .. }) = part;
        *label = label.join(CLAIM);
    }
}

/// Lowers the labels of what the entries of a run say to a model.
pub(super) fn doubt_entries(entries: &mut [NewEntry]) -> Result<(), Fault> {
    for (index, new) in entries.iter_mut().enumerate() {
        let said = match &mut new.entry {
            Entry::ModelReplied(replied) => {
                replied.clean = false;
                message(new.body.as_deref())
            }
            Entry::CallAsked(_) => message(new.body.as_deref()),
            Entry::ToolFinished(_) | Entry::ToolRefused(_) => result(new.body.as_deref()),
            // What these say is for no model.
            _ => continue,
        };
        let unreadable = |error: serde_json::Error| {
            let text = format!("the session file: the body of entry {} is unreadable: {error}", index + 1);
            Fault::new(ErrorCode::InvalidRequest, text)
        };
        new.body = said.map_err(unreadable)?;
    }
    Ok(())
}

fn message(body: Option<&[u8]>) -> Result<Option<Bytes>, serde_json::Error> {
    rewritten(body, |said: &mut AssistantMessage| lower(&mut said.parts))
}

fn result(body: Option<&[u8]>) -> Result<Option<Bytes>, serde_json::Error> {
    rewritten(body, |told: &mut ToolResult| lower(&mut told.parts))
}

/// Reads a body, changes it and writes it again; one that was erased stays so.
fn rewritten<T: DeserializeOwned + serde::Serialize>(
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
