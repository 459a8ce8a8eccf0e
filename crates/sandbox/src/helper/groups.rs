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

use dromia_contracts::sandbox::{LimitKind, ProcessLimits};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::docker::{is_alive, start_ticks};
use crate::probe::GroupResource;

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
pub(crate) struct ControlGroups {
    made: Vec<ControlGroup>,
}

impl ControlGroups {
    /// Makes them and sets their bounds. What was made is removed again if one cannot be.
    pub(crate) fn make_groups(parents: &[PathBuf], limits: &ProcessLimits) -> io::Result<Self> {
        let mut groups = Self { made: Vec::new() };
        if parents.is_empty() {
            return Ok(groups);
        }
        let place = namespace_id()?;
        let name = group_name(&place)?;
        for parent in parents {
            match ControlGroup::make_group(parent, &place, &name, limits) {
                Ok(group) => groups.made.push(group),
                Err(problem) => {
                    groups.remove_groups();
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
    pub(super) fn join_groups(&self) -> io::Result<()> {
        for group in &self.made {
            // Zero is the process that writes it, whatever its number is in which namespace.
            (&group.entry).write_all(b"0")?;
        }
        Ok(())
    }

    /// Says which limit the kernel refused to exceed, or which it counted that was exceeded.
    pub(super) fn exceeded_limit(&self, limits: &ProcessLimits) -> Option<LimitKind> {
        let cpu_ms = self.made.iter().filter_map(ControlGroup::cpu_ms).max();
        self.refused_limit()
            .or_else(|| cpu_ms.is_some_and(|used| used > limits.cpu_ms).then_some(LimitKind::Cpu))
    }

    /// Says which limit the kernel refused to exceed, if any.
    pub(super) fn refused_limit(&self) -> Option<LimitKind> {
        let has = |file: &str, word: &str| {
            self.made.iter().any(|group| group.read_count(file, word).is_some_and(|count| count > 0))
        };
        if has("memory.events", "oom_kill") || has("memory.oom_control", "oom_kill") {
            return Some(LimitKind::Memory);
        }
        has("pids.events", "max").then_some(LimitKind::Processes)
    }

    /// Says what none of them bounds; nothing if there are no groups.
    pub(crate) fn unbounded_resources(&self) -> Vec<GroupResource> {
        let has = |file: &str| self.made.iter().any(|group| group.path.join(file).is_file());
        let bounds = [
            (GroupResource::Memory, has("memory.max") || has("memory.limit_in_bytes")),
            (GroupResource::Processes, has("pids.max")),
            (GroupResource::Processors, has("cpu.max") || has("cpu.cfs_quota_us")),
        ];
        let unbounded = bounds.into_iter().filter(|(_, is_bound)| !self.made.is_empty() && !is_bound);
        unbounded.map(|(resource, _)| resource).collect()
    }

    /// Kills what is left in them and removes them. What cannot be removed in time the next helper removes.
    pub(crate) fn remove_groups(&self) {
        for group in &self.made {
            take_away(&group.path, REMOVAL);
        }
    }
}

/// Returns whether groups made in one of these directories bound memory: it is one of version 1 that does, or one of
/// version 2 that hands that controller on.
pub(crate) fn are_memory_bound(parents: &[PathBuf]) -> bool {
    parents.iter().any(|parent| {
        let handed = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
        parent.join("memory.limit_in_bytes").is_file()
            || handed.split_ascii_whitespace().any(|it| it == "memory")
    })
}

/// One group.
#[derive(Debug)]
struct ControlGroup {
    path: PathBuf,
    /// Opened before any namespace is entered: a process joins a group of version 2 only if it sees it.
    entry: File,
}

impl ControlGroup {
    fn make_group(parent: &Path, place: &str, name: &str, limits: &ProcessLimits) -> io::Result<Self> {
        if !parent.join(MEMBERS).is_file() {
            return Err(io::Error::other("there is no such group"));
        }
        sweep_groups(parent, place);
        // Version 2: groups below have what is handed on to them. Version 1 has no such file; what is not handed on for
        // another reason is missing below, which is noticed there.
        for controller in ["+memory", "+pids", "+cpu"] {
            drop(write_file(&parent.join("cgroup.subtree_control"), controller));
        }
        let path = parent.join(name);
        fs::create_dir(&path)?;
        let entry =
            set_bounds(&path, limits).and_then(|()| OpenOptions::new().write(true).open(path.join(MEMBERS)));
        match entry {
            Ok(entry) => Ok(Self { path, entry }),
            Err(problem) => {
                take_away(&path, REMOVAL);
                Err(problem)
            }
        }
    }

    /// Reads the number behind a word in one of its files; nothing if there is none.
    fn read_count(&self, file: &str, word: &str) -> Option<u64> {
        parse_count(&fs::read_to_string(self.path.join(file)).ok()?, word)
    }

    /// Processor time of all that ever were in it, dead or alive.
    fn cpu_ms(&self) -> Option<u64> {
        if let Some(used_us) = self.read_count("cpu.stat", "usage_usec") {
            return Some(used_us / 1_000);
        }
        let used_ns = fs::read_to_string(self.path.join("cpuacct.usage")).ok()?;
        Some(used_ns.trim().parse::<u64>().ok()? / 1_000_000)
    }
}

/// Sets the bounds of a group that was just made, as far as its files are there; at least one must be.
fn set_bounds(path: &Path, limits: &ProcessLimits) -> io::Result<()> {
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
        match write_file(&place, &value) {
            Ok(()) => {}
            // Version 1 refuses more than the group around has, which bounds this one then.
            Err(problem) if file == "cpu.cfs_quota_us" && problem.kind() == ErrorKind::InvalidInput => {}
            Err(problem) => return Err(io::Error::other(format!("{file}: {problem}"))),
        }
        is_bound = true;
    }
    if !is_bound {
        return Err(io::Error::other(
            "it limits nothing: no controller for memory, pids or cpu is enabled below it",
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
            write_file(&place, value).map_err(|problem| io::Error::other(format!("{file}: {problem}")))?;
        }
    }
    Ok(())
}

/// Removes what helpers left that are gone, with what still runs there. Only groups that a helper of this process
/// namespace made: of others it is unknown here whether their holder lives.
fn sweep_groups(parent: &Path, place: &str) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let left = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_str().and_then(|name| group_holder(name, place)).is_some_and(|who| !is_alive(who))
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
        kill_members(path);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills all in a group.
fn kill_members(path: &Path) {
    if write_file(&path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // Version 1 has no such file. Where processes are bounded none is added meanwhile; elsewhere the next round comes.
    drop(write_file(&path.join("pids.max"), "0"));
    for pid in member_pids(path) {
        // Its number may be another's by now. The handle keeps whose it is, and the second look says that it is meant.
        let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if member_pids(path).contains(&pid) {
            let _: rustix::io::Result<()> = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
        }
    }
}

fn member_pids(path: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(path.join(MEMBERS)).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?)).collect()
}

/// Writes a file of a group; these are never made by writing.
fn write_file(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

fn parse_count(text: &str, word: &str) -> Option<u64> {
    let of = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        if name == word { number.trim().parse::<u64>().ok() } else { None }
    };
    text.lines().find_map(of)
}

/// Where numbers of processes mean what they mean here.
fn namespace_id() -> io::Result<String> {
    let link = fs::read_link("/proc/self/ns/pid")?;
    Ok(link.to_string_lossy().chars().filter(char::is_ascii_digit).collect())
}

/// A name that no other group has: where its holder's number counts, the number, the start, and how many went before.
fn group_name(place: &str) -> io::Result<String> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let pid = rustix::process::getpid().as_raw_pid();
    let start = start_ticks(pid).ok_or_else(|| io::Error::other("/proc does not list this process"))?;
    Ok(format!("{PREFIX}{place}-{}-{pid}-{start}", MADE.fetch_add(1, Ordering::Relaxed)))
}

/// Who holds the group of this name, if a helper of this place made it.
fn group_holder<'name>(name: &'name str, place: &str) -> Option<&'name str> {
    let rest = name.strip_prefix(PREFIX)?.strip_prefix(place)?.strip_prefix('-')?;
    let (number, who) = rest.split_once('-')?;
    number.parse::<u64>().ok().map(|_| who)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ProcessLimits =
        ProcessLimits { cpu_ms: 9_000, wall_ms: 4_000, processes: 8, ..ProcessLimits::DEFAULT };

