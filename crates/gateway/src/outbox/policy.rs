//! What is done with a delivery, decided from what is known of it. Nothing here touches anything.

use std::time::Duration;

use dromia_contracts::Digest;
use dromia_contracts::channel::{DeliveryClass, DeliveryOutcome, ReceiverAnswer};
use dromia_contracts::clock::ClockStep;
use dromia_contracts::delivery::{
    AttemptEnd, AttemptOutcome, DETAIL_BYTES_MAX, DeadReason, DeliveryState, DeliverySummary,
};
use jiff::{SignedDuration, Timestamp};

use crate::channel::DeliveryTerms;

/// The oldest message that is kept for a channel that is not configured.
pub(crate) const ORPHAN_AGE_MAX: Duration = Duration::from_hours(72);

/// How far the clock may be set back without an effect on pauses.
const CLOCK_SLACK: Duration = Duration::from_secs(5);

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
    /// A life whose lease has ended began an attempt, and left no outcome.
    Interrupted,
    /// Begin an attempt.
    Send,
}

/// When an attempt of another living process is looked at again.
const HELD_LOOK: Duration = Duration::from_secs(2);

/// Decides about the first open delivery of a target. `excess` says how many more lie there than a start sends, `held_elsewhere`
/// whether another living process began its attempt.
pub(crate) fn decide_step(
    now: Timestamp,
    life: ProcessLife,
    delivery: &DeliverySummary,
    terms: Option<DeliveryTerms>,
    (excess, held_elsewhere): (u64, bool),
    jumps: ClockJumps,
) -> DeliveryStep {
    match delivery.state {
        DeliveryState::Sending if delivery.holder == Some(life.holder) => return DeliveryStep::Rest,
        DeliveryState::Sending if held_elsewhere => {
            return DeliveryStep::Wait(saturating_later(now, HELD_LOOK));
        }
        DeliveryState::Sending => return DeliveryStep::Interrupted,
        DeliveryState::Delivered | DeliveryState::Dead | DeliveryState::UnknownAfterSend => {
            return DeliveryStep::Rest;
        }
        DeliveryState::Prepared | DeliveryState::Failed => {}
    }
    let ends_at = jumps.expires_at(delivery.since, terms.map_or(ORPHAN_AGE_MAX, |terms| terms.age_max));
    if ends_at <= now {
        return DeliveryStep::Drop(DeadReason::Expired);
    }
    let Some(terms) = terms else { return DeliveryStep::Wait(ends_at) };
    if excess > 0 && delivery.since < life.began_at {
        return DeliveryStep::Drop(DeadReason::Backlog);
    }
    if delivery.attempts.saturating_sub(delivery.spent) >= terms.attempts_max {
        return DeliveryStep::Drop(DeadReason::Attempts);
    }
    // A message that changed in the future means that the clock was set back, so what is left of its pause is unknown.
    let is_due = delivery.due_at <= now || delivery.updated_at > saturating_later(now, CLOCK_SLACK);
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
    terms: DeliveryTerms,
    sent: &DeliveryOutcome,
    chance: u64,
) -> AttemptSettlement {
    let tried = delivery.attempts.saturating_add(1).saturating_sub(delivery.spent);
    let end = attempt_end(now, sent);
    let is_plain = terms.class == DeliveryClass::Plain;
    let retried = |asked| retry_or_give_up(now, tried, terms, retry_delay(terms, tried, asked, chance));
    let (state, reason, due_at) = match sent {
        DeliveryOutcome::Accepted(_) => (DeliveryState::Delivered, None, now),
        DeliveryOutcome::Gone(_) => (DeliveryState::Dead, Some(DeadReason::Gone), now),
        // It has seen the message once, and would count it twice.
        DeliveryOutcome::Refused { .. } if is_plain => (DeliveryState::Dead, Some(DeadReason::Refused), now),
        DeliveryOutcome::Unanswered { .. } if is_plain => (DeliveryState::UnknownAfterSend, None, now),
        // A receiver that did not accept a message does not have it, so a repeat is the first in every class.
        DeliveryOutcome::NotAccepted { retry_after, .. } | DeliveryOutcome::Refused { retry_after, .. } => {
            retried(*retry_after)
        }
        DeliveryOutcome::NotSent { .. } | DeliveryOutcome::Unanswered { .. } => retried(None),
    };
    AttemptSettlement { end, state, reason, due_at }
}

