//! The control groups of one program: the kernel bounds what all its processes take together, and counts it.
//!
//! The operator names directories that belong to this server: one of version 2, or one for each controller of version 1.
//! In each the helper makes a group for its program, before it enters namespaces; the warden joins by itself, so all that
//! the program ever starts is inside. At the end the helper kills what is left there and removes the group. What a helper
//! leaves that was killed, the next one kills and removes.
//!
//! What it refuses to do: make a group where the operator named none, run a program without a group that was named, and
//! touch a group that no helper made.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dromia_contracts::sandbox::{Limit, Limits};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::docker::{is_alive, started};

/// The file that lists the processes of a group, and by which one joins it.
const MEMBERS: &str = "cgroup.procs";

/// What every group of ours is called first.
const PREFIX: &str = "dromia-";

/// Processes of ours in a group beside those that a program may have: the warden, and one more that proves that the
/// program has too many.
const OURS: u64 = 2;

/// Memory of ours in a group, and what the kernel itself needs for processes, which is counted there.
const OURS_BYTES: u64 = 32 << 20;

/// The period in which processor time is given out.
const PERIOD_US: u64 = 100_000;

/// The most processors that are ever named.
const PROCESSORS_MAX: u64 = 4096;

/// How long removing a group may take. The dead leave it a moment after they die.
const REMOVAL: Duration = Duration::from_secs(1);

/// How long removing what another helper left may take, and of how many at a time.
const SWEEP: Duration = Duration::from_millis(100);
const SWEEP_MAX: usize = 16;

/// The groups of one program; one for each directory that the operator named, none if none was.
#[derive(Debug)]
pub(crate) struct Groups {
    made: Vec<Group>,
}

impl Groups {
    /// Makes them and sets their bounds. What was made is removed again if one cannot be.
    pub(crate) fn make(parents: &[PathBuf], limits: &Limits) -> io::Result<Self> {
        let mut groups = Self { made: Vec::new() };
        if parents.is_empty() {
            return Ok(groups);
        }
        let place = place()?;
        let name = name(&place)?;
        for parent in parents {
            match Group::make(parent, &place, &name, limits) {
                Ok(group) => groups.made.push(group),
                Err(problem) => {
                    groups.remove();
                    return Err(io::Error::other(format!(
                        "the control group {}: {problem}",
                        parent.display()
                    )));
                }
            }
        }
        Ok(groups)
    }

    /// Moves this process into them, with all that it starts from now on.
    pub(super) fn join(&self) -> io::Result<()> {
        for group in &self.made {
            // Zero is whoever writes it, whatever its number is in which namespace.
            (&group.entry).write_all(b"0")?;
        }
        Ok(())
    }

    /// Says which limit the kernel refused to exceed, or which it counted that was exceeded.
    pub(super) fn exceeded(&self, limits: &Limits) -> Option<Limit> {
        let cpu_ms = self.made.iter().filter_map(Group::cpu_ms).max();
        self.refused().or_else(|| cpu_ms.is_some_and(|used| used > limits.cpu_ms).then_some(Limit::Cpu))
    }

    /// Says which limit the kernel refused to exceed, if any.
    pub(super) fn refused(&self) -> Option<Limit> {
        let has = |file: &str, word: &str| {
            self.made.iter().any(|group| group.count(file, word).is_some_and(|count| count > 0))
        };
        if has("memory.events", "oom_kill") || has("memory.oom_control", "oom_kill") {
            return Some(Limit::Memory);
        }
        has("pids.events", "max").then_some(Limit::Processes)
    }

    /// Says what none of them bounds; nothing if there are no groups.
    pub(crate) fn unbounded(&self) -> Vec<&'static str> {
        let has = |file: &str| self.made.iter().any(|group| group.path.join(file).is_file());
        let bounds = [
            ("memory", has("memory.max") || has("memory.limit_in_bytes")),
            ("processes", has("pids.max")),
            ("processors", has("cpu.max") || has("cpu.cfs_quota_us")),
        ];
        let unbounded = bounds.into_iter().filter(|(_, is_bound)| !self.made.is_empty() && !is_bound);
        unbounded.map(|(what, _)| what).collect()
    }

    /// Kills what is left in them and removes them. What cannot be removed in time the next helper removes.
    pub(crate) fn remove(&self) {
        for group in &self.made {
            take_away(&group.path, REMOVAL);
        }
    }
}

