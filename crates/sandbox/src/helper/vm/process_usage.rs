//! What all processes below this one use together, and their end: read from `/proc` by who is whose child.
//!
//! The kernels of machines are often built without the list of a process's children, so parents are looked at instead.
//! Orphans come to this process: it is the first one, or asked for them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use dromia_contracts::sandbox::{LimitKind, ProcessLimits};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::helper::meter::{self, TICKS_PER_SECOND};

/// How long killing what is left may take.
const SWEEP: Duration = Duration::from_secs(2);

/// What the kernel reports of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProcessStat {
    parent: i32,
    threads: u64,
    /// Its own processor time, and that of its children that it has buried.
    own_ms: u64,
    buried_ms: u64,
}

fn parse_stat(stat: &str) -> Option<ProcessStat> {
    // The name may hold anything; the last parenthesis ends it. Then: state, parent, nine numbers, the four times, two
    // numbers, the threads.
    let (_, rest) = stat.rsplit_once(')')?;
    let words: Vec<_> = rest.split_ascii_whitespace().take(18).collect();
    let number = |at: usize| words.get(at)?.parse::<u64>().ok();
    let ms = |ticks: u64| ticks * 1000 / TICKS_PER_SECOND;
    Some(ProcessStat {
        parent: words.get(1)?.parse().ok()?,
        own_ms: ms(number(11)? + number(12)?),
        buried_ms: ms(number(13)? + number(14)?),
        threads: number(17)?,
    })
}

/// Everything below this process, without it.
fn processes_below() -> BTreeMap<i32, ProcessStat> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let text = number.and_then(|_| fs::read_to_string(entry.path().join("stat")).ok());
        if let Some((number, told)) = number.zip(text.as_deref().and_then(parse_stat)) {
            all.insert(number, told);
        }
    }
    descendants_of(&all, rustix::process::getpid().as_raw_pid())
}

/// All whose line of parents leads to one process.
fn descendants_of(all: &BTreeMap<i32, ProcessStat>, top: i32) -> BTreeMap<i32, ProcessStat> {
    let is_below = |number: i32| {
        let mut at = number;
        // A line is no longer than there are processes; numbers that changed meanwhile could close a circle.
        for _ in 0..all.len() {
            match all.get(&at) {
                Some(told) if told.parent == top => return true,
                Some(told) => at = told.parent,
                None => return false,
            }
        }
        false
    };
    all.iter().filter(|(number, _)| is_below(**number)).map(|(number, told)| (*number, *told)).collect()
}

/// Says which limit all processes together exceed, if they exceed one.
pub(super) fn exceeded_limit(limits: &ProcessLimits) -> Option<LimitKind> {
    let all = processes_below();
    let processes: u64 = all.values().map(|told| told.threads).sum();
    if processes > u64::from(limits.processes) {
        return Some(LimitKind::Processes);
    }
    let pids = all.keys().filter_map(|number| Pid::from_raw(*number));
    if pids.filter_map(meter::own_memory).sum::<u64>() > limits.memory_bytes {
        return Some(LimitKind::Memory);
    }
    let this = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(parse_stat);
    let buried = this.map_or(0, |told| told.buried_ms);
    let cpu_ms = all.values().map(|told| told.own_ms + told.buried_ms).sum::<u64>() + buried;
    (cpu_ms > limits.cpu_ms).then_some(LimitKind::Cpu)
}

/// Kills and buries everything below this process.
pub(super) fn end_all() -> io::Result<()> {
    let end = Instant::now() + SWEEP;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Err(problem) => return Err(problem.into()),
            Ok(None) if Instant::now() >= end => {
                return Err(io::Error::other("failed to kill a process of the program"));
            }
            Ok(None) => {
                for process in processes_below().into_keys().filter_map(Pid::from_raw) {
                    // Whatever is gone already needs no signal.
                    let _: rustix::io::Result<()> = rustix::process::kill_process(process, Signal::KILL);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child_of(parent: i32) -> ProcessStat {
        ProcessStat { parent, threads: 1, own_ms: 0, buried_ms: 0 }
    }

    #[test]
    fn the_process_statistics_of_the_kernel_are_parsed() {
        let stat = "7 (a ) b) S 3 1 1 0 0 0 0 0 0 0 2 3 11 5 20 0 4 0 2 10887168";
        assert_eq!(parse_stat(stat), Some(ProcessStat { parent: 3, threads: 4, own_ms: 50, buried_ms: 160 }));
        assert_eq!(parse_stat("7 (a) S 0 1"), None);
        assert_eq!(parse_stat("7"), None);
    }

    #[test]
    fn only_what_is_below_counts_and_a_circle_ends() {
        let parents = [(1, 0), (2, 0), (5, 1), (6, 5), (7, 6), (8, 2), (10, 11), (11, 10), (12, 99)];
        let all: BTreeMap<_, _> =
            parents.into_iter().map(|(number, parent)| (number, child_of(parent))).collect();
        let of = |top| descendants_of(&all, top).into_keys().collect::<Vec<_>>();
        assert_eq!(of(5), [6, 7]);
        assert_eq!(of(1), [5, 6, 7]);
        assert_eq!(of(7), [0; 0]);
        assert_eq!(of(10), [10, 11], "whoever is named is told so, and it comes to an end");
        assert_eq!(of(99), [12]);
    }
}
