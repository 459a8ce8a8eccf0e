//! How long sessions stay: erases those that rested for as long as their tenant's policy says, on request and by itself.
//!
//! What may be erased the store decides, in the commit that erases it; here is only when. One session after the other is
//! erased, each to its last row, so a crash leaves at most one of a tenant half gone, and that one is hidden and continued. A
//! session is never erased because a disk is full or a list is long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dromia_contracts::agent::{ErasureCounts, TenantRecord};
use dromia_contracts::retention::{IdlePage, RetentionPolicy, SessionHold};
use dromia_contracts::runs::RetentionPage;
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, Mutation, PageRequest, ReadError, SessionErase, SessionHoldSet, WriteBatch,
    WriterLane,
};
use dromia_contracts::{Actor, BoxFuture, Fault, Scope, SessionId, TenantId};
use jiff::Timestamp;

use crate::agents::read_fault;
use crate::core::EngineCore;
use crate::panics::panic_of;
use crate::refusal::{commit_fault, session_not_found};

/// The time from the end of one pass over all tenants to the next.
const PASS_PAUSE: Duration = Duration::from_mins(10);
/// A page of a request ends with the session after which so many entries were erased.
const ENTRIES_ERASED: u64 = 20_000;
/// How many sessions one read looks at.
const LOOKED_AT: usize = 64;

/// Begins a pass over all tenants now and then; one at a time.
#[derive(Debug, Default)]
pub(crate) struct RetentionTimer {
    is_running: Arc<AtomicBool>,
    /// The last pass came to no end, so the next one does not wait for its time.
    has_failed: Arc<AtomicBool>,
    /// By the steady clock.
    next: Option<Duration>,
}

impl RetentionTimer {
    /// Begins a pass if one is due and none runs. It has a task of its own: the janitor waits for no erasure.
    pub(crate) fn begin_if_due(&mut self, core: &Arc<EngineCore>) {
        let now = core.ports.runtime.clock.monotonic_now();
        if self.is_running.load(Ordering::Acquire) {
            self.next = Some(now + PASS_PAUSE);
            return;
        }
        let is_due = self.next.is_none_or(|next| now >= next) || self.has_failed.load(Ordering::Acquire);
        if !is_due || core.ports.store.store_health().read_only.is_some() {
            return;
        }
        self.has_failed.store(false, Ordering::Release);
        self.next = Some(now + PASS_PAUSE);
        self.is_running.store(true, Ordering::Release);
        let (core, is_running) = (Arc::clone(core), Arc::clone(&self.is_running));
        let (failed, panicked) = (Arc::clone(&self.has_failed), Arc::clone(&self.has_failed));
        let spawn = Arc::clone(&core.ports.runtime.spawn);
        spawn.spawn(Box::pin(async move {
            let pass: BoxFuture<'static, ()> = Box::pin(async move {
                if let Err(fault) = RetentionTasks::new(&core).erase_due_everywhere().await {
                    tracing::warn!(%fault, "sessions that are due must be erased later");
                    failed.store(true, Ordering::Release);
                }
            });
            if panic_of(pass).await.is_some() {
                tracing::error!("the erasure of sessions that are due panicked; it continues later");
                panicked.store(true, Ordering::Release);
            }
            is_running.store(false, Ordering::Release);
        }));
    }
}

/// Erases sessions, and sets holds.
pub(crate) struct RetentionTasks<'a> {
    core: &'a EngineCore,
}

impl<'a> RetentionTasks<'a> {
    /// Begins with the engine's shared parts.
    pub(crate) fn new(core: &'a EngineCore) -> Self {
        Self { core }
    }

    /// Erases a session with its children, because an actor wants it.
    pub(crate) async fn session_delete(
        &self,
        scope: &Scope,
        session: SessionId,
    ) -> Result<ErasureCounts, Fault> {
        self.core
            .ports
            .store
            .session(scope, session)
            .await
            .map_err(read_fault)?
            .ok_or_else(|| session_not_found(session))?;
        let at = self.core.ports.runtime.clock.now();
        let erase = SessionErase { session, idle_before: None, at };
        match self.erase_tree(scope, erase).await? {
            CommitOutcome::Done(_) => self.erase_rest_of(scope.tenant()).await,
            other => Err(commit_fault(other)),
        }
    }

