//! The backend for machines whose kernel gives namespaces to `bwrap` only.
//!
//! bubblewrap makes the namespaces and the file system; inside, this program is the first process, guards the workspace, builds
//! the same walls as the native backend and starts the tool. The helper watches from outside.
//!
//! `bwrap` takes paths, and looks them up when it is there. So it is given no path below a workspace that an agent could
//! have changed without notice: guards are made inside, by handle, when nothing of this machine is left to be found, and what
//! was mounted is compared with what was meant before anything else runs.

use std::path::{Path, PathBuf};

use dromia_contracts::BoxFuture;
use dromia_contracts::sandbox::{IsolationTier, ProcessSpec, SandboxBackend, SandboxError, SandboxProcess};

use crate::INSIDE_FLAG;
use crate::helper::{self, DEVICES, SYSTEM, guarded_by_path};
use crate::order::{BackendSpec, HelperOrder, MeantFile, VERSION};
use crate::process::RunningProcess;
use crate::spec::{self, WORKSPACE};

/// Where the helper lies inside.
const INSIDE: &str = "/run/dromia/helper";

/// bubblewrap with our restrictions inside.
#[derive(Debug, Clone)]
pub struct BubblewrapSandbox {
    helper: PathBuf,
    program: PathBuf,
    groups: Vec<PathBuf>,
    /// The planted fault of the race tests.
    binds_by_path: bool,
}

impl BubblewrapSandbox {
    /// Names the program that is the helper, which must be a real path, that of bubblewrap, and the directories of
    /// control groups that programs get groups in.
    pub fn new(helper: PathBuf, program: PathBuf, groups: Vec<PathBuf>) -> Self {
        Self { helper, program, groups, binds_by_path: false }
    }

    /// The same with a fault planted: `bwrap` binds guards by their paths.
    #[doc(hidden)]
    #[must_use]
    pub fn binding_by_path(self) -> Self {
        Self { binds_by_path: true, ..self }
    }

    /// The whole command line for a resolved spec.
    pub(crate) fn command_line(&self, spec: &ProcessSpec) -> Result<Vec<String>, SandboxError> {
        let walls = BackendSpec::Foreign { argv: Vec::new(), meant: meant_files(spec)? };
        // What is inside was in the groups before.
        let is_memory_bound = helper::are_memory_bound(&self.groups);
        let inside =
            HelperOrder { version: VERSION, walls, spec: spec.clone(), groups: Vec::new(), is_memory_bound };
        let inside = serde_json::to_string(&inside)
            .map_err(|problem| SandboxError::Start { problem: problem.to_string() })?;
        let mut line = ArgumentList(vec![path_text(&self.program)?]);
        line.add_arguments(["--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1"]);
        line.add_arguments(["--cap-drop", "ALL"]);
        // This program makes the guards and the root inside, and then gives all of them up for ever.
        for capability in ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SETPCAP"] {
            line.add_arguments(["--cap-add", capability]);
        }
        line.add_arguments(["--uid", "1000", "--gid", "1000", "--hostname", "sandbox"]);
        for path in SYSTEM {
            line.add_arguments(["--ro-bind-try", path, path]);
        }
        line.add_arguments(["--proc", "/proc", "--dir", "/dev"]);
        for device in DEVICES {
            line.add_arguments(["--dev-bind", device, device]);
        }
        let (files, directories) = helper::masked_names(Path::new("/proc"));
        for name in files {
            line.add_arguments(["--ro-bind", "/dev/null", &format!("/proc/{name}")]);
        }
        for name in directories {
            let path = format!("/proc/{name}");
            line.add_arguments([
                "--perms",
                "0555",
                "--size",
                "4096",
                "--tmpfs",
                &path,
                "--remount-ro",
                &path,
            ]);
        }
        for (path, bytes) in [
            ("/tmp", spec.limits.disk_bytes),
            ("/dev/shm", spec.limits.disk_bytes.min(spec.limits.memory_bytes)),
        ] {
            line.add_arguments(["--perms", "1777", "--size", &bytes.to_string(), "--tmpfs", path]);
        }
        let workspace = path_text(&spec.workspace)?;
        let read_only = spec.reference.is_some_and(|meant| meant.read_only);
        line.add_arguments([if read_only { "--ro-bind" } else { "--bind" }, &workspace, WORKSPACE]);
        if self.binds_by_path {
            let (fixed, frozen) = guarded_by_path(&spec.workspace);
            for (option, names) in [("--bind", fixed), ("--ro-bind", frozen)] {
                for name in names {
                    let (from, to) = (
                        path_text(&spec.workspace.join(&name))?,
                        path_text(&Path::new(WORKSPACE).join(&name))?,
                    );
                    line.add_arguments([option, &from, &to]);
                }
            }
        }
        for mount in &spec.mounts {
            let option = if mount.writable { "--bind" } else { "--ro-bind" };
            line.add_arguments([option, &path_text(&mount.source)?, &path_text(&mount.target)?]);
        }
        line.add_arguments([
            "--ro-bind",
            &path_text(&self.helper)?,
            INSIDE,
            "--remount-ro",
            "/",
            "--chdir",
            "/",
        ]);
        line.add_arguments(["--", INSIDE, INSIDE_FLAG, &inside]);
        Ok(line.0)
    }

    /// The order for the helper, of a resolved spec.
    pub(crate) fn helper_order(&self, spec: ProcessSpec) -> Result<HelperOrder, SandboxError> {
        let walls = BackendSpec::Foreign { argv: self.command_line(&spec)?, meant: Vec::new() };
        let is_memory_bound = helper::are_memory_bound(&self.groups);
        Ok(HelperOrder { version: VERSION, walls, spec, groups: self.groups.clone(), is_memory_bound })
    }
}

