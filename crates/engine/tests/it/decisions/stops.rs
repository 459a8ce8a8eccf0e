//! What stops a run before it has an answer: a request that does not fit or is refused, a limit, a pause, a budget, and a circle.

use dromia_contracts::budget::{Exhausted, Measure, Per};
use dromia_contracts::content::Part;
use dromia_contracts::entry::Entry;
use dromia_contracts::label::Label;
use dromia_contracts::model::ModelError;
use dromia_contracts::run::RunStatus;
use dromia_contracts::tool::{EffectClass, ToolOutput};
use dromia_contracts::{CallId, ErrorCode};
use dromia_engine::decide::Judgement;
use dromia_engine::{Input, Next, RunState};

use super::{Live, calls_asked, kinds, one_call_begun, prepared, results};

#[test]
fn a_request_that_does_not_fit_fails_the_run_and_no_attempt_begins() {
    let mut live = Live::begin(12);
    let calls = live.state.model_calls;
    live.feed(Input::Unplanned(ModelError {
        code: ErrorCode::ContextExceeded,
        message: "too long for m".into(),
        retry_after: None,
    }));
    assert_eq!((live.state.status(), live.next.clone()), (RunStatus::Failed, Next::Rest));
    assert_eq!((live.state.model_calls, live.state.cost_micros), (calls, 0));
    let fault = live.state.fault().expect("it failed");
    assert_eq!((fault.code, fault.message.as_str()), (ErrorCode::ContextExceeded, "too long for m"));
}

#[test]
fn a_request_that_nobody_needs_now_ends_nothing() {
    let mut live = calls_asked(2);
    let entries = live.journal.len();
    live.feed(Input::Unplanned(ModelError {
        code: ErrorCode::ContextExceeded,
        message: "too long for m".into(),
        retry_after: None,
    }));
    assert_eq!((live.journal.len(), live.next.clone()), (entries, Next::Judge(CallId { step: 1, index: 0 })));
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
fn a_request_that_the_gate_refuses_is_denied_at_once_and_costs_nothing() {
    let mut live = Live::begin(12);
    live.answer(1);
    assert_eq!(live.next, Next::CallModel);
    let message = "the request was refused by policy no-models: not here".to_owned();
    let code = ErrorCode::ActionDenied;
    live.feed(Input::Failed(ModelError { code, message: message.clone(), retry_after: None }));
    let failure = live.state.failure.clone().expect("it failed");
    assert_eq!((live.state.status(), failure.code, failure.message), (RunStatus::Failed, code, message));
    assert_eq!(live.state.cost_micros, 0);
}

#[test]
fn a_pause_in_place_of_a_due_retry_parks_once_and_rests() {
    let mut live = Live::begin(12);
    live.answer(1);
    live.feed(Input::Failed(ModelError {
        code: ErrorCode::ModelUnavailable,
        message: "no".into(),
        retry_after: None,
    }));
    assert!(live.state.head().wake_at.is_some());
    let mut live = Live::recover(&live.journal, 1);
    assert_eq!(live.next, Next::Plan);
    live.feed(Input::AgentPaused);
    assert_eq!((live.state.status(), live.next.clone()), (RunStatus::Parked, Next::Rest));
    assert_eq!(live.state.head().wake_at, None, "only the agent's resume wakes it");
    let entries = live.journal.len();
    let mut live = Live::recover(&live.journal, 1);
    live.feed(Input::AgentPaused);
    assert_eq!((live.journal.len(), live.next), (entries, Next::Rest), "it rests already");
}

fn no_room() -> Exhausted {
    Exhausted {
        budget: "daily".into(),
        per: Per::Tenant,
        measure: Measure::Calls,
        limit: 3,
        used: 3,
        needed: 1,
        until: None,
        unpriced: false,
    }
}

#[test]
fn a_run_without_funds_yields_and_says_which_budget_stopped_it() {
    let mut live = Live::begin(12);
    live.feed(Input::Unfunded(no_room()));
    assert_eq!(kinds(&live.journal), ["run_started", "run_yielded"]);
    assert_eq!((live.state.status(), live.next.clone()), (RunStatus::Yielded, Next::Rest));
    let fault = live.state.fault().expect("it says why");
    assert_eq!(fault.code, ErrorCode::BudgetExhausted);
    assert!(fault.message.contains("daily (calls per tenant) is used up: 3 of 3 used"), "{}", fault.message);
    assert_eq!(live.journal.last().map(Entry::kind), Some(("run_yielded", 2)));
}

#[test]
fn calls_for_which_there_are_no_funds_are_refused_by_the_budget() {
    let mut live = calls_asked(2);
    live.feed(Input::Unfunded(no_room()));
    assert_eq!(live.state.status(), RunStatus::Yielded);
    assert!(results(&live.journal).values().all(|times| *times == 1), "{:?}", kinds(&live.journal));
    let rules = live.journal.iter().filter_map(|entry| match entry {
        Entry::ToolRefused(refused) => refused.rule.as_deref(),
        _ => None,
    });
    assert_eq!(rules.collect::<Vec<_>>(), ["budget", "budget"]);
}

#[test]
fn a_call_that_a_crash_cut_off_and_that_may_not_be_paid_again_is_unknown() {
    let live = one_call_begun(EffectClass::Idempotent);
    let mut again = Live::recover(&live.journal, 1);
    again.feed(Input::Unfunded(no_room()));
    assert_eq!(again.state.status(), RunStatus::Yielded);
    assert_eq!(again.state.unknown_actions.len(), 1);
}

#[test]
fn the_same_call_with_the_same_result_is_a_circle_and_another_result_is_none() {
    let mut live = Live::begin(64);
    let mut step = 1;
    let mut say = |live: &mut Live, text: &str| {
        live.answer(0);
        // One call.
        live.answer(1);
        let id = CallId { step, index: 0 };
        let call = prepared(id, EffectClass::Pure, 1);
        live.feed(Input::Judged(id, Judgement::Allowed { call, rule: "r".into(), policy: None }));
        let parts = vec![Part::text(text, Label::PUBLIC_FACT)];
        live.feed(Input::Finished(id, ToolOutput { parts, ..ToolOutput::default() }));
        step += 1;
    };
    for text in ["a", "a", "b", "a"] {
        say(&mut live, text);
    }
    assert_eq!(live.state.circle(3, 4), Some(3));
    assert_eq!(live.state.circle(3, 3), None, "only the last three are looked at");
    assert_eq!(live.state.circle(0, 4), None, "it is switched off");
    say(&mut live, "c");
    assert_eq!(live.state.circle(2, 64), None);
    assert_eq!(RunState::fold(&live.journal), live.state);
    live.feed(Input::Circled { times: 3 });
    let fault = live.state.fault().expect("it failed");
    assert_eq!((live.state.status(), fault.code), (RunStatus::Failed, ErrorCode::LoopDetected));
}
