//! The pure core and calls that a person must allow: asked once, begun once, and honest at every prefix.

mod together;

use bytes::Bytes;
use dromia_contracts::approval::{
    ARGUMENTS_BYTES_MAX, AnswerBody, ApprovalDeadlines, ApprovalRequest, ApprovalState, ApprovedCall,
    BoundParts, CallSource, JudgedCall, WAITING_MAX,
};
use dromia_contracts::content::{CallStatus, ContentPart};
use dromia_contracts::encoded_request::{BodyDigest, RequestEncoding, SentEncoding, TaintedPast};
use dromia_contracts::entry::{Entry, RunStarted};
use dromia_contracts::input::ManualCall;
use dromia_contracts::label::Label;
use dromia_contracts::mind::AgentMind;
use dromia_contracts::model::{FinishReason, ModelReply, ProposedCall, TokenUsage, UsageDetail};
use dromia_contracts::plan::CallProvenance;
use dromia_contracts::run::{RunKind, RunStatus};
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::tool::{EffectClass, PreparedCall, ToolOutput};
use dromia_contracts::{Actor, AgentId, ApprovalId, CallId, Digest, ItemId, RunId, SessionId};
use dromia_engine::decide::{CallJudgement, PlannedRequest, RequiredApproval};
use dromia_engine::{DecisionInput, NextAction, RunState, apply_entry, decide};
use jiff::Timestamp;

const CALL: CallId = CallId { step: 1, index: 0 };
const HOLD: i64 = 120;

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn started(approved: Option<ApprovedCall>) -> RunStarted {
    RunStarted {
        kind: if approved.is_some() { RunKind::ApprovedCall } else { RunKind::Turn },
        agent: AgentId::from_bytes([1; 16]),
        session: SessionId::from_bytes([2; 16]),
        items: vec![ItemId::from_bytes([3; 16])],
        after: 0,
        resumes: None,
        approved,
        origin: None,
        workspace: None,
        summary: None,
        briefing: None,
        config: Digest::default(),
        prompt: Digest::default(),
        layers: Vec::new(),
        model: None,
        mind: AgentMind::Solo,
        woken: 0,
        model_calls_max: 20,
        deadline: None,
    }
}

/// A call that must be asked for, as it is judged: what it is, and what it is bound to.
fn asks(call: CallId, action: u8, binding: u8) -> RequiredApproval {
    let action = Digest::from_bytes([action; 32]);
    let prepared = PreparedCall {
        id: call,
        tool: "t".into(),
        effect: EffectClass::Idempotent,
        arguments: "{}".into(),
        action,
        reaches: None,
        network: None,
        contents: None,
    };
    let approval = ApprovalRequest {
        id: ApprovalId::from_bytes([binding; 16]),
        rule: "permission".into(),
        reason: "a person looks".into(),
        approvers: Vec::new(),
        state: ApprovalState::Holding,
        released: false,
        answer: None,
        used_by: None,
        source: CallSource {
            agent: AgentId::from_bytes([1; 16]),
            session: SessionId::from_bytes([2; 16]),
            run: RunId::from_bytes([4; 16]),
            call,
            author: Actor::new("cli:ada"),
            hops: 0,
        },
        judged: JudgedCall {
            context: Label::ACTOR_TEXT,
            provenance: CallProvenance::default(),
            tool: "t".into(),
            arguments: "{}".into(),
            action,
            binding: Digest::from_bytes([binding; 32]),
            bound: BoundParts { call: 1, tool: 2, asker: 3, rule: 4, contents: None },
            origins: Vec::new(),
        },
        deadlines: ApprovalDeadlines {
            asked_at: second(0),
            holds_until: second(HOLD),
            expires_at: second(10 * HOLD),
            cools_until: None,
        },
    };
    RequiredApproval {
        call: prepared,
        approval,
        changed: Vec::new(),
        policy: None,
        attended: true,
        chained: false,
    }
}

fn judged(asks: RequiredApproval) -> DecisionInput {
    DecisionInput::Judged(asks.call.id, CallJudgement::RequiredApproval(Box::new(asks)))
}

