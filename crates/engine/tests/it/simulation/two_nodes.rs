//! Two engines on one store, each the life of another node: no run is stolen, and none is stranded.
//!
//! One of them may die: its tasks end where they stand, and its lease runs out by the clock.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use dromia_contracts::lease::NodeLife;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{EnginePort as _, RunEndMode};
use dromia_contracts::runtime::{Runtime, TaskSpawner};
use dromia_contracts::{BoxFuture, Digest};
use dromia_engine::Engine;
use dromia_testkit::SimExecutor;
use dromia_testkit::faulty::CommitFault;

use super::rests::input_at;
use super::store::Weather;
use super::world::{Lie, Options, World, scope_of};

const SEEDS: std::ops::Range<u64> = 0..30;
/// A turn of several units.
const PLAN: &str = "look;look;look;look;look;look";
/// Longer than a lease and the looks after it.
const LEASE_AND_LOOKS: usize = 40_000;

/// Where the tasks of one engine run, until it dies.
#[derive(Debug)]
struct MortalSpawner {
    below: Arc<dyn TaskSpawner>,
    is_dead: Arc<AtomicBool>,
}

/// A task that ends where it stands once its engine is dead.
struct MortalTask {
    task: Option<BoxFuture<'static, ()>>,
    is_dead: Arc<AtomicBool>,
}

impl Future for MortalTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_dead.load(Ordering::SeqCst) {
            self.task = None;
        }
        match &mut self.task {
            Some(task) => task.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}

impl TaskSpawner for MortalSpawner {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if !self.is_dead.load(Ordering::SeqCst) {
            let is_dead = Arc::clone(&self.is_dead);
            self.below.spawn(Box::pin(MortalTask { task: Some(task), is_dead }));
        }
    }
}

/// An engine of one node.
pub(super) struct Node {
    pub(super) engine: Engine,
    pub(super) weather: Arc<Weather>,
    is_dead: Arc<AtomicBool>,
    holder: Digest,
}

impl Node {
    pub(super) fn start(world: &World, name: &str) -> Self {
        let (weather, is_dead) = (world.weather(false), Arc::new(AtomicBool::new(false)));
        weather.calm();
        let life = Arc::new(NodeLife::new(name, world.runtime.ids.random_secret()));
        let (below, holder) = (Arc::clone(&world.runtime.spawn), life.life);
        let spawn = Arc::new(MortalSpawner { below, is_dead: Arc::clone(&is_dead) });
        let engine = world.engine_on(&weather, Runtime { life, spawn, ..world.runtime.clone() });
        engine.start();
        Self { engine, weather, is_dead, holder }
    }

    fn die(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
    }
}

/// A calm world with the engine of one node.
pub(super) struct TwoNodes {
    pub(super) sim: SimExecutor,
    pub(super) world: World,
    pub(super) first: Node,
}

impl TwoNodes {
    pub(super) fn new(seed: u64, lie: Option<Lie>) -> Self {
        let mut sim = SimExecutor::new(seed);
        let world = World::new(&mut sim, seed, Options { lie, ..Options::default() });
        world.calm();
        let first = Node::start(&world, "a");
        Self { sim, world, first }
    }

    pub(super) fn say(&mut self, engine: &Engine, place: usize) {
        let (scope, input) =
            (scope_of(self.world.places[place].tenant), input_at(&self.world, place, PLAN, false));
        let said = self.sim.block_on(engine.submit_input(scope, input)).expect("submitting ends");
        said.expect("nothing fails");
    }

    pub(super) fn pass(&mut self, milliseconds: usize) {
        self.sim.block_on(self.world.sleep(milliseconds)).expect("time passes");
    }

    fn running(&self) -> usize {
        let runs = self.world.tenants.iter().flat_map(|tenant| self.world.runs(*tenant));
        runs.filter(|run| run.head.status == RunStatus::Running).count()
    }

    pub(super) fn wrong(&self) -> Vec<String> {
        self.world.look();
        self.world.witness.book().wrong.clone()
    }
}

/// The second engine starts, and loses a commit of its own, while turns of the first are under way; returns what is wrong.
fn started_beside(seed: u64, lie: Option<Lie>) -> Vec<String> {
    let mut nodes = TwoNodes::new(seed, lie);
    let first = nodes.first.engine.clone();
    for place in 0..3 {
        nodes.say(&first, place);
    }
    nodes.pass(1);
    assert!(nodes.running() > 0, "seed {seed}: nothing is under way");
    let second = Node::start(&nodes.world, "b");
    nodes.pass(usize::try_from(seed % 7).expect("it is small"));
    // Whoever does not know what became of a commit looks for everything that is lost.
    nodes.say(&first, 3);
    second.weather.spoil_in(1, CommitFault::Unheard);
    let scope = scope_of(nodes.world.places[2].tenant);
    let input = input_at(&nodes.world, 2, PLAN, false);
    // Its answer is lost, and the input is stored.
    drop(nodes.sim.block_on(second.engine.submit_input(scope, input)).expect("submitting ends"));
    nodes.pass(LEASE_AND_LOOKS);
    let mut wrong = nodes.wrong();
    wrong.extend(nodes.world.unsettled().map(|what| format!("B: {what}")));
    wrong
}

