//! State changes of a delivery: an attempt begins or ends, the delivery is given up, or a person has it sent again.
//!
//! Each change names the state it found, and is refused if the state is another one now. No attempt begins while an
//! earlier delivery to the same target is open. Nothing is sent here.

use rusqlite::params;

use dromia_contracts::channel::RECEIVER_ID_BYTES_MAX;
use dromia_contracts::delivery::{DETAIL_BYTES_MAX, DeliveryState, DeliverySummary};
use dromia_contracts::id::DeliveryId;
use dromia_contracts::store::{CommitRefusal, DeliveryDrop, DeliveryRedrive, DeliverySettle, DeliveryStart};

use super::{AttemptDraft, DeliveryDrafts, refuse_malformed};
use crate::apply::{Checked, TenantDb};
use crate::column_codes::{self, stored_counter};

fn refuse_moved<T>(found: &DeliverySummary) -> Checked<T> {
    let DeliverySummary { state, attempts, redrives, .. } = *found;
    Err(CommitRefusal::DeliveryMoved { found: state, attempts, redrives }.into())
}

impl<'b> DeliveryDrafts<'b> {
    pub(in crate::apply) fn start_attempt(&mut self, db: TenantDb<'_>, start: &DeliveryStart) -> Checked {
        let index = self.find_delivery(db, start.delivery)?;
        if let Some(known) = self.find_attempt(db, start.delivery, start.attempt)? {
            let known = &self.attempts[known];
            if (known.holder, known.began_at) == (start.holder, start.at) {
                return Ok(());
            }
        }
        let found = &self.rows[index].row;
        if !found.state.may_begin() || found.attempts.checked_add(1) != Some(start.attempt) {
            return refuse_moved(found);
        }
        if let Some(by) = self.open_before(db, found)? {
            return Err(CommitRefusal::DeliveryBlocked { by }.into());
        }
        let draft = &mut self.rows[index];
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
            changed: true,
        });
        Ok(())
    }

    /// Finds the first open delivery of the target before this one.
    fn open_before(&self, db: TenantDb<'_>, row: &DeliverySummary) -> Checked<Option<DeliveryId>> {
        let drafted = |id| self.rows.iter().find(|draft| draft.row.id == id);
        let mut first = self
            .rows
            .iter()
            .filter(|draft| draft.row.target == row.target && draft.row.position < row.position)
            .filter(|draft| draft.row.state.is_open())
            .map(|draft| (draft.row.position, draft.row.id))
            .min();
        let mut select = db.prepare_cached(
            "SELECT position, delivery FROM deliveries INDEXED BY deliveries_open \
             WHERE tenant = ?1 AND target = ?2 AND position < ?3 AND state <= 2 ORDER BY position",
        )?;
        let mut rows =
            select.query(params![db.tenant.as_bytes(), row.target, stored_counter(row.position)])?;
        while let Some(found) = rows.next()? {
            let id = DeliveryId::from_bytes(column_codes::read_bytes(found, 1)?);
            // What the batch has changed was judged above.
            if drafted(id).is_none() {
                let found = (column_codes::read_counter(found, 0)?, id);
                first = Some(first.map_or(found, |first| first.min(found)));
                break;
            }
        }
        Ok(first.map(|(_, id)| id))
    }

    pub(in crate::apply) fn settle_attempt(&mut self, db: TenantDb<'_>, settle: &DeliverySettle) -> Checked {
        if matches!(settle.state, DeliveryState::Prepared | DeliveryState::Sending) {
            return refuse_malformed("an attempt ends delivered, failed, dead or unknown");
        }
        if settle.reason.is_some() != (settle.state == DeliveryState::Dead) {
            return refuse_malformed("a dead message has a reason, and no other has one");
        }
        if settle.end.detail.len() > DETAIL_BYTES_MAX {
            return refuse_malformed("a detail has at most 512 bytes");
        }
        if settle.end.receiver_id.as_ref().is_some_and(|id| id.len() > RECEIVER_ID_BYTES_MAX) {
            return refuse_malformed("a receiver's id has at most 128 bytes");
        }
        let index = self.find_delivery(db, settle.delivery)?;
        let Some(attempt) = self.find_attempt(db, settle.delivery, settle.attempt)? else {
            return refuse_moved(&self.rows[index].row);
        };
        if self.attempts[attempt].end.as_ref() == Some(&settle.end) {
            return Ok(());
        }
        let draft = &mut self.rows[index];
        if draft.row.state != DeliveryState::Sending || draft.row.attempts != settle.attempt {
            return refuse_moved(&draft.row);
        }
        db.check_holder(Some(self.attempts[attempt].holder), settle.holder)?;
        draft.row.state = settle.state;
        draft.row.reason = settle.reason;
        draft.row.due_at = settle.due_at;
        draft.row.updated_at = settle.end.at;
        draft.changed = true;
        self.attempts[attempt].end = Some(settle.end.clone());
        self.attempts[attempt].changed = true;
        Ok(())
    }

    pub(in crate::apply) fn drop_delivery(&mut self, db: TenantDb<'_>, drop: &DeliveryDrop) -> Checked {
        let index = self.find_delivery(db, drop.delivery)?;
        let draft = &mut self.rows[index];
        let row = &mut draft.row;
        let same = (row.attempts, row.redrives) == (drop.attempts, drop.redrives);
        if same
            && row.state == DeliveryState::Dead
            && (row.reason, row.updated_at) == (Some(drop.reason), drop.at)
        {
            return Ok(());
        }
        if !same || !row.state.may_begin() {
            return refuse_moved(row);
        }
        row.state = DeliveryState::Dead;
        row.reason = Some(drop.reason);
        row.updated_at = drop.at;
        draft.changed = true;
        Ok(())
    }

    pub(in crate::apply) fn redrive_delivery(
        &mut self,
        db: TenantDb<'_>,
        redrive: &'b DeliveryRedrive,
    ) -> Checked {
        let index = self.find_delivery(db, redrive.delivery)?;
        let draft = &mut self.rows[index];
        let row = &mut draft.row;
        let next = redrive.redrives.saturating_add(1);
        if (row.redrives, row.since) == (next, redrive.at) {
            return Ok(());
        }
        if row.redrives != redrive.redrives || !row.state.may_be_redriven() {
            return refuse_moved(row);
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
}
