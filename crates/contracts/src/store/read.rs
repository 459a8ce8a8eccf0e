//! What is read: typed pages under a scope, and the port itself.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

use super::answer::Commit;
use super::batch::Batch;
use crate::BoxFuture;
use crate::agent::{Agent, AgentState, Erased, Handle, Revision, Tenant};
use crate::approval::{Approval, ApprovalRule};
use crate::budget::BudgetUse;
use crate::capability::Capability;
use crate::cost::Spent;
use crate::delivery::{Delivery, DeliveryRecord, DeliveryState, FeedItem, FeedState, OpenDelivery};
use crate::digest::Digest;
use crate::entry::{DecodeError, Entry};
use crate::file::{FileLabel, KnownFile};
use crate::id::{AgentId, ApprovalId, CapabilityId, DeliveryId, ItemId, RunId, SessionId, TenantId, TokenId};
use crate::run::{Run, RunStatus};
use crate::scope::{Operator, Scope};
use crate::session::{InboxItem, InboxOwner, Session, SessionKey};
use crate::token::Token;
use crate::vault::SealedSecret;

/// A page of a listing: what comes after a place, at most so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<Id> {
    /// The last id of the page before.
    pub after: Option<Id>,
    /// The most rows; a store gives at most [`Page::LIMIT_MAX`].
    pub limit: usize,
}

impl<Id> Page<Id> {
    /// The most rows of any page.
    pub const LIMIT_MAX: usize = 256;

    /// Asks for the first page.
    pub const fn first(limit: usize) -> Self {
        Self { after: None, limit }
    }
}

/// Which runs to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunFilter {
    /// Only runs of this session.
    pub session: Option<SessionId>,
    /// Only runs of this agent.
    pub agent: Option<AgentId>,
    /// Only runs that stand so.
    pub status: Option<RunStatus>,
}

/// Which deliveries to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryFilter {
    /// Only those that stand so.
    pub state: Option<DeliveryState>,
    /// Only those to this target.
    pub target: Option<String>,
}

/// Which approvals to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ApprovalFilter {
    /// Only those of this agent.
    pub agent: Option<AgentId>,
    /// Only those that may still be answered at this time.
    pub open_at: Option<Timestamp>,
}

/// A request for approval that the engine allows by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoolingApproval {
    /// The tenant.
    pub tenant: TenantId,
    /// The approval.
    pub approval: ApprovalId,
    /// From when on it is allowed, if nobody answers.
    pub until: Timestamp,
}

/// What one run spent on each model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSpending {
    /// The run's row.
    pub run: Run,
    /// What its attempts spent, by the alias of the model, sorted by alias. An open attempt counts as a call.
    pub models: Vec<(String, Spent)>,
}

/// A journal entry, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its number, counted from 1 without gap.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// The epoch in which it was appended.
    pub epoch: u64,
    /// Its kind; possibly one that a newer version wrote.
    pub kind: String,
    /// The version of its kind.
    pub version: u16,
    /// Its fields as JSON.
    pub fields: String,
    /// What was said; `None` if nothing was, or if it was erased.
    pub body: Option<Bytes>,
    /// The digest of this entry chained to the one before.
    pub chain: Digest,
}

impl StoredEntry {
    /// Reads the fields.
    pub fn decode(&self) -> Result<Entry, DecodeError> {
        Entry::decode(&self.kind, self.version, &self.fields)
    }
}

/// How much of a session's past to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailLimits {
    /// The most inbox items.
    pub items: usize,
    /// The most bytes of item and entry bodies; the newest whole items that fit.
    pub bytes: usize,
}

/// The newest part of a session: items in order, and the journals of the runs that took them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTail {
    /// The session.
    pub session: Session,
    /// The newest taken items within the limits, cut so that no run is torn, and after them the first
    /// [`Page::LIMIT_MAX`] items that wait.
    pub items: Vec<InboxItem>,
    /// The journals of the runs that took them, in order.
    pub runs: Vec<(RunId, Vec<StoredEntry>)>,
}

/// A run that has not ended, as recovery meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// Its tenant.
    pub tenant: TenantId,
    /// The run.
    pub run: Run,
}

