//! The warden: the child of the helper that goes behind the walls and starts the program there.
//!
//! In namespaces it stays as process 1: it buries what the program leaves behind, and its end is the end of all.
//! Otherwise it becomes the program.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dromia_contracts::sandbox::{Ending, Network, ProcessSpec};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions};

use super::groups::Groups;
use super::landlock::Places;
use super::syscalls::Paths;
use super::{ended, gvisor, numbers, root, vm, walls};
use crate::order::{Order, Report, Walls};
use crate::spec::{WORKSPACE, environment};

/// The exit code of a warden that could not become the program.
pub(crate) const NOT_STARTED: u8 = 125;

/// Runs the warden to its end, in these control groups. `go` gives one byte if the helper lives; `tell` takes the report;
/// `control` is the helper's socket, for whoever hands a door over it; `priority` is what the program has.
pub(crate) fn run(
    order: &Order,
    groups: &Groups,
    go: &OwnedFd,
    tell: OwnedFd,
    control: &UnixStream,
    priority: i32,
) -> ! {
    let mut tell = std::fs::File::from(tell);
    let ending = match begin(go, priority) {
        Ok(()) => match groups.join() {
            Ok(()) => follow(order, control),
            Err(problem) => {
                Ending::NotStarted { problem: format!("its control group cannot be joined: {problem}") }
            }
        },
        Err(problem) => Ending::NotStarted { problem: format!("the helper is gone: {problem}") },
    };
    // If nobody reads it, nobody is left to tell.
    drop(Report::new(ending).write(&mut tell));
    drop(tell.flush());
    std::process::exit(i32::from(NOT_STARTED))
}

/// Ties this process to the helper, makes sure that the helper was there when it was tied, and leaves the share of the
/// processor to it that is its own: the kernel may divide by sessions first.
fn begin(go: &OwnedFd, priority: i32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::setsid()?;
    rustix::process::setpriority_process(None, priority)?;
    let mut byte = [0];
    if rustix::io::read(go, &mut byte)? == 1 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn follow(order: &Order, control: &UnixStream) -> Ending {
    let not_started = |problem: String| Ending::NotStarted { problem };
    match &order.walls {
        Walls::Strict => match strict(&order.spec) {
            Ok(ending) => ending,
            Err(problem) => not_started(problem),
        },
        Walls::Base => not_started(become_program(&order.spec, &Walls::Base)),
        Walls::Gvisor { runsc, helper } => match gvisor::run(order, runsc, helper) {
            Ok(ending) => ending,
            Err(problem) => not_started(problem),
        },
        Walls::Firecracker { monitor } => match vm::run(order, monitor) {
            Ok(ending) => ending,
            Err(problem) => not_started(problem),
        },
        Walls::Docker { .. } => not_started("a container has no warden".to_owned()),
        Walls::Foreign { argv } => {
            let Some((program, arguments)) = argv.split_first() else {
                return not_started("there is no program".to_owned());
            };
            let mut command = Command::new(program);
            command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
            if order.spec.network == Network::Proxy {
                // This program inside takes it from there, and the tool gets nothing of it.
                match control.try_clone() {
                    Ok(control) => command.stdin(OwnedFd::from(control)),
                    Err(problem) => return not_started(format!("the helper's socket: {problem}")),
                };
            }
            let problem = command.exec();
            not_started(format!("{program}: {problem}"))
        }
    }
}

/// Builds a file system and the walls, starts the program, and waits for its end.
fn strict(spec: &ProcessSpec) -> Result<Ending, String> {
    numbers::bound(&spec.limits).map_err(|problem| format!("the numbers of its processes: {problem}"))?;
    root::build(spec).map_err(|(place, problem)| format!("{place}: {problem}"))?;
    // What this process holds is not for the eyes of what it starts.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|problem| problem.to_string())?;
    walls::build(spec, &Places::inside(spec), Paths::Own, true)
        .map_err(|(place, problem)| format!("{place}: {problem}"))?;
    let mut command = command(spec, Path::new(WORKSPACE), "/tmp");
    walls::bound_memory(&mut command, &spec.limits);
    let child = command.spawn().map_err(|problem| why_not(spec, Path::new(WORKSPACE), &problem))?;
    bury(&child).map_err(|problem| problem.to_string())
}

/// Waits for the program, and for whatever is left to this process meanwhile.
pub(super) fn bury(child: &Child) -> io::Result<Ending> {
    let program = Pid::from_child(child);
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program => return Ok(ended(status)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(problem) => return Err(problem.into()),
        }
    }
}

/// Builds the walls and becomes the program. It returns only to say why not.
pub(crate) fn become_program(spec: &ProcessSpec, behind: &Walls) -> String {
    let (places, paths, workspace) = match behind {
        // The file system is one of its own, made by another program.
        Walls::Strict
        | Walls::Foreign { .. }
        | Walls::Gvisor { .. }
        | Walls::Docker { .. }
        | Walls::Firecracker { .. } => (Places::inside(spec), Paths::Own, Path::new(WORKSPACE)),
        Walls::Base => (Places::outside(spec), Paths::Shared, spec.workspace.as_path()),
    };
    let temporary = workspace.to_string_lossy();
    let temporary = if paths == Paths::Own { "/tmp" } else { &*temporary };
    let mut command = command(spec, workspace, temporary);
    if let Err((place, problem)) = walls::build(spec, &places, paths, false) {
        return format!("{place}: {problem}");
    }
    walls::bound_memory(&mut command, &spec.limits);
    let problem = command.exec();
    why_not(spec, workspace, &problem)
}

/// Says why a program was not started. The system tells of a working directory that is missing in the same words as of a
/// program that is, and whoever reads it looks for the wrong one.
pub(super) fn why_not(spec: &ProcessSpec, workspace: &Path, problem: &io::Error) -> String {
    if workspace.join(&spec.cwd).is_dir() {
        return format!("{}: {problem}", spec.argv[0]);
    }
    format!("cwd: the workspace has no directory {}", spec.cwd.display())
}

/// The program with its words and its environment, for a workspace where it lies.
pub(super) fn command(spec: &ProcessSpec, workspace: &Path, temporary: &str) -> Command {
    let mut command = Command::new(&spec.argv[0]);
    command
        .args(&spec.argv[1..])
        .env_clear()
        .envs(environment(spec, workspace, temporary))
        .current_dir(workspace.join(&spec.cwd))
        .stdin(Stdio::null());
    command
}
