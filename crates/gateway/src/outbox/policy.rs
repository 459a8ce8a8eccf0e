//! What is done with a delivery, decided from what is known of it. Nothing here touches anything.

use std::time::Duration;

use dromia_contracts::Digest;
use dromia_contracts::clock::ClockStep;
use dromia_contracts::delivery::{
    AttemptEnd, AttemptOutcome, DETAIL_BYTES_MAX, DeadReason, DeliveryState, DeliverySummary,
};
use jiff::{SignedDuration, Timestamp};

use super::http_client::WebhookOutcome;
use crate::channel::WebhookChannel;

/// The oldest message that is kept for a channel that is not configured.
pub(crate) const ORPHAN_AGE_MAX: Duration = Duration::from_hours(72);

/// The life of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessLife {
    pub(crate) holder: Digest,
    pub(crate) began_at: Timestamp,
}

/// How far the wall clock was set ahead in this life of the process.
///
/// A message that waited while that happened expires so much later: a receiver could not have taken it during a step of
/// the clock. A step back takes from what is known of steps ahead, so a clock that goes to and fro adds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ClockJumps {
    /// By how much.
    ahead: Duration,
    /// The clock's time before the last step; newer messages met no step.
    before: Option<Timestamp>,
}

impl ClockJumps {
    /// Notes a step; tells whether it was one ahead.
    pub(crate) fn note_step(&mut self, step: ClockStep) -> bool {
        let by = step.by.unsigned_abs();
        if step.is_back() {
            self.ahead = self.ahead.saturating_sub(by);
            return false;
        }
        (self.ahead, self.before) = (self.ahead.saturating_add(by), Some(step.before));
        true
    }

    /// When a message expires that waits since then.
    fn expires_at(self, since: Timestamp, age_max: Duration) -> Timestamp {
        let met = self.before.is_some_and(|before| since <= before);
        saturating_later(since, age_max.saturating_add(if met { self.ahead } else { Duration::ZERO }))
    }
}

/// What to do with the first open delivery of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryStep {
    /// An attempt is at work, or nothing is to be done.
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
pub(crate) fn decide_step(
    now: Timestamp,
    life: ProcessLife,
    delivery: &DeliverySummary,
    channel: Option<&WebhookChannel>,
    excess: u64,
    jumps: ClockJumps,
) -> DeliveryStep {
    match delivery.state {
        DeliveryState::Sending if delivery.holder == Some(life.holder) => return DeliveryStep::Rest,
        DeliveryState::Sending => return DeliveryStep::Interrupted,
        DeliveryState::Delivered | DeliveryState::Dead | DeliveryState::UnknownAfterSend => {
            return DeliveryStep::Rest;
        }
        DeliveryState::Prepared | DeliveryState::Failed => {}
    }
    let ends_at = jumps.expires_at(delivery.since, channel.map_or(ORPHAN_AGE_MAX, |channel| channel.age_max));
    if ends_at <= now {
        return DeliveryStep::Drop(DeadReason::Expired);
    }
    let Some(channel) = channel else { return DeliveryStep::Wait(ends_at) };
    if excess > 0 && delivery.since < life.began_at {
        return DeliveryStep::Drop(DeadReason::Backlog);
    }
    if delivery.attempts.saturating_sub(delivery.spent) >= channel.attempts_max {
        return DeliveryStep::Drop(DeadReason::Attempts);
    }
    // A pause longer than any that is made means that the clock was set back.
    let is_due = delivery.due_at <= now || delivery.due_at > saturating_later(now, channel.backoff_max);
    if is_due { DeliveryStep::Send } else { DeliveryStep::Wait(delivery.due_at.min(ends_at)) }
}

/// What an attempt comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttemptSettlement {
    pub(crate) end: AttemptEnd,
    pub(crate) state: DeliveryState,
    pub(crate) reason: Option<DeadReason>,
    pub(crate) due_at: Timestamp,
}

