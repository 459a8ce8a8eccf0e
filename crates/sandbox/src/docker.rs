//! The backend of a Docker engine: its containers, bounded and taken away by our helper.
//!
//! The engine's socket and the image are the operator's choice; nothing is pulled, and the socket is shown to nobody:
//! whoever reaches it is root of this machine, or whoever runs a rootless engine. A program whose spec names a family gets
//! a container that is kept warm for the next one of the same (`warm`); any other gets one of its own.

mod warm;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::sandbox::{
    Ending, Limits, Mount, Network, Process, ProcessEvent, ProcessSpec, Sandbox, SandboxError, Tier,
};
use dromia_contracts::{BoxFuture, RunId};
use serde::{Deserialize, Serialize};

use self::warm::{Kept, Key, Lent, Pool};
use crate::door;
use crate::order::{Order, VERSION, Walls, Work};
use crate::running::Running;
use crate::spec::{self, WORKSPACE};

pub(crate) use self::warm::IDLE;

/// How long a container is kept for the next program.
const IDLE_FOR: Duration = Duration::from_mins(1);

/// Which engine, and which of its images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Its Unix socket.
    pub socket: PathBuf,
    /// The image that programs see, which it must have.
    pub image: String,
}

/// Containers of an engine.
#[derive(Debug, Clone)]
pub struct Containers {
    helper: PathBuf,
    engine: Engine,
    idle: Duration,
    pool: Arc<Pool>,
}

impl Containers {
    /// Names the program that is the helper, and the engine.
    pub fn new(helper: PathBuf, engine: Engine) -> Self {
        Self { helper, engine, idle: IDLE_FOR, pool: Arc::new(Pool::default()) }
    }

    /// The same, which keep a container for another while than a minute.
    #[must_use]
    pub fn kept_for(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }

    /// Takes away what helpers of servers left that are gone, also where server and helper were both killed by force.
    pub async fn clear(&self) -> Result<(), SandboxError> {
        let nothing = ProcessSpec {
            argv: vec!["true".to_owned()],
            env: Vec::new(),
            workspace: PathBuf::from("/"),
            cwd: PathBuf::new(),
            mounts: Vec::new(),
            limits: Limits { wall_ms: 60_000, ..Limits::DEFAULT },
            network: Network::None,
            family: None,
        };
        let walls = Walls::Docker { engine: self.engine.clone(), work: Work::Clear };
        let order = Order { version: VERSION, walls, spec: nothing, groups: Vec::new() };
        let mut running = Running::start(&self.helper, &order).await?;
        let mut ending = Ending::Lost;
        while let Some(event) = running.next().await {
            if let ProcessEvent::Ended(how) = event {
                ending = how;
            }
        }
        match ending {
            Ending::Exited { code: 0 } => Ok(()),
            Ending::NotStarted { problem } => Err(SandboxError::Start { problem }),
            other => Err(SandboxError::Start { problem: format!("{other:?}") }),
        }
    }

    /// Runs a program in a container that is kept for its family; nothing if there is none, and it gets one of its own.
    async fn start_warm(&self, spec: &ProcessSpec) -> Result<Option<Box<dyn Process>>, SandboxError> {
        let Some(key) = Key::of(spec) else { return Ok(None) };
        let kept = if let Some(kept) = self.pool.take(&key) {
            Some(kept)
        } else {
            let idle_ms = u64::try_from(self.idle.as_millis()).unwrap_or(u64::MAX);
            let order = self.order(spec.clone(), Work::Keep { idle_ms })?;
            Kept::make(&self.helper, key, &order).await
        };
        let Some(kept) = kept else { return Ok(None) };
        let order = self.order(spec.clone(), Work::Within { container: kept.name().to_owned() })?;
        let running = Running::start(&self.helper, &order).await?;
        Ok(Some(Box::new(Lent::new(running, kept, Arc::clone(&self.pool)))))
    }

    /// The order for the helper, of a resolved spec.
    pub(crate) fn order(&self, spec: ProcessSpec, work: Work) -> Result<Order, SandboxError> {
        let socket = self.engine.socket.canonicalize().unwrap_or_else(|_| self.engine.socket.clone());
        let shown = spec.mounts.iter().map(|mount| (&mount.source, "mounts"));
        for (source, place) in shown.chain([(&spec.workspace, "workspace")]) {
            if socket.starts_with(source) {
                let problem = format!("{} would show the engine's socket", source.display());
                return Err(SandboxError::Spec { place, problem });
            }
        }
        let walls = Walls::Docker { engine: self.engine.clone(), work };
        Ok(Order { version: VERSION, walls, spec, groups: Vec::new() })
    }
}

impl Sandbox for Containers {
    fn name(&self) -> &'static str {
        "docker"
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
            door::refuse(&spec, self.name())?;
            let spec = spec::resolve(spec)?;
            if let Some(process) = self.start_warm(&spec).await? {
                return Ok(process);
            }
            let order = self.order(spec, Work::Alone)?;
            let running = Running::start(&self.helper, &order).await?;
            Ok(Box::new(running) as Box<dyn Process>)
        })
    }

    fn let_go(&self, run: RunId) {
        self.pool.let_go(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_would_show_the_socket_is_mounted() {
        let engine = Engine { socket: "/srv/engine/sock".into(), image: "image".to_owned() };
        let containers = Containers::new("/helper".into(), engine);
        let order = |workspace: &str, source: &str| {
            let spec = ProcessSpec {
                argv: vec!["true".to_owned()],
                env: Vec::new(),
                workspace: workspace.into(),
                cwd: PathBuf::new(),
                mounts: vec![Mount { source: source.into(), target: "/opt/m".into(), writable: false }],
                limits: Limits::DEFAULT,
                network: Network::None,
                family: None,
            };
            containers.order(spec, Work::Alone)
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
