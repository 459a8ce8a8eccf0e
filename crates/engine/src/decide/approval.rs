//! What becomes of a call that a person must allow: it is asked for, the run rests for a while, and it begins, is refused,
//! or waits on without the run. A delayed call is one that time allows too; it goes the same way, and needs nobody.
//!
//! One approval is one start. A call that began under one and has no result is never begun again, whatever its effect
//! class: what was approved may have happened.

use dromia_contracts::CallId;
use dromia_contracts::Digest;
use dromia_contracts::approval::{ARGUMENTS_BYTES_MAX, Approval, ApprovalState, WAITING_MAX};
use dromia_contracts::content::{CallStatus, Part};
use dromia_contracts::label::Label;
use jiff::Timestamp;

use super::call::Refusing;
use super::outside::UNKNOWN_TEXT;
use super::{Asks, Draft, Next};
use crate::state::Progress;

/// The rule that refuses a call that is not the one which was approved.
pub(super) const MISMATCH: &str = "approval-mismatch";

/// The rule that refuses a call which somebody refused.
pub(super) const REFUSED: &str = "approval-denied";

/// The rule that refuses to ask for more than a run may leave waiting, or for the same again.
pub(super) const TOO_MANY: &str = "approval-waiting";

/// The rule that leaves no call to time where too much in a row happened without a person.
pub(super) const CHAINED: &str = "delay-hops";

/// The rule that refuses a call whose program nobody can hold to the files that it could execute.
pub(crate) const UNHELD: &str = "approval-files";

/// The rule that refuses a call of a tenant of which as many wait for people as may.
pub(crate) const FULL: &str = "approvals-full";

impl Draft {
    /// Begins a call that was approved, or asks for it.
    pub(super) fn asks(&mut self, call: CallId, tool: String, before: &Progress, asks: Asks) -> Next {
        let Asks { call: prepared, approval, changed, policy, attended, chained } = asks;
        if let Progress::Started { .. } = before {
            self.finish(call, CallStatus::Unknown, vec![Part::text(UNKNOWN_TEXT, Label::PUBLIC_FACT)]);
            return self.go_on();
        }
        if let Some(next) = self.wait_on(before, approval.binding) {
            return next;
        }
        let ahead = self.state.asked_ahead(call);
        let is_delayed = approval.cools_until.is_some();
        let asking = format!("{} {}", if is_delayed { "delay" } else { "ask" }, approval.rule);
        match self.state.approved(call) {
            Some((known, binding)) if binding == approval.binding => {
                return self.start(call, prepared, 1, format!("approval {known} of {asking}"), policy);
            }
            // It was approved before its turn, and what came before it made it another: it is asked for anew.
            Some(_) if ahead.is_some() => {}
            Some(_) => {
                let changed = if changed.is_empty() {
                    "the call, the tool, where it leads, who asks, or what the policy says has changed since"
                        .to_owned()
                } else {
                    format!("changed since: {}", changed.join("; "))
                };
                let text = format!(
                    "What was approved is not what would happen now: {changed}. Nothing was done. Ask for it again if it is \
                     still wanted."
                );
                return self.refuse(call, tool, CallStatus::Denied, Refusing::by(MISMATCH), &text);
            }
            None => {}
        }
        // What is longer than anybody is shown is not kept either: it is refused below.
        if !attended && !is_delayed && approval.arguments.len() <= ARGUMENTS_BYTES_MAX {
            let text = format!(
                "This needs a person's approval ({}), and nobody attends this session, so it is refused; nothing was \
                 done. Trying again will not help.",
                approval.reason
            );
            let by = if ahead.is_some() {
                // It is listed already, and taken back with its call.
                Refusing::of(asking, policy, None)
            } else {
                let by = Refusing::of(asking, policy, Some(approval.id));
                self.asks.push(Approval { state: ApprovalState::Denied, ..approval });
                by
            };
            return self.refuse(call, tool, CallStatus::Denied, by, &text);
        }
        if is_delayed && chained {
            let text = "Too many messages between agents and calls that were put off led here without a person, so this \
                        call is not put off but refused; nothing was done. Say in your answer what should happen: the \
                        next word from outside begins anew.";
            return self.refuse(call, tool, CallStatus::Denied, Refusing::by(CHAINED), text);
        }
        let too_long = (approval.arguments.len() > ARGUMENTS_BYTES_MAX).then_some(
            "The arguments are too long to be shown to a person; nothing was done. Send less at a time.",
        );
        if let Some(text) = self.crowded(approval.action).or(too_long) {
            return self.refuse(call, tool, CallStatus::Denied, Refusing::by(TOO_MANY), text);
        }
        self.park(approval, ahead);
        self.look_ahead(call)
    }

    /// Says why a run may not leave one more call waiting, if that is so.
    fn crowded(&self, action: Digest) -> Option<&'static str> {
        if self.state.awaiting.contains(&action) {
            Some("This very call waits already; nothing was done. You are told what becomes of it.")
        } else if self.state.awaiting.len() >= WAITING_MAX {
            Some("Too many calls of this run wait already; nothing was done. Go on without it.")
        } else {
            None
        }
    }

    /// Goes on from a call that was asked for.
    pub(super) fn held(
        &mut self,
        call: CallId,
        until: Timestamp,
        cools_until: Option<Timestamp>,
        answer: Option<bool>,
    ) -> Next {
        let tool = self.state.next_call().map_or_else(String::new, |(_, known)| known.tool.clone());
        match answer {
            Some(true) => Next::Judge(call),
            Some(false) => {
                self.push_refused_by_person(call, "");
                self.go_on()
            }
            None if self.at >= until => {
                // Of calls that were asked for together, some may have taken the room meanwhile.
                let action = self.state.held_action(call);
                if let Some(text) = action.and_then(|action| self.crowded(action)) {
                    return self.refuse(call, tool, CallStatus::Denied, Refusing::by(TOO_MANY), text);
                }
                let approval = self.state.approval(call).map(|id| format!(" ({id})")).unwrap_or_default();
                let text = match cools_until {
                    None => format!(
                        "This call waits for a person's approval{approval}; nothing was done so far. If it is approved it \
                         runs by itself, and you are told here how it ended. Do not ask for it again: go on with something \
                         else, or say what you wait for."
                    ),
                    Some(cools_until) => format!(
                        "This call is put off{approval}; nothing was done so far. Unless a person refuses it, it runs by \
                         itself at {cools_until}, and you are told here how it ended. Do not ask for it again: go on with \
                         something else, or say what was put off."
                    ),
                };
                self.refuse(call, tool, CallStatus::Awaiting, Refusing::default(), &text)
            }
            None => Next::Rest,
        }
    }

    /// Closes a call that a person refused.
    pub(super) fn push_refused_by_person(&mut self, call: CallId, words: &str) {
        let known = self.state.held().find(|(held, _)| *held == call);
        let tool = known.map_or_else(String::new, |(_, known)| known.tool.clone());
        let text = if words.is_empty() {
            "A person refused this call; nothing was done. Do not ask for it again.".to_owned()
        } else {
            format!("A person refused this call: {words}. Nothing was done. Do not ask for it again.")
        };
        self.push_refusal(call, tool, CallStatus::Denied, Refusing::by(REFUSED), &text);
    }
}
