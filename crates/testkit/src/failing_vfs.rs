//! An SQLite file system that fails on demand, under any connection that is opened with its name.
//!
//! It stands before the default one and passes everything on, except the one call (or, with a lasting fault,
//! every call from it on) that a test has armed: a write, sync or truncate that answers EIO or disk full without
//! doing anything. It counts those calls by site, so that a sweep can visit every one and print the list.
//! It covers what SQLite does to its files; files that the store writes by itself do not pass here.

mod shim;

use std::collections::BTreeMap;
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
}

/// Which call fails, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
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
    control: Arc<Control>,
}

impl FailingVfs {
    /// Registers a file system under a name, which must be new to the process.
    pub fn register(name: &str) -> Result<Self, RegisterError> {
        let control = Arc::new(Control::default());
        shim::register(name, Arc::clone(&control))?;
        Ok(Self { name: name.to_owned(), control })
    }

    /// Returns the name under which a connection finds it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a call fail; takes back an earlier plan.
    pub fn arm(&self, plan: Plan) {
        let mut state = self.control.state();
        state.armed = Some(Armed { plan, met: 0 });
        state.fired = 0;
    }

    /// Takes the plan back: the disk is well again.
    pub fn heal(&self) {
        self.control.state().armed = None;
    }

    /// Returns how many calls failed since the last plan was made.
    pub fn fired(&self) -> u64 {
        self.control.state().fired
    }

    /// Returns every site that was met, with the number of its calls.
    pub fn sites(&self) -> BTreeMap<Site, u64> {
        self.control.state().sites.clone()
    }

    /// Returns how often calls of one kind were made.
    pub fn calls(&self, call: VfsCall) -> u64 {
        let state = self.control.state();
        state.sites.iter().filter(|((of, _), _)| *of == call).map(|(_, count)| count).sum()
    }
}

#[derive(Debug, Default)]
struct Control(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sites: BTreeMap<Site, u64>,
    armed: Option<Armed>,
    fired: u64,
}

#[derive(Debug)]
struct Armed {
    plan: Plan,
    met: u64,
}

impl Control {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and tells whether it must fail.
    fn meet(&self, call: VfsCall, file: FileKind) -> Option<DiskFault> {
        let mut state = self.state();
        *state.sites.entry((call, file)).or_insert(0) += 1;
        let Armed { plan, met } = state.armed.as_mut()?;
        if plan.call.is_some_and(|only| only != call) || plan.file.is_some_and(|only| only != file) {
            return None;
        }
        *met += 1;
        let fails = if plan.lasting { *met >= plan.nth } else { *met == plan.nth };
        let fault = plan.fault;
        if fails {
            state.fired += 1;
        }
        fails.then_some(fault)
    }
}
