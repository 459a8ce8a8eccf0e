//! How a reply is judged: as it came, and once more before it leaves.

use dromia_contracts::entry::WithheldReply;
use dromia_contracts::gate::{GateAction, GateVerdict};
use dromia_contracts::plan::CallProvenance;

use super::CallJudge;
use super::leak_scan::LEAK_SCAN;
use crate::decide::DecisionInput;

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
        // A reply that was withheld when it came is refused for the same reason, even if a policy would allow it by
        // now.
        let verdict = match self.story.withheld.clone() {
            Some(WithheldReply { rule, reason }) => GateVerdict::Deny { rule, reason, policy: None },
            None => match self.leak_in_reply().await {
                None => {
                    self.ask_gate(
                        GateAction::Reply { session: self.identity.session },
                        &CallProvenance::default(),
                    )
                    .await
                }
                Some(reason) => GateVerdict::Deny { rule: LEAK_SCAN.to_owned(), reason, policy: None },
            },
        };
        DecisionInput::ReplyJudged(verdict)
    }
}
