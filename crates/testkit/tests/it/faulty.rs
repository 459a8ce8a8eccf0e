//! Each fault of the faulty store does what its name says.

use std::sync::{Arc, Mutex};

use dromia_contracts::BoxFuture;
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{Commit, Mutation, Page, Store};
use dromia_testkit::conformance::Scene;
use dromia_testkit::faulty::{CommitFault, Moment};
use dromia_testkit::{FaultyStore, ReferenceStore, Sim};

/// Opens a scene, spoils the next commit, and tells its answer, whether it was written, and the one after.
fn spoil(fault: CommitFault) -> (Commit, bool, Commit) {
    let faulty = Arc::new(FaultyStore::new(Arc::new(ReferenceStore::new())));
    let play: BoxFuture<'_, _> = Box::pin(async {
        let scene = Scene::open(faulty.clone(), 1).await;
        faulty.fail(2, fault);
        let put = |item| scene.batch().with(Mutation::InboxPut(scene.put(item)));
        let answer = faulty.commit(put(scene.item_id())).await;
        let pending = faulty.inner().pending_sessions(&Scene::operator(), Page::first(1)).await;
        let next = faulty.commit(put(scene.item_id())).await;
        (answer, !pending.expect("a read").is_empty(), next)
    });
    Sim::new(1).block_on(play).expect("the scene ends")
}

#[test]
fn each_fault_answers_unknown_and_writes_what_it_says() {
    for (fault, written, goes_on) in [
        (CommitFault::Lost, false, true),
        (CommitFault::Unheard, true, true),
        (CommitFault::CrashBefore, false, false),
        (CommitFault::CrashAfter, true, false),
    ] {
        let (answer, found, next) = spoil(fault);
        assert!(matches!(answer, Commit::Unknown { .. }), "{fault:?}: {answer:?}");
        assert_eq!(found, written, "{fault:?}");
        assert_eq!(matches!(next, Commit::Done(_)), goes_on, "{fault:?}: {next:?}");
    }
    assert_eq!(CommitFault::ALL.len(), 4);
}

#[test]
fn a_callback_sees_both_moments_of_each_commit() {
    let faulty = Arc::new(FaultyStore::new(Arc::new(ReferenceStore::new())));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    faulty.on_commit(move |nth, moment| log.lock().unwrap().push((nth, moment)));
    let play = async {
        let scene = Scene::open(faulty.clone(), 1).await;
        let run = scene.turn(0).await;
        let found = scene.store.run(&scene.scope(), run).await.expect("a read").expect("a run");
        assert_eq!(found.head.status, RunStatus::Running);
    };
    Sim::new(1).block_on(play).expect("the scene ends");
    let expected = [(1, Moment::Before), (1, Moment::After), (2, Moment::Before), (2, Moment::After)];
    assert_eq!(*seen.lock().unwrap(), expected);
    assert_eq!(faulty.commits(), 2);
}
