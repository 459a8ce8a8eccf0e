//! The check of a call against its tool's schema, which also makes its canonical form and the digest of the action.

use dromia_contracts::content::ToolCall;
use dromia_contracts::tool::PreparedCall;

use super::{CallJudge, JudgementStop};

impl CallJudge<'_> {
    /// Prepares a call; refuses what is no call of a tool.
    pub(super) fn check_arguments(&self, call: &ToolCall) -> Result<PreparedCall, JudgementStop> {
        self.run_tools().prepare_call(call).map_err(|error| self.refuse_call(error))
    }
}
