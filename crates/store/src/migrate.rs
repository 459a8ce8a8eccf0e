//! The steps from one schema to the next.
//!
//! `PRAGMA user_version` is the number of the last step that was applied. Each step is one transaction that
//! raises it, so a crash between two steps is a store of the version in between, and the next start goes on from
//! there. Before the first step touches a store with data, a copy is written beside it, each time under a name of its
//! own: an older copy is of other data. A newer store is refused before anything is touched: its number is read from
//! the file's header, without SQLite.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::config::{APPLICATION_ID, DATABASE};
use crate::open_error::OpenError;

/// One step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Migration {
    /// What it does, in a few words.
    pub(crate) name: &'static str,
    /// The statements.
    pub(crate) sql: &'static str,
}

impl Migration {
    /// Does the step in a transaction of the caller's, and raises the version there.
    fn apply_step(&self, db: &Connection, version: u32) -> rusqlite::Result<()> {
        db.execute_batch(self.sql)?;
        db.pragma_update(None, "user_version", version)
    }
}

/// Every step, in order; the first leads to version 1.
pub(crate) const MIGRATIONS: &[Migration] =
    &[Migration { name: "first schema", sql: include_str!("schema/0001_first.sql") }];

/// What opening a directory would do to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationPlan {
    /// The version found; 0 where there is no store yet.
    pub found: u32,
    /// The version that this program writes.
    pub known: u32,
    /// The steps that would be applied, in order.
    pub steps: Vec<&'static str>,
    /// The copy that would be written first.
    pub backup: Option<PathBuf>,
}

impl MigrationPlan {
    pub(crate) fn for_directory(dir: &Path, migrations: &'static [Migration]) -> Result<Self, OpenError> {
        let found = version_in_header(&dir.join(DATABASE))?;
        Self::from_version(dir, migrations, found)
    }

    fn from_version(dir: &Path, migrations: &'static [Migration], found: u32) -> Result<Self, OpenError> {
        let known = newest_version(migrations);
        if found > known {
            return Err(OpenError::NewerSchema { found, known });
        }
        let steps: Vec<_> = migrations.iter().skip(found as usize).map(|migration| migration.name).collect();
        let backup = (found > 0 && !steps.is_empty()).then(|| free_name(dir, found));
        Ok(Self { found, known, steps, backup })
    }
}

/// Brings an open store to the newest version.
pub(crate) fn migrate_store(
    db: &mut Connection,
    dir: &Path,
    migrations: &'static [Migration],
) -> Result<(), OpenError> {
    // The header lags behind a crash between a step and its checkpoint; SQLite knows the log as well.
    let found: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let plan = MigrationPlan::from_version(dir, migrations, found)?;
    if let Some(backup) = &plan.backup {
        write_backup(db, dir, backup)?;
    }
    let mut untouched = true;
    for (version, migration) in (1_u32..).zip(migrations).skip(found as usize) {
        tracing::info!(step = migration.name, version, "schema step");
        let step = db.transaction()?;
        if let Err(error) = migration.apply_step(&step, version) {
            drop(step);
            // The store is what its copy is: a start that is tried again and again must not fill the disk with them.
            if let Some(backup) = plan.backup.filter(|_| untouched)
                && let Err(error) = fs::remove_file(backup)
            {
                tracing::warn!(%error, "a copy of a store that did not change stays");
            }
            return Err(error.into());
        }
        untouched = false;
        // What a failed commit left behind is unknown, so the copy stays.
        step.commit()?;
    }
    Ok(())
}

/// The name of a copy that no earlier one has: a store may be restored from its copy, used, and migrated again.
fn free_name(dir: &Path, found: u32) -> PathBuf {
    let mut name = dir.join(format!("backup-schema-{found}.db"));
    let mut number = 1_u32;
    while name.exists() {
        number += 1;
        name = dir.join(format!("backup-schema-{found}-{number}.db"));
    }
    name
}

fn newest_version(migrations: &[Migration]) -> u32 {
    u32::try_from(migrations.len()).unwrap_or(u32::MAX)
}

/// A copy is complete as soon as it has its name: a crash before the renaming leaves a file that is rewritten.
fn write_backup(db: &Connection, dir: &Path, backup: &Path) -> Result<(), OpenError> {
    let partial = backup.with_extension("partial");
    match fs::remove_file(&partial) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(OpenError::Io(error)),
    }
    if let Err(error) = db.execute("VACUUM INTO ?1", [partial.to_string_lossy()]) {
        // On a disk that is full it is in the way.
        let _gone = fs::remove_file(&partial);
        return Err(error.into());
    }
    File::open(&partial).and_then(|file| file.sync_all())?;
    fs::rename(&partial, backup)?;
    File::open(dir).and_then(|dir| dir.sync_all())?;
    Ok(())
}

