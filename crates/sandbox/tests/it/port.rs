//! What the port promises, of every backend of this machine.

use std::time::{Duration, Instant};

use dromia_contracts::sandbox::{
    LimitKind, ProcessEvent, ProcessExit, ProcessLimits, SandboxBackend, SandboxError, SandboxMount,
};

use dromia_sandbox::probe::{self, BackendKind};

use crate::support::{backends, machine, run, script};

#[tokio::test]
async fn a_program_writes_its_workspace_outputs_and_exit_code() {
    for backend in backends() {
        let dir = tempfile::tempdir().expect("a directory");
        let told =
            run(&*backend, script(dir.path(), "echo out; echo err >&2; echo kept > file; exit 7")).await;
        assert_eq!(told.ending, ProcessExit::Exited { code: 7 }, "{} {told:?}", backend.backend_name());
        assert_eq!((&*told.out, &*told.err), ("out\n", "err\n"), "{}", backend.backend_name());
        let kept = std::fs::read_to_string(dir.path().join("file")).expect("it was written");
        assert_eq!(kept, "kept\n", "{}", backend.backend_name());
    }
}

#[tokio::test]
async fn arguments_are_executed_as_they_stand() {
    for backend in backends() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spec = script(dir.path(), "");
        spec.argv = ["/usr/bin/printf", "[%s]", "a b", "$HOME", "; echo x", "*"].map(str::to_owned).into();
        let told = run(&*backend, spec).await;
        assert_eq!(told.out, "[a b][$HOME][; echo x][*]", "{} {told:?}", backend.backend_name());
    }
}

#[tokio::test]
async fn a_missing_working_directory_is_not_called_a_missing_program() {
    for backend in backends() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spec = script(dir.path(), "echo ran");
        spec.cwd = "gone/here".into();
        let told = run(&*backend, spec).await;
        let said = format!("{told:?}");
        let is_named = said.contains("cwd: ") && said.contains("gone/here") && !said.contains("/bin/sh");
        assert!(is_named && told.out.is_empty(), "{} {said}", backend.backend_name());
        assert_ne!(told.ending, ProcessExit::Exited { code: 0 });
    }
}

#[tokio::test]
async fn the_environment_has_the_specs_names_and_four_more() {
    for backend in backends() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spec = script(dir.path(), "");
        spec.argv = vec!["/usr/bin/env".to_owned()];
        spec.env = vec![("GIVEN".to_owned(), "by the spec".to_owned())];
        let told = run(&*backend, spec).await;
        let mut names: Vec<_> = told.out.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        names.sort_unstable();
        assert_eq!(names, ["GIVEN", "HOME", "LANG", "PATH", "TMPDIR"], "{}", backend.backend_name());
    }
}

#[tokio::test]
async fn a_mount_is_at_its_path_and_writable_if_allowed() {
    for backend in backends() {
        let dir = tempfile::tempdir().expect("a directory");
        let given = tempfile::tempdir().expect("a directory");
        std::fs::write(given.path().join("text"), "given\n").expect("a file");
        for writable in [false, true] {
            let source = given.path().canonicalize().expect("it is there");
            let mount = SandboxMount { source, target: "/opt/given".into(), writable };
            let place = backend.mount_path(&mount).display().to_string();
            let mut spec = script(dir.path(), &format!("cat {place}/text && echo more > {place}/new"));
            spec.mounts = vec![mount];
            let told = run(&*backend, spec).await;
            assert_eq!(told.out, "given\n", "{} {told:?}", backend.backend_name());
            assert_eq!(given.path().join("new").exists(), writable, "{} {told:?}", backend.backend_name());
        }
    }
}

#[tokio::test]
async fn a_limit_ends_a_process_and_says_which() {
    let cases: [(&str, ProcessLimits, LimitKind); 4] = [
        ("while :; do :; done", ProcessLimits { cpu_ms: 500, ..ProcessLimits::DEFAULT }, LimitKind::Cpu),
        (
            "trap '' TERM INT HUP; sleep 20",
            ProcessLimits { wall_ms: 400, ..ProcessLimits::DEFAULT },
            LimitKind::Time,
        ),
        (
            "while :; do echo flood; done",
            ProcessLimits { output_bytes: 100_000, ..ProcessLimits::DEFAULT },
            LimitKind::Output,
        ),
        (
            "for i in 1 2 3 4 5 6 7 8; do head -c 4000000 /dev/zero > f$i; done; sleep 20",
            ProcessLimits { disk_bytes: 8 << 20, ..ProcessLimits::DEFAULT },
            LimitKind::Disk,
        ),
    ];
    for backend in backends() {
        for (text, limits, limit) in &cases {
            let dir = tempfile::tempdir().expect("a directory");
            let mut spec = script(dir.path(), text);
            spec.limits = *limits;
            let began = Instant::now();
            let told = run(&*backend, spec).await;
            assert_eq!(
                told.ending,
                ProcessExit::Killed { limit: *limit },
                "{} {text}",
                backend.backend_name()
            );
            assert!(told.out.len() as u64 <= limits.output_bytes);
            assert!(began.elapsed() < Duration::from_secs(8), "{} {text}", backend.backend_name());
        }
    }
}

#[tokio::test]
async fn an_unread_output_makes_the_process_wait() {
    for backend in backends() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut process = backend
            .start_process(script(dir.path(), "head -c 1000000 /dev/zero; echo done > done; sleep 20"))
            .await
            .expect("it starts");
        assert!(matches!(process.next().await, Some(ProcessEvent::Output { .. })));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!dir.path().join("done").exists(), "{}", backend.backend_name());
    }
}

