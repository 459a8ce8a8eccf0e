//! Rooms behind the gateway, in memory: what they hold is set by the test, what they are asked is kept for it.

pub(crate) mod audit;
pub(crate) mod capabilities;
pub(crate) mod line;
pub(crate) mod outgoing;
pub(crate) mod runs;
mod store;
pub(crate) mod tools;
pub(crate) mod vault;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use dromia_contracts::agent::{AgentConfig, AgentRecord, TenantRecord};
use dromia_contracts::approval::{ApprovalRequest, DeclaredRule};
use dromia_contracts::audit::AuditChange;
use dromia_contracts::run::RunRecord;
use dromia_contracts::runs::{ImportLabels, LiveEvent, NewInput, NewToken};
use dromia_contracts::session::{InboxItem, SessionRecord};
use dromia_contracts::store::{CommitOutcome, Mutation, StoreDamage, StoredEntry, TokenOwner, WriteBatch};
use dromia_contracts::token::TokenRecord;
use dromia_contracts::{Actor, BoxFuture, Digest, ItemId, RunId, SessionId, TenantId, TokenId};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What an input meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mood {
    /// Its run completes at once.
    #[default]
    Answers,
    /// Its run ends when the test lets it.
    Thinks,
    /// The engine panics.
    Panics,
}

/// The shared insides of all rooms.
#[derive(Default)]
pub(crate) struct Rooms {
    inner: Mutex<Inner>,
    /// What the lists do not hold: deliveries and the feed, budgets, rules of approvals and custom state.
    pub outgoing: dromia_testkit::ReferenceStore,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub tenants: Vec<TenantRecord>,
    /// A planted fault: tokens do not learn that their tenant is suspended.
    pub hides_suspension: bool,
    pub tokens: HashMap<Digest, TokenOwner>,
    pub agents: Vec<(TenantId, AgentRecord, AgentConfig)>,
    pub sessions: Vec<(TenantId, SessionRecord)>,
    pub items: Vec<(SessionId, InboxItem)>,
    pub runs: Vec<(TenantId, RunRecord)>,
    pub journals: HashMap<RunId, Vec<StoredEntry>>,
    pub keys: HashMap<(TenantId, String), (Digest, ItemId, SessionId, RunId)>,
    pub watchers: HashMap<RunId, Vec<mpsc::UnboundedSender<LiveEvent>>>,
    pub inputs: Vec<NewInput>,
    pub token_reads: usize,
    /// Fails every look-up of a token.
    pub tokens_fail: bool,
    /// Holds the next look-up of a token back, after it read the row, until it is told.
    pub token_waits: Option<oneshot::Receiver<()>>,
    /// Holds the next revocation back until it is told.
    pub revocation_waits: Option<oneshot::Receiver<()>>,
    /// Holds the next import back until it is told.
    pub import_waits: Option<oneshot::Receiver<()>>,
    /// What the clock of a world says; it moves by hand.
    pub now: Timestamp,
    pub mood: Mood,
    /// Ends the thinking of those who think.
    pub thought: CancellationToken,
    pub approvals: Vec<(TenantId, ApprovalRequest)>,
    /// The rules of the configuration.
    pub declared_rules: Vec<DeclaredRule>,
    /// How far each import believed its file.
    pub imported: Vec<ImportLabels>,
    pub copies: Vec<String>,
    /// Runs that came in a file.
    pub brought: Vec<RunId>,
    /// Who took which session out.
    pub exported: Vec<(TenantId, Actor, SessionId)>,
    pub acts: Vec<AuditChange>,
    pub read_only: Option<String>,
    pub damaged: Option<StoreDamage>,
    pub minted: u64,
    /// Gives the usage of every tenant to each.
    pub leaks_usage: bool,
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rooms")
    }
}

impl Rooms {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Writes to the reference store, which answers at once.
    pub(crate) fn settle(&self, tenant: TenantId, mutation: Mutation) {
        let outcome = self.outgoing.apply_batch(&WriteBatch::new(tenant).with_mutation(mutation));
        assert!(matches!(outcome, CommitOutcome::Done(_)), "{outcome:?}");
    }

    /// Appends to a run's journal and tells its watchers, as an engine does.
    pub(crate) fn append(&self, run: RunId, entry: StoredEntry, status: dromia_contracts::run::RunStatus) {
        let seq = entry.seq;
        self.append_unsaid(run, entry, status);
        self.live(run, &LiveEvent::Committed { seq, status });
    }

    /// Appends to a run's journal and tells no watcher, as if the word of it had been lost on its way.
    pub(crate) fn append_unsaid(
        &self,
        run: RunId,
        entry: StoredEntry,
        status: dromia_contracts::run::RunStatus,
    ) {
        let mut inner = self.lock();
        let seq = entry.seq;
        inner.journals.entry(run).or_default().push(entry);
        let (_, row) = inner.runs.iter_mut().find(|(_, row)| row.id == run).unwrap();
        row.last_seq = seq;
        row.head.status = status;
    }

    pub(crate) fn live(&self, run: RunId, live: &LiveEvent) {
        self.lock().tell(run, live);
    }

    /// Ends every watch of a run, as an engine does that works on it no more.
    pub(crate) fn leave(&self, run: RunId) {
        self.lock().watchers.remove(&run);
    }
}

impl Inner {
    pub(crate) fn uuid(&mut self) -> Uuid {
        self.minted += 1;
        Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 + u128::from(self.minted))
    }

    /// Registers a token of a tenant that is there and returns what may be shown of it.
    pub(crate) fn token(&mut self, tenant: TenantId, secret: &str, new: NewToken) -> TokenRecord {
        // A planted leak hides a tenant from the list, and its tokens are asked for all the same.
        let hidden = TenantRecord {
            id: tenant,
            handle: "hidden".parse().unwrap(),
            created_at: self.now,
            suspended_at: None,
        };
        let tenant = self.tenants.iter().find(|row| row.id == tenant).cloned().unwrap_or(hidden);
        let token = TokenRecord {
            id: TokenId::from_uuid(self.uuid()),
            name: new.name,
            scopes: new.scopes,
            created_at: self.now,
            expires_at: new.expires_at,
            revoked_at: None,
        };
        let hash = Digest::from_bytes(*blake3::hash(secret.as_bytes()).as_bytes());
        self.tokens.insert(hash, TokenOwner { tenant, token: token.clone() });
        token
    }

    fn tell(&mut self, run: RunId, live: &LiveEvent) {
        if let Some(watchers) = self.watchers.get_mut(&run) {
            watchers.retain(|watcher| watcher.send(live.clone()).is_ok());
        }
    }
}

/// A clock that stands still; only stamps depend on it.
#[derive(Debug)]
pub(crate) struct StoppedClock;

impl dromia_contracts::runtime::Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn monotonic_now(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn sleep(&self, _: std::time::Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

impl dromia_contracts::runtime::Clock for Rooms {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn monotonic_now(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn sleep(&self, _: std::time::Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

impl dromia_contracts::runtime::IdSource for Rooms {
    fn new_uuid(&self) -> Uuid {
        self.lock().uuid()
    }

    fn random_secret(&self) -> [u8; 32] {
        [9; 32]
    }
}

/// Tasks on the test's own runtime.
#[derive(Debug)]
pub(crate) struct Tasks;

impl dromia_contracts::runtime::TaskSpawner for Tasks {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}
