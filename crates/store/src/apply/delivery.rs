//! Deliveries: prepared with their entry, begun and settled by compare-and-swap, in order per target.
//!
//! These mutations are played after the batch's claim, because a message may belong to an entry that the claim writes. What
//! the batch touches is found and prepared here; `transitions` begins, settles, drops and redrives, `feed`
//! numbers, `rows` writes.

mod feed;
mod rows;
mod transitions;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use dromia_contracts::delivery::{
    AttemptEnd, DeliverySource, DeliveryState, DeliverySummary, TARGET_BYTES_MAX,
};
use dromia_contracts::digest::Digest;
use dromia_contracts::id::DeliveryId;
use dromia_contracts::store::{CommitRefusal, DeliveryPrepare, DeliveryRedrive, WriteBatch};

use super::journal::RunDrafts;
use super::{Checked, TenantDb};
use crate::check_value;
use crate::column_codes;
use crate::row::{delivery_columns, delivery_seal, read_attempt_end, read_delivery};
use feed::FeedDrafts;

/// A delivery that the batch touches.
#[derive(Debug)]
struct DeliveryDraft<'b> {
    row: DeliverySummary,
    /// The message, of one that the batch prepares.
    body: Option<&'b Bytes>,
    changed: bool,
}

/// An attempt that the batch touches.
#[derive(Debug)]
pub(super) struct AttemptDraft {
    delivery: DeliveryId,
    number: u32,
    holder: Digest,
    began_at: Timestamp,
    end: Option<AttemptEnd>,
    changed: bool,
}

fn refuse_malformed<T>(what: &str) -> Checked<T> {
    Err(CommitRefusal::Malformed(what.to_owned()).into())
}

/// The deliveries that the batch touches, and what it does to the feed of them.
#[derive(Debug, Default)]
pub(super) struct DeliveryDrafts<'b> {
    rows: Vec<DeliveryDraft<'b>>,
    attempts: Vec<AttemptDraft>,
    /// Those that change something.
    redrives: Vec<&'b DeliveryRedrive>,
    feed: FeedDrafts<'b>,
}

impl<'b> DeliveryDrafts<'b> {
    /// Finds a delivery of the tenant; an index into `rows`.
    pub(super) fn find_delivery(&mut self, db: TenantDb<'_>, id: DeliveryId) -> Checked<usize> {
        self.delivery_index(db, id)?.ok_or_else(|| CommitRefusal::NotFound(id.to_string()).into())
    }

    fn delivery_index(&mut self, db: TenantDb<'_>, id: DeliveryId) -> Checked<Option<usize>> {
        if let Some(index) = self.rows.iter().position(|draft| draft.row.id == id) {
            return Ok(Some(index));
        }
        let found = db
            .prepare_cached(concat!(
                "SELECT ",
                delivery_columns!(),
                " FROM deliveries WHERE tenant = ?1 AND delivery = ?2"
            ))?
            .query_row(params![db.tenant.as_bytes(), id.as_bytes()], |row| read_delivery(row, 0))
            .optional()?;
        Ok(found.map(|row| {
            self.rows.push(DeliveryDraft { row, body: None, changed: false });
            self.rows.len() - 1
        }))
    }

    /// Finds an attempt; an index into `attempts`.
    fn find_attempt(&mut self, db: TenantDb<'_>, id: DeliveryId, number: u32) -> Checked<Option<usize>> {
        let drafted = self.attempts.iter().position(|draft| draft.delivery == id && draft.number == number);
        if drafted.is_some() {
            return Ok(drafted);
        }
        let found = db
            .prepare_cached(&format!(
                "{} WHERE tenant = ?1 AND delivery = ?2 AND number = ?3",
                check_value::ATTEMPTS.select_sql()
            ))?
            .query_row(params![db.tenant.as_bytes(), id.as_bytes(), number], |row| {
                check_value::ATTEMPTS.check_row(row)?;
                Ok(AttemptDraft {
                    delivery: id,
                    number,
                    holder: column_codes::read_digest(row, 3)?,
                    began_at: column_codes::read_time(row, 4)?,
                    end: read_attempt_end(row, 5)?,
                    changed: false,
                })
            })
            .optional()?;
        Ok(found.map(|draft| {
            self.attempts.push(draft);
            self.attempts.len() - 1
        }))
    }

