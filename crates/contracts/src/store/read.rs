//! The port itself: one way to write, and reads that each take the scope, or the right of an operator, that they see with.
//!
//! It promises and does nothing. What a read gives lies in `row`, what is written in `batch`.

use std::fmt;
use std::time::Duration;

use super::answer::CommitOutcome;
use super::batch::WriteBatch;
use super::row::{StoreHealth, StoreStats};
use crate::agent::ErasureCounts;
use crate::id::{AgentId, SessionId};
use crate::lease::NodeLife;
use crate::scope::{OperatorScope, Scope};
use crate::{BoxFuture, replay_store_reads};

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

/// Declares each read without a body.
macro_rules! declare_reads {
    ($($(#[$text:meta])*
    fn $name:ident($scope:ident: $reach:ident $(, $argument:ident: $kind:ty)*) -> $output:ty;)+) => {
        $($(#[$text])*
        fn $name<'a>(&'a self, $scope: &'a crate::$reach $(, $argument: $kind)*) -> Read<'a, $output>;)+
    };
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
/// - What a commit erased is absent from every read from then on, also as long as rows of it are left.
/// - What a life holds whose lease lasts is given to no other life; a store may forget leases only when every process that
///   held one is gone.
/// - Chained digests are checked on every journal read.
///
/// Listings are newest first for sessions, runs, deliveries and approvals, by id for tenants, tokens and agents.
pub trait Store: Send + Sync + fmt::Debug {
    /// Writes a batch. The work goes on if the future is dropped.
    fn commit(&self, batch: WriteBatch) -> BoxFuture<'static, CommitOutcome>;

    replay_store_reads! { declare_reads }

    /// Erases at most one page of an agent that is being deleted. Returns what the page erased, and whether it
    /// was the last; after the last, the agent's row is gone too. Safe to repeat after any crash.
    fn erase_agent_page<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, (ErasureCounts, bool)>;

    /// Erases at most one page of a session that a commit erased. Returns what the page erased, and whether it was the last.
    /// Safe to repeat after any crash.
    fn erase_session_page<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
    ) -> Read<'a, (ErasureCounts, bool)>;

    /// Begins a life of a node: its lease lasts so long by the steady clock of the store, and the lease of the node's life
    /// before it ends in the same step. A life that has begun already is renewed.
    fn begin_life<'a>(
        &'a self,
        operator: &'a OperatorScope,
        life: &'a NodeLife,
        lasts: Duration,
    ) -> Read<'a, ()>;

    /// Renews the lease of a life, also of one whose lease ran out. Returns `false`, and changes nothing, where another life
    /// of the node began since.
    fn renew_life<'a>(
        &'a self,
        operator: &'a OperatorScope,
        life: &'a NodeLife,
        lasts: Duration,
    ) -> Read<'a, bool>;

    /// Lists the lives whose lease lasts, by node.
    fn living_lives<'a>(&'a self, operator: &'a OperatorScope) -> Read<'a, Vec<NodeLife>>;

    /// Returns whether the store takes writes, and what of it is known to be damaged.
    fn store_health(&self) -> StoreHealth;

    /// Returns what the writer did.
    fn store_stats(&self) -> StoreStats;
}

/// The future of a read.
pub type Read<'a, T> = BoxFuture<'a, Result<T, ReadError>>;
