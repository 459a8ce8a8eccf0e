//! What becomes of a call that a person must allow: its approval is requested, the run rests for a while, and the call
//! begins, is refused, or waits on without the run. A delayed call takes the same way, but time allows it without a
//! person.
//!
//! One approval is one start. A call that began under one and has no result is never begun again, whatever its effect
//! class: what was approved may have happened.

use dromia_contracts::approval::{ARGUMENTS_BYTES_MAX, ApprovalRequest, ApprovalState, WAITING_MAX};
use dromia_contracts::content::{CallStatus, ContentPart};
use dromia_contracts::label::Label;
use dromia_contracts::{CallId, Digest};
use jiff::Timestamp;

use super::call::RefusalSource;
use super::signals::UNKNOWN_TEXT;
use super::{DecisionDraft, NextAction, RequiredApproval};
use crate::state::{CallStage, RunState};

/// The rule that refuses a call that is not the one which was approved.
pub(super) const MISMATCH: &str = "approval-mismatch";

/// The rule that refuses a call which a person denied.
pub(super) const REFUSED: &str = "approval-denied";

/// The rule that refuses to ask for more than a run may leave waiting, or for the same again.
pub(super) const TOO_MANY: &str = "approval-waiting";

/// The rule that refuses a delayed call after too many consecutive steps without a person.
pub(super) const CHAINED: &str = "delay-hops";

/// The rule that refuses a call whose program cannot be bound to the files that it could execute.
pub(crate) const UNHELD: &str = "approval-files";

/// The rule that refuses a call because its tenant has the most approvals open that it may have.
pub(crate) const FULL: &str = "approvals-full";

/// Returns why a run may not leave one more call waiting, if it may not.
fn crowding_refusal(state: &RunState, action: Digest) -> Option<&'static str> {
    if state.awaiting.contains(&action) {
        Some("The identical call already waits; nothing was done. You will get its result.")
    } else if state.awaiting.len() >= WAITING_MAX {
        Some("Too many calls of this run already wait; nothing was done. Continue without it.")
    } else {
        None
    }
}

impl DecisionDraft {
    /// Begins a call that was approved, or asks for it.
    pub(super) fn begin_or_ask(
        &mut self,
        call: CallId,
        tool: String,
        before: &CallStage,
        asks: RequiredApproval,
    ) -> NextAction {
        let RequiredApproval { call: prepared, approval, changed, policy, attended, chained } = asks;
        if let CallStage::Started { .. } = before {
            self.finish_call(
                call,
                CallStatus::Unknown,
                vec![ContentPart::new_text(UNKNOWN_TEXT, Label::PUBLIC_FACT)],
            );
            return self.go_on();
        }
        if let Some(next) = self.wait_on(before, approval.judged.binding) {
            return next;
        }
        let ahead = self.state.asked_ahead(call);
        let is_delayed = approval.deadlines.cools_until.is_some();
        let asking = format!("{} {}", if is_delayed { "delay" } else { "ask" }, approval.rule);
        match self.state.granted_approval(call) {
            Some((known, binding)) if binding == approval.judged.binding => {
                return self.start_call(call, prepared, 1, format!("approval {known} of {asking}"), policy);
            }
            // It was approved before its turn and changed since: a new approval is requested.
            Some(_) if ahead.is_some() => {}
            Some(_) => {
                let changed = if changed.is_empty() {
                    "the call, the tool, its target, the author or the policy has changed since then"
                        .to_owned()
                } else {
                    format!("changed since: {}", changed.join("; "))
                };
                let text = format!(
                    "The call no longer matches its approval: {changed}. Nothing was done. Ask for it again if \
                     it is still wanted."
                );
                return self.refuse_call(
                    call,
                    tool,
                    CallStatus::Denied,
                    RefusalSource::by_rule(MISMATCH),
                    &text,
                );
            }
            None => {}
        }
        // Arguments longer than an approver may see are not stored either: the call is refused below.
        if !attended && !is_delayed && approval.judged.arguments.len() <= ARGUMENTS_BYTES_MAX {
            let text = format!(
                "This needs a person's approval ({}), and no person attends this session, so it is denied; \
                 nothing was done. Trying again will not help.",
                approval.reason
            );
            let by = if ahead.is_some() {
                // It is listed already, and withdrawn with its call.
                RefusalSource::by_approval_rule(asking, policy, None)
            } else {
                let by = RefusalSource::by_approval_rule(asking, policy, Some(approval.id));
                self.asks.push(ApprovalRequest { state: ApprovalState::Denied, ..approval });
                by
            };
            return self.refuse_call(call, tool, CallStatus::Denied, by, &text);
        }
        if is_delayed && chained {
            let text = "Too many messages between agents and delayed calls led here without a person, so this \
                        call is denied instead of delayed; nothing was done. Say in your answer what should \
                        happen: the next message from a person resets the count.";
            return self.refuse_call(call, tool, CallStatus::Denied, RefusalSource::by_rule(CHAINED), text);
        }
        let too_long = (approval.judged.arguments.len() > ARGUMENTS_BYTES_MAX).then_some(
            "The arguments are too long to show to a person; nothing was done. Send less at a time.",
        );
        if let Some(text) = crowding_refusal(&self.state, approval.judged.action).or(too_long) {
            return self.refuse_call(call, tool, CallStatus::Denied, RefusalSource::by_rule(TOO_MANY), text);
        }
        self.park_for_approval(approval, ahead);
        self.look_ahead(call)
    }

