//! What processes hold that no directory and no count of their memory shows: files without a name, and sockets.
//!
//! A file that was removed stays on the disk as long as a process holds it, so what lies in a workspace is not all that
//! its programs take there. What a socket holds back for its reader is memory of no process.
//!
//! What it refuses to do: open what it finds (it is looked at through `/proc`), and judge what it cannot see: descriptors on
//! their way through a socket, and how long a file is of which only a part is mapped. [`super::volume`] ends what comes of
//! that.

use std::collections::{HashMap, HashSet};
use std::fs;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, major, minor};
use rustix::process::Pid;

/// What a file system in memory calls itself. Those of a program have sizes of their own.
const IN_MEMORY: rustix::fs::FsWord = 0x0102_1994;

/// What some processes hold.
#[derive(Debug, Default)]
pub(super) struct HeldResources {
    /// Files without a name: by device and number, how many bytes each takes.
    nameless: HashMap<(u64, u64), u64>,
    sockets: HashSet<u64>,
    /// Whether one of them shares memory by way of `/dev/zero`, which cannot be counted.
    pub(super) shares_zero: bool,
}

impl HeldResources {
    /// Looks at the descriptors of these processes, each thread's own too, and at what they have mapped. `device` is where
    /// the workspace lies.
    pub(super) fn of_processes(pids: &[Pid], device: u64) -> Self {
        let mut held = Self::default();
        for pid in pids {
            let tasks = format!("/proc/{}/task", pid.as_raw_pid());
            for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
                held.add_descriptors(&task.path().join("fd"), device);
            }
            // Only the process itself sees more of it than this shows.
            let maps = fs::read_to_string(format!("/proc/{}/maps", pid.as_raw_pid()));
            held.add_mappings(&maps.unwrap_or_default(), device);
        }
        held
    }

    /// How many bytes its files without a name take.
    pub(super) fn nameless_bytes(&self) -> u64 {
        self.nameless.values().fold(0, |all, bytes| all.saturating_add(*bytes))
    }

    pub(super) fn socket_count(&self) -> u64 {
        self.sockets.len() as u64
    }

    fn add_descriptors(&mut self, directory: &std::path::Path, device: u64) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(directory) = rustix::fs::openat(CWD, directory, flags, Mode::empty()) else { return };
        let Ok(entries) = Dir::read_from(&directory) else { return };
        for entry in entries.flatten() {
            let Ok(found) = rustix::fs::statat(&directory, entry.file_name(), AtFlags::empty()) else {
                continue;
            };
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Socket => {
                    self.sockets.insert(found.st_ino);
                }
                FileType::RegularFile if found.st_nlink == 0 => {
                    let is_there = found.st_dev == device || !is_in_memory(&directory, entry.file_name());
                    if is_there {
                        let bytes = u64::try_from(found.st_blocks).unwrap_or_default().saturating_mul(512);
                        self.nameless.insert((found.st_dev, found.st_ino), bytes);
                    }
                }
                _ => {}
            }
        }
    }

    /// Reads lines such as `7f00-7f01 rw-s 00000000 08:01 42 /workspace/x (deleted)`. A file that is held only so is at
    /// least as long as it is mapped.
    fn add_mappings(&mut self, maps: &str, device: u64) {
        let place = format!("{:02x}:{:02x}", major(device), minor(device));
        for line in maps.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(range), Some(access), Some(offset), Some(on), Some(number)) =
                (words.next(), words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            let path = words.next().unwrap_or_default();
            if path == "/dev/zero" && access.ends_with('s') {
                self.shares_zero = true;
            } else if line.ends_with(" (deleted)") && on == place {
                let end = mapped_end(range, offset).unwrap_or_default();
                let number = number.parse().unwrap_or_default();
                let bytes = self.nameless.entry((device, number)).or_default();
                *bytes = end.max(*bytes);
            }
        }
    }
}

/// Where in a file ends what is mapped of it.
fn mapped_end(range: &str, offset: &str) -> Option<u64> {
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (begin, end) = range.split_once('-')?;
    number(end)?.checked_sub(number(begin)?)?.checked_add(number(offset)?)
}

fn is_in_memory(directory: &rustix::fd::OwnedFd, name: &std::ffi::CStr) -> bool {
    let path = OFlags::PATH | OFlags::CLOEXEC;
    let found = rustix::fs::openat(directory, name, path, Mode::empty());
    found.and_then(rustix::fs::fstatfs).is_ok_and(|found| found.f_type == IN_MEMORY)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mine(device: u64) -> HeldResources {
        HeldResources::of_processes(&[rustix::process::getpid()], device)
    }

    #[test]
    fn an_unlinked_file_counts_once_while_it_is_open() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        fs::write(&path, vec![1; 1 << 20]).expect("a file");
        let file = File::open(&path).expect("it is there");
        let device = file.metadata().expect("it is told").dev();
        let before = mine(device).nameless_bytes();
        fs::remove_file(&path).expect("removed");
        let twice = file.try_clone().expect("a second handle");
        assert_eq!(mine(device).nameless_bytes() - before, 1 << 20);
        drop((file, twice));
        assert_eq!(mine(device).nameless_bytes(), before);
    }

    /// What a directory shows is not all that is there: so whoever looks at nothing else finds nothing.
    #[test]
    fn a_meter_that_forgets_what_is_held_is_caught() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        fs::write(&path, vec![1; 1 << 20]).expect("a file");
        let file = File::open(&path).expect("it is there");
        let device = file.metadata().expect("it is told").dev();
        let shown = || super::super::meter::workspace_bytes(dir.path(), u64::MAX);
        let before = (shown(), mine(device).nameless_bytes());
        fs::remove_file(&path).expect("removed");
        assert!(before.0 - shown() >= 1 << 20, "the directory shows less");
        assert!(mine(device).nameless_bytes() - before.1 >= 1 << 20, "and it is there still");
        drop(file);
    }

    #[test]
    fn sockets_are_counted() {
        let before = mine(0).socket_count();
        let pairs: Vec<_> = (0..8).map(|_| UnixStream::pair().expect("a pair")).collect();
        assert_eq!(mine(0).socket_count() - before, 2 * pairs.len() as u64);
    }

    #[test]
    fn an_unnamed_mapping_counts_to_its_end() {
        let device = rustix::fs::makedev(8, 1);
        let mut held = HeldResources::default();
        held.add_mappings(
            "7f0000000000-7f0000002000 rw-s 00001000 08:01 42 /workspace/x (deleted)\n\
             7f0000000000-7f0000001000 rw-p 00000000 08:01 42 /workspace/x (deleted)\n\
             7f0000000000-7f0000009000 rw-p 00000000 00:2a 43 /tmp/x (deleted)\n\
             7f0000000000-7f0000009000 rw-p 00000000 08:01 44 /usr/lib/x\n\
             7f0000000000-7f0000009000 rw-p 00000000 00:00 0\n",
            device,
        );
        assert_eq!((held.nameless_bytes(), held.shares_zero), (0x3000, false));
        held.add_mappings("7f0000000000-7f0000009000 r--p 00000000 00:01 7 /dev/zero\n", device);
        assert!(!held.shares_zero, "a copy of its own is counted where it is");
        held.add_mappings("7f0000000000-7f0000009000 rw-s 00000000 00:01 7 /dev/zero (deleted)\n", device);
        assert!(held.shares_zero);
    }
}
