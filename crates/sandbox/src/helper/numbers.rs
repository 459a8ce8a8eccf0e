//! How many processes and threads the program's own process namespace can number.
//!
//! The kernel does not hold root to `RLIMIT_NPROC`, and counting the processes of a program that only forks comes too
//! late: in the meantime it has taken every number of the machine. Since Linux 6.14 a namespace has numbers of its own,
//! so that what is inside gets no more than these, under any user.
//!
//! What it refuses to do: touch the numbers of an older kernel, which are those of the whole machine.

use std::io;

use dromia_contracts::sandbox::ProcessLimits;

/// Numbers that the kernel gives once and, after it wraps around, never again. So a namespace that has been through all
/// of its numbers has those above these.
const RESERVED: u64 = 300;

/// Numbers of ours: what comes before the program's first, the one after the last, and one more that proves that the program
/// has too many.
const OURS: u64 = 3;

/// The first kernel whose namespaces have their own.
const SINCE: (u32, u32) = (6, 14);

/// Bounds the numbers of this process's namespace, if it can have its own. It must be the first process of it.
pub(super) fn bound_numbers(limits: &ProcessLimits) -> io::Result<()> {
    let release = rustix::system::uname();
    if !has_own(&release.release().to_string_lossy()) {
        return Ok(());
    }
    let most = RESERVED + u64::from(limits.processes) + OURS;
    match std::fs::write("/proc/sys/kernel/pid_max", most.to_string()) {
        // If the machine's `/proc` was made read-only from outside, it is as with an older kernel.
        Err(problem) if is_kept_from_us(&problem) => Ok(()),
        written => written,
    }
}

fn is_kept_from_us(problem: &io::Error) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(problem.kind(), NotFound | PermissionDenied | ReadOnlyFilesystem)
}

/// Returns whether a kernel of this release numbers each namespace by itself.
fn has_own(release: &str) -> bool {
    let mut words = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= SINCE,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::has_own;

    #[test]
    fn only_a_new_enough_kernel_has_its_own_numbers() {
        for release in ["6.14.0", "6.18.44-fc-v669", "7.0.0-rc1", "10.2", "6.14-rc3"] {
            assert!(has_own(release), "{release}");
        }
        for release in [
            "6.13.12",
            "6.6.87.2-microsoft-standard-WSL2",
            "5.15.0-1.el9",
            "4.19",
            "",
            "6",
            "six.20",
            "-6.20",
        ] {
            assert!(!has_own(release), "{release}");
        }
    }
}
