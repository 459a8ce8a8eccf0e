//! The first moments of a virtual machine: this program is its first process, finds nothing but a root that cannot be
//! changed, mounts what it needs, and calls the helper. When it ends the kernel does, and with it the machine.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dromia_contracts::sandbox::ProcessLimits;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::{DumpableBehavior, Gid, Uid};

use super::agent::{self, GuestPlace};
use super::document::PORT;
use super::scan::NODES_MAX;
use crate::helper::namespaces::INSIDE_ID;
use crate::sys;

/// Directories any of which can carry the trees until the program's root is built; that takes `/tmp`.
const CARRIERS: [&str; 5] = ["/mnt", "/media", "/srv", "/opt", "/home"];

/// What a workspace may have more than its quota, so that exceeding it is seen.
const SLACK_BYTES: u64 = 1 << 20;

/// Runs the machine's first process to its end.
pub(crate) fn run_boot() -> ExitCode {
    let done = mount_basics()
        .and_then(|()| sys::connect_to_host(PORT).map_err(with_place("the helper's socket")))
        .and_then(|line| agent::serve_once(File::from(line), &GuestPlace::Machine));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            #[expect(clippy::print_stderr, reason = "the console is the only way out of here")]
            {
                eprintln!("dromia: {problem}");
            }
            ExitCode::FAILURE
        }
    }
}

fn with_place(what: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    move |problem| io::Error::other(format!("{what}: {problem}"))
}

/// Mounts what this process itself looks at. What the kernel mounted already is left.
fn mount_basics() -> io::Result<()> {
    if rustix::process::getpid().as_raw_pid() != 1 {
        return Err(io::Error::other("this is not the first process of a machine"));
    }
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    for (kind, place) in [("proc", "/proc"), ("devtmpfs", "/dev")] {
        match mount(kind, place, kind, flags, c"") {
            Ok(()) | Err(Errno::BUSY) => {}
            Err(problem) => return Err(with_place(place)(problem.into())),
        }
    }
    Ok(())
}

/// Makes the directories that trees are put into, in memory, and returns where: the workspace has its quota, and both
/// belong to the program's user.
pub(super) fn make_tree_directory(limits: &ProcessLimits) -> io::Result<PathBuf> {
    let top = CARRIERS.map(Path::new).into_iter().find(|path| path.is_dir());
    let top = top.ok_or_else(|| io::Error::other("the root image has none of /mnt, /media, /srv"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("dromia", top, "tmpfs", flags, c"mode=0755")
        .map_err(io::Error::from)
        .map_err(with_place("trees"))?;
    let workspace = top.join("workspace");
    fs::create_dir(&workspace)?;
    let bytes = limits.disk_bytes.saturating_add(SLACK_BYTES);
    let options = format!("mode=0755,uid={INSIDE_ID},gid={INSIDE_ID},size={bytes},nr_inodes={NODES_MAX}");
    let options = std::ffi::CString::new(options)?;
    mount("dromia", &workspace, "tmpfs", flags, options.as_c_str())?;
    Ok(top.to_owned())
}

/// Becomes the program's user, for ever. What this process holds is not for the eyes of what it starts.
pub(super) fn become_user() -> io::Result<()> {
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_gid(Gid::from_raw(INSIDE_ID))?;
    rustix::thread::set_thread_uid(Uid::from_raw(INSIDE_ID))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