fn signal(kind: ItemKind, words: &str) -> DecisionInput {
    let body = serde_json::to_vec(&AnswerBody::new(ID, words)).expect("it is data");
    DecisionInput::Signal(InboxItem {
        id: ItemId::from_bytes([9; 16]),
        position: 1,
        at: second(1),
        kind,
        author: Actor::new("token:ops"),
        body: Some(Bytes::from(body)),
        taken_by: None,
    })
}

/// A run in memory, at a time.
#[derive(Clone)]
struct Live {
    journal: Vec<Entry>,
    state: RunState,
    next: NextAction,
    asked: Vec<ApprovalRequest>,
    now: Timestamp,
}

impl Live {
    fn begin(approved: Option<ApprovedCall>) -> Self {
        let (state, now) = (RunState::default(), second(0));
        let mut live = Self { journal: vec![], state, next: NextAction::Rest, asked: vec![], now };
        live.feed(DecisionInput::Begin(started(approved)));
        live
    }

    /// A turn whose model asked for so many calls, the first of which is due.
    fn with_calls(calls: usize) -> Self {
        let mut live = Self::begin(None);
        live.answer(calls);
        assert_eq!(live.next, NextAction::Judge(CALL));
        live
    }

    /// A turn that waits for a person.
    fn waiting() -> Self {
        let mut live = Self::with_calls(1);
        live.feed(judged(asks(CALL, 5, 6)));
        live
    }

    /// Asks the model, which asks for so many calls.
    fn answer(&mut self, calls: usize) {
        let wording = RequestEncoding {
            by: None,
            form: "chat/1".into(),
            model: "m".into(),
            whole: true,
            limit: None,
            left_out: 0,
            shortened: 0,
            tainted_past: TaintedPast::Whole,
            answer_field: false,
            concludes: false,
        };
        let sent = SentEncoding { wording, digest: BodyDigest::truncate_digest(&[7; 32]) };
        let (input_tokens, output_tokens_max, reserved_micros) = (1, 1, 7);
        let plan = PlannedRequest {
            model: "m".into(),
            history_from: 1,
            input_tokens,
            output_tokens_max,
            reserved_micros,
            unpriced: false,
            sent,
        };
        self.feed(DecisionInput::Planned(plan));
        let reply = ModelReply {
            text: "x".into(),
            calls: vec![ProposedCall { tool: "t".into(), arguments: "{}".into() }; calls],
            usage: TokenUsage { input_tokens: 1, output_tokens: 1 },
            detail: UsageDetail::default(),
            cost_micros: 3,
            finish: if calls == 0 { FinishReason::Stop } else { FinishReason::ToolCalls },
            stopped_at: None,
        };
        self.feed(DecisionInput::Replied(reply, Label::PUBLIC_FACT, None));
    }

    fn feed(&mut self, input: DecisionInput) {
        let decision = decide(&self.state, self.now, input);
        for new in decision.entries {
            apply_entry(&mut self.state, &new.entry);
            self.journal.push(new.entry);
        }
        self.asked.extend(decision.asks);
        self.next = decision.next;
    }

    /// Goes on from its journal in a new process.
    fn crash(&mut self) {
        self.state = RunState::fold(&self.journal);
        self.feed(DecisionInput::Recovered { claims: 1 });
    }

    /// The newest result of a call: how it ended, by which rule, and the approval that goes with it.
    fn refused(&self) -> Option<(CallStatus, Option<&str>, Option<ApprovalId>)> {
        self.journal.iter().rev().find_map(|entry| match entry {
            Entry::ToolRefused(refused) => Some((refused.status, refused.rule.as_deref(), refused.approval)),
            _ => None,
        })
    }

    fn starts(&self) -> Vec<Option<ApprovalId>> {
        let start = |entry: &Entry| match entry {
            Entry::ToolStarted(started) => Some(started.approval),
            _ => None,
        };
        self.journal.iter().filter_map(start).collect()
    }

    fn finished(&self) -> Option<CallStatus> {
        self.journal.iter().rev().find_map(|entry| match entry {
            Entry::ToolFinished(finished) => Some(finished.status),
            _ => None,
        })
    }
}

const ID: ApprovalId = ApprovalId::from_bytes([6; 16]);

