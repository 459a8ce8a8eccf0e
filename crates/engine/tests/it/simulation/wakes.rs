//! Runs that a provider's refusal parked, all until one time: each goes on then, however many there are, whoever else
//! waits, and whatever else the engine has to do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::ContentPart;
use dromia_contracts::encoded_request::RequestEncoding;
use dromia_contracts::label::Label;
use dromia_contracts::model::{
    DeltaSink, LanguageModel, ModelError, ModelReply, ModelRequest, PreparedAttempt,
};
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{EnginePort as _, InputTarget, NewInput};
use dromia_contracts::runtime::{Clock, Runtime};
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::{AgentStateSet, CommitOutcome, Mutation, Store as _, WriteBatch};
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::vault::NoSecrets;
use dromia_contracts::{Actor, AgentId, BoxFuture, ErrorCode, RunId, ScopeAuthority, TenantId};
use dromia_engine::config::JANITOR_SECONDS;
use dromia_engine::{Engine, EngineConfig, EnginePorts};
use dromia_testkit::SimExecutor;
use jiff::Timestamp;

use super::approvals::GATED;
use super::ports::Outside;
use super::store::Weather;
use super::world::{Options, World, at_once, scope_of};

/// A model that refuses every call until a time, and says when that is.
#[derive(Debug)]
struct Refusing {
    outside: Arc<Outside>,
    until: Mutex<Timestamp>,
    /// The runs whose calls it answered, in order.
    answered: Mutex<Vec<RunId>>,
}

impl LanguageModel for Refusing {
    fn knows_alias(&self, alias: &str) -> bool {
        self.outside.knows_alias(alias)
    }

    fn prepare_attempt(&self, request: &ModelRequest) -> Result<PreparedAttempt, ModelError> {
        LanguageModel::prepare_attempt(&*self.outside, request)
    }

    fn encode_request(&self, wording: &RequestEncoding, request: &ModelRequest) -> Result<Bytes, ModelError> {
        self.outside.encode_request(wording, request)
    }

    fn call_model<'a>(
        &'a self,
        request: &'a ModelRequest,
        prepared: &'a PreparedAttempt,
        deltas: &'a dyn DeltaSink,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        let now = self.outside.runtime.clock.now();
        let until = *self.until.lock().expect("no test panics in here");
        if now < until {
            let wait = Duration::try_from(until.duration_since(now)).expect("it lies ahead");
            let message = "too many requests".to_owned();
            let refused = ModelError { code: ErrorCode::ModelUnavailable, message, retry_after: Some(wait) };
            return Box::pin(std::future::ready(Err(refused)));
        }
        let run = request.key.split(':').next().unwrap_or_default().parse().expect("the key names the run");
        self.answered.lock().expect("no test panics in here").push(run);
        LanguageModel::call_model(&*self.outside, request, prepared, deltas)
    }
}

/// A calm world before a model that refuses everything for a minute.
struct Scene {
    sim: SimExecutor,
    world: World,
    weather: Arc<Weather>,
    model: Arc<Refusing>,
    engine: Engine,
}

impl Scene {
    /// The engine has not started yet.
    fn new(seed: u64, active_max: usize) -> Self {
        Self::timed(seed, active_max, |clock| clock)
    }

    /// The same, with an engine that sees another clock.
    fn timed(seed: u64, active_max: usize, seen: impl Fn(Arc<dyn Clock>) -> Arc<dyn Clock>) -> Self {
        let mut sim = SimExecutor::new(seed).with_steps_max(10 * SimExecutor::STEPS_MAX);
        let world = World::new(&mut sim, seed, Options::default());
        world.calm();
        let weather = world.weather(false);
        weather.calm();
        let until = world.runtime.clock.now() + Duration::from_mins(1);
        let outside = Arc::clone(&world.outside);
        let model = Arc::new(Refusing { outside, until: Mutex::new(until), answered: Mutex::default() });
        let ports = EnginePorts {
            store: Arc::clone(&weather) as _,
            model: Arc::clone(&model) as _,
            tools: Arc::clone(&world.outside) as _,
            gate: Arc::clone(&world.outside) as _,
            terms: Arc::new(ToolTerms::default()),
            leaks: Arc::new(NoSecrets),
            homes: Arc::clone(&world.outside) as _,
            runtime: Runtime { clock: seen(Arc::clone(&world.runtime.clock)), ..world.runtime.clone() },
            authority: ScopeAuthority::claim(),
        };
        let engine = Engine::new(ports, EngineConfig { active_max, ..EngineConfig::default() });
        Self { sim, world, weather, model, engine }
    }

