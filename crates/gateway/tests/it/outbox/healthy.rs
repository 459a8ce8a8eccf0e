//! How late the messages of a hundred healthy receivers are: alone, beside a stuck and a slow one, and beside another
//! tenant's poison. In virtual time, so the figures are exact.

use std::cell::Cell;

use super::*;

/// Receivers that are well, and the messages to each.
const HEALTHY: usize = 100;
const MESSAGES: usize = 3;

/// How long a healthy one takes.
const TAKES_MS: u64 = 20;

/// What is there beside the healthy ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// Receivers of the same tenant: one that never answers and one that takes ten seconds, or so many that never do.
    StuckAndSlow,
    Stuck(usize),
    /// Receivers of another tenant, all of which refuse everything.
    Poison,
}

impl Beside {
    /// The targets, whose they are, and what they do.
    fn targets(self) -> Vec<(&'static str, String, Mood)> {
        let many = |count: usize, tenant, mood| {
            (0..count).map(|number| (tenant, format!("beside{number}"), mood)).collect::<Vec<_>>()
        };
        match self {
            Self::Nothing => Vec::new(),
            Self::StuckAndSlow => {
                vec![("t1", "stuck".to_owned(), Mood::Stuck), ("t1", "slow".to_owned(), Mood::Slow(10_000))]
            }
            Self::Stuck(count) => many(count, "t1", Mood::Stuck),
            Self::Poison => many(HEALTHY, "t2", Mood::Answers(500)),
        }
    }
}

/// What was measured.
struct Measured {
    /// After how many milliseconds 99 of 100 messages were there.
    p99_ms: i128,
    /// The most messages at work at a time.
    at_work_max: usize,
}

fn measured(beside: Beside) -> Measured {
    play(|runtime, receivers, store| async move {
        let ours = StoreScene::open_scene(Arc::clone(&store), 1).await;
        let theirs = StoreScene::open_scene(Arc::clone(&store), 2).await;
        let healthy: Vec<_> = (0..HEALTHY).map(|number| format!("healthy{number}")).collect();
        let beside = beside.targets();
        let mut channels: Vec<_> = healthy.iter().map(|name| of("t1", name)).collect();
        channels.extend(beside.iter().map(|(tenant, name, _)| of(tenant, name)));
        for name in &healthy {
            receivers.set(&url(name), Mood::Slow(TAKES_MS));
        }
        for (tenant, name, mood) in &beside {
            receivers.set(&url(name), *mood);
            let scene = if *tenant == "t1" { &ours } else { &theirs };
            say(scene, &[name.as_str(); MESSAGES]).await;
        }
        let outbox = started(store.clone(), &receivers, &runtime, channels);
        until(&runtime, "the others are at work", || async {
            receivers.heard.lock().unwrap().letters.len() >= beside.len().min(16)
        })
        .await;
        let began = runtime.clock.now();
        let names: Vec<_> =
            healthy.iter().flat_map(|name| std::iter::repeat_n(name.as_str(), MESSAGES)).collect();
        let made = say(&ours, &names).await;
        outbox.notify_delivery();
        let at_work_max = Cell::new(0);
        until(&runtime, "the healthy ones", || async {
            at_work_max.set(outbox.in_flight().max(at_work_max.get()));
            for id in made.iter().rev() {
                if record(&ours, *id).await.delivery.state != DeliveryState::Delivered {
                    return false;
                }
            }
            true
        })
        .await;
        let mut delays = Vec::new();
        for id in &made {
            let record = record(&ours, *id).await;
            let [attempt] = &record.attempts[..] else { panic!("{record:?}") };
            delays.push(attempt.ended.as_ref().unwrap().at.duration_since(began).as_millis());
        }
        delays.sort_unstable();
        Measured { p99_ms: delays[delays.len() * 99 / 100], at_work_max: at_work_max.get() }
    })
}

#[test]
fn stuck_and_slow_receivers_do_not_delay_healthy_ones() {
    let alone = measured(Beside::Nothing);
    let beside = measured(Beside::StuckAndSlow);
    assert!(alone.p99_ms >= i128::from(TAKES_MS), "{}", alone.p99_ms);
    assert!(beside.p99_ms <= 2 * alone.p99_ms, "{} ms beside them, {} alone", beside.p99_ms, alone.p99_ms);
    assert!(alone.at_work_max.max(beside.at_work_max) <= 16, "what is at work is bounded");
}

#[test]
fn poison_of_one_tenant_does_not_make_another_late() {
    let alone = measured(Beside::Nothing);
    let beside = measured(Beside::Poison);
    assert!(beside.p99_ms <= 2 * alone.p99_ms, "{} ms beside it, {} alone", beside.p99_ms, alone.p99_ms);
    assert!(beside.at_work_max <= 32, "what is at work is bounded");
}

/// The planted fault: whoever gives every place to the stuck ones is late by their whole time.
#[test]
fn healthy_receivers_behind_stuck_ones_are_late_and_caught() {
    let alone = measured(Beside::Nothing);
    let behind = measured(Beside::Stuck(16));
    assert!(behind.p99_ms > 2 * alone.p99_ms, "{} ms behind them, {} alone", behind.p99_ms, alone.p99_ms);
}
