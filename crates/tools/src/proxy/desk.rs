//! The account of one program: what was asked for it and what was judged, how much may still go through.
//!
//! Invariant: what was asked of the line stands here before the line hears of it, so nothing reaches another host without
//! an entry; equal entries are one. When there are [`DECISIONS_MAX`] nothing more is asked.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dromia_contracts::egress::{Decision, Method};
use tokio::sync::Notify;

use super::Way;

/// The most different decisions of one program; those that are asked at the same time may come on top.
pub(super) const DECISIONS_MAX: usize = 64;

/// The most bytes that a program sends and gets, tunnels and requests together.
const BYTES_MAX: u64 = 256 << 20;

/// How a decision is called that nobody waited for.
const UNHEARD: &str = "asked; the program ended before it was answered";

/// What was judged for a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Each different decision once, in order.
    pub(crate) decisions: Vec<Decision>,
    /// How often something was let out.
    pub(crate) let_out: u64,
    /// How often something was refused.
    pub(crate) refused: u64,
    /// Whether the program used up what it may send and get.
    pub(crate) is_spent: bool,
}

/// The account of one program.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) way: Way,
    account: Mutex<Account>,
    /// Told when nothing is being asked any more.
    quiet: Notify,
}

#[derive(Debug, Default)]
struct Account {
    judged: Judged,
    /// What is being asked, by the number that it got.
    asking: Vec<(u64, Decision)>,
    next: u64,
    /// How many bytes went through.
    spent: u64,
    is_closed: bool,
}

/// Why nothing is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shut {
    /// The program is over.
    Over,
    /// It asked for too many different things.
    Full,
}

impl Desk {
    pub(super) fn new(way: Way) -> Self {
        Self { way, account: Mutex::default(), quiet: Notify::new() }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        // No code panics while it holds the lock.
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that something is about to be asked. `to` is its scheme, host and port.
    pub(super) fn begin(&self, method: Method, to: String) -> Result<u64, Shut> {
        let mut account = self.account();
        if account.is_closed {
            return Err(Shut::Over);
        }
        if account.judged.decisions.len() >= DECISIONS_MAX {
            return Err(Shut::Full);
        }
        let number = account.next;
        account.next += 1;
        // It may have been let out: that is what is said where nobody hears more.
        let decision = Decision { method, to, address: None, allowed: true, rule: UNHEARD.to_owned() };
        account.asking.push((number, decision));
        Ok(number)
    }

    /// Notes what was judged about it.
    pub(super) fn end(&self, number: u64, decisions: &[Decision]) {
        let mut account = self.account();
        account.asking.retain(|(asked, _)| *asked != number);
        for decision in decisions {
            account.judged.note(decision);
        }
        if account.asking.is_empty() {
            self.quiet.notify_waiters();
        }
    }

    /// Takes so many bytes off what may still go through.
    pub(super) fn spend(&self, bytes: usize) -> bool {
        let mut account = self.account();
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
        self.account().is_closed = true;
    }

    /// Waits until nothing is being asked.
    pub(super) async fn is_idle(&self) {
        loop {
            let quiet = self.quiet.notified();
            tokio::pin!(quiet);
            // Before the look, so that what ends in between is heard.
            quiet.as_mut().enable();
            if self.account().asking.is_empty() {
                return;
            }
            quiet.await;
        }
    }

    /// Tells what was judged, and of what is not answered that it was asked.
    pub(super) fn judged(&self) -> Judged {
        let account = self.account();
        let mut judged = account.judged.clone();
        for (_, decision) in &account.asking {
            judged.note(decision);
        }
        judged
    }
}

impl Judged {
    fn note(&mut self, decision: &Decision) {
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

    fn desk() -> Desk {
        Desk::new(Way { line: Arc::new(Told::default()), grants: Vec::new(), share: String::new() })
    }

    fn decision(to: usize, allowed: bool) -> Decision {
        let (method, rule) = (Method::Get, "a rule".to_owned());
        Decision { method, to: format!("http://h{to}:80"), address: None, allowed, rule }
    }

    #[test]
    fn equal_decisions_are_one_and_when_there_are_too_many_nothing_more_is_asked() {
        let desk = desk();
        for to in 0..DECISIONS_MAX {
            let asked = [0, 1].map(|_| desk.begin(Method::Get, String::new()).expect("there is room"));
            for number in asked {
                desk.end(number, &[decision(to, to.is_multiple_of(2))]);
            }
        }
        assert_eq!(desk.begin(Method::Get, String::new()), Err(Shut::Full));
        let judged = desk.judged();
        let half = DECISIONS_MAX as u64;
        assert_eq!((judged.let_out, judged.refused, judged.decisions.len()), (half, half, DECISIONS_MAX));
    }

    #[test]
    fn what_goes_through_is_bounded_and_the_bound_is_told() {
        let desk = desk();
        for _ in 0..BYTES_MAX >> 20 {
            assert!(desk.spend(1 << 20));
        }
        assert!(!desk.judged().is_spent);
        assert!(!desk.spend(1) && desk.judged().is_spent);
    }
}