/// A session with waiting items and no active turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingSession {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its agent.
    pub agent: AgentId,
    /// The session.
    pub session: SessionId,
}

/// A custom state entry of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    /// Its name.
    pub name: String,
    /// How often it was written.
    pub version: u64,
    /// Its value.
    pub value: Bytes,
}

/// A token, and whose credential it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenOwner {
    /// The tenant.
    pub tenant: Tenant,
    /// The token; it may be expired or revoked.
    pub token: Token,
}

/// Whether the store takes writes, and how much it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHealth {
    /// Why it answers reads only; `None` when it takes writes.
    pub read_only: Option<String>,
    /// Bytes in the write-ahead log.
    pub wal_bytes: u64,
    /// Bytes in the main file.
    pub file_bytes: u64,
}

/// What the writer did since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Transactions that became durable.
    pub commits: u64,
    /// Batches in them.
    pub batches: u64,
    /// Rows written in them.
    pub rows: u64,
    /// CPU time of the writer, in microseconds.
    pub writer_micros: u64,
    /// Bytes written to the log and to the main file.
    pub bytes_written: u64,
}

/// The item that a caller's key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedItem {
    /// The item.
    pub item: ItemId,
    /// Whose inbox it is in.
    pub owner: InboxOwner,
    /// Its place there.
    pub position: u64,
    /// BLAKE3 of the request that came with the key.
    pub request: Digest,
}

/// Says why a read gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store did not answer; the same read may succeed later.
    #[error("the store did not answer: {cause}")]
    Unavailable {
        /// What failed, for the log.
        cause: String,
    },
    /// A stored row does not match its digest or cannot be parsed. It is never given out.
    #[error("{place} is damaged: {problem}")]
    Damaged {
        /// Which row.
        place: String,
        /// What does not match.
        problem: String,
    },
}

/// The port to durable storage.
///
/// Guarantees, which one conformance suite checks for every implementation:
/// - A batch is applied whole or not at all, and [`Commit::Done`] follows durability.
/// - Commits of one tenant are seen by every later read.
/// - Submitting a batch twice equals submitting it once, as long as the keys in it stand. A key with a lifetime is
///   free for an item whose time is as late as its end or later.
/// - After a failed write no batch is acknowledged until the store has been reopened; reads go on.
/// - Reads see only what their scope sees; a stranger's row is absent, never forbidden.
/// - Chained digests are checked on every journal read.
///
/// Listings are newest first for sessions, runs, deliveries and approvals, by id for tenants, tokens and agents.
pub trait Store: Send + Sync + fmt::Debug {
    /// Writes a batch. The work goes on if the future is dropped.
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Commit>;

    /// Lists tenants.
    fn tenants<'a>(&'a self, operator: &'a Operator, page: Page<TenantId>) -> Read<'a, Vec<Tenant>>;

