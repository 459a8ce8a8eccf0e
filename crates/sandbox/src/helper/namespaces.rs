//! New namespaces for what the helper starts, and who it is in them.

use std::io;

use rustix::thread::UnshareFlags;

use crate::sys;

/// The user and group that a program finds itself to be.
pub(crate) const INSIDE_ID: u32 = 1000;

/// Who builds a bundle: it must be root of its namespaces, which has no rights outside of them.
pub(crate) const BUILDER_ID: u32 = 0;

/// Enters new user, network, IPC and host name namespaces, and a process namespace for the next child. The file system
/// stays: the child takes a mount namespace of its own, so that this process keeps its view of `/proc`.
pub(crate) fn enter_namespaces(inside: u32) -> io::Result<()> {
    // Only one's own numbers may be mapped without a right to it.
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let flags = UnshareFlags::NEWUSER
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    sys::unshare(flags)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{inside} {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{inside} {group} 1"))?;
    Ok(())
}

/// Enters new network, IPC and host name namespaces, and a process namespace for the next child, as root of this machine,
/// who stays it: only that may make a jail.
pub(crate) fn enter_as_root() -> io::Result<()> {
    let flags = UnshareFlags::NEWPID | UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    sys::unshare(flags)
}
