//! The pure core and second opinions: asked before a call begins, once where the answer is durable and again where it is not,
//! and charged whatever happens.

use dromia_contracts::content::CallStatus;
use dromia_contracts::encoded_request::{BodyDigest, RequestEncoding, SentEncoding, TaintedPast};
use dromia_contracts::entry::{Entry, OpinionGiven, RunStarted};
use dromia_contracts::label::Label;
use dromia_contracts::mind::AgentMind;
use dromia_contracts::model::{
    FinishReason, ModelReply, PreparedAttempt, ProposedCall, TokenUsage, UsageDetail,
};
use dromia_contracts::opinion::{ModelOpinion, OpinionVote};
use dromia_contracts::run::{RunKind, RunStatus};
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::tool::{EffectClass, PreparedCall};
use dromia_contracts::{Actor, AgentId, CallId, Digest, ItemId, SessionId};
use dromia_engine::decide::{CLAIMS_MAX, CallJudgement, OpinionRequest, OpinionResult, PlannedRequest};
use dromia_engine::{DecisionInput, NextAction, RunState, apply_entry, decide};
use dromia_engine::{ObjectionAction, SecondOpinion};
use jiff::Timestamp;

use crate::cost::spent;

const CALL: CallId = CallId { step: 1, index: 0 };

/// What three answers of the second model are reserved at.
const RESERVED: u64 = 210;

fn sent() -> SentEncoding {
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
    SentEncoding { wording, digest: BodyDigest::truncate_digest(&[7; 32]) }
}

fn call() -> PreparedCall {
    PreparedCall {
        id: CALL,
        tool: "t".into(),
        effect: EffectClass::Keyed,
        arguments: "{}".into(),
        action: Digest::from_bytes([5; 32]),
        reaches: None,
        network: None,
        contents: None,
    }
}

fn consults() -> DecisionInput {
    let prepared = PreparedAttempt {
        wording: sent().wording,
        body: bytes::Bytes::new(),
        input_tokens: 10,
        output_tokens_max: 90,
        reserved_micros: RESERVED / 3,
        priced: true,
        window: None,
    };
    let objection = ObjectionAction::Ask;
    let second = SecondOpinion { model: "second".into(), samples: 3, agree: 3, objection };
    let consults = OpinionRequest { call: call(), second, prepared, sent: sent() };
    DecisionInput::Judged(CALL, CallJudgement::OpinionRequest(Box::new(consults)))
}

fn opinion(words: [OpinionVote; 3]) -> ModelOpinion {
    ModelOpinion::count_votes("second", 3, 2, words)
}

fn consulted(words: [OpinionVote; 3]) -> DecisionInput {
    let usage = TokenUsage { input_tokens: 30, output_tokens: 3 };
    DecisionInput::OpinionResult(
        CALL,
        OpinionResult { opinion: opinion(words), usage, tokens: 33, cost_micros: 15 },
    )
}

const AGREES: [OpinionVote; 3] = [OpinionVote::Go, OpinionVote::Go, OpinionVote::Stop];

fn allowed() -> DecisionInput {
    DecisionInput::Judged(CALL, CallJudgement::Allowed { call: call(), rule: "grant t".into(), policy: None })
}

/// A run in memory.
struct Live {
    journal: Vec<Entry>,
    state: RunState,
    next: NextAction,
}

impl Live {
    /// A turn whose model asked for one call.
    fn with_call() -> Self {
        let mut live = Self { journal: vec![], state: RunState::default(), next: NextAction::Rest };
        live.feed(DecisionInput::Begin(RunStarted {
            kind: RunKind::Turn,
            agent: AgentId::from_bytes([1; 16]),
            session: SessionId::from_bytes([2; 16]),
            items: vec![ItemId::from_bytes([3; 16])],
            after: 0,
            resumes: None,
            approved: None,
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
            model_calls_max: 50,
            deadline: None,
        }));
        live.feed(DecisionInput::Planned(PlannedRequest {
            model: "m".into(),
            history_from: 1,
            input_tokens: 1,
            output_tokens_max: 1,
            reserved_micros: 7,
            unpriced: false,
            sent: sent(),
        }));
        let reply = ModelReply {
            text: "x".into(),
            calls: vec![ProposedCall { tool: "t".into(), arguments: "{}".into() }],
            usage: TokenUsage { input_tokens: 1, output_tokens: 1 },
            detail: UsageDetail::default(),
            cost_micros: 3,
            finish: FinishReason::ToolCalls,
            stopped_at: None,
        };
        live.feed(DecisionInput::Replied(reply, Label::PUBLIC_FACT, None));
        assert_eq!(live.next, NextAction::Judge(CALL));
        live
    }

