//! What every part of the engine shares.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use dromia_contracts::delivery::DeliveryNotifier;
use dromia_contracts::session::SessionKey;
use dromia_contracts::{Actor, AgentId, Digest, OperatorScope, Scope, SessionId, TenantId};
use jiff::Timestamp;
use quick_cache::sync::Cache;
use tokio::sync::Notify;

use crate::agents::AgentDirectory;
use crate::call_metrics::CallMetrics;
use crate::collected_sessions::CollectedSessions;
use crate::config::{EngineConfig, SESSION_KEYS_MAX, SNAPSHOTS_MAX, STEPS_ALONE, STEPS_SHARED};
use crate::counters::EngineCounters;
use crate::delayed_calls::schedule::DelaySchedule;
use crate::erasures::tracker::ErasureTracker;
use crate::lease::{LeaseChange, NodeLease};
use crate::notifications::RunHub;
use crate::parked_runs::ParkedRunCache;
use crate::ports::EnginePorts;
use crate::scheduler::{ReadyWork, Scheduler, TaskSlot};
use crate::steps::{StepKind, StepPool, StepWait};
use crate::summary_reads::SummaryCache;
use crate::usage::UsageMeter;

/// The time from a panic, or a failed erasure, to the next scan: work that fails at each scan, such as an unreadable
/// session, must not spin.
const PAUSE: Duration = Duration::from_secs(1);

/// How a task that got a slot begins its work. The parts that do the work use the core, so the core knows them only by this.
pub(crate) type StartReadyWork = fn(&Arc<EngineCore>, TenantId, ReadyWork, TaskSlot);

/// What every part of the engine shares.
#[derive(Debug)]
pub(crate) struct EngineCore {
    pub(crate) ports: Arc<EnginePorts>,
    /// What the operator decides. It may be replaced at any time, so what must agree is read together.
    settings: ArcSwap<EngineConfig>,
    pub(crate) scheduler: Scheduler,
    pub(crate) hub: RunHub,
    /// What it did.
    pub(crate) activity: EngineActivity,
    /// What was read of the store.
    pub(crate) caches: EngineCaches,
    /// Wakes the janitor: a run was parked, or one was lost.
    pub(crate) janitor: Notify,
    /// Something must be found again in the store.
    pub(crate) rescan: AtomicBool,
    /// The scan of parked runs that are due must restart.
    pub(crate) wake_anew: AtomicBool,
    /// What is erased without a caller.
    pub(crate) erasures: ErasureTracker,
    /// When a delayed call may be due.
    pub(crate) delays: DelaySchedule,
    /// The sessions whose inputs are collected for a moment.
    pub(crate) collections: CollectedSessions,
    draining: AtomicBool,
    /// Begins the work of a task.
    start_work: StartReadyWork,
    /// The notifier for messages that wait for delivery.
    bell: OnceLock<Arc<dyn DeliveryNotifier>>,
    /// The lease of this life of the process.
    pub(crate) lease: NodeLease,
}

/// What was read of the store and is still true.
#[derive(Debug)]
pub(crate) struct EngineCaches {
    pub(crate) agents: AgentDirectory,
    pub(crate) session_keys: Cache<(TenantId, AgentId, SessionKey), SessionId>,
    /// Prompts that are known to be pinned, for the agent that names them: an erasure of the only one takes the pin.
    pub(crate) pins: Cache<(TenantId, AgentId, Digest), ()>,
    /// The newest summaries of sessions.
    pub(crate) summaries: SummaryCache,
    /// The folded state of parked runs.
    pub(crate) parked: ParkedRunCache,
}

/// What the engine did, for its metrics.
#[derive(Debug)]
pub(crate) struct EngineActivity {
    /// How often tasks came into each state.
    pub(crate) counts: EngineCounters,
    /// What runs and model calls came to.
    pub(crate) usage: UsageMeter,
    /// How often calls were made and refused.
    pub(crate) calls: CallMetrics,
}

