//! Files of bodies on a disk whose directories cannot always be synced.

use std::cell::{Cell, RefCell};

use super::*;

const TENANT: TenantId = TenantId::from_bytes([1; 16]);

thread_local! {
    /// Whether a sync of a directory fails.
    static FAILS: Cell<bool> = const { Cell::new(false) };
    /// The directories that were synced.
    static SYNCED: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

fn sync(_: &File, path: &Path) -> io::Result<()> {
    if FAILS.get() {
        return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
    }
    SYNCED.with_borrow_mut(|synced| synced.push(path.to_owned()));
    Ok(())
}

fn bodies(dir: &tempfile::TempDir) -> FileBodies {
    FileBodies { sync, ..FileBodies::new(dir.path().join("blobs")) }
}

/// One that knows nothing of what is there, in the directory that exists and has its name.
fn later_process(dir: &tempfile::TempDir) -> FileBodies {
    let later = bodies(dir);
    later.write(TENANT, &name(b"other"), b"other").expect("is written");
    later
}

fn name(bytes: &[u8]) -> [u8; 32] {
    hash_body(&[7; 32], bytes)
}

/// Acknowledges a body, then has the same body meet a disk that fails, and reads it. `fault` is what a planted fault does
/// after the failure.
fn is_kept_through_a_failure(fault: impl Fn(&Path)) -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    let (earlier, body) = (bodies(&dir), vec![b'b'; 300_000]);
    earlier.write(TENANT, &name(&body), &body).expect("is acknowledged");
    let bodies = later_process(&dir);
    FAILS.set(true);
    bodies.write(TENANT, &name(&body), &body).expect_err("the disk fails");
    FAILS.set(false);
    fault(&bodies.body_path(TENANT, &name(&body)));
    bodies.read(TENANT, &name(&body)).is_ok_and(|found| found == body)
}

#[test]
fn a_body_that_was_there_outlives_a_failure() {
    assert!(is_kept_through_a_failure(|_| {}));
}

#[test]
fn a_failure_that_removes_what_was_there_is_caught() {
    assert!(!is_kept_through_a_failure(|path| fs::remove_file(path).expect("is removed")));
}

#[test]
fn a_name_that_came_with_the_failure_goes_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (bodies, body) = (bodies(&dir), vec![b'b'; 300_000]);
    // Its directory has its name, so what fails is the sync of the body's own.
    bodies.write(TENANT, &name(b"other"), b"other").expect("is written");
    FAILS.set(true);
    bodies.write(TENANT, &name(&body), &body).expect_err("the disk fails");
    FAILS.set(false);
    assert_eq!(bodies.list_hashes(TENANT).expect("is listed"), [name(b"other")]);
    bodies.write(TENANT, &name(&body), &body).expect("is written");
    assert_eq!(bodies.read(TENANT, &name(&body)).expect("is read"), body);
}

/// Damages a file, has the body sent again, and reads it. `write` is how it is sent.
fn is_healed(write: impl Fn(&FileBodies, &[u8]) -> io::Result<()>) -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    let (bodies, body) = (bodies(&dir), vec![b'b'; 300_000]);
    bodies.write(TENANT, &name(&body), &body).expect("is written");
    for damaged in [Vec::new(), vec![b'x'; 300_000], vec![b'b'; 299_999]] {
        fs::write(bodies.body_path(TENANT, &name(&body)), damaged).expect("is damaged");
        write(&bodies, &body).expect("is written again");
        if bodies.read(TENANT, &name(&body)).expect("is read") != body {
            return false;
        }
    }
    true
}

#[test]
fn a_damaged_body_that_is_sent_again_is_whole() {
    assert!(is_healed(|bodies, body| bodies.write(TENANT, &name(body), body)));
}

#[test]
fn a_write_that_believes_in_a_name_is_caught() {
    assert!(!is_healed(|bodies, body| {
        if bodies.body_path(TENANT, &name(body)).exists() {
            return Ok(());
        }
        bodies.write(TENANT, &name(body), body)
    }));
}

