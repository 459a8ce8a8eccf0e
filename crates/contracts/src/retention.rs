//! Sessions that are erased one by one: what keeps one, what a hold is, and the seal that stays of one.
//!
//! Nothing here erases or decides when; a store checks what keeps a session, and the engine knows how long sessions stay.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cost::CostTotals;
use crate::digest::Digest;
use crate::id::{AgentId, SessionId};
use crate::scope::Actor;

/// The most sessions of a tree, the first one included, that one commit erases. Children beyond it are left without their
/// parent, and are erased as sessions of their own.
pub const TREE_ERASED_MAX: usize = 48;

/// The most sessions of a tree that are looked at for what keeps it.
pub const TREE_CHECKED_MAX: usize = 1024;

/// The shortest time that sessions may be kept: sums of what was spent look back so far at most.
pub const KEEP_MIN: SignedDuration = SignedDuration::from_hours(24);

/// Why a session may not be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionObstacle {
    /// Its parent is there, and it goes with it.
    Parent,
    /// It is on hold.
    Hold,
    /// A run of it has not ended.
    OpenRun,
    /// An item of its inbox waits for a turn.
    WaitingItem,
    /// An import fills it.
    Import,
    /// A branch, a worker or a task of it has not ended.
    OpenChild,
    /// A call of it waits for approval.
    OpenApproval,
    /// A message of it is on its way out.
    OpenDelivery,
    /// Something happened in it since the time before which it should rest.
    Recent,
}

impl SessionObstacle {
    /// Says it in words, of the session.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Parent => "belongs to a session that is there, and is deleted with it",
            Self::Hold => "is on hold",
            Self::OpenRun => "has a run that has not ended",
            Self::WaitingItem => "has a message that waits for a turn",
            Self::Import => "is being imported",
            Self::OpenChild => "has a branch, worker or task that has not ended",
            Self::OpenApproval => "has a call that waits for approval",
            Self::OpenDelivery => "has a message that is not delivered yet",
            Self::Recent => "was used since",
        }
    }
}

/// A hold: as long as it lasts, the session is not erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionHold {
    /// Who set it.
    pub by: Actor,
    /// When.
    pub since: Timestamp,
}

/// What stays of a session that is erased. It contains nothing that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSeal {
    /// Runs.
    pub runs: u64,
    /// Entries of their journals.
    pub entries: u64,
    /// Items of its inbox.
    pub items: u64,
    /// What its runs spent.
    #[serde(flatten)]
    pub spent: CostTotals,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When something happened in it last.
    pub last_at: Timestamp,
    /// BLAKE3 over each run in the order of ids: its id, the number of its last entry and the first 20 bytes of its chain up
    /// to there, as the seals of the audit name them.
    pub heads: Digest,
}

/// A session that may be erased, with what would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleSession {
    /// The session.
    pub session: SessionId,
    /// Its agent.
    pub agent: AgentId,
    /// Sessions that go with it: its branches, workers and tasks, and theirs.
    pub children: u64,
    /// Runs of it and of those.
    pub runs: u64,
    /// Bytes of their journals and inboxes in the database, about.
    pub bytes: u64,
    /// When something happened in it last.
    pub last_at: Timestamp,
}

/// Sessions that may be erased, among so many that were looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdlePage {
    /// Those that may be erased, in the order of their ids.
    pub due: Vec<IdleSession>,
    /// The last session that was looked at, if there may be more behind it.
    pub next: Option<SessionId>,
}

/// How long the sessions of a tenant stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionPolicy {
    /// How long a session stays after the last thing that happened in it; for ever where it is absent.
    pub sessions: Option<SignedDuration>,
}

impl RetentionPolicy {
    /// Returns the time before which a session must have rested since, to be erased now.
    pub fn idle_before(&self, now: Timestamp) -> Option<Timestamp> {
        now.checked_sub(self.sessions?).ok()
    }
}
