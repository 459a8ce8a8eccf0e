//! What the operator asks about the whole node: every tenant's tokens, runs, sessions and deliveries.
//!
//! No scope narrows these reads, so nothing here is ever asked for a tenant.

use std::collections::BTreeMap;

use dromia_contracts::agent::{AgentState, HandleSlug, TenantRecord};
use dromia_contracts::delivery::{DeliverySummary, OpenDelivery};
use dromia_contracts::store::{CoolingApproval, OpenRun, PageRequest, PendingSession, TokenOwner};
use dromia_contracts::{AgentId, ApprovalId, DeliveryId, Digest, RunId, SessionId, TenantId};
use jiff::Timestamp;

use super::ReferenceState;
use super::page::page_rows;

impl ReferenceState {
    /// Lists tenants by id.
    pub(super) fn list_tenants(&self, asked: PageRequest<TenantId>) -> Vec<TenantRecord> {
        let rows = self.tenants.iter().filter_map(|(id, rows)| Some((*id, rows.seen_tenant(*id)?)));
        page_rows(rows, asked, false)
    }

    /// Finds a tenant by its handle.
    pub(super) fn tenant_by_handle(&self, handle: &HandleSlug) -> Option<TenantRecord> {
        let found = self.tenants.iter().find(|(_, rows)| rows.create.handle == *handle);
        found.and_then(|(id, rows)| rows.seen_tenant(*id))
    }

    /// Finds whose credential a token is.
    pub(super) fn find_token_owner(&self, hash: Digest) -> Option<TokenOwner> {
        self.tenants.iter().find_map(|(id, rows)| {
            let row = rows.tokens.rows.values().find(|row| row.hash == hash)?;
            Some(TokenOwner { tenant: rows.seen_tenant(*id)?, token: row.token.clone() })
        })
    }

    /// Lists approvals that are allowed by themselves: of each tenant the next, then of each the one after it.
    pub(super) fn cooling_approvals(
        &self,
        open_at: Timestamp,
        skip: usize,
        limit: usize,
    ) -> Vec<CoolingApproval> {
        let rows = self.tenants.iter().flat_map(|(tenant, rows)| {
            let seen =
                |agent| rows.agents.rows.get(agent).is_some_and(|agent| agent.state != AgentState::Deleting);
            let seen = rows.approvals.rows.values().filter(move |approval| seen(&approval.source.agent));
            let cooling = seen.filter_map(move |approval| {
                let until = approval.cooling_at(open_at)?;
                Some(CoolingApproval { tenant: *tenant, approval: approval.id, until })
            });
            let mut cooling: Vec<CoolingApproval> = cooling.collect();
            cooling.sort_by_key(|row| (row.until, row.approval));
            cooling.into_iter().enumerate()
        });
        let mut rows: Vec<(usize, CoolingApproval)> = rows.collect();
        rows.sort_by_key(|(turn, row)| (*turn, row.until, row.tenant, row.approval));
        let most = limit.min(PageRequest::<ApprovalId>::LIMIT_MAX);
        rows.into_iter().skip(skip).take(most).map(|(_, row)| row).collect()
    }

    /// Lists runs that have not ended.
    pub(super) fn open_runs(&self, asked: PageRequest<(TenantId, RunId)>) -> Vec<OpenRun> {
        let rows = self.tenants.iter().flat_map(|(tenant, rows)| {
            let open =
                rows.runs.rows.values().filter(|run| {
                    !run.head.status.is_terminal() && !rows.sessions.hidden.contains(&run.session)
                });
            open.map(|run| ((*tenant, run.id), OpenRun { tenant: *tenant, run: run.clone() }))
        });
        page_rows(rows, asked, false)
    }

    /// Lists open runs with a signal that no entry took.
    pub(super) fn signalled_runs(&self, asked: PageRequest<(TenantId, RunId)>) -> Vec<OpenRun> {
        let rows = self.tenants.iter().flat_map(|(tenant, rows)| {
            let seen = |id| rows.agents.rows.get(id).is_some_and(|agent| agent.state != AgentState::Deleting);
            let signalled = rows.runs.rows.values().filter(move |run| {
                !run.head.status.is_terminal()
                    && run.signals_last > run.signals_taken
                    && seen(&run.agent)
                    && !rows.sessions.hidden.contains(&run.session)
            });
            signalled.map(|run| ((*tenant, run.id), OpenRun { tenant: *tenant, run: run.clone() }))
        });
        page_rows(rows, asked, false)
    }

