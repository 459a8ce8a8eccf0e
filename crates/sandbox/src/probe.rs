//! What this machine permits: each backend, tried out with a program that does nothing.
//!
//! Nothing is concluded from versions or settings where a trial can say it; settings are read only to say what would
//! help.

mod trial;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dromia_contracts::sandbox::{Ending, Limits, ProcessSpec, Sandbox, Tier};

use self::trial::{Room, carried_out, nothing, refused, trial};
use crate::firecracker::parts;
use crate::helper::Groups;
use crate::native::{Level, Native};
use crate::order::{Order, VERSION, Walls, Work};
use crate::{Bubblewrap, Containers, Engine, Firecracker, Gvisor, Monitor, helper};

/// How long a program may take to list a directory in a guest.
const GUEST_WALL_MS: u64 = 20_000;

/// Where bubblewrap is looked for; never in the search path, which others may have set.
const BUBBLEWRAP: [&str; 3] = ["/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap"];

/// Where gVisor is looked for.
const RUNSC: [&str; 2] = ["/usr/local/bin/runsc", "/usr/bin/runsc"];

/// The Landlock version from which signals and abstract sockets stay behind the walls.
const SCOPES: libc::c_long = 6;

/// The backends, in the order in which they are taken: the quickest first, what shares most with this machine last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The kernel's own walls, with a file system of its own.
    Strict,
    /// The same, made by bubblewrap.
    Bubblewrap,
    /// A container of a Docker engine.
    Docker,
    /// A virtual machine of Firecracker.
    Firecracker,
    /// gVisor.
    Gvisor,
    /// The kernel's own walls, in this machine's file system.
    Base,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Strict, Self::Bubblewrap, Self::Docker, Self::Firecracker, Self::Gvisor, Self::Base];

    /// Returns the name, with its level.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "native/strict",
            Self::Bubblewrap => "bubblewrap",
            Self::Docker => "docker",
            Self::Firecracker => "firecracker",
            Self::Gvisor => "gvisor",
            Self::Base => "native/base",
        }
    }

    /// Returns how much stands between a process and this machine.
    pub const fn tier(self) -> Tier {
        match self {
            Self::Strict | Self::Bubblewrap | Self::Docker | Self::Base => Tier::Process,
            Self::Gvisor => Tier::Guest,
            Self::Firecracker => Tier::Machine,
        }
    }

    /// Whether processes see this machine's own file system, so that less is promised.
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Base)
    }
}

/// One backend of this machine.
#[derive(Debug)]
pub struct Backend {
    /// Which one.
    pub kind: Kind,
    /// Its name, with its level.
    pub name: &'static str,
    /// How much stands between a process and this machine.
    pub tier: Tier,
    /// Itself, or what is missing and what adds it.
    pub state: Result<Arc<dyn Sandbox>, Missing>,
    /// What its walls lack on this machine, though it works.
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
    pub(crate) fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}

/// A backend that works, with what it lacks.
type Found = (Arc<dyn Sandbox>, Vec<String>);

/// What backends are made of.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The program that is the helper; a real path.
    pub helper: PathBuf,
    /// The Docker engine that may be used, if one may.
    pub engine: Option<Engine>,
    /// The parts of virtual machines, if they are named.
    pub monitor: Option<Monitor>,
    /// Directories of control groups that belong to this server: programs behind `native` and `bubblewrap` get a group of
    /// their own in each. Where one cannot be had, these backends do not work.
    pub groups: Vec<PathBuf>,
}

impl Machine {
    /// Whether a backend was set up as far as its configuration goes; most need none.
    pub fn names(&self, kind: Kind) -> bool {
        match kind {
            Kind::Docker => self.engine.is_some(),
            Kind::Firecracker => self.monitor.is_some(),
            Kind::Strict | Kind::Bubblewrap | Kind::Gvisor | Kind::Base => true,
        }
    }
}

/// Tries every backend.
pub fn all(machine: &Machine) -> Vec<Backend> {
    Kind::ALL.into_iter().map(|kind| one(machine, kind)).collect()
}