/// One group.
#[derive(Debug)]
struct Group {
    path: PathBuf,
    /// Opened before any namespace is entered: a group of version 2 is joined only by whoever sees it.
    entry: File,
}

impl Group {
    fn make(parent: &Path, place: &str, name: &str, limits: &Limits) -> io::Result<Self> {
        if !parent.join(MEMBERS).is_file() {
            return Err(io::Error::other("there is no such group"));
        }
        sweep(parent, place);
        // Version 2: groups below have what is handed on to them. Version 1 has no such file; what is not handed on for
        // another reason is missing below, which is noticed there.
        for controller in ["+memory", "+pids", "+cpu"] {
            drop(put(&parent.join("cgroup.subtree_control"), controller));
        }
        let path = parent.join(name);
        fs::create_dir(&path)?;
        let entry =
            bound(&path, limits).and_then(|()| OpenOptions::new().write(true).open(path.join(MEMBERS)));
        match entry {
            Ok(entry) => Ok(Self { path, entry }),
            Err(problem) => {
                take_away(&path, REMOVAL);
                Err(problem)
            }
        }
    }

    /// Reads the number behind a word in one of its files; nothing if there is none.
    fn count(&self, file: &str, word: &str) -> Option<u64> {
        count(&fs::read_to_string(self.path.join(file)).ok()?, word)
    }

    /// Processor time of all that ever were in it, dead or alive.
    fn cpu_ms(&self) -> Option<u64> {
        if let Some(used_us) = self.count("cpu.stat", "usage_usec") {
            return Some(used_us / 1_000);
        }
        let used_ns = fs::read_to_string(self.path.join("cpuacct.usage")).ok()?;
        Some(used_ns.trim().parse::<u64>().ok()? / 1_000_000)
    }
}

/// Sets the bounds of a group that was just made, as far as its files are there; at least one must be.
fn bound(path: &Path, limits: &Limits) -> io::Result<()> {
    let memory = limits.memory_bytes.saturating_add(OURS_BYTES).to_string();
    let processes = (u64::from(limits.processes) + OURS).to_string();
    // So many at a time that a program whose time has an end cannot have more processor time than it may; it is counted
    // where that is less than one processor gives.
    let processors = limits.cpu_ms.div_ceil(limits.wall_ms.max(1)).clamp(1, PROCESSORS_MAX);
    let quota = (processors * PERIOD_US).to_string();
    let bounds = [
        ("memory.max", memory.clone()),
        ("memory.limit_in_bytes", memory.clone()),
        ("pids.max", processes),
        ("cpu.max", format!("{quota} {PERIOD_US}")),
        ("cpu.cfs_quota_us", quota),
    ];
    let mut is_bound = path.join("cpuacct.usage").is_file();
    for (file, value) in bounds {
        let place = path.join(file);
        if !place.is_file() {
            continue;
        }
        match put(&place, &value) {
            Ok(()) => {}
            // Version 1 refuses more than the group around has, which bounds this one then.
            Err(problem) if file == "cpu.cfs_quota_us" && problem.kind() == ErrorKind::InvalidInput => {}
            Err(problem) => return Err(io::Error::other(format!("{file}: {problem}"))),
        }
        is_bound = true;
    }
    if !is_bound {
        return Err(io::Error::other(
            "it bounds nothing: no controller for memory, pids or cpu is enabled below it",
        ));
    }
    // Swap would be memory beyond the limit. A kernel that does not count it has no such file.
    for (file, value) in [
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
        ("memory.memsw.limit_in_bytes", memory.as_str()),
    ] {
        let place = path.join(file);
        if place.is_file() {
            put(&place, value).map_err(|problem| io::Error::other(format!("{file}: {problem}")))?;
        }
    }
    Ok(())
}

/// Removes what helpers left that are gone, with what still runs there. Only groups that a helper of this process
/// namespace made: of others nobody here knows whether their holder lives.
fn sweep(parent: &Path, place: &str) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let left = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_str().and_then(|name| holder(name, place)).is_some_and(|who| !is_alive(who))
    });
    for entry in left.take(SWEEP_MAX) {
        take_away(&entry.path(), SWEEP);
    }
}

