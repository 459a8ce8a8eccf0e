//! The whole of the policy as tables.

use dromia_contracts::delivery::DeliverySource;
use dromia_contracts::{AgentId, DeliveryId, RunId, SessionId};

use super::*;

const LIFE: ProcessLife =
    ProcessLife { holder: Digest::from_bytes([1; 32]), began_at: Timestamp::UNIX_EPOCH };

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).expect("it is written well")
}

fn terms(class: DeliveryClass) -> DeliveryTerms {
    DeliveryTerms {
        class,
        attempts_max: 3,
        backoff: Duration::from_secs(1),
        backoff_max: Duration::from_mins(1),
        age_max: Duration::from_hours(1),
        recovery_max: 10,
        timeout: Duration::from_secs(15),
    }
}

const KEYED: DeliveryClass = DeliveryClass::Keyed;
const CLASSES: [DeliveryClass; 3] = [KEYED, DeliveryClass::Reconcilable, DeliveryClass::Plain];

fn delivery(state: DeliveryState) -> DeliverySummary {
    DeliverySummary {
        id: DeliveryId::from_bytes([1; 16]),
        target: "webhook:orders".to_owned(),
        position: 1,
        prepared_at: at(0),
        state,
        reason: None,
        attempts: 0,
        redrives: 0,
        spent: 0,
        since: at(0),
        due_at: at(0),
        holder: None,
        updated_at: at(0),
        feed: None,
        source: DeliverySource {
            agent: AgentId::from_bytes([2; 16]),
            session: SessionId::from_bytes([3; 16]),
            run: RunId::from_bytes([4; 16]),
            seq: 4,
        },
    }
}

fn stepped(now: i64, delivery: &DeliverySummary, excess: u64) -> DeliveryStep {
    decide_step(at(now), LIFE, delivery, Some(terms(KEYED)), (excess, false), ClockJumps::default())
}

#[test]
fn a_due_delivery_is_sent_and_an_old_one_dropped() {
    let prepared = delivery(DeliveryState::Prepared);
    assert_eq!(stepped(0, &prepared, 0), DeliveryStep::Send);
    let failed = DeliverySummary { due_at: at(5_000), attempts: 1, ..delivery(DeliveryState::Failed) };
    assert_eq!(stepped(4_999, &failed, 0), DeliveryStep::Wait(at(5_000)));
    assert_eq!(stepped(5_000, &failed, 0), DeliveryStep::Send);
    assert_eq!(stepped(3_599_999, &prepared, 0), DeliveryStep::Send);
    assert_eq!(stepped(3_600_000, &prepared, 0), DeliveryStep::Drop(DeadReason::Expired));
    let late = DeliverySummary { due_at: at(3_650_000), ..failed.clone() };
    assert_eq!(stepped(3_595_000, &late, 0), DeliveryStep::Wait(at(3_600_000)), "its age comes first");
    let redriven = DeliverySummary { since: at(3_000_000), ..prepared };
    assert_eq!(stepped(3_600_000, &redriven, 0), DeliveryStep::Send, "its age begins anew");
}

#[test]
fn a_clock_that_was_set_back_holds_nothing_up() {
    let failed = DeliverySummary {
        due_at: at(9_001_000),
        updated_at: at(9_000_000),
        ..delivery(DeliveryState::Failed)
    };
    assert_eq!(stepped(0, &failed, 0), DeliveryStep::Send);
}

/// What becomes of a message of half its age where the clock is set ahead by a day, by whoever says when it expires; and of one
/// that comes after.
fn after_a_jump(jumps: ClockJumps) -> [DeliveryStep; 2] {
    let day = 86_400_000;
    let is_old = delivery(DeliveryState::Prepared);
    let is_new = DeliverySummary { since: at(day + 1_800_001), ..delivery(DeliveryState::Prepared) };
    let step = |now, delivery| decide_step(at(now), LIFE, delivery, Some(terms(KEYED)), (0, false), jumps);
    [step(day + 1_800_001, &is_old), step(day + 1_800_001 + 3_600_000, &is_new)]
}

fn jump(by: SignedDuration) -> ClockStep {
    let before = at(1_800_000);
    ClockStep { by, before, after: before + by }
}

#[test]
fn a_clock_that_is_set_ahead_expires_nothing_that_waits() {
    let mut jumps = ClockJumps::default();
    assert!(jumps.note_step(jump(SignedDuration::from_hours(24))), "it is one ahead");
    assert_eq!(after_a_jump(jumps), [DeliveryStep::Send, DeliveryStep::Drop(DeadReason::Expired)]);
    let old = delivery(DeliveryState::Prepared);
    let late = at(86_400_000 + 3_600_000);
    assert_eq!(
        decide_step(late, LIFE, &old, Some(terms(KEYED)), (0, false), jumps),
        DeliveryStep::Drop(DeadReason::Expired),
        "it keeps its age and no more"
    );
    assert!(!jumps.note_step(jump(SignedDuration::from_hours(-24))), "it is one back");
    assert_eq!(jumps.ahead, Duration::ZERO, "a clock that goes to and fro adds nothing");
}

