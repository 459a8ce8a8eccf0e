//! The first moments of a virtual machine: this program is its first process, finds nothing but a root that cannot be
//! changed, mounts what it needs, and calls the helper. When it ends the kernel does, and with it the machine.

use std::fs::File;
use std::io;
use std::process::ExitCode;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::agent::{self, GuestPlace};
use super::document::PORT;
use super::guest_setup::with_place;
use crate::sys;

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
