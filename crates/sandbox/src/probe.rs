//! What this machine permits: each backend, tried out with a program that does nothing.
//!
//! Nothing is concluded from versions or settings where a trial can say it; settings are read only to say what would
//! help.

mod dry_run;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dromia_contracts::sandbox::{IsolationTier, ProcessExit, ProcessLimits, ProcessSpec, SandboxBackend};

use self::dry_run::{TrialDirectory, carried_out, explain_refusal, idle_spec, run_trial};
use crate::firecracker::parts;
use crate::helper::ControlGroups;
pub use crate::missing_part::MissingPart;
use crate::native::{NativeLevel, NativeSandbox};
use crate::order::{BackendSpec, DockerTask, HelperOrder, VERSION};
use crate::{
    BubblewrapSandbox, DockerEngine, DockerSandbox, FirecrackerParts, FirecrackerSandbox, GvisorSandbox,
    helper,
};

/// How long a program may take to list a directory in a guest.
const GUEST_WALL_MS: u64 = 20_000;

/// Where bubblewrap is looked for; never in the search path, which others may have set.
const BUBBLEWRAP: [&str; 3] = ["/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap"];

/// Where gVisor is looked for.
const RUNSC: [&str; 2] = ["/usr/local/bin/runsc", "/usr/bin/runsc"];

/// The Landlock version from which signals and abstract sockets stay inside the sandbox.
const SCOPES: libc::c_long = 6;

/// The backends, in the order in which they are taken: the quickest first, what shares most with this machine last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendKind {
    /// The kernel's own restrictions, with a file system of its own.
    Strict,
    /// The same, made by bubblewrap.
    Bubblewrap,
    /// A container of a Docker engine.
    Docker,
    /// A virtual machine of Firecracker.
    Firecracker,
    /// gVisor.
    Gvisor,
    /// The kernel's own restrictions, in this machine's file system.
    Base,
}

impl BackendKind {
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

    /// Returns how far a process is isolated from this machine.
    pub const fn tier(self) -> IsolationTier {
        match self {
            Self::Strict | Self::Bubblewrap | Self::Docker | Self::Base => IsolationTier::Process,
            Self::Gvisor => IsolationTier::Guest,
            Self::Firecracker => IsolationTier::Machine,
        }
    }

    /// Whether processes see this machine's own file system, so that less is promised.
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Base)
    }
}

/// One backend of this machine.
#[derive(Debug)]
pub struct MachineBackend {
    /// Which one.
    pub kind: BackendKind,
    /// Its name, with its level.
    pub name: &'static str,
    /// How far a process is isolated from this machine.
    pub tier: IsolationTier,
    /// Itself, or what is missing and what adds it.
    pub state: Result<Arc<dyn SandboxBackend>, MissingPart>,
    /// Which restrictions it lacks on this machine, though it works.
    pub gaps: Vec<BackendGap>,
}

/// A resource that a control group can limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupResource {
    /// Memory.
    Memory,
    /// Processes and threads.
    Processes,
    /// Processor time.
    Processors,
}

impl GroupResource {
    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::Processors => "processors",
        }
    }
}

/// A restriction that a backend lacks on this machine, though it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendGap {
    /// This version of Landlock restricts neither signals nor abstract sockets.
    OldLandlock(libc::c_long),
    /// The control groups that the configuration names limit none of these resources.
    UnboundedResources(Vec<GroupResource>),
    /// This release of runsc cannot run every program of this machine.
    OldRunsc,
}

impl BackendGap {
    /// Whether no control group limits memory.
    pub fn leaves_memory_unbounded(&self) -> bool {
        matches!(self, Self::UnboundedResources(resources) if resources.contains(&GroupResource::Memory))
    }
}

impl fmt::Display for BackendGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldLandlock(version) => write!(
                f,
                "Landlock has version {version}: before {SCOPES} it does not restrict signals and abstract \
                 sockets, which matters for native/base"
            ),
            Self::UnboundedResources(resources) => {
                let names: Vec<_> = resources.iter().map(|resource| resource.name()).collect();
                write!(f, "no control group of sandbox.control_groups limits {}", names.join(" and "))
            }
            Self::OldRunsc => f.write_str(
                "this release of runsc is too old for `ls` and `stat` of this machine; install a newer \
                       one from https://gvisor.dev",
            ),
        }
    }
}

/// A backend that works, with what it lacks.
type Found = (Arc<dyn SandboxBackend>, Vec<BackendGap>);

/// What backends are made of.
#[derive(Debug, Clone)]
pub struct BackendParts {
    /// The program that is the helper; a real path.
    pub helper: PathBuf,
    /// The Docker engine that may be used, if one may.
    pub engine: Option<DockerEngine>,
    /// The parts of virtual machines, if they are named.
    pub monitor: Option<FirecrackerParts>,
    /// Directories of control groups that belong to this server: programs behind `native` and `bubblewrap` get a group of
    /// their own in each. Where one cannot be had, these backends do not work.
    pub groups: Vec<PathBuf>,
}

