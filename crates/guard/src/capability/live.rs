//! What capabilities count now: those of each tenant in memory, asked at every call.
//!
//! A change of a row counts from the moment it is put in here; nothing is cached beside it. Words among an agent's
//! grants say who holds them, and within which capability a run stays. What cannot be read, found or checked covers
//! nothing. Memory holds the rows of each tenant that was asked about, at most
//! [`CAPABILITIES_MAX`](dromia_contracts::capability::CAPABILITIES_MAX) each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use dromia_contracts::capability::{Capability, CapabilityUse, HOLDER, WITHIN};
use dromia_contracts::runtime::Clock;
use dromia_contracts::token::TokenState;
use dromia_contracts::{AgentId, CapabilityId, TenantId};
use jiff::Timestamp;

use super::right::{Resource, Right};
use super::root::Roots;
use super::sought::Sought;
use super::token::{Asked, BLOCKS_MAX, Refusal, RevocationId, Token};
use crate::vault::Resets;

/// What counts now.
#[derive(Debug)]
pub struct Live {
    clock: Arc<dyn Clock>,
    /// Which tenants' keys gave way: what was signed below one that did covers nothing from that moment on.
    resets: Arc<Resets>,
    tenants: RwLock<HashMap<TenantId, Arc<Held>>>,
}

/// The capabilities of one tenant.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    pub(super) rows: BTreeMap<CapabilityId, Arc<Row>>,
    /// The keys with which its tokens begin; none where they could not be had.
    pub(super) roots: Option<Roots>,
    /// How often the tenant's key in the vault had given way to another one when the roots were derived.
    pub(super) resets: u64,
    revoked: BTreeSet<RevocationId>,
}

/// One capability.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) capability: Capability,
    pub(super) rights: Vec<Right>,
    /// The token, if its signatures hold.
    pub(super) token: Option<Token>,
}

/// Why a capability does not cover something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallen {
    /// The block that decided, counted from 0; nothing where none did.
    pub block: Option<usize>,
    /// Why.
    pub why: Lost,
}

/// What is wrong with a capability, or with a block of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Somebody took it back.
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
    /// Somebody else holds it.
    NotHolder,
    /// It is for something else.
    OtherUse,
    /// Its token cannot be had, or says no.
    Token(Option<Refusal>),
}

impl fmt::Display for Fallen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.block {
            Some(block) => write!(f, "block {block} of its token ")?,
            None => f.write_str("it ")?,
        }
        match &self.why {
            Lost::Revoked => f.write_str("was revoked"),
            Lost::Expired => f.write_str("has expired"),
            Lost::Uncovered => f.write_str("does not cover it"),
            Lost::TooLong { wall_ms_max } => {
                write!(f, "covers calls of at most {wall_ms_max} ms")?;
                match wall_ms_max / 1_000 {
                    0 => f.write_str(", and no `timeout_s` is that short"),
                    seconds => write!(f, ": set `timeout_s` to {seconds} or less"),
                }
            }
            Lost::Gone => f.write_str("counts no more: what it was made from is gone"),
            Lost::NotHolder => f.write_str("is held by another agent"),
            Lost::OtherUse => f.write_str("is for another use"),
            Lost::Token(Some(refusal)) => write!(f, "is refused: {refusal}"),
            Lost::Token(None) => f.write_str("cannot be checked: its token does not open"),
        }
    }
}

/// What no capability lets happen, as a rule and as words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) rule: String,
    pub(crate) reason: String,
}

/// Whose grants these are, and within what a run of his stays.
#[derive(Debug, Default)]
struct Words {
    holder: Option<(TenantId, AgentId)>,
    within: Vec<Option<(TenantId, AgentId, CapabilityId)>>,
}

impl Words {
    fn read(grants: &[String]) -> Self {
        let mut words = Self::default();
        for text in grants {
            if let Some(text) = text.strip_prefix(HOLDER) {
                words.holder = pair(text);
            } else if let Some(text) = text.strip_prefix(WITHIN) {
                let read = text.rsplit_once('/').and_then(|(holder, capability)| {
                    let (tenant, agent) = pair(holder)?;
                    Some((tenant, agent, capability.parse().ok()?))
                });
                words.within.push(read);
            }
        }
        words
    }
}

