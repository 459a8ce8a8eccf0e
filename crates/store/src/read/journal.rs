//! Journals, checked link by link, and the bodies beside them.

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, ffi, params};

use dromia_contracts::digest::Digest;
use dromia_contracts::id::{RunId, TenantId};
use dromia_contracts::store::StoredEntry;

use super::{Found, View, rows};
use crate::body::{self, FileBodies, Place};
use crate::chain::{self, Link};
use crate::code::{self, stored};
use crate::obstacle::{self, Obstacle};
use crate::packed;
use crate::reader::{Problem, Reading};
use crate::row::StoredRun;

/// Where the bodies of a tenant are found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bodies<'a> {
    pub(crate) db: &'a Connection,
    pub(crate) files: &'a FileBodies,
    pub(crate) tenant: TenantId,
    pub(crate) key: &'a [u8; 32],
}

/// A body as its row has it.
#[derive(Debug)]
pub(super) struct StoredBody {
    place: Place,
    inline: Option<Vec<u8>>,
    hash: Option<[u8; 32]>,
}

impl StoredBody {
    /// Reads place, body and hash, beginning at a column.
    pub(super) fn read(row: &Row<'_>, from: usize) -> rusqlite::Result<Self> {
        let number = row.get(from)?;
        let place = Place::from_code(number).ok_or_else(|| {
            code::unreadable(from, Type::Integer, format!("{number} is no place of a body"))
        })?;
        Ok(Self { place, inline: row.get(from + 1)?, hash: code::bytes_opt(row, from + 2)? })
    }
}

impl Bodies<'_> {
    /// Fetches a body and its hash. A body that is elsewhere must match its hash; one in its row is checked by
    /// whatever covers the row.
    pub(super) fn resolve(
        &self,
        body: StoredBody,
        place: impl Fn() -> String,
    ) -> Found<(Option<Bytes>, Option<[u8; 32]>)> {
        let found = match (body.place, body.inline, body.hash) {
            (Place::Nowhere, None, None) => return Ok((None, None)),
            (Place::Row, Some(bytes), None) => {
                let hash = body::hash(self.key, &bytes);
                return Ok((Some(Bytes::from(bytes)), Some(hash)));
            }
            (Place::Erased, None, Some(hash)) => return Ok((None, Some(hash))),
            (Place::Table, None, Some(hash)) => (self.in_table(&hash)?, hash),
            (Place::File, None, Some(hash)) => (self.in_file(&hash)?, hash),
            _ => return Err(Problem::damaged(place(), "its body is neither here nor elsewhere")),
        };
        match found {
            (None, _) => Err(Problem::damaged(place(), "its body is missing")),
            (Some(bytes), hash) if body::hash(self.key, &bytes) == hash => {
                Ok((Some(Bytes::from(bytes)), Some(hash)))
            }
            (Some(_), _) => Err(Problem::damaged(place(), "its body does not match its digest")),
        }
    }

    fn in_file(&self, hash: &[u8; 32]) -> Found<Option<Vec<u8>>> {
        match self.files.read(self.tenant, hash) {
            Ok(bytes) => Ok(Some(bytes)),
            // Too many files are open, which says nothing of this one: it is no damage.
            Err(error) if obstacle::of_file(&error) == Obstacle::Files => {
                let code = ffi::Error::new(ffi::SQLITE_CANTOPEN);
                Err(rusqlite::Error::SqliteFailure(code, Some(error.to_string())).into())
            }
            Err(_) => Ok(None),
        }
    }

    fn in_table(&self, hash: &[u8; 32]) -> Found<Option<Vec<u8>>> {
        let mut select =
            self.db.prepare_cached("SELECT bytes FROM bodies WHERE tenant = ?1 AND hash = ?2")?;
        let bytes = select.query_row(params![self.tenant.as_bytes(), hash], |row| row.get(0)).optional()?;
        Ok(bytes.flatten())
    }
}

/// The entries of one run after a place, read one by one, each checked against the one before.
pub(crate) struct Checked<'a> {
    bodies: Bodies<'a>,
    run: RunId,
    /// What the run's row says of its last entry; nothing while the row is rebuilt.
    end: Option<(u64, [u8; 32])>,
    seq: u64,
    chain: [u8; 32],
}

impl<'a> Checked<'a> {
    pub(crate) fn after(bodies: Bodies<'a>, run: &StoredRun, after: u64) -> Found<Self> {
        let id = run.run.id;
        let chain = match after {
            0 => chain::ORIGIN,
            _ => chain_at(bodies.db, bodies.tenant, id, after)?
                .ok_or_else(|| Problem::damaged(id, format!("entry {after} is missing")))?,
        };
        Ok(Self { bodies, run: id, end: Some((run.run.last_seq, run.chain)), seq: after, chain })
    }

