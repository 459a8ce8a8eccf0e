//! Deliveries: prepared with their entry, begun and settled by compare-and-swap, in order per target.
//!
//! These mutations are played after the batch's claim, because a message may belong to an entry that the claim writes.

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::delivery::{AttemptEnd, DETAIL_BYTES_MAX, Delivery, DeliveryState, TARGET_BYTES_MAX};
use dromia_contracts::digest::Digest;
use dromia_contracts::id::DeliveryId;
use dromia_contracts::store::{
    Batch, DeliveryDrop, DeliveryPrepare, DeliveryRedrive, DeliverySettle, DeliveryStart, Refusal,
};

use super::{Checked, Draft};
use crate::code::{self, Code, stored};
use crate::row::{delivery_columns, delivery_seal, read_attempt_end, read_delivery};

/// A delivery that the batch touches.
#[derive(Debug)]
pub(super) struct DeliveryDraft<'b> {
    pub(super) row: Delivery,
    /// The message, of one that the batch prepares.
    body: Option<&'b Bytes>,
    pub(super) changed: bool,
}

/// An attempt that the batch touches.
#[derive(Debug)]
pub(super) struct AttemptDraft {
    delivery: DeliveryId,
    number: u32,
    holder: Digest,
    began_at: Timestamp,
    end: Option<AttemptEnd>,
    new: bool,
    changed: bool,
}

fn malformed<T>(what: &str) -> Checked<T> {
    Err(Refusal::Malformed(what.to_owned()).into())
}

fn moved<T>(found: &Delivery) -> Checked<T> {
    let Delivery { state, attempts, redrives, .. } = *found;
    Err(Refusal::DeliveryMoved { found: state, attempts, redrives }.into())
}

impl<'b> Draft<'b> {
    /// Finds a delivery of the tenant; an index into `deliveries`.
    pub(super) fn delivery(&mut self, db: &Connection, id: DeliveryId) -> Checked<usize> {
        self.delivery_index(db, id)?.ok_or_else(|| Refusal::NotFound(id.to_string()).into())
    }

    fn delivery_index(&mut self, db: &Connection, id: DeliveryId) -> Checked<Option<usize>> {
        if let Some(index) = self.deliveries.iter().position(|draft| draft.row.id == id) {
            return Ok(Some(index));
        }
        let found = db
            .prepare_cached(concat!(
                "SELECT ",
                delivery_columns!(),
                " FROM deliveries WHERE tenant = ?1 AND delivery = ?2"
            ))?
            .query_row(params![self.tenant.as_bytes(), id.as_bytes()], |row| read_delivery(row, 0))
            .optional()?;
        Ok(found.map(|row| {
            self.deliveries.push(DeliveryDraft { row, body: None, changed: false });
            self.deliveries.len() - 1
        }))
    }

    /// Finds an attempt; an index into `attempts`.
    fn attempt(&mut self, db: &Connection, id: DeliveryId, number: u32) -> Checked<Option<usize>> {
        let drafted = self.attempts.iter().position(|draft| draft.delivery == id && draft.number == number);
        if drafted.is_some() {
            return Ok(drafted);
        }
        let found = db
            .prepare_cached(
                "SELECT holder, began_at, ended_at, outcome, status, detail FROM delivery_attempts \
                 WHERE tenant = ?1 AND delivery = ?2 AND number = ?3",
            )?
            .query_row(params![self.tenant.as_bytes(), id.as_bytes(), number], |row| {
                Ok(AttemptDraft {
                    delivery: id,
                    number,
                    holder: code::digest(row, 0)?,
                    began_at: code::time(row, 1)?,
                    end: read_attempt_end(row, 2)?,
                    new: false,
                    changed: false,
                })
            })
            .optional()?;
        Ok(found.map(|draft| {
            self.attempts.push(draft);
            self.attempts.len() - 1
        }))
    }

    pub(super) fn delivery_prepare(
        &mut self,
        db: &Connection,
        batch: &Batch,
        prepare: &'b DeliveryPrepare,
    ) -> Checked {
        if prepare.target.is_empty() || prepare.target.len() > TARGET_BYTES_MAX {
            return malformed("a target has 1 to 128 bytes");
        }
        if let Some(index) = self.delivery_index(db, prepare.delivery)? {
            return if self.is_prepared(db, index, prepare)? {
                Ok(())
            } else {
                Err(Refusal::Malformed(format!("{} exists already", prepare.delivery)).into())
            };
        }
        if !batch.writes(prepare.run, prepare.seq) {
            return malformed("a message is prepared with the entry that made it");
        }
        let Some(run) = self.run_index(db, prepare.run)? else {
            // The claim that would have begun the run was not granted, or the run belongs to nobody.
            let claimed = batch.claim.as_ref().is_some_and(|claim| claim.run == prepare.run);
            return if claimed { Ok(()) } else { Err(Refusal::NotFound(prepare.run.to_string()).into()) };
        };
        let run = &self.runs[run];
        if (run.agent, run.session) != (prepare.agent, prepare.session) {
            return malformed("a message names the agent and the session of its run");
        }
        let position = self.last_position(db, &prepare.target)? + 1;
        self.deliveries.push(DeliveryDraft {
            row: Delivery {
                id: prepare.delivery,
                target: prepare.target.clone(),
                position,
                agent: prepare.agent,
                session: prepare.session,
                run: prepare.run,
                seq: prepare.seq,
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
            },
            body: Some(&prepare.body),
            changed: true,
        });
        Ok(())
    }

