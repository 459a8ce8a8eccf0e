//! The suite of the channel port: each claim on each channel, in virtual time, with a fault that it notices.
//!
//! A claim plays the outbox over the reference store and one channel, and looks at what the receiver has. `make conformance`
//! prints the claims. A webhook's receiver is made for the test; a file's is the file.

use std::fs::File;
use std::os::fd::AsFd as _;

use dromia_contracts::channel::{CHANNEL_PLATFORMS, DeliveryClass};
use dromia_gateway::{ChannelConfig, DeliveryTerms, FileChannel};
use dromia_testkit::conformance::{ClaimReport, conformance_table};
use dromia_testkit::faulty::CommitFault;
use rustix::fs::FlockOperation;
use tempfile::TempDir;

use super::*;

/// A channel under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    KeyedWebhook,
    PlainWebhook,
    Files,
}

impl Backend {
    const ALL: [Self; 3] = [Self::KeyedWebhook, Self::PlainWebhook, Self::Files];

    const fn name(self) -> &'static str {
        match self {
            Self::KeyedWebhook => "webhook, keyed",
            Self::PlainWebhook => "webhook, plain",
            Self::Files => "file",
        }
    }

    const fn platform(self) -> &'static str {
        match self {
            Self::KeyedWebhook | Self::PlainWebhook => "webhook",
            Self::Files => "file",
        }
    }

    const fn class(self) -> DeliveryClass {
        match self {
            Self::KeyedWebhook => DeliveryClass::Keyed,
            Self::PlainWebhook => DeliveryClass::Plain,
            Self::Files => DeliveryClass::Reconcilable,
        }
    }

    fn config(self, directory: &TempDir) -> ChannelConfig {
        let idempotent = self == Self::KeyedWebhook;
        let webhook = WebhookChannel { idempotent, ..of("t1", "orders").1 };
        let settings = ChannelConfig::from(webhook);
        if self != Self::Files {
            return settings;
        }
        let terms = DeliveryTerms { class: DeliveryClass::Plain, ..settings.delivery_terms() };
        let (tenant, agent) = ("t1".parse().unwrap(), "ops".parse().unwrap());
        FileChannel { tenant, agent, when_busy: None, directory: directory.path().to_owned(), terms }.into()
    }
}

/// What a play plants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// The store fails at a commit.
    Commit(u64, CommitFault),
    /// The receiver's refusal does not say that the message was not accepted.
    UnsaidRefusal,
    /// The receiver names no id.
    NoReceiverId,
    /// What arrived is listed the other way round.
    Reversed,
}

/// A play of one channel, and what is found at its end.
struct Played {
    log: Vec<String>,
    heard: Vec<String>,
    made: Vec<String>,
    records: Vec<DeliveryRecord>,
}

const MESSAGES: usize = 3;
/// How long a receiver accepts nothing; longer than any pause that we choose.
const BUSY: Duration = Duration::from_mins(20);

