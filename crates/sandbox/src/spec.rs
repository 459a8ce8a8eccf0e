//! What makes a spec fit to be carried out, the same for every backend.

use std::path::{Component, Path, PathBuf};

use dromia_contracts::sandbox::{ProcessSpec, SandboxError};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::door;

/// The longest list of arguments and the longest environment, in bytes; the system takes more.
const WORDS_BYTES_MAX: usize = 1 << 20;

/// The most mounts.
const MOUNTS_MAX: usize = 64;

/// Names that the backends set, and names by which a variable would reach into every program that is started.
const ENV_RESERVED: [&str; 7] =
    ["PATH", "HOME", "LANG", "TMPDIR", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT"];

/// Where the workspace lies for backends with a file system of their own.
pub(crate) const WORKSPACE: &str = "/workspace";

/// Directories of a file system of its own that a mount may not cover.
const OWN: [&str; 10] =
    ["/proc", "/dev", "/etc", "/tmp", "/usr", "/bin", "/sbin", "/lib", "/lib64", WORKSPACE];

/// Says what is wrong with a spec, if anything is.
pub(crate) fn check(spec: &ProcessSpec) -> Result<(), SandboxError> {
    let refused = |place, problem: &str| Err(SandboxError::Spec { place, problem: problem.to_owned() });
    if spec.argv.first().is_none_or(String::is_empty) {
        return refused("argv", "there is no program to run");
    }
    let words = spec.argv.iter().chain(spec.env.iter().flat_map(|(name, value)| [name, value]));
    if words.clone().any(|word| word.contains('\0')) {
        return refused("argv", "a word holds a NUL byte");
    }
    if words.map(String::len).sum::<usize>() > WORDS_BYTES_MAX {
        return refused("argv", "arguments and environment have more than a mebibyte");
    }
    for (name, _) in &spec.env {
        if name.is_empty() || name.contains('=') {
            return refused("env", "a name is empty or holds an equals sign");
        }
        if ENV_RESERVED.contains(&name.as_str()) {
            return refused("env", "PATH, HOME, LANG, TMPDIR and LD_* are set by the sandbox");
        }
    }
    if !is_plain(&spec.workspace) {
        return refused("workspace", "it is no absolute path without `.` and `..`");
    }
    if spec.cwd.components().any(|part| !matches!(part, Component::Normal(_))) {
        return refused("cwd", "it leaves the workspace");
    }
    if spec.mounts.len() > MOUNTS_MAX {
        return refused("mounts", "there are more than 64");
    }
    for mount in &spec.mounts {
        if !is_plain(&mount.source) || !is_plain(&mount.target) {
            return refused("mounts", "a path is not absolute or holds `.` or `..`");
        }
        if mount.target == Path::new("/") || OWN.iter().any(|own| mount.target.starts_with(own)) {
            return refused("mounts", "a target would cover what the sandbox itself has there");
        }
    }
    let limits = &spec.limits;
    if [limits.cpu_ms, limits.memory_bytes, limits.wall_ms, limits.output_bytes, limits.disk_bytes]
        .contains(&0)
        || limits.processes == 0
    {
        return refused("limits", "a limit is zero");
    }
    Ok(())
}

/// Resolves the paths of this machine, so that no link is left in them, and says which is not there.
pub(crate) fn resolve(mut spec: ProcessSpec) -> Result<ProcessSpec, SandboxError> {
    let real = |place, path: &Path| {
        let refused = |problem: std::io::Error| {
            let problem = format!("{}: {problem}", path.display());
            SandboxError::Spec { place, problem }
        };
        path.canonicalize().map_err(refused)
    };
    spec.workspace = real("workspace", &spec.workspace)?;
    if !spec.workspace.is_dir() {
        let problem = format!("{} is no directory", spec.workspace.display());
        return Err(SandboxError::Spec { place: "workspace", problem });
    }
    for mount in &mut spec.mounts {
        mount.source = real("mounts", &mount.source)?;
    }
    make_hooks(&spec.workspace).map_err(|problem| {
        let problem = format!("its directory for hooks cannot be made: {problem}");
        SandboxError::Spec { place: "workspace", problem }
    })?;
    Ok(spec)
}

/// Makes the directory for hooks in a repository that has none: what is not there cannot be kept from being made.
fn make_hooks(workspace: &Path) -> rustix::io::Result<()> {
    const DIRECTORY: OFlags =
        OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let workspace = rustix::fs::openat(CWD, workspace, DIRECTORY, Mode::empty())?;
    let repository = match rustix::fs::openat(&workspace, ".git", DIRECTORY, Mode::empty()) {
        Ok(repository) => repository,
        // There is none, or it is a file or a link, which is seen to elsewhere.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(problem) => return Err(problem),
    };
    match rustix::fs::mkdirat(&repository, "hooks", Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(problem) => Err(problem),
    }
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

/// The whole environment of a process whose workspace lies at `workspace`.
pub(crate) fn environment(spec: &ProcessSpec, workspace: &Path, temporary: &str) -> Vec<(String, String)> {
    let mut all = vec![
        ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin".to_owned()),
        ("HOME".to_owned(), workspace.to_string_lossy().into_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("TMPDIR".to_owned(), temporary.to_owned()),
    ];
    all.extend(spec.env.iter().cloned());
    all.extend(door::variables(spec.network));
    all
}

/// What of a workspace a process may not change, because programs outside would execute it, and the directories
/// that hold it: those cannot be moved away, so that nothing else takes their place.
pub(crate) const GUARDED: [(&str, &[&str]); 3] = [
    (".git", &["hooks", "config", "config.worktree", "info/attributes"]),
    (".vscode", &["settings.json", "tasks.json", "launch.json"]),
    (".dromia", &["tools", "config"]),
];

/// Files at the top of a workspace that programs outside read and execute.
pub(crate) const GUARDED_TOP: [&str; 8] =
    [".bashrc", ".bash_profile", ".profile", ".zshrc", ".zshenv", ".envrc", ".gitconfig", ".mcp.json"];

/// Lists what of this workspace is there to be guarded: directories that stay where they are, and what nobody changes.
pub(crate) fn guarded(workspace: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    // A link is not followed: what lies behind it is outside of the workspace, where nothing can be changed anyway.
    let is_there = |path: &Path| path.symlink_metadata().is_ok_and(|found| !found.is_symlink());
    let (mut fixed, mut frozen) = (Vec::new(), Vec::new());
    for (directory, names) in GUARDED {
        if !is_there(&workspace.join(directory)) {
            continue;
        }
        if workspace.join(directory).is_file() {
            // A file in its place names another directory, which must not change either.
            frozen.push(PathBuf::from(directory));
            continue;
        }
        fixed.push(PathBuf::from(directory));
        frozen.extend(names.iter().map(|name| Path::new(directory).join(name)));
    }
    frozen.extend(GUARDED_TOP.map(PathBuf::from));
    frozen.retain(|path| is_there(&workspace.join(path)));
    (fixed, frozen)
}

#[cfg(test)]
mod tests {
    use dromia_contracts::sandbox::{Limits, Mount, Network};

    use super::*;

    fn sound() -> ProcessSpec {
        ProcessSpec {
            argv: vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()],
            env: vec![("A".to_owned(), "1".to_owned())],
            workspace: PathBuf::from("/srv/w"),
            cwd: PathBuf::from("a/b"),
            mounts: vec![Mount { source: "/srv/m".into(), target: "/opt/m".into(), writable: false }],
            limits: Limits::DEFAULT,
            network: Network::None,
            family: None,
        }
    }

    /// A spoiled spec and the part of it that is named.
    type Spoiled = (fn(&mut ProcessSpec), &'static str);

    #[test]
    fn a_sound_spec_is_taken_and_a_spoiled_one_is_refused_with_its_place() {
        check(&sound()).expect("it is sound");
        let spoiled: [Spoiled; 12] = [
            (|spec| spec.argv.clear(), "argv"),
            (|spec| spec.argv[0].clear(), "argv"),
            (|spec| spec.argv[1].push('\0'), "argv"),
            (|spec| spec.argv[1] = "x".repeat(WORDS_BYTES_MAX), "argv"),
            (|spec| spec.env[0].0 = "LD_PRELOAD".to_owned(), "env"),
            (|spec| spec.env[0].0 = "A=B".to_owned(), "env"),
            (|spec| spec.workspace = "w".into(), "workspace"),
            (|spec| spec.workspace = "/srv/../etc".into(), "workspace"),
            (|spec| spec.cwd = "../x".into(), "cwd"),
            (|spec| spec.mounts[0].target = "/usr/bin".into(), "mounts"),
            (|spec| spec.mounts[0].target = "/".into(), "mounts"),
            (|spec| spec.limits.processes = 0, "limits"),
        ];
        for (spoil, part) in spoiled {
            let mut spec = sound();
            spoil(&mut spec);
            match check(&spec) {
                Err(SandboxError::Spec { place, .. }) => assert_eq!(place, part),
                other => panic!("{spec:?} was answered with {other:?}"),
            }
        }
    }
    #[test]
    fn a_repository_without_hooks_gets_the_place_for_them_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("a directory");
        make_hooks(dir.path()).expect("there is no repository");
        std::os::unix::fs::symlink(outside.path(), dir.path().join(".git")).expect("a link");
        make_hooks(dir.path()).expect("a link is no repository");
        assert!(!outside.path().join("hooks").exists());
        std::fs::remove_file(dir.path().join(".git")).expect("the link goes");
        std::fs::create_dir(dir.path().join(".git")).expect("a directory");
        for _ in 0..2 {
            make_hooks(dir.path()).expect("it is made, or there");
        }
        let (fixed, frozen) = guarded(dir.path());
        assert_eq!((fixed, frozen), (vec![".git".into()], vec![".git/hooks".into()]));
    }
}
