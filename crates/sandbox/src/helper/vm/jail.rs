//! The jail of a machine monitor: a file system in memory that only the mount namespace of the warden has, with the
//! kernel and the root image bound into it to be read. So a kill leaves nothing of it, and no other process sees
//! it. The jailer makes the rest: it copies the monitor into it, leaves everything else, and gives up its rights.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dromia_contracts::sandbox::ProcessSpec;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change};
use rustix::process::{Gid, Uid};
use rustix::thread::UnshareFlags;
use serde_json::Value;

use super::document::{self, DOCUMENT, KERNEL, ROOT};
use crate::firecracker::FirecrackerParts;
use crate::helper::{gvisor, mount_point};
use crate::sys::{self, MountAttributes};

/// The jail holds a copy of the monitor beside the document.
const OPTIONS: &std::ffi::CStr = c"mode=0755,size=64m";

/// A jail, and where the guest is listened to.
pub(super) struct MachineJail {
    base: PathBuf,
    /// Its parts, where no link is left in their paths.
    monitor: FirecrackerParts,
    pub(super) listener: UnixListener,
}

impl MachineJail {
    /// Makes it. What went wrong is said with its place.
    pub(super) fn make_jail(
        spec: &ProcessSpec,
        monitor: &FirecrackerParts,
        described: &Value,
    ) -> Result<Self, (String, io::Error)> {
        let at = |place: &str| {
            let place = place.to_owned();
            move |problem: io::Error| (place, problem)
        };
        let real = |path: &Path, key: &str| path.canonicalize().map_err(at(key));
        let monitor = FirecrackerParts {
            binary: real(&monitor.binary, "sandbox.firecracker.binary")?,
            jailer: real(&monitor.jailer, "sandbox.firecracker.jailer")?,
            kernel: real(&monitor.kernel, "sandbox.firecracker.kernel")?,
            rootfs: real(&monitor.rootfs, "sandbox.firecracker.rootfs")?,
            uid: monitor.uid,
        };
        let needed =
            [&monitor.binary, &monitor.jailer, &monitor.kernel, &monitor.rootfs].map(PathBuf::as_path);
        let base = gvisor::find_carrier(spec, &needed).map_err(at("jail"))?;
        mount_jail(&base).map_err(at("jail"))?;
        let inner = document::jail_path(&base, &monitor.binary);
        mount_point::make_directory(&inner).map_err(at("jail"))?;
        for (name, source, key) in [
            (KERNEL, &monitor.kernel, "sandbox.firecracker.kernel"),
            (ROOT, &monitor.rootfs, "sandbox.firecracker.rootfs"),
        ] {
            show_file(source, &inner.join(name)).map_err(at(key))?;
        }
        fs::write(inner.join(DOCUMENT), described.to_string()).map_err(at("jail"))?;
        let listener =
            bind_listener(&inner.join(document::listener_path()), monitor.uid).map_err(at("socket"))?;
        Ok(Self { base, monitor, listener })
    }

    /// The command that starts the monitor through its jailer.
    pub(super) fn jailer_command(&self) -> Command {
        let mut command = Command::new(&self.monitor.jailer);
        command
            .args(document::jailer_arguments(&self.monitor, &self.base))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }
}

/// Leaves the mounts of this machine, and puts an empty file system onto a directory. Device files of it work: the jailer
/// makes the one of the processor's virtual machines there.
fn mount_jail(base: &Path) -> io::Result<()> {
    sys::unshare(UnshareFlags::NEWNS)?;
    // What is mounted here must not show up outside.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    mount("dromia", base, "tmpfs", MountFlags::NOSUID, OPTIONS)?;
    // The jailer looks at its own process here.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, c"")?;
    Ok(())
}

/// Shows a file of this machine in the jail, to be read.
fn show_file(source: &Path, target: &Path) -> io::Result<()> {
    mount_point::make_mount_point(target, false)?;
    mount_bind_recursive(source, target)?;
    sys::set_mount(target, MountAttributes { read_only: true, no_devices: true })
}

/// Listens where only the monitor's user connects.
fn bind_listener(path: &Path, uid: u32) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    rustix::fs::chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?;
    Ok(listener)
}
