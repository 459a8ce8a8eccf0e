//! The capabilities of tenants over a store: granted, narrowed, handed on, taken back.
//!
//! A tenant's root key is derived from the tenant's key in the vault, and is nowhere but in the call that signs. A row
//! and its token say the same; an attacker who changes rows in the store can take rights away and give none. A change
//! is durable first and counts at once: it is completed even if its caller hangs up, so no right stays in memory that
//! the store took away.
//!
//! A tenant that has as many as it may loses one that ended, in the commit of the next one. Where none has ended, the next
//! one is refused.
//!
//! Memory holds the rows of a tenant from the first question about it on.

mod fault;
mod signing;
mod tenant_locks;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use dromia_contracts::capability::{
    CAPABILITIES_MAX, CapabilityRecord, CapabilityRegistry, CapabilityState, CapabilityUse,
    CapabilityVerdict, NewCapability, RightsWatch, held_by,
};
use dromia_contracts::runtime::Runtime;
use dromia_contracts::store::{
    CapabilityDrop, CapabilityRevoke, CommitOutcome, Mutation, PageRequest, Read, ReadError, Store,
    WriteBatch,
};
use dromia_contracts::tool::PreparedCall;
use dromia_contracts::{AgentId, BoxFuture, CapabilityId, ErrorCode, Fault, Scope, TenantId};

use self::fault::{commit_fault, invalid_request, not_found, read_fault, unreadable_token};
use self::tenant_locks::TenantLocks;
use super::live::{
    CapabilityEntry, CapabilityMismatch, LiveCapabilities, MismatchReason, TenantCapabilities,
};
use super::required::CapabilityRequest;
use super::root::RootKeys;
use crate::vault::StoreVault;

/// Capabilities over a store; a handle that is cheap to clone.
#[derive(Debug, Clone)]
pub struct StoreCapabilities {
    store: Arc<dyn Store>,
    vault: Arc<StoreVault>,
    runtime: Runtime,
    live: Arc<LiveCapabilities>,
    turns: Arc<TenantLocks>,
    watch: Arc<OnceLock<Arc<dyn RightsWatch>>>,
}

impl StoreCapabilities {
    /// Sets it up; nothing is read.
    pub fn new(store: Arc<dyn Store>, vault: Arc<StoreVault>, runtime: Runtime) -> Self {
        let live = Arc::new(LiveCapabilities::new(Arc::clone(&runtime.clock), vault.key_resets()));
        Self { store, vault, runtime, live, turns: Arc::default(), watch: Arc::default() }
    }

    /// Returns what counts now, for the gate and the egress.
    pub fn live_capabilities(&self) -> Arc<LiveCapabilities> {
        Arc::clone(&self.live)
    }

    /// Sets the watch that is notified when an agent's rights change; the first one that is set stays.
    pub fn tell_of_changes(&self, watch: Arc<dyn RightsWatch>) {
        self.watch.get_or_init(|| watch);
    }

    /// Returns the tenant's capabilities, from memory where they are there.
    async fn tenant_capabilities(&self, scope: &Scope) -> Result<Arc<TenantCapabilities>, ReadError> {
        if let Some(held) = self.cached_capabilities(scope.tenant()) {
            return Ok(held);
        }
        let turn = self.turns.lock_for(scope.tenant());
        let _turn = turn.lock().await;
        self.load_locked(scope).await
    }

    /// What memory holds of a tenant, if its roots are there.
    fn cached_capabilities(&self, tenant: TenantId) -> Option<Arc<TenantCapabilities>> {
        self.live.for_tenant(tenant).filter(|held| held.roots.is_some())
    }

    /// The same, for a caller that holds the tenant's lock.
    async fn load_locked(&self, scope: &Scope) -> Result<Arc<TenantCapabilities>, ReadError> {
        let tenant = scope.tenant();
        if let Some(held) = self.cached_capabilities(tenant) {
            return Ok(held);
        }
        if scope.agent().is_some() {
            // It does not see all of them, so what it sees is not what counts.
            return Ok(self.live.for_tenant(tenant).unwrap_or_default());
        }
        let mut rows = Vec::new();
        let mut page = PageRequest::first_page(PageRequest::<CapabilityId>::LIMIT_MAX);
        loop {
            let some = self.store.capabilities(scope, page).await?;
            let is_last = some.len() < page.limit;
            page.after = some.last().map(|last| last.id);
            rows.extend(some);
            if is_last || rows.len() > CAPABILITIES_MAX {
                break;
            }
        }
        // Why the key cannot be opened is in the log already; until it can, nothing is covered.
        let resets = self.live.reset_count(tenant);
        let roots = if rows.is_empty() { None } else { self.vault.capability_roots(scope).await.ok() };
        let mut held = TenantCapabilities::new(rows, roots);
        held.resets = resets;
        self.live.set_tenant(tenant, held);
        Ok(self.live.for_tenant(tenant).unwrap_or_default())
    }

