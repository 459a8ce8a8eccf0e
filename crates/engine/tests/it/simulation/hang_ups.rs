//! Callers who hang up while their batch lies in the queue of the store: it becomes durable, and what follows the commit
//! happens all the same. One small calm world per claim; in none of them does anything fail that would have the engine look
//! for what it lost.

use std::sync::Arc;

use dromia_contracts::BoxFuture;
use dromia_contracts::agent::AgentState;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{EnginePort as _, RunEndMode};
use futures_util::FutureExt as _;

use super::rests::Scene;
use super::world::{Lie, Options, scope_of, step};

/// Worlds in which a run may or may not be quicker than the pause that comes right after its input.
const SEEDS: std::ops::Range<u64> = 0..10;

impl Scene {
    /// Begins a call, hangs up when its batch waits to be written, and has it written then.
    fn hang_up_on<T>(&mut self, mut call: BoxFuture<'_, T>) {
        self.weather.hold_back();
        let (world, weather) = (&self.world, Arc::clone(&self.weather));
        let hung_up = self.sim.block_on(async move {
            loop {
                // A run that goes on beside it may have a batch that waits, too.
                let before = weather.held_back();
                assert!((&mut call).now_or_never().is_none(), "its batch is not written");
                if weather.held_back() > before {
                    break;
                }
                step().await;
            }
            world.hang_up(call);
        });
        hung_up.expect("it comes to its commit");
        self.weather.let_go();
    }
}

fn lying(lie: Option<Lie>) -> Options {
    Options { lie, ..Options::default() }
}

/// Somebody says something and hangs up; returns how the runs stand long after, and then, when more was said, again.
fn said(lie: Option<Lie>) -> [Vec<RunStatus>; 2] {
    let mut scene = Scene::with(31, lying(lie));
    scene.pass(1_000);
    let (engine, tenant) = (scene.engine.clone(), scene.world.places[0].tenant);
    let input = scene.input("look", false);
    scene.hang_up_on(engine.submit_input(scope_of(tenant), input));
    let statuses = |scene: &Scene| scene.world.runs(tenant).iter().map(|run| run.head.status).collect();
    scene.pass(20_000);
    let first = statuses(&scene);
    scene.say("look", false).expect("nothing fails");
    scene.pass(20_000);
    [first, statuses(&scene)]
}

/// What is done to a parked run or to its agent.
#[derive(Debug, Clone, Copy)]
enum Done {
    Cancel,
    Wake,
    Terminate,
}

/// Does it to a run that is parked by a pause, and hangs up; returns how the run stands long after.
fn done(done: Done, lie: Option<Lie>) -> RunStatus {
    let mut scene = Scene::paused_with(5, lying(lie));
    let (engine, run) = (scene.engine.clone(), scene.run().id);
    let (scope, agent) = (scope_of(scene.world.places[0].tenant), scene.world.places[0].agent);
    match done {
        Done::Cancel => scene.hang_up_on(engine.end_run(scope, run, RunEndMode::Cancel)),
        Done::Wake => scene.hang_up_on(engine.agent_set_state(scope, agent, AgentState::Running)),
        Done::Terminate => scene.hang_up_on(engine.agent_set_state(scope, agent, AgentState::Terminated)),
    }
    // The janitor finds a signal by itself some seconds later.
    scene.pass(if matches!(done, Done::Cancel) { 1_000 } else { 20_000 });
    scene.run().head.status
}

/// Pauses an agent whose run is under way and hangs up; counts the worlds in which the run heard of it.
fn paused(lie: Option<Lie>) -> usize {
    let is_parked = |seed| {
        let mut scene = Scene::with(seed, lying(lie));
        scene.say("look;look;look;look;look;look", false).expect("nothing fails");
        let engine = scene.engine.clone();
        let (scope, agent) = (scope_of(scene.world.places[0].tenant), scene.world.places[0].agent);
        scene.hang_up_on(engine.agent_set_state(scope, agent, AgentState::Paused));
        scene.pass(20_000);
        scene.run().head.status == RunStatus::Parked
    };
    SEEDS.filter(|seed| is_parked(*seed)).count()
}

#[test]
fn an_abandoned_input_and_the_next_one_are_answered() {
    let [first, then] = said(None);
    assert_eq!((first, then), (vec![RunStatus::Completed], vec![RunStatus::Completed; 2]));
}

#[test]
fn signals_and_states_apply_though_their_callers_hang_up() {
    assert_eq!(done(Done::Cancel, None), RunStatus::Cancelled);
    assert_eq!(done(Done::Wake, None), RunStatus::Completed);
    assert_eq!(done(Done::Terminate, None), RunStatus::Cancelled);
    assert!(paused(None) > 0, "no run heard that its agent was paused");
}

/// The fault that all of this is about: a call that goes with its caller, whose commit nobody follows.
#[test]
fn a_call_that_goes_with_its_caller_is_caught() {
    let lie = Some(Lie::CallsGoWithCallers);
    assert_eq!(said(lie), [vec![RunStatus::Running], vec![RunStatus::Running]], "nothing notices it");
    for what in [Done::Cancel, Done::Wake, Done::Terminate] {
        assert_eq!(done(what, lie), RunStatus::Parked, "{what:?}: nothing notices it");
    }
    assert_eq!(paused(lie), 0, "nothing notices it");
}
