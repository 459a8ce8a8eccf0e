//! A volume that programs fill in a way that no count of theirs shows: it is not full before they end.
//!
//! A file that was removed, and whose only descriptor is on its way through a socket, is in no directory and held by no
//! process that could be looked at.

use std::path::Path;
use std::process::Command;

use dromia_contracts::sandbox::{LimitKind, ProcessExit, ProcessLimits, ProcessSpec};

use crate::support::{backends, needs_root, run, script};

/// How large the volume is, and how much a program puts on its way. The quota of the program is between the two.
const VOLUME_MIB: u64 = 48;
const LIMITS: ProcessLimits =
    ProcessLimits { disk_bytes: 32 << 20, wall_ms: 60_000, ..ProcessLimits::DEFAULT };

/// Sends removed files of a MiB to itself and never takes them: as many as there is room for, at most so many.
const SENDS: &str = "
import os, socket, sys, time
ends = [socket.socketpair() for _ in range(8)]
for number in range(int(sys.argv[1])):
    file = os.open('file', os.O_CREAT | os.O_WRONLY)
    os.unlink('file')
    try:
        os.write(file, b'x' * (1 << 20))
    except OSError:
        break
    socket.send_fds(ends[number % 8][0], [b'f'], [file])
    os.close(file)
print('sent', flush=True)
time.sleep(float(sys.argv[2]))
";

fn sends(workspace: &Path, files: u64, seconds: u64) -> ProcessSpec {
    let argv = ["python3", "-c", SENDS, &files.to_string(), &seconds.to_string()].map(str::to_owned).into();
    ProcessSpec { argv, limits: LIMITS, ..script(workspace, "") }
}

/// A file system in memory with a size of its own, which is gone with this.
pub(crate) struct SmallVolume(tempfile::TempDir);

impl SmallVolume {
    pub(crate) fn mount(mib: u64) -> Self {
        needs_root("a volume is mounted");
        let directory = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "dromia-test"])
            .arg(directory.path())
            .status();
        assert!(mounted.expect("mount runs").success());
        Self(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallVolume {
    fn drop(&mut self) {
        // A program that its test left behind may be there still.
        drop(Command::new("umount").arg("--lazy").arg(self.path()).status());
    }
}

#[tokio::test]
async fn data_in_transit_through_sockets_does_not_fill_the_volume() {
    for backend in backends() {
        let volume = SmallVolume::mount(VOLUME_MIB);
        let ended = run(&*backend, sends(volume.path(), 2 * VOLUME_MIB, 60)).await;
        assert_eq!(
            ended.ending,
            ProcessExit::Killed { limit: LimitKind::Disk },
            "{}: {ended:?}",
            backend.backend_name()
        );
        let left = rustix::fs::statvfs(volume.path()).expect("it is there");
        assert!(
            left.f_bfree >= left.f_blocks * 9 / 10,
            "what was on its way is gone: {} of {}",
            left.f_bfree,
            left.f_blocks
        );
    }
}

/// On a volume with room enough the same program is not ended, though it holds more than its quota: nothing but the reserve
/// of the volume notices it.
#[tokio::test]
async fn a_quota_without_a_reserve_of_the_volume_is_caught() {
    let files = (LIMITS.disk_bytes >> 20) + 8;
    for backend in backends() {
        let workspace = tempfile::tempdir().expect("a directory");
        let ended = run(&*backend, sends(workspace.path(), files, 2)).await;
        assert_eq!(
            (&ended.ending, &*ended.out),
            (&ProcessExit::Exited { code: 0 }, "sent\n"),
            "{}",
            backend.backend_name()
        );
    }
}
