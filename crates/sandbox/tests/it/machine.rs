//! Firecracker as far as a machine without it can go: both sides of the conversation at work, by real processes, and each
//! part that is missing by its name. No machine is started here.

use std::fs;
use std::path::Path;

use dromia_contracts::sandbox::{
    IsolationTier, LimitKind, ProcessExit, ProcessLimits, ProcessSpec, SandboxMount,
};
use dromia_sandbox::FirecrackerParts;
use dromia_sandbox::firecracker::{RehearsalResult, UID_DEFAULT, rehearse_guest};
use dromia_sandbox::probe::{self, BackendKind, BackendParts};

use crate::support::{helper, machine, script};

const LIMITS: ProcessLimits = ProcessLimits { wall_ms: 20_000, ..ProcessLimits::DEFAULT };

fn rehearsed(spec: ProcessSpec) -> RehearsalResult {
    let ground = tempfile::tempdir().expect("a directory");
    rehearse_guest(helper(), spec, ground.path()).expect("the helper runs")
}

fn run(workspace: &Path, text: &str) -> RehearsalResult {
    rehearsed(ProcessSpec { limits: LIMITS, ..script(workspace, text) })
}

#[test]
fn a_guest_runs_a_program_and_its_changes_come_back() {
    let (dir, given) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("another"));
    fs::write(dir.path().join("in"), "given\n").expect("a file");
    fs::write(dir.path().join("old"), "old").expect("a file");
    fs::create_dir(dir.path().join("sub")).expect("a directory");
    fs::write(given.path().join("text"), "shown\n").expect("a file");
    let text = "cat in; cat ../mounts/0/text; echo err >&2; echo out > sub/new; rm old; ln -s in link; \
                echo more >> in; exit 7";
    let source = given.path().to_owned();
    let mounts = vec![SandboxMount { source, target: "/opt/given".into(), writable: false }];
    let told = rehearsed(ProcessSpec { mounts, limits: LIMITS, ..script(dir.path(), text) });
    assert_eq!(told.ending, ProcessExit::Exited { code: 7 }, "{told:?}");
    assert_eq!((&told.out[..], &told.err[..]), (&b"given\nshown\n"[..], &b"err\n"[..]));
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect("it came back");
    assert_eq!((read("sub/new").as_str(), read("in").as_str()), ("out\n", "given\nmore\n"));
    assert!(!dir.path().join("old").exists());
    let link = fs::read_link(dir.path().join("link")).expect("it is a link");
    assert_eq!(link, Path::new("in"));
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 3, "and nothing else");
}

#[test]
fn arguments_stay_literal_and_a_missing_program_is_reported() {
    let dir = tempfile::tempdir().expect("a directory");
    let argv = |words: &[&str]| {
        let argv = words.iter().map(|word| (*word).to_owned()).collect();
        rehearsed(ProcessSpec { argv, limits: LIMITS, ..script(dir.path(), "") })
    };
    let told = argv(&["/usr/bin/printf", "[%s]", "a b", "$HOME", "; echo x"]);
    assert_eq!(told.out, b"[a b][$HOME][; echo x]", "{told:?}");
    let told = argv(&["/no/such/program"]);
    let problem =
        matches!(&told.ending, ProcessExit::NotStarted { problem } if problem.contains("/no/such/program"));
    assert!(problem, "{told:?}");
    let told =
        rehearsed(ProcessSpec { cwd: "gone".into(), limits: LIMITS, ..script(dir.path(), "echo ran") });
    let problem = matches!(&told.ending, ProcessExit::NotStarted { problem } if problem.starts_with("cwd: "));
    assert!(problem, "{told:?}");
}

#[test]
fn a_guest_keeps_the_limits_of_all_that_it_starts() {
    let cases: [(&str, ProcessLimits, LimitKind); 4] = [
        ("while :; do :; done", ProcessLimits { cpu_ms: 500, ..LIMITS }, LimitKind::Cpu),
        ("trap '' TERM INT HUP; sleep 20", ProcessLimits { wall_ms: 400, ..LIMITS }, LimitKind::Time),
        (
            "sleep 20 & sleep 20 & sleep 20 & sleep 20 & wait",
            ProcessLimits { processes: 3, ..LIMITS },
            LimitKind::Processes,
        ),
        (
            "for i in 1 2 3 4 5 6 7 8; do head -c 4000000 /dev/zero > f$i; done; sleep 20",
            ProcessLimits { disk_bytes: 8 << 20, ..LIMITS },
            LimitKind::Disk,
        ),
    ];
    for (text, limits, limit) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let told = rehearsed(ProcessSpec { limits, ..script(dir.path(), text) });
        assert_eq!(told.ending, ProcessExit::Killed { limit }, "{text}: {told:?}");
    }
}

#[test]
fn output_arrives_whole_and_leftover_processes_are_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let told = run(dir.path(), "head -c 3000000 /dev/zero; echo end >&2");
    assert_eq!(
        (told.ending, told.out.len(), &told.err[..]),
        (ProcessExit::Exited { code: 0 }, 3_000_000, &b"end\n"[..])
    );
    let told = run(dir.path(), "setsid sh -c 'sleep 1; echo x > late' & echo here");
    assert_eq!((told.ending, &told.out[..]), (ProcessExit::Exited { code: 0 }, &b"here\n"[..]));
    std::thread::sleep(std::time::Duration::from_millis(1_300));
    assert!(!dir.path().join("late").exists(), "it does not live on");
}

/// In a rehearsal nothing keeps the program from its hooks; the helper does not take them back.
#[test]
fn guarded_changes_of_a_guest_do_not_come_back() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(dir.path().join(".git")).expect("a directory");
    let told = run(dir.path(), "echo x > .git/hooks/pre-commit; echo done");
    assert_eq!((told.ending, &told.out[..]), (ProcessExit::Lost, &b"done\n"[..]));
    assert_eq!(fs::read_dir(dir.path().join(".git/hooks")).expect("a directory").count(), 0);
}

#[test]
fn a_missing_firecracker_part_is_listed_with_the_next_step() {
    let one = probe::probe_one(&machine(None), BackendKind::Firecracker);
    assert_eq!((one.name, one.tier), ("firecracker", IsolationTier::Machine));
    assert!(IsolationTier::Machine > IsolationTier::Guest, "nothing is stronger");
    let missing = one.state.expect_err("nobody named its parts");
    assert!(missing.what.contains("no Firecracker binary"), "{missing:?}");
    assert!(missing.fix.contains("sandbox.firecracker.binary"), "{missing:?}");
    assert!(!machine(None).is_configured(BackendKind::Firecracker));

    let absent = |name: &str| Path::new("/no/such/place").join(name);
    let monitor = FirecrackerParts {
        binary: absent("firecracker"),
        jailer: absent("jailer"),
        kernel: absent("vmlinux"),
        rootfs: absent("root.ext4"),
        uid: UID_DEFAULT,
    };
    let named = BackendParts { monitor: Some(monitor), ..machine(None) };
    assert!(named.is_configured(BackendKind::Firecracker));
    let missing = probe::probe_one(&named, BackendKind::Firecracker).state.expect_err("there is none");
    let is_named = ["/dev/kvm", "sandbox.firecracker.binary"].iter().any(|part| missing.what.contains(part));
    assert!(is_named && !missing.fix.is_empty(), "{missing:?}");
}
