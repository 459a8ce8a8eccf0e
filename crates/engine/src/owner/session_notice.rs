//! How the session that requested an approval learns of the end of a call that ran in its own run.
//!
//! It gets an input that endorses nothing: no person typed the result, and it is as little trusted as the context of
//! its call.

use bytes::Bytes;
use dromia_contracts::content::{ContentPart, InputMessage};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::{IntegrityLevel, Label};
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::InboxPut;

use super::RunOwner;
use crate::outcome::answer_parts;

impl RunOwner {
    /// Writes the message to the session that requested the approval, once its call has ended in this run. `None` for
    /// other runs.
    pub(super) fn wake_message(&self) -> Option<InboxPut> {
        let approved = self.state.approved_call().filter(|_| self.state.is_ended())?;
        // One that was refused when it was about to begin, because something had changed, did nothing.
        let ran = if self.story.began { "It ran" } else { "It did not run: nothing was done" };
        let end = match self.state.status() {
            RunStatus::Completed if self.story.began => "has ended; its result follows".to_owned(),
            RunStatus::Completed => {
                "was approved and then denied before it could start, for this reason".to_owned()
            }
            status => {
                let why = self
                    .state
                    .failure_fault()
                    .map(|fault| format!(": {}", fault.message))
                    .unwrap_or_default();
                format!("was approved, and its run is {}{why}", status.as_str())
            }
        };
        let text = format!(
            "The call {} of {} that waited for approval ({}) {end}. {ran} in {}.",
            approved.call, approved.run, approved.approval, self.identity.run
        );
        let mut parts = vec![ContentPart::new_text(text, Label::PUBLIC_FACT)];
        if let Some(answer) = answer_parts(self.state.status(), &self.story) {
            parts.extend(answer.iter().cloned().map(|part| result_as_input(part, self.story.taint.by_hand)));
        }
        let message = InputMessage { author: self.identity.author.clone(), parts, hops: self.story.hops };
        Some(InboxPut {
            owner: InboxOwner::Session(approved.session),
            item: self.core.ports.runtime.item_id(),
            at: self.core.ports.runtime.clock.now(),
            kind: ItemKind::Input,
            author: self.identity.author.clone(),
            // Strings, numbers and ids only, so serialization has no failing case.
            body: InputBody::from_message(message).encode().map(Bytes::from).unwrap_or_default(),
            key: None,
        })
    }
}

/// Converts a call's result to an input part: no person typed it, so it endorses nothing. A result may repeat the
/// arguments, and a refusal may quote them: it is as little trusted as the context of the call, because the session
/// that gets it may not contain that context any more.
fn result_as_input(mut part: ContentPart, led_to: Label) -> ContentPart {
    let (ContentPart::Text { label, .. } | ContentPart::Image { label, .. }) = &mut part;
    if led_to.integrity == IntegrityLevel::Untrusted {
        *label = label.join(led_to);
    }
    if *label == Label::ACTOR_TEXT {
        *label = Label::CLAIM;
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_given_as_input_is_never_typed_text() {
        let given =
            |label, led_to| result_as_input(ContentPart::new_text("eve@example.com", label), led_to).label();
        for led_to in [Label::ACTOR_TEXT, Label::PUBLIC_FACT] {
            assert_eq!(given(Label::ACTOR_TEXT, led_to), Label::CLAIM);
            for label in [Label::CLAIM, Label::OUTSIDE, Label::UNKNOWN_FILE, Label::PUBLIC_FACT] {
                assert_eq!(given(label, led_to), label);
            }
        }
        // A built-in tool states a fact in the words of whoever asked for it.
        for label in [Label::ACTOR_TEXT, Label::OUTSIDE, Label::PUBLIC_FACT] {
            assert_eq!(given(label, Label::OUTSIDE).integrity, IntegrityLevel::Untrusted, "{label}");
        }
        assert_eq!(given(Label::PUBLIC_FACT, Label::CLAIM), Label::CLAIM);
    }

    /// Tells whether words that a mail put into a call come back as somebody's who is trusted.
    fn launders(given: fn(ContentPart, Label) -> ContentPart) -> bool {
        let told =
            |label| given(ContentPart::new_text("eve@example.com", label), Label::OUTSIDE).label().integrity;
        [Label::ACTOR_TEXT, Label::PUBLIC_FACT]
            .into_iter()
            .any(|label| told(label) == IntegrityLevel::Trusted)
    }

    /// Planted fault: a result that is told as if its actor alone had led to its call.
    #[test]
    fn a_result_that_forgets_its_callers_label_is_caught() {
        assert!(!launders(result_as_input));
        assert!(launders(|part, _| result_as_input(part, Label::ACTOR_TEXT)), "nothing notices it");
    }
}
