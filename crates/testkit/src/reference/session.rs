//! Sessions of the reference store with their custom state, and which of them a scope sees.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::retention::SessionHold;
use dromia_contracts::session::{SessionHead, SessionKey, SessionRecord};
use dromia_contracts::store::{CommitRefusal, PageRequest, SessionOpen, StateEntry, StatePut};
use dromia_contracts::{AgentId, RunId, Scope, SessionId, WriteId};

use super::agent::AgentRows;
use super::page::page_rows;

/// The tenant's sessions.
#[derive(Debug, Clone, Default)]
pub(super) struct SessionRows {
    pub(super) rows: BTreeMap<SessionId, SessionRecord>,
    pub(super) keys: BTreeMap<(AgentId, SessionKey), SessionId>,
    /// The sessions that an import fills, and those that were erased; no read shows them.
    pub(super) hidden: BTreeSet<SessionId>,
    /// The sessions that were erased and have rows left, each with its agent.
    pub(super) erased: BTreeMap<SessionId, AgentId>,
    pub(super) holds: BTreeMap<SessionId, SessionHold>,
    pub(super) states: BTreeMap<(SessionId, String), StateRow>,
}

#[derive(Debug, Clone)]
pub(super) struct StateRow {
    pub(super) version: u64,
    value: Bytes,
    write: WriteId,
}

impl StateRow {
    /// Shows the row as it is read.
    fn state_entry(&self, name: &str) -> StateEntry {
        StateEntry { name: name.to_owned(), version: self.version, value: self.value.clone() }
    }
}

impl SessionRows {
    pub(in crate::reference) fn open_session(
        &mut self,
        open: &SessionOpen,
        agents: &AgentRows,
    ) -> Result<(), CommitRefusal> {
        let SessionOpen { session, agent, key, at, .. } = open;
        if let Some(known) = self.rows.get(session) {
            let same =
                (known.agent, &known.key, known.opened_at, &known.origin) == (*agent, key, *at, &open.origin);
            return if same {
                Ok(())
            } else {
                Err(CommitRefusal::Malformed(format!("{session} exists already")))
            };
        }
        match agents.find_state(*agent) {
            None | Some(AgentState::Deleting) => return Err(CommitRefusal::NotFound(agent.to_string())),
            Some(AgentState::Running | AgentState::Paused | AgentState::Terminated) => {}
        }
        if let Some(found) = self.keys.get(&(*agent, key.clone())) {
            return Err(CommitRefusal::SessionExists { session: *found });
        }
        self.keys.insert((*agent, key.clone()), *session);
        let (head, origin) = (SessionHead::default(), open.origin.clone());
        let row =
            SessionRecord { id: *session, agent: *agent, key: key.clone(), opened_at: *at, head, origin };
        self.rows.insert(*session, row);
        if open.importing {
            self.hidden.insert(*session);
        }
        Ok(())
    }

    pub(in crate::reference) fn end_import(&mut self, id: SessionId) -> Result<(), CommitRefusal> {
        let session = self.rows.get(&id).ok_or_else(|| CommitRefusal::NotFound(id.to_string()))?;
        if !self.hidden.contains(&id) {
            return Ok(());
        }
        if session.head.active.is_some() || session.head.last > session.head.taken {
            return Err(CommitRefusal::Malformed(format!("the import of {id} is not whole")));
        }
        self.hidden.remove(&id);
        Ok(())
    }

    pub(in crate::reference) fn put_state(&mut self, put: &StatePut) -> Result<(), CommitRefusal> {
        let session = self.rows.get(&put.session);
        session.ok_or_else(|| CommitRefusal::NotFound(put.session.to_string()))?;
        let place = (put.session, put.name.clone());
        let known = self.states.get(&place);
        let found = known.map_or(0, |row| row.version);
        let next = put.expected.unwrap_or(found) + 1;
        if known.is_some_and(|row| row.write == put.write) {
            return Ok(());
        }
        if put.expected.is_some_and(|expected| expected != found) {
            return Err(CommitRefusal::StateVersion { found });
        }
        if known.is_none() {
            let entries = self.states.keys().filter(|(session, _)| *session == put.session).count();
            if entries >= StatePut::ENTRIES_MAX {
                return Err(CommitRefusal::Malformed(format!(
                    "a session has at most {} state entries",
                    StatePut::ENTRIES_MAX
                )));
            }
        }
        self.states.insert(place, StateRow { version: next, value: put.value.clone(), write: put.write });
        Ok(())
    }

    pub(in crate::reference) fn seen_session(
        &self,
        scope: &Scope,
        agents: &AgentRows,
        id: SessionId,
    ) -> Option<&SessionRecord> {
        let found = self.rows.get(&id).filter(|session| agents.is_seen(scope, session.agent));
        found.filter(|_| !self.hidden.contains(&id))
    }

    pub(in crate::reference) fn list_sessions(
        &self,
        scope: &Scope,
        agents: &AgentRows,
        agent: Option<AgentId>,
        asked: PageRequest<SessionId>,
    ) -> Vec<SessionRecord> {
        let wanted = self.rows.values().rev().filter(|session| {
            agents.is_seen(scope, session.agent)
                && agent.is_none_or(|agent| agent == session.agent)
                && !self.hidden.contains(&session.id)
        });
        page_rows(wanted.map(|session| (session.id, session.clone())), asked, true)
    }

    pub(in crate::reference) fn list_state(
        &self,
        scope: &Scope,
        agents: &AgentRows,
        session: SessionId,
        page: PageRequest<&str>,
    ) -> Vec<StateEntry> {
        let seen = self.seen_session(scope, agents, session).is_some();
        let entries = self.states.iter().filter(|((of, _), _)| seen && *of == session);
        let wanted = entries.filter(|((_, name), _)| page.after.is_none_or(|after| name.as_str() > after));
        let wanted = wanted.take(page.limit.min(PageRequest::<RunId>::LIMIT_MAX));
        wanted.map(|((_, name), row)| row.state_entry(name)).collect()
    }

    pub(in crate::reference) fn find_state(
        &self,
        scope: &Scope,
        agents: &AgentRows,
        session: SessionId,
        name: &str,
    ) -> Option<StateEntry> {
        let seen = self.seen_session(scope, agents, session).is_some();
        let found = self.states.get(&(session, name.to_owned())).filter(|_| seen);
        found.map(|row| row.state_entry(name))
    }

    pub(in crate::reference) fn find_session(
        &self,
        scope: &Scope,
        agents: &AgentRows,
        agent: AgentId,
        key: &SessionKey,
    ) -> Option<SessionRecord> {
        let id = self.keys.get(&(agent, key.clone()))?;
        self.seen_session(scope, agents, *id).cloned()
    }
}
