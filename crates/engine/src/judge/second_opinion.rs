//! The check that asks a second model about a call that cannot be undone, if the operator configured one.

use dromia_contracts::encoded_request::SentEncoding;
use dromia_contracts::entry::JudgedBy;
use dromia_contracts::gate::{GateAction, GateVerdict};
use dromia_contracts::model::{ModelRequest, PreparedAttempt};
use dromia_contracts::opinion::ModelOpinion;
use dromia_contracts::plan::CallProvenance;
use dromia_contracts::tool::PreparedCall;

use super::CallJudge;
use super::gate_verdict::judged_by;
use crate::config::{OPINION_TOKENS_MAX, SecondOpinion};
use crate::decide::{CallJudgement, OpinionRequest};
use crate::encoded_request::body_digest;
use crate::opinion::{self, could_change, with_opinion};
use crate::owner::error::OwnershipError;

/// What becomes of a verdict with a second opinion.
pub(super) enum AdvisedVerdict {
    /// It is this one.
    Verdict(GateVerdict),
    /// A second model must be asked first, by the rule that allows the requests, or could not be asked.
    First(Box<CallJudgement>, Option<JudgedBy>),
}

impl CallJudge<'_> {
    /// Applies a second opinion to a call, if the operator configured one. A recorded opinion about this very action
    /// counts, now and when the call begins later; a missing one is requested.
    pub(super) async fn apply_opinion(
        &self,
        call: &PreparedCall,
        verdict: GateVerdict,
        provenance: &mut CallProvenance,
    ) -> Result<AdvisedVerdict, OwnershipError> {
        let config = self.core.config();
        let Some(second) = &config.second_opinion else {
            return Ok(AdvisedVerdict::Verdict(verdict));
        };
        if !could_change(&verdict, second.objection) || !self.core.ports.gate.is_irreversible(call) {
            return Ok(AdvisedVerdict::Verdict(verdict));
        }
        if provenance.opinion.is_none() {
            let said = self.state.call_opinion(call.id).filter(|(action, _)| *action == call.action);
            provenance.opinion = said.map(|(_, opinion)| opinion.clone());
        }
        if let Some(opinion) = &provenance.opinion {
            return Ok(AdvisedVerdict::Verdict(with_opinion(verdict, opinion, second.objection)));
        }
        if !self.state.may_be_doubted(call.id) {
            return Ok(AdvisedVerdict::Verdict(verdict));
        }
        Ok(match self.opinion_prepared(second, call).await? {
            Ok((prepared, judged)) => {
                let sent =
                    SentEncoding { wording: prepared.wording.clone(), digest: body_digest(&prepared.body) };
                let second = second.clone();
                let consults = OpinionRequest { call: call.clone(), second, prepared, sent };
                AdvisedVerdict::First(
                    Box::new(CallJudgement::OpinionRequest(Box::new(consults))),
                    Some(judged),
                )
            }
            Err(problem) => {
                tracing::warn!(run = %self.identity.run, model = %second.model, %problem, "the second model cannot be asked");
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

    /// Makes the request for a second opinion.
    pub(crate) fn opinion_request(&self, second: &SecondOpinion, call: &PreparedCall) -> ModelRequest {
        let tokens = OPINION_TOKENS_MAX.min(self.core.config().output_tokens_max);
        let key = format!("{}:opinion:{}", self.identity.run, call.id);
        // A model requested an approved call, in another run.
        let asked = self.story.asked.as_ref().filter(|_| self.state.approved_call().is_none());
        opinion::build_opinion_request(
            second,
            &self.story.transcript,
            asked,
            call,
            self.story.taint.label,
            tokens,
            key,
        )
    }
}
