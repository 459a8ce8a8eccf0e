//! Erasures of agents and tenants, with a caller who gets the counts of erased rows and without one.
//!
//! Erasures that no caller counts are of what was marked in an earlier life, or whose caller gave up.
//!
//! They run beside the janitor and not in it: a page of an erasure waits behind the turns of every tenant, an agent may
//! have any number of pages, and a parked run waits for none of them. Each has a task of its own, a tenant has one at a
//! time, and all together are bounded. The next scan for lost runs restarts a failed erasure, a while later and behind
//! all others; one that meets damage is not restarted.

mod tenant;
pub(crate) mod tracker;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dromia_contracts::agent::{AgentState, ErasureCounts};
use dromia_contracts::store::{AgentStateSet, Mutation, PageRequest, ReadError, WriteBatch};
use dromia_contracts::{AgentId, ErrorCode, Fault, RunId, Scope, TenantId};

use crate::agents::{agent_not_found, read_fault};
use crate::config::ERASURES_MAX;
use crate::core::EngineCore;
use crate::outcome::RunOutcomes;
use crate::panics::supervise_erasure;
use crate::refusal::item_erased;

use self::tracker::ErasureTarget;

const PAGE: usize = PageRequest::<RunId>::LIMIT_MAX;
/// How often an erasure looks whether the agent's runs have ended, and the milliseconds between two looks.
const END_LOOKS: u32 = 200;
const END_LOOK: Duration = Duration::from_millis(10);

/// An erasure whose caller gets the counts of erased rows. The janitor, which every run wakes that ends without its
/// rows, skips it meanwhile; it continues if this erasure ends too early.
struct ErasureGuard<'core> {
    core: &'core EngineCore,
    target: ErasureTarget,
    is_done: bool,
}

impl<'core> ErasureGuard<'core> {
    fn begin(core: &'core EngineCore, target: ErasureTarget) -> Self {
        core.erasures.begin_counted(target);
        Self { core, target, is_done: false }
    }
}

impl Drop for ErasureGuard<'_> {
    fn drop(&mut self) {
        self.core.erasures.end_counted(self.target);
        if !self.is_done {
            // Once it is marked, it is not found any more, so no caller can ask again: the janitor continues.
            self.core.caches.agents.forget_all();
            self.core.caches.summaries.forget_all();
            self.core.request_rescan();
        }
    }
}

/// An erasure and its place among those that run; the place is free again when it is dropped.
#[derive(Debug)]
struct LeftErasure {
    core: Arc<EngineCore>,
    target: ErasureTarget,
}

impl LeftErasure {
    fn try_begin(core: &Arc<EngineCore>, target: ErasureTarget) -> Option<Self> {
        let mut begun = core.erasures.lock_running();
        if begun.running.len() >= ERASURES_MAX || !begun.running.insert(target.0) {
            return None;
        }
        begun.last = Some(target);
        Some(Self { core: Arc::clone(core), target })
    }

    async fn run_to_end(self) {
        let (core, (tenant, agent)) = (Arc::clone(&self.core), self.target);
        let tasks = ErasureTasks::new(&core);
        let erased = match agent {
            Some(agent) => tasks.erase_agent(tenant, agent).await.map(drop),
            None => tasks.erase_tenant(tenant).await.map(drop),
        };
        drop(self);
        match erased {
            Ok(()) => {
                core.erasures.has_ended.store(true, Ordering::Release);
                core.janitor.notify_one();
            }
            // It would fail however often it is tried; the next start looks once more.
            Err(fault) if fault.code == ErrorCode::JournalDamaged => {
                tracing::error!(%tenant, ?agent, %fault, "an agent or tenant stays half erased until the store is repaired");
            }
            Err(fault) => {
                tracing::warn!(%tenant, ?agent, %fault, "an erasure must continue later");
                core.look_later().await;
            }
        }
    }
}

impl Drop for LeftErasure {
    fn drop(&mut self) {
        self.core.erasures.lock_running().running.remove(&self.target.0);
    }
}

/// Erases agents and tenants.
pub(crate) struct ErasureTasks<'a> {
    core: &'a Arc<EngineCore>,
}

impl<'a> ErasureTasks<'a> {
    /// Begins with the engine's shared parts.
    pub(crate) fn new(core: &'a Arc<EngineCore>) -> Self {
        Self { core }
    }

