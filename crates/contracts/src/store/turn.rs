//! What is written about turns: sessions, the items of inboxes, the journals of runs, and what they lean on.
//!
//! Who owns a run, and how far its journal and an inbox have come, is said by the writer and compared by the store;
//! nothing here reads or decides.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use crate::digest::Digest;
use crate::entry::Entry;
use crate::id::{AgentId, ItemId, RunId, SessionId, WriteId};
use crate::run::RunHead;
use crate::run_origin::RunOrigin;
use crate::scope::Actor;
use crate::session::{InboxOwner, ItemKind, SessionKey};

/// Opens a session. Refused with [`CommitRefusal::SessionExists`](super::CommitRefusal::SessionExists) when the key
/// finds one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOpen {
    /// Its id.
    pub session: SessionId,
    /// Its agent, which must be there and not be deleting.
    pub agent: AgentId,
    /// The key by which it is found.
    pub key: SessionKey,
    /// When.
    pub at: Timestamp,
    /// Whether what will be in it comes from a file whose labels are believed. No row says so; it is an act of the
    /// batch's requester.
    pub believes: bool,
    /// Whether an import fills it. Until [`Mutation::ImportEnd`](super::Mutation::ImportEnd) no read shows the session, nor
    /// anything that is in it, and only its key is taken.
    pub importing: bool,
    /// Which call of another run the session is opened for, if one did. Refused with
    /// [`CommitRefusal::ChildTooDeep`](super::CommitRefusal::ChildTooDeep) beyond [`DEPTH_MAX`](crate::task::DEPTH_MAX), and
    /// with [`CommitRefusal::ChildrenFull`](super::CommitRefusal::ChildrenFull) if [`OPEN_MAX`](crate::task::OPEN_MAX) children
    /// of the parent's agent have not ended. Those whose own agent has ended do not count.
    pub origin: Option<Box<RunOrigin>>,
}

/// The key of an inbox item, unique in its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemKey {
    /// The key, at most 512 bytes.
    pub key: String,
    /// BLAKE3 of the request, so that a key used for something else is noticed.
    pub request: Digest,
    /// For how long the key refers to its item.
    pub lifetime: KeyLifetime,
}

/// For how long a key refers to its item, counted from the item's own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyLifetime {
    /// As long as the item. For keys that the engine makes of something that happens once.
    Forever,
    /// 24 hours. For keys that clients choose: one that is used again later is a new key.
    Day,
}

/// Puts an item into an inbox; the store gives it the next position. A signal for a run that has ended is refused with
/// [`CommitRefusal::RunTerminal`](super::CommitRefusal::RunTerminal): no run would ever take it.
///
/// Without a key the item's own id is its key, and the store remembers it only if the item has to wait: an item
/// taken by the claim of its own batch is found again by that claim's entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxPut {
    /// Whose inbox; a session or run of the batch's tenant.
    pub owner: InboxOwner,
    /// Its id.
    pub item: ItemId,
    /// When.
    pub at: Timestamp,
    /// What it is.
    pub kind: ItemKind,
    /// Who sent it.
    pub author: Actor,
    /// The body.
    pub body: Bytes,
    /// The caller's key. A second item with the key is refused with
    /// [`CommitRefusal::KeyTaken`](super::CommitRefusal::KeyTaken).
    pub key: Option<ItemKey>,
}

impl InboxPut {
    /// Returns when the item's key is free again; `None` for a key that stays, or if there is none.
    pub fn key_expires_at(&self) -> Option<Timestamp> {
        match self.key.as_ref()?.lifetime {
            KeyLifetime::Forever => None,
            // A time at the very end of the calendar has no next day; its key stays.
            KeyLifetime::Day => self.at.checked_add(SignedDuration::from_hours(24)).ok(),
        }
    }
}

/// A text kept under its digest, such as a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPin {
    /// BLAKE3 of `bytes`.
    pub digest: Digest,
    /// The text.
    pub bytes: Bytes,
}

