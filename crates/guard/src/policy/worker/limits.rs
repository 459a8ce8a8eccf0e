//! What a worker gives up before it reads a request: files, connections, programs, and memory and time without a bound.
//!
//! These are limits that a process sets for itself, so they need no right and hold in every container. A worker that cannot
//! set one of them does not work.

use std::io;
use std::time::Duration;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::policy::layer::TIME_MAX;

/// The most memory of a worker beyond what it has when it starts.
pub const MEMORY_MAX: u64 = 256 << 20;
/// The stack of the thread that evaluates: several times what the deepest row of rules, each with the deepest terms that are
/// read, takes.
pub const STACK: usize = 64 << 20;

/// The processor time of one request: more than the evaluation may take by the clock, so that it counts where the
/// parent process, which would stop this one, is gone.
const PROCESSOR_TIME: Duration = TIME_MAX.saturating_add(Duration::from_secs(9));
/// Standard input, output and error.
const FILES: u64 = 3;
const PAGE: u64 = 4096;

/// Gives up what an evaluation does not need.
pub(super) fn give_up() -> io::Result<()> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 =
        pages.split(' ').next().and_then(|count| count.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    for (resource, most) in [
        (Resource::As, pages * PAGE + MEMORY_MAX),
        (Resource::Nofile, FILES),
        (Resource::Nproc, 0),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

/// Begins the time of a request.
pub(super) fn begin_request() -> io::Result<()> {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec;
    let most = u64::try_from(used).unwrap_or_default() + PROCESSOR_TIME.as_secs();
    let maximum = getrlimit(Resource::Cpu).maximum;
    setrlimit(Resource::Cpu, Rlimit { current: Some(most), maximum })?;
    Ok(())
}
