//! Which inputs of a session enter a turn together, by the policy that each names.
//!
//! Pure. Only plain messages of one author are joined: the rights and the typed words of a turn are those of one person, so
//! an input of another person gets a turn of its own, and so does one that brings tools, results or a directory along.
//! Nothing is passed over: what waits before an input enters with it.

use dromia_contracts::Actor;
use dromia_contracts::busy_policy::{BusyPolicy, JOINED_BYTES_MAX, JOINED_ITEMS_MAX};
use dromia_contracts::input::InputBody;
use dromia_contracts::session::{InboxItem, ItemKind};
use jiff::{SignedDuration, Timestamp};

/// How many waiting inputs are looked at.
pub(crate) const READ_MAX: usize = JOINED_ITEMS_MAX;

/// How long no further input may have come before collected ones are answered.
const QUIET: SignedDuration = SignedDuration::from_millis(1_500);

/// How long the oldest collected input waits at most.
const COLLECT_MAX: SignedDuration = SignedDuration::from_secs(10);

/// What the next turn of a free session takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextTurn {
    /// So many of the waiting inputs.
    Takes(usize),
    /// Nothing yet: more may come that is to be collected.
    WaitsUntil {
        /// When it takes what has come.
        until: Timestamp,
        /// How many have come.
        collected: usize,
    },
}

/// Counts the waiting inputs that join the running turn of an author: all up to the last one that steers.
pub(crate) fn count_steered(waiting: &[InboxItem], author: &Actor) -> usize {
    let joinable = joinable_policies(waiting, author);
    joinable.iter().rposition(|policy| *policy == BusyPolicy::Steer).map_or(0, |last| last + 1)
}

/// Decides what the next turn takes of what waits; there is at least one input.
pub(crate) fn next_turn(waiting: &[InboxItem], now: Timestamp) -> NextTurn {
    let Some(first) = waiting.first() else { return NextTurn::Takes(0) };
    let joinable = joinable_policies(waiting, &first.author);
    if let Some(last) = joinable.iter().rposition(|policy| *policy == BusyPolicy::Interrupt) {
        return NextTurn::Takes(last + 1);
    }
    let collected = joinable.iter().take_while(|policy| **policy == BusyPolicy::Collect).count();
    let Some(newest) = collected.checked_sub(1).and_then(|last| waiting.get(last)) else {
        return NextTurn::Takes(1);
    };
    // Another input waits behind them, or no more of them fit.
    let is_closed = waiting.len() > collected || collected == JOINED_ITEMS_MAX;
    let until = (newest.at + QUIET).min(first.at + COLLECT_MAX);
    // After a clock was set back, an input may come from the future; it is not waited for.
    if is_closed || now >= until || now < newest.at {
        return NextTurn::Takes(collected);
    }
    NextTurn::WaitsUntil { until, collected }
}

/// Lists the policies of the first waiting inputs that may share a turn of this author.
fn joinable_policies(waiting: &[InboxItem], author: &Actor) -> Vec<BusyPolicy> {
    let mut bytes = 0;
    let mut policies = Vec::new();
    for item in waiting.iter().take(JOINED_ITEMS_MAX) {
        let Some(body) = item.body.as_deref().filter(|_| item.kind == ItemKind::Input) else { break };
        bytes += body.len();
        let is_first = policies.is_empty();
        if item.author != *author || (bytes > JOINED_BYTES_MAX && !is_first) {
            break;
        }
        match InputBody::decode(body) {
            Ok(body) if body.is_plain() && body.message.author == *author => policies.push(body.when_busy),
            Ok(_) | Err(_) => break,
        }
    }
    policies
}

#[cfg(test)]
mod tests;
