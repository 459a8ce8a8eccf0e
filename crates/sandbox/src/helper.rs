//! The helper: a process of one thread that builds the walls, starts the program behind them and watches over it.
//!
//! Lifecycle: read the order; fork the *warden*, which builds the walls and starts the program (`warden`); then wait
//! for whatever comes first: the warden's end, the lifeline, a limit (`meter`). At its end it kills what is left, waits
//! until nothing is, and reports. In namespaces the warden is process 1, so its death is the death of all; without,
//! the helper is the one that orphans are handed to, and ends them by name. For gVisor the warden makes the bundle and
//! starts `runsc` (`gvisor`); inside, this program is process 1 once more (`guest`). For Firecracker it makes a jail and
//! talks with the machine (`vm`).
//!
//! If the helper itself is killed the warden dies with it (`PDEATHSIG`, which follows the thread that forked: here
//! the only one).
//!
//! Where the operator named control groups (`groups`) they are made before the warden and removed after it.

mod docker;
mod groups;
mod guest;
mod gvisor;
mod landlock;
mod meter;
mod namespaces;
mod numbers;
mod root;
mod syscalls;
mod vm;
mod walls;
mod warden;

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dromia_contracts::sandbox::{Ending, Limit, Network};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use self::meter::Meter;
use crate::order::{Order, Report, Walls};
use crate::{door, sys};

pub(crate) use self::groups::Groups;
pub(crate) use self::landlock::{MINIMUM as LANDLOCK_MINIMUM, abi as landlock_abi};
pub(crate) use self::root::{DEVICES, SYSTEM};
pub(crate) use self::syscalls::is_known as is_filter_known;
pub use self::vm::{Rehearsed, rehearse};
pub(crate) use self::vm::{run_machine, run_rehearsal};

/// How often limits are looked at.
const TICK: Duration = Duration::from_millis(25);

/// The priority of the helper, where it may have it: ten steps before what it watches.
const PRIORITY: i32 = -10;

/// How long killing what is left may take.
const SWEEP: Duration = Duration::from_secs(2);

/// How long the order may take to come.
const ORDER_WAIT: Duration = Duration::from_secs(10);

