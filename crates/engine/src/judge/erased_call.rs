//! The check that a call can still be read: an erasure takes arguments.

use dromia_contracts::CallId;
use dromia_contracts::content::ToolCall;

use super::{CallJudge, JudgementStop};
use crate::decide::CallJudgement;

impl<'a> CallJudge<'a> {
    /// Finds the call as the model asked for it.
    pub(super) fn find_call(&self, id: CallId) -> Result<&'a ToolCall, JudgementStop> {
        self.story.open_call(id).ok_or_else(|| {
            let reason = "the call's arguments were erased".to_owned();
            JudgementStop::from(CallJudgement::Denied { rule: "erased".to_owned(), reason, policy: None })
        })
    }
}
