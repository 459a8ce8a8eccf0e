//! Folds the tail of a session into the transcript that people read: inputs and closed units, in order.
//!
//! A unit enters only with all its results, as everywhere: what a running turn has not closed yet is seen in its
//! journal. One that ended its run with calls for a client enters too, and says what it waits for. Erased bodies leave
//! their place empty.

use std::collections::BTreeMap;

use dromia_api::session::{Call, Handed, Transcript, Turn, Withheld};
use dromia_contracts::client::{Answers, HandedCall};
use dromia_contracts::content::{AssistantMessage, Part, ToolResult, parts_text};
use dromia_contracts::entry::Entry;
use dromia_contracts::input::InputBody;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::store::{SessionTail, StoredEntry};
use dromia_contracts::{CallId, ErrorCode, RunId};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::failure::{Answer, Failure};

pub(crate) fn fold(tail: &SessionTail) -> Answer<Transcript> {
    let head = tail.session.head;
    let first = tail.items.iter().find(|item| item.taken_by.is_some()).map(|item| item.position);
    let mut transcript = Transcript {
        session: tail.session.id,
        turns: Vec::new(),
        cut: head.taken > 0 && first != Some(1),
        waiting: head.last.saturating_sub(head.taken),
    };
    let mut handed: Option<(RunId, Open)> = None;
    for (run, entries) in &tail.runs {
        for item in tail.items.iter().filter(|item| item.taken_by == Some(*run)) {
            let body = body(item)?;
            if let Some((before, open)) = handed.take() {
                let answers = body.as_ref().and_then(|body| body.answers.as_ref());
                transcript.turns.push(open.settle(before, answers));
            }
            transcript.turns.extend(input(*run, item, body));
        }
        handed = units(*run, entries, &mut transcript.turns)?.map(|open| (*run, open));
    }
    if let Some((run, open)) = handed {
        transcript.turns.push(open.waiting(run));
    }
    Ok(transcript)
}

fn body(item: &InboxItem) -> Answer<Option<InputBody>> {
    match item.kind {
        ItemKind::Input => item.body.as_deref().map(InputBody::decode).transpose().map_err(unreadable),
        ItemKind::Resume
        | ItemKind::Cancel
        | ItemKind::Terminate
        | ItemKind::Release
        | ItemKind::Approve
        | ItemKind::Deny
        | ItemKind::Approved => Ok(None),
    }
}

fn input(run: RunId, item: &InboxItem, body: Option<InputBody>) -> Option<Turn> {
    if item.kind != ItemKind::Input {
        return None;
    }
    let answers = body.as_ref().and_then(|body| body.answers.as_ref());
    Some(Turn::Input {
        item: item.id,
        position: item.position,
        at: item.at,
        author: item.author.as_str().to_owned(),
        history: body.as_ref().map_or(0, |body| body.history.len() as u64),
        images: body.as_ref().map_or(0, |body| images(&body.message.parts)),
        results: answers.map_or(0, |answers| answers.results.len() as u64),
        text: body.map(|body| parts_text(&body.message.parts)),
        run,
    })
}

fn images(parts: &[Part]) -> u64 {
    parts.iter().filter(|part| part.is_image()).count() as u64
}

/// A unit whose calls may still be unanswered.
struct Open {
    seq: u64,
    at: Timestamp,
    message: AssistantMessage,
    withheld: Option<Withheld>,
    results: BTreeMap<CallId, ToolResult>,
    /// The calls that were handed to a client.
    handed: Vec<CallId>,
}

impl Open {
    fn is_closed(&self) -> bool {
        self.message.calls.iter().all(|call| self.results.contains_key(&call.id))
    }

    /// Tells whether nothing but a client's word is missing.
    fn is_handed(&self) -> bool {
        let known = |id: &CallId| self.results.contains_key(id) || self.handed.contains(id);
        !self.is_closed() && self.message.calls.iter().all(|call| known(&call.id))
    }

    /// Closes the unit with what the client told of the handed calls, as a model is told it.
    fn settle(mut self, run: RunId, answers: Option<&Answers>) -> Turn {
        let given = answers.filter(|answers| answers.run == run);
        for call in std::mem::take(&mut self.handed) {
            let told = given.and_then(|answers| answers.results.iter().find(|result| result.call == call));
            self.results.insert(call, told.cloned().unwrap_or_else(|| Answers::none_for(call)));
        }
        self.waiting(run)
    }

    /// Closes the unit of a run that ended and let no call out, as a model is told it.
    fn keep_back(mut self, run: RunId) -> Turn {
        let handed = std::mem::take(&mut self.handed);
        self.results.extend(handed.into_iter().map(|call| (call, Answers::kept_back(call))));
        self.waiting(run)
    }

    /// Tells the unit with the calls that have a result, and those that wait for the client.
    fn waiting(mut self, run: RunId) -> Turn {
        let (mut calls, mut handed) = (Vec::new(), Vec::new());
        for call in self.message.calls {
            match self.results.remove(&call.id) {
                Some(result) => calls.push(Call {
                    id: call.id,
                    tool: call.tool,
                    arguments: call.arguments,
                    status: result.status,
                    result: parts_text(&result.parts),
                    images: images(&result.parts),
                }),
                None => handed.push(Handed {
                    id: HandedCall { run, call: call.id }.to_string(),
                    tool: call.tool,
                    arguments: call.arguments,
                }),
            }
        }
        let text = parts_text(&self.message.parts);
        Turn::Unit { run, seq: self.seq, at: self.at, text, withheld: self.withheld, calls, handed }
    }
}

/// Adds the closed units of a run; returns the one with which it waits for a client.
fn units(run: RunId, entries: &[StoredEntry], turns: &mut Vec<Turn>) -> Answer<Option<Open>> {
    let mut open: Option<Open> = None;
    for stored in entries {
        let entry =
            stored.decode().map_err(|error| Failure::new(ErrorCode::JournalUnreadable, error.to_string()))?;
        match entry {
            Entry::ModelReplied(_) | Entry::CallAsked(_) => {
                let message = stored.body.as_deref().map(read).transpose()?.unwrap_or_default();
                let (seq, at, withheld) = (stored.seq, stored.at, withheld(entry));
                let (results, handed) = (BTreeMap::new(), Vec::new());
                open = Some(Open { seq, at, message, withheld, results, handed });
            }
            Entry::ToolFinished(_) | Entry::ToolRefused(_) => {
                if let (Some(open), Some(body)) = (&mut open, stored.body.as_deref()) {
                    let result: ToolResult = read(body)?;
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
            turns.push(closed.waiting(run));
        }
    }
    Ok(open.filter(Open::is_handed))
}

/// Says why nobody was told what a model said, if so.
fn withheld(entry: Entry) -> Option<Withheld> {
    let Entry::ModelReplied(replied) = entry else { return None };
    replied.withheld.map(|withheld| Withheld { rule: withheld.rule, reason: withheld.reason })
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Answer<T> {
    serde_json::from_slice(body).map_err(unreadable)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn unreadable(error: serde_json::Error) -> Failure {
    Failure::new(ErrorCode::JournalUnreadable, "a body is not what its entry says")
        .with_cause(error.to_string())
}
