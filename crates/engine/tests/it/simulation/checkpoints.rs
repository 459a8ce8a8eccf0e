//! Checkpoints of a run with many entries: a takeover reads what follows the last one. One that is of another fold, or damaged, is
//! not used, and no commit that stores one loses anything.

use std::collections::BTreeSet;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::{CommitOutcome, InboxPut, Mutation, RunCheckpoint, Store as _, WriteBatch};
use dromia_contracts::{Actor, ItemId};
use dromia_testkit::faulty::CommitFault;

use super::check::check;
use super::rests::Scene;
use super::store::CheckpointFault;
use super::world::{at_once, scope_of};

/// As many entries as come between two checkpoints.
const BETWEEN: u64 = 512;
/// How many signals come at a time.
const SIGNALS: u8 = 100;

/// Sends the run signals that change nothing, each of which is an entry, and lets its engine take them.
fn signal(scene: &mut Scene, round: u8) {
    let run = scene.run().id;
    let mut batch = WriteBatch::new(scene.world.tenants[0]);
    for number in 0..SIGNALS {
        let mut item = [0; 16];
        item[..3].copy_from_slice(&[0x77, round, number]);
        batch.mutations.push(Mutation::InboxPut(InboxPut {
            owner: InboxOwner::Run(run),
            item: ItemId::from_bytes(item),
            at: scene.world.runtime.clock.now(),
            kind: ItemKind::Release,
            author: Actor::new("cli:ada"),
            body: Bytes::new(),
            key: None,
        }));
    }
    let put = at_once(scene.world.truth.commit(batch));
    assert!(matches!(put, CommitOutcome::Done(_)), "{put:?}");
    scene.pass(6_000);
}

fn checkpoint(scene: &Scene) -> Option<RunCheckpoint> {
    let scope = scope_of(scene.world.tenants[0]);
    at_once(scene.world.truth.run_checkpoint(&scope, scene.run().id)).expect("it reads")
}

/// A parked run with more entries than come between two checkpoints.
fn signalled(seed: u64) -> Scene {
    let mut scene = Scene::paused(seed);
    for round in 0..6 {
        signal(&mut scene, round);
    }
    scene
}

/// What is wrong once the run has gone on to its end.
fn end(scene: &mut Scene, what: &str) {
    scene.set(AgentState::Running);
    scene.pass(30_000);
    assert_eq!(scene.run().head.status, RunStatus::Completed, "{what}: {:?}", scene.kinds());
    check(&scene.world);
    scene.world.look();
    let wrong = scene.world.witness.book().wrong.clone();
    assert_eq!((wrong, scene.world.unsettled()), (Vec::new(), None), "{what}");
}

/// Crashes and goes on with checkpoints that have a fault. Returns how many entries were read.
fn restarted(seed: u64, fault: Option<CheckpointFault>) -> usize {
    let mut scene = signalled(seed);
    let stored = checkpoint(&scene).expect("there is a checkpoint");
    assert!(stored.seq >= BETWEEN, "{stored:?}");
    scene.crash();
    if let Some(fault) = fault {
        scene.weather.spoil_checkpoints(fault);
    }
    scene.engine.start();
    end(&mut scene, &format!("{fault:?}, seed {seed}"));
    scene.weather.entries_read()
}

#[test]
fn a_takeover_folds_only_what_follows_the_checkpoint() {
    for seed in 0..5 {
        let read = restarted(seed, None);
        assert!(read < 200, "seed {seed}: {read} entries were read");
    }
}

#[test]
fn a_checkpoint_of_another_fold_is_caught() {
    for seed in 0..5 {
        let read = restarted(seed, Some(CheckpointFault::OtherFold));
        assert!(read > 600, "seed {seed}: {read} entries were read, so the checkpoint was used");
    }
}

#[test]
fn a_checkpoint_with_one_bit_off_is_caught() {
    for seed in 0..5 {
        let read = restarted(seed, Some(CheckpointFault::Damaged));
        assert!(read > 600, "seed {seed}: {read} entries were read, so the checkpoint was used");
    }
}

#[test]
fn a_checkpoint_is_stored_once_in_so_many_entries() {
    let mut scene = Scene::paused(1);
    let mut seen = BTreeSet::new();
    for round in 0..12 {
        signal(&mut scene, round);
        seen.extend(checkpoint(&scene).map(|stored| stored.seq));
    }
    let stored: Vec<_> = seen.into_iter().collect();
    let [first, second] = stored[..] else { panic!("{stored:?}") };
    assert!(first >= BETWEEN && second >= first + BETWEEN, "{stored:?}");
    let log = scene.weather.commit_log();
    let with = log.iter().filter(|line| line.contains("checkpoint")).count();
    assert_eq!(with, 2, "in commits that were made anyway: {log:?}");
    end(&mut scene, "two checkpoints");
}

#[test]
fn a_late_wake_up_costs_no_more_than_an_early_one() {
    let mut scene = Scene::paused(2);
    let mut costs = Vec::new();
    for round in 0..90 {
        let before = (scene.weather.entries_read(), scene.weather.commits());
        signal(&mut scene, round);
        costs.push((scene.weather.entries_read() - before.0, scene.weather.commits() - before.1));
    }
    assert!(scene.run().last_seq > 9_000, "{:?}", scene.run());
    assert!(costs.iter().all(|cost| *cost == (0, 1)), "entries read, and commits: {costs:?}");
    // One that nothing of is kept reads what follows the last checkpoint, however long the journal is.
    scene.crash();
    scene.engine.start();
    end(&mut scene, "9,000 entries");
    let read = scene.weather.entries_read();
    assert!(read < 700, "{read} entries were read");
}

#[test]
fn a_fault_at_the_commit_of_a_checkpoint_loses_nothing() {
    for fault in CommitFault::ALL {
        for seed in 0..4 {
            let mut scene = Scene::paused(seed);
            scene.weather.spoil_first("checkpoint", fault);
            for round in 0..6 {
                signal(&mut scene, round);
                if scene.weather.is_dead() {
                    scene.crash();
                    scene.engine.start();
                    scene.pass(6_000);
                }
            }
            assert!(checkpoint(&scene).is_some(), "{fault:?}, seed {seed}: there is none");
            scene.crash();
            scene.engine.start();
            end(&mut scene, &format!("{fault:?}, seed {seed}"));
        }
    }
}
