//! Which sandbox backend runs the programs of agents: the first that works here and that is strong enough.
//!
//! Backends are tried at the first program, not at the start: a server whose agents run none starts as fast as before.
//! What works is remembered; what does not is tried again, so that an operator who fixes it need not restart.
//!
//! A tenant that the configuration calls hostile gets a kernel or a machine of its own for its programs, or a refusal.
//! Tenants are known by their handles there, so the store is asked whose program it is; if it does not say, nothing runs.
//!
//! Containers that are kept warm for a run go when it comes to rest; those that another server left go at the start.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use dromia_contracts::agent::HandleSlug;
use dromia_contracts::sandbox::{IsolationTier, SandboxBackend, SandboxError, SandboxSelector};
use dromia_contracts::scope::OperatorScope;
use dromia_contracts::store::Store;
use dromia_contracts::{BoxFuture, RunId, TenantId};
use dromia_sandbox::probe::{self, BackendKind, BackendParts};
use dromia_sandbox::{DockerEngine, DockerSandbox, FirecrackerParts};
use tokio::sync::OnceCell;

use crate::config::{ResolvedConfig, SandboxMinimum};
use crate::sandbox;

/// What the configuration names of this machine.
#[derive(Debug, Clone)]
struct MachineBackends {
    engine: Option<DockerEngine>,
    monitor: Option<FirecrackerParts>,
    groups: Vec<PathBuf>,
}

impl MachineBackends {
    fn from_config(resolved: &ResolvedConfig) -> Self {
        let (engine, monitor) = (resolved.programs.containers.clone(), resolved.programs.monitor.clone());
        Self { engine, monitor, groups: resolved.programs.control_groups.clone() }
    }
}

