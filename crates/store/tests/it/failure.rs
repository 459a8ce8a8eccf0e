//! After a write that failed: unknown, then read-only, then writes again by itself.

use std::time::{Duration, Instant};

use dromia_contracts::ItemId;
use dromia_contracts::store::{CommitOutcome, CommitRefusal, Mutation, Store as _, WriteBatch};

use crate::scene::{SESSION, Scene, TENANT, put};

fn one(scene: &Scene) -> WriteBatch {
    WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(put(
        SESSION,
        ItemId::from_bytes(scene.id()),
        "x",
        None,
    )))
}

#[tokio::test]
async fn a_writer_that_fails_is_read_only_until_it_succeeds() {
    let scene = Scene::open().await;
    scene.done(one(&scene)).await;
    // Somebody else holds the file's one write lock, against all rules.
    let intruder = Scene::sql(scene.dir.path());
    intruder.execute_batch("BEGIN IMMEDIATE").expect("the lock is free");
    let (first, second) = (scene.store.commit(one(&scene)), scene.store.commit(one(&scene)));
    assert!(matches!(first.await, CommitOutcome::Unknown { .. }));
    let second = second.await;
    assert!(
        matches!(
            second,
            CommitOutcome::Unknown { .. } | CommitOutcome::Refused(CommitRefusal::ReadOnly { .. })
        ),
        "{second:?}"
    );
    let later = scene.store.commit(one(&scene)).await;
    assert!(matches!(later, CommitOutcome::Refused(CommitRefusal::ReadOnly { .. })), "{later:?}");
    assert!(scene.store.store_health().read_only.is_some());
    let session =
        scene.store.session(&Scene::scope(), SESSION).await.expect("reads go on").expect("a session");
    assert_eq!(session.head.last, 1);

    intruder.execute_batch("ROLLBACK").expect("the lock is given up");
    let deadline = Instant::now() + Duration::from_mins(1);
    while scene.store.store_health().read_only.is_some() {
        assert!(Instant::now() < deadline, "the store comes back");
        tokio::task::yield_now().await;
    }
    assert_eq!(scene.done(one(&scene)).await.positions, [2], "what was unknown left no row");
}

#[tokio::test]
async fn a_body_that_cannot_be_written_refuses_its_batch_only() {
    let scene = Scene::open().await;
    std::fs::write(scene.dir.path().join("blobs"), "in the way").expect("is written");
    let mut large = put(SESSION, ItemId::from_bytes(scene.id()), "", None);
    large.body = vec![b'x'; 300_000].into();
    let refused = scene.store.commit(WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(large)));
    let neighbour = scene.store.commit(one(&scene));
    assert!(matches!(refused.await, CommitOutcome::Refused(CommitRefusal::ReadOnly { .. })));
    assert!(matches!(neighbour.await, CommitOutcome::Done(receipt) if receipt.positions == [1]));
    assert_eq!(scene.store.store_health().read_only, None);
}
