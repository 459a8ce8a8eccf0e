//! What a takeover makes of a call or of an attempt that a crash cut off, and when it holds the run instead.

use dromia_contracts::content::CallStatus;
use dromia_contracts::entry::Entry;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::ItemKind;
use dromia_contracts::tool::EffectClass;
use dromia_engine::decide::CallJudgement;
use dromia_engine::{DecisionInput, NextAction};

use super::{Live, one_call_begun, prepared, signal};

#[test]
fn a_crashed_unkeyed_call_is_unknown_and_repeats_need_approval() {
    let live = one_call_begun(EffectClass::Unkeyed);
    let mut live = Live::recover(&live.journal, 1);
    let status = live.journal.iter().find_map(|entry| match entry {
        Entry::ToolFinished(finished) => Some(finished.status),
        _ => None,
    });
    assert_eq!(status, Some(CallStatus::Unknown));
    live.answer(1);
    live.answer(1);
    let NextAction::Judge(id) = live.next else { panic!("the model asks again") };
    let again = CallJudgement::Allowed {
        call: prepared(id, EffectClass::Unkeyed, 1),
        rule: "r".into(),
        policy: None,
    };
    live.feed(DecisionInput::Judged(id, again));
    assert!(
        matches!(live.journal.last(), Some(Entry::ToolRefused(refused)) if refused.status == CallStatus::Denied)
    );
}

#[test]
fn a_crashed_repeatable_call_begins_again_under_its_id() {
    for effect in [EffectClass::Pure, EffectClass::Idempotent, EffectClass::Keyed, EffectClass::Transactional]
    {
        let live = one_call_begun(effect);
        let mut live = Live::recover(&live.journal, 1);
        let NextAction::Judge(id) = live.next else {
            panic!("a retry passes the gate again: {:?}", live.next)
        };
        live.feed(DecisionInput::Judged(
            id,
            CallJudgement::Allowed { call: prepared(id, effect, 1), rule: "r".into(), policy: None },
        ));
        let begun: Vec<_> = live
            .journal
            .iter()
            .filter_map(|entry| match entry {
                Entry::ToolStarted(started) => Some((started.call, started.attempt)),
                _ => None,
            })
            .collect();
        assert_eq!(begun, [(id, 1), (id, 2)], "{effect:?}");
    }
}

#[test]
fn a_lost_model_attempt_is_charged_at_its_reservation() {
    let mut live = Live::begin(12);
    live.answer(1);
    assert_eq!(live.next, NextAction::CallModel);
    let live = Live::recover(&live.journal, 1);
    assert_eq!(live.state.cost_micros, 7);
    assert_eq!(live.next, NextAction::PlannedRequest);
}

#[test]
fn a_run_claimed_six_times_without_an_entry_is_held() {
    let live = Live::begin(12);
    assert_eq!(Live::recover(&live.journal, 5).state.status(), RunStatus::Running);
    let mut held = Live::recover(&live.journal, 6);
    assert_eq!((held.state.status(), held.next.clone()), (RunStatus::Held, NextAction::Rest));
    held.feed(signal(ItemKind::Release, 1));
    assert_eq!((held.state.status(), held.next.clone()), (RunStatus::Running, NextAction::PlannedRequest));
}

#[test]
fn five_crashes_in_one_model_step_hold_the_run() {
    let mut live = Live::begin(12);
    for _ in 0..5 {
        live.answer(1);
        live = Live::recover(&live.journal, 1);
    }
    assert_eq!(live.state.status(), RunStatus::Held);
}