#[test]
fn a_held_call_rests_in_time_and_begins_once_approved() {
    let mut live = Live::waiting();
    assert_eq!((live.next.clone(), live.state.status()), (NextAction::Rest, RunStatus::Parked));
    assert_eq!(live.state.run_head().wake_at, Some(second(HOLD)));
    assert_eq!(live.asked.iter().map(|approval| approval.id).collect::<Vec<_>>(), [ID]);
    // A start in between changes nothing.
    live.now = second(HOLD - 1);
    live.crash();
    assert_eq!((live.next.clone(), live.state.status()), (NextAction::Rest, RunStatus::Parked));
    live.feed(signal(ItemKind::Approve, ""));
    assert_eq!(live.next, NextAction::Judge(CALL), "everything is judged again");
    assert_eq!(live.state.status(), RunStatus::Running);
    live.crash();
    assert_eq!(live.next, NextAction::Judge(CALL), "a crash between approval and start uses it again");
    live.feed(judged(asks(CALL, 5, 6)));
    assert!(matches!(live.next, NextAction::RunTool(_)));
    assert_eq!(live.starts(), [Some(ID)]);
    assert_eq!(live.asked.len(), 1, "nobody is asked twice");
}

#[test]
fn an_approved_call_begins_only_once() {
    let mut live = Live::waiting();
    live.feed(signal(ItemKind::Approve, ""));
    live.feed(judged(asks(CALL, 5, 6)));
    live.crash();
    // Its effect class would let it run again.
    assert_eq!(live.next, NextAction::Judge(CALL));
    live.feed(judged(asks(CALL, 5, 6)));
    assert_eq!((live.finished(), live.starts().len()), (Some(CallStatus::Unknown), 1));
    live.answer(1);
    let again = CallId { step: 2, index: 0 };
    live.feed(judged(asks(again, 5, 7)));
    assert_eq!(
        live.refused().map(|(status, rule, _)| (status, rule)),
        Some((CallStatus::Denied, Some("unknown-outcome")))
    );
    assert_eq!(live.asked.len(), 1);
}

#[test]
fn a_call_unlike_the_approved_one_does_not_begin() {
    let mut live = Live::waiting();
    live.feed(signal(ItemKind::Approve, ""));
    live.feed(judged(asks(CALL, 5, 8)));
    assert_eq!(live.refused(), Some((CallStatus::Denied, Some("approval-mismatch"), Some(ID))));
    assert_eq!(live.starts(), []);
    // What needs nobody's word any more begins, and uses the approval up.
    let mut live = Live::waiting();
    live.feed(signal(ItemKind::Approve, ""));
    let RequiredApproval { call, .. } = asks(CALL, 5, 8);
    live.feed(DecisionInput::Judged(
        CALL,
        CallJudgement::Allowed { call, rule: "grant t".into(), policy: None },
    ));
    assert_eq!(live.starts(), [Some(ID)]);
    // What is denied meanwhile is denied.
    let mut live = Live::waiting();
    live.feed(signal(ItemKind::Approve, ""));
    let denied = CallJudgement::Denied { rule: "policy no".into(), reason: "no".into(), policy: None };
    live.feed(DecisionInput::Judged(CALL, denied));
    assert_eq!(live.refused(), Some((CallStatus::Denied, Some("policy no"), Some(ID))));
}

#[test]
fn a_run_releases_an_unanswered_call_and_asks_once() {
    let mut live = Live::waiting();
    live.now = second(HOLD);
    live.crash();
    assert_eq!(live.refused(), Some((CallStatus::Awaiting, None, Some(ID))));
    assert_eq!((live.next.clone(), live.state.status()), (NextAction::PlannedRequest, RunStatus::Running));
    live.answer(1);
    let again = CallId { step: 2, index: 0 };
    live.feed(judged(asks(again, 5, 7)));
    assert_eq!(live.refused(), Some((CallStatus::Denied, Some("approval-waiting"), None)));
    live.answer(0);
    assert_eq!(live.next, NextAction::JudgeReply, "the turn ends without the call");
    assert_eq!(live.asked.len(), 1);
}

