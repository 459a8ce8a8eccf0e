//! Workspaces that are directories of the operator's: exactly the directory that was meant is shown, for reading only where
//! that is said, and backends that cannot see to it start nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use dromia_contracts::sandbox::{
    ProcessExit, ProcessSpec, ReferencedDirectory, SandboxBackend, SandboxError,
};

use crate::support::{backends, gvisor, helper, run, script};

/// A script in a directory that is meant.
fn referenced(workspace: &Path, meant: &Path, read_only: bool, text: &str) -> ProcessSpec {
    let found = meant.metadata().expect("it is there");
    let reference = ReferencedDirectory { device: found.dev(), inode: found.ino(), read_only };
    ProcessSpec { reference: Some(reference), ..script(workspace, text) }
}

async fn check_backend(backend: &dyn SandboxBackend) {
    let name = backend.backend_name();
    let dir = tempfile::tempdir().expect("a directory");
    let (site, other) = (dir.path().join("site"), dir.path().join("other"));
    for place in [&site, &other] {
        std::fs::create_dir_all(place.join(".git/hooks")).expect("made");
    }
    std::fs::write(site.join("page"), "hello\n").expect("written");
    let text = "cat page; echo x > new; echo x > .git/hooks/pre-commit; echo over";
    let ended = run(backend, referenced(&site, &site, true, text)).await;
    assert!(ended.out.contains("hello\n") && ended.out.contains("over"), "{name}: {ended:?}");
    assert!(!site.join("new").exists(), "{name} changes what is only read");
    let ended = run(backend, referenced(&site, &site, false, text)).await;
    assert!(ended.out.contains("over") && site.join("new").exists(), "{name}: {ended:?}");
    assert!(!site.join(".git/hooks/pre-commit").exists(), "{name} guards no hook");
    // Another directory lies at the path by the time that it is mounted.
    let swapped = referenced(&other, &site, false, "echo ran; echo x > new");
    match backend.start_process(swapped).await {
        Ok(process) => {
            let ended = crate::support::told(process).await;
            assert!(!ended.out.contains("ran"), "{name}: {ended:?}");
            assert_ne!(ended.ending, ProcessExit::Exited { code: 0 }, "{name}: {ended:?}");
        }
        Err(problem) => assert!(!problem.to_string().is_empty()),
    }
    assert!(!other.join("new").exists(), "{name} shows another directory than was meant");
}

#[tokio::test]
async fn a_backend_shows_only_the_directory_that_is_meant() {
    for backend in backends() {
        if backend.backend_name() != "native/base" {
            check_backend(&*backend).await;
        }
    }
}

#[tokio::test]
async fn a_guest_shows_only_the_directory_that_is_meant() {
    check_backend(&gvisor(helper())).await;
}

/// What a person has below the top, and its content: what programs outside execute.
const EXECUTED: [(&str, &str); 6] = [
    ("sub/.git/config", "[core]\n"),
    ("sub/.git/hooks/pre-commit", "mine\n"),
    ("deep/er/still/.git/config", "[core]\n"),
    ("app/.vscode/tasks.json", "{}\n"),
    ("package/.husky/pre-commit", "mine\n"),
    ("package/.envrc", "mine\n"),
];

/// Changes each of them by each way that there is, and what is not guarded.
const ATTACKS: &str = "for f in sub/.git/config sub/.git/hooks/pre-commit deep/er/still/.git/config \
    app/.vscode/tasks.json package/.husky/pre-commit package/.envrc; do \
    d=$(dirname $f); top=${f%%/*}; cp -r $top copy; echo evil > copy/${f#*/}; \
    echo evil > $f; rm -f $f; echo evil > new; mv new $f; ln -sf /tmp $f; \
    mv $d $d.away && mkdir $d && echo evil > $f; mv $top away && mv copy $top; rm -rf copy; done; \
    mv deep/er deep/away; mkdir -p deep/er/still/.git; echo evil > deep/er/still/.git/config; \
    echo x > sub/free && echo x > sub/.git/index && echo x > deep/er/free && mkdir other && \
    mkdir -p made/.git && echo evil > made/.git/config && echo over";

