//! The operations: for each line of the route table what it takes, gives and fails with.
//!
//! To describe a new route, add an entry here under its noun. A new variable segment of a path is described in
//! `document::segment`.

use dromia_api::agent::{Agent, CreateAgent, Deleted};
use dromia_api::budget::{Budget, SetBudget};
use dromia_api::cost::{CostSummary, RunCost};
use dromia_api::delivery::{Cursor, Delivery, DeliveryShown, FeedPage, MoveCursor};
use dromia_api::event::{EventAccepted, EventAnswered, SendEvent};
use dromia_api::run::{
    Delta, EVENT_DELTA, EVENT_END, EVENT_ENTRY, EVENT_OUTPUT, EVENT_PROBLEM, Entry, JournalPage, Output, Run,
    StreamEnd, Why,
};
use dromia_api::secret::{RotateSecret, Secret, SetSecret};
use dromia_api::session::{Imported, Session, StateEntry, StateWritten, Transcript};
use dromia_api::status::{Health, Ready, Status};
use dromia_api::task::{KillRuns, Killed, SpawnTask, Task, TaskSpawned};
use dromia_api::tenant::{CreateTenant, Tenant, TenantCreated};
use dromia_api::token::{CreateToken, Token, TokenCreated, Whoami};
use dromia_api::tool::{CallTool, Tool, ToolCalled};
use dromia_api::{ErrorCode, IDEMPOTENCY_HEADER, List, Problem, SESSION_HEADER, WAIT_HEADER};
use serde_json::Value;

use super::operation::{Operation, of};
use crate::routes::queries;
use crate::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};

const BYTES: &str = "application/octet-stream";

/// Describes every route.
pub fn operations() -> Vec<Operation> {
    [
        node(),
        events(),
        deliveries(),
        agents(),
        tasks(),
        sessions(),
        runs(),
        tools(),
        costs(),
        budgets(),
        tokens(),
        secrets(),
        tenants(),
        compatible(),
    ]
    .concat()
}

fn node() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/health", "health", "Tell that the process lives")
            .gives::<Health>(200, "It lives."),
        Operation::new("GET", "/ready", "ready", "Tell whether input is taken")
            .gives::<Ready>(200, "Input is taken.")
            .fails(&[ErrorCode::ShuttingDown, ErrorCode::StoreReadOnly]),
        Operation::new("GET", "/metrics", "metrics", "Read the meters, as Prometheus does").gives_bytes(
            200,
            "The meters, in the text format of Prometheus.",
            "text/plain",
        ),
        Operation::new("GET", "/openapi.json", "openapi", "Read this document")
            .gives::<Value>(200, "This document."),
        Operation::new("GET", "/docs", "docs", "Read this document as a page").gives_bytes(
            200,
            "A page that needs nothing from elsewhere.",
            "text/html",
        ),
        Operation::new("GET", "/v1/status", "status", "Tell how the server stands")
            .gives::<Status>(200, "How it stands; an operator is told more."),
    ]
}

fn events() -> Vec<Operation> {
    vec![
        Operation::new("POST", "/v1/events", "event_send", "Say something to an agent")
            .header(IDEMPOTENCY_HEADER, "Makes a repeated request one request, for 24 hours.")
            .takes::<SendEvent>()
            .gives::<EventAnswered>(200, "The run that took the input has ended.")
            .gives::<EventAccepted>(202, "The input is durable; nobody waited, or the wait ended first.")
            .writes()
            .fails(&[
                ErrorCode::AgentNotFound,
                ErrorCode::SessionNotFound,
                ErrorCode::AgentTerminated,
                ErrorCode::IdempotencyConflict,
                ErrorCode::JournalUnreadable,
            ]),
    ]
}

