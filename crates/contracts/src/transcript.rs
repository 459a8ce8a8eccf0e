//! The transcript: inputs and units in order.
//!
//! A [`AssistantUnit`] is an assistant message with all its tool calls and exactly one result for each; it is never
//! split. The type cannot hold an orphaned call or an orphaned result: an [`OpenUnit`] becomes a `Unit` only
//! when every call is answered, and a stored unit is checked again when it is read.

use serde::{Deserialize, Serialize};

use crate::content::{AssistantMessage, ContentPart, InputMessage, ToolCall, ToolResult};
use crate::id::CallId;

/// An assistant message whose calls are not all answered yet. It cannot enter a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUnit {
    message: AssistantMessage,
    results: Vec<ToolResult>,
}

/// Says why a result does not fit an open unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// No call of the message has this id.
    #[error("{0} is not a call of this message")]
    NoSuchCall(CallId),
    /// The call has its result already.
    #[error("{0} already has a result")]
    AlreadyAnswered(CallId),
}

impl OpenUnit {
    /// Opens a unit with the message that asks for the calls.
    pub fn new(message: AssistantMessage) -> Self {
        Self { message, results: Vec::new() }
    }

    /// Adds the one result of a call.
    pub fn add_result(&mut self, result: ToolResult) -> Result<(), AnswerError> {
        if !self.message.calls.iter().any(|call| call.id == result.call) {
            return Err(AnswerError::NoSuchCall(result.call));
        }
        if self.results.iter().any(|known| known.call == result.call) {
            return Err(AnswerError::AlreadyAnswered(result.call));
        }
        self.results.push(result);
        Ok(())
    }

    /// Returns the first call that has no result yet.
    pub fn next_unanswered(&self) -> Option<&ToolCall> {
        self.unanswered_calls().next()
    }

    /// Lists the calls that have no result yet, in their order.
    pub fn unanswered_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.message.calls.iter().filter(|call| !self.results.iter().any(|result| result.call == call.id))
    }

    /// Returns the message.
    pub fn message(&self) -> &AssistantMessage {
        &self.message
    }

    /// Returns the results that are there, in the order in which they came.
    pub fn results(&self) -> &[ToolResult] {
        &self.results
    }

    /// Closes the unit, or gives it back while a call is unanswered.
    pub fn close(self) -> Result<AssistantUnit, Self> {
        if self.next_unanswered().is_some() {
            return Err(self);
        }
        let Self { message, mut results } = self;
        results.sort_by_key(|result| result.call);
        Ok(AssistantUnit { message, results })
    }
}

/// An assistant message with all its calls and all their results, in the order of the calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawUnit")]
pub struct AssistantUnit {
    message: AssistantMessage,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    results: Vec<ToolResult>,
}

impl AssistantUnit {
    /// Returns the assistant message.
    pub fn message(&self) -> &AssistantMessage {
        &self.message
    }

    /// Returns the results, one per call.
    pub fn results(&self) -> &[ToolResult] {
        &self.results
    }

    /// Returns the unit with its calls named after a step, each after its place; every result goes with its call.
    pub fn renamed_for_step(&self, step: u32) -> Self {
        let name = |place: usize| CallId { step, index: u32::try_from(place).unwrap_or(u32::MAX) };
        let mut unit = self.clone();
        for (place, call) in unit.message.calls.iter_mut().enumerate() {
            call.id = name(place);
        }
        for result in &mut unit.results {
            // A unit has no result without its call.
            let place = self.message.calls.iter().position(|call| call.id == result.call);
            result.call = name(place.unwrap_or(usize::MAX));
        }
        unit.results.sort_by_key(|result| result.call);
        unit
    }

