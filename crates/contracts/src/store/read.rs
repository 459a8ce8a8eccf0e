//! The port itself: one way to write, and reads that each take the scope, or the right of an operator, that they see with.
//!
//! It promises and does nothing. What a read gives lies in `row`, what is written in `batch`.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

use super::answer::CommitOutcome;
use super::batch::WriteBatch;
use super::row::{
    ApprovalFilter, CoolingApproval, DeliveryFilter, KeyedItem, OpenRun, PageRequest, PendingSession,
    RunFilter, RunSpending, SessionTail, StateEntry, StoreHealth, StoreStats, StoredEntry, TailLimits,
    TokenOwner,
};
use crate::BoxFuture;
use crate::agent::{AgentRecord, AgentRevision, AgentState, ErasureCounts, HandleSlug, TenantRecord};
use crate::approval::{ApprovalRequest, ApprovalRuleRecord};
use crate::budget::BudgetUse;
use crate::capability::CapabilityRecord;
use crate::delivery::{DeliveryRecord, DeliverySummary, FeedItem, FeedState, OpenDelivery};
use crate::digest::Digest;
use crate::file::{FileLabel, KnownFile};
use crate::id::{AgentId, ApprovalId, CapabilityId, DeliveryId, RunId, SessionId, TenantId, TokenId};
use crate::run::RunRecord;
use crate::scope::{OperatorScope, Scope};
use crate::session::{InboxItem, InboxOwner, SessionKey, SessionRecord};
use crate::token::TokenRecord;
use crate::vault::SealedSecret;

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
/// - A batch is applied whole or not at all, and [`CommitOutcome::Done`] follows durability.
/// - Commits of one tenant are seen by every later read.
/// - Submitting a batch twice equals submitting it once, as long as the keys in it exist. A key with a lifetime is
///   free for an item whose time is as late as its end or later.
/// - After a failed write no batch is acknowledged until the store has been reopened; reads go on.
/// - Reads see only what their scope sees; a stranger's row is absent, never forbidden.
/// - What an import fills is absent from every read until the import ends, sessions and runs that look for work included.
/// - Chained digests are checked on every journal read.
///
/// Listings are newest first for sessions, runs, deliveries and approvals, by id for tenants, tokens and agents.
pub trait Store: Send + Sync + fmt::Debug {
    /// Writes a batch. The work goes on if the future is dropped.
    fn commit(&self, batch: WriteBatch) -> BoxFuture<'static, CommitOutcome>;