    async fn commit_batch(&self, scope: &Scope, batch: WriteBatch) -> Result<(), Fault> {
        let answer = self.store.commit(batch).await;
        if !matches!(answer, CommitOutcome::Done(_)) {
            // The commit may have happened or not; the rows are read again before they count.
            self.live.forget_tenant(scope.tenant());
            if let Err(error) = self.load_locked(scope).await {
                tracing::warn!(%error, "failed to read capabilities again; they cover nothing until a read \
                                        succeeds");
            }
        }
        commit_fault(answer)
    }

    fn notify_changed(&self, agents: impl IntoIterator<Item = AgentId>) {
        if let Some(watch) = self.watch.get() {
            agents.into_iter().for_each(|agent| watch.rights_changed(agent));
        }
    }
}

/// Returns how many capabilities a tenant may have when one more is made. A caller that may give a task may make one
/// that bounds it, and leaves a quarter for those that only an admin grants.
const fn capabilities_max(usage: CapabilityUse) -> usize {
    match usage {
        CapabilityUse::Held => CAPABILITIES_MAX,
        CapabilityUse::Task => CAPABILITIES_MAX / 4 * 3,
    }
}

/// The fault where there is no place for one more.
fn full_fault(usage: CapabilityUse, most: usize) -> Fault {
    let text = match usage {
        CapabilityUse::Held => format!("a tenant may have at most {most} capabilities"),
        CapabilityUse::Task => {
            format!("the capability of a task must be among the first {most} of a tenant")
        }
    };
    invalid_request(format!(
        "{text}, and none of them has ended; list them with `dromia capability list` and take one back with `dromia \
         capability revoke`, as those of tasks that have finished"
    ))
}

