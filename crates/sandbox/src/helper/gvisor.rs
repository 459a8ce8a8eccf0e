//! gVisor around a program: the bundle that `runsc` is given, its start and its end.
//!
//! The bundle lies in a file system in memory that only the mount namespace of the warden has, so a kill leaves nothing
//! of it, and no other process sees it. `runsc` and all that it starts live in the warden's process namespace and
//! end with it. They are root of their user namespace, which outside is the user of the server.
//!
//! `runsc` takes paths, and looks them up when it is there. So everything that the spec names is one tree in the bundle, built
//! by handle with its guards before `runsc` begins: no path that it gets leads to where an agent writes.
//!
//! Order and report go over a pair of sockets, one end of which is the standard input of the guest's first process; no
//! path leads to it, and no path of `/proc` opens a socket. See [`super::guest`] for who may touch that process. The first
//! byte that comes back says that the program may have begun; from then on a missing report is [`ProcessExit::Lost`].

use std::fs;
use std::io::{self, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use dromia_contracts::sandbox::{ProcessExit, ProcessSpec};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;
use serde_json::{Value, json};

use super::namespaces::BUILDER_ID;
use super::root::{self, HOST_NAME, SYSTEM};
use super::trees::SpecTrees;
use super::{by_path, mount_point, reaper};
use crate::order::{HelperOrder, HelperReport};
use crate::spec::WORKSPACE;
use crate::{INSIDE_FLAG, sys};

/// Where the guest finds the helper.
const INSIDE: &str = "/run/dromia/helper";

/// The first byte of a report: the program may have begun.
pub(super) const BEGUN: u8 = b'+';

/// The longest report: less than an unread socket holds, so that writing it never waits.
const REPORT_BYTES_MAX: u64 = 16 << 10;

/// Directories any of which can carry the bundle: one that hides nothing that is still needed.
const CARRIERS: [&str; 6] = ["/mnt", "/media", "/srv", "/opt", "/run", "/tmp"];

/// The longest word of `runsc` that is passed on.
const WORD_CHARS_MAX: usize = 400;

/// Makes the bundle, starts `runsc` with it, and waits for the end. What fails before the program began is a problem.
pub(super) fn run_in_gvisor(order: &HelperOrder, runsc: &Path, helper: &Path) -> Result<ProcessExit, String> {
    let bundle = OciBundle::make_bundle(order, runsc, helper)
        .map_err(|(place, problem)| format!("{place}: {problem}"))?;
    let (ours, theirs) = UnixStream::pair().map_err(|problem| format!("the guest's socket: {problem}"))?;
    let order = order.encode().map_err(|problem| problem.to_string())?;
    let child = bundle
        .runsc_command(runsc, theirs)
        .spawn()
        .map_err(|problem| format!("{}: {problem}", runsc.display()))?;
    // No other process holds the other end, so this ends when the guest does, and what the guest says then counts.
    drop((&ours).write_all(&order));
    let ended = reaper::wait_and_reap(&child);
    // What it left behind may still hold the socket; what it said is there.
    ours.set_nonblocking(true).map_err(|problem| problem.to_string())?;
    match read_guest_report(&ours) {
        GuestReport::Ended(ending) => Ok(ending),
        GuestReport::Begun => Ok(ProcessExit::Lost),
        GuestReport::Nothing => Err(format!("runsc started no program: {}", bundle.last_word(&ended))),
    }
}

/// What the guest said.
#[derive(Debug, PartialEq, Eq)]
enum GuestReport {
    /// The program did not begin.
    Nothing,
    /// It may have begun, and there is no report of how it ended.
    Begun,
    /// It ended so.
    Ended(ProcessExit),
}

fn read_guest_report(said: impl Read) -> GuestReport {
    let mut bytes = Vec::new();
    // What came before there was no more to read counts, whatever kept the rest away.
    drop(said.take(REPORT_BYTES_MAX).read_to_end(&mut bytes));
    let Some((&BEGUN, text)) = bytes.split_first() else { return GuestReport::Nothing };
    HelperReport::parse(text).map_or(GuestReport::Begun, |report| GuestReport::Ended(report.ending))
}

/// A bundle.
struct OciBundle {
    top: PathBuf,
}

impl OciBundle {
    /// Makes it. What went wrong is said with its place.
    fn make_bundle(order: &HelperOrder, runsc: &Path, helper: &Path) -> Result<Self, (String, io::Error)> {
        let at = |place: &str| {
            let place = place.to_owned();
            move |problem: io::Error| (place, problem)
        };
        let top = find_carrier(&order.spec, &[runsc, helper]).map_err(at("bundle"))?;
        mount_carrier(&top).map_err(at("bundle"))?;
        let trees = SpecTrees::build_trees(&order.spec, &top.join("trees"))?;
        let bundle = Self { top };
        let config = bundle.guest_config(&order.spec, helper, &trees)?;
        fs::write(bundle.top.join("config.json"), config.to_string()).map_err(at("bundle"))?;
        Ok(bundle)
    }

    /// The root file system: what mounts lie on, and who there is.
    fn root_path(&self) -> PathBuf {
        self.top.join("rootfs")
    }

    /// A path of the guest, where it lies in the bundle.
    fn inner_path(&self, path: &Path) -> PathBuf {
        self.root_path().join(path.strip_prefix("/").unwrap_or(path))
    }

    fn runsc_command(&self, runsc: &Path, control: UnixStream) -> Command {
        let mut command = Command::new(runsc);
        command
            .arg("--root")
            .arg(self.top.join("state"))
            .arg("--log")
            .arg(self.top.join("log"))
            .args(["--rootless", "--ignore-cgroups", "--network=none", "run", "--bundle"])
            .arg(&self.top)
            .arg("tool")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir(&self.top)
            .stdin(OwnedFd::from(control));
        command
    }

    /// What `runsc` said last in its log, else how it ended.
    fn last_word(&self, ended: &io::Result<ProcessExit>) -> String {
        let log = fs::read_to_string(self.top.join("log")).unwrap_or_default();
        let line = log.lines().rfind(|line| !line.trim().is_empty());
        line.map_or_else(|| format!("{ended:?}"), |line| line.chars().take(WORD_CHARS_MAX).collect())
    }

    /// Writes what the guest has, and makes in its root what that lies on.
    fn guest_config(
        &self,
        spec: &ProcessSpec,
        helper: &Path,
        trees: &SpecTrees,
    ) -> Result<Value, (String, io::Error)> {
        let mut mounts = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc"}),
            // It would show devices, though only made-up ones.
            json!({"destination": "/sys", "type": "tmpfs", "source": "none",
                "options": ["ro", "nosuid", "nodev", "noexec"]}),
        ];
        let temporary = [
            ("/tmp", spec.limits.disk_bytes),
            ("/dev/shm", spec.limits.disk_bytes.min(spec.limits.memory_bytes)),
        ];
        for (path, bytes) in temporary {
            let options = json!(["nosuid", "nodev", "mode=1777", format!("size={bytes}")]);
            mounts.push(json!({"destination": path, "type": "tmpfs", "source": "none", "options": options}));
        }
        let mut add = |source: &Path, target: &Path, is_writable: bool| {
            let place = target.display().to_string();
            let mount = self.bind_path(source, target, is_writable).map_err(|problem| (place, problem))?;
            mounts.extend(mount);
            Ok::<(), (String, io::Error)>(())
        };
        for path in SYSTEM.map(Path::new) {
            add(path, path, false)?;
        }
        add(helper, Path::new(INSIDE), false)?;
        let workspace = Path::new(WORKSPACE);
        if by_path::is_planted() {
            add(&spec.workspace, workspace, true)?;
            let (fixed, frozen) = by_path::guarded_paths(&spec.workspace);
            for (names, is_writable) in [(fixed, true), (frozen, false)] {
                for name in names {
                    add(&spec.workspace.join(&name), &workspace.join(&name), is_writable)?;
                }
            }
        } else {
            let read_only = spec.reference.is_some_and(|meant| meant.read_only);
            add(&trees.workspace, workspace, !read_only)?;
        }
        for (source, mount) in trees.mounts.iter().zip(&spec.mounts) {
            add(source, &mount.target, mount.writable)?;
        }
        self.make_directories().map_err(|problem| ("root".to_owned(), problem))?;
        Ok(oci_config(&mounts))
    }

    /// Shows something of this machine in the guest: a mount, or a link where it is one; what is not there is left out.
    fn bind_path(&self, source: &Path, target: &Path, is_writable: bool) -> io::Result<Option<Value>> {
        let Ok(found) = fs::symlink_metadata(source) else { return Ok(None) };
        let inner = self.inner_path(target);
        if found.is_symlink() {
            mount_point::parent_of(&inner)?;
            symlink(fs::read_link(source)?, inner)?;
            return Ok(None);
        }
        mount_point::make_mount_point(&inner, found.is_dir())?;
        bind_mount(source, target, is_writable).map(Some)
    }

    /// Makes what is not shown but there.
    fn make_directories(&self) -> io::Result<()> {
        for path in ["/proc", "/sys", "/dev", "/tmp", "/etc"] {
            mount_point::make_directory(&self.inner_path(Path::new(path)))?;
        }
        root::write_identity(&self.inner_path(Path::new("/etc")), BUILDER_ID)
    }
}

