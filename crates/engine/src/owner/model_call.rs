//! How an owner asks its model: the request, its reservation, and one attempt that a signal may end.

use std::pin::pin;
use std::sync::Arc;

use dromia_contracts::ErrorCode;
use dromia_contracts::encoded_request::{SentEncoding, TaintedPast};
use dromia_contracts::entry::{Entry, JudgedBy};
use dromia_contracts::gate::GateAction;
use dromia_contracts::model::{ModelError, ModelReply, ModelRequest, PreparedAttempt};
use dromia_contracts::plan::CallProvenance;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::vault::SecretScanner;
use futures_util::future::{Either, select};
use jiff::Timestamp;

use super::live_text::LiveDeltas;
use super::{OwnershipError, RunOwner};
use crate::answer_check::AnswerCheck;
use crate::decide::{DecisionInput, NextAction, PlannedRequest};
use crate::encoded_request::body_digest;
use crate::judge::gate_verdict::judged_by;
use crate::judge::leak_scan::LEAK_SCAN;
use crate::model_request::ModelRequestSpec;
use crate::state::{RunPhase, RunState};
use crate::window_use::WindowUse;

impl RunOwner {
    /// Plans the next step, has the gate judge its request, and decides. A provider is a sink like any other: the entry
    /// of an attempt names the rule that allowed its request.
    pub(crate) async fn plan_step(&mut self) -> NextAction {
        let input = self.plan_request();
        if let (DecisionInput::Planned(plan), Some(prepared)) = (&input, &self.step.prepared) {
            // A fallback model may be asked; the verdict is about the model that is.
            let model = prepared.wording.by.clone().unwrap_or_else(|| plan.model.clone());
            let action = GateAction::Model { model: &model };
            self.step.verdict = Some(self.judge().ask_gate(action, &CallProvenance::default()).await);
        }
        let allowed = self.step.verdict.as_ref().and_then(|verdict| judged_by(verdict).ok());
        self.decide_noting(input, |entries| {
            for new in entries {
                if let Entry::ModelCalled(called) = &mut new.entry {
                    called.judged.clone_from(&allowed);
                }
            }
        })
    }

    /// Builds the next request, encodes it and counts its tokens; a manual call needs none.
    fn plan_request(&mut self) -> DecisionInput {
        if let Some(asked) = self.story.asked.clone() {
            return DecisionInput::Asked(asked);
        }
        let now = self.core.ports.runtime.clock.now();
        let concludes = self.state.concludes_after(1) || concludes_at(&self.state, now);
        let mut prepared = prepare_request(self, concludes);
        if prepared.as_ref().is_ok_and(|prepared| prepared.wording.leaves_words_out())
            && !self.story.omitted.is_cut
        {
            // The model gets the tool that reads what is left out, so the request is another one.
            self.story.omitted.is_cut = true;
            prepared = prepare_request(self, concludes);
        }
        let prepared = match prepared {
            Ok(mut prepared) => {
                if self.story.has_past() {
                    prepared.wording.tainted_past = TaintedPast::Handle;
                }
                prepared.wording.concludes = concludes;
                prepared
            }
            Err(error) => {
                // The run ends, perhaps in the commit of its claim, which does not tell whether input waits: look.
                self.waiting = true;
                return DecisionInput::Unplanned(error);
            }
        };
        let sent = SentEncoding { wording: prepared.wording.clone(), digest: body_digest(&prepared.body) };
        let plan = PlannedRequest {
            model: self.identity.agent.config.model.clone(),
            history_from: self.story.history_from,
            input_tokens: prepared.input_tokens,
            output_tokens_max: prepared.output_tokens_max,
            reserved_micros: prepared.reserved_micros,
            unpriced: !prepared.priced,
            sent,
        };
        self.step.priced = prepared.priced;
        self.step.used = WindowUse {
            input_tokens: prepared.input_tokens,
            output_tokens_max: prepared.output_tokens_max,
            window: prepared.window.unwrap_or(self.core.config().window_tokens),
        };
        self.step.prepared = Some(prepared);
        DecisionInput::Planned(plan)
    }

