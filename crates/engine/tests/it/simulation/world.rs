//! What a simulated world is made of: tenants, agents and places to talk, the truth in a reference store, and the
//! means to put an engine before it.
//!
//! A world outlives its engines. Everything in it that is drawn is drawn from one seed.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use dromia_contracts::agent::AgentState;
use dromia_contracts::channel::WEBHOOK;
use dromia_contracts::delivery::DeliveryRecord;
use dromia_contracts::encoded_request::TaintedPast;
use dromia_contracts::lease::NodeLife;
use dromia_contracts::run::RunRecord;
use dromia_contracts::runs::{EnginePort as _, NewAgent};
use dromia_contracts::runtime::{Runtime, TaskSpawner};
use dromia_contracts::session::{InboxItem, InboxOwner, SessionKey, SessionRecord};
use dromia_contracts::store::{
    ApprovalFilter, DeliveryFilter, PageRequest, RunFilter, Store as _, StoredEntry,
};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::vault::NoSecrets;
use dromia_contracts::{Actor, AgentId, BoxFuture, RunId, Scope, ScopeAuthority, TenantId};
use dromia_engine::{Engine, EngineConfig, EnginePorts, ObjectionAction, SecondOpinion};
use dromia_testkit::runtime::ManualClock;
use dromia_testkit::sim::SeededRng;
use dromia_testkit::{ReferenceStore, SimExecutor};
use futures_util::FutureExt as _;
use jiff::SignedDuration;

use super::ports::{Outside, config, descriptors};
use super::store::Weather;
use super::witness::Witness;

/// Chance, from the seed and shared by all.
#[derive(Debug)]
pub(crate) struct Chance(Mutex<SeededRng>);

impl Chance {
    /// Draws a number below a bound.
    pub(crate) fn below(&self, bound: usize) -> usize {
        self.0.lock().expect("drawing does not panic").draw_below(bound)
    }

    /// Draws one of so many cases.
    pub(crate) fn one_in(&self, cases: usize) -> bool {
        self.below(cases) == 0
    }
}

/// A planted fault: the one way in which a store or a tool host lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// The store answers "done" to an input that it never writes.
    AckBeforeCommit,
    /// The store loses the idempotency keys of inputs.
    DropKey,
    /// The store writes a tool's result without the message that belongs to it.
    TornSend,
    /// The store takes an append at any epoch, wherever the journal stands.
    NoEpoch,
    /// The store acknowledges the start of a call and writes it later.
    StartHeldBack,
    /// The store grants every claim and shows no turn as active.
    SecondClaimer,
    /// The tool sees another key at each attempt.
    KeyPerAttempt,
    /// An unkeyed tool is called idempotent.
    UnkeyedAsIdempotent,
    /// The store charges nobody.
    ChargesNobody,
    /// The store uses no approval up.
    UsesNothingUp,
    /// The store forgets how long a call is put off.
    ForgetsToCool,
    /// The store forgets what calls say of files.
    ForgetsFiles,
    /// The gate takes every call for a planned one.
    PlanHoldsAll,
    /// The store shows what an import has not ended.
    HalfImport,
    /// What is read again by its handle is told as the runtime's own fact.
    PastIsTrusted,
    /// The store shows one signal of a run at a time, and its receipts say of none.
    ShowsOneSignal,
    /// The store says of no run that it has a signal.
    ForgetsSignals,
    /// The store asks no lease and says that no other process is alive.
    AsksNoLease,
    /// A call goes with the caller who drops it, wherever it stands.
    CallsGoWithCallers,
    /// The store charges a call to the hour of its time, though a later one is charged already.
    ChargesEarlierHour,
    /// The store shows every waiting input as one of the same author.
    ShowsOneAuthor,
}

/// Which budgets the tenants of a world have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BudgetWorld {
    /// Budgets that never start again.
    Total,
    /// Budgets of an hour, with a wall clock that goes back and forth over the end of one.
    Hourly,
}

/// What kind of world it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// The planted fault.
    pub(crate) lie: Option<Lie>,
    /// Whether an engine may go on working while the next one has started.
    pub(crate) zombies: bool,
    /// Which budgets the tenants have.
    pub(crate) budgets: Option<BudgetWorld>,
    /// Whether agents call a tool that a person must allow.
    pub(crate) approvals: bool,
    /// For how many seconds that tool is put off, where no person is needed.
    pub(crate) cooling: Option<i64>,
    /// For one of how many requests for approval the store has no room.
    pub(crate) crowded: Option<usize>,
    /// What becomes of a call that cannot be undone and to which a second model does not agree, where one is asked.
    pub(crate) opinions: Option<ObjectionAction>,
    /// On one of how many calls people hang up, where they do.
    pub(crate) hang_ups: Option<usize>,
    /// Whether inputs say what they do while a turn runs, and some are of another person.
    pub(crate) policies: bool,
}