/// Planted fault: the step of the clock counts as age.
#[test]
fn a_jump_that_counts_as_age_is_caught() {
    assert_ne!(
        after_a_jump(ClockJumps::default()),
        [DeliveryStep::Send, DeliveryStep::Drop(DeadReason::Expired)]
    );
}

#[test]
fn a_recovery_drops_only_old_messages_beyond_the_cap() {
    let old = DeliverySummary { since: at(-1), ..delivery(DeliveryState::Prepared) };
    assert_eq!(stepped(0, &old, 1), DeliveryStep::Drop(DeadReason::Backlog));
    assert_eq!(stepped(0, &old, 0), DeliveryStep::Send);
    assert_eq!(stepped(0, &delivery(DeliveryState::Prepared), 1), DeliveryStep::Send, "of this life");
}

#[test]
fn lowered_attempts_apply_and_attempts_before_a_redrive_do_not() {
    let tried = DeliverySummary { attempts: 3, ..delivery(DeliveryState::Failed) };
    assert_eq!(stepped(0, &tried, 0), DeliveryStep::Drop(DeadReason::Attempts));
    let redriven =
        DeliverySummary { attempts: 3, spent: 3, redrives: 1, ..delivery(DeliveryState::Prepared) };
    assert_eq!(stepped(0, &redriven, 0), DeliveryStep::Send);
}

#[test]
fn only_an_attempt_of_an_earlier_process_is_settled() {
    let sending = |holder| DeliverySummary {
        holder: Some(Digest::from_bytes([holder; 32])),
        attempts: 1,
        ..delivery(DeliveryState::Sending)
    };
    assert_eq!(stepped(9_999_999, &sending(1), 9), DeliveryStep::Rest);
    assert_eq!(stepped(9_999_999, &sending(2), 9), DeliveryStep::Interrupted);
    for state in [DeliveryState::Delivered, DeliveryState::Dead, DeliveryState::UnknownAfterSend] {
        assert_eq!(stepped(9_999_999, &delivery(state), 9), DeliveryStep::Rest);
    }
}

#[test]
fn a_message_for_an_unconfigured_channel_waits_for_days() {
    let age = i64::try_from(ORPHAN_AGE_MAX.as_millis()).unwrap();
    let orphan = |now| {
        decide_step(
            at(now),
            LIFE,
            &delivery(DeliveryState::Prepared),
            None,
            (0, false),
            ClockJumps::default(),
        )
    };
    assert_eq!(orphan(age - 1), DeliveryStep::Wait(at(age)));
    assert_eq!(orphan(age), DeliveryStep::Drop(DeadReason::Expired));
}

fn answered(status: u16) -> ReceiverAnswer {
    ReceiverAnswer { status: Some(status), receiver_id: Some("msg_1".to_owned()), text: "ok".to_owned() }
}

#[test]
fn every_outcome_leads_to_one_state() {
    use AttemptOutcome as Was;
    use DeliveryState::{Dead, Delivered, Failed, UnknownAfterSend};
    let refused = || DeliveryOutcome::Refused { answer: answered(500), retry_after: None };
    let not_accepted = DeliveryOutcome::NotAccepted { answer: answered(429), retry_after: None };
    let not_sent = DeliveryOutcome::NotSent { cause: "refused".to_owned() };
    let unanswered = DeliveryOutcome::Unanswered { cause: "cut".to_owned() };
    for (sent, outcome, repeatable, plain) in [
        (DeliveryOutcome::Accepted(answered(200)), Was::Accepted, (Delivered, None), (Delivered, None)),
        (refused(), Was::Refused, (Failed, None), (Dead, Some(DeadReason::Refused))),
        (
            DeliveryOutcome::Gone(answered(410)),
            Was::Refused,
            (Dead, Some(DeadReason::Gone)),
            (Dead, Some(DeadReason::Gone)),
        ),
        (not_accepted, Was::NotAccepted, (Failed, None), (Failed, None)),
        (not_sent, Was::NotSent, (Failed, None), (Failed, None)),
        (unanswered, Was::Unanswered, (Failed, None), (UnknownAfterSend, None)),
    ] {
        for class in CLASSES {
            let expected = if class == DeliveryClass::Plain { plain } else { repeatable };
            let settled = settle_attempt(at(0), &delivery(DeliveryState::Prepared), terms(class), &sent, 0);
            assert_eq!((settled.state, settled.reason), expected, "{sent:?}, {class:?}");
            assert_eq!(settled.end.outcome, outcome);
            assert_eq!(settled.due_at > at(0), expected.0 == Failed, "{sent:?}");
        }
    }
}

