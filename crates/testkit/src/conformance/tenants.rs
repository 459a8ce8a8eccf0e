//! Two tenants on one store: the operations of one change no answer that the other gets.
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
use dromia_contracts::store::{
    AgentStateSet, CommitOutcome, Mutation, SecretErase, Store, VaultKeyPut, WriteBatch,
};
use dromia_contracts::vault::{SealedSecret, SecretPlacement, SecretSummary};
use dromia_contracts::{Actor, Digest, OperatorScope, Scope, ScopeAuthority, TenantId};
use proptest::strategy::{Strategy as _, ValueTree as _};

use self::ask::{KnownIds, StoreQuestion};
use super::random::{BatchWriter, StoreOp, agent_id, seeded_runner, sequence_of, tenant_id};
use super::scene::scene_time;
use crate::reference::ReferenceStore;
use crate::sim::SeededRng;

pub use self::ask::READS;
pub use self::forgetful::{ForgetfulStore, KEYS};

/// The operations of one world: enough for rows to meet, and few enough to keep their numbered ids distinct.
pub const WORLD_OPS: usize = 1_000;

/// How much of an answer is shown where two differ, in bytes.
const SHOWN_BYTES_MAX: usize = 2_000;
/// The most pages of an erasure; each takes up to 256 rows.
const PAGES_MAX: usize = 64;

/// The stores of a world, which are empty.
#[derive(Debug, Clone)]
pub struct WorldStores {
    /// Both tenants use it.
    pub shared: Arc<dyn Store>,
    /// Each of them is for one tenant alone.
    pub alone: [Arc<dyn Store>; 2],
}

/// What was played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlayTally {
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

impl PlayTally {
    /// Counts what another one counted, too.
    pub fn add_tally(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.writes += other.writes;
        self.refused += other.refused;
        self.reads += other.reads;
        self.found += other.found;
    }

    /// Counts operations.
    pub fn operation_count(&self) -> u64 {
        self.writes + self.reads
    }

    /// Insists on a mixture that says something: enough of the writes were done, and enough of the reads found something.
    pub fn says_something(&self) {
        assert!(self.refused * 4 < self.writes * 3, "too much was refused: {self}");
        assert!(self.found * 8 > self.reads, "too little was found: {self}");
        assert!(self.reads * 4 > self.writes, "too little was read: {self}");
    }
}

impl fmt::Display for PlayTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} operations of two tenants in {} worlds: {} writes ({} refused), {} reads ({} found something)",
            self.operation_count(),
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
pub async fn play_world(
    seed: u64,
    operations: usize,
    reads: &[&'static str],
    stores: &WorldStores,
) -> Result<PlayTally, String> {
    let mut world = TenantWorld::open_world(seed, stores).await?;
    for (step, op) in draw_ops(seed, operations).into_iter().enumerate() {
        let is_late = step * 4 > operations * 3;
        let op = if is_late { op } else { make_livelier(op) };
        let played = world.play_op(&op, is_late, reads).await;
        played.map_err(|difference| format!("world {seed}, operation {step}: {difference}"))?;
    }
    Ok(world.tally)
}

/// Draws the writes of a world; some of them give way to other operations.
fn draw_ops(seed: u64, operations: usize) -> Vec<StoreOp> {
    sequence_of(operations).new_tree(&mut seeded_runner(seed)).expect("a strategy without filters").current()
}

/// Leaves agents alive, funds where they are, and more bodies in files of their own, so that there is something to keep
/// apart: two tenants have only half of a world each.
fn make_livelier(op: StoreOp) -> StoreOp {
    match op {
        StoreOp::AgentState { place, .. } => StoreOp::AgentState { place, to: u8::MAX },
        StoreOp::Budget { place, per, limit } => {
            StoreOp::Budget { place, per, limit: limit.map(|limit| limit.saturating_add(200)) }
        }
        StoreOp::Append { place, back, epoch_off, after_off, size, end } if size % 2 == 1 => {
            StoreOp::Append { place, back, epoch_off, after_off, size: size.saturating_add(5_000), end }
        }
        // The oldest of a target is first in its line, so the newest alone would move nothing.
        StoreOp::Deliver { place, back, step, attempt_off } => {
            StoreOp::Deliver { place, back: back * 5 + step, step, attempt_off }
        }
        other => other,
    }
}

struct TenantWorld<'a> {
    stores: &'a WorldStores,
    /// What each tenant's writer looks at: it is alone there.
    oracles: [ReferenceStore; 2],
    writers: [BatchWriter; 2],
    scopes: [Scope; 2],
    operator: OperatorScope,
    /// The last batch of each.
    last: [Option<WriteBatch>; 2],
    known: KnownIds,
    dice: SeededRng,
    tally: PlayTally,
}