    /// Erases an agent and everything that belongs to it.
    ///
    /// The mark is durable first, so that a crash between two pages is found by the janitor and erased to the end.
    pub(crate) async fn agent_delete(&self, scope: &Scope, id: AgentId) -> Result<ErasureCounts, Fault> {
        let found = self.core.ports.store.agent(scope, id).await.map_err(read_fault)?;
        found.ok_or_else(|| agent_not_found(id))?;
        let set = AgentStateSet {
            agent: id,
            from: vec![AgentState::Running, AgentState::Paused, AgentState::Terminated],
            to: AgentState::Deleting,
        };
        let batch =
            WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), self.core.ports.runtime.clock.now());
        let mut erasing = ErasureGuard::begin(self.core, (scope.tenant(), Some(id)));
        self.core.ports.commit_batch(batch.with_mutation(Mutation::AgentStateSet(set))).await?;
        let erased = self.erase_agent(scope.tenant(), id).await?;
        erasing.is_done = true;
        Ok(erased)
    }

    /// Erases an agent that is marked: first its home, then its rows, page by page.
    ///
    /// The home goes before the last page, because that page removes the mark: after a crash the owner of the home
    /// would be unknown. No task is left by then that could write into it; a task that outlives the wait finds no home,
    /// and files that it creates again are wiped at the end.
    pub(crate) async fn erase_agent(&self, tenant: TenantId, agent: AgentId) -> Result<ErasureCounts, Fault> {
        self.core.caches.agents.forget_agent(agent);
        self.core.caches.summaries.forget_all();
        // The capabilities that it delegated end with the mark, not with the last page.
        self.core.ports.terms.note_agent_erased(tenant, agent).await;
        self.core.caches.session_keys.retain(|(_, id, _), _| *id != agent);
        let scope = self.core.recovery_scope(tenant);
        RunOutcomes::new(self.core).answer_queued(&scope, agent).await;
        self.let_end(tenant, agent).await;
        // Each owner that ended has given its state away by now.
        self.core.caches.parked.forget_agent(tenant, agent);
        let watched = self.watched_of(&scope, agent).await;
        let mut sum = ErasureCounts {
            files: self.core.ports.homes.wipe_home(tenant, agent).await?,
            ..ErasureCounts::default()
        };
        loop {
            let (page, last) =
                self.core.ports.store.erase_agent_page(&scope, agent).await.map_err(read_fault)?;
            sum.add_counts(page);
            if last {
                break;
            }
        }
        self.tell_of_erasure(agent, &watched);
        sum.files += self.core.ports.homes.wipe_home(tenant, agent).await?;
        Ok(sum)
    }

    /// Lists the runs of an agent that have a watcher.
    async fn watched_of(&self, scope: &Scope, agent: AgentId) -> Vec<RunId> {
        let mut of_agent = Vec::new();
        for run in self.core.hub.watched_runs() {
            // A watcher that is missed here polls by itself, only later.
            if matches!(self.core.ports.store.run(scope, run).await, Ok(Some(row)) if row.agent == agent) {
                of_agent.push(run);
            }
        }
        of_agent
    }

    /// Answers the callers that still wait for an agent whose rows are gone: a parked run has no task that could.
    fn tell_of_erasure(&self, agent: AgentId, watched: &[RunId]) {
        for (item, _) in self.core.hub.asked_of(agent) {
            self.core.hub.resolve_waiters(&[item], &Err(item_erased(agent, item)));
        }
        for run in watched {
            self.core.hub.end_watch(*run);
        }
    }

    /// Waits until no run of an agent has a task here or in another living process, but not for ever: a tool may take its
    /// time. An owner in another process learns with its next commit that the agent is gone.
    async fn let_end(&self, tenant: TenantId, agent: AgentId) {
        let clock = &self.core.ports.runtime.clock;
        for _ in 0..END_LOOKS {
            let active = self.core.hub.active_of(agent);
            if active.is_empty() && !self.is_held_elsewhere(tenant, agent).await {
                return;
            }
            for run in active {
                self.core.hub.signal_run(run);
            }
            clock.sleep(END_LOOK).await;
        }
    }

    /// Tells whether another living process works on a run of an agent. A read that fails delays no erasure.
    async fn is_held_elsewhere(&self, tenant: TenantId, agent: AgentId) -> bool {
        if self.core.lease.is_alone() {
            return false;
        }
        let operator = self.core.node_operator();
        let mut page = PageRequest { after: Some((tenant, RunId::from_bytes([0; 16]))), limit: PAGE };
        while let Ok(runs) = self.core.ports.store.open_runs(&operator, page).await {
            let mut of_agent = runs.iter().filter(|open| open.run.agent == agent);
            if of_agent.any(|open| self.core.lease.is_held_elsewhere(open.run.holder)) {
                return true;
            }
            match runs.last() {
                Some(last) if runs.len() == PAGE && last.tenant == tenant => {
                    page.after = Some((tenant, last.run.id));
                }
                _ => break,
            }
        }
        false
    }

    /// Begins the erasures that were left, as many as may run; each end asks for the next.
    pub(crate) async fn erase_left(&self) -> Result<(), ReadError> {
        let operator = self.core.node_operator();
        let agents = self.core.ports.store.deleting_agents(&operator).await?.into_iter();
        let tenants = self.core.ports.store.deleting_tenants(&operator).await?;
        // A tenant erases its agents itself.
        let agents = agents.filter(|(tenant, _)| !tenants.contains(tenant));
        let mut left: Vec<ErasureTarget> = agents.map(|(tenant, agent)| (tenant, Some(agent))).collect();
        left.extend(tenants.iter().map(|tenant| (*tenant, None)));
        left.sort_unstable();
        let last = self.core.erasures.lock_running().last;
        let next = left.partition_point(|one| Some(*one) <= last);
        left.rotate_left(next);
        for target in left {
            if self.core.erasures.is_counted(target) {
                continue;
            }
            if let Some(erasure) = LeftErasure::try_begin(self.core, target) {
                let work = supervise_erasure(Arc::clone(self.core), target, Box::pin(erasure.run_to_end()));
                self.core.ports.runtime.spawn.spawn(work);
            }
        }
        Ok(())
    }
}
