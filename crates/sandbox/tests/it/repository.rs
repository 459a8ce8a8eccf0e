//! Real `git` in a workspace: what an agent does every day works behind walls, and what a person's `git` outside would take
//! programs from stays as it is.

use std::path::Path;
use std::process::{Command, Output};

use dromia_contracts::sandbox::{ProcessExit, ProcessLimits, SandboxBackend};
use dromia_sandbox::{NativeLevel, NativeSandbox};

use crate::support::{backends, helper_by_path, run, script};

const LIMITS: ProcessLimits = ProcessLimits { wall_ms: 60_000, ..ProcessLimits::DEFAULT };

/// The work of a day. Each line must succeed.
const DAY: &str = r"
set -e
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.com
git status --short
echo one > one; git add one; git commit -qm one
git branch side; git checkout -q side; echo two > two; git add two; git commit -qm two
git checkout -q main; echo three > three; git add three; git commit -qm three
git merge -q --no-edit side
git checkout -q -b other HEAD~1; echo four > four; git add four; git commit -qm four; git rebase -q main
echo five >> one; git stash -q; git stash pop -q; git commit -qam five
echo six >> one; git commit -qm six one
git cherry-pick --no-commit side >/dev/null 2>&1 || true; git reset -q --hard
git tag -a -m t v1
git clone -q . ../tmp/other; git fetch -q ../tmp/other other:fetched
git pull -q --no-rebase ../tmp/other other
git checkout -q main; git reset -q --hard side; git branch -D other >/dev/null
git gc -q; git repack -qad; git fsck --no-progress
git worktree list >/dev/null; git log --oneline --all >/dev/null; git diff --stat HEAD~1 >/dev/null
git rev-parse HEAD
";

fn git(directory: &Path, arguments: &[&str]) -> Output {
    Command::new("git")
        .args(arguments)
        .current_dir(directory)
        .env("HOME", directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("git is installed: apt-get install git")
}

/// A workspace with a repository of one commit, as a person makes one.
fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for arguments in [
        &["init", "-q", "-b", "main"][..],
        &["config", "user.name", "p"],
        &["config", "user.email", "p@example.com"],
        &["commit", "-q", "--allow-empty", "-m", "first"],
    ] {
        let done = git(dir.path(), arguments);
        assert!(done.status.success(), "{arguments:?}: {done:?}");
    }
    dir
}

/// Backends whose programs have a file system of their own.
fn with_guards() -> impl Iterator<Item = std::sync::Arc<dyn SandboxBackend>> {
    backends().into_iter().filter(|backend| backend.backend_name() != "native/base")
}

#[tokio::test]
async fn a_days_work_with_git_succeeds_inside_isolation() {
    for backend in with_guards() {
        let dir = repository();
        let mut spec = script(dir.path(), &DAY.replace("../tmp", "/tmp"));
        spec.limits = LIMITS;
        let told = run(&*backend, spec).await;
        assert_eq!(told.ending, ProcessExit::Exited { code: 0 }, "{}: {told:?}", backend.backend_name());
        // A person goes on with it outside.
        let head = git(dir.path(), &["rev-parse", "HEAD"]);
        assert!(
            head.status.success() && told.out.ends_with(&*String::from_utf8_lossy(&head.stdout)),
            "{told:?}"
        );
        let more: [&[&str]; 6] = [
            &["status", "--short"],
            &["commit", "-q", "--allow-empty", "-m", "outside"],
            &["worktree", "add", "-q", "-b", "tree", "elsewhere"],
            &["worktree", "remove", "elsewhere"],
            &["gc", "-q"],
            &["config", "core.abbrev", "12"],
        ];
        for arguments in more {
            let done = git(dir.path(), arguments);
            assert!(done.status.success(), "{arguments:?}: {done:?}");
        }
    }
}

/// Each way in which a program gives a person's `git` a configuration of its own.
const PLANTS: [&str; 8] = [
    // Another directory as the one that has the configuration.
    "mkdir -p evil; cp -r .git/objects .git/refs evil; printf '[core]\n\tfsmonitor = touch ran #\n' > evil/config; printf '../evil\n' > .git/commondir",
    "mkdir -p evil; cp -r .git/objects .git/refs evil; printf '[core]\n\tfsmonitor = touch ran #\n' > evil/config; printf '../evil\n' > new; mv new .git/commondir",
    "rm -f .git/commondir; mkdir -p evil; cp -r .git/objects .git/refs evil; printf '[core]\n\tfsmonitor = touch ran #\n' > evil/config; ln -s ../planted .git/commondir; echo ../evil > planted",
    "git config core.fsmonitor 'touch ran #'",
    "printf '[core]\n\tfsmonitor = touch ran #\n[extensions]\n\tworktreeConfig = true\n' >> .git/config",
    "mkdir -p .git/hooks; printf '#!/bin/sh\ntouch ran\n' > .git/hooks/post-index-change; chmod +x .git/hooks/post-index-change",
    "mv .git real; cp -r real .git; printf '[core]\n\tfsmonitor = touch ran #\n' >> .git/config",
    "printf '[core]\n\tfsmonitor = touch ran #\n' > .git/config.worktree; mkdir -p .git/worktrees/x .git/modules/x; echo x > .git/info/attributes",
];

fn ran(workspace: &Path) -> bool {
    let done = git(workspace, &["status", "--short"]);
    git(workspace, &["update-index", "--refresh"]);
    assert!(done.status.success(), "a person's git still works: {done:?}");
    workspace.join("ran").exists()
}

#[tokio::test]
async fn git_outside_takes_no_configuration_that_a_program_planted() {
    // Without walls, the first of them works.
    let dir = repository();
    let planted = Command::new("/bin/sh").args(["-c", PLANTS[0]]).current_dir(dir.path()).status();
    assert!(planted.expect("it runs").success() && ran(dir.path()), "the attack is none");
    for backend in with_guards() {
        for plant in PLANTS {
            let dir = repository();
            let mut spec = script(dir.path(), plant);
            spec.limits = LIMITS;
            let told = run(&*backend, spec).await;
            assert!(matches!(told.ending, ProcessExit::Exited { .. }), "{told:?}");
            assert!(!ran(dir.path()), "{}: {plant}: {told:?}", backend.backend_name());
        }
    }
}

/// The fault: nothing is put where a repository lacks what `git` would take a configuration from.
#[tokio::test]
async fn a_repository_that_is_not_filled_is_caught() {
    let backend = NativeSandbox::new(helper_by_path().to_owned(), NativeLevel::Strict, Vec::new());
    let dir = repository();
    let mut spec = script(dir.path(), PLANTS[0]);
    spec.limits = LIMITS;
    let told = run(&backend, spec).await;
    assert!(ran(dir.path()), "{told:?}");
}

/// Two programs, one after the other: what the first one makes where no repository was is free, and guarded from the next on.
#[tokio::test]
async fn a_repository_made_by_a_program_is_guarded_afterwards() {
    for backend in with_guards() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = run(&*backend, script(dir.path(), "git init -q . && git config core.abbrev 9")).await;
        assert_eq!(made.ending, ProcessExit::Exited { code: 0 }, "{made:?}");
        let next = run(
            &*backend,
            script(dir.path(), "git config core.abbrev 10; echo ../x > .git/commondir; cat .git/config"),
        )
        .await;
        assert!(next.out.contains("abbrev = 9"), "{next:?}");
        assert_eq!(std::fs::read_to_string(dir.path().join(".git/commondir")).expect("it is there"), ".\n");
    }
}
