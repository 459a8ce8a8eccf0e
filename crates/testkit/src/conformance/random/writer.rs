//! Turns an operation into the batch that tries it.
//!
//! The writer looks at the oracle and changes nothing in it: whoever asks for a batch gives it to the oracle, too.

mod attempt;

use bytes::Bytes;
use dromia_contracts::budget::{Budget, Measure, Payer, Per, Period};
use dromia_contracts::capability::{Capability, CapabilityUse};
use dromia_contracts::file::{FileLabel, FileLabels};
use dromia_contracts::label::Label;
use dromia_contracts::run::{Run, RunStatus};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    Batch, BudgetRemove, BudgetSet, CapabilityDrop, CapabilityRevoke, DeliveryPrepare, FileLabelsPut,
    Mutation, NewEntry, RunTakeover, TenantCreate, TokenRevoke,
};
use dromia_contracts::{Actor, CapabilityId, DeliveryId, Digest, ItemId};

use self::attempt::agent_state;
use super::place::{agent_id, id_of, tenant_id, token_id};
use super::{AGENTS, Op, Place, SESSIONS, TENANTS};
use crate::conformance::scene::{
    agent_create, append, at, completed, input, model_called, model_replied, session_open, signal_taken,
};
use crate::reference::ReferenceStore;

/// Turns operations into batches.
#[derive(Debug)]
pub struct Writer {
    oracle: ReferenceStore,
    minted: u64,
    history: Vec<Batch>,
}

impl Writer {
    /// Looks at an oracle, which must be given every batch before the next is asked for.
    pub fn new(oracle: ReferenceStore) -> Self {
        Self { oracle, minted: 0, history: Vec::new() }
    }

