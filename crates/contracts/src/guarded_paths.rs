//! What of a workspace an agent does not change, because programs outside would execute it: the one list.
//!
//! Sandboxed programs and file tools go by it. It names paths in a directory of a workspace and looks at none of them:
//! the code that holds a handle of a name sees whether it is a link, a file or nothing.
//!
//! Of a repository it says what may be changed, and all else is guarded: `git` takes the configuration of whatever
//! `commondir` names, and programs from configuration, hooks and attributes.

use std::ffi::OsStr;
use std::path::{Component, Path};

/// The repository at the top of a workspace.
pub const REPOSITORY: &str = ".git";

/// Directories that stay where they are, and what of them is guarded.
pub const DIRECTORIES: [(&str, &[&str]); 2] =
    [(".vscode", &["settings.json", "tasks.json", "launch.json"]), (".dromia", &["tools", "config"])];

/// What programs outside read and execute, as a whole; `.husky` has the hooks of a package's repository.
pub const FILES: [&str; 9] = [
    ".bashrc",
    ".bash_profile",
    ".profile",
    ".zshrc",
    ".zshenv",
    ".envrc",
    ".gitconfig",
    ".mcp.json",
    ".husky",
];

/// What of a repository `git` changes in its daily work, and nothing executes.
const REPOSITORY_WORK: [&str; 32] = [
    "objects",
    "refs",
    "logs",
    "index",
    "HEAD",
    "packed-refs",
    "shallow",
    "ORIG_HEAD",
    "FETCH_HEAD",
    "MERGE_HEAD",
    "MERGE_MSG",
    "MERGE_MODE",
    "MERGE_RR",
    "MERGE_AUTOSTASH",
    "AUTO_MERGE",
    "SQUASH_MSG",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "REBASE_HEAD",
    "COMMIT_EDITMSG",
    "TAG_EDITMSG",
    "BISECT_LOG",
    "BISECT_NAMES",
    "BISECT_START",
    "BISECT_TERMS",
    "BISECT_EXPECTED_REV",
    "rebase-merge",
    "rebase-apply",
    "sequencer",
    "rr-cache",
    "gc.pid",
    "gc.log",
];

/// How names begin that `git` makes for a moment, or of an index in parts.
const REPOSITORY_WORK_BEGINNINGS: [&str; 3] = ["index.stash.", "next-index-", "sharedindex."];

/// The ending of a file that becomes the one without it.
const LOCK: &str = ".lock";

/// What the helper creates for a guarded name that a repository lacks, so that the guard has something to cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingGuard {
    /// An empty directory.
    Directory,
    /// A file with this content, which changes nothing.
    File(&'static str),
}

/// What `git` takes configuration and programs from. Each is there while a program runs.
pub const REPOSITORY_GUARDED: [(&str, MissingGuard); 9] = [
    // A repository whose parts lie in another directory: here, in itself.
    ("commondir", MissingGuard::File(".\n")),
    ("config", MissingGuard::File("")),
    ("config.worktree", MissingGuard::File("")),
    ("hooks", MissingGuard::Directory),
    ("info", MissingGuard::Directory),
    ("modules", MissingGuard::Directory),
    ("worktrees", MissingGuard::Directory),
    ("branches", MissingGuard::Directory),
    ("remotes", MissingGuard::Directory),
];

/// Returns whether a name in a repository is what `git` changes in its daily work.
pub fn is_repository_work(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let name = name.strip_suffix(LOCK).unwrap_or(name);
    REPOSITORY_WORK.contains(&name)
        || REPOSITORY_WORK_BEGINNINGS.iter().any(|begins| name.starts_with(begins))
}

/// Returns whether something at a path below a workspace is guarded: no file comes, changes or goes there. A name is guarded
/// at every depth, because a directory of an operator's has repositories and packages below its top.
pub fn is_guarded(path: &Path) -> bool {
    let mut names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let mut begins = std::iter::from_fn(|| {
        let below = names.clone();
        names.next().map(|_| below)
    });
    begins.any(is_guarded_from)
}

/// Returns whether a guard on this name is one on all that is below it.
pub fn is_guarded_whole(name: &OsStr) -> bool {
    name == REPOSITORY || FILES.iter().any(|file| name == *file)
}

/// Returns whether a path is guarded that begins with a name of the list.
fn is_guarded_from<'a>(mut names: impl Iterator<Item = &'a OsStr>) -> bool {
    let Some(first) = names.next() else { return false };
    let second = names.next();
    if first == REPOSITORY {
        return second.is_none_or(|name| !is_repository_work(name));
    }
    if let Some((_, guarded)) = DIRECTORIES.iter().find(|(directory, _)| first == *directory) {
        return second.is_none_or(|name| guarded.iter().any(|guarded| name == *guarded));
    }
    FILES.iter().any(|file| first == *file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_guarded_except_what_git_works_with() {
        for free in [
            ".git/objects/ab/cd",
            ".git/refs/heads/x",
            ".git/index",
            ".git/index.lock",
            ".git/HEAD",
            ".git/packed-refs.lock",
            ".git/next-index-12.lock",
            ".git/rebase-merge/done",
            ".vscode/extensions.json",
            "sub/.git/objects/ab/cd",
            "sub/.git/HEAD",
            "app/.vscode/extensions.json",
            "sub/git/config",
            "config",
            "",
        ] {
            assert!(!is_guarded(Path::new(free)), "{free}");
        }
        for guarded in [
            ".git",
            "./.git/",
            ".git/commondir",
            ".git/config",
            ".git/config.lock",
            ".git/config.worktree",
            ".git/hooks/pre-commit",
            ".git/info/attributes",
            ".git/modules/x/config",
            ".git/worktrees/x/commondir",
            ".git/anything",
            ".vscode",
            ".vscode/tasks.json",
            ".dromia/tools/x",
            ".envrc",
            ".bashrc",
            ".husky/pre-commit",
            "sub/.git",
            "sub/.git/config",
            "a/b/c/.git/hooks/pre-commit",
            "app/.vscode/tasks.json",
            "package/.husky/_/husky.sh",
            ".vscode/x/.envrc",
        ] {
            assert!(is_guarded(Path::new(guarded)), "{guarded}");
        }
        assert!(REPOSITORY_GUARDED.iter().all(|(name, _)| !is_repository_work(OsStr::new(name))));
    }
}