/// Reads `user_version` and the application id where SQLite keeps them: big-endian, at bytes 60 and 68; at byte 40
/// lies how often the schema changed.
fn version_in_header(database: &Path) -> Result<u32, OpenError> {
    let mut header = Vec::with_capacity(100);
    match File::open(database) {
        Ok(file) => file.take(100).read_to_end(&mut header)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(OpenError::of_home(error)),
    };
    if header.is_empty() {
        // Created, and a crash came before the first page.
        return Ok(0);
    }
    if header.len() < 100 || !header.starts_with(b"SQLite format 3\0") {
        return Err(OpenError::Damaged { problem: "the main file does not begin like a database".into() });
    }
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (version, application) = (word(60), word(68));
    // A database that never had a table has no application: a crash between the first page and the id leaves one.
    let schemas = word(40);
    if (version, application, schemas) == (0, 0, 0) {
        return Ok(0);
    }
    if application != APPLICATION_ID.cast_unsigned() {
        return Err(OpenError::NotOurs);
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreConfig;
    use crate::open::open_writer_with;

    const FIRST: &[Migration] = &[MIGRATIONS[0]];
    /// With a next version that is made up.
    const TWO: &[Migration] =
        &[MIGRATIONS[0], Migration { name: "a column", sql: "ALTER TABLE pins ADD COLUMN note TEXT;" }];

    fn version(db: &Connection) -> u32 {
        db.pragma_query_value(None, "user_version", |row| row.get(0)).expect("the version is readable")
    }

    #[test]
    fn a_step_is_announced_backed_up_and_applied_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = StoreConfig::new(dir.path());
        assert_eq!(MigrationPlan::for_directory(dir.path(), FIRST).map(|plan| plan.found).ok(), Some(0));
        drop(open_writer_with(&config, FIRST).expect("opens"));

        let plan = MigrationPlan::for_directory(dir.path(), TWO).expect("is planned");
        assert_eq!((plan.found, plan.known, plan.steps.as_slice()), (1, 2, &["a column"][..]));
        let backup = plan.backup.expect("data is copied first");
        assert!(!backup.exists(), "a plan changes nothing");

        let db = open_writer_with(&config, TWO).expect("migrates");
        assert_eq!(version(&db), 2);
        drop(db);
        let copy = Connection::open(&backup).expect("the copy opens");
        assert_eq!(version(&copy), 1);

        let again = MigrationPlan::for_directory(dir.path(), TWO).expect("is planned");
        assert_eq!((again.steps.len(), again.backup), (0, None));
    }

    fn pinned(db: &Connection) -> Vec<String> {
        let mut select =
            db.prepare("SELECT CAST(bytes AS TEXT) FROM pins ORDER BY bytes").expect("is prepared");
        let rows = select.query_map([], |row| row.get(0)).expect("runs");
        rows.collect::<Result<_, _>>().expect("is read")
    }

    fn pin(config: &StoreConfig, text: &str) {
        let db = Connection::open(config.database_path()).expect("opens");
        db.execute("INSERT INTO pins VALUES (x'01', CAST(?1 AS BLOB), CAST(?1 AS BLOB))", [text])
            .expect("is put");
    }

    #[test]
    fn a_restored_and_used_store_is_backed_up_before_migration() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = StoreConfig::new(dir.path());
        drop(open_writer_with(&config, FIRST).expect("opens"));
        pin(&config, "before");
        drop(open_writer_with(&config, TWO).expect("migrates"));
        let first = dir.path().join("backup-schema-1.db");

        // The way back: the copy takes the place of the database.
        fs::copy(&first, config.database_path()).expect("is restored");
        drop(open_writer_with(&config, FIRST).expect("opens with the earlier program"));
        pin(&config, "later");
        let plan = MigrationPlan::for_directory(dir.path(), TWO).expect("is planned");
        let second = dir.path().join("backup-schema-1-2.db");
        assert_eq!(plan.backup.as_deref(), Some(second.as_path()));
        drop(open_writer_with(&config, TWO).expect("migrates again"));
        let held = |backup: &Path| pinned(&Connection::open(backup).expect("the copy opens"));
        assert_eq!(held(&first), ["before"], "an earlier copy stays as it is");
        assert_eq!(held(&second), ["before", "later"]);
    }

    #[test]
    fn a_newer_store_is_refused_and_not_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = StoreConfig::new(dir.path());
        drop(open_writer_with(&config, TWO).expect("opens"));
        let before = fs::read(config.database_path()).expect("is readable");
        let refused = open_writer_with(&config, FIRST).expect_err("the store is newer");
        assert!(matches!(refused, OpenError::NewerSchema { found: 2, known: 1 }), "{refused}");
        assert_eq!(fs::read(config.database_path()).expect("is readable"), before);
        assert!(!config.wal_path().exists());
    }

    #[test]
    fn a_half_made_file_without_an_id_is_completed() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = StoreConfig::new(dir.path());
        let begun = Connection::open(config.database_path()).expect("opens");
        begun.pragma_update(None, "auto_vacuum", "INCREMENTAL").expect("the first page is written");
        drop(begun);
        assert!(fs::metadata(config.database_path()).expect("is there").len() > 0);
        let db = open_writer_with(&config, MIGRATIONS).expect("opens");
        let id: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0)).expect("is read");
        let vacuum: i32 = db.pragma_query_value(None, "auto_vacuum", |row| row.get(0)).expect("is read");
        assert_eq!((id, vacuum, version(&db)), (APPLICATION_ID, 2, newest_version(MIGRATIONS)));
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        const BROKEN: &[Migration] = &[
            MIGRATIONS[0],
            Migration {
                name: "half",
                sql: "ALTER TABLE pins ADD COLUMN note TEXT; ALTER TABLE nowhere ADD x;",
            },
        ];
        let dir = tempfile::tempdir().expect("a directory");
        let config = StoreConfig::new(dir.path());
        drop(open_writer_with(&config, FIRST).expect("opens"));
        for _ in 0..2 {
            open_writer_with(&config, BROKEN).expect_err("the step fails");
            let backup = dir.path().join("backup-schema-1.db");
            assert!(!backup.exists(), "a copy of what is there as it was is not kept");
        }
        let db = open_writer_with(&config, TWO).expect("the sound step applies");
        assert_eq!(version(&db), 2);
    }
}
