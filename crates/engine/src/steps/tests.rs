//! One works alone without a bound; two share; who leaves the line takes nothing with it.

use super::*;

const FLOOD: TenantId = TenantId::from_bytes([1; 16]);
const QUIET: TenantId = TenantId::from_bytes([2; 16]);
const ALONE: usize = 64;
const SHARED: usize = 8;
const NOW: Duration = Duration::from_secs(100);

fn poll_wait(wait: &mut StepWait) -> Poll<StepPermit> {
    Pin::new(wait).poll(&mut Context::from_waker(Waker::noop()))
}

fn permit_of(mut wait: StepWait) -> StepPermit {
    match poll_wait(&mut wait) {
        Poll::Ready(step) => step,
        Poll::Pending => panic!("it has no step"),
    }
}

/// As many steps of a tenant as begin at once, at most a hundred, and what waits behind them.
fn flood_steps(pool: &StepPool, now: Duration) -> (Vec<StepPermit>, Vec<StepWait>) {
    let (mut steps, mut waiting) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let mut wait = pool.begin_step(FLOOD, StepKind::New, now);
        match poll_wait(&mut wait) {
            Poll::Ready(step) => steps.push(step),
            Poll::Pending => waiting.push(wait),
        }
    }
    (steps, waiting)
}

#[test]
fn one_tenant_has_all_steps_and_two_share_fewer() {
    let pool = StepPool::new(ALONE, SHARED);
    let (steps, waiting) = flood_steps(&pool, NOW);
    assert_eq!((steps.len(), waiting.len()), (ALONE, 100 - ALONE));
    drop((waiting, steps));
    drop(permit_of(pool.begin_step(QUIET, StepKind::New, NOW)));
    let (steps, waiting) = flood_steps(&pool, NOW);
    assert_eq!((steps.len(), waiting.len()), (SHARED / 2, 100 - SHARED / 2));
    drop(permit_of(pool.begin_step(QUIET, StepKind::New, NOW)));
}

#[test]
fn a_tenants_extra_steps_shrink_to_its_share() {
    let pool = StepPool::new(ALONE, SHARED);
    let (mut steps, _) = flood_steps(&pool, NOW);
    let quiet = permit_of(pool.begin_step(QUIET, StepKind::New, NOW));
    let mut next = pool.begin_step(FLOOD, StepKind::New, NOW);
    assert!(poll_wait(&mut next).is_pending(), "it has far more than its part");
    steps.truncate(SHARED / 2);
    assert!(poll_wait(&mut next).is_pending(), "it has all of its part");
    steps.pop();
    drop((permit_of(next), quiet));
}

#[test]
fn a_resting_tenant_is_forgotten_and_its_share_is_released() {
    let pool = StepPool::new(ALONE, SHARED);
    drop(permit_of(pool.begin_step(QUIET, StepKind::New, NOW)));
    let (mut steps, mut waiting) = flood_steps(&pool, NOW);
    let later = NOW + RECENT;
    let mut last = pool.begin_step(FLOOD, StepKind::New, later);
    assert!(poll_wait(&mut last).is_pending(), "others of it were there before");
    steps.pop();
    let behind = waiting.split_off(ALONE + 1 - SHARED / 2);
    steps.extend(waiting.into_iter().map(permit_of));
    assert_eq!(pool.held_by(FLOOD), ALONE);
    drop((behind, last, steps));
    let state = pool.lock();
    assert!(state.places.is_empty() && !state.tenants.contains_key(&QUIET), "{state:?}");
}

#[test]
fn one_that_leaves_the_line_takes_nothing_with_it_whenever_it_leaves() {
    let pool = StepPool::new(ALONE, 2);
    drop(permit_of(pool.begin_step(QUIET, StepKind::New, NOW)));
    let held = permit_of(pool.begin_step(FLOOD, StepKind::New, NOW));
    let (mut gone, mut late, mut stays) = (
        pool.begin_step(FLOOD, StepKind::New, NOW),
        pool.begin_step(FLOOD, StepKind::New, NOW),
        pool.begin_step(FLOOD, StepKind::New, NOW),
    );
    assert!([&mut gone, &mut late, &mut stays].into_iter().all(|wait| poll_wait(wait).is_pending()));
    drop(gone);
    // The step is on its way to the one that leaves now.
    drop(held);
    drop(late);
    drop(permit_of(stays));
    assert_eq!(pool.held_by(FLOOD), 0);
    assert!(pool.lock().places.is_empty());
}

#[test]
fn each_of_many_tenants_gets_one_step() {
    let pool = StepPool::new(ALONE, SHARED);
    let tenants = (0..100).map(|number| TenantId::from_bytes([number; 16]));
    let steps: Vec<_> =
        tenants.map(|tenant| permit_of(pool.begin_step(tenant, StepKind::New, NOW))).collect();
    assert_eq!(steps.len(), 100);
    assert!(poll_wait(&mut pool.begin_step(FLOOD, StepKind::New, NOW)).is_pending());
}

#[test]
fn running_steps_go_before_new_ones_without_starving_them() {
    let pool = StepPool::new(1, 1);
    let mut held = permit_of(pool.begin_step(FLOOD, StepKind::New, NOW));
    let kinds = [StepKind::New, StepKind::UnderWay].repeat(6);
    let mut waiting: Vec<_> =
        kinds.into_iter().map(|kind| (kind, pool.begin_step(FLOOD, kind, NOW))).collect();
    assert!(waiting.iter_mut().all(|(_, wait)| poll_wait(wait).is_pending()));
    let mut order = String::new();
    while !waiting.is_empty() {
        drop(held);
        let ready = waiting.iter_mut().enumerate().find_map(|(at, (_, wait))| match poll_wait(wait) {
            Poll::Ready(step) => Some((at, step)),
            Poll::Pending => None,
        });
        let (at, step) = ready.expect("one is next");
        order.push(if waiting.remove(at).0 == StepKind::New { 'n' } else { 'u' });
        held = step;
    }
    drop(held);
    assert_eq!(order, "uuunuuunnnnn");
}

/// How many steps of one tenant are under way when another comes that worked before.
fn steps_before_another(begin: impl Fn(TenantId) -> Option<StepPermit>) -> usize {
    drop(begin(QUIET));
    let steps: Vec<_> = (0..100).filter_map(|_| begin(FLOOD)).collect();
    steps.len()
}

/// Planted fault: all begin at once, whoever else works.
#[test]
fn steps_without_a_share_are_caught() {
    let begin = |pool: StepPool| {
        move |tenant| match poll_wait(&mut pool.begin_step(tenant, StepKind::New, NOW)) {
            Poll::Ready(step) => Some(step),
            Poll::Pending => None,
        }
    };
    assert!(steps_before_another(begin(StepPool::new(ALONE, SHARED))) <= SHARED);
    assert!(steps_before_another(begin(StepPool::new(ALONE, 2 * ALONE))) > SHARED, "nothing notices it");
}
