//! What the processes of a tool use together, read from `/proc` and from the workspace.
//!
//! The limits of the kernel hold for one process; these sums hold for all. They are read every few milliseconds, so
//! what is used in between may be more than the limit; [`super::walls`] bounds that.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dromia_contracts::sandbox::{LimitKind, ProcessLimits, ProcessSpec};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::process::Pid;

use super::open_files::HeldResources;
use super::volume::WorkspaceVolume;
use crate::order::{BackendSpec, HelperOrder};

/// How long a second of processor time is in the counters of `/proc`: the same on all machines that this runs on.
pub(super) const TICKS_PER_SECOND: u64 = 100;

/// How often the workspace is measured; each time takes at most a tenth of that.
const DISK_EVERY: Duration = Duration::from_millis(500);

/// How often it is looked at what processes hold; each time takes at most a tenth of that, too.
const HELD_EVERY: Duration = Duration::from_millis(100);

/// What the send buffer of a socket may hold where the machine does not say.
const SOCKET_BYTES: u64 = 212_992;

/// The most files that are counted; a workspace with more is over its limit.
const FILES_MAX: usize = 200_000;

/// The deepest directory that is counted; what is deeper is over the limit, too.
const DEPTH_MAX: usize = 256;

/// The helper and the warden, which are counted with the tool.
const OURS: u64 = 2;

/// What gVisor itself takes beside the tool, and how often its host sees a page of the tool: in the kernel of the guest
/// and in the process that runs it.
const GUEST_BYTES: u64 = 512 << 20;
const GUEST_SEEN: u64 = 2;

/// The most processes and threads of gVisor that are looked at.
const GUEST_PROCESSES_MAX: u64 = 4096;

/// Measures one tool.
pub(crate) struct UsageMeter {
    limits: ProcessLimits,
    inside: GuestKind,
    workspace: PathBuf,
    quota: WorkspaceQuota,
    volume: WorkspaceVolume,
    disk_at: Instant,
    /// Where the workspace lies.
    device: u64,
    /// Whether the kernel bounds the memory of all processes together.
    is_memory_bound: bool,
    /// What one socket may hold.
    socket_bytes: u64,
    held: HeldResources,
    held_at: Instant,
    /// Processor time of those that were there at the last look, so that it never goes back.
    cpu_ms: u64,
}

/// Who counts what the tool's processes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GuestKind {
    /// This meter: they are processes of this machine.
    Nothing,
    /// The first process of a guest; here only what would burst the guest is looked at.
    Guest,
    /// The first process of a virtual machine, which has no more than it was made with.
    Machine,
}

/// What all processes use at this moment.
#[derive(Default)]
struct TotalUsage {
    pids: Vec<Pid>,
    processes: u64,
    memory_bytes: u64,
    cpu_ms: u64,
}

impl UsageMeter {
    /// Measures everything below this process. It is made before the program begins, so that what lay in its workspace is
    /// known.
    pub(crate) fn new(order: &HelperOrder) -> Self {
        Self {
            limits: order.spec.limits,
            inside: match order.walls {
                BackendSpec::Base
                | BackendSpec::Strict
                | BackendSpec::Foreign { .. }
                | BackendSpec::Docker { .. } => GuestKind::Nothing,
                BackendSpec::Gvisor { .. } => GuestKind::Guest,
                BackendSpec::Firecracker { .. } => GuestKind::Machine,
            },
            workspace: order.spec.workspace.clone(),
            quota: WorkspaceQuota::for_spec(&order.spec),
            volume: WorkspaceVolume::measure_before(&order.spec.workspace),
            disk_at: Instant::now() + DISK_EVERY,
            device: rustix::fs::stat(&order.spec.workspace).map_or(0, |found| found.st_dev),
            is_memory_bound: order.is_memory_bound,
            socket_bytes: socket_bytes(),
            held: HeldResources::default(),
            held_at: Instant::now() + HELD_EVERY,
            cpu_ms: 0,
        }
    }

    /// Says which limit is exceeded, if one is.
    pub(crate) fn exceeded_limit(&mut self) -> Option<LimitKind> {
        if self.volume.is_filling() {
            return Some(LimitKind::Disk);
        }
        self.exceeded_now().or_else(|| self.exceeded_on_disk())
    }

