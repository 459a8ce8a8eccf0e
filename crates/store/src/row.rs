//! Rows that both the writer and the readers know.

use rusqlite::Row;

use dromia_contracts::delivery::{AttemptEnd, DeliverySource, DeliverySummary};
use dromia_contracts::digest::Digest;
use dromia_contracts::id::{AgentId, DeliveryId, ItemId, RunId, SessionId};
use dromia_contracts::model::TokenUsage;
use dromia_contracts::run::{RunHead, RunRecord};

use crate::column_codes;

/// The columns of a run after its tenant, in the order of [`StoredRun::from_row`].
macro_rules! run_columns {
    () => {
        "run, agent, session, kind, status, wake_at, started_at, updated_at, last_seq, epoch, entry_epoch, \
         chain, model_calls, input_tokens, output_tokens, cost_micros, signals_last, unpriced, signals_taken, \
         holder"
    };
}
pub(crate) use run_columns;

/// A run's row.
#[derive(Debug)]
pub(crate) struct StoredRun {
    pub(crate) run: RunRecord,
    /// The digest of its last entry.
    pub(crate) chain: [u8; 32],
}

impl StoredRun {
    /// Reads `run_columns`, beginning at a column.
    pub(crate) fn from_row(row: &Row<'_>, from: usize) -> rusqlite::Result<Self> {
        let run = RunRecord {
            id: RunId::from_bytes(column_codes::read_bytes(row, from)?),
            agent: AgentId::from_bytes(column_codes::read_bytes(row, from + 1)?),
            session: SessionId::from_bytes(column_codes::read_bytes(row, from + 2)?),
            kind: column_codes::read_enum(row, from + 3)?,
            started_at: column_codes::read_time(row, from + 6)?,
            updated_at: column_codes::read_time(row, from + 7)?,
            last_seq: column_codes::read_counter(row, from + 8)?,
            epoch: column_codes::read_counter(row, from + 9)?,
            entry_epoch: column_codes::read_counter(row, from + 10)?,
            head: RunHead {
                status: column_codes::read_enum(row, from + 4)?,
                wake_at: column_codes::time_opt(row, from + 5)?,
                model_calls: row.get(from + 12)?,
                usage: TokenUsage { input_tokens: row.get(from + 13)?, output_tokens: row.get(from + 14)? },
                cost_micros: column_codes::read_counter(row, from + 15)?,
                unpriced_calls: row.get(from + 17)?,
            },
            signals_last: column_codes::read_counter(row, from + 16)?,
            signals_taken: column_codes::read_counter(row, from + 18)?,
            holder: column_codes::bytes_opt(row, from + 19)?.map(Digest::from_bytes),
        };
        Ok(Self { run, chain: column_codes::read_bytes(row, from + 11)? })
    }
}

/// The columns of a delivery after its tenant, in the order of [`read_delivery`].
macro_rules! delivery_columns {
    () => {
        "delivery, target, position, agent, session, run, seq, at, state, reason, attempts, redrives, spent, \
         since, due_at, holder, updated_at, feed"
    };
}
pub(crate) use delivery_columns;

/// Reads `delivery_columns`, beginning at a column.
pub(crate) fn read_delivery(row: &Row<'_>, from: usize) -> rusqlite::Result<DeliverySummary> {
    Ok(DeliverySummary {
        id: DeliveryId::from_bytes(column_codes::read_bytes(row, from)?),
        target: row.get(from + 1)?,
        position: column_codes::read_counter(row, from + 2)?,
        prepared_at: column_codes::read_time(row, from + 7)?,
        state: column_codes::read_enum(row, from + 8)?,
        reason: column_codes::coded_opt(row, from + 9)?,
        attempts: row.get(from + 10)?,
        redrives: row.get(from + 11)?,
        spent: row.get(from + 12)?,
        since: column_codes::read_time(row, from + 13)?,
        due_at: column_codes::read_time(row, from + 14)?,
        holder: column_codes::bytes_opt(row, from + 15)?.map(Digest::from_bytes),
        updated_at: column_codes::read_time(row, from + 16)?,
        feed: row.get::<_, Option<i64>>(from + 17)?.map(i64::cast_unsigned),
        source: DeliverySource {
            agent: AgentId::from_bytes(column_codes::read_bytes(row, from + 3)?),
            session: SessionId::from_bytes(column_codes::read_bytes(row, from + 4)?),
            run: RunId::from_bytes(column_codes::read_bytes(row, from + 5)?),
            seq: column_codes::read_counter(row, from + 6)?,
        },
    })
}

/// Reads `ended_at, outcome, status, detail, receiver_id` of an attempt, beginning at a column.
pub(crate) fn read_attempt_end(row: &Row<'_>, from: usize) -> rusqlite::Result<Option<AttemptEnd>> {
    let Some(at) = column_codes::time_opt(row, from)? else { return Ok(None) };
    Ok(Some(AttemptEnd {
        at,
        outcome: column_codes::read_enum(row, from + 1)?,
        status: row.get(from + 2)?,
        detail: row.get(from + 3)?,
        receiver_id: row.get(from + 4)?,
    }))
}

/// Eight bytes that distinguish a damaged message from a sound one; they cover what never changes.
pub(crate) fn delivery_seal(delivery: &DeliverySummary, body: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(delivery.id.as_bytes());
    hasher.update(&delivery.position.to_le_bytes());
    hasher.update(delivery.source.agent.as_bytes());
    hasher.update(delivery.source.session.as_bytes());
    hasher.update(delivery.source.run.as_bytes());
    hasher.update(&delivery.source.seq.to_le_bytes());
    hasher.update(&delivery.prepared_at.as_millisecond().to_le_bytes());
    hasher.update(&(delivery.target.len() as u64).to_le_bytes());
    hasher.update(delivery.target.as_bytes());
    hasher.update(body);
    let mut seal = [0; 8];
    hasher.finalize_xof().fill(&mut seal);
    seal
}

/// What the seal of an inbox item covers: all but who took it, which the taker's journal states too.
#[derive(Debug)]
pub(crate) struct ItemSeal<'a> {
    pub(crate) owner: &'a [u8; 16],
    pub(crate) position: u64,
    pub(crate) item: ItemId,
    pub(crate) at_ms: i64,
    pub(crate) kind: i64,
    pub(crate) author: &'a str,
    pub(crate) body_hash: &'a [u8; 32],
}

/// Eight bytes that distinguish a damaged item from a sound one. They guard against the disk, not an author.
pub(crate) fn item_seal(item: &ItemSeal<'_>) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(item.owner);
    hasher.update(&item.position.to_le_bytes());
    hasher.update(item.item.as_bytes());
    hasher.update(&item.at_ms.to_le_bytes());
    hasher.update(&item.kind.to_le_bytes());
    hasher.update(item.body_hash);
    hasher.update(item.author.as_bytes());
    let mut seal = [0; 8];
    hasher.finalize_xof().fill(&mut seal);
    seal
}
