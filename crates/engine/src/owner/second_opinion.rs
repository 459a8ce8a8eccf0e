//! How an owner asks a second model about a call that cannot be undone.
//!
//! Asking is a model request like any other: it passes the gate and the leak scan, it is written and counted before its
//! entry is, and it begins when its cost is reserved durably. It has a deadline, and the end of the run ends it. A
//! second model that cannot be asked, or gives no answer, counts as an objection, without exception.

use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use dromia_contracts::encoded_request::SentEncoding;
use dromia_contracts::entry::JudgedBy;
use dromia_contracts::gate::{GateAction, GateVerdict};
use dromia_contracts::model::{ModelRequest, PreparedAttempt};
use dromia_contracts::opinion::ModelOpinion;
use dromia_contracts::plan::CallProvenance;
use dromia_contracts::tool::PreparedCall;
use futures_util::future::{Either, join_all, select};

use super::model_call::judged_by;
use super::{OwnershipError, RunOwner};
use crate::config::{OPINION_SECONDS, OPINION_TOKENS_MAX, SecondOpinion};
use crate::decide::{CallJudgement, DecisionInput, NextAction, OpinionRequest};
use crate::encoded_request::body_digest;
use crate::opinion::{self, NullDeltaSink, could_change, with_opinion};

/// How long the answers of a second model are waited for.
const OPINION_PATIENCE: Duration = Duration::from_secs(OPINION_SECONDS);

/// What becomes of a verdict with a second opinion.
pub(super) enum AdvisedVerdict {
    /// It is this one.
    Verdict(GateVerdict),
    /// A second model must be asked first, by the rule that allows the requests, or could not be asked.
    First(Box<CallJudgement>, Option<JudgedBy>),
}

impl RunOwner {
    /// Applies a second opinion to a call, if the operator configured one. A recorded opinion about this very action
    /// counts, now and when the call begins later; a missing one is requested.
    pub(super) async fn apply_opinion(
        &self,
        call: &PreparedCall,
        verdict: GateVerdict,
        standing: &mut CallProvenance,
    ) -> Result<AdvisedVerdict, OwnershipError> {
        let Some(second) = &self.core.config.second_opinion else {
            return Ok(AdvisedVerdict::Verdict(verdict));
        };
        if !could_change(&verdict, second.objection) || !self.core.ports.gate.is_irreversible(call) {
            return Ok(AdvisedVerdict::Verdict(verdict));
        }
        if standing.opinion.is_none() {
            let said = self.state.call_opinion(call.id).filter(|(action, _)| *action == call.action);
            standing.opinion = said.map(|(_, opinion)| opinion.clone());
        }
        if let Some(opinion) = &standing.opinion {
            return Ok(AdvisedVerdict::Verdict(with_opinion(verdict, opinion, second.objection)));
        }
        if !self.state.may_be_doubted(call.id) {
            return Ok(AdvisedVerdict::Verdict(verdict));
        }
        Ok(match self.opinion_prepared(second, call).await? {
            Ok((prepared, judged)) => {
                let sent =
                    SentEncoding { wording: prepared.wording.clone(), digest: body_digest(&prepared.body) };
                let (model, samples) = (second.model.clone(), second.samples);
                let consults = OpinionRequest { call: call.clone(), model, samples, prepared, sent };
                AdvisedVerdict::First(
                    Box::new(CallJudgement::OpinionRequest(Box::new(consults))),
                    Some(judged),
                )
            }
            Err(problem) => {
                tracing::warn!(run = %self.run, model = %second.model, %problem, "the second model cannot be \
                                                                                  asked");
                let opinion =
                    ModelOpinion::without_answers(&second.model, second.samples, second.agree, &problem);
                AdvisedVerdict::First(
                    Box::new(CallJudgement::Unconsulted { action: call.action, opinion }),
                    None,
                )
            }
        })
    }

