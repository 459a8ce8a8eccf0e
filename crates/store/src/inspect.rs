//! Looking at a store without owning it: for `doctor` and `audit verify`, beside a server or without one.
//!
//! Nothing is written and no lock is taken. A file without a log is read as immutable; one with a log, which a crash
//! or a running owner leaves, is read through SQLite's own locks. Each question ends after the patience it was given
//! and says so, so a large store cannot hold a diagnosis up.

mod audit;
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

use crate::body::FileBodies;
use crate::code::{Code as _, bytes, time_opt};
use crate::config::StoreConfig;
use crate::open::OpenError;
use crate::read;

pub use self::audit::{AuditChecked, AuditFinding, AuditProblem, Checkpointed, JournalFold};
pub use self::names::{Names, TenantNames};

/// The most files of bodies that are compared with their rows.
const FILES_LOOKED_AT: usize = 4096;

/// What SQLite says about its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Soundness {
    /// Everything fits together.
    Sound,
    /// What was looked at fits together; there was no time for the rest.
    SoundSoFar,
    /// The first thing that does not.
    Damaged(String),
}

/// A secret as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its tenant.
    pub tenant: TenantId,
    /// That one's handle; empty where there is none.
    pub handle: String,
    /// Its name.
    pub name: String,
    /// What is sealed; nothing where the row is no secret of this program.
    pub sealed: Option<SealedSecret>,
}

/// A read-only look at a store.
#[derive(Debug)]
pub struct Inspector {
    config: StoreConfig,
    patience: Duration,
}

impl Inspector {
    /// Prepares to look; [`Inspector::open`] tries it. Each question may take as long as `patience`.
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
    pub fn soundness(&self) -> Result<Soundness, OpenError> {
        let db = self.connect()?;
        let ask = |check: &str| db.query_row(check, [], |row| row.get::<_, String>(0));
        let found = match ask("PRAGMA quick_check(1)") {
            Ok(text) if text == "ok" => ask("PRAGMA integrity_check(1)"),
            found => found,
        };
        match found {
            Ok(text) if text == "ok" => Ok(Soundness::Sound),
            Ok(text) => Ok(Soundness::Damaged(text)),
            Err(error) if is_late(&error) => Ok(Soundness::SoundSoFar),
            Err(error) => match OpenError::from(error) {
                OpenError::Damaged { problem } => Ok(Soundness::Damaged(problem)),
                other => Err(other),
            },
        }
    }

    /// When the newest change of a run was stored; nothing if there was no time to find it.
    pub fn newest_change_at(&self) -> Result<Option<Timestamp>, OpenError> {
        self.ask("SELECT max(updated_at) FROM runs", |row| time_opt(row, 0))
    }

    /// How many runs are held; nothing if there was no time to count them.
    pub fn held(&self) -> Result<Option<u64>, OpenError> {
        let held = RunStatus::Held.code();
        // The second condition is the one of the index of open runs.
        let sql = format!("SELECT count(*) FROM runs WHERE status = {held} AND status <= 2");
        self.ask(&sql, |row| row.get::<_, i64>(0).map(|count| Some(count.cast_unsigned())))
    }

    /// When the oldest input was stored that waits although nothing is at work in its session.
    pub fn oldest_waiting_at(&self) -> Result<Option<Timestamp>, OpenError> {
        self.ask(
            "SELECT min(inbox.at) FROM session_heads AS head JOIN inbox ON inbox.tenant = head.tenant \
             AND inbox.owner = head.session AND inbox.position = head.taken + 1 \
             WHERE head.last > head.taken AND head.active IS NULL",
            |row| time_opt(row, 0),
        )
    }

    /// How many messages are given up, or were sent and may not have arrived; nothing if there was no time to count.
    pub fn stopped_deliveries(&self) -> Result<Option<u64>, OpenError> {
        self.ask("SELECT count(*) FROM deliveries WHERE state >= 4", |row| {
            row.get::<_, i64>(0).map(|count| Some(count.cast_unsigned()))
        })
    }

