//! Conversations and what came of them, as a scope sees them: sessions with their inboxes and custom state, runs with their
//! journals.

use dromia_contracts::run::{Run, RunStatus};
use dromia_contracts::session::{InboxItem, InboxOwner, Session, SessionKey};
use dromia_contracts::store::{KeyedItem, Page, RunFilter, StateEntry, StoredEntry};
use dromia_contracts::{AgentId, RunId, Scope, SessionId};
use jiff::Timestamp;

use crate::reference::rows::TenantRows;
use crate::reference::seen::page;

impl TenantRows {
    pub(super) fn list_sessions(
        &self,
        scope: &Scope,
        agent: Option<AgentId>,
        asked: Page<SessionId>,
    ) -> Vec<Session> {
        let wanted = self.sessions.values().rev().filter(|session| {
            self.sees(scope, session.agent)
                && agent.is_none_or(|agent| agent == session.agent)
                && !self.imports.contains(&session.id)
        });
        page(wanted.map(|session| (session.id, session.clone())), asked, true)
    }

    pub(super) fn list_runs(&self, scope: &Scope, filter: RunFilter, asked: Page<RunId>) -> Vec<Run> {
        let RunFilter { session, agent, status } = filter;
        let wanted = move |run: &&Run| {
            session.is_none_or(|session| session == run.session)
                && agent.is_none_or(|agent| agent == run.agent)
                && status.is_none_or(|status: RunStatus| status == run.head.status)
                && !self.imports.contains(&run.session)
        };
        let seen = self.runs.values().rev().filter(|run| self.sees(scope, run.agent)).filter(wanted);
        page(seen.map(|run| (run.id, run.clone())), asked, true)
    }

    pub(super) fn list_entries(
        &self,
        scope: &Scope,
        run: RunId,
        after: u64,
        limit: usize,
    ) -> Vec<StoredEntry> {
        let entries = self.seen_run(scope, run).map_or(&[][..], |run| self.journal(run.id));
        let wanted = entries.iter().filter(|entry| entry.seq > after);
        wanted.take(limit.min(Page::<RunId>::LIMIT_MAX)).cloned().collect()
    }

    pub(super) fn list_items(
        &self,
        scope: &Scope,
        owner: InboxOwner,
        after: u64,
        limit: usize,
    ) -> Vec<InboxItem> {
        let seen = self.owner_agent(owner).is_some_and(|agent| self.sees(scope, agent));
        let items = if seen && !self.is_importing(owner) { self.inbox(owner) } else { &[] };
        let wanted = items.iter().filter(|item| item.position > after);
        wanted.take(limit.min(Page::<RunId>::LIMIT_MAX)).cloned().collect()
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

    pub(super) fn list_state(&self, scope: &Scope, session: SessionId, page: Page<&str>) -> Vec<StateEntry> {
        let seen = self.seen_session(scope, session).is_some();
        let entries = self.states.iter().filter(|((of, _), _)| seen && *of == session);
        let wanted = entries.filter(|((_, name), _)| page.after.is_none_or(|after| name.as_str() > after));
        let wanted = wanted.take(page.limit.min(Page::<RunId>::LIMIT_MAX));
        wanted.map(|((_, name), row)| row.entry(name)).collect()
    }

    pub(super) fn find_state(&self, scope: &Scope, session: SessionId, name: &str) -> Option<StateEntry> {
        let seen = self.seen_session(scope, session).is_some();
        let found = self.states.get(&(session, name.to_owned())).filter(|_| seen);
        found.map(|row| row.entry(name))
    }

    pub(super) fn find_session(&self, scope: &Scope, agent: AgentId, key: &SessionKey) -> Option<Session> {
        let id = self.session_keys.get(&(agent, key.clone()))?;
        self.seen_session(scope, *id).cloned()
    }
}