/// Lets a program attack what lies below the top of a directory; says what it changed.
async fn attack_below_the_top(backend: &dyn SandboxBackend, is_referenced: bool) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a directory");
    let site = dir.path().join("site");
    for (path, content) in EXECUTED {
        let path = site.join(path);
        std::fs::create_dir_all(path.parent().expect("it is below")).expect("made");
        std::fs::write(path, content).expect("written");
    }
    let mut spec = referenced(&site, &site, false, ATTACKS);
    spec.reference = spec.reference.filter(|_| is_referenced);
    let ended = run(backend, spec).await;
    assert!(ended.out.contains("over"), "{}: what is free can be changed: {ended:?}", backend.backend_name());
    for (path, content) in EXECUTED {
        let found = std::fs::read_to_string(site.join(path)).unwrap_or_default();
        if found != content {
            return Err(format!("{}: {path} became {found:?}", backend.backend_name()));
        }
    }
    // What came about during the first program is guarded from the next one on.
    let made = site.join("made/.git/config");
    std::fs::write(&made, "").expect("written");
    let text = "echo evil > made/.git/config; mkdir made/.git/hooks; mv made away; echo over";
    let ended = run(backend, referenced(&site, &site, false, text)).await;
    assert!(ended.out.contains("over"), "{ended:?}");
    assert_eq!(std::fs::read_to_string(made).expect("it is there"), "", "{}", backend.backend_name());
    Ok(())
}

#[tokio::test]
async fn nested_names_of_a_referenced_directory_are_guarded() {
    for backend in backends() {
        if backend.backend_name() != "native/base" {
            assert_eq!(attack_below_the_top(&*backend, true).await, Ok(()));
        }
    }
}

#[tokio::test]
async fn nested_names_are_guarded_from_a_guest() {
    assert_eq!(attack_below_the_top(&gvisor(helper()), true).await, Ok(()));
}

#[tokio::test]
async fn a_backend_that_guards_the_top_only_is_caught() {
    for backend in backends() {
        let changed = attack_below_the_top(&*backend, false).await;
        assert!(changed.is_err(), "{}: the attack is none", backend.backend_name());
    }
}

#[tokio::test]
async fn a_directory_too_deep_to_look_through_starts_nothing() {
    for backend in backends() {
        if backend.backend_name() == "native/base" {
            continue;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let deep = vec!["d"; 65].join("/");
        std::fs::create_dir_all(dir.path().join(deep)).expect("made");
        let spec = referenced(dir.path(), dir.path(), false, "echo ran; echo x > new");
        match backend.start_process(spec).await {
            Ok(process) => {
                let ended = crate::support::told(process).await;
                assert!(!ended.out.contains("ran"), "{}: {ended:?}", backend.backend_name());
            }
            Err(problem) => {
                let problem = problem.to_string();
                assert!(problem.contains("more than 64 levels") && problem.contains("DIR:ro"), "{problem}");
            }
        }
        assert!(!dir.path().join("new").exists());
        let spec = referenced(dir.path(), dir.path(), true, "echo ran");
        assert!(run(&*backend, spec).await.out.contains("ran"), "for reading only it is shown");
    }
}

#[tokio::test]
async fn a_backend_without_guards_starts_nothing_in_a_referenced_directory() {
    let backends = backends();
    let base =
        backends.iter().find(|backend| backend.backend_name() == "native/base").expect("it works here");
    let dir = tempfile::tempdir().expect("a directory");
    let refused = base.start_process(referenced(dir.path(), dir.path(), false, "true")).await;
    let problem = refused.map(drop).expect_err("it starts nothing");
    assert!(matches!(problem, SandboxError::Unavailable { .. }), "{problem}");
    assert!(problem.to_string().contains("workspace="), "{problem}");
}
