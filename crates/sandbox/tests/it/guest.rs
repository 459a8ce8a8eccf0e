//! What the port promises, of gVisor: a guest takes seconds to start, so each test asks for several things at once.

use std::time::{Duration, Instant};

use dromia_contracts::sandbox::{Ending, Limit, Limits, Mount, ProcessEvent, Sandbox as _, Tier};

use crate::support::{gvisor, run, script};

/// How long a guest and its program may take on a busy machine.
const WALL_MS: u64 = 60_000;

const LIMITS: Limits = Limits { wall_ms: WALL_MS, ..Limits::DEFAULT };

#[tokio::test]
async fn a_program_of_a_guest_has_what_its_spec_names_and_its_end_is_told() {
    let backend = gvisor();
    assert_eq!((backend.name(), backend.tier()), ("gvisor", Tier::Guest));
    let dir = tempfile::tempdir().expect("a directory");
    let given = tempfile::tempdir().expect("a directory");
    std::fs::write(given.path().join("text"), "given\n").expect("a file");
    let text = "echo out; echo err >&2; echo kept > file; cat /opt/given/text; echo x > /opt/given/new; env | cut -d= -f1; exit 7";
    let mut spec = script(dir.path(), text);
    spec.limits = LIMITS;
    spec.env = vec![("GIVEN".to_owned(), "by the spec".to_owned())];
    let source = given.path().canonicalize().expect("it is there");
    spec.mounts = vec![Mount { source, target: "/opt/given".into(), writable: false }];
    let told = run(&backend, spec).await;
    assert_eq!(told.ending, Ending::Exited { code: 7 }, "{told:?}");
    assert!(told.out.starts_with("out\ngiven\n") && told.err.starts_with("err\n"), "{told:?}");
    assert_eq!(std::fs::read_to_string(dir.path().join("file")).expect("it was written"), "kept\n");
    assert!(!given.path().join("new").exists(), "{told:?}");
    // The shell sets one or two of its own.
    let names: Vec<_> =
        told.out.lines().skip(2).filter(|name| !matches!(*name, "PWD" | "_" | "SHLVL" | "OLDPWD")).collect();
    for name in ["GIVEN", "HOME", "LANG", "PATH", "TMPDIR"] {
        assert!(names.contains(&name), "{name} is missing: {names:?}");
    }
    assert_eq!(names.len(), 5, "{names:?}");
}

#[tokio::test]
async fn what_all_of_a_guest_use_together_is_bounded() {
    let backend = gvisor();
    let cases: [(&str, Limits, Limit); 4] = [
        (
            "sleep 30 & sleep 30 & sleep 30 & sleep 30 & wait",
            Limits { processes: 3, ..LIMITS },
            Limit::Processes,
        ),
        ("while :; do :; done", Limits { cpu_ms: 2_000, ..LIMITS }, Limit::Cpu),
        ("trap '' TERM INT HUP; sleep 30", Limits { wall_ms: 1_000, ..LIMITS }, Limit::Time),
        (
            "for i in 1 2 3 4 5 6 7 8; do head -c 4000000 /dev/zero > f$i; done; sleep 30",
            Limits { disk_bytes: 8 << 20, ..LIMITS },
            Limit::Disk,
        ),
    ];
    for (text, limits, limit) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spec = script(dir.path(), text);
        spec.limits = limits;
        let told = run(&backend, spec).await;
        assert_eq!(told.ending, Ending::Killed { limit }, "{text} {told:?}");
    }
}

#[tokio::test]
async fn a_guest_that_is_stopped_or_dropped_is_gone_and_leaves_nothing() {
    let backend = gvisor();
    for is_dropped in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spec = script(dir.path(), "setsid sh -c 'sleep 1; echo x > late' & echo here; sleep 50");
        spec.limits = LIMITS;
        let mut process = backend.start(spec).await.expect("it starts");
        assert!(matches!(process.next().await, Some(ProcessEvent::Output { .. })));
        if rustix::process::geteuid().is_root() {
            assert!(seeing(dir.path()) > 0, "gVisor is there while its guest is");
        }
        if is_dropped {
            drop(process);
        } else {
            process.stop();
            let mut last = None;
            while let Some(event) = process.next().await {
                last = Some(event);
            }
            assert_eq!(last, Some(ProcessEvent::Ended(Ending::Stopped)));
        }
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert!(!dir.path().join("late").exists(), "a process was left behind");
        assert_eq!(seeing(dir.path()), 0, "gVisor itself was left behind");
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_said_and_nothing_of_it_ran() {
    let backend = gvisor();
    let dir = tempfile::tempdir().expect("a directory");
    let mut spec = script(dir.path(), "");
    spec.argv = vec!["/no/such/program".to_owned()];
    spec.limits = LIMITS;
    let began = Instant::now();
    let told = run(&backend, spec).await;
    assert!(
        matches!(&told.ending, Ending::NotStarted { problem } if problem.contains("/no/such/program")),
        "{told:?}"
    );
    assert!(began.elapsed() < Duration::from_millis(WALL_MS));
}

/// Counts processes that have a directory among their mounts; in a test of an ordinary user none may be looked at.
fn seeing(directory: &std::path::Path) -> usize {
    let name = directory.file_name().expect("it has a name").to_string_lossy().into_owned();
    let processes = std::fs::read_dir("/proc").expect("it is there").flatten();
    let sees = |process: &std::fs::DirEntry| {
        std::fs::read_to_string(process.path().join("mountinfo")).is_ok_and(|text| text.contains(&name))
    };
    processes.filter(sees).count()
}
