//! The backend with a machine of its own: Firecracker, through its jailer.
//!
//! A program gets a virtual machine with a kernel and a root image of the operator's choice. Its workspace goes in file
//! by file over one socket, and what changed comes back the same way when the program has ended; no file system that a
//! guest wrote is read by this machine's kernel. There is no network device. The monitor runs as a user of its own, in
//! a jail that is in memory, in namespaces without a network.
//!
//! What it refuses to do: run without the jailer, run with a part that is missing (`parts` names it), keep what a program
//! wrote whose machine was ended by force.

pub(crate) mod parts;

use std::path::PathBuf;

use crate::order::{BackendSpec, HelperOrder, VERSION};
use crate::process::RunningProcess;
use crate::proxy_socket;
use crate::spec;
use dromia_contracts::BoxFuture;
use dromia_contracts::sandbox::{IsolationTier, ProcessSpec, SandboxBackend, SandboxError, SandboxProcess};

pub use self::parts::FirecrackerParts;
pub use crate::helper::{RehearsalResult, rehearse_guest};

/// The default user of the machine monitor: a number that distributions leave free.
pub const UID_DEFAULT: u32 = 60_999;

/// Machines of Firecracker.
#[derive(Debug, Clone)]
pub struct FirecrackerSandbox {
    helper: PathBuf,
    monitor: FirecrackerParts,
}

impl FirecrackerSandbox {
    /// Names the program that is the helper, and the parts of the machine. Nothing is looked at; [`crate::probe`] does
    /// that.
    pub fn new(helper: PathBuf, monitor: FirecrackerParts) -> Self {
        Self { helper, monitor }
    }

    /// The order for the helper, of a resolved spec.
    pub(crate) fn helper_order(&self, spec: ProcessSpec) -> HelperOrder {
        let walls = BackendSpec::Firecracker { monitor: self.monitor.clone() };
        HelperOrder { version: VERSION, walls, spec, groups: Vec::new(), is_memory_bound: true }
    }
}

impl SandboxBackend for FirecrackerSandbox {
    fn backend_name(&self) -> &'static str {
        "firecracker"
    }

    fn isolation_tier(&self) -> IsolationTier {
        IsolationTier::Machine
    }

    fn start_process(
        &self,
        spec: ProcessSpec,
    ) -> BoxFuture<'_, Result<Box<dyn SandboxProcess>, SandboxError>> {
        Box::pin(async move {
            spec::check_spec(&spec)?;
            spec::refuse_reference(&spec, self.backend_name())?;
            proxy_socket::refuse_proxy(&spec, self.backend_name())?;
            let order = self.helper_order(spec::resolve_spec(spec)?);
            let running = RunningProcess::start(&self.helper, &order).await?;
            Ok(Box::new(running) as Box<dyn SandboxProcess>)
        })
    }
}
