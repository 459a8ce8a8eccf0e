//! Agents, their configurations and states.

use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::agent::AgentState;
use dromia_contracts::id::AgentId;
use dromia_contracts::store::{AgentCreate, AgentStateSet, CommitRefusal};

use super::{BatchDraft, Checked};
use crate::column_codes::{self, StoredEnum as _};

/// An agent that the batch touches.
#[derive(Debug)]
pub(super) struct AgentDraft<'b> {
    pub(super) agent: AgentId,
    pub(super) state: AgentState,
    pub(super) create: Option<&'b AgentCreate>,
    pub(super) changed: bool,
}

impl<'b> BatchDraft<'b> {
    /// Returns the state of an agent, if the tenant has it.
    pub(super) fn agent_state(&mut self, db: &Connection, agent: AgentId) -> Checked<Option<AgentState>> {
        Ok(self.agent_index(db, agent)?.map(|index| self.agents[index].state))
    }

    fn agent_index(&mut self, db: &Connection, agent: AgentId) -> Checked<Option<usize>> {
        if let Some(index) = self.agents.iter().position(|draft| draft.agent == agent) {
            return Ok(Some(index));
        }
        let state = db
            .prepare_cached("SELECT state FROM agents WHERE tenant = ?1 AND agent = ?2")?
            .query_row(params![self.tenant.as_bytes(), agent.as_bytes()], |row| {
                column_codes::read_enum(row, 0)
            })
            .optional()?;
        Ok(state.map(|state| {
            self.agents.push(AgentDraft { agent, state, create: None, changed: false });
            self.agents.len() - 1
        }))
    }

    pub(super) fn agent_create(&mut self, db: &Connection, create: &'b AgentCreate) -> Checked {
        if let Some(index) = self.agent_index(db, create.agent)? {
            let same = match self.agents[index].create {
                Some(drafted) => drafted == create,
                None => self.agent_stands(db, create)?,
            };
            if same {
                return Ok(());
            }
            return Err(CommitRefusal::Malformed(format!("{} is another agent", create.agent)).into());
        }
        let drafted = self.agents.iter().filter_map(|draft| draft.create).any(|a| a.handle == create.handle);
        let taken = drafted
            || db
                .prepare_cached("SELECT 1 FROM agents WHERE tenant = ?1 AND handle = ?2")?
                .exists(params![self.tenant.as_bytes(), create.handle.as_str()])?;
        if taken {
            return Err(CommitRefusal::HandleTaken(create.handle.clone()).into());
        }
        self.agents.push(AgentDraft {
            agent: create.agent,
            state: AgentState::Running,
            create: Some(create),
            changed: false,
        });
        Ok(())
    }

    /// Returns whether an agent was registered with exactly this content.
    fn agent_stands(&self, db: &Connection, create: &AgentCreate) -> Checked<bool> {
        let same = db
            .prepare_cached(
                "SELECT handle = ?3 AND display_name = ?4 AND labels IS ?5 AND at = ?6 \
                 FROM agents WHERE tenant = ?1 AND agent = ?2",
            )?
            .query_row(
                params![
                    self.tenant.as_bytes(),
                    create.agent.as_bytes(),
                    create.handle.as_str(),
                    create.display_name,
                    labels_json(create),
                    create.at.as_millisecond(),
                ],
                |row| row.get(0),
            )
            .optional()?
            .unwrap_or(false);
        let same_config = db
            .prepare_cached(
                "SELECT config = ?4 FROM revisions WHERE tenant = ?1 AND agent = ?2 AND digest = ?3",
            )?
            .query_row(
                params![
                    self.tenant.as_bytes(),
                    create.agent.as_bytes(),
                    create.revision.as_bytes(),
                    config_json(create)
                ],
                |row| row.get(0),
            )
            .optional()?
            .unwrap_or(false);
        Ok(same && same_config)
    }

    pub(super) fn agent_state_set(&mut self, db: &Connection, set: &AgentStateSet) -> Checked {
        let index =
            self.agent_index(db, set.agent)?.ok_or_else(|| CommitRefusal::NotFound(set.agent.to_string()))?;
        let draft = &mut self.agents[index];
        if draft.state == set.to {
            return Ok(());
        }
        if !set.from.contains(&draft.state) {
            return Err(CommitRefusal::AgentState { found: draft.state }.into());
        }
        draft.state = set.to;
        draft.changed = true;
        if set.to == AgentState::Terminated {
            self.give_up_approvals(db, set.agent)?;
        }
        Ok(())
    }

    pub(super) fn write_agents(&self, db: &Connection) -> rusqlite::Result<u64> {
        let mut rows = 0;
        for draft in &self.agents {
            if let Some(create) = draft.create {
                db.prepare_cached(
                    "INSERT INTO agents (tenant, agent, handle, display_name, labels, at, state, revision) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    self.tenant.as_bytes(),
                    draft.agent.as_bytes(),
                    create.handle.as_str(),
                    create.display_name,
                    labels_json(create),
                    create.at.as_millisecond(),
                    draft.state.stored_code(),
                    create.revision.as_bytes(),
                ])?;
                db.prepare_cached(
                    "INSERT INTO revisions (tenant, agent, digest, config) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![
                    self.tenant.as_bytes(),
                    draft.agent.as_bytes(),
                    create.revision.as_bytes(),
                    config_json(create),
                ])?;
                rows += 2;
            } else if draft.changed {
                db.prepare_cached("UPDATE agents SET state = ?3 WHERE tenant = ?1 AND agent = ?2")?.execute(
                    params![self.tenant.as_bytes(), draft.agent.as_bytes(), draft.state.stored_code()],
                )?;
                rows += 1;
            }
        }
        Ok(rows)
    }
}

/// Labels as JSON; none at all for most agents.
fn labels_json(create: &AgentCreate) -> Option<String> {
    // A map of strings to strings has no failing case.
    (!create.labels.is_empty()).then(|| serde_json::to_string(&create.labels).unwrap_or_default())
}

/// The configuration as JSON: strings, lists of strings and numbers, so serialization has no failing case.
fn config_json(create: &AgentCreate) -> String {
    serde_json::to_string(&create.config).unwrap_or_default()
}