    /// Tells whether a delivery that is there was prepared by this very mutation.
    fn is_prepared(&self, db: &Connection, index: usize, prepare: &DeliveryPrepare) -> Checked<bool> {
        let draft = &self.deliveries[index];
        let row = &draft.row;
        let facts = (&row.target, row.agent, row.session, row.run, row.seq, row.prepared_at)
            == (&prepare.target, prepare.agent, prepare.session, prepare.run, prepare.seq, prepare.at);
        let body = if let Some(body) = draft.body {
            *body == prepare.body
        } else {
            let seal = delivery_seal(row, &prepare.body);
            db.prepare_cached("SELECT 1 FROM deliveries WHERE tenant = ?1 AND delivery = ?2 AND digest = ?3")?
                .exists(params![self.tenant.as_bytes(), row.id.as_bytes(), seal])?
        };
        Ok(facts && body)
    }

    fn last_position(&self, db: &Connection, target: &str) -> Checked<u64> {
        let stored: Option<i64> = db
            .prepare_cached("SELECT max(position) FROM deliveries WHERE tenant = ?1 AND target = ?2")?
            .query_row(params![self.tenant.as_bytes(), target], |row| row.get(0))?;
        let drafted = self.deliveries.iter().filter(|draft| draft.row.target == target);
        let drafted = drafted.map(|draft| draft.row.position).max().unwrap_or(0);
        Ok(stored.map_or(0, i64::cast_unsigned).max(drafted))
    }

    pub(super) fn delivery_start(&mut self, db: &Connection, start: &DeliveryStart) -> Checked {
        let index = self.delivery(db, start.delivery)?;
        if let Some(known) = self.attempt(db, start.delivery, start.attempt)? {
            let known = &self.attempts[known];
            if (known.holder, known.began_at) == (start.holder, start.at) {
                return Ok(());
            }
        }
        let found = &self.deliveries[index].row;
        if !found.state.may_begin() || found.attempts.checked_add(1) != Some(start.attempt) {
            return moved(found);
        }
        if let Some(by) = self.open_before(db, found)? {
            return Err(Refusal::DeliveryBlocked { by }.into());
        }
        let draft = &mut self.deliveries[index];
        draft.row.state = DeliveryState::Sending;
        draft.row.attempts = start.attempt;
        draft.row.holder = Some(start.holder);
        draft.row.updated_at = start.at;
        draft.changed = true;
        self.attempts.push(AttemptDraft {
            delivery: start.delivery,
            number: start.attempt,
            holder: start.holder,
            began_at: start.at,
            end: None,
            new: true,
            changed: true,
        });
        Ok(())
    }

    /// Finds the first open delivery of the target before this one.
    fn open_before(&self, db: &Connection, row: &Delivery) -> Checked<Option<DeliveryId>> {
        let drafted = |id| self.deliveries.iter().find(|draft| draft.row.id == id);
        let mut first = self
            .deliveries
            .iter()
            .filter(|draft| draft.row.target == row.target && draft.row.position < row.position)
            .filter(|draft| draft.row.state.is_open())
            .map(|draft| (draft.row.position, draft.row.id))
            .min();
        let mut select = db.prepare_cached(
            "SELECT position, delivery FROM deliveries INDEXED BY deliveries_open \
             WHERE tenant = ?1 AND target = ?2 AND position < ?3 AND state <= 2 ORDER BY position",
        )?;
        let mut rows = select.query(params![self.tenant.as_bytes(), row.target, stored(row.position)])?;
        while let Some(found) = rows.next()? {
            let id = DeliveryId::from_bytes(code::bytes(found, 1)?);
            // What the batch has changed was judged above.
            if drafted(id).is_none() {
                let found = (code::number(found, 0)?, id);
                first = Some(first.map_or(found, |first| first.min(found)));
                break;
            }
        }
        Ok(first.map(|(_, id)| id))
    }

    pub(super) fn delivery_settle(&mut self, db: &Connection, settle: &DeliverySettle) -> Checked {
        if matches!(settle.state, DeliveryState::Prepared | DeliveryState::Sending) {
            return malformed("an attempt ends delivered, failed, dead or unknown");
        }
        if settle.reason.is_some() != (settle.state == DeliveryState::Dead) {
            return malformed("a dead message has a reason, and no other has one");
        }
        if settle.end.detail.len() > DETAIL_BYTES_MAX {
            return malformed("a detail has at most 512 bytes");
        }
        let index = self.delivery(db, settle.delivery)?;
        let Some(attempt) = self.attempt(db, settle.delivery, settle.attempt)? else {
            return moved(&self.deliveries[index].row);
        };
        if self.attempts[attempt].end.as_ref() == Some(&settle.end) {
            return Ok(());
        }
        let draft = &mut self.deliveries[index];
        if draft.row.state != DeliveryState::Sending || draft.row.attempts != settle.attempt {
            return moved(&draft.row);
        }
        draft.row.state = settle.state;
        draft.row.reason = settle.reason;
        draft.row.due_at = settle.due_at;
        draft.row.updated_at = settle.end.at;
        draft.changed = true;
        self.attempts[attempt].end = Some(settle.end.clone());
        self.attempts[attempt].changed = true;
        Ok(())
    }