    /// Lists parked runs that time wakes, the earliest first.
    pub(super) fn parked_runs(&self, asked: PageRequest<(Timestamp, TenantId, RunId)>) -> Vec<OpenRun> {
        let runs = self.tenants.iter().flat_map(|(tenant, rows)| {
            let seen = |id| rows.agents.rows.get(id).is_some_and(|agent| agent.state != AgentState::Deleting);
            let seen = rows
                .runs
                .rows
                .values()
                .filter(move |run| seen(&run.agent) && !rows.sessions.hidden.contains(&run.session));
            let parked = seen.filter_map(|run| Some((run.head.wake_at?, run)));
            parked.map(|(at, run)| ((at, *tenant, run.id), OpenRun { tenant: *tenant, run: run.clone() }))
        });
        let mut runs: Vec<_> = runs.collect();
        runs.sort_by_key(|(place, _)| *place);
        page_rows(runs.into_iter(), asked, false)
    }

    /// Lists sessions with waiting items and no active turn.
    pub(super) fn pending_sessions(&self, asked: PageRequest<(TenantId, SessionId)>) -> Vec<PendingSession> {
        let rows = self.tenants.iter().flat_map(|(tenant, rows)| {
            let running =
                |id| rows.agents.rows.get(id).is_some_and(|agent| agent.state == AgentState::Running);
            let pending = rows.sessions.rows.values().filter(move |session| {
                session.head.active.is_none()
                    && session.head.last > session.head.taken
                    && running(&session.agent)
                    && rows.suspended_at.is_none()
                    && !rows.sessions.hidden.contains(&session.id)
            });
            pending.map(|session| {
                let row = PendingSession { tenant: *tenant, agent: session.agent, session: session.id };
                ((*tenant, session.id), row)
            })
        });
        page_rows(rows, asked, false)
    }

    /// Lists agents that are being erased.
    pub(super) fn deleting_agents(&self) -> Vec<(TenantId, AgentId)> {
        let rows = self.tenants.iter().flat_map(|(tenant, rows)| {
            let deleting = rows.agents.rows.values().filter(|agent| agent.state == AgentState::Deleting);
            deleting.map(|agent| (*tenant, agent.id))
        });
        rows.collect()
    }

    /// Lists tenants that are being erased.
    pub(super) fn deleting_tenants(&self) -> Vec<TenantId> {
        let marked = self.tenants.iter().filter(|(_, rows)| rows.erased_at.is_some());
        marked.map(|(id, _)| *id).collect()
    }

    /// Lists the first open delivery of each target.
    pub(super) fn outbox_heads(&self, wanted: PageRequest<(TenantId, String)>) -> Vec<OpenDelivery> {
        let mut heads = BTreeMap::<(TenantId, String), &DeliverySummary>::new();
        for (tenant, rows) in &self.tenants {
            let open = rows.outbox.rows.values().map(|row| &row.delivery).filter(|row| row.state.is_open());
            for delivery in open {
                let head = heads.entry((*tenant, delivery.target.clone())).or_insert(delivery);
                if delivery.position < head.position {
                    *head = delivery;
                }
            }
        }
        let heads = heads.into_iter().map(|(place, delivery)| {
            let tenant = place.0;
            (place, OpenDelivery { tenant, delivery: delivery.clone() })
        });
        page_rows(heads, wanted, false)
    }

    /// Finds the first open delivery of a target, however many targets there are.
    pub(super) fn first_open_delivery(&self, tenant: TenantId, target: &str) -> Option<OpenDelivery> {
        let rows = self.tenants.get(&tenant)?.outbox.rows.values().map(|row| &row.delivery);
        let open = rows.filter(|delivery| delivery.target == target && delivery.state.is_open());
        let delivery = open.min_by_key(|delivery| delivery.position)?.clone();
        Some(OpenDelivery { tenant, delivery })
    }

    /// Counts the open deliveries of a target.
    pub(super) fn outbox_waiting(&self, tenant: TenantId, target: &str) -> u64 {
        let rows = self.tenants.get(&tenant).into_iter().flat_map(|rows| rows.outbox.rows.values());
        let open = rows.filter(|row| row.delivery.target == target && row.delivery.state.is_open());
        open.count() as u64
    }

    /// Lists deliveries of the tenants after one that have no number in the feed yet.
    pub(super) fn unnumbered_deliveries(
        &self,
        after: Option<TenantId>,
        limit: usize,
    ) -> Vec<(TenantId, DeliveryId)> {
        let mut found = Vec::new();
        for (tenant, rows) in self.tenants.iter().filter(|(tenant, _)| Some(**tenant) > after) {
            let of_tenant = rows.outbox.rows.values().map(|row| &row.delivery);
            let mut waiting: Vec<_> = of_tenant.filter(|delivery| delivery.feed.is_none()).collect();
            waiting.sort_by(|a, b| (&a.target, a.position).cmp(&(&b.target, b.position)));
            found.extend(waiting.into_iter().map(|delivery| (*tenant, delivery.id)));
        }
        found.truncate(limit.min(PageRequest::<DeliveryId>::LIMIT_MAX));
        found
    }
}