#[test]
fn a_run_holds_a_bounded_number_of_readable_waiting_calls() {
    let mut live = Live::begin(None);
    for step in 0..=u32::try_from(WAITING_MAX).expect("is small") {
        live.now = second(0);
        live.answer(1);
        let number = u8::try_from(step).expect("is small") + 10;
        live.feed(judged(asks(CallId { step: step + 1, index: 0 }, number, number)));
        live.now = second(HOLD);
        live.feed(DecisionInput::Recovered { claims: 1 });
    }
    assert_eq!(live.asked.len(), WAITING_MAX);
    assert_eq!(live.refused().and_then(|(_, rule, _)| rule), Some("approval-waiting"));
    for (bytes, rule, asked) in
        [(ARGUMENTS_BYTES_MAX, None, 1), (ARGUMENTS_BYTES_MAX + 1, Some("approval-waiting"), 0)]
    {
        let mut live = Live::with_calls(1);
        let mut long = asks(CALL, 5, 6);
        long.approval.judged.arguments = "x".repeat(bytes);
        live.feed(judged(long));
        assert_eq!((live.refused().and_then(|(_, rule, _)| rule), live.asked.len()), (rule, asked));
    }
}

#[test]
fn a_refusal_reaches_the_model_in_the_refusers_words() {
    let mut live = Live::waiting();
    live.feed(signal(ItemKind::Deny, "not on a Friday"));
    assert_eq!(live.refused(), Some((CallStatus::Denied, Some("approval-denied"), Some(ID))));
    let Some(Entry::ToolRefused(refused)) = live.journal.last() else { panic!("{:?}", live.journal.last()) };
    assert_eq!(refused.tool, "t");
    assert_eq!(live.next, NextAction::PlannedRequest);
    // The entry that took the refusal is durable, and what came of it is not.
    let mut torn = live.clone();
    torn.journal.pop();
    torn.crash();
    assert_eq!(torn.refused(), Some((CallStatus::Denied, Some("approval-denied"), Some(ID))));
}

#[test]
fn an_unattended_call_is_refused_and_its_request_is_recorded() {
    let mut live = Live::with_calls(1);
    live.feed(judged(RequiredApproval { attended: false, ..asks(CALL, 5, 6) }));
    assert_eq!(live.refused(), Some((CallStatus::Denied, Some("ask permission"), Some(ID))));
    assert_eq!(live.asked.iter().map(|asked| asked.state).collect::<Vec<_>>(), [ApprovalState::Denied]);
    assert_eq!(live.next, NextAction::PlannedRequest);
    let mut live = Live::with_calls(1);
    let mut long = RequiredApproval { attended: false, ..asks(CALL, 5, 6) };
    long.approval.judged.arguments = "x".repeat(ARGUMENTS_BYTES_MAX + 1);
    live.feed(judged(long));
    assert_eq!(live.refused(), Some((CallStatus::Denied, Some("approval-waiting"), None)));
    assert_eq!(live.asked.len(), 0, "a row beside the entry that holds them would pass the bound of a batch");
}

#[test]
fn an_approved_call_is_all_that_its_own_run_does() {
    let approved = |binding: u8| ApprovedCall {
        approval: ID,
        run: RunId::from_bytes([4; 16]),
        call: CALL,
        session: SessionId::from_bytes([2; 16]),
        binding: Digest::from_bytes([binding; 32]),
    };
    let asked = ManualCall { tool: "t".into(), arguments: "{}".into() };
    let mut live = Live::begin(Some(approved(6)));
    live.feed(DecisionInput::Asked(asked.clone()));
    live.feed(judged(asks(CALL, 5, 6)));
    assert_eq!(live.starts(), [Some(ID)]);
    let mut cut = live.clone();
    let parts = vec![ContentPart::new_text("done", Label::PUBLIC_FACT)];
    live.feed(DecisionInput::Finished(CALL, ToolOutput { parts, ..ToolOutput::default() }));
    assert_eq!((live.next.clone(), live.asked.len()), (NextAction::JudgeReply, 0));
    cut.crash();
    cut.feed(judged(asks(CALL, 5, 6)));
    assert_eq!((cut.finished(), cut.starts().len()), (Some(CallStatus::Unknown), 1));
    let mut other = Live::begin(Some(approved(7)));
    other.feed(DecisionInput::Asked(asked));
    other.feed(judged(asks(CALL, 5, 6)));
    assert_eq!(other.refused(), Some((CallStatus::Denied, Some("approval-mismatch"), Some(ID))));
    assert_eq!(other.asked.len(), 0, "it asks for nothing");
}