/// Does the helper's work. Its report is what counts; the exit code says only whether there is one.
/// Told to be `ahead`, it does what every program behind strict walls needs before it knows which one comes.
pub(crate) fn run(ahead: bool) -> ExitCode {
    let Ok(mut control) = control() else { return ExitCode::FAILURE };
    let begun = begin(ahead);
    let ending = Order::read(&mut control)
        .and_then(|order| supervise(&control, &order, &begun?))
        .unwrap_or_else(|problem| Ending::NotStarted { problem: problem.to_string() });
    match Report::new(ending).write(&mut control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Builds walls inside of what another program built. With an order as its argument it becomes the program; without
/// one it is the first process of a guest, whose order lies where its bundle put it.
pub(crate) fn run_inside(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(argument) = arguments.next() else { return guest::run() };
    let order = argument.into_string().ok();
    let order = order.and_then(|text| serde_json::from_str::<Order>(&text).ok());
    let Some(order) = order else { return ExitCode::FAILURE };
    // It returns only if it failed; whoever started this reads it on standard error.
    let problem = match open_inside(order.spec.network) {
        Ok(()) => warden::become_program(&order.spec, &order.walls),
        Err(problem) => format!("the door of the proxy: {problem}"),
    };
    #[expect(clippy::print_stderr, reason = "there is no other way out of here")]
    {
        eprintln!("dromia: {problem}");
    }
    ExitCode::from(warden::NOT_STARTED)
}

/// Makes the door where another program made the namespace, raised its loopback interface, and left the helper's socket
/// on standard input. The program gets another standard input.
fn open_inside(network: Network) -> io::Result<()> {
    match network {
        Network::None => Ok(()),
        Network::Proxy => {
            let control = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
            let null = std::fs::File::open("/dev/null")?;
            rustix::stdio::dup2_stdin(&null)?;
            door::open(&control, true)
        }
    }
}

/// Takes the socket from standard input, and leaves nothing there and nothing else open.
fn control() -> io::Result<UnixStream> {
    sys::close_from(3)?;
    let control = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    control.set_read_timeout(Some(ORDER_WAIT))?;
    Ok(control)
}

/// What is done whatever the order says.
struct Begun {
    /// The priority that this process came with, which the program gets.
    priority: i32,
    /// Whether it has entered the namespaces of strict walls.
    entered: bool,
}

fn begin(ahead: bool) -> io::Result<Begun> {
    // A signal to the group of the server is not one to the tools.
    rustix::process::setsid()?;
    // Whoever counts processes that only fork must come to its turn among them. An ordinary user may not ask for it.
    let priority = rustix::process::getpriority_process(None)?;
    let _: rustix::io::Result<()> = rustix::process::setpriority_process(None, priority.min(PRIORITY));
    if ahead {
        namespaces::enter(namespaces::INSIDE_ID)?;
    }
    Ok(Begun { priority, entered: ahead })
}

/// Makes the control groups, and takes them away when nothing is left of what was in them.
fn supervise(control: &UnixStream, order: &Order, begun: &Begun) -> io::Result<Ending> {
    if begun.entered && !(matches!(order.walls, Walls::Strict) && order.groups.is_empty()) {
        return Err(io::Error::other("this helper was made ready for other walls"));
    }
    let groups = Groups::make(&order.groups, &order.spec.limits)?;
    let ending = started_and_watched(control, order, &groups, begun);
    groups.remove();
    ending
}

/// Starts the warden and watches until nothing of it is left.
fn started_and_watched(
    control: &UnixStream,
    order: &Order,
    groups: &Groups,
    begun: &Begun,
) -> io::Result<Ending> {
    match &order.walls {
        // The engine builds, and this process watches; there is no warden.
        Walls::Docker { engine, work } => return docker::run(control, order, engine, work),
        Walls::Strict if begun.entered => {}
        Walls::Strict => namespaces::enter(namespaces::INSIDE_ID)?,
        Walls::Gvisor { .. } => namespaces::enter(namespaces::BUILDER_ID)?,
        Walls::Firecracker { .. } => namespaces::enter_as_root()?,
        Walls::Base | Walls::Foreign { .. } => {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        }
    }
    match (order.spec.network, &order.walls) {
        // Whoever makes a namespace from outside is started first.
        (Network::None, _) | (Network::Proxy, Walls::Foreign { .. }) => {}
        (Network::Proxy, Walls::Strict) => door::open(control, false)?,
        (
            Network::Proxy,
            Walls::Base | Walls::Gvisor { .. } | Walls::Docker { .. } | Walls::Firecracker { .. },
        ) => {
            return Err(io::Error::other("these walls have no door for a proxy"));
        }
    }
    // What lies in the workspace already is measured before anything can add to it.
    let meter = Meter::new(order);
    let cloexec = rustix::pipe::PipeFlags::CLOEXEC;
    let (told, tell) = rustix::pipe::pipe_with(cloexec)?;
    let (go, let_go) = rustix::pipe::pipe_with(cloexec)?;
    let Some(warden) = sys::fork()? else {
        drop((told, let_go));
        warden::run(order, groups, &go, tell, control, begun.priority);
    };
    drop((tell, go));
    // Closing it is the signal; the warden waits for one byte, so that it never runs on without this process.
    rustix::io::write(&let_go, b"g")?;
    // From here on something may have happened: what goes wrong is no "nothing ran".
    Ok(watched(control, order, groups, meter, warden, told).unwrap_or(Ending::Lost))
}

/// Watches over the warden; says how it ended.
fn watched(
    control: &UnixStream,
    order: &Order,
    groups: &Groups,
    meter: Meter,
    warden: Pid,
    told: OwnedFd,
) -> io::Result<Ending> {
    let watch = Watch { warden: rustix::process::pidfd_open(warden, PidfdFlags::empty())?, pid: warden };
    let cause = watch.until_the_end(control, order, groups, meter)?;
    let status = watch.reap()?;
    if !order.walls.end_as_one() {
        sweep()?;
    }
    let message = Report::read(&mut std::fs::File::from(told));
    // The kernel may have refused something after the last look, and that may be what ended it.
    let cause = cause.or_else(|| groups.refused().map(|limit| Ending::Killed { limit }));
    Ok(match (cause, message) {
        (Some(cause), _) => cause,
        (None, Some(report)) => report.ending,
        (None, None) => ending(status, order),
    })
}

/// What ended a process, as its status says.
pub(crate) fn ended(status: WaitStatus) -> Ending {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ending::Exited { code },
        (None, Some(signal)) => ended_by(signal),
        (None, None) => Ending::Lost,
    }
}

/// What a signal says: two of them are how the kernel tells of a limit.
fn ended_by(signal: i32) -> Ending {
    if signal == Signal::XCPU.as_raw() {
        Ending::Killed { limit: Limit::Cpu }
    } else if signal == Signal::XFSZ.as_raw() {
        Ending::Killed { limit: Limit::Disk }
    } else {
        Ending::Signalled { signal }
    }
}

fn ending(status: WaitStatus, order: &Order) -> Ending {
    match (&order.walls, ended(status)) {
        // The warden says how the program ended; without that word nobody knows.
        (Walls::Strict | Walls::Gvisor { .. } | Walls::Docker { .. } | Walls::Firecracker { .. }, _) => {
            Ending::Lost
        }
        // It tells a signal of its child by 128 and the number, as a shell does.
        (Walls::Foreign { .. }, Ending::Exited { code }) if (129..=192).contains(&code) => {
            ended_by(code - 128)
        }
        (Walls::Base | Walls::Foreign { .. }, ended) => ended,
    }
}

/// The warden, and how to wait for it.
struct Watch {
    warden: OwnedFd,
    pid: Pid,
}

impl Watch {
    /// Waits for the warden's end, or brings it about; returns why, if it did not come by itself.
    fn until_the_end(
        &self,
        control: &UnixStream,
        order: &Order,
        groups: &Groups,
        mut meter: Meter,
    ) -> io::Result<Option<Ending>> {
        let end = Instant::now() + Duration::from_millis(order.spec.limits.wall_ms) + order.walls.rise();
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
                Some(Limit::Time)
            } else {
                meter.exceeded().or_else(|| groups.exceeded(&order.spec.limits))
            };
            let cause = match limit {
                Some(limit) => Some(Ending::Killed { limit }),
                None if is_called => is_stop(control).then_some(Ending::Stopped),
                None => None,
            };
            if cause.is_some() {
                // It may have ended in between; then there is nothing to kill, and the cause stands.
                let _: rustix::io::Result<()> =
                    rustix::process::pidfd_send_signal(self.warden.as_fd(), Signal::KILL);
                return Ok(cause);
            }
        }
    }

    /// Buries orphans that came to this process and ended, so that the dead are not counted. In namespaces none come.
    fn bury_orphans(&self) {
        for child in meter::children(rustix::process::getpid()) {
            if child != self.pid {
                // What still lives stays as it is.
                let _: rustix::io::Result<_> = rustix::process::waitpid(Some(child), WaitOptions::NOHANG);
            }
        }
    }

    /// Waits until the warden is gone. In namespaces that is when all are.
    fn reap(&self) -> io::Result<WaitStatus> {
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
fn sweep() -> io::Result<()> {
    let end = Instant::now() + SWEEP;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Err(problem) => return Err(problem.into()),
            Ok(None) if Instant::now() >= end => {
                return Err(io::Error::other("a process of the tool does not die"));
            }
            Ok(None) => {
                for child in meter::children(rustix::process::getpid()) {
                    // Whatever is gone already needs no signal.
                    let _: rustix::io::Result<()> = rustix::process::kill_process(child, Signal::KILL);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
