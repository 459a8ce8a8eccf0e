//! The lease of this life of the process, and which other lives hold one.
//!
//! The janitor renews the lease and reads the others. This engine leaves alone what another living process holds, whatever its
//! own memory says; once that lease has ended, the scan for lost runs finds what it held.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dromia_contracts::lease::NodeLife;
use dromia_contracts::store::ReadError;
use dromia_contracts::{Digest, OperatorScope};

use crate::ports::EnginePorts;

/// How long a lease lasts beyond its last renewal. A janitor that comes late twice keeps it.
const LEASE_TIME: Duration = Duration::from_secs(15);
/// The time from one renewal to the next.
const RENEWAL_PAUSE: Duration = Duration::from_secs(3);

/// What the last look found.
#[derive(Debug, Default)]
struct LeaseLook {
    /// When to renew and look again, by the steady clock.
    next_at: Duration,
    /// The other lives that held a lease.
    others: BTreeSet<Digest>,
}

/// What a renewal means for the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseChange {
    /// Nothing changed.
    Unchanged,
    /// The lease of another life has ended: what it held is lost.
    OtherEnded,
    /// Another life of this node began.
    Replaced,
}

/// The lease of this life.
#[derive(Debug)]
pub(crate) struct NodeLease {
    life: Arc<NodeLife>,
    has_begun: AtomicBool,
    is_replaced: AtomicBool,
    look: Mutex<LeaseLook>,
}

impl NodeLease {
    /// Names this life; it holds no lease yet.
    pub(crate) fn new(life: Arc<NodeLife>) -> Self {
        let (has_begun, is_replaced) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { life, has_begun, is_replaced, look: Mutex::default() }
    }

    /// Returns the holder of what this process does.
    pub(crate) fn holder(&self) -> Digest {
        self.life.life
    }

    /// Tells whether a holder was another life with a lease at the last look. The store has the last word.
    pub(crate) fn is_held_elsewhere(&self, holder: Option<Digest>) -> bool {
        holder.is_some_and(|holder| self.lock_look().others.contains(&holder))
    }

    /// Tells whether no other life held a lease at the last look.
    pub(crate) fn is_alone(&self) -> bool {
        self.lock_look().others.is_empty()
    }

    /// Begins or renews the lease and looks at the others, if it is time to.
    pub(crate) async fn keep_if_due(
        &self,
        ports: &EnginePorts,
        operator: &OperatorScope,
    ) -> Result<LeaseChange, ReadError> {
        let now = ports.runtime.clock.monotonic_now();
        if now < self.lock_look().next_at || self.is_replaced.load(Ordering::Acquire) {
            return Ok(LeaseChange::Unchanged);
        }
        if self.has_begun.load(Ordering::Acquire) {
            if !ports.store.renew_life(operator, &self.life, LEASE_TIME).await? {
                self.is_replaced.store(true, Ordering::Release);
                return Ok(LeaseChange::Replaced);
            }
        } else {
            ports.store.begin_life(operator, &self.life, LEASE_TIME).await?;
            self.has_begun.store(true, Ordering::Release);
        }
        let living = ports.store.living_lives(operator).await?;
        let others: BTreeSet<_> =
            living.into_iter().map(|life| life.life).filter(|life| *life != self.holder()).collect();
        let mut look = self.lock_look();
        look.next_at = now + RENEWAL_PAUSE;
        let has_one_ended = !look.others.is_subset(&others);
        look.others = others;
        Ok(if has_one_ended { LeaseChange::OtherEnded } else { LeaseChange::Unchanged })
    }

    fn lock_look(&self) -> MutexGuard<'_, LeaseLook> {
        // It holds no invariant that a panic could break.
        self.look.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
