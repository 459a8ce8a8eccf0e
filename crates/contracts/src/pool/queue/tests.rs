//! What the order promises, for any sequence of what tenants do; and that an order of first come is noticed.

use proptest::prelude::*;

use super::*;

fn tenant(n: u8) -> TenantId {
    TenantId::from_bytes([n; 16])
}

/// Who hands out slots. A test runs the same sequence against another order, too.
trait Order {
    fn take(&mut self, tenant: TenantId) -> bool;
    fn push(&mut self, tenant: TenantId);
    fn take_next(&mut self) -> Option<TenantId>;
    fn give_back(&mut self, tenant: TenantId);
}

impl Order for FairQueue<()> {
    fn take(&mut self, tenant: TenantId) -> bool {
        Self::try_take(self, tenant)
    }

    fn push(&mut self, tenant: TenantId) {
        Self::push(self, tenant, ());
    }

    fn take_next(&mut self) -> Option<TenantId> {
        Self::take_next(self).map(|(tenant, ())| tenant)
    }

    fn give_back(&mut self, tenant: TenantId) {
        Self::give_back(self, tenant);
    }
}

/// Planted fault: who comes first is served first, and nothing is kept in reserve.
struct FirstCome {
    capacity: usize,
    taken: usize,
    line: VecDeque<TenantId>,
}

impl Order for FirstCome {
    fn take(&mut self, _: TenantId) -> bool {
        let is_free = self.line.is_empty() && self.taken < self.capacity;
        self.taken += usize::from(is_free);
        is_free
    }

    fn push(&mut self, tenant: TenantId) {
        self.line.push_back(tenant);
    }

    fn take_next(&mut self) -> Option<TenantId> {
        let next = if self.taken < self.capacity { self.line.pop_front() } else { None };
        self.taken += usize::from(next.is_some());
        next
    }

    fn give_back(&mut self, _: TenantId) {
        self.taken -= 1;
    }
}

/// Takes all that one tenant can have, with more in line, and lets another come: how many slots come back before it has one.
fn turns_before_another(order: &mut impl Order, wanted: usize) -> usize {
    let (flood, quiet) = (tenant(1), tenant(2));
    for _ in 0..wanted {
        if !order.take(flood) {
            order.push(flood);
        }
    }
    while order.take_next().is_some() {}
    if order.take(quiet) {
        return 0;
    }
    order.push(quiet);
    for turn in 1.. {
        order.give_back(flood);
        while let Some(next) = order.take_next() {
            if next == quiet {
                return turn;
            }
        }
    }
    unreachable!("there is always a next turn")
}

#[test]
fn a_greedy_tenant_leaves_the_reserve_to_another() {
    for (capacity, reserve) in [(2, 1), (16, 4), (32, 8), (1024, 128)] {
        let mut queue = FairQueue::new(capacity, reserve);
        assert_eq!(turns_before_another(&mut queue, 10 * capacity), 0, "{capacity}");
        assert_eq!(queue.held_by(tenant(1)), capacity - reserve);
    }
}

#[test]
fn an_order_of_first_come_is_caught() {
    let mut first_come = FirstCome { capacity: 16, taken: 0, line: VecDeque::new() };
    assert!(turns_before_another(&mut first_come, 160) > 100, "nothing notices it");
}

#[test]
fn without_a_reserve_another_tenant_waits_for_one_turn() {
    for capacity in [1, 7] {
        assert_eq!(turns_before_another(&mut FairQueue::new(capacity, 0), 1000), 2);
    }
}

#[test]
fn two_greedy_tenants_come_to_hold_equal_shares() {
    let mut queue = FairQueue::new(16, 4);
    let (flood, late) = (tenant(1), tenant(2));
    for _ in 0..100 {
        queue.push(flood, ());
    }
    while queue.take_next().is_some() {}
    for _ in 0..100 {
        queue.push(late, ());
    }
    while queue.take_next().is_some() {}
    assert!(queue.held_by(late) >= 2, "{}", queue.held_by(late));
    for _ in 0..30 {
        let most = if queue.held_by(flood) >= queue.held_by(late) { flood } else { late };
        queue.give_back(most);
        while queue.take_next().is_some() {}
    }
    let (flood, late) = (queue.held_by(flood), queue.held_by(late));
    assert!(flood.abs_diff(late) <= 2 && flood + late >= 12, "{flood} and {late}");
}