    /// Sets a session on hold, or ends its hold. Returns the hold that lasts.
    pub(crate) async fn set_hold(
        &self,
        scope: &Scope,
        session: SessionId,
        held: bool,
    ) -> Result<Option<SessionHold>, Fault> {
        let store = &self.core.ports.store;
        store.session(scope, session).await.map_err(read_fault)?.ok_or_else(|| session_not_found(session))?;
        let since = self.core.ports.runtime.clock.now();
        let hold = held.then(|| SessionHold { by: scope.actor().clone(), since });
        let batch = WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), since);
        let set = Mutation::SessionHoldSet(SessionHoldSet { session, hold });
        self.core.ports.commit_batch(batch.with_mutation(set)).await?;
        store.session_hold(scope, session).await.map_err(read_fault)
    }

    /// Returns how long sessions of the scope's tenant stay.
    pub(crate) async fn policy(&self, scope: &Scope) -> Result<RetentionPolicy, Fault> {
        let tenant = self.core.ports.store.tenant_record(scope).await.map_err(read_fault)?;
        Ok(tenant.map(|tenant| self.policy_of(&tenant)).unwrap_or_default())
    }

    fn policy_of(&self, tenant: &TenantRecord) -> RetentionPolicy {
        let config = self.core.config();
        config.retention.of_tenants.get(&tenant.handle).copied().unwrap_or(config.retention.default)
    }

    /// Looks at the next sessions of the scope's tenant for those that are due now; erases them where it is asked to.
    pub(crate) async fn next_page(
        &self,
        scope: &Scope,
        after: Option<SessionId>,
        erases: bool,
    ) -> Result<RetentionPage, Fault> {
        let mut page = RetentionPage::default();
        if erases {
            // What an earlier request left half erased.
            page.erased = self.erase_rest_of(scope.tenant()).await?;
        }
        let policy = self.policy(scope).await?;
        let Some(before) = policy.idle_before(self.core.ports.runtime.clock.now()) else {
            return Ok(page);
        };
        let looked = PageRequest { after, limit: LOOKED_AT };
        let found = self.core.ports.store.idle_sessions(scope, before, looked).await.map_err(read_fault)?;
        page.next = found.next;
        if erases {
            self.erase_sessions(scope, before, found, &mut page).await?;
        } else {
            page.due = found.due;
        }
        Ok(page)
    }

    /// Erases the sessions of a page, each to its last row. One that something keeps since the page was read stays, and is
    /// not among those that are returned.
    async fn erase_sessions(
        &self,
        scope: &Scope,
        before: Timestamp,
        found: IdlePage,
        page: &mut RetentionPage,
    ) -> Result<(), Fault> {
        let tenant = scope.tenant();
        for idle in found.due {
            let at = self.core.ports.runtime.clock.now();
            let erase = SessionErase { session: idle.session, idle_before: Some(before), at };
            match self.erase_tree(scope, erase).await? {
                CommitOutcome::Done(_) => {}
                CommitOutcome::Refused(CommitRefusal::SessionKept { .. } | CommitRefusal::NotFound(_)) => {
                    continue;
                }
                other => return Err(commit_fault(other)),
            }
            page.erased.add_counts(self.erase_rest_of(tenant).await?);
            page.due.push(idle);
            if page.erased.entries >= ENTRIES_ERASED {
                page.next = page.due.last().map(|idle| idle.session);
                break;
            }
        }
        Ok(())
    }

    /// Erases a session with its children, in as many commits as these take: the session itself goes with the last one, so
    /// an erasure that was interrupted can be asked for again.
    async fn erase_tree(&self, scope: &Scope, erase: SessionErase) -> Result<CommitOutcome, Fault> {
        loop {
            let outcome = self.try_erasure(scope.tenant(), scope.actor(), erase).await;
            let CommitOutcome::Done(_) = outcome else { return Ok(outcome) };
            let left = self.core.ports.store.session(scope, erase.session).await.map_err(read_fault)?;
            if left.is_none() {
                return Ok(outcome);
            }
        }
    }

    async fn try_erasure(&self, tenant: TenantId, by: &Actor, erase: SessionErase) -> CommitOutcome {
        let mut batch = WriteBatch::new(tenant).wanted_by(by, erase.at);
        batch.lane = WriterLane::Bulk;
        let outcome = self.core.ports.store.commit(batch.with_mutation(Mutation::SessionErase(erase))).await;
        // Its children may have been found by their keys, too.
        self.core.caches.session_keys.retain(|(of, _, _), _| *of != tenant);
        outcome
    }

    /// Erases the rows that are left of every erased session of a tenant.
    async fn erase_rest_of(&self, tenant: TenantId) -> Result<ErasureCounts, Fault> {
        let erasing = self.core.ports.store.erasing_sessions(&self.core.node_operator()).await;
        let mut sum = ErasureCounts::default();
        for (_, session) in erasing.map_err(read_fault)?.into_iter().filter(|(of, _)| *of == tenant) {
            sum.add_counts(self.erase_rest(tenant, session).await.map_err(read_fault)?);
        }
        Ok(sum)
    }

    async fn erase_rest(&self, tenant: TenantId, session: SessionId) -> Result<ErasureCounts, ReadError> {
        let scope = self.core.recovery_scope(tenant);
        let mut sum = ErasureCounts::default();
        loop {
            let (page, last) = self.core.ports.store.erase_session_page(&scope, session).await?;
            sum.add_counts(page);
            if last {
                return Ok(sum);
            }
        }
    }

    /// Continues what an earlier life left half erased, and erases what is due of every tenant with a policy.
    async fn erase_due_everywhere(&self) -> Result<(), Fault> {
        let (store, operator) = (&self.core.ports.store, self.core.node_operator());
        loop {
            let erasing = store.erasing_sessions(&operator).await.map_err(read_fault)?;
            for (tenant, session) in &erasing {
                self.erase_rest(*tenant, *session).await.map_err(read_fault)?;
            }
            if erasing.is_empty() || self.core.is_draining() {
                break;
            }
        }
        let mut page = PageRequest::first_page(PageRequest::<TenantId>::LIMIT_MAX);
        loop {
            let tenants = store.tenants(&operator, page).await.map_err(read_fault)?;
            for tenant in &tenants {
                self.erase_due_of(tenant).await?;
            }
            match tenants.last() {
                Some(last) if tenants.len() == page.limit => page.after = Some(last.id),
                _ => return Ok(()),
            }
        }
    }

    async fn erase_due_of(&self, tenant: &TenantRecord) -> Result<(), Fault> {
        if self.policy_of(tenant).sessions.is_none() {
            return Ok(());
        }
        let scope = self.core.recovery_scope(tenant.id);
        let (mut after, mut sessions) = (None, 0);
        while !self.core.is_draining() {
            let page = self.next_page(&scope, after, true).await?;
            sessions += page.due.len();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if sessions > 0 {
            tracing::info!(tenant = %tenant.handle, sessions, "sessions that had rested for long enough were erased");
        }
        Ok(())
    }
}
