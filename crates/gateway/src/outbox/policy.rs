//! What is done with a delivery, decided from what is known of it. Nothing here touches anything.

use std::time::Duration;

use dromia_contracts::Digest;
use dromia_contracts::delivery::{
    AttemptEnd, AttemptOutcome, DETAIL_BYTES_MAX, DeadReason, Delivery, DeliveryState,
};
use jiff::{SignedDuration, Timestamp};

use super::post::Posted;
use crate::channel::Channel;

/// The oldest message that is kept for a channel which nobody configured.
pub(crate) const ORPHAN_AGE_MAX: Duration = Duration::from_hours(72);

/// The life of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) holder: Digest,
    pub(crate) began_at: Timestamp,
}

/// What to do with the first open delivery of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Somebody is at work on it, or nothing is to be done.
    Rest,
    /// Look again at a time.
    Wait(Timestamp),
    /// Give it up.
    Drop(DeadReason),
    /// An earlier life began an attempt and died before its outcome.
    Interrupted,
    /// Begin an attempt.
    Send,
}

/// Decides about the first open delivery of a target. `excess` says how many more lie there than a start sends.
pub(crate) fn step(
    now: Timestamp,
    life: Life,
    delivery: &Delivery,
    channel: Option<&Channel>,
    excess: u64,
) -> Step {
    match delivery.state {
        DeliveryState::Sending if delivery.holder == Some(life.holder) => return Step::Rest,
        DeliveryState::Sending => return Step::Interrupted,
        DeliveryState::Delivered | DeliveryState::Dead | DeliveryState::UnknownAfterSend => {
            return Step::Rest;
        }
        DeliveryState::Prepared | DeliveryState::Failed => {}
    }
    let ends_at = later(delivery.since, channel.map_or(ORPHAN_AGE_MAX, |channel| channel.age_max));
    if ends_at <= now {
        return Step::Drop(DeadReason::Expired);
    }
    let Some(channel) = channel else { return Step::Wait(ends_at) };
    if excess > 0 && delivery.since < life.began_at {
        return Step::Drop(DeadReason::Backlog);
    }
    if delivery.attempts.saturating_sub(delivery.spent) >= channel.attempts_max {
        return Step::Drop(DeadReason::Attempts);
    }
    // A pause longer than any that is made means that the clock was set back.
    let is_due = delivery.due_at <= now || delivery.due_at > later(now, channel.backoff_max);
    if is_due { Step::Send } else { Step::Wait(delivery.due_at.min(ends_at)) }
}

/// What an attempt comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) end: AttemptEnd,
    pub(crate) state: DeliveryState,
    pub(crate) reason: Option<DeadReason>,
    pub(crate) due_at: Timestamp,
}

/// Decides what an attempt comes to. `delivery` is as it was before the attempt, `chance` any number.
pub(crate) fn settle(
    now: Timestamp,
    delivery: &Delivery,
    channel: &Channel,
    posted: &Posted,
    chance: u64,
) -> Settled {
    let tried = delivery.attempts.saturating_add(1).saturating_sub(delivery.spent);
    let (outcome, status, detail) = match posted {
        Posted::Answered { status: status @ 200..=299, .. } => {
            (AttemptOutcome::Accepted, Some(*status), format!("the receiver answered {status}"))
        }
        Posted::Answered { status, .. } => {
            (AttemptOutcome::Refused, Some(*status), format!("the receiver answered {status}"))
        }
        Posted::NotSent { cause } => (AttemptOutcome::NotSent, None, format!("not sent: {cause}")),
        Posted::Unanswered { cause } => (AttemptOutcome::Unanswered, None, format!("no answer: {cause}")),
    };
    let end = AttemptEnd { at: now, outcome, status, detail: cut(detail) };
    let asked = match posted {
        Posted::Answered { retry_after, .. } => *retry_after,
        Posted::NotSent { .. } | Posted::Unanswered { .. } => None,
    };
    let pause = pause(channel, tried, asked, chance);
    let retried = || again(now, tried, channel, pause);
    let (state, reason, due_at) = match (outcome, channel.idempotent) {
        (AttemptOutcome::Accepted, _) => (DeliveryState::Delivered, None, now),
        (AttemptOutcome::Refused, _) if status == Some(410) => {
            (DeliveryState::Dead, Some(DeadReason::Gone), now)
        }
        (AttemptOutcome::NotSent, _) | (AttemptOutcome::Refused | AttemptOutcome::Unanswered, true) => {
            retried()
        }
        // It has seen the message once, and would count it twice.
        (AttemptOutcome::Refused, false) => (DeliveryState::Dead, Some(DeadReason::Refused), now),
        (AttemptOutcome::Unanswered, false) | (AttemptOutcome::Interrupted, _) => {
            (DeliveryState::UnknownAfterSend, None, now)
        }
    };
    Settled { end, state, reason, due_at }
}

/// Decides what an attempt comes to that an earlier life began. `delivery` is as that life left it.
pub(crate) fn interrupted(now: Timestamp, delivery: &Delivery, channel: Option<&Channel>) -> Settled {
    let detail = "the server ended before the outcome was known".to_owned();
    let end = AttemptEnd { at: now, outcome: AttemptOutcome::Interrupted, status: None, detail };
    let tried = delivery.attempts.saturating_sub(delivery.spent);
    let (state, reason, due_at) = match channel {
        Some(channel) if channel.idempotent => again(now, tried, channel, Duration::ZERO),
        // Nobody can say what the receiver of a channel takes that is not there any more.
        Some(_) | None => (DeliveryState::UnknownAfterSend, None, now),
    };
    Settled { end, state, reason, due_at }
}

fn again(
    now: Timestamp,
    tried: u32,
    channel: &Channel,
    pause: Duration,
) -> (DeliveryState, Option<DeadReason>, Timestamp) {
    if tried >= channel.attempts_max {
        (DeliveryState::Dead, Some(DeadReason::Attempts), now)
    } else {
        (DeliveryState::Failed, None, later(now, pause))
    }
}

/// The pause after so many attempts: it doubles, has an end, and lies by chance between its half and its whole, so that
/// what failed together does not come again together. What a receiver asks for counts within that end.
fn pause(channel: &Channel, tried: u32, asked: Option<Duration>, chance: u64) -> Duration {
    let doubled = channel.backoff.saturating_mul(2_u32.saturating_pow(tried.saturating_sub(1).min(31)));
    let whole = u64::try_from(doubled.min(channel.backoff_max).as_millis()).unwrap_or(u64::MAX);
    let half = whole / 2;
    let jittered = Duration::from_millis(half + chance % (whole - half + 1));
    jittered.max(asked.unwrap_or_default()).min(channel.backoff_max)
}

/// A time so much later; the end of the calendar where there is none.
pub(crate) fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn cut(mut detail: String) -> String {
    let mut end = detail.len().min(DETAIL_BYTES_MAX);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    detail.truncate(end);
    detail
}

#[cfg(test)]
mod tests;
