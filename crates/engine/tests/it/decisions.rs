//! The pure core under random answers and crashes at every prefix.

use std::collections::BTreeMap;

use dromia_contracts::budget::{Exhausted, Measure, Per};
use dromia_contracts::content::{CallStatus, Part};
use dromia_contracts::entry::{Entry, RunStarted};
use dromia_contracts::gate::Verdict;
use dromia_contracts::input::AskedCall;
use dromia_contracts::label::Label;
use dromia_contracts::model::{Finish, ModelError, ModelReply, Prepared, ProposedCall, Usage, UsageDetail};
use dromia_contracts::opinion::{Opinion, Word};
use dromia_contracts::run::{RunKind, RunStatus};
use dromia_contracts::sent::{BodyDigest, Sent, TaintedPast, Wording};
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::tool::{EffectClass, PreparedCall, ToolOutput};
use dromia_contracts::{Actor, AgentId, CallId, Digest, ErrorCode, ItemId, SessionId};
use dromia_engine::decide::{Consulted, Consults, Judgement, Plan};
use dromia_engine::{Input, Next, RunState, apply, decide};
use jiff::Timestamp;
use proptest::prelude::*;

use crate::cost::spent;

const EFFECTS: [EffectClass; 5] = [
    EffectClass::Pure,
    EffectClass::Idempotent,
    EffectClass::Keyed,
    EffectClass::Transactional,
    EffectClass::Unkeyed,
];

fn started(model_calls_max: u32) -> RunStarted {
    RunStarted {
        kind: RunKind::Turn,
        agent: AgentId::from_bytes([1; 16]),
        session: SessionId::from_bytes([2; 16]),
        items: vec![ItemId::from_bytes([3; 16])],
        after: 0,
        resumes: None,
        approved: None,
        config: Digest::default(),
        prompt: Digest::default(),
        model_calls_max,
    }
}

fn signal(kind: ItemKind, position: u64) -> Input {
    Input::Signal(InboxItem {
        id: ItemId::from_bytes([9; 16]),
        position,
        at: Timestamp::UNIX_EPOCH,
        kind,
        author: Actor::new("cli:ada"),
        body: None,
        taken_by: None,
    })
}

fn prepared(id: CallId, effect: EffectClass, action: u8) -> PreparedCall {
    let action = Digest::from_bytes([action; 32]);
    PreparedCall {
        id,
        tool: "t".into(),
        effect,
        arguments: "{}".into(),
        action,
        reaches: None,
        network: None,
        contents: None,
    }
}

/// What a call sent; deciding looks at none of it.
fn sent() -> Sent {
    let wording = Wording {
        by: None,
        form: "chat/1".into(),
        model: "m".into(),
        whole: false,
        limit: None,
        left_out: 0,
        tainted_past: TaintedPast::Whole,
    };
    Sent { wording, digest: BodyDigest::of(&[7; 32]) }
}

/// A second model is asked three times about a call.
fn consults(id: CallId) -> Consults {
    let sent = sent();
    let prepared = Prepared {
        wording: sent.wording.clone(),
        body: bytes::Bytes::new(),
        input_tokens: 10,
        output_tokens_max: 10,
        reserved_micros: 7,
        priced: true,
    };
    Consults {
        call: self::prepared(id, EffectClass::Unkeyed, 1),
        model: "n".into(),
        samples: 3,
        prepared,
        sent,
    }
}

fn consulted(dice: u8) -> Consulted {
    let words = [Word::Go, Word::Stop, Word::Neither].into_iter().cycle().skip(usize::from(dice)).take(3);
    let usage = Usage { input_tokens: 3, output_tokens: 3 };
    Consulted { opinion: Opinion::count("n", 3, 2, words), usage, tokens: 6, cost_micros: 5 }
}

/// A run in memory: the journal, the live state, and what is due.
struct Live {
    journal: Vec<Entry>,
    state: RunState,
    next: Next,
}

impl Live {
    fn begin(model_calls_max: u32) -> Self {
        let mut live = Self { journal: vec![], state: RunState::default(), next: Next::Rest };
        live.feed(Input::Begin(started(model_calls_max)));
        live
    }

    /// Continues from a prefix of a journal, as a takeover does.
    fn recover(journal: &[Entry], claims: u64) -> Self {
        let mut live = Self { journal: journal.to_vec(), state: RunState::fold(journal), next: Next::Rest };
        live.feed(Input::Recovered { claims });
        live
    }