    fn build_request(&mut self, concludes: bool) -> ModelRequest {
        let step = match self.state.phase {
            RunPhase::StepDue { step, .. } | RunPhase::ModelOpen { step, .. } => step,
            _ => 0,
        };
        self.story.build_model_request(ModelRequestSpec {
            model: &self.identity.agent.config.model,
            system: &self.identity.agent.system,
            tools: self.identity.agent.tools.offered_tools(&self.story, &self.identity.agent.system),
            output_tokens_max: self.core.config().output_tokens_max,
            run: self.identity.run,
            step,
            concludes,
        })
    }

    /// Asks the model, and decides what its answer leads to.
    pub(super) async fn call_model(&mut self) -> Result<NextAction, OwnershipError> {
        // Only the request that was prepared and judged before its entry was written may leave.
        let (Some(prepared), Some(verdict)) = (self.step.prepared.take(), self.step.verdict.take()) else {
            tracing::error!(run = %self.identity.run, "a model call is due that nobody prepared");
            return Err(OwnershipError::Store);
        };
        if let Err((judged, reason)) = judged_by(&verdict) {
            return Ok(self.refuse_request(ErrorCode::ActionDenied, &judged, reason));
        }
        if let Some(reason) = self.judge().leak_in_request(&prepared).await? {
            // A repeated attempt would contain the same secret.
            let judged = JudgedBy { rule: LEAK_SCAN.to_owned(), policy: None };
            return Ok(self.refuse_request(ErrorCode::ModelRejected, &judged, &reason));
        }
        // A reply that would be withheld in the end is not streamed either.
        let withheld = self.judge().withheld_reason().await;
        // Neither is one that may be repaired: what was said cannot be taken back.
        let is_told = withheld.is_none() && self.story.client.offered.answer_format().is_none();
        let told = self.secret_scanner().await.filter(|_| is_told);
        match self.attempt_call(&prepared, told).await? {
            DecisionInput::Replied(mut reply, label, _) => {
                let used = &mut self.step.used;
                used.input_tokens = used.input_tokens.max(reply.usage.input_tokens);
                let marks = self.redact_reply(&mut reply, withheld).await?;
                let unfit = if marks.withholds() { None } else { self.check_answer(&mut reply).await? };
                Ok(self.decide_noting(DecisionInput::Replied(reply, label, unfit), |entries| {
                    marks.annotate_entries(entries);
                }))
            }
            input => Ok(self.decide_next(input)),
        }
    }

    /// Checks the last answer of a run against the form that its client wants; returns what is wrong with it.
    async fn check_answer(&self, reply: &mut ModelReply) -> Result<Option<String>, OwnershipError> {
        let Some(format) = self.story.client.offered.answer_format().filter(|_| reply.calls.is_empty())
        else {
            return Ok(None);
        };
        let answer = reply.text.clone();
        let tenant = self.identity.scope.tenant();
        let checked =
            self.core.ports.runtime.run_compute(tenant, move || AnswerCheck::of_answer(&format, &answer));
        match checked.await {
            Some(AnswerCheck::Fit(json)) => {
                reply.text = json;
                Ok(None)
            }
            Some(AnswerCheck::Unfit(problem)) => Ok(Some(problem)),
            // The check panicked, or the process ends.
            None => Ok(Some("it could not be checked".to_owned())),
        }
    }

    /// Ends the attempt whose request was kept back: nothing was sent, and no model has anything to do with it.
    fn refuse_request(&mut self, code: ErrorCode, judged: &JudgedBy, reason: &str) -> NextAction {
        let message = format!("the rule `{}` denied the request: {reason}", judged.rule);
        let input = DecisionInput::Failed(ModelError { code, message, retry_after: None });
        self.decide_noting(input, |entries| {
            for new in entries {
                if let Entry::ModelFailed(failed) = &mut new.entry {
                    failed.judged = Some(judged.clone());
                }
            }
        })
    }

