//! How an owner judges the calls behind the one that its run rests for, so that a person is asked once for a step.
//!
//! It only creates approval requests. A call that is allowed, denied or delayed, or that needs a second opinion first,
//! is judged in its turn, and nothing is counted twice.

use dromia_contracts::CallId;
use dromia_contracts::approval::{ARGUMENTS_BYTES_MAX, BoundFiles};
use dromia_contracts::gate::{GateAction, GateVerdict};
use dromia_contracts::plan::DECLARE;
use dromia_contracts::tool_policy::ToolTerms;

use super::approval::ApprovalGrounds;
use super::{OwnershipError, RollbackPoint, RunOwner};
use crate::decide::{CallJudgement, RequiredApproval};

impl RunOwner {
    /// Judges a call before its turn. `None` if it needs no approval now. All requests of one commit together have no
    /// more arguments than one call may have, so that a batch holds them.
    pub(super) async fn judge_ahead(
        &mut self,
        id: CallId,
    ) -> Result<Option<RequiredApproval>, OwnershipError> {
        let Some(call) = self.story.open_call(id) else { return Ok(None) };
        if !self.is_attended() || self.story.client.has_tool(&call.tool, self.agent.tools.all_descriptors()) {
            return Ok(None);
        }
        let Ok(call) = self.core.ports.tools.prepare_call(call) else { return Ok(None) };
        let shown: usize = self.asks.iter().map(|ask| ask.arguments.len()).sum();
        let is_too_late = call.tool == DECLARE && self.story.is_closed();
        if shown + call.arguments.len() > ARGUMENTS_BYTES_MAX || is_too_late {
            return Ok(None);
        }
        // Earlier calls may change a file, and then a person would have to be asked again.
        let is_held_to_all = self.core.config.approvals.files == BoundFiles::All;
        if is_held_to_all && self.core.ports.tools.process_limits(&call.tool, &ToolTerms::default()).is_some()
        {
            return Ok(None);
        }
        let call = self.with_network(call).await?;
        let standing = self.call_provenance(&call);
        let GateVerdict::Ask { rule, reason, policy } =
            self.ask_gate(GateAction::Tool(&call), &standing).await
        else {
            return Ok(None);
        };
        let asking = ApprovalGrounds { rule, reason, policy, cooling: None, standing };
        Ok(match self.judge_asked(call, asking).await? {
            CallJudgement::RequiredApproval(asks) => Some(*asks),
            _ => None,
        })
    }

    /// Sets the rollback point before the first early request, in case the tenant may not have all of them open.
    pub(super) fn note_ahead(&mut self) {
        if self.ahead.is_none() {
            let (pending, asks) = (self.pending.len(), self.asks.len());
            self.ahead = Some(RollbackPoint { state: self.state.clone(), pending, asks });
        }
    }

    /// Withdraws all early requests if the tenant may not have all of them open: the run rests for the one call, and
    /// the others are requested in their turn. Returns whether there was any.
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
