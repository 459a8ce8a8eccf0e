//! Texts that come with the program: templates of agents, and roles of workers.
//!
//! A template becomes the configuration of an agent once, when the agent is created; afterwards the agent has no tie to it. A role
//! is what a worker reads with its task. Nothing here is stored, and nothing here reads a file, a clock or the environment.

mod agent_template;
mod worker_role;

pub use agent_template::{
    AgentTemplate, RenderedAgent, TEMPLATES, TemplateError, TemplateVariable, VALUE_BYTES_MAX, find_template,
};
pub use worker_role::{ROLES, WorkerRole, find_role};
