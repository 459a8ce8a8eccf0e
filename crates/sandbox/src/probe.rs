//! What this machine permits: each backend, tried out with a program that does nothing.
//!
//! Nothing is concluded from versions or settings where a trial can say it; settings are read only to say what would
//! help.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dromia_contracts::sandbox::{Ending, Limits, ProcessSpec, Sandbox, Tier};

use crate::native::{Level, Native};
use crate::order::{Order, Report, VERSION, Walls};
use crate::{Bubblewrap, HELPER_NAME, helper};

/// How long a trial may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where bubblewrap is looked for; never in the search path, which others may have set.
const BUBBLEWRAP: [&str; 3] = ["/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap"];

/// The Landlock version from which signals and abstract sockets stay behind the walls.
const SCOPES: libc::c_long = 6;

/// One backend of this machine.
#[derive(Debug)]
pub struct Backend {
    /// Its name, with its level.
    pub name: &'static str,
    /// How much stands between a process and this machine.
    pub tier: Tier,
    /// Itself, or what is missing and what adds it.
    pub state: Result<Arc<dyn Sandbox>, Missing>,
    /// What its walls lack on this kernel, though it works.
    pub gaps: Vec<String>,
}

/// What keeps a backend from working.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What is missing.
    pub what: String,
    /// The command, or the setting, that adds it.
    pub fix: String,
}

impl Missing {
    fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}

/// Tries every backend with `helper`, which must be a real path; the strongest first.
pub fn all(helper: &Path) -> Vec<Backend> {
    let native = |level| Native::new(helper.to_owned(), level);
    let gaps = gaps();
    let kernel = kernel();
    let tried = |walls| kernel.clone().and_then(|()| trial(helper, walls));
    let found = BUBBLEWRAP.into_iter().map(PathBuf::from).find(|path| path.is_file());
    let bubblewrap = match found {
        None => Err(Missing::new("bwrap is not installed", "apt-get install bubblewrap")),
        Some(program) => kernel.clone().and_then(|()| {
            let backend = Bubblewrap::new(helper.to_owned(), program);
            let room = Room::make()?;
            let order = backend.order(nothing(&room)).map_err(|problem| refused(&problem.to_string()))?;
            try_order(helper, &order).map(|()| Arc::new(backend) as Arc<dyn Sandbox>)
        }),
    };
    let strict = tried(Walls::Strict).map(|()| Arc::new(native(Level::Strict)) as Arc<dyn Sandbox>);
    let base = tried(Walls::Base).map(|()| Arc::new(native(Level::Base)) as Arc<dyn Sandbox>);
    [("native/strict", strict), ("bubblewrap", bubblewrap), ("native/base", base)]
        .into_iter()
        .map(|(name, state)| Backend { name, tier: Tier::Process, state, gaps: gaps.clone() })
        .collect()
}

/// What every backend here needs of the kernel.
fn kernel() -> Result<(), Missing> {
    if !helper::is_filter_known() {
        let what = format!("no filter of system calls is written for {}", std::env::consts::ARCH);
        return Err(Missing::new(what, "use a machine with x86_64 or aarch64"));
    }
    match helper::landlock_abi() {
        None => Err(Missing::new(
            "the kernel has no Landlock",
            "boot with `lsm=landlock,…` on a kernel that was built with CONFIG_SECURITY_LANDLOCK",
        )),
        Some(version) if version < helper::LANDLOCK_MINIMUM => Err(Missing::new(
            format!("Landlock has version {version}, and {} is needed", helper::LANDLOCK_MINIMUM),
            "use Linux 6.2 or newer",
        )),
        Some(_) if !has_children() => Err(Missing::new(
            "/proc does not tell the children of a process",
            "use a kernel that was built with CONFIG_PROC_CHILDREN",
        )),
        Some(_) => Ok(()),
    }
}

fn has_children() -> bool {
    Path::new("/proc/thread-self/children").is_file()
}

fn gaps() -> Vec<String> {
    match helper::landlock_abi() {
        Some(version) if version < SCOPES => vec![format!(
            "Landlock has version {version}: before {SCOPES} it does not hold signals and abstract sockets back, which matters for native/base"
        )],
        Some(_) | None => Vec::new(),
    }
}

/// An empty directory for a trial. One that others use would be measured with all that lies there.
struct Room(PathBuf);

impl Room {
    fn make() -> Result<Self, Missing> {
        static ROOMS: AtomicU64 = AtomicU64::new(0);
        let number = ROOMS.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/tmp/dromia-trial-{}-{number}", std::process::id()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|problem| Missing::new(format!("{}: {problem}", path.display()), "make /tmp writable"))?;
        Ok(Self(path))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // What is left of it is empty.
        drop(std::fs::remove_dir(&self.0));
    }
}

/// A spec that does nothing.
fn nothing(room: &Room) -> ProcessSpec {
    ProcessSpec {
        argv: vec!["/bin/true".to_owned()],
        env: Vec::new(),
        workspace: room.0.clone(),
        cwd: PathBuf::new(),
        mounts: Vec::new(),
        limits: Limits { wall_ms: 5_000, ..Limits::DEFAULT },
    }
}

fn trial(helper: &Path, walls: Walls) -> Result<(), Missing> {
    let room = Room::make()?;
    try_order(helper, &Order { version: VERSION, walls, spec: nothing(&room) })
}

fn try_order(helper: &Path, order: &Order) -> Result<(), Missing> {
    match carried_out(helper, order) {
        Ok(Ending::Exited { code: 0 }) => Ok(()),
        Ok(Ending::NotStarted { problem }) => Err(refused(&problem)),
        Ok(other) => Err(refused(&format!("a program that does nothing ended as {other:?}"))),
        Err(problem) => Err(refused(&problem.to_string())),
    }
}

/// Carries out an order and waits for its end.
fn carried_out(helper: &Path, order: &Order) -> io::Result<Ending> {
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
    ours.set_read_timeout(Some(PATIENCE))?;
    let told = order.encode().and_then(|text| ours.write_all(&text));
    let report = told.map(|()| Report::read(&mut ours));
    // Its lifeline ends it if it has not ended yet.
    drop(ours);
    child.wait()?;
    report?.map(|report| report.ending).ok_or_else(|| io::Error::other("the helper said nothing"))
}

/// Says what would help, as far as the settings of this machine tell.
fn refused(problem: &str) -> Missing {
    let setting = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let is = |path: &str, value: &str| setting(path).is_some_and(|found| found == value);
    let fix = if is("/proc/sys/user/max_user_namespaces", "0") {
        "sysctl -w user.max_user_namespaces=15000"
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "sysctl -w kernel.unprivileged_userns_clone=1"
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "apt-get install bubblewrap, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    } else {
        "look at what the message names; inside of a container, allow user namespaces and mounts"
    };
    Missing::new(problem, fix)
}
