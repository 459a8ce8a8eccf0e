//! The rows of keys: those of clients go when their day is over, two for each that comes.

use dromia_contracts::store::{ItemKey, KeyLifetime, Mutation, WriteBatch};
use dromia_contracts::{Digest, ItemId};

use crate::scene::{SESSION, Scene, TENANT, at, put};

const HOUR_MS: i64 = 60 * 60 * 1000;

fn rows(scene: &Scene) -> i64 {
    let count = Scene::sql(scene.dir.path()).query_row("SELECT count(*) FROM keys", [], |row| row.get(0));
    count.expect("is counted")
}

async fn keyed(scene: &Scene, number: i64, hours: i64, lifetime: KeyLifetime) {
    let mut item = put(SESSION, ItemId::from_bytes(scene.id()), "x", None);
    item.at = at(hours * HOUR_MS);
    item.key = Some(ItemKey { key: format!("{lifetime:?} {number}"), request: Digest::default(), lifetime });
    scene.done(WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(item))).await;
}

#[tokio::test]
async fn client_keys_expire_after_a_day_and_others_stay() {
    let scene = Scene::open().await;
    for number in 0..10 {
        keyed(&scene, number, 0, KeyLifetime::Day).await;
    }
    for number in 0..3 {
        keyed(&scene, number, 0, KeyLifetime::Forever).await;
    }
    keyed(&scene, 10, 23, KeyLifetime::Day).await;
    assert_eq!(rows(&scene), 14, "nothing has expired after 23 hours");
    for (number, left) in [(11, 13), (12, 12), (13, 11), (14, 10), (15, 9), (16, 10)] {
        keyed(&scene, number, 24, KeyLifetime::Day).await;
        assert_eq!(rows(&scene), left, "each key that comes takes two that have expired with it");
    }
    keyed(&scene, 3, 1_000, KeyLifetime::Forever).await;
    assert_eq!(rows(&scene), 11, "only a key with a lifetime of its own cleans up");
}

#[tokio::test]
async fn looking_for_expired_keys_is_a_walk_of_an_index() {
    let scene = Scene::open().await;
    let sql = "EXPLAIN QUERY PLAN SELECT tenant, key FROM keys INDEXED BY keys_expiring \
               WHERE tenant = ?1 AND expires_at <= ?2 ORDER BY expires_at LIMIT 2";
    let db = Scene::sql(scene.dir.path());
    let plan: String = db.query_row(sql, [1, 2], |row| row.get(3)).expect("is planned");
    assert!(plan.contains("keys_expiring (tenant=? AND expires_at<?)"), "{plan}");
}
