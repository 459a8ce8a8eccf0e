//! The calls of one step that a person must allow: open together, answered each by its name, begun in their order, and honest at
//! every prefix.

use dromia_contracts::approval::{ApprovalTransition, approval_transition};
use dromia_contracts::entry::{ParkReason, RunParked};

use super::*;

const COUNT: u32 = 3;

fn call(index: u32) -> CallId {
    CallId { step: 1, index }
}

/// The number of a call's action and of what it is bound to.
fn number(index: u32) -> u8 {
    u8::try_from(index).expect("is small") + 20
}

fn id(index: u32) -> ApprovalId {
    ApprovalId::from_bytes([number(index); 16])
}

fn asks_for(index: u32) -> RequiredApproval {
    asks(call(index), number(index), number(index))
}

fn ahead(asks: RequiredApproval) -> DecisionInput {
    DecisionInput::JudgedAhead(asks.call.id, Some(Box::new(asks)))
}

/// An answer to a call, at a place of the run's inbox.
fn answer(kind: ItemKind, index: u32, position: u64, words: &str) -> DecisionInput {
    let body = serde_json::to_vec(&AnswerBody::new(id(index), words)).expect("it is data");
    DecisionInput::Signal(InboxItem {
        id: ItemId::from_bytes([u8::try_from(position).expect("is small"); 16]),
        position,
        at: second(1),
        kind,
        author: Actor::new("token:ops"),
        body: Some(Bytes::from(body)),
        taken_by: None,
    })
}

/// A turn whose step asks for three calls.
fn waiting() -> Live {
    let mut live = Live::with_calls(COUNT as usize);
    live.feed(judged(asks_for(0)));
    for index in 1..COUNT {
        assert_eq!(live.next, NextAction::JudgeAhead(call(index)));
        live.feed(ahead(asks_for(index)));
    }
    live
}

/// Runs the call that is due.
fn run(live: &mut Live) -> CallId {
    let NextAction::RunTool(prepared) = live.next.clone() else { panic!("a call is due: {:?}", live.next) };
    live.feed(DecisionInput::Finished(prepared.id, ToolOutput::default()));
    prepared.id
}

fn parks(live: &Live) -> Vec<(ApprovalId, Option<ApprovalId>)> {
    let park = |entry: &Entry| match entry {
        Entry::RunParked(RunParked { park: ParkReason::Approval { approval, replaces, .. } }) => {
            Some((*approval, *replaces))
        }
        _ => None,
    };
    live.journal.iter().filter_map(park).collect()
}

#[test]
fn the_asks_of_a_step_are_open_and_awaited_together() {
    let mut live = waiting();
    assert_eq!(live.asked.iter().map(|asked| asked.id).collect::<Vec<_>>(), [id(0), id(1), id(2)]);
    assert_eq!((live.next.clone(), live.state.status()), (NextAction::Rest, RunStatus::Parked));
    assert_eq!(live.state.run_head().wake_at, Some(second(HOLD)));
    assert_eq!(
        live.state.unanswered_calls().map(|(call, _)| call).collect::<Vec<_>>(),
        [call(0), call(1), call(2)]
    );
    live.crash();
    assert_eq!((live.next.clone(), live.state.status()), (NextAction::Rest, RunStatus::Parked));
    // In whichever order the answers come, the calls begin in theirs, each under its own approval.
    for (position, index) in (1..).zip([2, 0, 1]) {
        live.feed(answer(ItemKind::Approve, index, position, ""));
    }
    live.crash();
    for index in 0..COUNT {
        assert_eq!(live.next, NextAction::Judge(call(index)), "everything is judged again");
        live.feed(judged(asks_for(index)));
        assert_eq!(run(&mut live), call(index));
    }
    assert_eq!(live.starts(), [Some(id(0)), Some(id(1)), Some(id(2))]);
    assert_eq!((live.next.clone(), live.asked.len(), parks(&live).len()), (NextAction::PlannedRequest, 3, 3));
}

