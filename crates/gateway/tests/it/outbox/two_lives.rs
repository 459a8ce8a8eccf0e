//! Two processes with an outbox on one store: an attempt of one that is alive is left to it, and one of a dead process is
//! settled once its lease has ended.

use dromia_contracts::OperatorScope;
use dromia_contracts::store::{Mutation, StoreWrapper, WriteBatch};

use super::*;

/// How long the receiver takes to answer.
const SLOW_MS: u64 = 8_000;
/// How long the lease of the first process lasts.
const LEASE: Duration = Duration::from_secs(20);

/// A store that calls every other process dead and asks for no lease.
#[derive(Debug)]
struct LeaselessStore(Arc<dyn Store>);

impl StoreWrapper for LeaselessStore {
    fn wrapped_store(&self) -> &dyn Store {
        &*self.0
    }

    fn living_lives<'a>(&'a self, _: &'a OperatorScope) -> dromia_contracts::store::Read<'a, Vec<NodeLife>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn commit(&self, mut batch: WriteBatch) -> BoxFuture<'static, dromia_contracts::store::CommitOutcome> {
        for mutation in &mut batch.mutations {
            if let Mutation::DeliverySettle(settle) = mutation {
                settle.holder = first_life().life;
            }
        }
        self.0.commit(batch)
    }
}

fn first_life() -> NodeLife {
    NodeLife::new("a", [7; 32])
}

/// The second process starts while the first one sends. Returns the state of the message, how often its receiver got it,
/// and how long it took until the message was settled.
fn sent_beside(is_leaseless: bool, first_dies: bool) -> (DeliveryState, usize, Duration) {
    let mut sim = SimExecutor::new(3);
    let runtime = sim.runtime();
    let receivers = Receivers::new(&runtime);
    receivers.set(&url("orders"), Mood::Slow(SLOW_MS));
    let store: Arc<dyn Store> = Arc::new(ReferenceStore::with_clock(Arc::new(sim.clock().clone())));
    let (name, channel) = of("t1", "orders");
    let channels = [(name, WebhookChannel { idempotent: false, ..channel })];
    let life = Arc::new(first_life());
    let (scene, id) = sim
        .block_on(async {
            let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
            store.begin_life(&StoreScene::node_operator(), &life, LEASE).await.unwrap();
            let id = say(&scene, &["orders"]).await[0];
            (scene, id)
        })
        .unwrap();
    let began = runtime.clock.monotonic_now();
    let first = started_as(Arc::clone(&life), Arc::clone(&store), &receivers, &runtime, channels.clone());
    sim.block_on(until(&runtime, "it is being sent", || async {
        record(&scene, id).await.delivery.state == DeliveryState::Sending
    }))
    .unwrap();
    if first_dies {
        sim.crash_tasks();
        drop(first);
    }
    let seen: Arc<dyn Store> =
        if is_leaseless { Arc::new(LeaselessStore(Arc::clone(&store))) } else { Arc::clone(&store) };
    let _second = started(seen, &receivers, &runtime, channels);
    sim.block_on(until(&runtime, "it is settled", || async {
        !record(&scene, id).await.delivery.state.is_open()
    }))
    .unwrap();
    let took = runtime.clock.monotonic_now().saturating_sub(began);
    let state = sim.block_on(record(&scene, id)).unwrap().delivery.state;
    (state, receivers.ids(&url("orders")).len(), took)
}

#[test]
fn an_attempt_of_a_living_process_is_left_to_it() {
    let (state, heard, took) = sent_beside(false, false);
    assert_eq!((state, heard), (DeliveryState::Delivered, 1));
    assert!(took < LEASE, "{took:?}");
}

#[test]
fn an_attempt_of_a_dead_process_is_settled_after_its_lease() {
    let (state, heard, took) = sent_beside(false, true);
    assert_eq!((state, heard), (DeliveryState::UnknownAfterSend, 1));
    assert!((LEASE..LEASE + Duration::from_secs(5)).contains(&took), "{took:?}");
}

/// Planted fault: the outbox is told that no other process is alive, and the store asks no lease.
#[test]
fn an_outbox_that_settles_a_living_attempt_is_caught() {
    let (state, _, _) = sent_beside(true, false);
    assert_eq!(state, DeliveryState::UnknownAfterSend, "nothing notices it");
}
