//! The home itself: its directory, its private files, its socket's path.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{CheckContext, CheckResult, DoctorCheck, error_result, ok_result, warning_result};

pub(super) const CHECKS: &[DoctorCheck] = &[
    DoctorCheck { id: "home.exists", run: check_exists },
    DoctorCheck { id: "home.mode", run: check_mode },
    DoctorCheck { id: "home.writable", run: check_writable },
    DoctorCheck { id: "home.token", run: check_token },
    DoctorCheck { id: "home.settings", run: check_user_settings },
    DoctorCheck { id: "home.leftovers", run: check_leftovers },
    DoctorCheck { id: "socket.path", run: socket_path },
];

fn check_exists(scene: &CheckContext<'_>) -> CheckResult {
    let root = scene.home.root_dir();
    if !root.is_dir() {
        return error_result(
            format!("there is no home at {}", root.display()),
            "create one with `dromia init`",
        );
    }
    if !scene.home.config_path().is_file() {
        return error_result(
            format!("{} has no dromia.yaml", root.display()),
            "restore it, or complete the home with `dromia init`, which keeps its store",
        );
    }
    ok_result(root.display().to_string())
}

/// Bits of a mode that let others in; nothing if the file is not there.
fn open_bits(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|found| found.permissions().mode() & 0o077)
}

fn check_mode(scene: &CheckContext<'_>) -> CheckResult {
    let root = scene.home.root_dir();
    match open_bits(root) {
        None => ok_result("there is no home to check"),
        Some(0) => ok_result("only its owner can read it"),
        Some(bits) => warning_result(
            format!("other users can read {} (mode bits {bits:03o})", root.display()),
            format!("chmod 700 {}", root.display()),
        ),
    }
}

fn check_writable(scene: &CheckContext<'_>) -> CheckResult {
    let root = scene.home.root_dir();
    if !root.is_dir() {
        return ok_result("there is no home to check");
    }
    let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    match rustix::fs::access(root, wanted) {
        Ok(()) => ok_result("this user can write to it"),
        Err(problem) => error_result(
            format!("this user cannot write to {}: {problem}", root.display()),
            "run dromia as its owner, or change the owner with chown -R",
        ),
    }
}

fn check_token(scene: &CheckContext<'_>) -> CheckResult {
    let token = scene.home.token_path();
    match open_bits(&token) {
        None if !scene.home.config_path().is_file() => ok_result("there is no home to check"),
        None => warning_result(
            format!("{} does not exist; the commands do not need it", token.display()),
            "write the token of the default tenant there if your programs read it",
        ),
        Some(0) => ok_result("only its owner can read the token"),
        Some(_) => error_result(
            format!("other users can read {}", token.display()),
            format!(
                "run chmod 600 {}, and create a new token for the tenant if another user may have read it",
                token.display()
            ),
        ),
    }
}

fn check_user_settings(scene: &CheckContext<'_>) -> CheckResult {
    let file = scene.home.root_dir().join("cli.json");
    let Ok(text) = fs::read(&file) else {
        return ok_result("you have not chosen an agent with `dromia agent switch`");
    };
    match serde_json::from_slice::<serde_json::Value>(&text) {
        Ok(_) => ok_result("cli.json is valid"),
        Err(problem) => error_result(
            format!("{} cannot be read: {problem}", file.display()),
            "remove it and choose an agent again with `dromia agent switch`",
        ),
    }
}

fn check_leftovers(scene: &CheckContext<'_>) -> CheckResult {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(scene.home.root_dir()).into_iter().flatten().flatten() {
        if entry.path().extension() == Some(OsStr::new("new")) {
            found.push(entry.path());
        }
    }
    found.extend(scene.store_inspector().leftover_files().unwrap_or_default());
    let Some(first) = found.first() else { return ok_result("no write was interrupted") };
    // A server that writes just now has such files for a moment.
    let age = fs::metadata(first).and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
    if age.is_some_and(|age| age.as_secs() < 60) {
        return ok_result("a file is being written at the moment");
    }
    warning_result(
        format!("an interrupted write left {} and {} more files", first.display(), found.len() - 1),
        format!("rm {}", found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")),
    )
}

fn socket_path(scene: &CheckContext<'_>) -> CheckResult {
    match scene.home.checked_socket() {
        Ok(socket) => ok_result(format!("{} bytes", socket.as_os_str().len())),
        Err(problem) => error_result(problem.to_string(), "use a shorter path with --home or DROMIA_HOME"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::Severity;
    use super::super::test_home::{PlantedHome, set_mode};
    use super::*;

    #[test]
    fn a_home_that_is_not_there_is_an_error() {
        let planted = PlantedHome::healthy_home();
        fs::remove_file(planted.home.config_path()).expect("is removed");
        assert_eq!(planted.severity_of("home.exists"), Severity::Error);
        assert_eq!(PlantedHome::nowhere_home().severity_of("home.exists"), Severity::Error);
    }

    #[test]
    fn files_readable_by_others_are_reported() {
        let planted = PlantedHome::healthy_home();
        set_mode(planted.home.root_dir(), 0o755);
        assert_eq!(planted.severity_of("home.mode"), Severity::Warning);
        set_mode(&planted.home.token_path(), 0o644);
        assert_eq!(planted.severity_of("home.token"), Severity::Error);
        fs::remove_file(planted.home.token_path()).expect("is removed");
        assert_eq!(planted.severity_of("home.token"), Severity::Warning);
    }

    #[test]
    fn settings_that_are_no_json_are_an_error() {
        let planted = PlantedHome::healthy_home();
        fs::write(planted.home.root_dir().join("cli.json"), "{").expect("is written");
        assert_eq!(planted.severity_of("home.settings"), Severity::Error);
    }

    #[test]
    fn only_an_old_partial_file_is_reported_as_leftover() {
        let planted = PlantedHome::healthy_home();
        let half = planted.home.root_dir().join("token.new");
        fs::write(&half, "half").expect("is written");
        assert_eq!(planted.severity_of("home.leftovers"), Severity::Ok);
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::options().write(true).open(&half).and_then(|file| file.set_modified(old)).expect("is aged");
        assert_eq!(planted.severity_of("home.leftovers"), Severity::Warning);
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_an_error() {
        assert_eq!(PlantedHome::missing_home(&"long".repeat(40)).severity_of("socket.path"), Severity::Error);
    }
}
