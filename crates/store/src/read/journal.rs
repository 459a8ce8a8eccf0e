//! Journals, checked link by link, and the bodies beside them.

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, ffi, params};

use dromia_contracts::digest::Digest;
use dromia_contracts::id::{RunId, TenantId};
use dromia_contracts::store::StoredEntry;

use super::{Found, ScopeView, row_limit};
use crate::body::{self, BodyLocation, FileBodies};
use crate::chain::{self, ChainLink};
use crate::column_codes::{self, stored_counter};
use crate::obstacle;
use crate::packed_fields;
use crate::reader::{ReadContext, ReadFailure};
use crate::row::StoredRun;

/// Where the bodies of a tenant are found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyReader<'a> {
    pub(crate) db: &'a Connection,
    pub(crate) files: &'a FileBodies,
    pub(crate) tenant: TenantId,
    pub(crate) key: &'a [u8; 32],
}

/// A body as its row has it.
#[derive(Debug)]
pub(super) struct StoredBody {
    place: BodyLocation,
    inline: Option<Vec<u8>>,
    hash: Option<[u8; 32]>,
}

impl StoredBody {
    /// Returns whether the body is a file of its own.
    pub(super) fn is_file(&self) -> bool {
        self.place == BodyLocation::File
    }

    /// Reads place, body and hash, beginning at a column.
    pub(super) fn from_row(row: &Row<'_>, from: usize) -> rusqlite::Result<Self> {
        let number = row.get(from)?;
        let place = BodyLocation::from_code(number).ok_or_else(|| {
            column_codes::unreadable_column(from, Type::Integer, format!("{number} is no place of a body"))
        })?;
        Ok(Self { place, inline: row.get(from + 1)?, hash: column_codes::bytes_opt(row, from + 2)? })
    }
}

