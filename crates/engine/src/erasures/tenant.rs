//! The erasure of a tenant: its mark first, then its agents, one after the other as each is erased alone, then its rows.
//!
//! The mark is durable before anything goes. From then on no read finds the tenant and no other batch of it is accepted; a
//! crash anywhere behind it is found by the janitor, which continues here.

use dromia_contracts::agent::TenantErasureCounts;
use dromia_contracts::store::{CommitOutcome, CommitRefusal, Mutation, WriteBatch, WriterLane};
use dromia_contracts::{Actor, ErrorCode, Fault, TenantId};

use super::{ErasureGuard, ErasureTasks};
use crate::agents::read_fault;
use crate::refusal::commit_fault;

impl ErasureTasks<'_> {
    /// Erases a suspended tenant and everything that belongs to it.
    pub(crate) async fn tenant_delete(&self, tenant: TenantId) -> Result<TenantErasureCounts, Fault> {
        let mut erasing = ErasureGuard::begin(self.core, (tenant, None));
        match self.erase_rows(tenant).await {
            CommitOutcome::Done(_) => {}
            CommitOutcome::Refused(refusal) => {
                erasing.is_done = true;
                return Err(match refusal {
                    CommitRefusal::NotFound(_) => {
                        Fault::new(ErrorCode::TenantNotFound, "there is no such tenant")
                    }
                    refusal => commit_fault(CommitOutcome::Refused(refusal)),
                });
            }
            unknown @ CommitOutcome::Unknown { .. } => {
                let hint = "if the mark is durable, the server goes on by itself and the tenant is not found; if \
                            `dromia tenant list` shows the tenant, delete it again";
                return Err(commit_fault(unknown).with_hint(hint));
            }
        }
        let erased = self.erase_tenant(tenant).await?;
        erasing.is_done = true;
        Ok(erased)
    }

    /// Erases a tenant that is marked, to its end.
    pub(super) async fn erase_tenant(&self, tenant: TenantId) -> Result<TenantErasureCounts, Fault> {
        let (store, operator) = (&self.core.ports.store, self.core.node_operator());
        let mut sum = TenantErasureCounts::default();
        self.core.caches.agents.forget_all();
        self.core.caches.summaries.forget_all();
        loop {
            let deleting = store.deleting_agents(&operator).await.map_err(read_fault)?;
            let agents: Vec<_> = deleting.into_iter().filter(|(of, _)| *of == tenant).collect();
            if agents.is_empty() {
                let counts =
                    store.tenant_counts(&self.core.recovery_scope(tenant)).await.map_err(read_fault)?;
                if counts.agents > 0 {
                    let text = "so many agents of other tenants are being erased that these must wait";
                    return Err(Fault::new(ErrorCode::Overloaded, text));
                }
            }
            for (_, agent) in agents {
                sum.of_agents.add_counts(self.erase_agent(tenant, agent).await?);
                sum.agents += 1;
            }
            match self.erase_rows(tenant).await {
                CommitOutcome::Done(_) => {}
                CommitOutcome::Refused(CommitRefusal::NotFound(_)) => break,
                other => return Err(commit_fault(other)),
            }
        }
        self.core.caches.session_keys.retain(|(of, _, _), _| *of != tenant);
        tracing::info!(%tenant, agents = sum.agents, "a tenant was erased");
        Ok(sum)
    }

    /// Marks the tenant, or erases the next page of its rows.
    async fn erase_rows(&self, tenant: TenantId) -> CommitOutcome {
        let at = self.core.ports.runtime.clock.now();
        let mut batch = WriteBatch::new(tenant).wanted_by(&Actor::new("operator"), at);
        batch.lane = WriterLane::Bulk;
        self.core.ports.store.commit(batch.with_mutation(Mutation::TenantErase(at))).await
    }
}
