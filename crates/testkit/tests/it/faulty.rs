//! Each fault of the faulty store does what its name says.

use std::sync::{Arc, Mutex};

use dromia_contracts::BoxFuture;
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{CommitOutcome, Mutation, PageRequest, Store};
use dromia_testkit::conformance::StoreScene;
use dromia_testkit::faulty::{CommitFault, CommitMoment};
use dromia_testkit::{FaultyStore, ReferenceStore, SimExecutor};

/// Opens a scene, spoils the next commit, and tells its answer, whether it was written, and the one after.
fn spoil(fault: CommitFault) -> (CommitOutcome, bool, CommitOutcome) {
    let faulty = Arc::new(FaultyStore::new(Arc::new(ReferenceStore::new())));
    let play: BoxFuture<'_, _> = Box::pin(async {
        let scene = StoreScene::open_scene(faulty.clone(), 1).await;
        faulty.fail_nth(2, fault);
        let put = |item| scene.new_batch().with_mutation(Mutation::InboxPut(scene.put_input(item)));
        let answer = faulty.commit(put(scene.item_id())).await;
        let pending = faulty
            .inner_store()
            .pending_sessions(&StoreScene::node_operator(), PageRequest::first_page(1))
            .await;
        let next = faulty.commit(put(scene.item_id())).await;
        (answer, !pending.expect("a read").is_empty(), next)
    });
    SimExecutor::new(1).block_on(play).expect("the scene ends")
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
        assert!(matches!(answer, CommitOutcome::Unknown { .. }), "{fault:?}: {answer:?}");
        assert_eq!(found, written, "{fault:?}");
        assert_eq!(matches!(next, CommitOutcome::Done(_)), goes_on, "{fault:?}: {next:?}");
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
        let scene = StoreScene::open_scene(faulty.clone(), 1).await;
        let run = scene.begin_turn(0).await;
        let found = scene.store.run(&scene.tenant_scope(), run).await.expect("a read").expect("a run");
        assert_eq!(found.head.status, RunStatus::Running);
    };
    SimExecutor::new(1).block_on(play).expect("the scene ends");
    let expected = [
        (1, CommitMoment::Before),
        (1, CommitMoment::After),
        (2, CommitMoment::Before),
        (2, CommitMoment::After),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
    assert_eq!(faulty.commit_count(), 2);
}
