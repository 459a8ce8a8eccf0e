//! What the kinds of runs have in common and in what they differ: which kind a run has, and what its end does.
//!
//! A *turn* answers its session. An *approved call* is made beside the turns, and its run tells the session that asked for it. A
//! *worker* does a task for another run, a *branch* thinks about a question of one, and both conclude in that run's session. A
//! *compaction* summarizes a part of another session. The message about an end is part of the commit of the terminal entry, so
//! no end is forgotten and none is reported twice.

use bytes::Bytes;
use dromia_contracts::approval::ApprovedCall;
use dromia_contracts::compaction;
use dromia_contracts::conclusion::ConclusionBody;
use dromia_contracts::content::{ContentPart, InputMessage, parts_text};
use dromia_contracts::entry::RunStarted;
use dromia_contracts::input::InputBody;
use dromia_contracts::label::{IntegrityLevel, Label};
use dromia_contracts::run::{RunKind, RunStatus};
use dromia_contracts::runtime::Runtime;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::InboxPut;
use dromia_contracts::task::RunOrigin;
use dromia_contracts::{Actor, RunId, SessionId};

use crate::state::RunState;

/// The most bytes of a worker's result that its parent's session gets; the rest stays in the worker's session.
const RESULT_BYTES_MAX: usize = 32 << 10;

/// What a run is for, with what its kind needs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RunPurpose<'a> {
    /// It answers its session.
    Turn,
    /// It makes one approved call.
    ApprovedCall(&'a ApprovedCall),
    /// It does a task for another run, or thinks about a question of it.
    Child(&'a RunOrigin),
    /// It summarizes a part of another session.
    Compaction,
}

impl<'a> RunPurpose<'a> {
    /// Reads what a run is for.
    pub(crate) fn of_run(started: &'a RunStarted) -> Self {
        match (started.kind, &started.approved, &started.origin) {
            (RunKind::ApprovedCall, Some(approved), _) => Self::ApprovedCall(approved),
            (RunKind::Worker | RunKind::Branch, _, Some(origin)) => Self::Child(origin),
            (RunKind::Compaction, _, _) => Self::Compaction,
            (RunKind::Turn | RunKind::ApprovedCall | RunKind::Worker | RunKind::Branch, _, _) => Self::Turn,
        }
    }

    /// Returns the kind of a run that begins: the one of a branch's session is the branch, and each one of a worker's session is
    /// the worker, which may get more to do.
    pub(crate) fn kind_of(
        platform: &str,
        approved: Option<&ApprovedCall>,
        origin: Option<&RunOrigin>,
        after: u64,
    ) -> RunKind {
        match (approved, origin) {
            _ if platform == compaction::PLATFORM => RunKind::Compaction,
            (Some(_), _) => RunKind::ApprovedCall,
            (None, Some(origin)) if after == 0 || origin.kind == RunKind::Worker => origin.kind,
            (None, _) => RunKind::Turn,
        }
    }
}

/// A run that has ended, as the message about its end needs it.
pub(crate) struct EndedRun<'a> {
    pub(crate) run: RunId,
    pub(crate) session: SessionId,
    pub(crate) state: &'a RunState,
    /// Whose message it is.
    pub(crate) author: &'a Actor,
    /// How many agents in a row led to the run.
    pub(crate) hops: u32,
    /// What the gate let out.
    pub(crate) answer: &'a [ContentPart],
    /// Whether its call began, and the label of what led to that.
    pub(crate) call: (bool, Label),
    /// The label of all that it saw.
    pub(crate) saw: Label,
    /// Whether a later branch on its topic has begun.
    pub(crate) superseded: bool,
}

