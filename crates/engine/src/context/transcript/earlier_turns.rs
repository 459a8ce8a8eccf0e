//! Earlier turns in a transcript: handles replace their untrusted content.
//!
//! A turn ends at the next new input. A continuation, that is a resume or the results of a client's tools, still sees
//! all of it. In the units of ended turns these become handles, each a text of the runtime's own:
//!
//! - the result of a call, where its label is untrusted;
//! - the model's text and calls in a step whose request held untrusted content: text and arguments that follow from a
//!   mail are as little trusted as the mail, and so are the results of the calls, which may repeat the arguments.
//!
//! An input (a message of another agent, a picture, a client's history) is included in full, as it is what the session
//! is about. The model's text after such an input stays too: the request is untrusted with or without it. So the label
//! of a request is that of its content, and no content gets a better label than it had.
//!
//! A withheld reply is in no later turn, even with a trusted label: no user saw it.
//!
//! A handle is a position in the session and within its run, `3/call_1_0` or `3/step_2`. It names no run and no
//! session, so an imported session has the same bytes, and no other session can be named by it.

use std::sync::Arc;

use dromia_contracts::answer_format::AnswerFormat;
use dromia_contracts::content::{AssistantMessage, ContentPart, InputMessage, ToolCall, ToolResult};
use dromia_contracts::encoded_request::TaintedPast;
use dromia_contracts::label::{IntegrityLevel, Label};
use dromia_contracts::redacted_history;
use dromia_contracts::transcript::{AssistantUnit, TranscriptTurn};
use dromia_contracts::{Actor, CallId};

use super::ConversationTranscript;
use crate::context::taint::{CurrentUnit, UnitOrigin, join_of};

/// What a call's arguments are replaced with; providers take nothing but JSON back.
const NO_ARGUMENTS: &str = "{}";

/// What replaces the words that asked for a repair in later turns.
const REPAIRED: &str = "[the answer above did not have the form that was asked for]";

/// The name in place of an untrusted tool name.
const UNNAMED: &str = "unknown";

impl ConversationTranscript {
    /// Returns whether handles replace some of its content.
    pub(crate) fn has_past(&self) -> bool {
        !self.taint.past.is_empty()
    }

    /// Adds a whole unit of a run.
    pub(super) fn push_unit(&mut self, unit: AssistantUnit) {
        if let Some(withheld) = &self.withheld {
            self.unsaid.push((self.transcript.turns().len(), withheld.rule.clone()));
        }
        if self.taint.tainted_past == TaintedPast::Handle {
            // A unit that waited for its client belongs to this turn again, with the results of its other calls.
            self.taint.label = self.taint.label.join(label_of_unit(&unit)).join(self.taint.origin.said);
            self.taint
                .fresh
                .push(CurrentUnit { at: self.transcript.turns().len(), origin: self.taint.origin.clone() });
        }
        self.transcript.push_unit(unit);
    }

    /// Removes withheld replies of earlier runs: no user saw them, so the conversation goes on without them, and a note
    /// takes their place.
    pub(super) fn take_back(&mut self) {
        for (at, rule) in std::mem::take(&mut self.unsaid) {
            let Some(TranscriptTurn::Unit(unit)) = self.transcript.turns().get(at) else { continue };
            let parts = &unit.message().parts;
            if parts.is_empty() {
                continue;
            }
            let text = format!("[what you said here was refused by {rule} and told to nobody]");
            // The rule of a foreign journal is trusted no more than the text that it refused.
            let notice = vec![ContentPart::new_text(text, join_of(parts))];
            let call = |call: &ToolCall| (call.tool.clone(), call.arguments.clone());
            let retold = unit.map_content(notice, call, |result| result.parts.clone());
            self.transcript.replace_unit(at, retold);
        }
        for at in std::mem::take(&mut self.repairs) {
            self.transcript.replace_input(at, runtime_note(REPAIRED.to_owned()));
        }
    }

    /// Returns the words that ask for a repair of the newest answer, if it does not satisfy its schema. They quote it, so
    /// they are as little trusted.
    pub(super) fn repair_request(&self, answer: &AssistantMessage) -> Option<Vec<ContentPart>> {
        let unfit =
            self.withheld.as_ref().filter(|withheld| withheld.is_unfit() && answer.calls.is_empty())?;
        let text = AnswerFormat::repair_request(&unfit.reason);
        Some(vec![ContentPart::new_text(text, join_of(&answer.parts))])
    }

    /// Asks for a repair, in a turn of its own behind the answer.
    pub(super) fn push_repair_request(&mut self, parts: Vec<ContentPart>) {
        self.repairs.push(self.transcript.turns().len());
        self.taint.join_labels(&parts);
        self.transcript.push_input(InputMessage { author: Actor::new("engine"), parts, hops: self.hops });
    }

