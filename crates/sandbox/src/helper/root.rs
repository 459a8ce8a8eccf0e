//! A file system for one process: the system's programs to read, a workspace to write, and nothing else.
//!
//! Invariant: after [`build`] no path leads to anything of this machine that the spec or [`SYSTEM`] does not name. The
//! old root is taken away as a whole, not hidden, and before anything of the workspace is looked at: what the spec names
//! was cloned by handle until then ([`tree`]), and guards are made by handle ([`nested_guards`]).

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use dromia_contracts::sandbox::{ProcessSpec, SandboxMount};
use rustix::fs::FileType;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, unmount,
};
use rustix::thread::UnshareFlags;

use super::mount_point::{OLD, make_directory, make_mount_point, old_path, parent_of};
use super::namespaces::INSIDE_ID;
use super::proc_masks;
use super::tree::{self, READ_ONLY, WRITABLE};
use super::{by_path, nested_guards};
use crate::spec::WORKSPACE;
use crate::sys;

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

/// Directories any of which can carry the new root until it is one.
const CARRIERS: [&str; 4] = ["/tmp", "/run", "/mnt", "/var"];

/// Builds the file system and makes it the root of this process. What went wrong is said with its place.
pub(crate) fn build_root(spec: &ProcessSpec) -> Result<(), (String, io::Error)> {
    let at = |place: &str| {
        let place = place.to_owned();
        move |problem: io::Error| (place, problem)
    };
    sys::unshare(UnshareFlags::NEWNS).map_err(at("mount namespace"))?;
    // What is mounted here must not show up outside.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(io::Error::from)
        .map_err(at("mount propagation"))?;
    let given = ClonedMounts::clone_spec_mounts(spec)?;
    enter_new_root().map_err(at("new root"))?;
    for path in SYSTEM {
        read_only(Path::new(path), Path::new(path)).map_err(at(path))?;
    }
    make_directory(Path::new("/etc"))
        .and_then(|()| write_identity(Path::new("/etc"), INSIDE_ID))
        .map_err(at("/etc"))?;
    rustix::system::sethostname(HOST_NAME.as_bytes()).map_err(io::Error::from).map_err(at("host name"))?;
    make_devices().map_err(at("/dev"))?;
    mount_temporary("/tmp", spec.limits.disk_bytes).map_err(at("/tmp"))?;
    mount_temporary("/dev/shm", spec.limits.disk_bytes.min(spec.limits.memory_bytes))
        .map_err(at("/dev/shm"))?;
    mount_proc().map_err(at("/proc"))?;
    if by_path::is_planted() {
        by_path::guarded_workspace(&spec.workspace).map_err(at(WORKSPACE))?;
    }
    unmount(OLD, UnmountFlags::DETACH).map_err(io::Error::from).map_err(at("old root"))?;
    fs::remove_dir(OLD).map_err(at("old root"))?;
    given.show_mounts(spec)?;
    close_root().map_err(at("new root"))
}

/// What the spec names of this machine, cloned while it can be found and shown when nothing else can.
struct ClonedMounts {
    workspace: OwnedFd,
    mounts: Vec<OwnedFd>,
}

impl ClonedMounts {
    fn clone_spec_mounts(spec: &ProcessSpec) -> Result<Self, (String, io::Error)> {
        let at = |path: &Path| {
            let place = path.display().to_string();
            move |problem: io::Error| (place, problem)
        };
        let workspace = tree::open_workspace(spec)
            .and_then(|found| tree::clone_tree(&found, tree::workspace_attributes(spec)));
        let cloned = |mount: &SandboxMount| {
            let attributes = if mount.writable { WRITABLE } else { READ_ONLY };
            let tree =
                tree::open_no_links(&mount.source).and_then(|found| tree::clone_tree(&found, attributes));
            tree.map_err(at(&mount.source))
        };
        let mounts = spec.mounts.iter().map(cloned).collect::<Result<_, _>>()?;
        Ok(Self { workspace: workspace.map_err(at(Path::new(WORKSPACE)))?, mounts })
    }

