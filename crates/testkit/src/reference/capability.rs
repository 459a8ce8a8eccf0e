//! Capabilities of the reference store.

use std::collections::BTreeMap;

use dromia_contracts::agent::AgentState;
use dromia_contracts::capability::CapabilityRecord;
use dromia_contracts::store::{CapabilityRevoke, CommitRefusal, PageRequest};
use dromia_contracts::{CapabilityId, Scope};

use super::agent::AgentRows;
use super::page::page_rows;

/// The tenant's capabilities.
#[derive(Debug, Clone, Default)]
pub(super) struct CapabilityRows {
    pub(super) rows: BTreeMap<CapabilityId, CapabilityRecord>,
}

impl CapabilityRows {
    pub(in crate::reference) fn put_capability(
        &mut self,
        put: &CapabilityRecord,
        agents: &AgentRows,
    ) -> Result<(), CommitRefusal> {
        if let Some(known) = self.rows.get(&put.id) {
            // It may have been taken back since; everything else never changes.
            let same = *known == CapabilityRecord { revoked_at: known.revoked_at, ..put.clone() };
            return if same {
                Ok(())
            } else {
                Err(CommitRefusal::Malformed(format!("{} exists already", put.id)))
            };
        }
        match agents.find_state(put.holder) {
            None | Some(AgentState::Deleting) => return Err(CommitRefusal::NotFound(put.holder.to_string())),
            Some(AgentState::Running | AgentState::Paused | AgentState::Terminated) => {}
        }
        self.rows.insert(put.id, put.clone());
        Ok(())
    }

    pub(in crate::reference) fn revoke_capability(
        &mut self,
        revoke: &CapabilityRevoke,
    ) -> Result<(), CommitRefusal> {
        let row = self.rows.get_mut(&revoke.capability);
        let row = row.ok_or_else(|| CommitRefusal::NotFound(revoke.capability.to_string()))?;
        row.revoked_at.get_or_insert(revoke.at);
        Ok(())
    }

    pub(in crate::reference) fn list_capabilities(
        &self,
        scope: &Scope,
        agents: &AgentRows,
        asked: PageRequest<CapabilityId>,
    ) -> Vec<CapabilityRecord> {
        let held = self.rows.iter().filter(|(_, row)| agents.is_seen(scope, row.holder));
        page_rows(held.map(|(id, row)| (*id, row.clone())), asked, false)
    }
}
