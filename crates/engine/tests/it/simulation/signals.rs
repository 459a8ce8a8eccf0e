//! A signal reaches its run though nothing in memory announces it: the process that stored it is another one, or its
//! notification is lost. Each test writes the signal straight into the store.

use bytes::Bytes;
use dromia_contracts::Actor;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::{CommitOutcome, InboxPut, Mutation, WriteBatch};

use super::rests::Scene;
use super::world::{Lie, Options};

/// A turn with many units, each of which ends in a commit.
const PLAN: &str = "look;look;look;look;look;look;look;look";

/// Stores a signal of the only run without a word to any engine.
fn store_signal(scene: &Scene, kind: ItemKind) {
    let run = scene.run().id;
    let put = InboxPut {
        owner: InboxOwner::Run(run),
        item: scene.world.runtime.item_id(),
        at: scene.world.runtime.clock.now(),
        kind,
        author: Actor::new("cli:ada"),
        body: Bytes::new(),
        key: None,
    };
    let batch = WriteBatch::new(scene.world.tenants[0]).with_mutation(Mutation::InboxPut(put));
    let answer = scene.world.truth.apply_batch(&batch);
    assert!(matches!(answer, CommitOutcome::Done(_)), "{answer:?}");
}

/// Ends a turn under way by such a signal; returns its status and how many of its commits came after the signal.
fn signalled_while_running(seed: u64, kind: ItemKind, lie: Option<Lie>) -> (RunStatus, u64) {
    let mut scene = Scene::with(seed, Options { lie, ..Options::default() });
    scene.say(PLAN, false).expect("nothing fails");
    while !scene.kinds().iter().any(|kind| kind == "tool_finished") {
        scene.pass(1);
    }
    assert_eq!(scene.run().head.status, RunStatus::Running, "{:?}", scene.kinds());
    let before = scene.weather.commits();
    store_signal(&scene, kind);
    for _ in 0..20_000 {
        if scene.run().head.status.is_terminal() {
            break;
        }
        scene.pass(1);
    }
    (scene.run().head.status, scene.weather.commits() - before)
}

/// Stores a signal of a run that rests for its agent and has no task; returns its status six seconds later.
fn signalled_while_resting(seed: u64, lie: Option<Lie>) -> RunStatus {
    let mut scene = Scene::paused_with(seed, Options { lie, ..Options::default() });
    assert_eq!(scene.engine.count_active_runs(), 0);
    store_signal(&scene, ItemKind::Cancel);
    scene.pass(6_000);
    scene.run().head.status
}

#[test]
fn an_owner_learns_of_a_signal_with_its_next_commit() {
    for seed in 0..20 {
        for kind in [ItemKind::Cancel, ItemKind::Terminate] {
            let (status, commits) = signalled_while_running(seed, kind, None);
            assert_eq!(status, RunStatus::Cancelled, "seed {seed}");
            // The one under way, the one that tells, and the one that ends the run.
            assert!(commits <= 3, "seed {seed}: {commits} commits");
        }
    }
}

#[test]
fn a_resting_run_is_found_by_its_signal() {
    for seed in 0..20 {
        assert_eq!(signalled_while_resting(seed, None), RunStatus::Cancelled, "seed {seed}");
    }
}

#[test]
fn a_signal_told_by_memory_alone_is_caught() {
    let lie = Some(Lie::ForgetsSignals);
    assert_eq!(signalled_while_running(1, ItemKind::Cancel, lie).0, RunStatus::Completed);
    assert_eq!(signalled_while_resting(1, lie), RunStatus::Parked);
}
