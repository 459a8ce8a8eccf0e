//! The check for a client's tools: nothing of them runs here, so only the form of their calls is judged.

use dromia_contracts::content::ToolCall;

use super::{CallJudge, JudgementStop};
use crate::context::client_tools::judge_client_call;

impl CallJudge<'_> {
    /// Returns whether a call is to a tool of the client.
    pub(super) fn is_for_client(&self, call: &ToolCall) -> bool {
        self.story.client.offered.has_tool(&call.tool, self.identity.agent.tools.all_descriptors())
    }

    /// Hands a call to the client, if the tool is the client's.
    pub(super) fn check_client_tool(&self, call: &ToolCall) -> Result<(), JudgementStop> {
        if self.is_for_client(call) { Err(judge_client_call(call).into()) } else { Ok(()) }
    }
}
