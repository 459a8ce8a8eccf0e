//! What of `/proc` is about the machine and not about a program's own processes, hidden.
//!
//! A program that was started by root owns what root owns, as far as reading goes: without a right, but by its number. So what
//! is for the owner alone (`/proc/slabinfo`, `vmallocinfo`, `timer_list` and others; each kernel has its own) is covered, and
//! so is a list of what shows any user the machine's devices, keys and timers.
//!
//! What it refuses to do: hide what programs go by, such as `/proc/meminfo` and `cpuinfo`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// What is hidden even if any user may read it.
const ALWAYS: [&str; 11] = [
    "acpi",
    "asound",
    "scsi",
    "kcore",
    "keys",
    "key-users",
    "latency_stats",
    "sched_debug",
    "timer_list",
    "timer_stats",
    "tty/driver",
];

/// What anybody else but the owner may do to a file: read it; to a directory: list and enter it.
const READ: u32 = 0o004;

/// The names to be covered below this `/proc`: files first, then directories.
pub(crate) fn names_to_mask(proc: &Path) -> (Vec<String>, Vec<String>) {
    let listed = ALWAYS.map(str::to_owned).into_iter();
    let owners = fs::read_dir(proc).into_iter().flatten().flatten().filter_map(|entry| {
        let found = entry.metadata().ok()?;
        let is_for_owner = found.permissions().mode() & READ == 0;
        let name = entry.file_name().into_string().ok()?;
        // Each process's own are numbers.
        (is_for_owner && !name.starts_with(|c: char| c.is_ascii_digit())).then_some(name)
    });
    let mut names: Vec<_> = listed.chain(owners).collect();
    names.sort();
    names.dedup();
    let there = |name: &String| proc.join(name).symlink_metadata().is_ok_and(|found| !found.is_symlink());
    names.retain(there);
    names.into_iter().partition(|name| !proc.join(name).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_listed_proc_files_are_masked_and_no_others() {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, mode) in
            [("slabinfo", 0o400), ("trigger", 0o200), ("meminfo", 0o444), ("keys", 0o444), ("7", 0o400)]
        {
            fs::write(dir.path().join(name), "x").expect("a file");
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).expect("set");
        }
        fs::create_dir_all(dir.path().join("tty/driver")).expect("a directory");
        std::os::unix::fs::symlink("7", dir.path().join("timer_list")).expect("a link");
        let (files, directories) = names_to_mask(dir.path());
        assert_eq!(files, ["keys", "slabinfo", "trigger"]);
        assert_eq!(directories, ["tty/driver"]);
    }
}
