//! What a program reads of its mounts: nothing of where this machine keeps its workspace.
//!
//! `/proc/PID/mountinfo` names for each mount the path that it has in the file system it came from, so a workspace that is
//! bound tells where its agent's home lies. Here its directory has a name that occurs nowhere else.

use std::path::Path;

use dromia_contracts::sandbox::{ProcessExit, SandboxBackend};
use dromia_sandbox::{BubblewrapSandbox, NativeLevel, NativeSandbox};

use crate::support::{backends, gvisor, helper, helper_by_path, run, script};

/// A part of the workspace's path that nothing else has.
const NAME: &str = "where-this-agent-lives";

/// Reads everything that tells of mounts, of every process that can be seen.
const READ: &str = "cat /proc/[0-9]*/mountinfo /proc/[0-9]*/mounts /proc/[0-9]*/mountstats \
                    /proc/[0-9]*/task/*/mountinfo 2>/dev/null; readlink /proc/self/root /proc/self/cwd; cat own";

/// Tells what a program reads of its mounts, in a workspace whose path has [`NAME`] in it.
async fn mounts_read(backend: &dyn SandboxBackend) -> String {
    let scratch = tempfile::tempdir().expect("a directory");
    let workspace = scratch.path().join(NAME).join("workspace");
    std::fs::create_dir_all(&workspace).expect("a directory");
    std::fs::create_dir(workspace.join(".vscode")).expect("a directory that gets a guard");
    std::fs::write(workspace.join("own"), "its own file").expect("written");
    let ended = run(backend, script(&workspace, READ)).await;
    assert_eq!(ended.ending, ProcessExit::Exited { code: 0 }, "{ended:?}");
    assert!(ended.out.contains("its own file"), "the program is in its workspace: {ended:?}");
    ended.out
}

#[tokio::test]
async fn mounts_do_not_tell_where_a_workspace_lies() {
    for backend in backends().iter().filter(|backend| backend.backend_name() != "native/base") {
        let read = mounts_read(&**backend).await;
        assert!(!read.contains(NAME), "{}: {read}", backend.backend_name());
    }
}

#[tokio::test]
async fn mounts_of_a_guest_hide_the_workspace_path() {
    let read = mounts_read(&gvisor(helper())).await;
    assert!(!read.contains(NAME), "{read}");
}

#[tokio::test]
async fn a_root_among_the_mounts_of_its_namespace_is_caught() {
    let strict = NativeSandbox::new(helper_by_path().to_owned(), NativeLevel::Strict, Vec::new());
    let bubblewrap = BubblewrapSandbox::new(
        helper_by_path().to_owned(),
        Path::new("/usr/bin/bwrap").to_owned(),
        Vec::new(),
    );
    for backend in [&strict as &dyn SandboxBackend, &bubblewrap] {
        let read = mounts_read(backend).await;
        assert!(read.contains(NAME), "{}: {read}", backend.backend_name());
    }
}
