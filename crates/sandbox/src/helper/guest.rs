//! Inside of gVisor: process 1, which starts the program behind walls of its own and counts what all of it uses.
//!
//! gVisor keeps some limits for each process and none for all; seen from outside the processes of a guest cannot be told
//! from gVisor's own. So they are counted here, where only the tool's are. Whatever this process does not see to the
//! helper outside ends after the program's time. It has one thread: the filter keeps signals from its number.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dromia_contracts::sandbox::{Ending, Limit, Limits, ProcessSpec};
use rustix::process::{DumpableBehavior, Pid, WaitOptions};

use super::gvisor::{BEGUN, DESK, ORDER, REPORT};
use super::meter::TICKS_PER_SECOND;
use super::{ended, walls, warden};
use crate::order::{Order, Report};
use crate::spec::WORKSPACE;

/// How often the end is looked for.
const TICK: Duration = Duration::from_millis(20);

/// How often limits are looked at: reading is dearer here than outside.
const LOOK_EVERY: Duration = Duration::from_millis(60);

/// Does the work of the first process; its end is the end of the guest.
pub(super) fn run() -> ExitCode {
    let done = begin(Path::new(DESK)).and_then(|(order, mut report)| {
        report.write_all(&[BEGUN])?;
        let ending = follow(&order.spec).unwrap_or_else(|problem| Ending::NotStarted { problem });
        Report::new(ending).write(&mut report)
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

/// Takes order and report off the desk, so that the program finds neither.
fn begin(desk: &Path) -> io::Result<(Order, File)> {
    let order = Order::read(&mut File::open(desk.join(ORDER))?)?;
    let report = OpenOptions::new().write(true).open(desk.join(REPORT))?;
    fs::remove_file(desk.join(ORDER))?;
    fs::remove_file(desk.join(REPORT))?;
    Ok((order, report))
}

/// Builds the walls, starts the program, and watches until it ends or exceeds a limit.
fn follow(spec: &ProcessSpec) -> Result<Ending, String> {
    if memory_bytes().is_none() {
        return Err("the guest does not tell how much memory is used".to_owned());
    }
    let end = Instant::now() + Duration::from_millis(spec.limits.wall_ms);
    // What this process holds is not for the eyes of what it starts.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|problem| problem.to_string())?;
    walls::build_in_guest(&spec.limits).map_err(|(place, problem)| format!("{place}: {problem}"))?;
    let mut command = warden::command(spec, Path::new(WORKSPACE), "/tmp");
    command.process_group(0);
    walls::bound_memory(&mut command, &spec.limits);
    let child = command.spawn().map_err(|problem| warden::why_not(spec, Path::new(WORKSPACE), &problem))?;
    let program = Pid::from_child(&child);
    let mut look_at = Instant::now() + LOOK_EVERY;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == program => return Ok(ended(status)),
            // Orphans come to this process, and are buried one by one.
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => std::thread::sleep(TICK),
            Err(_) => return Ok(Ending::Lost),
        }
        let now = Instant::now();
        if now >= end {
            return Ok(Ending::Killed { limit: Limit::Time });
        }
        if now >= look_at {
            if let Some(limit) = exceeded(&spec.limits) {
                return Ok(Ending::Killed { limit });
            }
            look_at = Instant::now() + LOOK_EVERY;
        }
    }
}

/// Says which limit all processes together exceed, if they exceed one.
fn exceeded(limits: &Limits) -> Option<Limit> {
    let (mut processes, mut cpu_ms) = (0, 0);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some(used) = used(&text) else { continue };
        // This process is none of the tool's; it has the time of those that it buried.
        processes += if pid == 1 { 0 } else { used.threads };
        cpu_ms += used.cpu_ms;
    }
    if processes > u64::from(limits.processes) {
        return Some(Limit::Processes);
    }
    if memory_bytes().unwrap_or(u64::MAX) > limits.memory_bytes {
        return Some(Limit::Memory);
    }
    (cpu_ms > limits.cpu_ms).then_some(Limit::Cpu)
}

/// What one process uses.
#[derive(Debug, PartialEq, Eq)]
struct Used {
    threads: u64,
    cpu_ms: u64,
}

fn used(stat: &str) -> Option<Used> {
    // The name may hold anything; the last parenthesis ends it. Then: state, ten numbers, the four times, two numbers,
    // the threads.
    let (_, rest) = stat.rsplit_once(')')?;
    let numbers: Vec<_> = rest.split_ascii_whitespace().skip(11).take(7).collect();
    let [user, system, dead_user, dead_system, _, _, threads] = numbers[..] else { return None };
    let times = [user, system, dead_user, dead_system].map(|word| word.parse::<u64>().ok());
    let ticks = times.into_iter().sum::<Option<u64>>()?;
    Some(Used { threads: threads.parse().ok()?, cpu_ms: ticks * 1000 / TICKS_PER_SECOND })
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
    use dromia_contracts::sandbox::Network;

    use super::*;

    #[test]
    fn what_a_guest_tells_is_read() {
        let stat = "7 (a ) b) S 0 1 1 0 0 0 0 0 0 0 2 3 11 5 20 0 4 0 2 10887168";
        assert_eq!(used(stat), Some(Used { threads: 4, cpu_ms: 210 }));
        assert_eq!(used("7 (a) S 0 1"), None);
        let text = "MemTotal: 9 kB\nAnonPages:        115028 kB\nMapped: 1 kB\nShmem:              8192 kB\n";
        assert_eq!(memory_of(text), Some((115_028 - 8_192) * 1024));
        assert_eq!(memory_of("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn order_and_report_are_taken_off_the_desk() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(begin(dir.path()).is_err(), "there is nothing on it");
        let spec = ProcessSpec {
            argv: vec!["true".to_owned()],
            env: Vec::new(),
            workspace: "/w".into(),
            cwd: "".into(),
            mounts: Vec::new(),
            limits: Limits::DEFAULT,
            network: Network::None,
            family: None,
        };
        let walls = crate::order::Walls::Strict;
        let order = Order { version: crate::order::VERSION, walls, spec, groups: Vec::new() };
        fs::write(dir.path().join(ORDER), order.encode().expect("an order is JSON")).expect("a file");
        fs::write(dir.path().join(REPORT), [0; 8]).expect("a file");
        let (read, _) = begin(dir.path()).expect("it is laid");
        assert_eq!(read, order);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
    }
}