/// Decides what an attempt comes to. `delivery` is as it was before the attempt, `chance` any number.
pub(crate) fn settle_attempt(
    now: Timestamp,
    delivery: &DeliverySummary,
    channel: &WebhookChannel,
    posted: &WebhookOutcome,
    chance: u64,
) -> AttemptSettlement {
    let tried = delivery.attempts.saturating_add(1).saturating_sub(delivery.spent);
    let (outcome, status, detail) = match posted {
        WebhookOutcome::Answered { status: status @ 200..=299, .. } => {
            (AttemptOutcome::Accepted, Some(*status), format!("the receiver answered {status}"))
        }
        WebhookOutcome::Answered { status, .. } => {
            (AttemptOutcome::Refused, Some(*status), format!("the receiver answered {status}"))
        }
        WebhookOutcome::NotSent { cause } => (AttemptOutcome::NotSent, None, format!("not sent: {cause}")),
        WebhookOutcome::Unanswered { cause } => {
            (AttemptOutcome::Unanswered, None, format!("no response: {cause}"))
        }
    };
    let end = AttemptEnd { at: now, outcome, status, detail: truncate_detail(detail) };
    let asked = match posted {
        WebhookOutcome::Answered { retry_after, .. } => *retry_after,
        WebhookOutcome::NotSent { .. } | WebhookOutcome::Unanswered { .. } => None,
    };
    let pause = retry_delay(channel, tried, asked, chance);
    let retried = || retry_or_give_up(now, tried, channel, pause);
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
    AttemptSettlement { end, state, reason, due_at }
}

/// Decides what an attempt comes to that an earlier life began. `delivery` is as that life left it.
pub(crate) fn settle_interrupted(
    now: Timestamp,
    delivery: &DeliverySummary,
    channel: Option<&WebhookChannel>,
) -> AttemptSettlement {
    let detail = "the server ended before the outcome was known".to_owned();
    let end = AttemptEnd { at: now, outcome: AttemptOutcome::Interrupted, status: None, detail };
    let tried = delivery.attempts.saturating_sub(delivery.spent);
    let (state, reason, due_at) = match channel {
        Some(channel) if channel.idempotent => retry_or_give_up(now, tried, channel, Duration::ZERO),
        // What the receiver of a removed channel takes is not known.
        Some(_) | None => (DeliveryState::UnknownAfterSend, None, now),
    };
    AttemptSettlement { end, state, reason, due_at }
}

fn retry_or_give_up(
    now: Timestamp,
    tried: u32,
    channel: &WebhookChannel,
    pause: Duration,
) -> (DeliveryState, Option<DeadReason>, Timestamp) {
    if tried >= channel.attempts_max {
        (DeliveryState::Dead, Some(DeadReason::Attempts), now)
    } else {
        (DeliveryState::Failed, None, saturating_later(now, pause))
    }
}

/// The pause after so many attempts: it doubles, has an end, and lies by chance between its half and its whole, so that
/// what failed together does not come again together. What a receiver asks for counts within that end.
fn retry_delay(channel: &WebhookChannel, tried: u32, asked: Option<Duration>, chance: u64) -> Duration {
    let doubled = channel.backoff.saturating_mul(2_u32.saturating_pow(tried.saturating_sub(1).min(31)));
    let whole = u64::try_from(doubled.min(channel.backoff_max).as_millis()).unwrap_or(u64::MAX);
    let half = whole / 2;
    let jittered = Duration::from_millis(half + chance % (whole - half + 1));
    jittered.max(asked.unwrap_or_default()).min(channel.backoff_max)
}

/// A time so much later; the end of the calendar where there is none.
pub(crate) fn saturating_later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The time that is left until then.
pub(crate) fn time_left(now: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default()
}

fn truncate_detail(mut detail: String) -> String {
    let mut end = detail.len().min(DETAIL_BYTES_MAX);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    detail.truncate(end);
    detail
}

#[cfg(test)]
mod tests;
