//! Agents of the reference store, and which of them a scope sees.

use std::collections::BTreeMap;

use dromia_contracts::agent::{AgentConfig, AgentRecord, AgentState, HandleSlug};
use dromia_contracts::entry::Entry;
use dromia_contracts::revision::{
    AgentField, REVISIONS_KEPT, REVISIONS_REMOVED_MAX, RevisionKey, RevisionRecord,
};
use dromia_contracts::store::{
    AgentCreate, AgentRename, AgentRevise, AgentStateSet, BatchRequester, CommitRefusal, PageRequest,
    TurnClaim,
};
use dromia_contracts::{AgentId, Digest, Scope};

use super::page::page_rows;

/// The tenant's agents.
#[derive(Debug, Clone, Default)]
pub(super) struct AgentRows {
    pub(super) rows: BTreeMap<AgentId, AgentRecord>,
    pub(super) revisions: BTreeMap<(AgentId, u64), RevisionRow>,
    /// How each agent was registered.
    pub(super) created: BTreeMap<AgentId, AgentCreate>,
}

/// A revision and what it holds.
#[derive(Debug, Clone)]
pub(super) struct RevisionRow {
    pub(super) record: RevisionRecord,
    pub(super) config: AgentConfig,
    key: Option<RevisionKey>,
    /// Whether a run began with its configuration.
    is_pinned: bool,
}

impl AgentRows {
    pub(in crate::reference) fn create_agent(
        &mut self,
        create: &AgentCreate,
        wanted: Option<&BatchRequester>,
    ) -> Result<(), CommitRefusal> {
        if let Some(known) = self.created.get(&create.agent) {
            // What it is by now may differ from how it began.
            return if known == create {
                Ok(())
            } else {
                Err(CommitRefusal::Malformed(format!("{} exists already", create.agent)))
            };
        }
        self.check_handle_free(&create.handle)?;
        let agent = AgentRecord {
            id: create.agent,
            handle: create.handle.clone(),
            display_name: create.display_name.clone(),
            labels: create.labels.clone(),
            created_at: create.at,
            state: AgentState::Running,
            revision: create.revision,
            revision_number: 1,
        };
        let record = RevisionRecord {
            number: 1,
            at: create.at,
            by: wanted.map(|wanted| wanted.by.clone()),
            digest: create.revision,
            changed: Vec::new(),
        };
        let row = RevisionRow { record, config: create.config.clone(), key: None, is_pinned: false };
        self.revisions.insert((create.agent, 1), row);
        self.created.insert(create.agent, create.clone());
        self.rows.insert(create.agent, agent);
        Ok(())
    }

    fn check_handle_free(&self, handle: &HandleSlug) -> Result<(), CommitRefusal> {
        if self.rows.values().any(|other| other.handle == *handle) {
            return Err(CommitRefusal::HandleTaken(handle.clone()));
        }
        Ok(())
    }

    fn find_changeable(&self, agent: AgentId) -> Result<&AgentRecord, CommitRefusal> {
        let found = self.rows.get(&agent).ok_or_else(|| CommitRefusal::NotFound(agent.to_string()))?;
        match found.state {
            AgentState::Running | AgentState::Paused => Ok(found),
            found @ (AgentState::Terminated | AgentState::Deleting) => {
                Err(CommitRefusal::AgentState { found })
            }
        }
    }

    /// Gives an agent another revision.
    pub(in crate::reference) fn revise_agent(
        &mut self,
        revise: &AgentRevise,
        wanted: Option<&BatchRequester>,
    ) -> Result<(), CommitRefusal> {
        if !self.rows.contains_key(&revise.agent) {
            return Err(CommitRefusal::NotFound(revise.agent.to_string()));
        }
        let mut own = self.revisions.range((revise.agent, 0)..=(revise.agent, u64::MAX)).map(|(_, row)| row);
        if let Some(key) = &revise.key
            && let Some(row) = own.find(|row| row.key.as_ref().is_some_and(|known| known.key == key.key))
        {
            let is_same = row.key == revise.key;
            return is_same.then_some(()).ok_or(CommitRefusal::RevisionKey { number: row.record.number });
        }
        let next = self.revisions.get(&(revise.agent, revise.after + 1));
        if next.is_some_and(|row| {
            (row.record.digest, row.record.at) == (revise.revision, revise.at)
                && row.key.is_none() == revise.key.is_none()
        }) {
            return Ok(());
        }
        let agent = self.find_changeable(revise.agent)?;
        if agent.revision_number != revise.after {
            return Err(CommitRefusal::AgentRevision { found: agent.revision_number });
        }
        let mut changed = match self.revisions.get(&(revise.agent, revise.after)) {
            Some(before) => AgentField::list_changed(&before.config, &revise.config),
            None => Vec::new(),
        };
        changed.extend((agent.display_name != revise.display_name).then_some(AgentField::DisplayName));
        changed.extend((agent.labels != revise.labels).then_some(AgentField::Labels));
        if changed.is_empty() {
            return Ok(());
        }
        let number = revise.after + 1;
        let by = wanted.map(|wanted| wanted.by.clone());
        let record = RevisionRecord { number, at: revise.at, by, digest: revise.revision, changed };
        let row =
            RevisionRow { record, config: revise.config.clone(), key: revise.key.clone(), is_pinned: false };
        self.revisions.insert((revise.agent, number), row);
        if let Some(agent) = self.rows.get_mut(&revise.agent) {
            agent.revision = revise.revision;
            agent.revision_number = number;
            agent.display_name.clone_from(&revise.display_name);
            agent.labels.clone_from(&revise.labels);
        }
        let old =
            self.revisions.range((revise.agent, 0)..=(revise.agent, number.saturating_sub(REVISIONS_KEPT)));
        let old = old.filter(|(_, row)| !row.is_pinned).map(|(place, _)| *place);
        for place in old.take(usize::try_from(REVISIONS_REMOVED_MAX).unwrap_or(0)).collect::<Vec<_>>() {
            self.revisions.remove(&place);
        }
        Ok(())
    }

