//! What capabilities count now: those of each tenant in memory, asked at every call.
//!
//! A change of a row counts from the moment it is put in here; nothing is cached beside it. Words among an agent's
//! grants say who holds them, and within which capability a run stays. What cannot be read, found or checked covers
//! nothing. Memory holds the rows of each tenant that was asked about, at most
//! [`CAPABILITIES_MAX`](dromia_contracts::capability::CAPABILITIES_MAX) each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::future::pending;
use std::sync::{Arc, PoisonError, RwLock};

use dromia_contracts::capability::{CapabilityRecord, CapabilityUse, HOLDER, WITHIN};
use dromia_contracts::runtime::Clock;
use dromia_contracts::token::TokenState;
use dromia_contracts::{AgentId, CapabilityId, TenantId};
use jiff::Timestamp;
use tokio::sync::watch;

use super::required::CapabilityRequest;
use super::right::{Resource, Right};
use super::root::RootKeys;
use super::token::{AccessRequest, BLOCKS_MAX, CapabilityToken, RevocationId, TokenDenied};
use crate::vault::KeyResets;

/// What counts now.
#[derive(Debug)]
pub struct LiveCapabilities {
    clock: Arc<dyn Clock>,
    /// Which tenants' keys gave way: what was signed below one that did covers nothing from that moment on.
    resets: Arc<KeyResets>,
    tenants: RwLock<HashMap<TenantId, Arc<TenantCapabilities>>>,
    changes: watch::Sender<()>,
}

/// The capabilities of one tenant.
#[derive(Debug, Clone, Default)]
pub(super) struct TenantCapabilities {
    pub(super) rows: BTreeMap<CapabilityId, Arc<CapabilityEntry>>,
    /// The keys with which its tokens begin; none where they could not be had.
    pub(super) roots: Option<RootKeys>,
    /// How often the tenant's key in the vault had given way to another one when the roots were derived.
    pub(super) resets: u64,
    revoked: BTreeSet<RevocationId>,
}

/// One capability.
#[derive(Debug)]
pub(super) struct CapabilityEntry {
    pub(super) capability: CapabilityRecord,
    pub(super) rights: Vec<Right>,
    /// The token, if its signatures hold.
    pub(super) token: Option<CapabilityToken>,
}

/// Why a capability does not cover something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityMismatch {
    /// The block that decided, counted from 0; nothing where none did.
    pub block: Option<usize>,
    /// Why.
    pub why: MismatchReason,
}

/// What is wrong with a capability, or with a block of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MismatchReason {
    /// It was revoked.
    Revoked,
    /// Its time is over.
    Expired,
    /// It does not cover this.
    Uncovered,
    /// It covers this for a shorter time than the call would take.
    TooLong {
        /// The most time, in milliseconds.
        wall_ms_max: u32,
    },
    /// What it was made from is gone, or it is gone itself.
    Gone,
    /// Another agent holds it.
    NotHolder,
    /// It is for something else.
    OtherUse,
    /// Its token cannot be had, or says no.
    Token(Option<TokenDenied>),
}

impl fmt::Display for CapabilityMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.block {
            Some(block) => write!(f, "block {block} of its token ")?,
            None => f.write_str("it ")?,
        }
        match &self.why {
            MismatchReason::Revoked => f.write_str("was revoked"),
            MismatchReason::Expired => f.write_str("has expired"),
            MismatchReason::Uncovered => f.write_str("does not cover it"),
            MismatchReason::TooLong { wall_ms_max } => {
                write!(f, "covers calls of at most {wall_ms_max} ms")?;
                match wall_ms_max / 1_000 {
                    0 => f.write_str(", and no `timeout_s` is that short"),
                    seconds => write!(f, ": set `timeout_s` to {seconds} or less"),
                }
            }
            MismatchReason::Gone => f.write_str("is not valid, because its parent is gone"),
            MismatchReason::NotHolder => f.write_str("belongs to another agent"),
            MismatchReason::OtherUse => f.write_str("is for another use"),
            MismatchReason::Token(Some(refusal)) => write!(f, "is refused: {refusal}"),
            MismatchReason::Token(None) => f.write_str("cannot be checked: its token does not open"),
        }
    }
}