    fn feed(&mut self, input: Input) {
        let decision = decide(&self.state, Timestamp::UNIX_EPOCH, input);
        for new in decision.entries {
            apply(&mut self.state, &new.entry);
            self.journal.push(new.entry);
        }
        self.next = decision.next;
    }

    /// Tells whether an owner may ask a second model about a call.
    fn may_consult(&self, id: CallId) -> bool {
        self.state.may_be_doubted(id) && self.state.opinion(id).is_none()
    }

    /// Answers what is due, by one random number; `false` when nothing is.
    fn answer(&mut self, dice: u8) -> bool {
        let input = match self.next.clone() {
            Next::Rest => return false,
            Next::Plan => Input::Planned(Plan {
                model: "m".into(),
                history_from: 1,
                input_tokens: 10,
                output_tokens_max: 10,
                reserved_micros: 7,
                sent: sent(),
            }),
            Next::CallModel if dice.is_multiple_of(8) => Input::Failed(ModelError {
                code: [ErrorCode::ModelUnavailable, ErrorCode::ModelCut][usize::from(dice / 8 % 2)],
                message: "no".into(),
                retry_after: None,
            }),
            Next::CallModel => {
                let calls = usize::from(dice % 4);
                let call = ProposedCall { tool: "t".into(), arguments: "{}".into() };
                let finish = if calls == 0 { Finish::Stop } else { Finish::ToolCalls };
                let usage = Usage { input_tokens: 1, output_tokens: 1 };
                let calls = vec![call; calls];
                Input::Replied(
                    ModelReply {
                        text: "x".into(),
                        calls,
                        usage,
                        detail: UsageDetail::default(),
                        cost_micros: 3,
                        finish,
                        stopped_at: None,
                    },
                    Label::PUBLIC_FACT,
                )
            }
            Next::Judge(id) => {
                let judgement = match dice % 5 {
                    0 => Judgement::Denied { rule: "r".into(), reason: "no".into(), policy: None },
                    _ if dice % 11 == 10 => Judgement::ForClient,
                    _ if dice % 7 == 6 && self.may_consult(id) => Judgement::Consults(Box::new(consults(id))),
                    _ => Judgement::Allowed {
                        call: prepared(id, EFFECTS[usize::from(dice % 5)], dice % 7),
                        rule: "r".into(),
                        policy: None,
                    },
                };
                Input::Judged(id, judgement)
            }
            Next::JudgeAhead(id) => Input::JudgedAhead(id, None),
            Next::JudgeReply => Input::ReplyJudged(Verdict::Allow { rule: "reply".into(), policy: None }),
            Next::Consult(call) => Input::Consulted(call.id, consulted(dice)),
            Next::RunTool(call) => {
                let parts = vec![Part::text("done", Label::PUBLIC_FACT)];
                Input::Finished(
                    call.id,
                    ToolOutput { failed: dice.is_multiple_of(3), parts, ..ToolOutput::default() },
                )
            }
        };
        self.feed(input);
        true
    }

    fn run(&mut self, dice: &[u8]) {
        for dice in dice {
            if !self.answer(*dice) {
                break;
            }
        }
    }

    /// Answers without failures until the run rests.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            let calm = if self.next == Next::CallModel { 4 } else { 1 };
            if !self.answer(calm) {
                return;
            }
        }
        panic!("the run does not come to rest: {:?}", self.journal.last());
    }
}

/// Counts what closed every call that the model asked for: a result, or that it was handed to the client.
fn results(journal: &[Entry]) -> BTreeMap<CallId, usize> {
    let mut results = BTreeMap::new();
    for entry in journal {
        match entry {
            Entry::ModelReplied(replied) => {
                for index in 0..replied.tools.len() {
                    let index = u32::try_from(index).expect("a few calls");
                    results.insert(CallId { step: replied.step, index }, 0);
                }
            }
            Entry::ToolFinished(finished) => {
                *results.get_mut(&finished.call).expect("the call was asked for") += 1;
            }
            Entry::ToolRefused(refused) => {
                *results.get_mut(&refused.call).expect("the call was asked for") += 1;
            }
            Entry::ToolHanded(handed) => {
                *results.get_mut(&handed.call).expect("the call was asked for") += 1;
            }
            _ => {}
        }
    }
    results
}

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
    fn no_prefix_of_a_journal_leaves_a_call_without_exactly_one_result(
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
    fn terminating_at_any_point_closes_every_call_and_nothing_changes_afterwards(
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
        live.feed(Input::Recovered { claims: 1 });
        live.feed(signal(ItemKind::Cancel, 2));
        prop_assert_eq!(live.journal.len(), entries);
    }
}

