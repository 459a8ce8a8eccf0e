//! Whose question is next: tenants take turns, and none holds what another needs for its first.
//!
//! A tenant has one worker whenever one is free. A second one it has only while less than half of all work, so that a tenant
//! whose policy does not end delays no other. It keeps no clock and starts nothing.

use std::collections::{BTreeMap, VecDeque};

use dromia_contracts::id::TenantId;

/// The most workers of a server.
pub const WORKERS_MAX: usize = 8;
/// The most workers of one tenant at a time.
pub const TENANT_WORKERS_MAX: usize = 2;
/// The most questions of one tenant that wait.
pub const WAITING_MAX: usize = 4096;

/// The questions that wait, by tenant, and who is being answered.
#[derive(Debug)]
pub(super) struct QuestionQueue<T> {
    rows: BTreeMap<TenantId, VecDeque<T>>,
    /// The tenants with a row, in the order of their turns.
    order: VecDeque<TenantId>,
    working: BTreeMap<TenantId, usize>,
}

impl<T> Default for QuestionQueue<T> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), order: VecDeque::new(), working: BTreeMap::new() }
    }
}

impl<T> QuestionQueue<T> {
    /// Puts a question at the end of its tenant's queue; tells whether the queue had a free place.
    pub(super) fn push_question(&mut self, tenant: TenantId, question: T) -> bool {
        let row = self.rows.entry(tenant).or_default();
        if row.len() >= WAITING_MAX {
            return false;
        }
        if row.is_empty() {
            self.order.push_back(tenant);
        }
        row.push_back(question);
        true
    }

    /// How many questions may begin now, if there are workers for them.
    pub(super) fn ready_count(&self) -> usize {
        self.order.iter().filter(|tenant| self.may_begin(**tenant)).count()
    }

    /// Takes the next question that may begin.
    pub(super) fn next(&mut self) -> Option<T> {
        let place = self.order.iter().position(|tenant| self.may_begin(*tenant))?;
        let tenant = self.order.remove(place)?;
        let row = self.rows.get_mut(&tenant)?;
        let question = row.pop_front();
        if row.is_empty() {
            self.rows.remove(&tenant);
        } else {
            self.order.push_back(tenant);
        }
        *self.working.entry(tenant).or_default() += 1;
        question
    }

    /// Notes that a question of a tenant has its answer.
    pub(super) fn finish_question(&mut self, tenant: TenantId) {
        if let Some(count) = self.working.get_mut(&tenant) {
            *count -= 1;
            if *count == 0 {
                self.working.remove(&tenant);
            }
        }
    }

    fn may_begin(&self, tenant: TenantId) -> bool {
        let working: usize = self.working.values().sum();
        match self.working.get(&tenant) {
            None => working < WORKERS_MAX,
            Some(own) => *own < TENANT_WORKERS_MAX && working < WORKERS_MAX / 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: u8) -> TenantId {
        TenantId::from_bytes([number; 16])
    }

    #[test]
    fn tenants_take_turns_and_one_alone_has_its_share() {
        let mut turns = QuestionQueue::default();
        for number in [1, 1, 1, 2, 3] {
            assert!(turns.push_question(tenant(number), number));
        }
        let began: Vec<_> = std::iter::from_fn(|| turns.next()).collect();
        assert_eq!(began, [1, 2, 3, 1], "a second one comes behind the first of each other, and no third");
        turns.finish_question(tenant(1));
        assert_eq!(turns.next(), Some(1));
        let mut alone = QuestionQueue::default();
        assert!((0..3).all(|number| alone.push_question(tenant(1), number)));
        assert_eq!([alone.next(), alone.next(), alone.next()], [Some(0), Some(1), None]);
    }

    #[test]
    fn tenants_without_an_end_leave_a_worker_for_each_other() {
        let mut turns = QuestionQueue::default();
        for number in 1..=3 {
            for _ in 0..100 {
                assert!(turns.push_question(tenant(number), number));
            }
        }
        let held: Vec<_> = std::iter::from_fn(|| turns.next()).collect();
        assert_eq!(held, [1, 2, 3, 1], "half of all workers, and the rest for whoever has none");
        for number in 4..=7 {
            assert!(turns.push_question(tenant(number), number) && turns.ready_count() == 1);
            assert_eq!(turns.next(), Some(number));
        }
        assert!(turns.push_question(tenant(8), 8));
        assert_eq!((turns.ready_count(), turns.next()), (0, None), "all of them work");
        turns.finish_question(tenant(1));
        assert_eq!(turns.next(), Some(8));
    }

    #[test]
    fn a_row_has_a_bound_of_its_own() {
        let mut turns = QuestionQueue::default();
        let put = |turns: &mut QuestionQueue<usize>, number| {
            (0..=WAITING_MAX).filter(|n| turns.push_question(tenant(number), *n)).count()
        };
        assert_eq!([put(&mut turns, 1), put(&mut turns, 2)], [WAITING_MAX; 2]);
    }
}
