//! Answers and results at the bounds of what is kept: the last byte that fits is kept, and of the first that does not the model
//! hears.

use dromia_contracts::content::{CallStatus, ContentPart};
use dromia_contracts::entry::{Entry, ToolRefused};
use dromia_contracts::label::Label;
use dromia_contracts::model::{FinishReason, ModelReply, ProposedCall, TokenUsage, UsageDetail};
use dromia_contracts::store::NewEntry;
use dromia_contracts::tool::{EffectClass, ToolOutput};
use dromia_contracts::{CallId, ErrorCode};
use dromia_engine::decide::{BODY_BYTES_MAX, CALLS_MAX};
use dromia_engine::{DecisionInput, NextAction, RunDecision, decide};
use jiff::Timestamp;

use super::{Live, one_call_begun};

/// The replacement for arguments that are not kept.
const EMPTY: usize = 2;

/// Decides on an answer with a text and calls whose arguments have so many bytes.
fn answer(text: usize, arguments: &[usize]) -> RunDecision {
    let mut live = Live::begin(12);
    live.answer(1);
    assert_eq!(live.next, NextAction::CallModel);
    let call = |bytes: &usize| ProposedCall { tool: "t".into(), arguments: "x".repeat(*bytes) };
    let reply = ModelReply {
        text: "x".repeat(text),
        calls: arguments.iter().map(call).collect(),
        usage: TokenUsage { input_tokens: 1, output_tokens: 1 },
        detail: UsageDetail::default(),
        cost_micros: 3,
        finish: FinishReason::Stop,
        stopped_at: None,
    };
    let input = DecisionInput::Replied(reply, Label::PUBLIC_FACT, None);
    decide(&live.state, Timestamp::UNIX_EPOCH, input)
}

/// The bytes of an answer that was kept; else why it was not.
fn kept(decision: &RunDecision) -> Result<usize, ErrorCode> {
    let first = decision.entries.first().expect("an answer leaves an entry");
    match &first.entry {
        Entry::ModelReplied(_) => Ok(first.body.as_ref().expect("it has a body").len()),
        Entry::ModelFailed(failed) => Err(failed.code),
        other => panic!("{other:?}"),
    }
}

fn refusals<'a>(decision: &'a RunDecision) -> Vec<&'a ToolRefused> {
    let refused = |new: &'a NewEntry| match &new.entry {
        Entry::ToolRefused(refused) => Some(refused),
        _ => None,
    };
    decision.entries.iter().filter_map(refused).collect()
}

#[test]
fn an_answer_is_kept_up_to_the_last_byte() {
    let around = kept(&answer(1, &[])).expect("a short one is kept") - 1;
    let longest = BODY_BYTES_MAX - around;
    assert_eq!(kept(&answer(longest, &[])), Ok(BODY_BYTES_MAX));
    assert_eq!(kept(&answer(longest + 1, &[])), Err(ErrorCode::ModelCut));
    assert_eq!(kept(&answer(BODY_BYTES_MAX, &[EMPTY])), Err(ErrorCode::ModelCut), "nothing can be left out");
}

#[test]
fn an_answer_with_too_many_calls_is_not_kept() {
    assert!(kept(&answer(1, &[EMPTY; CALLS_MAX])).is_ok());
    assert_eq!(kept(&answer(1, &[EMPTY; CALLS_MAX + 1])), Err(ErrorCode::ModelCut));
}

#[test]
fn arguments_too_long_to_keep_are_refused_longest_first() {
    let around = kept(&answer(1, &[EMPTY; 3])).expect("a short one is kept") - 3 * EMPTY;
    let longest = BODY_BYTES_MAX - around - 2 * EMPTY;
    let fits = answer(1, &[EMPTY, longest, EMPTY]);
    assert_eq!((kept(&fits), refusals(&fits).len()), (Ok(BODY_BYTES_MAX), 0));
    for (arguments, dropped) in [
        ([EMPTY, longest + 1, EMPTY], vec![1]),
        ([longest / 2, EMPTY, longest], vec![2]),
        ([longest + 1, EMPTY, longest + 2], vec![0, 2]),
    ] {
        let decision = answer(1, &arguments);
        let left: usize = (0..3).map(|at| if dropped.contains(&at) { EMPTY } else { arguments[at] }).sum();
        assert_eq!(kept(&decision), Ok(around + left), "{arguments:?}");
        let refused: Vec<_> = refusals(&decision);
        let calls: Vec<_> = refused.iter().map(|refused| refused.call.index as usize).collect();
        assert_eq!(calls, dropped, "{arguments:?}");
        assert!(refused.iter().all(|refused| refused.status == CallStatus::Error && refused.tool == "t"));
    }
}

#[test]
fn a_result_is_kept_up_to_the_last_byte() {
    let live = one_call_begun(EffectClass::Pure);
    let body = |text: usize| {
        let parts = vec![ContentPart::new_text("x".repeat(text), Label::PUBLIC_FACT)];
        let output = ToolOutput { parts, ..ToolOutput::default() };
        let input = DecisionInput::Finished(CallId { step: 1, index: 0 }, output);
        let decision = decide(&live.state, Timestamp::UNIX_EPOCH, input);
        decision.entries[0].body.clone().expect("a result has a body")
    };
    let longest = BODY_BYTES_MAX - (body(1).len() - 1);
    assert_eq!(body(longest).len(), BODY_BYTES_MAX);
    let replaced = body(longest + 1);
    assert!(String::from_utf8_lossy(&replaced).contains("ask for less") && replaced.len() < 1_000);
    assert!(replaced.len() > 50);
}
