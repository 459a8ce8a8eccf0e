//! A cabinet with one capability of each tenant. What is granted is shown and not kept.

use bytes::Bytes;
use dromia_contracts::capability::{
    CapabilityRecord, CapabilityRegistry, CapabilityState, CapabilityUse, CapabilityVerdict, NewCapability,
};
use dromia_contracts::store::Read;
use dromia_contracts::tool::PreparedCall;
use dromia_contracts::{Actor, AgentId, BoxFuture, CapabilityId, ErrorCode, Fault, Scope, TenantId};
use jiff::Timestamp;

use crate::world::House;

#[derive(Debug, Default)]
pub(crate) struct Cabinet {
    rows: Vec<(TenantId, CapabilityRecord)>,
}

impl Cabinet {
    /// Puts a capability of each house into it.
    pub(crate) fn of(houses: &[&House]) -> Self {
        let row = |house: &&House| (house.tenant, capability(house.capability(), house.agent));
        Self { rows: houses.iter().map(row).collect() }
    }

    fn find(&self, scope: &Scope, id: CapabilityId) -> Result<CapabilityRecord, Fault> {
        let mut own = self.rows.iter().filter(|(tenant, _)| *tenant == scope.tenant());
        let found = own.find(|(_, row)| row.id == id).map(|(_, row)| row.clone());
        found.ok_or_else(|| Fault::new(ErrorCode::CapabilityNotFound, "no such capability"))
    }
}

fn capability(id: CapabilityId, holder: AgentId) -> CapabilityRecord {
    CapabilityRecord {
        id,
        holder,
        parent: None,
        usage: CapabilityUse::Held,
        rights: vec!["file:write:docs".to_owned()],
        until: None,
        wall_ms_max: None,
        token: Bytes::from_static(b"token"),
        by: Actor::new("cli:1"),
        created_at: Timestamp::UNIX_EPOCH,
        revoked_at: None,
    }
}

fn ready<'a, T: Send + 'a>(answer: Result<T, Fault>) -> BoxFuture<'a, Result<T, Fault>> {
    Box::pin(std::future::ready(answer))
}

impl CapabilityRegistry for Cabinet {
    fn list_capabilities(
        &self,
        scope: Scope,
        after: Option<CapabilityId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(CapabilityRecord, CapabilityState)>, Fault>> {
        let own =
            self.rows.iter().filter(|(tenant, _)| *tenant == scope.tenant()).map(|(_, row)| row.clone());
        let page = own.filter(|row| after.is_none_or(|after| row.id > after)).take(limit);
        // What it was made from was taken back, which only this port knows.
        ready(Ok(page.map(|row| (row, CapabilityState::ParentRevoked)).collect()))
    }

    fn grant_capability(
        &self,
        scope: Scope,
        new: NewCapability,
    ) -> BoxFuture<'_, Result<CapabilityRecord, Fault>> {
        if let Some(from) = new.from
            && let Err(fault) = self.find(&scope, from)
        {
            return ready(Err(fault));
        }
        let NewCapability { holder, from, usage, rights, until, wall_ms_max } = new;
        let made = capability(CapabilityId::from_bytes([7; 16]), holder);
        ready(Ok(CapabilityRecord { parent: from, usage, rights, until, wall_ms_max, ..made }))
    }

    fn revoke_capability(
        &self,
        scope: Scope,
        capability: CapabilityId,
    ) -> BoxFuture<'_, Result<CapabilityRecord, Fault>> {
        let found = self.find(&scope, capability);
        ready(found.map(|row| CapabilityRecord { revoked_at: Some(Timestamp::UNIX_EPOCH), ..row }))
    }

    fn forget_task_capability(&self, _: Scope, _: CapabilityId) -> BoxFuture<'_, Result<(), Fault>> {
        ready(Ok(()))
    }

    fn forget_agent(&self, _: TenantId, _: AgentId) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn grant_words<'a>(&'a self, _: &'a Scope, _: AgentId) -> Read<'a, Vec<String>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn judge_call<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        _: &'a PreparedCall,
        presented: Option<Bytes>,
    ) -> BoxFuture<'a, Result<Vec<CapabilityVerdict>, Fault>> {
        let covers = presented.is_some();
        if presented.is_some_and(|presented| presented != "token") {
            return ready(Err(Fault::new(ErrorCode::CapabilityUnreadable, "it is no token")));
        }
        let own = self.rows.iter().filter(|(tenant, row)| *tenant == scope.tenant() && row.holder == agent);
        // What is presented covers every call here, and what is held covers none.
        let weighed = own.map(|(_, row)| CapabilityVerdict {
            capability: Some(row.id),
            covers,
            block: Some(0),
            why: format!("block 0 of its token {}", if covers { "covers it" } else { "does not cover it" }),
        });
        ready(Ok(weighed.collect()))
    }
}