#[test]
fn an_answer_applies_only_to_the_call_it_names() {
    let mut live = waiting();
    live.feed(answer(ItemKind::Deny, 1, 1, "not that one"));
    assert_eq!(live.refused(), Some((CallStatus::Denied, Some("approval-denied"), Some(id(1)))));
    assert_eq!(
        (live.next.clone(), live.state.status()),
        (NextAction::Rest, RunStatus::Parked),
        "the first still waits"
    );
    assert_eq!(live.state.run_head().wake_at, Some(second(HOLD)));
    live.feed(answer(ItemKind::Approve, 2, 2, ""));
    assert_eq!(
        (live.next.clone(), live.state.status()),
        (NextAction::Rest, RunStatus::Parked),
        "its turn has not come"
    );
    live.crash();
    live.feed(answer(ItemKind::Approve, 0, 3, ""));
    live.feed(judged(asks_for(0)));
    assert_eq!(run(&mut live), call(0));
    assert_eq!(live.next, NextAction::Judge(call(2)), "the second has its result");
    live.feed(judged(asks_for(2)));
    assert_eq!(run(&mut live), call(2));
    assert_eq!(
        (live.starts(), live.next.clone()),
        (vec![Some(id(0)), Some(id(2))], NextAction::PlannedRequest)
    );
    // An answer to what this run does not wait for changes nothing.
    let mut live = waiting();
    live.feed(answer(ItemKind::Approve, 9, 1, ""));
    assert_eq!((live.next.clone(), live.state.unanswered_calls().count()), (NextAction::Rest, 3));
}

#[test]
fn unanswered_calls_of_a_step_share_one_deadline() {
    let mut live = waiting();
    live.feed(answer(ItemKind::Approve, 0, 1, ""));
    live.now = second(HOLD - 1);
    live.feed(judged(asks_for(0)));
    assert_eq!(run(&mut live), call(0));
    assert_eq!(live.next, NextAction::Judge(call(1)), "its turn has come");
    live.feed(judged(asks_for(1)));
    assert_eq!((live.next.clone(), live.state.status()), (NextAction::Rest, RunStatus::Parked));
    assert_eq!(live.state.run_head().wake_at, Some(second(HOLD)), "no time of its own");
    live.now = second(HOLD);
    live.crash();
    assert_eq!(live.refused(), Some((CallStatus::Awaiting, None, Some(id(1)))));
    live.feed(judged(asks_for(2)));
    live.crash();
    assert_eq!(live.refused(), Some((CallStatus::Awaiting, None, Some(id(2)))));
    assert_eq!(
        (live.next.clone(), live.asked.len()),
        (NextAction::PlannedRequest, 3),
        "nobody is asked twice"
    );
    assert_eq!(live.state.awaiting.len(), 2);
}

#[test]
fn answers_in_the_inbox_count_before_the_deadline() {
    let mut live = waiting();
    live.now = second(HOLD);
    for (position, index) in (1..).zip([2, 1, 0]) {
        live.feed(answer(ItemKind::Approve, index, position, ""));
        assert_eq!(live.refused(), None, "an answer to it comes still");
    }
    assert_eq!(live.next, NextAction::Judge(call(0)));
}

#[test]
fn a_call_that_changed_before_its_turn_is_asked_again() {
    for is_approved in [false, true] {
        let mut live = waiting();
        live.feed(answer(ItemKind::Approve, 0, 1, ""));
        if is_approved {
            live.feed(answer(ItemKind::Approve, 1, 2, ""));
        }
        live.feed(judged(asks_for(0)));
        run(&mut live);
        // What the first gave made it another, such as one that another rule asks about.
        live.feed(judged(asks(call(1), number(1), 77)));
        let anew = ApprovalId::from_bytes([77; 16]);
        assert_eq!(
            (live.starts(), live.next.clone()),
            (vec![Some(id(0))], NextAction::Rest),
            "{is_approved}"
        );
        assert_eq!(parks(&live).last(), Some(&(anew, Some(id(1)))));
        let newest = live.journal.last().expect("it rests");
        assert_eq!(
            approval_transition(newest),
            Some((id(1), ApprovalTransition::Withdraw)),
            "what was asked ahead is taken back"
        );
        assert_eq!((live.asked.len(), live.state.status()), (4, RunStatus::Parked));
        // An answer to what was taken back comes too late.
        live.feed(answer(ItemKind::Approve, 1, 3, ""));
        assert_eq!((live.next.clone(), live.starts().len()), (NextAction::Rest, 1));
    }
}

