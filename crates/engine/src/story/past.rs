//! How earlier turns are told: what came to them and nobody here vouches for, by handles.
//!
//! A turn ends where somebody says something new. What goes on with a turn, a resume or the results of a client's tools,
//! still sees all of it. In the units of ended turns these become handles, each a text of the runtime's own:
//!
//! - the result of a call, where its label is untrusted;
//! - what the model said and asked for in a step whose request held something untrusted: words and arguments that follow
//!   from a mail are as little trusted as the mail, and so is what its calls gave, which may repeat the arguments.
//!
//! What somebody put in (a message of another agent, a picture, a client's account of the past) is told whole, as it is what
//! the session is about. The model's words that come after such an input stay too: the request is untrusted with or
//! without them. So the label of a request is that of what stands in it, and nothing is told with a better label than
//! it had.
//!
//! What was withheld when it was said is told in no later turn, whatever its label: nobody heard it.
//!
//! A handle is a place in the session and within its run, `3/call_1_0` or `3/step_2`. It names no run and no session, so
//! an imported session has the same bytes, and no other session can be named by it.

use std::sync::Arc;

use dromia_contracts::CallId;
use dromia_contracts::content::{AssistantMessage, Part, ToolCall, ToolResult};
use dromia_contracts::label::{Integrity, Label};
use dromia_contracts::past;
use dromia_contracts::sent::TaintedPast;
use dromia_contracts::transcript::{Turn, Unit};

use super::Story;

/// Where a unit comes from, and what led to it.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The position of the last item that its run took.
    pub(super) place: u64,
    /// Its step.
    pub(super) step: u32,
    /// The label of what the model was sent for it, or of the words of whoever asked for the call by hand.
    pub(super) said: Label,
    /// Its calls whose tools there are: they began, or their client has them. The name of another one may be any text.
    pub(super) vouched: Vec<CallId>,
}

/// A unit of a turn that has not ended.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    at: usize,
    origin: Origin,
}

/// What a call's arguments are replaced with; providers take nothing but JSON back.
const NO_ARGUMENTS: &str = "{}";

/// What a call is named whose name nobody vouches for.
const UNNAMED: &str = "unknown";

impl Story {
    /// Tells whether something of it is told by handles.
    pub(crate) fn has_past(&self) -> bool {
        !self.past.is_empty()
    }

    /// Tells what led to a model's message: its words have the label of all that it was sent for them. A message without
    /// words does not say it; its entry says whether that was trusted, and one of before plans says nothing.
    pub(super) fn led_to(&self, message: &AssistantMessage, clean: bool) -> Label {
        match &message.parts[..] {
            [] if clean => Label { integrity: Integrity::Trusted, ..self.label },
            [] => Label { integrity: Integrity::Untrusted, ..self.label },
            parts => join_of(parts),
        }
    }

    /// Begins a unit of the newest run.
    pub(super) fn begin_unit(&mut self, step: u32, said: Label) {
        self.origin = Origin { place: self.place, step, said, vouched: Vec::new() };
    }

    /// Adds a whole unit of a run.
    pub(super) fn push_unit(&mut self, unit: Unit) {
        if let Some(withheld) = &self.withheld {
            self.unsaid.push((self.transcript.turns().len(), withheld.rule.clone()));
        }
        if self.tainted_past == TaintedPast::Handle {
            // All of a unit that waited for its client belongs to this turn again, what its other calls gave as well.
            self.label = self.label.join(label_of_unit(&unit)).join(self.origin.said);
            self.fresh.push(Fresh { at: self.transcript.turns().len(), origin: self.origin.clone() });
        }
        self.transcript.push_unit(unit);
    }

    /// Takes back what was said in runs of before and withheld: nobody heard it, so the conversation goes on without it, and
    /// the model is told so in its place.
    pub(super) fn take_back(&mut self) {
        for (at, rule) in std::mem::take(&mut self.unsaid) {
            let Some(Turn::Unit(unit)) = self.transcript.turns().get(at) else { continue };
            let parts = &unit.message().parts;
            if parts.is_empty() {
                continue;
            }
            let text = format!("[what you said here was refused by {rule} and told to nobody]");
            // The rule of a journal from elsewhere is trusted no more than the words that it refused.
            let notice = vec![Part::text(text, join_of(parts))];
            let call = |call: &ToolCall| (call.tool.clone(), call.arguments.clone());
            let retold = unit.retold(notice, call, |result| result.parts.clone());
            self.transcript.replace_unit(at, retold);
        }
    }

