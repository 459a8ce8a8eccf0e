//! Folds the tail of a session into the transcript that people read: inputs and closed units, in order.
//!
//! A unit enters only with all its results, as everywhere: what a running turn has not closed yet is seen in its
//! journal. One that ended its run with calls for a client enters too, and says what it waits for. Erased bodies leave
//! their place empty.

use std::collections::BTreeMap;

use dromia_api::session::{ClientToolCall, CompletedCall, SessionTurn, TranscriptPage, WithheldReason};
use dromia_contracts::client::{ClientCallId, ClientToolResults};
use dromia_contracts::conclusion::ConclusionBody;
use dromia_contracts::content::{AssistantMessage, ContentPart, ToolResult, parts_text};
use dromia_contracts::entry::Entry;
use dromia_contracts::input::InputBody;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::store::{SessionTail, StoredEntry};
use dromia_contracts::{CallId, ErrorCode, ItemId, RunId};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::failure::{Answer, ApiError};

pub(crate) fn fold_transcript(tail: &SessionTail) -> Answer<TranscriptPage> {
    let head = tail.session.head;
    let first = tail.items.iter().find(|item| item.taken_by.is_some()).map(|item| item.position);
    let mut transcript = TranscriptPage {
        session: tail.session.id,
        turns: Vec::new(),
        cut: head.taken > 0 && first != Some(1),
        waiting: head.last.saturating_sub(head.taken),
    };
    let mut handed: Option<(RunId, OpenTranscriptUnit)> = None;
    for (run, entries) in &tail.runs {
        let joined = joined_inputs(entries)?;
        let began = |item: &&InboxItem| item.taken_by == Some(*run) && !joined.contains(&item.id);
        for item in tail.items.iter().filter(began) {
            let body = decode_input_body(item)?;
            if let Some((before, open)) = handed.take() {
                let answers = body.as_ref().and_then(|body| body.answers.as_ref());
                transcript.turns.push(open.settle_with_answers(before, answers));
            }
            transcript.turns.extend(input_turn(*run, item, body));
        }
        handed = fold_units(*run, entries, &tail.items, &mut transcript.turns)?.map(|open| (*run, open));
    }
    if let Some((run, open)) = handed {
        transcript.turns.push(open.waiting_turn(run));
    }
    Ok(transcript)
}

/// Lists the inputs that joined a run after it began; each has its place behind the unit that it followed.
fn joined_inputs(entries: &[StoredEntry]) -> Answer<Vec<ItemId>> {
    let mut joined = Vec::new();
    for stored in entries.iter().filter(|stored| stored.kind == "inputs_taken") {
        if let Entry::InputsTaken(taken) = decode_entry(stored)? {
            joined.extend(taken.items);
        }
    }
    Ok(joined)
}

fn decode_entry(stored: &StoredEntry) -> Answer<Entry> {
    stored.decode().map_err(|error| ApiError::new(ErrorCode::JournalUnreadable, error.to_string()))
}

fn decode_input_body(item: &InboxItem) -> Answer<Option<InputBody>> {
    match item.kind {
        ItemKind::Input => item.body.as_deref().map(InputBody::decode).transpose().map_err(unreadable_body),
        ItemKind::Conclusion => {
            let body =
                item.body.as_deref().map(ConclusionBody::decode).transpose().map_err(unreadable_body)?;
            Ok(body.map(|body| InputBody::from_message(body.message)))
        }
        ItemKind::Resume
        | ItemKind::Cancel
        | ItemKind::Terminate
        | ItemKind::Release
        | ItemKind::Approve
        | ItemKind::Deny
        | ItemKind::Approved => Ok(None),
    }
}

fn input_turn(run: RunId, item: &InboxItem, body: Option<InputBody>) -> Option<SessionTurn> {
    if !matches!(item.kind, ItemKind::Input | ItemKind::Conclusion) {
        return None;
    }
    let answers = body.as_ref().and_then(|body| body.answers.as_ref());
    Some(SessionTurn::Input {
        item: item.id,
        position: item.position,
        at: item.at,
        author: item.author.as_str().to_owned(),
        history: body.as_ref().map_or(0, |body| body.history.len() as u64),
        images: body.as_ref().map_or(0, |body| count_images(&body.message.parts)),
        results: answers.map_or(0, |answers| answers.results.len() as u64),
        text: body.map(|body| parts_text(&body.message.parts)),
        run,
    })
}

fn count_images(parts: &[ContentPart]) -> u64 {
    parts.iter().filter(|part| part.is_image()).count() as u64
}

/// A unit whose calls may still be unanswered.
struct OpenTranscriptUnit {
    seq: u64,
    at: Timestamp,
    message: AssistantMessage,
    withheld: Option<WithheldReason>,
    results: BTreeMap<CallId, ToolResult>,
    /// The calls that were handed to a client.
    handed: Vec<CallId>,
}

impl OpenTranscriptUnit {
    fn is_closed(&self) -> bool {
        self.message.calls.iter().all(|call| self.results.contains_key(&call.id))
    }

