//! Two tenants on one store: whatever one of them does, the other is answered as if it were alone.
//!
//! A world is a random sequence of operations of two tenants. It is played on a store that both share and, in step with
//! it, on a store of its own for each of them; every answer of the shared store must be the answer of the own one, byte
//! for byte. Both tenants count their ids for themselves, so most rows of one have an id that the other has, too: a key
//! without its tenant shows. Now and then one submits what the other has just written, in its own name.
//!
//! No clock is asked: all times are in the batches. The seed decides everything, so a world that fails is found again.

mod ask;
mod forgetful;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::store::{AgentStateSet, Batch, Commit, Mutation, SecretErase, Store, VaultKeyPut};
use dromia_contracts::vault::{Placement, SealedSecret, Secret};
use dromia_contracts::{Actor, Authority, Digest, Operator, Scope, TenantId};
use proptest::strategy::{Strategy as _, ValueTree as _};

use self::ask::{Known, Question};
use super::random::{Op, Writer, agent_id, runner, sequence_of, tenant_id};
use super::scene::at;
use crate::reference::ReferenceStore;
use crate::sim::Dice;

pub use self::ask::READS;
pub use self::forgetful::{Forgetful, KEYS};

/// The operations of one world: enough for rows to meet, and few enough to be told apart.
pub const WORLD_OPS: usize = 1_000;

/// How much of an answer is shown where two differ, in bytes.
const SHOWN_BYTES_MAX: usize = 2_000;
/// The most pages of an erasure; each takes up to 256 rows.
const PAGES_MAX: usize = 64;

/// The stores of a world, which are empty.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Both tenants use it.
    pub shared: Arc<dyn Store>,
    /// Each of them is for one tenant alone.
    pub alone: [Arc<dyn Store>; 2],
}

/// What was played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Worlds.
    pub worlds: u64,
    /// Batches and pages of erasures.
    pub writes: u64,
    /// Those of them that were refused.
    pub refused: u64,
    /// Reads.
    pub reads: u64,
    /// Those of them that found something.
    pub found: u64,
}

impl Tally {
    /// Counts what another one counted, too.
    pub fn include(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.writes += other.writes;
        self.refused += other.refused;
        self.reads += other.reads;
        self.found += other.found;
    }

    /// Counts operations.
    pub fn operations(&self) -> u64 {
        self.writes + self.reads
    }

    /// Insists on a mixture that says something: enough of the writes were done, and enough of the reads found something.
    pub fn says_something(&self) {
        assert!(self.refused * 4 < self.writes * 3, "too much was refused: {self}");
        assert!(self.found * 8 > self.reads, "too little was found: {self}");
        assert!(self.reads * 4 > self.writes, "too little was read: {self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} operations of two tenants in {} worlds: {} writes ({} refused), {} reads ({} found something)",
            self.operations(),
            self.worlds,
            self.writes,
            self.refused,
            self.reads,
            self.found
        )
    }
}

/// Plays one world and returns what was played, or the first answer that another tenant changed. Of the reads only the
/// named ones are asked; [`READS`] are all.
pub async fn play(
    seed: u64,
    operations: usize,
    reads: &[&'static str],
    stores: &Stores,
) -> Result<Tally, String> {
    let mut world = World::open(seed, stores).await?;
    for (step, op) in drawn(seed, operations).into_iter().enumerate() {
        let is_late = step * 4 > operations * 3;
        let op = if is_late { op } else { livelier(op) };
        let played = world.step(&op, is_late, reads).await;
        played.map_err(|difference| format!("world {seed}, operation {step}: {difference}"))?;
    }
    Ok(world.tally)
}

/// Draws the writes of a world; some of them give way to other operations.
fn drawn(seed: u64, operations: usize) -> Vec<Op> {
    sequence_of(operations).new_tree(&mut runner(seed)).expect("a strategy without filters").current()
}

/// Leaves agents alive, funds where they are, and more bodies in files of their own, so that there is something to keep
/// apart: two tenants have only half of a world each.
fn livelier(op: Op) -> Op {
    match op {
        Op::AgentState { place, .. } => Op::AgentState { place, to: u8::MAX },
        Op::Budget { place, per, limit } => {
            Op::Budget { place, per, limit: limit.map(|limit| limit.saturating_add(200)) }
        }
        Op::Append { place, back, epoch_off, after_off, size, end } if size % 2 == 1 => {
            Op::Append { place, back, epoch_off, after_off, size: size.saturating_add(5_000), end }
        }
        // The oldest of a target is first in its line, so the newest alone would move nothing.
        Op::Deliver { place, back, step, attempt_off } => {
            Op::Deliver { place, back: back * 5 + step, step, attempt_off }
        }
        other => other,
    }
}

struct World<'a> {
    stores: &'a Stores,
    /// What each tenant's writer looks at: it is alone there.
    oracles: [ReferenceStore; 2],
    writers: [Writer; 2],
    scopes: [Scope; 2],
    operator: Operator,
    /// The last batch of each.
    last: [Option<Batch>; 2],
    known: Known,
    dice: Dice,
    tally: Tally,
}

