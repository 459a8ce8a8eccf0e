//! Which sandbox programs of agents run in: the first that works here and that is strong enough.
//!
//! Backends are tried at the first program, not at the start: a server whose agents run none starts as fast as before.
//! What works is remembered; what does not is tried again, so that an operator who mends it need not start anew.
//!
//! A tenant that the configuration calls hostile gets a kernel or a machine of its own for its programs, or a refusal.
//! Tenants are known by their handles there, so the store is asked whose program it is; if it does not say, nothing runs.
//!
//! Containers that are kept warm for a run go when it comes to rest; those that another server left go at the start.

use std::path::PathBuf;
use std::sync::Arc;

use dromia_contracts::agent::Handle;
use dromia_contracts::sandbox::{Sandbox, SandboxError, Sandboxes, Tier};
use dromia_contracts::scope::Operator;
use dromia_contracts::store::Store;
use dromia_contracts::{BoxFuture, RunId, TenantId};
use dromia_sandbox::probe::{self, Kind, Machine};
use dromia_sandbox::{Containers, Engine, Monitor};
use tokio::sync::OnceCell;

use crate::config::{Minimum, Resolved};
use crate::sandbox;

/// What the configuration names of this machine.
#[derive(Debug, Clone)]
struct Named {
    engine: Option<Engine>,
    monitor: Option<Monitor>,
    groups: Vec<PathBuf>,
}

impl Named {
    fn of(resolved: &Resolved) -> Self {
        let (engine, monitor) = (resolved.containers.clone(), resolved.monitor.clone());
        Self { engine, monitor, groups: resolved.control_groups.clone() }
    }
}

/// Takes away, in a while, the containers of servers that are gone. What goes wrong is said in the log; the next program
/// tries again.
pub(crate) fn clear(resolved: &Resolved) {
    let Some(engine) = resolved.containers.clone() else { return };
    tokio::spawn(async move {
        let cleared = match sandbox::program() {
            Ok(helper) => Containers::new(helper, engine).clear().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(problem) = cleared {
            tracing::warn!(problem, "containers of servers that are gone could not be looked for");
        }
    });
}

/// The walls of this machine.
#[derive(Debug)]
pub(crate) struct Walls {
    minimum: Minimum,
    named: Named,
    hostile: Vec<Handle>,
    store: Arc<dyn Store>,
    operator: Operator,
    standard: OnceCell<Arc<dyn Sandbox>>,
    guest: OnceCell<Arc<dyn Sandbox>>,
}

impl Walls {
    /// Notes what is allowed, and which tenants are hostile; nothing is tried yet.
    pub(crate) fn new(resolved: &Resolved, store: Arc<dyn Store>, operator: Operator) -> Self {
        Self {
            minimum: resolved.sandbox_minimum,
            named: Named::of(resolved),
            hostile: resolved.hostile.clone(),
            store,
            operator,
            standard: OnceCell::new(),
            guest: OnceCell::new(),
        }
    }

    /// Returns the handle of a tenant, if it is one of the hostile ones.
    async fn hostile(&self, tenant: TenantId) -> Result<Option<&Handle>, SandboxError> {
        for handle in &self.hostile {
            let found = self.store.tenant_by_handle(&self.operator, handle).await;
            let found = found.map_err(|error| SandboxError::Start {
                problem: format!("it is not known whether the tenant is hostile: {error}"),
            })?;
            if found.is_some_and(|found| found.id == tenant) {
                return Ok(Some(handle));
            }
        }
        Ok(None)
    }
}

impl Sandboxes for Walls {
    fn pick(&self, tenant: TenantId) -> BoxFuture<'_, Result<Arc<dyn Sandbox>, SandboxError>> {
        Box::pin(async move {
            let (found, need) = match self.hostile(tenant).await? {
                None => (&self.standard, Need::Allowed(self.minimum)),
                Some(handle) => (&self.guest, Need::Guest(handle.clone())),
            };
            let named = self.named.clone();
            found.get_or_try_init(|| find(need, named)).await.cloned()
        })
    }

    fn let_go(&self, run: RunId) {
        for found in [&self.standard, &self.guest] {
            if let Some(sandbox) = found.get() {
                sandbox.let_go(run);
            }
        }
    }
}

