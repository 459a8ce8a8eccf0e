//! Control groups that the operator named, in hierarchies of this machine in which this process is in no group itself.
//!
//! Making groups needs root, or groups that were given to this user, and what was put into a group stays in it. Where there
//! is no hierarchy that counts processes and has this process at its top, of version 1 or 2, these tests fail: they would
//! have shown nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dromia_contracts::sandbox::{LimitKind, ProcessEvent, ProcessExit, ProcessLimits, SandboxBackend};
use dromia_sandbox::probe::{self, BackendKind, BackendParts};

use crate::support::{machine, run, script};

/// The backends whose programs get groups.
const KINDS: [BackendKind; 3] = [BackendKind::Strict, BackendKind::Bubblewrap, BackendKind::Base];

const LIMITS: ProcessLimits = ProcessLimits { wall_ms: 10_000, processes: 8, ..ProcessLimits::DEFAULT };

/// How long the kernel may take to bury somebody who was killed.
const DEATH: Duration = Duration::from_secs(5);

/// A directory in each hierarchy, as an operator would give them to a server.
struct Given(Vec<PathBuf>);

impl Given {
    /// Makes them, where processes can be counted.
    fn make(name: &str) -> Self {
        let name = format!("dromia-test-{name}-{}", std::process::id());
        let made = hierarchies().into_iter().map(|top| top.join(&name));
        let given = Self(made.filter(|path| std::fs::create_dir(path).is_ok()).collect());
        let is_counted = given.0.iter().any(|path| path.join("pids.max").is_file());
        assert!(
            is_counted,
            "control groups are missing: mount a hierarchy with the controller pids, and run this test as root at its top"
        );
        given
    }

    fn backend(&self, kind: BackendKind) -> Arc<dyn SandboxBackend> {
        let machine = BackendParts { groups: self.0.clone(), ..machine(None) };
        probe::probe_one(&machine, kind).state.expect("it works in groups")
    }

    /// The groups that lie in them.
    fn groups(&self) -> Vec<PathBuf> {
        let entries = self.0.iter().flat_map(|path| std::fs::read_dir(path).expect("it is there").flatten());
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        for path in self.groups().iter().chain(&self.0) {
            // A group that a test left behind in its failure may still be in use.
            drop(std::fs::remove_dir(path));
        }
    }
}

/// The tops of those hierarchies that matter and have this process there: of version 1, else the one of version 2.
fn hierarchies() -> Vec<PathBuf> {
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("it is told");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("it is told");
    let mut tops = Vec::new();
    for line in own.lines() {
        let parts: Vec<_> = line.splitn(3, ':').collect();
        let &[_, controllers, "/"] = &parts[..] else { continue };
        if controllers.split(',').any(|name| matches!(name, "memory" | "pids" | "cpu" | "cpuacct")) {
            tops.extend(mounts.lines().find_map(|mount| top(mount, controllers)));
        }
    }
    if tops.is_empty() {
        tops.extend(mounts.lines().find_map(unified));
    }
    tops
}

/// Where version 2 is mounted, if this line says so. What is made below it gets the controllers that matter.
fn unified(mount: &str) -> Option<PathBuf> {
    let (place, what) = mount.split_once(" - ")?;
    let top = what.starts_with("cgroup2 ").then(|| place.split(' ').nth(4).map(PathBuf::from))??;
    for controller in ["+memory", "+pids", "+cpu"] {
        // One that this machine does not have is noticed by what is made.
        drop(std::fs::write(top.join("cgroup.subtree_control"), controller));
    }
    Some(top)
}

/// Where a hierarchy with these controllers is mounted, if this line says so.
fn top(mount: &str, controllers: &str) -> Option<PathBuf> {
    let (place, what) = mount.split_once(" - ")?;
    let options = what.strip_prefix("cgroup ")?.rsplit(' ').next()?;
    let has_all = controllers.split(',').all(|name| options.split(',').any(|option| option == name));
    let place: Vec<_> = place.split(' ').collect();
    (has_all && place.get(3) == Some(&"/")).then(|| PathBuf::from(place[4]))
}

#[test]
fn a_missing_control_group_is_named_with_the_next_step() {
    let machine = BackendParts { groups: vec!["/no/such/group".into()], ..machine(None) };
    for kind in KINDS {
        let missing = probe::probe_one(&machine, kind).state.expect_err("there is no such group");
        assert!(missing.what.contains("/no/such/group"), "{missing:?}");
        assert!(missing.fix.contains("sandbox.control_groups"), "{missing:?}");
    }
}

