//! What the tests play with: a store in a directory of its own, with a tenant, an agent and a session.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::Connection;
use tempfile::TempDir;

use dromia_contracts::agent::AgentConfig;
use dromia_contracts::entry::{Entry, ModelCalled, ModelReplied, RunCompleted, RunStarted};
use dromia_contracts::mind::AgentMind;
use dromia_contracts::model::{FinishReason, TokenUsage, UsageDetail};
use dromia_contracts::run::{RunHead, RunKind, RunStatus};
use dromia_contracts::session::{InboxOwner, ItemKind, SessionKey};
use dromia_contracts::store::{
    AgentCreate, CommitOutcome, CommitReceipt, InboxPut, ItemKey, KeyLifetime, Mutation, NewEntry, RunAppend,
    SessionOpen, Store as _, TenantCreate, TextPin, TurnClaim, WriteBatch,
};
use dromia_contracts::{Actor, AgentId, Digest, ItemId, RunId, Scope, ScopeAuthority, SessionId, TenantId};
use dromia_store::{SqliteStore, StoreConfig};

pub(crate) const TENANT: TenantId = TenantId::from_bytes([1; 16]);
pub(crate) const AGENT: AgentId = AgentId::from_bytes([2; 16]);
pub(crate) const SESSION: SessionId = SessionId::from_bytes([3; 16]);

pub(crate) struct Scene {
    pub(crate) dir: TempDir,
    pub(crate) store: SqliteStore,
    minted: AtomicU64,
}

impl Scene {
    pub(crate) async fn open() -> Self {
        Self::open_with(|config| config).await
    }

    pub(crate) async fn open_with(change: impl FnOnce(StoreConfig) -> StoreConfig) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = SqliteStore::open(change(StoreConfig::new(dir.path()))).expect("the store opens");
        let scene = Self { dir, store, minted: AtomicU64::new(1) };
        scene.done(world()).await;
        scene
    }

    /// Closes the store, does something to its directory, and opens it again.
    pub(crate) fn reopen(self, between: impl FnOnce(&Path)) -> Self {
        let Self { dir, store, minted } = self;
        drop(store);
        between(dir.path());
        let store = SqliteStore::open(StoreConfig::new(dir.path())).expect("the store opens");
        Self { dir, store, minted }
    }

    pub(crate) fn sql(dir: &Path) -> Connection {
        Connection::open(dir.join("dromia.db")).expect("the file opens")
    }

    pub(crate) fn scope() -> Scope {
        ScopeAuthority::claim().issue_scope(TENANT, Actor::new("test:store"))
    }

    pub(crate) fn id(&self) -> [u8; 16] {
        let mut id = [9; 16];
        id[8..].copy_from_slice(&self.minted.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        id
    }

    pub(crate) async fn done(&self, batch: WriteBatch) -> CommitReceipt {
        match self.store.commit(batch).await {
            CommitOutcome::Done(receipt) => receipt,
            other => panic!("expected Done, found {other:?}"),
        }
    }

    /// The two batches of a plain turn whose reply has this body.
    pub(crate) fn turn(
        &self,
        session: SessionId,
        after: u64,
        reply: impl Into<Bytes>,
    ) -> (RunId, WriteBatch, WriteBatch) {
        let (run, item) = (RunId::from_bytes(self.id()), ItemId::from_bytes(self.id()));
        let mut begin =
            WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(put(session, item, "hello", None)));
        begin.claim = Some(claim(session, run, after, &[item]));
        let end = RunAppend {
            run,
            epoch: 1,
            after: 2,
            entries: vec![replied(reply), completed()],
            head: head(RunStatus::Completed),
            checkpoint: None,
        };
        (run, begin, WriteBatch::new(TENANT).with_mutation(Mutation::RunAppend(end)))
    }

    /// Plays a plain turn to its end.
    pub(crate) async fn turn_done(&self, session: SessionId, after: u64, reply: impl Into<Bytes>) -> RunId {
        let (run, begin, end) = self.turn(session, after, reply);
        assert!(self.done(begin).await.claimed);
        self.done(end).await;
        run
    }
}

pub(crate) fn world() -> WriteBatch {
    WriteBatch::new(TENANT)
        .with_mutation(Mutation::TenantCreate(TenantCreate {
            handle: "acme".parse().expect("a handle"),
            at: at(0),
            body_key: [7; 32],
        }))
        .with_mutation(agent_create(AGENT, "ada"))
        .with_mutation(session_open(SESSION, AGENT, "main"))
}

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_780_000_000_000 + ms).expect("is a time")
}