    /// When the oldest message was prepared that still waits to be delivered.
    pub fn oldest_delivery_at(&self) -> Result<Option<Timestamp>, OpenError> {
        self.ask("SELECT min(since) FROM deliveries WHERE state <= 2", |row| time_opt(row, 0))
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

    /// The keys of tenants that seal secrets, sealed as they are: of a few tenants, for whoever tries whether they open.
    pub fn vault_keys(&self, limit: u32) -> Result<Vec<(TenantId, Vec<u8>)>, OpenError> {
        let db = self.connect()?;
        let mut select = db.prepare("SELECT tenant, key FROM vault_keys ORDER BY tenant LIMIT ?1")?;
        let rows =
            select.query_map([limit], |row| Ok((TenantId::from_bytes(bytes(row, 0)?), row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The handle of a tenant; nothing where there is no such tenant.
    pub fn tenant_handle(&self, tenant: TenantId) -> Result<Option<String>, OpenError> {
        let db = self.connect()?;
        let mut select = db.prepare("SELECT handle FROM tenants WHERE tenant = ?1")?;
        Ok(select.query_row([tenant.as_bytes()], |row| row.get(0)).optional()?)
    }

    /// The secrets of a tenant by its handle: their names, servers and placements, as they are stored; 256 at most.
    pub fn secrets(&self, tenant: &str) -> Result<Vec<(String, String, String)>, OpenError> {
        let db = self.connect()?;
        let mut select = db.prepare(
            "SELECT name, host, placement FROM secrets \
             WHERE tenant = (SELECT tenant FROM tenants WHERE handle = ?1) ORDER BY name LIMIT 256",
        )?;
        let rows = select.query_map([tenant], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Secrets of all tenants, sealed as they are: so many, for whoever tries whether they open.
    pub fn sealed_secrets(&self, limit: u32) -> Result<Vec<Kept>, OpenError> {
        let db = self.connect()?;
        let columns = read::vault::COLUMNS;
        let mut select = db.prepare(&format!(
            "SELECT {columns}, tenant, (SELECT handle FROM tenants WHERE tenants.tenant = secrets.tenant) \
             FROM secrets ORDER BY tenant, name LIMIT ?1"
        ))?;
        let rows = select.query_map([limit], |row| {
            Ok(Kept {
                tenant: TenantId::from_bytes(bytes(row, 8)?),
                handle: row.get::<_, Option<String>>(9)?.unwrap_or_default(),
                name: row.get(0)?,
                // One that somebody changed may be none any more.
                sealed: read::vault::read(row).ok(),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// How many files of bodies no row names, among the first few thousand. The next start removes them.
    pub fn unnamed_bodies(&self) -> Result<u64, OpenError> {
        let files = FileBodies::new(self.config.blobs());
        let mut unnamed = 0;
        let mut looked_at = 0;
        let db = self.connect()?;
        let mut named = db.prepare("SELECT 1 FROM bodies WHERE tenant = ?1 AND hash = ?2")?;
        for tenant in files.tenants()? {
            for hash in files.list(tenant)? {
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

    /// The files that an interrupted write left; the next one of its kind writes over them.
    pub fn leftovers(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in entries(&self.config.dir)? {
            if entry.extension() == Some(OsStr::new("partial")) {
                found.push(entry);
            }
        }
        for tenant in entries(&self.config.blobs())? {
            let incoming = tenant.join("incoming");
            if incoming.exists() {
                found.push(incoming);
            }
        }
        Ok(found)
    }

    /// Bytes of the write-ahead log; none if there is no log.
    pub fn log_bytes(&self) -> io::Result<u64> {
        match fs::metadata(self.config.wal()) {
            Ok(log) => Ok(log.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Asks for one value; nothing if there is none or there was no time to find it.
    fn ask<T>(
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

    fn connect(&self) -> Result<Connection, OpenError> {
        let database = self.config.database();
        fs::metadata(&database).map_err(OpenError::of_home)?;
        // Whoever has the store open has a log; without one nobody writes, and nothing need be locked or made.
        let more = if self.config.wal().exists() { "?mode=ro" } else { "?mode=ro&immutable=1" };
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(format!("file:{}{more}", uri(&database)), flags)?;
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
fn uri(path: &Path) -> String {
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
fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
