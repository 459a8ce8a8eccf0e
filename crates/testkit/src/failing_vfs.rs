//! An SQLite file system that fails on demand, under any connection that is opened with its name.
//!
//! It wraps the default one and passes everything on, except the one call (or, with a lasting fault, every call from it
//! on) that a test has armed: a write, sync or truncate that answers EIO or disk full without doing anything. It counts
//! those calls by site, so that a sweep can visit every one and print the list. It covers what SQLite does to its
//! files; files that the store writes by itself do not pass here.
//!
//! On demand it also remembers what each file held when it was synced last. That is what a power cut leaves, by the
//! strictest reading of what a sync promises: [`FailingVfs::disk_images`] gives one such disk for each sync.

mod shim;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A call that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VfsCall {
    /// Bytes are written.
    Write,
    /// A file is synced.
    Sync,
    /// A file is cut.
    Truncate,
}

/// What a file is to SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// The database itself.
    Main,
    /// The write-ahead log.
    Wal,
    /// A rollback journal.
    Journal,
    /// A temporary file.
    Temporary,
}

/// Where a call can fail.
pub type Site = (VfsCall, FileKind);

/// What a failing call answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskFault {
    /// An input/output error.
    Eio,
    /// No space left.
    Full,
    /// Nothing is done, and the answer is that all went well: a disk that lies. No store can stand it; it is there
    /// to see that a check notices.
    Lie,
}

/// Which call fails, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPlan {
    /// Only calls of this kind; any where it is not set.
    pub call: Option<VfsCall>,
    /// Only calls on files of this kind; any where it is not set.
    pub file: Option<FileKind>,
    /// The n-th such call from now on, counted from 1.
    pub nth: u64,
    /// What it answers.
    pub fault: DiskFault,
    /// Whether every such call after it fails too, until the plan is taken back.
    pub lasting: bool,
}

/// Says that SQLite did not take the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The name holds a NUL byte or is taken.
    #[error("the name of the file system holds a NUL byte or is taken")]
    Name,
    /// SQLite has no default file system or refused ours.
    #[error("SQLite answered {0}")]
    Sqlite(i32),
}

/// A registered file system; a clone is a second handle to it. It stays registered for the life of the process,
/// because a connection may outlive every handle.
#[derive(Debug, Clone)]
pub struct FailingVfs {
    name: String,
    control: Arc<FaultControl>,
}

impl FailingVfs {
    /// Registers a file system under a name, which must be new to the process.
    pub fn register(name: &str) -> Result<Self, RegisterError> {
        let control = Arc::new(FaultControl::default());
        shim::register_vfs(name, Arc::clone(&control))?;
        Ok(Self { name: name.to_owned(), control })
    }

    /// Returns the name under which a connection finds it.
    pub fn vfs_name(&self) -> &str {
        &self.name
    }

    /// Makes a call fail; replaces an earlier plan.
    pub fn arm_fault(&self, plan: FaultPlan) {
        let mut state = self.control.lock_state();
        state.armed = Some(ArmedFault { plan, met: 0 });
        state.fired = 0;
        state.fired_at = None;
    }

    /// Disarms the fault: the disk works again.
    pub fn disarm_fault(&self) {
        self.control.lock_state().armed = None;
    }

    /// Returns whether a fault is armed.
    pub fn is_armed(&self) -> bool {
        self.control.lock_state().armed.is_some()
    }

    /// Returns how many calls failed since the last plan was made.
    pub fn fired_count(&self) -> u64 {
        self.control.lock_state().fired
    }

    /// Returns where the first call failed since the last plan was made.
    pub fn fired_at(&self) -> Option<Site> {
        self.control.lock_state().fired_at
    }

    /// Returns how many calls at a site went well since the last one failed.
    pub fn well_since(&self, site: Site) -> u64 {
        self.control.lock_state().well.get(&site).copied().unwrap_or_default()
    }

    /// Begins to remember what is synced. Costs a copy of the file at every sync.
    pub fn record_syncs(&self) {
        self.control.lock_state().disks = Some(vec![DiskImage::default()]);
    }

    /// Notes that the store has synced its directory by itself, which does not pass here.
    pub fn directory_synced(&self) {
        self.control.forget_deleted(|path| !path.exists());
    }

    /// Notes how much was acknowledged so far.
    pub fn note_acknowledged(&self, count: u64) {
        self.control.lock_state().acknowledged = count;
    }

    /// Returns what a power cut would leave: before the first sync since [`FailingVfs::record_syncs`], and after each.
    pub fn disk_images(&self) -> Vec<DiskImage> {
        let state = self.control.lock_state();
        let mut disks = state.disks.clone().unwrap_or_default();
        if let Some(last) = disks.last_mut() {
            last.acknowledged = state.acknowledged;
        }
        disks
    }

