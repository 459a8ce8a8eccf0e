//! Signing a capability: its rights are read, bounded by what it is made from, and signed with the tenant's root key or
//! behind its parent's last block. Nothing is stored here; the caller holds the tenant's lock.

use dromia_contracts::capability::{CapabilityRecord, CapabilityUse, NewCapability};
use dromia_contracts::{CapabilityId, ErrorCode, Fault, Scope};
use jiff::Timestamp;

use super::super::live::{CapabilityEntry, TenantCapabilities};
use super::super::right::{Resource, Right};
use super::super::root::{ROOT_ID, RootKey};
use super::super::token::{CapabilityToken, RIGHTS_MAX};
use super::super::token_error::TokenError;
use super::StoreCapabilities;
use super::fault::{invalid_request, not_found, read_fault, refused_token};

impl StoreCapabilities {
    /// Signs a capability. The caller has the turn.
    pub(super) async fn sign_capability(
        &self,
        scope: &Scope,
        new: NewCapability,
    ) -> Result<CapabilityRecord, Fault> {
        let held = self.load_locked(scope).await.map_err(|error| read_fault(&error))?;
        let now = self.live.now();
        let from = new.from.map(|id| delegable_chain(&held, id, now)).transpose()?;
        let chain = from.unwrap_or_default();
        let texts = match chain.last() {
            Some(parent) if new.rights.is_empty() => parent.capability.rights.clone(),
            Some(_) | None => new.rights.clone(),
        };
        // It repeats its parent's bounds, so that they are shown without its parent.
        let until =
            chain.iter().filter_map(|row| row.capability.until).chain(new.until.map(whole_seconds)).min();
        let wall_ms_max = chain.last().and_then(|row| row.capability.wall_ms_max).into_iter();
        let wall_ms_max = wall_ms_max.chain(new.wall_ms_max).min();
        let rights = parse_rights(&texts, until, wall_ms_max, new.wall_ms_max.is_some())?;
        for right in &rights {
            let mut rows = chain.iter();
            if let Some(row) =
                rows.find(|row| !row.rights.iter().any(|known| known.resource.covers(&right.resource)))
            {
                let text = format!("{} is not within what {} covers", right.resource, row.capability.id);
                return Err(Fault::new(ErrorCode::CapabilityRefused, text));
            }
        }
        let fresh = self.runtime.ids.random_secret();
        let signed = if let Some(parent) = chain.last() {
            let parent = parent.token.as_ref().ok_or_else(|| refused_token(&TokenError::Forged))?;
            parent.narrow_rights(Some(new.holder), &rights, &fresh)
        } else {
            let root = self.derive_root_key(scope).await?;
            CapabilityToken::grant_rights(&root, new.holder, &rights, &fresh)
        };
        let token = signed.and_then(|token| token.to_bytes()).map_err(|error| refused_token(&error))?;
        Ok(CapabilityRecord {
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
    async fn derive_root_key(&self, scope: &Scope) -> Result<RootKey, Fault> {
        let secret = self.vault.root_secret(scope, true).await?;
        let secret = secret.ok_or_else(|| Fault::new(ErrorCode::Internal, "the tenant has no key"))?;
        RootKey::new(ROOT_ID, secret.expose_key()).map_err(|error| refused_token(&error))
    }
}

/// Returns the chain of a capability that may be handed on.
fn delegable_chain(
    held: &TenantCapabilities,
    id: CapabilityId,
    now: Timestamp,
) -> Result<Vec<&CapabilityEntry>, Fault> {
    if !held.rows.contains_key(&id) {
        return Err(not_found(id));
    }
    let fault = |why: String| Fault::new(ErrorCode::CapabilityRefused, format!("{id}: {why}"));
    let chain = held.check_standing(id, now).map_err(|fallen| fault(fallen.to_string()))?;
    match chain.last().map(|row| row.capability.usage) {
        Some(CapabilityUse::Held) => Ok(chain),
        Some(CapabilityUse::Task) | None => {
            Err(fault("the capability of a task cannot be delegated".to_owned()))
        }
    }
}

/// Reads rights as people write them, each with the limits of all.
fn parse_rights(
    texts: &[String],
    until: Option<Timestamp>,
    wall_ms_max: Option<u32>,
    is_bounded: bool,
) -> Result<Vec<Right>, Fault> {
    if texts.is_empty() {
        return Err(invalid_request("rights: name at least one, such as file:write:docs".to_owned()));
    }
    if texts.len() > RIGHTS_MAX {
        return Err(invalid_request(format!("rights: there are {}, at most {RIGHTS_MAX}", texts.len())));
    }
    let read = |(index, text): (usize, &String)| {
        let resource = Resource::parse(text)
            .map_err(|problem| invalid_request(format!("rights[{index}]: {problem}")))?;
        if is_bounded && resource.kind_name() != "tool" {
            let problem = "a time limit is for tools that run programs, such as tool:shell.execute";
            return Err(invalid_request(format!("rights[{index}]: {problem}")));
        }
        Ok(Right { resource, until, wall_ms_max })
    };
    texts.iter().enumerate().map(read).collect()
}

/// Cuts a time to whole seconds, in which tokens count.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
