//! The chain of seals, read on from a place: acts as they are, and the entries that the spans name.
//!
//! Whatever is given out is checked: a seal against the one before, entries against their journal's chain. An entry
//! that is not found any more belonged to an agent that was erased, or is what `dromia audit verify` looks for; either
//! way there is nothing to give out.

use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::audit::{
    AuditAct, AuditCursor, AuditFilter, AuditHead, AuditItem, AuditPage, AuditWhat,
};
use dromia_contracts::digest::Digest;
use dromia_contracts::id::{RunId, TenantId};
use dromia_contracts::run::RunRecord;
use dromia_contracts::store::{PageRequest, StoredEntry};
use jiff::Timestamp;

use super::journal::{BodyReader, CheckedJournal};
use super::{FIRST, Found, ScopeView, page_limit, row_limit, run};
use crate::column_codes::{self, stored_counter};
use crate::reader::{ReadContext, ReadFailure};
use crate::seal::{self, JournalSpan};

/// The most seals that one read looks at. A seal has at most 1,024 spans of 90 bytes.
const SEALS_LOOKED_AT: i64 = 64;

/// A page ends with the entry that brings what was said in it past this many bytes; all of it is read to be checked.
const BODY_BYTES: usize = 4 << 20;

/// A seal as it is stored.
struct StoredSeal {
    number: u64,
    at: i64,
    kind: i64,
    record: Vec<u8>,
    chain: [u8; 32],
}

/// Returns the place behind the last seal.
pub(crate) fn chain_end(db: &Connection, tenant: TenantId) -> Found<AuditCursor> {
    Ok(AuditCursor { seal: seal::read_head(db, tenant)?.number + 1, ..AuditCursor::default() })
}

pub(crate) fn list_heads(db: &Connection, page: PageRequest<TenantId>) -> Found<Vec<AuditHead>> {
    let after = page.after.as_ref().map_or(&FIRST[..], |id| &id.as_bytes()[..]);
    // Those that were erased included: each checkpoint signs what stays of them.
    let mut select = db.prepare_cached(
        "SELECT tenant FROM tenants WHERE tenant > ?1 UNION SELECT tenant FROM audit_heads WHERE tenant > ?1 \
         ORDER BY tenant LIMIT ?2",
    )?;
    let tenants: Vec<[u8; 16]> = select
        .query_map(params![after, page_limit(&page)], |row| column_codes::read_bytes(row, 0))?
        .collect::<Result<_, _>>()?;
    tenants
        .into_iter()
        .map(|tenant| {
            let tenant = TenantId::from_bytes(tenant);
            let head = seal::read_head(db, tenant)?;
            Ok(AuditHead { tenant, seal: head.number, chain: Digest::from_bytes(head.chain) })
        })
        .collect()
}

pub(crate) fn list_items(
    reading: &mut ReadContext,
    view: ScopeView,
    filter: AuditFilter,
    after: AuditCursor,
    most: usize,
) -> Found<AuditPage> {
    let ReadContext { db, keys, files, .. } = reading;
    let end = chain_end(db, view.tenant)?;
    let key = match keys.get(db, view.tenant)? {
        Some(key) => Some(key),
        None => read_erasing_key(db, view.tenant)?,
    };
    let Some(key) = key else {
        return Ok(AuditPage { next: end, is_last: true, items: Vec::new() });
    };
    let db: &Connection = db;
    let seals = read_seals(db, view.tenant, filter.since, after)?;
    let was_cut = i64::try_from(seals.len()).is_ok_and(|count| count == SEALS_LOOKED_AT);
    let bodies = BodyReader { db, files, tenant: view.tenant, key: &key };
    let mut page = AuditPageBuilder { view, filter, bodies, after, most, bytes: 0, items: Vec::new() };
    let mut next = end;
    for seal in seals {
        check_seal(db, view.tenant, &seal)?;
        if let Some(stopped) = page.take_seal(&seal)? {
            return Ok(AuditPage { items: page.items, next: stopped, is_last: false });
        }
        next = AuditCursor { seal: seal.number + 1, ..AuditCursor::default() };
    }
    let next = if was_cut { next } else { end };
    Ok(AuditPage { items: page.items, is_last: next >= end, next })
}

/// Reads the key of a tenant that is being erased: its acts can be read as long as its row is there, whichever connection reads.
fn read_erasing_key(db: &Connection, tenant: TenantId) -> Found<Option<[u8; 32]>> {
    let mut select =
        db.prepare_cached("SELECT body_key FROM tenants WHERE tenant = ?1 AND erased_at IS NOT NULL")?;
    Ok(select.query_row([tenant.as_bytes()], |row| column_codes::read_bytes(row, 0)).optional()?)
}