    /// Returns every site that was met, with the number of its calls.
    pub fn call_sites(&self) -> BTreeMap<Site, u64> {
        self.control.lock_state().sites.clone()
    }

    /// Returns how often calls of one kind were made.
    pub fn call_count(&self, call: VfsCall) -> u64 {
        let state = self.control.lock_state();
        state.sites.iter().filter(|((of, _), _)| *of == call).map(|(_, count)| count).sum()
    }
}

/// What a power cut leaves.
#[derive(Debug, Clone, Default)]
pub struct DiskImage {
    /// What was synced of each file.
    files: BTreeMap<PathBuf, Arc<[u8]>>,
    /// How much was acknowledged while nothing more than this was durable.
    pub acknowledged: u64,
}

impl DiskImage {
    /// Restores the files of this disk image and removes every other file of the directory. No process may have them
    /// open.
    pub fn restore_to(&self, dir: &Path) -> std::io::Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::remove_file(entry.path())?;
            }
        }
        self.files.iter().try_for_each(|(path, bytes)| std::fs::write(path, bytes))
    }

    /// Counts the files.
    pub fn file_count(&self) -> usize {
        self.files.len()
    }
}

#[derive(Debug, Default)]
struct FaultControl(Mutex<VfsState>);

#[derive(Debug, Default)]
struct VfsState {
    sites: BTreeMap<Site, u64>,
    armed: Option<ArmedFault>,
    fired: u64,
    fired_at: Option<Site>,
    /// Calls that went well since the last one failed.
    well: BTreeMap<Site, u64>,
    /// Every file that was opened, by the number that its handle carries.
    paths: Vec<PathBuf>,
    disks: Option<Vec<DiskImage>>,
    acknowledged: u64,
}

#[derive(Debug)]
struct ArmedFault {
    plan: FaultPlan,
    met: u64,
}

impl FaultControl {
    fn lock_state(&self) -> MutexGuard<'_, VfsState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and tells whether it must fail.
    fn count_call(&self, call: VfsCall, file: FileKind) -> Option<DiskFault> {
        let site = (call, file);
        let mut state = self.lock_state();
        *state.sites.entry(site).or_insert(0) += 1;
        let fault = state.armed.as_mut().and_then(|armed| armed.fault_of_call(site));
        if fault.is_some() {
            state.fired += 1;
            state.fired_at.get_or_insert(site);
            state.well.clear();
        } else {
            *state.well.entry(site).or_insert(0) += 1;
        }
        fault
    }

    /// Gives a file that was opened its number.
    fn file_number(&self, path: PathBuf) -> usize {
        let mut state = self.lock_state();
        let known = state.paths.iter().position(|known| *known == path);
        known.unwrap_or_else(|| {
            state.paths.push(path);
            state.paths.len() - 1
        })
    }

    fn is_recording(&self) -> bool {
        self.lock_state().disks.is_some()
    }

    /// Remembers what a file holds, now that it is synced. `acknowledged` is what was known as the sync began.
    fn note_synced(&self, file: usize, bytes: Vec<u8>, acknowledged: u64) {
        let mut state = self.lock_state();
        let Some(path) = state.paths.get(file).cloned() else { return };
        let Some(disks) = &mut state.disks else { return };
        let Some(before) = disks.last_mut() else { return };
        before.acknowledged = acknowledged;
        let mut disk = before.clone();
        disk.files.insert(path, bytes.into());
        disks.push(disk);
    }

    /// Forgets files whose deletion is durable. A deletion alone is not: the rollback journal of a new database may
    /// come back after a power cut until the directory is synced.
    fn forget_deleted(&self, is_gone: impl Fn(&Path) -> bool) {
        let mut state = self.lock_state();
        let acknowledged = state.acknowledged;
        let Some(disks) = &mut state.disks else { return };
        let Some(before) = disks.last_mut() else { return };
        before.acknowledged = acknowledged;
        let mut disk = before.clone();
        disk.files.retain(|path, _| !is_gone(path));
        disks.push(disk);
    }
}

impl ArmedFault {
    fn fault_of_call(&mut self, (call, file): Site) -> Option<DiskFault> {
        let plan = &self.plan;
        if plan.call.is_some_and(|only| only != call) || plan.file.is_some_and(|only| only != file) {
            return None;
        }
        self.met += 1;
        let fails = if plan.lasting { self.met >= plan.nth } else { self.met == plan.nth };
        fails.then_some(plan.fault)
    }
}
