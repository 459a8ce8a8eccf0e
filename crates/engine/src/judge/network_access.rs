//! The network access of the program that a call starts, by the current terms and grants: the gate judges it, and the
//! program gets it.

use dromia_contracts::tool::PreparedCall;

use super::CallJudge;
use crate::agents::runs_programs;
use crate::owner::error::OwnershipError;

impl CallJudge<'_> {
    /// Sets on a call the network access of the program that it starts, by the current terms and grants.
    pub(super) async fn with_network(&self, call: PreparedCall) -> Result<PreparedCall, OwnershipError> {
        let ports = &self.core.ports;
        if !runs_programs(&*ports.tools, &call.tool) {
            return Ok(call);
        }
        let terms = ports
            .terms
            .effective_terms(&call.tool, Some((&self.identity.scope, self.identity.agent.id)))
            .await;
        let terms = terms.map_err(|_| OwnershipError::Store)?;
        Ok(PreparedCall { network: Some(terms.network_for(&self.identity.agent.grants)), ..call })
    }
}
