//! The checks for a tool that the configuration added: an agent that lost it loses it at once, and one that got it has it from
//! its next run on.

use dromia_contracts::gate::GateVerdict;
use dromia_contracts::tool::{PrepareError, PreparedCall};

use super::{CallJudge, JudgementStop};
use crate::decide::CallJudgement;
use crate::owner::error::OwnershipError;
use crate::run_tools::RunTools;

impl CallJudge<'_> {
    /// The definitions that the run began with.
    pub(super) fn run_tools(&self) -> RunTools<'_> {
        RunTools { host: &*self.core.ports.tools, catalogue: &self.identity.agent.catalogue }
    }

    /// Returns whether the agent still has the tool of a call.
    pub(super) async fn has_tool(&self, call: &PreparedCall) -> Result<bool, OwnershipError> {
        let agent = &self.identity.agent;
        if !agent.catalogue.is_configured(&call.tool) {
            return Ok(true);
        }
        let has_tool = self.core.ports.tools.has_tool(&self.identity.scope, agent.id, &call.tool).await;
        has_tool.map_err(|_| OwnershipError::Store)
    }

    /// Returns whether the run was offered the tool of a call. It need not be for a built-in one, which any grant adds at once.
    pub(super) fn is_offered(&self, call: &PreparedCall) -> bool {
        let agent = &self.identity.agent;
        !agent.catalogue.is_configured(&call.tool) || agent.tools.has_tool(&call.tool)
    }

    /// Refuses a call of a tool that the configuration removed, or gives to others only, since the run began.
    pub(super) async fn check_right_to_tool(&self, call: &PreparedCall) -> Result<(), JudgementStop> {
        if self.has_tool(call).await? {
            return Ok(());
        }
        Err(self.refuse_call(PrepareError::RemovedTool { name: call.tool.clone() }))
    }

    /// Refuses a call that the gate allows, of a tool that the run was not offered: the configuration or a grant added it since.
    pub(super) fn check_offered(
        &self,
        call: &PreparedCall,
        verdict: &GateVerdict,
    ) -> Result<(), JudgementStop> {
        if matches!(verdict, GateVerdict::Deny { .. }) || self.is_offered(call) {
            return Ok(());
        }
        Err(self.refuse_call(PrepareError::UnknownTool { name: call.tool.clone() }))
    }

    /// Refuses what is no call of a tool of the run.
    pub(super) fn refuse_call(&self, error: PrepareError) -> JudgementStop {
        self.core.activity.calls.count_malformed(&error);
        CallJudgement::Malformed(error).into()
    }
}
