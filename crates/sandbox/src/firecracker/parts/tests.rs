//! Each part is missing in turn, and each time it is named with the next step.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const ELF: &[u8] = b"\x7fELF and so on";

/// A directory with every part in it. Nothing of it is a machine: it is only looked at.
struct Parts {
    directory: tempfile::TempDir,
    monitor: FirecrackerParts,
    ground: HostFacts,
}

impl Parts {
    fn all() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let write = |name: &str, content: &[u8], mode: u32| {
            fs::write(at(name), content).expect("a file");
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("a mode");
        };
        write("kvm", b"", 0o666);
        write("firecracker", b"\x7fELF", 0o755);
        write("jailer", b"\x7fELF", 0o755);
        write("vmlinux", ELF, 0o644);
        write("root.ext4", b"an image", 0o644);
        let monitor = FirecrackerParts {
            binary: at("firecracker"),
            jailer: at("jailer"),
            kernel: at("vmlinux"),
            rootfs: at("root.ext4"),
            uid: UID,
        };
        let ground = HostFacts { is_root: true, kvm: at("kvm"), processor: "x86_64" };
        Self { directory, monitor, ground }
    }

    fn look(&self) -> Result<(), MissingPart> {
        check_parts(&self.monitor, &self.ground)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).expect("a mode");
    }
}

const UID: u32 = 60_999;

/// What spoils the parts, the words that name what is missing, and those of the next step.
type Case = (fn(&mut Parts), &'static str, &'static str);

#[test]
fn every_missing_part_is_named_with_the_next_step() {
    Parts::all().look().expect("every part is there");
    let cases: [Case; 16] = [
        (|parts| fs::remove_file(parts.at("kvm")).expect("gone"), "kvm does not exist", "modprobe"),
        (|parts| fs::remove_file(parts.at("firecracker")).expect("gone"), "binary: ", "releases"),
        (|parts| parts.chmod("firecracker", 0o644), "binary: ", "chmod +x "),
        (|parts| fs::remove_file(parts.at("jailer")).expect("gone"), "jailer: ", "put `jailer` there"),
        (|parts| parts.chmod("jailer", 0o600), "jailer: ", "chmod +x "),
        (
            |parts| {
                fs::rename(parts.at("firecracker"), parts.at("monitor")).expect("renamed");
                parts.monitor.binary = parts.at("monitor");
            },
            "whose name contains `firecracker`",
            "rename",
        ),
        (|parts| fs::remove_file(parts.at("vmlinux")).expect("gone"), "kernel: ", "dromia docs sandbox"),
        (|parts| fs::write(parts.at("vmlinux"), "").expect("empty"), "is empty", "dromia docs sandbox"),
        (|parts| fs::write(parts.at("vmlinux"), "MZ").expect("other"), "is not an ELF", "uncompressed"),
        (|parts| parts.ground.processor = "aarch64", "is not an `Image`", "uncompressed"),
        (
            |parts| parts.monitor.kernel = parts.directory.path().into(),
            "is not a file",
            "dromia docs sandbox",
        ),
        (|parts| fs::remove_file(parts.at("root.ext4")).expect("gone"), "rootfs: ", "dromia docs sandbox"),
        (|parts| fs::write(parts.at("root.ext4"), "").expect("empty"), "rootfs: ", "dromia docs sandbox"),
        (|parts| parts.chmod("root.ext4", 0o640), "as user 60999", "chmod a+r "),
        (|parts| parts.chmod("vmlinux", 0o640), "as user 60999", "chmod a+r "),
        (|parts| parts.ground.is_root = false, "needs root", "run the server as root"),
    ];
    for (spoil, what, fix) in cases {
        let mut parts = Parts::all();
        spoil(&mut parts);
        let missing = parts.look().expect_err(what);
        assert!(missing.what.contains(what) && missing.fix.contains(fix), "{missing:?}");
    }
}

#[test]
fn the_most_useful_missing_part_is_named_first() {
    let mut parts = Parts::all();
    for name in ["firecracker", "jailer", "vmlinux", "root.ext4"] {
        fs::remove_file(parts.at(name)).expect("gone");
    }
    parts.ground.is_root = false;
    for (key, name, content) in [
        ("binary", "firecracker", &b"x"[..]),
        ("jailer", "jailer", b"x"),
        ("kernel", "vmlinux", ELF),
        ("rootfs", "root.ext4", b"x"),
    ] {
        let missing = parts.look().expect_err("more than one is missing");
        assert!(missing.what.starts_with(&format!("sandbox.firecracker.{key}: ")), "{missing:?}");
        fs::write(parts.at(name), content).expect("a file");
        parts.chmod(name, 0o755);
    }
    let missing = parts.look().expect_err("it is not root");
    assert!(missing.what.contains("needs root"), "{missing:?}");
}

#[test]
fn a_kernel_of_the_other_processor_is_taken_there() {
    let mut parts = Parts::all();
    let mut image = vec![0; 64];
    image[56..60].copy_from_slice(b"ARM\x64");
    fs::write(parts.at("vmlinux"), image).expect("a file");
    assert!(parts.look().is_err());
    parts.ground.processor = "aarch64";
    parts.look().expect("it is one");
}

#[test]
fn a_file_of_the_monitors_user_may_be_private() {
    let mut parts = Parts::all();
    parts.chmod("root.ext4", 0o400);
    parts.look().expect_err("it is another's");
    parts.monitor.uid = fs::metadata(parts.at("root.ext4")).expect("it is there").uid();
    parts.look().expect("it is its own");
}