pub(crate) fn agent_create(agent: AgentId, handle: &str) -> Mutation {
    let config = AgentConfig {
        model: "small".into(),
        instructions: "Be brief.".into(),
        grants: vec!["reply".into()],
        ..AgentConfig::default()
    };
    let json = serde_json::to_vec(&config).expect("a configuration is JSON");
    Mutation::AgentCreate(AgentCreate {
        agent,
        handle: handle.parse().expect("a handle"),
        display_name: handle.to_owned(),
        labels: BTreeMap::new(),
        at: at(0),
        revision: Digest::from_bytes(*blake3::hash(&json).as_bytes()),
        config,
    })
}

pub(crate) fn session_open(session: SessionId, agent: AgentId, channel: &str) -> Mutation {
    let key = SessionKey { platform: "cli".into(), channel: channel.into(), actor: Actor::new("cli:ada") };
    Mutation::SessionOpen(SessionOpen {
        session,
        agent,
        key,
        at: at(0),
        believes: false,
        importing: false,
        origin: None,
    })
}

pub(crate) fn put(session: SessionId, item: ItemId, body: &str, key: Option<&str>) -> InboxPut {
    InboxPut {
        owner: InboxOwner::Session(session),
        item,
        at: at(1),
        kind: ItemKind::Input,
        author: Actor::new("cli:ada"),
        body: Bytes::copy_from_slice(body.as_bytes()),
        key: key.map(|key| ItemKey {
            key: key.to_owned(),
            request: Digest::from_bytes([5; 32]),
            lifetime: KeyLifetime::Day,
        }),
    }
}

pub(crate) fn claim(session: SessionId, run: RunId, after: u64, take: &[ItemId]) -> TurnClaim {
    let started = RunStarted {
        kind: RunKind::Turn,
        agent: AGENT,
        session,
        items: take.to_vec(),
        after,
        resumes: None,
        approved: None,
        origin: None,
        workspace: None,
        summary: None,
        briefing: None,
        config: Digest::from_bytes([4; 32]),
        prompt: Digest::from_bytes([6; 32]),
        layers: Vec::new(),
        model: None,
        mind: AgentMind::Solo,
        woken: 0,
        model_calls_max: 25,
        deadline: None,
    };
    let called = ModelCalled {
        step: 1,
        attempt: 1,
        model: "small".into(),
        history_from: after,
        input_tokens: 321,
        output_tokens_max: 4096,
        reserved_micros: 1234,
        unpriced: false,
        sent: serde_json::from_str(r#"{"form":"chat/1","model":"m","digest":"0001020304050607"}"#)
            .expect("is data"),
        judged: None,
    };
    let entries = [Entry::RunStarted(started), Entry::ModelCalled(called)];
    TurnClaim {
        session,
        agent: AGENT,
        run,
        holder: Digest::default(),
        after,
        take: take.to_vec(),
        entries: entries.map(|entry| NewEntry { at: at(2), entry, body: None }).into(),
        head: head(RunStatus::Running),
        notice: None,
    }
}

/// Has the run that a batch begins be an agent's and pinned to a text, which the batch keeps. Returns the text's digest.
pub(crate) fn pinned(begin: WriteBatch, agent: AgentId, text: &str) -> (Digest, WriteBatch) {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let digest = Digest::from_bytes(*blake3::hash(&bytes).as_bytes());
    let mut begin = begin.with_mutation(Mutation::PinPut(TextPin { digest, bytes }));
    let claim = begin.claim.as_mut().expect("a claim");
    claim.agent = agent;
    match claim.entries.first_mut().map(|first| &mut first.entry) {
        Some(Entry::RunStarted(started)) => (started.agent, started.prompt) = (agent, digest),
        other => panic!("a claim begins a run: {other:?}"),
    }
    (digest, begin)
}

pub(crate) fn replied(body: impl Into<Bytes>) -> NewEntry {
    let usage = TokenUsage { input_tokens: 321, output_tokens: 17 };
    let entry = ModelReplied {
        step: 1,
        attempt: 1,
        usage,
        detail: UsageDetail::default(),
        cost_micros: 456,
        finish: FinishReason::Stop,
        stopped_at: None,
        tools: vec![],
        clean: true,
        withheld: None,
        masked: Vec::new(),
    };
    NewEntry { at: at(3), entry: Entry::ModelReplied(entry), body: Some(body.into()) }
}

pub(crate) fn completed() -> NewEntry {
    let entry = Entry::RunCompleted(RunCompleted { rule: "reply.session".into(), policy: None });
    NewEntry { at: at(4), entry, body: None }
}

pub(crate) fn head(status: RunStatus) -> RunHead {
    RunHead {
        status,
        wake_at: None,
        model_calls: 1,
        usage: TokenUsage { input_tokens: 321, output_tokens: 17 },
        cost_micros: 456,
        unpriced_calls: 0,
    }
}
