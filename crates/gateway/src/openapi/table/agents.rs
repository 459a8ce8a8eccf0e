//! Agents, their tasks and their tools.

use dromia_api::agent::{Agent, CreateAgent, Deleted};
use dromia_api::event::EventAccepted;
use dromia_api::task::{KillRuns, Killed, SpawnTask, Task, TaskSpawned};
use dromia_api::tool::{CallTool, Tool, ToolCalled};
use dromia_api::{ErrorCode, IDEMPOTENCY_HEADER, List};

use crate::openapi::operation::Operation;
use crate::routes::queries;

pub(super) fn agents() -> Vec<Operation> {
    let steered = |path, id, summary| {
        Operation::new("POST", path, id, summary)
            .gives::<Agent>(200, "How it stands now.")
            .writes()
            .fails(&[ErrorCode::AgentNotFound, ErrorCode::AgentTerminated])
    };
    vec![
        Operation::new("GET", "/v1/agents", "agent_list", "List agents")
            .query::<queries::Agents>()
            .gives::<List<Agent>>(200, "A page of agents, by id."),
        Operation::new("POST", "/v1/agents", "agent_create", "Register an agent")
            .takes::<CreateAgent>()
            .gives::<Agent>(201, "The agent.")
            .writes()
            .fails(&[ErrorCode::HandleTaken]),
        Operation::new("GET", "/v1/agents/{agent}", "agent_show", "Show an agent with its configuration")
            .gives::<Agent>(200, "The agent.")
            .fails(&[ErrorCode::AgentNotFound]),
        Operation::new(
            "DELETE",
            "/v1/agents/{agent}",
            "agent_delete",
            "Erase an agent and all that belongs to it",
        )
        .gives::<Deleted>(200, "What was erased.")
        .writes()
        .fails(&[ErrorCode::AgentNotFound, ErrorCode::AgentTerminated]),
        steered(
            "/v1/agents/{agent}/pause",
            "agent_pause",
            "Let an agent's runs rest at their next safe point",
        ),
        steered("/v1/agents/{agent}/resume", "agent_resume", "Let a paused agent go on"),
        steered(
            "/v1/agents/{agent}/terminate",
            "agent_terminate",
            "End an agent's runs; it takes no more input",
        ),
    ]
}

pub(super) fn tasks() -> Vec<Operation> {
    vec![
        Operation::new(
            "POST",
            "/v1/agents/{agent}/spawn",
            "task_spawn",
            "Give an agent a task, in a session of its own",
        )
        .header(IDEMPOTENCY_HEADER, "Makes a repeated request one task, for 24 hours.")
        .takes::<SpawnTask>()
        .gives::<TaskSpawned>(200, "The task has come to an end, or its run to its limit.")
        .gives::<TaskSpawned>(202, "The task is durable; nobody waited, or the wait ended first.")
        .writes()
        .fails(&[
            ErrorCode::AgentNotFound,
            ErrorCode::AgentTerminated,
            ErrorCode::ActorRateLimited,
            ErrorCode::CapabilityNotFound,
            ErrorCode::CapabilityRefused,
            ErrorCode::VaultLocked,
            ErrorCode::IdempotencyConflict,
            ErrorCode::JournalUnreadable,
        ]),
        Operation::new(
            "GET",
            "/v1/agents/{agent}/tasks",
            "task_list",
            "List an agent's tasks, the newest first",
        )
        .query::<queries::Tasks>()
        .gives::<List<Task>>(200, "A page of tasks; it may be short and name a next one.")
        .fails(&[ErrorCode::AgentNotFound]),
        Operation::new(
            "POST",
            "/v1/agents/{agent}/kill",
            "task_kill",
            "End a run of an agent, a task, or all of them, now",
        )
        .takes::<KillRuns>()
        .gives::<Killed>(202, "What was told to end; the programs of its calls end with it.")
        .writes()
        .fails(&[
            ErrorCode::AgentNotFound,
            ErrorCode::RunNotFound,
            ErrorCode::SessionNotFound,
            ErrorCode::RunTerminal,
        ]),
    ]
}

pub(super) fn tools() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/tools", "tool_list", "List tools, and which of them an agent may use")
            .query::<queries::Tools>()
            .gives::<List<Tool>>(200, "All tools, by name.")
            .fails(&[ErrorCode::AgentNotFound]),
        Operation::new(
            "GET",
            "/v1/tools/{tool}",
            "tool_show",
            "Show a tool and the limits that are in force",
        )
        .query::<queries::Tools>()
        .gives::<Tool>(200, "The tool.")
        .fails(&[ErrorCode::ToolNotFound, ErrorCode::AgentNotFound]),
        Operation::new(
            "POST",
            "/v1/agents/{agent}/tools/{tool}/call",
            "tool_call",
            "Call a tool by hand, as the agent may, in a run of its own",
        )
        .header(IDEMPOTENCY_HEADER, "Makes a repeated request one call, for 24 hours.")
        .takes::<CallTool>()
        .gives::<ToolCalled>(200, "The run that is the call has ended.")
        .gives::<EventAccepted>(202, "The call is durable; the wait ended first.")
        .writes()
        .fails(&[
            ErrorCode::ToolNotFound,
            ErrorCode::AgentNotFound,
            ErrorCode::AgentTerminated,
            ErrorCode::ActorRateLimited,
            ErrorCode::IdempotencyConflict,
            ErrorCode::JournalUnreadable,
        ]),
    ]
}
