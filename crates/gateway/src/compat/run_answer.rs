//! What a run said, as far as a client of another API gets it: its texts, the calls for the client, why it ended, and
//! what it used. Nothing of what the gate withheld is in it.

use dromia_contracts::model::{FinishReason, TokenUsage, UsageDetail};
use jiff::Timestamp;

/// Everything that a run said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunAnswer {
    pub(super) started_at: Timestamp,
    /// The texts of its model steps, one after another.
    pub(super) text: String,
    /// The calls for the client with which it ended.
    pub(super) calls: Vec<ClientCall>,
    /// Why its last step stopped.
    pub(super) finish: FinishReason,
    /// At which stop text, where the model said so.
    pub(super) stopped_at: Option<String>,
    pub(super) usage: TokenUsage,
    pub(super) detail: UsageDetail,
}

impl Default for RunAnswer {
    fn default() -> Self {
        Self {
            started_at: Timestamp::UNIX_EPOCH,
            text: String::new(),
            calls: Vec::new(),
            finish: FinishReason::Stop,
            stopped_at: None,
            usage: TokenUsage::default(),
            detail: UsageDetail::default(),
        }
    }
}

/// A call that a run handed to its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClientCall {
    /// Its name, which the result must carry.
    pub(super) id: String,
    /// The tool, as the client wrote it.
    pub(super) tool: String,
    /// The arguments: a JSON object.
    pub(super) arguments: String,
}
