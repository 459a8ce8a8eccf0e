//! Templates of agents and roles of workers, on the wire.

use std::collections::BTreeMap;

use dromia_contracts::agent::AgentConfig;
use dromia_contracts::mind::AgentMind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an agent may be made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateResource {
    /// Its name.
    pub name: String,
    /// What its agents are for, in a line.
    pub summary: String,
    /// What may be set, by name.
    pub variables: Vec<VariableResource>,
    /// What its agents may do.
    pub grants: Vec<String>,
    /// How its agents divide their work.
    pub mind: AgentMind,
    /// Something to ask such an agent first.
    pub sample: String,
    /// A command that shows such an agent at work, with `NAME` for the agent.
    pub watch: String,
    /// The system text, with its variables in double braces; on show only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
}

/// A variable of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VariableResource {
    /// Its name.
    pub name: String,
    /// What it is, in a line.
    pub about: String,
    /// Its value where it is not set; it may be empty.
    pub default: String,
}

/// Renders a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenderTemplate {
    /// Values of variables, each a line of at most 200 bytes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// The alias of the model; `default` where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// What `POST /v1/agents` takes beside a handle, to make the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RenderedTemplate {
    /// The configuration.
    pub config: AgentConfig,
    /// The labels, one of which names the template.
    pub labels: BTreeMap<String, String>,
}

/// How a worker does one kind of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoleResource {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub source: RoleSource,
    /// What it is for, in a line; absent for a document of an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What the worker reads with its task; on show only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Where a role comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoleSource {
    /// It comes with the program.
    BuiltIn,
    /// It is a document of the agent.
    Agent,
}

impl RoleSource {
    /// Returns the source as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BuiltIn => "built in",
            Self::Agent => "agent",
        }
    }
}