/// What no capability lets happen, as a rule and as words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CapabilityDenied {
    pub(crate) rule: String,
    pub(crate) reason: String,
}

/// Whose grants these are, and within what a run of his stays.
#[derive(Debug, Default)]
struct CapabilityGrants {
    holder: Option<(TenantId, AgentId)>,
    within: Vec<Option<(TenantId, AgentId, CapabilityId)>>,
}

impl CapabilityGrants {
    fn from_grants(grants: &[String]) -> Self {
        let mut words = Self::default();
        for text in grants {
            if let Some(text) = text.strip_prefix(HOLDER) {
                words.holder = parse_holder(text);
            } else if let Some(text) = text.strip_prefix(WITHIN) {
                let read = text.rsplit_once('/').and_then(|(holder, capability)| {
                    let (tenant, agent) = parse_holder(holder)?;
                    Some((tenant, agent, capability.parse().ok()?))
                });
                words.within.push(read);
            }
        }
        words
    }
}

fn parse_holder(text: &str) -> Option<(TenantId, AgentId)> {
    let (tenant, agent) = text.split_once('/')?;
    Some((tenant.parse().ok()?, agent.parse().ok()?))
}

/// Whose grants these are.
pub(super) fn grants_holder(grants: &[String]) -> Option<(TenantId, AgentId)> {
    CapabilityGrants::from_grants(grants).holder
}

impl LiveCapabilities {
    /// Begins with nothing.
    pub(super) fn new(clock: Arc<dyn Clock>, resets: Arc<KeyResets>) -> Self {
        Self { clock, resets, tenants: RwLock::default(), changes: watch::Sender::default() }
    }

    /// Returns a tenant's capabilities in memory; none if the key that they were derived from was replaced since.
    pub(super) fn for_tenant(&self, tenant: TenantId) -> Option<Arc<TenantCapabilities>> {
        let held = self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(&tenant).cloned();
        held.filter(|held| held.resets == self.resets.count_for(tenant))
    }

    pub(super) fn reset_count(&self, tenant: TenantId) -> u64 {
        self.resets.count_for(tenant)
    }

    pub(super) fn set_tenant(&self, tenant: TenantId, held: TenantCapabilities) {
        self.tenants.write().unwrap_or_else(PoisonError::into_inner).insert(tenant, Arc::new(held));
        self.changes.send_replace(());
    }

