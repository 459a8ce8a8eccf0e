//! The pure core in memory: a run whose every effect is answered by a number, so that answers and crashes can be random.

mod bounds;
mod crashes;
mod handed;
mod random;
mod repairs;
mod stops;

use std::collections::BTreeMap;

use dromia_contracts::content::ContentPart;
use dromia_contracts::encoded_request::{BodyDigest, RequestEncoding, SentEncoding, TaintedPast};
use dromia_contracts::entry::{Entry, RunStarted};
use dromia_contracts::gate::GateVerdict;
use dromia_contracts::label::Label;
use dromia_contracts::mind::AgentMind;
use dromia_contracts::model::{
    FinishReason, ModelError, ModelReply, PreparedAttempt, ProposedCall, TokenUsage, UsageDetail,
};
use dromia_contracts::opinion::{ModelOpinion, OpinionVote};
use dromia_contracts::run::RunKind;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::tool::{EffectClass, PreparedCall, ToolOutput};
use dromia_contracts::{Actor, AgentId, CallId, Digest, ErrorCode, ItemId, SessionId};
use dromia_engine::decide::{CallJudgement, OpinionRequest, OpinionResult, PlannedRequest};
use dromia_engine::{DecisionInput, NextAction, RunState, apply_entry, decide};
use dromia_engine::{ObjectionAction, SecondOpinion};
use jiff::Timestamp;

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
        model_calls_max,
        deadline: None,
    }
}

fn signal(kind: ItemKind, position: u64) -> DecisionInput {
    DecisionInput::Signal(InboxItem {
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
fn sent() -> SentEncoding {
    let wording = RequestEncoding {
        by: None,
        form: "chat/1".into(),
        model: "m".into(),
        whole: false,
        limit: None,
        left_out: 0,
        shortened: 0,
        tainted_past: TaintedPast::Whole,
        answer_field: false,
        concludes: false,
    };
    SentEncoding { wording, digest: BodyDigest::truncate_digest(&[7; 32]) }
}

/// A second model is asked three times about a call.
fn consults(id: CallId) -> OpinionRequest {
    let sent = sent();
    let prepared = PreparedAttempt {
        wording: sent.wording.clone(),
        body: bytes::Bytes::new(),
        input_tokens: 10,
        output_tokens_max: 10,
        reserved_micros: 7,
        priced: true,
        window: None,
    };
    OpinionRequest {
        call: self::prepared(id, EffectClass::Unkeyed, 1),
        second: SecondOpinion { model: "n".into(), samples: 3, agree: 3, objection: ObjectionAction::Ask },
        prepared,
        sent,
    }
}

fn consulted(dice: u8) -> OpinionResult {
    let words = [OpinionVote::Go, OpinionVote::Stop, OpinionVote::Neither]
        .into_iter()
        .cycle()
        .skip(usize::from(dice))
        .take(3);
    let usage = TokenUsage { input_tokens: 3, output_tokens: 3 };
    OpinionResult { opinion: ModelOpinion::count_votes("n", 3, 2, words), usage, tokens: 6, cost_micros: 5 }
}

/// A run in memory: the journal, the live state, and what is due.
struct Live {
    journal: Vec<Entry>,
    state: RunState,
    next: NextAction,
}

impl Live {
    fn begin(model_calls_max: u32) -> Self {
        let mut live = Self { journal: vec![], state: RunState::default(), next: NextAction::Rest };
        live.feed(DecisionInput::Begin(started(model_calls_max)));
        live
    }

    /// Continues from a prefix of a journal, as a takeover does.
    fn recover(journal: &[Entry], claims: u64) -> Self {
        let mut live =
            Self { journal: journal.to_vec(), state: RunState::fold(journal), next: NextAction::Rest };
        live.feed(DecisionInput::Recovered { claims });
        live
    }

    fn feed(&mut self, input: DecisionInput) {
        let decision = decide(&self.state, Timestamp::UNIX_EPOCH, input);
        for new in decision.entries {
            apply_entry(&mut self.state, &new.entry);
            self.journal.push(new.entry);
        }
        self.next = decision.next;
    }

    /// Tells whether an owner may ask a second model about a call.
    fn may_consult(&self, id: CallId) -> bool {
        self.state.may_be_doubted(id) && self.state.call_opinion(id).is_none()
    }

    /// Answers what is due, by one random number; `false` when nothing is.
    fn answer(&mut self, dice: u8) -> bool {
        let input = match self.next.clone() {
            NextAction::Rest => return false,
            NextAction::PlannedRequest => DecisionInput::Planned(PlannedRequest {
                model: "m".into(),
                history_from: 1,
                input_tokens: 10,
                output_tokens_max: 10,
                reserved_micros: 7,
                unpriced: false,
                sent: sent(),
            }),
            NextAction::CallModel if dice.is_multiple_of(8) => DecisionInput::Failed(ModelError {
                code: [ErrorCode::ModelUnavailable, ErrorCode::ModelCut][usize::from(dice / 8 % 2)],
                message: "no".into(),
                retry_after: None,
            }),
            NextAction::CallModel => {
                let calls = usize::from(dice % 4);
                let call = ProposedCall { tool: "t".into(), arguments: "{}".into() };
                let finish = if calls == 0 { FinishReason::Stop } else { FinishReason::ToolCalls };
                let usage = TokenUsage { input_tokens: 1, output_tokens: 1 };
                let calls = vec![call; calls];
                DecisionInput::Replied(
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
                    (dice % 9 == 8).then(|| "it is no JSON".to_owned()),
                )
            }
            NextAction::Judge(id) => {
                let judgement = match dice % 5 {
                    0 => CallJudgement::Denied { rule: "r".into(), reason: "no".into(), policy: None },
                    _ if dice % 11 == 10 => CallJudgement::ForClient,
                    _ if dice % 7 == 6 && self.may_consult(id) => {
                        CallJudgement::OpinionRequest(Box::new(consults(id)))
                    }
                    _ => CallJudgement::Allowed {
                        call: prepared(id, EFFECTS[usize::from(dice % 5)], dice % 7),
                        rule: "r".into(),
                        policy: None,
                    },
                };
                DecisionInput::Judged(id, judgement)
            }
            NextAction::JudgeAhead(id) => DecisionInput::JudgedAhead(id, None),
            NextAction::JudgeReply => {
                DecisionInput::ReplyJudged(GateVerdict::Allow { rule: "reply".into(), policy: None })
            }
            NextAction::Consult(call) => DecisionInput::OpinionResult(call.id, consulted(dice)),
            NextAction::RunTool(call) => {
                let parts = vec![ContentPart::new_text("done", Label::PUBLIC_FACT)];
                DecisionInput::Finished(
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
            let calm = if self.next == NextAction::CallModel { 4 } else { 1 };
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

/// Drives a run to the point where one call of a class has begun.
fn one_call_begun(effect: EffectClass) -> Live {
    let mut live = Live::begin(12);
    live.answer(1);
    live.answer(1);
    let NextAction::Judge(id) = live.next else { panic!("one call is asked for, not {:?}", live.next) };
    let judgement = CallJudgement::Allowed { call: prepared(id, effect, 1), rule: "r".into(), policy: None };
    live.feed(DecisionInput::Judged(id, judgement));
    live
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