    /// Says something in a session of its own.
    fn say(&mut self, tenant: TenantId, agent: AgentId, name: usize) {
        self.say_for(tenant, agent, name, "");
    }

    /// The same, and the model shall call this tool.
    fn say_for(&mut self, tenant: TenantId, agent: AgentId, name: usize, tool: &str) {
        let place = format!("{agent}/{name}");
        let author = Actor::new("cli:ada");
        let key = SessionKey { platform: "sim".to_owned(), channel: place.clone(), actor: author.clone() };
        let text = format!("r{name}|{place}|{tool}");
        let input = NewInput {
            target: InputTarget::Key { agent, key },
            author,
            history: Vec::new(),
            answers: None,
            offer: ClientOptions::default(),
            call: None,
            workspace: None,
            when_busy: None,
            parts: vec![ContentPart::new_text(text, Label::ACTOR_TEXT)],
            key: None,
            wait: false,
        };
        let submitted = self.engine.submit_input(scope_of(tenant), input);
        self.sim.block_on(submitted).expect("submitting ends").expect("nothing fails");
    }

    /// Lets time pass until so many seconds after the model is well again.
    fn pass_until(&mut self, seconds: i64) {
        let until = self.until() + jiff::SignedDuration::from_secs(seconds);
        let clock = Arc::clone(&self.world.runtime.clock);
        self.sim.block_on(clock.sleep_until(until)).expect("time passes");
    }

    fn until(&self) -> Timestamp {
        *self.model.until.lock().expect("no test panics in here")
    }

    fn count(&self, tenant: TenantId, status: RunStatus) -> usize {
        self.world.runs(tenant).iter().filter(|run| run.head.status == status).count()
    }
}

#[test]
fn all_due_runs_resume_in_one_look_without_delaying_others() {
    // Two pages of the store and more; the reference store copies all of it with each commit.
    const MANY: usize = 600;
    let mut scene = Scene::new(1, 1);
    scene.engine.start();
    let [(flood, busy), (quiet, alone)] = [scene.world.agents[0], scene.world.agents[2]];
    assert!(flood < quiet, "in the order of the store the flood comes first");
    for name in 0..MANY {
        scene.say(flood, busy, name);
    }
    scene.say(quiet, alone, 0);
    scene.pass_until(-1);
    assert_eq!(scene.count(flood, RunStatus::Parked), MANY);
    assert_eq!(scene.count(quiet, RunStatus::Parked), 1);
    let due = scene.world.runs(flood).iter().filter_map(|run| run.head.wake_at).max();
    assert_eq!(due, Some(scene.until()), "all of them are due at one time");

    scene.pass_until(JANITOR_SECONDS);
    assert_eq!(scene.count(flood, RunStatus::Completed), MANY);
    assert_eq!(scene.count(quiet, RunStatus::Completed), 1);
    let other = scene.world.runs(quiet).swap_remove(0).id;
    let answered = scene.model.answered.lock().expect("no test panics in here");
    let place = answered.iter().position(|run| *run == other);
    assert!(place.is_some_and(|place| place < 2), "the other tenant's is the turn {place:?}");
}

#[test]
fn an_endless_erasure_delays_no_parked_run() {
    let mut scene = Scene::new(2, 8);
    scene.weather.erase_for_ever();
    // Marked in an earlier life: nobody counts what goes.
    let ((tenant, agent), (_, gone)) = (scene.world.agents[0], scene.world.agents[1]);
    let (from, to) = (vec![AgentState::Running], AgentState::Deleting);
    let mark = Mutation::AgentStateSet(AgentStateSet { agent: gone, from, to });
    let marked = at_once(scene.world.truth.commit(WriteBatch::new(tenant).with_mutation(mark)));
    assert!(matches!(marked, CommitOutcome::Done(_)), "{marked:?}");
    scene.engine.start();
    scene.say(tenant, agent, 0);
    scene.pass_until(-1);
    assert_eq!(scene.count(tenant, RunStatus::Parked), 1);
    scene.pass_until(JANITOR_SECONDS);
    assert_eq!(scene.count(tenant, RunStatus::Completed), 1);
    let left = at_once(scene.world.truth.deleting_agents(&ScopeAuthority::claim().issue_operator()));
    assert_eq!(left, Ok(vec![(tenant, gone)]), "the erasure goes on beside it");
}