proptest! {
    #[test]
    fn a_run_that_is_ended_without_a_signal_begins_nothing_more_whatever_its_prefix(
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
            let mut ended = Live { journal: prefix.to_vec(), state: RunState::fold(prefix), next: Next::Rest };
            let before = ended.state.is_ended();
            ended.feed(Input::Ended { by: Actor::new("engine") });
            prop_assert!(ended.state.is_ended() && ended.next == Next::Rest);
            prop_assert!(before || ended.state.status() == RunStatus::Cancelled);
            prop_assert!(results(&ended.journal).values().all(|times| *times == 1));
            prop_assert_eq!(begun(&ended.journal), begun(prefix));
        }
    }
}

/// Drives a run to the point where one call of a class has begun.
fn one_call_begun(effect: EffectClass) -> Live {
    let mut live = Live::begin(12);
    live.answer(1);
    live.answer(1);
    let Next::Judge(id) = live.next else { panic!("one call is asked for, not {:?}", live.next) };
    let judgement = Judgement::Allowed { call: prepared(id, effect, 1), rule: "r".into(), policy: None };
    live.feed(Input::Judged(id, judgement));
    live
}

#[test]
fn a_crash_during_an_unkeyed_call_makes_it_unknown_and_the_same_action_needs_a_person() {
    let live = one_call_begun(EffectClass::Unkeyed);
    let mut live = Live::recover(&live.journal, 1);
    let status = live.journal.iter().find_map(|entry| match entry {
        Entry::ToolFinished(finished) => Some(finished.status),
        _ => None,
    });
    assert_eq!(status, Some(CallStatus::Unknown));
    live.answer(1);
    live.answer(1);
    let Next::Judge(id) = live.next else { panic!("the model asks again") };
    let again =
        Judgement::Allowed { call: prepared(id, EffectClass::Unkeyed, 1), rule: "r".into(), policy: None };
    live.feed(Input::Judged(id, again));
    assert!(
        matches!(live.journal.last(), Some(Entry::ToolRefused(refused)) if refused.status == CallStatus::Denied)
    );
}