impl<'a> TenantWorld<'a> {
    async fn open_world(seed: u64, stores: &'a WorldStores) -> Result<Self, String> {
        let authority = ScopeAuthority::claim();
        let oracles = [ReferenceStore::new(), ReferenceStore::new()];
        let scope = |tenant| authority.issue_scope(tenant_id(tenant), Actor::new("test:tenant"));
        let mut world = Self {
            stores,
            writers: [BatchWriter::new(oracles[0].clone()), BatchWriter::new(oracles[1].clone())],
            oracles,
            scopes: [scope(0), scope(1)],
            operator: authority.issue_operator(),
            last: [None, None],
            known: KnownIds::default(),
            dice: SeededRng::new(seed),
            tally: PlayTally { worlds: 1, ..PlayTally::default() },
        };
        for (tenant, batch) in BatchWriter::world_batches().into_iter().enumerate() {
            world.commit_both(tenant, batch).await?;
        }
        Ok(world)
    }

    async fn play_op(&mut self, op: &StoreOp, is_late: bool, reads: &[&'static str]) -> Result<(), String> {
        let tenant = tenant_of(op).unwrap_or_else(|| self.dice.draw_below(2));
        match self.dice.draw_below(20) {
            0..8 => self.ask_both(tenant, reads).await,
            8 => match self.last[1 - tenant].clone() {
                Some(theirs) => {
                    self.commit_both(tenant, WriteBatch { tenant: tenant_of_number(tenant), ..theirs }).await
                }
                None => self.ask_both(tenant, reads).await,
            },
            9 | 10 => {
                let batch = self.secret_batch(tenant);
                self.commit_both(tenant, batch).await
            }
            11 if is_late => self.erase_agent(tenant).await,
            _ => match self.writers[tenant].batch_of_op(op) {
                Some(batch) => {
                    self.last[tenant] = Some(batch.clone());
                    self.commit_both(tenant, batch).await
                }
                // It needs something that is not there yet.
                None => self.ask_both(tenant, reads).await,
            },
        }
    }

    /// Commits a batch of a tenant.
    async fn commit_both(&mut self, tenant: usize, batch: WriteBatch) -> Result<(), String> {
        let batch = with_tokens_of(tenant, batch);
        self.known.learn_ids(&batch);
        drop(self.oracles[tenant].apply_batch(&batch));
        let shared = self.stores.shared.commit(batch.clone()).await;
        let alone = self.stores.alone[tenant].commit(batch.clone()).await;
        self.tally.writes += 1;
        self.tally.refused += u64::from(matches!(alone, CommitOutcome::Refused(_)));
        check_same(tenant, &batch, &format!("{shared:?}"), &format!("{alone:?}"))
    }

    /// Asks something as a tenant, about rows of either.
    async fn ask_both(&mut self, tenant: usize, reads: &[&'static str]) -> Result<(), String> {
        let read = reads[self.dice.draw_below(reads.len())];
        let question = StoreQuestion::draw_question(read, tenant, &self.known, &mut self.dice);
        let scope = question.narrow_scope(&self.scopes[tenant]);
        let shared = question.ask_store(&*self.stores.shared, &self.operator, &scope).await;
        let alone = question.ask_store(&*self.stores.alone[tenant], &self.operator, &scope).await;
        self.tally.reads += 1;
        self.tally.found += u64::from(!["None", "[]", "0"].contains(&alone.as_str()));
        check_same(tenant, &question, &shared, &alone)
    }

    /// Writes the key of secrets, or sets or erases a secret; both tenants name theirs alike.
    fn secret_batch(&mut self, tenant: usize) -> WriteBatch {
        let name = format!("s{}", self.dice.draw_below(2));
        let version = 1 + u32::from(self.dice.draw_below(3) == 0);
        let bytes = |what: &str| Bytes::from(format!("{what} {version} of t{tenant}"));
        let change = match self.dice.draw_below(6) {
            0 => Mutation::VaultKeyPut(VaultKeyPut { key: bytes("key of all"), replaces: None }),
            1 => Mutation::SecretErase(SecretErase { name, version }),
            _ => Mutation::SecretPut(SealedSecret {
                secret: SecretSummary {
                    name,
                    version,
                    host: "https://api.example.com:443".to_owned(),
                    placement: SecretPlacement::Bearer,
                    created_at: scene_time(1),
                    changed_at: scene_time(i64::from(version)),
                },
                key: bytes("key"),
                value: bytes("value"),
            }),
        };
        WriteBatch::new(tenant_of_number(tenant)).with_mutation(change)
    }

    /// Erases the second agent of either tenant, as one of them.
    async fn erase_agent(&mut self, tenant: usize) -> Result<(), String> {
        let owner =
            if self.dice.draw_below(3) == 0 { 1 - tenant_number(tenant) } else { tenant_number(tenant) };
        let agent = agent_id(owner, 1);
        let from = vec![AgentState::Running, AgentState::Paused, AgentState::Terminated];
        let set = AgentStateSet { agent, from, to: AgentState::Deleting };
        self.commit_both(
            tenant,
            WriteBatch::new(tenant_of_number(tenant)).with_mutation(Mutation::AgentStateSet(set)),
        )
        .await?;
        drop(self.oracles[tenant].erase_agent_page(&self.scopes[tenant], agent).await);
        for _ in 0..PAGES_MAX {
            let scope = &self.scopes[tenant];
            let shared = self.stores.shared.erase_agent_page(scope, agent).await;
            let alone = self.stores.alone[tenant].erase_agent_page(scope, agent).await;
            self.tally.writes += 1;
            let is_last = alone.as_ref().is_ok_and(|(_, is_last)| *is_last);
            check_same(
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

/// Whose operation it is; an earlier batch once more is anybody's, and so is the clock.
fn tenant_of(op: &StoreOp) -> Option<usize> {
    match *op {
        StoreOp::Register { place, .. }
        | StoreOp::Revoke { place, .. }
        | StoreOp::AgentState { place, .. }
        | StoreOp::Open { place }
        | StoreOp::Keep { place, .. }
        | StoreOp::Put { place, .. }
        | StoreOp::Append { place, .. }
        | StoreOp::Takeover { place, .. }
        | StoreOp::Signal { place, .. }
        | StoreOp::State { place, .. }
        | StoreOp::Cross { place }
        | StoreOp::Torn { place, .. }
        | StoreOp::Reply { place, .. }
        | StoreOp::Deliver { place, .. }
        | StoreOp::Feed { place, .. }
        | StoreOp::Capability { place, .. }
        | StoreOp::Budget { place, .. }
        | StoreOp::Files { place, .. }
        | StoreOp::Approve { place, .. } => Some(place.tenant.into()),
        StoreOp::Again { .. } | StoreOp::Clock { .. } => None,
    }
}

fn tenant_number(tenant: usize) -> u8 {
    u8::from(tenant == 1)
}

fn tenant_of_number(tenant: usize) -> TenantId {
    tenant_id(tenant_number(tenant))
}

/// Gives tokens the hashes that this tenant's tokens have: secrets never coincide by chance, unlike every other id
/// here.
fn with_tokens_of(tenant: usize, mut batch: WriteBatch) -> WriteBatch {
    for mutation in &mut batch.mutations {
        if let Mutation::TokenCreate(create) = mutation {
            let mut bytes = *create.hash.as_bytes();
            bytes[1] = 1 + tenant_number(tenant);
            create.hash = Digest::from_bytes(bytes);
        }
    }
    batch
}

fn check_same(tenant: usize, what: &dyn fmt::Debug, shared: &str, alone: &str) -> Result<(), String> {
    if shared == alone {
        return Ok(());
    }
    Err(format!(
        "tenant {tenant} is answered otherwise than alone\n  it asked: {}\n  beside another: {}\n  alone: {}",
        shorten_text(&format!("{what:?}")),
        shorten_text(shared),
        shorten_text(alone)
    ))
}

fn shorten_text(text: &str) -> &str {
    let mut end = text.len().min(SHOWN_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
