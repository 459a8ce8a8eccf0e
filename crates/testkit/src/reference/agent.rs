//! Agents of the reference store, and which of them a scope sees.

use std::collections::BTreeMap;

use dromia_contracts::agent::{AgentConfig, AgentRecord, AgentState};
use dromia_contracts::store::{AgentCreate, AgentStateSet, CommitRefusal, PageRequest};
use dromia_contracts::{AgentId, Digest, Scope};

use super::scope_view::page_rows;

/// The tenant's agents.
#[derive(Debug, Clone, Default)]
pub(super) struct AgentRows {
    pub(super) rows: BTreeMap<AgentId, AgentRecord>,
    pub(super) revisions: BTreeMap<(AgentId, Digest), AgentConfig>,
}

impl AgentRows {
    pub(in crate::reference) fn create_agent(&mut self, create: &AgentCreate) -> Result<(), CommitRefusal> {
        let agent = AgentRecord {
            id: create.agent,
            handle: create.handle.clone(),
            display_name: create.display_name.clone(),
            labels: create.labels.clone(),
            created_at: create.at,
            state: AgentState::Running,
            revision: create.revision,
        };
        if let Some(known) = self.rows.get(&create.agent) {
            // Its state may have changed since; everything else never does.
            let same = *known == AgentRecord { state: known.state, ..agent };
            return if same {
                Ok(())
            } else {
                Err(CommitRefusal::Malformed(format!("{} exists already", known.id)))
            };
        }
        if self.rows.values().any(|other| other.handle == create.handle) {
            return Err(CommitRefusal::HandleTaken(create.handle.clone()));
        }
        self.revisions.insert((create.agent, create.revision), create.config.clone());
        self.rows.insert(create.agent, agent);
        Ok(())
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
