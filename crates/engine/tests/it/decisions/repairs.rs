//! What becomes of a last answer that does not satisfy the schema it was asked for: it is asked for again twice at most,
//! and never handed on.

use dromia_contracts::ErrorCode;
use dromia_contracts::answer_format::AnswerFormat;
use dromia_contracts::entry::Entry;
use dromia_contracts::gate::GateVerdict;
use dromia_contracts::label::Label;
use dromia_contracts::model::{FinishReason, ModelReply, TokenUsage, UsageDetail};
use dromia_contracts::run::RunStatus;
use dromia_engine::{DecisionInput, NextAction, RunState};

use super::Live;

/// Has the model answer without calls.
fn reply(live: &mut Live, unfit: Option<&str>) {
    if live.next == NextAction::PlannedRequest {
        live.answer(0);
    }
    assert_eq!(live.next, NextAction::CallModel);
    let reply = ModelReply {
        text: "x".into(),
        calls: vec![],
        usage: TokenUsage { input_tokens: 1, output_tokens: 1 },
        detail: UsageDetail::default(),
        cost_micros: 3,
        finish: FinishReason::Stop,
        stopped_at: None,
    };
    live.feed(DecisionInput::Replied(reply, Label::PUBLIC_FACT, unfit.map(str::to_owned)));
}

fn judge(live: &mut Live, verdict: GateVerdict) {
    assert_eq!(live.next, NextAction::JudgeReply);
    live.feed(DecisionInput::ReplyJudged(verdict));
}

/// The verdict of the engine about an answer that is withheld because of its schema.
fn unfit_verdict() -> GateVerdict {
    GateVerdict::Deny { rule: AnswerFormat::RULE.to_owned(), reason: "at /age".to_owned(), policy: None }
}

fn failure(live: &Live) -> Option<ErrorCode> {
    live.state.failure.as_ref().map(|failure| failure.code)
}

#[test]
fn an_answer_that_the_gate_denies_is_no_unfit_one() {
    let mut live = Live::begin(9);
    reply(&mut live, None);
    judge(&mut live, GateVerdict::Deny { rule: "reply".into(), reason: "no".into(), policy: None });
    assert_eq!(failure(&live), Some(ErrorCode::ActionDenied));
}

#[test]
fn an_unfit_answer_is_asked_for_again_and_a_fit_one_completes_the_run() {
    let mut live = Live::begin(9);
    reply(&mut live, Some("at /age"));
    let withheld = live.journal.iter().find_map(|entry| match entry {
        Entry::ModelReplied(replied) => replied.withheld.clone(),
        _ => None,
    });
    assert!(withheld.is_some_and(|withheld| withheld.is_unfit() && withheld.reason == "at /age"));
    assert_eq!(live.next, NextAction::PlannedRequest);
    // A process that takes the run over asks for it, too.
    let mut live = Live::recover(&live.journal, 1);
    assert_eq!((live.next.clone(), live.state.repairs), (NextAction::PlannedRequest, 1));
    reply(&mut live, None);
    judge(&mut live, GateVerdict::Allow { rule: "reply".into(), policy: None });
    assert_eq!(live.state.run_head().status, RunStatus::Completed);
    assert_eq!(live.state.model_calls, 2, "a repair counts like any call");
}

#[test]
fn a_third_repair_is_never_asked_for() {
    let mut live = Live::begin(9);
    for _ in 0..=AnswerFormat::REPAIRS_MAX {
        reply(&mut live, Some("at /age"));
    }
    judge(&mut live, unfit_verdict());
    assert_eq!((live.state.run_head().status, live.state.model_calls), (RunStatus::Failed, 3));
    assert_eq!(failure(&live), Some(ErrorCode::AnswerSchemaUnsatisfied));
}

/// Planted fault: a fold that forgets how often an answer was repaired. The run then asks for a third repair.
#[test]
fn a_third_repair_is_caught() {
    let mut live = Live::begin(9);
    for _ in 0..AnswerFormat::REPAIRS_MAX {
        reply(&mut live, Some("at /age"));
    }
    live.state = RunState { repairs: 0, ..live.state };
    reply(&mut live, Some("at /age"));
    assert_ne!(live.next, NextAction::JudgeReply, "it goes on and on");
    assert_ne!(RunState::fold(&live.journal), live.state, "and the journal says otherwise");
}

/// Planted fault: a check that is not made. What does not satisfy its schema is then an answer like any other.
#[test]
fn an_unfit_answer_that_is_handed_on_is_caught() {
    let (mut checked, mut unchecked) = (Live::begin(9), Live::begin(9));
    reply(&mut checked, Some("at /age"));
    reply(&mut unchecked, None);
    judge(&mut unchecked, GateVerdict::Allow { rule: "reply".into(), policy: None });
    assert_eq!(unchecked.state.run_head().status, RunStatus::Completed);
    assert_ne!(checked.state.run_head().status, RunStatus::Completed);
}
