//! What the runs of a branching agent may use, and how often each asks its model: one table.
//!
//! A run's role follows from what its session was opened for, so each run of a worker's session works as a worker. A
//! turn and a branch are sent the same tools, and the gate refuses what the role does not have. Grants bound every role as
//! they bound every run.

use dromia_contracts::agent::AgentConfig;
use dromia_contracts::entry::RunStarted;
use dromia_contracts::mind::AgentMind;
use dromia_contracts::redacted_history;
use dromia_contracts::run::RunKind;
use dromia_contracts::run_origin::RunOrigin;
use dromia_contracts::tool::{BRANCH, CANCEL, EffectClass, REPLY, REPLY_GRANT, ROUTE, SPAWN, ToolDescriptor};

/// The part of a branching agent that a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MindRole {
    /// It talks, and leaves the rest to others.
    Turn,
    /// It reads and thinks with the transcript of its parent.
    Branch,
    /// It does a task alone.
    Worker,
}

impl MindRole {
    /// Returns the role of a run that began so; `None` for one without a role: of a solo agent, for one approved call, and a
    /// compaction, which has no tools.
    pub(crate) fn of_run(started: &RunStarted) -> Option<Self> {
        Self::find_role(started.mind, started.kind, started.origin.as_deref())
    }

    /// Returns the role of a run.
    pub(crate) fn find_role(mind: AgentMind, kind: RunKind, origin: Option<&RunOrigin>) -> Option<Self> {
        match (mind, kind, origin.map(|origin| origin.kind)) {
            (AgentMind::Solo, _, _) | (_, RunKind::ApprovedCall | RunKind::Compaction, _) => None,
            (AgentMind::Branching, _, Some(RunKind::Worker)) => Some(Self::Worker),
            (AgentMind::Branching, _, Some(RunKind::Branch)) => Some(Self::Branch),
            (AgentMind::Branching, _, _) => Some(Self::Turn),
        }
    }

    /// The most model calls of a run: those of its role, or fewer where the agent or the server says so.
    pub(crate) fn model_calls_max(role: Option<Self>, configured: u32) -> u32 {
        match role {
            None => configured,
            Some(Self::Turn) => configured.min(5),
            Some(Self::Branch) => configured.min(10),
            Some(Self::Worker) => configured.min(50),
        }
    }

    /// Returns whether the role has a tool.
    pub(crate) fn has_tool(self, tool: &ToolDescriptor) -> bool {
        match self {
            Self::Turn => {
                [BRANCH, REPLY, CANCEL, ROUTE, SPAWN, redacted_history::READ].contains(&tool.name.as_str())
            }
            Self::Branch => tool.name == SPAWN || tool.effect == EffectClass::Pure,
            Self::Worker => ![BRANCH, REPLY, CANCEL, ROUTE, SPAWN].contains(&tool.name.as_str()),
        }
    }

    /// Returns whether requests of the role contain a tool. Those of turns and branches contain the same ones, so that a
    /// provider's cache of the one serves the other.
    pub(crate) fn is_sent_tool(self, tool: &ToolDescriptor) -> bool {
        match self {
            Self::Turn | Self::Branch => Self::Turn.has_tool(tool) || Self::Branch.has_tool(tool),
            Self::Worker => self.has_tool(tool),
        }
    }

    /// Says to the model why its call is refused, and which tool to use.
    pub(crate) fn refusal_text(self, tool: &str) -> String {
        match self {
            Self::Turn => {
                format!("a turn leaves {tool} to others; use {BRANCH} to read and think, and {SPAWN} to act")
            }
            Self::Branch => format!("a branch only reads; give what {tool} does to {SPAWN}"),
            Self::Worker => {
                format!("a worker does its task alone, without {tool}; do it with the tools that you have")
            }
        }
    }
}

/// The tools that every branching agent has without a grant, as words of grants.
pub(crate) fn granted_by_mind(config: &AgentConfig) -> Vec<String> {
    match config.mind.unwrap_or_default() {
        AgentMind::Solo => Vec::new(),
        AgentMind::Branching => [BRANCH, REPLY_GRANT, CANCEL, ROUTE, SPAWN].map(str::to_owned).to_vec(),
    }
}