fn deliveries() -> Vec<Operation> {
    vec![
        Operation::new(
            "POST",
            "/v1/channels/{channel}/events",
            "channel_receive",
            "Take in a webhook, signed as Standard Webhooks says",
        )
        .header(ID_HEADER, "Names the message; a repeat is one input, for 24 hours.")
        .header(TIMESTAMP_HEADER, "When it was sent, in seconds since 1970.")
        .header(
            SIGNATURE_HEADER,
            "`v1,` and the HMAC-SHA256 of id, time and body, parted by full stops, in base64.",
        )
        .takes::<Value>()
        .gives::<EventAccepted>(202, "The input is durable; `data.text` is said, or the whole body.")
        .writes()
        .fails(&[
            ErrorCode::SignatureRefused,
            ErrorCode::TenantNotFound,
            ErrorCode::AgentNotFound,
            ErrorCode::AgentTerminated,
            ErrorCode::IdempotencyConflict,
            ErrorCode::JournalUnreadable,
        ]),
        Operation::new(
            "GET",
            "/v1/deliveries",
            "delivery_list",
            "List messages on their way out, the newest first",
        )
        .query::<queries::Deliveries>()
        .gives::<List<Delivery>>(200, "A page of deliveries."),
        Operation::new(
            "GET",
            "/v1/deliveries/{delivery}",
            "delivery_show",
            "Show a message and its attempts",
        )
        .gives::<DeliveryShown>(200, "The delivery.")
        .fails(&[ErrorCode::DeliveryNotFound]),
        Operation::new(
            "POST",
            "/v1/deliveries/{delivery}/redrive",
            "delivery_redrive",
            "Have a message sent again that is dead or may not have arrived",
        )
        .query::<queries::Redriving>()
        .gives::<DeliveryShown>(200, "How it stands now; one that stands otherwise is left as it is.")
        .writes()
        .fails(&[ErrorCode::DeliveryNotFound, ErrorCode::DeliveryUncertain]),
        Operation::new("GET", "/v1/feed", "feed_read", "Read what was said to those whom nobody waits for")
            .query::<queries::Feed>()
            .gives::<FeedPage>(200, "A page of the feed, by number.")
            .fails(&[ErrorCode::CursorInFuture]),
        Operation::new("PUT", "/v1/feed", "feed_move", "Say how far a subscriber has read")
            .takes::<MoveCursor>()
            .gives::<Cursor>(200, "Where the subscriber stands.")
            .writes()
            .fails(&[ErrorCode::CursorInFuture]),
    ]
}

fn agents() -> Vec<Operation> {
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

fn tasks() -> Vec<Operation> {
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

fn sessions() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/sessions", "session_list", "List sessions, the newest first")
            .query::<queries::Sessions>()
            .gives::<List<Session>>(200, "A page of sessions.")
            .fails(&[ErrorCode::AgentNotFound]),
        Operation::new("POST", "/v1/sessions/import", "session_import", "Read a session from a file")
            .query::<queries::ImportInto>()
            .takes_bytes(BYTES)
            .gives::<Imported>(201, "The new session.")
            .writes()
            .fails(&[ErrorCode::AgentNotFound, ErrorCode::AgentTerminated]),
        Operation::new("GET", "/v1/sessions/{session}", "session_show", "Show a session")
            .gives::<Session>(200, "The session.")
            .fails(&[ErrorCode::SessionNotFound]),
        Operation::new(
            "GET",
            "/v1/sessions/{session}/transcript",
            "session_transcript",
            "Read what was said last",
        )
        .gives::<Transcript>(200, "The newest part of the conversation.")
        .fails(&[ErrorCode::SessionNotFound, ErrorCode::JournalUnreadable]),
        Operation::new(
            "GET",
            "/v1/sessions/{session}/export",
            "session_export",
            "Write a session into a file",
        )
        .gives_bytes(200, "The file: transcript, tool history, bodies and custom state.", BYTES)
        .fails(&[ErrorCode::SessionNotFound, ErrorCode::JournalUnreadable]),
        Operation::new("GET", "/v1/sessions/{session}/state", "state_list", "List a session's custom state")
            .query::<queries::States>()
            .gives::<List<StateEntry>>(200, "A page of entries, by name.")
            .fails(&[ErrorCode::SessionNotFound]),
        Operation::new("PUT", "/v1/sessions/{session}/state/{name}", "state_put", "Write custom state")
            .header("if-match", "The version that must be there; 0 for none. Absent: whatever is there.")
            .takes::<Value>()
            .gives::<StateWritten>(200, "The version that was written.")
            .writes()
            .fails(&[ErrorCode::SessionNotFound, ErrorCode::StateNotFound, ErrorCode::VersionConflict]),
    ]
}

