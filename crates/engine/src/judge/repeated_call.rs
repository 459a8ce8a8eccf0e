//! The check that ends a loop: an equal call that a run made too often is refused. What a person allowed is no repetition.

use dromia_contracts::tool::PreparedCall;

use super::{CallJudge, JudgementStop};
use crate::config::EngineConfig;
use crate::state::repetition;

impl CallJudge<'_> {
    /// Refuses a call that was made too often.
    pub(super) fn check_repetition(&self, call: &PreparedCall) -> Result<(), JudgementStop> {
        let EngineConfig { loop_same, loop_window, .. } = *self.core.config();
        let is_approved = self.state.granted_approval(call.id).is_some();
        let times = self.state.repeat_count(call.action, loop_same, loop_window).filter(|_| !is_approved);
        match times {
            Some(times) => {
                Err(self.deny_call(&call.tool, repetition::RULE, repetition::repetition_refusal(times)))
            }
            None => Ok(()),
        }
    }
}
