//! Calls that are asked for before their turn: where a run rests for one call of a step, those behind it that need a person are
//! asked for with it, so that whoever answers sees them together and once.
//!
//! Nothing begins by it. Each call is judged again when its turn comes, in its order, by whatever holds then: what is bound to
//! the same goes on waiting, or begins if it was allowed; what is another by then is asked for anew, and what needs nobody any
//! more begins; in both cases the approval of before is taken back. What a second model would be asked about, and what is put
//! off, is left to its turn.

use dromia_contracts::approval::{Approval, WAITING_MAX};
use dromia_contracts::entry::{Entry, Park, RunParked};
use dromia_contracts::{ApprovalId, CallId, Digest};

use super::{Asks, Draft, Next};
use crate::state::{CallState, Progress, Rest};

impl Draft {
    /// Asks for a call before its turn, if it may be, and looks at the one behind it.
    pub(super) fn judged_ahead(&mut self, call: CallId, asks: Option<Asks>) -> Next {
        if !self.state.rests_for_approval() {
            return self.go_on();
        }
        if let Some(asks) = asks
            && self.may_ask_ahead(call, &asks)
        {
            self.park(asks.approval, None);
        }
        self.look_ahead(call)
    }

    /// Rests for a call that is asked for, and takes back what was asked for it before its turn.
    pub(super) fn park(&mut self, approval: Approval, replaces: Option<ApprovalId>) {
        let Approval { id, call, action, binding, holds_until: until, cools_until, .. } = approval;
        let park = Park::Approval { approval: id, call, action, binding, until, cools_until, replaces };
        self.push(Entry::RunParked(RunParked { park }));
        self.asks.push(approval);
    }

    /// Goes on waiting for a call that was asked for before its turn and is bound to the same now. Nothing if that is not so.
    pub(super) fn wait_on(&mut self, before: &Progress, now: Digest) -> Option<Next> {
        let Progress::Held { approval, action, binding, until, cools_until, answer: None, ahead: true } =
            *before
        else {
            return None;
        };
        let (call, _) = self.state.next_call().filter(|_| binding == now)?;
        let park = Park::Approval { approval, call, action, binding, until, cools_until, replaces: None };
        self.push(Entry::RunParked(RunParked { park }));
        Some(self.look_ahead(call))
    }

    /// Finds the call behind this one that may be asked for together with what the run rests for; without one, or without room
    /// for one more, it rests, and judges none for nothing.
    pub(super) fn look_ahead(&self, call: CallId) -> Next {
        match self.state.rest {
            // A run that lets go at once waits for nobody.
            Some(Rest::Parked(Park::Approval { until, .. })) if until > self.at && self.has_room() => {
                self.state.waiting_after(call).map_or(Next::Rest, Next::JudgeAhead)
            }
            _ => Next::Rest,
        }
    }

    /// Tells whether one more call may wait. Whoever answers nothing leaves all of them waiting.
    fn has_room(&self) -> bool {
        self.state.awaiting.len() + self.state.held().count() < WAITING_MAX
    }

    /// Tells whether a call may be asked for before its turn. What may not is judged when its turn comes, and is told why.
    fn may_ask_ahead(&self, call: CallId, asks: &Asks) -> bool {
        let Asks { approval, attended, .. } = asks;
        let of_action =
            |known: &Progress| matches!(known, Progress::Held { action, .. } if *action == approval.action);
        let is_known = self.state.held().any(|(held, state)| held == call || of_action(&state.progress))
            || self.state.awaiting.contains(&approval.action)
            || self.state.unknown_actions.contains(&approval.action);
        *attended && approval.cools_until.is_none() && !is_known
    }

    /// Goes on where a signal was taken. Whether a time is over is not looked at: what else lies in the inbox may be the answer.
    pub(super) fn go_on_in_time(&mut self) -> Next {
        let rests =
            |known: &CallState| matches!(known.progress, Progress::Held { answer: None, ahead: false, .. });
        match self.state.next_call() {
            Some((_, known)) if rests(known) => Next::Rest,
            _ => self.go_on(),
        }
    }
}
