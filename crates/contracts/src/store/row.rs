//! What a read is asked for and what it gives: pages, filters, and rows that are no noun of their own.
//!
//! A row is a copy. Changing it changes nothing; what is written goes in a batch.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::agent::TenantRecord;
use crate::cost::CostTotals;
use crate::delivery::DeliveryState;
use crate::digest::Digest;
use crate::entry::{DecodeError, Entry};
use crate::id::{AgentId, ApprovalId, ItemId, RunId, SessionId, TenantId};
use crate::run::{RunRecord, RunStatus};
use crate::session::{InboxItem, InboxOwner, SessionRecord};
use crate::token::TokenRecord;

/// A page of a listing: what comes after a place, at most so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest<Id> {
    /// The last id of the page before.
    pub after: Option<Id>,
    /// The most rows; a store gives at most [`PageRequest::LIMIT_MAX`].
    pub limit: usize,
}

impl<Id> PageRequest<Id> {
    /// The most rows of any page.
    pub const LIMIT_MAX: usize = 256;

    /// Asks for the first page.
    pub const fn first_page(limit: usize) -> Self {
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
    /// Only runs with this status.
    pub status: Option<RunStatus>,
}

/// Which deliveries to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryFilter {
    /// Only those in this state.
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

/// How much of a session's past to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailLimits {
    /// The position behind which it begins: of older items there is nothing to read.
    pub after: u64,
    /// The most inbox items.
    pub items: usize,
    /// The most bytes of item and entry bodies; the newest whole items that fit.
    pub bytes: usize,
    /// The position of the last item of the tail, where it does not end with the newest: what came later is left out, and so
    /// is what waits.
    pub until: Option<u64>,
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

/// The newest part of a session: items in order, and the journals of the runs that took them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTail {
    /// The session.
    pub session: SessionRecord,
    /// The newest taken items within the limits, cut so that no run is torn, and after them the first
    /// [`PageRequest::LIMIT_MAX`] items that wait.
    pub items: Vec<InboxItem>,
    /// The journals of the runs that took them, in order.
    pub runs: Vec<(RunId, Arc<[StoredEntry]>)>,
}

/// A run that has not ended, as recovery meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// Its tenant.
    pub tenant: TenantId,
    /// The run.
    pub run: RunRecord,
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

/// A request for approval that the engine allows by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoolingApproval {
    /// The tenant.
    pub tenant: TenantId,
    /// The approval.
    pub approval: ApprovalId,
    /// From when on it is allowed, if it is not answered.
    pub until: Timestamp,
}

/// What one run spent on each model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSpending {
    /// The run's row.
    pub run: RunRecord,
    /// What its attempts spent, by the alias of the model that was asked, sorted by alias. An open attempt counts as a call.
    pub models: Vec<(String, CostTotals)>,
}

/// The most open runs, the newest, among which those that work are looked for.
pub const WORKING_LOOKS_MAX: usize = 4096;

/// What many runs spent together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpendingSum {
    /// How many runs are summed up.
    pub runs: u64,
    /// What they spent.
    pub spent: CostTotals,
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

/// The item that a caller's key refers to.
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

/// A token, and whose credential it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenOwner {
    /// The tenant.
    pub tenant: TenantRecord,
    /// The token; it may be expired or revoked.
    pub token: TokenRecord,
}

/// Whether the store takes writes, and how much it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHealth {
    /// Why it answers reads only; `None` when it takes writes.
    pub read_only: Option<String>,
    /// What of it is damaged; `None` while no read and no write met damage since it was opened.
    pub damaged: Option<StoreDamage>,
    /// Bytes in the write-ahead log.
    pub wal_bytes: u64,
    /// Bytes in the main file.
    pub file_bytes: u64,
}

/// The damage that reads and writes of a store met. Nothing is known of what none of them came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreDamage {
    /// What the first of them met: the place, and what is wrong with it.
    pub problem: String,
    /// How long ago that was.
    pub ago: Duration,
    /// How many of them met any.
    pub met: u64,
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