    /// Finds a tenant by its handle.
    fn tenant_by_handle<'a>(&'a self, operator: &'a Operator, handle: &'a Handle)
    -> Read<'a, Option<Tenant>>;

    /// Finds whose credential a token is, by BLAKE3 of the token. One that expired or was revoked is found too: the
    /// store has no clock, so whoever asks judges by what the record says.
    fn token<'a>(&'a self, operator: &'a Operator, hash: Digest) -> Read<'a, Option<TokenOwner>>;

    /// Lists runs that have not ended, in the order of tenant and run.
    fn open_runs<'a>(
        &'a self,
        operator: &'a Operator,
        page: Page<(TenantId, RunId)>,
    ) -> Read<'a, Vec<OpenRun>>;

    /// Lists parked runs that are woken by time, the earliest first.
    fn parked_runs<'a>(&'a self, operator: &'a Operator, limit: usize) -> Read<'a, Vec<OpenRun>>;

    /// Lists sessions of running agents with waiting items and no active turn, in the order of tenant and session.
    fn pending_sessions<'a>(
        &'a self,
        operator: &'a Operator,
        page: Page<(TenantId, SessionId)>,
    ) -> Read<'a, Vec<PendingSession>>;

    /// Lists agents of every tenant that are being erased.
    fn deleting_agents<'a>(&'a self, operator: &'a Operator) -> Read<'a, Vec<(TenantId, AgentId)>>;

    /// Lists the tenant's tokens, optionally only those of one name. A scope that is narrowed to an agent sees none.
    fn tokens<'a>(
        &'a self,
        scope: &'a Scope,
        name: Option<&'a str>,
        page: Page<TokenId>,
    ) -> Read<'a, Vec<Token>>;

    /// Finds a token by its id.
    fn token_by_id<'a>(&'a self, scope: &'a Scope, token: TokenId) -> Read<'a, Option<Token>>;

    /// Lists the tenant's budgets by name, with how they stand in the period that the time lies in. A scope that is
    /// narrowed to an agent sees none.
    fn budgets<'a>(&'a self, scope: &'a Scope, at: Timestamp) -> Read<'a, Vec<BudgetUse>>;

    /// Finds an approval.
    fn approval<'a>(&'a self, scope: &'a Scope, approval: ApprovalId) -> Read<'a, Option<Approval>>;

    /// Lists approvals.
    fn approvals<'a>(
        &'a self,
        scope: &'a Scope,
        filter: ApprovalFilter,
        page: Page<ApprovalId>,
    ) -> Read<'a, Vec<Approval>>;

    /// Lists approvals of every tenant that are open at a time and have a time to cool, the one that is allowed next
    /// first. None of an agent that is being erased.
    fn cooling_approvals<'a>(
        &'a self,
        operator: &'a Operator,
        open_at: Timestamp,
        limit: usize,
    ) -> Read<'a, Vec<CoolingApproval>>;

    /// Lists the tenant's rules of approvals by name, those that have ended included. A scope that is narrowed to an agent
    /// sees none.
    fn approval_rules<'a>(&'a self, scope: &'a Scope) -> Read<'a, Vec<ApprovalRule>>;

    /// Lists agents, optionally only those in one state.
    fn agents<'a>(
        &'a self,
        scope: &'a Scope,
        state: Option<AgentState>,
        page: Page<AgentId>,
    ) -> Read<'a, Vec<Agent>>;

    /// Finds an agent. One that is being erased is not found.
    fn agent<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, Option<Agent>>;

    /// Finds an agent by its handle.
    fn agent_by_handle<'a>(&'a self, scope: &'a Scope, handle: &'a Handle) -> Read<'a, Option<Agent>>;

    /// Reads a configuration of an agent.
    fn revision<'a>(&'a self, scope: &'a Scope, agent: AgentId, digest: Digest)
    -> Read<'a, Option<Revision>>;

    /// Finds a session.
    fn session<'a>(&'a self, scope: &'a Scope, session: SessionId) -> Read<'a, Option<Session>>;

    /// Finds a session by its key.
    fn session_by_key<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        key: &'a SessionKey,
    ) -> Read<'a, Option<Session>>;

    /// Lists sessions, optionally of one agent.
    fn sessions<'a>(
        &'a self,
        scope: &'a Scope,
        agent: Option<AgentId>,
        page: Page<SessionId>,
    ) -> Read<'a, Vec<Session>>;

    /// Reads the newest part of a session, as one snapshot.
    fn session_tail<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        limits: TailLimits,
    ) -> Read<'a, Option<SessionTail>>;

    /// Finds a run.
    fn run<'a>(&'a self, scope: &'a Scope, run: RunId) -> Read<'a, Option<Run>>;

    /// Lists runs.
    fn runs<'a>(&'a self, scope: &'a Scope, filter: RunFilter, page: Page<RunId>) -> Read<'a, Vec<Run>>;

    /// Lists runs with what they spent on each model. Only the small facts of the entries are read: no body is
    /// fetched and no chain is checked, so this is for sums that people look at and never for deciding.
    fn run_spending<'a>(
        &'a self,
        scope: &'a Scope,
        filter: RunFilter,
        page: Page<RunId>,
    ) -> Read<'a, Vec<RunSpending>>;

    /// Reads the journal of a run after an entry; empty for a run that is not found.
    fn journal<'a>(
        &'a self,
        scope: &'a Scope,
        run: RunId,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<StoredEntry>>;

    /// Reads an inbox after a position.
    fn inbox<'a>(
        &'a self,
        scope: &'a Scope,
        owner: InboxOwner,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<InboxItem>>;

    /// Finds the item that a caller's key stands for at a time, as a batch of that time would meet it. A scope that is
    /// narrowed to an agent finds none.
    fn keyed<'a>(&'a self, scope: &'a Scope, key: &'a str, at: Timestamp) -> Read<'a, Option<KeyedItem>>;

    /// Reads a text that journals name by digest.
    fn pin<'a>(&'a self, scope: &'a Scope, digest: Digest) -> Read<'a, Option<Bytes>>;

    /// Lists the custom state of a session, by name.
    fn state<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        page: Page<&'a str>,
    ) -> Read<'a, Vec<StateEntry>>;

    /// Reads one custom state entry of a session.
    fn state_entry<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        name: &'a str,
    ) -> Read<'a, Option<StateEntry>>;

    /// Finds a delivery with its message and its newest attempts.
    fn delivery<'a>(&'a self, scope: &'a Scope, delivery: DeliveryId) -> Read<'a, Option<DeliveryRecord>>;

    /// Lists deliveries.
    fn deliveries<'a>(
        &'a self,
        scope: &'a Scope,
        filter: DeliveryFilter,
        page: Page<DeliveryId>,
    ) -> Read<'a, Vec<Delivery>>;

    /// Lists the first open delivery of each target, in the order of tenant and target.
    fn outbox<'a>(
        &'a self,
        operator: &'a Operator,
        page: Page<(TenantId, String)>,
    ) -> Read<'a, Vec<OpenDelivery>>;

    /// Counts the open deliveries of a target.
    fn outbox_waiting<'a>(
        &'a self,
        operator: &'a Operator,
        tenant: TenantId,
        target: &'a str,
    ) -> Read<'a, u64>;

    /// Lists deliveries without a number in their feed: those of a target in their order, a tenant's together.
    fn unnumbered<'a>(
        &'a self,
        operator: &'a Operator,
        limit: usize,
    ) -> Read<'a, Vec<(TenantId, DeliveryId)>>;

    /// Reads the tenant's feed after a number. A page ends early with the message that passes 1 MiB.
    fn feed<'a>(&'a self, scope: &'a Scope, after: u64, limit: usize) -> Read<'a, Vec<FeedItem>>;

    /// Tells how far the tenant's feed has come and who reads it. A scope that is narrowed to an agent sees no
    /// subscriber.
    fn feed_state<'a>(&'a self, scope: &'a Scope) -> Read<'a, FeedState>;

    /// Reads the tenant's key of secrets, as it was sealed.
    fn vault_key<'a>(&'a self, scope: &'a Scope) -> Read<'a, Option<Bytes>>;

    /// Lists the tenant's secrets by name, also under a scope that is narrowed to an agent: its grants say which of them
    /// it may use.
    fn secrets<'a>(&'a self, scope: &'a Scope, page: Page<&'a str>) -> Read<'a, Vec<SealedSecret>>;

    /// Finds a secret by its name.
    fn secret<'a>(&'a self, scope: &'a Scope, name: &'a str) -> Read<'a, Option<SealedSecret>>;

    /// Lists capabilities by id. A scope that is narrowed to an agent sees those that it holds.
    fn capabilities<'a>(&'a self, scope: &'a Scope, page: Page<CapabilityId>) -> Read<'a, Vec<Capability>>;

    /// Tells what is known of a file of an agent's workspace; of nothing, where the agent is not found.
    fn file_label<'a>(&'a self, scope: &'a Scope, agent: AgentId, path: &'a str) -> Read<'a, KnownFile>;

    /// Lists the files of an agent's workspace of which something is known, by path.
    fn file_labels<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        page: Page<&'a str>,
    ) -> Read<'a, Vec<(String, FileLabel)>>;

    /// Erases at most one page of an agent that is being deleted. Returns what the page erased, and whether it
    /// was the last; after the last, the agent's row is gone too. Safe to repeat after any crash.
    fn erase_agent_page<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, (Erased, bool)>;

    /// Tells whether the store takes writes.
    fn health(&self) -> StoreHealth;

    /// Tells what the writer did.
    fn stats(&self) -> StoreStats;
}

/// The future of a read.
pub type Read<'a, T> = BoxFuture<'a, Result<T, ReadError>>;
