//! Agents, their handles and states. Their revisions are beside this file.

use rusqlite::{OptionalExtension as _, params};

use dromia_contracts::agent::{AgentState, HandleSlug};
use dromia_contracts::audit::AuditChange;
use dromia_contracts::id::AgentId;
use dromia_contracts::store::{
    AgentCreate, AgentRename, AgentRevise, AgentStateSet, CommitRefusal, TurnClaim, WriteBatch,
};

use super::audit::ActList;
use super::revision::{
    RevisionBasis, RevisionDraft, RevisionPin, config_json, find_key, is_revised_so, labels_json,
    registered_names,
};
use super::{Checked, TableDraft, TenantDb};
use crate::column_codes::{self, StoredEnum as _};
use crate::session_tree::find_hold_refusal;

/// An agent that the batch touches.
#[derive(Debug)]
struct AgentDraft<'b> {
    agent: AgentId,
    state: AgentState,
    /// The number of its current revision.
    number: u64,
    create: Option<&'b AgentCreate>,
    /// Its new revisions, the last one the current.
    revised: Vec<RevisionDraft<'b>>,
    /// What the next revision would follow; read only for one.
    basis: Option<RevisionBasis>,
    changed: bool,
}

/// The agents that the batch touches.
#[derive(Debug, Default)]
pub(super) struct AgentDrafts<'b> {
    rows: Vec<AgentDraft<'b>>,
    /// Who gets which handle, in the order of the mutations: one may take what another gave up.
    handles: Vec<(AgentId, &'b HandleSlug)>,
    pins: Vec<RevisionPin>,
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
        let found = db
            .prepare_cached("SELECT state, number FROM agents WHERE tenant = ?1 AND agent = ?2")?
            .query_row(params![db.tenant.as_bytes(), agent.as_bytes()], |row| {
                Ok((column_codes::read_enum(row, 0)?, column_codes::read_counter(row, 1)?))
            })
            .optional()?;
        Ok(found.map(|(state, number)| self.add_draft(agent, state, number)))
    }

    fn add_draft(&mut self, agent: AgentId, state: AgentState, number: u64) -> usize {
        let (create, revised, basis) = (None, Vec::new(), None);
        self.rows.push(AgentDraft { agent, state, number, create, revised, basis, changed: false });
        self.rows.len() - 1
    }

    /// Finds an agent that a change is about, which must not have ended.
    fn find_changeable(&mut self, db: TenantDb<'_>, agent: AgentId) -> Checked<usize> {
        let index = self.agent_index(db, agent)?.ok_or_else(|| CommitRefusal::NotFound(agent.to_string()))?;
        match self.rows[index].state {
            AgentState::Running | AgentState::Paused => Ok(index),
            found @ (AgentState::Terminated | AgentState::Deleting) => {
                Err(CommitRefusal::AgentState { found }.into())
            }
        }
    }

    pub(super) fn create_agent(
        &mut self,
        db: TenantDb<'_>,
        create: &'b AgentCreate,
        batch: &'b WriteBatch,
    ) -> Checked {
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
        self.check_handle_free(db, &create.handle)?;
        let index = self.add_draft(create.agent, AgentState::Running, 1);
        let draft = &mut self.rows[index];
        draft.create = Some(create);
        draft.revised.push(RevisionDraft::first_of(create, batch));
        draft.basis = Some(RevisionBasis::of_create(create));
        self.handles.push((create.agent, &create.handle));
        Ok(())
    }

    /// Returns the handle that an agent got in the batch.
    fn drafted_handle(&self, agent: AgentId) -> Option<&'b HandleSlug> {
        self.handles.iter().rev().find(|(named, _)| *named == agent).map(|(_, handle)| *handle)
    }

    /// Refuses a handle that an agent has, as the batch leaves it.
    fn check_handle_free(&self, db: TenantDb<'_>, handle: &HandleSlug) -> Checked {
        let holder: Option<AgentId> = db
            .prepare_cached("SELECT agent FROM agents WHERE tenant = ?1 AND handle = ?2")?
            .query_row(params![db.tenant.as_bytes(), handle.as_str()], |row| {
                column_codes::read_bytes(row, 0).map(AgentId::from_bytes)
            })
            .optional()?;
        let is_drafted = self.handles.iter().any(|(agent, _)| self.drafted_handle(*agent) == Some(handle));
        if is_drafted || holder.is_some_and(|holder| self.drafted_handle(holder).is_none()) {
            return Err(CommitRefusal::HandleTaken(handle.clone()).into());
        }
        Ok(())
    }

    /// Gives an agent another revision.
    pub(super) fn revise_agent(
        &mut self,
        db: TenantDb<'_>,
        revise: &'b AgentRevise,
        batch: &'b WriteBatch,
    ) -> Checked {
        let index = self
            .agent_index(db, revise.agent)?
            .ok_or_else(|| CommitRefusal::NotFound(revise.agent.to_string()))?;
        if let Some(key) = &revise.key
            && let Some((number, request)) = find_key(db, revise.agent, &key.key)?
        {
            if request == key.request {
                return Ok(());
            }
            return Err(CommitRefusal::RevisionKey { number }.into());
        }
        if self.rows[index].revised.is_empty() && is_revised_so(db, revise)? {
            return Ok(());
        }
        let index = self.find_changeable(db, revise.agent)?;
        let draft = &mut self.rows[index];
        if draft.number != revise.after {
            return Err(CommitRefusal::AgentRevision { found: draft.number }.into());
        }
        let basis = match draft.basis.take() {
            Some(basis) => basis,
            None => RevisionBasis::read_current(db, revise.agent)?,
        };
        let next = RevisionDraft::next_of(&basis, revise, batch);
        if next.changes_nothing() {
            draft.basis = Some(basis);
            return Ok(());
        }
        draft.number += 1;
        draft.revised.push(next);
        draft.basis = Some(RevisionBasis::of_revise(revise));
        Ok(())
    }

    /// Gives an agent another handle.
    pub(super) fn rename_agent(&mut self, db: TenantDb<'_>, rename: &'b AgentRename) -> Checked {
        self.find_changeable(db, rename.agent)?;
        let is_same = match self.drafted_handle(rename.agent) {
            Some(handle) => *handle == rename.handle,
            None => db
                .prepare_cached("SELECT handle = ?3 FROM agents WHERE tenant = ?1 AND agent = ?2")?
                .query_row(
                    params![db.tenant.as_bytes(), rename.agent.as_bytes(), rename.handle.as_str()],
                    |row| row.get(0),
                )?,
        };
        if !is_same {
            self.check_handle_free(db, &rename.handle)?;
            self.handles.push((rename.agent, &rename.handle));
        }
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
        if set.to == AgentState::Deleting
            && let Some(refusal) = find_hold_refusal(&db, db.tenant.as_bytes(), Some(set.agent))?
        {
            return Err(refusal.into());
        }
        draft.state = set.to;
        draft.changed = true;
        Ok(set.to == AgentState::Terminated)
    }

    /// Notes that a run begins with a configuration, which is kept from then on.
    pub(super) fn pin_revision(&mut self, db: TenantDb<'_>, claim: &TurnClaim) -> Checked {
        self.pins.extend(RevisionPin::of_claim(db, claim)?);
        Ok(())
    }
}