fn pair(text: &str) -> Option<(TenantId, AgentId)> {
    let (tenant, agent) = text.split_once('/')?;
    Some((tenant.parse().ok()?, agent.parse().ok()?))
}

/// Whose grants these are.
pub(super) fn holder(grants: &[String]) -> Option<(TenantId, AgentId)> {
    Words::read(grants).holder
}

impl Live {
    /// Begins with nothing.
    pub(super) fn new(clock: Arc<dyn Clock>, resets: Arc<Resets>) -> Self {
        Self { clock, resets, tenants: RwLock::default() }
    }

    /// What memory holds of a tenant; nothing where that was derived from a key that gave way to another one since.
    pub(super) fn of(&self, tenant: TenantId) -> Option<Arc<Held>> {
        let held = self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(&tenant).cloned();
        held.filter(|held| held.resets == self.resets.of(tenant))
    }

    pub(super) fn resets(&self, tenant: TenantId) -> u64 {
        self.resets.of(tenant)
    }

    pub(super) fn set(&self, tenant: TenantId, held: Held) {
        self.tenants.write().unwrap_or_else(PoisonError::into_inner).insert(tenant, Arc::new(held));
    }

    pub(super) fn forget(&self, tenant: TenantId) {
        self.tenants.write().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Finds the capability of whoever holds these grants that covers what is sought, as a rule. Nothing is said of
    /// capabilities that do not speak of it; of those that do and do not cover it, the first is told.
    pub(crate) fn covering(
        &self,
        tenant: Option<TenantId>,
        grants: &[String],
        sought: &Sought,
    ) -> Result<String, Option<Denied>> {
        let Some((of, holder)) = Words::read(grants).holder else { return Err(None) };
        let Some(held) = self.of(of).filter(|_| tenant.is_none_or(|tenant| tenant == of)) else {
            return Err(None);
        };
        let (mut denied, now) = (None, self.now());
        for (id, row) in &held.rows {
            let speaks = row.capability.holder == holder && row.capability.usage == CapabilityUse::Held;
            if !speaks || !row.rights.iter().any(|right| sought.lies_within(right)) {
                continue;
            }
            match held.decide(*id, holder, CapabilityUse::Held, sought, now) {
                Ok((block, right)) => return Ok(format!("capability {id} block {block} {right}")),
                Err(fallen) => {
                    denied.get_or_insert_with(|| Denied {
                        rule: rule(*id, &fallen),
                        reason: format!("the capability {id} of this agent does not allow it: {fallen}"),
                    });
                }
            }
        }
        Err(denied)
    }

    /// Refuses what lies outside of a capability within which the run stays, and names those within which it lies.
    pub(crate) fn bounding(
        &self,
        tenant: Option<TenantId>,
        grants: &[String],
        sought: &[Sought],
    ) -> Result<Vec<String>, Denied> {
        let mut rules = Vec::new();
        for word in Words::read(grants).within {
            let Some((of, holder, id)) = word else { return Err(outside("unreadable", None)) };
            let held = self.of(of).filter(|_| tenant.is_none_or(|tenant| tenant == of));
            let Some(held) = held else { return Err(outside(&id.to_string(), None)) };
            for sought in sought {
                match held.decide(id, holder, CapabilityUse::Task, sought, self.now()) {
                    Ok((block, right)) => rules.push(format!("within {id} block {block} {right}")),
                    Err(fallen) => return Err(outside(&id.to_string(), Some(&fallen))),
                }
            }
        }
        Ok(rules)
    }
}

fn rule(id: CapabilityId, fallen: &Fallen) -> String {
    let block = fallen.block.map(|block| format!(" block {block}")).unwrap_or_default();
    format!("capability {id}{block}")
}

fn outside(id: &str, fallen: Option<&Fallen>) -> Denied {
    let block = fallen.and_then(|fallen| fallen.block).map(|block| format!(" block {block}"));
    let why = fallen.map_or_else(|| "it cannot be looked at".to_owned(), ToString::to_string);
    Denied {
        rule: format!("within {id}{}", block.unwrap_or_default()),
        reason: format!("this task may do less than its agent, and this is outside of it ({id}: {why})"),
    }
}

impl Held {
    /// Puts rows together; what does not open stays, and covers nothing.
    pub(super) fn new(rows: Vec<Capability>, roots: Option<Roots>) -> Self {
        let mut held = Self { roots, ..Self::default() };
        for capability in rows {
            held.put(capability);
        }
        held
    }