#[test]
fn a_call_without_need_of_approval_begins_and_retracts_it() {
    let mut live = waiting();
    live.feed(answer(ItemKind::Approve, 0, 1, ""));
    live.feed(judged(asks_for(0)));
    run(&mut live);
    let RequiredApproval { call: prepared, .. } = asks_for(1);
    live.feed(DecisionInput::Judged(
        call(1),
        CallJudgement::Allowed { call: prepared, rule: "mine".into(), policy: None },
    ));
    let start = live.journal.last().expect("it begins");
    assert_eq!(approval_transition(start), Some((id(1), ApprovalTransition::Retract)));
    assert_eq!(live.starts(), [Some(id(0)), None]);
    // What the gate denies by then is denied, and taken back too.
    run(&mut live);
    let denied = CallJudgement::Denied { rule: "policy no".into(), reason: "no".into(), policy: None };
    live.feed(DecisionInput::Judged(call(2), denied));
    assert_eq!(live.refused(), Some((CallStatus::Denied, Some("policy no"), Some(id(2)))));
}

#[test]
fn an_end_takes_back_all_that_is_open() {
    for end in [ItemKind::Cancel, ItemKind::Terminate] {
        let mut live = waiting();
        live.feed(signal(end, ""));
        let back = live.journal.iter().filter_map(approval_transition).collect::<Vec<_>>();
        assert_eq!(
            back,
            (0..COUNT).map(|index| (id(index), ApprovalTransition::Withdraw)).collect::<Vec<_>>()
        );
        assert_eq!(live.state.status(), RunStatus::Cancelled);
    }
    let mut live = waiting();
    live.feed(answer(ItemKind::Approve, 1, 1, ""));
    live.feed(DecisionInput::Ended { by: Actor::new("token:ops") });
    assert_eq!(live.journal.iter().filter_map(approval_transition).count(), 3);
    assert_eq!(live.starts(), []);
}

/// What comes of a second call that is spoiled before it is asked for ahead.
fn spoiled(spoil: fn(&mut RequiredApproval)) -> (usize, NextAction, bool) {
    let mut live = Live::with_calls(2);
    live.feed(judged(asks_for(0)));
    let mut asks = asks_for(1);
    spoil(&mut asks);
    live.feed(ahead(asks));
    (live.asked.len(), live.next.clone(), live.refused().is_none())
}

#[test]
fn an_approval_that_cannot_be_asked_ahead_waits_its_turn() {
    let left = (1, NextAction::Rest, true);
    assert_eq!(spoiled(|asks| asks.attended = false), left, "nobody is there");
    assert_eq!(
        spoiled(|asks| asks.approval.deadlines.cools_until = Some(second(60))),
        left,
        "its time begins with its turn"
    );
    assert_eq!(
        spoiled(|asks| asks.approval.judged.action = Digest::from_bytes([20; 32])),
        left,
        "the same call"
    );
    assert_eq!(spoiled(|_| {}).0, 2);
    // What needs nobody, or somebody else first, says nothing ahead.
    let mut live = Live::with_calls(2);
    live.feed(judged(asks_for(0)));
    live.feed(DecisionInput::JudgedAhead(call(1), None));
    assert_eq!(
        (live.next.clone(), live.state.status(), live.asked.len()),
        (NextAction::Rest, RunStatus::Parked, 1)
    );
    // A run that lets go at once waits for nobody.
    let mut live = Live::with_calls(2);
    live.feed(judged(delayed(CALL, 6, 0)));
    assert_eq!(live.next, NextAction::Rest);
}

/// Tells whether the second call of a step is asked for ahead, if it does action 5.
fn is_asked_ahead(live: &mut Live) -> bool {
    live.answer(2);
    let second = CallId { step: 2, index: 1 };
    live.feed(judged(asks(CallId { step: 2, index: 0 }, 7, 7)));
    assert_eq!(live.next, NextAction::JudgeAhead(second));
    let asked = live.asked.len();
    live.feed(ahead(asks(second, 5, 8)));
    live.asked.len() > asked
}