/// Plays two lives of an outbox with messages for one target; a receiver may accept nothing for a while.
fn lived(backend: Backend, planted: Planted, is_busy: bool) -> Played {
    let mut sim = SimExecutor::new(7);
    let runtime = sim.runtime();
    let receivers = Receivers::new(&runtime);
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.jsonl");
    let truth: Arc<dyn Store> = Arc::new(ReferenceStore::new());
    let faulty = Arc::new(FaultyStore::new(Arc::clone(&truth)));
    if let Planted::Commit(nth, fault) = planted {
        faulty.fail_nth(nth, fault);
    }
    let target = format!("{}:orders", backend.platform());
    let channels = || [("orders".to_owned(), backend.config(&directory))];
    let (scene, made) = sim
        .block_on(async {
            let scene = StoreScene::open_scene(Arc::clone(&truth), 1).await;
            let made = say_to(&scene, &[&target; MESSAGES]).await;
            (scene, made)
        })
        .unwrap();
    let lock = (is_busy && backend == Backend::Files).then(|| locked(&output));
    match planted {
        Planted::UnsaidRefusal if is_busy => receivers.set(&url("orders"), Mood::Answers(500)),
        _ if is_busy => receivers.set(&url("orders"), Mood::Busy(BUSY)),
        Planted::NoReceiverId => receivers.set(&url("orders"), Mood::Slow(1)),
        _ => {}
    }
    let first = started(faulty.clone() as _, &receivers, &runtime, channels());
    if is_busy {
        // The first attempt meets the busy receiver, which takes messages when its time is over.
        let pause = if backend == Backend::Files { Duration::from_millis(100) } else { BUSY / 2 };
        sim.block_on(async { runtime.clock.sleep(pause).await }).unwrap();
        receivers.set(&url("orders"), Mood::Answers(200));
    }
    drop(lock);
    let at_rest = || async {
        let operator = StoreScene::node_operator();
        let open = truth.open_deliveries(&operator, PageRequest::first_page(1)).await.unwrap();
        faulty.is_dead() || open.is_empty()
    };
    sim.block_on(until(&runtime, "the first life ends", at_rest)).unwrap();
    sim.crash_tasks();
    drop(first);
    let second = started(Arc::clone(&truth), &receivers, &runtime, channels());
    sim.block_on(settled(&runtime, &truth)).unwrap();
    drop(second);
    let mut heard = match backend {
        Backend::Files => lines_of(&output),
        Backend::KeyedWebhook | Backend::PlainWebhook => receivers.ids(&url("orders")),
    };
    if planted == Planted::Reversed {
        heard.reverse();
    }
    let records = sim.block_on(async {
        let mut records = Vec::new();
        for id in &made {
            records.push(record(&scene, *id).await);
        }
        records
    });
    Played { log: faulty.commit_log(), heard, made: text(&made), records: records.unwrap() }
}

/// Locks the output as another writer does.
fn locked(output: &std::path::Path) -> File {
    let file = File::options().create(true).append(true).open(output).unwrap();
    rustix::fs::flock(file.as_fd(), FlockOperation::LockExclusive).unwrap();
    file
}

/// The ids of the lines of an output, in order.
fn lines_of(output: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(output).unwrap_or_default();
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["id"].as_str().unwrap().to_owned()
    };
    text.lines().map(line).collect()
}

/// A claim of the port: `Err` says why it does not hold.
type Claim = fn(Backend, Planted) -> Result<(), String>;

/// Each claim, with the test of its planted fault.
const CLAIMS: [(&str, Claim, &str); 4] = [
    ("messages_of_a_target_arrive_in_order", arrives_in_order, "a_message_that_overtakes_another_is_caught"),
    (
        "a_crash_in_sending_leads_to_no_second_message_unless_keyed",
        crashes_once,
        "a_second_send_after_a_crash_is_caught",
    ),
    (
        "a_message_that_was_not_accepted_is_retried_after_the_whole_delay",
        waits_for_busy,
        "a_429_made_dead_is_caught",
    ),
    ("a_receipt_keeps_the_receivers_id", keeps_receiver_id, "a_receipt_without_the_receivers_id_is_caught"),
];

fn arrives_in_order(backend: Backend, planted: Planted) -> Result<(), String> {
    let Played { heard, made, .. } = lived(backend, planted, false);
    if heard == made { Ok(()) } else { Err(format!("{heard:?} arrived of {made:?}")) }
}

fn keeps_receiver_id(backend: Backend, planted: Planted) -> Result<(), String> {
    let played = lived(backend, planted, false);
    for record in &played.records {
        let kept = record.attempts[0].ended.as_ref().and_then(|end| end.receiver_id.clone());
        let own = record.delivery.id.to_string();
        let expected = if backend == Backend::Files { own.as_str() } else { "msg_1" };
        if kept.as_deref() != Some(expected) {
            return Err(format!("the receipt has {kept:?}"));
        }
    }
    Ok(())
}

/// Without a planted commit every commit of a clean life fails in every way.
fn crashes_once(backend: Backend, planted: Planted) -> Result<(), String> {
    if planted != Planted::Nothing {
        return judge_crash(backend, planted);
    }
    let log = lived(backend, Planted::Nothing, false).log;
    for nth in 1..=log.len() as u64 {
        for fault in CommitFault::ALL {
            judge_crash(backend, Planted::Commit(nth, fault))
                .map_err(|problem| format!("commit {nth}, {fault:?}: {problem}"))?;
        }
    }
    Ok(())
}

