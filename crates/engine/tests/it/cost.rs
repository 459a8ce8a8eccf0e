//! What the attempts of a journal cost together is what its state says, whatever the journal is.

use dromia_contracts::ErrorCode;
use dromia_contracts::cost::{CostLedger, CostTotals};
use dromia_contracts::entry::{Entry, ModelCalled, ModelFailed, RunYielded};
use dromia_engine::RunState;
use jiff::Timestamp;
use proptest::prelude::*;

/// Sums up the attempts of a journal, the open one included.
pub(crate) fn spent<'a>(journal: impl IntoIterator<Item = &'a Entry>) -> CostTotals {
    let mut ledger = CostLedger::default();
    let mut sum = CostTotals::default();
    for (seq, entry) in (1..).zip(journal) {
        if let Some(attempt) = ledger.apply_entry(seq, Timestamp::UNIX_EPOCH, entry) {
            sum.add(CostTotals::from(&attempt));
        }
    }
    if let Some(attempt) = ledger.open_attempt() {
        sum.add(CostTotals::from(attempt));
    }
    sum
}

fn called(attempt: u32) -> Entry {
    Entry::ModelCalled(ModelCalled {
        step: 1,
        attempt,
        model: format!("m{}", attempt % 3),
        history_from: 1,
        input_tokens: 10,
        output_tokens_max: 10,
        reserved_micros: 1 << 40,
        unpriced: false,
        sent: serde_json::from_str(r#"{"form":"chat/1","model":"m","digest":"0001020304050607"}"#)
            .expect("is data"),
        judged: None,
    })
}

fn replied(attempt: u32, input: u32, cost_micros: u64) -> Entry {
    let fields = serde_json::json!({
        "step": 1, "attempt": attempt, "usage": {"input_tokens": input, "output_tokens": attempt},
        "cost_micros": cost_micros, "finish": "stop",
    });
    Entry::decode("model_replied", 1, &fields.to_string()).expect("these are its fields")
}

fn failed(attempt: u32, code: ErrorCode, charged_micros: u64) -> Entry {
    Entry::ModelFailed(ModelFailed {
        step: 1,
        attempt,
        code,
        message: "no".into(),
        charged_micros,
        attempts_max: None,
        judged: None,
    })
}

fn opinion_called(samples: u32) -> Entry {
    let fields = serde_json::json!({
        "call": "call_1_0", "action": "00".repeat(32), "model": "n", "samples": samples, "input_tokens": 10,
        "output_tokens_max": 10, "reserved_micros": 21,
        "sent": {"form": "chat/1", "model": "m", "digest": "0001020304050607"},
    });
    Entry::decode("opinion_called", 1, &fields.to_string()).expect("these are its fields")
}

fn opinion_given(input: u32, cost_micros: u64, is_lost: bool) -> Entry {
    let said = serde_json::json!({"model": "n", "go": 1, "stop": 0, "neither": 0, "agree": 1});
    let fields = serde_json::json!({
        "call": "call_1_0", "action": "00".repeat(32), "opinion": if is_lost { None } else { Some(said) },
        "usage": {"input_tokens": input, "output_tokens": 1}, "tokens": 9, "cost_micros": cost_micros,
    });
    Entry::decode("opinion_given", 1, &fields.to_string()).expect("these are its fields")
}

/// Entries in an order that the engine may never write.
fn any_entry() -> impl Strategy<Value = Entry> {
    let code = prop::sample::select(vec![
        ErrorCode::OutcomeUnknown,
        ErrorCode::ModelUnavailable,
        ErrorCode::ModelCut,
    ]);
    prop_oneof![
        3 => (1..9_u32).prop_map(called),
        3 => (1..9_u32, 0..1_000_u32, 0..1_u64 << 50).prop_map(|(a, i, c)| replied(a, i, c)),
        2 => (1..9_u32, code, 0..1_u64 << 50).prop_map(|(a, code, c)| failed(a, code, c)),
        1 => (1..6_u32).prop_map(opinion_called),
        1 => (0..1_000_u32, 0..1_u64 << 50, any::<bool>()).prop_map(|(i, c, lost)| opinion_given(i, c, lost)),
        1 => Just(Entry::RunYielded(RunYielded { model_calls: 1, budget: None, repeated: None, concluded: None, deadline: None })),
    ]
}

proptest! {
    #[test]
    fn attempts_cost_what_the_state_says_at_every_prefix(
        journal in prop::collection::vec(any_entry(), 0..40),
    ) {
        for length in 0..=journal.len() {
            let (sum, state) = (spent(&journal[..length]), RunState::fold(&journal[..length]));
            prop_assert_eq!(sum.cost_micros, state.cost_micros);
            prop_assert_eq!(sum.input_tokens, u64::from(state.usage.input_tokens));
            prop_assert_eq!(sum.output_tokens, u64::from(state.usage.output_tokens));
            prop_assert!(sum.model_calls >= u64::from(state.model_calls));
        }
    }
}