    /// Makes one attempt, which a signal may end. Watchers get its text through the secret scanner, if there is one.
    async fn attempt_call(
        &mut self,
        prepared: &PreparedAttempt,
        told: Option<Arc<dyn SecretScanner>>,
    ) -> Result<DecisionInput, OwnershipError> {
        let concludes = prepared.wording.concludes;
        let request = self.build_request(concludes);
        let (step, attempt) = match self.state.phase {
            RunPhase::ModelOpen { step, attempt, .. } => (step, attempt),
            _ => (0, 0),
        };
        let deltas = LiveDeltas::new(&self.core, self.identity.run, (step, attempt), told);
        let mut others = false;
        self.slot.end_step();
        let began = self.core.ports.runtime.clock.now();
        let ended = {
            let mut call = self.core.ports.model.call_model(&request, prepared, &deltas);
            loop {
                let signal = pin!(self.active.wait_for_signal());
                match select(&mut call, signal).await {
                    Either::Left((result, _)) => break Ok(result),
                    Either::Right(((), _)) => {
                        // A signal may be taken already, or may ask for nothing that concerns the attempt.
                        let items = self.read_signals().await?;
                        others = !items.is_empty();
                        // Its agent is being erased; otherwise the sender of the notification could not store the
                        // signal.
                        if items.is_empty() && self.is_gone().await? {
                            return Err(OwnershipError::Fenced);
                        }
                        if items.iter().any(|item| ends_a_run(item.kind)) {
                            // Dropping the future cancels the attempt.
                            break Err(items);
                        }
                    }
                }
            }
        };
        if let Ok(result) = &ended {
            let took = self.core.ports.runtime.clock.now().duration_since(began);
            let identity = (self.identity.scope.tenant(), self.identity.agent.id);
            let called = (self.identity.agent.config.model.as_str(), prepared);
            // A clock that was set back gives no duration.
            self.core.activity.usage.count_call(
                identity,
                called,
                result.as_ref(),
                took.try_into().unwrap_or_default(),
            );
        }
        self.begin_step().await;
        deltas.flush_held();
        self.story.restore_transcript(request, concludes);
        match ended {
            Ok(result) => {
                if others {
                    self.core.hub.signal_run(self.identity.run);
                }
                Ok(match result {
                    Ok(reply) => DecisionInput::Replied(reply, self.story.taint.label, None),
                    Err(error) if deltas.has_begun() => DecisionInput::BrokenAnswer(error),
                    Err(error) => DecisionInput::Failed(error),
                })
            }
            Err(items) => self.first_end(items),
        }
    }

    /// Returns the scanner for the secrets that watchers must not see; `None` if the vault does not open.
    pub(super) async fn secret_scanner(&self) -> Option<Arc<dyn SecretScanner>> {
        self.core.ports.leaks.scanner_for_tenant(&self.identity.scope).await.ok()
    }

    /// Tells whether the run is not found any more.
    async fn is_gone(&self) -> Result<bool, OwnershipError> {
        let found = self.core.ports.store.run(&self.identity.scope, self.identity.run).await;
        found.map(|run| run.is_none()).map_err(|_| OwnershipError::Store)
    }

    /// Takes signals in their order up to the first that ends the run, and returns that one.
    fn first_end(&mut self, items: Vec<InboxItem>) -> Result<DecisionInput, OwnershipError> {
        for item in items {
            if ends_a_run(item.kind) {
                return Ok(DecisionInput::Signal(item));
            }
            self.decide_next(DecisionInput::Signal(item));
        }
        Err(OwnershipError::Store)
    }
}

/// Tells whether the next request asks a run to conclude because its deadline has passed.
fn concludes_at(state: &RunState, now: Timestamp) -> bool {
    let asks = state.started.as_ref().is_some_and(|started| !started.mind.is_solo());
    asks && state.passed_deadline(now).is_some()
}

/// Chooses who is asked and writes the request.
fn prepare_request(owner: &mut RunOwner, concludes: bool) -> Result<PreparedAttempt, ModelError> {
    let request = owner.build_request(concludes);
    let prepared = owner.core.ports.model.prepare_attempt(&request);
    owner.story.restore_transcript(request, concludes);
    prepared
}

fn ends_a_run(kind: ItemKind) -> bool {
    matches!(kind, ItemKind::Cancel | ItemKind::Terminate)
}