#[test]
fn a_tenants_turn_cost_counts_until_its_last_work_leaves() {
    let (long, short) = (tenant(1), tenant(2));
    let mut queue = FairQueue::new(1, 0);
    for _ in 0..100 {
        queue.push(long, ());
        queue.push(short, ());
    }
    let mut turns = HashMap::<TenantId, u32>::new();
    for _ in 0..60 {
        let (tenant, ()) = queue.take_next().expect("a slot is free");
        *turns.entry(tenant).or_default() += 1;
        queue.charge_tenant(tenant, if tenant == long { 8 } else { 0 });
        queue.give_back(tenant);
    }
    assert!(turns[&short] > 3 * turns[&long], "{turns:?}");
    let mut queue = FairQueue::new(1, 0);
    queue.push(long, ());
    assert!(queue.take_next().is_some());
    queue.charge_tenant(long, 1_000_000);
    queue.give_back(long);
    assert!(queue.shares.is_empty(), "{queue:?}");
}

#[test]
fn an_item_removed_from_the_queue_is_not_served() {
    let mut queue = FairQueue::new(1, 0);
    assert!(queue.try_take(tenant(1)));
    for item in 0..3 {
        queue.push(tenant(2), item);
    }
    assert_eq!(queue.remove(tenant(2), |item| *item == 1), Some(1));
    assert_eq!(queue.remove(tenant(2), |item| *item == 1), None);
    queue.give_back(tenant(1));
    assert_eq!(queue.take_next(), Some((tenant(2), 0)));
    assert_eq!(queue.remove(tenant(2), |_| true), Some(2));
    queue.give_back(tenant(2));
    assert_eq!((queue.take_next(), queue.waiting_count(), queue.taken_slots()), (None, 0, 0));
    assert!(queue.shares.is_empty() && queue.round.is_empty(), "{queue:?}");
}

/// What somebody does: `true` wants a slot, `false` gives one back.
fn acts() -> impl Strategy<Value = Vec<(u8, bool)>> {
    prop::collection::vec((1_u8..6, prop::bool::weighted(0.6)), 1..300)
}

proptest! {
    /// Whatever tenants do: no more is taken than there is; a tenant holds more than all but the reserve in no case; a slot
    /// stays free only where whoever waits holds its part already; and nobody who waits is passed over twice by another tenant
    /// that takes its turn.
    #[test]
    fn tenants_wait_one_turn_at_most_and_only_reserve_idles(
        capacity in 1_usize..20,
        reserve in 0_usize..8,
        acts in acts(),
    ) {
        let mut queue = FairQueue::new(capacity, reserve);
        let reserve = reserve.min(capacity - 1);
        // For each tenant that waits: how often each other was served since it may have a slot.
        let mut passed: HashMap<TenantId, HashMap<TenantId, u32>> = HashMap::new();
        for (who, wants) in acts {
            let who = tenant(who);
            if wants {
                if !queue.try_take(who) {
                    queue.push(who, ());
                }
            } else {
                queue.give_back(who);
            }
            while let Some((served, ())) = queue.take_next() {
                passed.remove(&served);
                let waiting: Vec<_> = queue.round.iter().copied().collect();
                for waiting in waiting {
                    let times = passed.entry(waiting).or_default().entry(served).or_default();
                    if queue.may_take(queue.held_by(waiting)) {
                        *times += 1;
                        prop_assert!(*times <= 2, "{waiting} was passed over by {served}");
                    } else {
                        // It holds its part: the others catch up.
                        passed.remove(&waiting);
                    }
                }
            }
            let held: Vec<usize> = (1..6).map(|n| queue.held_by(tenant(n))).collect();
            prop_assert_eq!(held.iter().sum::<usize>(), queue.taken_slots());
            prop_assert!(queue.taken_slots() <= capacity);
            prop_assert!(held.iter().all(|held| *held <= capacity - reserve), "{:?}", held);
            let waiting: Vec<_> = queue.round.iter().map(|tenant| queue.held_by(*tenant)).collect();
            prop_assert!(waiting.iter().all(|held| !queue.may_take(*held)), "a slot is free for one that waits");
            if reserve == 0 {
                prop_assert!(waiting.is_empty() || queue.taken_slots() == capacity);
            }
        }
    }
}
