//! A store that fails on demand: it wraps another store and spoils its n-th commit.
//!
//! It knows three moments that matter to a caller: before anything was written, after it was written and before the
//! caller's answer, and never again. A page of an erasure writes as a batch does, so it counts as a commit and fails
//! like one. It keeps a line about every commit, so that a sweep can say where it went. Batches can be made to wait, as
//! in the queue of a writer that is busy, and a tenant's to be refused, as where its rows are damaged. Reads always go
//! through.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dromia_contracts::agent::ErasureCounts;
use dromia_contracts::store::{
    CommitOutcome, CommitReceipt, CommitRefusal, Mutation, NewEntry, Read, ReadError, Store, StoreWrapper,
    WriteBatch,
};
use dromia_contracts::{AgentId, BoxFuture, Scope, SessionId, TenantId};
use tokio::sync::{Notify, oneshot};

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
    /// Nothing is written, the answer is `Done`, and nothing is written again: a store that acknowledged before it
    /// was durable, and died. No honest store does so; it is there to see that a check notices.
    Lie,
}

impl CommitFault {
    /// Every fault that an honest store can show.
    pub const ALL: [Self; 4] = [Self::Lost, Self::Unheard, Self::CrashBefore, Self::CrashAfter];
}

/// A moment of a commit, as a callback sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommitMoment {
    /// The batch has arrived.
    Before,
    /// The store below has answered, the caller has not heard yet.
    After,
}

type Callback = Arc<dyn Fn(u64, CommitMoment) + Send + Sync>;

/// A batch that waits, and the sender of its outcome.
type Waiting = (WriteBatch, oneshot::Sender<BoxFuture<'static, CommitOutcome>>);

/// A store that fails on demand.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Mutex<BTreeMap<u64, CommitFault>>,
    /// A fault that waits for the first commit whose line holds a word.
    first: Mutex<Option<(String, CommitFault)>>,
    on_commit: Mutex<Option<Callback>>,
    commits: AtomicU64,
    log: Mutex<Vec<String>>,
    /// Batches that wait to be written; absent while none is to wait.
    waiting: Mutex<Option<Vec<Waiting>>>,
    /// Tenants whose batches are refused as damaged.
    damaged: Mutex<BTreeSet<TenantId>>,
    dead: AtomicBool,
    death: Notify,
}

/// What a fault makes of one commit.
struct SpoiledCommit {
    nth: u64,
    written: bool,
    heard: bool,
    callback: Option<Callback>,
}

impl SpoiledCommit {
    /// The text of the answer that leaves the outcome unknown.
    fn cause_text(&self, fault: &str) -> String {
        format!("commit {} was spoiled: {fault}", self.nth)
    }

    fn call_after(&self) {
        if let Some(callback) = &self.callback {
            callback(self.nth, CommitMoment::After);
        }
    }
}

impl FaultyStore {
    /// Erases a page, unless a fault comes before it, and hides the answer if one comes after it.
    fn erase_spoiled<'a>(
        &self,
        name: &str,
        erase: impl FnOnce() -> Read<'a, (ErasureCounts, bool)>,
    ) -> Read<'a, (ErasureCounts, bool)> {
        let met = self.count_commit(name.to_owned());
        if !met.written {
            let cause = met.cause_text("nothing was written");
            return Box::pin(std::future::ready(Err(ReadError::Unavailable { cause })));
        }
        let page = erase();
        Box::pin(async move {
            let answer = page.await;
            met.call_after();
            if met.heard {
                answer
            } else {
                Err(ReadError::Unavailable { cause: met.cause_text("the answer was lost") })
            }
        })
    }

    /// Wraps a store; without faults it changes nothing.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            faults: Mutex::new(BTreeMap::new()),
            first: Mutex::new(None),
            on_commit: Mutex::new(None),
            commits: AtomicU64::new(0),
            log: Mutex::new(Vec::new()),
            waiting: Mutex::new(None),
            damaged: Mutex::new(BTreeSet::new()),
            dead: AtomicBool::new(false),
            death: Notify::new(),
        }
    }

    /// Spoils the n-th commit, counted from 1 over the life of this wrapper.
    pub fn fail_nth(&self, nth: u64, fault: CommitFault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).insert(nth, fault);
    }

    /// Spoils the first commit from now on whose line in the log holds a word.
    pub fn fail_first(&self, word: &str, fault: CommitFault) {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = Some((word.to_owned(), fault));
    }

    /// Calls back at each moment of each commit.
    pub fn on_commit(&self, callback: impl Fn(u64, CommitMoment) + Send + Sync + 'static) {
        *self.on_commit.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(callback));
    }

    /// Refuses every batch of a tenant from now on, as a store does whose rows are damaged.
    pub fn damage_tenant(&self, tenant: TenantId) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant);
    }

    /// Takes a tenant's batches again.
    pub fn repair_tenant(&self, tenant: TenantId) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
    }

    /// Lets batches wait from now on, unwritten.
    pub fn hold_back(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
    }

    /// Counts the batches that wait.
    pub fn held_back(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, Vec::len)
    }

    /// Commits the waiting batches in order, even if their callers are gone, and lets later batches through.
    pub fn let_go(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        for (batch, listener) in waiting.unwrap_or_default() {
            // A caller that is gone gets no answer; its batch is committed all the same.
            drop(listener.send(self.commit_spoiled(batch)));
        }
    }

    /// Returns how many commits arrived.
    pub fn commit_count(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    /// Tells whether a crash fault was met.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Waits until a crash fault was met.
    pub async fn wait_for_crash(&self) {
        loop {
            let death = self.death.notified();
            if self.is_dead() {
                return;
            }
            death.await;
        }
    }

    /// Returns the store below, as a restart finds it.
    pub fn inner_store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.inner)
    }

    /// Returns a line about every commit that arrived, in order: what it writes, by kind.
    pub fn commit_log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a commit, and says what becomes of it.
    fn count_commit(&self, line: String) -> SpoiledCommit {
        let first = self
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take_if(|(word, _)| line.contains(&*word));
        let nth = {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push(line);
            self.commits.fetch_add(1, Ordering::SeqCst) + 1
        };
        let callback = self.on_commit.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(callback) = &callback {
            callback(nth, CommitMoment::Before);
        }
        if self.is_dead() {
            return SpoiledCommit { nth, written: false, heard: false, callback };
        }
        let fault = self.faults.lock().unwrap_or_else(PoisonError::into_inner).get(&nth).copied();
        let fault = first.map(|(_, fault)| fault).or(fault);
        let (written, heard, dies) = match fault {
            None => (true, true, false),
            Some(CommitFault::Lost) => (false, false, false),
            Some(CommitFault::Unheard) => (true, false, false),
            Some(CommitFault::CrashBefore) => (false, false, true),
            Some(CommitFault::CrashAfter) => (true, false, true),
            Some(CommitFault::Lie) => (false, true, true),
        };
        if dies {
            self.dead.store(true, Ordering::SeqCst);
            self.death.notify_waiters();
        }
        SpoiledCommit { nth, written, heard, callback }
    }

    fn commit_spoiled(&self, batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        if self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(&batch.tenant) {
            let problem = "the rows of the tenant are damaged".to_owned();
            return Box::pin(std::future::ready(CommitOutcome::Refused(CommitRefusal::Damaged { problem })));
        }
        let met = self.count_commit(line_of(&batch));
        if !met.written {
            let answer = if met.heard {
                let puts = batch.mutations.iter().filter(|one| matches!(one, Mutation::InboxPut(_)));
                CommitOutcome::Done(CommitReceipt {
                    positions: puts.map(|_| 1).collect(),
                    claimed: true,
                    ..CommitReceipt::default()
                })
            } else {
                CommitOutcome::Unknown { cause: met.cause_text("nothing was written") }
            };
            return Box::pin(std::future::ready(answer));
        }
        let commit = self.inner.commit(batch);
        Box::pin(async move {
            let answer = commit.await;
            met.call_after();
            if met.heard {
                answer
            } else {
                CommitOutcome::Unknown { cause: met.cause_text("the answer was lost") }
            }
        })
    }
}

