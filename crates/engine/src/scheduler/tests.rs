//! Which work gets a task next, and what a run gives back while it waits.

use futures_util::FutureExt as _;

use super::*;

fn session(n: u16) -> ReadyWork {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    ReadyWork::Session(SessionId::from_bytes(bytes))
}

const FLOOD: TenantId = TenantId::from_bytes([1; 16]);
const QUIET: TenantId = TenantId::from_bytes([2; 16]);

#[test]
fn a_single_turn_starts_within_two_of_a_flooding_tenant() {
    let scheduler = Scheduler::new(1, StepPool::new(64, 8));
    for n in 0..10_000 {
        scheduler.push_ready(FLOOD, session(n));
    }
    for _ in 0..7 {
        let (tenant, _, slot) = scheduler.next().expect("a slot is free");
        assert_eq!(tenant, FLOOD);
        slot.charge_model_calls(1);
    }
    scheduler.push_ready(QUIET, session(20_000));
    let order: Vec<_> = (0..3).map(|_| scheduler.next().expect("a slot is free").0).collect();
    assert!(order.contains(&QUIET), "{order:?}");
    assert_eq!(order.iter().position(|tenant| *tenant == QUIET).map(|at| at <= 2), Some(true));
}

#[test]
fn a_tenant_whose_turns_are_long_waits_longer() {
    let scheduler = Scheduler::new(1, StepPool::new(64, 8));
    for n in 0..100 {
        scheduler.push_ready(FLOOD, session(n));
        scheduler.push_ready(QUIET, session(1000 + n));
    }
    let mut turns = HashMap::<TenantId, u32>::new();
    for _ in 0..60 {
        let (tenant, _, slot) = scheduler.next().expect("a slot is free");
        *turns.entry(tenant).or_default() += 1;
        slot.charge_model_calls(if tenant == FLOOD { 9 } else { 1 });
    }
    assert!(turns[&QUIET] > 3 * turns[&FLOOD], "{turns:?}");
}

#[test]
fn slots_are_bounded_and_come_back() {
    let scheduler = Scheduler::new(2, StepPool::new(64, 8));
    let first = scheduler.try_slot(FLOOD).expect("two are free");
    let _second = scheduler.try_slot(FLOOD).expect("one is free");
    assert!(scheduler.try_slot(QUIET).is_none());
    drop(first);
    scheduler.push_ready(FLOOD, session(1));
    assert!(scheduler.try_slot(QUIET).is_none(), "somebody waits already");
    assert!(scheduler.next().is_some());
    assert!(scheduler.next().is_none(), "both are taken");
}

#[test]
fn overflow_is_reported_once_and_ready_work_queued_once() {
    let scheduler = Scheduler::new(1, StepPool::new(64, 8));
    scheduler.push_ready(QUIET, session(1));
    scheduler.push_ready(QUIET, session(1));
    assert_eq!(scheduler.slot_load().1, 1);
    for n in 0..=READY_MAX {
        let mut bytes = [9; 16];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        scheduler.push_ready(FLOOD, ReadyWork::Session(SessionId::from_bytes(bytes)));
    }
    assert_eq!(scheduler.take_left(), StoredBacklog::default(), "the queue is still full");
    while scheduler.next().is_some() {}
    assert_eq!(scheduler.take_left(), StoredBacklog { lost: true, due: false });
    assert_eq!(scheduler.take_left(), StoredBacklog::default());
}

#[test]
fn overflowing_due_runs_return_once_half_the_queue_is_free() {
    let run = |n: usize| RunId::from_bytes((n as u128).to_be_bytes());
    let scheduler = Scheduler::new(1, StepPool::new(64, 8));
    for n in 0..=READY_MAX {
        scheduler.push_due(FLOOD, run(n));
    }
    scheduler.push_due(FLOOD, run(0));
    assert_eq!(scheduler.slot_load().1, READY_MAX);
    for taken in 0..=READY_MAX / 2 {
        assert_eq!(scheduler.take_left(), StoredBacklog::default(), "{taken} are gone");
        scheduler.next().expect("the slot of the one before is free");
    }
    assert_eq!(scheduler.take_left(), StoredBacklog { lost: false, due: true });
    assert_eq!(scheduler.take_left(), StoredBacklog::default());
}