    /// Returns the unit in other words: with other parts in its message and its results, and other names and arguments
    /// of its calls. Which calls there are, and how they ended, stays.
    pub fn map_content(
        &self,
        parts: Vec<ContentPart>,
        call: impl Fn(&ToolCall) -> (String, String),
        result: impl Fn(&ToolResult) -> Vec<ContentPart>,
    ) -> Self {
        let calls = self.message.calls.iter().map(|known| {
            let (tool, arguments) = call(known);
            ToolCall { id: known.id, tool, arguments }
        });
        let message = AssistantMessage { parts, calls: calls.collect() };
        let results = self.results.iter().map(|known| ToolResult { parts: result(known), ..*known });
        Self { message, results: results.collect() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUnit {
    message: AssistantMessage,
    #[serde(default)]
    results: Vec<ToolResult>,
}

impl TryFrom<RawUnit> for AssistantUnit {
    type Error = String;

    fn try_from(raw: RawUnit) -> Result<Self, Self::Error> {
        let mut open = OpenUnit::new(raw.message);
        for result in raw.results {
            open.add_result(result).map_err(|error| error.to_string())?;
        }
        open.close().map_err(|open| match open.next_unanswered() {
            Some(call) => format!("{} has no result", call.id),
            None => "the unit is open".to_owned(),
        })
    }
}

/// One element of a transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum TranscriptTurn {
    /// An actor spoke to the agent.
    Input(InputMessage),
    /// The agent spoke, with its calls and their results.
    Unit(AssistantUnit),
    /// The runtime says what came before: a summary, or how much is not repeated. It is made for a request and never stored.
    #[serde(skip)]
    Summary(Vec<ContentPart>),
}

/// Inputs and units in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Transcript {
    turns: Vec<TranscriptTurn>,
}

impl Transcript {
    /// Adds an input at the end.
    pub fn push_input(&mut self, input: InputMessage) {
        self.turns.push(TranscriptTurn::Input(input));
    }

    /// Adds a whole unit at the end.
    pub fn push_unit(&mut self, unit: AssistantUnit) {
        self.turns.push(TranscriptTurn::Unit(unit));
    }

    /// Adds what the runtime says of what came before.
    pub fn push_summary(&mut self, parts: Vec<ContentPart>) {
        self.turns.push(TranscriptTurn::Summary(parts));
    }

    /// Takes the last element away.
    pub fn pop_turn(&mut self) {
        self.turns.pop();
    }

    /// Puts another unit in the place of one. Where none is, nothing changes.
    pub fn replace_unit(&mut self, at: usize, unit: AssistantUnit) {
        if let Some(TranscriptTurn::Unit(known)) = self.turns.get_mut(at) {
            *known = unit;
        }
    }

    /// Puts other parts in the place of those of an input. Where none is, nothing changes.
    pub fn replace_input(&mut self, at: usize, parts: Vec<ContentPart>) {
        if let Some(TranscriptTurn::Input(known)) = self.turns.get_mut(at) {
            known.parts = parts;
        }
    }

    /// Adds a part before those of an input. Where none is, nothing changes.
    pub fn add_first_part(&mut self, at: usize, part: ContentPart) {
        if let Some(TranscriptTurn::Input(known)) = self.turns.get_mut(at) {
            known.parts.insert(0, part);
        }
    }

    /// Takes the first part of an input away.
    pub fn remove_first_part(&mut self, at: usize) {
        if let Some(TranscriptTurn::Input(known)) = self.turns.get_mut(at)
            && !known.parts.is_empty()
        {
            known.parts.remove(0);
        }
    }

