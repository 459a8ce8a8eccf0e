//! What a scope sees of the rows of its tenant.
//!
//! Nothing here asks whether a scope may: what it cannot see is not there.

use bytes::Bytes;
use dromia_contracts::run::RunRecord;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{PageRequest, Read, SessionTail, TailLimits};
use dromia_contracts::{RunId, Scope, SessionId};

use super::ReferenceStore;
use super::rows::TenantRows;

impl ReferenceStore {
    /// Looks at the rows of the scope's tenant; a tenant that is not there has none.
    pub(super) fn read_rows<'a, T: Default + Send + 'a>(
        &self,
        scope: &Scope,
        look: impl FnOnce(&TenantRows) -> T,
    ) -> Read<'a, T> {
        ready_read(self.lock_state().tenants.get(&scope.tenant()).map(look).unwrap_or_default())
    }
}

pub(super) fn ready_read<'a, T: Send + 'a>(value: T) -> Read<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl TenantRows {
    pub(super) fn seen_run(&self, scope: &Scope, id: RunId) -> Option<&RunRecord> {
        let found = self.runs.rows.get(&id).filter(|run| self.agents.is_seen(scope, run.agent));
        found.filter(|run| !self.sessions.hidden.contains(&run.session))
    }

    pub(super) fn session_tail(
        &self,
        scope: &Scope,
        id: SessionId,
        limits: TailLimits,
    ) -> Option<SessionTail> {
        let session = self.sessions.seen_session(scope, &self.agents, id)?.clone();
        let inbox = self.inbox.list_items(InboxOwner::Session(id));
        let upto = limits.until.map_or(session.head.taken, |until| until.min(session.head.taken));
        let (taken, waiting) = inbox.split_at(inbox.partition_point(|item| item.position <= upto));
        let (mut items_left, mut bytes_left) = (limits.items, limits.bytes);
        let mut from = taken.len();
        // From the newest run to older ones, whole runs only.
        for group in taken.chunk_by(|a, b| a.taken_by == b.taken_by).rev() {
            if group.last().is_some_and(|item| item.position <= limits.after) {
                break;
            }
            let said = group.iter().filter_map(|item| item.body.as_ref());
            let run = group.first().and_then(|item| item.taken_by);
            let told = run
                .map_or(&[][..], |run| self.runs.journal_entries(run))
                .iter()
                .filter_map(|entry| entry.body.as_ref());
            let bytes: usize = said.chain(told).map(Bytes::len).sum();
            if group.len() > items_left || bytes > bytes_left {
                break;
            }
            items_left -= group.len();
            bytes_left -= bytes;
            from -= group.len();
        }
        let runs = taken[from..].chunk_by(|a, b| a.taken_by == b.taken_by);
        let runs = runs
            .filter_map(|group| group[0].taken_by)
            .map(|run| (run, self.runs.journal_entries(run).to_vec().into()));
        let waiting =
            waiting.iter().filter(|_| limits.until.is_none()).take(PageRequest::<SessionId>::LIMIT_MAX);
        Some(SessionTail {
            runs: runs.collect(),
            items: taken[from..].iter().chain(waiting).cloned().collect(),
            session,
        })
    }
}
