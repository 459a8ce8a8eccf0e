//! Calls that are not between the model and the agent's tools: those that are handed to the client, and those that somebody asked
//! for by hand. Each is closed once, and what it gave leaves through the gate.

use dromia_contracts::CallId;
use dromia_contracts::content::{CallStatus, ContentPart};
use dromia_contracts::entry::Entry;
use dromia_contracts::gate::GateVerdict;
use dromia_contracts::input::ManualCall;
use dromia_contracts::label::Label;
use dromia_contracts::run::RunStatus;
use dromia_contracts::tool::{EffectClass, ToolOutput};
use dromia_engine::decide::CallJudgement;
use dromia_engine::{DecisionInput, NextAction};

use super::{Live, calls_asked, kinds, prepared, results};

#[test]
fn client_calls_are_handed_over_after_the_agents_own() {
    let mut live = calls_asked(3);
    for index in 0..3 {
        let id = CallId { step: 1, index };
        assert_eq!(live.next, NextAction::Judge(id));
        if index == 1 {
            let call = prepared(id, EffectClass::Pure, 1);
            live.feed(DecisionInput::Judged(
                id,
                CallJudgement::Allowed { call, rule: "r".into(), policy: None },
            ));
            let parts = vec![ContentPart::new_text("done", Label::PUBLIC_FACT)];
            live.feed(DecisionInput::Finished(
                id,
                ToolOutput { failed: false, parts, ..ToolOutput::default() },
            ));
        } else {
            live.feed(DecisionInput::Judged(id, CallJudgement::ForClient));
        }
    }
    assert_eq!(live.next, NextAction::JudgeReply, "the calls leave with the reply, through the gate");
    live.answer(1);
    assert_eq!((live.state.status(), live.next.clone()), (RunStatus::Completed, NextAction::Rest));
    assert_eq!(
        kinds(&live.journal)[3..],
        ["tool_handed", "tool_started", "tool_finished", "tool_handed", "run_completed"]
    );
    assert_eq!(live.state.model_calls, 1, "the model is asked again when the client has answered");
}

#[test]
fn a_crash_between_handed_calls_hands_each_over_once() {
    let mut live = calls_asked(2);
    live.feed(DecisionInput::Judged(CallId { step: 1, index: 0 }, CallJudgement::ForClient));
    for length in 3..=live.journal.len() {
        let mut again = Live::recover(&live.journal[..length], 1);
        while let NextAction::Judge(id) = again.next {
            again.feed(DecisionInput::Judged(id, CallJudgement::ForClient));
        }
        again.settle();
        assert_eq!(again.state.status(), RunStatus::Completed);
        assert!(results(&again.journal).values().all(|times| *times == 1), "{:?}", kinds(&again.journal));
    }
}

#[test]
fn a_refused_reply_takes_handed_calls_back_with_the_run() {
    let mut live = calls_asked(1);
    live.feed(DecisionInput::Judged(CallId { step: 1, index: 0 }, CallJudgement::ForClient));
    live.feed(DecisionInput::ReplyJudged(GateVerdict::Deny {
        rule: "reply".into(),
        reason: "no".into(),
        policy: None,
    }));
    assert_eq!(live.state.status(), RunStatus::Failed);
}

/// Drives a run to the point where the one call that somebody asked for is to be judged.
fn asked_by_hand() -> Live {
    let mut live = Live::begin(12);
    assert_eq!(live.next, NextAction::PlannedRequest);
    live.feed(DecisionInput::Asked(ManualCall { tool: "t".into(), arguments: "{}".into() }));
    live
}

#[test]
fn a_call_by_hand_is_judged_and_ends_its_run() {
    let id = CallId { step: 1, index: 0 };
    for denied in [false, true] {
        let mut live = asked_by_hand();
        assert_eq!(live.next, NextAction::Judge(id));
        if denied {
            live.feed(DecisionInput::Judged(
                id,
                CallJudgement::Denied { rule: "no".into(), reason: "no".into(), policy: None },
            ));
        } else {
            let call = prepared(id, EffectClass::Unkeyed, 1);
            live.feed(DecisionInput::Judged(
                id,
                CallJudgement::Allowed { call, rule: "r".into(), policy: None },
            ));
            live.feed(DecisionInput::Finished(id, ToolOutput { failed: true, ..ToolOutput::default() }));
        }
        assert_eq!(live.next, NextAction::JudgeReply, "what it gave leaves through the gate");
        live.answer(1);
        assert_eq!((live.state.status(), live.state.model_calls), (RunStatus::Completed, 0));
        let expected: &[&str] = if denied {
            &["run_started", "call_asked", "tool_refused", "run_completed"]
        } else {
            &["run_started", "call_asked", "tool_started", "tool_finished", "run_completed"]
        };
        assert_eq!(kinds(&live.journal), expected);
    }
}

#[test]
fn a_crashed_call_by_hand_is_unknown_and_not_repeated() {
    let id = CallId { step: 1, index: 0 };
    let mut live = asked_by_hand();
    let before = Live::recover(&live.journal, 1);
    assert_eq!(
        before.next,
        NextAction::Judge(id),
        "what was asked for and did not begin is judged after a crash"
    );
    let call = prepared(id, EffectClass::Unkeyed, 1);
    live.feed(DecisionInput::Judged(id, CallJudgement::Allowed { call, rule: "r".into(), policy: None }));
    let mut again = Live::recover(&live.journal, 1);
    assert_eq!(again.next, NextAction::JudgeReply);
    again.answer(1);
    assert_eq!(
        kinds(&again.journal),
        ["run_started", "call_asked", "tool_started", "tool_finished", "run_completed"]
    );
    assert!(again.journal.iter().any(
        |entry| matches!(entry, Entry::ToolFinished(finished) if finished.status == CallStatus::Unknown)
    ));
}