    /// Ends the earlier turns, because of a new input.
    pub(super) fn end_turns(&mut self) {
        if self.taint.tainted_past == TaintedPast::Whole {
            return;
        }
        for fresh in std::mem::take(&mut self.taint.fresh) {
            self.tell_by_handles(&fresh);
        }
        self.taint.label = self.taint.stays;
    }

    fn tell_by_handles(&mut self, fresh: &CurrentUnit) {
        let Some(TranscriptTurn::Unit(unit)) = self.transcript.turns().get(fresh.at) else { return };
        let UnitOrigin { place, step, said, ref vouched } = fresh.origin;
        let hides_words = is_untrusted(said) && !is_untrusted(self.taint.stays);
        let name = |call: CallId, tool: &str| {
            if vouched.contains(&call) { tool.to_owned() } else { UNNAMED.to_owned() }
        };
        let mut kept = Vec::new();
        let mut parts = unit.message().parts.clone();
        if hides_words {
            let handle = format!("{place}/step_{step}");
            let whole = message_parts(unit.message(), said);
            parts = runtime_note(format!(
                "[{} bytes that you said and asked for here followed from untrusted content and are not repeated; \
                 {} tells them, handle {handle}]",
                bytes_of(&whole),
                redacted_history::READ,
            ));
            kept.push((handle, whole));
        }
        let label_of = |result: &ToolResult| {
            let own = join_of(&result.parts);
            if hides_words { own.join(said) } else { own }
        };
        for result in unit.results().iter().filter(|result| is_untrusted(label_of(result))) {
            kept.push((handle_of(place, result), with_joined_label(&result.parts, label_of(result))));
        }
        let call = |call: &ToolCall| {
            if hides_words {
                (name(call.id, &call.tool), NO_ARGUMENTS.to_owned())
            } else {
                (call.tool.clone(), call.arguments.clone())
            }
        };
        let result = |result: &ToolResult| {
            if !is_untrusted(label_of(result)) {
                return result.parts.clone();
            }
            let call = unit.message().calls.iter().find(|call| call.id == result.call);
            runtime_note(format!(
                "[{} bytes that {} told in an earlier turn are untrusted and not repeated; {} tells them, handle {}]",
                bytes_of(&result.parts),
                name(result.call, call.map_or(UNNAMED, |call| call.tool.as_str())),
                redacted_history::READ,
                handle_of(place, result),
            ))
        };
        let retold = (!kept.is_empty()).then(|| unit.map_content(parts, call, result));
        self.taint.stays = self.taint.stays.join(label_of_unit(retold.as_ref().unwrap_or(unit)));
        if !hides_words {
            // The arguments of its calls have no label of their own.
            self.taint.stays = self.taint.stays.join(said);
        }
        if let Some(unit) = retold {
            self.transcript.replace_unit(fresh.at, unit);
            let past = Arc::make_mut(&mut self.taint.past);
            for (handle, parts) in kept {
                past.insert_content(handle, parts);
            }
        }
    }
}

fn is_untrusted(label: Label) -> bool {
    label.integrity == IntegrityLevel::Untrusted
}

fn handle_of(place: u64, result: &ToolResult) -> String {
    format!("{place}/{}", result.call)
}

/// The runtime's own words.
fn runtime_note(text: String) -> Vec<ContentPart> {
    vec![ContentPart::new_text(text, Label::PUBLIC_FACT)]
}

/// The model's text of a step, and after it its calls, a line for each.
pub(crate) fn message_parts(message: &AssistantMessage, said: Label) -> Vec<ContentPart> {
    let mut parts = with_joined_label(&message.parts, said);
    let calls = message.calls.iter().map(|call| format!("[{} {} {}]", call.id, call.tool, call.arguments));
    parts.extend(calls.map(|text| ContentPart::new_text(text, said)));
    parts
}

/// The same parts with labels that are joined with another.
pub(crate) fn with_joined_label(parts: &[ContentPart], label: Label) -> Vec<ContentPart> {
    let mut parts = parts.to_vec();
    for part in &mut parts {
        let (ContentPart::Text { label: own, .. } | ContentPart::Image { label: own, .. }) = part;
        *own = own.join(label);
    }
    parts
}

fn label_of_unit(unit: &AssistantUnit) -> Label {
    let results = unit.results().iter().map(|result| join_of(&result.parts));
    results.fold(join_of(&unit.message().parts), Label::join)
}

fn bytes_of(parts: &[ContentPart]) -> usize {
    parts.iter().map(ContentPart::byte_count).sum()
}

#[cfg(test)]
mod tests;