#[tokio::test]
async fn a_program_has_its_own_groups_that_vanish_after_it() {
    let given = Given::make("own");
    for kind in KINDS {
        let backend = given.backend(kind);
        assert!(given.groups().is_empty(), "{kind:?} was tried and left a group");
        let dir = tempfile::tempdir().expect("a directory");
        let mut spec = script(dir.path(), "echo here; sleep 9");
        spec.limits = LIMITS;
        let mut process = backend.start_process(spec).await.expect("it starts");
        assert!(matches!(process.next().await, Some(ProcessEvent::Output { .. })));
        let groups = given.groups();
        assert_eq!(groups.len(), given.0.len(), "{groups:?}");
        for group in &groups {
            let read = |file: &str| std::fs::read_to_string(group.join(file)).ok();
            assert_ne!(read("cgroup.procs"), Some(String::new()), "nobody is in {}", group.display());
            let bound = read("pids.max").is_none_or(|most| most == "10\n");
            assert!(bound, "{} bounds another number", group.display());
        }
        process.stop();
        let mut last = None;
        while let Some(event) = process.next().await {
            last = Some(event);
        }
        assert_eq!(last, Some(ProcessEvent::Ended(ProcessExit::Stopped)), "{kind:?}");
        assert!(given.groups().is_empty(), "{kind:?} left a group");
    }
}

#[tokio::test]
async fn the_kernel_refuses_more_processes_than_a_program_may_have() {
    let given = Given::make("bomb");
    for kind in KINDS {
        let dir = tempfile::tempdir().expect("a directory");
        let text = "i=0; while [ $i -lt 500 ]; do i=$((i+1)); (echo x > f$i; sleep 9) & done; wait";
        let mut spec = script(dir.path(), text);
        spec.limits = LIMITS;
        let told = run(&*given.backend(kind), spec).await;
        assert_eq!(told.ending, ProcessExit::Killed { limit: LimitKind::Processes }, "{kind:?} {told:?}");
        let begun = std::fs::read_dir(dir.path()).expect("it is there").count();
        assert!(begun <= 10, "{kind:?} began {begun} processes before it was ended");
        assert!(given.groups().is_empty(), "{kind:?} left a group");
    }
}

#[tokio::test]
async fn groups_of_a_killed_helper_are_removed_and_others_stay() {
    let given = Given::make("left");
    let namespace = std::fs::read_link("/proc/self/ns/pid").expect("it is told");
    let namespace: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    // No process has that number, so its holder is gone; of the second nobody here can know.
    let left = format!("dromia-{namespace}-0-999999999-1");
    let stays = ["dromia-1-0-999999999-1", "another"];
    for path in &given.0 {
        for name in [left.as_str()].into_iter().chain(stays) {
            std::fs::create_dir(path.join(name)).expect("a group");
        }
    }
    let mut sleeper =
        Command::new("/bin/sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep is there");
    for path in &given.0 {
        let entry = path.join(&left).join("cgroup.procs");
        std::fs::write(entry, sleeper.id().to_string()).expect("it is put there");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let told = run(&*given.backend(BackendKind::Strict), script(dir.path(), "exit 0")).await;
    assert_eq!(told.ending, ProcessExit::Exited { code: 0 }, "{told:?}");
    let until = Instant::now() + DEATH;
    let mut is_dead = false;
    while !is_dead && Instant::now() < until {
        is_dead = sleeper.try_wait().expect("it is ours").is_some();
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(sleeper.kill());
    drop(sleeper.wait());
    assert!(is_dead, "what was left still runs");
    for path in &given.0 {
        assert!(!path.join(&left).exists(), "it was left in {}", path.display());
        assert!(stays.iter().all(|name| path.join(name).is_dir()), "in {}", path.display());
    }
}

/// Nobody else's groups are taken for places of these tests.
#[test]
fn a_hierarchy_is_found_by_its_controllers() {
    let line = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct";
    assert_eq!(top(line, "cpu,cpuacct").as_deref(), Some(Path::new("/sys/fs/cgroup/cpu")));
    assert_eq!(top(line, "pids"), None);
    assert_eq!(top("32 31 0:29 /a /b rw - cgroup cgroup rw,cpu", "cpu"), None);
    assert_eq!(top("32 31 0:29 / /b rw - cgroup2 cgroup2 rw", ""), None);
    let line = "32 31 0:29 / /no/such/place rw - cgroup2 cgroup2 rw";
    assert_eq!(unified(line).as_deref(), Some(Path::new("/no/such/place")));
    assert_eq!(unified("32 31 0:29 / /b rw - cgroup cgroup rw,pids"), None);
}