    fn exceeded_now(&mut self) -> Option<LimitKind> {
        let processes_max = match self.inside {
            GuestKind::Nothing => u64::from(self.limits.processes) + OURS,
            GuestKind::Guest => GUEST_PROCESSES_MAX,
            GuestKind::Machine => return None,
        };
        let used = total_usage(processes_max);
        self.look_at_held(&used.pids);
        if self.held.nameless_bytes() > self.limits.disk_bytes {
            return Some(LimitKind::Disk);
        }
        if self.inside == GuestKind::Guest {
            let most = self.limits.memory_bytes.saturating_mul(GUEST_SEEN).saturating_add(GUEST_BYTES);
            return (used.memory_bytes > most).then_some(LimitKind::Memory);
        }
        self.cpu_ms = self.cpu_ms.max(used.cpu_ms);
        if used.processes > processes_max {
            return Some(LimitKind::Processes);
        }
        if used.memory_bytes.saturating_add(self.unseen_bytes()) > self.limits.memory_bytes {
            return Some(LimitKind::Memory);
        }
        (self.cpu_ms > self.limits.cpu_ms).then_some(LimitKind::Cpu)
    }

    fn look_at_held(&mut self, pids: &[Pid]) {
        if Instant::now() < self.held_at {
            return;
        }
        let began = Instant::now();
        self.held = HeldResources::of_processes(pids, self.device);
        self.held_at = Instant::now() + HELD_EVERY.max(began.elapsed() * 10);
    }

    /// Memory that no process has for its own: as much as there may be, where the kernel counts none of it.
    fn unseen_bytes(&self) -> u64 {
        if self.is_memory_bound {
            0
        } else if self.held.shares_zero {
            // How much it is cannot be counted.
            u64::MAX
        } else {
            self.held.socket_count().saturating_mul(self.socket_bytes)
        }
    }

    fn exceeded_on_disk(&mut self) -> Option<LimitKind> {
        if Instant::now() < self.disk_at {
            return None;
        }
        let began = Instant::now();
        let is_exceeded = self.quota.is_exceeded_with(&self.workspace, self.held.nameless_bytes());
        self.disk_at = Instant::now() + DISK_EVERY.max(began.elapsed() * 10);
        is_exceeded.then_some(LimitKind::Disk)
    }
}

/// How much may lie in a workspace while a program runs: its limit, or what lay there before, if that is more. Such a
/// workspace may shrink, so that a program can clear it, and never grow: each look lowers what is allowed, down to the limit.
#[derive(Debug)]
pub(super) struct WorkspaceQuota {
    limit: u64,
    most: u64,
}

impl WorkspaceQuota {
    /// Measures the workspace of a spec. What lies in a directory of the operator's is not the program's: it may add its
    /// limit to that. One that cannot be measured, which only the operator could make so large, has the volume's bound.
    pub(super) fn for_spec(spec: &ProcessSpec) -> Self {
        let (workspace, limit) = (&spec.workspace, spec.limits.disk_bytes);
        match spec.reference {
            None => Self::measure_before(workspace, limit),
            Some(_) => Self::with_reference(workspace_bytes(workspace, u64::MAX), limit),
        }
    }

    fn with_reference(bytes: u64, limit: u64) -> Self {
        let limit = bytes.saturating_add(limit);
        Self { limit, most: limit }
    }

    /// Measures a workspace in which nothing runs yet. One that cannot be measured is allowed
    /// no more than its limit.
    pub(super) fn measure_before(workspace: &Path, limit: u64) -> Self {
        Self::with_measured(workspace_bytes(workspace, u64::MAX), limit)
    }

    fn with_measured(bytes: u64, limit: u64) -> Self {
        let most = if bytes == u64::MAX { limit } else { bytes.max(limit) };
        Self { limit, most }
    }

    /// Measures the workspace; returns whether more lies there than may.
    pub(super) fn is_exceeded_in(&mut self, workspace: &Path) -> bool {
        self.is_exceeded_with(workspace, 0)
    }

