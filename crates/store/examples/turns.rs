//! Plays plain turns against a store and prints what they cost: `turns [TURNS] [SESSIONS] [CONNECTIONS]`.
//!
//! A turn is what the engine does: a look at the session's tail, the commit that admits and claims, and the commit
//! that ends it. Nothing else runs, so this is what the store alone can do.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use jiff::Timestamp;

use dromia_contracts::agent::AgentConfig;
use dromia_contracts::encoded_request::{BodyDigest, RequestEncoding, SentEncoding, TaintedPast};
use dromia_contracts::entry::{Entry, ModelCalled, ModelReplied, RunCompleted, RunStarted};
use dromia_contracts::mind::AgentMind;
use dromia_contracts::model::{FinishReason, TokenUsage, UsageDetail};
use dromia_contracts::run::{RunHead, RunKind, RunStatus};
use dromia_contracts::session::{InboxOwner, ItemKind, SessionKey};
use dromia_contracts::store::{
    AgentCreate, CommitOutcome, InboxPut, Mutation, NewEntry, RunAppend, SessionOpen, Store, TailLimits,
    TenantCreate, TurnClaim, WriteBatch,
};
use dromia_contracts::{Actor, AgentId, Digest, ItemId, RunId, ScopeAuthority, SessionId, TenantId};
use dromia_store::{SqliteStore, StoreConfig};

const TENANT: TenantId = TenantId::from_bytes([1; 16]);
const AGENT: AgentId = AgentId::from_bytes([2; 16]);
const INPUT: &str = r#"{"version":1,"message":{"author":"cli:ada","parts":[{"type":"text","text":"What is the time?","label":"trusted/actor"}]}}"#;
const REPLY: &str =
    r#"{"parts":[{"type":"text","text":"It is a quarter past ten.","label":"untrusted/actor"}]}"#;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let turns = arguments.next().unwrap_or(20_000);
    let sessions = arguments.next().unwrap_or(1_000);
    let connections = arguments.next().unwrap_or(64);

    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(SqliteStore::open(StoreConfig::new(dir.path())).expect("the store opens"));
    report("at start", &rss());
    prepare(&store, sessions).await;
    let before = (store.store_stats(), store.store_health().file_bytes);
    let begun = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let reading = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..connections {
        let (store, next, reading) = (store.clone(), next.clone(), reading.clone());
        tasks.spawn(async move {
            let mut mine: BTreeMap<u64, u64> = BTreeMap::new();
            while next.fetch_add(1, Ordering::Relaxed) < turns {
                let number = next.load(Ordering::Relaxed);
                // A connection has its own sessions, so no two ever wait for one another.
                let session = connection + connections * (number % (sessions / connections).max(1));
                let after = mine.entry(session).or_default();
                turn(&store, session, *after, &reading).await;
                *after += 1;
            }
        });
    }
    tasks.join_all().await;
    let elapsed = begun.elapsed();
    let after = store.store_stats();
    let per_turn = |value: u64| value as f64 / turns as f64;
    report("turns/s", &format!("{:.0}", turns as f64 / elapsed.as_secs_f64()));
    report("tail read, us", &format!("{:.1}", per_turn(reading.load(Ordering::Relaxed)) / 1e3));
    report(
        "batches per transaction",
        &format!(
            "{:.1}",
            (after.batches - before.0.batches) as f64 / (after.commits - before.0.commits) as f64
        ),
    );
    report("rows per turn", &format!("{:.2}", per_turn(after.rows - before.0.rows)));
    report("writer us per turn", &format!("{:.1}", per_turn(after.writer_micros - before.0.writer_micros)));
    report(
        "bytes written per turn",
        &format!("{:.0}", per_turn(after.bytes_written - before.0.bytes_written)),
    );
    report("at end", &rss());
    drop(store);
    let length = std::fs::metadata(dir.path().join("dromia.db")).expect("is there").len();
    report("bytes on disk per turn", &format!("{:.0}", per_turn(length - before.1)));
}

