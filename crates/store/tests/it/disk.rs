//! The disk fails under SQLite at every write, sync and truncate of a fixed set of batches, once or for good, with an
//! error or for lack of space; and the power is cut after every sync.
//!
//! Planted faults, which turn the checks red: a disk that drops a write to the log and says it is done, an
//! acknowledgement before the sync, a file that is cut in the middle.

mod scenario;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use dromia_testkit::failing_vfs::{DiskFault, FailingVfs, FaultPlan, FileKind, VfsCall};
use tempfile::TempDir;

use self::scenario::{BATCHES, Finding, Pass, Then, look};

/// Passes mostly wait for the store to come back, so more of them run at once than there are processors.
const THREADS: usize = 12;

fn directory() -> TempDir {
    // What is swept is where calls fail, not how the disk answers when they do not: memory is quicker.
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a directory")
}

fn play(vfs: &FailingVfs, plan: Option<FaultPlan>, then: Then) -> Finding {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let lasting = plan.is_some_and(|plan| plan.lasting);
    match plan {
        Some(plan) => vfs.arm_fault(plan),
        None => vfs.disarm_fault(),
    }
    let dir = directory();
    tokio.block_on(Pass { vfs, dir: dir.path(), lasting, then }.play())
}

/// Every way in which the n-th call of a kind may fail.
fn plans(call: Option<VfsCall>, calls: u64) -> Vec<(FaultPlan, Then)> {
    let mut plans = Vec::new();
    for nth in 1..=calls {
        // A disk that broke for good is mended, or the process ends with it and the next finds it mended.
        for (fault, then) in [(DiskFault::Eio, Then::Stop), (DiskFault::Full, Then::Mend)] {
            let plan = |lasting| FaultPlan { call, file: None, nth, fault, lasting };
            plans.push((plan(false), Then::Mend));
            plans.push((plan(true), then));
        }
    }
    plans
}

#[test]
#[expect(clippy::print_stdout, reason = "the list of sites is what the sweep is for")]
fn every_disk_call_may_fail_once_or_for_good() {
    let clean = FailingVfs::register("disk-clean").expect("a new name");
    assert_eq!(play(&clean, None, Then::Mend), Ok(()), "the batches hold on a healthy disk");
    let sites = clean.call_sites();
    let calls = sites.values().sum();
    let mut all = plans(None, calls);
    all.extend(plans(Some(VfsCall::Sync), clean.call_count(VfsCall::Sync)));

    let (next, findings) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (all, next, findings) = (&all, &next, &findings);
            scope.spawn(move || {
                let vfs = FailingVfs::register(&format!("disk-{thread}")).expect("a new name");
                while let Some((plan, then)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = play(&vfs, Some(*plan), *then);
                    let fired = vfs.fired_at();
                    findings
                        .lock()
                        .expect("no thread panics with the lock")
                        .push((*plan, *then, fired, found));
                }
            });
        }
    });
    let findings = findings.into_inner().expect("no thread panics with the lock");
    for ((call, file), count) in &sites {
        let failed = findings.iter().filter(|(.., fired, _)| *fired == Some((*call, *file))).count();
        println!("{call:?} of {file:?}: {count} calls, failed {failed} times");
        assert!(failed > 0, "{call:?} of {file:?} never failed");
    }
    let wrong: Vec<_> = findings.iter().filter(|(.., found)| found.is_err()).collect();
    println!("{calls} calls, {} passes, {} findings", findings.len(), wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    for site in [
        (VfsCall::Write, FileKind::Wal),
        (VfsCall::Sync, FileKind::Wal),
        (VfsCall::Write, FileKind::Main),
        (VfsCall::Sync, FileKind::Main),
    ] {
        assert!(sites.contains_key(&site), "{site:?} was never met: {sites:?}");
    }
}

