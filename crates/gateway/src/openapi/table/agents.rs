//! Agents, their tasks and their tools.

use dromia_api::agent::{
    AgentResource, CreateAgent, DeletionReport, ModelAlias, RenameAgent, RevertAgent, RevisionResource,
};
use dromia_api::event::EventAccepted;
use dromia_api::file::{FileResource, FileWritten};
use dromia_api::identity::{DocumentResource, WriteDocument};
use dromia_api::task::{KillReceipt, KillRuns, SpawnTask, TaskResource, TaskSpawned};
use dromia_api::template::{RenderTemplate, RenderedTemplate, RoleResource, TemplateResource};
use dromia_api::tool::{CallTool, ToolCalled, ToolResource};
use dromia_api::{AgentPatch, EXPECTED_HEADER, ErrorCode, IDEMPOTENCY_HEADER, ListPage};

use crate::openapi::operation::Operation;
use crate::routes::queries;

const BYTES: &str = "application/octet-stream";

const EXPECTED: &str = "The number of the revision that may be changed, in quotes; another one is refused.";

const KEYED: &str = "A repeated request with the same key makes one revision.";

const CHANGE_FAILURES: [ErrorCode; 4] = [
    ErrorCode::AgentNotFound,
    ErrorCode::AgentTerminated,
    ErrorCode::VersionConflict,
    ErrorCode::IdempotencyConflict,
];