#[test]
fn a_receipt_keeps_the_receivers_id_and_its_answer() {
    let sent = DeliveryOutcome::Accepted(answered(202));
    let settled = settle_attempt(at(0), &delivery(DeliveryState::Prepared), terms(KEYED), &sent, 0);
    assert_eq!(settled.end.receiver_id.as_deref(), Some("msg_1"));
    assert_eq!(
        (settled.end.status, settled.end.detail.as_str()),
        (Some(202), "the receiver answered 202: ok")
    );
}

#[test]
fn poison_is_dead_after_exactly_the_declared_attempts() {
    let poison = DeliveryOutcome::Refused { answer: answered(500), retry_after: None };
    for spent in [0, 7] {
        let states: Vec<_> = (0..3)
            .map(|tried| {
                let found =
                    DeliverySummary { attempts: spent + tried, spent, ..delivery(DeliveryState::Failed) };
                settle_attempt(at(0), &found, terms(KEYED), &poison, 0).state
            })
            .collect();
        assert_eq!(states, [DeliveryState::Failed, DeliveryState::Failed, DeliveryState::Dead]);
    }
}

#[test]
fn an_interrupted_attempt_is_repeated_only_for_idempotent_receivers() {
    let cut = |attempts| DeliverySummary { attempts, ..delivery(DeliveryState::Sending) };
    let settled = settle_interrupted(at(5), &cut(1), Some(terms(KEYED)));
    assert_eq!((settled.state, settled.due_at), (DeliveryState::Failed, at(5)));
    assert_eq!(settled.end.outcome, AttemptOutcome::Interrupted);
    let last = settle_interrupted(at(5), &cut(3), Some(terms(KEYED)));
    assert_eq!((last.state, last.reason), (DeliveryState::Dead, Some(DeadReason::Attempts)));
    let asked = settle_interrupted(at(5), &cut(1), Some(terms(DeliveryClass::Reconcilable)));
    assert_eq!((asked.state, asked.due_at), (DeliveryState::Failed, at(5)), "its receiver is asked first");
    for terms in [Some(terms(DeliveryClass::Plain)), None] {
        assert_eq!(settle_interrupted(at(5), &cut(1), terms).state, DeliveryState::UnknownAfterSend);
    }
}

#[test]
fn a_retry_delay_doubles_up_to_a_limit_with_jitter() {
    let channel = terms(KEYED);
    for (tried, whole) in [(1, 1_000), (2, 2_000), (3, 4_000), (7, 60_000), (90, 60_000), (u32::MAX, 60_000)]
    {
        for chance in [0, 1, 499, 12_345, u64::MAX] {
            let pause = retry_delay(channel, tried, None, chance).as_millis();
            assert!(pause >= whole / 2 && pause <= whole, "{tried}: {pause}");
        }
        assert_ne!(retry_delay(channel, tried, None, 0), retry_delay(channel, tried, None, 77), "by chance");
    }
    let asked = |seconds| retry_delay(channel, 1, Some(Duration::from_secs(seconds)), 0).as_secs();
    assert_eq!((asked(30), asked(1_800)), (30, 1_800), "a receiver gets the whole pause that it asks for");
    assert_eq!(asked(u64::MAX), 3_600, "and none beyond the age of the message");
}

#[test]
fn a_detail_is_cut_at_a_character() {
    let posted = DeliveryOutcome::NotSent { cause: "ä".repeat(1_000) };
    let settled = settle_attempt(at(0), &delivery(DeliveryState::Prepared), terms(KEYED), &posted, 0);
    assert!(settled.end.detail.len() <= DETAIL_BYTES_MAX && settled.end.detail.ends_with('ä'));
}

#[test]
fn a_pause_that_was_asked_for_is_waited_for_until_the_message_is_too_old() {
    let retry_after = Some(Duration::from_mins(30));
    let sent = DeliveryOutcome::NotAccepted { answer: answered(429), retry_after };
    for class in CLASSES {
        let settled = settle_attempt(at(0), &delivery(DeliveryState::Prepared), terms(class), &sent, 0);
        let failed = DeliverySummary {
            state: settled.state,
            attempts: 1,
            due_at: settled.due_at,
            ..delivery(DeliveryState::Failed)
        };
        let step =
            |now| decide_step(at(now), LIFE, &failed, Some(terms(class)), (0, false), ClockJumps::default());
        assert_eq!(step(1_799_999), DeliveryStep::Wait(at(1_800_000)), "{class:?}");
        assert_eq!(step(1_800_000), DeliveryStep::Send, "{class:?}");
        let late = DeliverySummary { due_at: at(7_200_000), ..failed.clone() };
        let step = decide_step(at(1), LIFE, &late, Some(terms(class)), (0, false), ClockJumps::default());
        assert_eq!(step, DeliveryStep::Wait(at(3_600_000)), "it is given up at its age");
    }
}