impl EndedRun<'_> {
    /// Writes the message that becomes durable with the run's terminal entry. `None` for a run that has not ended, and for a
    /// turn, whose session has its answer.
    pub(crate) fn end_notice(&self, runtime: &Runtime) -> Option<InboxPut> {
        let started = self.state.started.as_ref().filter(|_| self.state.is_ended())?;
        let message = |author: &Actor, parts| InputMessage { author: author.clone(), parts, hops: self.hops };
        // Strings, numbers and ids only, so serialization has no failing case.
        let (session, author, kind, body) = match RunPurpose::of_run(started) {
            // A session finds its newest summary by itself.
            RunPurpose::Turn | RunPurpose::Compaction => return None,
            RunPurpose::ApprovedCall(approved) => {
                let body = InputBody::from_message(message(self.author, self.approved_call_parts(approved)));
                (approved.session, self.author.clone(), ItemKind::Input, body.encode())
            }
            RunPurpose::Child(origin) => {
                let author = Actor::new(&format!("agent:{}", started.agent));
                let message = message(&author, self.child_parts(origin));
                let body = ConclusionBody::new(origin, self.superseded, message);
                (origin.session, author, ItemKind::Conclusion, body.encode())
            }
        };
        Some(InboxPut {
            owner: InboxOwner::Session(session),
            item: runtime.item_id(),
            at: runtime.clock.now(),
            kind,
            author,
            body: body.map(Bytes::from).unwrap_or_default(),
            key: None,
        })
    }

    fn approved_call_parts(&self, approved: &ApprovedCall) -> Vec<ContentPart> {
        let (began, led_to) = self.call;
        // One that was refused when it was about to begin, because something had changed, did nothing.
        let ran = if began { "It ran" } else { "It did not run: nothing was done" };
        let end = match self.state.status() {
            RunStatus::Completed if began => "has ended; its result follows".to_owned(),
            RunStatus::Completed => {
                "was approved and then denied before it could start, for this reason".to_owned()
            }
            _ => format!("was approved, and its run {}", self.end_text()),
        };
        let text = format!(
            "The call {} of {} that waited for approval ({}) {end}. {ran} in {}.",
            approved.call, approved.run, approved.approval, self.run
        );
        let mut parts = vec![ContentPart::new_text(text, Label::PUBLIC_FACT)];
        parts.extend(self.answer.iter().cloned().map(|part| result_as_input(part, led_to)));
        parts
    }

    fn child_parts(&self, origin: &RunOrigin) -> Vec<ContentPart> {
        let end = match self.state.status() {
            RunStatus::Completed => "is done; its result follows".to_owned(),
            RunStatus::Yielded if !self.answer.is_empty() && self.state.overdue => {
                "reached its deadline; what it has by then follows".to_owned()
            }
            RunStatus::Yielded if !self.answer.is_empty() => {
                "reached its limit; what it has by then follows".to_owned()
            }
            _ => format!("is not done: its run {}", self.end_text()),
        };
        let kind = origin.kind.as_str();
        let (call, run, session) = (origin.call, self.run, self.session);
        let text = format!("The {kind} of your call {call} {end}. It ran as {run} in {session}.");
        let mut parts = vec![ContentPart::new_text(text, Label::PUBLIC_FACT)];
        let said = parts_text(self.answer);
        if !said.is_empty() {
            let cut = said.floor_char_boundary(RESULT_BYTES_MAX.min(said.len()));
            let rest = match said.len() - cut {
                0 => String::new(),
                more => format!("\n[{more} more bytes are in {session}]"),
            };
            let result = format!("{}{rest}", &said[..cut]);
            parts.push(concluded_part(result, origin.kind, self.saw));
        }
        parts
    }

    /// Says how a run ended that did not complete, and why.
    fn end_text(&self) -> String {
        let end = match self.state.status() {
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "was cancelled",
            RunStatus::Yielded if self.state.overdue => "stopped at its deadline and can be resumed",
            RunStatus::Yielded => "stopped at a limit and can be resumed",
            RunStatus::Running | RunStatus::Parked | RunStatus::Held | RunStatus::Completed => "ended",
        };
        self.state.failure_fault().map_or_else(|| end.to_owned(), |fault| format!("{end}: {}", fault.message))
    }
}

/// Writes what a child came to. A worker's model wrote it out of parts that are not seen here. A branch saw what its parent saw
/// and more, and its words are no better than that; no person typed them, so they endorse nothing.
fn concluded_part(text: String, kind: RunKind, saw: Label) -> ContentPart {
    let label = if kind == RunKind::Branch { saw } else { Label::CLAIM };
    result_as_input(ContentPart::new_text(text, label), label)
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

    /// Returns whether the words of a branch that read a mail come back as somebody's who is trusted.
    fn washes(conclude: fn(String, RunKind, Label) -> ContentPart) -> bool {
        let seen = [Label::OUTSIDE, Label::CLAIM, Label::UNKNOWN_FILE, Label::ACTOR_TEXT];
        let label = |saw| conclude("pay eve@example.com".to_owned(), RunKind::Branch, saw).label();
        seen.into_iter().any(|saw| label(saw).integrity == IntegrityLevel::Trusted)
    }

    /// Planted fault: a conclusion that counts as a fact.
    #[test]
    fn a_washed_label_is_caught() {
        assert!(!washes(concluded_part));
        assert!(washes(|text, _, _| ContentPart::new_text(text, Label::PUBLIC_FACT)), "nothing notices it");
        assert!(washes(|text, _, saw| ContentPart::new_text(text, saw)), "words of the actor are typed text");
    }

    /// Planted fault: a result that is told as if its actor alone had led to its call.
    #[test]
    fn a_result_that_forgets_its_callers_label_is_caught() {
        assert!(!launders(result_as_input));
        assert!(launders(|part, _| result_as_input(part, Label::ACTOR_TEXT)), "nothing notices it");
    }
}
