//! Which part of a machine is missing: looked at in the order in which they are needed, so that what is said first is what
//! helps first. Each is named with the key that names its file, and with the next step.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::missing_part::MissingPart;

/// Where the processor's virtual machines are.
const KVM: &str = "/dev/kvm";

/// Where releases are.
const RELEASES: &str = "take the release for this processor from \
                        https://github.com/firecracker-microvm/firecracker/releases";

/// What a root image and a kernel are made with.
const GUIDE: &str = "`dromia docs sandbox` describes how to make one";

/// The most of a kernel's beginning that is looked at.
const HEAD_BYTES: usize = 64;

/// The parts of a machine, all of them files of this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirecrackerParts {
    /// The program `firecracker`.
    pub binary: PathBuf,
    /// The program `jailer` of the same release.
    pub jailer: PathBuf,
    /// The kernel of the guest, uncompressed.
    pub kernel: PathBuf,
    /// The root file system of the guest, which is not changed; it holds this program as [`crate::GUEST_NAME`].
    pub rootfs: PathBuf,
    /// The user and group that the monitor is outside. No other process should have it.
    pub uid: u32,
}

/// What this machine is, as far as a part depends on it.
#[derive(Debug)]
pub(crate) struct HostFacts {
    /// Whether this process is root of the machine.
    pub(crate) is_root: bool,
    /// Where the processor's virtual machines are.
    pub(crate) kvm: PathBuf,
    /// The processor.
    pub(crate) processor: &'static str,
}

impl HostFacts {
    /// This machine.
    pub(crate) fn this_host() -> Self {
        let is_root = rustix::process::geteuid().is_root();
        Self { is_root, kvm: KVM.into(), processor: std::env::consts::ARCH }
    }
}

/// Says that the parts are not configured.
pub(crate) fn parts_unnamed() -> MissingPart {
    MissingPart::new(
        "no Firecracker binary, kernel and root image are configured",
        "write sandbox.firecracker.binary, jailer, kernel and rootfs in dromia.yaml",
    )
}

/// Says which part is missing first, if one is.
pub(crate) fn check_parts(monitor: &FirecrackerParts, ground: &HostFacts) -> Result<(), MissingPart> {
    virtual_machines(&ground.kvm)?;
    check_program("binary", "firecracker", &monitor.binary)?;
    check_program("jailer", "jailer", &monitor.jailer)?;
    // The jailer takes a monitor by its name only.
    let name = monitor.binary.canonicalize().ok().and_then(|path| path.file_name().map(ToOwned::to_owned));
    if !name.is_some_and(|name| name.to_string_lossy().contains("firecracker")) {
        let what = format!(
            "sandbox.firecracker.binary is {}, but the jailer accepts only a file whose name contains \
             `firecracker`",
            monitor.binary.display()
        );
        return Err(MissingPart::new(what, "rename the file, and correct its name in dromia.yaml"));
    }
    check_kernel_image(&monitor.kernel, ground.processor)?;
    check_image("rootfs", &monitor.rootfs)?;
    for (key, path) in [("kernel", &monitor.kernel), ("rootfs", &monitor.rootfs)] {
        check_readable(key, path, monitor.uid)?;
    }
    if !ground.is_root {
        return Err(MissingPart::new(
            "the jailer needs root, but this server does not run as root",
            "run the server as root, or use gvisor, which needs none: apt-get install runsc",
        ));
    }
    Ok(())
}

/// Whether the processor's virtual machines can be used.
fn virtual_machines(kvm: &Path) -> Result<(), MissingPart> {
    let what = format!("{} does not exist", kvm.display());
    if !kvm.exists() {
        return Err(MissingPart::new(
            what,
            "modprobe kvm_intel, or kvm_amd; if that fails, turn on virtualisation in the firmware, or nested \
             virtualisation for this virtual machine",
        ));
    }
    let opened = File::options().read(true).write(true).open(kvm);
    opened.map(drop).map_err(|problem| {
        let what = format!("{} cannot be opened: {problem}", kvm.display());
        MissingPart::new(what, "run the server as root, or as a member of the group kvm")
    })
}

/// A program that is there and may be started.
fn check_program(key: &str, name: &str, path: &Path) -> Result<(), MissingPart> {
    let about = find_file(key, path, &format!("{RELEASES}, and put `{name}` there"))?;
    if about.mode() & 0o111 == 0 {
        let what = format!("sandbox.firecracker.{key}: {} is not executable", path.display());
        return Err(MissingPart::new(what, format!("chmod +x {}", path.display())));
    }
    Ok(())
}

/// A file that is there and holds something.
fn check_image(key: &str, path: &Path) -> Result<(), MissingPart> {
    let about = find_file(key, path, GUIDE)?;
    if about.len() == 0 {
        let what = format!("sandbox.firecracker.{key}: {} is empty", path.display());
        return Err(MissingPart::new(what, GUIDE));
    }
    Ok(())
}

/// A kernel as the monitor takes it: an ELF file on x86_64, an `Image` on aarch64.
fn check_kernel_image(path: &Path, processor: &str) -> Result<(), MissingPart> {
    check_image("kernel", path)?;
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head));
    let is_one = match processor {
        "aarch64" => head.get(56..60) == Some(b"ARM\x64"),
        _ => head.starts_with(b"\x7fELF"),
    };
    match read {
        Ok(_) if is_one => Ok(()),
        Ok(_) => {
            let kind = if processor == "aarch64" { "an `Image`" } else { "an ELF file such as `vmlinux`" };
            let what = format!("sandbox.firecracker.kernel: {} is not {kind}", path.display());
            Err(MissingPart::new(what, "name an uncompressed kernel; a `bzImage` or `vmlinuz` is compressed"))
        }
        Err(problem) => {
            let what = format!("sandbox.firecracker.kernel: {}: {problem}", path.display());
            Err(MissingPart::new(what, format!("chmod a+r {}", path.display())))
        }
    }
}

fn find_file(key: &str, path: &Path, fix: &str) -> Result<fs::Metadata, MissingPart> {
    let about = fs::metadata(path).map_err(|problem| {
        MissingPart::new(format!("sandbox.firecracker.{key}: {}: {problem}", path.display()), fix)
    })?;
    if about.is_file() {
        return Ok(about);
    }
    Err(MissingPart::new(format!("sandbox.firecracker.{key}: {} is not a file", path.display()), fix))
}

/// Whether the monitor, who is an ordinary user, may read a file once it is shown to it.
fn check_readable(key: &str, path: &Path, uid: u32) -> Result<(), MissingPart> {
    let about = find_file(key, path, GUIDE)?;
    let mode = about.mode();
    let is_open = mode & 0o004 != 0
        || (about.uid() == uid && mode & 0o400 != 0)
        || (about.gid() == uid && mode & 0o040 != 0);
    // The first byte, for what a file system refuses whatever the mode says.
    let is_read = File::open(path).and_then(|file| file.read_exact_at(&mut [0], 0)).is_ok();
    if is_open && is_read {
        return Ok(());
    }
    let what = format!(
        "sandbox.firecracker.{key}: the monitor runs as user {uid}, who cannot read {}",
        path.display()
    );
    Err(MissingPart::new(what, format!("chmod a+r {}", path.display())))
}

#[cfg(test)]
mod tests;
