//! Conclusions: what a branch or a worker came to, as an item of the inbox of the session that began it.

use serde::{Deserialize, Serialize};

use crate::content::InputMessage;
use crate::run::RunKind;
use crate::run_origin::RunOrigin;

/// The most conclusions that one turn takes together.
pub const TAKEN_MAX: usize = 16;

/// The most turns in a row that begin because of conclusions. Then conclusions wait for the next input.
pub const WAKES_MAX: u32 = 8;

/// The version of the body.
const VERSION: u32 = 1;

/// The body of an item of kind [`ItemKind::Conclusion`](crate::session::ItemKind::Conclusion).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConclusionBody {
    version: u32,
    /// What concluded: a branch or a worker.
    pub kind: RunKind,
    /// The last input that its session had taken when it began. Inputs after it are unknown to the conclusion.
    pub position: u64,
    /// What it was about, if it was given a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Whether a later branch on the same topic had begun when it ended. Such a conclusion begins no turn.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
    /// What it came to, with the labels of all that led to it.
    pub message: InputMessage,
}

impl ConclusionBody {
    /// Makes the body for the end of a run that began so.
    pub fn new(origin: &RunOrigin, superseded: bool, message: InputMessage) -> Self {
        let (kind, position, topic) = (origin.kind, origin.position, origin.topic.clone());
        Self { version: VERSION, kind, position, topic, superseded, message }
    }

    /// Writes it as it is stored.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads what is stored.
    pub fn decode(body: &[u8]) -> Result<Self, serde_json::Error> {
        let read: Self = serde_json::from_slice(body)?;
        if read.version == VERSION {
            return Ok(read);
        }
        let text = format!("this version does not know conclusions of version {}", read.version);
        Err(serde::de::Error::custom(text))
    }

    /// Returns whether it may begin a turn.
    pub fn wakes(&self) -> bool {
        !self.superseded
    }
}
