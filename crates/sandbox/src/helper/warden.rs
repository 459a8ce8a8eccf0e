//! The warden: the child of the helper that enters the sandbox and starts the program there.
//!
//! In namespaces it stays as process 1: it buries what the program leaves behind, holds its root directory, and its end is the
//! end of all. So it is where bubblewrap made the namespaces ([`start_inside`]). Otherwise it becomes the program.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use dromia_contracts::sandbox::{NetworkAccess, ProcessExit, ProcessSpec};
use rustix::process::{DumpableBehavior, Signal, WaitStatus};

use super::groups::ControlGroups;
use super::landlock::LandlockPaths;
use super::syscalls::PathScope;
use super::{by_path, detached_root, ending_of_status, gvisor, numbers, reaper, restrictions, root, vm};
use crate::order::{BackendSpec, HelperOrder, HelperReport};
use crate::spec::{WORKSPACE, process_environment};

/// The exit code of a warden that could not become the program.
pub(crate) const NOT_STARTED: u8 = 125;

/// Runs the warden to its end, in these control groups. `go` gives one byte if the helper lives; `tell` takes the
/// report; `control` is the helper's socket, over which the proxy socket is sent; `priority` is what the program has.
pub(crate) fn run_warden(
    order: &HelperOrder,
    groups: &ControlGroups,
    go: &OwnedFd,
    tell: OwnedFd,
    control: &UnixStream,
    priority: i32,
) -> ! {
    let mut tell = std::fs::File::from(tell);
    let ending = match tie_to_helper(go, priority) {
        Ok(()) => match groups.join_groups() {
            Ok(()) => follow_order(order, control),
            Err(problem) => {
                ProcessExit::NotStarted { problem: format!("failed to join its control group: {problem}") }
            }
        },
        Err(problem) => ProcessExit::NotStarted { problem: format!("the helper is gone: {problem}") },
    };
    // If the helper does not read it, there is no process left to report to.
    drop(HelperReport::new(ending).write(&mut tell));
    drop(tell.flush());
    std::process::exit(i32::from(NOT_STARTED))
}

/// Ties this process to the helper, makes sure that the helper was there when it was tied, and leaves the share of the
/// processor to it that is its own: the kernel may divide by sessions first.
fn tie_to_helper(go: &OwnedFd, priority: i32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::setsid()?;
    rustix::process::setpriority_process(None, priority)?;
    let mut byte = [0];
    if rustix::io::read(go, &mut byte)? == 1 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn follow_order(order: &HelperOrder, control: &UnixStream) -> ProcessExit {
    let not_started = |problem: String| ProcessExit::NotStarted { problem };
    match &order.walls {
        BackendSpec::Strict => match run_strict(order) {
            Ok(ending) => ending,
            Err(problem) => not_started(problem),
        },
        BackendSpec::Base => not_started(become_program(order)),
        BackendSpec::Gvisor { runsc, helper, .. } => match gvisor::run_in_gvisor(order, runsc, helper) {
            Ok(ending) => ending,
            Err(problem) => not_started(problem),
        },
        BackendSpec::Firecracker { monitor } => match vm::run_in_machine(order, monitor) {
            Ok(ending) => ending,
            Err(problem) => not_started(problem),
        },
        BackendSpec::Docker { .. } => not_started("a container has no warden".to_owned()),
        BackendSpec::Foreign { argv, .. } => {
            let Some((program, arguments)) = argv.split_first() else {
                return not_started("there is no program".to_owned());
            };
            let mut command = Command::new(program);
            command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
            if order.spec.network == NetworkAccess::Proxy {
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

/// Builds a file system, restricts and starts the program, and waits for its end.
fn run_strict(order: &HelperOrder) -> Result<ProcessExit, String> {
    let spec = &order.spec;
    numbers::bound_numbers(&spec.limits)
        .map_err(|problem| format!("the numbers of its processes: {problem}"))?;
    root::build_root(spec).map_err(|(place, problem)| format!("{place}: {problem}"))?;
    start_in_root(order, true).map(ending_of_status)
}

/// Does the rest inside of what another program built, as the first process of its process namespace.
pub(super) fn start_inside(order: &HelperOrder) -> Result<WaitStatus, String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|problem| problem.to_string())?;
    start_in_root(order, false)
}

/// Builds the walls in a file system of its own, starts the program, and waits for its end. `counts_own` says that processes
/// are counted for these walls only.
fn start_in_root(order: &HelperOrder, counts_own: bool) -> Result<WaitStatus, String> {
    let (spec, workspace) = (&order.spec, Path::new(WORKSPACE));
    // What this process holds is not for the eyes of what it starts.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|problem| problem.to_string())?;
    let root = if by_path::is_planted() { None } else { Some(detached_root::enter_copy()) };
    let root = root.transpose().map_err(|problem| format!("the root: {problem}"))?;
    restrictions::build_walls(order, &LandlockPaths::in_own_root(spec), PathScope::Own, counts_own)
        .map_err(|(place, problem)| format!("{place}: {problem}"))?;
    let mut command = program_command(spec, workspace, "/tmp");
    restrictions::bound_memory(&mut command, &spec.limits);
    let child = command.spawn().map_err(|problem| why_not(spec, workspace, &problem))?;
    let status = reaper::wait(&child).map_err(|problem| problem.to_string());
    // The program's root is there for as long as this process holds it.
    drop(root);
    status
}

/// Builds the walls around this machine's own file system and becomes the program. It returns only to say why not.
fn become_program(order: &HelperOrder) -> String {
    let (spec, workspace) = (&order.spec, order.spec.workspace.as_path());
    let mut command = program_command(spec, workspace, &workspace.to_string_lossy());
    if let Err((place, problem)) =
        restrictions::build_walls(order, &LandlockPaths::on_host(spec), PathScope::Shared, false)
    {
        return format!("{place}: {problem}");
    }
    restrictions::bound_memory(&mut command, &spec.limits);
    let problem = command.exec();
    why_not(spec, workspace, &problem)
}

/// Says why a program was not started. The system reports a missing working directory in the same words as a
/// missing program, and its reader looks for the wrong one.
pub(super) fn why_not(spec: &ProcessSpec, workspace: &Path, problem: &io::Error) -> String {
    if workspace.join(&spec.cwd).is_dir() {
        return format!("{}: {problem}", spec.argv[0]);
    }
    no_directory(spec)
}

/// Says that the working directory is missing.
pub(super) fn no_directory(spec: &ProcessSpec) -> String {
    format!("cwd: the workspace has no directory {}", spec.cwd.display())
}

/// The program with its words and its environment, for a workspace where it lies.
pub(super) fn program_command(spec: &ProcessSpec, workspace: &Path, temporary: &str) -> Command {
    let mut command = Command::new(&spec.argv[0]);
    command
        .args(&spec.argv[1..])
        .env_clear()
        .envs(process_environment(spec, workspace, temporary))
        .current_dir(workspace.join(&spec.cwd))
        .stdin(Stdio::null());
    command
}
