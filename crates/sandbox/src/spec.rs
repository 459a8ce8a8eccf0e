//! What makes a spec fit to be carried out, the same for every backend.

use std::path::{Component, Path};

pub(crate) use dromia_contracts::sandbox::WORKSPACE;
use dromia_contracts::sandbox::{ProcessSpec, SandboxError, SandboxMount};

use crate::helper::tree::open_no_links;
use crate::proxy_socket;

/// The longest list of arguments and the longest environment, in bytes; the system takes more.
const WORDS_BYTES_MAX: usize = 1 << 20;

/// The most mounts.
const MOUNTS_MAX: usize = 64;

/// Names that the backends set, and names by which a variable would reach into every program that is started.
const ENV_RESERVED: [&str; 7] =
    ["PATH", "HOME", "LANG", "TMPDIR", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT"];

/// Directories of a file system of its own that a mount may not cover.
const OWN: [&str; 10] =
    ["/proc", "/dev", "/etc", "/tmp", "/usr", "/bin", "/sbin", "/lib", "/lib64", WORKSPACE];

/// Says what is wrong with a spec, if anything is.
pub(crate) fn check_spec(spec: &ProcessSpec) -> Result<(), SandboxError> {
    let refused = |place, problem: &str| Err(SandboxError::Spec { place, problem: problem.to_owned() });
    if spec.argv.first().is_none_or(String::is_empty) {
        return refused("argv", "there is no program to run");
    }
    let words = spec.argv.iter().chain(spec.env.iter().flat_map(|(name, value)| [name, value]));
    if words.clone().any(|word| word.contains('\0')) {
        return refused("argv", "a word contains a NUL byte");
    }
    if words.map(String::len).sum::<usize>() > WORDS_BYTES_MAX {
        return refused("argv", "arguments and environment have more than one mebibyte");
    }
    for (name, _) in &spec.env {
        if name.is_empty() || name.contains('=') {
            return refused("env", "a name is empty or contains an equals sign");
        }
        if ENV_RESERVED.contains(&name.as_str()) {
            return refused("env", "PATH, HOME, LANG, TMPDIR and LD_* are set by the sandbox");
        }
    }
    if !is_plain(&spec.workspace) {
        return refused("workspace", "it is not an absolute path without `.` and `..`");
    }
    if spec.cwd.components().any(|part| !matches!(part, Component::Normal(_))) {
        return refused("cwd", "it leaves the workspace");
    }
    if spec.mounts.len() > MOUNTS_MAX {
        return refused("mounts", "there are more than 64");
    }
    for mount in &spec.mounts {
        if !is_plain(&mount.source) || !is_plain(&mount.target) {
            return refused("mounts", "a path is not absolute or contains `.` or `..`");
        }
        let covers =
            |other: &SandboxMount| !std::ptr::eq(mount, other) && mount.target.starts_with(&other.target);
        if spec.mounts.iter().any(covers) {
            return refused("mounts", "a target is also the target of another mount, or is inside one");
        }
        if mount.target == Path::new("/") || OWN.iter().any(|own| mount.target.starts_with(own)) {
            return refused("mounts", "a target would hide a directory of the sandbox");
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

/// Refuses a directory of the operator's for a backend that cannot see to it that exactly this one is shown, with what
/// programs outside execute guarded.
pub(crate) fn refuse_reference(spec: &ProcessSpec, backend: &'static str) -> Result<(), SandboxError> {
    match spec.reference {
        None => Ok(()),
        Some(_) => Err(SandboxError::Unavailable {
            missing: format!("{backend} can't guard a workspace outside of the server's home"),
            fix: "run `dromia doctor --only sandbox` to see what native/strict, bubblewrap or gVisor needs, or take \
                  the directory away with `dromia agent set NAME workspace=`"
                .to_owned(),
        }),
    }
}

/// Resolves the paths of this machine, so that no link is left in them, and says which is not there.
pub(crate) fn resolve_spec(mut spec: ProcessSpec) -> Result<ProcessSpec, SandboxError> {
    let real = |place, path: &Path| {
        let refused = |problem: std::io::Error| {
            let problem = format!("{}: {problem}", path.display());
            SandboxError::Spec { place, problem }
        };
        path.canonicalize().map_err(refused)
    };
    // What a reference names was found over no link, and what is there when it is mounted must be that.
    if spec.reference.is_none() {
        spec.workspace = real("workspace", &spec.workspace)?;
    }
    if !spec.workspace.is_dir() {
        let problem = format!("{} is not a directory", spec.workspace.display());
        return Err(SandboxError::Spec { place: "workspace", problem });
    }
    for mount in &spec.mounts {
        // A link in a source may be an agent's: its target can change while it is followed.
        open_no_links(&mount.source).map_err(|problem| {
            let problem = format!("{}: {problem}; a source must not contain a link", mount.source.display());
            SandboxError::Spec { place: "mounts", problem }
        })?;
    }
    Ok(spec)
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

/// The whole environment of a process whose workspace lies at `workspace`.
pub(crate) fn process_environment(
    spec: &ProcessSpec,
    workspace: &Path,
    temporary: &str,
) -> Vec<(String, String)> {
    let mut all = vec![
        ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin".to_owned()),
        ("HOME".to_owned(), workspace.to_string_lossy().into_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("TMPDIR".to_owned(), temporary.to_owned()),
    ];
    all.extend(spec.env.iter().cloned());
    all.extend(proxy_socket::proxy_variables(spec.network));
    all
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use dromia_contracts::sandbox::{NetworkAccess, ProcessLimits};

    use super::*;

    fn sound() -> ProcessSpec {
        ProcessSpec {
            argv: vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()],
            env: vec![("A".to_owned(), "1".to_owned())],
            workspace: PathBuf::from("/srv/w"),
            reference: None,
            cwd: PathBuf::from("a/b"),
            mounts: vec![SandboxMount { source: "/srv/m".into(), target: "/opt/m".into(), writable: false }],
            limits: ProcessLimits::DEFAULT,
            network: NetworkAccess::None,
            family: None,
        }
    }

    /// A spoiled spec and the part of it that is named.
    type Spoiled = (fn(&mut ProcessSpec), &'static str);

    #[test]
    fn a_sound_spec_passes_and_a_bad_one_is_located() {
        check_spec(&sound()).expect("it is sound");
        let spoiled: [Spoiled; 13] = [
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
            (
                |spec| {
                    spec.mounts.push(SandboxMount { target: "/opt/m/in".into(), ..spec.mounts[0].clone() });
                },
                "mounts",
            ),
            (|spec| spec.limits.processes = 0, "limits"),
        ];
        for (spoil, part) in spoiled {
            let mut spec = sound();
            spoil(&mut spec);
            match check_spec(&spec) {
                Err(SandboxError::Spec { place, .. }) => assert_eq!(place, part),
                other => panic!("{spec:?} was answered with {other:?}"),
            }
        }
    }
}
