//! The capabilities of tenants over a store: granted, narrowed, handed on, taken back.
//!
//! A tenant's root key is derived from the tenant's key in the vault, and is nowhere but in the call that signs. A row and
//! its token say the same; whoever changes rows in the store can take rights away and give none. A change is durable
//! first and counts at once: a change is carried through, so whoever hangs up on it leaves no right in memory that the store took
//! away.
//!
//! A tenant that has as many as it may loses one that ended, or else those of tasks that have finished
//! (`capability/finished.rs`), in the commit of the next one. None that counts for anything open is let go of.
//!
//! Memory holds the rows of a tenant from the first question about it on.

mod fault;
mod signing;
mod turns;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use dromia_contracts::capability::{
    CAPABILITIES_MAX, Capabilities, Capability, CapabilityState, CapabilityUse, NewCapability, RightsWatch,
    Weighed, held_by,
};
use dromia_contracts::runtime::Runtime;
use dromia_contracts::store::{
    Batch, CapabilityDrop, CapabilityRevoke, Commit, Mutation, Page, Read, ReadError, Store,
};
use dromia_contracts::tool::PreparedCall;
use dromia_contracts::{AgentId, BoxFuture, CapabilityId, ErrorCode, Fault, Scope, TenantId};

use self::fault::{commit_fault, invalid, not_found, read_fault, unreadable};
use self::turns::Turns;
use super::finished;
use super::live::{Fallen, Held, Live, Lost, Row};
use super::root::Roots;
use super::sought::Sought;
use crate::vault::StoreVault;

/// Capabilities over a store; a handle that is cheap to clone.
#[derive(Debug, Clone)]
pub struct StoreCapabilities {
    store: Arc<dyn Store>,
    vault: Arc<StoreVault>,
    runtime: Runtime,
    live: Arc<Live>,
    turns: Arc<Turns>,
    watch: Arc<OnceLock<Arc<dyn RightsWatch>>>,
}

impl StoreCapabilities {
    /// Sets it up; nothing is read.
    pub fn new(store: Arc<dyn Store>, vault: Arc<StoreVault>, runtime: Runtime) -> Self {
        let live = Arc::new(Live::new(Arc::clone(&runtime.clock), vault.resets()));
        Self { store, vault, runtime, live, turns: Arc::default(), watch: Arc::default() }
    }

    /// What counts now, for whoever judges.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Says who is told that an agent may do something else now; the first who is named stays.
    pub fn tell_of_changes(&self, watch: Arc<dyn RightsWatch>) {
        self.watch.get_or_init(|| watch);
    }

    /// Returns the tenant's capabilities, from memory where they are there.
    async fn held(&self, scope: &Scope) -> Result<Arc<Held>, ReadError> {
        if let Some(held) = self.known(scope.tenant()) {
            return Ok(held);
        }
        let turn = self.turns.of(scope.tenant());
        let _turn = turn.lock().await;
        self.loaded(scope).await
    }

    /// What memory holds of a tenant, if its roots are there.
    fn known(&self, tenant: TenantId) -> Option<Arc<Held>> {
        self.live.of(tenant).filter(|held| held.roots.is_some())
    }

    /// The same, for whoever has the turn.
    async fn loaded(&self, scope: &Scope) -> Result<Arc<Held>, ReadError> {
        let tenant = scope.tenant();
        if let Some(held) = self.known(tenant) {
            return Ok(held);
        }
        if scope.agent().is_some() {
            // It does not see all of them, so what it sees is not what counts.
            return Ok(self.live.of(tenant).unwrap_or_default());
        }
        let mut rows = Vec::new();
        let mut page = Page::first(Page::<CapabilityId>::LIMIT_MAX);
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
        let resets = self.live.resets(tenant);
        let roots = if rows.is_empty() { None } else { self.vault.capability_roots(scope).await.ok() };
        let mut held = Held::new(rows, roots);
        held.resets = resets;
        self.live.set(tenant, held);
        Ok(self.live.of(tenant).unwrap_or_default())
    }

    async fn commit(&self, scope: &Scope, batch: Batch) -> Result<(), Fault> {
        let answer = self.store.commit(batch).await;
        if !matches!(answer, Commit::Done(_)) {
            // Nobody knows what is there now; it is read again before it counts.
            self.live.forget(scope.tenant());
            if let Err(error) = self.loaded(scope).await {
                tracing::warn!(%error, "capabilities could not be read again, and cover nothing until they are");
            }
        }
        commit_fault(answer)
    }

