//! The file as it is written: every key with its type, its default and the words that explain it.
//!
//! The doc comments here are what `dromia config explain`, the JSON Schema and `docs/configuration.md` say. What
//! is written is not checked here beyond its form; what it means is decided in [`resolve`](super::resolve).
//!
//! Reading order: the whole first, with what has few keys; then [`models`], [`programs`], [`external`], [`edge`] and
//! [`egress`].

mod budgets;
mod edge;
mod egress;
pub(super) mod external;
pub(super) mod models;
mod programs;
mod retention;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::busy_policy::BusyPolicy;
use dromia_contracts::encoded_request::TaintedPast;
use dromia_engine::EngineConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::budgets::WrittenBudget;
pub(crate) use self::edge::{WrittenHttp, WrittenLimits, WrittenTls};
pub(crate) use self::egress::WrittenEgress;
pub(crate) use self::models::{
    ProviderKind, WrittenModel, WrittenOutputLimit, WrittenPrice, WrittenProvider, WrittenRoute,
};
pub(crate) use self::programs::{
    TenantTrust, WrittenDocker, WrittenFirecracker, WrittenSandbox, WrittenTenant, WrittenTools,
    WrittenWorkspaces,
};
pub(crate) use self::retention::WrittenRetention;
use super::approvals::WrittenApprovals;
use super::irreversible::WrittenIrreversible;
use super::permissions::WrittenPermissions;
use super::prompts::WrittenPrompts;
use super::roles::{WrittenRole, WrittenSocket};
use super::tools::WrittenAgent;

/// The configuration of a Dromia home. Every key is optional; unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenConfig {
    /// Version of the file format. This program reads version 1 only.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) version: u32,
    /// TCP address of the HTTP server, as `IP:PORT`. Port 0 takes a free port. An address that other machines can reach
    /// needs `http.tls`. An edit needs a restart, because clients are connected to the bound address.
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) listen: SocketAddr,
    /// Agent that answers a request that names none, by its handle. `dromia init` creates it.
    #[schemars(with = "String")]
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) default_agent: HandleSlug,
    /// Model servers, each under a name that entries of `models` refer to.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) providers: BTreeMap<String, WrittenProvider>,
    /// Models, each under the alias that agents use. The alias `scripted` is built in and needs no entry.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) models: BTreeMap<String, WrittenModel>,
    /// Connections to other systems: a channel accepts messages for one agent and sends its answers. Each has a name.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) channels: BTreeMap<String, WrittenChannel>,
    /// Trust level, budgets and retention of tenants, each under the tenant's handle. A tenant without settings needs no entry,
    /// and an entry does not create a tenant.
    pub(crate) tenants: BTreeMap<String, WrittenTenant>,
    /// Limits of runs, what each kind of run reads first, and how long sessions are kept.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) engine: WrittenEngine,
    /// How much of a session's history is sent to a model.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) context: WrittenContext,
    /// Host names, web origins and TLS certificate of the TCP address.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) http: WrittenHttp,
    /// Limits of the HTTP server: rates, request size and waiting times.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) limits: WrittenLimits,
    /// Sandbox around the programs that agents run. An edit needs a restart, because the sandbox is tested once, before
    /// the first program runs.
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) sandbox: WrittenSandbox,
    /// Directories outside of the home that agents may work in. An edit needs a restart, because agents got their
    /// workspaces under these rules.
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) workspaces: WrittenWorkspaces,
    /// Settings of the built-in tools, and HTTP tools of your own.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) tools: WrittenTools,
    /// Tools that every agent must not call, or must ask for, whatever it is granted. `agents.NAME.permissions` sets
    /// the same for one agent.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) permissions: WrittenPermissions,
    /// Your own roles for tokens and socket users, each a name for a list of scopes. `viewer`, `approver`, `operator`
    /// and `admin` always exist.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) roles: BTreeMap<String, WrittenRole>,
    /// Access to the server's Unix socket.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) socket: WrittenSocket,
    /// Who answers approval requests, how long they wait, and rules that answer without a person.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) approvals: WrittenApprovals,
    /// Handling of calls that cannot be undone: requests that change something on other hosts, programs with network
    /// access, and your own tools with `sink: outside`.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) irreversible: WrittenIrreversible,
    /// Settings of single agents, each under its handle, or TENANT/HANDLE for a tenant other than `default`.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) agents: BTreeMap<String, WrittenAgent>,
    /// Rules and limits for connections to other hosts.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) egress: WrittenEgress,
}

impl Default for WrittenConfig {
    fn default() -> Self {
        Self {
            version: 1,
            listen: SocketAddr::from(([127, 0, 0, 1], 7700)),
            default_agent: "assistant".parse().unwrap_or_else(|_| unreachable!("the literal is a handle")),
            providers: BTreeMap::new(),
            models: BTreeMap::new(),
            channels: BTreeMap::new(),
            tenants: BTreeMap::new(),
            engine: WrittenEngine::default(),
            context: WrittenContext::default(),
            http: WrittenHttp::default(),
            limits: WrittenLimits::default(),
            sandbox: WrittenSandbox::default(),
            workspaces: WrittenWorkspaces::default(),
            tools: WrittenTools::default(),
            permissions: WrittenPermissions::default(),
            roles: BTreeMap::new(),
            socket: WrittenSocket::default(),
            approvals: WrittenApprovals::default(),
            irreversible: WrittenIrreversible::default(),
            agents: BTreeMap::new(),
            egress: WrittenEgress::default(),
        }
    }
}

