//! Claims about the feed: numbers that are given once, and cursors that move forward.

use std::sync::Arc;

use dromia_contracts::delivery::{FeedSubscriber, SUBSCRIBERS_MAX};
use dromia_contracts::store::{CommitRefusal, CursorMove, FeedNumber, Mutation, Store};
use dromia_contracts::{DeliveryId, Scope};

use super::scene::{StoreScene, scene_time};

fn number_mutation(after: u64, deliveries: &[DeliveryId]) -> Mutation {
    Mutation::FeedNumber(FeedNumber { after, deliveries: deliveries.to_vec() })
}

fn cursor_mutation(subscriber: &str, to: u64) -> Mutation {
    let to_ms = i64::try_from(to).expect("a small number");
    Mutation::CursorMove(CursorMove { subscriber: subscriber.to_owned(), to, at: scene_time(to_ms) })
}

async fn read_feed(scene: &StoreScene, scope: &Scope, after: u64, limit: usize) -> Vec<(u64, DeliveryId)> {
    let found = scene.store.feed_items(scope, after, limit).await.expect("a read");
    found.into_iter().map(|item| (item.number, item.delivery.id)).collect()
}

pub(super) async fn a_feed_is_numbered_once_without_gap_in_the_order_of_each_target(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let mut made = Vec::new();
    for (after, target) in (0..).zip(["webhook:b", "webhook:a", "webhook:b"]) {
        let run = scene.begin_turn(after).await;
        made.push(scene.commit_reply(run, target).await);
    }
    let waiting = scene.store.unnumbered_deliveries(&StoreScene::node_operator(), None, 9).await;
    let expected = [made[1], made[0], made[2]].map(|id| (scene.tenant, id)).to_vec();
    assert_eq!(waiting, Ok(expected), "by target, and in its order");
    assert_eq!(
        scene.store.unnumbered_deliveries(&StoreScene::node_operator(), None, 1).await,
        Ok(vec![(scene.tenant, made[1])])
    );
    assert_eq!(
        read_feed(&scene, &scene.tenant_scope(), 0, 9).await,
        [],
        "nothing is read before it has a number"
    );

    let first = scene.new_batch().with_mutation(number_mutation(0, &made[..2]));
    scene.commit_done(first.clone()).await;
    scene.commit_done(first).await;
    let moved = scene.refuse_mutation(number_mutation(0, &made[2..])).await;
    assert_eq!(moved, CommitRefusal::FeedMoved { found: 2 });
    let twice = scene.refuse_mutation(number_mutation(2, &[made[2], made[0]])).await;
    assert!(matches!(twice, CommitRefusal::Malformed(_)), "{twice:?}");
    let nobody = scene.refuse_mutation(number_mutation(2, &[scene.delivery_id()])).await;
    assert!(matches!(nobody, CommitRefusal::NotFound(_)), "{nobody:?}");
    let nothing = scene.refuse_mutation(number_mutation(2, &[])).await;
    assert!(matches!(nothing, CommitRefusal::Malformed(_)), "{nothing:?}");
    scene.commit_mutation(number_mutation(2, &made[2..])).await;

    let all = [(1, made[0]), (2, made[1]), (3, made[2])];
    assert_eq!(read_feed(&scene, &scene.tenant_scope(), 0, 9).await, all);
    assert_eq!(read_feed(&scene, &scene.tenant_scope(), 1, 1).await, all[1..2]);
    assert_eq!(read_feed(&scene, &scene.tenant_scope(), 3, 9).await, []);
    assert_eq!(
        scene.store.unnumbered_deliveries(&StoreScene::node_operator(), None, 9).await,
        Ok(Vec::new())
    );
    let theirs = StoreScene::open_scene(Arc::clone(&scene.store), 2).await;
    assert_eq!(read_feed(&scene, &theirs.tenant_scope(), 0, 9).await, [], "a feed is its tenant's");
    assert_eq!(read_feed(&scene, &scene.tenant_scope().narrowed_to(scene.agent_id()), 0, 9).await, []);
    let state = theirs.store.feed_state(&theirs.tenant_scope()).await.expect("a read");
    assert_eq!(state.last, 0);
}

pub(super) async fn what_waits_for_a_number_is_listed_by_tenant_and_after_one(store: Arc<dyn Store>) {
    let mut scenes = [
        StoreScene::open_scene(Arc::clone(&store), 1).await,
        StoreScene::open_scene(Arc::clone(&store), 2).await,
    ];
    scenes.sort_by_key(|scene| scene.tenant);
    let mut expected = Vec::new();
    for scene in &scenes {
        for after in 0..2 {
            let run = scene.begin_turn(after).await;
            expected.push((scene.tenant, scene.commit_reply(run, "webhook:a").await));
        }
    }
    let operator = StoreScene::node_operator();
    assert_eq!(store.unnumbered_deliveries(&operator, None, 9).await, Ok(expected.clone()));
    assert_eq!(store.unnumbered_deliveries(&operator, None, 3).await, Ok(expected[..3].to_vec()));
    let [first, last] = [&scenes[0], &scenes[1]].map(|scene| Some(scene.tenant));
    assert_eq!(store.unnumbered_deliveries(&operator, first, 9).await, Ok(expected[2..].to_vec()));
    assert_eq!(store.unnumbered_deliveries(&operator, first, 1).await, Ok(expected[2..3].to_vec()));
    assert_eq!(
        store.unnumbered_deliveries(&operator, last, 9).await,
        Ok(Vec::new()),
        "nobody comes after the last"
    );
}

pub(super) async fn a_cursor_moves_forward_only_and_never_beyond_the_end(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let mut made = Vec::new();
    for after in 0..3 {
        let run = scene.begin_turn(after).await;
        made.push(scene.commit_reply(run, "webhook:a").await);
    }
    scene.commit_mutation(number_mutation(0, &made)).await;
    let beyond = scene.refuse_mutation(cursor_mutation("shop", 4)).await;
    assert_eq!(beyond, CommitRefusal::FeedMoved { found: 3 });
    for to in [2, 1, 2] {
        scene.commit_mutation(cursor_mutation("shop", to)).await;
        let state = scene.store.feed_state(&scene.tenant_scope()).await.expect("a read");
        let shop = FeedSubscriber { name: "shop".to_owned(), cursor: 2, at: scene_time(2) };
        assert_eq!((state.last, state.subscribers), (3, vec![shop]));
    }
    for wrong in ["", &"x".repeat(129)] {
        let refusal = scene.refuse_mutation(cursor_mutation(wrong, 1)).await;
        assert!(matches!(refusal, CommitRefusal::Malformed(_)), "{wrong:?}: {refusal:?}");
    }
    for more in 1..SUBSCRIBERS_MAX {
        scene.commit_mutation(cursor_mutation(&format!("s{more}"), 0)).await;
    }
    let full = scene.refuse_mutation(cursor_mutation("late", 0)).await;
    assert!(matches!(full, CommitRefusal::Malformed(_)), "{full:?}");
    scene.commit_mutation(cursor_mutation("shop", 3)).await;
    let state = scene.store.feed_state(&scene.tenant_scope()).await.expect("a read");
    assert_eq!(state.subscribers.len(), SUBSCRIBERS_MAX);
    let narrow = scene.tenant_scope().narrowed_to(scene.agent);
    let state = scene.store.feed_state(&narrow).await.expect("a read");
    assert_eq!((state.last, state.subscribers), (3, Vec::new()));
}
