//! Branches in a transcript: how one begins behind its parent's transcript, and what the conclusions of children say.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::conclusion::ConclusionBody;
use dromia_contracts::content::ContentPart;
use dromia_contracts::encoded_request::TaintedPast;
use dromia_contracts::label::Label;
use dromia_contracts::session::InboxItem;

use super::{ConversationTranscript, StoryError};
use crate::context::client_tools::ClientToolState;
use crate::context::summary::ConversationSummary;

/// What comes before the first input of a session's transcript.
pub(crate) enum TranscriptStart {
    /// Nothing, or a summary in the place of the oldest inputs.
    Session(Option<Arc<ConversationSummary>>),
    /// The transcript of the run of which the session is a branch.
    Branch(Box<ConversationTranscript>),
}

impl TranscriptStart {
    pub(super) fn summary(&self) -> Option<&ConversationSummary> {
        match self {
            Self::Session(summary) => summary.as_deref(),
            Self::Branch(_) => None,
        }
    }
}

impl ConversationTranscript {
    /// Makes the beginning of a branch: what the parent was sent goes on as it is, with its label and its frozen plan. What only
    /// the parent's run is about stays behind. The branch's own positions follow those of the parent's session, so that a
    /// handle names one thing.
    pub(crate) fn into_branch(mut self, position: u64, tainted_past: TaintedPast) -> Self {
        self.taint.tainted_past = tainted_past;
        // The parent's requests say it, so the branch's say it, too.
        self.insert_briefing();
        self.briefing = None;
        (self.open, self.withheld, self.asked, self.workspace) = (None, None, None, None);
        self.reply.clear();
        self.masked.clear();
        // The parent sees these words until its turn ends, and so does the branch.
        self.unsaid.clear();
        self.repairs.clear();
        self.client = ClientToolState::default();
        // Its first input goes on with the parent's turn.
        (self.began, self.goes_on) = (false, false);
        self.positions.begin_branch(position);
        self
    }

    /// Adds a conclusion, which says how many inputs it does not know.
    pub(super) fn add_conclusion(&mut self, item: &InboxItem, body: &Bytes) -> Result<(), StoryError> {
        let body = ConclusionBody::decode(body)
            .map_err(|error| StoryError::Body { place: item.id.to_string(), problem: error.to_string() })?;
        let behind = self.positions.count_inputs_after(body.position);
        let mut message = body.message;
        let mut notes = String::new();
        if behind > 0 {
            let inputs = if behind == 1 { "input" } else { "inputs" };
            notes = format!("It began before the last {behind} {inputs} and knows nothing of them. ");
        }
        if body.superseded {
            notes += "A later branch on the same topic replaces it.";
        }
        if !notes.is_empty() {
            let note = ContentPart::new_text(format!("[{}]", notes.trim_end()), Label::PUBLIC_FACT);
            message.parts.insert(1.min(message.parts.len()), note);
        }
        self.add_input(message);
        Ok(())
    }
}
