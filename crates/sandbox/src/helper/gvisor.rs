//! gVisor around a program: the bundle that `runsc` is given, its start and its end.
//!
//! The bundle lies in a file system in memory that only the mount namespace of the warden has, so nothing of it is left
//! whoever is killed, and nobody else sees it. `runsc` and all that it starts live in the warden's process namespace and
//! end with it. They are root of their user namespace, which outside is whoever runs the server.
//!
//! Order and report go through the *desk*, a directory of the bundle. The first process of the guest takes both and
//! removes their names before anything else runs; see [`super::guest`]. The first byte of the report says that the
//! program may have begun; from then on a missing report is [`Ending::Lost`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dromia_contracts::sandbox::{Ending, ProcessSpec};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;
use serde_json::{Value, json};

use super::namespaces::BUILDER_ID;
use super::root::{self, HOST_NAME, SYSTEM};
use super::warden;
use crate::order::{Order, Report};
use crate::spec::{WORKSPACE, guarded};
use crate::{INSIDE_FLAG, sys};

/// Where the guest finds the helper.
const INSIDE: &str = "/run/dromia/helper";

/// Where the guest finds its order and puts its report.
pub(super) const DESK: &str = "/run/dromia/desk";

/// The names on the desk.
pub(super) const ORDER: &str = "order";
pub(super) const REPORT: &str = "report";

/// The first byte of a report: the program may have begun.
pub(super) const BEGUN: u8 = b'+';

/// The size of a report. It is there from the beginning, so that a full desk does not keep it from being written.
pub(super) const REPORT_BYTES: usize = 16 << 10;

/// Directories any of which can carry the bundle: one that hides nothing that is still needed.
const CARRIERS: [&str; 6] = ["/mnt", "/media", "/srv", "/opt", "/run", "/tmp"];

/// The longest word of `runsc` that is passed on.
const WORD_CHARS_MAX: usize = 400;

/// Makes the bundle, starts `runsc` with it, and waits for the end. What fails before the program began is a problem.
pub(super) fn run(order: &Order, runsc: &Path, helper: &Path) -> Result<Ending, String> {
    let bundle =
        Bundle::make(order, runsc, helper).map_err(|(place, problem)| format!("{place}: {problem}"))?;
    let mut report = bundle.report.try_clone().map_err(|problem| problem.to_string())?;
    let child = bundle.command(runsc).spawn().map_err(|problem| format!("{}: {problem}", runsc.display()))?;
    let ended = warden::bury(&child);
    match told(&mut report) {
        Ok(Told::Ended(ending)) => Ok(ending),
        Ok(Told::Begun) | Err(_) => Ok(Ending::Lost),
        Ok(Told::Nothing) => Err(format!("runsc began nothing: {}", bundle.last_word(&ended))),
    }
}

/// What lies in the report.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// The program did not begin.
    Nothing,
    /// It may have begun, and nobody said how it ended.
    Begun,
    /// It ended so.
    Ended(Ending),
}

fn told(report: &mut File) -> io::Result<Told> {
    let mut bytes = Vec::new();
    report.rewind()?;
    report.take(REPORT_BYTES as u64).read_to_end(&mut bytes)?;
    let Some((&BEGUN, text)) = bytes.split_first() else { return Ok(Told::Nothing) };
    let length = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    Ok(Report::parse(&text[..length]).map_or(Told::Begun, |report| Told::Ended(report.ending)))
}

/// A bundle, and the handle of its report.
struct Bundle {
    top: PathBuf,
    report: File,
}

impl Bundle {
    /// Makes it. What went wrong is said with its place.
    fn make(order: &Order, runsc: &Path, helper: &Path) -> Result<Self, (String, io::Error)> {
        let at = |place: &str| {
            let place = place.to_owned();
            move |problem: io::Error| (place, problem)
        };
        let top = carrier(&order.spec, &[runsc, helper]).map_err(at("bundle"))?;
        carry(&top).map_err(at("bundle"))?;
        let report = lay_desk(&top, order).map_err(at("desk"))?;
        let bundle = Self { top, report };
        let config = bundle.config(&order.spec, helper)?;
        fs::write(bundle.top.join("config.json"), config.to_string()).map_err(at("bundle"))?;
        Ok(bundle)
    }

    /// The root file system: what mounts lie on, and who there is.
    fn root(&self) -> PathBuf {
        self.top.join("rootfs")
    }

    /// A path of the guest, where it lies in the bundle.
    fn inner(&self, path: &Path) -> PathBuf {
        self.root().join(path.strip_prefix("/").unwrap_or(path))
    }

    fn command(&self, runsc: &Path) -> Command {
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
            .stdin(Stdio::null());
        command
    }

    /// What `runsc` said last in its log, else how it ended.
    fn last_word(&self, ended: &io::Result<Ending>) -> String {
        let log = fs::read_to_string(self.top.join("log")).unwrap_or_default();
        let line = log.lines().rfind(|line| !line.trim().is_empty());
        line.map_or_else(|| format!("{ended:?}"), |line| line.chars().take(WORD_CHARS_MAX).collect())
    }

