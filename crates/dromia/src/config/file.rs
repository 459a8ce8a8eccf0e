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
mod external;
mod models;
mod programs;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::encoded_request::TaintedPast;
use dromia_contracts::store::TailLimits;
use dromia_engine::EngineConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::budgets::WrittenBudget;
pub(crate) use self::edge::{WrittenHttp, WrittenLimits, WrittenTls};
pub(crate) use self::egress::WrittenEgress;
pub(crate) use self::external::WrittenExternal;
pub(crate) use self::models::{
    ProviderKind, WrittenModel, WrittenOutputLimit, WrittenPrice, WrittenProvider,
};
pub(crate) use self::programs::{
    SandboxMinimum, TenantTrust, WrittenDocker, WrittenFirecracker, WrittenSandbox, WrittenTenant,
    WrittenTools,
};
use super::approvals::WrittenApprovals;
use super::irreversible::WrittenIrreversible;
use super::permissions::WrittenPermissions;
use super::roles::{WrittenRole, WrittenSocket};
use super::tools::WrittenAgent;
use super::workspaces::WrittenWorkspaces;

/// The configuration of a Dromia home. Every key is optional; unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenConfig {
    /// The version of the file's form; this program reads 1.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) version: u32,
    /// The TCP address to serve; port 0 takes a free one. One that is not of the loopback needs `http.tls`.
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) listen: SocketAddr,
    /// The agent that answers where none is named.
    #[schemars(with = "String")]
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) default_agent: HandleSlug,
    /// Servers of models, each under a name that models refer to.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) providers: BTreeMap<String, WrittenProvider>,
    /// Models, each under the alias that agents name. The alias `scripted` is always there.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) models: BTreeMap<String, WrittenModel>,
    /// Channels by which other systems speak to agents and get their answers, each under its name.
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) channels: BTreeMap<String, WrittenChannel>,
    /// How far tenants are trusted, each under its handle. A tenant need not be here, and is not made by being here.
    pub(crate) tenants: BTreeMap<String, WrittenTenant>,
    /// How runs are worked on.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) engine: WrittenEngine,
    /// How much of a session's past a model is sent.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) context: WrittenContext,
    /// By which names and with what keys the TCP address is served.
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) http: WrittenHttp,
    /// Bounds of the HTTP edge.
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) limits: WrittenLimits,
    /// The sandbox around programs that agents run.
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) sandbox: WrittenSandbox,
    /// Directories outside of the home that agents may work in.
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) workspaces: WrittenWorkspaces,
    /// The built-in tools, and those of the operator's own.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) tools: WrittenTools,
    /// Tools that are kept from every agent, whatever it is granted. `agents` says it of one.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) permissions: WrittenPermissions,
    /// Roles of tokens and of users of the socket, each under its name, beside `viewer`, `approver`, `operator` and `admin`.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) roles: BTreeMap<String, WrittenRole>,
    /// The Unix socket of this home.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) socket: WrittenSocket,
    /// How calls that need a person's approval are asked for, and rules that answer in a person's place.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) approvals: WrittenApprovals,
    /// What becomes of calls that cannot be undone, and how long a delayed call may be refused.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) irreversible: WrittenIrreversible,
    /// What counts for single agents, each by its handle, or as TENANT/HANDLE where it is of another tenant than
    /// `default`.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) agents: BTreeMap<String, WrittenAgent>,
    /// What may be reached on other hosts, and within which bounds.
    #[schemars(extend("x-effect" = "restart"))]
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
    /// Signed webhooks in both directions, as Standard Webhooks has them.
    Webhook,
}

/// A channel: who may speak to an agent by a signature, and where its answers are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenChannel {
    /// What it speaks.
    pub(crate) kind: WrittenChannelKind,
    /// The tenant, by default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) tenant: Option<HandleSlug>,
    /// The agent that answers.
    #[schemars(with = "String")]
    pub(crate) agent: HandleSlug,
    /// The address to which answers are posted.
    pub(crate) url: String,
    /// What signs in both directions, `whsec_` with 24 to 64 bytes in base64: `env:NAME` takes it from that environment
    /// variable, `secret:NAME` from the tenant's vault, where it is set for the server of `url` with the placement
    /// `signature`. A secret in the file is refused.
    pub(crate) secret: String,
    /// Whether the receiver counts each `webhook-id` once, by default yes. One that does not is sent no message twice:
    /// what it refused is given up, and what it did not answer is `unknown_after_send`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idempotent: Option<bool>,
    /// The most attempts at one message, by default 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempts_max: Option<u32>,
    /// How long the receiver may take to answer, by default 15000 milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

/// How runs are worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenEngine {
    /// The most runs at work at once.
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) active_max: usize,
    /// The most model calls of one run, where its agent sets none; then it yields.
    pub(crate) model_calls_max: u32,
    /// The most tokens of one answer.
    pub(crate) output_tokens_max: u32,
    /// How often the same call may be made among the last 24 calls of a run: with nothing new in between, or with the same
    /// result. Then it is refused, and a run that goes on with it yields; 0 refuses none.
    pub(crate) loop_same: usize,
}

impl Default for WrittenEngine {
    fn default() -> Self {
        let engine = EngineConfig::default();
        Self {
            active_max: engine.active_max,
            model_calls_max: engine.model_calls_max,
            output_tokens_max: engine.output_tokens_max,
            loop_same: engine.loop_same,
        }
    }
}

/// How much of a session's past a model is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenContext {
    /// The most inputs of the past.
    pub(crate) items_max: usize,
    /// The most bytes of the past.
    pub(crate) bytes_max: usize,
    /// How a model sees untrusted content of earlier turns: files of unknown origin, answers of other systems, and what
    /// it said after it saw them. With `handle` a later turn is as trusted as what is left, until the model reads such
    /// a thing again with `past.read`; with `whole` it is untrusted as long as one of them is in its context.
    pub(crate) tainted_past: WrittenTaintedPast,
}

impl Default for WrittenContext {
    fn default() -> Self {
        let TailLimits { items, bytes } = EngineConfig::default().context;
        Self { items_max: items, bytes_max: bytes, tainted_past: WrittenTaintedPast::Handle }
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
