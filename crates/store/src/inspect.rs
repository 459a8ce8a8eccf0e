//! Looking at a store without owning it: for `doctor` and `audit verify`, beside a server or without one.
//!
//! Nothing is written and no lock is taken. A file without a log is read as immutable; one with a log, which a crash
//! or a running owner leaves, is read through SQLite's own locks. Each question ends after the patience it was given
//! and says so, so a large store cannot hold a diagnosis up.

mod audit;
mod heads;
mod kept;
mod names;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};

use dromia_contracts::TenantId;
use dromia_contracts::run::RunStatus;
use dromia_contracts::vault::SealedSecret;

use crate::acknowledged_end::{self, LogLoss};
use crate::body::{self, FileBodies};
use crate::column_codes::{StoredEnum as _, read_bytes, time_opt};
use crate::config::StoreConfig;
use crate::open_error::OpenError;
use crate::read;

pub use self::audit::{AuditChecked, AuditFinding, AuditProblem, JournalFold, TenantCheckpoint};
pub use self::names::{NameInventory, TenantNames};

/// The most files of bodies that are compared with their rows.
const FILES_LOOKED_AT: usize = 4096;

/// What SQLite says about its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntegrityStatus {
    /// Everything fits together.
    Sound,
    /// What was looked at fits together; there was no time for the rest.
    SoundSoFar,
    /// The first thing that does not.
    Damaged(String),
}

/// A secret as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSecret {
    /// Its tenant.
    pub tenant: TenantId,
    /// That one's handle; empty where there is none.
    pub handle: String,
    /// Its name.
    pub name: String,
    /// What is sealed; nothing where the row is no secret of this program.
    pub sealed: Option<SealedSecret>,
}

/// What became of the bodies that are files, seen from the rows that name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BodiesOfRows {
    /// Rows that were looked at.
    pub rows: u64,
    /// Rows whose file is not there.
    pub missing: u64,
    /// Rows whose file holds something else, or cannot be read.
    pub damaged: u64,
    /// Whether there was no time for the rest.
    pub is_cut_off: bool,
}

/// What a comparison of heads and of rows with a check value found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowComparison {
    /// The rows that differ, and how: at most a thousand of each table and tenant.
    pub mismatches: Vec<String>,
    /// Whether there was no time for the rest.
    pub is_cut_off: bool,
}

/// A read-only look at a store.
#[derive(Debug)]
pub struct StoreInspector {
    config: StoreConfig,
    patience: Duration,
}

impl StoreInspector {
    /// Prepares to look; [`StoreInspector::open`] tries it. Each question may take as long as `patience`.
    pub fn new(config: StoreConfig, patience: Duration) -> Self {
        Self { config, patience }
    }

    /// Opens the file and reads its first page, as every question does.
    pub fn open(&self) -> Result<(), OpenError> {
        let db = self.connect()?;
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(OpenError::from)
    }

    /// Has SQLite compare its pages, and then its rows with their order and their indices, which takes longer; what is sound
    /// here may still fail a digest, which every read checks.
    pub fn check_integrity(&self) -> Result<IntegrityStatus, OpenError> {
        let db = self.connect()?;
        let ask = |check: &str| db.query_row(check, [], |row| row.get::<_, String>(0));
        let found = match ask("PRAGMA quick_check(1)") {
            Ok(text) if text == "ok" => ask("PRAGMA integrity_check(1)"),
            found => found,
        };
        match found {
            Ok(text) if text == "ok" => Ok(IntegrityStatus::Sound),
            Ok(text) => Ok(IntegrityStatus::Damaged(text)),
            Err(error) if is_late(&error) => Ok(IntegrityStatus::SoundSoFar),
            Err(error) => match OpenError::from(error) {
                OpenError::Damaged { problem } => Ok(IntegrityStatus::Damaged(problem)),
                other => Err(other),
            },
        }
    }

    /// When the newest change of a run was stored; nothing if there was no time to find it.
    pub fn newest_change_at(&self) -> Result<Option<Timestamp>, OpenError> {
        self.query_one("SELECT max(updated_at) FROM runs", |row| time_opt(row, 0))
    }

    /// How many runs are held; nothing if there was no time to count them.
    pub fn count_held_runs(&self) -> Result<Option<u64>, OpenError> {
        let held = RunStatus::Held.stored_code();
        // The second condition is the one of the index of open runs.
        let sql = format!("SELECT count(*) FROM runs WHERE status = {held} AND status <= 2");
        self.query_one(&sql, |row| row.get::<_, i64>(0).map(|count| Some(count.cast_unsigned())))
    }