    /// Watches changes from now on.
    pub(crate) fn watch_changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(super) fn forget_tenant(&self, tenant: TenantId) {
        self.tenants.write().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Waits until a capability by which a run with these grants may do something expires, if it had not at a time; for ever
    /// if none does.
    pub(crate) async fn await_expiry(&self, grants: &[String], since: Timestamp) {
        match self.next_expiry(grants, since) {
            Some(at) => self.clock.sleep_until(at).await,
            None => pending().await,
        }
    }

    fn next_expiry(&self, grants: &[String], since: Timestamp) -> Option<Timestamp> {
        let words = CapabilityGrants::from_grants(grants);
        let held = words.holder.and_then(|(of, holder)| {
            let held = self.for_tenant(of)?;
            held.rows
                .values()
                .filter(|row| row.capability.holder == holder)
                .filter_map(|row| held.expiry(row, since))
                .min()
        });
        let within = words.within.into_iter().flatten().filter_map(|(of, _, id)| {
            let held = self.for_tenant(of)?;
            held.expiry(held.rows.get(&id)?, since)
        });
        held.into_iter().chain(within).min()
    }

    /// Finds the capability of the holder of these grants that covers what is sought, as a rule. Capabilities of other
    /// kinds are skipped; of those of the kind that do not cover it, the error names the first.
    pub(crate) fn find_covering(
        &self,
        tenant: Option<TenantId>,
        grants: &[String],
        sought: &CapabilityRequest,
    ) -> Result<String, Option<CapabilityDenied>> {
        let Some((of, holder)) = CapabilityGrants::from_grants(grants).holder else { return Err(None) };
        let Some(held) = self.for_tenant(of).filter(|_| tenant.is_none_or(|tenant| tenant == of)) else {
            return Err(None);
        };
        let (mut denied, now) = (None, self.now());
        for (id, row) in &held.rows {
            let speaks = row.capability.holder == holder && row.capability.usage == CapabilityUse::Held;
            if !speaks || !row.rights.iter().any(|right| sought.lies_within(right)) {
                continue;
            }
            match held.decide_cover(*id, holder, CapabilityUse::Held, sought, now) {
                Ok((block, right)) => return Ok(format!("capability {id} block {block} {right}")),
                Err(fallen) => {
                    denied.get_or_insert_with(|| CapabilityDenied {
                        rule: denial_rule(*id, &fallen),
                        reason: format!("the capability {id} of this agent does not allow it: {fallen}"),
                    });
                }
            }
        }
        Err(denied)
    }

    /// Refuses what lies outside of a capability within which the run stays, and names those within which it lies.
    pub(crate) fn check_bounds(
        &self,
        tenant: Option<TenantId>,
        grants: &[String],
        sought: &[CapabilityRequest],
    ) -> Result<Vec<String>, CapabilityDenied> {
        let mut rules = Vec::new();
        for word in CapabilityGrants::from_grants(grants).within {
            let Some((of, holder, id)) = word else { return Err(outside_bound("unreadable", None)) };
            let held = self.for_tenant(of).filter(|_| tenant.is_none_or(|tenant| tenant == of));
            let Some(held) = held else { return Err(outside_bound(&id.to_string(), None)) };
            for sought in sought {
                match held.decide_cover(id, holder, CapabilityUse::Task, sought, self.now()) {
                    Ok((block, right)) => rules.push(format!("within {id} block {block} {right}")),
                    Err(fallen) => return Err(outside_bound(&id.to_string(), Some(&fallen))),
                }
            }
        }
        Ok(rules)
    }
}

fn denial_rule(id: CapabilityId, fallen: &CapabilityMismatch) -> String {
    let block = fallen.block.map(|block| format!(" block {block}")).unwrap_or_default();
    format!("capability {id}{block}")
}

fn outside_bound(id: &str, fallen: Option<&CapabilityMismatch>) -> CapabilityDenied {
    let block = fallen.and_then(|fallen| fallen.block).map(|block| format!(" block {block}"));
    let why = fallen.map_or_else(|| "it cannot be read".to_owned(), ToString::to_string);
    CapabilityDenied {
        rule: format!("within {id}{}", block.unwrap_or_default()),
        reason: format!("this task may do less than its agent, and this is outside of it ({id}: {why})"),
    }
}

impl TenantCapabilities {
    /// Puts rows together; what does not open stays, and covers nothing.
    pub(super) fn new(rows: Vec<CapabilityRecord>, roots: Option<RootKeys>) -> Self {
        let mut held = Self { roots, ..Self::default() };
        for capability in rows {
            held.put_capability(capability);
        }
        held
    }

    pub(super) fn put_capability(&mut self, capability: CapabilityRecord) {
        let opened = self.roots.as_ref().map(|roots| roots.open_token(&capability.token));
        let token = match opened {
            Some(Ok(token)) => Some(token),
            Some(Err(error)) => {
                tracing::error!(capability = %capability.id, %error, "a capability does not open and covers nothing");
                None
            }
            None => None,
        };
        let right = |text: &String| {
            let resource = Resource::parse(text).ok()?;
            Some(Right { resource, until: capability.until, wall_ms_max: capability.wall_ms_max })
        };
        let rights = capability.rights.iter().filter_map(right).collect();
        let last = token.as_ref().and_then(|token| token.revocation_ids().last().copied());
        if capability.revoked_at.is_some() {
            self.revoked.extend(last);
        }
        self.rows.insert(capability.id, Arc::new(CapabilityEntry { capability, rights, token }));
    }

    /// The chain of a capability, the one that the root key signed first; nothing if a part of it is gone.
    pub(super) fn parent_chain(&self, id: CapabilityId) -> Option<Vec<&CapabilityEntry>> {
        let mut chain = vec![&**self.rows.get(&id)?];
        while let Some(parent) = chain.last().and_then(|row| row.capability.parent) {
            if chain.len() >= BLOCKS_MAX {
                return None;
            }
            chain.push(self.rows.get(&parent)?);
        }
        chain.reverse();
        Some(chain)
    }