#[tokio::test]
async fn a_stopped_or_dropped_process_ends_with_its_children() {
    for backend in backends() {
        for is_dropped in [false, true] {
            let dir = tempfile::tempdir().expect("a directory");
            let text = "setsid sh -c 'sleep 1; echo x > late' & echo here; sleep 20";
            let mut process = backend.start_process(script(dir.path(), text)).await.expect("it starts");
            assert!(matches!(process.next().await, Some(ProcessEvent::Output { .. })));
            if is_dropped {
                drop(process);
            } else {
                process.stop();
                let mut last = None;
                while let Some(event) = process.next().await {
                    last = Some(event);
                }
                assert_eq!(
                    last,
                    Some(ProcessEvent::Ended(ProcessExit::Stopped)),
                    "{}",
                    backend.backend_name()
                );
            }
            tokio::time::sleep(Duration::from_millis(1_700)).await;
            assert!(!dir.path().join("late").exists(), "{} left a process behind", backend.backend_name());
        }
    }
}

#[tokio::test]
async fn closing_its_outputs_is_not_its_end() {
    for backend in backends() {
        let dir = tempfile::tempdir().expect("a directory");
        let told = run(&*backend, script(dir.path(), "exec >&- 2>&-; sleep 0.3; echo x > end; exit 3")).await;
        assert_eq!(told.ending, ProcessExit::Exited { code: 3 }, "{}", backend.backend_name());
        assert!(dir.path().join("end").exists());
    }
}

#[tokio::test]
async fn an_unstartable_program_is_reported_and_a_bad_spec_refused() {
    for backend in backends() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spec = script(dir.path(), "");
        spec.argv = vec!["/no/such/program".to_owned()];
        let told = run(&*backend, spec).await;
        let said = format!("{told:?}");
        assert!(said.contains("/no/such/program"), "{} {said}", backend.backend_name());
        assert_ne!(told.ending, ProcessExit::Exited { code: 0 });

        let mut spec = script(dir.path(), "true");
        spec.workspace = dir.path().join("absent");
        let refused = backend.start_process(spec).await.map(drop);
        assert!(matches!(refused, Err(SandboxError::Spec { place: "workspace", .. })), "{refused:?}");
    }
}

/// The processes that this one has started and not buried.
fn children() -> Vec<u32> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("it is told").flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

async fn children_until(what: &str, are: impl Fn(&[u32]) -> bool) -> Vec<u32> {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let found = children();
        if are(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: {found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_ready_helper_takes_the_next_program() {
    let dir = tempfile::tempdir().expect("a directory");
    for kind in [BackendKind::Strict, BackendKind::Base] {
        let backend = probe::probe_one(&machine(None), kind).state.expect("it works");
        children_until("nothing waits before the first program", <[u32]>::is_empty).await;
        let told = run(&*backend, script(dir.path(), "echo one")).await;
        assert_eq!(told.out, "one\n", "{told:?}");
        let ready = children_until("one waits", |found| found.len() == 1).await;
        let told = run(&*backend, script(dir.path(), "echo two")).await;
        assert_eq!(told.out, "two\n", "{told:?}");
        let next = children_until("another one waits", |found| found.len() == 1 && found != ready).await;
        // One that died while it waited is no loss.
        let status = std::process::Command::new("kill").args(["-KILL", &next[0].to_string()]).status();
        assert!(status.expect("it runs").success());
        children_until("it is gone", |found| !is_alive(found, next[0])).await;
        let told = run(&*backend, script(dir.path(), "echo three")).await;
        assert_eq!(told.out, "three\n", "{told:?}");
        drop(backend);
        children_until("nobody is left", <[u32]>::is_empty).await;
    }
}

/// Tells whether one of these is still there, and no corpse.
fn is_alive(found: &[u32], id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    found.contains(&id) && stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Runs a script of perl, which is on every Debian, with little memory and disk; says how it ended.
async fn ended(backend: &dyn SandboxBackend, text: &str) -> ProcessExit {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spec = script(dir.path(), "");
    spec.argv = ["/usr/bin/perl", "-e", text].map(str::to_owned).into();
    spec.limits = ProcessLimits {
        memory_bytes: 128 << 20,
        disk_bytes: 8 << 20,
        wall_ms: 20_000,
        ..ProcessLimits::DEFAULT
    };
    run(backend, spec).await.ending
}

/// What a program takes that neither its workspace nor the memory of its processes shows; each first a little of it.
#[tokio::test]
async fn unnamed_files_and_socket_buffers_are_bounded() {
    let nameless = |count: u32, how: &str| {
        format!(
            r#"for (1 .. {count}) {{ open(my $f, "+>", "f$_"); unlink("f$_"); syswrite($f, "x" x 2_000_000); {how} }} sleep 3"#
        )
    };
    let sockets = |count: u32| {
        format!(
            r#"use Socket; for (1 .. {count}) {{
                socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die; push @held, $a, $b;
                for ($a, $b) {{ $_->blocking(0); 1 while syswrite($_, "x" x 65536); }} }} sleep 3"#
        )
    };
    for backend in backends() {
        let name = backend.backend_name();
        for (little, much, limit) in [
            (nameless(2, "push @held, $f;"), nameless(8, "push @held, $f;"), LimitKind::Disk),
            // Threads have descriptors of their own if they want to, and so have children.
            (
                nameless(2, "fork or do { sleep 9; exit };"),
                nameless(8, "fork or do { sleep 9; exit };"),
                LimitKind::Disk,
            ),
            (sockets(8), sockets(400), LimitKind::Memory),
        ] {
            assert_eq!(ended(&*backend, &little).await, ProcessExit::Exited { code: 0 }, "{name}: {little}");
            assert_eq!(ended(&*backend, &much).await, ProcessExit::Killed { limit }, "{name}: {much}");
        }
    }
}
