//! A summary as a request shows it, in the place of the oldest part of its session.

use dromia_contracts::RunId;
use dromia_contracts::compaction::{CompactionRange, SummarySection};
use dromia_contracts::content::ContentPart;
use dromia_contracts::label::Label;
use dromia_contracts::redacted_history::READ;

/// What takes the place of the oldest part of a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConversationSummary {
    run: RunId,
    sections: Vec<SummarySection>,
    kept: Vec<ContentPart>,
}

impl ConversationSummary {
    /// Puts together what a compaction run read of itself and what it answered.
    pub(crate) fn new(run: RunId, range: CompactionRange, answer: Vec<ContentPart>) -> Self {
        let CompactionRange { from, upto, mut earlier, kept, .. } = range;
        earlier.push(SummarySection { from, upto, run, parts: answer });
        Self { run, sections: earlier, kept }
    }

    /// The run that wrote it.
    pub(crate) fn run(&self) -> RunId {
        self.run
    }

    /// The position of the last item whose place it takes.
    pub(crate) fn upto(&self) -> u64 {
        self.sections.last().map_or(0, |section| section.upto)
    }

    /// The summaries that it is made of, oldest first.
    pub(crate) fn sections(&self) -> &[SummarySection] {
        &self.sections
    }

    /// Writes it as a request shows it.
    pub(crate) fn request_parts(&self) -> Vec<ContentPart> {
        let fact = |text: String| ContentPart::new_text(text, Label::PUBLIC_FACT);
        let from = self.sections.first().map_or(1, |section| section.from);
        let mut parts = vec![fact(format!(
            "[Summary of inputs {from} to {} of this conversation, which are not repeated. {READ} reads the words themselves: \
             handle 7 is input 7, 7/step_1 what you said first about it, 7/call_1_0 the result of your first call.]",
            self.upto()
        ))];
        for section in &self.sections {
            if self.sections.len() > 1 {
                parts.push(fact(format!("[Inputs {} to {}:]", section.from, section.upto)));
            }
            parts.extend(section.parts.iter().cloned());
        }
        if !self.kept.is_empty() {
            parts.push(fact("[Word for word from the end of that part:]".to_owned()));
            parts.extend(self.kept.iter().cloned());
        }
        parts
    }

    /// Returns about how many bytes it takes in memory.
    pub(crate) fn held_bytes(&self) -> u64 {
        let parts = self.sections.iter().flat_map(|section| &section.parts).chain(&self.kept);
        parts.map(|part| 64 + part.byte_count() as u64).sum()
    }
}