    #[test]
    fn a_group_name_identifies_its_holder_and_namespace() {
        let name = group_name("40").expect("/proc is there");
        let who = group_holder(&name, "40").expect("it is ours");
        assert!(is_alive(who), "{name}");
        assert_eq!(group_holder(&name, "4"), None);
        for other in ["docker", "dromia", "dromia-40", "dromia-40-x-7-8", "dromia-41-0-7-8"] {
            assert_eq!(group_holder(other, "40"), None, "{other}");
        }
        assert_eq!(group_holder("dromia-40-0-7-8", "40"), Some("7-8"));
    }

    #[test]
    fn the_kernels_counts_are_read_by_their_words() {
        let text = "low 1\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(
            (parse_count(text, "oom_kill"), parse_count(text, "oom"), parse_count(text, "max")),
            (Some(2), Some(3), None)
        );
        assert_eq!(parse_count("max x\n", "max"), None);
    }

    #[test]
    fn bounds_are_written_where_their_files_are_and_nowhere_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let refused = set_bounds(dir.path(), &LIMITS).expect_err("there is no file");
        assert!(refused.to_string().contains("limits nothing"), "{refused}");
        let files = ["memory.max", "memory.swap.max", "pids.max", "cpu.max"];
        for file in files {
            fs::write(dir.path().join(file), "").expect("a file");
        }
        set_bounds(dir.path(), &LIMITS).expect("they are there");
        let read = files.map(|file| fs::read_to_string(dir.path().join(file)).expect("it is there"));
        let memory = (LIMITS.memory_bytes + OURS_BYTES).to_string();
        assert_eq!(read, [memory.as_str(), "0", "10", "300000 100000"]);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), files.len());
    }

    #[test]
    fn a_directory_that_is_no_control_group_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let refused = ControlGroups::make_groups(&[dir.path().to_owned()], &LIMITS).expect_err("it is none");
        let said = refused.to_string();
        assert!(said.contains(&dir.path().display().to_string()) && said.contains("no such group"), "{said}");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
        let groups = ControlGroups::make_groups(&[], &LIMITS).expect("there is nothing to make");
        groups.join_groups().expect("there is nothing to join");
        assert_eq!((groups.exceeded_limit(&LIMITS), groups.unbounded_resources()), (None, Vec::new()));
    }

    /// A group as version 2 shows it, with these words of the kernel.
    fn told_by_kernel(memory: &str, processes: &str, used_us: u64) -> (tempfile::TempDir, ControlGroups) {
        let dir = tempfile::tempdir().expect("a directory");
        let stat = format!("usage_usec {used_us}\nuser_usec 1\nsystem_usec 1\n");
        for (file, text) in [
            ("memory.max", "1"),
            ("pids.max", "10"),
            ("memory.events", memory),
            ("pids.events", processes),
            ("cpu.stat", &stat),
            (MEMBERS, ""),
        ] {
            fs::write(dir.path().join(file), text).expect("a file");
        }
        let path = dir.path().to_owned();
        let entry = OpenOptions::new().write(true).open(path.join(MEMBERS)).expect("it is there");
        (dir, ControlGroups { made: vec![ControlGroup { path, entry }] })
    }

    #[test]
    fn counters_of_version_2_groups_are_read() {
        let calm = "low 0\nhigh 0\nmax 7\noom 0\noom_kill 0\n";
        for (memory, processes, used_us, limit) in [
            (calm, "max 0\n", 9_000_000, None),
            (calm, "max 0\n", 9_001_000, Some(LimitKind::Cpu)),
            (calm, "max 1\n", 0, Some(LimitKind::Processes)),
            ("oom 1\noom_kill 1\n", "max 0\n", 0, Some(LimitKind::Memory)),
        ] {
            let (_dir, groups) = told_by_kernel(memory, processes, used_us);
            assert_eq!(groups.exceeded_limit(&LIMITS), limit, "{memory} {processes} {used_us}");
            assert_eq!(groups.unbounded_resources(), [GroupResource::Processors]);
            groups.join_groups().expect("it is written");
            assert_eq!(fs::read_to_string(groups.made[0].path.join(MEMBERS)).expect("there"), "0");
        }
    }

    #[test]
    fn memory_is_bounded_by_both_versions_of_control_groups() {
        let dir = tempfile::tempdir().expect("a directory");
        let parents = [dir.path().to_owned()];
        assert!(!are_memory_bound(&[]) && !are_memory_bound(&parents));
        fs::write(dir.path().join("cgroup.subtree_control"), "cpu pids").expect("a file");
        assert!(!are_memory_bound(&parents), "version 2 hands on other controllers");
        fs::write(dir.path().join("cgroup.subtree_control"), "cpu memory pids").expect("a file");
        assert!(are_memory_bound(&parents));
        fs::remove_file(dir.path().join("cgroup.subtree_control")).expect("removed");
        fs::write(dir.path().join("memory.limit_in_bytes"), "1").expect("a file");
        assert!(are_memory_bound(&parents));
    }

    /// Where version 2 is mounted on this machine.
    fn unified() -> PathBuf {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("it is told");
        let of = |line: &str| {
            let (place, what) = line.split_once(" - ")?;
            what.starts_with("cgroup2 ").then(|| place.split(' ').nth(4).map(PathBuf::from))?
        };
        mounts
            .lines()
            .find_map(of)
            .expect("control groups of version 2 are missing: mount -t cgroup2 cgroup2 PLACE")
    }

    /// It needs no controller, so it works wherever the hierarchy is mounted; making a group needs root, or one of its own.
    #[test]
    fn a_real_version_2_group_is_joined_counted_and_removed() {
        let path = unified().join(format!("dromia-test-{}", std::process::id()));
        fs::create_dir(&path).expect("a group can be made: run this test as root");
        let mut sleeper = std::process::Command::new("/bin/sleep").arg("60").spawn().expect("it starts");
        let entry = OpenOptions::new().write(true).open(path.join(MEMBERS)).expect("it is there");
        let group = ControlGroup { path: path.clone(), entry };
        (&group.entry).write_all(sleeper.id().to_string().as_bytes()).expect("it joins");
        assert_eq!(member_pids(&path), [Pid::from_child(&sleeper)]);
        assert!(group.cpu_ms().is_some(), "the kernel counts processor time without a controller");
        assert!(path.join("cgroup.kill").is_file(), "Linux 5.14 or newer ends a group at once");
        let groups = ControlGroups { made: vec![group] };
        groups.remove_groups();
        let ended = sleeper.wait().expect("it is ours");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(Signal::KILL.as_raw()));
        groups.remove_groups();
        assert!(!path.exists(), "it is removed");
    }
}