/// How strong walls must be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Need {
    /// What the operator allows for everybody.
    Allowed(Minimum),
    /// A kernel or a machine of its own, for this hostile tenant.
    Guest(Handle),
}

impl Need {
    fn is_met_by(&self, kind: Kind) -> bool {
        match self {
            Self::Allowed(Minimum::Base) => true,
            Self::Allowed(Minimum::Strict) => !kind.is_shared(),
            Self::Guest(_) => kind.tier() >= Tier::Guest,
        }
    }

    /// Says what is missing of the first backend that would have met it.
    fn unmet(&self, name: &str, what: &str, fix: &str) -> SandboxError {
        let (missing, fix) = match self {
            Self::Allowed(Minimum::Base) => (format!("{name}: {what}"), fix.to_owned()),
            Self::Allowed(Minimum::Strict) => (
                format!("{name}: {what}"),
                format!("{fix}; or allow weaker walls with sandbox.minimum: base in dromia.yaml"),
            ),
            Self::Guest(tenant) => (
                format!(
                    "the tenant {tenant} is hostile and its programs need T2 or more, but {name}: {what}"
                ),
                format!(
                    "{fix}; or, if it may have T1, write tenants.{tenant}.trust: standard in dromia.yaml"
                ),
            ),
        };
        SandboxError::Unavailable { missing, fix }
    }
}

async fn find(need: Need, named: Named) -> Result<Arc<dyn Sandbox>, SandboxError> {
    let found = tokio::task::spawn_blocking(move || first(&need, named)).await;
    found.unwrap_or_else(|error| Err(SandboxError::Start { problem: error.to_string() }))
}

/// Tries the backends that are strong enough, and takes the first that works.
fn first(need: &Need, named: Named) -> Result<Arc<dyn Sandbox>, SandboxError> {
    let helper = sandbox::program().map_err(|error| SandboxError::Start { problem: error.to_string() })?;
    let Named { engine, monitor, groups } = named;
    let machine = Machine { helper, engine, monitor, groups };
    let mut missing = None;
    // What nobody set up is no backend that fails: what the first of the others lacks is what is said.
    for kind in Kind::ALL.into_iter().filter(|kind| need.is_met_by(*kind) && machine.names(*kind)) {
        match probe::one(&machine, kind).state {
            Ok(sandbox) => return Ok(sandbox),
            Err(why) => missing = missing.or(Some((kind.name(), why))),
        }
    }
    Err(match missing {
        Some((name, why)) => need.unmet(name, &why.what, &why.fix),
        None => need.unmet("sandbox", "there is no backend", "look with `dromia doctor --only sandbox`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hostile() -> Need {
        Need::Guest("acme".parse().expect("a handle"))
    }

    #[test]
    fn a_hostile_tenant_gets_a_kernel_of_its_own_whatever_else_is_allowed() {
        let met =
            |need: &Need| Kind::ALL.into_iter().filter(|kind| need.is_met_by(*kind)).collect::<Vec<_>>();
        assert_eq!(met(&hostile()), [Kind::Firecracker, Kind::Gvisor]);
        assert!(Kind::Firecracker.tier() > Kind::Gvisor.tier());
        assert_eq!(met(&Need::Allowed(Minimum::Base)), Kind::ALL);
        assert!(!met(&Need::Allowed(Minimum::Strict)).contains(&Kind::Base));
    }

    #[test]
    fn a_refusal_names_the_tenant_what_is_missing_and_what_adds_it() {
        let refused =
            hostile().unmet("gvisor", "runsc is not installed", "apt-get install runsc").to_string();
        for words in ["the tenant acme is hostile", "T2", "runsc is not installed; apt-get install runsc"] {
            assert!(refused.contains(words), "{refused}");
        }
        assert!(refused.contains("tenants.acme.trust: standard"), "{refused}");
    }
}