fn runs() -> Vec<Operation> {
    let ended = |path, id, summary| {
        Operation::new("POST", path, id, summary)
            .gives::<Run>(202, "How the run stands; it ends at its next safe point.")
            .writes()
            .fails(&[ErrorCode::RunNotFound, ErrorCode::RunTerminal])
    };
    let events = [
        (EVENT_ENTRY, of::<Entry>()),
        (EVENT_DELTA, of::<Delta>()),
        (EVENT_OUTPUT, of::<Output>()),
        (EVENT_END, of::<StreamEnd>()),
        (EVENT_PROBLEM, of::<Problem>()),
    ];
    vec![
        Operation::new("GET", "/v1/runs", "run_list", "List runs, the newest first")
            .query::<queries::Runs>()
            .gives::<List<Run>>(200, "A page of runs.")
            .fails(&[ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/runs/{run}", "run_show", "Show a run")
            .gives::<Run>(200, "The run.")
            .fails(&[ErrorCode::RunNotFound]),
        Operation::new("GET", "/v1/runs/{run}/journal", "run_journal", "Read a run's journal, or follow it")
            .query::<queries::Reading>()
            .header("accept", "`text/event-stream` follows the run until it ends.")
            .header("last-event-id", "The number of the last entry seen; it goes before `after`.")
            .gives::<JournalPage>(200, "A page of entries, in order.")
            .streams(
                "As a stream: every entry once and in order, live text and live output in between, then `end`.",
                &events,
            )
            .fails(&[ErrorCode::RunNotFound, ErrorCode::CursorInFuture, ErrorCode::JournalUnreadable]),
        Operation::new(
            "GET",
            "/v1/runs/{run}/requests/{step}",
            "run_request",
            "Read what a model was sent, byte for byte",
        )
        .query::<queries::Which>()
        .gives::<Value>(
            200,
            "The body that was sent, in its model's own form. Headers name step and attempt (`x-dromia-step`), alias, \
             model, form and digest; no header of the request itself is told.",
        )
        .fails(&[
            ErrorCode::RunNotFound,
            ErrorCode::RequestNotFound,
            ErrorCode::RequestUnavailable,
            ErrorCode::SessionNotFound,
            ErrorCode::JournalUnreadable,
        ]),
        Operation::new("GET", "/v1/runs/{run}/why", "run_why", "Say why a run stands where it stands")
            .gives::<Why>(200, "What it waits for, and what moves it.")
            .fails(&[ErrorCode::RunNotFound, ErrorCode::JournalUnreadable]),
        Operation::new(
            "POST",
            "/v1/runs/{run}/resume",
            "run_resume",
            "Go on from a yielded run, or release a held one",
        )
        .gives::<EventAccepted>(202, "The wish is durable.")
        .writes()
        .fails(&[
            ErrorCode::RunNotFound,
            ErrorCode::RunNotResumable,
            ErrorCode::RunTerminal,
            ErrorCode::AgentTerminated,
            ErrorCode::JournalUnreadable,
        ]),
        ended("/v1/runs/{run}/cancel", "run_cancel", "End a run at its next safe point"),
        ended("/v1/runs/{run}/terminate", "run_terminate", "End a run now"),
    ]
}

fn tools() -> Vec<Operation> {
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
            ErrorCode::IdempotencyConflict,
            ErrorCode::JournalUnreadable,
        ]),
    ]
}

fn costs() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/cost", "cost_summary", "Sum up what runs cost")
            .query::<queries::Summing>()
            .gives::<CostSummary>(200, "The sums; `next` says where to count on.")
            .fails(&[ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/runs/{run}/cost", "run_cost", "Show what a run cost, attempt by attempt")
            .query::<queries::Pricing>()
            .gives::<RunCost>(200, "The run's own sum, its total, and a page of attempts.")
            .fails(&[ErrorCode::RunNotFound, ErrorCode::CursorInFuture, ErrorCode::JournalUnreadable]),
    ]
}

fn budgets() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/budgets", "budget_list", "List budgets and how they stand")
            .gives::<List<Budget>>(200, "All budgets, by name."),
        Operation::new("PUT", "/v1/budgets/{budget}", "budget_set", "Set a budget")
            .takes::<SetBudget>()
            .gives::<Budget>(200, "The budget, and how it stands.")
            .writes()
            .fails(&[ErrorCode::AgentNotFound, ErrorCode::BudgetDeclared]),
        Operation::new("DELETE", "/v1/budgets/{budget}", "budget_remove", "Remove a budget")
            .gives::<Budget>(200, "The budget that was removed.")
            .writes()
            .fails(&[ErrorCode::BudgetNotFound, ErrorCode::BudgetDeclared]),
    ]
}

