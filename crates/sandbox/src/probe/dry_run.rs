//! Carrying out an order to see whether it can be: in an empty directory, by a helper, to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dromia_contracts::sandbox::{NetworkAccess, ProcessExit, ProcessLimits, ProcessSpec};

use super::MissingPart;
use crate::HELPER_NAME;
use crate::order::{HelperOrder, HelperReport};

/// How long a trial may take, beside the time in which the sandbox starts.
const PATIENCE: Duration = Duration::from_secs(10);

/// Up to which number a name that is taken is passed over.
const ROOMS_TRIED: u64 = 1024;

/// What is guarded in a trial of guards.
const GUARDED: &str = ".envrc";

/// An empty directory for a trial. One that others use would be measured with all that lies there.
pub(super) struct TrialDirectory(PathBuf);

impl TrialDirectory {
    pub(super) fn make_directory() -> Result<Self, MissingPart> {
        static ROOMS: AtomicU64 = AtomicU64::new(0);
        for number in ROOMS.fetch_add(1, Ordering::Relaxed).. {
            let path = PathBuf::from(format!("/tmp/dromia-trial-{}-{number}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                // One that was killed had the same number, and left it.
                Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists && number < ROOMS_TRIED => {}
                Err(problem) => {
                    let what = format!("{}: {problem}", path.display());
                    return Err(MissingPart::new(what, "make /tmp writable"));
                }
            }
        }
        Err(MissingPart::new("/tmp has no free name for an empty directory".to_owned(), "make /tmp writable"))
    }

    /// One in which something is to be guarded, so that it is tried, too.
    pub(super) fn with_guard() -> Result<Self, MissingPart> {
        let room = Self::make_directory()?;
        std::fs::write(room.0.join(GUARDED), "").map_err(|problem| {
            MissingPart::new(format!("{}: {problem}", room.0.display()), "make /tmp writable")
        })?;
        Ok(room)
    }
}

impl Drop for TrialDirectory {
    fn drop(&mut self) {
        // What is left of it is empty, but for what is guarded.
        drop(std::fs::remove_file(self.0.join(GUARDED)));
        drop(std::fs::remove_dir(&self.0));
    }
}

/// A spec that does nothing.
pub(super) fn idle_spec(room: &TrialDirectory) -> ProcessSpec {
    ProcessSpec {
        argv: vec!["/bin/true".to_owned()],
        env: Vec::new(),
        workspace: room.0.clone(),
        reference: None,
        cwd: PathBuf::new(),
        mounts: Vec::new(),
        limits: ProcessLimits { wall_ms: 5_000, ..ProcessLimits::DEFAULT },
        network: NetworkAccess::None,
        family: None,
    }
}

/// Carries out an order whose program does nothing.
pub(super) fn run_trial(helper: &Path, order: &HelperOrder) -> Result<(), MissingPart> {
    match carried_out(helper, order) {
        Ok(ProcessExit::Exited { code: 0 }) => Ok(()),
        Ok(ProcessExit::NotStarted { problem }) => Err(explain_refusal(&problem)),
        Ok(other) => Err(explain_refusal(&format!("a test program that does nothing ended with {other:?}"))),
        Err(problem) => Err(explain_refusal(&problem.to_string())),
    }
}

/// Carries out an order and waits for its end.
pub(super) fn carried_out(helper: &Path, order: &HelperOrder) -> io::Result<ProcessExit> {
    use io::Write as _;
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut child = Command::new(helper)
        .arg0(HELPER_NAME)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let wall = Duration::from_millis(order.spec.limits.wall_ms);
    ours.set_read_timeout(Some(PATIENCE + order.walls.startup_time() + wall))?;
    let told = order.encode().and_then(|text| ours.write_all(&text));
    let report = told.map(|()| HelperReport::read(&mut ours));
    // Its lifeline ends it if it has not ended yet.
    drop(ours);
    child.wait()?;
    report?.map(|report| report.ending).ok_or_else(|| io::Error::other("the helper sent nothing"))
}

/// Says what would help, as far as the settings of this machine show it.
pub(super) fn explain_refusal(problem: &str) -> MissingPart {
    let setting = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let is = |path: &str, value: &str| setting(path).is_some_and(|found| found == value);
    let fix = if is("/proc/sys/user/max_user_namespaces", "0") {
        "sysctl -w user.max_user_namespaces=15000"
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "sysctl -w kernel.unprivileged_userns_clone=1"
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "apt-get install bubblewrap, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    } else {
        "check what the message names; inside a container, allow user namespaces and mounts"
    };
    MissingPart::new(problem, fix)
}
