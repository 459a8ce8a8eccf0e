//! The home itself: its directory, its private files, its socket's path.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Check, Scene, Verdict, error, ok, warning};

pub(super) const CHECKS: &[Check] = &[
    Check { id: "home.exists", run: exists },
    Check { id: "home.mode", run: mode },
    Check { id: "home.writable", run: writable },
    Check { id: "home.token", run: token },
    Check { id: "home.settings", run: settings },
    Check { id: "home.leftovers", run: leftovers },
    Check { id: "socket.path", run: socket_path },
];

fn exists(scene: &Scene<'_>) -> Verdict {
    let root = scene.home.root();
    if !root.is_dir() {
        return error(format!("there is no home at {}", root.display()), "make one with `dromia init`");
    }
    if !scene.home.config().is_file() {
        return error(
            format!("{} has no dromia.yaml", root.display()),
            "put it back, or finish the home with `dromia init`, which keeps its store",
        );
    }
    ok(root.display().to_string())
}

/// Bits of a mode that let others in; nothing if the file is not there.
fn open_bits(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|found| found.permissions().mode() & 0o077)
}

fn mode(scene: &Scene<'_>) -> Verdict {
    let root = scene.home.root();
    match open_bits(root) {
        None => ok("there is no home to look at"),
        Some(0) => ok("only its owner can look into it"),
        Some(bits) => warning(
            format!("others can look into {} (mode bits {bits:03o})", root.display()),
            format!("chmod 700 {}", root.display()),
        ),
    }
}

fn writable(scene: &Scene<'_>) -> Verdict {
    let root = scene.home.root();
    if !root.is_dir() {
        return ok("there is no home to look at");
    }
    let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    match rustix::fs::access(root, wanted) {
        Ok(()) => ok("this user can write into it"),
        Err(problem) => error(
            format!("this user cannot write into {}: {problem}", root.display()),
            "run as its owner, or change the owner with chown -R",
        ),
    }
}

fn token(scene: &Scene<'_>) -> Verdict {
    let token = scene.home.token();
    match open_bits(&token) {
        None if !scene.home.config().is_file() => ok("there is no home to look at"),
        None => warning(
            format!("{} is not there; the commands go on without it", token.display()),
            "put the token of the default tenant there if programs of yours read it",
        ),
        Some(0) => ok("the token is readable by its owner only"),
        Some(_) => error(
            format!("others can read {}", token.display()),
            format!(
                "chmod 600 {}, and give the tenant a new token if somebody may have read it",
                token.display()
            ),
        ),
    }
}

fn settings(scene: &Scene<'_>) -> Verdict {
    let file = scene.home.root().join("cli.json");
    let Ok(text) = fs::read(&file) else { return ok("no agent was switched to") };
    match serde_json::from_slice::<serde_json::Value>(&text) {
        Ok(_) => ok("cli.json can be read"),
        Err(problem) => error(
            format!("{} cannot be read: {problem}", file.display()),
            "remove it and choose again with `dromia agent switch`",
        ),
    }
}

fn leftovers(scene: &Scene<'_>) -> Verdict {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(scene.home.root()).into_iter().flatten().flatten() {
        if entry.path().extension() == Some(OsStr::new("new")) {
            found.push(entry.path());
        }
    }
    found.extend(scene.inspector().leftovers().unwrap_or_default());
    let Some(first) = found.first() else { return ok("no write was interrupted") };
    // A server that writes just now has such files for a moment.
    let age = fs::metadata(first).and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
    if age.is_some_and(|age| age.as_secs() < 60) {
        return ok("a file is being written just now");
    }
    warning(
        format!("an interrupted write left {} and {} more", first.display(), found.len() - 1),
        format!("rm {}", found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")),
    )
}

fn socket_path(scene: &Scene<'_>) -> Verdict {
    match scene.home.checked_socket() {
        Ok(socket) => ok(format!("{} bytes", socket.as_os_str().len())),
        Err(problem) => error(problem.to_string(), "use a shorter home with --home or DROMIA_HOME"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::Severity;
    use super::super::plant::{Planted, chmod};
    use super::*;

    #[test]
    fn a_home_that_is_not_there_is_an_error() {
        let planted = Planted::sound();
        fs::remove_file(planted.home.config()).expect("is removed");
        assert_eq!(planted.found("home.exists"), Severity::Error);
        assert_eq!(Planted::nowhere().found("home.exists"), Severity::Error);
    }

    #[test]
    fn what_others_can_read_is_told() {
        let planted = Planted::sound();
        chmod(planted.home.root(), 0o755);
        assert_eq!(planted.found("home.mode"), Severity::Warning);
        chmod(&planted.home.token(), 0o644);
        assert_eq!(planted.found("home.token"), Severity::Error);
        fs::remove_file(planted.home.token()).expect("is removed");
        assert_eq!(planted.found("home.token"), Severity::Warning);
    }

    #[test]
    fn settings_that_are_no_json_are_an_error() {
        let planted = Planted::sound();
        fs::write(planted.home.root().join("cli.json"), "{").expect("is written");
        assert_eq!(planted.found("home.settings"), Severity::Error);
    }

    #[test]
    fn an_old_half_of_a_file_is_told_and_a_young_one_is_not() {
        let planted = Planted::sound();
        let half = planted.home.root().join("token.new");
        fs::write(&half, "half").expect("is written");
        assert_eq!(planted.found("home.leftovers"), Severity::Ok);
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::options().write(true).open(&half).and_then(|file| file.set_modified(old)).expect("is aged");
        assert_eq!(planted.found("home.leftovers"), Severity::Warning);
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_an_error() {
        assert_eq!(Planted::below(&"long".repeat(40)).found("socket.path"), Severity::Error);
    }
}