/// Tells whether a process that begins where another one ended after it had made a directory makes its name durable.
fn parents_are_synced(sync: SyncDir) -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    let bodies = FileBodies { sync, ..bodies(&dir) };
    fs::create_dir_all(bodies.tenant_dir(TENANT)).expect("an earlier process made it");
    SYNCED.with_borrow_mut(Vec::clear);
    bodies.write(TENANT, &name(b"body"), b"body").expect("is written");
    let wanted = [dir.path().join("blobs"), dir.path().to_owned(), bodies.tenant_dir(TENANT)];
    SYNCED.with_borrow(|synced| wanted.iter().all(|path| synced.contains(path)))
}

#[test]
fn a_directory_that_is_there_already_gets_a_durable_name() {
    assert!(parents_are_synced(sync));
}

#[test]
fn a_directory_whose_parents_are_not_synced_is_caught() {
    assert!(!parents_are_synced(|dir, path| if path.ends_with("blobs") { Ok(()) } else { sync(dir, path) }));
}

#[test]
fn after_a_failure_an_existing_body_file_is_rewritten() {
    let dir = tempfile::tempdir().expect("a directory");
    let (earlier, body) = (bodies(&dir), vec![b'b'; 300_000]);
    earlier.write(TENANT, &name(&body), &body).expect("is written");
    let bodies = later_process(&dir);
    FAILS.set(true);
    bodies.write(TENANT, &name(&body), &body).expect_err("the disk fails");
    FAILS.set(false);
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("is there"));
    let path = bodies.body_path(TENANT, &name(&body));
    let before = inode(&path);
    bodies.write(TENANT, &name(&body), &body).expect("is written");
    assert_ne!(inode(&path), before, "it was written again and synced");
}

/// Writes a body, has `between` happen, writes it again, and counts what the second write syncs.
fn count_syncs_of_repeat(between: impl Fn(&FileBodies, &[u8; 32])) -> usize {
    let dir = tempfile::tempdir().expect("a directory");
    let (bodies, body) = (bodies(&dir), vec![b'b'; 300_000]);
    bodies.write(TENANT, &name(&body), &body).expect("is written");
    between(&bodies, &name(&body));
    SYNCED.with_borrow_mut(Vec::clear);
    bodies.write(TENANT, &name(&body), &body).expect("is written again");
    assert_eq!(bodies.read(TENANT, &name(&body)).expect("is read"), body);
    SYNCED.with_borrow(Vec::len)
}

#[test]
fn a_repeated_body_syncs_only_what_is_not_durable() {
    assert_eq!(count_syncs_of_repeat(|_, _| {}), 0, "its name is durable");
    let removed = |bodies: &FileBodies, hash: &[u8; 32]| {
        assert!(bodies.remove(TENANT, hash).expect("is removed"));
    };
    assert_eq!(count_syncs_of_repeat(removed), 1, "its name is a new one");
    let damaged = |bodies: &FileBodies, hash: &[u8; 32]| {
        fs::write(bodies.body_path(TENANT, hash), b"x").expect("is damaged");
    };
    assert_eq!(count_syncs_of_repeat(damaged), 1, "another file has its name");
}

/// Planted fault: a file that goes without a word leaves its name among the durable ones; one that comes back with its bytes is
/// taken for durable.
#[test]
fn a_removal_that_keeps_the_name_known_is_caught() {
    let by_hand = |bodies: &FileBodies, hash: &[u8; 32]| {
        let path = bodies.body_path(TENANT, hash);
        let bytes = fs::read(&path).expect("is read");
        fs::remove_file(&path).expect("is removed");
        fs::write(&path, bytes).expect("comes back");
    };
    assert_eq!(count_syncs_of_repeat(by_hand), 0, "nothing notices it");
    let and_forgotten = |bodies: &FileBodies, hash: &[u8; 32]| {
        let bytes = bodies.read(TENANT, hash).expect("is read");
        bodies.remove(TENANT, hash).expect("is removed");
        fs::write(bodies.body_path(TENANT, hash), bytes).expect("comes back");
    };
    assert_eq!(count_syncs_of_repeat(and_forgotten), 1, "a removal forgets the name");
}