    /// Continues after a call's approval request.
    pub(super) fn resume_held_call(
        &mut self,
        call: CallId,
        until: Timestamp,
        cools_until: Option<Timestamp>,
        answer: Option<bool>,
    ) -> NextAction {
        let tool = self.state.next_call().map_or_else(String::new, |(_, known)| known.tool.clone());
        match answer {
            Some(true) => NextAction::Judge(call),
            Some(false) => {
                self.push_refused_by_person(call, "");
                self.go_on()
            }
            None if self.at >= until => {
                // Other calls of the same batch of requests may have reached the limit meanwhile.
                let action = self.state.held_action(call);
                if let Some(text) = action.and_then(|action| crowding_refusal(&self.state, action)) {
                    return self.refuse_call(
                        call,
                        tool,
                        CallStatus::Denied,
                        RefusalSource::by_rule(TOO_MANY),
                        text,
                    );
                }
                let approval =
                    self.state.call_approval(call).map(|id| format!(" ({id})")).unwrap_or_default();
                let text = match cools_until {
                    None => format!(
                        "This call waits for a person's approval{approval}; nothing was done so far. After the \
                         approval it runs by itself, and you will get its result here. Do not ask for it \
                         again: continue with something else, or say what you wait for."
                    ),
                    Some(cools_until) => format!(
                        "This call is delayed{approval}; nothing was done so far. Unless a person denies it, \
                         it runs by itself at {cools_until}, and you will get its result here. Do not ask for \
                         it again: continue with something else, or say what is delayed."
                    ),
                };
                self.refuse_call(call, tool, CallStatus::Awaiting, RefusalSource::default(), &text)
            }
            None => NextAction::Rest,
        }
    }

    /// Closes a call that a person refused.
    pub(super) fn push_refused_by_person(&mut self, call: CallId, words: &str) {
        let known = self.state.held_calls().find(|(held, _)| *held == call);
        let tool = known.map_or_else(String::new, |(_, known)| known.tool.clone());
        let text = if words.is_empty() {
            "A person denied this call; nothing was done. Do not ask for it again.".to_owned()
        } else {
            format!("A person denied this call: {words}. Nothing was done. Do not ask for it again.")
        };
        self.push_refusal(call, tool, CallStatus::Denied, RefusalSource::by_rule(REFUSED), &text);
    }
}
