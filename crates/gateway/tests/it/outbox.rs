//! The outbox over the reference store and a receiver made for the test, in virtual time.

mod conformance;
mod crashes;
mod healthy;
mod two_lives;
mod wakeups;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::delivery::{
    AttemptOutcome, DeadReason, DeliveryNotifier as _, DeliveryRecord, DeliveryState,
};
use dromia_contracts::lease::NodeLife;
use dromia_contracts::runtime::{Clock, Runtime};
use dromia_contracts::store::{
    CommitOutcome, CursorMove, DeliveryRedrive, Mutation, PageRequest, Store, WriteBatch,
};
use dromia_contracts::vault::{LeakDetector, NoSecrets, SecretMatch, SecretScanner};
use dromia_contracts::{BoxFuture, DeliveryId, Fault, Scope, ScopeAuthority};
use dromia_gateway::signature::{WebhookHeaders, WebhookSigningKey};
use dromia_gateway::{
    AdapterPorts, ChannelConfig, ChannelKey, Outbox, OutboxPorts, WebhookChannel, WebhookOutcome,
    WebhookRequest, WebhookSender,
};
use dromia_testkit::conformance::StoreScene;
use dromia_testkit::{FaultyStore, ReferenceStore, SimExecutor};
use jiff::Timestamp;

use crate::fake::outgoing::{OneKey, SECRET, VAULTED, channel};

/// What a receiver does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// It takes it and answers with this status.
    Answers(u16),
    /// It takes it and never answers.
    Stuck,
    /// It takes it and answers with garbage.
    Garbles,
    /// It answers after so many milliseconds.
    Slow(u64),
    /// It accepts nothing, and says for how long.
    Busy(Duration),
    /// Nobody listens.
    Away,
}

/// What reached a receiver, in order.
#[derive(Debug, Default)]
struct Heard {
    moods: BTreeMap<String, Mood>,
    letters: Vec<(Timestamp, WebhookRequest)>,
}

/// Receivers by URL.
#[derive(Debug, Clone)]
struct Receivers {
    heard: Arc<Mutex<Heard>>,
    clock: Arc<dyn Clock>,
}

impl Receivers {
    fn new(runtime: &Runtime) -> Self {
        Self { heard: Arc::default(), clock: Arc::clone(&runtime.clock) }
    }

    fn set(&self, url: &str, mood: Mood) {
        self.heard.lock().unwrap().moods.insert(url.to_owned(), mood);
    }

    /// The ids that reached a receiver, in order.
    fn ids(&self, url: &str) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let of_url = heard.letters.iter().filter(|(_, letter)| letter.url == url);
        of_url.map(|(_, letter)| header(letter, "webhook-id").to_owned()).collect()
    }
}

fn header<'a>(letter: &'a WebhookRequest, name: &str) -> &'a str {
    letter.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str()).unwrap()
}

impl WebhookSender for Receivers {
    fn send_webhook(&self, letter: WebhookRequest) -> BoxFuture<'static, WebhookOutcome> {
        let (heard, clock) = (Arc::clone(&self.heard), Arc::clone(&self.clock));
        Box::pin(async move {
            let mood = {
                let mut heard = heard.lock().unwrap();
                let mood = heard.moods.get(&letter.url).copied().unwrap_or(Mood::Answers(200));
                if mood != Mood::Away {
                    heard.letters.push((clock.now(), letter));
                }
                mood
            };
            match mood {
                Mood::Answers(status) => answered(status),
                Mood::Busy(time) => {
                    WebhookOutcome::Answered { status: 429, retry_after: Some(time), body: Bytes::new() }
                }
                Mood::Stuck => std::future::pending().await,
                Mood::Garbles => WebhookOutcome::Unanswered { cause: "no HTTP".to_owned() },
                Mood::Slow(ms) => {
                    clock.sleep_until(clock.now() + Duration::from_millis(ms)).await;
                    WebhookOutcome::Answered { status: 200, retry_after: None, body: Bytes::new() }
                }
                Mood::Away => WebhookOutcome::NotSent { cause: "no connection".to_owned() },
            }
        })
    }
}

