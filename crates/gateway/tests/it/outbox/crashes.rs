//! Every commit of the outbox fails once in each way; after a crash a second life goes on.
//!
//! A receiver that takes our id gets each message at least once, always under one id and in order; one that does not
//! gets none twice, and what may not have arrived is said to be unknown. Nothing stays open and nothing is left out.

use dromia_testkit::faulty::CommitFault;

use super::*;

const MESSAGES: usize = 3;

/// What a sweep of one site found.
struct Played {
    log: Vec<String>,
    heard: Vec<String>,
    made: Vec<String>,
    states: Vec<DeliveryState>,
    feed: Vec<(u64, String)>,
}

fn lived(idempotent: bool, site: Option<(u64, CommitFault)>) -> Played {
    let mut sim = SimExecutor::new(7);
    let runtime = sim.runtime();
    let receivers = Receivers::new(&runtime);
    let truth: Arc<dyn Store> = Arc::new(ReferenceStore::new());
    let faulty = Arc::new(FaultyStore::new(Arc::clone(&truth)));
    let (name, channel) = of("t1", "orders");
    let channels = [(name, WebhookChannel { idempotent, ..channel })];
    let (scene, made) = sim
        .block_on(async {
            let scene = StoreScene::open_scene(Arc::clone(&truth), 1).await;
            let made = say(&scene, &["orders"; MESSAGES]).await;
            (scene, made)
        })
        .unwrap();
    if let Some((nth, fault)) = site {
        faulty.fail_nth(nth, fault);
    }
    let first = started(faulty.clone() as _, &receivers, &runtime, channels.clone());
    sim.block_on(until(&runtime, "the first life ends", || async {
        let open =
            truth.open_deliveries(&StoreScene::node_operator(), PageRequest::first_page(1)).await.unwrap();
        let unnumbered = truth.unnumbered_deliveries(&StoreScene::node_operator(), None, 1).await.unwrap();
        faulty.is_dead() || (open.is_empty() && unnumbered.is_empty())
    }))
    .unwrap();
    sim.crash_tasks();
    drop(first);
    let second = started(Arc::clone(&truth), &receivers, &runtime, channels);
    sim.block_on(settled(&runtime, &truth)).unwrap();
    drop(second);
    sim.block_on(async {
        let mut states = Vec::new();
        for id in &made {
            states.push(record(&scene, *id).await.delivery.state);
        }
        let feed = truth.feed_items(&scene.tenant_scope(), 0, 256).await.unwrap();
        Played {
            log: faulty.commit_log(),
            heard: receivers.ids(&url("orders")),
            made: text(&made),
            states,
            feed: feed.into_iter().map(|item| (item.number, item.delivery.id.to_string())).collect(),
        }
    })
    .unwrap()
}

/// Says what is wrong with how it went.
fn judged(idempotent: bool, played: &Played) -> Result<(), String> {
    let Played { heard, made, states, feed, .. } = played;
    let mut first_heard = heard.clone();
    first_heard.dedup();
    let expected: Vec<_> = (1..).zip(made.iter().cloned()).collect();
    if *feed != expected {
        return Err(format!("the feed has gaps or another order: {feed:?}"));
    }
    if idempotent {
        if first_heard != *made {
            return Err(format!("lost or reordered: {heard:?} of {made:?}"));
        }
        let all = states.iter().all(|state| *state == DeliveryState::Delivered);
        return if all { Ok(()) } else { Err(format!("not all are delivered: {states:?}")) };
    }
    for (id, state) in made.iter().zip(states) {
        let times = heard.iter().filter(|known| *known == id).count();
        match (state, times) {
            (DeliveryState::Delivered, 1) | (DeliveryState::UnknownAfterSend, 0 | 1) => {}
            (state, times) => return Err(format!("{id} was heard {times} times and is {state:?}")),
        }
    }
    let unknown = states.iter().filter(|state| **state == DeliveryState::UnknownAfterSend).count();
    if unknown > 1 { Err(format!("{unknown} unknown after one crash")) } else { Ok(()) }
}

#[test]
fn every_outbox_commit_may_fail_or_crash() {
    for idempotent in [true, false] {
        let clean = lived(idempotent, None);
        assert_eq!(judged(idempotent, &clean), Ok(()));
        assert_eq!(clean.heard, clean.made, "each once");
        // One commit numbers the feed, and each message has two.
        assert_eq!(clean.log.len(), 1 + 2 * MESSAGES, "{:?}", clean.log);
        for (nth, line) in (1_u64..).zip(&clean.log) {
            for fault in CommitFault::ALL {
                let played = lived(idempotent, Some((nth, fault)));
                let judged = judged(idempotent, &played);
                assert_eq!(judged, Ok(()), "commit {nth} ({line}), {fault:?}, idempotent: {idempotent}");
            }
        }
    }
}

#[test]
fn a_send_before_its_beginning_is_durable_is_caught() {
    let log = lived(false, None).log;
    let start = log.iter().position(|line| line.starts_with("delivery_start")).unwrap() as u64 + 1;
    let played = lived(false, Some((start, CommitFault::Lie)));
    let found = judged(false, &played).expect_err("it was heard twice");
    assert!(found.contains("heard 2 times"), "{found}");
}
