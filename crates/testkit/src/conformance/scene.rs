//! What the claims play with: a tenant with an agent and a session, and short ways to write batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentConfig;
use dromia_contracts::delivery::{AttemptEnd, AttemptOutcome, DeadReason, DeliveryState};
use dromia_contracts::encoded_request::{BodyDigest, RequestEncoding, SentEncoding, TaintedPast};
use dromia_contracts::entry::{
    Entry, InputsTaken, ModelCalled, ModelReplied, RunCompleted, RunFailed, RunStarted, SignalTaken,
};
use dromia_contracts::mind::AgentMind;
use dromia_contracts::model::{FinishReason, TokenUsage, UsageDetail};
use dromia_contracts::run::{RunHead, RunKind, RunStatus};
use dromia_contracts::runtime::IdSource as _;
use dromia_contracts::session::{InboxOwner, ItemKind, SessionKey};
use dromia_contracts::store::{
    AgentCreate, CommitOutcome, CommitReceipt, CommitRefusal, DeliveryPrepare, DeliverySettle, DeliveryStart,
    InboxPut, Mutation, NewEntry, RunAppend, SessionOpen, SessionTail, Store, TailLimits, TenantCreate,
    TextPin, TurnClaim, WriteBatch,
};
use dromia_contracts::{
    Actor, AgentId, DeliveryId, Digest, ErrorCode, ItemId, OperatorScope, RunId, Scope, ScopeAuthority,
    SessionId, TenantId, TokenId, WriteId,
};
use jiff::Timestamp;

use crate::runtime::{EPOCH_MS, SeededIds};

/// A tenant with a running agent and an open session in a store.
#[derive(Debug)]
pub struct StoreScene {
    /// The store under test.
    pub store: Arc<dyn Store>,
    /// The tenant.
    pub tenant: TenantId,
    /// Its agent.
    pub agent: AgentId,
    /// The agent's session.
    pub session: SessionId,
    ids: SeededIds,
}

impl StoreScene {
    /// Registers the tenant, the agent and the session.
    pub async fn open_scene(store: Arc<dyn Store>, seed: u64) -> Self {
        let ids = SeededIds::new(seed);
        let (tenant, agent, session) = (
            TenantId::from_uuid(ids.new_uuid()),
            AgentId::from_uuid(ids.new_uuid()),
            SessionId::from_uuid(ids.new_uuid()),
        );
        let scene = Self { store, tenant, agent, session, ids };
        let handle = format!("t{seed}");
        let batch = scene
            .new_batch()
            .with_mutation(Mutation::TenantCreate(TenantCreate {
                handle: handle.parse().expect("a handle"),
                at: scene_time(0),
                body_key: [7; 32],
            }))
            .with_mutation(agent_create(agent, "ada"))
            .with_mutation(session_open(session, agent, "main"));
        scene.commit_done(batch).await;
        scene
    }

    /// Begins a batch of the tenant.
    pub fn new_batch(&self) -> WriteBatch {
        WriteBatch::new(self.tenant)
    }

    /// Sees all of the tenant.
    pub fn tenant_scope(&self) -> Scope {
        ScopeAuthority::claim().issue_scope(self.tenant, Actor::new("test:suite"))
    }

    /// Sees the whole node.
    pub fn node_operator() -> OperatorScope {
        ScopeAuthority::claim().issue_operator()
    }

    /// Mints a run id.
    pub fn run_id(&self) -> RunId {
        RunId::from_uuid(self.ids.new_uuid())
    }

    /// Mints an item id.
    pub fn item_id(&self) -> ItemId {
        ItemId::from_uuid(self.ids.new_uuid())
    }

    /// Mints a session id.
    pub fn session_id(&self) -> SessionId {
        SessionId::from_uuid(self.ids.new_uuid())
    }

    /// Mints an agent id.
    pub fn agent_id(&self) -> AgentId {
        AgentId::from_uuid(self.ids.new_uuid())
    }

    /// Mints the id of a write.
    pub fn write_id(&self) -> WriteId {
        WriteId::from_uuid(self.ids.new_uuid())
    }

    /// Mints a token id.
    pub fn token_id(&self) -> TokenId {
        TokenId::from_uuid(self.ids.new_uuid())
    }

    /// Puts an input into the session's inbox.
    pub fn put_input(&self, item: ItemId) -> InboxPut {
        new_input(InboxOwner::Session(self.session), item)
    }