    /// The same, with what lies there without a name.
    pub(super) fn is_exceeded_with(&mut self, workspace: &Path, nameless_bytes: u64) -> bool {
        self.is_exceeded(workspace_bytes(workspace, self.most).saturating_add(nameless_bytes))
    }

    fn is_exceeded(&mut self, bytes: u64) -> bool {
        if bytes > self.most {
            return true;
        }
        self.most = bytes.max(self.limit);
        false
    }
}

/// Adds up this process and all below it, orphans included; gives up, with what it has, once there are too many.
fn total_usage(processes_max: u64) -> TotalUsage {
    let mut all = TotalUsage::default();
    let mut open = vec![rustix::process::getpid()];
    while let Some(pid) = open.pop() {
        all.pids.push(pid);
        all.processes += thread_count(pid).max(1);
        all.memory_bytes += own_memory(pid).unwrap_or_default();
        all.cpu_ms += cpu_ms(pid).unwrap_or_default();
        if all.processes > processes_max {
            break;
        }
        open.extend(child_pids(pid));
    }
    all
}

/// The children of all threads of a process.
pub(crate) fn child_pids(pid: Pid) -> Vec<Pid> {
    let tasks = format!("/proc/{}/task", pid.as_raw_pid());
    let mut found = Vec::new();
    for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(text.split_ascii_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?)));
    }
    found
}

/// What one socket of this machine may hold.
fn socket_bytes() -> u64 {
    // The filter keeps programs from making it larger.
    let most = fs::read_to_string("/proc/sys/net/core/wmem_default").ok();
    most.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(SOCKET_BYTES)
}

fn thread_count(pid: Pid) -> u64 {
    fs::read_dir(format!("/proc/{}/task", pid.as_raw_pid())).map_or(0, |tasks| tasks.count() as u64)
}

/// Memory that this process made: its own and what it shares with its relatives, but no mapped file.
pub(super) fn own_memory(pid: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).ok()?;
    let kib = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Some((kib("RssAnon:")? + kib("RssShmem:")?) * 1024)
}

/// Processor time of a process and of its children that it has buried.
fn cpu_ms(pid: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    cpu_ms_of(&text)
}