#[test]
fn no_engine_takes_what_another_living_one_holds() {
    for seed in SEEDS {
        assert_eq!(started_beside(seed, None), Vec::<String>::new(), "seed {seed}");
    }
}

/// Planted fault: the store asks no lease, and the engine is told that it is alone.
#[test]
fn an_engine_that_takes_living_runs_is_caught() {
    let caught = |seed| {
        let wrong = started_beside(seed, Some(Lie::AsksNoLease));
        wrong.iter().any(|wrong| wrong.starts_with("J1: ") && wrong.contains("living process"))
    };
    assert!(SEEDS.into_iter().any(caught), "nothing notices it");
}

#[test]
fn a_dead_engines_runs_go_on_in_the_other_after_its_lease() {
    for seed in SEEDS {
        let mut nodes = TwoNodes::new(seed, None);
        let second = Node::start(&nodes.world, "b");
        nodes.pass(4_000);
        let first = nodes.first.engine.clone();
        for place in 0..3 {
            nodes.say(&first, place);
        }
        nodes.pass(usize::try_from(seed % 5).expect("it is small"));
        nodes.first.die();
        let lost = nodes.running();
        assert!(lost > 0, "seed {seed}: nothing is under way");
        nodes.pass(5_000);
        assert_eq!(nodes.running(), lost, "seed {seed}: its lease lasts, so nothing is lost yet");
        nodes.pass(LEASE_AND_LOOKS);
        assert_eq!(nodes.world.unsettled(), None, "seed {seed}");
        assert_eq!(nodes.wrong(), Vec::<String>::new(), "seed {seed}");
        assert!(nodes.world.witness.book().crashes == 0, "no crash was counted");
        assert_ne!(second.holder, nodes.first.holder);
    }
}

#[test]
fn a_run_is_ended_through_the_engine_that_does_not_hold_it() {
    for seed in SEEDS {
        let mut nodes = TwoNodes::new(seed, None);
        let second = Node::start(&nodes.world, "b");
        nodes.pass(4_000);
        let first = nodes.first.engine.clone();
        nodes.say(&first, 0);
        nodes.pass(1);
        let tenant = nodes.world.places[0].tenant;
        let run = nodes.world.runs(tenant)[0].clone();
        assert_eq!((run.head.status, run.holder), (RunStatus::Running, Some(nodes.first.holder)));
        let end = second.engine.end_run(scope_of(tenant), run.id, RunEndMode::Cancel);
        nodes.sim.block_on(end).expect("it ends").expect("nothing fails");
        nodes.pass(6_000);
        let run = nodes.world.runs(tenant)[0].clone();
        assert_eq!((run.head.status, run.epoch), (RunStatus::Cancelled, 1), "seed {seed}");
        assert_eq!(nodes.wrong(), Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn an_agent_is_erased_though_the_other_engine_works_for_it() {
    for seed in SEEDS {
        let mut nodes = TwoNodes::new(seed, None);
        let second = Node::start(&nodes.world, "b");
        nodes.pass(4_000);
        let first = nodes.first.engine.clone();
        nodes.say(&first, 0);
        nodes.pass(1);
        let (tenant, agent) = (nodes.world.places[0].tenant, nodes.world.places[0].agent);
        let deleted = second.engine.agent_delete(scope_of(tenant), agent);
        nodes.sim.block_on(deleted).expect("it ends").expect("nothing fails");
        nodes.pass(10_000);
        assert_eq!(nodes.running(), 0, "seed {seed}");
        assert_eq!(first.count_active_runs(), 0, "seed {seed}: its owner goes on");
        assert_eq!(nodes.world.unsettled(), None, "seed {seed}");
    }
}

/// A restart is a new life of its node, so what the life before it held is lost at once.
#[test]
fn a_new_life_of_a_node_waits_for_no_lease() {
    for seed in SEEDS {
        let mut nodes = TwoNodes::new(seed, None);
        let first = nodes.first.engine.clone();
        nodes.say(&first, 0);
        nodes.pass(1);
        nodes.first.die();
        assert_eq!(nodes.running(), 1, "seed {seed}: nothing is under way");
        let _second = Node::start(&nodes.world, "a");
        nodes.pass(2_500);
        assert_eq!(nodes.world.unsettled(), None, "seed {seed}");
    }
}
