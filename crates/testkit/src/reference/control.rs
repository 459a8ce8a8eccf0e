//! What mutations about tokens, agents, secrets, capabilities and files do to a tenant's rows.
//!
//! No run is looked at, but for what ends with its agent.

use dromia_contracts::agent::{AgentRecord, AgentState};
use dromia_contracts::capability::CapabilityRecord;
use dromia_contracts::file::FILE_LABELS_MAX;
use dromia_contracts::store::{
    AgentCreate, AgentStateSet, CapabilityRevoke, CommitRefusal, FileLabelsPut, SecretErase, TokenRevoke,
    VaultKeyPut,
};
use dromia_contracts::vault::SealedSecret;

use super::rows::TenantRows;

impl TenantRows {
    pub(super) fn token_revoke(&mut self, revoke: &TokenRevoke) -> Result<(), CommitRefusal> {
        let row = self.tokens.get_mut(&revoke.token);
        let row = row.ok_or_else(|| CommitRefusal::NotFound(revoke.token.to_string()))?;
        row.token.revoked_at.get_or_insert(revoke.at);
        Ok(())
    }

    pub(super) fn agent_create(&mut self, create: &AgentCreate) -> Result<(), CommitRefusal> {
        let agent = AgentRecord {
            id: create.agent,
            handle: create.handle.clone(),
            display_name: create.display_name.clone(),
            labels: create.labels.clone(),
            created_at: create.at,
            state: AgentState::Running,
            revision: create.revision,
        };
        if let Some(known) = self.agents.get(&create.agent) {
            // Its state may have changed since; everything else never does.
            let same = *known == AgentRecord { state: known.state, ..agent };
            return if same {
                Ok(())
            } else {
                Err(CommitRefusal::Malformed(format!("{} exists already", known.id)))
            };
        }
        if self.agents.values().any(|other| other.handle == create.handle) {
            return Err(CommitRefusal::HandleTaken(create.handle.clone()));
        }
        self.revisions.insert((create.agent, create.revision), create.config.clone());
        self.agents.insert(create.agent, agent);
        Ok(())
    }

    pub(super) fn agent_state_set(&mut self, set: &AgentStateSet) -> Result<(), CommitRefusal> {
        let agent =
            self.agents.get_mut(&set.agent).ok_or_else(|| CommitRefusal::NotFound(set.agent.to_string()))?;
        if agent.state != set.to && !set.from.contains(&agent.state) {
            return Err(CommitRefusal::AgentState { found: agent.state });
        }
        let ends = agent.state != set.to && set.to == AgentState::Terminated;
        agent.state = set.to;
        if ends {
            for approval in self.approvals.values_mut().filter(|approval| approval.agent == set.agent) {
                approval.give_up();
            }
        }
        Ok(())
    }

    pub(super) fn secret_put(&mut self, sealed: &SealedSecret) -> Result<(), CommitRefusal> {
        let known = self.secrets.get(&sealed.secret.name);
        if known == Some(sealed) {
            return Ok(());
        }
        let found = known.map_or(0, |known| known.secret.version);
        if sealed.secret.version.checked_sub(1) != Some(found) {
            return Err(CommitRefusal::SecretVersion { found });
        }
        self.secrets.insert(sealed.secret.name.clone(), sealed.clone());
        Ok(())
    }

    pub(super) fn secret_erase(&mut self, erase: &SecretErase) -> Result<(), CommitRefusal> {
        match self.secrets.get(&erase.name).map(|known| known.secret.version) {
            Some(found) if found != erase.version => Err(CommitRefusal::SecretVersion { found }),
            Some(_) | None => {
                self.secrets.remove(&erase.name);
                Ok(())
            }
        }
    }

    pub(super) fn capability_put(&mut self, put: &CapabilityRecord) -> Result<(), CommitRefusal> {
        if let Some(known) = self.capabilities.get(&put.id) {
            // It may have been taken back since; everything else never changes.
            let same = *known == CapabilityRecord { revoked_at: known.revoked_at, ..put.clone() };
            return if same {
                Ok(())
            } else {
                Err(CommitRefusal::Malformed(format!("{} exists already", put.id)))
            };
        }
        match self.agents.get(&put.holder).map(|agent| agent.state) {
            None | Some(AgentState::Deleting) => return Err(CommitRefusal::NotFound(put.holder.to_string())),
            Some(AgentState::Running | AgentState::Paused | AgentState::Terminated) => {}
        }
        self.capabilities.insert(put.id, put.clone());
        Ok(())
    }

    pub(super) fn capability_revoke(&mut self, revoke: &CapabilityRevoke) -> Result<(), CommitRefusal> {
        let row = self.capabilities.get_mut(&revoke.capability);
        let row = row.ok_or_else(|| CommitRefusal::NotFound(revoke.capability.to_string()))?;
        row.revoked_at.get_or_insert(revoke.at);
        Ok(())
    }

    pub(super) fn vault_key_put(&mut self, put: &VaultKeyPut) -> Result<(), CommitRefusal> {
        match (&self.vault_key, &put.replaces) {
            (None, None) => self.vault_key = Some(put.key.clone()),
            (Some(_), None) => {}
            (Some(known), Some(_)) if *known == put.key => {}
            (Some(known), Some(old)) if known == old => self.vault_key = Some(put.key.clone()),
            (_, Some(_)) => {
                return Err(CommitRefusal::Malformed("the tenant's key of secrets is another one".into()));
            }
        }
        Ok(())
    }

    pub(super) fn file_labels_put(&mut self, put: &FileLabelsPut) -> Result<(), CommitRefusal> {
        if !self.agents.contains_key(&put.agent) {
            return Err(CommitRefusal::NotFound(put.agent.to_string()));
        }
        let known = self.files.entry(put.agent).or_default();
        let mut rest = put.said.rest;
        known.retain(|path, _| put.said.files.get(path) != Some(&None));
        for (path, holds) in &put.said.files {
            let Some(holds) = holds else { continue };
            if known.len() < FILE_LABELS_MAX || known.contains_key(path) {
                known.insert(path.clone(), holds.clone());
            } else {
                rest = Some(rest.map_or(holds.label, |rest| rest.join(holds.label)));
            }
        }
        if let Some(more) = rest {
            let rest = self.files_rest.entry(put.agent).or_insert(more);
            *rest = rest.join(more);
        }
        Ok(())
    }
}