/// Writes the receipt of an attempt.
fn attempt_end(now: Timestamp, sent: &DeliveryOutcome) -> AttemptEnd {
    let (outcome, answer, detail) = match sent {
        DeliveryOutcome::Accepted(answer) => (AttemptOutcome::Accepted, Some(answer), answer_text(answer)),
        DeliveryOutcome::NotAccepted { answer, .. } => {
            (AttemptOutcome::NotAccepted, Some(answer), answer_text(answer))
        }
        DeliveryOutcome::Refused { answer, .. } | DeliveryOutcome::Gone(answer) => {
            (AttemptOutcome::Refused, Some(answer), answer_text(answer))
        }
        DeliveryOutcome::NotSent { cause } => (AttemptOutcome::NotSent, None, format!("not sent: {cause}")),
        DeliveryOutcome::Unanswered { cause } => {
            (AttemptOutcome::Unanswered, None, format!("no response: {cause}"))
        }
    };
    AttemptEnd {
        at: now,
        outcome,
        status: answer.and_then(|answer| answer.status),
        receiver_id: answer.and_then(|answer| answer.receiver_id.clone()),
        detail: truncate_detail(detail),
    }
}

fn answer_text(answer: &ReceiverAnswer) -> String {
    let status = answer.status.map(|status| format!(" {status}")).unwrap_or_default();
    let text = if answer.text.is_empty() { String::new() } else { format!(": {}", answer.text) };
    format!("the receiver answered{status}{text}")
}

/// Decides what an attempt comes to that an earlier life began. `delivery` is as that life left it.
pub(crate) fn settle_interrupted(
    now: Timestamp,
    delivery: &DeliverySummary,
    terms: Option<DeliveryTerms>,
) -> AttemptSettlement {
    let detail = "the server ended before the outcome was known".to_owned();
    let outcome = AttemptOutcome::Interrupted;
    let end = AttemptEnd { at: now, outcome, status: None, receiver_id: None, detail };
    let tried = delivery.attempts.saturating_sub(delivery.spent);
    let (state, reason, due_at) = match terms {
        // A receiver that can be asked is asked before the next attempt.
        Some(terms) if terms.class != DeliveryClass::Plain => {
            retry_or_give_up(now, tried, terms, Duration::ZERO)
        }
        // What the receiver of a removed channel takes is not known.
        Some(_) | None => (DeliveryState::UnknownAfterSend, None, now),
    };
    AttemptSettlement { end, state, reason, due_at }
}

fn retry_or_give_up(
    now: Timestamp,
    tried: u32,
    terms: DeliveryTerms,
    pause: Duration,
) -> (DeliveryState, Option<DeadReason>, Timestamp) {
    if tried >= terms.attempts_max {
        (DeliveryState::Dead, Some(DeadReason::Attempts), now)
    } else {
        (DeliveryState::Failed, None, saturating_later(now, pause))
    }
}

/// The pause after so many attempts: it doubles, has an end, and lies by chance between its half and its whole, so that
/// what failed together does not come again together. A receiver gets the whole pause that it asks for, up to the age at
/// which the message is given up.
fn retry_delay(terms: DeliveryTerms, tried: u32, asked: Option<Duration>, chance: u64) -> Duration {
    let doubled = terms.backoff.saturating_mul(2_u32.saturating_pow(tried.saturating_sub(1).min(31)));
    let whole = u64::try_from(doubled.min(terms.backoff_max).as_millis()).unwrap_or(u64::MAX);
    let half = whole / 2;
    let jittered = Duration::from_millis(half + chance % (whole - half + 1));
    jittered.max(asked.unwrap_or_default().min(terms.age_max))
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