impl EngineCore {
    /// Builds what the parts share; `start_work` begins the work of each task that gets a slot.
    pub(crate) fn new(ports: EnginePorts, config: EngineConfig, start_work: StartReadyWork) -> Self {
        let ports = Arc::new(ports);
        let lease = NodeLease::new(Arc::clone(&ports.runtime.life));
        let steps = StepPool::new(STEPS_ALONE * config.processors, STEPS_SHARED * config.processors);
        Self {
            scheduler: Scheduler::new(config.active_max, steps),
            hub: RunHub::default(),
            janitor: Notify::new(),
            rescan: AtomicBool::new(true),
            wake_anew: AtomicBool::new(false),
            erasures: ErasureTracker::default(),
            delays: DelaySchedule::default(),
            collections: CollectedSessions::default(),
            draining: AtomicBool::new(false),
            start_work,
            bell: OnceLock::new(),
            lease,
            caches: EngineCaches {
                agents: AgentDirectory::new(Arc::clone(&ports)),
                session_keys: Cache::new(SESSION_KEYS_MAX),
                pins: Cache::new(SNAPSHOTS_MAX),
                summaries: SummaryCache::new(),
                parked: ParkedRunCache::default(),
            },
            activity: EngineActivity {
                counts: EngineCounters::default(),
                usage: UsageMeter::default(),
                calls: CallMetrics::new(Arc::clone(&ports)),
            },
            ports,
            settings: ArcSwap::from_pointee(config),
        }
    }

    /// What the operator decides, as of now.
    pub(crate) fn config(&self) -> Arc<EngineConfig> {
        self.settings.load_full()
    }

    /// Returns the window of the model behind an alias, or the one that is assumed where it is not known.
    pub(crate) fn window_tokens(&self, model: &str) -> u32 {
        self.ports.model.context_window(model).unwrap_or(self.config().window_tokens)
    }

    /// Lets other decisions of the operator count from now on, and forgets what was read under the earlier ones.
    pub(crate) fn replace_config(&self, config: EngineConfig) {
        let EngineConfig { active_max, processors, .. } = *self.config();
        let config = EngineConfig { active_max, processors, ..config };
        self.settings.store(Arc::new(config));
        self.caches.agents.forget_all();
    }

    /// Sets the notifier for messages that wait for delivery; the first one stays.
    pub(crate) fn set_delivery_notifier(&self, bell: Arc<dyn DeliveryNotifier>) {
        self.bell.get_or_init(|| bell);
    }

    /// Begins no turn from now on.
    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.scheduler.stop();
        self.janitor.notify_one();
    }

    /// Tells whether the engine drains.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
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
            (self.start_work)(self, tenant, ready, slot);
        }
        let left = self.scheduler.take_left();
        if left.lost {
            self.request_rescan();
        }
        if left.due {
            self.request_wake();
        }
    }

    /// Keeps the lease of this life. What another process held whose lease has ended is looked for.
    pub(crate) async fn keep_lease(&self) {
        match self.lease.keep_if_due(&self.ports, &self.node_operator()).await {
            Ok(LeaseChange::Unchanged) => {}
            Ok(LeaseChange::OtherEnded) => {
                tracing::warn!("the lease of another process ended; the engine looks for what it held");
                self.rescan.store(true, Ordering::Release);
            }
            Ok(LeaseChange::Replaced) => tracing::error!(
                node = self.ports.runtime.life.node,
                "another process serves this node and may take over what this one does; stop one of them"
            ),
            Err(error) => tracing::warn!(%error, "failed to renew the lease of this process"),
        }
    }

    /// Asks the janitor to look for everything that memory may have lost.
    pub(crate) fn request_rescan(&self) {
        self.rescan.store(true, Ordering::Release);
        self.janitor.notify_one();
    }

    /// Requests a full scan after a while.
    pub(crate) async fn look_later(&self) {
        self.ports.runtime.clock.sleep(PAUSE).await;
        self.request_rescan();
    }

    /// Requests a restart of the scan.
    pub(crate) fn request_wake(&self) {
        self.wake_anew.store(true, Ordering::Release);
        self.janitor.notify_one();
    }

    /// Notes that a run rests, and until when. One that is due already may precede the scan's position.
    pub(crate) fn note_rest(&self, wake_at: Option<Timestamp>) {
        // By the millisecond, which is what a store keeps.
        let now = self.ports.runtime.clock.now().as_millisecond();
        if wake_at.is_some_and(|at| at.as_millisecond() <= now) {
            self.wake_anew.store(true, Ordering::Release);
        }
        self.janitor.notify_one();
    }
}
