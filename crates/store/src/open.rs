//! Opening: the directory, the lock, the schema and the connections.
//!
//! Nothing is written before the lock is held and the file is known to be ours and not newer than this program.

use std::fs::{self, DirBuilder};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::acknowledged_end::{self, AcknowledgedEnd};
use crate::config::{APPLICATION_ID, StoreConfig, WAL_PRESS_BYTES};
use crate::directory_sync::{sync_directory, sync_parents};
use crate::migrate::{self, Migration, MigrationPlan};
use crate::open_error::OpenError;

/// How long a start waits for a process that is in the log; `doctor` looks for less.
const LOG_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long the writer waits for a lock that only another process can have.
const BUSY_WAIT_MAX: Duration = Duration::from_millis(100);

/// Makes the directory if it is not there, readable by its owner only.
///
/// Its name is made durable in any case: an earlier process may have made it and ended before it synced the parents.
pub(crate) fn make_dir(config: &StoreConfig) -> Result<(), OpenError> {
    if !config.dir.is_dir() {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&config.dir).map_err(OpenError::of_home)?;
    }
    sync_parents(&config.dir, sync_directory).map_err(OpenError::Io)
}

/// Opens the writer's connection for the first time: creates or migrates the schema.
pub(crate) fn open_writer(config: &StoreConfig) -> Result<Connection, OpenError> {
    open_writer_with(config, migrate::MIGRATIONS)
}

pub(crate) fn open_writer_with(
    config: &StoreConfig,
    migrations: &'static [Migration],
) -> Result<Connection, OpenError> {
    let fresh = match MigrationPlan::for_directory(&config.dir, migrations) {
        Ok(plan) => plan.found == 0,
        Err(error) => return Err(error),
    };
    // SQLite takes what lies behind a damaged frame of the log for what a crash left, and reports nothing.
    acknowledged_end::check_log(config)?;
    let mut end = AcknowledgedEnd::open(config).map_err(OpenError::of_home)?;
    let mut db = open_connection(config)?;
    if fresh {
        // These are fixed before the first table; a crash before the first step leaves an empty file of ours.
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        db.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    prepare_writer(&db)?;
    // An earlier life may have ended after a sync that failed: what it left in the log is not known to be durable,
    // and nothing may be acknowledged, or migrated, behind it.
    end.clear_durably();
    empty_log(&db)?;
    migrate::migrate_store(&mut db, &config.dir, migrations)?;
    // From here on the header, which the next start reads first, has the new schema version too.
    empty_log(&db)?;
    fs::File::open(&config.dir).and_then(|dir| dir.sync_all())?;
    Ok(db)
}

/// Copies the whole log into the main file, syncs both and empties the log. SQLite waits for readers in the log.
fn empty_log(db: &Connection) -> Result<(), OpenError> {
    db.busy_timeout(LOG_WAIT_MAX)?;
    let busy: bool = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    db.busy_timeout(BUSY_WAIT_MAX)?;
    // An answer is no proof: where a reader stays, SQLite copies what it can and says here that it was not all.
    if busy { Err(OpenError::LogHeld) } else { Ok(()) }
}

/// Opens the writer's connection again after a failed write: the schema is already there.
pub(crate) fn reopen_writer(config: &StoreConfig) -> Result<Connection, rusqlite::Error> {
    let db = open_connection(config)?;
    prepare_writer(&db)?;
    Ok(db)
}

/// Opens a reader's connection. It may write by its flags, because a reader of a log needs the shared index; the
/// pragma forbids it to.
pub(crate) fn open_reader(config: &StoreConfig) -> Result<Connection, rusqlite::Error> {
    let db = open_connection(config)?;
    db.pragma_update(None, "query_only", true)?;
    db.pragma_update(None, "cache_size", -512)?;
    db.set_prepared_statement_cache_capacity(48);
    db.busy_timeout(Duration::from_secs(1))?;
    Ok(db)
}

fn prepare_writer(db: &Connection) -> Result<(), rusqlite::Error> {
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(format!("the journal mode stays {mode}")),
        ));
    }
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "secure_delete", true)?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    // A log that a copy held and that restarts while a reader is about gives its room back all the same.
    db.pragma_update(None, "journal_size_limit", WAL_PRESS_BYTES.cast_signed())?;
    db.pragma_update(None, "foreign_keys", false)?;
    db.pragma_update(None, "cache_size", -4096)?;
    db.set_prepared_statement_cache_capacity(96);
    db.busy_timeout(BUSY_WAIT_MAX)?;
    Ok(())
}

fn open_connection(config: &StoreConfig) -> Result<Connection, rusqlite::Error> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = match &config.vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(config.database_path(), flags, vfs.as_str())?,
        None => Connection::open_with_flags(config.database_path(), flags)?,
    };
    db.pragma_update(None, "temp_store", "MEMORY")?;
    // Plans do not depend on values, so a cached statement is not parsed again because another value is bound.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(db)
}