async fn prepare(store: &SqliteStore, sessions: u64) {
    let create = TenantCreate { handle: "t".parse().expect("a handle"), at: at(), body_key: [7; 32] };
    let agent = AgentCreate {
        agent: AGENT,
        handle: "a".parse().expect("a handle"),
        display_name: "a".into(),
        labels: BTreeMap::new(),
        at: at(),
        revision: Digest::from_bytes([4; 32]),
        config: AgentConfig { model: "small".into(), ..AgentConfig::default() },
    };
    let batch = WriteBatch::new(TENANT)
        .with_mutation(Mutation::TenantCreate(create))
        .with_mutation(Mutation::AgentCreate(agent));
    assert!(matches!(store.commit(batch).await, CommitOutcome::Done(_)));
    for chunk in (0..sessions.max(64)).collect::<Vec<_>>().chunks(200) {
        let batch = chunk.iter().fold(WriteBatch::new(TENANT), |batch, n| {
            let key = SessionKey {
                platform: "api".into(),
                channel: format!("c{n}"),
                actor: Actor::new("api:load"),
            };
            batch.with_mutation(Mutation::SessionOpen(SessionOpen {
                session: session_id(*n),
                agent: AGENT,
                key,
                at: at(),
                believes: false,
                importing: false,
                origin: None,
            }))
        });
        assert!(matches!(store.commit(batch).await, CommitOutcome::Done(_)));
    }
}

async fn turn(store: &SqliteStore, session: u64, after: u64, reading: &AtomicU64) {
    static MINTED: AtomicU64 = AtomicU64::new(0);
    let mint = || {
        let mut id = [0x10; 16];
        id[..8].copy_from_slice(&MINTED.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        id
    };
    let (session, run, item) = (session_id(session), RunId::from_bytes(mint()), ItemId::from_bytes(mint()));
    let scope = ScopeAuthority::claim().issue_scope(TENANT, Actor::new("api:load"));
    let begun = Instant::now();
    let tail = store
        .session_tail(&scope, session, TailLimits { after: 0, items: 20, bytes: 64 << 10, until: None })
        .await;
    reading.fetch_add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    assert_eq!(tail.expect("a read").expect("a session").session.head.taken, after);

    let usage = TokenUsage { input_tokens: 321, output_tokens: 17 };
    let head = |status| RunHead {
        status,
        wake_at: None,
        model_calls: 1,
        usage,
        cost_micros: 456,
        unpriced_calls: 0,
    };
    let entry = |entry, body| NewEntry { at: at(), entry, body };
    let put = InboxPut {
        owner: InboxOwner::Session(session),
        item,
        at: at(),
        kind: ItemKind::Input,
        author: Actor::new("api:load"),
        body: Bytes::from_static(INPUT.as_bytes()),
        key: None,
    };
    let started = RunStarted {
        kind: RunKind::Turn,
        agent: AGENT,
        session,
        items: vec![item],
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
        sent: sent(),
        judged: None,
    };
    let mut begin = WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(put));
    begin.claim = Some(TurnClaim {
        session,
        agent: AGENT,
        run,
        holder: Digest::default(),
        after,
        take: vec![item],
        entries: vec![entry(Entry::RunStarted(started), None), entry(Entry::ModelCalled(called), None)],
        head: head(RunStatus::Running),
        notice: None,
    });
    match store.commit(begin).await {
        CommitOutcome::Done(receipt) if receipt.claimed => {}
        other => panic!("the turn did not begin: {other:?}"),
    }
    let replied = ModelReplied {
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
    let completed = RunCompleted { rule: "reply.session".into(), policy: None };
    let end = RunAppend {
        run,
        epoch: 1,
        after: 2,
        entries: vec![
            entry(Entry::ModelReplied(replied), Some(Bytes::from_static(REPLY.as_bytes()))),
            entry(Entry::RunCompleted(completed), None),
        ],
        head: head(RunStatus::Completed),
        checkpoint: None,
    };
    let ended = store.commit(WriteBatch::new(TENANT).with_mutation(Mutation::RunAppend(end))).await;
    assert!(matches!(ended, CommitOutcome::Done(_)), "the turn did not end: {ended:?}");
}

fn session_id(number: u64) -> SessionId {
    let mut id = [0x20; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    SessionId::from_bytes(id)
}

fn sent() -> SentEncoding {
    let wording = RequestEncoding {
        by: None,
        form: "chat/1".into(),
        model: "gpt-5-mini".into(),
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

fn at() -> Timestamp {
    Timestamp::from_millisecond(1_780_000_000_000).expect("is a time")
}

fn rss() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: unknown");
    line.replace("VmRSS:", "RSS ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[expect(clippy::print_stdout, reason = "printing is what this program is for")]
fn report(what: &str, value: &str) {
    println!("{what:<26} {value}");
}
