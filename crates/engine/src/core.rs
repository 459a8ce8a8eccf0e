//! What the engine is made of, and how it starts and stops.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use dromia_contracts::delivery::DeliveryNotifier;
use dromia_contracts::gate::Gate;
use dromia_contracts::model::LanguageModel;
use dromia_contracts::runs::HomeDirectories;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::Store;
use dromia_contracts::tool::{CallMeter, ToolHost};
use dromia_contracts::tool_policy::OperatorTerms;
use dromia_contracts::vault::LeakDetector;
use dromia_contracts::{Actor, AgentId, Digest, OperatorScope, Scope, ScopeAuthority, SessionId, TenantId};
use quick_cache::sync::Cache;
use tokio::sync::Notify;

use crate::agents::AgentSnapshot;
use crate::config::{EngineConfig, SESSION_KEYS_MAX, SNAPSHOTS_MAX, STEPS_ALONE, STEPS_SHARED};
use crate::counters::EngineCounters;
use crate::delayed_calls::DelaySchedule;
use crate::erasures::ErasureTracker;
use crate::notifications::RunHub;
use crate::scheduler::{ReadyWork, Scheduler};
use crate::steps::{StepKind, StepPool, StepWait};

/// What the engine reaches the world through.
#[derive(Debug, Clone)]
pub struct EnginePorts {
    /// Durable storage.
    pub store: Arc<dyn Store>,
    /// Models.
    pub model: Arc<dyn LanguageModel>,
    /// Tools.
    pub tools: Arc<dyn ToolHost>,
    /// The gate.
    pub gate: Arc<dyn Gate>,
    /// The operator's terms for tools.
    pub terms: Arc<dyn OperatorTerms>,
    /// The scanner for secrets in answers.
    pub leaks: Arc<dyn LeakDetector>,
    /// The homes of agents.
    pub homes: Arc<dyn HomeDirectories>,
    /// Time, identity and a place to run.
    pub runtime: Runtime,
    /// The right to issue scopes, for recovery.
    pub authority: ScopeAuthority,
}

/// A handle to the engine; cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) core: Arc<EngineCore>,
}

/// What every part of the engine shares.
#[derive(Debug)]
pub(crate) struct EngineCore {
    pub(crate) ports: EnginePorts,
    pub(crate) config: EngineConfig,
    pub(crate) scheduler: Scheduler,
    pub(crate) hub: RunHub,
    /// How often tasks came into each state.
    pub(crate) counts: EngineCounters,
    pub(crate) snapshots: Cache<(TenantId, AgentId), Arc<AgentSnapshot>>,
    /// Counts changes of agents, so that a row read before one is not kept after it.
    pub(crate) agent_changes: AtomicU64,
    pub(crate) session_keys: Cache<(TenantId, AgentId, SessionKey), SessionId>,
    /// Prompts that are known to be pinned, for the agent that names them: an erasure of the only one takes the pin.
    pub(crate) pins: Cache<(TenantId, AgentId, Digest), ()>,
    /// Wakes the janitor: a run was parked, or one was lost.
    pub(crate) janitor: Notify,
    /// Something must be found again in the store.
    pub(crate) rescan: AtomicBool,
    /// The scan of parked runs that are due must restart.
    pub(crate) wake_anew: AtomicBool,
    /// What is erased without a caller.
    pub(crate) erasures: ErasureTracker,
    /// Agents that a caller erases; one request counts the erased rows of each.
    pub(crate) erasing: Mutex<BTreeSet<AgentId>>,
    /// When a delayed call may be due.
    pub(crate) delays: DelaySchedule,
    draining: AtomicBool,
    /// The notifier for messages that wait for delivery.
    bell: OnceLock<Arc<dyn DeliveryNotifier>>,
    /// The meter of tool calls.
    meter: OnceLock<Arc<dyn CallMeter>>,
    /// This life of the process.
    pub(crate) holder: Digest,
}

