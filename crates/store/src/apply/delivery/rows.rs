//! The rows of deliveries and of their attempts, written as the batch leaves them.
//!
//! No precondition is looked at here. The message of a delivery is written once, under its digest, and never again.

use rusqlite::params;

use dromia_contracts::audit::AuditChange;
use dromia_contracts::digest::Digest;

use super::DeliveryDrafts;
use crate::apply::audit::ActList;
use crate::apply::{TableDraft, TenantDb};
use crate::check_value;
use crate::column_codes::{StoredEnum, stored_counter};
use crate::row::{delivery_columns, delivery_seal};

impl DeliveryDrafts<'_> {
    fn write_attempts(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for draft in self.attempts.iter().filter(|draft| draft.changed) {
            let end = draft.end.as_ref();
            let (ended_at, outcome) =
                (end.map(|end| end.at.as_millisecond()), end.map(|end| end.outcome.stored_code()));
            let (status, detail) = (end.and_then(|end| end.status), end.map(|end| end.detail.as_str()));
            let receiver_id = end.and_then(|end| end.receiver_id.as_deref());
            let values = params![
                db.tenant.as_bytes(),
                draft.delivery.as_bytes(),
                draft.number,
                draft.holder.as_bytes(),
                draft.began_at.as_millisecond(),
                ended_at,
                outcome,
                status,
                detail,
                receiver_id,
            ];
            check_value::ATTEMPTS.put_row(&db, values)?;
        }
        Ok(())
    }
}

impl TableDraft for DeliveryDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for draft in self.rows.iter().filter(|draft| draft.changed) {
            let row = &draft.row;
            let reason = row.reason.map(StoredEnum::stored_code);
            let holder = row.holder.as_ref().map(Digest::as_bytes);
            if let Some(body) = draft.body {
                db.prepare_cached(concat!(
                    "INSERT INTO deliveries (tenant, ",
                    delivery_columns!(),
                    ", digest, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, \
                     ?16, ?17, ?18, ?19, ?20, ?21)"
                ))?
                .execute(params![
                    db.tenant.as_bytes(),
                    row.id.as_bytes(),
                    row.target,
                    stored_counter(row.position),
                    row.source.agent.as_bytes(),
                    row.source.session.as_bytes(),
                    row.source.run.as_bytes(),
                    stored_counter(row.source.seq),
                    row.prepared_at.as_millisecond(),
                    row.state.stored_code(),
                    reason,
                    row.attempts,
                    row.redrives,
                    row.spent,
                    row.since.as_millisecond(),
                    row.due_at.as_millisecond(),
                    holder,
                    row.updated_at.as_millisecond(),
                    row.feed.map(stored_counter),
                    delivery_seal(row, body),
                    &body[..],
                ])?;
            } else {
                db.prepare_cached(
                    "UPDATE deliveries SET state = ?3, reason = ?4, attempts = ?5, redrives = ?6, spent = ?7, \
                     since = ?8, due_at = ?9, holder = ?10, updated_at = ?11, feed = ?12 \
                     WHERE tenant = ?1 AND delivery = ?2",
                )?
                .execute(params![
                    db.tenant.as_bytes(),
                    row.id.as_bytes(),
                    row.state.stored_code(),
                    reason,
                    row.attempts,
                    row.redrives,
                    row.spent,
                    row.since.as_millisecond(),
                    row.due_at.as_millisecond(),
                    holder,
                    row.updated_at.as_millisecond(),
                    row.feed.map(stored_counter),
                ])?;
            }
        }
        self.write_attempts(db)?;
        self.feed.write_rows(db)
    }

    fn note_acts(&self, acts: &mut ActList<'_>) {
        for redrive in &self.redrives {
            let change = AuditChange::DeliveryRedriven { delivery: redrive.delivery };
            acts.note_request(redrive.at, change);
        }
    }
}
