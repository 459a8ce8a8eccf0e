//! The prompt that a run is pinned to: a system text and tools, kept under their digest.
//!
//! Documents of the agent follow the system text and have pins of their own; see [`layers`](super::layers).

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::Digest;
use dromia_contracts::redacted_history;
use dromia_contracts::store::TextPin;
use dromia_contracts::tool::{BRANCH, CANCEL, ROUTE, SEND, ToolDescriptor};
use serde::{Deserialize, Serialize};

use crate::context::transcript::ConversationTranscript;

/// What a prompt pin holds. Later fields are additions; an old reader refuses a newer pin by its version.
#[derive(Serialize)]
struct PromptText<'a> {
    version: u32,
    system: &'a str,
    tools: &'a [ToolDescriptor],
}

/// The same, read.
#[derive(Deserialize)]
struct PinnedText {
    version: u32,
    system: String,
    tools: Vec<ToolDescriptor>,
}

const PROMPT_VERSION: u32 = 1;

/// The system text and the tools that a run is pinned to.
#[derive(Debug)]
pub(crate) struct PinnedPrompt {
    pub(crate) system: Arc<str>,
    pub(crate) tools: AgentTools,
}

/// The tools of an agent. The tool that reads redacted history is offered if there is such history, and the tools that
/// send to other sessions if the request names one. An agent that branches is always offered the same ones: a branch repeats the
/// requests of its parent.
#[derive(Debug, Clone)]
pub(crate) struct AgentTools {
    all: Arc<[ToolDescriptor]>,
    /// Without the first, without the second ones, and without all of these.
    less: [Arc<[ToolDescriptor]>; 3],
}

impl AgentTools {
    pub(super) fn new(all: Arc<[ToolDescriptor]>) -> Self {
        let has_branches = all.iter().any(|tool| tool.name == BRANCH);
        let without = |names: &[&str]| -> Arc<[ToolDescriptor]> {
            let is_left_out = |tool: &ToolDescriptor| names.contains(&tool.name.as_str());
            if !has_branches && all.iter().any(is_left_out) {
                all.iter().filter(|tool| !is_left_out(tool)).cloned().collect()
            } else {
                Arc::clone(&all)
            }
        };
        let less = [
            without(&[redacted_history::READ]),
            without(&[CANCEL, SEND, ROUTE]),
            without(&[CANCEL, redacted_history::READ, SEND, ROUTE]),
        ];
        Self { all, less }
    }

    /// All of them, as they are pinned.
    pub(crate) fn all_descriptors(&self) -> &Arc<[ToolDescriptor]> {
        &self.all
    }

    /// Returns whether a tool is one of them.
    pub(crate) fn has_tool(&self, name: &str) -> bool {
        self.all.binary_search_by(|tool| tool.name.as_str().cmp(name)).is_ok()
    }

    /// Those that a request offers.
    pub(crate) fn offered_tools(
        &self,
        story: &ConversationTranscript,
        system: &str,
    ) -> &Arc<[ToolDescriptor]> {
        match (story.offers_past(), story.names_a_session(system)) {
            (true, true) => &self.all,
            (false, true) => &self.less[0],
            (true, false) => &self.less[1],
            (false, false) => &self.less[2],
        }
    }
}

impl PinnedPrompt {
    /// Reads what a pin holds.
    pub(crate) fn from_pin(pin: &[u8]) -> Result<Self, String> {
        let text: PinnedText = serde_json::from_slice(pin)
            .map_err(|error| format!("a pinned prompt cannot be read: {error}"))?;
        let PinnedText { version, system, tools } = text;
        if version != PROMPT_VERSION {
            return Err(format!("this version does not know prompt version {version}"));
        }
        Ok(Self { system: system.into(), tools: AgentTools::new(tools.into()) })
    }
}

/// Makes what a run is pinned to: the tools that it has, and how they are pinned with the system text.
pub(super) fn make_prompt(system: &str, tools: Arc<[ToolDescriptor]>) -> (AgentTools, TextPin) {
    let text = PromptText { version: PROMPT_VERSION, system, tools: &tools };
    // Strings and JSON values only: serialization has no failing case.
    let bytes = Bytes::from(serde_json::to_vec(&text).unwrap_or_default());
    let digest = Digest::from_bytes(*blake3::hash(&bytes).as_bytes());
    (AgentTools::new(tools), TextPin { digest, bytes })
}