    /// Encodes the request and counts its tokens, or returns why it cannot be sent.
    async fn opinion_prepared(
        &self,
        second: &SecondOpinion,
        call: &PreparedCall,
    ) -> Result<Result<(PreparedAttempt, JudgedBy), String>, OwnershipError> {
        let most = self.state.started.as_ref().map_or(0, |started| started.model_calls_max);
        if self.state.model_calls.saturating_add(second.samples) > most {
            return Ok(Err("the run has too few model calls left".to_owned()));
        }
        let prepared = match self.core.ports.model.prepare_attempt(&self.opinion_request(second, call)) {
            Ok(prepared) => prepared,
            Err(error) => return Ok(Err(error.message)),
        };
        // A provider is a sink like any other, and a fallback model may be asked.
        let model = prepared.wording.by.as_ref().unwrap_or(&second.model);
        let verdict = self.ask_gate(GateAction::Model { model }, &CallProvenance::default()).await;
        let judged = match judged_by(&verdict) {
            Ok(judged) => judged,
            Err((JudgedBy { rule, .. }, reason)) => {
                return Ok(Err(format!("the rule `{rule}` denied the request: {reason}")));
            }
        };
        Ok(match self.leak_in_request(&prepared).await? {
            Some(reason) => Err(format!("the leak scan denied the request: {reason}")),
            None => Ok((prepared, judged)),
        })
    }

    fn opinion_request(&self, second: &SecondOpinion, call: &PreparedCall) -> ModelRequest {
        let tokens = OPINION_TOKENS_MAX.min(self.core.config.output_tokens_max);
        let key = format!("{}:opinion:{}", self.run, call.id);
        // A model requested an approved call, in another run.
        let asked = self.story.asked.as_ref().filter(|_| self.state.approved_call().is_none());
        opinion::build_opinion_request(
            second,
            &self.story.transcript,
            asked,
            call,
            self.story.label,
            tokens,
            key,
        )
    }

    /// Asks, once what the answers may cost is reserved.
    pub(super) async fn consult_model(&mut self, call: PreparedCall) -> Result<NextAction, OwnershipError> {
        if let Some(ended) = self.commit_call_start().await? {
            return Ok(ended);
        }
        // Only the request that was prepared before its entry was written may leave.
        let (Some(prepared), Some(second)) = (self.prepared.take(), self.core.config.second_opinion.clone())
        else {
            tracing::error!(run = %self.run, "a second opinion is due that nobody prepared");
            return Err(OwnershipError::Store);
        };
        let request = self.opinion_request(&second, &call);
        let cancelled = AtomicBool::new(false);
        self.slot.end_step();
        let ended = {
            let asked = pin!(self.collect_answers(&second, &request, &prepared));
            let terminated = pin!(self.wait_for_terminate(&cancelled));
            match select(asked, terminated).await {
                Either::Left((answers, _)) => Ok(answers),
                // Dropping the futures cancels the attempts.
                Either::Right((item, _)) => Err(item),
            }
        };
        self.begin_step().await;
        if cancelled.into_inner() {
            // A cancel waits for the border of its unit: leave it signalled.
            self.core.hub.signal_run(self.run);
        }
        match ended {
            Ok(answers) => {
                let consulted = opinion::conclude_opinion(&second, &prepared, answers);
                Ok(self.decide_next(DecisionInput::OpinionResult(call.id, consulted)))
            }
            Err(Some(item)) => Ok(self.decide_next(DecisionInput::Signal(item))),
            Err(None) => Err(OwnershipError::Store),
        }
    }

    /// Sends the same request as often as the operator wants, at once, and waits until the deadline.
    async fn collect_answers(
        &self,
        second: &SecondOpinion,
        request: &ModelRequest,
        prepared: &PreparedAttempt,
    ) -> Vec<opinion::Answer> {
        let numbered =
            |number: u32| ModelRequest { key: format!("{}:{number}", request.key), ..request.clone() };
        let requests: Vec<ModelRequest> = (1..=second.samples).map(numbered).collect();
        let mut answers = Vec::new();
        for request in &requests {
            answers.push(self.request_answer(request, prepared));
        }
        join_all(answers).await
    }

    async fn request_answer(&self, request: &ModelRequest, prepared: &PreparedAttempt) -> opinion::Answer {
        let attempt = self.core.ports.model.call_model(request, prepared, &NullDeltaSink);
        match select(attempt, self.core.ports.runtime.clock.sleep(OPINION_PATIENCE)).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(((), _)) => None,
        }
    }
}