    /// Ends the turns of before, because somebody says something new.
    pub(super) fn end_turns(&mut self) {
        if self.tainted_past == TaintedPast::Whole {
            return;
        }
        for fresh in std::mem::take(&mut self.fresh) {
            self.tell_by_handles(&fresh);
        }
        self.label = self.stays;
    }

    fn tell_by_handles(&mut self, fresh: &Fresh) {
        let Some(Turn::Unit(unit)) = self.transcript.turns().get(fresh.at) else { return };
        let Origin { place, step, said, ref vouched } = fresh.origin;
        let hides_words = is_untrusted(said) && !is_untrusted(self.stays);
        let name = |call: CallId, tool: &str| {
            if vouched.contains(&call) { tool.to_owned() } else { UNNAMED.to_owned() }
        };
        let mut kept = Vec::new();
        let mut parts = unit.message().parts.clone();
        if hides_words {
            let handle = format!("{place}/step_{step}");
            let whole = words(unit.message(), said);
            parts = told(format!(
                "[{} bytes that you said and asked for here followed from untrusted content and are not repeated; \
                 {} tells them, handle {handle}]",
                bytes_of(&whole),
                past::READ,
            ));
            kept.push((handle, whole));
        }
        let label_of = |result: &ToolResult| {
            let own = join_of(&result.parts);
            if hides_words { own.join(said) } else { own }
        };
        for result in unit.results().iter().filter(|result| is_untrusted(label_of(result))) {
            kept.push((handle_of(place, result), narrowed(&result.parts, label_of(result))));
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
            told(format!(
                "[{} bytes that {} told in an earlier turn are untrusted and not repeated; {} tells them, handle {}]",
                bytes_of(&result.parts),
                name(result.call, call.map_or(UNNAMED, |call| call.tool.as_str())),
                past::READ,
                handle_of(place, result),
            ))
        };
        let retold = (!kept.is_empty()).then(|| unit.retold(parts, call, result));
        self.stays = self.stays.join(label_of_unit(retold.as_ref().unwrap_or(unit)));
        if !hides_words {
            // The arguments of its calls have no label of their own.
            self.stays = self.stays.join(said);
        }
        if let Some(unit) = retold {
            self.transcript.replace_unit(fresh.at, unit);
            let past = Arc::make_mut(&mut self.past);
            for (handle, parts) in kept {
                past.keep(handle, parts);
            }
        }
    }
}

fn is_untrusted(label: Label) -> bool {
    label.integrity == Integrity::Untrusted
}

fn handle_of(place: u64, result: &ToolResult) -> String {
    format!("{place}/{}", result.call)
}

/// The runtime's own words.
fn told(text: String) -> Vec<Part> {
    vec![Part::text(text, Label::PUBLIC_FACT)]
}

/// What the model said in a step, and after it what it asked for, a line for each call.
fn words(message: &AssistantMessage, said: Label) -> Vec<Part> {
    let mut parts = narrowed(&message.parts, said);
    let calls = message.calls.iter().map(|call| format!("[{} {} {}]", call.id, call.tool, call.arguments));
    parts.extend(calls.map(|text| Part::text(text, said)));
    parts
}

/// The same parts with labels that are joined with another.
fn narrowed(parts: &[Part], label: Label) -> Vec<Part> {
    let mut parts = parts.to_vec();
    for part in &mut parts {
        let (Part::Text { label: own, .. } | Part::Image { label: own, .. }) = part;
        *own = own.join(label);
    }
    parts
}

fn join_of(parts: &[Part]) -> Label {
    let nothing = Label::PUBLIC_FACT;
    parts.iter().fold(nothing, |label, part| label.join(part.label()))
}

fn label_of_unit(unit: &Unit) -> Label {
    let results = unit.results().iter().map(|result| join_of(&result.parts));
    results.fold(join_of(&unit.message().parts), Label::join)
}

fn bytes_of(parts: &[Part]) -> usize {
    let bytes = |part: &Part| match part {
        Part::Text { text, .. } => text.len(),
        Part::Image { data, .. } => data.len(),
    };
    parts.iter().map(bytes).sum()
}

#[cfg(test)]
mod tests;