/// A mount of something of this machine.
fn bind_mount(source: &Path, target: &Path, is_writable: bool) -> io::Result<Value> {
    let text = |path: &Path| {
        let problem = || io::Error::other("its path is not UTF-8");
        path.to_str().map(str::to_owned).ok_or_else(problem)
    };
    let mode = if is_writable { "rw" } else { "ro" };
    Ok(json!({
        "destination": text(target)?,
        "type": "bind",
        "source": text(source)?,
        "options": [mode, "rbind", "nosuid", "nodev"],
    }))
}

/// The whole description of the guest: one process in namespaces of its own, which may become another user once, so that
/// the program is not its equal; nothing that it starts gets even that.
fn oci_config(mounts: &[Value]) -> Value {
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "hostname": HOST_NAME,
        "root": {"path": "rootfs", "readonly": true},
        "process": {
            "terminal": false,
            "user": {"uid": BUILDER_ID, "gid": BUILDER_ID},
            "args": [INSIDE, INSIDE_FLAG],
            "env": [],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": [], "effective": ["CAP_SETUID"], "inheritable": [], "permitted": ["CAP_SETUID"],
                "ambient": [],
            },
        },
        "mounts": mounts,
        "linux": {"namespaces": namespaces},
    })
}

/// Finds a directory that may be hidden by a bundle or a jail: nothing of it is needed.
pub(super) fn find_carrier(spec: &ProcessSpec, needed: &[&Path]) -> io::Result<PathBuf> {
    let needed: Vec<_> = needed
        .iter()
        .copied()
        .chain([spec.workspace.as_path()])
        .chain(spec.mounts.iter().map(|mount| mount.source.as_path()))
        .collect();
    let is_free = |carrier: &&Path| {
        carrier.symlink_metadata().is_ok_and(|found| found.is_dir())
            && !needed.iter().any(|path| path.starts_with(carrier))
    };
    let found = CARRIERS.iter().map(Path::new).find(is_free);
    found.map(Path::to_owned).ok_or_else(|| io::Error::other("there is no directory to mount on"))
}