    pub(super) fn prepare_delivery(
        &mut self,
        db: TenantDb<'_>,
        batch: &WriteBatch,
        prepare: &'b DeliveryPrepare,
        runs: &mut RunDrafts<'b>,
    ) -> Checked {
        if prepare.target.is_empty() || prepare.target.len() > TARGET_BYTES_MAX {
            return refuse_malformed("a target has 1 to 128 bytes");
        }
        if let Some(index) = self.delivery_index(db, prepare.delivery)? {
            return if self.is_prepared(db, index, prepare)? {
                Ok(())
            } else {
                Err(CommitRefusal::Malformed(format!("{} exists already", prepare.delivery)).into())
            };
        }
        if !batch.writes_entry(prepare.run, prepare.seq) {
            return refuse_malformed("a message is prepared with the entry that made it");
        }
        let Some(run) = runs.find_known_run(db, prepare.run)? else {
            // The claim that would have begun the run was not granted, or there is no such run.
            let claimed = batch.claim.as_ref().is_some_and(|claim| claim.run == prepare.run);
            return if claimed {
                Ok(())
            } else {
                Err(CommitRefusal::NotFound(prepare.run.to_string()).into())
            };
        };
        if (run.agent, run.session) != (prepare.agent, prepare.session) {
            return refuse_malformed("a message names the agent and the session of its run");
        }
        let position = self.last_position(db, &prepare.target)? + 1;
        self.rows.push(DeliveryDraft {
            row: DeliverySummary {
                id: prepare.delivery,
                target: prepare.target.clone(),
                position,
                prepared_at: prepare.at,
                state: DeliveryState::Prepared,
                reason: None,
                attempts: 0,
                redrives: 0,
                spent: 0,
                since: prepare.at,
                due_at: prepare.at,
                holder: None,
                updated_at: prepare.at,
                feed: None,
                source: DeliverySource {
                    agent: prepare.agent,
                    session: prepare.session,
                    run: prepare.run,
                    seq: prepare.seq,
                },
            },
            body: Some(&prepare.body),
            changed: true,
        });
        Ok(())
    }

    /// Returns whether a delivery that is there was prepared by this very mutation.
    fn is_prepared(&self, db: TenantDb<'_>, index: usize, prepare: &DeliveryPrepare) -> Checked<bool> {
        let draft = &self.rows[index];
        let row = &draft.row;
        let facts =
            (
                &row.target,
                row.source.agent,
                row.source.session,
                row.source.run,
                row.source.seq,
                row.prepared_at,
            ) == (&prepare.target, prepare.agent, prepare.session, prepare.run, prepare.seq, prepare.at);
        let body = if let Some(body) = draft.body {
            *body == prepare.body
        } else {
            let seal = delivery_seal(row, &prepare.body);
            db.prepare_cached("SELECT 1 FROM deliveries WHERE tenant = ?1 AND delivery = ?2 AND digest = ?3")?
                .exists(params![db.tenant.as_bytes(), row.id.as_bytes(), seal])?
        };
        Ok(facts && body)
    }

    fn last_position(&self, db: TenantDb<'_>, target: &str) -> Checked<u64> {
        let stored: Option<i64> = db
            .prepare_cached("SELECT max(position) FROM deliveries WHERE tenant = ?1 AND target = ?2")?
            .query_row(params![db.tenant.as_bytes(), target], |row| row.get(0))?;
        let drafted = self.rows.iter().filter(|draft| draft.row.target == target);
        let drafted = drafted.map(|draft| draft.row.position).max().unwrap_or(0);
        Ok(stored.map_or(0, i64::cast_unsigned).max(drafted))
    }
}