/// Takes away, in a while, the containers of servers that are gone. What goes wrong is said in the log; the next program
/// tries again.
pub(crate) fn clear_stale_containers(resolved: &ResolvedConfig) {
    let Some(engine) = resolved.programs.containers.clone() else { return };
    tokio::spawn(async move {
        let cleared = match sandbox::helper_program() {
            Ok(helper) => {
                DockerSandbox::new(helper, engine).remove_leftovers().await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(problem) = cleared {
            tracing::warn!(problem, "failed to look for containers of stopped servers");
        }
    });
}

/// The sandbox backends of this machine, by tenant.
#[derive(Debug)]
pub(crate) struct TenantSandboxes {
    minimum: SandboxMinimum,
    named: MachineBackends,
    /// Those of the newest configuration.
    hostile: ArcSwap<Vec<HandleSlug>>,
    store: Arc<dyn Store>,
    operator: OperatorScope,
    standard: OnceCell<Arc<dyn SandboxBackend>>,
    guest: OnceCell<Arc<dyn SandboxBackend>>,
}

impl TenantSandboxes {
    /// Notes what is allowed, and which tenants are hostile; nothing is tried yet.
    pub(crate) fn new(resolved: &ResolvedConfig, store: Arc<dyn Store>, operator: OperatorScope) -> Self {
        Self {
            minimum: resolved.programs.sandbox_minimum,
            named: MachineBackends::from_config(resolved),
            hostile: ArcSwap::from_pointee(resolved.programs.hostile.clone()),
            store,
            operator,
            standard: OnceCell::new(),
            guest: OnceCell::new(),
        }
    }

    /// Lets other tenants be the hostile ones, for programs that begin from now on.
    pub(crate) fn replace_hostile(&self, hostile: Vec<HandleSlug>) {
        self.hostile.store(Arc::new(hostile));
    }

    /// Returns the handle of a tenant, if it is one of the hostile ones.
    async fn hostile_handle(&self, tenant: TenantId) -> Result<Option<HandleSlug>, SandboxError> {
        for handle in self.hostile.load_full().iter() {
            let found = self.store.tenant_by_handle(&self.operator, handle).await;
            let found = found.map_err(|error| SandboxError::Start {
                problem: format!("it is not known whether the tenant is hostile: {error}"),
            })?;
            if found.is_some_and(|found| found.id == tenant) {
                return Ok(Some(handle.clone()));
            }
        }
        Ok(None)
    }
}

impl SandboxSelector for TenantSandboxes {
    fn pick_backend(&self, tenant: TenantId) -> BoxFuture<'_, Result<Arc<dyn SandboxBackend>, SandboxError>> {
        Box::pin(async move {
            let (found, need) = match self.hostile_handle(tenant).await? {
                None => (&self.standard, IsolationNeed::Allowed(self.minimum)),
                Some(handle) => (&self.guest, IsolationNeed::Guest(handle)),
            };
            let named = self.named.clone();
            found.get_or_try_init(|| find_backend(need, named)).await.cloned()
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

/// How strong the sandbox must be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum IsolationNeed {
    /// What the operator allows for everybody.
    Allowed(SandboxMinimum),
    /// A kernel or a machine of its own, for this hostile tenant.
    Guest(HandleSlug),
}

impl IsolationNeed {
    fn is_met_by(&self, kind: BackendKind) -> bool {
        match self {
            Self::Allowed(SandboxMinimum::Base) => true,
            Self::Allowed(SandboxMinimum::Strict) => !kind.is_shared(),
            Self::Guest(_) => kind.tier() >= IsolationTier::Guest,
        }
    }

    /// Says what is missing of the first backend that would have met it.
    fn unmet_error(&self, name: &str, what: &str, fix: &str) -> SandboxError {
        let (missing, fix) = match self {
            Self::Allowed(SandboxMinimum::Base) => (format!("{name}: {what}"), fix.to_owned()),
            Self::Allowed(SandboxMinimum::Strict) => (
                format!("{name}: {what}"),
                format!("{fix}; or allow a weaker backend with sandbox.minimum: base in dromia.yaml"),
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

async fn find_backend(
    need: IsolationNeed,
    named: MachineBackends,
) -> Result<Arc<dyn SandboxBackend>, SandboxError> {
    let found = tokio::task::spawn_blocking(move || first_working_backend(&need, named)).await;
    found.unwrap_or_else(|error| Err(SandboxError::Start { problem: error.to_string() }))
}

/// Tries the backends that are strong enough, and takes the first that works.
fn first_working_backend(
    need: &IsolationNeed,
    named: MachineBackends,
) -> Result<Arc<dyn SandboxBackend>, SandboxError> {
    let helper =
        sandbox::helper_program().map_err(|error| SandboxError::Start { problem: error.to_string() })?;
    let MachineBackends { engine, monitor, groups } = named;
    let machine = BackendParts { helper, engine, monitor, groups };
    let mut missing = None;
    // A backend that is not configured does not fail: the error says what the first of the others lacks.
    for kind in
        BackendKind::ALL.into_iter().filter(|kind| need.is_met_by(*kind) && machine.is_configured(*kind))
    {
        match probe::probe_one(&machine, kind).state {
            Ok(sandbox) => return Ok(sandbox),
            Err(why) => missing = missing.or(Some((kind.name(), why))),
        }
    }
    Err(match missing {
        Some((name, why)) => need.unmet_error(name, &why.what, &why.fix),
        None => need.unmet_error(
            "sandbox",
            "run `dromia doctor --only sandbox`",
            "look with `dromia doctor --only sandbox`",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hostile() -> IsolationNeed {
        IsolationNeed::Guest("acme".parse().expect("a handle"))
    }

    #[test]
    fn a_hostile_tenant_always_gets_its_own_kernel() {
        let met = |need: &IsolationNeed| {
            BackendKind::ALL.into_iter().filter(|kind| need.is_met_by(*kind)).collect::<Vec<_>>()
        };
        assert_eq!(met(&hostile()), [BackendKind::Firecracker, BackendKind::Gvisor]);
        assert!(BackendKind::Firecracker.tier() > BackendKind::Gvisor.tier());
        assert_eq!(met(&IsolationNeed::Allowed(SandboxMinimum::Base)), BackendKind::ALL);
        assert!(!met(&IsolationNeed::Allowed(SandboxMinimum::Strict)).contains(&BackendKind::Base));
    }

    #[test]
    fn a_refusal_names_the_tenant_the_gap_and_the_fix() {
        let refused =
            hostile().unmet_error("gvisor", "runsc is not installed", "apt-get install runsc").to_string();
        for words in ["the tenant acme is hostile", "T2", "runsc is not installed; apt-get install runsc"] {
            assert!(refused.contains(words), "{refused}");
        }
        assert!(refused.contains("tenants.acme.trust: standard"), "{refused}");
    }
}