/// An entry on its way to the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub entry: Entry,
    /// What was said; it can be erased later without breaking the chain.
    pub body: Option<Bytes>,
}

/// Appends to a run's journal. Refused unless `epoch` and `after` are the run's, or the run has ended. A head that does not
/// say that the run is running gives the run up: it has no holder from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAppend {
    /// The run.
    pub run: RunId,
    /// The epoch in which the caller owns it.
    pub epoch: u64,
    /// The number of the last entry that the caller knows.
    pub after: u64,
    /// The entries, at least one.
    pub entries: Vec<NewEntry>,
    /// What the run's row says from now on.
    pub head: RunHead,
    /// The state to which the journal folds with these entries, where it is stored as a checkpoint. It takes the place of the
    /// run's older one. Refused with [`CommitRefusal::Malformed`](super::CommitRefusal::Malformed) beyond
    /// [`FoldedState::BYTES_MAX`].
    pub checkpoint: Option<FoldedState>,
}

/// The folded state of a run, as its engine writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedState {
    /// The version of the fold. An engine with another one folds the journal again from its first entry.
    pub version: u32,
    /// The state.
    pub bytes: Bytes,
}

impl FoldedState {
    /// The most bytes of a state.
    pub const BYTES_MAX: usize = 256 << 10;
}

/// The last checkpoint of a run. A store that keeps digests refuses to show one that does not match its own, which is that of
/// the state and of the journal up to the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCheckpoint {
    /// The number of the last entry that is folded into it.
    pub seq: u64,
    /// The state.
    pub folded: FoldedState,
}

/// Takes over a run: raises its epoch by one. Refused unless `from_epoch` is the run's, or the run has ended; and with
/// [`CommitRefusal::LeaseLasts`](super::CommitRefusal::LeaseLasts) while the lease of another holder lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTakeover {
    /// The run.
    pub run: RunId,
    /// The epoch that the caller found.
    pub from_epoch: u64,
    /// Who takes it over: the id of this process's life.
    pub holder: Digest,
    /// When.
    pub at: Timestamp,
}

/// Claims a session for a new turn and writes the turn's first entries.
///
/// Granted only while no turn is active, the session's inbox was taken exactly up to `after`, the agent is
/// running, and `take` names the next items in their order. A run that has ended in its own claim begins nothing, so
/// it is granted while the agent is paused, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnClaim {
    /// The session.
    pub session: SessionId,
    /// Its agent.
    pub agent: AgentId,
    /// The new run, which begins with epoch 1.
    pub run: RunId,
    /// Who works on it: the id of this process's life.
    pub holder: Digest,
    /// The position up to which the caller knows the inbox to be taken.
    pub after: u64,
    /// The items the run takes.
    pub take: Vec<ItemId>,
    /// The first entries; the first of them is `RunStarted`.
    pub entries: Vec<NewEntry>,
    /// What the run's row says.
    pub head: RunHead,
    /// An item for another session that says how the run ended, where it ends in its own claim. It is put only if the claim is
    /// granted, and the receipt names no position of it.
    pub notice: Option<Box<InboxPut>>,
}

/// Writes a custom state entry of a session, which has at most [`StatePut::ENTRIES_MAX`] of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatePut {
    /// The session.
    pub session: SessionId,
    /// The entry's name, at most 128 bytes.
    pub name: String,
    /// The version that must be there, 0 for none; `None` writes over whatever is there.
    pub expected: Option<u64>,
    /// The value.
    pub value: Bytes,
    /// When.
    pub at: Timestamp,
    /// Which write this is. By it alone a repetition is known: two writers may write the same at the same time.
    pub write: WriteId,
}

impl StatePut {
    /// The most custom state entries of a session.
    pub const ENTRIES_MAX: usize = 256;
    /// The longest name, in bytes.
    pub const NAME_BYTES_MAX: usize = 128;
    /// The longest value that people and files may write, in bytes.
    pub const VALUE_BYTES_MAX: usize = 256 << 10;
}