/// Removes a group and kills what is in it, as long as there is time.
fn take_away(path: &Path, patience: Duration) {
    let end = Instant::now() + patience;
    while let Err(problem) = fs::remove_dir(path) {
        if problem.kind() == ErrorKind::NotFound || Instant::now() >= end {
            return;
        }
        kill(path);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills all in a group.
fn kill(path: &Path) {
    if put(&path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // Version 1 has no such file. Where processes are bounded none is added meanwhile; elsewhere the next round comes.
    drop(put(&path.join("pids.max"), "0"));
    for pid in members(path) {
        // Its number may be another's by now. The handle keeps whose it is, and the second look says that it is meant.
        let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if members(path).contains(&pid) {
            let _: rustix::io::Result<()> = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
        }
    }
}

fn members(path: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(path.join(MEMBERS)).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?)).collect()
}

/// Writes a file of a group; these are never made by writing.
fn put(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

fn count(text: &str, word: &str) -> Option<u64> {
    let of = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        if name == word { number.trim().parse::<u64>().ok() } else { None }
    };
    text.lines().find_map(of)
}

/// Where numbers of processes mean what they mean here.
fn place() -> io::Result<String> {
    let link = fs::read_link("/proc/self/ns/pid")?;
    Ok(link.to_string_lossy().chars().filter(char::is_ascii_digit).collect())
}

/// A name that no other group has: where its holder's number counts, the number, the start, and how many went before.
fn name(place: &str) -> io::Result<String> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let pid = rustix::process::getpid().as_raw_pid();
    let start = started(pid).ok_or_else(|| io::Error::other("/proc does not tell of this process"))?;
    Ok(format!("{PREFIX}{place}-{}-{pid}-{start}", MADE.fetch_add(1, Ordering::Relaxed)))
}

/// Who holds the group of this name, if a helper of this place made it.
fn holder<'name>(name: &'name str, place: &str) -> Option<&'name str> {
    let rest = name.strip_prefix(PREFIX)?.strip_prefix(place)?.strip_prefix('-')?;
    let (number, who) = rest.split_once('-')?;
    number.parse::<u64>().ok().map(|_| who)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { cpu_ms: 9_000, wall_ms: 4_000, processes: 8, ..Limits::DEFAULT };

    #[test]
    fn a_name_says_who_holds_the_group_and_where_that_counts() {
        let name = name("40").expect("/proc is there");
        let who = holder(&name, "40").expect("it is ours");
        assert!(is_alive(who), "{name}");
        assert_eq!(holder(&name, "4"), None);
        for other in ["docker", "dromia", "dromia-40", "dromia-40-x-7-8", "dromia-41-0-7-8"] {
            assert_eq!(holder(other, "40"), None, "{other}");
        }
        assert_eq!(holder("dromia-40-0-7-8", "40"), Some("7-8"));
    }

    #[test]
    fn the_kernels_counts_are_read_by_their_words() {
        let text = "low 1\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(
            (count(text, "oom_kill"), count(text, "oom"), count(text, "max")),
            (Some(2), Some(3), None)
        );
        assert_eq!(count("max x\n", "max"), None);
    }

    #[test]
    fn bounds_are_written_where_their_files_are_and_nowhere_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let refused = bound(dir.path(), &LIMITS).expect_err("there is no file");
        assert!(refused.to_string().contains("bounds nothing"), "{refused}");
        let files = ["memory.max", "memory.swap.max", "pids.max", "cpu.max"];
        for file in files {
            fs::write(dir.path().join(file), "").expect("a file");
        }
        bound(dir.path(), &LIMITS).expect("they are there");
        let read = files.map(|file| fs::read_to_string(dir.path().join(file)).expect("it is there"));
        let memory = (LIMITS.memory_bytes + OURS_BYTES).to_string();
        assert_eq!(read, [memory.as_str(), "0", "10", "300000 100000"]);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), files.len());
    }

    #[test]
    fn a_directory_that_is_no_group_is_refused_by_its_name_and_none_needs_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let refused = Groups::make(&[dir.path().to_owned()], &LIMITS).expect_err("it is none");
        let said = refused.to_string();
        assert!(said.contains(&dir.path().display().to_string()) && said.contains("no such group"), "{said}");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
        let groups = Groups::make(&[], &LIMITS).expect("there is nothing to make");
        groups.join().expect("there is nothing to join");
        assert_eq!((groups.exceeded(&LIMITS), groups.unbounded()), (None, Vec::new()));
    }
}