#[test]
fn a_log_write_that_the_disk_drops_is_caught() {
    let clean = FailingVfs::register("dropped-clean").expect("a new name");
    assert_eq!(play(&clean, None, Then::Mend), Ok(()));
    let writes = clean.call_sites()[&(VfsCall::Write, FileKind::Wal)];
    let vfs = FailingVfs::register("dropped").expect("a new name");
    let plan = FaultPlan {
        call: Some(VfsCall::Write),
        file: Some(FileKind::Wal),
        // Among the last, so that nothing before it depends on it.
        nth: writes - 8,
        fault: DiskFault::Lie,
        lasting: true,
    };
    let found = play(&vfs, Some(plan), Then::Stop);
    assert!(found.is_err(), "the check sees what is missing");
}

/// Plays all batches and then cuts the power before the first sync and after each. Returns how many cuts there were.
fn cut_at_every_sync(vfs: &FailingVfs, plan: Option<FaultPlan>) -> Finding<usize> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = directory();
    vfs.record_syncs();
    if let Some(plan) = plan {
        vfs.arm_fault(plan);
    }
    // With the power on, even a lying disk shows everything.
    let pass = Pass { vfs, dir: dir.path(), lasting: false, then: Then::Mend };
    tokio.block_on(pass.play())?;
    let disks = vfs.disk_images();
    for (number, disk) in disks.iter().enumerate() {
        disk.restore_to(dir.path()).map_err(|error| error.to_string())?;
        let found = tokio.block_on(look(dir.path(), disk.acknowledged, BATCHES as u64));
        found.map_err(|problem| {
            format!("power cut after sync {number}, {} files: {problem}", disk.file_count())
        })?;
    }
    Ok(disks.len())
}

#[test]
#[expect(clippy::print_stdout, reason = "how many cuts there were is what the sweep is for")]
fn a_power_cut_after_any_sync_loses_no_acknowledged_batch() {
    let vfs = FailingVfs::register("power").expect("a new name");
    let cuts = cut_at_every_sync(&vfs, None).expect("nothing is lost");
    println!("{cuts} power cuts, nothing acknowledged is lost");
    assert!(cuts > BATCHES, "each acknowledgement has its sync: {cuts}");
}

#[test]
fn an_ack_before_the_sync_is_caught() {
    let vfs = FailingVfs::register("power-lie").expect("a new name");
    // The disk calls every sync done and does none: acknowledgements run ahead of what is durable.
    let plan =
        FaultPlan { call: Some(VfsCall::Sync), file: None, nth: 1, fault: DiskFault::Lie, lasting: true };
    let found = cut_at_every_sync(&vfs, Some(plan)).expect_err("the check sees what is missing");
    assert!(found.contains("were acknowledged, 0 are there"), "{found}");
}

#[test]
fn an_ack_before_the_sync_of_the_log_is_caught() {
    let vfs = FailingVfs::register("power-log").expect("a new name");
    // Only the log's syncs are skipped, as with `synchronous=NORMAL`: what a copy into the main file synced is safe.
    let plan = FaultPlan {
        call: Some(VfsCall::Sync),
        file: Some(FileKind::Wal),
        nth: 1,
        fault: DiskFault::Lie,
        lasting: true,
    };
    let found = cut_at_every_sync(&vfs, Some(plan)).expect_err("the check sees what is missing");
    assert!(found.contains("were acknowledged"), "{found}");
}

#[test]
fn a_file_that_was_cut_is_caught() {
    let vfs = FailingVfs::register("cut").expect("a new name");
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = directory();
    let pass = Pass { vfs: &vfs, dir: dir.path(), lasting: false, then: Then::Mend };
    assert_eq!(tokio.block_on(pass.play()), Ok(()));
    let main = std::fs::OpenOptions::new().write(true).open(dir.path().join("dromia.db")).expect("is there");
    let length = main.metadata().expect("has a length").len();
    main.set_len(length / 2).expect("is cut");
    assert!(tokio.block_on(look(dir.path(), BATCHES as u64, BATCHES as u64)).is_err());
}
