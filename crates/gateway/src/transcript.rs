//! Folds the tail of a session into the transcript that people read: inputs and closed units, in order.
//!
//! A unit enters only with all its results, as everywhere: what a running turn has not closed yet is seen in its
//! journal. Erased bodies leave their place empty.

use std::collections::BTreeMap;

use dromia_api::session::{Call, Transcript, Turn};
use dromia_contracts::content::{AssistantMessage, ToolResult, parts_text};
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
    for (run, entries) in &tail.runs {
        for item in tail.items.iter().filter(|item| item.taken_by == Some(*run)) {
            transcript.turns.extend(input(*run, item)?);
        }
        units(*run, entries, &mut transcript.turns)?;
    }
    Ok(transcript)
}

fn input(run: RunId, item: &InboxItem) -> Answer<Option<Turn>> {
    match item.kind {
        ItemKind::Input => {}
        ItemKind::Resume | ItemKind::Cancel | ItemKind::Terminate | ItemKind::Release => return Ok(None),
    }
    let body = item.body.as_deref().map(InputBody::decode).transpose().map_err(unreadable)?;
    Ok(Some(Turn::Input {
        item: item.id,
        position: item.position,
        at: item.at,
        author: item.author.as_str().to_owned(),
        history: body.as_ref().map_or(0, |body| body.history.len() as u64),
        text: body.map(|body| parts_text(&body.message.parts)),
        run,
    }))
}

/// A unit whose calls may still be unanswered.
struct Open {
    seq: u64,
    at: Timestamp,
    message: AssistantMessage,
    results: BTreeMap<CallId, ToolResult>,
}

impl Open {
    fn close(&mut self, run: RunId) -> Option<Turn> {
        let complete = self.message.calls.iter().all(|call| self.results.contains_key(&call.id));
        complete.then(|| Turn::Unit {
            run,
            seq: self.seq,
            at: self.at,
            text: parts_text(&self.message.parts),
            calls: std::mem::take(&mut self.message.calls)
                .into_iter()
                .filter_map(|call| {
                    let result = self.results.remove(&call.id)?;
                    Some(Call {
                        id: call.id,
                        tool: call.tool,
                        arguments: call.arguments,
                        status: result.status,
                        result: parts_text(&result.parts),
                    })
                })
                .collect(),
        })
    }
}

fn units(run: RunId, entries: &[StoredEntry], turns: &mut Vec<Turn>) -> Answer<()> {
    let mut open: Option<Open> = None;
    for stored in entries {
        let entry =
            stored.decode().map_err(|error| Failure::new(ErrorCode::JournalUnreadable, error.to_string()))?;
        match entry {
            Entry::ModelReplied(_) => {
                let message = stored.body.as_deref().map(read).transpose()?.unwrap_or_default();
                open = Some(Open { seq: stored.seq, at: stored.at, message, results: BTreeMap::new() });
            }
            Entry::ToolFinished(_) | Entry::ToolRefused(_) => {
                if let (Some(open), Some(body)) = (&mut open, stored.body.as_deref()) {
                    let result: ToolResult = read(body)?;
                    open.results.insert(result.call, result);
                }
            }
            Entry::RunStarted(_)
            | Entry::ModelCalled(_)
            | Entry::ModelFailed(_)
            | Entry::ToolStarted(_)
            | Entry::SignalTaken(_)
            | Entry::RunParked(_)
            | Entry::RunHeld(_)
            | Entry::RunCompleted(_)
            | Entry::RunYielded(_)
            | Entry::RunFailed(_)
            | Entry::RunCancelled(_) => {}
        }
        if let Some(turn) = open.as_mut().and_then(|open| open.close(run)) {
            turns.push(turn);
            open = None;
        }
    }
    Ok(())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Answer<T> {
    serde_json::from_slice(body).map_err(unreadable)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn unreadable(error: serde_json::Error) -> Failure {
    Failure::new(ErrorCode::JournalUnreadable, "a body is not what its entry says")
        .with_cause(error.to_string())
}
