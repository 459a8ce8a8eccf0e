//! A file system for one process: the system's programs to read, a workspace to write, and nothing else.
//!
//! Invariant: after [`build`] no path leads to anything of this machine that the spec or [`SYSTEM`] does not name. The
//! old root is taken away as a whole, not hidden.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use dromia_contracts::sandbox::ProcessSpec;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, unmount,
};
use rustix::thread::UnshareFlags;

use super::namespaces::INSIDE_ID;
use crate::spec::{WORKSPACE, guarded};
use crate::sys::{self, MountAttributes};

/// What every process reads of this machine, where it is there.
pub(crate) const SYSTEM: [&str; 15] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/localtime",
    "/nix/store",
];

/// Device files that give nothing away.
pub(crate) const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// The name of the machine that a program finds itself on.
pub(super) const HOST_NAME: &str = "sandbox";

/// Where the old root lies while the new one is built.
const OLD: &str = "/old";

/// Directories any of which can carry the new root until it is one.
const CARRIERS: [&str; 4] = ["/tmp", "/run", "/mnt", "/var"];

const READ_ONLY: MountAttributes = MountAttributes { read_only: true, no_devices: true };

/// Builds the file system and makes it the root of this process. What went wrong is said with its place.
pub(crate) fn build(spec: &ProcessSpec) -> Result<(), (String, io::Error)> {
    let at = |place: &str| {
        let place = place.to_owned();
        move |problem: io::Error| (place, problem)
    };
    sys::unshare(UnshareFlags::NEWNS).map_err(at("mount namespace"))?;
    // What is mounted here must not show up outside.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(io::Error::from)
        .map_err(at("mount propagation"))?;
    enter_new_root().map_err(at("new root"))?;
    for path in SYSTEM {
        read_only(Path::new(path), Path::new(path)).map_err(at(path))?;
    }
    directory(Path::new("/etc")).and_then(|()| identity(Path::new("/etc"), INSIDE_ID)).map_err(at("/etc"))?;
    rustix::system::sethostname(HOST_NAME.as_bytes()).map_err(io::Error::from).map_err(at("host name"))?;
    devices().map_err(at("/dev"))?;
    temporary("/tmp", spec.limits.disk_bytes).map_err(at("/tmp"))?;
    temporary("/dev/shm", spec.limits.disk_bytes.min(spec.limits.memory_bytes)).map_err(at("/dev/shm"))?;
    processes().map_err(at("/proc"))?;
    workspace(&spec.workspace).map_err(at(WORKSPACE))?;
    for mount in &spec.mounts {
        let place = mount.target.to_string_lossy();
        if mount.writable {
            writable(&mount.source, &mount.target).map_err(at(&place))?;
        } else {
            read_only(&mount.source, &mount.target).map_err(at(&place))?;
            if !mount.target.exists() {
                return Err((place.into_owned(), io::Error::from(io::ErrorKind::NotFound)));
            }
        }
    }
    leave_old_root().map_err(at("old root"))
}