/// Where tasks run; nothing is spawned while a caller hangs up on a call that goes with him.
#[derive(Debug)]
struct Deaf {
    below: Arc<dyn TaskSpawner>,
    hanging_up: Arc<AtomicBool>,
}

impl TaskSpawner for Deaf {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if !self.hanging_up.load(Ordering::SeqCst) {
            self.below.spawn(task);
        }
    }
}

/// Somewhere to talk to an agent.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) tenant: TenantId,
    pub(crate) agent: AgentId,
    pub(crate) key: SessionKey,
}

/// The world.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) chance: Arc<Chance>,
    pub(crate) witness: Arc<Witness>,
    pub(crate) truth: ReferenceStore,
    pub(crate) outside: Arc<Outside>,
    pub(crate) runtime: Runtime,
    pub(crate) clock: ManualClock,
    pub(crate) options: Options,
    pub(crate) tenants: Vec<TenantId>,
    pub(crate) agents: Vec<(TenantId, AgentId)>,
    pub(crate) places: Vec<Place>,
    /// How engines tell what is untrusted of earlier turns.
    pub(crate) tainted_past: TaintedPast,
    active_max: usize,
    /// Whether somebody drops a call at this moment.
    hanging_up: Arc<AtomicBool>,
}

/// Takes the answer of something that does not wait.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the reference store answers at once")
}