    /// Writes what the guest has, and makes in its root what that lies on.
    fn config(&self, spec: &ProcessSpec, helper: &Path) -> Result<Value, (String, io::Error)> {
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
            let mount = self.bind(source, target, is_writable).map_err(|problem| (place, problem))?;
            mounts.extend(mount);
            Ok::<(), (String, io::Error)>(())
        };
        for path in SYSTEM.map(Path::new) {
            add(path, path, false)?;
        }
        add(helper, Path::new(INSIDE), false)?;
        add(&self.top.join("desk"), Path::new(DESK), true)?;
        let workspace = Path::new(WORKSPACE);
        add(&spec.workspace, workspace, true)?;
        let (fixed, frozen) = guarded(&spec.workspace);
        for (names, is_writable) in [(fixed, true), (frozen, false)] {
            for name in names {
                // Its place is in the workspace, which is there.
                let mount = bound(&spec.workspace.join(&name), &workspace.join(&name), is_writable);
                mounts.push(mount.map_err(|problem| (name.display().to_string(), problem))?);
            }
        }
        for mount in &spec.mounts {
            if !mount.source.exists() {
                return Err((mount.source.display().to_string(), io::ErrorKind::NotFound.into()));
            }
            let place = mount.target.display().to_string();
            let added = self.bind(&mount.source, &mount.target, mount.writable);
            mounts.extend(added.map_err(|problem| (place, problem))?);
        }
        self.furnish().map_err(|problem| ("root".to_owned(), problem))?;
        Ok(described(&mounts))
    }

    /// Shows something of this machine in the guest: a mount, or a link where it is one; what is not there is left out.
    fn bind(&self, source: &Path, target: &Path, is_writable: bool) -> io::Result<Option<Value>> {
        let Ok(found) = fs::symlink_metadata(source) else { return Ok(None) };
        let inner = self.inner(target);
        if found.is_symlink() {
            root::parent_of(&inner)?;
            symlink(fs::read_link(source)?, inner)?;
            return Ok(None);
        }
        root::place(&inner, found.is_dir())?;
        bound(source, target, is_writable).map(Some)
    }

    /// Makes what is not shown but there.
    fn furnish(&self) -> io::Result<()> {
        for path in ["/proc", "/sys", "/dev", "/tmp", "/etc"] {
            root::directory(&self.inner(Path::new(path)))?;
        }
        root::identity(&self.inner(Path::new("/etc")), BUILDER_ID)
    }
}

/// A mount of something of this machine.
fn bound(source: &Path, target: &Path, is_writable: bool) -> io::Result<Value> {
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

/// The whole description of the guest: one process without a capability, in namespaces of its own.
fn described(mounts: &[Value]) -> Value {
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
                "bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": [],
            },
        },
        "mounts": mounts,
        "linux": {"namespaces": namespaces},
    })
}

/// Finds a directory that may be hidden by a bundle or a jail: nothing of it is needed.
pub(super) fn carrier(spec: &ProcessSpec, needed: &[&Path]) -> io::Result<PathBuf> {
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
fn carry(top: &Path) -> io::Result<()> {
    sys::unshare(UnshareFlags::NEWNS)?;
    // What is mounted here must not show up outside.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("dromia", top, "tmpfs", flags, c"mode=0700,size=16m")?;
    // runsc looks for its own processes by their numbers here.
    mount("proc", "/proc", "proc", flags | MountFlags::NOEXEC, c"")?;
    for name in ["rootfs", "state", "desk"] {
        root::directory(&top.join(name))?;
    }
    Ok(())
}

/// Lays the order out, and an empty report; returns the latter's handle.
fn lay_desk(top: &Path, order: &Order) -> io::Result<File> {
    let desk = top.join("desk");
    fs::write(desk.join(ORDER), order.encode()?)?;
    let path = desk.join(REPORT);
    fs::write(&path, vec![0; REPORT_BYTES])?;
    OpenOptions::new().read(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use dromia_contracts::sandbox::{Limits, Mount, Network};

    use super::*;

    fn spec(workspace: &str, mount: &str) -> ProcessSpec {
        ProcessSpec {
            argv: vec!["true".to_owned()],
            env: Vec::new(),
            workspace: workspace.into(),
            cwd: PathBuf::new(),
            mounts: vec![Mount { source: mount.into(), target: "/opt/m".into(), writable: false }],
            limits: Limits::DEFAULT,
            network: Network::None,
            family: None,
        }
    }

    #[test]
    fn the_bundle_hides_nothing_that_is_needed() {
        let of = |workspace: &str, mount: &str| {
            let needed = ["/usr/bin/runsc", "/usr/bin/dromia"].map(Path::new);
            carrier(&spec(workspace, mount), &needed)
        };
        let free = of("/home/w", "/home/m").expect("one is free");
        assert!(CARRIERS.iter().any(|carrier| free == Path::new(carrier)));
        let workspace = free.join("w").display().to_string();
        assert_ne!(of(&workspace, "/home/m").ok(), Some(free.clone()));
        assert_ne!(of("/home/w", &free.display().to_string()).ok(), Some(free));
    }

    #[test]
    fn a_report_says_that_nothing_began_that_something_did_or_how_it_ended() {
        let dir = tempfile::tempdir().expect("a directory");
        let written = |bytes: &[u8]| {
            let path = dir.path().join("report");
            fs::write(&path, vec![0; REPORT_BYTES]).expect("a file");
            OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|mut file| file.write_all(bytes))
                .expect("written");
            told(&mut File::open(&path).expect("it is there")).expect("it is read")
        };
        let ending = Ending::Exited { code: 7 };
        let text = serde_json::to_vec(&Report::new(ending.clone())).expect("it is JSON");
        assert_eq!(written(b""), Told::Nothing);
        assert_eq!(written(b"+"), Told::Begun);
        assert_eq!(written(b"+{\"version\":"), Told::Begun);
        assert_eq!(written(&[&b"+"[..], &text].concat()), Told::Ended(ending));
    }
}
