//! The backend with a kernel of its own: gVisor's `runsc`.
//!
//! Calls of the program are answered by gVisor, a process in user space; this machine's kernel sees only what gVisor
//! asks of it, from namespaces of its own. Inside, this program builds the same filter and counts as outside. The warden
//! makes the bundle; no daemon, no root and no control group is needed.

use std::path::{Path, PathBuf};

use dromia_contracts::BoxFuture;
use dromia_contracts::sandbox::{Mount, Process, ProcessSpec, Sandbox, SandboxError, Tier};

use crate::door;
use crate::order::{Order, VERSION, Walls};
use crate::running::Running;
use crate::spec::{self, WORKSPACE};

/// gVisor with our walls inside.
#[derive(Debug, Clone)]
pub struct Gvisor {
    helper: PathBuf,
    runsc: PathBuf,
}

impl Gvisor {
    /// Names the program that is the helper, which must be a real path, and that of gVisor.
    pub fn new(helper: PathBuf, runsc: PathBuf) -> Self {
        Self { helper, runsc }
    }

    /// The order for the helper, of a resolved spec.
    pub(crate) fn order(&self, spec: ProcessSpec) -> Order {
        let walls = Walls::Gvisor { runsc: self.runsc.clone(), helper: self.helper.clone() };
        Order { version: VERSION, walls, spec, groups: Vec::new() }
    }
}

impl Sandbox for Gvisor {
    fn name(&self) -> &'static str {
        "gvisor"
    }

    fn tier(&self) -> Tier {
        Tier::Guest
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
            door::refuse(&spec, self.name())?;
            let order = self.order(spec::resolve(spec)?);
            let running = Running::start(&self.helper, &order).await?;
            Ok(Box::new(running) as Box<dyn Process>)
        })
    }
}
