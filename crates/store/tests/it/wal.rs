//! The log stays short, with and without a reader that does not leave.

use std::time::{Duration, Instant};

use dromia_contracts::ItemId;
use dromia_contracts::store::{Batch, Commit, Mutation, Refusal, Store as _};
use dromia_store::{OpenError, SqliteStore, StoreConfig};

use crate::scene::{SESSION, Scene, TENANT, put};

const MIB: u64 = 1 << 20;

fn filler(scene: &Scene) -> Batch {
    let body = "x".repeat(250_000);
    (0..4).fold(Batch::new(TENANT), |batch, n| {
        let item = ItemId::from_bytes(scene.id());
        batch.with(Mutation::InboxPut(put(SESSION, item, &format!("{n}{item}{body}"), None)))
    })
}

#[tokio::test]
async fn the_log_begins_anew_without_a_reader() {
    let scene = Scene::open().await;
    let mut longest = 0;
    for _ in 0..40 {
        scene.done(filler(&scene)).await;
        longest = longest.max(scene.store.health().wal_bytes);
    }
    assert!(scene.store.health().file_bytes > 30 * MIB, "the bodies are in the main file");
    assert!(longest < 12 * MIB, "{longest} bytes of log");
}

#[tokio::test]
async fn a_stuck_reader_stops_the_writes_before_the_log_has_64_mib_and_its_end_frees_them() {
    let scene = Scene::open().await;
    // A reader of another process, which nobody here can interrupt.
    let stuck = Scene::sql(scene.dir.path());
    stuck.execute_batch("BEGIN").expect("begins");
    let _: i64 = stuck.query_row("SELECT count(*) FROM inbox", [], |row| row.get(0)).expect("is read");
    let mut refused = false;
    for _ in 0..80 {
        match scene.store.commit(filler(&scene)).await {
            Commit::Done(_) => {}
            Commit::Refused(Refusal::ReadOnly { .. }) => {
                refused = true;
                break;
            }
            other => panic!("unexpected {other:?}"),
        }
        assert!(scene.store.health().wal_bytes < 64 * MIB);
    }
    assert!(refused, "the writes are stopped");
    assert!(scene.store.health().read_only.is_some());
    let session =
        scene.store.session(&Scene::scope(), SESSION).await.expect("reads go on").expect("a session");
    assert!(session.head.last > 100);
    stuck.execute_batch("COMMIT").expect("ends");
    let deadline = Instant::now() + Duration::from_mins(1);
    while scene.store.health().read_only.is_some() {
        assert!(Instant::now() < deadline, "the writes come back");
        tokio::task::yield_now().await;
    }
    scene.turn_begin_after_wait(session.head.last).await;
    assert!(scene.store.health().wal_bytes < 8 * MIB);
}

#[tokio::test]
async fn a_start_is_refused_while_another_process_keeps_the_log_from_being_copied() {
    let scene = Scene::open().await;
    // A reader of another process, and behind it a batch that cannot be copied before that one has gone.
    let stuck = Scene::sql(scene.dir.path());
    stuck.execute_batch("BEGIN").expect("begins");
    let _: i64 = stuck.query_row("SELECT count(*) FROM inbox", [], |row| row.get(0)).expect("is read");
    scene.turn_done(SESSION, 0, "hi").await;
    let Scene { dir, store, .. } = scene;
    drop(store);
    let config = StoreConfig::new(dir.path());
    assert!(std::fs::metadata(dir.path().join("dromia.db-wal")).expect("a log is left").len() > 0);
    let refused = SqliteStore::open(config.clone()).expect_err("nothing may be acknowledged behind that log");
    assert!(matches!(refused, OpenError::LogHeld), "{refused}");
    stuck.execute_batch("COMMIT").expect("ends");
    let store = SqliteStore::open(config).expect("the store opens");
    let session = store.session(&Scene::scope(), SESSION).await.expect("a read").expect("a session");
    assert_eq!(session.head.last, 1, "what the log held is there");
}

impl Scene {
    async fn turn_begin_after_wait(&self, last: u64) {
        let item = ItemId::from_bytes(self.id());
        let receipt =
            self.done(Batch::new(TENANT).with(Mutation::InboxPut(put(SESSION, item, "x", None)))).await;
        assert_eq!(receipt.positions, [last + 1], "a refused batch left no row");
    }
}
