//! Which sandbox programs of agents run in: the strongest that works here and that the configuration allows.
//!
//! Backends are tried at the first program, not at the start: a server whose agents run none starts as fast as before.
//! What works is remembered; what does not is tried again, so that an operator who mends it need not start anew.

use std::sync::Arc;

use dromia_contracts::BoxFuture;
use dromia_contracts::sandbox::{Sandbox, SandboxError, Sandboxes};
use dromia_sandbox::probe;
use tokio::sync::OnceCell;

use crate::config::Minimum;
use crate::sandbox;

/// The walls of this machine.
#[derive(Debug)]
pub(crate) struct Walls {
    minimum: Minimum,
    found: OnceCell<Arc<dyn Sandbox>>,
}

impl Walls {
    /// Notes what is allowed; nothing is tried yet.
    pub(crate) fn new(minimum: Minimum) -> Self {
        Self { minimum, found: OnceCell::new() }
    }
}

impl Sandboxes for Walls {
    fn pick(&self) -> BoxFuture<'_, Result<Arc<dyn Sandbox>, SandboxError>> {
        let minimum = self.minimum;
        let find = async move {
            let found = tokio::task::spawn_blocking(move || strongest(minimum)).await;
            found.unwrap_or_else(|error| Err(SandboxError::Start { problem: error.to_string() }))
        };
        Box::pin(async move { self.found.get_or_try_init(|| find).await.cloned() })
    }
}

/// Tries the backends and takes the first that is strong enough.
fn strongest(minimum: Minimum) -> Result<Arc<dyn Sandbox>, SandboxError> {
    let program = sandbox::program().map_err(|error| SandboxError::Start { problem: error.to_string() })?;
    let mut missing = None;
    for backend in probe::all(&program) {
        let is_allowed = match minimum {
            Minimum::Base => true,
            Minimum::Strict => backend.name != "native/base",
        };
        match backend.state {
            Ok(sandbox) if is_allowed => return Ok(sandbox),
            // A weaker one that works is the operator's to allow.
            Ok(_) => {}
            // The strongest comes first, and what it lacks is what is said.
            Err(why) => missing = missing.or(Some((backend.name, why))),
        }
    }
    let Some((name, why)) = missing else {
        return Err(SandboxError::Unavailable {
            missing: "this machine has no backend".to_owned(),
            fix: "look with `dromia doctor --only sandbox`".to_owned(),
        });
    };
    let fix = match minimum {
        Minimum::Strict => {
            format!("{}; or allow weaker walls with sandbox.minimum: base in dromia.yaml", why.fix)
        }
        Minimum::Base => why.fix,
    };
    Err(SandboxError::Unavailable { missing: format!("{name}: {}", why.what), fix })
}
