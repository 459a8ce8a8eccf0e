//! The disk under the home: free space, free inodes, and whether the file system keeps what was written.

use super::{CheckContext, CheckResult, DoctorCheck, error_result, ok_result, warning_result};

pub(super) const CHECKS: &[DoctorCheck] = &[
    DoctorCheck { id: "disk.space", run: check_free_space },
    DoctorCheck { id: "disk.inodes", run: check_free_inodes },
    DoctorCheck { id: "disk.kind", run: check_filesystem_kind },
];

const MIB: u64 = 1 << 20;
/// Below this the store stops taking input soon: the log alone may take 64 MiB.
const FREE_ERROR: u64 = 128 * MIB;
const FREE_WARNING: u64 = 1024 * MIB;
const INODES_WARNING: u64 = 1024;

/// File systems over a network, where a lock or a sync may mean less than it says.
const REMOTE: [&str; 8] = ["nfs", "cifs", "smb", "9p", "ceph", "afs", "fuse", "lustre"];

fn check_free_space(scene: &CheckContext<'_>) -> CheckResult {
    let found = match scene.world.file_system(scene.home.root_dir()) {
        Ok(found) => found,
        Err(problem) => return ok_result(format!("the file system does not say: {problem}")),
    };
    let text = format!("{} MiB are free", found.free_bytes / MIB);
    let fix = "make room on the disk of the home, or move the home; a full disk stops input, nothing else";
    match found.free_bytes {
        free if free < FREE_ERROR => error_result(text, fix),
        free if free < FREE_WARNING => warning_result(text, fix),
        _ => ok_result(text),
    }
}

fn check_free_inodes(scene: &CheckContext<'_>) -> CheckResult {
    let found = scene.world.file_system(scene.home.root_dir());
    match found.ok().and_then(|found| found.free_inodes) {
        None => ok_result("the file system does not count names"),
        Some(free) if free < INODES_WARNING => {
            warning_result(format!("only {free} more files can be made"), "remove files that nobody needs")
        }
        Some(free) => ok_result(format!("{free} more files can be made")),
    }
}

fn check_filesystem_kind(scene: &CheckContext<'_>) -> CheckResult {
    let found = scene.world.file_system(scene.home.root_dir());
    let Some(kind) = found.ok().and_then(|found| found.kind) else {
        return ok_result("the system does not say what kind of file system it is");
    };
    if REMOTE.iter().any(|remote| kind.starts_with(remote)) {
        return warning_result(
            format!("the home lies on {kind}, whose locks and syncs may not hold"),
            "put the home on a local disk with --home or DROMIA_HOME",
        );
    }
    if kind == "tmpfs" {
        return warning_result(
            "the home lies in memory and is gone at the next boot of the machine",
            "put the home on a disk with --home or DROMIA_HOME",
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
