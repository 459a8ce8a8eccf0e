//! Group commit: isolation of refusals, resubmission, rows of a plain turn.

use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{CommitOutcome, CommitRefusal, Mutation, RunTakeover, Store as _, WriteBatch};
use dromia_contracts::{Digest, ItemId, RunId, SessionId, TenantId};

use crate::scene::{AGENT, SESSION, Scene, TENANT, put, session_open};

#[tokio::test]
async fn a_plain_turn_is_eleven_rows_in_two_commits() {
    let scene = Scene::open().await;
    scene.turn_done(SESSION, 0, "warm").await;
    let before = scene.store.store_stats();
    scene.turn_done(SESSION, 1, "hi").await;
    let after = scene.store.store_stats();
    assert_eq!(after.commits - before.commits, 2);
    assert_eq!(after.batches - before.batches, 2);
    assert_eq!(after.rows - before.rows, 11, "a seal for each commit is among them");
}

#[tokio::test]
async fn a_refused_batch_does_not_touch_its_neighbours() {
    let scene = Scene::open().await;
    let sessions: Vec<_> = (10..14).map(|n| SessionId::from_bytes([n; 16])).collect();
    let opens = sessions.iter().map(|session| session_open(*session, AGENT, &session.to_string()));
    scene.done(opens.fold(WriteBatch::new(TENANT), WriteBatch::with_mutation)).await;
    // All are queued before the first is awaited, so the writer drains them in few groups.
    let mut answers = Vec::new();
    for round in 0..50_u64 {
        for session in &sessions {
            let item = ItemId::from_bytes(scene.id());
            let mut batch =
                WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(put(*session, item, "x", None)));
            if round % 3 == 1 {
                // Its put comes first and must not stand.
                let run = RunId::from_bytes([0xee; 16]);
                let takeover =
                    RunTakeover { run, from_epoch: 1, holder: Digest::default(), at: crate::scene::at(0) };
                batch = batch.with_mutation(Mutation::RunTakeover(takeover));
            }
            answers.push((round, scene.store.commit(batch)));
        }
    }
    let stranger = WriteBatch::new(TenantId::from_bytes([0xaa; 16]));
    answers.push((1, scene.store.commit(stranger)));
    for (round, answer) in answers {
        match answer.await {
            CommitOutcome::Done(_) => assert_ne!(round % 3, 1),
            CommitOutcome::Refused(CommitRefusal::NotFound(_)) => assert_eq!(round % 3, 1),
            other => panic!("unexpected {other:?}"),
        }
    }
    for session in sessions {
        let inbox = scene.store.inbox_items(&Scene::scope(), InboxOwner::Session(session), 0, 256).await;
        let positions: Vec<_> = inbox.expect("a read").iter().map(|item| item.position).collect();
        assert_eq!(positions, (1..=33).collect::<Vec<_>>(), "no gap where a batch was refused");
    }
    assert!(scene.store.store_stats().commits < 200, "groups were formed");
}

#[tokio::test]
async fn a_batch_is_recognized_after_a_restart_and_later_turns() {
    let scene = Scene::open().await;
    let (_, begin, end) = scene.turn(SESSION, 0, "hi");
    let (first, second) = (scene.done(begin.clone()).await, scene.done(end.clone()).await);
    for n in 1..4 {
        scene.turn_done(SESSION, n, "later").await;
    }
    let scene = scene.reopen(|_| {});
    let rows = scene.store.store_stats().rows;
    assert_eq!(scene.done(begin).await, first);
    assert_eq!(scene.done(end).await, second);
    assert_eq!(scene.store.store_stats().rows, rows, "nothing was written");
}

#[tokio::test]
async fn work_goes_on_when_the_caller_goes_away() {
    let scene = Scene::open().await;
    let item = ItemId::from_bytes(scene.id());
    drop(
        scene
            .store
            .commit(WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(put(SESSION, item, "x", None)))),
    );
    let scene = scene.reopen(|_| {});
    let session = scene.store.session(&Scene::scope(), SESSION).await.expect("a read").expect("a session");
    assert_eq!(session.head.last, 1);
}

#[tokio::test]
async fn a_flooding_tenant_is_refused_and_another_is_served() {
    let scene = Scene::open().await;
    let body = bytes::Bytes::from(vec![b'x'; 200_000]);
    let flood: Vec<_> = (0..2_000)
        .map(|_| {
            let mut item = put(SESSION, ItemId::from_bytes(scene.id()), "", None);
            item.body = body.clone();
            scene.store.commit(WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(item)))
        })
        .collect();
    let other = TenantId::from_bytes([8; 16]);
    let create = dromia_contracts::store::TenantCreate {
        handle: "other".parse().expect("a handle"),
        at: crate::scene::at(0),
        body_key: [8; 32],
    };
    let served =
        scene.store.commit(WriteBatch::new(other).with_mutation(Mutation::TenantCreate(create))).await;
    assert!(matches!(served, CommitOutcome::Done(_)), "{served:?}");
    let mut overloaded = 0;
    for answer in flood {
        match answer.await {
            CommitOutcome::Done(_) => {}
            CommitOutcome::Refused(CommitRefusal::Overloaded) => overloaded += 1,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(overloaded > 0, "400 MB exceed the share of 16 MiB");
}
