//! A wake-up of the pump costs what is due, not what is open or found no slot: the tests count the messages that it reads.

use std::sync::atomic::{AtomicUsize, Ordering};

use dromia_contracts::delivery::OpenDelivery;
use dromia_contracts::store::{Read, StoreWrapper};
use dromia_contracts::{OperatorScope, TenantId};

use super::*;

/// Targets whose first message waits for a time.
const WAITING: usize = 60;

/// Counts the first messages of targets that are read.
#[derive(Debug)]
struct CountingStore {
    store: ReferenceStore,
    heads: Arc<AtomicUsize>,
}

impl StoreWrapper for CountingStore {
    fn wrapped_store(&self) -> &dyn Store {
        &self.store
    }

    fn open_deliveries<'a>(
        &'a self,
        operator: &'a OperatorScope,
        page: PageRequest<(TenantId, String)>,
    ) -> Read<'a, Vec<OpenDelivery>> {
        Box::pin(async move {
            let found = self.store.open_deliveries(operator, page).await?;
            self.heads.fetch_add(found.len(), Ordering::SeqCst);
            Ok(found)
        })
    }

    fn first_open_delivery<'a>(
        &'a self,
        operator: &'a OperatorScope,
        tenant: TenantId,
        target: &'a str,
    ) -> Read<'a, Option<OpenDelivery>> {
        self.heads.fetch_add(1, Ordering::SeqCst);
        self.store.first_open_delivery(operator, tenant, target)
    }
}

/// Counts what is read to deliver one message while many others wait.
fn heads_read_for_one_message(is_every_target_touched: bool) -> usize {
    let mut sim = SimExecutor::new(1);
    let runtime = sim.runtime();
    let receivers = Receivers::new(&runtime);
    let heads = Arc::new(AtomicUsize::new(0));
    let counting = CountingStore { store: ReferenceStore::new(), heads: Arc::clone(&heads) };
    let store: Arc<dyn Store> = Arc::new(counting);
    let names: Vec<_> = (0..WAITING).map(|number| format!("busy{number}")).collect();
    let played = async {
        let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        for name in &names {
            receivers.set(&url(name), Mood::Busy(Duration::from_hours(1)));
        }
        let busy = say(&scene, &names).await;
        let channels = || names.iter().copied().chain(["healthy"]).map(|name| of("t1", name));
        let outbox = started(store.clone(), &receivers, &runtime, channels());
        until(&runtime, "the busy ones wait", || async {
            outbox.in_flight() == 0 && record(&scene, busy[WAITING - 1]).await.delivery.attempts == 1
        })
        .await;
        // A scan reads every target; the message comes right behind one.
        let before = heads.load(Ordering::SeqCst);
        until(&runtime, "the next scan", || async { heads.load(Ordering::SeqCst) >= before + WAITING }).await;
        let before = heads.load(Ordering::SeqCst);
        let made = say(&scene, &["healthy"]).await;
        if is_every_target_touched {
            outbox.replace_channels(channels().collect());
        }
        outbox.notify_delivery();
        until(&runtime, "the healthy one", || async {
            record(&scene, made[0]).await.delivery.state == DeliveryState::Delivered
        })
        .await;
        heads.load(Ordering::SeqCst) - before
    };
    sim.block_on(played).unwrap()
}

#[test]
fn a_wake_up_reads_what_is_due_and_not_what_is_open() {
    let read = heads_read_for_one_message(false);
    assert!((1..=4).contains(&read), "{read} first messages were read for one");
}

/// Planted fault: a wake-up looks at every target.
#[test]
fn a_wake_up_that_reads_every_target_is_caught() {
    assert!(heads_read_for_one_message(true) > WAITING);
}

/// Targets that are due at once; many more than there are slots.
const DUE: usize = 400;
/// Targets whose first message waits for a time meanwhile.
const OPEN: usize = 400;

/// Counts what is read while many messages are due, of targets among which as many wait; tells also how many attempts ended.
fn heads_read_for_many_messages() -> (usize, usize) {
    let mut sim = SimExecutor::new(1);
    let runtime = sim.runtime();
    let receivers = Receivers::new(&runtime);
    let heads = Arc::new(AtomicUsize::new(0));
    let counting = CountingStore { store: ReferenceStore::new(), heads: Arc::clone(&heads) };
    let store: Arc<dyn Store> = Arc::new(counting);
    let names = |kind: &str, count: usize| (0..count).map(|n| format!("{kind}{n}")).collect::<Vec<_>>();
    let (busy, due) = (names("busy", OPEN), names("due", DUE));
    let played = async {
        let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
        for name in &busy {
            receivers.set(&url(name), Mood::Busy(Duration::from_hours(1)));
        }
        let said = |names: &[String]| names.iter().map(|name| format!("webhook:{name}")).collect::<Vec<_>>();
        let waiting = say_to(&scene, &said(&busy)).await;
        let channels = busy.iter().chain(&due).map(|name| of("t1", name));
        let outbox = started(store.clone(), &receivers, &runtime, channels);
        until(&runtime, "the busy ones wait", || async {
            outbox.in_flight() == 0 && record(&scene, waiting[OPEN - 1]).await.delivery.attempts == 1
        })
        .await;
        // A scan reads every target; the messages come right behind one.
        let before = heads.load(Ordering::SeqCst);
        until(&runtime, "the next scan", || async { heads.load(Ordering::SeqCst) >= before + OPEN }).await;
        say_to(&scene, &said(&due)).await;
        let before = heads.load(Ordering::SeqCst);
        outbox.notify_delivery();
        until(&runtime, "all the others", || async {
            outbox.in_flight() == 0 && outbox.delivery_counts().delivered == DUE as u64
        })
        .await;
        let delivered = usize::try_from(outbox.delivery_counts().delivered).unwrap();
        (heads.load(Ordering::SeqCst) - before, delivered)
    };
    sim.block_on(played).unwrap()
}

#[test]
fn a_wake_up_reads_no_due_target_without_a_slot() {
    let (read, delivered) = heads_read_for_many_messages();
    assert_eq!(delivered, DUE);
    // Each once when it became due, once when a slot was free, and once when its attempt had ended.
    assert!(read <= 3 * DUE + OPEN + DUE, "{read} first messages were read for {delivered}");
}
