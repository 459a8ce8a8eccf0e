//! Work that waits for a paused agent, and goes on when it is resumed.

use std::sync::Arc;

use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{PageRequest, ReadError};
use dromia_contracts::{AgentId, RunId, SessionId, TenantId};

use crate::core::EngineCore;
use crate::scheduler::ReadyWork;

const PAGE: usize = PageRequest::<RunId>::LIMIT_MAX;

/// Queues the work of agents that are resumed.
pub(crate) struct PausedWork<'a> {
    core: &'a Arc<EngineCore>,
}

impl<'a> PausedWork<'a> {
    /// Begins with the engine's shared parts.
    pub(crate) fn new(core: &'a Arc<EngineCore>) -> Self {
        Self { core }
    }

    /// Queues what an agent left waiting while it was paused, or all agents while their tenant was suspended.
    pub(crate) async fn wake_agents(&self, tenant: TenantId, only: Option<AgentId>) -> Result<(), ReadError> {
        let is_meant = |agent| only.is_none_or(|only| only == agent);
        let operator = self.core.node_operator();
        let store = &self.core.ports.store;
        let mut page = PageRequest { after: Some((tenant, RunId::from_bytes([0; 16]))), limit: PAGE };
        loop {
            let runs = store.open_runs(&operator, page).await?;
            for open in runs.iter().filter(|open| open.tenant == tenant && is_meant(open.run.agent)) {
                if open.run.head.status == RunStatus::Parked && open.run.head.wake_at.is_none() {
                    self.core.scheduler.push_ready(tenant, ReadyWork::Run(open.run.id));
                }
            }
            match runs.last() {
                Some(last) if runs.len() == PAGE && last.tenant == tenant => {
                    page.after = Some((tenant, last.run.id));
                }
                _ => break,
            }
        }
        let mut page = PageRequest { after: Some((tenant, SessionId::from_bytes([0; 16]))), limit: PAGE };
        loop {
            let sessions = store.pending_sessions(&operator, page).await?;
            for pending in
                sessions.iter().filter(|pending| pending.tenant == tenant && is_meant(pending.agent))
            {
                self.core.scheduler.push_ready(tenant, ReadyWork::Session(pending.session));
            }
            match sessions.last() {
                Some(last) if sessions.len() == PAGE && last.tenant == tenant => {
                    page.after = Some((tenant, last.session));
                }
                _ => break,
            }
        }
        self.core.dispatch_ready();
        Ok(())
    }
}