/// Tries one backend.
pub fn one(machine: &Machine, kind: Kind) -> Backend {
    let helper = machine.helper.as_path();
    let tried = match kind {
        Kind::Strict => native(machine, Level::Strict, Walls::Strict),
        Kind::Base => native(machine, Level::Base, Walls::Base),
        Kind::Bubblewrap => bubblewrap(machine),
        Kind::Docker => docker(helper, machine.engine.as_ref()),
        Kind::Firecracker => firecracker(helper, machine.monitor.as_ref()),
        Kind::Gvisor => gvisor(helper),
    };
    let (state, gaps) = match tried {
        Ok((sandbox, gaps)) => (Ok(sandbox), gaps),
        Err(missing) => (Err(missing), Vec::new()),
    };
    Backend { kind, name: kind.name(), tier: kind.tier(), state, gaps }
}

fn native(machine: &Machine, level: Level, walls: Walls) -> Result<Found, Missing> {
    kernel()?;
    landlock()?;
    let gaps = gaps(machine)?;
    let Machine { helper, groups, .. } = machine;
    let room = Room::make()?;
    let order = Order { version: VERSION, walls, spec: nothing(&room), groups: groups.clone() };
    trial(helper, &order)?;
    Ok(found(Native::new(helper.clone(), level, groups.clone()), gaps))
}

fn bubblewrap(machine: &Machine) -> Result<Found, Missing> {
    let program = installed(&BUBBLEWRAP);
    let program =
        program.ok_or_else(|| Missing::new("bwrap is not installed", "apt-get install bubblewrap"))?;
    kernel()?;
    landlock()?;
    let gaps = gaps(machine)?;
    let Machine { helper, groups, .. } = machine;
    let backend = Bubblewrap::new(helper.clone(), program, groups.clone());
    let room = Room::make()?;
    let order = backend.order(nothing(&room)).map_err(|problem| refused(&problem.to_string()))?;
    trial(helper, &order)?;
    Ok(found(backend, gaps))
}

/// What the image holds is its maker's business: it is enough that a container begins and ends.
fn docker(helper: &Path, engine: Option<&Engine>) -> Result<Found, Missing> {
    let Some(engine) = engine else {
        let fix =
            "write sandbox.docker.socket and sandbox.docker.image in dromia.yaml, for an engine of its own";
        return Err(Missing::new("no engine and no image are configured", fix));
    };
    if !engine.socket.exists() {
        let what = format!("there is no engine at {}", engine.socket.display());
        return Err(Missing::new(
            what,
            "apt-get install docker.io, and start a rootless or a dedicated engine there",
        ));
    }
    let look = "look at the engine and at its `docker images`; an image is never pulled, `docker pull` or `docker import` brings it";
    let backend = Containers::new(helper.to_owned(), engine.clone());
    let room = Room::make()?;
    let order = backend.order(nothing(&room), Work::Alone);
    let order = order.map_err(|problem| Missing::new(problem.to_string(), look))?;
    match carried_out(helper, &order) {
        Ok(Ending::Exited { .. }) => Ok(found(backend, Vec::new())),
        Ok(Ending::NotStarted { problem }) => Err(Missing::new(problem, look)),
        Ok(other) => Err(Missing::new(format!("a program that does nothing ended as {other:?}"), look)),
        Err(problem) => Err(Missing::new(problem.to_string(), look)),
    }
}

/// The parts are looked at one by one, and then a machine is started with them.
fn firecracker(helper: &Path, monitor: Option<&Monitor>) -> Result<Found, Missing> {
    let monitor = monitor.ok_or_else(parts::unnamed)?;
    kernel()?;
    parts::look(monitor, &parts::Ground::here())?;
    let backend = Firecracker::new(helper.to_owned(), monitor.clone());
    let room = Room::make()?;
    let look =
        "look at what the message names; docs/sandbox.md says what a kernel and a root image must have";
    match carried_out(helper, &backend.order(nothing(&room))) {
        Ok(Ending::Exited { code: 0 }) => Ok(found(backend, Vec::new())),
        Ok(Ending::NotStarted { problem }) => Err(Missing::new(problem, look)),
        Ok(other) => Err(Missing::new(format!("a program that does nothing ended as {other:?}"), look)),
        Err(problem) => Err(Missing::new(problem.to_string(), look)),
    }
}

