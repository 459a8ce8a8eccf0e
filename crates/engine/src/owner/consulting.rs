//! How an owner asks a second model about a call that cannot be undone.
//!
//! Asking is a model request like any other: it passes the gate and the leak scan, it is written and counted before its entry
//! is, and it begins when what it may cost is reserved durably. It has a deadline, and whoever ends the run ends it. What
//! cannot be asked, or gives no answer, is an objection; no way leads past it.

use std::pin::pin;
use std::sync::atomic::AtomicBool;

use dromia_contracts::gate::{Action, Verdict};
use dromia_contracts::model::{ModelRequest, Prepared};
use dromia_contracts::opinion::Opinion;
use dromia_contracts::plan::Standing;
use dromia_contracts::sent::Sent;
use dromia_contracts::tool::PreparedCall;
use futures_util::future::{Either, join_all, select};
use jiff::{SignedDuration, Timestamp};

use super::asking::leak;
use super::{Lost, Owner};
use crate::config::{OPINION_SECONDS, OPINION_TOKENS_MAX, SecondOpinion};
use crate::decide::{Consults, Input, Judgement, Next};
use crate::opinion::{self, Unheard, could_change, with_opinion};
use crate::sent::digest;

/// What becomes of a verdict with a second opinion.
pub(super) enum Advised {
    /// It is this one.
    Verdict(Verdict),
    /// Somebody must be asked first, or could not be.
    First(Judgement),
}

impl Owner {
    /// Lets a second opinion count for a call, where the operator wants one. What was said of this very action counts, now
    /// and where the call begins later; what nobody said is asked for.
    pub(super) async fn advised(
        &self,
        call: &PreparedCall,
        verdict: Verdict,
        standing: &mut Standing,
    ) -> Result<Advised, Lost> {
        let Some(second) = &self.core.config.second_opinion else { return Ok(Advised::Verdict(verdict)) };
        if !could_change(&verdict, second.objection) || !self.core.ports.gate.is_irreversible(call) {
            return Ok(Advised::Verdict(verdict));
        }
        if standing.opinion.is_none() {
            let said = self.state.opinion(call.id).filter(|(action, _)| *action == call.action);
            standing.opinion = said.map(|(_, opinion)| opinion.clone());
        }
        if let Some(opinion) = &standing.opinion {
            return Ok(Advised::Verdict(with_opinion(verdict, opinion, second.objection)));
        }
        if !self.state.may_be_doubted(call.id) {
            return Ok(Advised::Verdict(verdict));
        }
        Ok(Advised::First(match self.opinion_prepared(second, call).await? {
            Ok(prepared) => {
                let sent = Sent { wording: prepared.wording.clone(), digest: digest(&prepared.body) };
                let (model, samples) = (second.model.clone(), second.samples);
                Judgement::Consults(Box::new(Consults { call: call.clone(), model, samples, prepared, sent }))
            }
            Err(problem) => {
                tracing::warn!(run = %self.run, model = %second.model, %problem, "no second opinion can be asked for");
                let opinion = Opinion::unasked(&second.model, second.samples, second.agree, &problem);
                Judgement::Unconsulted { action: call.action, opinion }
            }
        }))
    }

    /// Writes the request down and counts it, or says why it cannot be sent.
    async fn opinion_prepared(
        &self,
        second: &SecondOpinion,
        call: &PreparedCall,
    ) -> Result<Result<Prepared, String>, Lost> {
        let most = self.state.started.as_ref().map_or(0, |started| started.model_calls_max);
        if self.state.model_calls.saturating_add(second.samples) > most {
            return Ok(Err("the run has too few model calls left".to_owned()));
        }
        // A provider is a sink like any other. Nobody is asked about a request, and none is put off.
        if let Verdict::Deny { rule, reason, .. }
        | Verdict::Ask { rule, reason, .. }
        | Verdict::Delay { rule, reason, .. } =
            self.gate(Action::Model { model: &second.model }, &Standing::default())
        {
            return Ok(Err(format!("the request was refused by {rule}: {reason}")));
        }
        let prepared = match self.core.ports.model.prepare(&self.opinion_request(second, call)) {
            Ok(prepared) => prepared,
            Err(error) => return Ok(Err(error.message)),
        };
        let spotter = self.core.ports.leaks.spotter(&self.scope).await;
        Ok(match leak(&prepared, spotter.as_ref())? {
            Some(reason) => Err(format!("the request was refused by leak scan: {reason}")),
            None => Ok(prepared),
        })
    }

    fn opinion_request(&self, second: &SecondOpinion, call: &PreparedCall) -> ModelRequest {
        let tokens = OPINION_TOKENS_MAX.min(self.core.config.output_tokens_max);
        let key = format!("{}:opinion:{}", self.run, call.id);
        // What was approved was asked for elsewhere, by a model.
        let asked = self.story.asked.as_ref().filter(|_| self.state.approved_call().is_none());
        opinion::request(second, &self.story.transcript, asked, call, self.story.label, tokens, key)
    }

    /// Asks, once what the answers may cost is reserved.
    pub(super) async fn consult(&mut self, call: PreparedCall) -> Result<Next, Lost> {
        if let Some(ended) = self.commit().await? {
            return Ok(ended);
        }
        // What leaves is what was prepared before the entry was written, and nothing else.
        let (Some(prepared), Some(second)) = (self.prepared.take(), self.core.config.second_opinion.clone())
        else {
            tracing::error!(run = %self.run, "a second opinion is due that nobody prepared");
            return Err(Lost::Store);
        };
        let request = self.opinion_request(&second, &call);
        let cancelled = AtomicBool::new(false);
        let ended = {
            let asked = pin!(self.answers(&second, &request, &prepared));
            let terminated = pin!(self.terminated(&cancelled));
            match select(asked, terminated).await {
                Either::Left((answers, _)) => Ok(answers),
                // Dropping the futures cancels the attempts.
                Either::Right((item, _)) => Err(item),
            }
        };
        if cancelled.into_inner() {
            // A cancel waits for the border of its unit: leave it signalled.
            self.core.hub.signal(self.run);
        }
        match ended {
            Ok(answers) => {
                let consulted = opinion::consulted(&second, &prepared, answers);
                Ok(self.decide(Input::Consulted(call.id, consulted)))
            }
            Err(Some(item)) => Ok(self.decide(Input::Signal(item))),
            Err(None) => Err(Lost::Store),
        }
    }

    /// Sends the same request as often as the operator wants, at once, and waits until the deadline.
    async fn answers(
        &self,
        second: &SecondOpinion,
        request: &ModelRequest,
        prepared: &Prepared,
    ) -> Vec<opinion::Answer> {
        let deadline = SignedDuration::from_secs(OPINION_SECONDS);
        let until = self.core.ports.runtime.clock.now().checked_add(deadline).unwrap_or(Timestamp::MAX);
        let numbered =
            |number: u32| ModelRequest { key: format!("{}:{number}", request.key), ..request.clone() };
        let requests: Vec<ModelRequest> = (1..=second.samples).map(numbered).collect();
        let mut answers = Vec::new();
        for request in &requests {
            answers.push(self.answer(request, prepared, until));
        }
        join_all(answers).await
    }

    async fn answer(&self, request: &ModelRequest, prepared: &Prepared, until: Timestamp) -> opinion::Answer {
        let attempt = self.core.ports.model.call(request, prepared, &Unheard);
        match select(attempt, self.core.ports.runtime.clock.sleep_until(until)).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(((), _)) => None,
        }
    }
}
