//! Turns an operation into the batch that tries it.
//!
//! The writer reads the oracle and changes nothing in it: the caller submits the batch to the oracle, too.

mod attempt;

use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::budget::{BudgetDefinition, BudgetMeasure, BudgetPayer, BudgetPeriod, BudgetScope};
use dromia_contracts::capability::{CapabilityRecord, CapabilityUse};
use dromia_contracts::file::{FileLabel, FileLabels};
use dromia_contracts::label::Label;
use dromia_contracts::lease::NodeLife;
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    AnswerPut, BudgetRemove, BudgetSet, CapabilityDrop, CapabilityRevoke, DeliveryPrepare, FileLabelsPut,
    FoldedState, Mutation, NewEntry, ReadError, RunAppend, RunTakeover, Store, TenantCreate, TokenRevoke,
    WriteBatch,
};
use dromia_contracts::{Actor, CapabilityId, DeliveryId, Digest, ItemId};

use self::attempt::agent_state;
use super::place::{agent_id, id_of, tenant_id, token_id};
use super::{AGENTS, SESSIONS, StoreOp, TENANTS, WorldPlace};
use crate::conformance::scene::{
    StoreScene, agent_create, inputs_taken, model_called, model_replied, new_input, run_append,
    run_completed, run_failed, scene_time, session_open, shift_entries, signal_taken,
};
use crate::reference::ReferenceStore;

/// Turns operations into batches.
#[derive(Debug)]
pub struct BatchWriter {
    oracle: ReferenceStore,
    minted: u64,
    /// What the clock shows, in hours after the beginning.
    hours: u8,
    history: Vec<WriteBatch>,
}

impl BatchWriter {
    /// Looks at an oracle, which must be given every batch before the next is asked for.
    pub fn new(oracle: ReferenceStore) -> Self {
        Self { oracle, minted: 0, hours: 0, history: Vec::new() }
    }

    /// Begins the life of the one holder that is alive as long as the world.
    pub async fn begin_living_holder(store: &dyn Store) -> Result<(), ReadError> {
        let (operator, life) = (StoreScene::node_operator(), NodeLife::new("a", [1; 32]));
        store.begin_life(&operator, &life, Duration::from_hours(1)).await
    }

    /// Writes the batches that set the world up.
    pub fn world_batches() -> Vec<WriteBatch> {
        (0..TENANTS)
            .map(|tenant| {
                let mut batch =
                    WriteBatch::new(tenant_id(tenant)).with_mutation(Mutation::TenantCreate(TenantCreate {
                        handle: format!("t{tenant}").parse().expect("a handle"),
                        at: scene_time(0),
                        body_key: [tenant; 32],
                    }));
                for agent in 0..AGENTS {
                    batch = batch.with_mutation(agent_create(agent_id(tenant, agent), &format!("a{agent}")));
                    for session in 0..SESSIONS {
                        let place = WorldPlace { tenant, agent, session };
                        batch = batch.with_mutation(session_open(
                            place.session_id(),
                            agent_id(tenant, agent),
                            &format!("c{session}"),
                        ));
                    }
                }
                batch
            })
            .collect()
    }