impl CapabilityRegistry for StoreCapabilities {
    fn list_capabilities(
        &self,
        scope: Scope,
        after: Option<CapabilityId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(CapabilityRecord, CapabilityState)>, Fault>> {
        Box::pin(async move {
            let page = PageRequest { after, limit };
            let rows = self.store.capabilities(&scope, page).await.map_err(|error| read_fault(&error))?;
            let held = self.tenant_capabilities(&scope).await.map_err(|error| read_fault(&error))?;
            let now = self.live.now();
            let with_state = |row: CapabilityRecord| {
                let state = held.capability_state(&row, now);
                (row, state)
            };
            Ok(rows.into_iter().map(with_state).collect())
        })
    }

    fn grant_capability(
        &self,
        scope: Scope,
        new: NewCapability,
    ) -> BoxFuture<'_, Result<CapabilityRecord, Fault>> {
        let this = self.clone();
        self.runtime.carried_through(async move {
            let agent = this.store.agent(&scope, new.holder).await.map_err(|error| read_fault(&error))?;
            if agent.is_none() {
                return Err(Fault::new(ErrorCode::AgentNotFound, "there is no such agent"));
            }
            let turn = this.turns.lock_for(scope.tenant());
            let _turn = turn.lock().await;
            let capability = this.sign_capability(&scope, new).await?;
            let before = this.load_locked(&scope).await.map_err(|error| read_fault(&error))?;
            let mut batch = WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), this.live.now());
            let mut dropped = None;
            let most = capabilities_max(capability.usage);
            if before.rows.len() >= most {
                let now = this.live.now();
                let ended = before.rows.keys().copied().find(|id| before.check_standing(*id, now).is_err());
                let ended = ended.ok_or_else(|| full_fault(capability.usage, most))?;
                batch = batch.with_mutation(Mutation::CapabilityDrop(CapabilityDrop { capability: ended }));
                dropped = Some(ended);
            }
            this.commit_batch(&scope, batch.with_mutation(Mutation::CapabilityPut(capability.clone())))
                .await?;
            let mut after = TenantCapabilities::clone(&before);
            if after.roots.is_none() {
                // The first one of the tenant, for which its key was made.
                after.roots = Some(this.vault.capability_roots(&scope).await?);
            }
            if let Some(ended) = dropped {
                after.rows.remove(&ended);
            }
            after.put_capability(capability.clone());
            this.live.set_tenant(scope.tenant(), after);
            this.notify_changed([capability.holder]);
            Ok(capability)
        })
    }

    fn revoke_capability(
        &self,
        scope: Scope,
        capability: CapabilityId,
    ) -> BoxFuture<'_, Result<CapabilityRecord, Fault>> {
        let this = self.clone();
        self.runtime.carried_through(async move {
            let turn = this.turns.lock_for(scope.tenant());
            let _turn = turn.lock().await;
            let before = this.load_locked(&scope).await.map_err(|error| read_fault(&error))?;
            let found = before.rows.get(&capability).ok_or_else(|| not_found(capability))?;
            if found.capability.revoked_at.is_some() {
                return Ok(found.capability.clone());
            }
            let at = this.live.now();
            let revoke = Mutation::CapabilityRevoke(CapabilityRevoke { capability, at });
            let batch = WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), at);
            this.commit_batch(&scope, batch.with_mutation(revoke)).await?;
            let revoked = CapabilityRecord { revoked_at: Some(at), ..found.capability.clone() };
            let made_from = |id: &CapabilityId| {
                let chain = before.parent_chain(*id).unwrap_or_default();
                chain.iter().any(|row| row.capability.id == capability)
            };
            let agents: Vec<_> = before
                .rows
                .iter()
                .filter(|(id, _)| made_from(id))
                .map(|(_, row)| row.capability.holder)
                .collect();
            let mut after = TenantCapabilities::clone(&before);
            after.put_capability(revoked.clone());
            this.live.set_tenant(scope.tenant(), after);
            this.notify_changed(agents);
            Ok(revoked)
        })
    }

    fn forget_task_capability(
        &self,
        scope: Scope,
        capability: CapabilityId,
    ) -> BoxFuture<'_, Result<(), Fault>> {
        let this = self.clone();
        self.runtime.carried_through(async move {
            let turn = this.turns.lock_for(scope.tenant());
            let _turn = turn.lock().await;
            let before = this.load_locked(&scope).await.map_err(|error| read_fault(&error))?;
            let drop = Mutation::CapabilityDrop(CapabilityDrop { capability });
            let batch = WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), this.live.now());
            this.commit_batch(&scope, batch.with_mutation(drop)).await?;
            let mut after = TenantCapabilities::clone(&before);
            after.rows.remove(&capability);
            this.live.set_tenant(scope.tenant(), after);
            Ok(())
        })
    }

    fn forget_agent(&self, tenant: TenantId, agent: AgentId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // What is read from now on is read without it; only what memory holds must go.
            let turn = self.turns.lock_for(tenant);
            let _turn = turn.lock().await;
            let Some(before) = self.live.for_tenant(tenant) else { return };
            let is_of_agent = |id: &CapabilityId| {
                before.parent_chain(*id).unwrap_or_default().iter().any(|row| row.capability.holder == agent)
            };
            let handed_on = before.rows.iter().filter(|(id, _)| is_of_agent(id));
            let agents: Vec<_> = handed_on.map(|(_, row)| row.capability.holder).collect();
            let mut after = TenantCapabilities::clone(&before);
            after.rows.retain(|_, row| row.capability.holder != agent);
            self.live.set_tenant(tenant, after);
            self.notify_changed(agents);
        })
    }

    fn grant_words<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, Vec<String>> {
        Box::pin(async move {
            let held = self.tenant_capabilities(scope).await?;
            let holds = |row: &Arc<CapabilityEntry>| {
                row.capability.holder == agent && row.capability.usage == CapabilityUse::Held
            };
            let is_holder = held.rows.values().any(holds);
            Ok(is_holder.then(|| held_by(scope.tenant(), agent)).into_iter().collect())
        })
    }

    fn judge_call<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        call: &'a PreparedCall,
        presented: Option<Bytes>,
    ) -> BoxFuture<'a, Result<Vec<CapabilityVerdict>, Fault>> {
        Box::pin(async move {
            let held = self.tenant_capabilities(scope).await.map_err(|error| read_fault(&error))?;
            let (sought, now) = (CapabilityRequest::of_call(call), self.live.now());
            let weighed = |id: CapabilityId, is_presented: bool| {
                let said = held.decide_cover(id, agent, CapabilityUse::Held, &sought, now);
                let (covers, block, why) = match said {
                    Ok((block, right)) => (true, Some(block), format!("block {block} covers it by {right}")),
                    Err(fallen) => (false, fallen.block, fallen.to_string()),
                };
                CapabilityVerdict { capability: (!is_presented).then_some(id), covers, block, why }
            };
            let Some(presented) = presented else {
                let own = held.rows.values().filter(|row| {
                    row.capability.holder == agent && row.capability.usage == CapabilityUse::Held
                });
                return Ok(own.map(|row| weighed(row.capability.id, false)).collect());
            };
            let opened = match &held.roots {
                Some(roots) => roots.open_token(&presented),
                None => RootKeys::new(Vec::new()).and_then(|roots| roots.open_token(&presented)),
            };
            let token = opened.map_err(|error| unreadable_token(&error))?;
            let last = token.revocation_ids().last().copied();
            let is_it = |row: &&Arc<CapabilityEntry>| {
                let known = row.token.as_ref();
                known.and_then(|known| known.revocation_ids().last().copied()) == last
            };
            if let Some(row) = held.rows.values().find(is_it) {
                return Ok(vec![weighed(row.capability.id, true)]);
            }
            // It was held once, or its holder made it alone out of one that he holds.
            let gone = CapabilityMismatch { block: None, why: MismatchReason::Gone };
            Ok(vec![CapabilityVerdict {
                capability: None,
                covers: false,
                block: None,
                why: gone.to_string(),
            }])
        })
    }
}