/// Makes an empty file system and moves into it; the old one lies below [`OLD`].
fn enter_new_root() -> io::Result<()> {
    let carrier = CARRIERS.into_iter().find(|path| Path::new(path).is_dir());
    let carrier = carrier.ok_or_else(|| io::Error::other("there is no directory to mount on"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("dromia", carrier, "tmpfs", flags, c"mode=0755,size=1m")?;
    std::env::set_current_dir(carrier)?;
    directory(Path::new("old"))?;
    rustix::process::pivot_root(".", "old")?;
    std::env::set_current_dir("/")
}

/// Takes the old root away and closes the new one.
fn leave_old_root() -> io::Result<()> {
    unmount(OLD, UnmountFlags::DETACH)?;
    fs::remove_dir(OLD)?;
    // Only this mount: those below it have what they were given.
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount("/", flags, "")?;
    Ok(())
}

/// Shows something of this machine where it can be read only; what is not there is left out, a link stays a link.
fn read_only(source: &Path, target: &Path) -> io::Result<()> {
    let old = old(source);
    match fs::symlink_metadata(&old) {
        Err(_) => Ok(()),
        Ok(found) if found.is_symlink() => {
            parent_of(target)?;
            symlink(fs::read_link(&old)?, target)
        }
        Ok(found) => {
            place(target, found.is_dir())?;
            mount_bind_recursive(&old, target)?;
            sys::set_mount(target, READ_ONLY)
        }
    }
}

/// Shows a directory or file of this machine where it can be changed.
fn writable(source: &Path, target: &Path) -> io::Result<()> {
    let old = old(source);
    // A link would lead to whatever it names inside of the new root, or out of what was meant.
    let found = fs::symlink_metadata(&old)?;
    if found.is_symlink() {
        return Err(io::Error::other("it is a symbolic link"));
    }
    place(target, found.is_dir())?;
    mount_bind_recursive(&old, target)?;
    sys::set_mount(target, MountAttributes { read_only: false, no_devices: true })
}

/// The workspace, in which what programs outside would execute cannot be changed.
fn workspace(source: &Path) -> io::Result<()> {
    let top = Path::new(WORKSPACE);
    writable(source, top)?;
    let (fixed, frozen) = guarded(top);
    for directory in fixed {
        // A mount cannot be renamed or removed, so nothing can take its place.
        let path = top.join(directory);
        mount_bind_recursive(&path, &path)?;
    }
    for name in frozen {
        let path = top.join(name);
        mount_bind_recursive(&path, &path)?;
        sys::set_mount(&path, READ_ONLY)?;
    }
    Ok(())
}

/// Says in a directory that is there who there is: one user, one group, one host.
pub(super) fn identity(etc: &Path, id: u32) -> io::Result<()> {
    let users = format!("agent:x:{id}:{id}::{WORKSPACE}:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n");
    fs::write(etc.join("passwd"), users)?;
    fs::write(etc.join("group"), format!("agent:x:{id}:\nnogroup:x:65534:\n"))?;
    fs::write(etc.join("hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
    fs::write(etc.join("nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\n")
}

fn devices() -> io::Result<()> {
    directory(Path::new("/dev"))?;
    for device in DEVICES {
        File::create(device)?;
        mount_bind_recursive(old(Path::new(device)), device)?;
    }
    for (link, to) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        symlink(format!("/proc/self/{to}"), Path::new("/dev").join(link))?;
    }
    Ok(())
}

fn temporary(path: &str, bytes: u64) -> io::Result<()> {
    directory(Path::new(path))?;
    let options = std::ffi::CString::new(format!("mode=1777,size={bytes},nr_inodes=65536"))?;
    mount("dromia", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?;
    Ok(())
}

/// The processes of the new namespace, to look at. A machine that hides parts of its own `/proc` allows no new one;
/// then there is none.
fn processes() -> io::Result<()> {
    directory(Path::new("/proc"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount("proc", "/proc", "proc", flags, c"hidepid=invisible") {
        // Root of this machine owns `/proc/sys`; that this process may be mapped to root must not matter.
        Ok(()) => sys::set_mount(Path::new("/proc"), READ_ONLY),
        Err(rustix::io::Errno::PERM) => Ok(()),
        Err(problem) => Err(problem.into()),
    }
}

fn old(path: &Path) -> PathBuf {
    Path::new(OLD).join(path.strip_prefix("/").unwrap_or(path))
}

/// Makes what a mount needs to lie on.
pub(super) fn place(target: &Path, is_directory: bool) -> io::Result<()> {
    if is_directory {
        return directory(target);
    }
    parent_of(target)?;
    File::create(target).map(drop)
}

pub(super) fn parent_of(target: &Path) -> io::Result<()> {
    target.parent().map_or(Ok(()), directory)
}

pub(super) fn directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}
