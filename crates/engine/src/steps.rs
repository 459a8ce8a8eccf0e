//! A pool of steps: short work that a processor and the store do, and that waits for nothing outside.
//!
//! A tenant that works alone takes as many steps at a time as keep the processor and the store busy; more would wait there and not
//! here. Where other tenants worked lately, all of them share far fewer: each has an equal part, and one at least. So a tenant
//! that comes finds a few steps of another before it, and not all that the other has to do. More tenants than steps have one each.
//!
//! Of one tenant, runs that are under way go before what is new, three of four times: what has begun holds a slot of a run, and is
//! answered sooner if nothing more begins meanwhile.
//!
//! A step is held across a wait for the store, which needs no step to answer, and never across a wait for a model, a tool or a
//! person. Runs and requests have bounds of their own, so what waits here has one too.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use dromia_contracts::TenantId;

/// How long a tenant counts after its last step; twice as long at most.
const RECENT: Duration = Duration::from_secs(10);

/// How many steps of runs that are under way pass what is new.
const PASSED_MAX: usize = 3;

/// What a step is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// A run that is under way.
    UnderWay,
    /// An input, a signal to a run, or what waits for a run.
    New,
}

/// The steps of a server; clones are handles to the same ones.
#[derive(Debug, Clone)]
pub struct StepPool {
    state: Arc<Mutex<StepState>>,
}

#[derive(Debug)]
struct StepState {
    /// How many steps a tenant takes that works alone.
    alone: usize,
    /// How many steps tenants share.
    shared: usize,
    /// Those that worked lately, hold a step or wait for one.
    tenants: HashMap<TenantId, TenantSteps>,
    /// Wakers of what waits, and steps on their way to it.
    places: HashMap<u64, StepPlace>,
    next_place: u64,
    /// When tenants that rest were forgotten last.
    forgot_at: Duration,
}

#[derive(Debug, Default)]
struct TenantSteps {
    held: usize,
    /// When it began a step last.
    began_at: Duration,
    under_way: VecDeque<u64>,
    new: VecDeque<u64>,
    /// How many of those under way passed what is new, since the last of it.
    passed: usize,
}

impl TenantSteps {
    fn is_waiting(&self) -> bool {
        !self.under_way.is_empty() || !self.new.is_empty()
    }

    fn waiting_line(&mut self, kind: StepKind) -> &mut VecDeque<u64> {
        match kind {
            StepKind::UnderWay => &mut self.under_way,
            StepKind::New => &mut self.new,
        }
    }

    /// Takes who is next in line.
    fn next_in_line(&mut self) -> Option<u64> {
        let is_new_next = self.under_way.is_empty() || self.passed >= PASSED_MAX;
        if is_new_next && let Some(place) = self.new.pop_front() {
            self.passed = 0;
            return Some(place);
        }
        self.passed = if self.new.is_empty() { 0 } else { self.passed + 1 };
        self.under_way.pop_front()
    }
}

#[derive(Debug)]
enum StepPlace {
    Waits(Waker),
    HasStep,
}

/// A step of a tenant, over when it is dropped.
#[derive(Debug)]
#[must_use = "a step that is dropped is over"]
pub struct StepPermit {
    pool: StepPool,
    tenant: TenantId,
}

impl Drop for StepPermit {
    fn drop(&mut self) {
        self.pool.end_step(self.tenant);
    }
}