    /// Returns the elements in order.
    pub fn turns(&self) -> &[TranscriptTurn] {
        &self.turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::CallStatus;
    use crate::label::Label;

    fn call(index: u32) -> ToolCall {
        ToolCall { id: CallId { step: 1, index }, tool: "time.now".into(), arguments: "{}".into() }
    }

    fn result(index: u32) -> ToolResult {
        ToolResult {
            call: CallId { step: 1, index },
            status: CallStatus::Ok,
            parts: vec![ContentPart::new_text("12:00", Label::PUBLIC_FACT)],
        }
    }

    #[test]
    fn a_renamed_unit_is_the_same_unit_under_other_names() {
        let mut open = OpenUnit::new(AssistantMessage { parts: vec![], calls: vec![call(1), call(0)] });
        let told = |index| ToolResult {
            parts: vec![ContentPart::new_text(format!("{index}"), Label::CLAIM)],
            ..result(index)
        };
        open.add_result(told(0)).expect("it is open");
        open.add_result(told(1)).expect("it is open");
        let unit = open.close().expect("all calls are answered").renamed_for_step(7);
        let names: Vec<_> = unit.message().calls.iter().map(|call| call.id.to_string()).collect();
        assert_eq!(names, ["call_7_0", "call_7_1"]);
        let results: Vec<_> =
            unit.results().iter().map(|one| (one.call.index, one.parts[0].as_text())).collect();
        assert_eq!(results, [(0, "1"), (1, "0")], "each went with its call");
    }

    #[test]
    fn a_rewritten_unit_keeps_its_calls_and_results() {
        let mut open = OpenUnit::new(AssistantMessage { parts: vec![], calls: vec![call(0), call(1)] });
        open.add_result(result(1)).expect("it is open");
        open.add_result(ToolResult { status: CallStatus::Error, ..result(0) }).expect("it is open");
        let unit = open.close().expect("all calls are answered");
        let said = |text: &str| vec![ContentPart::new_text(text, Label::PUBLIC_FACT)];
        let retold = unit.map_content(
            said("said"),
            |call| (format!("{}!", call.tool), "[]".to_owned()),
            |result| said(&format!("told {}", result.call)),
        );
        let calls: Vec<_> = retold.message().calls.iter().map(|call| (call.id, &*call.tool)).collect();
        assert_eq!(calls, [(call(0).id, "time.now!"), (call(1).id, "time.now!")]);
        assert_eq!(retold.message().calls[0].arguments, "[]");
        let results: Vec<_> =
            retold.results().iter().map(|one| (one.status, one.parts[0].as_text())).collect();
        assert_eq!(results, [(CallStatus::Error, "told call_1_0"), (CallStatus::Ok, "told call_1_1")]);

        let mut transcript = Transcript::default();
        transcript.push_unit(unit);
        transcript.replace_unit(1, retold.clone());
        assert_ne!(transcript.turns(), [TranscriptTurn::Unit(retold.clone())], "there is none");
        transcript.replace_unit(0, retold.clone());
        assert_eq!(transcript.turns(), [TranscriptTurn::Unit(retold)]);
    }

    #[test]
    fn a_unit_closes_only_when_every_call_is_answered_once() {
        let mut open = OpenUnit::new(AssistantMessage { parts: vec![], calls: vec![call(0), call(1)] });
        assert_eq!(open.add_result(result(7)), Err(AnswerError::NoSuchCall(CallId { step: 1, index: 7 })));
        open.add_result(result(1)).expect("the second call is open");
        assert_eq!(
            open.add_result(result(1)),
            Err(AnswerError::AlreadyAnswered(CallId { step: 1, index: 1 }))
        );
        let mut open = open.close().expect_err("the first call is open");
        open.add_result(result(0)).expect("the first call is open");
        let unit = open.close().expect("all calls are answered");
        assert_eq!(unit.results().iter().map(|r| r.call.index).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_stored_unit_with_an_orphan_is_refused() {
        let whole = serde_json::json!({"message": {"calls": [call(0)]}, "results": [result(0)]});
        assert!(serde_json::from_value::<AssistantUnit>(whole).is_ok());
        let orphaned_call = serde_json::json!({"message": {"calls": [call(0)]}});
        let error =
            serde_json::from_value::<AssistantUnit>(orphaned_call).expect_err("the call has no result");
        assert_eq!(error.to_string(), "call_1_0 has no result");
        let orphaned_result = serde_json::json!({"message": {}, "results": [result(0)]});
        assert!(serde_json::from_value::<AssistantUnit>(orphaned_result).is_err());
    }
}
