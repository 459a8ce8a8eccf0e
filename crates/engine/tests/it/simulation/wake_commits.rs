//! The wake-up of a parked run: one commit while its folded state is kept, and two after a restart. Whatever becomes of each
//! commit, the run goes on once; of two engines one gets it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use dromia_contracts::agent::AgentState;
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::runs::EnginePort as _;
use dromia_testkit::faulty::CommitFault;

use super::check::check;
use super::rests::Scene;
use super::two_nodes::{Node, TwoNodes};
use super::world::{Lie, scope_of};

/// The write that begins a wake-up.
const TAKEOVER: &str = "run_takeover";

fn takeovers(log: &[String]) -> Vec<&String> {
    log.iter().filter(|line| line.contains(TAKEOVER)).collect()
}

/// What the witness says of a world in which nothing is left to do.
fn wrong(scene: &Scene) -> Vec<String> {
    scene.world.look();
    let mut wrong = scene.world.witness.book().wrong.clone();
    wrong.extend(scene.world.unsettled());
    wrong
}

#[test]
fn a_wake_up_of_a_parked_run_is_one_commit() {
    for seed in 0..10 {
        let mut scene = Scene::paused(seed);
        scene.set(AgentState::Running);
        scene.pass(5_000);
        assert_eq!(scene.run().head.status, RunStatus::Completed, "{:?}", scene.kinds());
        let log = scene.weather.commit_log();
        let [one] = takeovers(&log)[..] else { panic!("seed {seed}: {log:?}") };
        assert!(one.starts_with("run_takeover, run_append [model_called"), "seed {seed}: {one}");
        assert_eq!((scene.run().epoch, wrong(&scene)), (2, Vec::new()), "seed {seed}");
    }
}

#[test]
fn a_run_of_which_nothing_is_kept_is_taken_over_first() {
    for seed in 0..10 {
        let mut scene = Scene::paused(seed);
        scene.crash();
        scene.engine.start();
        scene.set(AgentState::Running);
        scene.pass(5_000);
        assert_eq!(scene.run().head.status, RunStatus::Completed, "{:?}", scene.kinds());
        let log = scene.weather.commit_log();
        assert_eq!(takeovers(&log), [TAKEOVER], "seed {seed}: a crash while it is read must count: {log:?}");
    }
}

#[test]
fn a_fault_at_any_commit_of_a_wake_up_loses_nothing() {
    for fault in CommitFault::ALL {
        for (seed, restarts) in (0..10).flat_map(|seed| [(seed, false), (seed, true)]) {
            let mut scene = Scene::paused(seed);
            if restarts {
                scene.crash();
                scene.engine.start();
                scene.pass(10);
            }
            // The takeover itself, and the first entries behind one that was alone.
            for word in [TAKEOVER, "run_append [model_called"] {
                scene.weather.spoil_first(word, fault);
                // Whether the agent goes on does not depend on the run.
                scene.set(AgentState::Running);
                scene.pass(300);
                if scene.weather.is_dead() {
                    scene.crash();
                    scene.engine.start();
                }
            }
            scene.pass(30_000);
            let found = (scene.run().head.status, wrong(&scene));
            assert_eq!(
                found,
                (RunStatus::Completed, Vec::new()),
                "{fault:?}, seed {seed}: {:?}",
                scene.kinds()
            );
        }
    }
}

/// A run that rests for the same time in the memory of two engines' stores, due at once for both. Returns the takeovers that
/// each tried, and what is wrong.
fn raced(seed: u64) -> ([usize; 2], Vec<String>, RunRecord) {
    let mut nodes = TwoNodes::new(seed, None);
    let first = nodes.first.engine.clone();
    nodes.world.outside.storm.store(true, Ordering::SeqCst);
    nodes.say(&first, 0);
    let second = Node::start(&nodes.world, "b");
    nodes.pass(20_000);
    nodes.world.outside.storm.store(false, Ordering::SeqCst);
    nodes.pass(120_000);
    let counts = [&nodes.first, &second].map(|node| takeovers(&node.weather.commit_log()).len());
    let run = nodes.world.runs(nodes.world.places[0].tenant)[0].clone();
    let mut wrong = nodes.wrong();
    wrong.extend(nodes.world.unsettled());
    // Each epoch after the first has one claim, so exactly one of them got each wake-up.
    let journal = nodes.world.journal(nodes.world.places[0].tenant, run.id);
    let epochs: BTreeSet<_> = journal.iter().map(|entry| entry.epoch).collect();
    if epochs.last() != Some(&run.epoch) {
        wrong.push(format!("the last epoch {} has no entry: {epochs:?}", run.epoch));
    }
    (counts, wrong, run)
}

