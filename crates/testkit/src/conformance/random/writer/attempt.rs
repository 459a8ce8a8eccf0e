//! The attempts that take more than one step to write: what registers, what puts and claims, what asks and what delivers.
//!
//! Where something that an attempt needs is not there yet, nothing is written rather than something else.

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::approval::ApprovalState;
use dromia_contracts::content::CallStatus;
use dromia_contracts::delivery::{DeadReason, DeliveryState};
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{
    AgentStateSet, ApprovalRuleRemove, Batch, Claim, CursorMove, DeliveryDrop, DeliveryRedrive, FeedNumber,
    ItemKey, KeyLifetime, Mutation, Pin, StatePut, TokenCreate,
};
use dromia_contracts::token::TokenScope;
use dromia_contracts::{AgentId, Digest, ItemId, RunId, SessionId};

use super::Writer;
use crate::conformance::approval;
use crate::conformance::random::place::{Place, id_of, token_hash, token_id};
use crate::conformance::scene::{
    agent_create, append, at, head, imported, model_called, session_open, settle, start, started,
};

impl Writer {
    pub(super) fn register(&mut self, place: Place, fresh: bool) -> Batch {
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

    pub(super) fn open(&mut self, place: Place) -> Batch {
        let number = self.number();
        let channel = if number.is_multiple_of(2) { "c0".to_owned() } else { format!("n{number}") };
        let session = SessionId::from_bytes(id_of(8, number));
        let open = session_open(session, place.agent_id(), &channel);
        let batch = Batch::new(place.tenant_id());
        // Of those under a new key some are filled by an import, which may end at once.
        match number % 16 {
            1 | 3 | 9 | 11 | 13 => batch.with(imported(open)),
            5 => batch.with(imported(open)).with(Mutation::ImportEnd(session)),
            _ => batch.with(open),
        }
    }

    pub(super) fn put(
        &mut self,
        place: Place,
        items: u8,
        key: Option<u8>,
        claim: bool,
        stale: bool,
    ) -> Batch {
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

    pub(super) fn state(&mut self, place: Place, name: u8, version_off: Option<u8>) -> Batch {
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

    /// Tries something with one of a few approvals of a place's tenant.
    pub(super) fn approve(&mut self, place: Place, back: u8, number: u8, step: u8) -> Option<Batch> {
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

    pub(super) fn deliver(&mut self, place: Place, back: u8, step: u8, attempt_off: u8) -> Option<Batch> {
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

    pub(super) fn feed(&mut self, place: Place, after_off: u8, cursor: bool) -> Option<Batch> {
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
}

pub(super) fn agent_state(place: Place, to: u8) -> Batch {
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
