//! How trusted a conversation is: the joined labels of what it holds, which steps saw untrusted content, and which
//! content of earlier turns is behind handles.

use std::collections::BTreeSet;
use std::sync::Arc;

use dromia_contracts::CallId;
use dromia_contracts::content::{AssistantMessage, ContentPart};
use dromia_contracts::encoded_request::TaintedPast;
use dromia_contracts::label::{IntegrityLevel, Label, ReaderSet};
use dromia_contracts::redacted_history::RedactedHistory;

/// Where a unit comes from, and what led to it.
#[derive(Debug, Clone)]
pub(in crate::context) struct UnitOrigin {
    /// The position of the last item that its run took.
    pub(in crate::context) place: u64,
    /// Its step.
    pub(in crate::context) step: u32,
    /// The label of the model's request for it, or of the manual call's input.
    pub(in crate::context) said: Label,
    /// Its calls whose tools exist: they began, or their client has them. The name of another one may be any text.
    pub(in crate::context) vouched: Vec<CallId>,
}

/// A unit of a turn that has not ended.
#[derive(Debug, Clone)]
pub(in crate::context) struct CurrentUnit {
    pub(in crate::context) at: usize,
    pub(in crate::context) origin: UnitOrigin,
}

impl CurrentUnit {
    /// Returns its place among the turns of the transcript.
    pub(in crate::context) fn turn_index(&self) -> usize {
        self.at
    }
}

/// A tool whose result is in the transcript.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ToolSource {
    /// Its name, as the model wrote it.
    pub(crate) tool: String,
    /// Whether only its actor may read the result, or a secret of the vault opened it.
    pub(crate) is_personal: bool,
}

/// The labels of a conversation. They only rise, until earlier turns are replaced by handles.
#[derive(Debug, Clone)]
pub(crate) struct TaintTracker {
    /// The join of the labels of everything in the transcript.
    pub(crate) label: Label,
    /// The join of the labels of the content that no handle will replace.
    pub(in crate::context) stays: Label,
    /// The label of a manual call's context.
    pub(crate) by_hand: Label,
    /// The last step of the newest run whose request held trusted text only.
    pub(in crate::context) clean_to: u32,
    /// Whether a later step of that run held something else, so that nothing more is planned.
    pub(in crate::context) closed: bool,
    /// How untrusted content of earlier turns is included.
    pub(in crate::context) tainted_past: TaintedPast,
    /// The content behind the handles in it.
    pub(crate) past: Arc<RedactedHistory>,
    /// The units of turns that have not ended.
    pub(in crate::context) fresh: Vec<CurrentUnit>,
    /// Where the newest unit comes from.
    pub(in crate::context) origin: UnitOrigin,
    /// The sources of tool results from earlier turns that are still included, up to the given turn of the transcript.
    pub(in crate::context) before: (BTreeSet<ToolSource>, usize),
}

impl TaintTracker {
    /// Begins with nothing that is untrusted.
    pub(in crate::context) fn new(tainted_past: TaintedPast) -> Self {
        Self {
            label: Label { integrity: IntegrityLevel::Trusted, readers: ReaderSet::Public },
            stays: Label::PUBLIC_FACT,
            by_hand: Label::ACTOR_TEXT,
            clean_to: 0,
            closed: false,
            tainted_past,
            past: Arc::default(),
            fresh: Vec::new(),
            origin: UnitOrigin { place: 0, step: 0, said: Label::PUBLIC_FACT, vouched: Vec::new() },
            before: (BTreeSet::new(), 0),
        }
    }

    /// Returns whether the plan is frozen, because untrusted content came to the turn.
    pub(crate) fn is_frozen(&self) -> bool {
        self.closed || self.label.integrity == IntegrityLevel::Untrusted
    }

    /// Returns whether the request of the newest step held untrusted content.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns whether a call of the newest run is from a clean step.
    pub(crate) fn is_clean(&self, call: CallId) -> bool {
        call.step <= self.clean_to
    }

    /// Returns the label of a model message's context: its text has the label of the whole request. A message without
    /// text has no such label; its entry says whether the context was trusted, and an entry older than plans does not.
    pub(in crate::context) fn led_to(&self, message: &AssistantMessage, clean: bool) -> Label {
        match &message.parts[..] {
            [] if clean => Label { integrity: IntegrityLevel::Trusted, ..self.label },
            [] => Label { integrity: IntegrityLevel::Untrusted, ..self.label },
            parts => join_of(parts),
        }
    }

    /// Begins a unit of the newest run.
    pub(in crate::context) fn begin_unit(&mut self, place: u64, step: u32, said: Label) {
        self.origin = UnitOrigin { place, step, said, vouched: Vec::new() };
    }

    /// Joins the labels of parts.
    pub(in crate::context) fn join_labels(&mut self, parts: &[ContentPart]) {
        self.label = parts.iter().fold(self.label, |label, part| label.join(part.label()));
    }

    /// Joins the labels of parts that every later turn includes unchanged.
    pub(in crate::context) fn join_for_good(&mut self, parts: &[ContentPart]) {
        self.join_labels(parts);
        self.stays = parts.iter().fold(self.stays, |label, part| label.join(part.label()));
    }
}

/// The join of the labels of parts.
pub(crate) fn join_of(parts: &[ContentPart]) -> Label {
    let nothing = Label::PUBLIC_FACT;
    parts.iter().fold(nothing, |label, part| label.join(part.label()))
}
