//! Sessions whose waiting inputs are collected: each is claimed when no more of them has come for a moment.
//!
//! Nothing here is durable. After a crash the start finds the waiting session, and claims it then.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use dromia_contracts::{SessionId, TenantId};
use jiff::Timestamp;

use crate::core::EngineCore;
use crate::scheduler::ReadyWork;

/// The most sessions of one tenant that wait at a time. Beyond it a session is claimed at once.
const TENANT_SESSIONS_MAX: usize = 256;

/// The most sessions of all tenants together.
const SESSIONS_MAX: usize = 4096;

/// The sessions that wait, each with one sleeping task.
#[derive(Debug, Default)]
pub(crate) struct CollectedSessions {
    waiting: Mutex<BTreeSet<(TenantId, SessionId)>>,
}

impl CollectedSessions {
    /// Has a session claimed at a time, unless it waits already. Returns `false` if too many wait.
    pub(crate) fn claim_later(
        &self,
        core: &Arc<EngineCore>,
        tenant: TenantId,
        session: SessionId,
        until: Timestamp,
    ) -> bool {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.contains(&(tenant, session)) {
                return true;
            }
            let first = (tenant, SessionId::from_bytes([0; 16]));
            let own = waiting.range(first..).take_while(|(other, _)| *other == tenant).count();
            if own >= TENANT_SESSIONS_MAX || waiting.len() >= SESSIONS_MAX {
                return false;
            }
            waiting.insert((tenant, session));
        }
        let clock = &core.ports.runtime.clock;
        let pause = until.duration_since(clock.now()).try_into().unwrap_or_default();
        let (sleep, later) = (clock.sleep(pause), Arc::clone(core));
        core.ports.runtime.spawn.spawn(Box::pin(async move {
            sleep.await;
            later
                .collections
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&(tenant, session));
            later.enqueue_ready(tenant, ReadyWork::Session(session));
        }));
        true
    }
}
