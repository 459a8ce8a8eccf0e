//! What the engine is made of, and how it starts and stops.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use dromia_contracts::delivery::Bell;
use dromia_contracts::gate::Gate;
use dromia_contracts::model::Model;
use dromia_contracts::runs::Homes;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::Store;
use dromia_contracts::terms::Terms;
use dromia_contracts::tool::{CallMeter, ToolHost};
use dromia_contracts::vault::Leaks;
use dromia_contracts::{Actor, AgentId, Authority, Digest, Operator, Scope, SessionId, TenantId};
use tokio::sync::Notify;

use crate::agents::Snapshot;
use crate::bounded::Bounded;
use crate::config::{EngineConfig, SESSION_KEYS_MAX, SNAPSHOTS_MAX};
use crate::counts::Counts;
use crate::delays::Delays;
use crate::erasures::Erasures;
use crate::live::Hub;
use crate::scheduler::{Ready, Scheduler};

/// What the engine reaches the world through.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Durable storage.
    pub store: Arc<dyn Store>,
    /// Models.
    pub model: Arc<dyn Model>,
    /// Tools.
    pub tools: Arc<dyn ToolHost>,
    /// The gate.
    pub gate: Arc<dyn Gate>,
    /// What the operator says about tools.
    pub terms: Arc<dyn Terms>,
    /// Who looks for secrets in what is answered.
    pub leaks: Arc<dyn Leaks>,
    /// The homes of agents.
    pub homes: Arc<dyn Homes>,
    /// Time, identity and a place to run.
    pub runtime: Runtime,
    /// The right to issue scopes, for recovery.
    pub authority: Authority,
}

/// A handle to the engine; cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) core: Arc<Core>,
}

/// What every part of the engine shares.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) ports: Ports,
    pub(crate) config: EngineConfig,
    pub(crate) scheduler: Scheduler,
    pub(crate) hub: Hub,
    /// How often tasks came into each state.
    pub(crate) counts: Counts,
    pub(crate) snapshots: Bounded<(TenantId, AgentId), Arc<Snapshot>>,
    /// Counts changes of agents, so that a row read before one is not kept after it.
    pub(crate) agent_changes: AtomicU64,
    pub(crate) session_keys: Bounded<(TenantId, AgentId, SessionKey), SessionId>,
    /// Prompts that are known to be pinned, for the agent that names them: an erasure of the only one takes the pin.
    pub(crate) pins: Bounded<(TenantId, AgentId, Digest), ()>,
    /// Wakes the janitor: a run was parked, or one was lost.
    pub(crate) janitor: Notify,
    /// Something must be found again in the store.
    pub(crate) rescan: AtomicBool,
    /// The walk along parked runs that are due must begin anew.
    pub(crate) wake_anew: AtomicBool,
    /// What is erased without a caller.
    pub(crate) erasures: Erasures,
    /// Agents that a caller erases, who counts what goes; there is one request behind each.
    pub(crate) erasing: Mutex<BTreeSet<AgentId>>,
    /// When a delayed call may be due.
    pub(crate) delays: Delays,
    draining: AtomicBool,
    /// Who is told that a message waits to be delivered.
    bell: OnceLock<Arc<dyn Bell>>,
    /// Who counts calls of tools.
    meter: OnceLock<Arc<dyn CallMeter>>,
    /// This life of the process.
    pub(crate) holder: Digest,
}

impl Engine {
    /// Builds the engine; nothing runs until [`Engine::start`].
    pub fn new(ports: Ports, config: EngineConfig) -> Self {
        let holder = Digest::from_bytes(ports.runtime.ids.secret());
        let core = Core {
            scheduler: Scheduler::new(config.active_max),
            hub: Hub::default(),
            counts: Counts::default(),
            snapshots: Bounded::new(SNAPSHOTS_MAX),
            agent_changes: AtomicU64::new(0),
            session_keys: Bounded::new(SESSION_KEYS_MAX),
            pins: Bounded::new(SNAPSHOTS_MAX),
            janitor: Notify::new(),
            rescan: AtomicBool::new(true),
            wake_anew: AtomicBool::new(false),
            erasures: Erasures::default(),
            erasing: Mutex::default(),
            delays: Delays::default(),
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
        self.core.ports.runtime.spawn.spawn(crate::unwound::minded_janitor(core));
    }

    /// Says who counts calls of tools; the first who is named stays.
    pub fn tell_of_calls(&self, meter: Arc<dyn CallMeter>) {
        self.core.meter.get_or_init(|| meter);
    }

    /// Says who is told of messages that wait to be delivered; the first who is named stays.
    pub fn tell_of_deliveries(&self, bell: Arc<dyn Bell>) {
        self.core.bell.get_or_init(|| bell);
    }

    /// Begins no turn from now on. Turns that run go on; what they do not finish is taken over at the next start.
    pub fn drain(&self) {
        self.core.draining.store(true, Ordering::Release);
        self.core.scheduler.stop();
        self.core.janitor.notify_one();
    }

    /// Counts runs with a task.
    pub fn active(&self) -> usize {
        self.core.scheduler.load().0
    }
}

impl Core {
    /// Tells whether the engine drains.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Who counts calls of tools, if anybody does.
    pub(crate) fn meter(&self) -> Option<&dyn CallMeter> {
        self.meter.get().map(|meter| &**meter)
    }

    /// Tells that a message waits to be delivered. Whoever delivers looks by itself too, only later.
    pub(crate) fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    /// The right to ask about the whole node.
    pub(crate) fn operator(&self) -> Operator {
        self.ports.authority.operator()
    }

    /// The scope in which recovery reads a tenant's rows.
    pub(crate) fn recovery_scope(&self, tenant: TenantId) -> Scope {
        self.ports.authority.scope(tenant, Actor::new("engine"))
    }

    /// Queues something and hands out whatever tasks are free.
    pub(crate) fn ready(self: &Arc<Self>, tenant: TenantId, ready: Ready) {
        self.scheduler.push(tenant, ready);
        self.dispatch();
    }

    /// Hands out whatever tasks are free.
    pub(crate) fn dispatch(self: &Arc<Self>) {
        while let Some((tenant, ready, slot)) = self.scheduler.next() {
            let core = Arc::clone(self);
            let work = Box::pin(async move {
                match ready {
                    Ready::Session(session) => {
                        crate::claim::claim_waiting(&core, tenant, session, slot).await;
                    }
                    Ready::Run(run) => crate::recover::recover(&core, tenant, run, slot).await,
                }
                core.dispatch();
            });
            self.ports.runtime.spawn.spawn(crate::unwound::minded(Arc::clone(self), ready, work));
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
