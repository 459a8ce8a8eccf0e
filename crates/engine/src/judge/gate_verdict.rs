//! The check that every action passes: the gate's verdict, by the rights and policies of this moment.

use dromia_contracts::entry::JudgedBy;
use dromia_contracts::gate::{GateAction, GateVerdict, Principal};
use dromia_contracts::plan::{CallProvenance, PlanContext};
use dromia_contracts::{BoxFuture, Digest};
use futures_util::FutureExt as _;

use super::CallJudge;
use crate::plan;

impl CallJudge<'_> {
    /// The one path to the gate.
    pub(crate) async fn ask_gate(&self, action: GateAction<'_>, provenance: &CallProvenance) -> GateVerdict {
        let heard;
        let plan = match action {
            GateAction::Tool(_) => provenance.plan_context(),
            GateAction::Model { .. } | GateAction::Reply { .. } => {
                heard = plan::sensitive_sources(self.story, self.run_tools());
                PlanContext { sources: &heard, ..provenance.plan_context() }
            }
        };
        let principal = Principal {
            scope: &self.identity.scope,
            author: &self.identity.author,
            grants: &self.identity.agent.grants,
            context: self.story.taint.label,
            endorsed: &provenance.endorsed,
            plan,
        };
        self.wait_outside_step(self.core.ports.gate.evaluate_action(principal, action)).await
    }

    /// Waits for what may be answered at once or after seconds, such as a policy in a worker: in the step in the first case, and
    /// outside of it in the second.
    async fn wait_outside_step<T>(&self, mut wait: BoxFuture<'_, T>) -> T {
        if let Some(at_once) = (&mut wait).now_or_never() {
            return at_once;
        }
        let was_in_step = self.slot.end_step();
        let answer = wait.await;
        if was_in_step {
            self.slot.begin_step(self.core.ports.runtime.clock.monotonic_now()).await;
        }
        answer
    }
}

/// Returns the rule by which a request may leave, or the rule and the reason why it may not. A request can neither wait
/// for an approval nor be delayed, so such a verdict refuses it.
pub(crate) fn judged_by(verdict: &GateVerdict) -> Result<JudgedBy, (JudgedBy, &str)> {
    let by = |rule: &String, policy: &Option<Digest>| JudgedBy { rule: rule.clone(), policy: *policy };
    match verdict {
        GateVerdict::Allow { rule, policy } => Ok(by(rule, policy)),
        GateVerdict::Deny { rule, reason, policy }
        | GateVerdict::Ask { rule, reason, policy }
        | GateVerdict::Delay { rule, reason, policy } => Err((by(rule, policy), reason)),
    }
}
