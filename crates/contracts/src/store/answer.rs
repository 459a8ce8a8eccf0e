//! What comes back of a commit: done, refused or unknown.
//!
//! A refusal names which precondition did not hold and what was found instead, for the caller to go on from; what failed
//! inside the store is a cause for the log, never a code to match on.

use std::time::Duration;

use crate::agent::{AgentState, HandleSlug};
use crate::approval::ApprovalState;
use crate::budget::BudgetExhaustion;
use crate::delivery::DeliveryState;
use crate::digest::Digest;
use crate::id::{DeliveryId, ItemId, SessionId};
use crate::retention::SessionObstacle;
use crate::run::RunKind;
use crate::session::InboxOwner;

/// The answer to a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The batch is durable.
    Done(CommitReceipt),
    /// The batch left no row.
    Refused(CommitRefusal),
    /// The outcome is unknown. What is in memory must be dropped and read again.
    Unknown {
        /// What failed, for the log.
        cause: String,
    },
}

/// What a durable batch gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitReceipt {
    /// The positions of the items put, in the order of the mutations.
    pub positions: Vec<u64>,
    /// Whether the claim was granted; `true` also when there was none.
    pub claimed: bool,
    /// Whether the session that this batch freed, by a terminal head, has items waiting for the next turn.
    pub waiting: bool,
    /// The position of the last signal in the inbox of [`WriteBatch::owned_run`](super::WriteBatch::owned_run): its owner
    /// compares it with what it took, so it depends on no notification. 0 where there is no signal or no such run.
    pub signals_last: u64,
}

/// Which precondition did not hold, and what was found instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitRefusal {
    /// The batch is too large or contradicts itself.
    #[error("the batch is malformed: {0}")]
    Malformed(String),
    /// A row of the batch belongs to another tenant, or does not exist.
    #[error("{0} does not exist in this tenant")]
    NotFound(String),
    /// The tenant's or agent's handle is taken.
    #[error("the handle {0} already exists")]
    HandleTaken(HandleSlug),
    /// The tenant is not suspended, so it is not erased.
    #[error("the tenant is not suspended")]
    TenantActive,
    /// The agent is in a state that does not allow this.
    #[error("the agent is {}", found.as_str())]
    AgentState {
        /// The state it is in.
        found: AgentState,
    },
    /// The agent has another revision than the caller thought.
    #[error("the agent is at revision {found}")]
    AgentRevision {
        /// The number of its current one.
        found: u64,
    },
    /// The key made a revision of the agent that another request asked for.
    #[error("the key was used for revision {number}")]
    RevisionKey {
        /// The number of that revision.
        number: u64,
    },
    /// Another request claimed the key of a change.
    #[error("the key was used for another change")]
    AnswerClaimed,
    /// The key finds a session already.
    #[error("the key belongs to {session}")]
    SessionExists {
        /// That session.
        session: SessionId,
    },
    /// Something keeps the session, so neither it nor what it belongs to is erased.
    #[error("{session} {}", obstacle.text())]
    SessionKept {
        /// The session that is kept.
        session: SessionId,
        /// What keeps it.
        obstacle: SessionObstacle,
    },
    /// An item with the key is there already.
    #[error("the key was used for {item}")]
    KeyTaken {
        /// That item.
        item: ItemId,
        /// Whose inbox it is in.
        owner: InboxOwner,
        /// Its position.
        position: u64,
        /// The digest of the request that used the key.
        request: Digest,
    },
    /// Another owner holds the run.
    #[error("the run is at epoch {found}")]
    EpochStale {
        /// The run's epoch.
        found: u64,
    },
    /// The journal is not where the caller thought.
    #[error("the journal is at entry {found}")]
    SequenceMoved {
        /// The number of its last entry.
        found: u64,
    },
    /// Another living process holds the run or the attempt.
    #[error("another process holds it, and its lease lasts {} ms more", left.as_millis())]
    LeaseLasts {
        /// For how long at least.
        left: Duration,
    },
    /// The run has ended.
    #[error("the run has ended")]
    RunTerminal,
    /// The delivery is not where the caller thought.
    #[error("the delivery is {} after {attempts} attempts and {redrives} redrives", found.as_str())]
    DeliveryMoved {
        /// Its state.
        found: DeliveryState,
        /// Attempts that began.
        attempts: u32,
        /// How often it was redriven.
        redrives: u32,
    },
    /// An earlier message of the target is still open.
    #[error("{by} goes first")]
    DeliveryBlocked {
        /// The first open one.
        by: DeliveryId,
    },
    /// The feed is not where the caller thought.
    #[error("the feed is at {found}")]
    FeedMoved {
        /// The last number that was given.
        found: u64,
    },
    /// A budget has too little left for what the batch begins.
    #[error("{}", .0.text())]
    BudgetExhausted(BudgetExhaustion),
    /// The approval is not where the caller, or the entry that names it, thought.
    #[error("the approval is {found}")]
    ApprovalMoved {
        /// Its state.
        found: ApprovalState,
    },
    /// As many approvals of the tenant are open as may be.
    #[error("this tenant already has {most} open approvals, which is the most; answer some of them first")]
    ApprovalsFull {
        /// How many may be.
        most: usize,
    },
    /// As many children of the agent's runs are open as may be.
    #[error("{most} children of this agent have not ended, which is the most; wait until some of them have")]
    ChildrenFull {
        /// How many may be.
        most: usize,
    },
    /// As many children of this kind conclude in the session as may be open.
    #[error("{most} runs of kind {} for this session have not ended, which is the most; wait for their messages", .kind.as_str())]
    SessionFull {
        /// Their kind.
        kind: RunKind,
        /// How many may be.
        most: usize,
    },
    /// Too many spawns lead to the child.
    #[error("this run is itself a child at depth {most}, and children go no deeper")]
    ChildTooDeep {
        /// The deepest that a child may be.
        most: u32,
    },
    /// The state entry changed.
    #[error("the state entry is at version {found}")]
    StateVersion {
        /// The version found, 0 for none.
        found: u64,
    },
    /// The secret changed.
    #[error("the secret is at version {found}")]
    SecretVersion {
        /// The version found, 0 for none.
        found: u32,
    },
    /// The tenant's share of the writer's queue is used up.
    #[error("the writer's queue is full for this tenant")]
    Overloaded,
    /// What the batch touches is damaged in the file. Sent again it is refused again; batches that touch other rows are not.
    #[error("the data that the write touches is damaged: {problem}")]
    Damaged {
        /// What does not fit, for the log.
        problem: String,
    },
    /// A write failed earlier, and the store has not been reopened since.
    #[error("the store only answers reads: {cause}")]
    ReadOnly {
        /// What failed.
        cause: String,
    },
}
