//! Random sequences of batches over a small world: two tenants with two agents each, a few sessions, runs and
//! keys, so that operations meet one another often.
//!
//! An [`Op`] says what is tried in small numbers; [`Writer`] turns it into a batch by looking at the oracle, so
//! that most attempts are right and the wrong ones are wrong in one named way. Because the op and the oracle
//! decide everything, a sequence shrinks and replays.

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::approval::ApprovalState;
use dromia_contracts::budget::{Budget, Measure, Payer, Per, Period};
use dromia_contracts::capability::{Capability, CapabilityUse};
use dromia_contracts::content::CallStatus;
use dromia_contracts::delivery::{DeadReason, DeliveryState};
use dromia_contracts::file::{FileLabel, FileLabels};
use dromia_contracts::label::Label;
use dromia_contracts::run::{Run, RunStatus};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    AgentStateSet, ApprovalRuleRemove, Batch, BudgetRemove, BudgetSet, CapabilityDrop, CapabilityRevoke,
    Claim, CursorMove, DeliveryDrop, DeliveryPrepare, DeliveryRedrive, FeedNumber, FileLabelsPut, InboxPut,
    ItemKey, KeyLifetime, Mutation, Pin, RunTakeover, StatePut, TenantCreate, TokenCreate, TokenRevoke,
};
use dromia_contracts::token::TokenScope;
use dromia_contracts::{
    Actor, AgentId, CapabilityId, DeliveryId, Digest, ItemId, RunId, SessionId, TenantId, TokenId,
};
use proptest::prelude::*;

use super::approval;
use super::scene::{
    agent_create, append, at, completed, head, input, model_called, model_replied, session_open, settle,
    signal_taken, start, started,
};
use crate::reference::ReferenceStore;

/// Tenants of the world.
pub const TENANTS: u8 = 2;
/// Agents of each tenant.
pub const AGENTS: u8 = 2;
/// Sessions of each agent.
pub const SESSIONS: u8 = 2;

/// What is tried. Numbers are taken modulo what is there.
#[derive(Debug, Clone)]
pub enum Op {
    /// Registers an agent's handle or a token a second time.
    Register {
        /// Where.
        place: Place,
        /// Whether the handle is free.
        fresh: bool,
    },
    /// Takes a token back, of this tenant or another, or one that nobody made.
    Revoke {
        /// Where.
        place: Place,
        /// Which, counted back from the last number that was minted.
        back: u8,
    },
    /// Changes what an agent may do.
    AgentState {
        /// Where.
        place: Place,
        /// To what.
        to: u8,
    },
    /// Opens a session, under a new key or a used one.
    Open {
        /// Where.
        place: Place,
    },
    /// Puts inputs and perhaps claims.
    Put {
        /// Where.
        place: Place,
        /// How many.
        items: u8,
        /// The caller's key of the first, if any.
        key: Option<u8>,
        /// Whether a claim tries to take everything that waits.
        claim: bool,
        /// Whether the claim knows the inbox wrongly.
        stale: bool,
    },
    /// Appends to the newest or an older run.
    Append {
        /// Where.
        place: Place,
        /// Which run, counted back from the newest.
        back: u8,
        /// Added to the run's epoch.
        epoch_off: u8,
        /// Added to the run's last number.
        after_off: u8,
        /// Bytes of the body.
        size: u16,
        /// Whether the run ends, rests or goes on.
        end: u8,
    },
    /// Takes over a run.
    Takeover {
        /// Where.
        place: Place,
        /// Which run, counted back from the newest.
        back: u8,
        /// Added to the run's epoch.
        epoch_off: u8,
        /// Who.
        holder: u8,
    },
    /// Sends a signal to a run.
    Signal {
        /// Where.
        place: Place,
        /// Which run, counted back from the newest.
        back: u8,
    },
    /// Writes custom state or a pin.
    State {
        /// Where.
        place: Place,
        /// Which entry.
        name: u8,
        /// Added to the version; `None` writes over anything.
        version_off: Option<u8>,
    },
    /// Writes into another tenant's session.
    Cross {
        /// Where from.
        place: Place,
    },
    /// A put and an append in one batch, of which the second may be refused.
    Torn {
        /// Where.
        place: Place,
        /// Added to the run's last number.
        after_off: u8,
    },
    /// Ends a run with a message on its way out.
    Reply {
        /// Where.
        place: Place,
        /// To which target.
        target: u8,
        /// Added to the entry that the message names.
        seq_off: u8,
    },
    /// Moves a delivery.
    Deliver {
        /// Where.
        place: Place,
        /// Which, counted back from the newest.
        back: u8,
        /// What is tried.
        step: u8,
        /// Added to the attempt.
        attempt_off: u8,
    },
    /// Numbers what has no number, or moves a cursor.
    Feed {
        /// Where.
        place: Place,
        /// Added to the feed's end.
        after_off: u8,
        /// Whether a cursor moves.
        cursor: bool,
    },
    /// Puts a capability, takes it back or lets go of it.
    Capability {
        /// Where, and who holds it.
        place: Place,
        /// Which.
        number: u8,
        /// What becomes of it.
        change: u8,
    },
    /// Says what a file holds, that it is gone, or what counts for the rest.
    Files {
        /// Where.
        place: Place,
        /// Which of a few files.
        number: u8,
        /// What is said of it.
        said: u8,
    },
    /// Sets or removes a budget.
    Budget {
        /// Where.
        place: Place,
        /// Which, and so whose spending it adds up.
        per: u8,
        /// Its limit; none removes it.
        limit: Option<u8>,
    },
    /// Asks for an approval, answers one, or moves one by an entry; or keeps a rule.
    Approve {
        /// Where.
        place: Place,
        /// Which run, counted back from the newest.
        back: u8,
        /// Which of a few approvals.
        number: u8,
        /// What is tried.
        step: u8,
    },
    /// Submits an earlier batch once more.
    Again {
        /// Which, counted back from the last.
        back: u8,
    },
}

