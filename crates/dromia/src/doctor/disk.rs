//! The disk under the home: free space, free inodes, and whether the file system keeps what was written.

use super::{CheckContext, CheckResult, DoctorCheck, error_result, ok_result, warning_result};

pub(super) const CHECKS: &[DoctorCheck] = &[
    DoctorCheck { id: "disk.space", run: check_free_space },
    DoctorCheck { id: "disk.inodes", run: check_free_inodes },
    DoctorCheck { id: "disk.kind", run: check_filesystem_kind },
];

const MIB: u64 = 1 << 20;
/// Below this the store stops taking input soon: the log alone may take 64 MiB, and more only where more is free.
const FREE_ERROR: u64 = 128 * MIB;
const FREE_WARNING: u64 = 1024 * MIB;
const INODES_WARNING: u64 = 1024;

/// File systems over a network, where a lock or a sync may mean less than it says.
const REMOTE: [&str; 8] = ["nfs", "cifs", "smb", "9p", "ceph", "afs", "fuse", "lustre"];

fn check_free_space(scene: &CheckContext<'_>) -> CheckResult {
    let found = match scene.world.file_system(scene.home.root_dir()) {
        Ok(found) => found,
        Err(problem) => {
            return ok_result(format!("the file system does not report its free space: {problem}"));
        }
    };
    let text = format!("{} MiB are free", found.free_bytes / MIB);
    let fix = "free space on the disk of the home, or move the home; on a full disk the server accepts no \
               input";
    match found.free_bytes {
        free if free < FREE_ERROR => error_result(text, fix),
        free if free < FREE_WARNING => warning_result(text, fix),
        _ => ok_result(text),
    }
}

fn check_free_inodes(scene: &CheckContext<'_>) -> CheckResult {
    let found = scene.world.file_system(scene.home.root_dir());
    match found.ok().and_then(|found| found.free_inodes) {
        None => ok_result("the file system does not limit the number of files"),
        Some(free) if free < INODES_WARNING => warning_result(
            format!("only {free} more files can be created"),
            "remove files that you do not need",
        ),
        Some(free) => ok_result(format!("{free} more files can be created")),
    }
}

fn check_filesystem_kind(scene: &CheckContext<'_>) -> CheckResult {
    let found = scene.world.file_system(scene.home.root_dir());
    let Some(kind) = found.ok().and_then(|found| found.kind) else {
        return ok_result("the system does not report the type of the file system");
    };
    if REMOTE.iter().any(|remote| kind.starts_with(remote)) {
        return warning_result(
            format!("the home is on {kind}, where locks and syncs may not work"),
            "move the home to a local disk with --home or DROMIA_HOME",
        );
    }
    if kind == "tmpfs" {
        return warning_result(
            "the home is in memory and disappears at the next boot",
            "move the home to a disk with --home or DROMIA_HOME",
        );
    }
    ok_result(kind)
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::test_home::PlantedHome;

    #[test]
    fn a_nearly_full_disk_is_reported() {
        let mut planted = PlantedHome::healthy_home();
        planted.world.disk.free_bytes = 500 << 20;
        assert_eq!(planted.severity_of("disk.space"), Severity::Warning);
        planted.world.disk.free_bytes = 12 << 20;
        assert_eq!(planted.severity_of("disk.space"), Severity::Error);
        planted.world.disk.free_inodes = Some(3);
        assert_eq!(planted.severity_of("disk.inodes"), Severity::Warning);
    }

    #[test]
    fn a_file_system_that_may_lose_data_is_reported() {
        let mut planted = PlantedHome::healthy_home();
        for kind in ["nfs", "fuse", "tmpfs"] {
            planted.world.disk.kind = Some(kind.to_owned());
            assert_eq!(planted.severity_of("disk.kind"), Severity::Warning, "{kind}");
        }
    }
}
