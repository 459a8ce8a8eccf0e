//! How an owner asks a second model, once what its answers may cost is reserved.

use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use dromia_contracts::model::{ModelRequest, PreparedAttempt};
use dromia_contracts::tool::PreparedCall;
use futures_util::future::{Either, join_all, select};

use super::{OwnershipError, RunOwner};
use crate::config::{OPINION_SECONDS, SecondOpinion};
use crate::decide::{DecisionInput, NextAction};
use crate::opinion::{self, NullDeltaSink};

/// How long the answers of a second model are waited for.
const OPINION_PATIENCE: Duration = Duration::from_secs(OPINION_SECONDS);

impl RunOwner {
    /// Asks, once what the answers may cost is reserved.
    pub(super) async fn consult_model(&mut self, call: PreparedCall) -> Result<NextAction, OwnershipError> {
        if let Some(ended) = self.commit_call_start().await? {
            return Ok(ended);
        }
        // Only the request that was prepared before its entry was written may leave.
        let (Some(prepared), Some(second)) = (self.step.prepared.take(), self.step.second.take()) else {
            tracing::error!(run = %self.identity.run, "a second opinion is due that nobody prepared");
            return Err(OwnershipError::Store);
        };
        let request = self.judge().opinion_request(&second, &call);
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
            self.core.hub.signal_run(self.identity.run);
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