    /// Claims the session.
    pub fn claim_session(&self, run: RunId, after: u64, take: &[ItemId]) -> TurnClaim {
        TurnClaim {
            session: self.session,
            agent: self.agent,
            run,
            holder: Digest::default(),
            after,
            take: take.to_vec(),
            entries: vec![run_started(self.agent, self.session, after, take), model_called(1)],
            head: run_head(RunStatus::Running),
            notice: None,
        }
    }

    /// Mints a delivery id.
    pub fn delivery_id(&self) -> DeliveryId {
        DeliveryId::from_uuid(self.ids.new_uuid())
    }

    /// Ends a run of [`StoreScene::begin_turn`] with a reply and, in the same batch, prepares its message. Returns the message's id.
    pub async fn commit_reply(&self, run: RunId, target: &str) -> DeliveryId {
        let delivery = self.delivery_id();
        self.commit_done(self.reply_batch(run, delivery, target)).await;
        delivery
    }

    /// Writes the batch of [`StoreScene::commit_reply`].
    pub fn reply_batch(&self, run: RunId, delivery: DeliveryId, target: &str) -> WriteBatch {
        let end = run_append(run, 1, 2, vec![model_replied(1, "hi"), run_completed()], RunStatus::Completed);
        self.new_batch()
            .with_mutation(Mutation::DeliveryPrepare(self.prepare_delivery(run, delivery, target)))
            .with_mutation(Mutation::RunAppend(end))
    }

    /// Prepares a message with the fourth entry of a run.
    pub fn prepare_delivery(&self, run: RunId, delivery: DeliveryId, target: &str) -> DeliveryPrepare {
        DeliveryPrepare {
            delivery,
            target: target.to_owned(),
            agent: self.agent,
            session: self.session,
            run,
            seq: 4,
            at: scene_time(10),
            body: Bytes::from(format!("{{\"type\":\"agent.replied\",\"run\":\"{run}\"}}")),
        }
    }

    /// Begins an attempt.
    pub async fn begin_attempt(&self, delivery: DeliveryId, attempt: u32) {
        self.commit_done(self.new_batch().with_mutation(start_delivery(delivery, attempt, 1))).await;
    }

    /// Ends an attempt.
    pub async fn settle_attempt(&self, delivery: DeliveryId, attempt: u32, state: DeliveryState) {
        self.commit_done(self.new_batch().with_mutation(settle_delivery(delivery, attempt, state))).await;
    }

    /// Puts one input and claims the session with it, in one batch.
    pub async fn begin_turn(&self, after: u64) -> RunId {
        let (run, item) = (self.run_id(), self.item_id());
        let mut batch = self.new_batch().with_mutation(Mutation::InboxPut(self.put_input(item)));
        batch.claim = Some(self.claim_session(run, after, &[item]));
        let receipt = self.commit_done(batch).await;
        assert!(receipt.claimed, "a free session is claimed");
        run
    }

    /// Commits and insists on `Done`.
    pub async fn commit_done(&self, batch: WriteBatch) -> CommitReceipt {
        match self.store.commit(batch).await {
            CommitOutcome::Done(receipt) => receipt,
            other => panic!("expected Done, found {other:?}"),
        }
    }

    /// Commits and insists on `Refused`.
    pub async fn commit_refused(&self, batch: WriteBatch) -> CommitRefusal {
        match self.store.commit(batch).await {
            CommitOutcome::Refused(refusal) => refusal,
            other => panic!("expected Refused, found {other:?}"),
        }
    }

    /// Commits a batch of one mutation and insists on `Done`.
    pub async fn commit_mutation(&self, mutation: Mutation) -> CommitReceipt {
        self.commit_done(self.new_batch().with_mutation(mutation)).await
    }

    /// Commits a batch of one mutation and insists on `Refused`.
    pub async fn refuse_mutation(&self, mutation: Mutation) -> CommitRefusal {
        self.commit_refused(self.new_batch().with_mutation(mutation)).await
    }
}

