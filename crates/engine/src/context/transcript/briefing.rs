//! The briefing in a transcript: what the runtime says before the newest input, in the requests of one run alone.

use dromia_contracts::content::ContentPart;
use dromia_contracts::label::Label;

use super::ConversationTranscript;

impl ConversationTranscript {
    /// Puts the briefing before what the newest input says.
    pub(crate) fn insert_briefing(&mut self) {
        if let (Some(at), Some(text)) = (briefed_turn(self), &self.briefing) {
            let part = ContentPart::new_text(text.to_string(), Label::PUBLIC_FACT);
            self.transcript.add_first_part(at, part);
        }
    }

    /// Takes it out again: it is no part of the conversation.
    pub(crate) fn remove_briefing(&mut self) {
        if let Some(at) = briefed_turn(self).filter(|_| self.briefing.is_some()) {
            self.transcript.remove_first_part(at);
        }
    }
}

/// Returns the turn of the newest input that the run began with; `None` if that has no words.
fn briefed_turn(story: &ConversationTranscript) -> Option<usize> {
    let at = story.own_from.checked_sub(1)?;
    (story.positions.at_turn(at)? == story.positions.newest).then_some(at)
}