/// A call that is put off until a time, for whose run it is worth to wait so long.
fn delayed(call: CallId, binding: u8, hold: i64) -> RequiredApproval {
    let asks = asks(call, 5, binding);
    let (holds_until, cools_until) = (second(hold), Some(second(COOLING)));
    RequiredApproval {
        approval: ApprovalRequest {
            deadlines: ApprovalDeadlines { holds_until, cools_until, ..asks.approval.deadlines },
            ..asks.approval
        },
        attended: false,
        ..asks
    }
}

const COOLING: i64 = 60;

#[test]
fn a_delayed_call_begins_by_itself_once_it_is_allowed() {
    let mut live = Live::with_calls(1);
    live.feed(judged(delayed(CALL, 6, HOLD)));
    assert_eq!((live.next.clone(), live.state.status()), (NextAction::Rest, RunStatus::Parked));
    assert_eq!(live.asked.iter().map(|asked| asked.state).collect::<Vec<_>>(), [ApprovalState::Holding]);
    // Its time alone begins nothing: the row says first that it is allowed.
    live.now = second(COOLING);
    live.crash();
    assert_eq!((live.next.clone(), live.starts().len()), (NextAction::Rest, 0));
    live.feed(signal(ItemKind::Approve, ""));
    assert_eq!(live.next, NextAction::Judge(CALL), "everything is judged again");
    live.feed(judged(delayed(CALL, 6, HOLD)));
    assert_eq!(live.starts(), [Some(ID)]);
    let rule = live.journal.iter().find_map(|entry| match entry {
        Entry::ToolStarted(started) => Some(started.rule.clone()),
        _ => None,
    });
    assert_eq!(rule, Some(format!("approval {ID} of delay permission")));
    // What is another call by then does not begin.
    let mut other = Live::with_calls(1);
    other.feed(judged(delayed(CALL, 6, HOLD)));
    other.feed(signal(ItemKind::Approve, ""));
    other.feed(judged(delayed(CALL, 7, HOLD)));
    assert_eq!(other.refused(), Some((CallStatus::Denied, Some("approval-mismatch"), Some(ID))));
    // What a person refuses does not begin either.
    let mut refused = Live::with_calls(1);
    refused.feed(judged(delayed(CALL, 6, HOLD)));
    refused.feed(signal(ItemKind::Deny, "no"));
    assert_eq!(refused.refused(), Some((CallStatus::Denied, Some("approval-denied"), Some(ID))));
}

#[test]
fn a_run_releases_a_long_delayed_call_at_once() {
    let mut live = Live::with_calls(1);
    live.feed(judged(delayed(CALL, 6, 0)));
    assert_eq!(live.state.run_head().wake_at, Some(second(0)), "it is due as soon as it rests");
    live.crash();
    assert_eq!(live.refused(), Some((CallStatus::Awaiting, None, Some(ID))));
    assert_eq!((live.next.clone(), live.state.status()), (NextAction::PlannedRequest, RunStatus::Running));
    live.answer(1);
    live.feed(judged(delayed(CallId { step: 2, index: 0 }, 7, 0)));
    assert_eq!(live.refused(), Some((CallStatus::Denied, Some("approval-waiting"), None)), "once only");
    assert_eq!(live.asked.len(), 1);
}

#[test]
fn no_call_is_delayed_after_too_many_unattended_hops() {
    let mut live = Live::with_calls(1);
    live.feed(judged(RequiredApproval { chained: true, ..delayed(CALL, 6, 0) }));
    assert_eq!(live.refused(), Some((CallStatus::Denied, Some("delay-hops"), None)));
    assert_eq!(
        (live.next.clone(), live.asked.len()),
        (NextAction::PlannedRequest, 0),
        "nobody is asked, and the run goes on"
    );
    // A person may still be asked, and what was put off before begins.
    let mut asked = Live::with_calls(1);
    asked.feed(judged(RequiredApproval { chained: true, ..asks(CALL, 5, 6) }));
    assert_eq!((asked.next.clone(), asked.asked.len()), (NextAction::Rest, 1));
    let mut before = Live::with_calls(1);
    before.feed(judged(delayed(CALL, 6, HOLD)));
    before.feed(signal(ItemKind::Approve, ""));
    before.feed(judged(RequiredApproval { chained: true, ..delayed(CALL, 6, HOLD) }));
    assert_eq!(before.starts(), [Some(ID)]);
}

