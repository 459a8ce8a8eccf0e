//! Erasures that no caller counts: of agents that were marked in an earlier life, or whose caller gave up.
//!
//! They run beside the janitor and not in it: a page of an erasure waits behind the turns of every tenant, an agent may
//! have any number of pages, and a parked run waits for none of them. Each has a task of its own, a tenant has one at a
//! time, and all together are bounded. The next scan for lost runs restarts a failed erasure, a while later and behind
//! all others; one that meets damage is not restarted.

pub(crate) mod tracker;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dromia_contracts::store::ReadError;
use dromia_contracts::{AgentId, ErrorCode, TenantId};

use crate::config::ERASURES_MAX;
use crate::core::EngineCore;
use crate::panics::supervise_erasure;

/// An erasure and its place among those that run; the place is free again when it is dropped.
#[derive(Debug)]
struct AgentErasure {
    core: Arc<EngineCore>,
    tenant: TenantId,
    agent: AgentId,
}

impl AgentErasure {
    fn try_begin(core: &Arc<EngineCore>, tenant: TenantId, agent: AgentId) -> Option<Self> {
        let mut begun = core.erasures.lock_running();
        if begun.running.len() >= ERASURES_MAX || begun.running.contains_key(&tenant) {
            return None;
        }
        begun.running.insert(tenant, agent);
        begun.last = Some((tenant, agent));
        Some(Self { core: Arc::clone(core), tenant, agent })
    }

    async fn run_to_end(self) {
        let (core, agent) = (Arc::clone(&self.core), self.agent);
        let erased = core.erase_agent(self.tenant, agent).await;
        drop(self);
        match erased {
            Ok(_) => {
                core.erasures.has_ended.store(true, Ordering::Release);
                core.janitor.notify_one();
            }
            // It would fail however often it is tried; the next start looks once more.
            Err(fault) if fault.code == ErrorCode::JournalDamaged => {
                tracing::error!(%agent, %fault, "an agent stays half erased until the store is mended");
            }
            Err(fault) => {
                tracing::warn!(%agent, %fault, "erasing an agent must go on later");
                core.look_later().await;
            }
        }
    }
}

impl Drop for AgentErasure {
    fn drop(&mut self) {
        self.core.erasures.lock_running().running.remove(&self.tenant);
    }
}

impl EngineCore {
    /// Begins the erasures that were left, as many as may run; each end asks for the next.
    pub(crate) async fn erase_left(self: &Arc<Self>) -> Result<(), ReadError> {
        let mut left = self.ports.store.deleting_agents(&self.node_operator()).await?;
        left.sort_unstable();
        let last = self.erasures.lock_running().last;
        let next = left.partition_point(|one| Some(*one) <= last);
        left.rotate_left(next);
        for (tenant, agent) in left {
            if self.is_erasing(agent) {
                continue;
            }
            if let Some(erasure) = AgentErasure::try_begin(self, tenant, agent) {
                let work = supervise_erasure(Arc::clone(self), agent, Box::pin(erasure.run_to_end()));
                self.ports.runtime.spawn.spawn(work);
            }
        }
        Ok(())
    }
}
