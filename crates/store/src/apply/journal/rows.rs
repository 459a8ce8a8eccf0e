//! The rows of runs, takeovers, signals and entries, written as the batch leaves them.

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, params};

use dromia_contracts::digest::Digest;
use dromia_contracts::id::TenantId;

use super::RunDrafts;
use crate::apply::{TableDraft, TenantDb};
use crate::body::BodyLocation;
use crate::column_codes::{StoredEnum as _, stored_counter};
use crate::packed_fields;
use crate::row::run_columns;

impl TableDraft for RunDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        self.write_runs(db)?;
        self.write_claims(db)?;
        self.write_entries(db)?;
        self.write_checkpoints(db)?;
        self.write_signals(db)
    }
}

impl RunDrafts<'_> {
    fn write_runs(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for draft in self.rows.iter().filter(|draft| draft.changed) {
            let head = &draft.head;
            let wake_at = head.wake_at.map(Timestamp::as_millisecond);
            if draft.new {
                db.prepare_cached(concat!(
                    "INSERT INTO runs (tenant, ",
                    run_columns!(),
                    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)"
                ))?
                .execute(params![
                    db.tenant.as_bytes(),
                    draft.run.as_bytes(),
                    draft.agent.as_bytes(),
                    draft.session.as_bytes(),
                    draft.kind.stored_code(),
                    head.status.stored_code(),
                    wake_at,
                    draft.started_at.as_millisecond(),
                    draft.updated_at.as_millisecond(),
                    stored_counter(draft.last_seq),
                    stored_counter(draft.epoch),
                    stored_counter(draft.entry_epoch),
                    draft.chain,
                    head.model_calls,
                    head.usage.input_tokens,
                    head.usage.output_tokens,
                    stored_counter(head.cost_micros),
                    stored_counter(draft.signals_last),
                    head.unpriced_calls,
                    stored_counter(draft.signals_taken),
                    draft.holder.as_ref().map(Digest::as_bytes),
                ])?;
            } else {
                db.prepare_cached(
                    "UPDATE runs SET status = ?3, wake_at = ?4, updated_at = ?5, last_seq = ?6, epoch = ?7, \
                     entry_epoch = ?8, chain = ?9, model_calls = ?10, input_tokens = ?11, output_tokens = ?12, \
                     cost_micros = ?13, signals_last = ?14, unpriced = ?15, signals_taken = ?16, \
                     holder = ?17 WHERE tenant = ?1 AND run = ?2",
                )?
                .execute(params![
                    db.tenant.as_bytes(),
                    draft.run.as_bytes(),
                    head.status.stored_code(),
                    wake_at,
                    draft.updated_at.as_millisecond(),
                    stored_counter(draft.last_seq),
                    stored_counter(draft.epoch),
                    stored_counter(draft.entry_epoch),
                    draft.chain,
                    head.model_calls,
                    head.usage.input_tokens,
                    head.usage.output_tokens,
                    stored_counter(head.cost_micros),
                    stored_counter(draft.signals_last),
                    head.unpriced_calls,
                    stored_counter(draft.signals_taken),
                    draft.holder.as_ref().map(Digest::as_bytes),
                ])?;
            }
        }
        Ok(())
    }

    fn write_claims(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for claim in &self.claims {
            db.prepare_cached(
                "INSERT INTO claims (tenant, run, epoch, holder, at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                db.tenant.as_bytes(),
                claim.run.as_bytes(),
                stored_counter(claim.epoch),
                claim.holder.as_bytes(),
                claim.at.as_millisecond(),
            ])?;
        }
        Ok(())
    }

    fn write_checkpoints(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for checkpoint in &self.checkpoints {
            db.prepare_cached(
                "INSERT OR REPLACE INTO run_checkpoints (tenant, run, seq, version, state, digest) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                db.tenant.as_bytes(),
                checkpoint.run.as_bytes(),
                stored_counter(checkpoint.seq),
                checkpoint.folded.version,
                &checkpoint.folded.bytes[..],
                checkpoint.digest,
            ])?;
        }
        Ok(())
    }

    /// Marks signals as taken, which their entries state as well.
    fn write_signals(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for signal in &self.signals {
            db.prepare_cached(
                "UPDATE inbox SET taken_by = ?2 \
                     WHERE tenant = ?1 AND owner = ?2 AND position = ?3 AND item = ?4",
            )?
            .execute(params![
                db.tenant.as_bytes(),
                signal.run.as_bytes(),
                stored_counter(signal.position),
                signal.item.as_bytes(),
            ])?;
        }
        Ok(())
    }

    fn write_entries(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for entry in &self.entries {
            let place =
                entry.body.map_or(BodyLocation::Nowhere, |(body, _)| BodyLocation::for_length(body.len()));
            let inline = entry.body.filter(|_| place == BodyLocation::Row).map(|(body, _)| &body[..]);
            let elsewhere = entry.body.filter(|_| place != BodyLocation::Row);
            let packed = packed_fields::pack(&entry.fields);
            db.prepare_cached(
                "INSERT INTO entries \
                 (tenant, run, seq, at, epoch, kind, version, fields, chain, place, body, body_hash, packed) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute(params![
                db.tenant.as_bytes(),
                entry.run.as_bytes(),
                stored_counter(entry.seq),
                entry.at.as_millisecond(),
                stored_counter(entry.epoch),
                entry.kind,
                entry.version,
                if packed.is_some() { "" } else { entry.fields.as_str() },
                entry.chain,
                place.stored_code(),
                inline,
                elsewhere.map(|(_, hash)| hash),
                packed,
            ])?;
            if let Some((body, hash)) = elsewhere {
                write_body(&db, db.tenant, &hash, body, entry.run.as_bytes(), false, entry.seq)?;
            }
        }
        Ok(())
    }
}

/// Writes a body that does not lie in its row, and the reference that keeps it. A body that is there already
/// gets the reference only. Files were written before the transaction.
pub(in crate::apply) fn write_body(
    db: &Connection,
    tenant: TenantId,
    hash: &[u8; 32],
    body: &Bytes,
    owner: &[u8; 16],
    inbox: bool,
    seq: u64,
) -> rusqlite::Result<()> {
    let in_table = match BodyLocation::for_length(body.len()) {
        BodyLocation::Table => Some(&body[..]),
        BodyLocation::File => None,
        BodyLocation::Row | BodyLocation::Nowhere | BodyLocation::Erased => return Ok(()),
    };
    db.prepare_cached("INSERT INTO bodies (tenant, hash, bytes) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute(params![tenant.as_bytes(), hash, in_table])?;
    db.prepare_cached("INSERT INTO body_refs (tenant, hash, owner, inbox, seq) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![tenant.as_bytes(), hash, owner, inbox, stored_counter(seq)])?;
    Ok(())
}