#[test]
fn an_approved_call_waits_while_its_agent_is_paused() {
    let mut live = Live::waiting();
    live.feed(signal(ItemKind::Approve, ""));
    live.feed(DecisionInput::AgentPaused);
    assert_eq!((live.next.clone(), live.state.status()), (NextAction::Rest, RunStatus::Parked));
    assert_eq!(live.state.run_head().wake_at, None, "the agent's resume finds it, the timer must not");
    let entries = live.journal.len();
    live.feed(DecisionInput::AgentPaused);
    assert_eq!((live.next.clone(), live.journal.len()), (NextAction::Rest, entries));
    live.crash();
    assert_eq!(live.next, NextAction::Judge(CALL));
    live.feed(judged(asks(CALL, 5, 6)));
    assert_eq!((live.starts(), live.state.status()), (vec![Some(ID)], RunStatus::Running));
}

#[test]
fn an_end_gives_the_approval_back() {
    for kind in [ItemKind::Cancel, ItemKind::Terminate] {
        let mut live = Live::waiting();
        live.feed(signal(kind, ""));
        assert_eq!(live.refused(), Some((CallStatus::Cancelled, None, Some(ID))));
        assert_eq!(live.state.status(), RunStatus::Cancelled);
    }
    // Also where the answer came before the end, and the call has not begun.
    let mut live = Live::waiting();
    live.feed(signal(ItemKind::Approve, ""));
    live.feed(DecisionInput::Ended { by: Actor::new("token:ops") });
    assert_eq!(live.refused(), Some((CallStatus::Cancelled, None, Some(ID))));
    assert_eq!((live.starts(), live.state.status()), (vec![], RunStatus::Cancelled));
}

#[test]
fn every_approval_prefix_recovers_and_closes_its_call_once() {
    let mut ways = Vec::new();
    for answer in [ItemKind::Approve, ItemKind::Deny, ItemKind::Cancel] {
        let mut live = Live::waiting();
        live.feed(signal(answer, ""));
        if live.next == NextAction::Judge(CALL) {
            live.feed(judged(asks(CALL, 5, 6)));
            live.feed(DecisionInput::Finished(CALL, ToolOutput::default()));
        }
        ways.push(live);
    }
    let mut late = Live::waiting();
    late.now = second(HOLD);
    late.crash();
    ways.push(late);
    let mut put_off = Live::with_calls(1);
    put_off.feed(judged(delayed(CALL, 6, 0)));
    put_off.crash();
    ways.push(put_off);
    for live in ways {
        let stored = |entry: &Entry| {
            Entry::decode(entry.kind().0, entry.kind().1, &entry.encode()).expect("it was just written")
        };
        let journal: Vec<Entry> = live.journal.iter().map(stored).collect();
        assert_eq!(RunState::fold(&journal), live.state);
        for length in 1..=journal.len() {
            let mut again = live.clone();
            again.journal.truncate(length);
            again.now = second(HOLD);
            again.crash();
            let asked_for = again.journal.iter().any(|entry| matches!(entry, Entry::ModelReplied(_)));
            if let NextAction::Judge(call) = again.next {
                again.feed(judged(asks(call, 5, 6)));
            }
            if again.state.status() == RunStatus::Parked {
                again.feed(DecisionInput::Recovered { claims: 1 });
            }
            if let NextAction::RunTool(_) = again.next {
                again.feed(DecisionInput::Finished(CALL, ToolOutput::default()));
            }
            let ends = |entry: &&Entry| matches!(entry, Entry::ToolFinished(_) | Entry::ToolRefused(_));
            let results = again.journal.iter().filter(ends).count();
            assert_eq!(results, usize::from(asked_for), "{length}: {:?}", again.journal);
        }
    }
}
