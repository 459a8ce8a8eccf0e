//! Waits for a child and reaps every other process that ends meanwhile.

use std::io;
use std::process::Child;

use dromia_contracts::sandbox::ProcessExit;
use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::ending_of_status;

/// Waits for the program, and for whatever is left to this process meanwhile.
pub(super) fn wait_and_reap(child: &Child) -> io::Result<ProcessExit> {
    wait(child).map(ending_of_status)
}

/// Waits for this child and returns its status.
pub(super) fn wait(child: &Child) -> io::Result<WaitStatus> {
    let program = Pid::from_child(child);
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program => return Ok(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(problem) => return Err(problem.into()),
        }
    }
}
