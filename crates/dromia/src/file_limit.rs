//! The bound on open files of this process, raised at the start.
//!
//! A server may hold thousands of connections, and a file that cannot be opened refuses a write. Systems give a process
//! 1,024 files and let it take more by itself. It raises the soft bound only, never above the hard one, and lowers nothing;
//! programs of agents get a bound of their own.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many open files a server asks for: its 8,192 connections with one file each, and as much again for several times.
pub(crate) const FILES_WANTED: u64 = 65_536;

/// How many files a server that starts here may open; nothing where there is no bound.
pub(crate) fn open_files_max() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let current = current?;
    Some(current.max(maximum.map_or(FILES_WANTED, |most| most.min(FILES_WANTED))))
}

/// Raises the soft bound to what [`open_files_max`] returns.
pub(crate) fn raise_files() {
    let found = getrlimit(Resource::Nofile);
    let wanted = open_files_max();
    if wanted == found.current {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: found.maximum }) {
        tracing::warn!(%error, "failed to raise the limit on open files; raise it with ulimit -n");
    }
}