    fn feed(&mut self, input: DecisionInput) {
        let decision = decide(&self.state, Timestamp::UNIX_EPOCH, input);
        for new in decision.entries {
            apply_entry(&mut self.state, &new.entry);
            self.journal.push(new.entry);
        }
        self.next = decision.next;
        let (spent, state) = (spent(&self.journal), &self.state);
        assert_eq!(spent.cost_micros, state.cost_micros, "what it costs stands in the journal");
        assert_eq!(spent.model_calls, u64::from(state.model_calls));
        assert_eq!(*state, RunState::fold(&self.journal));
    }

    /// Goes on from its first entries in a new process.
    fn crash_after(&self, entries: usize) -> Self {
        let journal = self.journal[..entries].to_vec();
        let mut live = Self { state: RunState::fold(&journal), journal, next: NextAction::Rest };
        live.feed(DecisionInput::Recovered { claims: 1 });
        live
    }

    fn given(&self) -> Vec<&OpinionGiven> {
        let given = self.journal.iter().filter_map(|entry| match entry {
            Entry::OpinionGiven(given) => Some(given),
            _ => None,
        });
        given.collect()
    }
}

#[test]
fn a_question_says_what_it_reserves() {
    let mut live = Live::with_call();
    live.feed(consults());
    let Some(Entry::OpinionCalled(called)) = live.journal.last() else { panic!("{:?}", live.journal.last()) };
    assert_eq!((called.reserved_micros, called.unpriced, called.samples), (RESERVED, false, 3));
}

#[test]
fn a_call_is_judged_again_with_the_opinion_it_keeps() {
    let mut live = Live::with_call();
    assert!(live.state.may_be_doubted(CALL) && live.state.call_opinion(CALL).is_none());
    live.feed(consults());
    assert_eq!(live.next, NextAction::Consult(call()));
    let Some(Entry::OpinionCalled(called)) = live.journal.last() else { panic!("it is reserved first") };
    assert_eq!((called.samples, called.reserved_micros, called.action), (3, RESERVED, call().action));
    assert_eq!(live.state.model_calls, 4, "each answer is a call of a model");
    live.feed(consulted(AGREES));
    assert_eq!(live.next, NextAction::Judge(CALL), "whoever knows what an objection leads to judges again");
    let said = opinion(AGREES);
    assert_eq!(live.state.call_opinion(CALL), Some((call().action, &said)));
    assert_eq!((live.state.cost_micros, live.state.usage.input_tokens), (3 + 15, 1 + 30));
    live.feed(allowed());
    assert_eq!(live.next, NextAction::RunTool(call()));
    let Some(Entry::ToolStarted(started)) = live.journal.last() else { panic!("it begins") };
    assert_eq!(started.opinion, Some(said));
    assert!(!live.state.may_be_doubted(CALL), "it has begun");
}

#[test]
fn a_start_keeps_no_opinion_about_another_action() {
    let mut live = Live::with_call();
    live.feed(consults());
    live.feed(consulted(AGREES));
    let other = PreparedCall { action: Digest::from_bytes([6; 32]), ..call() };
    let allowed = CallJudgement::Allowed { call: other, rule: "grant t".into(), policy: None };
    live.feed(DecisionInput::Judged(CALL, allowed));
    let Some(Entry::ToolStarted(started)) = live.journal.last() else { panic!("it begins") };
    assert_eq!(started.opinion, None);
}