/// Lets another task run.
pub(crate) async fn step() {
    let mut passed = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Sees all of a tenant.
pub(crate) fn scope_of(tenant: TenantId) -> Scope {
    ScopeAuthority::claim().issue_scope(tenant, Actor::new("cli:ada"))
}

impl World {
    /// Registers tenants with their agents, two places to talk to each.
    pub(crate) fn new(sim: &mut SimExecutor, seed: u64, options: Options) -> Self {
        let chance = Arc::new(Chance(Mutex::new(SeededRng::new(seed.rotate_left(17) ^ 0x5eed))));
        let truth = ReferenceStore::with_clock(Arc::new(sim.clock().clone()));
        let (witness, runtime) = (Arc::new(Witness::default()), sim.runtime());
        let outside = Arc::new(Outside {
            witness: Arc::clone(&witness),
            chance: Arc::clone(&chance),
            runtime: runtime.clone(),
            truth: truth.clone(),
            lie: options.lie,
            storm: AtomicBool::new(true),
            alone: !options.zombies,
            delays: options.cooling.is_some(),
            catalogue: ToolCatalogue::from_builtins(descriptors()),
            other_words: AtomicBool::new(false),
        });
        let active_max = [1, 2, 8][chance.below(3)];
        let tenants = 2 + chance.below(2);
        let mut world = Self {
            chance,
            witness,
            truth,
            outside,
            runtime,
            clock: sim.clock().clone(),
            options,
            tenants: Vec::new(),
            agents: Vec::new(),
            places: Vec::new(),
            tainted_past: TaintedPast::Handle,
            active_max,
            hanging_up: Arc::default(),
        };
        let weather = world.weather(false);
        weather.calm();
        let engine = world.engine(&weather);
        sim.block_on(world.register(&engine, tenants)).expect("registering ends");
        if options.budgets.is_some() {
            super::budgets::set(&world);
        }
        if options.budgets == Some(BudgetWorld::Hourly) {
            super::hours::begin_late_in_an_hour(&world);
        }
        world
    }

    async fn register(&mut self, engine: &Engine, tenants: usize) {
        for tenant in 0..tenants {
            let handle = format!("t{tenant}").parse().expect("a handle");
            let id = engine
                .tenant_create(ScopeAuthority::claim().issue_operator(), handle, "first".to_owned())
                .await
                .expect("nothing fails yet")
                .0
                .id;
            self.tenants.push(id);
            for agent in 0..2 {
                let new = NewAgent {
                    handle: format!("a{agent}").parse().expect("a handle"),
                    display_name: String::new(),
                    labels: std::collections::BTreeMap::new(),
                    config: config(if agent == 0 { 12 } else { 2 }),
                };
                let created = engine.agent_create(scope_of(id), new).await.expect("nothing fails yet");
                self.agents.push((id, created.id));
                for place in 0..2 {
                    let name = format!("t{tenant}a{agent}p{place}");
                    // In an honest world the answers of one place of two are delivered.
                    let delivered = place == 1 && self.options.lie.is_none();
                    let key = SessionKey {
                        platform: if delivered { WEBHOOK } else { "sim" }.to_owned(),
                        channel: name.clone(),
                        actor: Actor::new("cli:ada"),
                    };
                    self.places.push(Place { name, tenant: id, agent: created.id, key });
                }
            }
        }
    }

    /// Makes the store of one life.
    pub(crate) fn weather(&self, deadly: bool) -> Arc<Weather> {
        Weather::new(&self.truth, &self.chance, &self.witness, &self.clock, self.options, deadly)
    }

    /// Makes an engine before a store.
    pub(crate) fn engine(&self, weather: &Arc<Weather>) -> Engine {
        self.engine_on(weather, self.place_to_run())
    }

    /// Makes an engine before a store, as the life of a process and on the place to run of a runtime.
    pub(crate) fn engine_on(&self, weather: &Arc<Weather>, runtime: Runtime) -> Engine {
        let ports = EnginePorts {
            store: Arc::clone(weather) as _,
            model: Arc::clone(&self.outside) as _,
            tools: Arc::clone(&self.outside) as _,
            gate: Arc::clone(&self.outside) as _,
            terms: Arc::new(ToolTerms::default()),
            leaks: Arc::new(NoSecrets),
            homes: Arc::clone(&self.outside) as _,
            runtime,
            authority: ScopeAuthority::claim(),
        };
        let (active_max, tainted_past) = (self.active_max, self.tainted_past);
        let mut config = EngineConfig { active_max, tainted_past, ..EngineConfig::default() };
        if self.options.approvals {
            // People take from half a second to some seconds.
            config.approvals.hold = SignedDuration::from_secs(2);
            config.approvals.expire = SignedDuration::from_secs(20);
            config.approvals.cooling = SignedDuration::from_secs(self.options.cooling.unwrap_or(600));
        }
        config.second_opinion = self.options.opinions.map(|objection| SecondOpinion {
            model: super::opinions::SECOND.to_owned(),
            samples: 2,
            agree: 2,
            objection,
        });
        Engine::new(ports, config)
    }

    /// Time, identity and a place to run, as an engine meets them.
    fn place_to_run(&self) -> Runtime {
        let mut runtime = self.runtime.clone();
        runtime.life = Arc::new(NodeLife::new("sim", runtime.ids.random_secret()));
        if self.options.lie == Some(Lie::CallsGoWithCallers) {
            let (below, hanging_up) = (Arc::clone(&runtime.spawn), Arc::clone(&self.hanging_up));
            runtime.spawn = Arc::new(Deaf { below, hanging_up });
        }
        runtime
    }

    /// Drops a call where it stands, as somebody does who hangs up.
    pub(crate) fn hang_up<T>(&self, call: T) {
        self.hanging_up.store(true, Ordering::SeqCst);
        drop(call);
        self.hanging_up.store(false, Ordering::SeqCst);
    }

    /// Makes a call. Where people hang up, some do so before they are answered; nobody does once the storm is over.
    pub(crate) async fn called<T>(&self, mut call: BoxFuture<'_, T>) -> Option<T> {
        let share = self.options.hang_ups.filter(|_| self.outside.storm.load(Ordering::SeqCst));
        if !share.is_some_and(|share| self.chance.one_in(share)) {
            return Some(call.await);
        }
        for _ in 0..=self.chance.below(8) {
            // Whoever looks again each time needs nobody to wake him.
            if let Some(answer) = (&mut call).now_or_never() {
                return Some(answer);
            }
            step().await;
        }
        self.hang_up(call);
        None
    }

    /// Lets model and tools succeed from now on.
    pub(crate) fn calm(&self) {
        self.outside.storm.store(false, Ordering::SeqCst);
    }

    /// Lets time pass, wherever the wall clock goes meanwhile.
    pub(crate) async fn sleep(&self, milliseconds: usize) {
        self.runtime.clock.sleep(std::time::Duration::from_millis(milliseconds as u64)).await;
    }

    /// Reads every run of a tenant, oldest first.
    pub(crate) fn runs(&self, tenant: TenantId) -> Vec<RunRecord> {
        let (scope, mut page, mut all) = (scope_of(tenant), PageRequest::first_page(256), Vec::new());
        loop {
            let runs = at_once(self.truth.runs(&scope, RunFilter::default(), page)).expect("it reads");
            page.after = runs.last().map(|run| run.id);
            let last = runs.len() < 256;
            all.extend(runs);
            if last {
                all.reverse();
                return all;
            }
        }
    }

    /// Reads every session of a tenant.
    pub(crate) fn sessions(&self, tenant: TenantId) -> Vec<SessionRecord> {
        at_once(self.truth.sessions(&scope_of(tenant), None, PageRequest::first_page(256))).expect("it reads")
    }

    /// Reads every message of a tenant that is on its way out.
    pub(crate) fn messages(&self, tenant: TenantId) -> Vec<DeliveryRecord> {
        let (scope, mut page, mut all) = (scope_of(tenant), PageRequest::first_page(256), Vec::new());
        loop {
            let listed = self.truth.deliveries(&scope, DeliveryFilter::default(), page);
            let listed = at_once(listed).expect("it reads");
            page.after = listed.last().map(|delivery| delivery.id);
            for delivery in &listed {
                all.extend(at_once(self.truth.delivery_record(&scope, delivery.id)).expect("it reads"));
            }
            if listed.len() < 256 {
                return all;
            }
        }
    }

    /// Reads a whole journal.
    pub(crate) fn journal(&self, tenant: TenantId, run: RunId) -> Vec<StoredEntry> {
        let read = |after| {
            at_once(self.truth.journal_entries(&scope_of(tenant), run, after, 256)).expect("it reads")
        };
        let mut journal = read(0);
        while journal.len().is_multiple_of(256) && !journal.is_empty() {
            let more = read(journal.len() as u64);
            if more.is_empty() {
                break;
            }
            journal.extend(more);
        }
        journal
    }

    /// Lists the files of an agent of which something is known.
    pub(crate) fn files(&self, tenant: TenantId, agent: AgentId) -> Vec<String> {
        let (scope, mut paths) = (scope_of(tenant), Vec::<String>::new());
        loop {
            let after = paths.last().cloned();
            let page = PageRequest { after: after.as_deref(), limit: 256 };
            let files = at_once(self.truth.file_labels(&scope, agent, page)).expect("it reads");
            if files.is_empty() {
                return paths;
            }
            paths.extend(files.into_iter().map(|(path, _)| path));
        }
    }

    /// Reads a whole inbox; a simulated one has less than a page.
    pub(crate) fn inbox(&self, tenant: TenantId, owner: InboxOwner) -> Vec<InboxItem> {
        at_once(self.truth.inbox_items(&scope_of(tenant), owner, 0, 256)).expect("it reads")
    }

    /// Tells what is not settled yet: a run that has not ended, input that waits, or a caller without an answer.
    pub(crate) fn unsettled(&self) -> Option<String> {
        for tenant in &self.tenants {
            if let Some(run) = self.runs(*tenant).iter().find(|run| !run.head.status.is_terminal()) {
                let last = self.journal(*tenant, run.id).last().map(|entry| entry.kind.clone());
                return Some(format!("{} is {:?} after {last:?}", run.id, run.head.status));
            }
            for session in self.sessions(*tenant) {
                if session.head.active.is_some() || session.head.taken < session.head.last {
                    let agent =
                        at_once(self.truth.agent(&scope_of(*tenant), session.agent)).expect("it reads");
                    let state = agent.map(|agent| agent.state);
                    return Some(format!(
                        "{} stands at {:?}, its agent is {state:?}",
                        session.id, session.head
                    ));
                }
            }
        }
        let now = self.runtime.clock.now();
        for tenant in &self.tenants {
            let all = super::approvals::all(self, *tenant, ApprovalFilter::default());
            if let Some(cooling) = all.iter().find(|approval| approval.cooling_at(now).is_some()) {
                return Some(format!("{} cools until {:?}", cooling.id, cooling.deadlines.cools_until));
            }
        }
        let waiting = self.witness.book().waiting.clone();
        (!waiting.is_empty()).then(|| format!("callers wait for an answer to {waiting:?}"))
    }

    /// Looks at every journal: what was there once stays.
    pub(crate) fn look(&self) {
        for tenant in &self.tenants {
            for run in self.runs(*tenant) {
                self.witness.look(run.id, &self.journal(*tenant, run.id));
            }
        }
    }

    /// Lists agents that are not running.
    pub(crate) fn paused(&self) -> Vec<(TenantId, AgentId)> {
        let state = |(tenant, agent): &(TenantId, AgentId)| {
            at_once(self.truth.agent(&scope_of(*tenant), *agent)).expect("it reads").map(|agent| agent.state)
        };
        self.agents.iter().copied().filter(|agent| state(agent) != Some(AgentState::Running)).collect()
    }
}
