//! The check for secrets in a call: one whose arguments held a value never begins.

use dromia_contracts::CallId;

use super::{CallJudge, JudgementStop};
use crate::judge::leak_scan::LEAK_SCAN;

impl CallJudge<'_> {
    /// Refuses a call that was masked when the reply came.
    pub(super) fn check_mask(&self, id: CallId) -> Result<(), JudgementStop> {
        match self.story.masked_call(id) {
            Some((call, reason)) => Err(self.deny_call(&call.tool, LEAK_SCAN, reason.to_owned())),
            None => Ok(()),
        }
    }
}
