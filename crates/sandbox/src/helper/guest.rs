//! Inside of gVisor: process 1, which starts the program under restrictions and counts what all of it uses.
//!
//! gVisor keeps some limits for each process and none for all; from outside, the processes of a guest look like
//! gVisor's own. So they are counted here, where only the tool's are. Whatever this process does not see to the helper
//! outside ends after the program's time. It has one thread: the filter keeps signals from its number.
//!
//! What this process says is believed outside, so the program must not be its equal. It is another user than the program,
//! who may neither signal nor trace it; the program is in a session of its own, so it can neither join this process's group
//! nor stop it by a signal to its own; and the report goes over a socket, which no path of `/proc` opens: an old release lists
//! the descriptors of another user.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dromia_contracts::sandbox::{LimitKind, ProcessExit, ProcessLimits};
use rustix::process::{DumpableBehavior, Pid, Uid, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::gvisor::BEGUN;
use super::meter::TICKS_PER_SECOND;
use super::namespaces::BUILDER_ID;
use super::syscalls::PathScope;
use super::{ending_of_status, restrictions, warden};
use crate::order::{BackendSpec, GuestReporter, HelperOrder, HelperReport};
use crate::spec::WORKSPACE;
use crate::sys;

/// How often the end is looked for.
const TICK: Duration = Duration::from_millis(20);

/// How often limits are looked at: reading is dearer here than outside.
const LOOK_EVERY: Duration = Duration::from_millis(60);

/// Who this process is while the program runs: a user who owns nothing in the guest.
const REPORTER_ID: u32 = 65_533;

/// Does the work of the first process; its end is the end of the guest.
pub(super) fn run_guest() -> ExitCode {
    let done = take_guest_socket().and_then(|mut control| {
        let order = HelperOrder::read(&mut control)?;
        control.write_all(&[BEGUN])?;
        let ending = run_program(&order).unwrap_or_else(|problem| ProcessExit::NotStarted { problem });
        HelperReport::new(ending).write(&mut control)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            #[expect(clippy::print_stderr, reason = "without a report there is no other way out of here")]
            {
                eprintln!("dromia: {problem}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Takes the socket from standard input, and leaves nothing there. The bundle left nothing else open.
fn take_guest_socket() -> io::Result<UnixStream> {
    let control = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
    let null = fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(control)
}

/// Restricts and starts the program, and watches until it ends or exceeds a limit.
fn run_program(order: &HelperOrder) -> Result<ProcessExit, String> {
    let spec = &order.spec;
    if memory_bytes().is_none() {
        return Err("the guest does not report its memory use".to_owned());
    }
    let end = Instant::now() + Duration::from_millis(spec.limits.wall_ms);
    let mut command = warden::program_command(spec, Path::new(WORKSPACE), "/tmp");
    let directory = Path::new(WORKSPACE).join(&spec.cwd);
    let has_directory = directory.is_dir();
    let is_apart = matches!(order.walls, BackendSpec::Gvisor { reporter: GuestReporter::Apart, .. });
    if is_apart {
        let directory =
            CString::new(directory.as_os_str().as_bytes()).map_err(|problem| problem.to_string())?;
        become_reporter().map_err(|problem| format!("another user: {problem}"))?;
        // This user may not enter it.
        command.current_dir("/");
        sys::start_apart(&mut command, Uid::from_raw(BUILDER_ID), directory);
    } else {
        command.process_group(0);
    }
    without_rights().map_err(|problem| format!("capabilities: {problem}"))?;
    // What this process holds is not for the eyes of what it starts.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|problem| problem.to_string())?;
    let paths = if is_apart { PathScope::Guest } else { PathScope::Own };
    restrictions::build_in_guest(&spec.limits, paths)
        .map_err(|(place, problem)| format!("{place}: {problem}"))?;
    restrictions::bound_memory(&mut command, &spec.limits);
    let child = command.spawn().map_err(|problem| {
        if has_directory { format!("{}: {problem}", spec.argv[0]) } else { warden::no_directory(spec) }
    })?;
    if is_apart {
        stay_reporter().map_err(|problem| problem.to_string())?;
    }
    let program = Pid::from_child(&child);
    let mut look_at = Instant::now() + LOOK_EVERY;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == program => return Ok(ending_of_status(status)),
            // Orphans come to this process, and are buried one by one.
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => std::thread::sleep(TICK),
            Err(_) => return Ok(ProcessExit::Lost),
        }
        let now = Instant::now();
        if now >= end {
            return Ok(ProcessExit::Killed { limit: LimitKind::Time });
        }
        if now >= look_at {
            if let Some(limit) = exceeded_limit(&spec.limits) {
                return Ok(ProcessExit::Killed { limit });
            }
            look_at = Instant::now() + LOOK_EVERY;
        }
    }
}

/// Becomes another user, who may be the program's only in what it starts.
fn become_reporter() -> rustix::io::Result<()> {
    let [reporter, builder] = [REPORTER_ID, BUILDER_ID].map(Uid::from_raw);
    rustix::thread::set_thread_res_uid(reporter, reporter, builder)
}

/// Gives up who the program is.
fn stay_reporter() -> rustix::io::Result<()> {
    let reporter = Uid::from_raw(REPORTER_ID);
    rustix::thread::set_thread_res_uid(reporter, reporter, reporter)
}

/// Gives up the one right that the bundle gave.
fn without_rights() -> rustix::io::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets)
}

/// Says which limit all processes together exceed, if they exceed one.
fn exceeded_limit(limits: &ProcessLimits) -> Option<LimitKind> {
    let (mut processes, mut cpu_ms) = (0, 0);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some(used) = parse_usage(&text) else { continue };
        // This process is none of the tool's; it has the time of those that it buried.
        processes += if pid == 1 { 0 } else { used.threads };
        cpu_ms += used.cpu_ms;
    }
    if processes > u64::from(limits.processes) {
        return Some(LimitKind::Processes);
    }
    if memory_bytes().unwrap_or(u64::MAX) > limits.memory_bytes {
        return Some(LimitKind::Memory);
    }
    (cpu_ms > limits.cpu_ms).then_some(LimitKind::Cpu)
}

/// What one process uses.
#[derive(Debug, PartialEq, Eq)]
struct ProcessUsage {
    threads: u64,
    cpu_ms: u64,
}

fn parse_usage(stat: &str) -> Option<ProcessUsage> {
    // The name may hold anything; the last parenthesis ends it. Then: state, ten numbers, the four times, two numbers,
    // the threads.
    let (_, rest) = stat.rsplit_once(')')?;
    let numbers: Vec<_> = rest.split_ascii_whitespace().skip(11).take(7).collect();
    let [user, system, dead_user, dead_system, _, _, threads] = numbers[..] else { return None };
    let times = [user, system, dead_user, dead_system].map(|word| word.parse::<u64>().ok());
    let ticks = times.into_iter().sum::<Option<u64>>()?;
    Some(ProcessUsage { threads: threads.parse().ok()?, cpu_ms: ticks * 1000 / TICKS_PER_SECOND })
}

/// Memory that the processes of the guest made; nothing if it does not say.
fn memory_bytes() -> Option<u64> {
    memory_of(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn memory_of(text: &str) -> Option<u64> {
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    // Files in memory are among the pages; their directories have bounds of their own.
    kib("AnonPages:")?.saturating_sub(kib("Shmem:")?).checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_report_of_a_guest_is_parsed() {
        let stat = "7 (a ) b) S 0 1 1 0 0 0 0 0 0 0 2 3 11 5 20 0 4 0 2 10887168";
        assert_eq!(parse_usage(stat), Some(ProcessUsage { threads: 4, cpu_ms: 210 }));
        assert_eq!(parse_usage("7 (a) S 0 1"), None);
        let text = "MemTotal: 9 kB\nAnonPages:        115028 kB\nMapped: 1 kB\nShmem:              8192 kB\n";
        assert_eq!(memory_of(text), Some((115_028 - 8_192) * 1024));
        assert_eq!(memory_of("MemTotal: 9 kB\n"), None);
    }
}