pub(super) fn agent_operations() -> Vec<Operation> {
    let steered = |path, id, summary| {
        Operation::new("POST", path, id, summary)
            .gives_json::<AgentResource>(200, "Its current state.")
            .writes_store()
            .fails_with(&[ErrorCode::AgentNotFound, ErrorCode::AgentTerminated])
    };
    vec![
        Operation::new("GET", "/v1/agents", "agent_list", "List agents")
            .with_query::<queries::Agents>()
            .gives_json::<ListPage<AgentResource>>(200, "A page of agents, by id."),
        Operation::new("POST", "/v1/agents", "agent_create", "Register an agent")
            .takes_json::<CreateAgent>()
            .gives_json::<AgentResource>(201, "The agent.")
            .writes_store()
            .fails_with(&[ErrorCode::HandleTaken]),
        Operation::new("GET", "/v1/agents/{agent}", "agent_show", "Show an agent with its configuration")
            .gives_json::<AgentResource>(200, "The agent.")
            .fails_with(&[ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/agents/{agent}/files", "file_list", "List files of an agent's workspace")
            .with_query::<queries::Files>()
            .gives_json::<ListPage<FileResource>>(200, "A page of names of one directory, by name.")
            .fails_with(&[ErrorCode::AgentNotFound, ErrorCode::FileNotFound]),
        Operation::new(
            "GET",
            "/v1/agents/{agent}/files/{file}",
            "file_get",
            "Take a file out of an agent's workspace",
        )
        .gives_bytes(200, "What the file holds, at most 4 MiB.", BYTES)
        .fails_with(&[ErrorCode::AgentNotFound, ErrorCode::FileNotFound, ErrorCode::BodyTooLarge]),
        Operation::new(
            "PUT",
            "/v1/agents/{agent}/files/{file}",
            "file_put",
            "Put a file into an agent's workspace",
        )
        .takes_bytes(BYTES)
        .gives_json::<FileWritten>(200, "What was written, in the place of what was there.")
        .writes_store()
        .fails_with(&[ErrorCode::AgentNotFound, ErrorCode::FileNotFound]),
        Operation::new(
            "DELETE",
            "/v1/agents/{agent}",
            "agent_delete",
            "Erase an agent and everything that belongs to it",
        )
        .gives_json::<DeletionReport>(200, "What was erased.")
        .writes_store()
        .fails_with(&[ErrorCode::AgentNotFound, ErrorCode::AgentTerminated]),
        Operation::new(
            "PATCH",
            "/v1/agents/{agent}",
            "agent_change",
            "Change an agent: a JSON merge patch makes its next revision",
        )
        .with_header(EXPECTED_HEADER, EXPECTED)
        .with_header(IDEMPOTENCY_HEADER, KEYED)
        .takes_json::<AgentPatch>()
        .gives_json::<AgentResource>(
            200,
            "The agent; its revision is the one before if nothing changed. Fewer grants count at once, everything else for \
             runs that begin afterwards.",
        )
        .writes_store()
        .fails_with(&CHANGE_FAILURES),
        Operation::new(
            "POST",
            "/v1/agents/{agent}/revert",
            "agent_revert",
            "Take the configuration of an earlier revision again, as the next revision",
        )
        .with_header(EXPECTED_HEADER, EXPECTED)
        .with_header(IDEMPOTENCY_HEADER, KEYED)
        .takes_json::<RevertAgent>()
        .gives_json::<AgentResource>(200, "The agent.")
        .writes_store()
        .fails_with(&[&CHANGE_FAILURES[..], &[ErrorCode::RevisionNotFound]].concat()),
        Operation::new(
            "GET",
            "/v1/agents/{agent}/identity",
            "document_list",
            "List an agent's documents, such as SOUL.md",
        )
        .with_query::<queries::Documents>()
        .gives_json::<ListPage<DocumentResource>>(200, "All of its documents, without their texts.")
        .fails_with(&[ErrorCode::AgentNotFound, ErrorCode::RevisionNotFound]),
        Operation::new(
            "GET",
            "/v1/agents/{agent}/identity/{document}",
            "document_show",
            "Show a document of an agent",
        )
        .with_query::<queries::Documents>()
        .gives_json::<DocumentResource>(200, "The document.")
        .fails_with(&[ErrorCode::AgentNotFound, ErrorCode::DocumentNotFound, ErrorCode::RevisionNotFound]),
        Operation::new(
            "PUT",
            "/v1/agents/{agent}/identity/{document}",
            "document_write",
            "Write a document of an agent: it makes the agent's next revision",
        )
        .with_header(EXPECTED_HEADER, EXPECTED)
        .takes_json::<WriteDocument>()
        .gives_json::<AgentResource>(200, "The agent. The text counts for runs that begin afterwards.")
        .writes_store()
        .fails_with(&CHANGE_FAILURES),
        Operation::new(
            "DELETE",
            "/v1/agents/{agent}/identity/{document}",
            "document_remove",
            "Remove a document of an agent: it makes the agent's next revision",
        )
        .with_header(EXPECTED_HEADER, EXPECTED)
        .gives_json::<AgentResource>(200, "The agent. Its earlier revisions keep the text.")
        .writes_store()
        .fails_with(&[&CHANGE_FAILURES[..], &[ErrorCode::DocumentNotFound]].concat()),
        Operation::new("POST", "/v1/agents/{agent}/rename", "agent_rename", "Give an agent another handle")
            .takes_json::<RenameAgent>()
            .gives_json::<AgentResource>(200, "The agent. Its old handle is free.")
            .writes_store()
            .fails_with(&[ErrorCode::AgentNotFound, ErrorCode::AgentTerminated, ErrorCode::HandleTaken]),
        Operation::new(
            "GET",
            "/v1/agents/{agent}/revisions",
            "revision_list",
            "List an agent's revisions, the newest first",
        )
        .with_query::<queries::Revisions>()
        .gives_json::<ListPage<RevisionResource>>(200, "A page of revisions, without their configurations.")
        .fails_with(&[ErrorCode::AgentNotFound]),
        Operation::new(
            "GET",
            "/v1/agents/{agent}/revisions/{number}",
            "revision_show",
            "Show a revision of an agent with its configuration",
        )
        .gives_json::<RevisionResource>(200, "The revision.")
        .fails_with(&[ErrorCode::AgentNotFound, ErrorCode::RevisionNotFound]),
        steered(
            "/v1/agents/{agent}/pause",
            "agent_pause",
            "Pause an agent: its runs stop at their next safe point",
        ),
        steered("/v1/agents/{agent}/resume", "agent_resume", "Resume a paused agent"),
        steered(
            "/v1/agents/{agent}/terminate",
            "agent_terminate",
            "End an agent's runs; it accepts no more input",
        ),
    ]
}

pub(super) fn task_operations() -> Vec<Operation> {
    vec![
        Operation::new(
            "POST",
            "/v1/agents/{agent}/spawn",
            "task_spawn",
            "Give an agent a task, in a session of its own",
        )
        .with_header(IDEMPOTENCY_HEADER, "A repeated request with the same key makes one task, for 24 hours.")
        .takes_json::<SpawnTask>()
        .gives_json::<TaskSpawned>(200, "The task has ended, or its run has reached a limit.")
        .gives_json::<TaskSpawned>(
            202,
            "The task is durable; the request did not wait, or the wait ended first.",
        )
        .writes_store()
        .fails_with(&[
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
        .with_query::<queries::Tasks>()
        .gives_json::<ListPage<TaskResource>>(
            200,
            "A page of tasks; a short page may still have a `next` one.",
        )
        .fails_with(&[ErrorCode::AgentNotFound]),
        Operation::new(
            "POST",
            "/v1/agents/{agent}/kill",
            "task_kill",
            "End a run of an agent, a task, or all of them, now",
        )
        .takes_json::<KillRuns>()
        .gives_json::<KillReceipt>(202, "The runs that end; the programs of their calls end too.")
        .writes_store()
        .fails_with(&[
            ErrorCode::AgentNotFound,
            ErrorCode::RunNotFound,
            ErrorCode::SessionNotFound,
            ErrorCode::RunTerminal,
        ]),
    ]
}

pub(super) fn tool_operations() -> Vec<Operation> {
    vec![
        Operation::new(
            "GET",
            "/v1/model-aliases",
            "model_alias_list",
            "List the models that an agent may use",
        )
        .gives_json::<ListPage<ModelAlias>>(200, "All models of the configuration, by alias."),
        Operation::new("GET", "/v1/templates", "template_list", "List what an agent may be made from")
            .gives_json::<ListPage<TemplateResource>>(200, "All templates, by name."),
        Operation::new(
            "GET",
            "/v1/templates/{template}",
            "template_show",
            "Show a template with its text and variables",
        )
        .gives_json::<TemplateResource>(200, "The template.")
        .fails_with(&[ErrorCode::TemplateNotFound]),
        Operation::new(
            "POST",
            "/v1/templates/{template}/render",
            "template_render",
            "Make a configuration out of a template; nothing is stored",
        )
        .takes_json::<RenderTemplate>()
        .gives_json::<RenderedTemplate>(200, "The configuration and the labels, as agent_create takes them.")
        .fails_with(&[ErrorCode::TemplateNotFound]),
        Operation::new("GET", "/v1/worker-roles", "role_list", "List the roles that workers may have")
            .with_query::<queries::RoleQuery>()
            .gives_json::<ListPage<RoleResource>>(200, "All roles, by name.")
            .fails_with(&[ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/worker-roles/{role}", "role_show", "Show what workers with a role read")
            .with_query::<queries::RoleQuery>()
            .gives_json::<RoleResource>(200, "The role.")
            .fails_with(&[ErrorCode::RoleNotFound, ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/tools", "tool_list", "List tools, and which of them an agent may use")
            .with_query::<queries::Tools>()
            .gives_json::<ListPage<ToolResource>>(200, "All tools, by name.")
            .fails_with(&[ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/tools/{tool}", "tool_show", "Show a tool and its effective limits")
            .with_query::<queries::Tools>()
            .gives_json::<ToolResource>(200, "The tool.")
            .fails_with(&[ErrorCode::ToolNotFound, ErrorCode::AgentNotFound]),
        Operation::new(
            "POST",
            "/v1/agents/{agent}/tools/{tool}/call",
            "tool_call",
            "Call a tool by hand with the rights of the agent, as a run of its own",
        )
        .with_header(IDEMPOTENCY_HEADER, "A repeated request with the same key makes one call, for 24 hours.")
        .takes_json::<CallTool>()
        .gives_json::<ToolCalled>(200, "The run that is the call has ended.")
        .gives_json::<EventAccepted>(202, "The call is durable; the wait ended first.")
        .writes_store()
        .fails_with(&[
            ErrorCode::ToolNotFound,
            ErrorCode::AgentNotFound,
            ErrorCode::AgentTerminated,
            ErrorCode::ActorRateLimited,
            ErrorCode::IdempotencyConflict,
            ErrorCode::JournalUnreadable,
        ]),
    ]
}