    /// Writes the batches that set the world up.
    pub fn world() -> Vec<Batch> {
        (0..TENANTS)
            .map(|tenant| {
                let mut batch = Batch::new(tenant_id(tenant)).with(Mutation::TenantCreate(TenantCreate {
                    handle: format!("t{tenant}").parse().expect("a handle"),
                    at: at(0),
                    body_key: [tenant; 32],
                }));
                for agent in 0..AGENTS {
                    batch = batch.with(agent_create(agent_id(tenant, agent), &format!("a{agent}")));
                    for session in 0..SESSIONS {
                        let place = Place { tenant, agent, session };
                        batch = batch.with(session_open(
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
    pub fn batch(&mut self, op: &Op) -> Option<Batch> {
        let batch = match *op {
            Op::Again { back } => {
                let at = self.history.len().checked_sub(1 + usize::from(back))?;
                return self.history.get(at).cloned();
            }
            Op::Register { place, fresh } => self.register(place, fresh),
            Op::Revoke { place, back } => {
                let token = token_id(self.minted.saturating_sub(back.into()));
                let revoke = TokenRevoke { token, at: at(i64::from(back)) };
                Batch::new(place.tenant_id()).with(Mutation::TokenRevoke(revoke))
            }
            Op::AgentState { place, to } => agent_state(place, to),
            Op::Open { place } => self.open(place),
            Op::Put { place, items, key, claim, stale } => self.put(place, items, key, claim, stale),
            Op::Append { place, back, epoch_off, after_off, size, end } => {
                let run = self.run(place, back)?;
                let body = vec![b'x'; size.into()];
                let (entry, status) = match end {
                    0 => (completed(), RunStatus::Completed),
                    1 => (model_called(2), RunStatus::Parked),
                    2 if run.signals_last > 0 => (self.last_signal(place, &run)?, RunStatus::Running),
                    _ => (model_replied(1, body), RunStatus::Running),
                };
                let epoch = run.epoch + u64::from(epoch_off);
                // An offset of 2 is the past: one number too few.
                let after =
                    if after_off == 2 { run.last_seq - 1 } else { run.last_seq + u64::from(after_off) };
                Batch::new(place.tenant_id()).with(Mutation::RunAppend(append(
                    run.id,
                    epoch,
                    after,
                    vec![entry],
                    status,
                )))
            }
            Op::Takeover { place, back, epoch_off, holder } => {
                let run = self.run(place, back)?;
                Batch::new(place.tenant_id()).with(Mutation::RunTakeover(RunTakeover {
                    run: run.id,
                    from_epoch: run.epoch + u64::from(epoch_off),
                    holder: Digest::from_bytes([holder; 32]),
                    at: at(9),
                }))
            }
            Op::Signal { place, back } => {
                let run = self.run(place, back)?;
                let item = self.item();
                Batch::new(place.tenant_id()).with(Mutation::InboxPut(input(InboxOwner::Run(run.id), item)))
            }
            Op::State { place, name, version_off } => self.state(place, name, version_off),
            Op::Cross { place } => {
                let elsewhere = Place { tenant: (place.tenant + 1) % TENANTS, ..place };
                let item = self.item();
                Batch::new(place.tenant_id()).with(Mutation::InboxPut(elsewhere.input(item)))
            }
            Op::Reply { place, target, seq_off } => {
                let run = self.run(place, 0)?;
                let entries = vec![model_replied(1, "said"), completed()];
                let end = append(run.id, run.epoch, run.last_seq, entries, RunStatus::Completed);
                let mut prepare = |seq| {
                    let number = self.number();
                    Mutation::DeliveryPrepare(DeliveryPrepare {
                        delivery: DeliveryId::from_bytes(id_of(10, number)),
                        target: format!("webhook:t{target}"),
                        agent: run.agent,
                        session: run.session,
                        run: run.id,
                        seq,
                        at: at(10),
                        body: Bytes::from(number.to_string()),
                    })
                };
                // Two of them, so that one waits for the other.
                let (first, second) =
                    (prepare(run.last_seq + 1), prepare(run.last_seq + 2 + u64::from(seq_off)));
                Batch::new(place.tenant_id()).with(first).with(second).with(Mutation::RunAppend(end))
            }
            Op::Deliver { place, back, step, attempt_off } => self.deliver(place, back, step, attempt_off)?,
            Op::Feed { place, after_off, cursor } => self.feed(place, after_off, cursor)?,
            Op::Budget { place, per, limit } => {
                let (name, per) = (format!("b{per}"), Per::ALL[usize::from(per)]);
                let measure = if per == Per::Run { Measure::Tokens } else { Measure::Calls };
                let change = match limit {
                    None => Mutation::BudgetRemove(BudgetRemove { name }),
                    Some(limit) => {
                        let limit = u64::from(limit) * if measure == Measure::Tokens { 20 } else { 1 };
                        let (of, period) = (None, Period::Hour);
                        let budget = Budget { name, per, of, measure, period, limit, declared: false };
                        Mutation::BudgetSet(BudgetSet { budget })
                    }
                };
                Batch::new(place.tenant_id()).with(change)
            }
            Op::Capability { place, number, change } => {
                let capability = CapabilityId::from_bytes(id_of(11, u64::from(number)));
                let change = match change {
                    0 => Mutation::CapabilityRevoke(CapabilityRevoke { capability, at: at(20) }),
                    1 => Mutation::CapabilityDrop(CapabilityDrop { capability }),
                    _ => Mutation::CapabilityPut(Capability {
                        id: capability,
                        holder: place.agent_id(),
                        parent: None,
                        usage: CapabilityUse::Held,
                        rights: vec![format!("tool:t{number}")],
                        until: None,
                        wall_ms_max: None,
                        token: Bytes::from(vec![number; 3]),
                        by: Actor::new("cli:ada"),
                        created_at: at(19),
                        revoked_at: None,
                    }),
                };
                Batch::new(place.tenant_id()).with(change)
            }
            Op::Files { place, number, said } => {
                let path = format!("f{number}");
                let label = if said % 2 == 0 { Label::ACTOR_TEXT } else { Label::UNKNOWN_FILE };
                let said = match said {
                    0 => FileLabels::of(path, None),
                    1 => FileLabels { rest: Some(label), ..FileLabels::default() },
                    _ => FileLabels::of(
                        path,
                        Some(FileLabel {
                            content: Digest::from_bytes([said; 32]),
                            label,
                            author: Actor::new(if number == 0 { "cli:ada" } else { "cli:bob" }),
                        }),
                    ),
                };
                let put = FileLabelsPut { agent: place.agent_id(), said };
                Batch::new(place.tenant_id()).with(Mutation::FileLabelsPut(put))
            }
            Op::Approve { place, back, number, step } => self.approve(place, back, number, step)?,
            Op::Torn { place, after_off } => {
                let run = self.run(place, 0)?;
                let item = self.item();
                let after = run.last_seq + u64::from(after_off);
                let entries = vec![model_called(3), model_replied(3, "torn")];
                let more = append(run.id, run.epoch, after, entries, RunStatus::Running);
                Batch::new(place.tenant_id())
                    .with(Mutation::InboxPut(place.input(item)))
                    .with(Mutation::RunAppend(more))
            }
        };
        let mut batch = batch;
        let spends = |mutation: &Mutation| matches!(mutation, Mutation::RunAppend(_));
        if batch.claim.is_some() || batch.mutations.iter().any(spends) {
            let actor = Actor::new("cli:ada");
            batch.payer = Some(Payer { actor, priced: true });
        }
        self.history.push(batch.clone());
        Some(batch)
    }

    fn last_signal(&self, place: Place, run: &Run) -> Option<NewEntry> {
        let item = self.oracle.last_item(place.tenant_id(), InboxOwner::Run(run.id))?;
        Some(signal_taken(item.id, item.position))
    }

    fn run(&self, place: Place, back: u8) -> Option<Run> {
        self.oracle.run_back(place.tenant_id(), place.session_id(), back.into())
    }

    fn item(&mut self) -> ItemId {
        ItemId::from_bytes(id_of(5, self.number()))
    }

    fn number(&mut self) -> u64 {
        self.minted += 1;
        self.minted
    }
}
