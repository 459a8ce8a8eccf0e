//! The tools whose results a turn contains, and whether a result was personal.
//!
//! It is derived from the transcript. A result of an earlier turn counts while it is included in full: the model does
//! not see content behind a handle. Within a turn no source is dropped: sensitivity only rises.

use std::collections::BTreeSet;

use dromia_contracts::content::{CallStatus, ContentPart, ToolCall, ToolResult};
use dromia_contracts::label::{Label, ReaderSet};
use dromia_contracts::transcript::{AssistantUnit, TranscriptTurn};
use serde_json::Value;

use super::ConversationTranscript;
use crate::context::taint::{CurrentUnit, ToolSource};

impl ConversationTranscript {
    /// Lists the tools whose results are included in full.
    pub(crate) fn tool_sources(&self) -> BTreeSet<ToolSource> {
        let (before, upto) = &self.taint.before;
        let recent = self.transcript.turns().get(*upto..).unwrap_or_default().iter().filter_map(turn_unit);
        let recent = recent.flat_map(|unit| calls_with_results(&unit.message().calls, unit.results()));
        let open =
            self.open.iter().flat_map(|open| calls_with_results(&open.message().calls, open.results()));
        let mut heard = before.clone();
        heard.extend(recent.chain(open).filter(|(_, result)| has_run(result)).map(source_of_result));
        heard
    }

    /// Lists every call of the newest run in their order, each with how it ended, if it did.
    pub(crate) fn own_calls(&self) -> impl Iterator<Item = (&ToolCall, Option<CallStatus>)> {
        let closed = self.own_units().map(|unit| (&unit.message().calls[..], unit.results()));
        let open = self.open.iter().map(|open| (&open.message().calls[..], open.results()));
        closed.chain(open).flat_map(|(calls, results)| {
            let status = |call: &ToolCall| {
                results.iter().find(|result| result.call == call.id).map(|result| result.status)
            };
            calls.iter().map(move |call| (call, status(call)))
        })
    }

    /// Lists every result of the newest run with the call that gave it.
    pub(crate) fn own_results(&self) -> impl Iterator<Item = (&ToolCall, &ToolResult)> {
        let closed =
            self.own_units().flat_map(|unit| calls_with_results(&unit.message().calls, unit.results()));
        closed.chain(
            self.open.iter().flat_map(|open| calls_with_results(&open.message().calls, open.results())),
        )
    }

    fn own_units(&self) -> impl Iterator<Item = &AssistantUnit> {
        self.transcript.turns().get(self.own_from..).unwrap_or_default().iter().filter_map(turn_unit)
    }

    /// Replaces untrusted content of earlier turns by handles.
    #[cfg(test)]
    pub(crate) fn by_handles(self) -> Self {
        Self {
            taint: crate::context::taint::TaintTracker {
                tainted_past: dromia_contracts::encoded_request::TaintedPast::Handle,
                ..self.taint
            },
            ..self
        }
    }

    /// Remembers the sources of earlier turns, once these have their final form.
    pub(super) fn note_heard(&mut self) {
        let upto = self.taint.fresh.first().map_or(self.own_from, CurrentUnit::turn_index);
        let (mut heard, from) = std::mem::take(&mut self.taint.before);
        let turns = self.transcript.turns().get(from..upto).unwrap_or_default();
        let units = turns.iter().filter_map(turn_unit);
        let told_whole = units.flat_map(|unit| calls_with_results(&unit.message().calls, unit.results()));
        let is_fact = |part: &ContentPart| part.label() == Label::PUBLIC_FACT;
        let told_whole =
            told_whole.filter(|(_, result)| has_run(result) && !result.parts.iter().all(is_fact));
        heard.extend(told_whole.map(source_of_result));
        self.taint.before = (heard, upto.max(from));
    }
}

fn turn_unit(turn: &TranscriptTurn) -> Option<&AssistantUnit> {
    match turn {
        TranscriptTurn::Unit(unit) => Some(unit),
        TranscriptTurn::Input(_) | TranscriptTurn::Summary(_) => None,
    }
}

fn calls_with_results<'a>(
    calls: &'a [ToolCall],
    results: &'a [ToolResult],
) -> impl Iterator<Item = (&'a ToolCall, &'a ToolResult)> {
    results
        .iter()
        .filter_map(|result| calls.iter().find(|call| call.id == result.call).map(|call| (call, result)))
}

fn has_run(result: &ToolResult) -> bool {
    matches!(result.status, CallStatus::Ok | CallStatus::Error | CallStatus::Unknown)
}

fn source_of_result((call, result): (&ToolCall, &ToolResult)) -> ToolSource {
    let is_own = |part: &ContentPart| part.label().readers == ReaderSet::Actor;
    let is_personal = result.parts.iter().any(is_own) || uses_secret(&call.arguments);
    ToolSource { tool: call.tool.clone(), is_personal }
}

/// Returns whether arguments name a secret of the vault, which they do by the key `secret`.
fn uses_secret(arguments: &str) -> bool {
    fn has_key(value: &Value) -> bool {
        match value {
            Value::Array(values) => values.iter().any(has_key),
            Value::Object(fields) => fields.contains_key("secret") || fields.values().any(has_key),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }
    // A key may be spelled by escapes.
    let may_name = arguments.contains("secret") || arguments.contains("\\u");
    may_name && serde_json::from_str(arguments).is_ok_and(|value: Value| has_key(&value))
}