    /// Tells whether nothing but a client's word is missing.
    fn is_handed(&self) -> bool {
        let known = |id: &CallId| self.results.contains_key(id) || self.handed.contains(id);
        !self.is_closed() && self.message.calls.iter().all(|call| known(&call.id))
    }

    /// Closes the unit with what the client answered to the handed calls, as a model receives it.
    fn settle_with_answers(mut self, run: RunId, answers: Option<&ClientToolResults>) -> SessionTurn {
        let given = answers.filter(|answers| answers.run == run);
        for call in std::mem::take(&mut self.handed) {
            let told = given.and_then(|answers| answers.results.iter().find(|result| result.call == call));
            self.results.insert(call, told.cloned().unwrap_or_else(|| ClientToolResults::none_for(call)));
        }
        self.waiting_turn(run)
    }

    /// Closes the unit of a run that ended and let no call out, as a model receives it.
    fn keep_back(mut self, run: RunId) -> SessionTurn {
        let handed = std::mem::take(&mut self.handed);
        self.results.extend(handed.into_iter().map(|call| (call, ClientToolResults::kept_back(call))));
        self.waiting_turn(run)
    }

    /// Tells the unit with the calls that have a result, and those that wait for the client.
    fn waiting_turn(mut self, run: RunId) -> SessionTurn {
        let (mut calls, mut handed) = (Vec::new(), Vec::new());
        for call in self.message.calls {
            match self.results.remove(&call.id) {
                Some(result) => calls.push(CompletedCall {
                    id: call.id,
                    tool: call.tool,
                    arguments: call.arguments,
                    status: result.status,
                    result: parts_text(&result.parts),
                    images: count_images(&result.parts),
                }),
                None => handed.push(ClientToolCall {
                    id: ClientCallId { run, call: call.id }.to_string(),
                    tool: call.tool,
                    arguments: call.arguments,
                }),
            }
        }
        let text = parts_text(&self.message.parts);
        SessionTurn::Unit { run, seq: self.seq, at: self.at, text, withheld: self.withheld, calls, handed }
    }
}

/// Adds the closed units of a run; returns the one with which it waits for a client.
fn fold_units(
    run: RunId,
    entries: &[StoredEntry],
    items: &[InboxItem],
    turns: &mut Vec<SessionTurn>,
) -> Answer<Option<OpenTranscriptUnit>> {
    let mut open: Option<OpenTranscriptUnit> = None;
    for stored in entries {
        let entry = decode_entry(stored)?;
        match entry {
            Entry::InputsTaken(taken) => {
                for item in items.iter().filter(|item| taken.items.contains(&item.id)) {
                    turns.extend(input_turn(run, item, decode_input_body(item)?));
                }
            }
            Entry::ModelReplied(_) | Entry::CallAsked(_) => {
                let message = stored.body.as_deref().map(parse_entry_body).transpose()?.unwrap_or_default();
                let (seq, at, withheld) = (stored.seq, stored.at, withheld_reason(entry));
                let (results, handed) = (BTreeMap::new(), Vec::new());
                open = Some(OpenTranscriptUnit { seq, at, message, withheld, results, handed });
            }
            Entry::ToolFinished(_) | Entry::ToolRefused(_) => {
                if let (Some(open), Some(body)) = (&mut open, stored.body.as_deref()) {
                    let result: ToolResult = parse_entry_body(body)?;
                    open.results.insert(result.call, result);
                }
            }
            Entry::ToolHanded(call) => {
                if let Some(open) = &mut open {
                    open.handed.push(call.call);
                }
            }
            Entry::RunYielded(_) | Entry::RunFailed(_) | Entry::RunCancelled(_) => {
                if let Some(kept) = open.take_if(|open| open.is_handed()) {
                    turns.push(kept.keep_back(run));
                }
            }
            Entry::RunStarted(_)
            | Entry::ModelCalled(_)
            | Entry::ModelFailed(_)
            | Entry::OpinionCalled(_)
            | Entry::OpinionGiven(_)
            | Entry::ToolStarted(_)
            | Entry::SignalTaken(_)
            | Entry::RunParked(_)
            | Entry::RunHeld(_)
            | Entry::RunCompleted(_) => {}
        }
        if let Some(closed) = open.take_if(|open| open.is_closed()) {
            turns.push(closed.waiting_turn(run));
        }
    }
    Ok(open.filter(OpenTranscriptUnit::is_handed))
}

/// Says why a reply of a model was withheld, if it was.
fn withheld_reason(entry: Entry) -> Option<WithheldReason> {
    let Entry::ModelReplied(replied) = entry else { return None };
    replied.withheld.map(|withheld| WithheldReason { rule: withheld.rule, reason: withheld.reason })
}

fn parse_entry_body<T: DeserializeOwned>(body: &[u8]) -> Answer<T> {
    serde_json::from_slice(body).map_err(unreadable_body)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn unreadable_body(error: serde_json::Error) -> ApiError {
    ApiError::new(ErrorCode::JournalUnreadable, "a body does not match its entry")
        .with_cause(error.to_string())
}