/// What the program shall find inside: each path, and the file of this machine that is meant.
fn meant_files(spec: &ProcessSpec) -> Result<Vec<MeantFile>, SandboxError> {
    let shown = spec.mounts.iter().map(|mount| (&mount.source, mount.target.clone(), "mounts"));
    let all = shown.chain([(&spec.workspace, PathBuf::from(WORKSPACE), "workspace")]);
    let of = |(source, path, place): (&PathBuf, PathBuf, &'static str)| {
        let meant = spec.reference.filter(|_| path == Path::new(WORKSPACE));
        let identity = match meant {
            Some(meant) => Ok((meant.device, meant.inode)),
            None => helper::open_over_no_link(source).and_then(|found| helper::device_and_inode(&found)),
        };
        let (device, number) = identity.map_err(|problem| {
            let problem = format!("{}: {problem}", source.display());
            SandboxError::Spec { place, problem }
        })?;
        Ok(MeantFile { path, device, number })
    };
    all.map(of).collect()
}

/// A command line in the making.
struct ArgumentList(Vec<String>);

impl ArgumentList {
    fn add_arguments<const N: usize>(&mut self, words: [&str; N]) {
        self.0.extend(words.map(str::to_owned));
    }
}

fn path_text(path: &Path) -> Result<String, SandboxError> {
    let problem = || format!("{} is not UTF-8", path.display());
    path.to_str().map(str::to_owned).ok_or_else(|| SandboxError::Spec { place: "mounts", problem: problem() })
}

impl SandboxBackend for BubblewrapSandbox {
    fn backend_name(&self) -> &'static str {
        "bubblewrap"
    }

    fn isolation_tier(&self) -> IsolationTier {
        IsolationTier::Process
    }

    fn start_process(
        &self,
        spec: ProcessSpec,
    ) -> BoxFuture<'_, Result<Box<dyn SandboxProcess>, SandboxError>> {
        Box::pin(async move {
            spec::check_spec(&spec)?;
            let order = self.helper_order(spec::resolve_spec(spec)?)?;
            let running = RunningProcess::start(&self.helper, &order).await?;
            Ok(Box::new(running) as Box<dyn SandboxProcess>)
        })
    }
}
