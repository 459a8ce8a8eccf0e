//! How the session that asked hears of the end of a call that ran by itself.
//!
//! It is told as an input that endorses nothing: whatever a result is worth, nobody typed it, and it is as little trusted as
//! what led to its call.

use bytes::Bytes;
use dromia_contracts::content::{InputMessage, Part};
use dromia_contracts::label::{Integrity, Label};
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::InboxPut;

use crate::outcome::answer;
use crate::owner::Owner;

impl Owner {
    /// Writes what the session that asked is told, once a call that ran by itself has ended. Nothing for other runs.
    pub(in crate::owner) fn wake(&self) -> Option<InboxPut> {
        let approved = self.state.approved_call().filter(|_| self.state.is_ended())?;
        // One that was refused when it was about to begin, because something had changed, did nothing.
        let ran = if self.story.began { "It ran" } else { "It did not run: nothing was done" };
        let end = match self.state.status() {
            RunStatus::Completed if self.story.began => "has ended; its result follows".to_owned(),
            RunStatus::Completed => {
                "was approved and refused when it was about to begin; why follows".to_owned()
            }
            status => {
                let why = self.state.fault().map(|fault| format!(": {}", fault.message)).unwrap_or_default();
                format!("was approved, and its run is {}{why}", status.as_str())
            }
        };
        let text = format!(
            "The call {} of {} that waited for approval ({}) {end}. {ran} in {}.",
            approved.call, approved.run, approved.approval, self.run
        );
        let mut parts = vec![Part::text(text, Label::PUBLIC_FACT)];
        if let Some(answer) = answer(self.state.status(), &self.story) {
            parts.extend(answer.iter().cloned().map(|part| given(part, self.story.by_hand)));
        }
        let message = InputMessage { author: self.author.clone(), parts, hops: self.story.hops };
        Some(InboxPut {
            owner: InboxOwner::Session(approved.session),
            item: self.core.ports.runtime.item_id(),
            at: self.core.ports.runtime.clock.now(),
            kind: ItemKind::Input,
            author: self.author.clone(),
            // Strings, numbers and ids only, so serialization has no failing case.
            body: serde_json::to_vec(&message).map(Bytes::from).unwrap_or_default(),
            key: None,
        })
    }
}

/// What a call gave, told as an input: whatever it is worth, nobody typed it, and so it endorses nothing. A result may repeat
/// the arguments, and a refusal may quote them: it is as little trusted as what led to the call, because it is told to a
/// session that may not know of that any more.
fn given(mut part: Part, led_to: Label) -> Part {
    let (Part::Text { label, .. } | Part::Image { label, .. }) = &mut part;
    if led_to.integrity == Integrity::Untrusted {
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
    fn what_a_call_gave_is_nobodys_typed_text_when_it_is_told_as_an_input() {
        let given = |label, led_to| given(Part::text("eve@example.com", label), led_to).label();
        for led_to in [Label::ACTOR_TEXT, Label::PUBLIC_FACT] {
            assert_eq!(given(Label::ACTOR_TEXT, led_to), Label::CLAIM);
            for label in [Label::CLAIM, Label::OUTSIDE, Label::UNKNOWN_FILE, Label::PUBLIC_FACT] {
                assert_eq!(given(label, led_to), label);
            }
        }
        // A built-in tool states a fact in the words of whoever asked for it.
        for label in [Label::ACTOR_TEXT, Label::OUTSIDE, Label::PUBLIC_FACT] {
            assert_eq!(given(label, Label::OUTSIDE).integrity, Integrity::Untrusted, "{label}");
        }
        assert_eq!(given(Label::PUBLIC_FACT, Label::CLAIM), Label::CLAIM);
    }

    /// Tells whether words that a mail put into a call come back as somebody's who is trusted.
    fn launders(given: fn(Part, Label) -> Part) -> bool {
        let told = |label| given(Part::text("eve@example.com", label), Label::OUTSIDE).label().integrity;
        [Label::ACTOR_TEXT, Label::PUBLIC_FACT].into_iter().any(|label| told(label) == Integrity::Trusted)
    }

    /// Planted fault: a result that is told as if its actor alone had led to its call.
    #[test]
    fn a_result_that_forgets_what_led_to_its_call_is_caught() {
        assert!(!launders(given));
        assert!(launders(|part, _| given(part, Label::ACTOR_TEXT)), "nothing notices it");
    }
}
