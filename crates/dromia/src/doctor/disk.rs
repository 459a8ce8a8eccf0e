//! The disk under the home: room, names for files, and whether it keeps what it is told to keep.

use super::{Check, Scene, Verdict, error, ok, warning};

pub(super) const CHECKS: &[Check] = &[
    Check { id: "disk.space", run: space },
    Check { id: "disk.inodes", run: inodes },
    Check { id: "disk.kind", run: kind },
];

const MIB: u64 = 1 << 20;
/// Below this the store stops taking input soon: the log alone may take 64 MiB.
const FREE_ERROR: u64 = 128 * MIB;
const FREE_WARNING: u64 = 1024 * MIB;
const INODES_WARNING: u64 = 1024;

/// File systems over a network, where a lock or a sync may mean less than it says.
const REMOTE: [&str; 8] = ["nfs", "cifs", "smb", "9p", "ceph", "afs", "fuse", "lustre"];

fn space(scene: &Scene<'_>) -> Verdict {
    let found = match scene.world.file_system(scene.home.root()) {
        Ok(found) => found,
        Err(problem) => return ok(format!("the file system does not say: {problem}")),
    };
    let text = format!("{} MiB are free", found.free_bytes / MIB);
    let fix = "make room on the disk of the home, or move the home; a full disk stops input, nothing else";
    match found.free_bytes {
        free if free < FREE_ERROR => error(text, fix),
        free if free < FREE_WARNING => warning(text, fix),
        _ => ok(text),
    }
}

fn inodes(scene: &Scene<'_>) -> Verdict {
    let found = scene.world.file_system(scene.home.root());
    match found.ok().and_then(|found| found.free_inodes) {
        None => ok("the file system does not count names"),
        Some(free) if free < INODES_WARNING => {
            warning(format!("only {free} more files can be made"), "remove files that nobody needs")
        }
        Some(free) => ok(format!("{free} more files can be made")),
    }
}

fn kind(scene: &Scene<'_>) -> Verdict {
    let found = scene.world.file_system(scene.home.root());
    let Some(kind) = found.ok().and_then(|found| found.kind) else {
        return ok("the system does not say what kind of file system it is");
    };
    if REMOTE.iter().any(|remote| kind.starts_with(remote)) {
        return warning(
            format!("the home lies on {kind}, whose locks and syncs may not hold"),
            "put the home on a local disk with --home or DROMIA_HOME",
        );
    }
    if kind == "tmpfs" {
        return warning(
            "the home lies in memory and is gone at the next boot of the machine",
            "put the home on a disk with --home or DROMIA_HOME",
        );
    }
    ok(kind)
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::plant::Planted;

    #[test]
    fn a_disk_that_gets_full_is_told_before_it_is() {
        let mut planted = Planted::sound();
        planted.world.disk.free_bytes = 500 << 20;
        assert_eq!(planted.found("disk.space"), Severity::Warning);
        planted.world.disk.free_bytes = 12 << 20;
        assert_eq!(planted.found("disk.space"), Severity::Error);
        planted.world.disk.free_inodes = Some(3);
        assert_eq!(planted.found("disk.inodes"), Severity::Warning);
    }

    #[test]
    fn a_file_system_that_may_forget_is_told() {
        let mut planted = Planted::sound();
        for kind in ["nfs", "fuse", "tmpfs"] {
            planted.world.disk.kind = Some(kind.to_owned());
            assert_eq!(planted.found("disk.kind"), Severity::Warning, "{kind}");
        }
    }
}
