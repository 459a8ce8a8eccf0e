//! The backend with a kernel of its own: gVisor's `runsc`.
//!
//! Calls of the program are answered by gVisor, a process in user space; this machine's kernel sees only what gVisor
//! asks of it, from namespaces of its own. Inside, this program builds the same filter and counts as outside. The warden
//! makes the bundle; no daemon, no root and no control group is needed.

use std::path::PathBuf;

use dromia_contracts::BoxFuture;
use dromia_contracts::sandbox::{IsolationTier, ProcessSpec, SandboxBackend, SandboxError, SandboxProcess};

use crate::order::{BackendSpec, GuestReporter, HelperOrder, VERSION};
use crate::process::RunningProcess;
use crate::proxy_socket;
use crate::spec;

/// gVisor with our restrictions inside.
#[derive(Debug, Clone)]
pub struct GvisorSandbox {
    helper: PathBuf,
    runsc: PathBuf,
    reporter: GuestReporter,
}

impl GvisorSandbox {
    /// Names the program that is the helper, which must be a real path, and that of gVisor.
    pub fn new(helper: PathBuf, runsc: PathBuf) -> Self {
        Self { helper, runsc, reporter: GuestReporter::Apart }
    }

    /// Has another one report from inside: only tests want another one.
    #[must_use]
    pub fn with_reporter(self, reporter: GuestReporter) -> Self {
        Self { reporter, ..self }
    }

    /// The order for the helper, of a resolved spec.
    pub(crate) fn helper_order(&self, spec: ProcessSpec) -> HelperOrder {
        let Self { helper, runsc, reporter } = self.clone();
        let walls = BackendSpec::Gvisor { runsc, helper, reporter };
        HelperOrder { version: VERSION, walls, spec, groups: Vec::new(), is_memory_bound: true }
    }
}

impl SandboxBackend for GvisorSandbox {
    fn backend_name(&self) -> &'static str {
        "gvisor"
    }

    fn isolation_tier(&self) -> IsolationTier {
        IsolationTier::Guest
    }

    fn start_process(
        &self,
        spec: ProcessSpec,
    ) -> BoxFuture<'_, Result<Box<dyn SandboxProcess>, SandboxError>> {
        Box::pin(async move {
            spec::check_spec(&spec)?;
            proxy_socket::refuse_proxy(&spec, self.backend_name())?;
            let order = self.helper_order(spec::resolve_spec(spec)?);
            let running = RunningProcess::start(&self.helper, &order).await?;
            Ok(Box::new(running) as Box<dyn SandboxProcess>)
        })
    }
}
