//! Which inputs of a session enter a turn together, by the policy that each names.
//!
//! Conclusions of branches and workers enter together, with the input behind them: they give a turn words and no rights. One
//! that is superseded, or comes after too many turns that conclusions began, waits for that input.
//!
//! Pure. Only plain messages of one author are joined: the rights and the typed words of a turn are those of one person, so
//! an input of another person gets a turn of its own, and so does one that brings tools, results or a directory along.
//! Nothing is passed over: what waits before an input enters with it.

use dromia_contracts::Actor;
use dromia_contracts::busy_policy::{BusyPolicy, JOINED_BYTES_MAX, JOINED_ITEMS_MAX};
use dromia_contracts::conclusion::{ConclusionBody, TAKEN_MAX};
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
    /// Nothing: the conclusions that wait begin no turn.
    Rests,
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
pub(crate) fn next_turn(waiting: &[InboxItem], now: Timestamp, may_wake: bool) -> NextTurn {
    let concluded =
        waiting.iter().take(TAKEN_MAX).take_while(|item| item.kind == ItemKind::Conclusion).count();
    let (conclusions, inputs) = waiting.split_at(concluded);
    if conclusions.is_empty() {
        return next_inputs(waiting, now);
    }
    if inputs.first().is_some_and(is_plain_input) {
        return match next_inputs(inputs, now) {
            NextTurn::Takes(count) => NextTurn::Takes(concluded + count),
            NextTurn::WaitsUntil { until, collected } => {
                NextTurn::WaitsUntil { until, collected: concluded + collected }
            }
            NextTurn::Rests => NextTurn::Rests,
        };
    }
    let wakes = |item: &InboxItem| {
        let body = item.body.as_deref().and_then(|body| ConclusionBody::decode(body).ok());
        body.is_some_and(|body| body.wakes())
    };
    // What waits behind them must not wait for ever.
    let takes = !inputs.is_empty() || concluded == TAKEN_MAX || (may_wake && conclusions.iter().any(wakes));
    if takes { NextTurn::Takes(concluded) } else { NextTurn::Rests }
}

/// Returns whether an item is a message that may enter a turn beside others.
fn is_plain_input(item: &InboxItem) -> bool {
    let body = item.body.as_deref().filter(|_| item.kind == ItemKind::Input);
    body.is_some_and(|body| InputBody::decode(body).is_ok_and(|body| body.is_plain()))
}

/// Decides what the next turn takes of the inputs that wait.
fn next_inputs(waiting: &[InboxItem], now: Timestamp) -> NextTurn {
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
        let kinds = [ItemKind::Input, ItemKind::Conclusion];
        let Some(body) = item.body.as_deref().filter(|_| kinds.contains(&item.kind)) else { break };
        bytes += body.len();
        let is_first = policies.is_empty();
        if item.kind == ItemKind::Conclusion && (bytes <= JOINED_BYTES_MAX || is_first) {
            policies.push(BusyPolicy::FollowUp);
            continue;
        }
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
