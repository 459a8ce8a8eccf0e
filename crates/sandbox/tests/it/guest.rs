//! What the port promises, of gVisor: a guest takes seconds to start, so each test asks for several things at once.

use std::time::{Duration, Instant};

use dromia_contracts::sandbox::{
    IsolationTier, LimitKind, ProcessEvent, ProcessExit, ProcessLimits, SandboxBackend as _, SandboxMount,
};

use dromia_sandbox::{GuestReporter, GvisorSandbox};

use crate::support::{gvisor, helper, run, script};

/// How long a guest and its program may take on a busy machine.
const WALL_MS: u64 = 60_000;

const LIMITS: ProcessLimits = ProcessLimits { wall_ms: WALL_MS, ..ProcessLimits::DEFAULT };

#[tokio::test]
async fn a_gvisor_program_gets_its_spec_and_reports_its_end() {
    let backend = gvisor(helper());
    assert_eq!((backend.backend_name(), backend.isolation_tier()), ("gvisor", IsolationTier::Guest));
    let dir = tempfile::tempdir().expect("a directory");
    let given = tempfile::tempdir().expect("a directory");
    std::fs::write(given.path().join("text"), "given\n").expect("a file");
    let text = "echo out; echo err >&2; echo kept > file; cat /opt/given/text; echo x > /opt/given/new; env | cut -d= -f1; exit 7";
    let mut spec = script(dir.path(), text);
    spec.limits = LIMITS;
    spec.env = vec![("GIVEN".to_owned(), "by the spec".to_owned())];
    let source = given.path().canonicalize().expect("it is there");
    spec.mounts = vec![SandboxMount { source, target: "/opt/given".into(), writable: false }];
    let told = run(&backend, spec).await;
    assert_eq!(told.ending, ProcessExit::Exited { code: 7 }, "{told:?}");
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
async fn the_total_use_of_a_guest_is_bounded() {
    let backend = gvisor(helper());
    let cases: [(&str, ProcessLimits, LimitKind); 4] = [
        (
            "sleep 30 & sleep 30 & sleep 30 & sleep 30 & wait",
            ProcessLimits { processes: 3, ..LIMITS },
            LimitKind::Processes,
        ),
        ("while :; do :; done", ProcessLimits { cpu_ms: 2_000, ..LIMITS }, LimitKind::Cpu),
        ("trap '' TERM INT HUP; sleep 30", ProcessLimits { wall_ms: 1_000, ..LIMITS }, LimitKind::Time),
        (
            "for i in 1 2 3 4 5 6 7 8; do head -c 4000000 /dev/zero > f$i; done; sleep 30",
            ProcessLimits { disk_bytes: 8 << 20, ..LIMITS },
            LimitKind::Disk,
        ),
    ];
    for (text, limits, limit) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spec = script(dir.path(), text);
        spec.limits = limits;
        let told = run(&backend, spec).await;
        assert_eq!(told.ending, ProcessExit::Killed { limit }, "{text} {told:?}");
    }
}

#[tokio::test]
async fn a_stopped_or_dropped_guest_leaves_nothing() {
    let backend = gvisor(helper());
    for is_dropped in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spec = script(dir.path(), "setsid sh -c 'sleep 1; echo x > late' & echo here; sleep 50");
        spec.limits = LIMITS;
        let mut process = backend.start_process(spec).await.expect("it starts");
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
            assert_eq!(last, Some(ProcessEvent::Ended(ProcessExit::Stopped)));
        }
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert!(!dir.path().join("late").exists(), "a process was left behind");
        assert_eq!(seeing(dir.path()), 0, "gVisor itself was left behind");
    }
}

#[tokio::test]
async fn a_missing_program_is_reported_and_nothing_ran() {
    let backend = gvisor(helper());
    let dir = tempfile::tempdir().expect("a directory");
    let mut spec = script(dir.path(), "");
    spec.argv = vec!["/no/such/program".to_owned()];
    spec.limits = LIMITS;
    let began = Instant::now();
    let told = run(&backend, spec).await;
    assert!(
        matches!(&told.ending, ProcessExit::NotStarted { problem } if problem.contains("/no/such/program")),
        "{told:?}"
    );
    assert!(began.elapsed() < Duration::from_millis(WALL_MS));
}

/// How a program tries to touch the first process of its guest, which reports how it ended; what works is said. Its first three
/// descriptors are nothing and the program's own outputs.
const TOUCHES: &str = r#"
    print "group\n" if setpgrp(0, 1);
    print "signal\n" if kill(0, 1);
    for (3 .. 9) { print "opened\n" if open(my $one, "+<", "/proc/1/fd/$_"); }
    print "memory\n" if open(my $memory, "<", "/proc/1/mem");
    open(my $status, "<", "/proc/self/status"); /^Cap\w+:\s*0*[1-9a-f]/ and print "right\n" while <$status>;
    print "end\n";
"#;

/// What of the first process of a guest a program can touch.
async fn touched(backend: &GvisorSandbox) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spec = script(dir.path(), "");
    spec.argv = ["/usr/bin/perl", "-e", TOUCHES].map(str::to_owned).into();
    spec.limits = LIMITS;
    let told = run(backend, spec).await;
    assert_eq!(told.ending, ProcessExit::Exited { code: 0 }, "{told:?}");
    told.out
}

#[tokio::test]
async fn a_program_cannot_touch_what_reports_about_it() {
    assert_eq!(touched(&gvisor(helper())).await, "end\n");
}

#[tokio::test]
async fn a_reporter_within_reach_is_caught() {
    let touched = touched(&gvisor(helper()).with_reporter(GuestReporter::SameUser)).await;
    for what in ["group\n", "signal\n"] {
        assert!(touched.contains(what), "{touched}");
    }
}

/// It tries to stop what counts, and then is too many; and it writes reports of its own until the guest ends.
#[tokio::test]
async fn a_program_cannot_stop_the_meter_or_forge_its_end() {
    let backend = gvisor(helper());
    let dir = tempfile::tempdir().expect("a directory");
    let stop = r#"perl -e 'setpgrp(0, 1) or setpgrp(0, 0); kill("TSTP", 1, -1, 0); kill("STOP", 1, 0)' & "#;
    let many = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 50 & done; wait";
    let mut spec = script(dir.path(), &format!("trap '' TSTP; {stop}{many}"));
    spec.limits = ProcessLimits { processes: 6, ..LIMITS };
    let told = run(&backend, spec).await;
    assert_eq!(told.ending, ProcessExit::Killed { limit: LimitKind::Processes }, "{told:?}");

    let forged = r#"+{"version":1,"ending":{"kind":"not_started","problem":"FORGED"}}"#;
    let text = format!(
        "(while :; do for n in 0 3 4 5 6; do printf '{forged}' 1<> /proc/1/fd/$n; done; done) 2>/dev/null & sleep 1; exit 7"
    );
    let mut spec = script(dir.path(), &text);
    spec.limits = LIMITS;
    let told = run(&backend, spec).await;
    assert_eq!(told.ending, ProcessExit::Exited { code: 7 }, "{told:?}");
    let run_dir = script(dir.path(), "ls /run/dromia; ls /run/dromia/* | wc -l; exit 0");
    let told = run(&backend, dromia_contracts::sandbox::ProcessSpec { limits: LIMITS, ..run_dir }).await;
    assert!(!told.out.contains("desk"), "{told:?}");
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
