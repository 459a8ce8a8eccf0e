//! How an owner judges the calls behind the one that its run rests for, so that whoever answers is asked once for a step.
//!
//! Only what must be asked for comes of it. What is allowed or refused, what is put off, and what a second model is asked about
//! first is judged when its turn comes, and nothing is counted twice.

use dromia_contracts::CallId;
use dromia_contracts::approval::{ARGUMENTS_BYTES_MAX, BoundFiles};
use dromia_contracts::gate::{Action, Verdict};
use dromia_contracts::plan::DECLARE;
use dromia_contracts::terms::ToolTerms;

use super::approving::Asking;
use super::{Before, Lost, Owner};
use crate::decide::{Asks, Judgement};

impl Owner {
    /// Judges a call before its turn. Nothing if nobody need be asked about it as things stand. All that is asked for in one
    /// commit has no more arguments than one call may have, so that a batch holds it.
    pub(super) async fn judge_ahead(&mut self, id: CallId) -> Result<Option<Asks>, Lost> {
        let Some(call) = self.story.call(id) else { return Ok(None) };
        if !self.is_attended() || self.story.client.has(&call.tool, self.agent.tools.all()) {
            return Ok(None);
        }
        let Ok(call) = self.core.ports.tools.prepare(call) else { return Ok(None) };
        let shown: usize = self.asks.iter().map(|ask| ask.arguments.len()).sum();
        let is_too_late = call.tool == DECLARE && self.story.is_closed();
        if shown + call.arguments.len() > ARGUMENTS_BYTES_MAX || is_too_late {
            return Ok(None);
        }
        // Whatever comes before it may change a file, and then a person would have to be asked again.
        let is_held_to_all = self.core.config.approvals.files == BoundFiles::All;
        if is_held_to_all && self.core.ports.tools.limits(&call.tool, &ToolTerms::default()).is_some() {
            return Ok(None);
        }
        let call = self.with_network(call).await?;
        let standing = self.standing(&call);
        let Verdict::Ask { rule, reason, policy } = self.gate(Action::Tool(&call), &standing) else {
            return Ok(None);
        };
        let asking = Asking { rule, reason, policy, cooling: None, standing };
        Ok(match self.judge_asked(call, asking).await? {
            Judgement::Asks(asks) => Some(*asks),
            _ => None,
        })
    }

    /// Remembers how things stand before the first call is asked for ahead, in case there is no room for all of them.
    pub(super) fn note_ahead(&mut self) {
        if self.ahead.is_none() {
            let (pending, asks) = (self.pending.len(), self.asks.len());
            self.ahead = Some(Before { state: self.state.clone(), pending, asks });
        }
    }

    /// Takes back all that was to be asked for ahead, where not all of the tenant's find room: the run rests for the one call,
    /// and the others are asked for when their turn comes. Tells whether there was any.
    pub(super) fn unask_ahead(&mut self) -> bool {
        match self.ahead.take() {
            Some(before) if before.asks < self.asks.len() => {
                self.pending.truncate(before.pending);
                self.asks.truncate(before.asks);
                self.state = before.state;
                true
            }
            _ => false,
        }
    }
}
