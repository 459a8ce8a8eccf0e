//! The account of one program: what was asked for it and what was judged, how much may still go through.
//!
//! Invariant: a request is in the account before the egress client gets it, so nothing reaches another host without
//! an entry; equal entries are one. When there are [`DECISIONS_MAX`] nothing more is asked.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dromia_contracts::egress::{EgressDecision, EgressFault, HttpMethod};
use tokio::sync::Notify;

use super::ProxyUpstream;

/// The most different decisions of one program; those that are asked at the same time may come on top.
pub(super) const DECISIONS_MAX: usize = 64;

/// The most bytes that a program sends and gets, tunnels and requests together.
const BYTES_MAX: u64 = 256 << 20;

/// A decision shows this in place of a rule if its answer did not come before the program ended.
const UNHEARD: &str = "sent; the program ended before the answer";

/// What was judged for a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProxyDecisions {
    /// Each different decision once, in order.
    pub(crate) decisions: Vec<EgressDecision>,
    /// How often something was let out.
    pub(crate) let_out: u64,
    /// How often something was refused.
    pub(crate) refused: u64,
    /// Whether the program used up what it may send and get.
    pub(crate) is_spent: bool,
}

/// The account of one program.
#[derive(Debug)]
pub(super) struct ProxySession {
    pub(super) way: ProxyUpstream,
    account: Mutex<SessionAccount>,
    /// Notified when nothing is being asked any more.
    quiet: Notify,
}

#[derive(Debug, Default)]
struct SessionAccount {
    judged: ProxyDecisions,
    /// What is being asked, by the number that it got.
    asking: Vec<(u64, EgressDecision)>,
    next: u64,
    /// How many bytes went through.
    spent: u64,
    is_closed: bool,
}

/// What ended a connection before its time: the program hears no more.
pub(super) struct BrokenConnection;

/// Why nothing is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionDenial {
    /// The program is over.
    Over,
    /// It asked for too many different things.
    Full,
}

impl ProxySession {
    pub(super) fn new(way: ProxyUpstream) -> Self {
        Self { way, account: Mutex::default(), quiet: Notify::new() }
    }

    fn lock_account(&self) -> MutexGuard<'_, SessionAccount> {
        // No code panics while it holds the lock.
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that something is about to be asked. `to` is its scheme, host and port.
    pub(super) fn begin_request(&self, method: HttpMethod, to: String) -> Result<u64, SessionDenial> {
        let mut account = self.lock_account();
        if account.is_closed {
            return Err(SessionDenial::Over);
        }
        if account.judged.decisions.len() >= DECISIONS_MAX {
            return Err(SessionDenial::Full);
        }
        let number = account.next;
        account.next += 1;
        // It may have been let out: the decision says so unless an answer replaces it.
        let decision = EgressDecision { method, to, address: None, allowed: true, rule: UNHEARD.to_owned() };
        account.asking.push((number, decision));
        Ok(number)
    }

    /// Notes what was judged about it.
    pub(super) fn end_request(&self, number: u64, decisions: &[EgressDecision]) {
        let mut account = self.lock_account();
        account.asking.retain(|(asked, _)| *asked != number);
        for decision in decisions {
            account.judged.note_decision(decision);
        }
        if account.asking.is_empty() {
            self.quiet.notify_waiters();
        }
    }

    /// Notes why something that was let out was cut off, if a rule did that.
    pub(super) fn note_broken(&self, method: HttpMethod, to: &str, fault: EgressFault) -> BrokenConnection {
        if let EgressFault::Refused { rule, .. } = fault {
            let decision = EgressDecision { method, to: to.to_owned(), address: None, allowed: false, rule };
            self.lock_account().judged.note_decision(&decision);
        }
        BrokenConnection
    }

    /// Takes so many bytes off what may still go through.
    pub(super) fn try_spend(&self, bytes: usize) -> bool {
        let mut account = self.lock_account();
        let spent = account.spent.saturating_add(bytes as u64);
        if spent > BYTES_MAX {
            account.judged.is_spent = true;
            return false;
        }
        account.spent = spent;
        true
    }

    /// Lets nothing more begin.
    pub(super) fn close(&self) {
        self.lock_account().is_closed = true;
    }

    /// Waits until nothing is being asked.
    pub(super) async fn is_idle(&self) {
        loop {
            let quiet = self.quiet.notified();
            tokio::pin!(quiet);
            // Before the look, so that what ends in between is heard.
            quiet.as_mut().enable();
            if self.lock_account().asking.is_empty() {
                return;
            }
            quiet.await;
        }
    }

    /// Returns what was judged, with each request that is not answered yet.
    pub(super) fn decisions_so_far(&self) -> ProxyDecisions {
        let account = self.lock_account();
        let mut judged = account.judged.clone();
        for (_, decision) in &account.asking {
            judged.note_decision(decision);
        }
        judged
    }
}

impl ProxyDecisions {
    fn note_decision(&mut self, decision: &EgressDecision) {
        if decision.allowed {
            self.let_out += 1;
        } else {
            self.refused += 1;
        }
        if !self.decisions.contains(decision) {
            self.decisions.push(decision.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::Told;
    use super::*;

    fn desk() -> ProxySession {
        ProxySession::new(ProxyUpstream {
            line: Arc::new(Told::default()),
            grants: Vec::new(),
            share: String::new(),
        })
    }

    fn decision(to: usize, allowed: bool) -> EgressDecision {
        let (method, rule) = (HttpMethod::Get, "a rule".to_owned());
        EgressDecision { method, to: format!("http://h{to}:80"), address: None, allowed, rule }
    }

    #[test]
    fn equal_decisions_merge_and_too_many_stop_further_requests() {
        let desk = desk();
        for to in 0..DECISIONS_MAX {
            let asked =
                [0, 1].map(|_| desk.begin_request(HttpMethod::Get, String::new()).expect("there is room"));
            for number in asked {
                desk.end_request(number, &[decision(to, to.is_multiple_of(2))]);
            }
        }
        assert_eq!(desk.begin_request(HttpMethod::Get, String::new()), Err(SessionDenial::Full));
        let judged = desk.decisions_so_far();
        let half = DECISIONS_MAX as u64;
        assert_eq!((judged.let_out, judged.refused, judged.decisions.len()), (half, half, DECISIONS_MAX));
    }

    #[test]
    fn proxied_bytes_are_bounded_and_the_end_is_recorded() {
        let desk = desk();
        for _ in 0..BYTES_MAX >> 20 {
            assert!(desk.try_spend(1 << 20));
        }
        assert!(!desk.decisions_so_far().is_spent);
        assert!(!desk.try_spend(1) && desk.decisions_so_far().is_spent);
    }
}