    /// Lists tenants.
    fn tenants<'a>(
        &'a self,
        operator: &'a OperatorScope,
        page: PageRequest<TenantId>,
    ) -> Read<'a, Vec<TenantRecord>>;

    /// Finds a tenant by its handle.
    fn tenant_by_handle<'a>(
        &'a self,
        operator: &'a OperatorScope,
        handle: &'a HandleSlug,
    ) -> Read<'a, Option<TenantRecord>>;

    /// Finds whose credential a token is, by BLAKE3 of the token. One that expired or was revoked is found too: the
    /// store has no clock, so the caller judges by what the record says.
    fn find_token_owner<'a>(
        &'a self,
        operator: &'a OperatorScope,
        hash: Digest,
    ) -> Read<'a, Option<TokenOwner>>;

    /// Lists runs that have not ended, in the order of tenant and run.
    fn open_runs<'a>(
        &'a self,
        operator: &'a OperatorScope,
        page: PageRequest<(TenantId, RunId)>,
    ) -> Read<'a, Vec<OpenRun>>;

    /// Lists parked runs that are woken by time, the earliest first, then in the order of tenant and run. None of an agent
    /// that is being erased.
    fn parked_runs<'a>(
        &'a self,
        operator: &'a OperatorScope,
        page: PageRequest<(Timestamp, TenantId, RunId)>,
    ) -> Read<'a, Vec<OpenRun>>;

    /// Lists sessions of running agents with waiting items and no active turn, in the order of tenant and session.
    fn pending_sessions<'a>(
        &'a self,
        operator: &'a OperatorScope,
        page: PageRequest<(TenantId, SessionId)>,
    ) -> Read<'a, Vec<PendingSession>>;

    /// Lists agents of every tenant that are being erased.
    fn deleting_agents<'a>(&'a self, operator: &'a OperatorScope) -> Read<'a, Vec<(TenantId, AgentId)>>;

    /// Lists the tenant's tokens, optionally only those of one name. A scope that is narrowed to an agent sees none.
    fn tokens<'a>(
        &'a self,
        scope: &'a Scope,
        name: Option<&'a str>,
        page: PageRequest<TokenId>,
    ) -> Read<'a, Vec<TokenRecord>>;

    /// Finds a token by its id.
    fn token_by_id<'a>(&'a self, scope: &'a Scope, token: TokenId) -> Read<'a, Option<TokenRecord>>;

    /// Lists the tenant's budgets by name, with what is used of them in the period that the time lies in. A scope that
    /// is narrowed to an agent sees none.
    fn budgets<'a>(&'a self, scope: &'a Scope, at: Timestamp) -> Read<'a, Vec<BudgetUse>>;

    /// Finds an approval.
    fn approval<'a>(&'a self, scope: &'a Scope, approval: ApprovalId) -> Read<'a, Option<ApprovalRequest>>;

    /// Lists approvals.
    fn approvals<'a>(
        &'a self,
        scope: &'a Scope,
        filter: ApprovalFilter,
        page: PageRequest<ApprovalId>,
    ) -> Read<'a, Vec<ApprovalRequest>>;

    /// Lists approvals of every tenant that are open at a time and have a time to cool. The tenants take turns: of each
    /// the one that is allowed next, these by their time, then of each the one after it, and so on. None of an agent
    /// that is being erased. The first `skip` are passed over: the caller knows how many it left where they are.
    fn cooling_approvals<'a>(
        &'a self,
        operator: &'a OperatorScope,
        open_at: Timestamp,
        skip: usize,
        limit: usize,
    ) -> Read<'a, Vec<CoolingApproval>>;

    /// Lists the tenant's rules of approvals by name, those that have ended included. A scope that is narrowed to an agent
    /// sees none.
    fn approval_rules<'a>(&'a self, scope: &'a Scope) -> Read<'a, Vec<ApprovalRuleRecord>>;

    /// Lists agents, optionally only those in one state.
    fn agents<'a>(
        &'a self,
        scope: &'a Scope,
        state: Option<AgentState>,
        page: PageRequest<AgentId>,
    ) -> Read<'a, Vec<AgentRecord>>;

    /// Finds an agent. One that is being erased is not found.
    fn agent<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, Option<AgentRecord>>;

    /// Finds an agent by its handle.
    fn agent_by_handle<'a>(
        &'a self,
        scope: &'a Scope,
        handle: &'a HandleSlug,
    ) -> Read<'a, Option<AgentRecord>>;

    /// Reads a configuration of an agent.
    fn agent_revision<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        digest: Digest,
    ) -> Read<'a, Option<AgentRevision>>;

    /// Finds a session.
    fn session<'a>(&'a self, scope: &'a Scope, session: SessionId) -> Read<'a, Option<SessionRecord>>;

    /// Finds a session by its key.
    fn session_by_key<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        key: &'a SessionKey,
    ) -> Read<'a, Option<SessionRecord>>;

    /// Lists sessions, optionally of one agent.
    fn sessions<'a>(
        &'a self,
        scope: &'a Scope,
        agent: Option<AgentId>,
        page: PageRequest<SessionId>,
    ) -> Read<'a, Vec<SessionRecord>>;

    /// Reads the newest part of a session, as one snapshot.
    fn session_tail<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        limits: TailLimits,
    ) -> Read<'a, Option<SessionTail>>;

    /// Finds a run.
    fn run<'a>(&'a self, scope: &'a Scope, run: RunId) -> Read<'a, Option<RunRecord>>;

    /// Lists runs.
    fn runs<'a>(
        &'a self,
        scope: &'a Scope,
        filter: RunFilter,
        page: PageRequest<RunId>,
    ) -> Read<'a, Vec<RunRecord>>;

    /// Lists runs with what they spent on each model. Only the small facts of the entries are read: no body is
    /// fetched and no chain is checked, so this is for sums that people look at and never for deciding.
    fn run_spending<'a>(
        &'a self,
        scope: &'a Scope,
        filter: RunFilter,
        page: PageRequest<RunId>,
    ) -> Read<'a, Vec<RunSpending>>;

    /// Reads the journal of a run after an entry; empty for a run that is not found.
    fn journal_entries<'a>(
        &'a self,
        scope: &'a Scope,
        run: RunId,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<StoredEntry>>;

    /// Reads an inbox after a position.
    fn inbox_items<'a>(
        &'a self,
        scope: &'a Scope,
        owner: InboxOwner,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<InboxItem>>;

    /// Finds the item that a caller's key refers to at a time, as a batch of that time would meet it. A scope that is
    /// narrowed to an agent finds none.
    fn find_keyed_item<'a>(
        &'a self,
        scope: &'a Scope,
        key: &'a str,
        at: Timestamp,
    ) -> Read<'a, Option<KeyedItem>>;

    /// Reads a text that journals name by digest.
    fn pinned_text<'a>(&'a self, scope: &'a Scope, digest: Digest) -> Read<'a, Option<Bytes>>;

    /// Lists the custom state of a session, by name.
    fn session_state<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        page: PageRequest<&'a str>,
    ) -> Read<'a, Vec<StateEntry>>;

    /// Reads one custom state entry of a session.
    fn state_entry<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        name: &'a str,
    ) -> Read<'a, Option<StateEntry>>;

    /// Finds a delivery with its message and its newest attempts.
    fn delivery_record<'a>(
        &'a self,
        scope: &'a Scope,
        delivery: DeliveryId,
    ) -> Read<'a, Option<DeliveryRecord>>;

    /// Lists deliveries.
    fn deliveries<'a>(
        &'a self,
        scope: &'a Scope,
        filter: DeliveryFilter,
        page: PageRequest<DeliveryId>,
    ) -> Read<'a, Vec<DeliverySummary>>;

    /// Lists the first open delivery of each target, in the order of tenant and target.
    fn open_deliveries<'a>(
        &'a self,
        operator: &'a OperatorScope,
        page: PageRequest<(TenantId, String)>,
    ) -> Read<'a, Vec<OpenDelivery>>;

    /// Counts the open deliveries of a target.
    fn outbox_waiting<'a>(
        &'a self,
        operator: &'a OperatorScope,
        tenant: TenantId,
        target: &'a str,
    ) -> Read<'a, u64>;

    /// Lists deliveries without a number in their feed: those of a target in their order, a tenant's together. Of tenants
    /// after one only, where one is named.
    fn unnumbered_deliveries<'a>(
        &'a self,
        operator: &'a OperatorScope,
        after: Option<TenantId>,
        limit: usize,
    ) -> Read<'a, Vec<(TenantId, DeliveryId)>>;

    /// Reads the tenant's feed after a number. A page ends early with the message that passes 1 MiB.
    fn feed_items<'a>(&'a self, scope: &'a Scope, after: u64, limit: usize) -> Read<'a, Vec<FeedItem>>;

    /// Returns how far the tenant's feed has come and who reads it. A scope that is narrowed to an agent sees no
    /// subscriber.
    fn feed_state<'a>(&'a self, scope: &'a Scope) -> Read<'a, FeedState>;

    /// Reads the tenant's key of secrets, as it was sealed.
    fn vault_key<'a>(&'a self, scope: &'a Scope) -> Read<'a, Option<Bytes>>;

    /// Lists the tenant's secrets by name, also under a scope that is narrowed to an agent: its grants say which of them
    /// it may use.
    fn secrets<'a>(&'a self, scope: &'a Scope, page: PageRequest<&'a str>) -> Read<'a, Vec<SealedSecret>>;

    /// Finds a secret by its name.
    fn secret<'a>(&'a self, scope: &'a Scope, name: &'a str) -> Read<'a, Option<SealedSecret>>;

    /// Lists capabilities by id. A scope that is narrowed to an agent sees those that it holds.
    fn capabilities<'a>(
        &'a self,
        scope: &'a Scope,
        page: PageRequest<CapabilityId>,
    ) -> Read<'a, Vec<CapabilityRecord>>;

    /// Returns what is known of a file of an agent's workspace; of nothing, where the agent is not found.
    fn file_label<'a>(&'a self, scope: &'a Scope, agent: AgentId, path: &'a str) -> Read<'a, KnownFile>;

    /// Lists the files of an agent's workspace of which something is known, by path.
    fn file_labels<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        page: PageRequest<&'a str>,
    ) -> Read<'a, Vec<(String, FileLabel)>>;

    /// Erases at most one page of an agent that is being deleted. Returns what the page erased, and whether it
    /// was the last; after the last, the agent's row is gone too. Safe to repeat after any crash.
    fn erase_agent_page<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, (ErasureCounts, bool)>;

    /// Returns whether the store takes writes, and what of it is known to be damaged.
    fn store_health(&self) -> StoreHealth;

    /// Returns what the writer did.
    fn store_stats(&self) -> StoreStats;
}

/// The future of a read.
pub type Read<'a, T> = BoxFuture<'a, Result<T, ReadError>>;