/// Moves the entries of a batch so many milliseconds on.
pub(super) fn shift_entries(mut batch: WriteBatch, ms: i64) -> WriteBatch {
    let appended = batch.mutations.iter_mut().filter_map(|mutation| match mutation {
        Mutation::RunAppend(append) => Some(&mut append.entries),
        _ => None,
    });
    for entries in appended.chain(batch.claim.iter_mut().map(|claim| &mut claim.entries)) {
        for entry in entries {
            entry.at += jiff::SignedDuration::from_millis(ms);
        }
    }
    batch
}

/// An instant of the scene, so many milliseconds after its beginning.
pub(super) fn scene_time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(EPOCH_MS + ms).expect("tests stay within jiff's range")
}

pub(super) fn agent_create(agent: AgentId, handle: &str) -> Mutation {
    let config = AgentConfig {
        model: "scripted".to_owned(),
        instructions: format!("You are {handle}."),
        grants: vec!["reply".to_owned()],
        ..AgentConfig::default()
    };
    let json = serde_json::to_vec(&config).expect("a config is JSON");
    Mutation::AgentCreate(AgentCreate {
        agent,
        handle: handle.parse().expect("a handle"),
        display_name: handle.to_owned(),
        labels: BTreeMap::from([("team".to_owned(), "test".to_owned())]),
        at: scene_time(1),
        revision: Digest::from_bytes(*blake3::hash(&json).as_bytes()),
        config,
    })
}

pub(super) fn session_key(channel: &str) -> SessionKey {
    SessionKey { platform: "cli".to_owned(), channel: channel.to_owned(), actor: Actor::new("cli:ada") }
}

pub(super) fn session_open(session: SessionId, agent: AgentId, channel: &str) -> Mutation {
    let key = session_key(channel);
    Mutation::SessionOpen(SessionOpen {
        session,
        agent,
        key,
        at: scene_time(2),
        believes: false,
        importing: false,
        origin: None,
    })
}

/// Has an import fill the session that a mutation opens.
pub(super) fn as_import(open: Mutation) -> Mutation {
    match open {
        Mutation::SessionOpen(open) => Mutation::SessionOpen(SessionOpen { importing: true, ..open }),
        other => other,
    }
}

pub(super) fn new_input(owner: InboxOwner, item: ItemId) -> InboxPut {
    InboxPut {
        owner,
        item,
        at: scene_time(3),
        kind: match owner {
            InboxOwner::Session(_) => ItemKind::Input,
            InboxOwner::Run(_) => ItemKind::Cancel,
        },
        author: Actor::new("cli:ada"),
        body: Bytes::from_static(b"{\"hello\":1}"),
        key: None,
    }
}

pub(super) fn run_started(agent: AgentId, session: SessionId, after: u64, items: &[ItemId]) -> NewEntry {
    entry_at(
        4,
        Entry::RunStarted(RunStarted {
            kind: RunKind::Turn,
            agent,
            session,
            items: items.to_vec(),
            after,
            resumes: None,
            approved: None,
            origin: None,
            workspace: None,
            summary: None,
            briefing: None,
            config: Digest::default(),
            prompt: Digest::default(),
            layers: Vec::new(),
            model: None,
            mind: AgentMind::Solo,
            woken: 0,
            model_calls_max: 8,
            deadline: None,
        }),
    )
}

/// What a model, or the stand-in of this name, is sent.
pub(super) fn sent_encoding(by: Option<&str>) -> SentEncoding {
    let wording = RequestEncoding {
        by: by.map(str::to_owned),
        form: "chat/1".to_owned(),
        model: "m".to_owned(),
        whole: false,
        limit: None,
        left_out: 0,
        shortened: 0,
        tainted_past: TaintedPast::Whole,
        answer_field: false,
        concludes: false,
    };
    SentEncoding { wording, digest: BodyDigest::truncate_digest(&[7; 32]) }
}

pub(super) fn model_called(step: u32) -> NewEntry {
    let model = "scripted".to_owned();
    entry_at(
        5,
        Entry::ModelCalled(ModelCalled {
            step,
            attempt: 1,
            model,
            history_from: 1,
            input_tokens: 3,
            output_tokens_max: 64,
            reserved_micros: 0,
            unpriced: false,
            sent: sent_encoding(None),
            judged: None,
        }),
    )
}

