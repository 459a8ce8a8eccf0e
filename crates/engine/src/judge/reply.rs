//! How a reply is judged: as it came, and once more before it leaves. An interim reply passes what the answer passes.

use dromia_contracts::content::parts_text;
use dromia_contracts::entry::WithheldReply;
use dromia_contracts::gate::{GateAction, GateVerdict};
use dromia_contracts::plan::CallProvenance;
use dromia_contracts::tool::PreparedCall;

use super::leak_scan::{LEAK_SCAN, leak_in_words};
use super::{CallJudge, JudgementStop};
use crate::decide::{CallJudgement, DecisionInput};

/// The rule that refuses an interim reply whose run has ended.
const ENDED_TURN: &str = "ended turn";

impl CallJudge<'_> {
    /// Returns why a reply of the run would be withheld now, if the gate allows none.
    pub(crate) async fn withheld_reason(&self) -> Option<WithheldReply> {
        match self
            .ask_gate(GateAction::Reply { session: self.identity.session }, &CallProvenance::default())
            .await
        {
            GateVerdict::Allow { .. } => None,
            // A reply can neither wait for an approval nor be delayed, so such a verdict refuses it.
            GateVerdict::Deny { rule, reason, .. }
            | GateVerdict::Ask { rule, reason, .. }
            | GateVerdict::Delay { rule, reason, .. } => Some(WithheldReply { rule, reason }),
        }
    }

    /// Judges the reply before it leaves.
    pub(crate) async fn judge_reply(&self) -> DecisionInput {
        DecisionInput::ReplyJudged(self.judge_words(&parts_text(&self.story.reply)).await)
    }

    /// Refuses an interim reply that would be withheld if it were the answer. It can neither wait for an approval nor be delayed,
    /// as the answer can't.
    pub(super) async fn check_interim_reply(&self, call: &PreparedCall) -> Result<(), JudgementStop> {
        let Some(text) = call.interim_reply() else { return Ok(()) };
        if self.state.approved_call().is_some() {
            let reason =
                "the turn that wanted to say this has ended, so nothing was sent; the next answer can say it";
            return Err(self.deny_call(&call.tool, ENDED_TURN, reason.to_owned()));
        }
        match self.judge_words(&text).await {
            GateVerdict::Allow { .. } => Ok(()),
            GateVerdict::Deny { rule, reason, policy }
            | GateVerdict::Ask { rule, reason, policy }
            | GateVerdict::Delay { rule, reason, policy } => {
                self.core.activity.calls.count_denied(&call.tool);
                Err(CallJudgement::Denied { rule, reason, policy }.into())
            }
        }
    }

    /// Judges words of the run for its session.
    async fn judge_words(&self, text: &str) -> GateVerdict {
        // A reply that was withheld when it came is refused for the same reason, even if a policy would allow it by
        // now.
        if let Some(WithheldReply { rule, reason }) = self.story.withheld.clone() {
            return GateVerdict::Deny { rule, reason, policy: None };
        }
        let leak = leak_in_words(&*self.core.ports.leaks, &self.identity.scope, text).await;
        if let Some(reason) = leak {
            return GateVerdict::Deny { rule: LEAK_SCAN.to_owned(), reason, policy: None };
        }
        self.ask_gate(GateAction::Reply { session: self.identity.session }, &CallProvenance::default()).await
    }
}