    /// Gives an agent another handle.
    pub(in crate::reference) fn rename_agent(&mut self, rename: &AgentRename) -> Result<(), CommitRefusal> {
        if self.find_changeable(rename.agent)?.handle != rename.handle {
            self.check_handle_free(&rename.handle)?;
            if let Some(agent) = self.rows.get_mut(&rename.agent) {
                agent.handle = rename.handle.clone();
            }
        }
        Ok(())
    }

    /// Keeps the configuration with which a run began.
    pub(in crate::reference) fn pin_revision(&mut self, claim: &TurnClaim) {
        let Some(Entry::RunStarted(started)) = claim.entries.first().map(|new| &new.entry) else { return };
        let own = self.revisions.range_mut((claim.agent, 0)..=(claim.agent, u64::MAX));
        let mut same: Vec<_> =
            own.map(|(_, row)| row).filter(|row| row.record.digest == started.config).collect();
        if same.iter().any(|row| row.is_pinned) {
            return;
        }
        if let Some(newest) = same.last_mut() {
            newest.is_pinned = true;
        }
    }

    /// Finds a configuration by its digest.
    pub(in crate::reference) fn find_config(&self, agent: AgentId, digest: Digest) -> Option<&AgentConfig> {
        let own = self.revisions.range((agent, 0)..=(agent, u64::MAX)).map(|(_, row)| row);
        own.filter(|row| row.record.digest == digest).map(|row| &row.config).next()
    }

    /// Lists the revisions of an agent, the newest first.
    pub(in crate::reference) fn list_revisions(
        &self,
        scope: &Scope,
        agent: AgentId,
        asked: PageRequest<u64>,
    ) -> Vec<RevisionRecord> {
        if !self.is_seen(scope, agent) {
            return Vec::new();
        }
        let below = asked.after.unwrap_or(u64::MAX);
        let own = self.revisions.range((agent, 0)..(agent, below)).rev().map(|(_, row)| row.record.clone());
        own.take(asked.limit.min(PageRequest::<u64>::LIMIT_MAX)).collect()
    }

    /// Sets a state; returns whether the agent ends by it.
    pub(in crate::reference) fn set_state(&mut self, set: &AgentStateSet) -> Result<bool, CommitRefusal> {
        let agent =
            self.rows.get_mut(&set.agent).ok_or_else(|| CommitRefusal::NotFound(set.agent.to_string()))?;
        if agent.state != set.to && !set.from.contains(&agent.state) {
            return Err(CommitRefusal::AgentState { found: agent.state });
        }
        let ends = agent.state != set.to && set.to == AgentState::Terminated;
        agent.state = set.to;
        Ok(ends)
    }

    /// Tells whether a scope sees an agent; one that is being erased is not seen.
    pub(in crate::reference) fn is_seen(&self, scope: &Scope, agent: AgentId) -> bool {
        scope.sees_agent(agent)
            && self.rows.get(&agent).is_some_and(|agent| agent.state != AgentState::Deleting)
    }

    pub(in crate::reference) fn list_agents(
        &self,
        scope: &Scope,
        state: Option<AgentState>,
        asked: PageRequest<AgentId>,
    ) -> Vec<AgentRecord> {
        let wanted = self
            .rows
            .values()
            .filter(|agent| self.is_seen(scope, agent.id) && state.is_none_or(|state| state == agent.state));
        page_rows(wanted.map(|agent| (agent.id, agent.clone())), asked, false)
    }

    /// Finds the state of an agent.
    pub(in crate::reference) fn find_state(&self, agent: AgentId) -> Option<AgentState> {
        self.rows.get(&agent).map(|agent| agent.state)
    }
}
