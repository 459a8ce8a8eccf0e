//! Agents, their configurations and states.

use rusqlite::{OptionalExtension as _, params};

use dromia_contracts::agent::AgentState;
use dromia_contracts::audit::AuditChange;
use dromia_contracts::id::AgentId;
use dromia_contracts::store::{AgentCreate, AgentStateSet, CommitRefusal};

use super::audit::ActList;
use super::{Checked, TableDraft, TenantDb};
use crate::column_codes::{self, StoredEnum as _};

/// An agent that the batch touches.
#[derive(Debug)]
struct AgentDraft<'b> {
    agent: AgentId,
    state: AgentState,
    create: Option<&'b AgentCreate>,
    changed: bool,
}

/// The agents that the batch touches.
#[derive(Debug, Default)]
pub(super) struct AgentDrafts<'b> {
    rows: Vec<AgentDraft<'b>>,
}

impl<'b> AgentDrafts<'b> {
    /// Returns the state of an agent, if the tenant has it.
    pub(super) fn find_state(&mut self, db: TenantDb<'_>, agent: AgentId) -> Checked<Option<AgentState>> {
        Ok(self.agent_index(db, agent)?.map(|index| self.rows[index].state))
    }

    fn agent_index(&mut self, db: TenantDb<'_>, agent: AgentId) -> Checked<Option<usize>> {
        if let Some(index) = self.rows.iter().position(|draft| draft.agent == agent) {
            return Ok(Some(index));
        }
        let state = db
            .prepare_cached("SELECT state FROM agents WHERE tenant = ?1 AND agent = ?2")?
            .query_row(params![db.tenant.as_bytes(), agent.as_bytes()], |row| column_codes::read_enum(row, 0))
            .optional()?;
        Ok(state.map(|state| {
            self.rows.push(AgentDraft { agent, state, create: None, changed: false });
            self.rows.len() - 1
        }))
    }

    pub(super) fn create_agent(&mut self, db: TenantDb<'_>, create: &'b AgentCreate) -> Checked {
        if let Some(index) = self.agent_index(db, create.agent)? {
            let same = match self.rows[index].create {
                Some(drafted) => drafted == create,
                None => agent_stands(db, create)?,
            };
            if same {
                return Ok(());
            }
            return Err(CommitRefusal::Malformed(format!("{} is another agent", create.agent)).into());
        }
        let drafted = self.rows.iter().filter_map(|draft| draft.create).any(|a| a.handle == create.handle);
        let taken = drafted
            || db
                .prepare_cached("SELECT 1 FROM agents WHERE tenant = ?1 AND handle = ?2")?
                .exists(params![db.tenant.as_bytes(), create.handle.as_str()])?;
        if taken {
            return Err(CommitRefusal::HandleTaken(create.handle.clone()).into());
        }
        self.rows.push(AgentDraft {
            agent: create.agent,
            state: AgentState::Running,
            create: Some(create),
            changed: false,
        });
        Ok(())
    }

    /// Sets a state; returns whether the agent ends by it.
    pub(super) fn set_state(&mut self, db: TenantDb<'_>, set: &AgentStateSet) -> Checked<bool> {
        let index =
            self.agent_index(db, set.agent)?.ok_or_else(|| CommitRefusal::NotFound(set.agent.to_string()))?;
        let draft = &mut self.rows[index];
        if draft.state == set.to {
            return Ok(false);
        }
        if !set.from.contains(&draft.state) {
            return Err(CommitRefusal::AgentState { found: draft.state }.into());
        }
        draft.state = set.to;
        draft.changed = true;
        Ok(set.to == AgentState::Terminated)
    }
}

impl TableDraft for AgentDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<u64> {
        let mut rows = 0;
        for draft in &self.rows {
            if let Some(create) = draft.create {
                db.prepare_cached(
                    "INSERT INTO agents (tenant, agent, handle, display_name, labels, at, state, revision) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    db.tenant.as_bytes(),
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
                    db.tenant.as_bytes(),
                    draft.agent.as_bytes(),
                    create.revision.as_bytes(),
                    config_json(create),
                ])?;
                rows += 2;
            } else if draft.changed {
                db.prepare_cached("UPDATE agents SET state = ?3 WHERE tenant = ?1 AND agent = ?2")?.execute(
                    params![db.tenant.as_bytes(), draft.agent.as_bytes(), draft.state.stored_code()],
                )?;
                rows += 1;
            }
        }
        Ok(rows)
    }

    fn note_acts(&self, acts: &mut ActList<'_>) {
        for draft in &self.rows {
            if let Some(AgentCreate { agent, handle, revision, at, .. }) = draft.create {
                let (handle, revision) = (handle.clone(), *revision);
                acts.note_change(*at, AuditChange::AgentCreated { agent: *agent, handle, revision });
            }
            if draft.changed {
                acts.note_wanted(AuditChange::AgentStateSet { agent: draft.agent, to: draft.state });
            }
        }
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

/// Returns whether an agent was registered with exactly this content.
fn agent_stands(db: TenantDb<'_>, create: &AgentCreate) -> Checked<bool> {
    let same = db
        .prepare_cached(
            "SELECT handle = ?3 AND display_name = ?4 AND labels IS ?5 AND at = ?6 \
             FROM agents WHERE tenant = ?1 AND agent = ?2",
        )?
        .query_row(
            params![
                db.tenant.as_bytes(),
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
        .prepare_cached("SELECT config = ?4 FROM revisions WHERE tenant = ?1 AND agent = ?2 AND digest = ?3")?
        .query_row(
            params![
                db.tenant.as_bytes(),
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