    pub(super) fn delivery_drop(&mut self, db: &Connection, drop: &DeliveryDrop) -> Checked {
        let index = self.delivery(db, drop.delivery)?;
        let draft = &mut self.deliveries[index];
        let row = &mut draft.row;
        let same = (row.attempts, row.redrives) == (drop.attempts, drop.redrives);
        if same
            && row.state == DeliveryState::Dead
            && (row.reason, row.updated_at) == (Some(drop.reason), drop.at)
        {
            return Ok(());
        }
        if !same || !row.state.may_begin() {
            return moved(row);
        }
        row.state = DeliveryState::Dead;
        row.reason = Some(drop.reason);
        row.updated_at = drop.at;
        draft.changed = true;
        Ok(())
    }

    pub(super) fn delivery_redrive(&mut self, db: &Connection, redrive: &'b DeliveryRedrive) -> Checked {
        let index = self.delivery(db, redrive.delivery)?;
        let draft = &mut self.deliveries[index];
        let row = &mut draft.row;
        let next = redrive.redrives.saturating_add(1);
        if (row.redrives, row.since) == (next, redrive.at) {
            return Ok(());
        }
        if row.redrives != redrive.redrives || !row.state.may_be_redriven() {
            return moved(row);
        }
        row.state = DeliveryState::Prepared;
        row.reason = None;
        row.redrives = next;
        row.spent = row.attempts;
        row.since = redrive.at;
        row.due_at = redrive.at;
        row.updated_at = redrive.at;
        draft.changed = true;
        self.redrives.push(redrive);
        Ok(())
    }

    pub(super) fn write_deliveries(&self, db: &Connection) -> rusqlite::Result<u64> {
        let mut rows = 0;
        for draft in self.deliveries.iter().filter(|draft| draft.changed) {
            let row = &draft.row;
            let reason = row.reason.map(Code::code);
            let holder = row.holder.as_ref().map(Digest::as_bytes);
            if let Some(body) = draft.body {
                db.prepare_cached(concat!(
                    "INSERT INTO deliveries (tenant, ",
                    delivery_columns!(),
                    ", digest, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, \
                     ?16, ?17, ?18, ?19, ?20, ?21)"
                ))?
                .execute(params![
                    self.tenant.as_bytes(),
                    row.id.as_bytes(),
                    row.target,
                    stored(row.position),
                    row.agent.as_bytes(),
                    row.session.as_bytes(),
                    row.run.as_bytes(),
                    stored(row.seq),
                    row.prepared_at.as_millisecond(),
                    row.state.code(),
                    reason,
                    row.attempts,
                    row.redrives,
                    row.spent,
                    row.since.as_millisecond(),
                    row.due_at.as_millisecond(),
                    holder,
                    row.updated_at.as_millisecond(),
                    row.feed.map(stored),
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
                    self.tenant.as_bytes(),
                    row.id.as_bytes(),
                    row.state.code(),
                    reason,
                    row.attempts,
                    row.redrives,
                    row.spent,
                    row.since.as_millisecond(),
                    row.due_at.as_millisecond(),
                    holder,
                    row.updated_at.as_millisecond(),
                    row.feed.map(stored),
                ])?;
            }
            rows += 1;
        }
        for draft in self.attempts.iter().filter(|draft| draft.changed) {
            let end = draft.end.as_ref();
            let (ended_at, outcome) =
                (end.map(|end| end.at.as_millisecond()), end.map(|end| end.outcome.code()));
            let (status, detail) = (end.and_then(|end| end.status), end.map(|end| end.detail.as_str()));
            if draft.new {
                db.prepare_cached(
                    "INSERT INTO delivery_attempts \
                     (tenant, delivery, number, holder, began_at, ended_at, outcome, status, detail) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![
                    self.tenant.as_bytes(),
                    draft.delivery.as_bytes(),
                    draft.number,
                    draft.holder.as_bytes(),
                    draft.began_at.as_millisecond(),
                    ended_at,
                    outcome,
                    status,
                    detail,
                ])?;
            } else {
                db.prepare_cached(
                    "UPDATE delivery_attempts SET ended_at = ?4, outcome = ?5, status = ?6, detail = ?7 \
                     WHERE tenant = ?1 AND delivery = ?2 AND number = ?3",
                )?
                .execute(params![
                    self.tenant.as_bytes(),
                    draft.delivery.as_bytes(),
                    draft.number,
                    ended_at,
                    outcome,
                    status,
                    detail,
                ])?;
            }
            rows += 1;
        }
        Ok(rows)
    }
}
