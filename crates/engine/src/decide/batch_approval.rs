//! Batch approval requests: if a run rests for one call of a step, the approvals of the later calls that need a person
//! are requested with it, so that the person sees them together and once.
//!
//! No call begins by it. Each call is judged again in its turn, by the rules of that time: a call with the same binding
//! goes on waiting, or begins if it was allowed; a changed call gets a new approval request, and a call that needs no
//! person any more begins; in both cases the earlier approval is withdrawn. Calls that need a second opinion or a delay
//! are left to their turn.

use dromia_contracts::approval::{ApprovalDeadlines, ApprovalRequest, CallSource, JudgedCall, WAITING_MAX};
use dromia_contracts::entry::{Entry, ParkReason, RunParked};
use dromia_contracts::{ApprovalId, CallId, Digest};

use super::{DecisionDraft, NextAction, RequiredApproval};
use crate::state::{CallStage, CallState, RestReason, RunState};

impl DecisionDraft {
    /// Requests the approval of a call before its turn, if it may, and continues with the next call.
    pub(super) fn judged_ahead(&mut self, call: CallId, asks: Option<RequiredApproval>) -> NextAction {
        if !self.state.rests_for_approval() {
            return self.go_on();
        }
        if let Some(asks) = asks
            && may_ask_ahead(&self.state, call, &asks)
        {
            self.park_for_approval(asks.approval, None);
        }
        self.look_ahead(call)
    }

    /// Rests for a call's approval, and withdraws an earlier request for it.
    pub(super) fn park_for_approval(&mut self, approval: ApprovalRequest, replaces: Option<ApprovalId>) {
        let ApprovalRequest {
            id,
            source: CallSource { call, .. },
            judged: JudgedCall { action, binding, .. },
            deadlines: ApprovalDeadlines { holds_until: until, cools_until, .. },
            ..
        } = approval;
        let park = ParkReason::Approval { approval: id, call, action, binding, until, cools_until, replaces };
        self.push_entry(Entry::RunParked(RunParked { park }));
        self.asks.push(approval);
    }

    /// Goes on waiting for a call whose approval was requested before its turn and whose binding is unchanged;
    /// otherwise `None`.
    pub(super) fn wait_on(&mut self, before: &CallStage, now: Digest) -> Option<NextAction> {
        let CallStage::Held { approval, action, binding, until, cools_until, answer: None, ahead: true } =
            *before
        else {
            return None;
        };
        let (call, _) = self.state.next_call().filter(|_| binding == now)?;
        let park =
            ParkReason::Approval { approval, call, action, binding, until, cools_until, replaces: None };
        self.push_entry(Entry::RunParked(RunParked { park }));
        Some(self.look_ahead(call))
    }

    /// Finds the call behind this one that may be asked for together with what the run rests for; without one, or if no
    /// more may wait, the run rests and judges none in vain.
    pub(super) fn look_ahead(&self, call: CallId) -> NextAction {
        match self.state.rest {
            // A run whose approval wait is over waits for no further call.
            Some(RestReason::Parked(ParkReason::Approval { until, .. }))
                if until > self.at && has_room(&self.state) =>
            {
                self.state.waiting_after(call).map_or(NextAction::Rest, NextAction::JudgeAhead)
            }
            _ => NextAction::Rest,
        }
    }

    /// Continues after a signal was taken. It does not check whether the wait has expired: a later item in the inbox
    /// may be the answer.
    pub(super) fn go_on_in_time(&mut self) -> NextAction {
        let rests =
            |known: &CallState| matches!(known.progress, CallStage::Held { answer: None, ahead: false, .. });
        match self.state.next_call() {
            Some((_, known)) if rests(known) => NextAction::Rest,
            _ => self.go_on(),
        }
    }
}

/// Returns whether one more call may wait. Without any answer all of them stay waiting.
fn has_room(state: &RunState) -> bool {
    state.awaiting.len() + state.held_calls().count() < WAITING_MAX
}

/// Tells whether a call may be asked for before its turn. Another call is judged in its turn, and the model gets
/// the reason then.
fn may_ask_ahead(state: &RunState, call: CallId, asks: &RequiredApproval) -> bool {
    let RequiredApproval { approval, attended, .. } = asks;
    let of_action = |known: &CallStage| matches!(known, CallStage::Held { action, .. } if *action == approval.judged.action);
    let is_known = state.held_calls().any(|(held, known)| held == call || of_action(&known.progress))
        || state.awaiting.contains(&approval.judged.action)
        || state.unknown_actions.contains(&approval.judged.action);
    *attended && approval.deadlines.cools_until.is_none() && !is_known
}