pub(super) fn model_replied(step: u32, body: impl Into<Bytes>) -> NewEntry {
    let replied = ModelReplied {
        step,
        attempt: 1,
        usage: TokenUsage { input_tokens: 3, output_tokens: 5 },
        detail: UsageDetail::default(),
        cost_micros: 0,
        finish: FinishReason::Stop,
        stopped_at: None,
        tools: Vec::new(),
        clean: true,
        withheld: None,
        masked: Vec::new(),
    };
    NewEntry { body: Some(body.into()), ..entry_at(6, Entry::ModelReplied(replied)) }
}

pub(super) fn run_completed() -> NewEntry {
    entry_at(7, Entry::RunCompleted(RunCompleted { rule: "grant reply".to_owned(), policy: None }))
}

pub(super) fn run_failed() -> NewEntry {
    let (code, message) = (ErrorCode::ModelRejected, "no".to_owned());
    entry_at(7, Entry::RunFailed(RunFailed { code, message }))
}

pub(super) fn inputs_taken(after: u64, items: &[ItemId]) -> NewEntry {
    entry_at(8, Entry::InputsTaken(InputsTaken { items: items.to_vec(), after }))
}

pub(super) fn signal_taken(item: ItemId, position: u64) -> NewEntry {
    let by = Actor::new("cli:ada");
    entry_at(
        8,
        Entry::SignalTaken(SignalTaken { item, position, signal: ItemKind::Cancel, by, approval: None }),
    )
}

pub(super) fn entry_at(ms: i64, entry: Entry) -> NewEntry {
    NewEntry { at: scene_time(ms), entry, body: None }
}

pub(super) fn run_head(status: RunStatus) -> RunHead {
    RunHead {
        status,
        wake_at: (status == RunStatus::Parked).then(|| scene_time(60_000)),
        model_calls: 1,
        usage: TokenUsage { input_tokens: 3, output_tokens: 5 },
        cost_micros: 11,
        unpriced_calls: 0,
    }
}

pub(super) fn run_append(
    run: RunId,
    epoch: u64,
    after: u64,
    entries: Vec<NewEntry>,
    status: RunStatus,
) -> RunAppend {
    RunAppend { run, epoch, after, entries, head: run_head(status), checkpoint: None }
}

/// Begins an attempt, by one of several lives.
pub(super) fn start_delivery(delivery: DeliveryId, attempt: u32, holder: u8) -> Mutation {
    let holder = Digest::from_bytes([holder; 32]);
    Mutation::DeliveryStart(DeliveryStart {
        delivery,
        attempt,
        holder,
        at: scene_time(20 + i64::from(attempt)),
    })
}

/// Ends an attempt of the first life in a way that leads to a state.
pub(super) fn settle_delivery(delivery: DeliveryId, attempt: u32, state: DeliveryState) -> Mutation {
    settle_delivery_by(1, delivery, attempt, state)
}

/// Ends an attempt, by one of several lives.
pub(super) fn settle_delivery_by(
    holder: u8,
    delivery: DeliveryId,
    attempt: u32,
    state: DeliveryState,
) -> Mutation {
    let (outcome, status) = match state {
        DeliveryState::Delivered => (AttemptOutcome::Accepted, Some(200)),
        DeliveryState::Failed | DeliveryState::Dead => (AttemptOutcome::Refused, Some(500)),
        _ => (AttemptOutcome::Unanswered, None),
    };
    let ms = i64::from(attempt);
    let end = AttemptEnd {
        at: scene_time(30 + ms),
        outcome,
        status,
        detail: format!("attempt {attempt}"),
        receiver_id: Some(format!("msg-{attempt}")),
    };
    let reason = (state == DeliveryState::Dead).then_some(DeadReason::Attempts);
    let due_at = scene_time(40 + ms);
    let holder = Digest::from_bytes([holder; 32]);
    Mutation::DeliverySettle(DeliverySettle { delivery, attempt, holder, end, state, reason, due_at })
}

/// Reads a session's tail without limits.
pub(super) async fn all_of(store: &Arc<dyn Store>, scope: &Scope, session: SessionId) -> Option<SessionTail> {
    let limits = TailLimits { after: 0, items: usize::MAX >> 1, bytes: usize::MAX >> 1, until: None };
    store.session_tail(scope, session, limits).await.expect("a read")
}

/// Keeps a text under its digest.
pub(super) fn pin_text(text: &'static str) -> TextPin {
    let digest = Digest::from_bytes(*blake3::hash(text.as_bytes()).as_bytes());
    TextPin { digest, bytes: Bytes::from_static(text.as_bytes()) }
}