    /// Lists what is let go of to make place: one that has ended, or else those of tasks that have finished.
    async fn giving_way(&self, scope: &Scope, held: &Held) -> Result<Vec<CapabilityId>, ReadError> {
        let now = self.live.now();
        if let Some(ended) = held.rows.keys().find(|id| held.stands(**id, now).is_err()) {
            return Ok(vec![*ended]);
        }
        let finished = finished::giving_way(&*self.store, scope, held, now).await?;
        if !finished.is_empty() {
            tracing::info!(tenant = %scope.tenant(), ?finished, "capabilities of finished tasks give way");
        }
        Ok(finished)
    }

    fn tell(&self, agents: impl IntoIterator<Item = AgentId>) {
        if let Some(watch) = self.watch.get() {
            agents.into_iter().for_each(|agent| watch.rights_changed(agent));
        }
    }
}

/// How many capabilities a tenant may have when one more is made. Whoever may give a task may make one that bounds it, and
/// leaves place for those that only an admin grants.
const fn most(usage: CapabilityUse) -> usize {
    match usage {
        CapabilityUse::Held => CAPABILITIES_MAX,
        CapabilityUse::Task => CAPABILITIES_MAX / 4 * 3,
    }
}

/// The fault where there is no place for one more.
fn full(usage: CapabilityUse, most: usize) -> Fault {
    let text = match usage {
        CapabilityUse::Held => format!("a tenant has at most {most} capabilities"),
        CapabilityUse::Task => {
            format!("what bounds a task finds place among the first {most} capabilities of a tenant")
        }
    };
    invalid(format!(
        "{text}, and none of them has ended or bounds a task that has finished; take one back first"
    ))
}

impl Capabilities for StoreCapabilities {
    fn list(
        &self,
        scope: Scope,
        after: Option<CapabilityId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Capability, CapabilityState)>, Fault>> {
        Box::pin(async move {
            let page = Page { after, limit };
            let rows = self.store.capabilities(&scope, page).await.map_err(|error| read_fault(&error))?;
            let held = self.held(&scope).await.map_err(|error| read_fault(&error))?;
            let now = self.live.now();
            let with_state = |row: Capability| {
                let state = held.state(&row, now);
                (row, state)
            };
            Ok(rows.into_iter().map(with_state).collect())
        })
    }

