//! The order in which tenants get slots: deficit round robin over those that wait, and a reserve that no tenant takes alone.
//!
//! A tenant takes a slot as long as it holds less than its part of what is free: alone all but the reserve. The more
//! one holds, the more it leaves to others, so a later tenant finds a free slot while slots last, and one that holds
//! many gets none back before others have theirs. Of tenants that wait, each gets one in its turn. What a turn cost
//! beyond one slot is a debt, which is paid while something of the tenant waits and goes with the last of it: kept, it
//! would have a single turn that comes later wait for more than one round.
//!
//! It knows no time, no task and no lock. Its owner calls [`FairQueue::take_next`] until it returns nothing, after
//! every push and every slot that came back.

use std::collections::{HashMap, VecDeque};

use crate::TenantId;

/// What one visit adds to the deficit of a tenant: one slot, so that a single turn waits for at most one of each other tenant.
const QUANTUM: i64 = 1;

/// Slots that tenants share, and what waits for one.
#[derive(Debug)]
pub struct FairQueue<T> {
    capacity: usize,
    reserve: usize,
    taken: usize,
    waiting: usize,
    /// Tenants of which something waits, in the order of their turn.
    round: VecDeque<TenantId>,
    shares: HashMap<TenantId, TenantShare<T>>,
}

#[derive(Debug)]
struct TenantShare<T> {
    items: VecDeque<T>,
    held: usize,
    deficit: i64,
}

impl<T> FairQueue<T> {
    /// Shares so many slots, at least one, of which no tenant takes the reserve alone. A reserve leaves one slot at least.
    pub fn new(capacity: usize, reserve: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            capacity,
            reserve: reserve.min(capacity - 1),
            taken: 0,
            waiting: 0,
            round: VecDeque::new(),
            shares: HashMap::new(),
        }
    }

    /// Shares another number of slots from now on; more of them may be taken for a while.
    pub fn resize(&mut self, capacity: usize, reserve: usize) {
        self.capacity = capacity.max(1);
        self.reserve = reserve.min(self.capacity - 1);
    }

    /// Takes a slot at once, if the tenant may have one and nothing waits that may have it.
    pub fn try_take(&mut self, tenant: TenantId) -> bool {
        let is_free = self.may_take(self.held_by(tenant));
        if !is_free || self.round.iter().any(|waiting| self.may_take(self.held_by(*waiting))) {
            return false;
        }
        self.hold_slot(tenant);
        true
    }

    /// Puts something in line.
    pub fn push(&mut self, tenant: TenantId, item: T) {
        let share = self.tenant_share(tenant);
        let is_first = share.items.is_empty();
        share.items.push_back(item);
        if is_first {
            self.round.push_back(tenant);
        }
        self.waiting += 1;
    }

    /// Takes a slot for what is next in line.
    pub fn take_next(&mut self) -> Option<(TenantId, T)> {
        // How many tenants in a row may take nothing.
        let mut passed = 0;
        while self.taken < self.capacity && passed < self.round.len() {
            let tenant = self.round.pop_front()?;
            if !self.may_take(self.held_by(tenant)) {
                self.round.push_back(tenant);
                passed += 1;
                continue;
            }
            passed = 0;
            let share = self.tenant_share(tenant);
            share.deficit = share.deficit.saturating_add(QUANTUM);
            if share.deficit <= 0 {
                // In debt. Each visit pays some of it, so it is reached again after finitely many rounds.
                self.round.push_back(tenant);
                continue;
            }
            let Some(item) = share.items.pop_front() else { continue };
            share.deficit -= 1;
            if share.items.is_empty() {
                share.deficit = 0;
            } else {
                self.round.push_back(tenant);
            }
            self.waiting -= 1;
            self.hold_slot(tenant);
            return Some((tenant, item));
        }
        None
    }

    /// Gives a tenant's slot back.
    pub fn give_back(&mut self, tenant: TenantId) {
        if let Some(share) = self.shares.get_mut(&tenant).filter(|share| share.held > 0) {
            share.held -= 1;
            self.taken -= 1;
        }
        self.forget_idle(tenant);
    }

    /// Charges a tenant for what its turn cost beyond one slot, while something of it waits.
    pub fn charge_tenant(&mut self, tenant: TenantId, cost: u64) {
        if let Some(share) = self.shares.get_mut(&tenant).filter(|share| !share.items.is_empty()) {
            share.deficit = share.deficit.saturating_sub(i64::try_from(cost).unwrap_or(i64::MAX));
        }
    }

    /// Takes something out of the line.
    pub fn remove(&mut self, tenant: TenantId, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let share = self.shares.get_mut(&tenant)?;
        let item = share.items.iter().position(is_it).and_then(|place| share.items.remove(place))?;
        self.waiting -= 1;
        if share.items.is_empty() {
            share.deficit = 0;
            self.round.retain(|waiting| *waiting != tenant);
        }
        self.forget_idle(tenant);
        Some(item)
    }

    /// Counts what of a tenant waits.
    pub fn waiting_of(&self, tenant: TenantId) -> usize {
        self.shares.get(&tenant).map_or(0, |share| share.items.len())
    }

    /// Counts slots that a tenant holds.
    pub fn held_by(&self, tenant: TenantId) -> usize {
        self.shares.get(&tenant).map_or(0, |share| share.held)
    }

    /// Counts slots that are taken.
    pub const fn taken_slots(&self) -> usize {
        self.taken
    }

    /// Counts what waits.
    pub const fn waiting_count(&self) -> usize {
        self.waiting
    }

    /// Returns how many slots there are.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns whether a tenant that holds so many slots may have one more: less than its part of what is free. Alone,
    /// that is all but the reserve.
    fn may_take(&self, held: usize) -> bool {
        let (free, part) = (self.capacity.saturating_sub(self.taken), self.capacity - self.reserve);
        held.saturating_mul(self.reserve) < free.saturating_mul(part)
    }

    fn hold_slot(&mut self, tenant: TenantId) {
        self.tenant_share(tenant).held += 1;
        self.taken += 1;
    }

    fn tenant_share(&mut self, tenant: TenantId) -> &mut TenantShare<T> {
        let new = || TenantShare { items: VecDeque::new(), held: 0, deficit: 0 };
        self.shares.entry(tenant).or_insert_with(new)
    }

    /// A tenant with nothing in line and no slot is as good as one that was never seen.
    fn forget_idle(&mut self, tenant: TenantId) {
        if self.shares.get(&tenant).is_some_and(|share| share.held == 0 && share.items.is_empty()) {
            self.shares.remove(&tenant);
        }
    }
}

#[cfg(test)]
mod tests;
