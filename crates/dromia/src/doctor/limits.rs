//! What the system grants a process: open files, the length of a file, memory, and the encoding of text.

use super::environment::SystemLimit;
use super::{CheckContext, CheckResult, DoctorCheck, error_result, ok_result, warning_result};

pub(super) const CHECKS: &[DoctorCheck] = &[
    DoctorCheck { id: "limit.files", run: check_open_files },
    DoctorCheck { id: "limit.file_size", run: file_size },
    DoctorCheck { id: "limit.memory", run: check_memory },
    DoctorCheck { id: "terminal.encoding", run: check_encoding },
];

const MIB: u64 = 1 << 20;
/// The log may grow to 1 GiB while a backup is made.
const FILE_ERROR: u64 = 1024 * MIB;
const MEMORY_WARNING: u64 = 256 * MIB;

fn check_open_files(scene: &CheckContext<'_>) -> CheckResult {
    match scene.world.system_limit(SystemLimit::Files) {
        None => ok_result("as many open files as the system allows"),
        Some(limit) if limit < 256 => error_result(
            format!("a process may open {limit} files"),
            "raise it: ulimit -n 8192, or LimitNOFILE=8192",
        ),
        Some(limit) if limit < 1024 => warning_result(
            format!("a process may open {limit} files, one per connection"),
            "raise it: ulimit -n 8192, or LimitNOFILE=8192",
        ),
        Some(limit) => ok_result(format!("a process may open {limit} files")),
    }
}

fn file_size(scene: &CheckContext<'_>) -> CheckResult {
    let fix = "remove the limit: ulimit -f unlimited, or LimitFSIZE=infinity";
    match scene.world.system_limit(SystemLimit::FileBytes) {
        None => ok_result("a file may have any length"),
        Some(limit) if limit < FILE_ERROR => error_result(
            format!("a file may have {} MiB, and the store's log alone can need that much", limit / MIB),
            fix,
        ),
        Some(limit) => warning_result(
            format!("a file may have {} MiB; the store will reach that limit", limit / MIB),
            fix,
        ),
    }
}

fn check_memory(scene: &CheckContext<'_>) -> CheckResult {
    match scene.world.memory_bytes() {
        None => ok_result("the system sets no limit"),
        Some(bytes) if bytes < MEMORY_WARNING => warning_result(
            format!("a process may use {} MiB of memory", bytes / MIB),
            "allow 256 MiB, or lower engine.active_max in dromia.yaml",
        ),
        Some(bytes) => ok_result(format!("a process may use {} MiB of memory", bytes / MIB)),
    }
}

fn check_encoding(scene: &CheckContext<'_>) -> CheckResult {
    // The first of these that is set decides.
    let set = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| (scene.env)(name).filter(|value| !value.is_empty()).map(|value| (name, value)));
    let Some((name, value)) = set else {
        return warning_result(
            "no locale is set, so the terminal may not show the agents' texts",
            "export LANG=C.UTF-8",
        );
    };
    let lower = value.to_ascii_lowercase();
    if lower.contains("utf-8") || lower.contains("utf8") {
        return ok_result(format!("{name}={value}"));
    }
    warning_result(format!("{name}={value} is not UTF-8, but all texts are"), "export LC_ALL=C.UTF-8")
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::test_home::PlantedHome;

    #[test]
    fn a_low_open_file_limit_is_reported() {
        let mut planted = PlantedHome::healthy_home();
        planted.world.files = Some(512);
        assert_eq!(planted.severity_of("limit.files"), Severity::Warning);
        planted.world.files = Some(64);
        assert_eq!(planted.severity_of("limit.files"), Severity::Error);
    }

    #[test]
    fn limits_on_file_size_and_memory_are_reported() {
        let mut planted = PlantedHome::healthy_home();
        planted.world.file_bytes = Some(1 << 30);
        assert_eq!(planted.severity_of("limit.file_size"), Severity::Warning);
        planted.world.file_bytes = Some(1 << 20);
        assert_eq!(planted.severity_of("limit.file_size"), Severity::Error);
        planted.world.memory = Some(64 << 20);
        assert_eq!(planted.severity_of("limit.memory"), Severity::Warning);
    }

    #[test]
    fn the_first_variable_that_is_set_decides_about_the_encoding() {
        let mut planted = PlantedHome::healthy_home();
        planted.env.insert("LC_ALL".to_owned(), "C".to_owned());
        assert_eq!(planted.severity_of("terminal.encoding"), Severity::Warning);
        planted.env.insert("LC_ALL".to_owned(), String::new());
        assert_eq!(planted.severity_of("terminal.encoding"), Severity::Ok);
        planted.env.clear();
        assert_eq!(planted.severity_of("terminal.encoding"), Severity::Warning);
    }
}
