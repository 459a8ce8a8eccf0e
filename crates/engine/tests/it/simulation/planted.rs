//! The witness on trial: in each world one part lies in one way, and a few seeds must be enough to find it.
//!
//! A check that finds nothing here finds nothing in an honest world either.

use super::simulate;
use super::world::{BudgetWorld, Lie, Options};

/// The seeds that a planted fault may take.
const SEEDS: u64 = 25;

/// Looks until a finding about one of the invariants turns up.
fn is_caught(lie: Lie, zombies: bool, invariants: &[&str]) {
    let mut other = Vec::new();
    for seed in 0..SEEDS {
        let budgets = match lie {
            Lie::ChargesEarlierHour => Some(BudgetWorld::Hourly),
            Lie::ChargesNobody => Some(BudgetWorld::Total),
            _ => None,
        };
        let approvals = matches!(lie, Lie::UsesNothingUp | Lie::ForgetsToCool);
        let cooling = (lie == Lie::ForgetsToCool).then_some(4);
        let policies = lie == Lie::ShowsOneAuthor;
        let options =
            Options { lie: Some(lie), zombies, budgets, approvals, cooling, policies, ..Options::default() };
        let report = simulate(seed, options);
        let named = |wrong: &String| {
            invariants.iter().any(|id| wrong.strip_prefix(id).is_some_and(|rest| rest.starts_with(':')))
        };
        if report.wrong.iter().any(named) {
            return;
        }
        other.extend(report.wrong);
    }
    panic!("{lie:?} was not caught as {invariants:?} within {SEEDS} seeds; found was {other:#?}");
}

#[test]
fn an_ack_before_the_commit_is_caught() {
    is_caught(Lie::AckBeforeCommit, false, &["C4"]);
}

#[test]
fn a_dropped_inbox_key_is_caught() {
    is_caught(Lie::DropKey, false, &["J3"]);
}

#[test]
fn a_send_torn_from_its_result_is_caught() {
    is_caught(Lie::TornSend, false, &["E3"]);
}

#[test]
fn an_append_without_an_epoch_is_caught() {
    is_caught(Lie::NoEpoch, true, &["J1", "J4", "J6"]);
}

#[test]
fn an_effect_before_its_start_is_caught() {
    is_caught(Lie::StartHeldBack, false, &["E1"]);
}

#[test]
fn a_second_claimer_is_caught() {
    is_caught(Lie::SecondClaimer, false, &["S1"]);
}

#[test]
fn a_key_per_attempt_is_caught() {
    is_caught(Lie::KeyPerAttempt, false, &["E2"]);
}

#[test]
fn a_replayed_unkeyed_call_is_caught() {
    is_caught(Lie::UnkeyedAsIdempotent, false, &["E4"]);
}

#[test]
fn a_start_that_uses_up_no_approval_is_caught() {
    is_caught(Lie::UsesNothingUp, false, &["E6"]);
}

#[test]
fn a_delayed_call_before_its_time_is_caught() {
    is_caught(Lie::ForgetsToCool, false, &["E6"]);
}

#[test]
fn a_result_whose_labels_of_files_are_lost_is_caught() {
    is_caught(Lie::ForgetsFiles, false, &["F1"]);
}

#[test]
fn a_store_without_charges_is_caught() {
    is_caught(Lie::ChargesNobody, false, &["S10"]);
}

#[test]
fn a_charge_to_an_earlier_hour_is_caught() {
    is_caught(Lie::ChargesEarlierHour, false, &["S10"]);
}

#[test]
fn a_join_of_another_persons_input_is_caught() {
    is_caught(Lie::ShowsOneAuthor, false, &["S2"]);
}