    /// The next moment at which a capability, or one that it was made from, expires.
    fn expiry(&self, row: &CapabilityEntry, now: Timestamp) -> Option<Timestamp> {
        let chain = self.parent_chain(row.capability.id)?;
        chain.iter().filter_map(|row| row.capability.until).filter(|until| *until > now).min()
    }

    /// Says what is wrong with a capability whatever it covers: who took back which block, or which has expired.
    pub(super) fn check_standing(
        &self,
        id: CapabilityId,
        now: Timestamp,
    ) -> Result<Vec<&CapabilityEntry>, CapabilityMismatch> {
        let chain =
            self.parent_chain(id).ok_or(CapabilityMismatch { block: None, why: MismatchReason::Gone })?;
        for (block, row) in chain.iter().enumerate() {
            let why = match row.capability.state_at(now) {
                TokenState::Active => continue,
                TokenState::Revoked => MismatchReason::Revoked,
                TokenState::Expired => MismatchReason::Expired,
            };
            return Err(CapabilityMismatch { block: Some(block), why });
        }
        Ok(chain)
    }

    /// Says which block of a capability covers what is sought in the end, and by which right; or which block does not.
    pub(super) fn decide_cover(
        &self,
        id: CapabilityId,
        presenter: AgentId,
        usage: CapabilityUse,
        sought: &CapabilityRequest,
        now: Timestamp,
    ) -> Result<(usize, String), CapabilityMismatch> {
        let chain = self.check_standing(id, now)?;
        let whole = |why| Err(CapabilityMismatch { block: None, why });
        let Some(row) = chain.last() else { return whole(MismatchReason::Gone) };
        if row.capability.holder != presenter {
            return whole(MismatchReason::NotHolder);
        }
        if row.capability.usage != usage {
            return whole(MismatchReason::OtherUse);
        }
        let Some(token) = &row.token else { return whole(MismatchReason::Token(None)) };
        // The file or host is not known yet: any right of the kind will do, and every call is judged again.
        if let Some(right) = row.rights.iter().find(|right| sought.takes_any(right)) {
            return Ok((chain.len() - 1, right.resource.to_string()));
        }
        let mut furthest = CapabilityMismatch { block: Some(0), why: MismatchReason::Uncovered };
        for resource in &sought.any_of {
            match find_covering_right(&chain, resource, sought.wall_ms) {
                Ok(right) => {
                    let asked = AccessRequest { presenter, resource, wall_ms: sought.wall_ms, at: now };
                    return match token.check_access(&asked, &self.revoked) {
                        Ok(()) => Ok((chain.len() - 1, right)),
                        Err(refusal) => whole(MismatchReason::Token(Some(refusal))),
                    };
                }
                Err(fallen) if fallen.block >= furthest.block => furthest = fallen,
                Err(_) => {}
            }
        }
        Err(furthest)
    }
}

/// Tells which right of the last block covers a resource, if one of every block does.
fn find_covering_right(
    chain: &[&CapabilityEntry],
    resource: &Resource,
    wall_ms: u32,
) -> Result<String, CapabilityMismatch> {
    let mut last = String::new();
    for (block, row) in chain.iter().enumerate() {
        let lying = || row.rights.iter().filter(|right| right.resource.covers(resource));
        let fits = |right: &&Right| right.wall_ms_max.is_none_or(|most| wall_ms <= most);
        last = match (lying().find(fits), lying().find_map(|right| right.wall_ms_max)) {
            (Some(right), _) => right.resource.to_string(),
            (None, Some(wall_ms_max)) => {
                return Err(CapabilityMismatch {
                    block: Some(block),
                    why: MismatchReason::TooLong { wall_ms_max },
                });
            }
            (None, None) => {
                return Err(CapabilityMismatch { block: Some(block), why: MismatchReason::Uncovered });
            }
        };
    }
    Ok(last)
}
