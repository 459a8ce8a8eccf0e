//! The backend for machines whose kernel gives namespaces to `bwrap` only.
//!
//! bubblewrap makes the namespaces and the file system; inside, this program builds the same walls as the native
//! backend and becomes the tool. The helper watches from outside.

use std::path::{Path, PathBuf};

use dromia_contracts::BoxFuture;
use dromia_contracts::sandbox::{Mount, Process, ProcessSpec, Sandbox, SandboxError, Tier};

use crate::INSIDE_FLAG;
use crate::helper::{DEVICES, SYSTEM};
use crate::order::{Order, VERSION, Walls};
use crate::running::Running;
use crate::spec::{self, WORKSPACE, guarded};

/// Where the helper lies inside.
const INSIDE: &str = "/run/dromia/helper";

/// bubblewrap with our walls inside.
#[derive(Debug, Clone)]
pub struct Bubblewrap {
    helper: PathBuf,
    program: PathBuf,
    groups: Vec<PathBuf>,
}

impl Bubblewrap {
    /// Names the program that is the helper, which must be a real path, that of bubblewrap, and the directories of
    /// control groups that programs get groups in.
    pub fn new(helper: PathBuf, program: PathBuf, groups: Vec<PathBuf>) -> Self {
        Self { helper, program, groups }
    }

    /// The whole command line for a resolved spec.
    pub(crate) fn argv(&self, spec: &ProcessSpec) -> Result<Vec<String>, SandboxError> {
        let walls = Walls::Foreign { argv: Vec::new() };
        // What is inside was in the groups before.
        let inside = Order { version: VERSION, walls, spec: spec.clone(), groups: Vec::new() };
        let inside = serde_json::to_string(&inside)
            .map_err(|problem| SandboxError::Start { problem: problem.to_string() })?;
        let mut line = Line(vec![text(&self.program)?]);
        line.add(["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]);
        line.add(["--uid", "1000", "--gid", "1000", "--hostname", "sandbox"]);
        for path in SYSTEM {
            line.add(["--ro-bind-try", path, path]);
        }
        line.add(["--proc", "/proc", "--dir", "/dev"]);
        for device in DEVICES {
            line.add(["--dev-bind", device, device]);
        }
        for (path, bytes) in [
            ("/tmp", spec.limits.disk_bytes),
            ("/dev/shm", spec.limits.disk_bytes.min(spec.limits.memory_bytes)),
        ] {
            line.add(["--perms", "1777", "--size", &bytes.to_string(), "--tmpfs", path]);
        }
        let workspace = text(&spec.workspace)?;
        line.add(["--bind", &workspace, WORKSPACE]);
        let (fixed, frozen) = guarded(&spec.workspace);
        for (option, names) in [("--bind", fixed), ("--ro-bind", frozen)] {
            for name in names {
                let (from, to) =
                    (text(&spec.workspace.join(&name))?, text(&Path::new(WORKSPACE).join(&name))?);
                line.add([option, &from, &to]);
            }
        }
        for mount in &spec.mounts {
            let option = if mount.writable { "--bind" } else { "--ro-bind" };
            line.add([option, &text(&mount.source)?, &text(&mount.target)?]);
        }
        line.add(["--ro-bind", &text(&self.helper)?, INSIDE, "--remount-ro", "/", "--chdir", "/"]);
        line.add(["--", INSIDE, INSIDE_FLAG, &inside]);
        Ok(line.0)
    }

    /// The order for the helper, of a resolved spec.
    pub(crate) fn order(&self, spec: ProcessSpec) -> Result<Order, SandboxError> {
        let walls = Walls::Foreign { argv: self.argv(&spec)? };
        Ok(Order { version: VERSION, walls, spec, groups: self.groups.clone() })
    }
}

/// A command line in the making.
struct Line(Vec<String>);

impl Line {
    fn add<const N: usize>(&mut self, words: [&str; N]) {
        self.0.extend(words.map(str::to_owned));
    }
}

fn text(path: &Path) -> Result<String, SandboxError> {
    let problem = || format!("{} is not UTF-8", path.display());
    path.to_str().map(str::to_owned).ok_or_else(|| SandboxError::Spec { place: "mounts", problem: problem() })
}

impl Sandbox for Bubblewrap {
    fn name(&self) -> &'static str {
        "bubblewrap"
    }

    fn tier(&self) -> Tier {
        Tier::Process
    }

    fn workspace(&self, _spec: &ProcessSpec) -> PathBuf {
        PathBuf::from(WORKSPACE)
    }

    fn place<'mount>(&self, mount: &'mount Mount) -> &'mount Path {
        &mount.target
    }

    fn start(&self, spec: ProcessSpec) -> BoxFuture<'_, Result<Box<dyn Process>, SandboxError>> {
        Box::pin(async move {
            spec::check(&spec)?;
            let order = self.order(spec::resolve(spec)?)?;
            let running = Running::start(&self.helper, &order).await?;
            Ok(Box::new(running) as Box<dyn Process>)
        })
    }
}
