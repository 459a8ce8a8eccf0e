//! Everything that a machine does but the machine: helper and guest are processes of this one, with a pair of sockets
//! between them, and the trees of the guest lie in a directory. It proves what both sides say to each other, and
//! isolates nothing: never run a program in it that is not one's own.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use dromia_contracts::sandbox::{ProcessExit, ProcessSpec, SandboxError};

use super::agent::{self, GuestPlace};
use super::conversation::{self, HostTrees};
use crate::{REHEARSAL_FLAG, spec};

/// What came of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RehearsalResult {
    /// How the program ended.
    pub ending: ProcessExit,
    /// What it wrote.
    pub out: Vec<u8>,
    /// What it wrote to its other output.
    pub err: Vec<u8>,
}

/// Runs a program of one's own as a guest would, in an empty directory, by a helper that is this program.
pub fn rehearse_guest(
    helper: &Path,
    spec: ProcessSpec,
    directory: &Path,
) -> Result<RehearsalResult, SandboxError> {
    spec::check_spec(&spec)?;
    let spec = spec::resolve_spec(spec)?;
    let failed = |problem: io::Error| SandboxError::Start { problem: problem.to_string() };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut guest = Command::new(helper)
        .arg(REHEARSAL_FLAG)
        .arg(directory)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = HostTrees::scan_spec(&spec)
        .and_then(|trees| conversation::run_conversation(ours, &spec, &trees, (&mut out, &mut err)));
    // The line is cut by now, whatever came of it.
    guest.wait().map_err(failed)?;
    let ending = ended.unwrap_or_else(|problem| ProcessExit::NotStarted { problem });
    Ok(RehearsalResult { ending, out, err })
}

/// Does a guest's work in the directory that is its argument, over the socket that is its standard input.
pub(crate) fn serve_rehearsal(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(directory) = arguments.next() else { return ExitCode::FAILURE };
    let line = crate::helper::take_control_socket().map(|line| File::from(OwnedFd::from(line)));
    let done =
        line.and_then(|line| agent::serve_once(line, &GuestPlace::Directory(PathBuf::from(directory))));
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
