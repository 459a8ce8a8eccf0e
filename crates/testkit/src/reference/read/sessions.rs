//! Conversations and what came of them, as a scope sees them: sessions with their inboxes and custom state, runs with their
//! journals.

use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::session::{InboxItem, InboxOwner, SessionKey, SessionRecord};
use dromia_contracts::store::{KeyedItem, PageRequest, RunFilter, StateEntry, StoredEntry};
use dromia_contracts::{AgentId, RunId, Scope, SessionId};
use jiff::Timestamp;

use crate::reference::rows::TenantRows;
use crate::reference::scope_view::page_rows;

impl TenantRows {
    pub(super) fn list_sessions(
        &self,
        scope: &Scope,
        agent: Option<AgentId>,
        asked: PageRequest<SessionId>,
    ) -> Vec<SessionRecord> {
        let wanted = self.sessions.values().rev().filter(|session| {
            self.sees_agent(scope, session.agent)
                && agent.is_none_or(|agent| agent == session.agent)
                && !self.imports.contains(&session.id)
        });
        page_rows(wanted.map(|session| (session.id, session.clone())), asked, true)
    }

    pub(super) fn list_runs(
        &self,
        scope: &Scope,
        filter: RunFilter,
        asked: PageRequest<RunId>,
    ) -> Vec<RunRecord> {
        let RunFilter { session, agent, status } = filter;
        let wanted = move |run: &&RunRecord| {
            session.is_none_or(|session| session == run.session)
                && agent.is_none_or(|agent| agent == run.agent)
                && status.is_none_or(|status: RunStatus| status == run.head.status)
                && !self.imports.contains(&run.session)
        };
        let seen = self.runs.values().rev().filter(|run| self.sees_agent(scope, run.agent)).filter(wanted);
        page_rows(seen.map(|run| (run.id, run.clone())), asked, true)
    }

    pub(super) fn list_entries(
        &self,
        scope: &Scope,
        run: RunId,
        after: u64,
        limit: usize,
    ) -> Vec<StoredEntry> {
        let entries = self.seen_run(scope, run).map_or(&[][..], |run| self.journal_entries(run.id));
        let wanted = entries.iter().filter(|entry| entry.seq > after);
        wanted.take(limit.min(PageRequest::<RunId>::LIMIT_MAX)).cloned().collect()
    }

    pub(super) fn list_items(
        &self,
        scope: &Scope,
        owner: InboxOwner,
        after: u64,
        limit: usize,
    ) -> Vec<InboxItem> {
        let seen = self.owner_agent(owner).is_some_and(|agent| self.sees_agent(scope, agent));
        let items = if seen && !self.is_importing(owner) { self.inbox_items(owner) } else { &[] };
        let wanted = items.iter().filter(|item| item.position > after);
        wanted.take(limit.min(PageRequest::<RunId>::LIMIT_MAX)).cloned().collect()
    }

    pub(super) fn find_keyed(&self, scope: &Scope, key: &str, at: Timestamp) -> Option<KeyedItem> {
        let row = self.item_keys.get(key).filter(|_| scope.agent().is_none())?;
        row.expires_at.is_none_or(|end| at < end).then_some(KeyedItem {
            item: row.item,
            owner: row.owner,
            position: row.position,
            request: row.key.request,
        })
    }

    pub(super) fn list_state(
        &self,
        scope: &Scope,
        session: SessionId,
        page: PageRequest<&str>,
    ) -> Vec<StateEntry> {
        let seen = self.seen_session(scope, session).is_some();
        let entries = self.states.iter().filter(|((of, _), _)| seen && *of == session);
        let wanted = entries.filter(|((_, name), _)| page.after.is_none_or(|after| name.as_str() > after));
        let wanted = wanted.take(page.limit.min(PageRequest::<RunId>::LIMIT_MAX));
        wanted.map(|((_, name), row)| row.state_entry(name)).collect()
    }

    pub(super) fn find_state(&self, scope: &Scope, session: SessionId, name: &str) -> Option<StateEntry> {
        let seen = self.seen_session(scope, session).is_some();
        let found = self.states.get(&(session, name.to_owned())).filter(|_| seen);
        found.map(|row| row.state_entry(name))
    }

    pub(super) fn find_session(
        &self,
        scope: &Scope,
        agent: AgentId,
        key: &SessionKey,
    ) -> Option<SessionRecord> {
        let id = self.session_keys.get(&(agent, key.clone()))?;
        self.seen_session(scope, *id).cloned()
    }
}