fn cpu_ms_of(stat: &str) -> Option<u64> {
    // The name may hold anything, parentheses too; the last one ends it. Then: state, ten numbers, the four times.
    let (_, rest) = stat.rsplit_once(')')?;
    let times = rest.split_ascii_whitespace().skip(11).take(4);
    let ticks: u64 = times.map(|word| word.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some(ticks * 1000 / TICKS_PER_SECOND)
}

/// Bytes of a workspace, as they lie on the disk; more than `most` as soon as it is known to be more.
pub(super) fn workspace_bytes(workspace: &Path, most: u64) -> u64 {
    const DIRECTORY: OFlags =
        OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let Ok(top) = rustix::fs::openat(CWD, workspace, DIRECTORY, Mode::empty()) else { return 0 };
    let mut bytes = 0_u64;
    let mut files = 0;
    // Held handles, deepest last: a directory that is moved meanwhile is still the one that was meant.
    let mut open: Vec<(OwnedFd, Dir)> = Vec::new();
    let Ok(dir) = Dir::read_from(&top) else { return 0 };
    open.push((top, dir));
    while let Some((handle, dir)) = open.last_mut() {
        let Some(Ok(entry)) = dir.read() else {
            open.pop();
            continue;
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        files += 1;
        let Ok(found) = rustix::fs::statat(&*handle, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        bytes = bytes.saturating_add(u64::try_from(found.st_blocks).unwrap_or_default().saturating_mul(512));
        if bytes > most || files > FILES_MAX || open.len() > DEPTH_MAX {
            return u64::MAX;
        }
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            let (handle, _) = open.last().expect("the loop holds one");
            let Ok(below) = rustix::fs::openat(handle, name, DIRECTORY, Mode::empty()) else {
                continue;
            };
            if let Ok(dir) = Dir::read_from(&below) {
                open.push((below, dir));
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the first thread alone: what a meter would see that forgot the others.
    fn children_of_first(pid: Pid) -> Vec<Pid> {
        let number = pid.as_raw_pid();
        let text = fs::read_to_string(format!("/proc/{number}/task/{number}/children")).unwrap_or_default();
        text.split_ascii_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?)).collect()
    }

    /// Which of these looks finds what a second thread started.
    fn found_by(looks: [fn(Pid) -> Vec<Pid>; 2]) -> [bool; 2] {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let second = std::thread::spawn(move || {
            let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().expect("it starts");
            tell.send(Pid::from_child(&child)).expect("it is heard");
            // A thread that ends leaves its children to another one.
            let _end = ended.recv();
            child.kill().and_then(|()| child.wait()).expect("it ends")
        });
        let child = told.recv().expect("it is told");
        let found = looks.map(|look| look(rustix::process::getpid()).contains(&child));
        drop(end);
        second.join().expect("it ends");
        found
    }

    #[test]
    fn processes_started_by_a_second_thread_are_counted() {
        let counted = |_| total_usage(u64::MAX).pids;
        assert_eq!(found_by([child_pids, counted]), [true, true]);
    }

    #[test]
    fn a_look_at_the_first_thread_alone_is_caught() {
        assert_eq!(found_by([children_of_first, child_pids]), [false, true]);
    }

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
        assert_eq!(cpu_ms_of(stat), Some((11 + 12 + 13 + 14) * 10));
        assert_eq!(cpu_ms_of("7 (a) S 1"), Some(0));
        assert_eq!(cpu_ms_of("7"), None);
    }

    /// Plays looks at a workspace of which so much lay there before, with a limit of 10; says which one finds too much.
    fn ends_at(before: u64, looks: &[u64]) -> Option<usize> {
        let mut quota = WorkspaceQuota::with_measured(before, 10);
        looks.iter().position(|bytes| quota.is_exceeded(*bytes))
    }

    #[test]
    fn a_workspace_over_its_limit_may_shrink_and_never_grow() {
        for (before, looks, ends) in [
            (0, &[0, 10, 3, 10][..], None),
            (0, &[10, 11][..], Some(1)),
            (30, &[30, 30, 20, 20, 5, 10][..], None),
            (30, &[31][..], Some(0)),
            (30, &[20, 21][..], Some(1)),
            (30, &[20, 5, 11][..], Some(2)),
            // Nobody knows how much lay there.
            (u64::MAX, &[10, 11][..], Some(1)),
            (30, &[u64::MAX][..], Some(0)),
        ] {
            assert_eq!(ends_at(before, looks), ends, "{before}, then {looks:?}");
        }
    }

    #[test]
    fn earlier_files_of_a_workspace_are_measured() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().to_path_buf();
        fs::write(path.join("old"), vec![1; 1 << 20]).expect("a file");
        let mut quota = WorkspaceQuota::measure_before(&path, 1 << 19);
        assert!(!quota.is_exceeded_in(&path), "nothing came");
        fs::write(path.join("new"), vec![1; 1 << 20]).expect("a file");
        assert!(quota.is_exceeded_in(&path), "it grows");
        fs::remove_file(path.join("old")).expect("removed");
        fs::remove_file(path.join("new")).expect("removed");
        assert!(!quota.is_exceeded_in(&path), "it was cleared");
        fs::write(path.join("new"), vec![1; 1 << 20]).expect("a file");
        assert!(quota.is_exceeded_in(&path), "from then on its limit counts");
        assert_eq!(WorkspaceQuota::measure_before(&path.join("nothing"), 7).most, 7);
    }

    #[test]
    fn a_workspace_is_measured_without_following_links() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("a directory");
        fs::write(outside.path().join("big"), vec![1; 1 << 20]).expect("a file");
        fs::create_dir(dir.path().join("a")).expect("a directory");
        fs::write(dir.path().join("a/small"), [1]).expect("a file");
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).expect("a link");
        let path = dir.path().to_path_buf();
        assert!(workspace_bytes(&path, 1 << 30) < 1 << 20);
        fs::write(dir.path().join("a/big"), vec![1; 1 << 20]).expect("a file");
        assert!(workspace_bytes(&path, 1 << 30) >= 1 << 20);
        assert_eq!(workspace_bytes(&path, 1 << 19), u64::MAX);
    }
}
