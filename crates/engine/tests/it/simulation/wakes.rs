//! Runs that a provider's refusal parked, all until one time: each goes on then, however many there are, whoever else
//! waits, and whatever else the engine has to do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::client::Offer;
use dromia_contracts::content::Part;
use dromia_contracts::label::Label;
use dromia_contracts::model::{Deltas, Model, ModelError, ModelReply, ModelRequest, Prepared};
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{NewInput, Runs as _, Target};
use dromia_contracts::sent::Wording;
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::{AgentStateSet, Batch, Commit, Mutation, Store as _};
use dromia_contracts::terms::ToolTerms;
use dromia_contracts::vault::NoSecrets;
use dromia_contracts::{Actor, AgentId, Authority, BoxFuture, ErrorCode, RunId, TenantId};
use dromia_engine::config::JANITOR_SECONDS;
use dromia_engine::{Engine, EngineConfig, Ports};
use dromia_testkit::Sim;
use jiff::Timestamp;

use super::ports::Outside;
use super::store::Weather;
use super::world::{Options, World, at_once, scope_of};

/// A model that refuses every call until a time, and says when that is.
#[derive(Debug)]
struct Refusing {
    outside: Arc<Outside>,
    until: Timestamp,
    /// The runs whose calls it answered, in order.
    answered: Mutex<Vec<RunId>>,
}

impl Model for Refusing {
    fn knows(&self, alias: &str) -> bool {
        self.outside.knows(alias)
    }

    fn prepare(&self, request: &ModelRequest) -> Result<Prepared, ModelError> {
        Model::prepare(&*self.outside, request)
    }

    fn write(&self, wording: &Wording, request: &ModelRequest) -> Result<Bytes, ModelError> {
        self.outside.write(wording, request)
    }

    fn call<'a>(
        &'a self,
        request: &'a ModelRequest,
        prepared: &'a Prepared,
        deltas: &'a dyn Deltas,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        let now = self.outside.runtime.clock.now();
        if now < self.until {
            let wait = Duration::try_from(self.until.duration_since(now)).expect("it lies ahead");
            let message = "too many requests".to_owned();
            let refused = ModelError { code: ErrorCode::ModelUnavailable, message, retry_after: Some(wait) };
            return Box::pin(std::future::ready(Err(refused)));
        }
        let run = request.key.split(':').next().unwrap_or_default().parse().expect("the key names the run");
        self.answered.lock().expect("no test panics in here").push(run);
        Model::call(&*self.outside, request, prepared, deltas)
    }
}

/// A calm world before a model that refuses everything for a minute.
struct Scene {
    sim: Sim,
    world: World,
    weather: Arc<Weather>,
    model: Arc<Refusing>,
    engine: Engine,
}

impl Scene {
    /// The engine has not started yet.
    fn new(seed: u64, active_max: usize) -> Self {
        let mut sim = Sim::new(seed).with_steps_max(10 * Sim::STEPS_MAX);
        let world = World::new(&mut sim, seed, Options::default());
        world.calm();
        let weather = world.weather(false);
        weather.calm();
        let until = world.runtime.clock.now() + Duration::from_mins(1);
        let outside = Arc::clone(&world.outside);
        let model = Arc::new(Refusing { outside, until, answered: Mutex::default() });
        let ports = Ports {
            store: Arc::clone(&weather) as _,
            model: Arc::clone(&model) as _,
            tools: Arc::clone(&world.outside) as _,
            gate: Arc::clone(&world.outside) as _,
            terms: Arc::new(ToolTerms::default()),
            leaks: Arc::new(NoSecrets),
            homes: Arc::clone(&world.outside) as _,
            runtime: world.runtime.clone(),
            authority: Authority::claim(),
        };
        let engine = Engine::new(ports, EngineConfig { active_max, ..EngineConfig::default() });
        Self { sim, world, weather, model, engine }
    }

    /// Says something in a session of its own.
    fn say(&mut self, tenant: TenantId, agent: AgentId, name: usize) {
        let place = format!("{agent}/{name}");
        let author = Actor::new("cli:ada");
        let key = SessionKey { platform: "sim".to_owned(), channel: place.clone(), actor: author.clone() };
        let text = format!("r{name}|{place}|");
        let input = NewInput {
            target: Target::Key { agent, key },
            author,
            history: Vec::new(),
            answers: None,
            offer: Offer::default(),
            call: None,
            parts: vec![Part::text(text, Label::ACTOR_TEXT)],
            key: None,
            wait: false,
        };
        let submitted = self.engine.submit(scope_of(tenant), input);
        self.sim.block_on(submitted).expect("submitting ends").expect("nothing fails");
    }

    /// Lets time pass until so many seconds after the model is well again.
    fn pass_until(&mut self, seconds: i64) {
        let until = self.model.until + jiff::SignedDuration::from_secs(seconds);
        let clock = Arc::clone(&self.world.runtime.clock);
        self.sim.block_on(clock.sleep_until(until)).expect("time passes");
    }

    fn count(&self, tenant: TenantId, status: RunStatus) -> usize {
        self.world.runs(tenant).iter().filter(|run| run.head.status == status).count()
    }
}

#[test]
fn all_runs_that_are_due_at_once_go_on_within_one_look_and_hold_up_no_other_tenant() {
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
    assert_eq!(due, Some(scene.model.until), "all of them are due at one time");

    scene.pass_until(JANITOR_SECONDS);
    assert_eq!(scene.count(flood, RunStatus::Completed), MANY);
    assert_eq!(scene.count(quiet, RunStatus::Completed), 1);
    let other = scene.world.runs(quiet).swap_remove(0).id;
    let answered = scene.model.answered.lock().expect("no test panics in here");
    let place = answered.iter().position(|run| *run == other);
    assert!(place.is_some_and(|place| place < 2), "the other tenant's is the turn {place:?}");
}

#[test]
fn an_erasure_that_never_ends_keeps_no_parked_run_from_waking() {
    let mut scene = Scene::new(2, 8);
    scene.weather.erase_for_ever();
    // Marked in an earlier life: nobody counts what goes.
    let ((tenant, agent), (_, gone)) = (scene.world.agents[0], scene.world.agents[1]);
    let (from, to) = (vec![AgentState::Running], AgentState::Deleting);
    let mark = Mutation::AgentStateSet(AgentStateSet { agent: gone, from, to });
    let marked = at_once(scene.world.truth.commit(Batch::new(tenant).with(mark)));
    assert!(matches!(marked, Commit::Done(_)), "{marked:?}");
    scene.engine.start();
    scene.say(tenant, agent, 0);
    scene.pass_until(-1);
    assert_eq!(scene.count(tenant, RunStatus::Parked), 1);
    scene.pass_until(JANITOR_SECONDS);
    assert_eq!(scene.count(tenant, RunStatus::Completed), 1);
    let left = at_once(scene.world.truth.deleting_agents(&Authority::claim().operator()));
    assert_eq!(left, Ok(vec![(tenant, gone)]), "the erasure goes on beside it");
}