    fn grant(&self, scope: Scope, new: NewCapability) -> BoxFuture<'_, Result<Capability, Fault>> {
        let this = self.clone();
        self.runtime.carried_through(async move {
            let agent = this.store.agent(&scope, new.holder).await.map_err(|error| read_fault(&error))?;
            if agent.is_none() {
                return Err(Fault::new(ErrorCode::AgentNotFound, "no such agent"));
            }
            let turn = this.turns.of(scope.tenant());
            let _turn = turn.lock().await;
            let capability = this.sign(&scope, new).await?;
            let before = this.loaded(&scope).await.map_err(|error| read_fault(&error))?;
            let mut batch = Batch::new(scope.tenant()).wanted_by(scope.actor(), this.live.now());
            let mut dropped = Vec::new();
            let most = most(capability.usage);
            if before.rows.len() >= most {
                dropped = this.giving_way(&scope, &before).await.map_err(|error| read_fault(&error))?;
                if dropped.is_empty() {
                    return Err(full(capability.usage, most));
                }
                for ended in &dropped {
                    batch = batch.with(Mutation::CapabilityDrop(CapabilityDrop { capability: *ended }));
                }
            }
            this.commit(&scope, batch.with(Mutation::CapabilityPut(capability.clone()))).await?;
            let mut after = Held::clone(&before);
            if after.roots.is_none() {
                // The first one of the tenant, for which its key was made.
                after.roots = Some(this.vault.capability_roots(&scope).await?);
            }
            for dropped in &dropped {
                after.rows.remove(dropped);
            }
            after.put(capability.clone());
            this.live.set(scope.tenant(), after);
            this.tell([capability.holder]);
            Ok(capability)
        })
    }

    fn revoke(&self, scope: Scope, capability: CapabilityId) -> BoxFuture<'_, Result<Capability, Fault>> {
        let this = self.clone();
        self.runtime.carried_through(async move {
            let turn = this.turns.of(scope.tenant());
            let _turn = turn.lock().await;
            let before = this.loaded(&scope).await.map_err(|error| read_fault(&error))?;
            let found = before.rows.get(&capability).ok_or_else(|| not_found(capability))?;
            if found.capability.revoked_at.is_some() {
                return Ok(found.capability.clone());
            }
            let at = this.live.now();
            let revoke = Mutation::CapabilityRevoke(CapabilityRevoke { capability, at });
            let batch = Batch::new(scope.tenant()).wanted_by(scope.actor(), at);
            this.commit(&scope, batch.with(revoke)).await?;
            let revoked = Capability { revoked_at: Some(at), ..found.capability.clone() };
            let made_from = |id: &CapabilityId| {
                let chain = before.chain(*id).unwrap_or_default();
                chain.iter().any(|row| row.capability.id == capability)
            };
            let agents: Vec<_> = before
                .rows
                .iter()
                .filter(|(id, _)| made_from(id))
                .map(|(_, row)| row.capability.holder)
                .collect();
            let mut after = Held::clone(&before);
            after.put(revoked.clone());
            this.live.set(scope.tenant(), after);
            this.tell(agents);
            Ok(revoked)
        })
    }

    fn forget(&self, scope: Scope, capability: CapabilityId) -> BoxFuture<'_, Result<(), Fault>> {
        let this = self.clone();
        self.runtime.carried_through(async move {
            let turn = this.turns.of(scope.tenant());
            let _turn = turn.lock().await;
            let before = this.loaded(&scope).await.map_err(|error| read_fault(&error))?;
            let drop = Mutation::CapabilityDrop(CapabilityDrop { capability });
            let batch = Batch::new(scope.tenant()).wanted_by(scope.actor(), this.live.now());
            this.commit(&scope, batch.with(drop)).await?;
            let mut after = Held::clone(&before);
            after.rows.remove(&capability);
            this.live.set(scope.tenant(), after);
            Ok(())
        })
    }

    fn erased(&self, tenant: TenantId, agent: AgentId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // What is read from now on is read without it; only what memory holds must go.
            let turn = self.turns.of(tenant);
            let _turn = turn.lock().await;
            let Some(before) = self.live.of(tenant) else { return };
            let is_of_agent = |id: &CapabilityId| {
                before.chain(*id).unwrap_or_default().iter().any(|row| row.capability.holder == agent)
            };
            let handed_on = before.rows.iter().filter(|(id, _)| is_of_agent(id));
            let agents: Vec<_> = handed_on.map(|(_, row)| row.capability.holder).collect();
            let mut after = Held::clone(&before);
            after.rows.retain(|_, row| row.capability.holder != agent);
            self.live.set(tenant, after);
            self.tell(agents);
        })
    }

    fn words<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, Vec<String>> {
        Box::pin(async move {
            let held = self.held(scope).await?;
            let holds = |row: &Arc<Row>| {
                row.capability.holder == agent && row.capability.usage == CapabilityUse::Held
            };
            let is_holder = held.rows.values().any(holds);
            Ok(is_holder.then(|| held_by(scope.tenant(), agent)).into_iter().collect())
        })
    }

    fn weigh<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        call: &'a PreparedCall,
        presented: Option<Bytes>,
    ) -> BoxFuture<'a, Result<Vec<Weighed>, Fault>> {
        Box::pin(async move {
            let held = self.held(scope).await.map_err(|error| read_fault(&error))?;
            let (sought, now) = (Sought::of_call(call), self.live.now());
            let weighed = |id: CapabilityId, is_presented: bool| {
                let said = held.decide(id, agent, CapabilityUse::Held, &sought, now);
                let (covers, block, why) = match said {
                    Ok((block, right)) => (true, Some(block), format!("block {block} covers it by {right}")),
                    Err(fallen) => (false, fallen.block, fallen.to_string()),
                };
                Weighed { capability: (!is_presented).then_some(id), covers, block, why }
            };
            let Some(presented) = presented else {
                let own = held.rows.values().filter(|row| {
                    row.capability.holder == agent && row.capability.usage == CapabilityUse::Held
                });
                return Ok(own.map(|row| weighed(row.capability.id, false)).collect());
            };
            let opened = match &held.roots {
                Some(roots) => roots.open(&presented),
                None => Roots::new(Vec::new()).and_then(|roots| roots.open(&presented)),
            };
            let token = opened.map_err(|error| unreadable(&error))?;
            let last = token.revocation_ids().last().copied();
            let is_it = |row: &&Arc<Row>| {
                let known = row.token.as_ref();
                known.and_then(|known| known.revocation_ids().last().copied()) == last
            };
            if let Some(row) = held.rows.values().find(is_it) {
                return Ok(vec![weighed(row.capability.id, true)]);
            }
            // Somebody held it once, or made it alone out of one that he holds.
            let gone = Fallen { block: None, why: Lost::Gone };
            Ok(vec![Weighed { capability: None, covers: false, block: None, why: gone.to_string() }])
        })
    }
}
