//! How an owner judges the calls behind the one that its run rests for, so that a person is asked once for a step.
//!
//! It only creates approval requests. A call that is allowed, denied or delayed, or that needs a second opinion first,
//! is judged in its turn, and nothing is counted twice.

use dromia_contracts::CallId;
use dromia_contracts::approval::{ARGUMENTS_BYTES_MAX, BoundFiles};
use dromia_contracts::gate::{GateAction, GateVerdict};
use dromia_contracts::tool_policy::ToolTerms;

use super::CallJudge;
use super::approval::ApprovalGrounds;
use super::mind_role::role_problem;
use crate::decide::{CallJudgement, RequiredApproval};
use crate::owner::error::OwnershipError;

impl CallJudge<'_> {
    /// Judges a call before its turn. `None` if it needs no approval now. All requests of one commit together have no
    /// more arguments than one call may have, so that a batch holds them.
    pub(crate) async fn judge_ahead(
        &mut self,
        id: CallId,
    ) -> Result<Option<RequiredApproval>, OwnershipError> {
        let Some(call) = self.story.open_call(id) else { return Ok(None) };
        if !self.is_attended() || self.is_for_client(call) {
            return Ok(None);
        }
        let Ok(call) = self.run_tools().prepare_call(call) else { return Ok(None) };
        // Such a call is refused in its turn.
        if !self.has_tool(&call).await?
            || !self.is_offered(&call)
            || role_problem(self.state, self.identity, &call).is_some()
        {
            return Ok(None);
        }
        let shown: usize = self.asks.iter().map(|ask| ask.judged.arguments.len()).sum();
        if shown + call.arguments.len() > ARGUMENTS_BYTES_MAX || self.is_late_plan(&call) {
            return Ok(None);
        }
        // Earlier calls may change a file, and then a person would have to be asked again.
        let is_held_to_all = self.core.config().approvals.files == BoundFiles::All;
        if is_held_to_all && self.core.ports.tools.process_limits(&call.tool, &ToolTerms::default()).is_some()
        {
            return Ok(None);
        }
        let call = self.with_network(call).await?;
        let provenance = self.call_provenance(&call);
        let GateVerdict::Ask { rule, reason, policy } =
            self.ask_gate(GateAction::Tool(&call), &provenance).await
        else {
            return Ok(None);
        };
        let asking = ApprovalGrounds { rule, reason, policy, cooling: None, provenance };
        Ok(match self.judge_asked(call, asking).await? {
            CallJudgement::RequiredApproval(asks) => Some(*asks),
            _ => None,
        })
    }
}
