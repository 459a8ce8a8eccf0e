//! What `past.read` reads that is behind no handle of the run's requests: a turn that did not fit, a long result that a handle
//! took the place of, and any earlier input, answer or result of the run's own session, a summarized one too.
//!
//! Words that the gate withheld are not found, and neither is anything of another session: a position is looked up in the
//! inbox of this session alone.

use std::sync::Arc;

use dromia_contracts::conclusion::ConclusionBody;
use dromia_contracts::content::{AssistantMessage, ContentPart, ToolResult};
use dromia_contracts::entry::{Entry, ModelReplied};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::{IntegrityLevel, Label};
use dromia_contracts::redacted_history::{READ, RedactedHistory, turn_of_handle};
use dromia_contracts::run::RunKind;
use dromia_contracts::session::{InboxItem, InboxOwner, ItemKind};
use dromia_contracts::store::StoredEntry;
use dromia_contracts::tool::PreparedCall;
use dromia_contracts::transcript::{AssistantUnit, TranscriptTurn};
use dromia_contracts::{CallId, RunId, SessionId};

use super::{OwnershipError, RunOwner};
use crate::context::taint::join_of;
use crate::context::transcript::{message_parts, with_joined_label};
use crate::journal_reads::read_journal;

/// What a handle names by a position in the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PastPart {
    /// The input itself.
    Input,
    /// What the model said and asked for in a step of the run that took the input.
    Step(u32),
    /// The result of a call of that run.
    Call(CallId),
}

/// The past of a run, as a call of it may read it.
pub(super) struct PastWords<'a>(pub(super) &'a RunOwner);

impl PastWords<'_> {
    /// Returns what a call may read of the past: the contents behind the handles of the run's requests, and what the call's
    /// own handle names.
    pub(super) async fn read_for_call(
        &self,
        call: &PreparedCall,
    ) -> Result<Arc<RedactedHistory>, OwnershipError> {
        let past = &self.0.story.taint.past;
        let arguments = serde_json::from_str::<serde_json::Value>(&call.arguments).ok();
        let handle = arguments.as_ref().filter(|_| call.tool == READ).and_then(|it| it["handle"].as_str());
        let Some(handle) = handle.filter(|handle| past.find_content(handle).is_none()) else {
            return Ok(Arc::clone(past));
        };
        let found = match self.turn_content(handle) {
            Some(found) => Some(found),
            None => self.session_content(handle).await?,
        };
        let Some(found) = found else { return Ok(Arc::clone(past)) };
        let mut past = RedactedHistory::clone(past);
        past.insert_content(handle.to_owned(), found);
        Ok(Arc::new(past))
    }

    /// Returns a turn of the conversation, or a result under the name that a request gives its call.
    fn turn_content(&self, handle: &str) -> Option<Vec<ContentPart>> {
        let turns = self.0.story.transcript.turns();
        let turn = |place: usize| turns.get(place.checked_sub(1)?);
        if let Some(place) = turn_of_handle(handle) {
            return Some(match turn(place)? {
                TranscriptTurn::Input(message) => message.parts.clone(),
                TranscriptTurn::Summary(parts) => parts.clone(),
                // Its arguments have no label of their own: they came from this conversation.
                TranscriptTurn::Unit(unit) => with_joined_label(&unit_parts(unit), self.0.story.taint.label),
            });
        }
        let call: CallId = handle.parse().ok()?;
        let TranscriptTurn::Unit(unit) = turn(usize::try_from(call.step).ok()?)? else { return None };
        let named = unit.message().calls.get(call.index as usize)?;
        let result = unit.results().iter().find(|result| result.call == named.id)?;
        Some(result.parts.clone())
    }

    /// Returns whether the requests repeat the words of a run: of this one, and of the one that it is a branch of.
    fn is_in_requests(&self, run: RunId) -> bool {
        let origin = self.0.state.started.as_ref().and_then(|started| started.origin.as_deref());
        let parent = origin.filter(|origin| origin.kind == RunKind::Branch).map(|origin| origin.run);
        run == self.0.identity.run || parent == Some(run)
    }

    /// Returns the session and its position that a position in the run's requests means. Those of a branch follow those of its
    /// parent's session, which ends where the branch began.
    fn find_place(&self, position: u64) -> Option<(SessionId, u64)> {
        let started = self.0.state.started.as_ref()?;
        let parent = started.origin.as_deref().filter(|origin| origin.kind == RunKind::Branch);
        let base = parent.map_or(0, |origin| origin.position);
        let own = position.checked_sub(base).filter(|own| *own > 0 && *own <= self.0.state.inputs_end());
        match (own, parent) {
            (Some(own), _) => Some((self.0.identity.session, own)),
            (None, Some(origin)) => (1..=base).contains(&position).then_some((origin.session, position)),
            (None, None) => None,
        }
    }

    /// Reads what a handle names by a position in the inbox of the run's session.
    async fn session_content(&self, handle: &str) -> Result<Option<Vec<ContentPart>>, OwnershipError> {
        let Some((position, part)) = parse_position(handle) else { return Ok(None) };
        let Some((session, position)) = self.find_place(position) else { return Ok(None) };
        let (store, scope) = (&*self.0.core.ports.store, &self.0.identity.scope);
        let owner = InboxOwner::Session(session);
        let items = store.inbox_items(scope, owner, position - 1, 1).await;
        let items = items.map_err(|_| OwnershipError::Store)?;
        let Some(item) = items.first().filter(|item| item.position == position) else { return Ok(None) };
        if part == PastPart::Input {
            return Ok(input_parts(item));
        }
        // The current run's own words are in its requests.
        let Some(run) = item.taken_by.filter(|run| !self.is_in_requests(*run)) else { return Ok(None) };
        let journal = read_journal(store, scope, run).await.map_err(|_| OwnershipError::Store)?;
        Ok(journal_parts(&journal, part))
    }
}

