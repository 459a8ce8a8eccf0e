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
