//! Runs with their journals, and inboxes, as a scope sees them.

use std::cmp::Reverse;

use bytes::Bytes;
use dromia_contracts::cost::CostTotals;
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::session::{IMPORT, InboxItem, InboxOwner, ItemKind};
use dromia_contracts::store::{
    OPENING_BYTES_MAX, OPENINGS_BYTES_MAX, PageRequest, RunFilter, SpendingSum, StoredEntry,
    WORKING_LOOKS_MAX,
};
use dromia_contracts::{RunId, Scope};
use jiff::Timestamp;

use crate::reference::page::page_rows;
use crate::reference::rows::TenantRows;

impl TenantRows {
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
                && !self.sessions.hidden.contains(&run.session)
        };
        let seen =
            self.runs.rows.values().rev().filter(|run| self.agents.is_seen(scope, run.agent)).filter(wanted);
        page_rows(seen.map(|run| (run.id, run.clone())), asked, true)
    }

    /// Lists held runs, then those that yielded or failed lately.
    pub(super) fn list_troubled(&self, scope: &Scope, since: Timestamp, limit: usize) -> Vec<RunRecord> {
        let mut found = Vec::new();
        for status in [RunStatus::Held, RunStatus::Yielded, RunStatus::Failed] {
            let is_wanted = |run: &&RunRecord| {
                run.head.status == status
                    && (status == RunStatus::Held
                        || run.updated_at.as_millisecond() >= since.as_millisecond())
                    && self.agents.is_seen(scope, run.agent)
                    && !self.sessions.hidden.contains(&run.session)
            };
            let mut same: Vec<_> = self.runs.rows.values().filter(is_wanted).cloned().collect();
            same.sort_by_key(|run| Reverse((run.updated_at, run.id)));
            found.extend(same);
        }
        found.truncate(limit.min(PageRequest::<RunId>::LIMIT_MAX));
        found
    }

    /// Lists runs that have something to do, then those that rest, among the newest open ones.
    pub(super) fn list_working(&self, scope: &Scope, limit: usize) -> Vec<RunRecord> {
        let open = self.runs.rows.values().rev().filter(|run| {
            !run.head.status.is_terminal()
                && self.agents.is_seen(scope, run.agent)
                && !self.sessions.hidden.contains(&run.session)
        });
        let mut found: Vec<_> =
            open.take(WORKING_LOOKS_MAX).filter(|run| run.head.status != RunStatus::Held).cloned().collect();
        found.sort_by_key(|run| (run.head.status, Reverse(run.id)));
        found.truncate(limit.min(PageRequest::<RunId>::LIMIT_MAX));
        found
    }

    /// Sums up what runs spent from one on, without those that came as a file.
    pub(super) fn sum_since(&self, scope: &Scope, first: RunId, limit: usize) -> SpendingSum {
        let is_imported = |run: &RunRecord| {
            let session = self.sessions.rows.get(&run.session);
            run.id.as_bytes()[..6] == run.session.as_bytes()[..6]
                && session.is_some_and(|session| session.key.platform == IMPORT)
        };
        let runs = self.runs.rows.range(first..).rev().map(|(_, run)| run).filter(|run| {
            self.agents.is_seen(scope, run.agent)
                && !self.sessions.hidden.contains(&run.session)
                && !is_imported(run)
        });
        runs.take(limit).fold(SpendingSum::default(), |mut sum, run| {
            sum.runs += 1;
            sum.spent.add(CostTotals::from(run));
            sum
        })
    }

    pub(super) fn list_entries(
        &self,
        scope: &Scope,
        run: RunId,
        after: u64,
        limit: usize,
    ) -> Vec<StoredEntry> {
        let entries = self.seen_run(scope, run).map_or(&[][..], |run| self.runs.journal_entries(run.id));
        let wanted = entries.iter().filter(|entry| entry.seq > after);
        wanted.take(limit.min(PageRequest::<RunId>::LIMIT_MAX)).cloned().collect()
    }

    pub(super) fn opening_inputs(&self, scope: &Scope, owners: &[InboxOwner]) -> Vec<Option<Bytes>> {
        let mut left = OPENINGS_BYTES_MAX;
        let openings = owners.iter().map(|owner| {
            let item = match owner {
                InboxOwner::Session(_) => self.list_items(scope, *owner, 0, 1).into_iter().next(),
                InboxOwner::Run(id) => {
                    let run = self.seen_run(scope, *id)?;
                    let items = self.inbox.list_items(InboxOwner::Session(run.session));
                    items.iter().find(|item| item.taken_by == Some(*id)).cloned()
                }
            };
            let body = item.filter(|item| item.kind == ItemKind::Input)?.body?;
            let fits = body.len() <= OPENING_BYTES_MAX.min(left);
            left -= if fits { body.len() } else { 0 };
            fits.then_some(body)
        });
        openings.collect()
    }

    pub(super) fn list_items(
        &self,
        scope: &Scope,
        owner: InboxOwner,
        after: u64,
        limit: usize,
    ) -> Vec<InboxItem> {
        let seen = self.owner_agent(owner).is_some_and(|agent| self.agents.is_seen(scope, agent));
        let items = if seen && !self.is_importing(owner) { self.inbox.list_items(owner) } else { &[] };
        let wanted = items.iter().filter(|item| item.position > after);
        wanted.take(limit.min(PageRequest::<RunId>::LIMIT_MAX)).cloned().collect()
    }
}
