//! What stops a run before it has an answer: a request that does not fit or is refused, a limit, a pause, a budget, and a circle.

use dromia_contracts::budget::{BudgetExhaustion, BudgetMeasure, BudgetScope};
use dromia_contracts::content::ContentPart;
use dromia_contracts::entry::{Entry, ParkReason, RunParked};
use dromia_contracts::label::Label;
use dromia_contracts::model::ModelError;
use dromia_contracts::run::RunStatus;
use dromia_contracts::tool::{EffectClass, ToolOutput};
use dromia_contracts::{CallId, Digest, ErrorCode};
use dromia_engine::decide::CallJudgement;
use dromia_engine::{DecisionInput, NextAction, RunState};

use super::{Live, calls_asked, consults, kinds, one_call_begun, prepared, results};

#[test]
fn an_oversized_request_fails_the_run_before_any_attempt() {
    let mut live = Live::begin(12);
    let calls = live.state.model_calls;
    live.feed(DecisionInput::Unplanned(ModelError {
        code: ErrorCode::ContextExceeded,
        message: "too long for m".into(),
        retry_after: None,
    }));
    assert_eq!((live.state.status(), live.next.clone()), (RunStatus::Failed, NextAction::Rest));
    assert_eq!((live.state.model_calls, live.state.cost_micros), (calls, 0));
    let fault = live.state.failure_fault().expect("it failed");
    assert_eq!((fault.code, fault.message.as_str()), (ErrorCode::ContextExceeded, "too long for m"));
}

#[test]
fn an_oversized_request_that_is_not_needed_ends_no_run() {
    let mut live = calls_asked(2);
    let entries = live.journal.len();
    live.feed(DecisionInput::Unplanned(ModelError {
        code: ErrorCode::ContextExceeded,
        message: "too long for m".into(),
        retry_after: None,
    }));
    assert_eq!(
        (live.journal.len(), live.next.clone()),
        (entries, NextAction::Judge(CallId { step: 1, index: 0 }))
    );
}

#[test]
fn the_iteration_limit_ends_in_a_yield() {
    let mut live = Live::begin(2);
    for _ in 0..40 {
        if !live.answer(1) {
            break;
        }
    }
    assert_eq!(live.state.status(), RunStatus::Yielded);
    assert_eq!(live.state.model_calls, 2);
}

#[test]
fn a_request_refused_by_the_gate_is_denied_without_cost() {
    let mut live = Live::begin(12);
    live.answer(1);
    assert_eq!(live.next, NextAction::CallModel);
    let message = "the request was refused by policy no-models: not here".to_owned();
    let code = ErrorCode::ActionDenied;
    live.feed(DecisionInput::Failed(ModelError { code, message: message.clone(), retry_after: None }));
    let failure = live.state.failure.clone().expect("it failed");
    assert_eq!((live.state.status(), failure.code, failure.message), (RunStatus::Failed, code, message));
    assert_eq!(live.state.cost_micros, 0);
}

#[test]
fn a_rejected_request_is_not_sent_again() {
    for code in [ErrorCode::ModelRejected, ErrorCode::ContextExceeded] {
        let mut live = Live::begin(12);
        live.answer(1);
        let cost = live.state.cost_micros;
        live.feed(DecisionInput::Failed(ModelError { code, message: "no".into(), retry_after: None }));
        assert_eq!((live.state.status(), live.next.clone()), (RunStatus::Failed, NextAction::Rest));
        assert_eq!(live.state.failure_fault().expect("it failed").code, code);
        assert_eq!(live.state.cost_micros, cost);
    }
}

/// What the attempts of a run that failed are charged, and the code with which it failed.
fn charge_of(broken: fn(ModelError) -> DecisionInput) -> (Vec<ErrorCode>, bool, ErrorCode) {
    let mut live = Live::begin(12);
    live.answer(1);
    let code = ErrorCode::ContextExceeded;
    live.feed(broken(ModelError { code, message: "too long".into(), retry_after: None }));
    let attempts = live.journal.iter().filter_map(|entry| match entry {
        Entry::ModelFailed(failed) => Some(failed.code),
        _ => None,
    });
    let failed = live.state.failure_fault().expect("it failed").code;
    (attempts.collect(), live.state.cost_micros > 0, failed)
}