    fn show_mounts(&self, spec: &ProcessSpec) -> Result<(), (String, io::Error)> {
        let at = |path: &Path| {
            let place = path.display().to_string();
            move |problem: io::Error| (place, problem)
        };
        let root = tree::open_no_links(Path::new("/")).map_err(at(Path::new("/")))?;
        if !by_path::is_planted() {
            show_tree(&self.workspace, &root, Path::new(WORKSPACE)).map_err(at(Path::new(WORKSPACE)))?;
            nested_guards::guard_workspace(spec, &self.workspace)
                .map_err(|(name, problem)| at(&name)(problem))?;
        }
        for (tree, mount) in self.mounts.iter().zip(&spec.mounts) {
            show_tree(tree, &root, &mount.target).map_err(at(&mount.target))?;
        }
        Ok(())
    }
}

/// Puts a cloned tree at a path below a held root, where its place is made.
pub(super) fn show_tree(tree: &OwnedFd, root: &OwnedFd, target: &Path) -> io::Result<()> {
    let is_directory = tree::file_type(tree)? == FileType::Directory;
    tree::attach_tree(tree, &tree::open_mount_point(root, target, is_directory)?)
}

/// Makes an empty file system and moves into it; the old one lies below [`OLD`].
fn enter_new_root() -> io::Result<()> {
    let carrier = CARRIERS.into_iter().find(|path| Path::new(path).is_dir());
    let carrier = carrier.ok_or_else(|| io::Error::other("there is no directory to mount on"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("dromia", carrier, "tmpfs", flags, c"mode=0755,size=1m")?;
    std::env::set_current_dir(carrier)?;
    make_directory(Path::new("old"))?;
    rustix::process::pivot_root(".", "old")?;
    std::env::set_current_dir("/")
}

/// Closes the new root: nothing more comes into it.
fn close_root() -> io::Result<()> {
    // Only this mount: those below it have what they were given.
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount("/", flags, "")?;
    Ok(())
}

/// Shows something of this machine where it can be read only; what is not there is left out, a link stays a link.
fn read_only(source: &Path, target: &Path) -> io::Result<()> {
    let old = old_path(source);
    match fs::symlink_metadata(&old) {
        Err(_) => Ok(()),
        Ok(found) if found.is_symlink() => {
            parent_of(target)?;
            symlink(fs::read_link(&old)?, target)
        }
        Ok(found) => {
            make_mount_point(target, found.is_dir())?;
            mount_bind_recursive(&old, target)?;
            sys::set_mount(target, READ_ONLY)
        }
    }
}

/// Says in a directory that is there who there is: one user, one group, one host.
pub(super) fn write_identity(etc: &Path, id: u32) -> io::Result<()> {
    let users = format!("agent:x:{id}:{id}::{WORKSPACE}:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n");
    fs::write(etc.join("passwd"), users)?;
    fs::write(etc.join("group"), format!("agent:x:{id}:\nnogroup:x:65534:\n"))?;
    fs::write(etc.join("hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
    fs::write(etc.join("nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\n")
}

fn make_devices() -> io::Result<()> {
    make_directory(Path::new("/dev"))?;
    for device in DEVICES {
        File::create(device)?;
        mount_bind_recursive(old_path(Path::new(device)), device)?;
    }
    for (link, to) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        symlink(format!("/proc/self/{to}"), Path::new("/dev").join(link))?;
    }
    Ok(())
}

fn mount_temporary(path: &str, bytes: u64) -> io::Result<()> {
    make_directory(Path::new(path))?;
    let options = std::ffi::CString::new(format!("mode=1777,size={bytes},nr_inodes=65536"))?;
    mount("dromia", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?;
    Ok(())
}

/// The processes of the new namespace, to look at. A machine that hides parts of its own `/proc` allows no new one;
/// then there is none.
fn mount_proc() -> io::Result<()> {
    make_directory(Path::new("/proc"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount("proc", "/proc", "proc", flags, c"hidepid=invisible") {
        // Root of this machine owns `/proc/sys`; that this process may be mapped to root must not matter.
        Ok(()) => {
            hide_machine(Path::new("/proc"))?;
            sys::set_mount(Path::new("/proc"), READ_ONLY)
        }
        Err(rustix::io::Errno::PERM) => Ok(()),
        Err(problem) => Err(problem.into()),
    }
}

/// Covers what of `/proc` is about the machine. It becomes read-only with the rest, and devices in it are dead.
fn hide_machine(proc: &Path) -> io::Result<()> {
    let (files, directories) = proc_masks::names_to_mask(proc);
    for name in files {
        mount_bind_recursive("/dev/null", proc.join(name))?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for name in directories {
        mount("dromia", proc.join(name), "tmpfs", flags, c"mode=0555,size=4k")?;
    }
    Ok(())
}
