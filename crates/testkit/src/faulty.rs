//! A store that fails on demand: it stands before another store and spoils its n-th commit.
//!
//! It knows three moments that matter to a caller: before anything was written, after it was written and before
//! the caller heard of it, and never again. Reads always go through.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dromia_contracts::agent::{Agent, AgentState, Erased, Handle, Revision, Tenant};
use dromia_contracts::run::Run;
use dromia_contracts::session::{InboxItem, InboxOwner, Session, SessionKey};
use dromia_contracts::store::{
    Batch, Commit, OpenRun, Page, PendingSession, Read, ReadError, RunFilter, SessionTail, StateEntry, Store,
    StoreHealth, StoreStats, StoredEntry, TailLimits, TokenOwner,
};
use dromia_contracts::{AgentId, BoxFuture, Digest, Operator, RunId, Scope, SessionId, TenantId};

/// How a commit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommitFault {
    /// Nothing is written; the answer is `Unknown`.
    Lost,
    /// It is written; the answer is `Unknown`.
    Unheard,
    /// Nothing is written, and nothing ever again: the process died before this commit.
    CrashBefore,
    /// It is written, the answer is lost, and nothing is written again: the process died after this commit.
    CrashAfter,
}

impl CommitFault {
    /// Every fault.
    pub const ALL: [Self; 4] = [Self::Lost, Self::Unheard, Self::CrashBefore, Self::CrashAfter];
}

/// A moment of a commit, as a callback sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// The batch has arrived.
    Before,
    /// The store below has answered, the caller has not heard yet.
    After,
}

type Callback = Arc<dyn Fn(u64, Moment) + Send + Sync>;

/// A store that fails on demand.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Mutex<BTreeMap<u64, CommitFault>>,
    on_commit: Mutex<Option<Callback>>,
    commits: AtomicU64,
    dead: AtomicBool,
}

impl FaultyStore {
    /// Stands before a store; without faults it changes nothing.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            faults: Mutex::new(BTreeMap::new()),
            on_commit: Mutex::new(None),
            commits: AtomicU64::new(0),
            dead: AtomicBool::new(false),
        }
    }

    /// Spoils the n-th commit, counted from 1 over the life of this wrapper.
    pub fn fail(&self, nth: u64, fault: CommitFault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).insert(nth, fault);
    }

    /// Calls back at each moment of each commit.
    pub fn on_commit(&self, callback: impl Fn(u64, Moment) + Send + Sync + 'static) {
        *self.on_commit.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(callback));
    }

    /// Returns how many commits arrived.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    /// Tells whether a crash fault was met.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Returns the store below, as a restart finds it.
    pub fn inner(&self) -> Arc<dyn Store> {
        Arc::clone(&self.inner)
    }

    fn spoiled(&self, batch: Batch) -> BoxFuture<'static, Commit> {
        let nth = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        let callback = self.on_commit.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(callback) = &callback {
            callback(nth, Moment::Before);
        }
        let fault = self.faults.lock().unwrap_or_else(PoisonError::into_inner).get(&nth).copied();
        let unknown =
            move |fault: &str| Commit::Unknown { cause: format!("commit {nth} was spoiled: {fault}") };
        if self.is_dead() {
            return Box::pin(std::future::ready(unknown("the store is dead")));
        }
        let (written, heard, dies) = match fault {
            None => (true, true, false),
            Some(CommitFault::Lost) => (false, false, false),
            Some(CommitFault::Unheard) => (true, false, false),
            Some(CommitFault::CrashBefore) => (false, false, true),
            Some(CommitFault::CrashAfter) => (true, false, true),
        };
        if dies {
            self.dead.store(true, Ordering::SeqCst);
        }
        if !written {
            return Box::pin(std::future::ready(unknown("nothing was written")));
        }
        let commit = self.inner.commit(batch);
        Box::pin(async move {
            let answer = commit.await;
            if let Some(callback) = callback {
                callback(nth, Moment::After);
            }
            if heard { answer } else { unknown("the answer was lost") }
        })
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore")
            .field("inner", &self.inner)
            .field("commits", &self.commits())
            .field("dead", &self.is_dead())
            .finish_non_exhaustive()
    }
}

/// Passes reads through to the store below.
macro_rules! pass_through {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $output:ty;)+) => {
        $(fn $name<'a>(&'a self, $($argument: $kind),*) -> Read<'a, $output> {
            self.inner.$name($($argument),*)
        })+
    };
}

impl Store for FaultyStore {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Commit> {
        self.spoiled(batch)
    }

    pass_through! {
        fn tenants(operator: &'a Operator, page: Page<TenantId>) -> Vec<Tenant>;
        fn tenant_by_handle(operator: &'a Operator, handle: &'a Handle) -> Option<Tenant>;
        fn token(operator: &'a Operator, hash: Digest) -> Option<TokenOwner>;
        fn open_runs(operator: &'a Operator, page: Page<(TenantId, RunId)>) -> Vec<OpenRun>;
        fn parked_runs(operator: &'a Operator, limit: usize) -> Vec<OpenRun>;
        fn pending_sessions(operator: &'a Operator, page: Page<(TenantId, SessionId)>) -> Vec<PendingSession>;
        fn deleting_agents(operator: &'a Operator) -> Vec<(TenantId, AgentId)>;
        fn agents(scope: &'a Scope, state: Option<AgentState>, page: Page<AgentId>) -> Vec<Agent>;
        fn agent(scope: &'a Scope, agent: AgentId) -> Option<Agent>;
        fn agent_by_handle(scope: &'a Scope, handle: &'a Handle) -> Option<Agent>;
        fn revision(scope: &'a Scope, agent: AgentId, digest: Digest) -> Option<Revision>;
        fn session(scope: &'a Scope, session: SessionId) -> Option<Session>;
        fn session_by_key(scope: &'a Scope, agent: AgentId, key: &'a SessionKey) -> Option<Session>;
        fn sessions(scope: &'a Scope, agent: Option<AgentId>, page: Page<SessionId>) -> Vec<Session>;
        fn session_tail(scope: &'a Scope, session: SessionId, limits: TailLimits) -> Option<SessionTail>;
        fn run(scope: &'a Scope, run: RunId) -> Option<Run>;
        fn runs(scope: &'a Scope, filter: RunFilter, page: Page<RunId>) -> Vec<Run>;
        fn journal(scope: &'a Scope, run: RunId, after: u64, limit: usize) -> Vec<StoredEntry>;
        fn inbox(scope: &'a Scope, owner: InboxOwner, after: u64, limit: usize) -> Vec<InboxItem>;
        fn pin(scope: &'a Scope, digest: Digest) -> Option<Bytes>;
        fn state(scope: &'a Scope, session: SessionId, page: Page<&'a str>) -> Vec<StateEntry>;
        fn state_entry(scope: &'a Scope, session: SessionId, name: &'a str) -> Option<StateEntry>;
    }

    fn erase_agent_page<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, (Erased, bool)> {
        if self.is_dead() {
            let cause = "the store is dead".to_owned();
            return Box::pin(std::future::ready(Err(ReadError::Unavailable { cause })));
        }
        self.inner.erase_agent_page(scope, agent)
    }

    fn health(&self) -> StoreHealth {
        self.inner.health()
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }
}