impl Engine {
    /// Builds the engine; nothing runs until [`Engine::start`].
    pub fn new(ports: EnginePorts, config: EngineConfig) -> Self {
        let holder = Digest::from_bytes(ports.runtime.ids.random_secret());
        let steps = StepPool::new(STEPS_ALONE * config.processors, STEPS_SHARED * config.processors);
        let core = EngineCore {
            scheduler: Scheduler::new(config.active_max, steps),
            hub: RunHub::default(),
            counts: EngineCounters::default(),
            snapshots: Cache::new(SNAPSHOTS_MAX),
            agent_changes: AtomicU64::new(0),
            session_keys: Cache::new(SESSION_KEYS_MAX),
            pins: Cache::new(SNAPSHOTS_MAX),
            janitor: Notify::new(),
            rescan: AtomicBool::new(true),
            wake_anew: AtomicBool::new(false),
            erasures: ErasureTracker::default(),
            erasing: Mutex::default(),
            delays: DelaySchedule::default(),
            draining: AtomicBool::new(false),
            bell: OnceLock::new(),
            meter: OnceLock::new(),
            holder,
            ports,
            config,
        };
        Self { core: Arc::new(core) }
    }

    /// Starts to find and take over what an earlier life left, and to wake what is parked.
    pub fn start(&self) {
        let core = Arc::clone(&self.core);
        self.core.ports.runtime.spawn.spawn(crate::panics::minded_janitor(core));
    }

    /// Sets the meter of tool calls; the first one stays.
    pub fn tell_of_calls(&self, meter: Arc<dyn CallMeter>) {
        self.core.meter.get_or_init(|| meter);
    }

    /// Sets the notifier for messages that wait for delivery; the first one stays.
    pub fn tell_of_deliveries(&self, bell: Arc<dyn DeliveryNotifier>) {
        self.core.bell.get_or_init(|| bell);
    }

    /// Begins no turn from now on. Turns that run go on; what they do not finish is taken over at the next start.
    pub fn drain(&self) {
        self.core.draining.store(true, Ordering::Release);
        self.core.scheduler.stop();
        self.core.janitor.notify_one();
    }

    /// Counts runs with a task.
    pub fn count_active_runs(&self) -> usize {
        self.core.scheduler.count_tasks()
    }
}

impl EngineCore {
    /// Tells whether the engine drains.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Returns the meter of tool calls, if one is set.
    pub(crate) fn call_meter(&self) -> Option<&dyn CallMeter> {
        self.meter.get().map(|meter| &**meter)
    }

    /// Notifies the deliverer that a message waits. The deliverer also polls, only later.
    pub(crate) fn notify_delivery(&self) {
        if let Some(bell) = self.bell.get() {
            bell.notify_delivery();
        }
    }

    /// The right to ask about the whole node.
    pub(crate) fn node_operator(&self) -> OperatorScope {
        self.ports.authority.issue_operator()
    }

    /// The scope in which recovery reads a tenant's rows.
    pub(crate) fn recovery_scope(&self, tenant: TenantId) -> Scope {
        self.ports.authority.issue_scope(tenant, Actor::new("engine"))
    }

    /// Begins a step of work that has no slot, in the tenant's turn.
    pub(crate) fn begin_step(&self, tenant: TenantId) -> StepWait {
        self.scheduler.begin_step(tenant, StepKind::New, self.ports.runtime.clock.monotonic_now())
    }

    /// Queues something and hands out whatever tasks are free.
    pub(crate) fn enqueue_ready(self: &Arc<Self>, tenant: TenantId, ready: ReadyWork) {
        self.scheduler.push_ready(tenant, ready);
        self.dispatch_ready();
    }

    /// Hands out whatever tasks are free.
    pub(crate) fn dispatch_ready(self: &Arc<Self>) {
        while let Some((tenant, ready, slot)) = self.scheduler.next() {
            let core = Arc::clone(self);
            let work = Box::pin(async move {
                match ready {
                    ReadyWork::Session(session) => {
                        crate::session_claim::claim_waiting(&core, tenant, session, slot).await;
                    }
                    ReadyWork::Run(run) => {
                        Box::pin(crate::recover::take_over_run(&core, tenant, run, slot)).await;
                    }
                }
                core.dispatch_ready();
            });
            self.ports.runtime.spawn.spawn(crate::panics::supervise_task(Arc::clone(self), ready, work));
        }
        let left = self.scheduler.take_left();
        if left.lost {
            self.request_rescan();
        }
        if left.due {
            self.request_wake();
        }
    }

    /// Asks the janitor to look for everything that memory may have lost.
    pub(crate) fn request_rescan(&self) {
        self.rescan.store(true, Ordering::Release);
        self.janitor.notify_one();
    }
}