    /// When the oldest input was stored that waits although nothing is at work in its session.
    pub fn oldest_waiting_at(&self) -> Result<Option<Timestamp>, OpenError> {
        self.query_one(
            "SELECT min(inbox.at) FROM session_heads AS head JOIN inbox ON inbox.tenant = head.tenant \
             AND inbox.owner = head.session AND inbox.position = head.taken + 1 \
             WHERE head.last > head.taken AND head.active IS NULL",
            |row| time_opt(row, 0),
        )
    }

    /// How many messages are given up, or were sent and may not have arrived; nothing if there was no time to count.
    pub fn stopped_deliveries(&self) -> Result<Option<u64>, OpenError> {
        self.query_one("SELECT count(*) FROM deliveries WHERE state >= 4", |row| {
            row.get::<_, i64>(0).map(|count| Some(count.cast_unsigned()))
        })
    }

    /// When the oldest message was prepared that still waits to be delivered.
    pub fn oldest_delivery_at(&self) -> Result<Option<Timestamp>, OpenError> {
        self.query_one("SELECT min(since) FROM deliveries WHERE state <= 2", |row| time_opt(row, 0))
    }

    /// Whether a tenant has an agent, both by their handles; nothing if there was no time to look.
    pub fn has_agent(&self, tenant: &str, agent: &str) -> Result<Option<bool>, OpenError> {
        let db = self.connect()?;
        let found = db
            .query_row(
                "SELECT 1 FROM agents WHERE tenant = (SELECT tenant FROM tenants WHERE handle = ?1) AND handle = ?2",
                params![tenant, agent],
                |_| Ok(()),
            )
            .optional();
        match found {
            Ok(found) => Ok(Some(found.is_some())),
            Err(error) if is_late(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the sealed keys of at most `limit` tenants, for a caller that tests whether they can be unsealed.
    pub fn vault_keys(&self, limit: u32) -> Result<Vec<(TenantId, Vec<u8>)>, OpenError> {
        let db = self.connect()?;
        let mut select = db.prepare("SELECT tenant, key FROM vault_keys ORDER BY tenant LIMIT ?1")?;
        let rows =
            select.query_map([limit], |row| Ok((TenantId::from_bytes(read_bytes(row, 0)?), row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The handle of a tenant; nothing where there is no such tenant.
    pub fn tenant_handle(&self, tenant: TenantId) -> Result<Option<String>, OpenError> {
        let db = self.connect()?;
        let mut select = db.prepare("SELECT handle FROM tenants WHERE tenant = ?1")?;
        Ok(select.query_row([tenant.as_bytes()], |row| row.get(0)).optional()?)
    }

    /// The secrets of a tenant by its handle: their names, servers and placements, as they are stored; 256 at most.
    pub fn list_secrets(&self, tenant: &str) -> Result<Vec<(String, String, String)>, OpenError> {
        let db = self.connect()?;
        let mut select = db.prepare(
            "SELECT name, host, placement FROM secrets \
             WHERE tenant = (SELECT tenant FROM tenants WHERE handle = ?1) ORDER BY name LIMIT 256",
        )?;
        let rows = select.query_map([tenant], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Returns at most `limit` sealed secrets of all tenants, for a caller that tests whether they can be unsealed.
    pub fn sealed_secrets(&self, limit: u32) -> Result<Vec<StoredSecret>, OpenError> {
        let db = self.connect()?;
        let columns = read::vault::COLUMNS;
        let mut select = db.prepare(&format!(
            "SELECT {columns}, tenant, (SELECT handle FROM tenants WHERE tenants.tenant = secrets.tenant) \
             FROM secrets ORDER BY tenant, name LIMIT ?1"
        ))?;
        let rows = select.query_map([limit], |row| {
            Ok(StoredSecret {
                tenant: TenantId::from_bytes(read_bytes(row, 8)?),
                handle: row.get::<_, Option<String>>(9)?.unwrap_or_default(),
                name: row.get(0)?,
                // A secret that was edited past the store may be unreadable.
                sealed: read::vault::read_secret(row).ok(),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// How many files of bodies no row names, among the first few thousand. The next start removes them.
    pub fn unnamed_bodies(&self) -> Result<u64, OpenError> {
        let files = FileBodies::new(self.config.blobs_path());
        let mut unnamed = 0;
        let mut looked_at = 0;
        let db = self.connect()?;
        let mut named = db.prepare("SELECT 1 FROM bodies WHERE tenant = ?1 AND hash = ?2")?;
        for tenant in files.list_tenants()? {
            for hash in files.list_hashes(tenant)? {
                looked_at += 1;
                if looked_at > FILES_LOOKED_AT {
                    return Ok(unnamed);
                }
                if !named.exists(params![tenant.as_bytes(), hash])? {
                    unnamed += 1;
                }
            }
        }
        Ok(unnamed)
    }

    /// The files of bodies that rows name, and that are not there or hold something else. Whether a file is there is looked at
    /// for every row, what it holds as far as the time reaches.
    pub fn bodies_of_rows(&self) -> Result<BodiesOfRows, OpenError> {
        let files = FileBodies::new(self.config.blobs_path());
        let end = Instant::now() + self.patience;
        let db = self.connect()?;
        let mut select = db.prepare(
            "SELECT b.tenant, b.hash, t.body_key FROM bodies AS b LEFT JOIN tenants AS t ON t.tenant = b.tenant \
             WHERE b.bytes IS NULL ORDER BY b.tenant, b.hash",
        )?;
        let mut rows = select.query([])?;
        let mut found = BodiesOfRows::default();
        let mut there = Vec::new();
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(error) if is_late(&error) => {
                    found.is_cut_off = true;
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            let tenant = TenantId::from_bytes(read_bytes(row, 0)?);
            let hash: [u8; 32] = read_bytes(row, 1)?;
            let key: Option<[u8; 32]> = row.get(2)?;
            found.rows += 1;
            match (files.is_there(tenant, &hash), key) {
                (true, Some(key)) => there.push((tenant, hash, key)),
                (true, None) | (false, _) => found.missing += 1,
            }
        }
        for (tenant, hash, key) in there {
            if Instant::now() > end {
                found.is_cut_off = true;
                break;
            }
            let is_whole = files.read(tenant, &hash).is_ok_and(|body| body::hash_body(&key, &body) == hash);
            found.damaged += u64::from(!is_whole);
        }
        Ok(found)
    }

    /// Says what is missing of the log though it was acknowledged, if anything is. Not beside a server, which writes the log.
    pub fn log_loss(&self) -> io::Result<Option<LogLoss>> {
        acknowledged_end::log_loss(&self.config)
    }

    /// Compares, for every tenant, the heads of sessions with inboxes and runs, and rows with the check value that they carry.
    pub fn compare_rows(&self) -> Result<RowComparison, OpenError> {
        let db = self.connect()?;
        let mut compared = RowComparison::default();
        for tenant in self.audit_tenants()? {
            for compare in [heads::compare_heads, heads::compare_sealed_rows] {
                match compare(&db, tenant) {
                    Ok(found) => compared.mismatches.extend(
                        found.into_iter().map(|found| format!("{} of {tenant}: {}", found.row, found.detail)),
                    ),
                    Err(error) if is_late(&error) => {
                        compared.is_cut_off = true;
                        return Ok(compared);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(compared)
    }

    /// The files that an interrupted write left; the next one of its kind writes over them.
    pub fn leftover_files(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in list_directory(&self.config.dir)? {
            if entry.extension() == Some(OsStr::new("partial")) {
                found.push(entry);
            }
        }
        for tenant in list_directory(&self.config.blobs_path())? {
            let incoming = tenant.join("incoming");
            if incoming.exists() {
                found.push(incoming);
            }
        }
        Ok(found)
    }

    /// Bytes of the write-ahead log; none if there is no log.
    pub fn log_bytes(&self) -> io::Result<u64> {
        match fs::metadata(self.config.wal_path()) {
            Ok(log) => Ok(log.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Asks for one value; nothing if there is none or there was no time to find it.
    fn query_one<T>(
        &self,
        sql: &str,
        value: impl FnOnce(&Row<'_>) -> rusqlite::Result<Option<T>>,
    ) -> Result<Option<T>, OpenError> {
        match self.connect()?.query_row(sql, [], value) {
            Ok(value) => Ok(value),
            Err(error) if is_late(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn connect(&self) -> Result<Connection, OpenError> {
        // A process that has the store open has a log; without a log no process writes, and no file is locked or made.
        self.connect_with(if self.config.wal_path().exists() { "?mode=ro" } else { "?mode=ro&immutable=1" })
    }

    /// Opens the file by SQLite's locks, whether or not there is a log at this moment.
    pub(crate) fn connect_beside(&self) -> Result<Connection, OpenError> {
        self.connect_with("?mode=ro")
    }

    fn connect_with(&self, more: &str) -> Result<Connection, OpenError> {
        let database = self.config.database_path();
        fs::metadata(&database).map_err(OpenError::of_home)?;
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(format!("file:{}{more}", file_uri(&database)), flags)?;
        db.busy_timeout(self.patience)?;
        let end = Instant::now() + self.patience;
        db.progress_handler(1_000, Some(move || Instant::now() > end))?;
        Ok(db)
    }
}

fn is_late(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted)
}

/// Writes a path so that nothing in it is taken for a part of the URI.
fn file_uri(path: &Path) -> String {
    let mut uri = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                uri.push(char::from(*byte));
            }
            _ => uri.extend([format!("%{byte:02X}")]),
        }
    }
    uri
}

/// Lists a directory; one that is not there is empty.
fn list_directory(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