/// Names what a batch writes, in order.
fn line_of(batch: &WriteBatch) -> String {
    let entries = |entries: &[NewEntry]| {
        let kinds: Vec<_> = entries.iter().map(|new| new.entry.kind().0).collect();
        kinds.join(" ")
    };
    let mutation = |mutation: &Mutation| match mutation {
        Mutation::AgentStateSet(set) => format!("agent_state_set {}", set.to.as_str()),
        Mutation::InboxPut(put) => format!("inbox_put {:?}", put.kind).to_lowercase(),
        Mutation::RunAppend(append) => {
            let with = if append.checkpoint.is_some() { " with checkpoint" } else { "" };
            format!("run_append [{}]{with}", entries(&append.entries))
        }
        Mutation::DeliveryStart(start) => format!("delivery_start {}", start.attempt),
        Mutation::DeliverySettle(settle) => format!("delivery_settle {}", settle.state.as_str()),
        Mutation::DeliveryDrop(drop) => format!("delivery_drop {}", drop.reason.as_str()),
        Mutation::SecretPut(sealed) => format!("secret_put {}", sealed.secret.version),
        Mutation::BudgetSet(set) => format!("budget_set {}", set.budget.name),
        Mutation::BudgetRemove(remove) => format!("budget_remove {}", remove.name),
        Mutation::CapabilityPut(put) => format!("capability_put {}", put.usage.as_str()),
        Mutation::FileLabelsPut(put) => format!("file_labels_put {}", put.said.files.len()),
        Mutation::ApprovalAsk(ask) => format!("approval_ask {}", ask.state),
        Mutation::ApprovalAnswer(answer) => format!("approval_answer {}", answer.approved),
        Mutation::ApprovalRulePut(rule) => format!("approval_rule_put {}", rule.name),
        Mutation::ApprovalRuleRemove(remove) => format!("approval_rule_remove {}", remove.name),
        other => other.name().to_owned(),
    };
    let mut words: Vec<_> = batch.mutations.iter().map(mutation).collect();
    words.extend(batch.claim.as_ref().map(|claim| format!("claim [{}]", entries(&claim.entries))));
    words.join(", ")
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore")
            .field("inner", &self.inner)
            .field("commits", &self.commit_count())
            .field("dead", &self.is_dead())
            .finish_non_exhaustive()
    }
}

impl StoreWrapper for FaultyStore {
    fn wrapped_store(&self) -> &dyn Store {
        &*self.inner
    }

    fn commit(&self, batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = waiting.as_mut() {
            let (listener, written) = oneshot::channel();
            waiting.push((batch, listener));
            return Box::pin(async move {
                match written.await {
                    Ok(commit) => commit.await,
                    Err(_) => CommitOutcome::Unknown { cause: "the store is gone".to_owned() },
                }
            });
        }
        drop(waiting);
        self.commit_spoiled(batch)
    }

    fn erase_agent_page<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, (ErasureCounts, bool)> {
        self.erase_spoiled("erase_agent_page", || self.inner.erase_agent_page(scope, agent))
    }

    fn erase_session_page<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
    ) -> Read<'a, (ErasureCounts, bool)> {
        self.erase_spoiled("erase_session_page", || self.inner.erase_session_page(scope, session))
    }
}