impl BodyReader<'_> {
    /// Fetches a body and its hash. A body that is elsewhere must match its hash; one in its row is checked by
    /// whatever covers the row.
    pub(super) fn resolve_body(
        &self,
        body: StoredBody,
        place: impl Fn() -> String,
    ) -> Found<(Option<Bytes>, Option<[u8; 32]>)> {
        let found = match (body.place, body.inline, body.hash) {
            (BodyLocation::Nowhere, None, None) => return Ok((None, None)),
            (BodyLocation::Row, Some(bytes), None) => {
                let hash = body::hash_body(self.key, &bytes);
                return Ok((Some(Bytes::from(bytes)), Some(hash)));
            }
            (BodyLocation::Erased, None, Some(hash)) => return Ok((None, Some(hash))),
            (BodyLocation::Table, None, Some(hash)) => (self.in_table(&hash)?, hash),
            (BodyLocation::File, None, Some(hash)) => (self.in_file(&hash)?, hash),
            _ => {
                return Err(ReadFailure::damaged_row(
                    place(),
                    "its body is missing in the row and in the files",
                ));
            }
        };
        match found {
            (None, _) => Err(ReadFailure::damaged_row(place(), "its body is missing")),
            (Some(bytes), hash) if body::hash_body(self.key, &bytes) == hash => {
                Ok((Some(Bytes::from(bytes)), Some(hash)))
            }
            (Some(_), _) => Err(ReadFailure::damaged_row(place(), "its body does not match its digest")),
        }
    }

    fn in_file(&self, hash: &[u8; 32]) -> Found<Option<Vec<u8>>> {
        match self.files.read(self.tenant, hash) {
            Ok(bytes) => Ok(Some(bytes)),
            // It says nothing of what the file holds: the read is unavailable, and the body is not damaged.
            Err(error) if obstacle::is_transient(&error) => {
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
pub(crate) struct CheckedJournal<'a> {
    bodies: BodyReader<'a>,
    run: RunId,
    /// What the run's row says of its last entry; nothing while the row is rebuilt.
    end: Option<(u64, [u8; 32])>,
    seq: u64,
    chain: [u8; 32],
}

impl<'a> CheckedJournal<'a> {
    pub(crate) fn starting_after(bodies: BodyReader<'a>, run: &StoredRun, after: u64) -> Found<Self> {
        let id = run.run.id;
        let chain = match after {
            0 => chain::ORIGIN,
            _ => chain_at(bodies.db, bodies.tenant, id, after)?
                .ok_or_else(|| ReadFailure::damaged_row(id, format!("entry {after} is missing")))?,
        };
        Ok(Self { bodies, run: id, end: Some((run.run.last_seq, run.chain)), seq: after, chain })
    }

    /// Reads a whole journal whose run has no row.
    pub(crate) fn read_whole(bodies: BodyReader<'a>, run: RunId) -> Found<Vec<StoredEntry>> {
        Self { bodies, run, end: None, seq: 0, chain: chain::ORIGIN }.read_entries(i64::MAX, |_| true)
    }

    /// The number of the last entry that was read.
    pub(crate) fn last_seq(&self) -> u64 {
        self.seq
    }

    /// Reads at most so many entries. `more` gets each entry and ends the reading by returning false.
    pub(crate) fn read_entries(
        &mut self,
        limit: i64,
        mut more: impl FnMut(&StoredEntry) -> bool,
    ) -> Found<Vec<StoredEntry>> {
        let id = self.run;
        let mut select = self.bodies.db.prepare_cached(
            "SELECT seq, at, epoch, kind, version, fields, chain, place, body, body_hash, packed FROM entries \
             WHERE tenant = ?1 AND run = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4",
        )?;
        let mut found = select.query(params![
            self.bodies.tenant.as_bytes(),
            id.as_bytes(),
            stored_counter(self.seq),
            limit
        ])?;
        let mut entries = Vec::new();
        while let Some(row) = found.next()? {
            let (entry, body) = (read_entry(row)?, StoredBody::from_row(row, 7)?);
            let entry = self.check_entry(entry, row.get(10)?, body)?;
            let more = more(&entry);
            entries.push(entry);
            if !more {
                return Ok(entries);
            }
        }
        let Some((last, chain)) = self.end else { return Ok(entries) };
        let complete = i64::try_from(entries.len()).is_ok_and(|count| count == limit);
        if !complete && self.seq < last {
            return Err(ReadFailure::damaged_row(
                id,
                format!("its journal ends at {}, but its row says {last}", self.seq),
            ));
        }
        if self.seq == last && self.chain != chain {
            return Err(ReadFailure::damaged_row(id, "its last entry does not match its row"));
        }
        Ok(entries)
    }

    fn check_entry(
        &mut self,
        mut entry: StoredEntry,
        packed: Option<Vec<u8>>,
        body: StoredBody,
    ) -> Found<StoredEntry> {
        let (run, seq) = (self.run, entry.seq);
        let place = || format!("entry {seq} of {run}");
        if entry.seq != self.seq + 1 {
            return Err(ReadFailure::damaged_row(self.run, format!("entry {} is missing", self.seq + 1)));
        }
        if let Some(packed) = packed {
            entry.fields = unpack_fields(&packed, place)?;
        }
        let (body, hash) = self.bodies.resolve_body(body, place)?;
        let link = ChainLink {
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
            return Err(ReadFailure::damaged_row(place(), "it does not match its digest"));
        }
        self.seq = entry.seq;
        self.chain = chain;
        entry.body = body;
        Ok(entry)
    }
}

/// Gives back the fields of a row that has them packed.
pub(super) fn unpack_fields(packed: &[u8], place: impl Fn() -> String) -> Found<String> {
    packed_fields::unpack(packed)
        .ok_or_else(|| ReadFailure::damaged_row(place(), "its fields cannot be read"))
}

/// Reads an entry but for what is packed and its body.
fn read_entry(row: &Row<'_>) -> rusqlite::Result<StoredEntry> {
    Ok(StoredEntry {
        seq: column_codes::read_counter(row, 0)?,
        at: column_codes::read_time(row, 1)?,
        epoch: column_codes::read_counter(row, 2)?,
        kind: row.get(3)?,
        version: row.get(4)?,
        fields: row.get(5)?,
        body: None,
        chain: Digest::from_bytes(column_codes::read_bytes(row, 6)?),
    })
}

pub(super) fn chain_at(db: &Connection, tenant: TenantId, run: RunId, seq: u64) -> Found<Option<[u8; 32]>> {
    let mut select =
        db.prepare_cached("SELECT chain FROM entries WHERE tenant = ?1 AND run = ?2 AND seq = ?3")?;
    let chain = select.query_row(params![tenant.as_bytes(), run.as_bytes(), stored_counter(seq)], |row| {
        column_codes::read_bytes(row, 0)
    });
    Ok(chain.optional()?)
}

pub(crate) fn journal_page(
    reading: &mut ReadContext,
    view: ScopeView,
    run: RunId,
    after: u64,
    limit: usize,
) -> Found<Vec<StoredEntry>> {
    let ReadContext { db, keys, files, .. } = reading;
    let Some(run) = super::run::find_stored_run(db, view, run)? else { return Ok(Vec::new()) };
    let Some(key) = keys.get(db, view.tenant)? else { return Ok(Vec::new()) };
    if after >= run.run.last_seq || limit == 0 {
        return Ok(Vec::new());
    }
    let bodies = BodyReader { db, files, tenant: view.tenant, key: &key };
    CheckedJournal::starting_after(bodies, &run, after)?.read_entries(row_limit(limit), |_| true)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::io;
    use std::path::Path;

    use dromia_contracts::store::ReadError;
    use rustix::io::Errno;

    use super::*;

    thread_local! {
        /// How many reads fail before one reaches the file, and with what.
        static FAILING: Cell<(u32, Option<Errno>)> = const { Cell::new((0, None)) };
    }

    fn read(path: &Path) -> io::Result<Vec<u8>> {
        match FAILING.get() {
            (left @ 1.., Some(errno)) => {
                FAILING.set((left - 1, Some(errno)));
                Err(errno.into())
            }
            _ => fs::read(path),
        }
    }

    /// Reads a body that is a file, of which so many reads fail.
    fn resolved(fails: u32, errno: Errno) -> Result<Vec<u8>, ReadError> {
        let dir = tempfile::tempdir().expect("a directory");
        let (tenant, key) = (TenantId::from_bytes([1; 16]), [7; 32]);
        let files = FileBodies::reading(dir.path().to_owned(), read);
        let hash = body::hash_body(&key, b"said");
        files.write(tenant, &hash, b"said").expect("is written");
        FAILING.set((fails, Some(errno)));
        let db = Connection::open_in_memory().expect("opens");
        let bodies = BodyReader { db: &db, files: &files, tenant, key: &key };
        let stored = StoredBody { place: BodyLocation::File, inline: None, hash: Some(hash) };
        let (body, _) = bodies.resolve_body(stored, || "a body".to_owned()).map_err(ReadError::from)?;
        Ok(body.expect("it has a body").to_vec())
    }

    #[test]
    fn a_failing_read_is_retried_and_never_reported_as_damage() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO, Errno::INTR, Errno::AGAIN] {
            assert_eq!(resolved(1, errno).expect("the second read"), b"said", "{errno}");
            let error = resolved(2, errno).expect_err("both reads fail");
            assert!(matches!(error, ReadError::Unavailable { .. }), "{errno}: {error}");
        }
    }

    #[test]
    fn a_body_that_is_no_readable_file_is_damage() {
        let error = resolved(2, Errno::ISDIR).expect_err("it is no file");
        assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
    }
}
