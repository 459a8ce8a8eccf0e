//! Messages on their way out in SQLite: they outlive the process, and a damaged one is named and never given out.

use std::path::Path;
use std::sync::Arc;

use dromia_contracts::DeliveryId;
use dromia_contracts::delivery::DeliveryState;
use dromia_contracts::store::{Page, ReadError, Store};
use dromia_store::{Inspector, SqliteStore, StoreConfig};
use dromia_testkit::conformance::Scene;

fn opened(dir: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(StoreConfig::new(dir)).expect("the store opens"))
}

/// Stores a message with an attempt that failed, and closes the store.
async fn kept(dir: &Path) -> (DeliveryId, dromia_contracts::Scope) {
    let scene = Scene::open(opened(dir), 1).await;
    let run = scene.turn(0).await;
    let id = scene.replied(run, "webhook:orders").await;
    scene.begun(id, 1).await;
    scene.settled(id, 1, DeliveryState::Failed).await;
    (id, scene.scope())
}

#[tokio::test]
async fn a_message_and_its_receipts_outlive_the_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let (id, scope) = kept(dir.path()).await;
    let store = opened(dir.path());
    let record = store.delivery(&scope, id).await.expect("a read").expect("the message");
    assert_eq!((record.delivery.state, record.delivery.attempts), (DeliveryState::Failed, 1));
    assert_eq!(record.attempts[0].ended.as_ref().map(|end| end.status), Some(Some(500)));
    let heads = store.outbox(&Scene::operator(), Page::first(9)).await.expect("a read");
    assert_eq!(heads.len(), 1);
    drop(store);
    let look = Inspector::new(StoreConfig::new(dir.path()), std::time::Duration::from_secs(5));
    assert_eq!(look.stopped_deliveries().expect("a look"), Some(0));
    assert_eq!(look.oldest_delivery_at().expect("a look"), Some(record.delivery.since));
}

#[tokio::test]
async fn a_damaged_message_is_named_and_never_given_out() {
    for change in
        ["body = CAST('{}' AS BLOB)", "run = zeroblob(16)", "position = 7", "target = 'webhook:bills'"]
    {
        let dir = tempfile::tempdir().expect("a directory");
        let (id, scope) = kept(dir.path()).await;
        let db = rusqlite::Connection::open(dir.path().join("dromia.db")).expect("the file opens");
        let changed = db.execute(&format!("UPDATE deliveries SET {change}"), []).expect("the statement runs");
        assert_eq!(changed, 1);
        drop(db);
        let found = opened(dir.path()).delivery(&scope, id).await;
        let Err(ReadError::Damaged { place, .. }) = found else { panic!("{change}: {found:?}") };
        assert_eq!(place, id.to_string(), "{change}");
    }
}