fn judge_crash(backend: Backend, planted: Planted) -> Result<(), String> {
    let Played { heard, made, records, .. } = lived(backend, planted, false);
    let mut once = heard.clone();
    once.dedup();
    if backend == Backend::KeyedWebhook {
        return if once == made { Ok(()) } else { Err(format!("{heard:?} arrived of {made:?}")) };
    }
    for (id, record) in made.iter().zip(&records) {
        let times = heard.iter().filter(|known| *known == id).count();
        match (backend.class(), record.delivery.state, times) {
            (_, DeliveryState::Delivered, 1)
            | (DeliveryClass::Plain, DeliveryState::UnknownAfterSend, 0 | 1) => {}
            (_, state, times) => return Err(format!("{id} arrived {times} times and is {state:?}")),
        }
    }
    Ok(())
}

fn waits_for_busy(backend: Backend, planted: Planted) -> Result<(), String> {
    let played = lived(backend, planted, true);
    for record in &played.records {
        if record.delivery.state != DeliveryState::Delivered {
            return Err(format!("it is {:?}: {:?}", record.delivery.state, record.delivery.reason));
        }
    }
    let [first, second, ..] = &played.records[0].attempts[..] else {
        return Err("there was no second attempt".to_owned());
    };
    let ended = first.ended.as_ref().map_or(first.began_at, |end| end.at);
    let pause = second.began_at.duration_since(ended);
    let asked = if backend == Backend::Files { Duration::ZERO } else { BUSY };
    if pause.unsigned_abs() < asked {
        return Err(format!("the second attempt began after {pause}"));
    }
    Ok(())
}

#[test]
#[expect(clippy::print_stdout, reason = "`make conformance` shows the table")]
fn every_channel_passes_the_suite() {
    let mut whole = String::new();
    for backend in Backend::ALL {
        let report = |(claim, check, fault): (&'static str, Claim, &'static str)| ClaimReport {
            claim,
            fault: Some(fault),
            problem: check(backend, Planted::Nothing).err(),
        };
        whole += &conformance_table("channel", backend.name(), &CLAIMS.map(report));
    }
    print!("{whole}");
    assert!(!whole.contains("FAILS"), "{whole}");
}

#[test]
fn every_platform_of_a_channel_is_in_the_suite() {
    let tested: BTreeSet<_> = Backend::ALL.into_iter().map(Backend::platform).collect();
    assert_eq!(tested, BTreeSet::from(CHANNEL_PLATFORMS));
}

#[test]
fn a_message_that_overtakes_another_is_caught() {
    for backend in Backend::ALL {
        assert!(arrives_in_order(backend, Planted::Reversed).is_err(), "{backend:?}");
    }
}

/// Planted fault: the store says that an attempt's beginning is durable, and it is not.
#[test]
fn a_second_send_after_a_crash_is_caught() {
    let log = lived(Backend::PlainWebhook, Planted::Nothing, false).log;
    let start = log.iter().position(|line| line.starts_with("delivery_start")).unwrap() as u64 + 1;
    for backend in [Backend::PlainWebhook, Backend::Files] {
        let found = crashes_once(backend, Planted::Commit(start, CommitFault::Lie));
        assert!(found.is_err_and(|problem| problem.contains("arrived 2 times")), "{backend:?}");
    }
}

/// Planted fault: an answer that names no acceptance is read as a refusal.
#[test]
fn a_429_made_dead_is_caught() {
    let found = waits_for_busy(Backend::PlainWebhook, Planted::UnsaidRefusal);
    assert!(found.as_ref().is_err_and(|problem| problem.contains("Dead")), "{found:?}");
}

#[test]
fn a_receipt_without_the_receivers_id_is_caught() {
    for backend in [Backend::KeyedWebhook, Backend::PlainWebhook] {
        assert!(keeps_receiver_id(backend, Planted::NoReceiverId).is_err(), "{backend:?}");
    }
}