impl StepPool {
    /// Makes a pool in which a tenant that works alone takes so many steps, and tenants that work at the same time share so many.
    pub fn new(alone: usize, shared: usize) -> Self {
        let state = StepState {
            alone: alone.max(1),
            shared: shared.max(1),
            tenants: HashMap::new(),
            places: HashMap::new(),
            next_place: 0,
            forgot_at: Duration::ZERO,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Begins a step, in the tenant's turn. The time is that since a fixed moment.
    pub fn begin_step(&self, tenant: TenantId, kind: StepKind, now: Duration) -> StepWait {
        StepWait { pool: self.clone(), tenant, kind, now, place: None }
    }

    /// Counts the steps that a tenant takes.
    #[cfg(test)]
    pub fn held_by(&self, tenant: TenantId) -> usize {
        self.lock().tenants.get(&tenant).map_or(0, |steps| steps.held)
    }

    fn new_permit(&self, tenant: TenantId) -> StepPermit {
        StepPermit { pool: self.clone(), tenant }
    }

    fn end_step(&self, tenant: TenantId) {
        let mut state = self.lock();
        if let Some(steps) = state.tenants.get_mut(&tenant) {
            steps.held = steps.held.saturating_sub(1);
        }
        let woken = state.hand_out(tenant);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, StepState> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StepState {
    /// Begins a step, if nothing of the tenant waits and it has room.
    fn try_begin_step(&mut self, tenant: TenantId, now: Duration) -> bool {
        if now.saturating_sub(self.forgot_at) >= RECENT {
            self.forgot_at = now;
            self.tenants.retain(|_, steps| {
                steps.held > 0 || steps.is_waiting() || now.saturating_sub(steps.began_at) < RECENT
            });
        }
        self.tenants.entry(tenant).or_default().began_at = now;
        let part = self.tenant_part();
        let steps = self.tenants.entry(tenant).or_default();
        let has_room = !steps.is_waiting() && steps.held < part;
        if has_room {
            steps.held += 1;
        }
        has_room
    }

    /// How many steps a tenant may take now.
    fn tenant_part(&self) -> usize {
        if self.tenants.len() < 2 { self.alone } else { (self.shared / self.tenants.len()).max(1) }
    }

    /// Hands a tenant as many steps as it has room for, and returns who is to be woken.
    fn hand_out(&mut self, tenant: TenantId) -> Vec<Waker> {
        let part = self.tenant_part();
        let mut woken = Vec::new();
        let Some(steps) = self.tenants.get_mut(&tenant) else { return woken };
        while steps.held < part
            && let Some(place) = steps.next_in_line()
        {
            steps.held += 1;
            if let Some(StepPlace::Waits(waker)) = self.places.insert(place, StepPlace::HasStep) {
                woken.push(waker);
            }
        }
        woken
    }
}

/// Waits for a step. Dropped, it leaves the line.
#[derive(Debug)]
#[must_use = "it does nothing until it is awaited"]
pub struct StepWait {
    pool: StepPool,
    tenant: TenantId,
    kind: StepKind,
    now: Duration,
    /// Its place in line, once it is there.
    place: Option<u64>,
}

impl Future for StepWait {
    type Output = StepPermit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StepPermit> {
        let (pool, tenant, kind) = (self.pool.clone(), self.tenant, self.kind);
        let mut state = pool.lock();
        let Some(place) = self.place else {
            if state.try_begin_step(tenant, self.now) {
                return Poll::Ready(pool.new_permit(tenant));
            }
            let place = state.next_place;
            state.next_place += 1;
            state.places.insert(place, StepPlace::Waits(cx.waker().clone()));
            state.tenants.entry(tenant).or_default().waiting_line(kind).push_back(place);
            self.place = Some(place);
            return Poll::Pending;
        };
        if let Some(StepPlace::Waits(waker)) = state.places.get_mut(&place) {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        state.places.remove(&place);
        self.place = None;
        Poll::Ready(pool.new_permit(tenant))
    }
}

impl Drop for StepWait {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut state = self.pool.lock();
        match state.places.remove(&place) {
            Some(StepPlace::Waits(_)) => {
                if let Some(steps) = state.tenants.get_mut(&self.tenant) {
                    steps.waiting_line(self.kind).retain(|waiting| *waiting != place);
                }
            }
            Some(StepPlace::HasStep) => {
                drop(state);
                self.pool.end_step(self.tenant);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
