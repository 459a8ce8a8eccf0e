//! Messages on their way out in SQLite: they outlive the process, and a damaged one is named and never given out.

use std::path::Path;
use std::sync::Arc;

use dromia_contracts::DeliveryId;
use dromia_contracts::delivery::DeliveryState;
use dromia_contracts::store::{PageRequest, ReadError, Store};
use dromia_store::{SqliteStore, StoreConfig, StoreInspector};
use dromia_testkit::conformance::StoreScene;

fn opened(dir: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(StoreConfig::new(dir)).expect("the store opens"))
}

/// Stores a message with an attempt that failed, and closes the store.
async fn kept(dir: &Path) -> (DeliveryId, dromia_contracts::Scope) {
    let scene = StoreScene::open_scene(opened(dir), 1).await;
    let run = scene.begin_turn(0).await;
    let id = scene.commit_reply(run, "webhook:orders").await;
    scene.begin_attempt(id, 1).await;
    scene.settle_attempt(id, 1, DeliveryState::Failed).await;
    (id, scene.tenant_scope())
}

#[tokio::test]
async fn a_message_and_its_receipts_outlive_the_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let (id, scope) = kept(dir.path()).await;
    let store = opened(dir.path());
    let record = store.delivery_record(&scope, id).await.expect("a read").expect("the message");
    assert_eq!((record.delivery.state, record.delivery.attempts), (DeliveryState::Failed, 1));
    assert_eq!(record.attempts[0].ended.as_ref().map(|end| end.status), Some(Some(500)));
    let heads = store
        .open_deliveries(&StoreScene::node_operator(), PageRequest::first_page(9))
        .await
        .expect("a read");
    assert_eq!(heads.len(), 1);
    drop(store);
    let look = StoreInspector::new(StoreConfig::new(dir.path()), std::time::Duration::from_secs(5));
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
        let found = opened(dir.path()).delivery_record(&scope, id).await;
        let Err(ReadError::Damaged { place, .. }) = found else { panic!("{change}: {found:?}") };
        assert_eq!(place, id.to_string(), "{change}");
    }
}