/// A session of an agent of a tenant.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Which tenant.
    pub tenant: u8,
    /// Which agent of it.
    pub agent: u8,
    /// Which session of that.
    pub session: u8,
}

/// Sequences of at most so many operations.
pub fn sequences(ops_max: usize) -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(op(), 1..=ops_max)
}

/// Sequences of exactly so many operations.
pub fn sequence_of(ops: usize) -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(op(), ops)
}

fn op() -> impl Strategy<Value = Op> {
    let place = || {
        (0..TENANTS, 0..AGENTS, 0..SESSIONS).prop_map(|(tenant, agent, session)| Place {
            tenant,
            agent,
            session,
        })
    };
    // Mostly right, now and then wrong by one or two.
    let off = || prop_oneof![6 => Just(0_u8), 1 => Just(1), 1 => Just(2)];
    let back = || prop_oneof![5 => Just(0_u8), 1 => 1_u8..4];
    let size = prop_oneof![6 => 0_u16..64, 1 => 1_000_u16..1_100, 1 => 5_000_u16..6_000];
    prop_oneof![
        1 => (place(), any::<bool>()).prop_map(|(place, fresh)| Op::Register { place, fresh }),
        1 => (place(), 0_u8..8).prop_map(|(place, back)| Op::Revoke { place, back }),
        2 => (place(), 0_u8..8).prop_map(|(place, to)| Op::AgentState { place, to }),
        1 => place().prop_map(|place| Op::Open { place }),
        8 => (place(), 0_u8..3, proptest::option::weighted(0.3, 0_u8..4), any::<bool>(), proptest::bool::weighted(0.1))
            .prop_map(|(place, items, key, claim, stale)| Op::Put { place, items, key, claim, stale }),
        8 => (place(), back(), off(), off(), size, 0_u8..6).prop_map(|(place, back, epoch_off, after_off, size, end)| {
            Op::Append { place, back, epoch_off, after_off, size, end }
        }),
        3 => (place(), back(), off(), 0_u8..3)
            .prop_map(|(place, back, epoch_off, holder)| Op::Takeover { place, back, epoch_off, holder }),
        2 => (place(), back()).prop_map(|(place, back)| Op::Signal { place, back }),
        2 => (place(), 0_u8..2, proptest::option::of(off()))
            .prop_map(|(place, name, version_off)| Op::State { place, name, version_off }),
        1 => place().prop_map(|place| Op::Cross { place }),
        2 => (place(), off()).prop_map(|(place, after_off)| Op::Torn { place, after_off }),
        6 => (place(), 0_u8..2, off()).prop_map(|(place, target, seq_off)| Op::Reply { place, target, seq_off }),
        8 => (place(), back(), 0_u8..8, off())
            .prop_map(|(place, back, step, attempt_off)| Op::Deliver { place, back, step, attempt_off }),
        2 => (place(), off(), any::<bool>())
            .prop_map(|(place, after_off, cursor)| Op::Feed { place, after_off, cursor }),
        3 => (place(), 0_u8..5, proptest::option::weighted(0.8, 0_u8..12))
            .prop_map(|(place, per, limit)| Op::Budget { place, per, limit }),
        2 => (place(), 0_u8..4, 0_u8..5)
            .prop_map(|(place, number, change)| Op::Capability { place, number, change }),
        3 => (place(), 0_u8..4, 0_u8..5).prop_map(|(place, number, said)| Op::Files { place, number, said }),
        6 => (place(), back(), 0_u8..3, 0_u8..9)
            .prop_map(|(place, back, number, step)| Op::Approve { place, back, number, step }),
        5 => back().prop_map(|back| Op::Again { back }),
    ]
}

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

    /// Tries something with one of a few approvals of a place's tenant.
    fn approve(&mut self, place: Place, back: u8, number: u8, step: u8) -> Option<Batch> {
        let run = self.run(place, back)?;
        let request = approval::asked_by(&run, number);
        let append_one = |entry| {
            let entries = vec![entry];
            Mutation::RunAppend(append(run.id, run.epoch, run.last_seq, entries, RunStatus::Running))
        };
        let batch = Batch::new(place.tenant_id());
        Some(match step {
            0 | 1 => batch.with(Mutation::ApprovalAsk(Box::new(request))),
            2 => batch.with(approval::answer(request.id, ApprovalState::Holding, number != 2, 10)),
            3 => batch.with(approval::answer(request.id, ApprovalState::Waiting, true, 11)),
            4 => approval::paid(batch.with(append_one(approval::began(&request)))),
            5 => approval::paid(batch.with(append_one(approval::refused(&request, CallStatus::Awaiting)))),
            6 => approval::paid(batch.with(append_one(approval::refused(&request, CallStatus::Denied)))),
            7 => batch.with(approval::rule_of(run.agent, number)),
            _ => batch.with(Mutation::ApprovalRuleRemove(ApprovalRuleRemove { name: format!("r{number}") })),
        })
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

    fn register(&mut self, place: Place, fresh: bool) -> Batch {
        let number = self.number();
        let handle = if fresh { format!("n{number}") } else { "a0".to_owned() };
        Batch::new(place.tenant_id())
            .with(Mutation::TokenCreate(TokenCreate {
                token: token_id(number),
                hash: token_hash(number),
                name: if number.is_multiple_of(2) { "ci" } else { "cd" }.to_owned(),
                scopes: TokenScope::ALL.into_iter().take(1 + usize::from(place.session)).collect(),
                expires_at: number.is_multiple_of(3).then(|| at(60_000)),
                at: at(1),
            }))
            .with(agent_create(AgentId::from_bytes(id_of(7, number)), &handle))
    }

    fn open(&mut self, place: Place) -> Batch {
        let number = self.number();
        let channel = if number.is_multiple_of(2) { "c0".to_owned() } else { format!("n{number}") };
        let session = SessionId::from_bytes(id_of(8, number));
        Batch::new(place.tenant_id()).with(session_open(session, place.agent_id(), &channel))
    }

    fn put(&mut self, place: Place, items: u8, key: Option<u8>, claim: bool, stale: bool) -> Batch {
        let mut batch = Batch::new(place.tenant_id());
        let mut put = Vec::new();
        for index in 0..items {
            let mut item = place.input(self.item());
            if let Some(key) = key.filter(|_| index == 0) {
                item.key = Some(ItemKey {
                    key: format!("k{key}"),
                    request: Digest::from_bytes([key; 32]),
                    lifetime: KeyLifetime::Day,
                });
            }
            put.push(item.item);
            batch = batch.with(Mutation::InboxPut(item));
        }
        let (taken, mut take) = self.oracle.waiting(place.tenant_id(), place.session_id());
        take.extend(put);
        if claim && !take.is_empty() {
            let after = if stale { taken + 1 } else { taken };
            batch.claim = Some(self.claim(place, after, take));
        }
        if batch.mutations.is_empty() && batch.claim.is_none() {
            batch = batch.with(Mutation::InboxPut(place.input(self.item())));
        }
        batch
    }

    fn claim(&mut self, place: Place, after: u64, take: Vec<ItemId>) -> Claim {
        let entries = vec![started(place.agent_id(), place.session_id(), after, &take), model_called(1)];
        Claim {
            session: place.session_id(),
            agent: place.agent_id(),
            run: RunId::from_bytes(id_of(9, self.number())),
            after,
            take,
            entries,
            head: head(RunStatus::Running),
        }
    }

    fn state(&mut self, place: Place, name: u8, version_off: Option<u8>) -> Batch {
        let number = self.number();
        let name = format!("s{name}");
        let found = self.oracle.state_version(place.tenant_id(), place.session_id(), &name);
        let value = Bytes::from(number.to_string());
        let digest = Digest::from_bytes(*blake3::hash(&value).as_bytes());
        Batch::new(place.tenant_id()).with(Mutation::PinPut(Pin { digest, bytes: value.clone() })).with(
            Mutation::StatePut(StatePut {
                session: place.session_id(),
                name,
                expected: version_off.map(|off| found + u64::from(off)),
                value,
                at: at(i64::try_from(number).expect("a short sequence")),
            }),
        )
    }

    fn deliver(&mut self, place: Place, back: u8, step: u8, attempt_off: u8) -> Option<Batch> {
        let found = self.oracle.delivery_back(place.tenant_id(), back.into())?;
        let (delivery, off) = (found.id, u32::from(attempt_off));
        let mutation = match step {
            0..=2 => start(delivery, found.attempts + 1 + off, 1 + back),
            3 => settle(delivery, found.attempts + off, DeliveryState::Delivered),
            4 => settle(delivery, found.attempts + off, DeliveryState::Failed),
            5 => settle(delivery, found.attempts + off, DeliveryState::Dead),
            6 => Mutation::DeliveryDrop(DeliveryDrop {
                delivery,
                attempts: found.attempts + off,
                redrives: found.redrives,
                reason: DeadReason::Expired,
                at: at(50),
            }),
            _ => Mutation::DeliveryRedrive(DeliveryRedrive {
                delivery,
                redrives: found.redrives + off,
                at: at(i64::try_from(self.number()).expect("a short sequence")),
            }),
        };
        Some(Batch::new(place.tenant_id()).with(mutation))
    }

    fn feed(&mut self, place: Place, after_off: u8, cursor: bool) -> Option<Batch> {
        let (last, waiting) = self.oracle.feed_end(place.tenant_id());
        let batch = Batch::new(place.tenant_id());
        if cursor {
            let to = last + u64::from(after_off);
            let subscriber = format!("s{}", place.session);
            return Some(batch.with(Mutation::CursorMove(CursorMove { subscriber, to, at: at(60) })));
        }
        let deliveries: Vec<_> = waiting.into_iter().take(2).collect();
        let number = FeedNumber { after: last + u64::from(after_off), deliveries };
        (!number.deliveries.is_empty()).then(|| batch.with(Mutation::FeedNumber(number)))
    }

    fn last_signal(&self, place: Place, run: &Run) -> Option<dromia_contracts::store::NewEntry> {
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

fn agent_state(place: Place, to: u8) -> Batch {
    let to = match to {
        0 => AgentState::Terminated,
        1..=3 => AgentState::Paused,
        _ => AgentState::Running,
    };
    let from = vec![AgentState::Running, AgentState::Paused];
    Batch::new(place.tenant_id()).with(Mutation::AgentStateSet(AgentStateSet {
        agent: place.agent_id(),
        from,
        to,
    }))
}

impl Place {
    /// The tenant's id.
    pub fn tenant_id(self) -> TenantId {
        tenant_id(self.tenant)
    }

    /// The agent's id.
    pub fn agent_id(self) -> AgentId {
        agent_id(self.tenant, self.agent)
    }

    /// The session's id.
    pub fn session_id(self) -> SessionId {
        let number = u64::from(self.tenant) << 16 | u64::from(self.agent) << 8 | u64::from(self.session);
        SessionId::from_bytes(id_of(3, number))
    }

    fn input(self, item: ItemId) -> InboxPut {
        input(InboxOwner::Session(self.session_id()), item)
    }
}

/// The id of a tenant of the world.
pub fn tenant_id(tenant: u8) -> TenantId {
    TenantId::from_bytes(id_of(1, tenant.into()))
}

/// The id of an agent of the world.
pub fn agent_id(tenant: u8, agent: u8) -> AgentId {
    AgentId::from_bytes(id_of(2, u64::from(tenant) << 8 | u64::from(agent)))
}

/// The hash of the token that an operation may register, by the operation's number.
pub fn token_hash(number: u64) -> Digest {
    Digest::from_bytes(bytes_of(6, number, [0; 32]))
}

/// The id of that token.
pub fn token_id(number: u64) -> TokenId {
    TokenId::from_bytes(id_of(6, number))
}

fn id_of(noun: u8, number: u64) -> [u8; 16] {
    bytes_of(noun, number, [0; 16])
}

fn bytes_of<const N: usize>(noun: u8, number: u64, mut bytes: [u8; N]) -> [u8; N] {
    bytes[0] = noun;
    bytes[N - 8..].copy_from_slice(&number.to_be_bytes());
    bytes
}