impl<'a> World<'a> {
    async fn open(seed: u64, stores: &'a Stores) -> Result<Self, String> {
        let authority = Authority::claim();
        let oracles = [ReferenceStore::new(), ReferenceStore::new()];
        let scope = |tenant| authority.scope(tenant_id(tenant), Actor::new("test:tenant"));
        let mut world = Self {
            stores,
            writers: [Writer::new(oracles[0].clone()), Writer::new(oracles[1].clone())],
            oracles,
            scopes: [scope(0), scope(1)],
            operator: authority.operator(),
            last: [None, None],
            known: Known::default(),
            dice: Dice::new(seed),
            tally: Tally { worlds: 1, ..Tally::default() },
        };
        for (tenant, batch) in Writer::world().into_iter().enumerate() {
            world.write(tenant, batch).await?;
        }
        Ok(world)
    }

    async fn step(&mut self, op: &Op, is_late: bool, reads: &[&'static str]) -> Result<(), String> {
        let tenant = tenant_of(op).unwrap_or_else(|| self.dice.below(2));
        match self.dice.below(20) {
            0..8 => self.read(tenant, reads).await,
            8 => match self.last[1 - tenant].clone() {
                Some(theirs) => {
                    self.write(tenant, Batch { tenant: tenant_of_number(tenant), ..theirs }).await
                }
                None => self.read(tenant, reads).await,
            },
            9 | 10 => {
                let batch = self.secret(tenant);
                self.write(tenant, batch).await
            }
            11 if is_late => self.erase(tenant).await,
            _ => match self.writers[tenant].batch(op) {
                Some(batch) => {
                    self.last[tenant] = Some(batch.clone());
                    self.write(tenant, batch).await
                }
                // It needs something that is not there yet.
                None => self.read(tenant, reads).await,
            },
        }
    }

    /// Commits a batch of a tenant.
    async fn write(&mut self, tenant: usize, batch: Batch) -> Result<(), String> {
        let batch = with_tokens_of(tenant, batch);
        self.known.learn(&batch);
        drop(self.oracles[tenant].apply(&batch));
        let shared = self.stores.shared.commit(batch.clone()).await;
        let alone = self.stores.alone[tenant].commit(batch.clone()).await;
        self.tally.writes += 1;
        self.tally.refused += u64::from(matches!(alone, Commit::Refused(_)));
        same(tenant, &batch, &format!("{shared:?}"), &format!("{alone:?}"))
    }

    /// Asks something as a tenant, about rows of either.
    async fn read(&mut self, tenant: usize, reads: &[&'static str]) -> Result<(), String> {
        let read = reads[self.dice.below(reads.len())];
        let question = Question::draw(read, tenant, &self.known, &mut self.dice);
        let scope = question.scope(&self.scopes[tenant]);
        let shared = question.answer(&*self.stores.shared, &self.operator, &scope).await;
        let alone = question.answer(&*self.stores.alone[tenant], &self.operator, &scope).await;
        self.tally.reads += 1;
        self.tally.found += u64::from(!["None", "[]", "0"].contains(&alone.as_str()));
        same(tenant, &question, &shared, &alone)
    }

    /// Writes the key of secrets, or sets or erases a secret; both tenants name theirs alike.
    fn secret(&mut self, tenant: usize) -> Batch {
        let name = format!("s{}", self.dice.below(2));
        let version = 1 + u32::from(self.dice.below(3) == 0);
        let bytes = |what: &str| Bytes::from(format!("{what} {version} of t{tenant}"));
        let change = match self.dice.below(6) {
            0 => Mutation::VaultKeyPut(VaultKeyPut { key: bytes("key of all"), replaces: None }),
            1 => Mutation::SecretErase(SecretErase { name, version }),
            _ => Mutation::SecretPut(SealedSecret {
                secret: Secret {
                    name,
                    version,
                    host: "https://api.example.com:443".to_owned(),
                    placement: Placement::Bearer,
                    created_at: at(1),
                    changed_at: at(i64::from(version)),
                },
                key: bytes("key"),
                value: bytes("value"),
            }),
        };
        Batch::new(tenant_of_number(tenant)).with(change)
    }

    /// Erases the second agent of either tenant, as one of them.
    async fn erase(&mut self, tenant: usize) -> Result<(), String> {
        let owner = if self.dice.below(3) == 0 { 1 - number(tenant) } else { number(tenant) };
        let agent = agent_id(owner, 1);
        let from = vec![AgentState::Running, AgentState::Paused, AgentState::Terminated];
        let set = AgentStateSet { agent, from, to: AgentState::Deleting };
        self.write(tenant, Batch::new(tenant_of_number(tenant)).with(Mutation::AgentStateSet(set))).await?;
        drop(self.oracles[tenant].erase_agent_page(&self.scopes[tenant], agent).await);
        for _ in 0..PAGES_MAX {
            let scope = &self.scopes[tenant];
            let shared = self.stores.shared.erase_agent_page(scope, agent).await;
            let alone = self.stores.alone[tenant].erase_agent_page(scope, agent).await;
            self.tally.writes += 1;
            let is_last = alone.as_ref().is_ok_and(|(_, is_last)| *is_last);
            same(
                tenant,
                &format!("erase_agent_page {agent}"),
                &format!("{shared:?}"),
                &format!("{alone:?}"),
            )?;
            if is_last {
                return Ok(());
            }
        }
        Err(format!("{agent} is not erased after {PAGES_MAX} pages"))
    }
}

/// Whose operation it is; an earlier batch once more is anybody's.
fn tenant_of(op: &Op) -> Option<usize> {
    match *op {
        Op::Register { place, .. }
        | Op::Revoke { place, .. }
        | Op::AgentState { place, .. }
        | Op::Open { place }
        | Op::Put { place, .. }
        | Op::Append { place, .. }
        | Op::Takeover { place, .. }
        | Op::Signal { place, .. }
        | Op::State { place, .. }
        | Op::Cross { place }
        | Op::Torn { place, .. }
        | Op::Reply { place, .. }
        | Op::Deliver { place, .. }
        | Op::Feed { place, .. }
        | Op::Capability { place, .. }
        | Op::Budget { place, .. }
        | Op::Files { place, .. }
        | Op::Approve { place, .. } => Some(place.tenant.into()),
        Op::Again { .. } => None,
    }
}

fn number(tenant: usize) -> u8 {
    u8::from(tenant == 1)
}

fn tenant_of_number(tenant: usize) -> TenantId {
    tenant_id(number(tenant))
}

/// Gives tokens the hashes that this tenant's tokens have: a secret is nobody else's by chance, unlike any other id here.
fn with_tokens_of(tenant: usize, mut batch: Batch) -> Batch {
    for mutation in &mut batch.mutations {
        if let Mutation::TokenCreate(create) = mutation {
            let mut bytes = *create.hash.as_bytes();
            bytes[1] = 1 + number(tenant);
            create.hash = Digest::from_bytes(bytes);
        }
    }
    batch
}

fn same(tenant: usize, what: &dyn fmt::Debug, shared: &str, alone: &str) -> Result<(), String> {
    if shared == alone {
        return Ok(());
    }
    Err(format!(
        "tenant {tenant} is answered otherwise than alone\n  it asked: {}\n  beside another: {}\n  alone: {}",
        cut(&format!("{what:?}")),
        cut(shared),
        cut(alone)
    ))
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(SHOWN_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
