//! The helper: a process of one thread that sets up the sandbox, starts the program in it and watches over it.
//!
//! Lifecycle: read the order; fork the *warden*, which sets up the sandbox and starts the program (`warden`); then wait
//! for whatever comes first: the warden's end, the lifeline, a limit (`meter`). At its end it kills what is left, waits
//! until nothing is, and reports. In namespaces the warden is process 1, so its death is the death of all; without,
//! the helper is the one that orphans are handed to, and ends them by name. For gVisor the warden makes the bundle and
//! starts `runsc` (`gvisor`); inside, this program is process 1 once more (`guest`). For Firecracker it makes a jail and
//! talks with the machine (`vm`).
//!
//! If the helper itself is killed the warden dies with it (`PDEATHSIG`, which follows the thread that forked: here
//! the only one).
//!
//! What a spec names of this machine is found once, by handle and over no link (`tree`), and what of a workspace no program
//! changes is guarded by handle (`guards`, `nested_guards`); `by_path` is how it was done once, for tests that must notice it.
//!
//! Where the operator named control groups (`groups`) they are made before the warden and removed after it.

mod by_path;
mod detached_root;
mod docker;
mod groups;
mod guards;
mod guest;
mod gvisor;
mod landlock;
mod meter;
mod mount_point;
mod namespaces;
mod nested_guards;
mod numbers;
mod open_files;
mod proc_masks;
mod reaper;
mod restrictions;
mod root;
mod syscalls;
pub(crate) mod tree;
mod trees;
mod vm;
mod volume;
mod warden;

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dromia_contracts::sandbox::{LimitKind, NetworkAccess, ProcessExit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use self::meter::UsageMeter;
use crate::order::{BackendSpec, HelperOrder, HelperReport, MeantFile};
use crate::spec::WORKSPACE;
use crate::{proxy_socket, sys};

pub(crate) use self::by_path::{guarded_paths as guarded_by_path, plant_fault as plant_binding_by_path};
pub(crate) use self::groups::{ControlGroups, are_memory_bound};
pub(crate) use self::guards::present_paths as present_guards;
pub(crate) use self::landlock::{MINIMUM as LANDLOCK_MINIMUM, abi_version as landlock_abi};
pub(crate) use self::proc_masks::names_to_mask as masked_names;
pub(crate) use self::root::{DEVICES, SYSTEM};
pub(crate) use self::syscalls::is_known as is_filter_known;
pub(crate) use self::tree::{device_and_inode, open_no_links as open_over_no_link};
pub use self::vm::{RehearsalResult, rehearse_guest};
pub(crate) use self::vm::{run_machine, run_rehearsal};

/// How often limits are looked at.
const TICK: Duration = Duration::from_millis(25);

/// The priority of the helper, where it may have it: ten steps before what it watches.
const PRIORITY: i32 = -10;

/// How long killing what is left may take.
const SWEEP: Duration = Duration::from_secs(2);

/// What is added to a signal's number to say by an exit code that it ended the program, as a shell does.
const SIGNALLED: i32 = 128;

/// How long the order may take to come.
const ORDER_WAIT: Duration = Duration::from_secs(10);

/// Does the helper's work. Its report is what counts; the exit code says only whether there is one.
/// With `ahead`, it does what every program of the strict backend needs before the order comes.
pub(crate) fn run_helper(ahead: bool) -> ExitCode {
    let Ok(mut control) = take_control_socket() else { return ExitCode::FAILURE };
    let begun = prepare_helper(ahead);
    let ending = HelperOrder::read(&mut control)
        .and_then(|order| supervise_order(&control, &order, &begun?))
        .unwrap_or_else(|problem| ProcessExit::NotStarted { problem: problem.to_string() });
    match HelperReport::new(ending).write(&mut control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Builds walls inside of what another program built. With an order as its argument it is the first process of a process
/// namespace, and starts the program; without one it is the first process of a guest, whose order lies where its bundle
/// put it.
pub(crate) fn run_inside(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(argument) = arguments.next() else { return guest::run_guest() };
    let order = argument.into_string().ok();
    let order = order.and_then(|text| serde_json::from_str::<HelperOrder>(&text).ok());
    let Some(order) = order else { return ExitCode::FAILURE };
    let ended = furnish_inside(&order).and_then(|()| warden::start_inside(&order));
    // The program that built the rest of the walls passes the code on, and the helper outside reads it (`ending`).
    let problem = match ended.map(|status| (status.exit_status(), status.terminating_signal())) {
        Ok((Some(code), _)) => return exit_code(code),
        Ok((None, Some(signal))) => return exit_code(SIGNALLED + signal),
        Ok((None, None)) => return ExitCode::FAILURE,
        Err(problem) => problem,
    };
    #[expect(clippy::print_stderr, reason = "there is no other way out of here")]
    {
        eprintln!("dromia: {problem}");
    }
    ExitCode::from(warden::NOT_STARTED)
}

fn exit_code(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Makes what another program left to this one: the proxy socket, and the guards of the workspace, after all that it mounted was
/// seen to be what was meant.
fn furnish_inside(order: &HelperOrder) -> Result<(), String> {
    open_inside(order.spec.network).map_err(|problem| format!("the socket of the proxy: {problem}"))?;
    let BackendSpec::Foreign { meant, .. } = &order.walls else { return Ok(()) };
    for MeantFile { path, device, number } in meant {
        let seen = tree::open_no_links(path).and_then(|found| tree::device_and_inode(&found));
        match seen {
            Ok(seen) if seen == (*device, *number) => {}
            Ok(_) => return Err(format!("{}: another file took its place", path.display())),
            Err(problem) => return Err(format!("{}: {problem}", path.display())),
        }
    }
    if by_path::is_planted() {
        return Ok(());
    }
    let workspace =
        tree::open_no_links(Path::new(WORKSPACE)).map_err(|problem| format!("{WORKSPACE}: {problem}"))?;
    nested_guards::guard_workspace(&order.spec, &workspace)
        .map_err(|(name, problem)| format!("the guard of {}: {problem}", name.display()))
}

/// Makes the proxy socket if another program made the namespace, raised its loopback interface, and left the helper's
/// socket on standard input. The program gets another standard input.
fn open_inside(network: NetworkAccess) -> io::Result<()> {
    match network {
        NetworkAccess::None => Ok(()),
        NetworkAccess::Proxy => {
            let control = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
            let null = std::fs::File::open("/dev/null")?;
            rustix::stdio::dup2_stdin(&null)?;
            proxy_socket::open_proxy_socket(&control, true)
        }
    }
}

/// Takes the socket from standard input, and leaves nothing there and nothing else open.
fn take_control_socket() -> io::Result<UnixStream> {
    sys::close_from(3)?;
    let control = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    control.set_read_timeout(Some(ORDER_WAIT))?;
    Ok(control)
}

/// What is done whatever the order says.
struct HelperSetup {
    /// The priority that this process came with, which the program gets.
    priority: i32,
    /// Whether it has entered the namespaces of the strict backend.
    entered: bool,
}

fn prepare_helper(ahead: bool) -> io::Result<HelperSetup> {
    // A signal to the group of the server is not one to the tools.
    rustix::process::setsid()?;
    // To count processes that only fork, it needs its turn among them. An ordinary user may not ask for it.
    let priority = rustix::process::getpriority_process(None)?;
    let _: rustix::io::Result<()> = rustix::process::setpriority_process(None, priority.min(PRIORITY));
    if ahead {
        namespaces::enter_namespaces(namespaces::INSIDE_ID)?;
    }
    Ok(HelperSetup { priority, entered: ahead })
}

/// Makes the control groups, and takes them away when nothing is left of what was in them.
fn supervise_order(
    control: &UnixStream,
    order: &HelperOrder,
    begun: &HelperSetup,
) -> io::Result<ProcessExit> {
    if begun.entered && !(matches!(order.walls, BackendSpec::Strict) && order.groups.is_empty()) {
        return Err(io::Error::other("this helper was prepared for another sandbox"));
    }
    let groups = ControlGroups::make_groups(&order.groups, &order.spec.limits)?;
    let ending = started_and_watched(control, order, &groups, begun);
    groups.remove_groups();
    ending
}

/// Starts the warden and watches until nothing of it is left.
fn started_and_watched(
    control: &UnixStream,
    order: &HelperOrder,
    groups: &ControlGroups,
    begun: &HelperSetup,
) -> io::Result<ProcessExit> {
    match &order.walls {
        // The engine builds, and this process watches; there is no warden.
        BackendSpec::Docker { engine, work } => return docker::run_order(control, order, engine, work),
        BackendSpec::Strict if begun.entered => {}
        BackendSpec::Strict => namespaces::enter_namespaces(namespaces::INSIDE_ID)?,
        BackendSpec::Gvisor { .. } => namespaces::enter_namespaces(namespaces::BUILDER_ID)?,
        BackendSpec::Firecracker { .. } => namespaces::enter_as_root()?,
        BackendSpec::Base | BackendSpec::Foreign { .. } => {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        }
    }
    match (order.spec.network, &order.walls) {
        // The program that makes a namespace from outside is started first.
        (NetworkAccess::None, _) | (NetworkAccess::Proxy, BackendSpec::Foreign { .. }) => {}
        (NetworkAccess::Proxy, BackendSpec::Strict) => proxy_socket::open_proxy_socket(control, false)?,
        (
            NetworkAccess::Proxy,
            BackendSpec::Base
            | BackendSpec::Gvisor { .. }
            | BackendSpec::Docker { .. }
            | BackendSpec::Firecracker { .. },
        ) => {
            return Err(io::Error::other("this sandbox has no socket for a proxy"));
        }
    }
    // What lies in the workspace already is measured before anything can add to it.
    let meter = UsageMeter::new(order);
    let cloexec = rustix::pipe::PipeFlags::CLOEXEC;
    let (told, tell) = rustix::pipe::pipe_with(cloexec)?;
    let (go, let_go) = rustix::pipe::pipe_with(cloexec)?;
    let Some(warden) = sys::fork()? else {
        drop((told, let_go));
        warden::run_warden(order, groups, &go, tell, control, begun.priority);
    };
    drop((tell, go));
    // Closing it is the signal; the warden waits for one byte, so that it never runs on without this process.
    rustix::io::write(&let_go, b"g")?;
    // From here on something may have happened: what goes wrong is no "nothing ran".
    Ok(watch_warden(control, order, groups, meter, warden, told).unwrap_or(ProcessExit::Lost))
}

/// Watches over the warden; says how it ended.
fn watch_warden(
    control: &UnixStream,
    order: &HelperOrder,
    groups: &ControlGroups,
    meter: UsageMeter,
    warden: Pid,
    told: OwnedFd,
) -> io::Result<ProcessExit> {
    let watch =
        WardenWatch { warden: rustix::process::pidfd_open(warden, PidfdFlags::empty())?, pid: warden };
    let cause = watch.until_the_end(control, order, groups, meter)?;
    let status = watch.reap_warden()?;
    if !order.walls.end_as_one() {
        kill_leftovers()?;
    }
    let message = HelperReport::read(&mut std::fs::File::from(told));
    // The kernel may have refused something after the last look, and that may be what ended it.
    let cause = cause.or_else(|| groups.refused_limit().map(|limit| ProcessExit::Killed { limit }));
    Ok(match (cause, message) {
        (Some(cause), _) => cause,
        (None, Some(report)) => report.ending,
        (None, None) => warden_ending(status, order),
    })
}

/// What ended a process, as its status says.
pub(crate) fn ending_of_status(status: WaitStatus) -> ProcessExit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ProcessExit::Exited { code },
        (None, Some(signal)) => ended_by(signal),
        (None, None) => ProcessExit::Lost,
    }
}

/// What a signal says: by two of them the kernel reports a limit.
fn ended_by(signal: i32) -> ProcessExit {
    if signal == Signal::XCPU.as_raw() {
        ProcessExit::Killed { limit: LimitKind::Cpu }
    } else if signal == Signal::XFSZ.as_raw() {
        ProcessExit::Killed { limit: LimitKind::Disk }
    } else {
        ProcessExit::Signalled { signal }
    }
}

fn warden_ending(status: WaitStatus, order: &HelperOrder) -> ProcessExit {
    match (&order.walls, ending_of_status(status)) {
        // The warden says how the program ended; without its report the end is unknown.
        (
            BackendSpec::Strict
            | BackendSpec::Gvisor { .. }
            | BackendSpec::Docker { .. }
            | BackendSpec::Firecracker { .. },
            _,
        ) => ProcessExit::Lost,
        (BackendSpec::Foreign { .. }, ProcessExit::Exited { code })
            if (SIGNALLED + 1..=SIGNALLED + 64).contains(&code) =>
        {
            ended_by(code - SIGNALLED)
        }
        (BackendSpec::Base | BackendSpec::Foreign { .. }, ended) => ended,
    }
}

/// The warden, and how to wait for it.
struct WardenWatch {
    warden: OwnedFd,
    pid: Pid,
}

impl WardenWatch {
    /// Waits for the warden's end, or brings it about; returns why, if it did not come by itself.
    fn until_the_end(
        &self,
        control: &UnixStream,
        order: &HelperOrder,
        groups: &ControlGroups,
        mut meter: UsageMeter,
    ) -> io::Result<Option<ProcessExit>> {
        let end =
            Instant::now() + Duration::from_millis(order.spec.limits.wall_ms) + order.walls.startup_time();
        control.set_nonblocking(true)?;
        loop {
            let mut watched = [PollFd::new(&self.warden, PollFlags::IN), PollFd::new(control, PollFlags::IN)];
            let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
            match poll(&mut watched, Some(&tick)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(problem) => return Err(problem.into()),
            }
            let has_ended = !watched[0].revents().is_empty();
            let is_called = !watched[1].revents().is_empty();
            if has_ended {
                return Ok(None);
            }
            self.bury_orphans();
            let limit = if Instant::now() >= end {
                Some(LimitKind::Time)
            } else {
                meter.exceeded_limit().or_else(|| groups.exceeded_limit(&order.spec.limits))
            };
            let cause = match limit {
                Some(limit) => Some(ProcessExit::Killed { limit }),
                None if is_called => is_stop(control).then_some(ProcessExit::Stopped),
                None => None,
            };
            if cause.is_some() {
                // It may have ended in between; then there is nothing to kill, and the cause is the same.
                let _: rustix::io::Result<()> =
                    rustix::process::pidfd_send_signal(self.warden.as_fd(), Signal::KILL);
                return Ok(cause);
            }
        }
    }

    /// Buries orphans that came to this process and ended, so that the dead are not counted. In namespaces none come.
    fn bury_orphans(&self) {
        for child in meter::child_pids(rustix::process::getpid()) {
            if child != self.pid {
                // What still lives stays as it is.
                let _: rustix::io::Result<_> = rustix::process::waitpid(Some(child), WaitOptions::NOHANG);
            }
        }
    }

    /// Waits until the warden is gone. In namespaces that is when all are.
    fn reap_warden(&self) -> io::Result<WaitStatus> {
        loop {
            match rustix::process::waitpid(Some(self.pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => return Ok(status),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
    }
}

/// Whether the other end asks for the end, by a byte or by closing.
fn is_stop(mut control: &UnixStream) -> bool {
    // However many bytes come, and none at the end: each says stop.
    let heard = control.read(&mut [0; 16]).map(drop);
    match heard {
        Ok(()) => true,
        Err(problem) => !matches!(problem.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

/// Kills and buries everything that was left behind. Orphans come to this process, so each round finds those whose
/// parents died in the last one.
fn kill_leftovers() -> io::Result<()> {
    let end = Instant::now() + SWEEP;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Err(problem) => return Err(problem.into()),
            Ok(None) if Instant::now() >= end => {
                return Err(io::Error::other("failed to kill a process of the tool"));
            }
            Ok(None) => {
                for child in meter::child_pids(rustix::process::getpid()) {
                    // Whatever is gone already needs no signal.
                    let _: rustix::io::Result<()> = rustix::process::kill_process(child, Signal::KILL);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
