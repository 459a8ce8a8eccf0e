//! Signing a capability: its rights are read, bounded by what it is made from, and signed with the tenant's root key or
//! behind its parent's last block. Nothing is stored here; whoever calls has the tenant's turn.

use dromia_contracts::capability::{Capability, CapabilityUse, NewCapability};
use dromia_contracts::{CapabilityId, ErrorCode, Fault, Scope};
use jiff::Timestamp;

use super::super::live::{Held, Row};
use super::super::right::{Resource, Right};
use super::super::root::{ROOT_ID, RootKey};
use super::super::token::{RIGHTS_MAX, Token, TokenError};
use super::StoreCapabilities;
use super::fault::{invalid, not_found, read_fault, refused};

impl StoreCapabilities {
    /// Signs a capability. The caller has the turn.
    pub(super) async fn sign(&self, scope: &Scope, new: NewCapability) -> Result<Capability, Fault> {
        let held = self.loaded(scope).await.map_err(|error| read_fault(&error))?;
        let now = self.live.now();
        let from = new.from.map(|id| standing(&held, id, now)).transpose()?;
        let chain = from.unwrap_or_default();
        let texts = match chain.last() {
            Some(parent) if new.rights.is_empty() => parent.capability.rights.clone(),
            Some(_) | None => new.rights.clone(),
        };
        // What its parent bounds, it says too, so that it is told without its parent.
        let until = chain.iter().filter_map(|row| row.capability.until).chain(new.until.map(whole)).min();
        let wall_ms_max = chain.last().and_then(|row| row.capability.wall_ms_max).into_iter();
        let wall_ms_max = wall_ms_max.chain(new.wall_ms_max).min();
        let rights = rights(&texts, until, wall_ms_max, new.wall_ms_max.is_some())?;
        for right in &rights {
            let mut rows = chain.iter();
            if let Some(row) =
                rows.find(|row| !row.rights.iter().any(|known| known.resource.covers(&right.resource)))
            {
                let text = format!("{} is not within what {} covers", right.resource, row.capability.id);
                return Err(Fault::new(ErrorCode::CapabilityRefused, text));
            }
        }
        let fresh = self.runtime.ids.secret();
        let signed = if let Some(parent) = chain.last() {
            let parent = parent.token.as_ref().ok_or_else(|| refused(&TokenError::Forged))?;
            parent.narrow(Some(new.holder), &rights, &fresh)
        } else {
            let root = self.root(scope).await?;
            Token::grant(&root, new.holder, &rights, &fresh)
        };
        let token = signed.and_then(|token| token.to_bytes()).map_err(|error| refused(&error))?;
        Ok(Capability {
            id: self.runtime.capability_id(),
            holder: new.holder,
            parent: new.from,
            usage: new.usage,
            rights: rights.iter().map(|right| right.resource.to_string()).collect(),
            until,
            wall_ms_max,
            token: token.into(),
            by: scope.actor().clone(),
            created_at: now,
            revoked_at: None,
        })
    }

    /// Derives the tenant's root key, for one signature.
    async fn root(&self, scope: &Scope) -> Result<RootKey, Fault> {
        let secret = self.vault.root_secret(scope, true).await?;
        let secret = secret.ok_or_else(|| Fault::new(ErrorCode::Internal, "the tenant has no key"))?;
        RootKey::new(ROOT_ID, secret.expose()).map_err(|error| refused(&error))
    }
}

/// Returns the chain of a capability that may be handed on.
fn standing(held: &Held, id: CapabilityId, now: Timestamp) -> Result<Vec<&Row>, Fault> {
    if !held.rows.contains_key(&id) {
        return Err(not_found(id));
    }
    let fault = |why: String| Fault::new(ErrorCode::CapabilityRefused, format!("{id}: {why}"));
    let chain = held.stands(id, now).map_err(|fallen| fault(fallen.to_string()))?;
    match chain.last().map(|row| row.capability.usage) {
        Some(CapabilityUse::Held) => Ok(chain),
        Some(CapabilityUse::Task) | None => Err(fault("what bounds a task is not handed on".to_owned())),
    }
}

/// Reads rights as people write them, each with the limits of all.
fn rights(
    texts: &[String],
    until: Option<Timestamp>,
    wall_ms_max: Option<u32>,
    is_bounded: bool,
) -> Result<Vec<Right>, Fault> {
    if texts.is_empty() {
        return Err(invalid("rights: name at least one, such as file:write:docs".to_owned()));
    }
    if texts.len() > RIGHTS_MAX {
        return Err(invalid(format!("rights: there are {}, at most {RIGHTS_MAX}", texts.len())));
    }
    let read = |(index, text): (usize, &String)| {
        let resource =
            Resource::parse(text).map_err(|problem| invalid(format!("rights[{index}]: {problem}")))?;
        if is_bounded && resource.kind() != "tool" {
            let problem = "a time limit is for tools that run programs, such as tool:shell.execute";
            return Err(invalid(format!("rights[{index}]: {problem}")));
        }
        Ok(Right { resource, until, wall_ms_max })
    };
    texts.iter().enumerate().map(read).collect()
}

/// Cuts a time to whole seconds, in which tokens count.
fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