#[test]
fn a_context_error_after_text_is_charged_and_not_repeated() {
    let charged = charge_of(DecisionInput::BrokenAnswer);
    assert_eq!(charged, (vec![ErrorCode::ModelCut], true, ErrorCode::ContextExceeded));
}

/// Planted fault: the text that came before the error is not seen.
#[test]
fn text_that_costs_nothing_is_caught() {
    let charged = charge_of(DecisionInput::Failed);
    assert_eq!(charged, (vec![ErrorCode::ContextExceeded], false, ErrorCode::ContextExceeded));
}

#[test]
fn a_paused_agent_finishes_its_step_first() {
    let mut live = calls_asked(1);
    let entries = live.journal.len();
    live.feed(DecisionInput::AgentPaused);
    assert_eq!(
        (live.journal.len(), live.next.clone()),
        (entries, NextAction::Judge(CallId { step: 1, index: 0 }))
    );
}

#[test]
fn no_second_opinion_repeats_an_action_of_unknown_outcome() {
    let mut live = Live::recover(&one_call_begun(EffectClass::Unkeyed).journal, 1);
    live.answer(1);
    live.answer(1);
    let NextAction::Judge(again) = live.next else { panic!("a call is due, not {:?}", live.next) };
    live.feed(DecisionInput::Judged(again, CallJudgement::OpinionRequest(Box::new(consults(again)))));
    let rule = live.journal.iter().rev().find_map(|entry| match entry {
        Entry::ToolRefused(refused) => refused.rule.clone(),
        _ => None,
    });
    assert_eq!(rule.as_deref(), Some("unknown-outcome"));
}

#[test]
fn a_pause_instead_of_a_due_retry_parks_once() {
    let mut live = Live::begin(12);
    live.answer(1);
    live.feed(DecisionInput::Failed(ModelError {
        code: ErrorCode::ModelUnavailable,
        message: "no".into(),
        retry_after: None,
    }));
    assert!(live.state.run_head().wake_at.is_some());
    let mut live = Live::recover(&live.journal, 1);
    assert_eq!(live.next, NextAction::PlannedRequest);
    live.feed(DecisionInput::AgentPaused);
    assert_eq!((live.state.status(), live.next.clone()), (RunStatus::Parked, NextAction::Rest));
    assert_eq!(live.state.run_head().wake_at, None, "only the agent's resume wakes it");
    let entries = live.journal.len();
    let mut live = Live::recover(&live.journal, 1);
    live.feed(DecisionInput::AgentPaused);
    assert_eq!((live.journal.len(), live.next), (entries, NextAction::Rest), "it rests already");
}

#[test]
fn each_retry_waits_twice_as_long() {
    let mut live = Live::begin(12);
    let error = ModelError { code: ErrorCode::ModelUnavailable, message: "no".into(), retry_after: None };
    let mut waits = Vec::new();
    while live.state.status() != RunStatus::Failed {
        match live.next.clone() {
            NextAction::CallModel => {
                live.feed(DecisionInput::Failed(error.clone()));
                let parked = live.journal.iter().rev().find_map(|entry| match entry {
                    Entry::RunParked(RunParked { park: ParkReason::Retry { until } }) => Some(*until),
                    _ => None,
                });
                waits.push(parked.expect("it waits").as_millisecond());
            }
            NextAction::Rest => live = Live::recover(&live.journal, 1),
            _ => assert!(live.answer(1)),
        }
    }
    waits.dedup();
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000], "the last failure waits for nothing");
}

fn no_room() -> BudgetExhaustion {
    BudgetExhaustion {
        budget: "daily".into(),
        per: BudgetScope::Tenant,
        measure: BudgetMeasure::Calls,
        limit: 3,
        used: 3,
        needed: 1,
        until: None,
        unpriced: false,
    }
}

#[test]
fn a_run_without_funds_yields_and_names_its_budget() {
    let mut live = Live::begin(12);
    live.feed(DecisionInput::Unfunded(no_room()));
    assert_eq!(kinds(&live.journal), ["run_started", "run_yielded"]);
    assert_eq!((live.state.status(), live.next.clone()), (RunStatus::Yielded, NextAction::Rest));
    let fault = live.state.failure_fault().expect("it says why");
    assert_eq!(fault.code, ErrorCode::BudgetExhausted);
    assert!(fault.message.contains("daily (calls per tenant) is used up: 3 of 3 used"), "{}", fault.message);
    let Some(Entry::RunYielded(yielded)) = live.journal.last() else { panic!("{:?}", live.journal) };
    assert_eq!(yielded.budget, Some(no_room()));
}