impl AgentDraft<'_> {
    /// Writes what is no handle.
    fn write_row(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        if self.create.is_none() && self.changed {
            db.prepare_cached("UPDATE agents SET state = ?3 WHERE tenant = ?1 AND agent = ?2")?
                .execute(params![db.tenant.as_bytes(), self.agent.as_bytes(), self.state.stored_code()])?;
        }
        for revised in &self.revised {
            revised.write_rows(db, self.agent)?;
        }
        Ok(())
    }

    /// Registers the agent, in the state that the batch leaves it in.
    fn write_registration(&self, db: TenantDb<'_>, create: &AgentCreate) -> rusqlite::Result<()> {
        db.prepare_cached(
            "INSERT INTO agents (tenant, agent, handle, display_name, labels, at, state, revision, number) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1)",
        )?
        .execute(params![
            db.tenant.as_bytes(),
            self.agent.as_bytes(),
            create.handle.as_str(),
            create.display_name,
            labels_json(&create.labels),
            create.at.as_millisecond(),
            self.state.stored_code(),
            create.revision.as_bytes(),
        ])?;
        Ok(())
    }
}

impl TableDraft for AgentDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for (step, (agent, handle)) in self.handles.iter().enumerate() {
            let is_first = !self.handles[..step].iter().any(|(earlier, _)| earlier == agent);
            let draft = self.rows.iter().find(|draft| is_first && draft.agent == *agent);
            match draft.and_then(|draft| Some((draft, draft.create?))) {
                Some((draft, create)) => draft.write_registration(db, create)?,
                None => {
                    db.prepare_cached("UPDATE agents SET handle = ?3 WHERE tenant = ?1 AND agent = ?2")?
                        .execute(params![db.tenant.as_bytes(), agent.as_bytes(), handle.as_str()])?;
                }
            }
        }
        for draft in &self.rows {
            draft.write_row(db)?;
        }
        for pin in &self.pins {
            pin.write_row(db)?;
        }
        Ok(())
    }

    fn note_acts(&self, acts: &mut ActList<'_>) {
        for draft in &self.rows {
            if let Some(AgentCreate { agent, handle, revision, at, .. }) = draft.create {
                let (handle, revision) = (handle.clone(), *revision);
                acts.note_change(*at, AuditChange::AgentCreated { agent: *agent, handle, revision });
            }
            for revised in &draft.revised {
                revised.note_act(draft.agent, acts);
            }
            let renamed = self.handles.iter().filter(|(agent, _)| *agent == draft.agent);
            for (agent, handle) in renamed.skip(usize::from(draft.create.is_some())) {
                acts.note_wanted(AuditChange::AgentRenamed { agent: *agent, handle: (*handle).clone() });
            }
            if draft.changed {
                acts.note_wanted(AuditChange::AgentStateSet { agent: draft.agent, to: draft.state });
            }
        }
    }
}

/// Returns whether an agent was registered with exactly this content: its first revision says so, as long as it is kept.
fn agent_stands(db: TenantDb<'_>, create: &AgentCreate) -> Checked<bool> {
    let same = db
        .prepare_cached(
            "SELECT r.digest = ?4 AND r.config = ?5 AND r.request = ?6 FROM agents a JOIN revisions r \
             ON r.tenant = a.tenant AND r.agent = a.agent AND r.number = 1 \
             WHERE a.tenant = ?1 AND a.agent = ?2 AND a.at = ?3",
        )?
        .query_row(
            params![
                db.tenant.as_bytes(),
                create.agent.as_bytes(),
                create.at.as_millisecond(),
                create.revision.as_bytes(),
                config_json(&create.config),
                registered_names(create).as_bytes(),
            ],
            |row| row.get(0),
        )
        .optional()?
        .unwrap_or(false);
    Ok(same)
}