/// gVisor is tried with a program that old releases of it cannot run: what of it fails is no reason to do without.
fn gvisor(helper: &Path) -> Result<Found, Missing> {
    let program = installed(&RUNSC);
    let program = program.ok_or_else(|| Missing::new("runsc is not installed", "apt-get install runsc"))?;
    kernel()?;
    let backend = Gvisor::new(helper.to_owned(), program);
    let list = ["/bin/ls", "/"].map(str::to_owned).into();
    let limits = Limits { wall_ms: GUEST_WALL_MS, ..Limits::DEFAULT };
    let room = Room::make()?;
    let order = backend.order(ProcessSpec { argv: list, limits, ..nothing(&room) });
    match carried_out(helper, &order) {
        Ok(Ending::Exited { code: 0 }) => Ok(found(backend, Vec::new())),
        Ok(Ending::Exited { .. }) => {
            let gap = "this release of runsc is too old for `ls` and `stat` of this machine, which fail in it; a newer one from https://gvisor.dev runs them";
            Ok(found(backend, vec![gap.to_owned()]))
        }
        Ok(Ending::NotStarted { problem }) => Err(refused(&problem)),
        Ok(other) => Err(refused(&format!("a program that lists a directory ended as {other:?}"))),
        Err(problem) => Err(refused(&problem.to_string())),
    }
}

fn found(sandbox: impl Sandbox + 'static, gaps: Vec<String>) -> Found {
    (Arc::new(sandbox), gaps)
}

fn installed(places: &[&str]) -> Option<PathBuf> {
    places.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// What every backend here needs of the kernel.
fn kernel() -> Result<(), Missing> {
    if !helper::is_filter_known() {
        let what = format!("no filter of system calls is written for {}", std::env::consts::ARCH);
        return Err(Missing::new(what, "use a machine with x86_64 or aarch64"));
    }
    if !has_children() {
        return Err(Missing::new(
            "/proc does not tell the children of a process",
            "use a kernel that was built with CONFIG_PROC_CHILDREN",
        ));
    }
    Ok(())
}

/// What those need that have this kernel only.
fn landlock() -> Result<(), Missing> {
    match helper::landlock_abi() {
        None => Err(Missing::new(
            "the kernel has no Landlock",
            "boot with `lsm=landlock,…` on a kernel that was built with CONFIG_SECURITY_LANDLOCK",
        )),
        Some(version) if version < helper::LANDLOCK_MINIMUM => Err(Missing::new(
            format!("Landlock has version {version}, and {} is needed", helper::LANDLOCK_MINIMUM),
            "use Linux 6.2 or newer",
        )),
        Some(_) => Ok(()),
    }
}

fn has_children() -> bool {
    Path::new("/proc/thread-self/children").is_file()
}

/// What is left open though it works. Control groups that were named must be there to be made.
fn gaps(machine: &Machine) -> Result<Vec<String>, Missing> {
    let mut gaps = Vec::new();
    if let Some(version) = helper::landlock_abi().filter(|version| *version < SCOPES) {
        gaps.push(format!(
            "Landlock has version {version}: before {SCOPES} it does not hold signals and abstract sockets back, which matters for native/base"
        ));
    }
    let made = Groups::make(&machine.groups, &Limits::DEFAULT).map_err(|problem| {
        let fix = "give this server groups of its own (systemd: Delegate=yes with DelegateSubgroup=server), and write their directories in sandbox.control_groups of dromia.yaml, or take the key away";
        Missing::new(problem.to_string(), fix)
    })?;
    let unbounded = made.unbounded();
    made.remove();
    if !unbounded.is_empty() {
        gaps.push(format!("no control group of sandbox.control_groups bounds {}", unbounded.join(" and ")));
    }
    Ok(gaps)
}
