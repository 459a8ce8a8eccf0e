//! The attempts that take more than one step to write: what registers, what puts and claims, what asks and what delivers.
//!
//! Where something that an attempt needs is not there yet, nothing is written rather than something else.

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::approval::ApprovalState;
use dromia_contracts::content::CallStatus;
use dromia_contracts::delivery::{DeadReason, DeliveryState};
use dromia_contracts::run::{RunKind, RunRecord, RunStatus};
use dromia_contracts::store::{
    AgentStateSet, ApprovalRuleRemove, CursorMove, DeliveryDrop, DeliveryRedrive, FeedNumber, ItemKey,
    KeyLifetime, Mutation, SessionOpen, StatePut, TextPin, TokenCreate, TurnClaim, WriteBatch,
};
use dromia_contracts::task::RunOrigin;
use dromia_contracts::token::TokenScope;
use dromia_contracts::{AgentId, CallId, Digest, ItemId, RunId, SessionId, WriteId};

use super::BatchWriter;
use crate::conformance::approval;
use crate::conformance::random::place::{WorldPlace, id_of, token_hash, token_id};
use crate::conformance::retention;
use crate::conformance::revision::{agent_rename, agent_revise};
use crate::conformance::scene::{
    agent_create, as_import, model_called, run_append, run_head, run_started, scene_time, session_open,
    settle_delivery_by, start_delivery,
};

/// Has a session be for a task that a run spawned.
fn with_task(open: Mutation, parent: &RunRecord, depth: u32) -> Mutation {
    let Mutation::SessionOpen(open) = open else { return open };
    let task = RunOrigin {
        run: parent.id,
        call: CallId { step: 1, index: 0 },
        kind: RunKind::Worker,
        session: parent.session,
        position: 1,
        topic: None,
        role: None,
        deadline_ms: None,
        agent: parent.agent,
        root: parent.id,
        depth,
        grants: vec!["reply".to_owned()],
    };
    Mutation::SessionOpen(SessionOpen { origin: Some(Box::new(task)), ..open })
}

impl BatchWriter {
    pub(super) fn register_token(&mut self, place: WorldPlace, fresh: bool) -> WriteBatch {
        let number = self.next_number();
        let handle = if fresh { format!("n{number}") } else { "a0".to_owned() };
        WriteBatch::new(place.tenant_id())
            .with_mutation(Mutation::TokenCreate(TokenCreate {
                token: token_id(number),
                hash: token_hash(number),
                name: if number.is_multiple_of(2) { "ci" } else { "cd" }.to_owned(),
                scopes: TokenScope::ALL.into_iter().take(1 + usize::from(place.session)).collect(),
                expires_at: number.is_multiple_of(3).then(|| scene_time(60_000)),
                at: scene_time(1),
            }))
            .with_mutation(agent_create(AgentId::from_bytes(id_of(7, number)), &handle))
    }

    pub(super) fn open_session(&mut self, place: WorldPlace) -> WriteBatch {
        let number = self.next_number();
        let channel = if number.is_multiple_of(2) { "c0".to_owned() } else { format!("n{number}") };
        let session = SessionId::from_bytes(id_of(8, number));
        let open = session_open(session, place.agent_id(), &channel);
        // Some are for a task of the newest run, which may be too deep.
        let parent = self.find_run(place, 0).filter(|_| matches!(number % 16, 7 | 14 | 15));
        let depth = u32::try_from(number / 16 % 4).unwrap_or_default() + 1;
        let open = match parent {
            Some(parent) => with_task(open, &parent, depth),
            None => open,
        };
        let batch = WriteBatch::new(place.tenant_id());
        // Of those under a new key some are filled by an import, which may end at once.
        match number % 16 {
            1 | 3 | 9 | 11 | 13 => batch.with_mutation(as_import(open)),
            5 => batch.with_mutation(as_import(open)).with_mutation(Mutation::ImportEnd(session)),
            _ => batch.with_mutation(open),
        }
    }

