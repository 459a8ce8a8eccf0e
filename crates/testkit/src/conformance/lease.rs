//! Claims about leases: what a living process holds is given to no other one.

use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::delivery::DeliveryState;
use dromia_contracts::lease::NodeLife;
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{CommitRefusal, Mutation, RunTakeover, Store, WriteBatch};
use dromia_contracts::{Digest, RunId};

use super::scene::{
    StoreScene, model_called, model_replied, run_append, scene_time, settle_delivery_by, start_delivery,
};

/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

/// A life whose holder is one byte, 32 times.
fn life(node: &str, holder: u8) -> NodeLife {
    NodeLife::new(node, [holder; 32])
}

fn takeover(scene: &StoreScene, run: RunId, from_epoch: u64, holder: u8) -> WriteBatch {
    let holder = Digest::from_bytes([holder; 32]);
    let takeover = RunTakeover { run, from_epoch, holder, at: scene_time(9) };
    scene.new_batch().with_mutation(Mutation::RunTakeover(takeover))
}

async fn begin(scene: &StoreScene, life: &NodeLife, lasts: Duration) {
    scene.store.begin_life(&StoreScene::node_operator(), life, lasts).await.expect("it begins");
}

fn is_refused_for(refusal: &CommitRefusal) -> bool {
    matches!(refusal, CommitRefusal::LeaseLasts { left } if *left <= LONG && !left.is_zero())
}

pub(super) async fn a_takeover_is_refused_while_another_holder_lives(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    let holder = |scene: &StoreScene| {
        let (store, scope) = (Arc::clone(&scene.store), scene.tenant_scope());
        async move { store.run(&scope, run).await.expect("a read").expect("a run").holder }
    };
    assert_eq!(holder(&scene).await, Some(Digest::default()), "its claim names it");
    // A life that never began holds no lease.
    scene.commit_done(takeover(&scene, run, 1, 1)).await;
    assert_eq!(holder(&scene).await, Some(Digest::from_bytes([1; 32])));
    begin(&scene, &life("a", 1), LONG).await;
    let refusal = scene.commit_refused(takeover(&scene, run, 2, 2)).await;
    assert!(is_refused_for(&refusal), "{refusal:?}");
    let refusal = scene.commit_refused(takeover(&scene, run, 1, 2)).await;
    assert_eq!(refusal, CommitRefusal::EpochStale { found: 2 }, "who is too late learns of that first");
    assert_eq!(holder(&scene).await, Some(Digest::from_bytes([1; 32])), "a refused batch changes nothing");
    // The holder itself may take it over, and so may another life once the lease has run out.
    scene.commit_done(takeover(&scene, run, 2, 1)).await;
    let operator = StoreScene::node_operator();
    assert_eq!(scene.store.renew_life(&operator, &life("a", 1), Duration::ZERO).await, Ok(true));
    scene.commit_done(takeover(&scene, run, 3, 2)).await;
    assert_eq!(holder(&scene).await, Some(Digest::from_bytes([2; 32])));
}

pub(super) async fn a_run_that_rests_has_no_holder(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    begin(&scene, &life("a", 0), LONG).await;
    let append = |epoch, after, entry, status| {
        let append = run_append(run, epoch, after, vec![entry], status);
        scene.commit_mutation(Mutation::RunAppend(append))
    };
    append(1, 2, model_replied(1, "a"), RunStatus::Running).await;
    let refusal = scene.commit_refused(takeover(&scene, run, 1, 2)).await;
    assert!(is_refused_for(&refusal), "{refusal:?}");
    append(1, 3, model_called(2), RunStatus::Parked).await;
    let found = scene.store.run(&scene.tenant_scope(), run).await.expect("a read").expect("a run");
    assert_eq!(found.holder, None);
    scene.commit_done(takeover(&scene, run, 1, 2)).await;
}

pub(super) async fn a_settlement_is_refused_while_another_holder_lives(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    let delivery = scene.commit_reply(run, "webhook:orders").await;
    begin(&scene, &life("a", 1), LONG).await;
    scene.commit_mutation(start_delivery(delivery, 1, 1)).await;
    let refusal = scene.refuse_mutation(settle_delivery_by(2, delivery, 1, DeliveryState::Failed)).await;
    assert!(is_refused_for(&refusal), "{refusal:?}");
    let record = scene.store.delivery_record(&scene.tenant_scope(), delivery).await;
    let found = record.expect("a read").expect("a message").delivery;
    assert_eq!((found.state, found.attempts), (DeliveryState::Sending, 1));
    let operator = StoreScene::node_operator();
    assert_eq!(scene.store.renew_life(&operator, &life("a", 1), Duration::ZERO).await, Ok(true));
    scene.commit_mutation(settle_delivery_by(2, delivery, 1, DeliveryState::Failed)).await;
}

pub(super) async fn a_new_life_of_a_node_ends_the_one_before(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let operator = StoreScene::node_operator();
    let living = || async { scene.store.living_lives(&operator).await.expect("a read") };
    assert_eq!(living().await, []);
    let [first, second, other] = [life("a", 1), life("a", 2), life("b", 3)];
    assert_eq!(scene.store.renew_life(&operator, &first, LONG).await, Ok(false), "it never began");
    begin(&scene, &other, LONG).await;
    begin(&scene, &first, LONG).await;
    begin(&scene, &first, LONG).await;
    assert_eq!(living().await, [first.clone(), other.clone()]);
    let run = scene.begin_turn(0).await;
    scene.commit_done(takeover(&scene, run, 1, 1)).await;
    begin(&scene, &second, LONG).await;
    assert_eq!(living().await, [second, other], "the other node has nothing to do with it");
    assert_eq!(scene.store.renew_life(&operator, &first, LONG).await, Ok(false), "it was replaced");
    scene.commit_done(takeover(&scene, run, 2, 2)).await;
}