/// Whether a run that waits for its next attempt goes on within two looks after the wall clock was set back by an hour.
fn goes_on_after_a_step_back(seen: impl Fn(Arc<dyn Clock>) -> Arc<dyn Clock>) -> bool {
    let mut scene = Scene::timed(3, 1, seen);
    scene.engine.start();
    let (tenant, agent) = scene.world.agents[0];
    scene.say(tenant, agent, 0);
    scene.pass_until(-1);
    assert_eq!(scene.count(tenant, RunStatus::Parked), 1);
    let clock = scene.sim.clock().clone();
    clock.step_wall_clock(clock.now() - Duration::from_hours(1));
    *scene.model.until.lock().expect("no test panics in here") = Timestamp::MIN;
    let looks = Duration::from_secs(2 * JANITOR_SECONDS.unsigned_abs());
    scene.sim.block_on(clock.sleep(looks)).expect("time passes");
    scene.count(tenant, RunStatus::Completed) == 1
}

#[test]
fn a_clock_that_is_set_back_stops_no_retry() {
    assert!(goes_on_after_a_step_back(|clock| clock));
}

/// Planted fault: waits are reckoned by the wall clock.
#[test]
fn a_wait_by_the_wall_clock_is_caught() {
    #[derive(Debug)]
    struct WallWaits(Arc<dyn Clock>);

    impl Clock for WallWaits {
        fn now(&self) -> Timestamp {
            self.0.now()
        }

        fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
            self.0.sleep_until(at)
        }

        fn monotonic_now(&self) -> Duration {
            self.0.monotonic_now()
        }

        fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
            self.0.sleep_until(self.0.now() + wait)
        }
    }

    assert!(!goes_on_after_a_step_back(|clock| Arc::new(WallWaits(clock))), "nothing notices it");
}

/// Its steady clock goes with the wall clock, so the two never differ.
#[derive(Debug)]
struct OneClock(Arc<dyn Clock>);

impl Clock for OneClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        self.0.sleep_until(at)
    }

    fn monotonic_now(&self) -> Duration {
        Duration::from_millis(self.0.now().as_millisecond().unsigned_abs())
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(wait)
    }
}

/// Planted fault: a step of the clock is not seen.
#[test]
fn an_unseen_step_of_the_clock_is_caught() {
    assert!(!goes_on_after_a_step_back(|clock| Arc::new(OneClock(clock))), "nothing notices it");
}

/// Whether a run that waits for a person lets go of its call within two looks after the wall clock was set back to before the
/// question.
fn lets_go_after_a_step_back(seen: impl Fn(Arc<dyn Clock>) -> Arc<dyn Clock>) -> bool {
    let mut scene = Scene::timed(3, 1, seen);
    *scene.model.until.lock().expect("no test panics in here") = Timestamp::MIN;
    scene.engine.start();
    let (tenant, agent) = scene.world.agents[0];
    scene.say_for(tenant, agent, 0, GATED);
    let clock = scene.sim.clock().clone();
    scene.sim.block_on(clock.sleep(Duration::from_secs(1))).expect("time passes");
    assert_eq!(scene.count(tenant, RunStatus::Parked), 1, "it waits for a person");
    clock.step_wall_clock(clock.now() - Duration::from_hours(1));
    let looks = Duration::from_secs(2 * JANITOR_SECONDS.unsigned_abs());
    scene.sim.block_on(clock.sleep(looks)).expect("time passes");
    scene.count(tenant, RunStatus::Completed) == 1
}

#[test]
fn a_clock_step_back_moves_no_deadline_of_waiting_runs() {
    assert!(lets_go_after_a_step_back(|clock| clock));
}

/// Planted fault: a step of the clock is not seen, so the deadline lies as much later.
#[test]
fn a_deadline_that_moves_with_the_clock_is_caught() {
    assert!(!lets_go_after_a_step_back(|clock| Arc::new(OneClock(clock))), "nothing notices it");
}
