//! Custom state as a lock: of many writers of the same words at the same time one finds the version that it expects.

use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, Mutation, ReadError, StateEntry, StatePut, Store as _, WriteBatch,
};
use dromia_contracts::{ItemId, WriteId};

use crate::scene::{SESSION, Scene, TENANT, at, put};

/// How many clients want the lock.
const CLIENTS: u8 = 8;

/// How many of the clients got the lock. `write` names the write of a client.
async fn winners(write: impl Fn(u8) -> WriteId) -> usize {
    let scene = Scene::open().await;
    let commits = (0..CLIENTS).map(|client| {
        let put = StatePut {
            session: SESSION,
            name: "lock".into(),
            expected: Some(0),
            value: "taken".into(),
            at: at(1),
            write: write(client),
        };
        scene.store.commit(WriteBatch::new(TENANT).with_mutation(Mutation::StatePut(put)))
    });
    let mut winners = 0;
    for commit in commits.collect::<Vec<_>>() {
        winners += usize::from(matches!(commit.await, CommitOutcome::Done(_)));
    }
    winners
}

#[tokio::test]
async fn one_of_many_clients_gets_the_lock() {
    assert_eq!(winners(|client| WriteId::from_bytes([client; 16])).await, 1);
}

#[tokio::test]
async fn a_write_identified_only_by_its_content_is_caught() {
    assert_eq!(winners(|_| WriteId::from_bytes([1; 16])).await, usize::from(CLIENTS));
}

fn noted() -> WriteBatch {
    let put = StatePut {
        session: SESSION,
        name: "note".into(),
        expected: Some(0),
        value: "kept".into(),
        at: at(1),
        write: WriteId::from_bytes([9; 16]),
    };
    WriteBatch::new(TENANT).with_mutation(Mutation::StatePut(put))
}

async fn read_note(scene: &Scene) -> Result<Option<StateEntry>, ReadError> {
    scene.store.state_entry(&Scene::scope(), SESSION, "note").await
}

#[tokio::test]
async fn state_edited_on_the_disk_is_reported_as_damage() {
    let scene = Scene::open().await;
    scene.done(noted()).await;
    let scene = scene.reopen(|_| {});
    let entry = read_note(&scene).await.expect("it is sealed");
    assert_eq!(entry.map(|entry| (entry.version, entry.value)), Some((1, "kept".into())));
    let change = "UPDATE state SET value = CAST('lost' AS BLOB)";
    let scene = scene.reopen(|dir| Scene::sql(dir).execute_batch(change).expect("is damaged"));
    assert!(matches!(read_note(&scene).await, Err(ReadError::Damaged { .. })));
    let again = scene.store.commit(noted()).await;
    assert!(matches!(again, CommitOutcome::Refused(CommitRefusal::Damaged { .. })), "{again:?}");
}

#[tokio::test]
async fn a_key_edited_on_the_disk_is_reported_as_damage() {
    for change in ["expires_at = 1", "item = x'00000000000000000000000000000000'", "position = 9"] {
        let scene = Scene::open().await;
        let item = ItemId::from_bytes(scene.id());
        let batch =
            WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(put(SESSION, item, "pay", Some("k"))));
        scene.done(batch.clone()).await;
        let change = format!("UPDATE keys SET {change}");
        let scene = scene.reopen(|dir| Scene::sql(dir).execute_batch(&change).expect("is damaged"));
        let again = scene.store.commit(batch).await;
        assert!(
            matches!(again, CommitOutcome::Refused(CommitRefusal::Damaged { .. })),
            "{change}: {again:?}"
        );
        let inbox = scene.store.inbox_items(&Scene::scope(), InboxOwner::Session(SESSION), 0, 9).await;
        assert_eq!(inbox.expect("a read").len(), 1, "{change}: it is not done twice");
    }
}