    /// Sets a session on hold, ends its hold or erases one: seldom one of those that the other attempts write to.
    pub(super) fn keep_session(&self, place: WorldPlace, back: u8, step: u8) -> WriteBatch {
        let opened = SessionId::from_bytes(id_of(8, self.minted.saturating_sub(u64::from(back))));
        WriteBatch::new(place.tenant_id()).with_mutation(match step {
            0 | 1 => retention::hold_mutation(place.session_id(), step == 0),
            2 | 3 => retention::hold_mutation(opened, step == 2),
            4..=6 => retention::erase_mutation(opened),
            _ => retention::erase_mutation(place.session_id()),
        })
    }

    pub(super) fn put_inputs(
        &mut self,
        place: WorldPlace,
        items: u8,
        key: Option<u8>,
        claim: bool,
        stale: bool,
    ) -> WriteBatch {
        let mut batch = WriteBatch::new(place.tenant_id());
        let mut put = Vec::new();
        for index in 0..items {
            let mut item = place.session_input(self.next_item());
            if let Some(key) = key.filter(|_| index == 0) {
                item.key = Some(ItemKey {
                    key: format!("k{key}"),
                    request: Digest::from_bytes([key; 32]),
                    lifetime: KeyLifetime::Day,
                });
            }
            put.push(item.item);
            batch = batch.with_mutation(Mutation::InboxPut(item));
        }
        let (taken, mut take) = self.oracle.waiting_items(place.tenant_id(), place.session_id());
        take.extend(put);
        if claim && !take.is_empty() {
            let after = if stale { taken + 1 } else { taken };
            batch.claim = Some(self.claim_session(place, after, take));
        }
        if batch.mutations.is_empty() && batch.claim.is_none() {
            batch = batch.with_mutation(Mutation::InboxPut(place.session_input(self.next_item())));
        }
        batch
    }

    fn claim_session(&mut self, place: WorldPlace, after: u64, take: Vec<ItemId>) -> TurnClaim {
        let entries = vec![run_started(place.agent_id(), place.session_id(), after, &take), model_called(1)];
        TurnClaim {
            session: place.session_id(),
            agent: place.agent_id(),
            run: RunId::from_bytes(id_of(9, self.next_number())),
            // One of the lives that take runs over; the first of them is alive.
            holder: Digest::from_bytes([(self.minted % 3) as u8; 32]),
            after,
            take,
            entries,
            head: run_head(RunStatus::Running),
            notice: None,
        }
    }

    pub(super) fn put_state(&mut self, place: WorldPlace, name: u8, version_off: Option<u8>) -> WriteBatch {
        let number = self.next_number();
        let name = format!("s{name}");
        let found = self.oracle.state_version(place.tenant_id(), place.session_id(), &name);
        // Of two values at one time, so that two writes often say the same.
        let value = Bytes::from((number % 2).to_string());
        let digest = Digest::from_bytes(*blake3::hash(&value).as_bytes());
        WriteBatch::new(place.tenant_id())
            .with_mutation(Mutation::PinPut(TextPin { digest, bytes: value.clone() }))
            .with_mutation(Mutation::StatePut(StatePut {
                session: place.session_id(),
                name,
                expected: version_off.map(|off| found + u64::from(off)),
                value,
                at: scene_time(12),
                write: WriteId::from_bytes(id_of(12, number)),
            }))
    }

