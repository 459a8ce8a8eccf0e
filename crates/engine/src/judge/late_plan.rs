//! The check that nothing is planned once untrusted content came to the turn.

use dromia_contracts::plan::DECLARE;
use dromia_contracts::tool::PreparedCall;

use super::{CallJudge, JudgementStop};
use crate::plan;

impl CallJudge<'_> {
    /// Returns whether a call declares a plan too late.
    pub(super) fn is_late_plan(&self, call: &PreparedCall) -> bool {
        call.tool == DECLARE && self.story.taint.is_closed()
    }

    /// Refuses a declaration that comes too late.
    pub(super) fn check_plan(&self, call: &PreparedCall) -> Result<(), JudgementStop> {
        if self.is_late_plan(call) {
            return Err(self.deny_call(&call.tool, plan::FROZEN, plan::FROZEN_TEXT.to_owned()));
        }
        Ok(())
    }
}