#[test]
fn no_known_action_is_asked_ahead() {
    let mut live = Live::waiting();
    live.now = second(HOLD);
    live.feed(DecisionInput::Recovered { claims: 1 });
    live.now = second(0);
    assert_eq!(live.state.awaiting.len(), 1);
    assert!(!is_asked_ahead(&mut live), "it waits already");
    let mut live = Live::waiting();
    live.feed(signal(ItemKind::Approve, ""));
    live.feed(judged(asks(CALL, 5, 6)));
    live.crash();
    live.feed(judged(asks(CALL, 5, 6)));
    assert_eq!(live.finished(), Some(CallStatus::Unknown));
    assert!(!is_asked_ahead(&mut live), "its outcome is unknown");
    let mut live = Live::begin(None);
    live.answer(1);
    live.feed(judged(asks(CALL, 9, 6)));
    live.feed(signal(ItemKind::Deny, ""));
    assert!(is_asked_ahead(&mut live));
}

#[test]
fn a_step_holds_only_as_many_calls_as_a_run() {
    let calls = WAITING_MAX + 2;
    let mut live = Live::with_calls(calls);
    live.feed(judged(asks_for(0)));
    let mut judged_ahead = 0;
    while let NextAction::JudgeAhead(call) = live.next {
        judged_ahead += 1;
        live.feed(ahead(asks_for(call.index)));
    }
    assert_eq!(judged_ahead, WAITING_MAX - 1, "no call is judged for which there is no room");
    assert_eq!((live.asked.len(), live.state.unanswered_calls().count()), (WAITING_MAX, WAITING_MAX));
    live.now = second(HOLD);
    while live.next != NextAction::PlannedRequest {
        match live.next {
            NextAction::Judge(call) => live.feed(judged(asks_for(call.index))),
            _ => live.feed(DecisionInput::Recovered { claims: 1 }),
        }
    }
    assert_eq!(live.state.awaiting.len(), WAITING_MAX);
    assert_eq!(live.refused().and_then(|(_, rule, _)| rule), Some("approval-waiting"));
}

/// Goes on as far as it goes by itself, with time that passes where it rests.
fn drive(live: &mut Live) {
    for _ in 0..64 {
        match live.next.clone() {
            NextAction::Judge(call) => live.feed(judged(asks_for(call.index))),
            NextAction::JudgeAhead(call) => live.feed(ahead(asks_for(call.index))),
            NextAction::RunTool(_) => {
                run(live);
            }
            NextAction::Rest if live.state.status() == RunStatus::Parked => {
                live.now = second(HOLD);
                live.feed(DecisionInput::Recovered { claims: 1 });
            }
            _ => return,
        }
    }
    panic!("it does not come to an end: {:?}", live.next);
}

#[test]
fn no_crash_loses_or_doubles_calls_that_wait_together() {
    let mut ways = vec![waiting()];
    for answers in [
        &[(ItemKind::Approve, 0), (ItemKind::Approve, 1), (ItemKind::Approve, 2)][..],
        &[(ItemKind::Approve, 2), (ItemKind::Deny, 1), (ItemKind::Approve, 0)],
        &[(ItemKind::Deny, 0), (ItemKind::Approve, 2)],
    ] {
        let mut live = waiting();
        for (position, (kind, index)) in (1..).zip(answers) {
            live.feed(answer(*kind, *index, position, "because"));
        }
        drive(&mut live);
        ways.push(live);
    }
    for live in ways {
        let stored = |entry: &Entry| {
            Entry::decode(entry.kind().0, entry.kind().1, &entry.encode()).expect("it was just written")
        };
        let journal: Vec<Entry> = live.journal.iter().map(stored).collect();
        assert_eq!(RunState::fold(&journal), live.state);
        for length in 1..=journal.len() {
            let mut again = live.clone();
            again.journal.truncate(length);
            again.crash();
            drive(&mut again);
            let asked_for = again.journal.iter().any(|entry| matches!(entry, Entry::ModelReplied(_)));
            let ends = |entry: &&Entry| matches!(entry, Entry::ToolFinished(_) | Entry::ToolRefused(_));
            let results = again.journal.iter().filter(ends).count();
            assert_eq!(results, if asked_for { 3 } else { 0 }, "{length}: {:?}", again.journal);
            let mut used: Vec<_> = again.starts().into_iter().flatten().collect();
            used.sort_unstable();
            used.dedup();
            assert_eq!(used.len(), again.starts().len(), "{length}: an approval allows one start");
        }
    }
}