/// Leaves the mounts of this machine, puts an empty file system onto the carrier, and shows the namespace's processes.
fn mount_carrier(top: &Path) -> io::Result<()> {
    sys::unshare(UnshareFlags::NEWNS)?;
    // What is mounted here must not show up outside.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("dromia", top, "tmpfs", flags, c"mode=0700,size=16m")?;
    // runsc looks for its own processes by their numbers here.
    mount("proc", "/proc", "proc", flags | MountFlags::NOEXEC, c"")?;
    for name in ["rootfs", "state", "trees"] {
        mount_point::make_directory(&top.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dromia_contracts::sandbox::{NetworkAccess, ProcessLimits, SandboxMount};

    use super::*;

    fn spec(workspace: &str, mount: &str) -> ProcessSpec {
        ProcessSpec {
            argv: vec!["true".to_owned()],
            env: Vec::new(),
            workspace: workspace.into(),
            reference: None,
            cwd: PathBuf::new(),
            mounts: vec![SandboxMount { source: mount.into(), target: "/opt/m".into(), writable: false }],
            limits: ProcessLimits::DEFAULT,
            network: NetworkAccess::None,
            family: None,
        }
    }

    #[test]
    fn the_bundle_hides_nothing_that_is_needed() {
        let of = |workspace: &str, mount: &str| {
            let needed = ["/usr/bin/runsc", "/usr/bin/dromia"].map(Path::new);
            find_carrier(&spec(workspace, mount), &needed)
        };
        let free = of("/home/w", "/home/m").expect("one is free");
        assert!(CARRIERS.iter().any(|carrier| free == Path::new(carrier)));
        let workspace = free.join("w").display().to_string();
        assert_ne!(of(&workspace, "/home/m").ok(), Some(free.clone()));
        assert_ne!(of("/home/w", &free.display().to_string()).ok(), Some(free));
    }

    #[test]
    fn a_guest_report_distinguishes_nothing_begun_and_ended() {
        let ending = ProcessExit::Exited { code: 7 };
        let text = serde_json::to_vec(&HelperReport::new(ending.clone())).expect("it is JSON");
        assert_eq!(read_guest_report(&b""[..]), GuestReport::Nothing);
        assert_eq!(read_guest_report(&b"+"[..]), GuestReport::Begun);
        assert_eq!(read_guest_report(&b"+{\"version\":"[..]), GuestReport::Begun);
        assert_eq!(read_guest_report(&*[&b"+"[..], &text].concat()), GuestReport::Ended(ending));
    }
}