fn tokens() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/whoami", "whoami", "Tell who asks, and what the credential may do")
            .gives::<Whoami>(200, "Who asks."),
        Operation::new("GET", "/v1/tokens", "token_list", "List tokens")
            .query::<queries::Tokens>()
            .gives::<List<Token>>(200, "A page of tokens, by id."),
        Operation::new("POST", "/v1/tokens", "token_create", "Register a token")
            .takes::<CreateToken>()
            .gives::<TokenCreated>(201, "The token, which is shown this once.")
            .writes(),
        Operation::new("DELETE", "/v1/tokens/{token}", "token_revoke", "Take a token back")
            .gives::<Token>(200, "The token, revoked.")
            .writes()
            .fails(&[ErrorCode::TokenNotFound]),
    ]
}

fn secrets() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/secrets", "secret_list", "List secrets, without their values")
            .query::<queries::Secrets>()
            .gives::<List<Secret>>(200, "A page of secrets, by name."),
        Operation::new("POST", "/v1/secrets", "secret_set", "Make a secret, or set one anew")
            .takes::<SetSecret>()
            .gives::<Secret>(200, "The secret, without its value.")
            .writes()
            .fails(&[ErrorCode::VaultLocked, ErrorCode::VersionConflict]),
        Operation::new("POST", "/v1/secrets/{secret}/rotate", "secret_rotate", "Give a secret a new value")
            .takes::<RotateSecret>()
            .gives::<Secret>(200, "The secret, without its value.")
            .writes()
            .fails(&[ErrorCode::SecretNotFound, ErrorCode::VaultLocked, ErrorCode::VersionConflict]),
        Operation::new("DELETE", "/v1/secrets/{secret}", "secret_delete", "Erase a secret with its key")
            .gives::<Secret>(200, "What it was, without its value.")
            .writes()
            .fails(&[ErrorCode::SecretNotFound, ErrorCode::VersionConflict]),
    ]
}

fn tenants() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/tenants", "tenant_list", "List tenants")
            .query::<queries::Tenants>()
            .gives::<List<Tenant>>(200, "A page of tenants, by id."),
        Operation::new("POST", "/v1/tenants", "tenant_create", "Register a tenant")
            .takes::<CreateTenant>()
            .gives::<TenantCreated>(201, "The tenant with its token, which is shown this once.")
            .writes()
            .fails(&[ErrorCode::HandleTaken]),
    ]
}

/// The routes of other APIs: their requests and answers are described where those APIs are.
fn compatible() -> Vec<Operation> {
    let turn = |path, id, summary, what| {
        Operation::new("POST", path, id, summary)
            .header(IDEMPOTENCY_HEADER, "Makes a repeated request one request, for 24 hours.")
            .header(
                SESSION_HEADER,
                "Continues this session; only the last message is taken, or all results at the end.",
            )
            .header(WAIT_HEADER, "The longest wait, in milliseconds.")
            .takes::<Value>()
            .gives::<Value>(200, what)
            .streams("With `stream`, the events of that API.", &[])
            .writes()
            .fails_as::<Value>()
            .fails(&[
                ErrorCode::AgentNotFound,
                ErrorCode::SessionNotFound,
                ErrorCode::AgentTerminated,
                ErrorCode::IdempotencyConflict,
                ErrorCode::CallNotOpen,
                ErrorCode::JournalUnreadable,
                ErrorCode::RunUnfinished,
                ErrorCode::RunUnanswered,
                ErrorCode::BudgetExhausted,
                ErrorCode::LoopDetected,
            ])
    };
    vec![
        turn(
            "/v1/chat/completions",
            "chat_complete",
            "Ask an agent, as the OpenAI chat API does",
            "A chat completion.",
        ),
        turn(
            "/v1/responses",
            "response_create",
            "Ask an agent, as the OpenAI responses API does",
            "A response.",
        ),
        turn(
            "/v1/messages",
            "message_create",
            "Ask an agent, as the Anthropic messages API does",
            "A message.",
        ),
        Operation::new("GET", "/v1/models", "model_list", "List agents as models, as those APIs do")
            .gives::<Value>(200, "A list of models.")
            .fails_as::<Value>(),
        Operation::new(
            "GET",
            "/v1/models/{model}",
            "model_show",
            "Show an agent as a model, as those APIs do",
        )
        .gives::<Value>(200, "A model.")
        .fails_as::<Value>()
        .fails(&[ErrorCode::AgentNotFound]),
    ]
}