fn answered(status: u16) -> WebhookOutcome {
    WebhookOutcome::Answered { status, retry_after: None, body: Bytes::from_static(br#"{"id":"msg_1"}"#) }
}

fn url(name: &str) -> String {
    format!("http://{name}.example/")
}

fn of(tenant: &str, name: &str) -> (String, WebhookChannel) {
    (name.to_owned(), WebhookChannel { tenant: tenant.parse().unwrap(), url: url(name), ..channel() })
}

/// Builds the outbox of another process and starts it.
fn started(
    store: Arc<dyn Store>,
    receivers: &Receivers,
    runtime: &Runtime,
    channels: impl IntoIterator<Item = (String, impl Into<ChannelConfig>)>,
) -> Outbox {
    let life = Arc::new(NodeLife::new("test", runtime.ids.random_secret()));
    started_as(life, store, receivers, runtime, channels)
}

/// Builds the outbox of a life and starts it.
fn started_as(
    life: Arc<NodeLife>,
    store: Arc<dyn Store>,
    receivers: &Receivers,
    runtime: &Runtime,
    channels: impl IntoIterator<Item = (String, impl Into<ChannelConfig>)>,
) -> Outbox {
    let ports = OutboxPorts {
        store,
        channels: AdapterPorts { post: Arc::new(receivers.clone()), keys: Arc::new(OneKey::default()) },
        leaks: Arc::new(NoSecrets),
        runtime: Runtime { life, ..runtime.clone() },
        authority: ScopeAuthority::claim(),
    };
    let outbox = Outbox::new(ports, channels.into_iter().collect());
    outbox.start();
    outbox
}

/// So many turns of a scene, each with a message to the channel.
async fn say(scene: &StoreScene, channels: &[&str]) -> Vec<DeliveryId> {
    let targets: Vec<_> = channels.iter().map(|channel| format!("webhook:{channel}")).collect();
    say_to(scene, &targets).await
}

/// So many turns of a scene, each with a message to the target.
async fn say_to<T: AsRef<str>>(scene: &StoreScene, targets: &[T]) -> Vec<DeliveryId> {
    let mut made = Vec::new();
    let session = scene.store.session(&scene.tenant_scope(), scene.session).await.unwrap().unwrap();
    for (after, target) in (session.head.taken..).zip(targets) {
        let run = scene.begin_turn(after).await;
        made.push(scene.commit_reply(run, target.as_ref()).await);
    }
    made
}

async fn record(scene: &StoreScene, id: DeliveryId) -> DeliveryRecord {
    scene.store.delivery_record(&scene.tenant_scope(), id).await.unwrap().unwrap()
}

/// Waits on the virtual clock until something holds, at most two days.
async fn until<F: Future<Output = bool>>(runtime: &Runtime, what: &str, holds: impl Fn() -> F) {
    let end = runtime.clock.now() + Duration::from_hours(48);
    while !holds().await {
        assert!(runtime.clock.now() < end, "never: {what}");
        let soon = runtime.clock.now() + Duration::from_millis(100);
        runtime.clock.sleep_until(soon).await;
    }
}

/// Waits until nothing is open and everything has its number.
async fn settled(runtime: &Runtime, store: &Arc<dyn Store>) {
    until(runtime, "the outbox comes to rest", || async {
        let operator = StoreScene::node_operator();
        let open = store.open_deliveries(&operator, PageRequest::first_page(1)).await.unwrap();
        open.is_empty() && store.unnumbered_deliveries(&operator, None, 1).await.unwrap().is_empty()
    })
    .await;
}

fn text(ids: &[DeliveryId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// Plays a scene in virtual time.
fn play<T, F: Future<Output = T>>(scene: impl FnOnce(Runtime, Receivers, Arc<dyn Store>) -> F) -> T {
    let mut sim = SimExecutor::new(1);
    let runtime = sim.runtime();
    let receivers = Receivers::new(&runtime);
    let store: Arc<dyn Store> = Arc::new(ReferenceStore::new());
    sim.block_on(scene(runtime, receivers, store)).unwrap()
}

#[test]
fn messages_arrive_once_in_order_and_signed_and_are_numbered() {
    play(|runtime, receivers, store| async move {
        let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
        let before = say(&scene, &["orders", "bills", "orders"]).await;
        let outbox = started(store.clone(), &receivers, &runtime, [of("t1", "orders"), of("t1", "bills")]);
        settled(&runtime, &store).await;
        let after = say(&scene, &["orders", "orders"]).await;
        outbox.notify_delivery();
        settled(&runtime, &store).await;
        let orders = [before[0], before[2], after[0], after[1]];
        assert_eq!(receivers.ids(&url("orders")), text(&orders));
        assert_eq!(receivers.ids(&url("bills")), text(&before[1..2]));
        let key: WebhookSigningKey = SECRET.parse().unwrap();
        for (at, letter) in &receivers.heard.lock().unwrap().letters {
            let claims = WebhookHeaders {
                id: header(letter, "webhook-id"),
                timestamp: header(letter, "webhook-timestamp"),
                signature: header(letter, "webhook-signature"),
            };
            assert_eq!(key.verify_message(claims, &letter.body, *at, Duration::from_secs(1)), Ok(()));
        }
        for id in before.iter().chain(&after) {
            let record = record(&scene, *id).await;
            assert_eq!(record.delivery.state, DeliveryState::Delivered);
            let [attempt] = &record.attempts[..] else { panic!("{record:?}") };
            assert_eq!(attempt.ended.as_ref().map(|end| end.outcome), Some(AttemptOutcome::Accepted));
        }
        let feed = store.feed_items(&scene.tenant_scope(), 0, 256).await.unwrap();
        let numbers: Vec<_> = feed.iter().map(|item| item.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        assert_eq!(outbox.delivery_counts().delivered, 5);
    });
}

#[test]
fn poison_dies_after_its_attempts_and_delays_no_other_message() {
    play(|runtime, receivers, store| async move {
        let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
        receivers.set(&url("poison"), Mood::Answers(500));
        let made = say(&scene, &["poison", "healthy", "poison"]).await;
        let began = runtime.clock.now();
        let outbox = started(store.clone(), &receivers, &runtime, [of("t1", "poison"), of("t1", "healthy")]);
        until(&runtime, "the healthy one", || async {
            record(&scene, made[1]).await.delivery.state == DeliveryState::Delivered
        })
        .await;
        let took = runtime.clock.now().duration_since(began);
        assert!(took.as_millis() < 500, "poison slowed another target: {took:?}");
        settled(&runtime, &store).await;
        let three = |id: DeliveryId| [id; 3];
        let expected = text(&[three(made[0]), three(made[2])].concat());
        assert_eq!(receivers.ids(&url("poison")), expected, "the second waits for the first");
        for id in [made[0], made[2]] {
            let record = record(&scene, id).await;
            assert_eq!((record.delivery.attempts, record.delivery.reason), (3, Some(DeadReason::Attempts)));
            let pauses: Vec<_> = record
                .attempts
                .windows(2)
                .map(|two| two[1].began_at.duration_since(two[0].ended.as_ref().unwrap().at).as_millis())
                .collect();
            assert!((500..=1_100).contains(&pauses[0]) && (1_000..=2_100).contains(&pauses[1]), "{pauses:?}");
        }
        // Mended and redriven: it arrives under its id, after as many new attempts as it needs.
        receivers.set(&url("poison"), Mood::Answers(204));
        let at = runtime.clock.now();
        let redrive = Mutation::DeliveryRedrive(DeliveryRedrive { delivery: made[0], redrives: 0, at });
        scene.commit_mutation(redrive).await;
        outbox.notify_delivery();
        settled(&runtime, &store).await;
        let record = record(&scene, made[0]).await.delivery;
        assert_eq!((record.state, record.attempts, record.spent), (DeliveryState::Delivered, 4, 3));
        assert_eq!(receivers.ids(&url("poison")).last(), Some(&made[0].to_string()));
    });
}

#[test]
fn an_unreachable_or_wrong_receiver_ends_in_a_typed_state() {
    use DeliveryState::{Dead, Delivered, UnknownAfterSend};
    let ends = |mood, idempotent| {
        play(|runtime, receivers, store| async move {
            let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
            receivers.set(&url("odd"), mood);
            let made = say(&scene, &["odd"]).await;
            let (name, channel) = of("t1", "odd");
            let _outbox = started(
                store.clone(),
                &receivers,
                &runtime,
                [(name, WebhookChannel { idempotent, ..channel })],
            );
            settled(&runtime, &store).await;
            let found = record(&scene, made[0]).await.delivery;
            (found.state, found.reason, receivers.ids(&url("odd")).len())
        })
    };
    for (mood, takes_id, takes_none) in [
        (Mood::Answers(410), (Dead, Some(DeadReason::Gone), 1), (Dead, Some(DeadReason::Gone), 1)),
        (Mood::Answers(302), (Dead, Some(DeadReason::Attempts), 3), (Dead, Some(DeadReason::Refused), 1)),
        (Mood::Answers(500), (Dead, Some(DeadReason::Attempts), 3), (Dead, Some(DeadReason::Refused), 1)),
        (Mood::Garbles, (Dead, Some(DeadReason::Attempts), 3), (UnknownAfterSend, None, 1)),
        (Mood::Stuck, (Dead, Some(DeadReason::Attempts), 3), (UnknownAfterSend, None, 1)),
        (Mood::Away, (Dead, Some(DeadReason::Attempts), 0), (Dead, Some(DeadReason::Attempts), 0)),
        (Mood::Slow(14_000), (Delivered, None, 1), (Delivered, None, 1)),
    ] {
        assert_eq!(ends(mood, true), takes_id, "{mood:?}");
        assert_eq!(ends(mood, false), takes_none, "{mood:?} without ids");
    }
}

#[test]
fn stuck_receivers_of_one_tenant_do_not_slow_another() {
    play(|runtime, receivers, store| async move {
        let (ours, theirs) = (
            StoreScene::open_scene(Arc::clone(&store), 1).await,
            StoreScene::open_scene(Arc::clone(&store), 2).await,
        );
        let stuck: Vec<_> = (0..40).map(|number| format!("stuck{number}")).collect();
        let names: Vec<_> = stuck.iter().map(String::as_str).collect();
        for name in &names {
            receivers.set(&url(name), Mood::Stuck);
        }
        receivers.set(&url("slow"), Mood::Slow(1_000));
        say(&ours, &names).await;
        let mut channels: Vec<_> = names.iter().map(|name| of("t1", name)).collect();
        channels.extend([of("t2", "healthy"), of("t2", "slow")]);
        let outbox = started(store.clone(), &receivers, &runtime, channels);
        until(&runtime, "the stuck ones are at work", || async { outbox.in_flight() == 16 }).await;
        let began = runtime.clock.now();
        let healthy = say(&theirs, &["healthy"; 20]).await;
        let slow = say(&theirs, &["slow"; 3]).await;
        outbox.notify_delivery();
        until(&runtime, "the healthy ones", || async {
            record(&theirs, healthy[19]).await.delivery.state == DeliveryState::Delivered
        })
        .await;
        let took = runtime.clock.now().duration_since(began);
        assert!(took.as_millis() < 1_000, "stuck and slow receivers held up a healthy one: {took:?}");
        assert!(outbox.in_flight() <= 18, "what is at work is bounded");
        until(&runtime, "the slow ones", || async {
            record(&theirs, slow[2]).await.delivery.state == DeliveryState::Delivered
        })
        .await;
        assert_eq!(receivers.ids(&url("slow")), text(&slow), "one at a time, in order");
        settled(&runtime, &store).await;
        let heard: BTreeSet<_> = names.iter().map(|name| receivers.ids(&url(name)).len()).collect();
        assert_eq!(heard, BTreeSet::from([3]), "every stuck receiver had its attempts");
    });
}

/// Finds a secret in every text.
#[derive(Debug, Clone, Copy)]
struct Everywhere;

impl SecretScanner for Everywhere {
    fn find_secrets(&self, _: &[u8]) -> Vec<SecretMatch> {
        vec![SecretMatch { secret: "mail".to_owned(), range: 0..1 }]
    }

    fn open_from(&self, _: &[u8]) -> usize {
        0
    }
}

impl LeakDetector for Everywhere {
    fn scanner_for_tenant<'a>(
        &'a self,
        _: &'a Scope,
    ) -> BoxFuture<'a, Result<Arc<dyn SecretScanner>, Fault>> {
        Box::pin(std::future::ready(Ok(Arc::new(*self) as Arc<dyn SecretScanner>)))
    }
}

#[test]
fn a_message_with_a_secret_is_dropped_and_never_sent() {
    play(|runtime, receivers, store| async move {
        let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
        let made = say(&scene, &["orders"]).await;
        let ports = OutboxPorts {
            store: store.clone(),
            channels: AdapterPorts { post: Arc::new(receivers.clone()), keys: Arc::new(OneKey::default()) },
            leaks: Arc::new(Everywhere),
            runtime: runtime.clone(),
            authority: ScopeAuthority::claim(),
        };
        let outbox = Outbox::new(ports, [of("t1", "orders")].into_iter().collect());
        outbox.start();
        settled(&runtime, &store).await;
        assert!(receivers.ids(&url("orders")).is_empty());
        let found = record(&scene, made[0]).await.delivery;
        let expected = (DeliveryState::Dead, Some(DeadReason::Leak), 0);
        assert_eq!((found.state, found.reason, found.attempts), expected);
    });
}

#[test]
fn a_vault_key_signs_and_unsignable_messages_die_unsent() {
    play(|runtime, receivers, store| async move {
        let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
        let made = say(&scene, &["orders", "bills"]).await;
        // Both are for the address of a channel, which the key is bound to.
        let of = |name: &str, secret: &str| {
            let key = ChannelKey::InVault(secret.to_owned());
            (name.to_owned(), WebhookChannel { tenant: "t1".parse().unwrap(), key, ..channel() })
        };
        let outbox =
            started(store.clone(), &receivers, &runtime, [of("orders", "signing"), of("bills", "gone")]);
        settled(&runtime, &store).await;
        let letters = receivers.heard.lock().unwrap().letters.clone();
        let [(at, letter)] = &letters[..] else { panic!("one is sent: {letters:?}") };
        let claims = WebhookHeaders {
            id: header(letter, "webhook-id"),
            timestamp: header(letter, "webhook-timestamp"),
            signature: header(letter, "webhook-signature"),
        };
        let key: WebhookSigningKey = VAULTED.parse().unwrap();
        assert_eq!(key.verify_message(claims, &letter.body, *at, Duration::from_mins(5)), Ok(()));
        let signed = record(&scene, made[0]).await.delivery;
        assert_eq!(signed.state, DeliveryState::Delivered);
        let unsigned = record(&scene, made[1]).await.delivery;
        let expected = (DeliveryState::Dead, Some(DeadReason::Attempts), 3);
        assert_eq!((unsigned.state, unsigned.reason, unsigned.attempts), expected);
        assert_eq!((outbox.delivery_counts().delivered, outbox.delivery_counts().dead), (1, 1));
    });
}

#[test]
fn an_outbox_that_looks_for_no_secrets_is_caught() {
    play(|runtime, receivers, store| async move {
        let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
        let made = say(&scene, &["orders"]).await;
        // The message that the test above gives up is sent where nobody looks.
        let _outbox = started(store.clone(), &receivers, &runtime, [of("t1", "orders")]);
        settled(&runtime, &store).await;
        assert_eq!(receivers.ids(&url("orders")), text(&made));
    });
}

#[test]
fn a_start_sends_at_most_its_cap_and_nothing_expired() {
    play(|runtime, receivers, store| async move {
        let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
        let made = say(&scene, &["orders"; 5]).await;
        let later = runtime.clock.now() + Duration::from_mins(1);
        runtime.clock.sleep_until(later).await;
        let (name, channel) = of("t1", "orders");
        let capped = WebhookChannel { recovery_max: 2, ..channel };
        let _outbox = started(store.clone(), &receivers, &runtime, [(name, capped)]);
        settled(&runtime, &store).await;
        assert_eq!(receivers.ids(&url("orders")), text(&made[3..]), "the newest are sent");
        for id in &made[..3] {
            assert_eq!(record(&scene, *id).await.delivery.reason, Some(DeadReason::Backlog));
        }
    });
    play(|runtime, receivers, store| async move {
        let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
        let made = say(&scene, &["orders"]).await;
        let later = runtime.clock.now() + Duration::from_secs(86_401);
        runtime.clock.sleep_until(later).await;
        let _outbox = started(store.clone(), &receivers, &runtime, [of("t1", "orders")]);
        settled(&runtime, &store).await;
        assert_eq!(record(&scene, made[0]).await.delivery.reason, Some(DeadReason::Expired));
        assert!(receivers.ids(&url("orders")).is_empty());
    });
}

#[test]
fn a_channel_of_another_tenant_is_no_way_out() {
    play(|runtime, receivers, store| async move {
        let ours = StoreScene::open_scene(Arc::clone(&store), 1).await;
        let theirs = StoreScene::open_scene(Arc::clone(&store), 2).await;
        let strange = say(&ours, &["orders"]).await;
        let made = say(&theirs, &["orders"]).await;
        let _outbox = started(store.clone(), &receivers, &runtime, [of("t2", "orders")]);
        until(&runtime, "the owner's message", || async {
            record(&theirs, made[0]).await.delivery.state == DeliveryState::Delivered
        })
        .await;
        assert_eq!(receivers.ids(&url("orders")), text(&made));
        assert_eq!(
            record(&ours, strange[0]).await.delivery.state,
            DeliveryState::Prepared,
            "it waits and is listed"
        );
    });
}

#[test]
fn a_damaged_tenant_delays_no_other_and_resumes_after_repair() {
    play(|runtime, receivers, truth| async move {
        let faulty = Arc::new(FaultyStore::new(Arc::clone(&truth)));
        // The damaged one is the first in every listing.
        let mut scenes = [
            (StoreScene::open_scene(Arc::clone(&truth), 1).await, "t1"),
            (StoreScene::open_scene(Arc::clone(&truth), 2).await, "t2"),
        ];
        scenes.sort_by_key(|(scene, _)| scene.tenant);
        let [(damaged, first), (sound, second)] = &scenes;
        let waiting = say(damaged, &["orders"]).await;
        let made = say(sound, &["bills", "bills"]).await;
        faulty.damage_tenant(damaged.tenant);
        let outbox =
            started(faulty.clone(), &receivers, &runtime, [of(first, "orders"), of(second, "bills")]);
        until(&runtime, "the messages of the sound one", || async {
            record(sound, made[1]).await.delivery.state == DeliveryState::Delivered
        })
        .await;
        let feed = truth.feed_items(&sound.tenant_scope(), 0, 256).await.unwrap();
        assert_eq!(feed.iter().map(|item| item.number).collect::<Vec<_>>(), [1, 2]);
        // It is offered again and again, but never without a rest.
        let later = runtime.clock.now() + Duration::from_mins(1);
        runtime.clock.sleep_until(later).await;
        assert!(receivers.ids(&url("orders")).is_empty(), "what is not begun is not sent");
        assert_eq!(record(damaged, waiting[0]).await.delivery.state, DeliveryState::Prepared);
        faulty.repair_tenant(damaged.tenant);
        settled(&runtime, &truth).await;
        assert_eq!(receivers.ids(&url("orders")), text(&waiting));
        assert_eq!(outbox.delivery_counts().delivered, 3);
    });
}

#[test]
fn a_drained_outbox_begins_nothing() {
    play(|runtime, receivers, store| async move {
        let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
        let outbox = started(store.clone(), &receivers, &runtime, [of("t1", "orders")]);
        outbox.drain();
        let made = say(&scene, &["orders"]).await;
        outbox.notify_delivery();
        let later = runtime.clock.now() + Duration::from_mins(1);
        runtime.clock.sleep_until(later).await;
        assert_eq!(record(&scene, made[0]).await.delivery.state, DeliveryState::Prepared);
        assert!(receivers.ids(&url("orders")).is_empty());
    });
}

#[test]
fn a_resuming_subscriber_sees_each_message_once() {
    play(|runtime, receivers, store| async move {
        let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
        let outbox = started(store.clone(), &receivers, &runtime, [of("t1", "orders"), of("t1", "stuck")]);
        receivers.set(&url("stuck"), Mood::Stuck);
        let (mut said, mut seen) = (Vec::new(), Vec::new());
        for round in 0..6 {
            said.extend(say(&scene, &["orders", "stuck", "orders"]).await);
            outbox.notify_delivery();
            until(&runtime, "the feed is numbered", || async {
                store.unnumbered_deliveries(&StoreScene::node_operator(), None, 1).await.unwrap().is_empty()
            })
            .await;
            // A slow reader takes a page of two now and then, from the cursor that the store keeps for it.
            for _ in 0..round {
                let state = store.feed_state(&scene.tenant_scope()).await.unwrap();
                let cursor = state.subscribers.first().map_or(0, |subscriber| subscriber.cursor);
                let page = store.feed_items(&scene.tenant_scope(), cursor, 2).await.unwrap();
                let Some(last) = page.last() else { break };
                let (subscriber, at) = ("shop".to_owned(), runtime.clock.now());
                let to = Mutation::CursorMove(CursorMove { subscriber, to: last.number, at });
                seen.extend(page.into_iter().map(|item| (item.number, item.delivery.id)));
                scene.commit_mutation(to).await;
            }
        }
        let rest = store.feed_items(&scene.tenant_scope(), seen.len() as u64, 256).await.unwrap();
        seen.extend(rest.into_iter().map(|item| (item.number, item.delivery.id)));
        let numbers: Vec<_> = seen.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (1..=18).collect::<Vec<u64>>(), "a gap, or one twice");
        let ids: BTreeSet<_> = seen.iter().map(|(_, id)| *id).collect();
        assert_eq!(
            ids,
            said.into_iter().collect(),
            "though a receiver is stuck, whoever reads misses nothing"
        );
    });
}

/// Suspends a tenant with a ready message, or leaves it be, and returns what reached the receiver before the tenant was resumed,
/// and in all.
fn heard_around_a_suspension(suspends: bool) -> (usize, usize) {
    play(|runtime, receivers, store| async move {
        let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
        let other = StoreScene::open_scene(Arc::clone(&store), 2).await;
        let suspend = async |since: Option<Timestamp>| {
            let set = WriteBatch::new(scene.tenant_scope().tenant());
            let outcome = store.commit(set.with_mutation(Mutation::TenantSuspensionSet(since))).await;
            assert!(matches!(outcome, CommitOutcome::Done(_)), "{outcome:?}");
        };
        let channels = [of("t1", "orders"), of("t2", "other")];
        let (made, others) = (say(&scene, &["orders", "orders"]).await, say(&other, &["other"]).await);
        if suspends {
            suspend(Some(runtime.clock.now())).await;
        }
        let _outbox = started(store.clone(), &receivers, &runtime, channels);
        until(&runtime, "the other tenant's message leaves", || async {
            receivers.ids(&url("other")) == text(&others)
        })
        .await;
        let later = runtime.clock.now() + Duration::from_mins(1);
        runtime.clock.sleep_until(later).await;
        let before = receivers.ids(&url("orders")).len();
        if suspends {
            suspend(None).await;
        }
        settled(&runtime, &store).await;
        assert_eq!(receivers.ids(&url("orders")), text(&made));
        (before, made.len())
    })
}

#[test]
fn messages_of_a_suspended_tenant_leave_when_it_is_resumed() {
    assert_eq!(heard_around_a_suspension(true), (0, 2));
}

/// Planted fault: the outbox meets a tenant that is not suspended.
#[test]
fn a_message_that_leaves_during_a_suspension_is_caught() {
    assert_eq!(heard_around_a_suspension(false), (2, 2));
}