/// Were a debt kept while nothing waits, a tenant of long turns would pay for each with many rounds of the others.
#[test]
fn a_single_turn_waits_for_one_round_after_any_turn() {
    let scheduler = Scheduler::new(1, StepPool::new(64, 8));
    for n in 0..100 {
        scheduler.push_ready(FLOOD, session(n));
    }
    for n in 0..10 {
        scheduler.push_ready(QUIET, session(1_000 + n));
        let mut waited = 0;
        while let Some((tenant, _, slot)) = scheduler.next() {
            slot.charge_model_calls(if tenant == QUIET { 50 } else { 1 });
            if tenant == QUIET {
                break;
            }
            waited += 1;
        }
        assert!(waited <= 2, "turn {n} waited for {waited}");
    }
}

#[test]
fn a_tenant_of_long_runs_leaves_slots_to_another() {
    let scheduler = Scheduler::new(64, StepPool::new(64, 8));
    let held: Vec<_> = std::iter::from_fn(|| scheduler.try_slot(FLOOD)).collect();
    assert_eq!(held.len(), 56);
    scheduler.push_ready(FLOOD, session(1));
    assert!(scheduler.next().is_none());
    let quiet: Vec<_> = std::iter::from_fn(|| scheduler.try_slot(QUIET)).take(4).collect();
    assert_eq!(quiet.len(), 4, "another tenant's begin at once");
}

#[test]
fn a_waiting_run_frees_its_slot_and_later_retakes_it() {
    let scheduler = Scheduler::new(1, StepPool::new(64, 8));
    let paused = scheduler.try_slot(FLOOD).expect("it is free");
    paused.pause();
    assert_eq!((scheduler.slot_load().0, scheduler.count_tasks()), (0, 1));
    let other = scheduler.try_slot(QUIET).expect("it is free again");
    scheduler.push_ready(FLOOD, session(1));
    {
        let mut resuming = std::pin::pin!(paused.resume(|| assert!(scheduler.next().is_none())));
        assert!(resuming.as_mut().now_or_never().is_none(), "another has it");
        drop(other);
        let (_, _, first) = scheduler.next().expect("it was in line before");
        assert!(resuming.as_mut().now_or_never().is_none());
        drop(first);
        assert!(scheduler.next().is_none(), "the slot went to the run");
        assert!(resuming.as_mut().now_or_never().is_some());
    }
    assert_eq!((scheduler.slot_load().0, scheduler.count_tasks()), (1, 1));
    drop(paused);
    assert_eq!((scheduler.slot_load(), scheduler.count_tasks()), ((0, 0, 1), 0));
}

#[test]
fn a_run_that_ends_while_waiting_takes_no_slot() {
    let scheduler = Scheduler::new(1, StepPool::new(64, 8));
    let paused = scheduler.try_slot(FLOOD).expect("it is free");
    paused.pause();
    let other = scheduler.try_slot(QUIET).expect("it is free again");
    assert!(paused.resume(|| ()).now_or_never().is_none());
    drop(other);
    assert!(scheduler.next().is_none());
    assert_eq!((scheduler.slot_load().0, scheduler.count_tasks()), (0, 1), "whoever waited has gone");
    let other = scheduler.try_slot(QUIET).expect("it is free again");
    {
        let mut resuming = std::pin::pin!(paused.resume(|| ()));
        assert!(resuming.as_mut().now_or_never().is_none());
        scheduler.stop();
        assert!(resuming.as_mut().now_or_never().is_some());
    }
    assert!(paused.resume(|| ()).now_or_never().is_some());
    drop((paused, other));
    assert_eq!(scheduler.count_tasks(), 0);
}

/// Tells whether another tenant's turn begins while all runs that one may have wait for something else, by what each does then.
fn leaves_a_turn(wait: impl Fn(&TaskSlot)) -> bool {
    // So few that none is in reserve.
    let scheduler = Scheduler::new(4, StepPool::new(64, 8));
    let runs: Vec<_> = std::iter::from_fn(|| scheduler.try_slot(FLOOD)).collect();
    assert_eq!(runs.len(), 4);
    runs.iter().for_each(wait);
    scheduler.try_slot(QUIET).is_some()
}

/// Planted fault: a run that waits for a program, a file or a child keeps its slot meanwhile.
#[test]
fn a_waiting_run_that_keeps_its_slot_is_caught() {
    assert!(leaves_a_turn(TaskSlot::pause));
    assert!(!leaves_a_turn(|_| ()), "nothing notices it");
}
