//! SQLite under the failing file system: every site fails once, and nothing half done is seen afterwards.

use dromia_testkit::failing_vfs::{DiskFault, FailingVfs, FaultPlan, FileKind, RegisterError, VfsCall};
use rusqlite::{Connection, ErrorCode, OpenFlags};

fn open(vfs: &FailingVfs, path: &std::path::Path) -> Connection {
    let connection = Connection::open_with_flags_and_vfs(path, OpenFlags::default(), vfs.vfs_name()).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.pragma_update(None, "synchronous", "full").unwrap();
    connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    connection.execute_batch("CREATE TABLE IF NOT EXISTS numbers (n INTEGER)").unwrap();
    connection
}

/// Writes a number and checkpoints.
fn write(connection: &Connection, number: u32) -> rusqlite::Result<()> {
    connection.execute("INSERT INTO numbers VALUES (?1)", [number])?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

fn numbers(connection: &Connection) -> Vec<u32> {
    let mut statement = connection.prepare("SELECT n FROM numbers ORDER BY n").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn every_site_of_write_and_checkpoint_can_fail() {
    let vfs = FailingVfs::register("sweep").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for fault in [DiskFault::Eio, DiskFault::Full] {
        for nth in 1.. {
            let path = dir.path().join(format!("{fault:?}{nth}"));
            let connection = open(&vfs, &path);
            write(&connection, 1).unwrap();
            vfs.arm_fault(FaultPlan { call: None, file: None, nth, fault, lasting: false });
            let answer = write(&connection, 2);
            let fired = vfs.fired_count();
            vfs.disarm_fault();
            drop(connection);
            let found = numbers(&open(&vfs, &path));
            assert_eq!(answer.is_ok(), fired == 0, "call {nth} with {fault:?}: {answer:?}");
            assert!(found == [1] || found == [1, 2], "call {nth} with {fault:?} left {found:?}");
            match answer {
                Ok(()) => {
                    assert_eq!(found, [1, 2]);
                    break;
                }
                Err(error) => failures.push(error.sqlite_error_code().unwrap()),
            }
        }
    }
    assert!(failures.contains(&ErrorCode::SystemIoFailure) && failures.contains(&ErrorCode::DiskFull));
    let sites = vfs.call_sites();
    for site in [
        (VfsCall::Write, FileKind::Wal),
        (VfsCall::Sync, FileKind::Wal),
        (VfsCall::Truncate, FileKind::Wal),
        (VfsCall::Write, FileKind::Main),
        (VfsCall::Sync, FileKind::Main),
    ] {
        assert!(sites.contains_key(&site), "{site:?} was never met: {sites:?}");
    }
    assert!(vfs.call_count(VfsCall::Sync) >= 4, "two files were synced under two faults: {sites:?}");
}

#[test]
fn a_lasting_fault_goes_on_until_the_disk_is_healed() {
    let vfs = FailingVfs::register("lasting").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let connection = open(&vfs, &dir.path().join("db"));
    let plan = FaultPlan {
        call: Some(VfsCall::Sync),
        file: Some(FileKind::Wal),
        nth: 1,
        fault: DiskFault::Eio,
        lasting: true,
    };
    vfs.arm_fault(plan);
    assert!(write(&connection, 1).is_err());
    assert!(write(&connection, 2).is_err());
    assert_eq!(numbers(&connection), [] as [u32; 0], "reads go on");
    vfs.disarm_fault();
    write(&connection, 3).unwrap();
    assert_eq!(numbers(&connection), [3]);
}

#[test]
fn a_name_is_registered_once() {
    FailingVfs::register("once").unwrap();
    assert_eq!(FailingVfs::register("once").unwrap_err(), RegisterError::Name);
    assert_eq!(FailingVfs::register("no\0pe").unwrap_err(), RegisterError::Name);
}