fn read_seals(
    db: &Connection,
    tenant: TenantId,
    since: Option<Timestamp>,
    after: AuditCursor,
) -> Found<Vec<StoredSeal>> {
    let mut select = db.prepare_cached(
        "SELECT number, at, kind, record, chain FROM audit \
         WHERE tenant = ?1 AND number >= ?2 AND at >= ?3 ORDER BY number LIMIT ?4",
    )?;
    let since = since.map_or(i64::MIN, Timestamp::as_millisecond);
    let first = i64::try_from(after.seal).unwrap_or(i64::MAX);
    let found = select
        .query_map(params![tenant.as_bytes(), first, since, SEALS_LOOKED_AT], |row| {
            Ok(StoredSeal {
                number: column_codes::read_counter(row, 0)?,
                at: row.get(1)?,
                kind: row.get(2)?,
                record: row.get(3)?,
                chain: column_codes::read_bytes(row, 4)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(found)
}

/// Checks a seal against the one before.
fn check_seal(db: &Connection, tenant: TenantId, seal: &StoredSeal) -> Found<()> {
    let place = || format!("seal {} of the audit", seal.number);
    let before: Option<[u8; 32]> = match seal.number {
        1 => Some(seal::ORIGIN),
        number => db
            .prepare_cached("SELECT chain FROM audit WHERE tenant = ?1 AND number = ?2")?
            .query_row(params![tenant.as_bytes(), stored_counter(number.wrapping_sub(1))], |row| {
                column_codes::read_bytes(row, 0)
            })
            .optional()?,
    };
    let Some(before) = before else {
        return Err(ReadFailure::damaged_row(place(), "the seal before it is missing"));
    };
    let chain = seal::next(&before, tenant, seal.number, seal.at, seal.kind, &seal.record);
    if chain == seal.chain {
        Ok(())
    } else {
        Err(ReadFailure::damaged_row(place(), "it does not match its digest"))
    }
}

/// What a page has so far.
struct AuditPageBuilder<'a> {
    view: ScopeView,
    filter: AuditFilter,
    bodies: BodyReader<'a>,
    after: AuditCursor,
    most: usize,
    bytes: usize,
    items: Vec<AuditItem>,
}

impl AuditPageBuilder<'_> {
    /// Takes what a seal has after the place; returns where it stopped, if the page is full before the seal's end.
    fn take_seal(&mut self, seal: &StoredSeal) -> Found<Option<AuditCursor>> {
        let place = |span, seq| AuditCursor { seal: seal.number, span, seq };
        let spans = if seal.kind == seal::SPANS { JournalSpan::read_all(&seal.record) } else { None };
        let Some(spans) = spans else { return self.take_act(seal, place(0, 1)) };
        for (index, span) in (0_u32..).zip(&spans) {
            // What comes after the place; the spans before it were read.
            if self.after >= place(index, span.to) {
                continue;
            }
            let is_begun = (self.after.seal, self.after.span) == (seal.number, index);
            let from = if is_begun { span.from.max(self.after.seq + 1) } else { span.from };
            if self.is_full() {
                return Ok(Some(self.page_end()));
            }
            let Some((run, entries)) = self.span_entries(span, from)? else { continue };
            let Some(last) = entries.last().map(|entry| entry.seq) else { continue };
            for entry in entries {
                self.bytes += entry.body.as_ref().map_or(0, bytes::Bytes::len);
                self.items.push(AuditItem {
                    place: place(index, entry.seq),
                    at: entry.at,
                    what: AuditWhat::Entry {
                        run: run.id,
                        agent: run.agent,
                        session: run.session,
                        entry: StoredEntry { body: None, ..entry },
                    },
                });
            }
            if last < span.to {
                // A span may be longer than a page: the next one goes on in it.
                return Ok(Some(self.page_end()));
            }
        }
        Ok(None)
    }

    /// A change concerns the tenant, so a view of one agent sees none.
    fn take_act(&mut self, seal: &StoredSeal, place: AuditCursor) -> Found<Option<AuditCursor>> {
        if self.after >= place || self.view.only.is_some() || self.filter.run.is_some() {
            return Ok(None);
        }
        let chain = Digest::from_bytes(seal.chain);
        let act =
            (seal.kind == seal::ACT).then(|| serde_json::from_slice::<AuditAct>(&seal.record).ok()).flatten();
        let agent = act.as_ref().and_then(|act| act.change.concerned_agent());
        if self.filter.agent.is_some() && self.filter.agent != agent {
            return Ok(None);
        }
        if self.is_full() {
            return Ok(Some(self.page_end()));
        }
        let what = act.map_or(AuditWhat::Unknown { chain }, |act| AuditWhat::Act { act, chain });
        let at = Timestamp::from_millisecond(seal.at).map_err(|error| {
            ReadFailure::damaged_row(format!("seal {} of the audit", seal.number), error.to_string())
        })?;
        self.items.push(AuditItem { place, at, what });
        Ok(None)
    }

    fn is_full(&self) -> bool {
        self.items.len() >= self.most || self.bytes > BODY_BYTES
    }

    /// Where the page ends if it ends here. What lies between and was not wanted is looked at again.
    fn page_end(&self) -> AuditCursor {
        self.items.last().map_or(self.after, |item| item.place)
    }

    /// Reads the entries of a span from a number on, as many as the page takes; none of what is not seen.
    fn span_entries(&self, span: &JournalSpan, from: u64) -> Found<Option<(RunRecord, Vec<StoredEntry>)>> {
        let id = RunId::from_bytes(span.run);
        if self.filter.run.is_some_and(|only| only != id) || from > span.to {
            return Ok(None);
        }
        let Some(run) = run::find_durable_run(self.bodies.db, self.view, id)? else { return Ok(None) };
        if self.filter.agent.is_some_and(|only| only != run.run.agent) {
            return Ok(None);
        }
        let left = usize::try_from(span.to - from + 1).unwrap_or(usize::MAX);
        let wanted = left.min(self.most.saturating_sub(self.items.len()));
        let mut bytes = 0;
        let entries = CheckedJournal::starting_after(self.bodies, &run, from - 1)?.read_entries(
            row_limit(wanted),
            |entry| {
                bytes += entry.body.as_ref().map_or(0, bytes::Bytes::len);
                bytes <= BODY_BYTES
            },
        )?;
        Ok(Some((run.run, entries)))
    }
}