#[test]
fn a_crash_during_a_call_that_may_be_repeated_begins_it_again_under_the_same_id() {
    for effect in [EffectClass::Pure, EffectClass::Idempotent, EffectClass::Keyed, EffectClass::Transactional]
    {
        let live = one_call_begun(effect);
        let mut live = Live::recover(&live.journal, 1);
        let Next::Judge(id) = live.next else { panic!("a retry passes the gate again: {:?}", live.next) };
        live.feed(Input::Judged(
            id,
            Judgement::Allowed { call: prepared(id, effect, 1), rule: "r".into(), policy: None },
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

/// Drives a run to the point where so many calls are to be judged.
fn calls_asked(calls: u8) -> Live {
    let mut live = Live::begin(12);
    live.answer(1);
    live.answer(calls);
    live
}

fn kinds(journal: &[Entry]) -> Vec<&'static str> {
    journal.iter().map(|entry| entry.kind().0).collect()
}

#[test]
fn a_clients_call_is_handed_over_after_the_agents_own_have_run_and_ends_the_run() {
    let mut live = calls_asked(3);
    for index in 0..3 {
        let id = CallId { step: 1, index };
        assert_eq!(live.next, Next::Judge(id));
        if index == 1 {
            let call = prepared(id, EffectClass::Pure, 1);
            live.feed(Input::Judged(id, Judgement::Allowed { call, rule: "r".into(), policy: None }));
            let parts = vec![Part::text("done", Label::PUBLIC_FACT)];
            live.feed(Input::Finished(id, ToolOutput { failed: false, parts, ..ToolOutput::default() }));
        } else {
            live.feed(Input::Judged(id, Judgement::ForClient));
        }
    }
    assert_eq!(live.next, Next::JudgeReply, "the calls leave with the reply, through the gate");
    live.answer(1);
    assert_eq!((live.state.status(), live.next.clone()), (RunStatus::Completed, Next::Rest));
    assert_eq!(
        kinds(&live.journal)[3..],
        ["tool_handed", "tool_started", "tool_finished", "tool_handed", "run_completed"]
    );
    assert_eq!(live.state.model_calls, 1, "the model is asked again when the client has answered");
}

#[test]
fn a_crash_between_handed_calls_hands_each_over_once() {
    let mut live = calls_asked(2);
    live.feed(Input::Judged(CallId { step: 1, index: 0 }, Judgement::ForClient));
    for length in 3..=live.journal.len() {
        let mut again = Live::recover(&live.journal[..length], 1);
        while let Next::Judge(id) = again.next {
            again.feed(Input::Judged(id, Judgement::ForClient));
        }
        again.settle();
        assert_eq!(again.state.status(), RunStatus::Completed);
        assert!(results(&again.journal).values().all(|times| *times == 1), "{:?}", kinds(&again.journal));
    }
}

#[test]
fn a_refused_reply_takes_handed_calls_back_with_the_run() {
    let mut live = calls_asked(1);
    live.feed(Input::Judged(CallId { step: 1, index: 0 }, Judgement::ForClient));
    live.feed(Input::ReplyJudged(Verdict::Deny { rule: "reply".into(), reason: "no".into(), policy: None }));
    assert_eq!(live.state.status(), RunStatus::Failed);
}

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
fn a_lost_model_attempt_is_charged_at_its_reservation() {
    let mut live = Live::begin(12);
    live.answer(1);
    assert_eq!(live.next, Next::CallModel);
    let live = Live::recover(&live.journal, 1);
    assert_eq!(live.state.cost_micros, 7);
    assert_eq!(live.next, Next::Plan);
}

#[test]
fn a_run_that_is_claimed_six_times_without_an_entry_is_held() {
    let live = Live::begin(12);
    assert_eq!(Live::recover(&live.journal, 5).state.status(), RunStatus::Running);
    let mut held = Live::recover(&live.journal, 6);
    assert_eq!((held.state.status(), held.next.clone()), (RunStatus::Held, Next::Rest));
    held.feed(signal(ItemKind::Release, 1));
    assert_eq!((held.state.status(), held.next.clone()), (RunStatus::Running, Next::Plan));
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

/// Drives a run to the point where the one call that somebody asked for is to be judged.
fn asked_by_hand() -> Live {
    let mut live = Live::begin(12);
    assert_eq!(live.next, Next::Plan);
    live.feed(Input::Asked(AskedCall { tool: "t".into(), arguments: "{}".into() }));
    live
}

#[test]
fn a_call_by_hand_is_judged_and_its_result_ends_the_run_without_a_model() {
    let id = CallId { step: 1, index: 0 };
    for denied in [false, true] {
        let mut live = asked_by_hand();
        assert_eq!(live.next, Next::Judge(id));
        if denied {
            live.feed(Input::Judged(
                id,
                Judgement::Denied { rule: "no".into(), reason: "no".into(), policy: None },
            ));
        } else {
            let call = prepared(id, EffectClass::Unkeyed, 1);
            live.feed(Input::Judged(id, Judgement::Allowed { call, rule: "r".into(), policy: None }));
            live.feed(Input::Finished(id, ToolOutput { failed: true, ..ToolOutput::default() }));
        }
        assert_eq!(live.next, Next::JudgeReply, "what it gave leaves through the gate");
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
fn a_call_by_hand_that_a_crash_cut_off_is_unknown_and_is_not_made_again() {
    let id = CallId { step: 1, index: 0 };
    let mut live = asked_by_hand();
    let before = Live::recover(&live.journal, 1);
    assert_eq!(before.next, Next::Judge(id), "what was asked for and did not begin is judged after a crash");
    let call = prepared(id, EffectClass::Unkeyed, 1);
    live.feed(Input::Judged(id, Judgement::Allowed { call, rule: "r".into(), policy: None }));
    let mut again = Live::recover(&live.journal, 1);
    assert_eq!(again.next, Next::JudgeReply);
    again.answer(1);
    assert_eq!(
        kinds(&again.journal),
        ["run_started", "call_asked", "tool_started", "tool_finished", "run_completed"]
    );
    assert!(again.journal.iter().any(
        |entry| matches!(entry, Entry::ToolFinished(finished) if finished.status == CallStatus::Unknown)
    ));
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