impl BackendParts {
    /// Whether a backend was set up as far as its configuration goes; most need none.
    pub fn is_configured(&self, kind: BackendKind) -> bool {
        match kind {
            BackendKind::Docker => self.engine.is_some(),
            BackendKind::Firecracker => self.monitor.is_some(),
            BackendKind::Strict | BackendKind::Bubblewrap | BackendKind::Gvisor | BackendKind::Base => true,
        }
    }
}

/// Tries one backend.
pub fn probe_one(machine: &BackendParts, kind: BackendKind) -> MachineBackend {
    let helper = machine.helper.as_path();
    let tried = match kind {
        BackendKind::Strict => probe_native(machine, NativeLevel::Strict, BackendSpec::Strict),
        BackendKind::Base => probe_native(machine, NativeLevel::Base, BackendSpec::Base),
        BackendKind::Bubblewrap => probe_bubblewrap(machine),
        BackendKind::Docker => probe_docker(helper, machine.engine.as_ref()),
        BackendKind::Firecracker => probe_firecracker(helper, machine.monitor.as_ref()),
        BackendKind::Gvisor => probe_gvisor(helper),
    };
    let (state, gaps) = match tried {
        Ok((sandbox, gaps)) => (Ok(sandbox), gaps),
        Err(missing) => (Err(missing), Vec::new()),
    };
    MachineBackend { kind, name: kind.name(), tier: kind.tier(), state, gaps }
}

fn probe_native(
    machine: &BackendParts,
    level: NativeLevel,
    walls: BackendSpec,
) -> Result<Found, MissingPart> {
    check_kernel()?;
    check_landlock()?;
    let gaps = find_gaps(machine)?;
    let BackendParts { helper, groups, .. } = machine;
    let room = TrialDirectory::with_guard()?;
    let is_memory_bound = helper::are_memory_bound(groups);
    let order = HelperOrder {
        version: VERSION,
        walls,
        spec: idle_spec(&room),
        groups: groups.clone(),
        is_memory_bound,
    };
    run_trial(helper, &order)?;
    Ok(working_backend(NativeSandbox::new(helper.clone(), level, groups.clone()), gaps))
}

fn probe_bubblewrap(machine: &BackendParts) -> Result<Found, MissingPart> {
    let program = find_installed(&BUBBLEWRAP);
    let program =
        program.ok_or_else(|| MissingPart::new("bwrap is not installed", "apt-get install bubblewrap"))?;
    check_kernel()?;
    check_landlock()?;
    let gaps = find_gaps(machine)?;
    let BackendParts { helper, groups, .. } = machine;
    let backend = BubblewrapSandbox::new(helper.clone(), program, groups.clone());
    let room = TrialDirectory::with_guard()?;
    let order =
        backend.helper_order(idle_spec(&room)).map_err(|problem| explain_refusal(&problem.to_string()))?;
    run_trial(helper, &order)?;
    Ok(working_backend(backend, gaps))
}

/// What the image holds is its maker's business: it is enough that a container begins and ends.
fn probe_docker(helper: &Path, engine: Option<&DockerEngine>) -> Result<Found, MissingPart> {
    let Some(engine) = engine else {
        let fix =
            "write sandbox.docker.socket and sandbox.docker.image in dromia.yaml, for a dedicated engine";
        return Err(MissingPart::new("no engine and no image are configured", fix));
    };
    if !engine.socket.exists() {
        let what = format!("there is no engine at {}", engine.socket.display());
        return Err(MissingPart::new(
            what,
            "apt-get install docker.io, and start a rootless or a dedicated engine there",
        ));
    }
    let look = "check the engine and its `docker images`; dromia never pulls an image: get it with `docker \
                pull` or `docker import`";
    let backend = DockerSandbox::new(helper.to_owned(), engine.clone());
    let room = TrialDirectory::make_directory()?;
    let order = backend.helper_order(idle_spec(&room), DockerTask::Alone);
    let order = order.map_err(|problem| MissingPart::new(problem.to_string(), look))?;
    match carried_out(helper, &order) {
        Ok(ProcessExit::Exited { .. }) => Ok(working_backend(backend, Vec::new())),
        Ok(ProcessExit::NotStarted { problem }) => Err(MissingPart::new(problem, look)),
        Ok(other) => {
            Err(MissingPart::new(format!("a test program that does nothing ended with {other:?}"), look))
        }
        Err(problem) => Err(MissingPart::new(problem.to_string(), look)),
    }
}

