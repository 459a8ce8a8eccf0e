//! The backend of a Docker engine: its containers, bounded and taken away by our helper.
//!
//! The engine's socket and the image are the operator's choice; nothing is pulled, and no program sees the socket: a
//! process that reaches it is root of this machine, or the user of a rootless engine. A program whose spec names a
//! family gets a container that is kept warm for the next one of the same (`warm`); any other gets one of its own.

pub(crate) mod engine;
mod warm;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::sandbox::{
    IsolationTier, NetworkAccess, ProcessEvent, ProcessExit, ProcessLimits, ProcessSpec, SandboxBackend,
    SandboxError, SandboxProcess,
};
use dromia_contracts::{BoxFuture, RunId};

use self::warm::{ContainerKey, ContainerPool, PooledProcess, WarmContainer};
use crate::order::{BackendSpec, DockerTask, HelperOrder, VERSION};
use crate::process::RunningProcess;
use crate::proxy_socket;
use crate::spec;

pub use self::engine::DockerEngine;
pub(crate) use self::warm::IDLE;

/// How long a container is kept for the next program.
const IDLE_FOR: Duration = Duration::from_mins(1);

/// Containers of an engine.
#[derive(Debug, Clone)]
pub struct DockerSandbox {
    helper: PathBuf,
    engine: DockerEngine,
    idle: Duration,
    pool: Arc<ContainerPool>,
}

impl DockerSandbox {
    /// Names the program that is the helper, and the engine.
    pub fn new(helper: PathBuf, engine: DockerEngine) -> Self {
        Self { helper, engine, idle: IDLE_FOR, pool: Arc::new(ContainerPool::default()) }
    }

    /// The same, which keep a container for another while than a minute.
    #[must_use]
    pub fn kept_for(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }

    /// Takes away what helpers of servers left that are gone, also where server and helper were both killed by force.
    pub async fn remove_leftovers(&self) -> Result<(), SandboxError> {
        let nothing = ProcessSpec {
            argv: vec!["true".to_owned()],
            env: Vec::new(),
            workspace: PathBuf::from("/"),
            reference: None,
            cwd: PathBuf::new(),
            mounts: Vec::new(),
            limits: ProcessLimits { wall_ms: 60_000, ..ProcessLimits::DEFAULT },
            network: NetworkAccess::None,
            family: None,
        };
        let walls = BackendSpec::Docker { engine: self.engine.clone(), work: DockerTask::Clear };
        let order =
            HelperOrder { version: VERSION, walls, spec: nothing, groups: Vec::new(), is_memory_bound: true };
        let mut running = RunningProcess::start(&self.helper, &order).await?;
        let mut ending = ProcessExit::Lost;
        while let Some(event) = running.next().await {
            if let ProcessEvent::Ended(how) = event {
                ending = how;
            }
        }
        match ending {
            ProcessExit::Exited { code: 0 } => Ok(()),
            ProcessExit::NotStarted { problem } => Err(SandboxError::Start { problem }),
            other => Err(SandboxError::Start { problem: format!("{other:?}") }),
        }
    }

    /// Runs a program in a container that is kept for its family; nothing if there is none, and it gets one of its own.
    async fn start_warm(&self, spec: &ProcessSpec) -> Result<Option<Box<dyn SandboxProcess>>, SandboxError> {
        let Some(key) = ContainerKey::for_spec(spec) else { return Ok(None) };
        let kept = if let Some(kept) = self.pool.take_matching(&key) {
            Some(kept)
        } else {
            let idle_ms = u64::try_from(self.idle.as_millis()).unwrap_or(u64::MAX);
            let order = self.helper_order(spec.clone(), DockerTask::Keep { idle_ms })?;
            WarmContainer::make_warm(&self.helper, key, &order).await
        };
        let Some(kept) = kept else { return Ok(None) };
        let order = self
            .helper_order(spec.clone(), DockerTask::Within { container: kept.container_name().to_owned() })?;
        let running = RunningProcess::start(&self.helper, &order).await?;
        Ok(Some(Box::new(PooledProcess::new(running, kept, Arc::clone(&self.pool)))))
    }

    /// The order for the helper, of a resolved spec.
    pub(crate) fn helper_order(
        &self,
        spec: ProcessSpec,
        work: DockerTask,
    ) -> Result<HelperOrder, SandboxError> {
        let socket = self.engine.socket.canonicalize().unwrap_or_else(|_| self.engine.socket.clone());
        let shown = spec.mounts.iter().map(|mount| (&mount.source, "mounts"));
        for (source, place) in shown.chain([(&spec.workspace, "workspace")]) {
            if socket.starts_with(source) {
                let problem = format!("{} would show the engine's socket", source.display());
                return Err(SandboxError::Spec { place, problem });
            }
        }
        let walls = BackendSpec::Docker { engine: self.engine.clone(), work };
        Ok(HelperOrder { version: VERSION, walls, spec, groups: Vec::new(), is_memory_bound: true })
    }
}

impl SandboxBackend for DockerSandbox {
    fn backend_name(&self) -> &'static str {
        "docker"
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
            spec::refuse_reference(&spec, self.backend_name())?;
            proxy_socket::refuse_proxy(&spec, self.backend_name())?;
            let spec = spec::resolve_spec(spec)?;
            if let Some(process) = self.start_warm(&spec).await? {
                return Ok(process);
            }
            let order = self.helper_order(spec, DockerTask::Alone)?;
            let running = RunningProcess::start(&self.helper, &order).await?;
            Ok(Box::new(running) as Box<dyn SandboxProcess>)
        })
    }

    fn let_go(&self, run: RunId) {
        self.pool.let_go(run);
    }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::sandbox::SandboxMount;

    use super::*;

    #[test]
    fn nothing_that_would_show_the_socket_is_mounted() {
        let engine = DockerEngine { socket: "/srv/engine/sock".into(), image: "image".to_owned() };
        let containers = DockerSandbox::new("/helper".into(), engine);
        let order = |workspace: &str, source: &str| {
            let spec = ProcessSpec {
                argv: vec!["true".to_owned()],
                env: Vec::new(),
                workspace: workspace.into(),
                reference: None,
                cwd: PathBuf::new(),
                mounts: vec![SandboxMount {
                    source: source.into(),
                    target: "/opt/m".into(),
                    writable: false,
                }],
                limits: ProcessLimits::DEFAULT,
                network: NetworkAccess::None,
                family: None,
            };
            containers.helper_order(spec, DockerTask::Alone)
        };
        assert!(order("/srv/w", "/srv/m").is_ok());
        for (workspace, source, part) in [
            ("/srv/w", "/srv", "mounts"),
            ("/srv/w", "/srv/engine/sock", "mounts"),
            ("/srv/engine", "/srv/m", "workspace"),
        ] {
            let refused = order(workspace, source);
            assert!(matches!(refused, Err(SandboxError::Spec { place, .. }) if place == part), "{refused:?}");
        }
    }
}
