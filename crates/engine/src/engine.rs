//! The engine's handle: how it is built, starts and drains, and how a task begins its work.

use std::sync::{Arc, Weak};

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::budget::BudgetDefinition;
use dromia_contracts::capability::RightsWatch;
use dromia_contracts::delivery::DeliveryNotifier;
use dromia_contracts::store::PageRequest;
use dromia_contracts::tool::CallMeter;
use dromia_contracts::{AgentId, Fault, TenantId};

use crate::agents::read_fault;
use crate::budgets::BudgetBook;
use crate::config::EngineConfig;
use crate::core::EngineCore;
use crate::janitor::supervise_janitor;
use crate::panics::supervise_task;
use crate::ports::EnginePorts;
use crate::recover::take_over_run;
use crate::scheduler::{ReadyWork, TaskSlot};
use crate::session_claim::claim_waiting;

/// A handle to the engine; cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) core: Arc<EngineCore>,
}

/// Forgets agents whose rights changed, as long as the engine lives.
#[derive(Debug)]
struct SnapshotInvalidator(Weak<EngineCore>);

impl RightsWatch for SnapshotInvalidator {
    fn rights_changed(&self, agent: AgentId) {
        if let Some(core) = self.0.upgrade() {
            core.caches.agents.forget_agent(agent);
        }
    }
}

impl Engine {
    /// Builds the engine; nothing runs until [`Engine::start`].
    pub fn new(ports: EnginePorts, config: EngineConfig) -> Self {
        Self { core: Arc::new(EngineCore::new(ports, config, start_ready_work)) }
    }

    /// Starts to find and take over what an earlier life left, and to wake what is parked.
    pub fn start(&self) {
        let core = Arc::clone(&self.core);
        self.core.ports.runtime.spawn.spawn(supervise_janitor(core));
    }

    /// Sets the meter of tool calls; the first one stays.
    pub fn tell_of_calls(&self, meter: Arc<dyn CallMeter>) {
        self.core.activity.calls.set_meter(meter);
    }

    /// Sets the notifier for messages that wait for delivery; the first one stays.
    pub fn tell_of_deliveries(&self, bell: Arc<dyn DeliveryNotifier>) {
        self.core.set_delivery_notifier(bell);
    }

    /// Begins no turn from now on. Turns that run go on; what they do not finish is taken over at the next start.
    pub fn drain(&self) {
        self.core.begin_drain();
    }

    /// Counts runs with a task.
    pub fn count_active_runs(&self) -> usize {
        self.core.scheduler.count_tasks()
    }

    /// Returns the observer of changes to an agent's rights. It does not keep the engine alive.
    pub fn rights_watch(&self) -> Arc<dyn RightsWatch> {
        Arc::new(SnapshotInvalidator(Arc::downgrade(&self.core)))
    }

    /// Lets another configuration count from now on, for calls that are judged and requests that are made after this. The
    /// number of tasks, the second model and the hops of messages are those of the start.
    pub fn replace_config(&self, config: EngineConfig) {
        self.core.replace_config(config);
    }

    /// Sets the budgets that the configuration declares, before any agent runs and when it changes, and removes those that only an earlier
    /// configuration declared. Budgets that people set by hand are left alone. An agent may be named by its handle. A
    /// budget that names a missing tenant or agent is set by the first start that finds it; the reader of the
    /// configuration warns about it.
    pub async fn budgets_declare(
        &self,
        declared: &[(HandleSlug, Vec<BudgetDefinition>)],
    ) -> Result<(), Fault> {
        let (core, operator) = (&self.core, self.core.node_operator());
        let mut page = PageRequest::first_page(PageRequest::<TenantId>::LIMIT_MAX);
        loop {
            let tenants = core.ports.store.tenants(&operator, page).await.map_err(read_fault)?;
            for tenant in &tenants {
                let mine = declared.iter().find(|(handle, _)| *handle == tenant.handle);
                let written = mine.map_or(&[][..], |(_, budgets)| budgets.as_slice());
                BudgetBook::new(&core.ports)
                    .declare_budgets(&core.recovery_scope(tenant.id), written)
                    .await?;
            }
            match tenants.last() {
                Some(last) if tenants.len() == page.limit => page.after = Some(last.id),
                _ => break,
            }
        }
        Ok(())
    }
}

/// Begins the work of a task: claims the session, or takes the run over.
fn start_ready_work(core: &Arc<EngineCore>, tenant: TenantId, ready: ReadyWork, slot: TaskSlot) {
    let own = Arc::clone(core);
    let work = Box::pin(async move {
        match ready {
            ReadyWork::Session(session) => claim_waiting(&own, tenant, session, slot).await,
            ReadyWork::Run(run) => Box::pin(take_over_run(&own, tenant, run, slot)).await,
        }
        own.dispatch_ready();
    });
    core.ports.runtime.spawn.spawn(supervise_task(Arc::clone(core), ready, work));
}