/// The parts are looked at one by one, and then a machine is started with them.
fn probe_firecracker(helper: &Path, monitor: Option<&FirecrackerParts>) -> Result<Found, MissingPart> {
    let monitor = monitor.ok_or_else(parts::parts_unnamed)?;
    check_kernel()?;
    parts::check_parts(monitor, &parts::HostFacts::this_host())?;
    let backend = FirecrackerSandbox::new(helper.to_owned(), monitor.clone());
    let room = TrialDirectory::make_directory()?;
    let look =
        "check what the message names; `dromia docs sandbox` lists what a kernel and a root image need";
    match carried_out(helper, &backend.helper_order(idle_spec(&room))) {
        Ok(ProcessExit::Exited { code: 0 }) => Ok(working_backend(backend, Vec::new())),
        Ok(ProcessExit::NotStarted { problem }) => Err(MissingPart::new(problem, look)),
        Ok(other) => {
            Err(MissingPart::new(format!("a test program that does nothing ended with {other:?}"), look))
        }
        Err(problem) => Err(MissingPart::new(problem.to_string(), look)),
    }
}

/// gVisor is tried with a program that old releases of it cannot run: what of it fails is no reason to do without.
fn probe_gvisor(helper: &Path) -> Result<Found, MissingPart> {
    let program = find_installed(&RUNSC);
    let program =
        program.ok_or_else(|| MissingPart::new("runsc is not installed", "apt-get install runsc"))?;
    check_kernel()?;
    let backend = GvisorSandbox::new(helper.to_owned(), program);
    let list = ["/bin/ls", "/"].map(str::to_owned).into();
    let limits = ProcessLimits { wall_ms: GUEST_WALL_MS, ..ProcessLimits::DEFAULT };
    let room = TrialDirectory::make_directory()?;
    let order = backend.helper_order(ProcessSpec { argv: list, limits, ..idle_spec(&room) });
    match carried_out(helper, &order) {
        Ok(ProcessExit::Exited { code: 0 }) => Ok(working_backend(backend, Vec::new())),
        Ok(ProcessExit::Exited { .. }) => Ok(working_backend(backend, vec![BackendGap::OldRunsc])),
        Ok(ProcessExit::NotStarted { problem }) => Err(explain_refusal(&problem)),
        Ok(other) => {
            Err(explain_refusal(&format!("a test program that lists a directory ended with {other:?}")))
        }
        Err(problem) => Err(explain_refusal(&problem.to_string())),
    }
}

fn working_backend(sandbox: impl SandboxBackend + 'static, gaps: Vec<BackendGap>) -> Found {
    (Arc::new(sandbox), gaps)
}

fn find_installed(places: &[&str]) -> Option<PathBuf> {
    places.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// What every backend here needs of the kernel.
fn check_kernel() -> Result<(), MissingPart> {
    if !helper::is_filter_known() {
        let what = format!("dromia has no system call filter for {}", std::env::consts::ARCH);
        return Err(MissingPart::new(what, "use a machine with x86_64 or aarch64"));
    }
    if !has_children() {
        return Err(MissingPart::new(
            "/proc does not list the children of a process",
            "use a kernel that was built with CONFIG_PROC_CHILDREN",
        ));
    }
    Ok(())
}

/// What those need that have this kernel only.
fn check_landlock() -> Result<(), MissingPart> {
    match helper::landlock_abi() {
        None => Err(MissingPart::new(
            "the kernel has no Landlock",
            "boot with `lsm=landlock,…` on a kernel that was built with CONFIG_SECURITY_LANDLOCK",
        )),
        Some(version) if version < helper::LANDLOCK_MINIMUM => Err(MissingPart::new(
            format!("Landlock has version {version}, but {} is required", helper::LANDLOCK_MINIMUM),
            "use Linux 6.2 or newer",
        )),
        Some(_) => Ok(()),
    }
}

fn has_children() -> bool {
    Path::new("/proc/thread-self/children").is_file()
}

/// What is left open though it works. Control groups that were named must be there to be made.
fn find_gaps(machine: &BackendParts) -> Result<Vec<BackendGap>, MissingPart> {
    let mut gaps = Vec::new();
    if let Some(version) = helper::landlock_abi().filter(|version| *version < SCOPES) {
        gaps.push(BackendGap::OldLandlock(version));
    }
    let made = ControlGroups::make_groups(&machine.groups, &ProcessLimits::DEFAULT).map_err(|problem| {
        let fix = "give this server its own groups (systemd: Delegate=yes with DelegateSubgroup=server), and \
                   list their directories in sandbox.control_groups of dromia.yaml, or remove the key";
        MissingPart::new(problem.to_string(), fix)
    })?;
    let unbounded = made.unbounded_resources();
    made.remove_groups();
    if !unbounded.is_empty() {
        gaps.push(BackendGap::UnboundedResources(unbounded));
    }
    Ok(gaps)
}