#[test]
fn unfunded_calls_are_refused_by_the_budget() {
    let mut live = calls_asked(2);
    live.feed(DecisionInput::Unfunded(no_room()));
    assert_eq!(live.state.status(), RunStatus::Yielded);
    assert!(results(&live.journal).values().all(|times| *times == 1), "{:?}", kinds(&live.journal));
    let rules = live.journal.iter().filter_map(|entry| match entry {
        Entry::ToolRefused(refused) => refused.rule.as_deref(),
        _ => None,
    });
    assert_eq!(rules.collect::<Vec<_>>(), ["budget", "budget"]);
}

#[test]
fn a_crashed_call_that_cannot_be_paid_again_is_unknown() {
    let live = one_call_begun(EffectClass::Idempotent);
    let mut again = Live::recover(&live.journal, 1);
    again.feed(DecisionInput::Unfunded(no_room()));
    assert_eq!(again.state.status(), RunStatus::Yielded);
    assert_eq!(again.state.unknown_actions.len(), 1);
}

/// Lets the model make a call, which gives this text.
fn makes(live: &mut Live, step: u32, action: u8, text: &str) {
    live.answer(0);
    // One call.
    live.answer(1);
    let id = CallId { step, index: 0 };
    let call = prepared(id, EffectClass::Pure, action);
    live.feed(DecisionInput::Judged(id, CallJudgement::Allowed { call, rule: "r".into(), policy: None }));
    let parts = vec![ContentPart::new_text(text, Label::PUBLIC_FACT)];
    live.feed(DecisionInput::Finished(id, ToolOutput { parts, ..ToolOutput::default() }));
}

/// Lets the model make a call that is refused because it was made too often.
fn is_refused(live: &mut Live, step: u32) {
    live.answer(0);
    live.answer(1);
    let id = CallId { step, index: 0 };
    let (rule, reason) = ("loop".to_owned(), "it repeats itself".to_owned());
    live.feed(DecisionInput::Judged(id, CallJudgement::Denied { rule, reason, policy: None }));
}

#[test]
fn the_same_call_is_a_repetition_whatever_its_result() {
    let mut live = Live::begin(64);
    for (step, text) in (1..).zip(["1 line", "2 lines", "3 lines", "4 lines"]) {
        makes(&mut live, step, 1, text);
    }
    let (appended, other) =
        (prepared(CallId { step: 5, index: 0 }, EffectClass::Pure, 1).action, Digest::default());
    assert_eq!(live.state.repeat_count(appended, 4, 24), Some(4));
    assert_eq!(live.state.repeat_count(appended, 5, 24), None);
    assert_eq!(live.state.repeat_count(appended, 4, 3), None, "only the last three are looked at");
    assert_eq!(live.state.repeat_count(appended, 0, 24), None, "it is switched off");
    assert_eq!(live.state.repeat_count(other, 1, 24), None, "it was never made");
    makes(&mut live, 5, 2, "news");
    assert_eq!(live.state.repeat_count(appended, 1, 24), Some(1), "after something new it counts from there");
    assert_eq!(live.state.repeat_count(appended, 2, 24), None);
    assert_eq!(RunState::fold(&live.journal), live.state);
}

#[test]
fn a_model_repeating_a_call_is_warned_before_it_yields() {
    let mut live = Live::begin(64);
    makes(&mut live, 1, 1, "1 line");
    for step in 2..=3 {
        is_refused(&mut live, step);
        assert_eq!(live.state.repetition_steps(), None, "it may do something else");
    }
    makes(&mut live, 4, 2, "news");
    for step in 5..=7 {
        assert_eq!(live.state.repetition_steps(), None, "it did something else, and is told anew");
        is_refused(&mut live, step);
    }
    let told = live.state.repetition_steps().expect("it was told often enough");
    assert_eq!((told, RunState::fold(&live.journal)), (3, live.state.clone()));
    live.feed(DecisionInput::Circled { told });
    let fault = live.state.failure_fault().expect("it says why");
    assert_eq!((live.state.status(), fault.code), (RunStatus::Yielded, ErrorCode::LoopDetected));
    assert!(fault.message.contains("in 3 steps"), "{fault}");
}