#[test]
fn a_refusal_keeps_what_was_said() {
    let mut live = Live::with_call();
    live.feed(consults());
    live.feed(consulted([OpinionVote::Stop; 3]));
    let (rule, reason) = ("second-opinion".to_owned(), "no".to_owned());
    live.feed(DecisionInput::Judged(CALL, CallJudgement::Denied { rule, reason, policy: None }));
    let refused = live.journal.iter().find_map(|entry| match entry {
        Entry::ToolRefused(refused) => Some(refused),
        _ => None,
    });
    let refused = refused.expect("it is refused");
    assert_eq!(
        (refused.status, &refused.opinion),
        (CallStatus::Denied, &Some(opinion([OpinionVote::Stop; 3])))
    );
}

#[test]
fn a_durable_opinion_is_kept_and_a_lost_one_repeated() {
    let mut live = Live::with_call();
    let before = live.journal.len();
    live.feed(consults());
    live.feed(consulted(AGREES));
    assert_eq!(live.journal.len(), before + 2);

    let early = live.crash_after(before);
    assert!(early.state.may_be_doubted(CALL) && early.state.call_opinion(CALL).is_none());

    let mut cut = live.crash_after(before + 1);
    assert_eq!((cut.next.clone(), cut.state.call_opinion(CALL)), (NextAction::Judge(CALL), None));
    let lost = cut.given();
    assert_eq!((lost.len(), &lost[0].opinion, lost[0].cost_micros), (1, &None, RESERVED), "it stays charged");
    cut.feed(consults());
    cut.feed(consulted(AGREES));
    assert_eq!(cut.state.call_opinion(CALL), Some((call().action, &opinion(AGREES))));

    let kept = live.crash_after(before + 2);
    assert_eq!((kept.next.clone(), kept.given().len()), (NextAction::Judge(CALL), 1));
    assert_eq!(kept.state.call_opinion(CALL), Some((call().action, &opinion(AGREES))));
}

#[test]
fn a_run_whose_opinions_always_crash_is_held() {
    let mut live = Live::with_call();
    for crash in 1..=CLAIMS_MAX {
        assert_eq!(live.next, NextAction::Judge(CALL), "before crash {crash}");
        live.feed(consults());
        live = live.crash_after(live.journal.len());
    }
    assert_eq!((live.next.clone(), live.state.status()), (NextAction::Rest, RunStatus::Held));
    assert_eq!(live.given().len() as u64, CLAIMS_MAX);
}

#[test]
fn a_run_that_ends_during_a_question_is_charged() {
    let mut live = Live::with_call();
    live.feed(consults());
    live.feed(DecisionInput::Signal(InboxItem {
        id: ItemId::from_bytes([9; 16]),
        position: 1,
        at: Timestamp::UNIX_EPOCH,
        kind: ItemKind::Terminate,
        author: Actor::new("cli:ada"),
        body: None,
        taken_by: None,
    }));
    assert_eq!(live.state.status(), RunStatus::Cancelled);
    assert_eq!(live.given().iter().map(|given| given.cost_micros).collect::<Vec<_>>(), [RESERVED]);
    let refused = |entry: &&Entry| matches!(entry, Entry::ToolRefused(_));
    assert_eq!(live.journal.iter().filter(refused).count(), 1);
    let entries = live.journal.len();
    live.feed(consulted(AGREES));
    assert_eq!(live.journal.len(), entries, "an answer that comes too late says nothing");
}

#[test]
fn an_unavailable_second_model_objects_without_cost() {
    let mut live = Live::with_call();
    let (action, opinion) =
        (call().action, ModelOpinion::without_answers("second", 3, 2, "it is not granted"));
    live.feed(DecisionInput::Judged(CALL, CallJudgement::Unconsulted { action, opinion: opinion.clone() }));
    assert_eq!(
        (live.next.clone(), live.state.cost_micros, live.state.model_calls),
        (NextAction::Judge(CALL), 3, 1)
    );
    assert_eq!(live.state.call_opinion(CALL), Some((action, &opinion)));
    assert!(!opinion.agrees());
}
