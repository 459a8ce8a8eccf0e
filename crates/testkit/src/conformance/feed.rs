//! Claims about the feed: numbers that are given once, and cursors that move forward.

use std::sync::Arc;

use dromia_contracts::delivery::{SUBSCRIBERS_MAX, Subscriber};
use dromia_contracts::store::{CursorMove, FeedNumber, Mutation, Refusal, Store};
use dromia_contracts::{DeliveryId, Scope};

use super::scene::{Scene, at};

fn number(after: u64, deliveries: &[DeliveryId]) -> Mutation {
    Mutation::FeedNumber(FeedNumber { after, deliveries: deliveries.to_vec() })
}

fn cursor(subscriber: &str, to: u64) -> Mutation {
    let to_ms = i64::try_from(to).expect("a small number");
    Mutation::CursorMove(CursorMove { subscriber: subscriber.to_owned(), to, at: at(to_ms) })
}

async fn read(scene: &Scene, scope: &Scope, after: u64, limit: usize) -> Vec<(u64, DeliveryId)> {
    let found = scene.store.feed(scope, after, limit).await.expect("a read");
    found.into_iter().map(|item| (item.number, item.delivery.id)).collect()
}

pub(super) async fn a_feed_is_numbered_once_without_gap_in_the_order_of_each_target(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let mut made = Vec::new();
    for (after, target) in (0..).zip(["webhook:b", "webhook:a", "webhook:b"]) {
        let run = scene.turn(after).await;
        made.push(scene.replied(run, target).await);
    }
    let waiting = scene.store.unnumbered(&Scene::operator(), None, 9).await;
    let expected = [made[1], made[0], made[2]].map(|id| (scene.tenant, id)).to_vec();
    assert_eq!(waiting, Ok(expected), "by target, and in its order");
    assert_eq!(scene.store.unnumbered(&Scene::operator(), None, 1).await, Ok(vec![(scene.tenant, made[1])]));
    assert_eq!(read(&scene, &scene.scope(), 0, 9).await, [], "nothing is read before it has a number");

    let first = scene.batch().with(number(0, &made[..2]));
    scene.done(first.clone()).await;
    scene.done(first).await;
    let moved = scene.refused(scene.batch().with(number(0, &made[2..]))).await;
    assert_eq!(moved, Refusal::FeedMoved { found: 2 });
    let twice = scene.refused(scene.batch().with(number(2, &[made[2], made[0]]))).await;
    assert!(matches!(twice, Refusal::Malformed(_)), "{twice:?}");
    let nobody = scene.refused(scene.batch().with(number(2, &[scene.delivery_id()]))).await;
    assert!(matches!(nobody, Refusal::NotFound(_)), "{nobody:?}");
    let nothing = scene.refused(scene.batch().with(number(2, &[]))).await;
    assert!(matches!(nothing, Refusal::Malformed(_)), "{nothing:?}");
    scene.done(scene.batch().with(number(2, &made[2..]))).await;

    let all = [(1, made[0]), (2, made[1]), (3, made[2])];
    assert_eq!(read(&scene, &scene.scope(), 0, 9).await, all);
    assert_eq!(read(&scene, &scene.scope(), 1, 1).await, all[1..2]);
    assert_eq!(read(&scene, &scene.scope(), 3, 9).await, []);
    assert_eq!(scene.store.unnumbered(&Scene::operator(), None, 9).await, Ok(Vec::new()));
    let theirs = Scene::open(Arc::clone(&scene.store), 2).await;
    assert_eq!(read(&scene, &theirs.scope(), 0, 9).await, [], "a feed is its tenant's");
    assert_eq!(read(&scene, &scene.scope().narrowed_to(scene.agent_id()), 0, 9).await, []);
    let state = theirs.store.feed_state(&theirs.scope()).await.expect("a read");
    assert_eq!(state.last, 0);
}

pub(super) async fn what_waits_for_a_number_is_listed_by_tenant_and_after_one(store: Arc<dyn Store>) {
    let mut scenes = [Scene::open(Arc::clone(&store), 1).await, Scene::open(Arc::clone(&store), 2).await];
    scenes.sort_by_key(|scene| scene.tenant);
    let mut expected = Vec::new();
    for scene in &scenes {
        for after in 0..2 {
            let run = scene.turn(after).await;
            expected.push((scene.tenant, scene.replied(run, "webhook:a").await));
        }
    }
    let operator = Scene::operator();
    assert_eq!(store.unnumbered(&operator, None, 9).await, Ok(expected.clone()));
    assert_eq!(store.unnumbered(&operator, None, 3).await, Ok(expected[..3].to_vec()));
    let [first, last] = [&scenes[0], &scenes[1]].map(|scene| Some(scene.tenant));
    assert_eq!(store.unnumbered(&operator, first, 9).await, Ok(expected[2..].to_vec()));
    assert_eq!(store.unnumbered(&operator, first, 1).await, Ok(expected[2..3].to_vec()));
    assert_eq!(store.unnumbered(&operator, last, 9).await, Ok(Vec::new()), "nobody comes after the last");
}

pub(super) async fn a_cursor_moves_forward_only_and_never_beyond_the_end(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let mut made = Vec::new();
    for after in 0..3 {
        let run = scene.turn(after).await;
        made.push(scene.replied(run, "webhook:a").await);
    }
    scene.done(scene.batch().with(number(0, &made))).await;
    let beyond = scene.refused(scene.batch().with(cursor("shop", 4))).await;
    assert_eq!(beyond, Refusal::FeedMoved { found: 3 });
    for to in [2, 1, 2] {
        scene.done(scene.batch().with(cursor("shop", to))).await;
        let state = scene.store.feed_state(&scene.scope()).await.expect("a read");
        let shop = Subscriber { name: "shop".to_owned(), cursor: 2, at: at(2) };
        assert_eq!((state.last, state.subscribers), (3, vec![shop]));
    }
    for wrong in ["", &"x".repeat(129)] {
        let refusal = scene.refused(scene.batch().with(cursor(wrong, 1))).await;
        assert!(matches!(refusal, Refusal::Malformed(_)), "{wrong:?}: {refusal:?}");
    }
    for more in 1..SUBSCRIBERS_MAX {
        scene.done(scene.batch().with(cursor(&format!("s{more}"), 0))).await;
    }
    let full = scene.refused(scene.batch().with(cursor("late", 0))).await;
    assert!(matches!(full, Refusal::Malformed(_)), "{full:?}");
    scene.done(scene.batch().with(cursor("shop", 3))).await;
    let state = scene.store.feed_state(&scene.scope()).await.expect("a read");
    assert_eq!(state.subscribers.len(), SUBSCRIBERS_MAX);
    let narrow = scene.scope().narrowed_to(scene.agent);
    let state = scene.store.feed_state(&narrow).await.expect("a read");
    assert_eq!((state.last, state.subscribers), (3, Vec::new()));
}
