//! What holds of every journal: random answers, and a crash at every prefix.

use std::collections::BTreeMap;

use dromia_contracts::entry::Entry;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::ItemKind;
use dromia_contracts::{Actor, CallId};
use dromia_engine::{DecisionInput, NextAction, RunState};
use proptest::prelude::*;

use super::{Live, results, signal};
use crate::cost::spent;

fn bytes(state: &RunState) -> Vec<u8> {
    serde_json::to_vec(state).expect("a state is data")
}

proptest! {
    #[test]
    fn a_journal_and_its_takeovers_are_charged_attempt_by_attempt(
        dice in prop::collection::vec(any::<u8>(), 0..60),
        crash in 1..30_usize,
    ) {
        let mut live = Live::begin(12);
        live.run(&dice);
        let crash = crash.min(live.journal.len());
        let mut again = Live::recover(&live.journal[..crash], 1);
        again.run(&dice);
        for live in [live, again] {
            let spent = spent(&live.journal);
            let state = RunState::fold(&live.journal);
            prop_assert_eq!(spent.cost_micros, state.cost_micros);
            prop_assert_eq!(spent.model_calls, u64::from(state.model_calls));
            prop_assert_eq!(spent.input_tokens, u64::from(state.usage.input_tokens));
        }
    }

    #[test]
    fn a_folded_journal_equals_the_live_state_at_every_prefix(dice in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut live = Live::begin(12);
        let mut states = vec![bytes(&live.state)];
        let mut lengths = vec![live.journal.len()];
        for dice in dice {
            if !live.answer(dice) {
                break;
            }
            states.push(bytes(&live.state));
            lengths.push(live.journal.len());
        }
        for (length, state) in lengths.into_iter().zip(states) {
            let stored: Vec<Entry> = live.journal[..length]
                .iter()
                .map(|entry| Entry::decode(entry.kind().0, entry.kind().1, &entry.encode()).expect("it was just written"))
                .collect();
            prop_assert_eq!(bytes(&RunState::fold(&stored)), state);
        }
    }

    #[test]
    fn every_journal_prefix_gives_each_call_exactly_one_result(
        dice in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut live = Live::begin(12);
        live.run(&dice);
        for length in 1..=live.journal.len() {
            let mut recovered = Live::recover(&live.journal[..length], 1);
            recovered.settle();
            for (call, times) in results(&recovered.journal) {
                let open = !recovered.state.is_ended() && times == 0;
                prop_assert!(times == 1 || open, "{call} has {times} results");
                prop_assert!(!open, "{call} is open although the run rests");
            }
        }
    }

    #[test]
    fn an_unkeyed_call_begins_at_most_once_whatever_crashes(
        dice in prop::collection::vec(any::<u8>(), 0..60),
        crashes in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut live = Live::begin(12);
        live.run(&dice);
        for crash in crashes {
            let length = 1 + crash.index(live.journal.len());
            live = Live::recover(&live.journal[..length], 1);
            live.run(&dice);
        }
        let mut begun = BTreeMap::<CallId, usize>::new();
        for entry in &live.journal {
            if let Entry::ToolStarted(started) = entry && !started.effect.may_repeat() {
                *begun.entry(started.call).or_default() += 1;
            }
        }
        prop_assert!(begun.values().all(|times| *times == 1), "{begun:?}");
    }

    #[test]
    fn termination_at_any_point_closes_every_call_for_good(
        dice in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut live = Live::begin(12);
        live.run(&dice);
        let before = live.state.is_ended();
        live.feed(signal(ItemKind::Terminate, 1));
        prop_assert!(live.state.is_ended());
        prop_assert!(before || live.state.status() == RunStatus::Cancelled);
        prop_assert!(results(&live.journal).values().all(|times| *times == 1));
        let entries = live.journal.len();
        live.feed(DecisionInput::Recovered { claims: 1 });
        live.feed(signal(ItemKind::Cancel, 2));
        prop_assert_eq!(live.journal.len(), entries);
    }

    #[test]
    fn a_run_that_ends_at_any_prefix_begins_nothing_more(
        dice in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut live = Live::begin(12);
        live.run(&dice);
        let begun = |journal: &[Entry]| {
            let begins = |entry: &&Entry| matches!(entry, Entry::ToolStarted(_) | Entry::ModelCalled(_));
            journal.iter().filter(begins).count()
        };
        for length in 1..=live.journal.len() {
            let prefix = &live.journal[..length];
            let mut ended = Live { journal: prefix.to_vec(), state: RunState::fold(prefix), next: NextAction::Rest };
            let before = ended.state.is_ended();
            ended.feed(DecisionInput::Ended { by: Actor::new("engine") });
            prop_assert!(ended.state.is_ended() && ended.next == NextAction::Rest);
            prop_assert!(before || ended.state.status() == RunStatus::Cancelled);
            prop_assert!(results(&ended.journal).values().all(|times| *times == 1));
            prop_assert_eq!(begun(&ended.journal), begun(prefix));
        }
    }
}
