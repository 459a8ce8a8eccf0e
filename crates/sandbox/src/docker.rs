//! The backend of a Docker engine: its containers, bounded and taken away by our helper.
//!
//! The engine's socket and the image are the operator's choice; nothing is pulled, and the socket is shown to nobody:
//! whoever reaches it is root of this machine, or whoever runs a rootless engine. A container is made for each program:
//! the port does not say which programs belong to one run, so none is kept warm.

use std::path::{Path, PathBuf};

use dromia_contracts::BoxFuture;
use dromia_contracts::sandbox::{Mount, Process, ProcessSpec, Sandbox, SandboxError, Tier};
use serde::{Deserialize, Serialize};

use crate::door;
use crate::order::{Order, VERSION, Walls};
use crate::running::Running;
use crate::spec::{self, WORKSPACE};

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
}

impl Containers {
    /// Names the program that is the helper, and the engine.
    pub fn new(helper: PathBuf, engine: Engine) -> Self {
        Self { helper, engine }
    }

    /// The order for the helper, of a resolved spec.
    pub(crate) fn order(&self, spec: ProcessSpec) -> Result<Order, SandboxError> {
        let socket = self.engine.socket.canonicalize().unwrap_or_else(|_| self.engine.socket.clone());
        let shown = spec.mounts.iter().map(|mount| (&mount.source, "mounts"));
        for (source, place) in shown.chain([(&spec.workspace, "workspace")]) {
            if socket.starts_with(source) {
                let problem = format!("{} would show the engine's socket", source.display());
                return Err(SandboxError::Spec { place, problem });
            }
        }
        let walls = Walls::Docker { engine: self.engine.clone() };
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
            let order = self.order(spec::resolve(spec)?)?;
            let running = Running::start(&self.helper, &order).await?;
            Ok(Box::new(running) as Box<dyn Process>)
        })
    }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::sandbox::{Limits, Network};

    use super::*;

    #[test]
    fn nothing_that_would_show_the_socket_is_mounted() {
        let engine = Engine { socket: "/srv/engine/sock".into(), image: "image".to_owned() };
        let containers = Containers::new("/helper".into(), engine);
        let order = |workspace: &str, source: &str| {
            containers.order(ProcessSpec {
                argv: vec!["true".to_owned()],
                env: Vec::new(),
                workspace: workspace.into(),
                cwd: PathBuf::new(),
                mounts: vec![Mount { source: source.into(), target: "/opt/m".into(), writable: false }],
                limits: Limits::DEFAULT,
                network: Network::None,
            })
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