    /// Writes the batch of an operation; `None` when it needs something that is not there yet.
    pub fn batch_of_op(&mut self, op: &StoreOp) -> Option<WriteBatch> {
        let batch = match *op {
            StoreOp::Again { back } => {
                let at = self.history.len().checked_sub(1 + usize::from(back))?;
                return self.history.get(at).cloned();
            }
            StoreOp::Clock { hours } => {
                self.hours = hours;
                return None;
            }
            StoreOp::Register { place, fresh } => self.register_token(place, fresh),
            StoreOp::Revoke { place, back } => {
                let token = token_id(self.minted.saturating_sub(back.into()));
                let revoke = TokenRevoke { token, at: scene_time(i64::from(back)) };
                WriteBatch::new(place.tenant_id()).with_mutation(Mutation::TokenRevoke(revoke))
            }
            StoreOp::AgentState { place, to } => agent_state(place, to),
            StoreOp::Open { place } => self.open_session(place),
            StoreOp::Keep { place, back, step } => self.keep_session(place, back, step),
            StoreOp::Put { place, items, key, claim, stale } => {
                self.put_inputs(place, items, key, claim, stale)
            }
            StoreOp::Append { place, back, epoch_off, after_off, size, end } => {
                let run = self.find_run(place, back)?;
                let body = vec![b'x'; size.into()];
                let (entry, status) = match end {
                    0 => (run_completed(), RunStatus::Completed),
                    1 => (model_called(2), RunStatus::Parked),
                    2 if run.signals_last > 0 => (self.last_signal(place, &run)?, RunStatus::Running),
                    3 => (run_failed(), RunStatus::Failed),
                    4 => (self.next_inputs(place, size), RunStatus::Running),
                    _ => (model_replied(1, body), RunStatus::Running),
                };
                let epoch = run.epoch + u64::from(epoch_off);
                // An offset of 2 is the past: one number too few.
                let after =
                    if after_off == 2 { run.last_seq - 1 } else { run.last_seq + u64::from(after_off) };
                // Every third append has a checkpoint, of one fold or another.
                let checkpoint = (size % 3 == 0).then(|| FoldedState {
                    version: u32::from(size % 2),
                    bytes: vec![b'f'; size.into()].into(),
                });
                let append = run_append(run.id, epoch, after, vec![entry], status);
                let append = Mutation::RunAppend(RunAppend { checkpoint, ..append });
                WriteBatch::new(place.tenant_id()).with_mutation(append)
            }
            StoreOp::Takeover { place, back, epoch_off, holder } => {
                let run = self.find_run(place, back)?;
                WriteBatch::new(place.tenant_id()).with_mutation(Mutation::RunTakeover(RunTakeover {
                    run: run.id,
                    from_epoch: run.epoch + u64::from(epoch_off),
                    holder: Digest::from_bytes([holder; 32]),
                    at: scene_time(9),
                }))
            }
            StoreOp::Signal { place, back } => {
                let run = self.find_run(place, back)?;
                let item = self.next_item();
                WriteBatch::new(place.tenant_id())
                    .with_mutation(Mutation::InboxPut(new_input(InboxOwner::Run(run.id), item)))
            }
            StoreOp::State { place, name, version_off } => self.put_state(place, name, version_off),
            StoreOp::Cross { place } => {
                let elsewhere = WorldPlace { tenant: (place.tenant + 1) % TENANTS, ..place };
                let item = self.next_item();
                WriteBatch::new(place.tenant_id())
                    .with_mutation(Mutation::InboxPut(elsewhere.session_input(item)))
            }
            StoreOp::Reply { place, target, seq_off } => {
                let run = self.find_run(place, 0)?;
                let entries = vec![model_replied(1, "said"), run_completed()];
                let end = run_append(run.id, run.epoch, run.last_seq, entries, RunStatus::Completed);
                let mut prepare = |seq| {
                    let number = self.next_number();
                    Mutation::DeliveryPrepare(DeliveryPrepare {
                        delivery: DeliveryId::from_bytes(id_of(10, number)),
                        target: format!("webhook:t{target}"),
                        agent: run.agent,
                        session: run.session,
                        run: run.id,
                        seq,
                        at: scene_time(10),
                        body: Bytes::from(number.to_string()),
                    })
                };
                // Two of them, so that one waits for the other.
                let (first, second) =
                    (prepare(run.last_seq + 1), prepare(run.last_seq + 2 + u64::from(seq_off)));
                WriteBatch::new(place.tenant_id())
                    .with_mutation(first)
                    .with_mutation(second)
                    .with_mutation(Mutation::RunAppend(end))
            }
            StoreOp::Deliver { place, back, step, attempt_off } => {
                self.move_delivery(place, back, step, attempt_off)?
            }
            StoreOp::Feed { place, after_off, cursor } => self.move_feed(place, after_off, cursor)?,
            StoreOp::Budget { place, per, limit } => {
                let number = per;
                let (name, per) = (format!("b{per}"), BudgetScope::ALL[usize::from(per)]);
                let measure =
                    if per == BudgetScope::Run { BudgetMeasure::Tokens } else { BudgetMeasure::Calls };
                let change = match limit {
                    None => Mutation::BudgetRemove(BudgetRemove { name }),
                    Some(limit) => {
                        let limit = u64::from(limit) * if measure == BudgetMeasure::Tokens { 20 } else { 1 };
                        let (of, period) = (None, BudgetPeriod::Hour);
                        let budget =
                            BudgetDefinition { name, per, of, measure, period, limit, declared: false };
                        Mutation::BudgetSet(BudgetSet { budget })
                    }
                };
                let answer = Mutation::AnswerPut(AnswerPut {
                    key: Digest::from_bytes([number; 32]),
                    request: Digest::from_bytes([place.tenant; 32]),
                    claim: number.into(),
                    at: scene_time(20),
                    answer: limit.map(|limit| Bytes::from(limit.to_string())),
                });
                WriteBatch::new(place.tenant_id()).with_mutation(change).with_mutation(answer)
            }
            StoreOp::Capability { place, number, change } => {
                let capability = CapabilityId::from_bytes(id_of(11, u64::from(number)));
                let change = match change {
                    0 => Mutation::CapabilityRevoke(CapabilityRevoke { capability, at: scene_time(20) }),
                    1 => Mutation::CapabilityDrop(CapabilityDrop { capability }),
                    _ => Mutation::CapabilityPut(CapabilityRecord {
                        id: capability,
                        holder: place.agent_id(),
                        parent: None,
                        usage: CapabilityUse::Held,
                        rights: vec![format!("tool:t{number}")],
                        until: None,
                        wall_ms_max: None,
                        token: Bytes::from(vec![number; 3]),
                        by: Actor::new("cli:ada"),
                        created_at: scene_time(19),
                        revoked_at: None,
                    }),
                };
                WriteBatch::new(place.tenant_id()).with_mutation(change)
            }
            StoreOp::Files { place, number, said } => {
                let path = format!("f{number}");
                let label = if said % 2 == 0 { Label::ACTOR_TEXT } else { Label::UNKNOWN_FILE };
                let said = match said {
                    0 => FileLabels::for_file(path, None),
                    1 => FileLabels { rest: Some(label), ..FileLabels::default() },
                    _ => FileLabels::for_file(
                        path,
                        Some(FileLabel {
                            content: Digest::from_bytes([said; 32]),
                            label,
                            author: Actor::new(if number == 0 { "cli:ada" } else { "cli:bob" }),
                        }),
                    ),
                };
                let put = FileLabelsPut { agent: place.agent_id(), said };
                WriteBatch::new(place.tenant_id()).with_mutation(Mutation::FileLabelsPut(put))
            }
            StoreOp::Approve { place, back, number, step } => {
                self.move_approval(place, back, number, step)?
            }
            StoreOp::Torn { place, after_off } => {
                let run = self.find_run(place, 0)?;
                let item = self.next_item();
                let after = run.last_seq + u64::from(after_off);
                let entries = vec![model_called(3), model_replied(3, "torn")];
                let more = run_append(run.id, run.epoch, after, entries, RunStatus::Running);
                WriteBatch::new(place.tenant_id())
                    .with_mutation(Mutation::InboxPut(place.session_input(item)))
                    .with_mutation(Mutation::RunAppend(more))
            }
        };
        let mut batch = shift_entries(batch, i64::from(self.hours) * 3_600_000);
        let spends = |mutation: &Mutation| matches!(mutation, Mutation::RunAppend(_));
        if batch.claim.is_some() || batch.mutations.iter().any(spends) {
            let actor = Actor::new("cli:ada");
            batch.payer = Some(BudgetPayer { actor, priced: true });
        }
        self.history.push(batch.clone());
        Some(batch)
    }

    fn last_signal(&self, place: WorldPlace, run: &RunRecord) -> Option<NewEntry> {
        let item = self.oracle.last_item(place.tenant_id(), InboxOwner::Run(run.id))?;
        Some(signal_taken(item.id, item.position))
    }

    /// An entry that takes one or two waiting inputs of the session, sometimes not the next ones.
    fn next_inputs(&self, place: WorldPlace, size: u16) -> NewEntry {
        let (taken, waiting) = self.oracle.waiting_items(place.tenant_id(), place.session_id());
        let skipped = usize::from(size % 5 == 4);
        let items: Vec<_> = waiting.into_iter().skip(skipped).take(1 + usize::from(size % 2)).collect();
        inputs_taken(taken + skipped as u64, &items)
    }

    fn find_run(&self, place: WorldPlace, back: u8) -> Option<RunRecord> {
        self.oracle.run_back(place.tenant_id(), place.session_id(), back.into())
    }

    fn next_item(&mut self) -> ItemId {
        ItemId::from_bytes(id_of(5, self.next_number()))
    }

    fn next_number(&mut self) -> u64 {
        self.minted += 1;
        self.minted
    }
}