/// Reads `3`, `3/step_1` and `3/call_1_0`.
fn parse_position(handle: &str) -> Option<(u64, PastPart)> {
    let Some((position, part)) = handle.split_once('/') else {
        return Some((handle.parse().ok()?, PastPart::Input));
    };
    let part = match part.strip_prefix("step_") {
        Some(step) => PastPart::Step(step.parse().ok()?),
        None => PastPart::Call(part.parse().ok()?),
    };
    Some((position.parse().ok()?, part))
}

fn input_parts(item: &InboxItem) -> Option<Vec<ContentPart>> {
    let body = item.body.as_deref()?;
    match item.kind {
        ItemKind::Input => InputBody::decode(body).ok().map(|body| body.message.parts),
        ItemKind::Conclusion => ConclusionBody::decode(body).ok().map(|body| body.message.parts),
        _ => None,
    }
}

/// Returns what a run said in a step, or the result of one of its calls, never with a better label than what led to it.
fn journal_parts(journal: &[StoredEntry], part: PastPart) -> Option<Vec<ContentPart>> {
    let step = match part {
        PastPart::Input => return None,
        PastPart::Step(step) => step,
        PastPart::Call(call) => call.step,
    };
    let (replied, message) = journal.iter().find_map(|stored| match stored.decode() {
        Ok(Entry::ModelReplied(replied)) if replied.step == step => {
            let message: AssistantMessage = serde_json::from_slice(stored.body.as_deref()?).ok()?;
            Some((replied, message))
        }
        _ => None,
    })?;
    if replied.withheld.is_some() {
        return None;
    }
    let led_to = context_label(&replied, &message);
    let PastPart::Call(call) = part else {
        return Some(message_parts(&message, led_to));
    };
    let result = journal.iter().find_map(|stored| match stored.decode() {
        Ok(Entry::ToolFinished(_) | Entry::ToolRefused(_)) => {
            let result: ToolResult = serde_json::from_slice(stored.body.as_deref()?).ok()?;
            (result.call == call).then_some(result)
        }
        _ => None,
    })?;
    Some(if led_to.integrity == IntegrityLevel::Untrusted {
        with_joined_label(&result.parts, led_to)
    } else {
        result.parts
    })
}

/// The label of the request that led to a message: that of its text, or what its entry says.
fn context_label(replied: &ModelReplied, message: &AssistantMessage) -> Label {
    match &message.parts[..] {
        // Its arguments may repeat what only the actor may read.
        [] if replied.clean => Label::ACTOR_TEXT,
        [] => Label::CLAIM,
        parts => join_of(parts),
    }
}

/// What the model said and asked for in a unit, and the results.
fn unit_parts(unit: &AssistantUnit) -> Vec<ContentPart> {
    let mut parts = message_parts(unit.message(), join_of(&unit.message().parts));
    parts.extend(unit.results().iter().flat_map(|result| result.parts.iter().cloned()));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_names_an_input_a_step_or_a_call() {
        let call = CallId { step: 1, index: 0 };
        for (handle, named) in [
            ("7", Some((7, PastPart::Input))),
            ("7/step_2", Some((7, PastPart::Step(2)))),
            ("7/call_1_0", Some((7, PastPart::Call(call)))),
            ("", None),
            ("seven", None),
            ("7/", None),
            ("7/step_", None),
            ("7/8", None),
            ("-1", None),
        ] {
            assert_eq!(parse_position(handle), named, "{handle:?}");
        }
    }
}