#[test]
fn two_engines_that_race_for_a_parked_run_wake_it_once() {
    let mut both = 0;
    for seed in 0..30 {
        let (counts, wrong, run) = raced(seed);
        assert_eq!(wrong, Vec::<String>::new(), "seed {seed}");
        assert!(run.head.status.is_terminal(), "seed {seed}: {run:?}");
        let tried = counts[0] + counts[1];
        let won = usize::try_from(run.epoch - 1).expect("few");
        assert!(tried >= won, "seed {seed}: {counts:?} for {won} wake-ups");
        both += usize::from(counts[0] > 0 && counts[1] > 0 && tried > won);
    }
    assert!(both > 0, "no seed let both try at once");
}

/// The first engine keeps a parked run that the second one wakes and parks again. The first one reads the row of before, and
/// wakes what it has. Returns what is wrong at the end.
fn woken_by_an_old_row(seed: u64, lie: Option<Lie>) -> Vec<String> {
    let mut nodes = TwoNodes::new(seed, lie);
    let second = Node::start(&nodes.world, "b");
    let (tenant, agent) = (nodes.world.places[0].tenant, nodes.world.places[0].agent);
    let first = nodes.first.engine.clone();
    nodes.say(&first, 0);
    let set = |nodes: &mut TwoNodes, engine: &dromia_engine::Engine, state| {
        let set = engine.agent_set_state(scope_of(tenant), agent, state);
        nodes.sim.block_on(set).expect("it ends").expect("nothing fails");
    };
    set(&mut nodes, &first, AgentState::Paused);
    nodes.pass(1_000);
    let old = nodes.world.runs(tenant)[0].clone();
    set(&mut nodes, &second.engine, AgentState::Running);
    nodes.pass(5);
    set(&mut nodes, &second.engine, AgentState::Paused);
    nodes.pass(1_000);
    let moved = nodes.world.runs(tenant)[0].clone();
    let is_parked = [&old, &moved].iter().all(|row| row.head.status == RunStatus::Parked);
    if !is_parked || old.epoch != 1 || moved.last_seq == old.last_seq {
        // It had ended, or had not begun, before it was paused again, or the second engine woke it before.
        return vec!["nothing to see".to_owned()];
    }
    nodes.first.weather.show_once(old);
    set(&mut nodes, &first, AgentState::Running);
    nodes.pass(60_000);
    check(&nodes.world);
    let mut wrong = nodes.wrong();
    wrong.extend(nodes.world.unsettled());
    let log = nodes.first.weather.commit_log();
    if !log.iter().any(|line| line.contains("run_takeover, run_append")) {
        wrong.push(format!("the first engine did not try: {log:?}"));
    }
    wrong
}

#[test]
fn a_wake_up_of_an_old_row_begins_again() {
    let (mut seen, nothing) = (0, vec!["nothing to see".to_owned()]);
    for seed in 0..30 {
        let wrong = woken_by_an_old_row(seed, None);
        if wrong != nothing {
            assert_eq!(wrong, Vec::<String>::new(), "seed {seed}");
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen} worlds");
}

/// Planted fault: the store takes the batch, whatever the run's last entry is.
#[test]
fn a_wake_up_of_an_old_row_is_caught() {
    let caught = |seed| {
        let wrong = woken_by_an_old_row(seed, Some(Lie::NoEpoch));
        wrong.iter().any(|wrong| ["J1", "J4", "J6"].iter().any(|claim| wrong.starts_with(claim)))
    };
    assert!((0..30).any(caught), "nothing notices it");
}