    pub(super) fn put(&mut self, capability: Capability) {
        let opened = self.roots.as_ref().map(|roots| roots.open(&capability.token));
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
        self.rows.insert(capability.id, Arc::new(Row { capability, rights, token }));
    }

    /// The chain of a capability, the one that the root key signed first; nothing if a part of it is gone.
    pub(super) fn chain(&self, id: CapabilityId) -> Option<Vec<&Row>> {
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

    /// Says what is wrong with a capability whatever it covers: who took back which block, or which has expired.
    pub(super) fn stands(&self, id: CapabilityId, now: Timestamp) -> Result<Vec<&Row>, Fallen> {
        let chain = self.chain(id).ok_or(Fallen { block: None, why: Lost::Gone })?;
        for (block, row) in chain.iter().enumerate() {
            let why = match row.capability.state(now) {
                TokenState::Active => continue,
                TokenState::Revoked => Lost::Revoked,
                TokenState::Expired => Lost::Expired,
            };
            return Err(Fallen { block: Some(block), why });
        }
        Ok(chain)
    }

    /// Says which block of a capability covers what is sought in the end, and by which right; or which block does not.
    pub(super) fn decide(
        &self,
        id: CapabilityId,
        presenter: AgentId,
        usage: CapabilityUse,
        sought: &Sought,
        now: Timestamp,
    ) -> Result<(usize, String), Fallen> {
        let chain = self.stands(id, now)?;
        let whole = |why| Err(Fallen { block: None, why });
        let Some(row) = chain.last() else { return whole(Lost::Gone) };
        if row.capability.holder != presenter {
            return whole(Lost::NotHolder);
        }
        if row.capability.usage != usage {
            return whole(Lost::OtherUse);
        }
        let Some(token) = &row.token else { return whole(Lost::Token(None)) };
        // Nobody has said yet which file or host: whether there is any will do, and every call is judged again.
        if let Some(right) = row.rights.iter().find(|right| sought.takes_any(right)) {
            return Ok((chain.len() - 1, right.resource.to_string()));
        }
        let mut furthest = Fallen { block: Some(0), why: Lost::Uncovered };
        for resource in &sought.any_of {
            match covered(&chain, resource, sought.wall_ms) {
                Ok(right) => {
                    let asked = Asked { presenter, resource, wall_ms: sought.wall_ms, at: now };
                    return match token.check(&asked, &self.revoked) {
                        Ok(()) => Ok((chain.len() - 1, right)),
                        Err(refusal) => whole(Lost::Token(Some(refusal))),
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
fn covered(chain: &[&Row], resource: &Resource, wall_ms: u32) -> Result<String, Fallen> {
    let mut last = String::new();
    for (block, row) in chain.iter().enumerate() {
        let lying = || row.rights.iter().filter(|right| right.resource.covers(resource));
        let fits = |right: &&Right| right.wall_ms_max.is_none_or(|most| wall_ms <= most);
        last = match (lying().find(fits), lying().find_map(|right| right.wall_ms_max)) {
            (Some(right), _) => right.resource.to_string(),
            (None, Some(wall_ms_max)) => {
                return Err(Fallen { block: Some(block), why: Lost::TooLong { wall_ms_max } });
            }
            (None, None) => return Err(Fallen { block: Some(block), why: Lost::Uncovered }),
        };
    }
    Ok(last)
}
