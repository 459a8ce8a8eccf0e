//! The seals of a tenant: one chain over the heads of its journals and over what people changed.
//!
//! `chain = BLAKE3(chain before | tenant | number | at ms | kind | length | record)`, numbers big-endian, the length
//! in 32 bits; the chain begins with 32 zero bytes. A commit writes a seal for each tenant whose journals grew in it, or as many
//! as it takes to keep each of them within a page, and one for each change, in the transaction of the rows that they speak of:
//! so there is no entry without a seal and no seal without its entries.
//!
//! Nothing is looked up on the way of a turn: the heads of the chains are remembered, and forgotten whenever a
//! transaction fails.
//!
//! What a seal says of journals is written by `span`. Nothing is checked here: who reads the chain compares it.

mod span;

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::audit::{AuditAct, AuditChange, AuditMark};
use dromia_contracts::digest::Digest;
use dromia_contracts::id::TenantId;

use crate::column_codes::{self, stored_counter};

use self::span::SpanRecords;
pub(crate) use self::span::{JournalSpan, SpanOwner};

/// The chain before the first seal.
pub(crate) const ORIGIN: [u8; 32] = [0; 32];
/// A seal of heads of journals.
pub(crate) const SPANS: i64 = 0;
/// A seal of one act.
pub(crate) const ACT: i64 = 1;

/// How many acts are looked through for the configuration that was applied last.
const CONFIG_LOOKED_AT: i64 = 4_096;

/// What one batch adds to its tenant's chain.
#[derive(Debug)]
pub(crate) struct ChainGrowth {
    pub(crate) tenant: TenantId,
    /// Acts with their times, where they have one.
    pub(crate) acts: Vec<(Option<i64>, AuditAct)>,
    pub(crate) spans: Vec<JournalSpan>,
    /// The time of the newest entry, in milliseconds.
    pub(crate) at: Option<i64>,
}

/// Returns the chain after a seal.
pub(crate) fn next(
    previous: &[u8; 32],
    tenant: TenantId,
    number: u64,
    at: i64,
    kind: i64,
    record: &[u8],
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(tenant.as_bytes());
    hasher.update(&number.to_be_bytes());
    hasher.update(&at.to_be_bytes());
    hasher.update(&kind.to_be_bytes());
    // One transaction has at most 1,024 rows, so the length of a record fits.
    hasher.update(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_be_bytes());
    hasher.update(record);
    *hasher.finalize().as_bytes()
}

/// How far a chain goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChainHead {
    pub(crate) number: u64,
    at: i64,
    pub(crate) chain: [u8; 32],
}

/// Finds how far a chain goes in the table.
pub(crate) fn read_head(db: &Connection, tenant: TenantId) -> rusqlite::Result<ChainHead> {
    let found = db
        .prepare_cached("SELECT number, at, chain FROM audit WHERE tenant = ?1 ORDER BY number DESC LIMIT 1")?
        .query_row([tenant.as_bytes()], |row| {
            Ok(ChainHead {
                number: column_codes::read_counter(row, 0)?,
                at: row.get(1)?,
                chain: column_codes::read_bytes(row, 2)?,
            })
        })
        .optional()?;
    Ok(found.unwrap_or(ChainHead { number: 0, at: 0, chain: ORIGIN }))
}

/// Writes seals, and remembers how far the chains go. Emptied when it holds too many.
#[derive(Debug, Default)]
pub(crate) struct SealWriter(HashMap<TenantId, ChainHead>);

impl SealWriter {
    const MAX: usize = 4_096;

    /// Forgets all heads, because it is unknown which rows of a transaction were committed.
    pub(crate) fn forget_heads(&mut self) {
        self.0.clear();
    }

    /// Seals what the batches of a transaction added. Returns how many rows there are.
    pub(crate) fn write_seals(&mut self, db: &Connection, grown: Vec<ChainGrowth>) -> rusqlite::Result<u64> {
        let mut rows = 0;
        let mut heads: BTreeMap<TenantId, SpanRecords> = BTreeMap::new();
        for ChainGrowth { tenant, acts, spans, at } in grown {
            for (at, act) in acts {
                self.seal_act(db, tenant, at, &act)?;
                rows += 2;
            }
            if let Some(at) = at {
                let records = heads.entry(tenant).or_insert_with(|| SpanRecords::new(at));
                records.at = at.max(records.at);
                for span in &spans {
                    records.add_span(span);
                }
            }
        }
        for (tenant, records) in heads {
            let at = records.at;
            for record in records.into_records() {
                self.append_seal(db, tenant, Some(at), SPANS, &record)?;
                rows += 1;
            }
        }
        Ok(rows)
    }

