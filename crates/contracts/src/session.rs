//! Sessions and their inbox.
//!
//! A session is found by a key, which is an index and not its identity. What others send to it waits in its
//! inbox, in order, and is taken once.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{AgentId, ItemId, RunId, SessionId};
use crate::run_origin::RunOrigin;
use crate::scope::Actor;

/// The platform of sessions that came as files. What an import fills is found by its key, so no client opens a session under one.
pub const IMPORT: &str = "import";

/// Where a conversation takes place and with whom. With tenant and agent it finds the session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionKey {
    /// The platform, such as `cli`.
    pub platform: String,
    /// The place on the platform.
    pub channel: String,
    /// With whom.
    pub actor: Actor,
}

/// A session and its current state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Its agent.
    pub agent: AgentId,
    /// The key by which it is found.
    pub key: SessionKey,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// How far its inbox has come.
    pub head: SessionHead,
    /// Which call of another run it was opened for, if one did.
    pub origin: Option<Box<RunOrigin>>,
}

/// How far a session's inbox has come; rebuilt from the inbox and the journals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionHead {
    /// The position of the last item; 0 when there is none.
    pub last: u64,
    /// The position of the last item that a run took; everything up to it is taken.
    pub taken: u64,
    /// The turn that holds the session.
    pub active: Option<RunId>,
}

/// Whose inbox it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InboxOwner {
    /// A session's: inputs.
    Session(SessionId),
    /// A run's: signals.
    Run(RunId),
}

impl InboxOwner {
    /// Returns the 16 bytes that are stored; session and run ids never coincide.
    pub fn as_bytes(&self) -> &[u8; 16] {
        match self {
            Self::Session(id) => id.as_bytes(),
            Self::Run(id) => id.as_bytes(),
        }
    }

    /// Returns whether the inbox of this owner takes items of a kind.
    pub fn takes_kind(&self, kind: ItemKind) -> bool {
        match (self, kind) {
            (
                Self::Session(_),
                ItemKind::Input | ItemKind::Resume | ItemKind::Approved | ItemKind::Conclusion,
            )
            | (
                Self::Run(_),
                ItemKind::Cancel
                | ItemKind::Terminate
                | ItemKind::Release
                | ItemKind::Approve
                | ItemKind::Deny,
            ) => true,
            (
                Self::Session(_),
                ItemKind::Cancel
                | ItemKind::Terminate
                | ItemKind::Release
                | ItemKind::Approve
                | ItemKind::Deny,
            )
            | (
                Self::Run(_),
                ItemKind::Input | ItemKind::Resume | ItemKind::Approved | ItemKind::Conclusion,
            ) => false,
        }
    }
}

/// What an inbox item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// An input for a session; the body is an `InputBody`.
    Input,
    /// For a session: go on where a yielded run stopped; the body names the run.
    Resume,
    /// For a run: end at the next unit border.
    Cancel,
    /// For a run: end now.
    Terminate,
    /// For a held run: try again.
    Release,
    /// For a run that waits for an approval: the call may begin.
    Approve,
    /// For a run that waits for an approval: the call is refused; the body may say why.
    Deny,
    /// For a session: a call that was approved and is to run by itself; the body is an
    /// [`ApprovedBody`](crate::approval::ApprovedBody).
    Approved,
    /// For a session: what a branch or a worker came to; the body is a
    /// [`ConclusionBody`](crate::conclusion::ConclusionBody).
    Conclusion,
}

impl ItemKind {
    /// Returns the kind as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
            Self::Release => "release",
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Approved => "approved",
            Self::Conclusion => "conclusion",
        }
    }
}

/// An inbox item and its current state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxItem {
    /// Its id.
    pub id: ItemId,
    /// Its place in the inbox, counted from 1 without gap.
    pub position: u64,
    /// When it was stored.
    pub at: Timestamp,
    /// What it is.
    pub kind: ItemKind,
    /// Who sent it.
    pub author: Actor,
    /// The body; erased with the session's content, the item stays.
    pub body: Option<Bytes>,
    /// The run that took it.
    pub taken_by: Option<RunId>,
}

/// The body of a [`ItemKind::Resume`] item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeBody {
    /// The yielded run to go on from.
    pub run: RunId,
}