    /// Reads a whole journal whose run has no row.
    pub(crate) fn whole(bodies: Bodies<'a>, run: RunId) -> Found<Vec<StoredEntry>> {
        Self { bodies, run, end: None, seq: 0, chain: chain::ORIGIN }.read(i64::MAX, |_| true)
    }

    /// The number of the last entry that was read.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Reads at most so many entries. `more` is told of each body and ends the reading by returning false.
    pub(crate) fn read(
        &mut self,
        limit: i64,
        mut more: impl FnMut(&StoredEntry) -> bool,
    ) -> Found<Vec<StoredEntry>> {
        let id = self.run;
        let mut select = self.bodies.db.prepare_cached(
            "SELECT seq, at, epoch, kind, version, fields, chain, place, body, body_hash, packed FROM entries \
             WHERE tenant = ?1 AND run = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4",
        )?;
        let mut found =
            select.query(params![self.bodies.tenant.as_bytes(), id.as_bytes(), stored(self.seq), limit])?;
        let mut entries = Vec::new();
        while let Some(row) = found.next()? {
            let (entry, body) = (read_entry(row)?, StoredBody::read(row, 7)?);
            let entry = self.check(entry, row.get(10)?, body)?;
            let more = more(&entry);
            entries.push(entry);
            if !more {
                return Ok(entries);
            }
        }
        let Some((last, chain)) = self.end else { return Ok(entries) };
        let complete = i64::try_from(entries.len()).is_ok_and(|count| count == limit);
        if !complete && self.seq < last {
            return Err(Problem::damaged(
                id,
                format!("its journal ends at {}, its row says {last}", self.seq),
            ));
        }
        if self.seq == last && self.chain != chain {
            return Err(Problem::damaged(id, "its last entry does not match its row"));
        }
        Ok(entries)
    }

    fn check(
        &mut self,
        mut entry: StoredEntry,
        packed: Option<Vec<u8>>,
        body: StoredBody,
    ) -> Found<StoredEntry> {
        let (run, seq) = (self.run, entry.seq);
        let place = || format!("entry {seq} of {run}");
        if entry.seq != self.seq + 1 {
            return Err(Problem::damaged(self.run, format!("entry {} is missing", self.seq + 1)));
        }
        if let Some(packed) = packed {
            entry.fields = unpacked(&packed, place)?;
        }
        let (body, hash) = self.bodies.resolve(body, place)?;
        let link = Link {
            seq: entry.seq,
            at: entry.at,
            epoch: entry.epoch,
            kind: &entry.kind,
            version: entry.version,
            fields: &entry.fields,
            body_hash: hash.as_ref(),
        };
        let chain = chain::next(&self.chain, &link);
        if chain != *entry.chain.as_bytes() {
            return Err(Problem::damaged(place(), "it does not match its digest"));
        }
        self.seq = entry.seq;
        self.chain = chain;
        entry.body = body;
        Ok(entry)
    }
}

/// Gives back the fields of a row that has them packed.
pub(super) fn unpacked(packed: &[u8], place: impl Fn() -> String) -> Found<String> {
    packed::unpack(packed).ok_or_else(|| Problem::damaged(place(), "its fields are unreadable"))
}

/// Reads an entry but for what is packed and its body.
fn read_entry(row: &Row<'_>) -> rusqlite::Result<StoredEntry> {
    Ok(StoredEntry {
        seq: code::number(row, 0)?,
        at: code::time(row, 1)?,
        epoch: code::number(row, 2)?,
        kind: row.get(3)?,
        version: row.get(4)?,
        fields: row.get(5)?,
        body: None,
        chain: Digest::from_bytes(code::bytes(row, 6)?),
    })
}

fn chain_at(db: &Connection, tenant: TenantId, run: RunId, seq: u64) -> Found<Option<[u8; 32]>> {
    let mut select =
        db.prepare_cached("SELECT chain FROM entries WHERE tenant = ?1 AND run = ?2 AND seq = ?3")?;
    let chain =
        select.query_row(params![tenant.as_bytes(), run.as_bytes(), stored(seq)], |row| code::bytes(row, 0));
    Ok(chain.optional()?)
}

pub(crate) fn page(
    reading: &mut Reading,
    view: View,
    run: RunId,
    after: u64,
    limit: usize,
) -> Found<Vec<StoredEntry>> {
    let Reading { db, keys, files, .. } = reading;
    let Some(run) = super::run::stored(db, view, run)? else { return Ok(Vec::new()) };
    let Some(key) = keys.get(db, view.tenant)? else { return Ok(Vec::new()) };
    if after >= run.run.last_seq || limit == 0 {
        return Ok(Vec::new());
    }
    let bodies = Bodies { db, files, tenant: view.tenant, key: &key };
    Checked::after(bodies, &run, after)?.read(rows(limit), |_| true)
}