    /// Tries something with one of a few approvals of a place's tenant.
    pub(super) fn move_approval(
        &mut self,
        place: WorldPlace,
        back: u8,
        number: u8,
        step: u8,
    ) -> Option<WriteBatch> {
        let run = self.find_run(place, back)?;
        let request = approval::asked_by(&run, number);
        let append_one = |entry| {
            let entries = vec![entry];
            Mutation::RunAppend(run_append(run.id, run.epoch, run.last_seq, entries, RunStatus::Running))
        };
        let batch = WriteBatch::new(place.tenant_id());
        Some(match step {
            0 | 1 => batch.with_mutation(Mutation::ApprovalAsk(Box::new(request))),
            2 => batch.with_mutation(approval::answer_mutation(
                request.id,
                ApprovalState::Holding,
                number != 2,
                10,
            )),
            3 => batch.with_mutation(approval::answer_mutation(request.id, ApprovalState::Waiting, true, 11)),
            4 => approval::with_payer(batch.with_mutation(append_one(approval::started_entry(&request)))),
            5 => approval::with_payer(
                batch.with_mutation(append_one(approval::refused_entry(&request, CallStatus::Awaiting))),
            ),
            6 => approval::with_payer(
                batch.with_mutation(append_one(approval::refused_entry(&request, CallStatus::Denied))),
            ),
            7 => batch.with_mutation(approval::rule_of(run.agent, number)),
            _ => batch.with_mutation(Mutation::ApprovalRuleRemove(ApprovalRuleRemove {
                name: format!("r{number}"),
            })),
        })
    }

    pub(super) fn move_delivery(
        &mut self,
        place: WorldPlace,
        back: u8,
        step: u8,
        attempt_off: u8,
    ) -> Option<WriteBatch> {
        let found = self.oracle.delivery_back(place.tenant_id(), back.into())?;
        let (delivery, off) = (found.id, u32::from(attempt_off));
        let mutation = match step {
            0..=2 => start_delivery(delivery, found.attempts + 1 + off, 1 + back),
            3 => settle_delivery_by(1 + back % 2, delivery, found.attempts + off, DeliveryState::Delivered),
            4 => settle_delivery_by(1 + back % 2, delivery, found.attempts + off, DeliveryState::Failed),
            5 => settle_delivery_by(1 + back % 2, delivery, found.attempts + off, DeliveryState::Dead),
            6 => Mutation::DeliveryDrop(DeliveryDrop {
                delivery,
                attempts: found.attempts + off,
                redrives: found.redrives,
                reason: DeadReason::Expired,
                at: scene_time(50),
            }),
            _ => Mutation::DeliveryRedrive(DeliveryRedrive {
                delivery,
                redrives: found.redrives + off,
                at: scene_time(i64::try_from(self.next_number()).expect("a short sequence")),
            }),
        };
        Some(WriteBatch::new(place.tenant_id()).with_mutation(mutation))
    }

    pub(super) fn move_feed(&mut self, place: WorldPlace, after_off: u8, cursor: bool) -> Option<WriteBatch> {
        let (last, waiting) = self.oracle.feed_end(place.tenant_id());
        let batch = WriteBatch::new(place.tenant_id());
        if cursor {
            let to = last + u64::from(after_off);
            let subscriber = format!("s{}", place.session);
            return Some(batch.with_mutation(Mutation::CursorMove(CursorMove {
                subscriber,
                to,
                at: scene_time(60),
            })));
        }
        let deliveries: Vec<_> = waiting.into_iter().take(2).collect();
        let number = FeedNumber { after: last + u64::from(after_off), deliveries };
        (!number.deliveries.is_empty()).then(|| batch.with_mutation(Mutation::FeedNumber(number)))
    }
}

pub(super) fn agent_state(place: WorldPlace, to: u8) -> WriteBatch {
    let (agent, batch) = (place.agent_id(), WriteBatch::new(place.tenant_id()));
    let session = u64::from(place.session);
    match to {
        // Perhaps of the current revision.
        6 => return batch.with_mutation(agent_revise(agent, 1 + session, 60, &["exec"])),
        // Perhaps to the handle of another agent.
        7 => return batch.with_mutation(agent_rename(agent, &format!("a{session}"))),
        _ => {}
    }
    let to = match to {
        0 => AgentState::Terminated,
        1..=3 => AgentState::Paused,
        _ => AgentState::Running,
    };
    let from = vec![AgentState::Running, AgentState::Paused];
    batch.with_mutation(Mutation::AgentStateSet(AgentStateSet { agent, from, to }))
}
