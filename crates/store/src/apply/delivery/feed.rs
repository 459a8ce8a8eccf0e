//! The tenant's feed: numbers that are given once, and the cursors of those who read it.

use rusqlite::{OptionalExtension as _, params};

use dromia_contracts::delivery::{SUBSCRIBER_BYTES_MAX, SUBSCRIBERS_MAX};
use dromia_contracts::store::{CommitRefusal, CursorMove, FeedNumber};

use super::DeliveryDrafts;
use crate::apply::{Checked, TableDraft, TenantDb};
use crate::column_codes::{self, stored_counter};

/// The end of the feed, once the batch has looked at it.
#[derive(Debug, Clone, Copy)]
struct FeedDraft {
    last: u64,
    changed: bool,
}

/// A cursor that the batch moves.
#[derive(Debug)]
struct CursorDraft<'b> {
    to: &'b CursorMove,
    new: bool,
}

/// The end of the feed and the cursors that the batch moves.
#[derive(Debug, Default)]
pub(super) struct FeedDrafts<'b> {
    end: Option<FeedDraft>,
    cursors: Vec<CursorDraft<'b>>,
}

impl<'b> DeliveryDrafts<'b> {
    pub(in crate::apply) fn number_deliveries(&mut self, db: TenantDb<'_>, number: &FeedNumber) -> Checked {
        if number.deliveries.is_empty() {
            return Err(CommitRefusal::Malformed("somebody is numbered".into()).into());
        }
        let mut indices = Vec::with_capacity(number.deliveries.len());
        for id in &number.deliveries {
            indices.push(self.find_delivery(db, *id)?);
        }
        let stands = (number.after + 1..)
            .zip(&indices)
            .all(|(expected, index)| self.rows[*index].row.feed == Some(expected));
        if stands {
            return Ok(());
        }
        let found = self.feed.find_last(db)?;
        if found != number.after {
            return Err(CommitRefusal::FeedMoved { found }.into());
        }
        let mut last = found;
        for index in indices {
            let draft = &mut self.rows[index];
            if draft.row.feed.is_some() {
                return Err(CommitRefusal::Malformed(format!("{} has a number", draft.row.id)).into());
            }
            last += 1;
            draft.row.feed = Some(last);
            draft.changed = true;
        }
        self.feed.end = Some(FeedDraft { last, changed: true });
        Ok(())
    }

    pub(in crate::apply) fn move_cursor(&mut self, db: TenantDb<'_>, to: &'b CursorMove) -> Checked {
        self.feed.move_cursor(db, to)
    }
}

impl<'b> FeedDrafts<'b> {
    fn find_last(&mut self, db: TenantDb<'_>) -> Checked<u64> {
        if let Some(feed) = &self.end {
            return Ok(feed.last);
        }
        let last = db
            .prepare_cached("SELECT last FROM feeds WHERE tenant = ?1")?
            .query_row([db.tenant.as_bytes()], |row| column_codes::read_counter(row, 0))
            .optional()?
            .unwrap_or(0);
        self.end = Some(FeedDraft { last, changed: false });
        Ok(last)
    }

    fn move_cursor(&mut self, db: TenantDb<'_>, to: &'b CursorMove) -> Checked {
        let name = &to.subscriber;
        if name.is_empty() || name.len() > SUBSCRIBER_BYTES_MAX {
            return Err(CommitRefusal::Malformed("a subscriber's name has 1 to 128 bytes".into()).into());
        }
        let found = self.find_last(db)?;
        if to.to > found {
            return Err(CommitRefusal::FeedMoved { found }.into());
        }
        let drafted = self.cursors.iter().rev().find(|draft| draft.to.subscriber == *name);
        let known = match drafted {
            Some(draft) => Some(draft.to.to),
            None => db
                .prepare_cached("SELECT cursor FROM subscribers WHERE tenant = ?1 AND name = ?2")?
                .query_row(params![db.tenant.as_bytes(), name], |row| column_codes::read_counter(row, 0))
                .optional()?,
        };
        if known.is_some_and(|cursor| cursor >= to.to) {
            return Ok(());
        }
        if known.is_none() {
            let stored: u64 = db
                .prepare_cached("SELECT count(*) FROM subscribers WHERE tenant = ?1")?
                .query_row([db.tenant.as_bytes()], |row| column_codes::read_counter(row, 0))?;
            let added = self.cursors.iter().filter(|draft| draft.new).count();
            if usize::try_from(stored).unwrap_or(usize::MAX).saturating_add(added) >= SUBSCRIBERS_MAX {
                let most = SUBSCRIBERS_MAX;
                return Err(CommitRefusal::Malformed(format!("a feed has at most {most} subscribers")).into());
            }
        }
        self.cursors.push(CursorDraft { to, new: known.is_none() });
        Ok(())
    }
}

impl TableDraft for FeedDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        if let Some(FeedDraft { last, changed: true }) = self.end {
            db.prepare_cached(
                "INSERT INTO feeds (tenant, last) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET last = excluded.last",
            )?
            .execute(params![db.tenant.as_bytes(), stored_counter(last)])?;
        }
        for CursorDraft { to, .. } in &self.cursors {
            db.prepare_cached(
                "INSERT INTO subscribers (tenant, name, cursor, at) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT DO UPDATE SET cursor = excluded.cursor, at = excluded.at",
            )?
            .execute(params![
                db.tenant.as_bytes(),
                to.subscriber,
                stored_counter(to.to),
                to.at.as_millisecond()
            ])?;
        }
        Ok(())
    }
}
