//! Where the arguments of a call come from: typed by a person, planned before anything untrusted came, or neither.

use dromia_contracts::approval::{ApprovalRequest, JudgedCall};
use dromia_contracts::plan::CallProvenance;
use dromia_contracts::tool::PreparedCall;
use dromia_contracts::{ApprovalId, Digest};

use super::CallJudge;
use crate::default_arguments::default_arguments;
use crate::endorse::endorsed_arguments;
use crate::owner::error::OwnershipError;
use crate::plan;

impl CallJudge<'_> {
    /// Reads the provenance of a call, of an approved one that of its request.
    pub(super) async fn provenance_of(&self, call: &PreparedCall) -> Result<CallProvenance, OwnershipError> {
        match self.state.approved_call() {
            // Boxed, because it is rare and the run's future need not be larger for it.
            Some(approved) => Box::pin(self.asked_provenance(approved.approval, call.action)).await,
            None => Ok(self.call_provenance(call)),
        }
    }

    /// Which arguments of a call were typed or planned. A tool's default counts as typed: no attacker chose it.
    pub(super) fn call_provenance(&self, call: &PreparedCall) -> CallProvenance {
        let tools = self.run_tools();
        let mut endorsed = endorsed_arguments(&self.story.transcript, &call.arguments);
        let defaults = default_arguments(tools, call).into_iter();
        let defaults: Vec<_> = defaults.filter(|name| !endorsed.contains(name)).collect();
        endorsed.extend(defaults);
        let mut provenance = plan::plan_provenance(self.story, tools, call);
        provenance.endorsed.retain(|name| !endorsed.contains(name));
        provenance.endorsed.extend(endorsed);
        provenance
    }

    /// An approved call that runs in its own run was requested in another run, and keeps its provenance from there. A
    /// second opinion from there was about that action: it does not apply if the same arguments now make another
    /// action.
    async fn asked_provenance(
        &self,
        approval: ApprovalId,
        action: Digest,
    ) -> Result<CallProvenance, OwnershipError> {
        let asked = self
            .core
            .ports
            .store
            .approval(&self.identity.scope, approval)
            .await
            .map_err(|_| OwnershipError::Store)?;
        let Some(ApprovalRequest { judged: JudgedCall { provenance, action: asked, .. }, .. }) = asked else {
            return Ok(CallProvenance::default());
        };
        let opinion = provenance.opinion.filter(|_| asked == action);
        Ok(CallProvenance { opinion, ..provenance })
    }
}
