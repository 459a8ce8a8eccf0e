//! The restrictions that a process puts on itself: limits, no rights, Landlock, the filter of system calls.

use std::io;
use std::process::Command;

use dromia_contracts::sandbox::{NetworkAccess, ProcessLimits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use super::landlock::{self, LandlockPaths};
use super::syscalls::{self, PathScope, SharedMemory};
use crate::order::HelperOrder;
use crate::sys;

/// The most open files of one process.
const FILES_MAX: u64 = 1024;

/// Memory that may be kept from being swapped out.
const LOCKED_BYTES_MAX: u64 = 64 << 10;

/// The highest number of a capability that a kernel may know.
const CAPABILITY_MAX: u32 = 63;

/// Applies all of them. `counts_own` says that processes are counted for this sandbox only, and not for all that the
/// same user runs. What went wrong is said with its place.
pub(crate) fn build_walls(
    order: &HelperOrder,
    places: &LandlockPaths,
    paths: PathScope,
    counts_own: bool,
) -> Result<(), (&'static str, io::Error)> {
    let HelperOrder { spec, is_memory_bound, .. } = order;
    let limits = &spec.limits;
    set_limits(limits).map_err(|problem| ("limits", problem))?;
    bound_own(limits, counts_own).map_err(|problem| ("limits", problem))?;
    without_rights().map_err(|problem| ("capabilities", problem))?;
    landlock::restrict_paths(places).map_err(|problem| ("Landlock", problem))?;
    let shared = if *is_memory_bound { SharedMemory::Allowed } else { SharedMemory::Refused };
    syscalls::restrict_calls(paths, spec.network, shared).map_err(|problem| ("seccomp", problem))
}

/// Applies those that work inside of gVisor as well. Its bundle gives no capability, which is checked; its kernel has
/// no Landlock, and the file system of the bundle holds nothing else.
pub(crate) fn build_in_guest(
    limits: &ProcessLimits,
    paths: PathScope,
) -> Result<(), (&'static str, io::Error)> {
    set_limits(limits).map_err(|problem| ("limits", problem))?;
    has_no_rights().map_err(|problem| ("capabilities", problem))?;
    syscalls::restrict_calls(paths, NetworkAccess::None, SharedMemory::Allowed)
        .map_err(|problem| ("seccomp", problem))
}

/// Applies those that work inside of a virtual machine around this process, which is a user without rights already, and
/// has the limits set where the program begins: this process still has work to do when they are used up.
pub(crate) fn build_in_machine(
    command: &mut Command,
    limits: &ProcessLimits,
    counts_own: bool,
) -> Result<(), (&'static str, io::Error)> {
    let seconds = limits.cpu_ms.div_ceil(1000);
    let mut bounds = vec![
        (Resource::Cpu, seconds, seconds.saturating_add(1)),
        (Resource::Fsize, limits.disk_bytes, limits.disk_bytes),
        (Resource::Nofile, FILES_MAX, FILES_MAX),
        (Resource::Memlock, LOCKED_BYTES_MAX, LOCKED_BYTES_MAX),
        (Resource::Core, 1, 1),
        (Resource::Msgqueue, 0, 0),
    ];
    if counts_own {
        // This process is counted, too.
        let processes = u64::from(limits.processes) + 1;
        bounds.push((Resource::Nproc, processes, processes));
    }
    for (resource, current, maximum) in bounds {
        sys::limit_what_starts(command, resource, at_most(resource, current, maximum));
    }
    bound_memory(command, limits);
    without_rights().map_err(|problem| ("capabilities", problem))?;
    syscalls::restrict_calls(PathScope::Own, NetworkAccess::None, SharedMemory::Allowed)
        .map_err(|problem| ("seccomp", problem))
}

/// Sets the kernel's limits, which hold for each process; the sums are the meter's.
fn set_limits(limits: &ProcessLimits) -> io::Result<()> {
    let seconds = limits.cpu_ms.div_ceil(1000);
    lower_limit(Resource::Cpu, seconds, seconds + 1)?;
    lower_limit(Resource::Fsize, limits.disk_bytes, limits.disk_bytes)?;
    lower_limit(Resource::Nofile, FILES_MAX, FILES_MAX)?;
    lower_limit(Resource::Memlock, LOCKED_BYTES_MAX, LOCKED_BYTES_MAX)?;
    // One is the number by which neither a file nor a program gets a core; by zero a program still would.
    lower_limit(Resource::Core, 1, 1)
}

/// Sets what only this machine's own kernel keeps.
fn bound_own(limits: &ProcessLimits, counts_own: bool) -> io::Result<()> {
    lower_limit(Resource::Msgqueue, 0, 0)?;
    if counts_own {
        // The warden and the helper are counted, too.
        let processes = u64::from(limits.processes) + 2;
        lower_limit(Resource::Nproc, processes, processes)?;
    }
    Ok(())
}

/// Has the program's memory limited where it begins. This process is not: its allocator may have reserved more than
/// a program may have, which the kernel counts.
pub(super) fn bound_memory(command: &mut Command, limits: &ProcessLimits) {
    // Data, not address space: programs reserve far more than they ever touch.
    let limit = at_most(Resource::Data, limits.memory_bytes, limits.memory_bytes);
    sys::limit_what_starts(command, Resource::Data, limit);
}

/// Sets a limit, or leaves it where it is lower already.
fn lower_limit(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    Ok(setrlimit(resource, at_most(resource, current, maximum))?)
}

fn at_most(resource: Resource, current: u64, maximum: u64) -> Rlimit {
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    Rlimit { current: Some(current.min(most)), maximum: Some(maximum.min(most)) }
}

/// Gives up every right that root has, also for what is executed later.
fn without_rights() -> io::Result<()> {
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    // Who has no right to these has none to lose; the check below says so.
    let _: rustix::io::Result<()> = rustix::thread::set_capabilities_secure_bits(bits);
    for number in 0..=CAPABILITY_MAX {
        let one = CapabilitySet::from_bits_retain(1 << number);
        let _: rustix::io::Result<()> = rustix::thread::remove_capability_from_bounding_set(one);
    }
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets)?;
    has_no_rights()
}

/// Sees to it that none can be got, and that none is left.
fn has_no_rights() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let left = rustix::thread::capabilities(None)?;
    if left.permitted.is_empty() && left.effective.is_empty() {
        Ok(())
    } else {
        Err(io::Error::other("a capability is left"))
    }
}