/// What a channel speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WrittenChannelKind {
    /// Signed webhooks in both directions, as the specification Standard Webhooks defines them.
    Webhook,
    /// Files of JSON lines below one directory: `in.jsonl` is followed, and answers are appended to `out.jsonl`.
    File,
}

/// A channel: who may speak to an agent, and where its answers are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenChannel {
    /// Protocol of the channel. `webhook`: signed HTTP requests in both directions, as in Standard Webhooks. `file`: one
    /// JSON line for each message, in a file that is followed and in one that answers are appended to.
    pub(crate) kind: WrittenChannelKind,
    /// Handle of the tenant that the agent belongs to. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) tenant: Option<HandleSlug>,
    /// Handle of the agent that answers.
    #[schemars(with = "String")]
    pub(crate) agent: HandleSlug,
    /// URL to which answers are posted. Needed by a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    /// Reference to the secret that signs requests in both directions: `env:NAME` for an environment variable, or
    /// `secret:NAME` for a secret of the tenant's vault. The value is `whsec_` followed by 24 to 64 bytes in base64. A
    /// vault secret must be bound to the server in `url` with the placement `signature`. The value itself in the file
    /// is an error. Needed by a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<String>,
    /// Directory with the files of a file channel, made at the first use. A relative path is below the home. Default:
    /// `channels/NAME` below the home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Whether the receiver ignores a `webhook-id` that it has already accepted. Default: true. Set it to false for a
    /// receiver that would act twice: a message is then sent once only, and one without an answer ends as
    /// `unknown_after_send`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idempotent: Option<bool>,
    /// What a message does while a turn of its session runs. `follow_up`: it gets the next turn. `steer`: it joins the running
    /// turn before its next model call. `collect`: it waits for others of its author, and the next turn takes them together.
    /// `interrupt`: it ends the running turn. Default: what the agent's `when_busy` says, else `follow_up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) when_busy: Option<BusyPolicy>,
    /// Most attempts to deliver one message, from 1 to 100. Default: 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempts_max: Option<u32>,
    /// Time that the receiver has to answer, in milliseconds, up to 300000. Default: 15000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

/// How runs are worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenEngine {
    /// Most runs that work at the same time; more wait in a queue. Lower it if the machine runs out of memory. An edit
    /// needs a restart, because the queues are sized once.
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) active_max: usize,
    /// Most model calls of one run, for agents without a limit of their own. A run that reaches it yields and can be
    /// resumed.
    pub(crate) model_calls_max: u32,
    /// Time that a run of a worker has, in milliseconds, from 1000 to 604800000. Then it is asked to conclude, yields with what
    /// it has, and can be resumed. A call that runs or waits for a person isn't cut.
    pub(crate) worker_deadline_ms: u64,
    /// Most tokens of one model answer. Raise it if long answers are cut off.
    pub(crate) output_tokens_max: u32,
    /// How often a run may repeat the same call without new information, counted over its last 24 calls. A further
    /// repeat is refused, and a run that still continues yields. 0 turns the check off.
    pub(crate) loop_same: usize,
    /// What each kind of run reads first. A document `prompts/KIND.md` of an agent and `tenants.NAME.prompts` come before it.
    #[serde(skip_serializing_if = "WrittenPrompts::is_absent")]
    pub(crate) prompts: WrittenPrompts,
    /// How long the sessions of tenants are kept that have no `tenants.NAME.retention`. By default they are kept for ever.
    #[serde(skip_serializing_if = "WrittenRetention::is_absent")]
    pub(crate) retention: WrittenRetention,
}

impl Default for WrittenEngine {
    fn default() -> Self {
        let engine = EngineConfig::default();
        Self {
            active_max: engine.active_max,
            model_calls_max: engine.model_calls_max,
            worker_deadline_ms: u64::try_from(engine.worker_deadline.as_millis()).unwrap_or(u64::MAX),
            output_tokens_max: engine.output_tokens_max,
            loop_same: engine.loop_same,
            prompts: WrittenPrompts::default(),
            retention: WrittenRetention::default(),
        }
    }
}

/// How much of a session's past a model is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenContext {
    /// Context window, in tokens, that is assumed for models without `models.ALIAS.context_tokens`. It decides how much of a
    /// session a request holds and when the oldest part is summarized; a longer request is sent all the same.
    pub(crate) window_tokens: u32,
    /// How later turns see untrusted content of earlier ones, such as files of unknown origin and answers of other
    /// systems. `handle`: the model gets a reference and can read the content with `past.read`; until then the turn
    /// stays trusted. `whole`: the model gets the content, so the turn is untrusted.
    pub(crate) tainted_past: WrittenTaintedPast,
}

impl Default for WrittenContext {
    fn default() -> Self {
        let window_tokens = EngineConfig::default().window_tokens;
        Self { window_tokens, tainted_past: WrittenTaintedPast::Handle }
    }
}

/// How a model sees untrusted content of earlier turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WrittenTaintedPast {
    /// By a handle.
    Handle,
    /// In full, as it was then.
    Whole,
}

impl From<WrittenTaintedPast> for TaintedPast {
    fn from(written: WrittenTaintedPast) -> Self {
        match written {
            WrittenTaintedPast::Handle => Self::Handle,
            WrittenTaintedPast::Whole => Self::Whole,
        }
    }
}