    /// Seals one act, and notes that it is the last.
    fn seal_act(
        &mut self,
        db: &Connection,
        tenant: TenantId,
        at: Option<i64>,
        act: &AuditAct,
    ) -> rusqlite::Result<()> {
        // Strings, ids and digests only, so serialization has no failing case.
        let record = serde_json::to_vec(act).unwrap_or_default();
        let number = self.append_seal(db, tenant, at, ACT, &record)?;
        db.prepare_cached(
            "INSERT INTO audit_heads (tenant, number) VALUES (?1, ?2) \
             ON CONFLICT DO UPDATE SET number = excluded.number",
        )?
        .execute(params![tenant.as_bytes(), stored_counter(number)])?;
        Ok(())
    }

    fn append_seal(
        &mut self,
        db: &Connection,
        tenant: TenantId,
        at: Option<i64>,
        kind: i64,
        record: &[u8],
    ) -> rusqlite::Result<u64> {
        let before = match self.0.get(&tenant) {
            Some(head) => *head,
            None => read_head(db, tenant)?,
        };
        let number = before.number + 1;
        // An act without a time has that of the act before it.
        let at = at.unwrap_or(before.at);
        let chain = next(&before.chain, tenant, number, at, kind, record);
        db.prepare_cached(
            "INSERT INTO audit (tenant, number, at, kind, record, chain) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![tenant.as_bytes(), stored_counter(number), at, kind, record, chain])?;
        if self.0.len() >= Self::MAX {
            self.0.clear();
        }
        self.0.insert(tenant, ChainHead { number, at, chain });
        Ok(number)
    }

    /// Seals under which configuration a tenant is served, unless the last one was the same.
    pub(crate) fn seal_config(
        &mut self,
        db: &Connection,
        tenant: TenantId,
        config: Digest,
        at: i64,
    ) -> rusqlite::Result<()> {
        if last_config(db, tenant)? == Some(config) {
            return Ok(());
        }
        self.seal_noted_act(
            db,
            tenant,
            &AuditAct { by: None, change: AuditChange::ConfigApplied { config } },
            at,
        )
    }

    /// Seals an act that changes no row, unless the tenant is unknown or being erased.
    pub(crate) fn seal_noted_act(
        &mut self,
        db: &Connection,
        tenant: TenantId,
        act: &AuditAct,
        at: i64,
    ) -> rusqlite::Result<()> {
        let known = db
            .prepare_cached("SELECT 1 FROM tenants WHERE tenant = ?1 AND erased_at IS NULL")?
            .exists([tenant.as_bytes()])?;
        if known { self.seal_act(db, tenant, Some(at), act) } else { Ok(()) }
    }
}

fn last_config(db: &Connection, tenant: TenantId) -> rusqlite::Result<Option<Digest>> {
    let mut select = db.prepare_cached(
        "SELECT record FROM audit INDEXED BY audit_acts WHERE tenant = ?1 AND kind = 1 ORDER BY number DESC LIMIT ?2",
    )?;
    let mut found = select.query(params![tenant.as_bytes(), CONFIG_LOOKED_AT])?;
    while let Some(row) = found.next()? {
        let record: Vec<u8> = row.get(0)?;
        if let Ok(AuditAct { change: AuditChange::ConfigApplied { config }, .. }) =
            serde_json::from_slice(&record)
        {
            return Ok(Some(config));
        }
    }
    Ok(None)
}

/// Remembers a checkpoint. An older one changes nothing.
pub(crate) fn save_checkpoint(db: &Connection, mark: &AuditMark) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO audit_mark (one, number, digest) VALUES (1, ?1, ?2) \
         ON CONFLICT DO UPDATE SET number = excluded.number, digest = excluded.digest \
         WHERE excluded.number > audit_mark.number",
    )?
    .execute(params![stored_counter(mark.number), mark.digest.as_bytes()])?;
    Ok(())
}

/// Returns the checkpoint that is remembered.
pub(crate) fn read_checkpoint(db: &Connection) -> rusqlite::Result<Option<AuditMark>> {
    db.prepare_cached("SELECT number, digest FROM audit_mark WHERE one = 1")?
        .query_row([], |row| {
            Ok(AuditMark {
                number: column_codes::read_counter(row, 0)?,
                digest: column_codes::read_digest(row, 1)?,
            })
        })
        .optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes all tables.
    pub(super) fn tables() -> Connection {
        let db = Connection::open_in_memory().expect("opened");
        db.execute_batch(include_str!("schema/0001_first.sql")).expect("made");
        db
    }

    #[test]
    fn every_part_of_a_seal_changes_its_chain() {
        let (tenant, other) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        let base = next(&ORIGIN, tenant, 1, 5, SPANS, b"ab");
        let changed = [
            next(&base, tenant, 1, 5, SPANS, b"ab"),
            next(&ORIGIN, other, 1, 5, SPANS, b"ab"),
            next(&ORIGIN, tenant, 2, 5, SPANS, b"ab"),
            next(&ORIGIN, tenant, 1, 6, SPANS, b"ab"),
            next(&ORIGIN, tenant, 1, 5, ACT, b"ab"),
            next(&ORIGIN, tenant, 1, 5, SPANS, b"abc"),
        ];
        for (index, other) in changed.iter().enumerate() {
            assert_ne!(&base, other, "change {index} goes unnoticed");
        }
    }
}
