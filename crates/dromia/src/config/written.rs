//! The file as it is written: every key with its type, its default and the words that explain it.
//!
//! The doc comments here are what `dromia config explain`, the JSON Schema and `docs/configuration.md` say. What
//! is written is not checked here beyond its form; what it means is decided in [`resolve`](super::resolve).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dromia_contracts::agent::Handle;
use dromia_contracts::store::TailLimits;
use dromia_engine::EngineConfig;
use dromia_gateway::GatewayConfig;
use dromia_models::{Format, OutputLimit, Price, Timeouts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tools::{PlainFlags, ProgramFlags, ReachFlags, WrittenAgent, WrittenFlags};

/// The configuration of a Dromia home. Every key is optional; unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Written {
    /// The version of the file's form; this program reads 1.
    pub(crate) version: u32,
    /// The TCP address to serve; port 0 takes a free one. One that is not of the loopback needs `http.tls`.
    pub(crate) listen: SocketAddr,
    /// The agent that answers where none is named.
    #[schemars(with = "String")]
    pub(crate) default_agent: Handle,
    /// Servers of models, each under a name that models refer to.
    pub(crate) providers: BTreeMap<String, WrittenProvider>,
    /// Models, each under the alias that agents name. The alias `scripted` is always there.
    pub(crate) models: BTreeMap<String, WrittenModel>,
    /// Channels by which other systems speak to agents and get their answers, each under its name.
    pub(crate) channels: BTreeMap<String, WrittenChannel>,
    /// How far tenants are trusted, each under its handle. A tenant need not be here, and is not made by being here.
    pub(crate) tenants: BTreeMap<String, WrittenTenant>,
    /// How runs are worked on.
    pub(crate) engine: WrittenEngine,
    /// How much of a session's past a model is sent.
    pub(crate) context: WrittenContext,
    /// By which names and with what keys the TCP address is served.
    pub(crate) http: WrittenHttp,
    /// Bounds of the HTTP edge.
    pub(crate) limits: WrittenLimits,
    /// The walls around programs that agents run.
    pub(crate) sandbox: WrittenSandbox,
    /// The built-in tools.
    pub(crate) tools: WrittenTools,
    /// What counts for single agents, each by its handle, or as TENANT/HANDLE where it is of another tenant than
    /// `default`.
    pub(crate) agents: BTreeMap<String, WrittenAgent>,
    /// What may be reached on other hosts, and within which bounds.
    pub(crate) egress: WrittenEgress,
}

impl Default for Written {
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
            tools: WrittenTools::default(),
            agents: BTreeMap::new(),
            egress: WrittenEgress::default(),
        }
    }
}

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// OpenAI chat completions: OpenAI itself, Ollama, vLLM, llama.cpp and many gateways.
    Openai,
    /// OpenAI responses.
    OpenaiResponses,
    /// Anthropic messages.
    Anthropic,
    /// The built-in scripted model, which is not an LLM.
    #[default]
    Scripted,
}

impl Kind {
    /// The word of the file.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::OpenaiResponses => "openai_responses",
            Self::Anthropic => "anthropic",
            Self::Scripted => "scripted",
        }
    }

    /// The wire format; the scripted model has none.
    pub(crate) const fn format(self) -> Option<Format> {
        match self {
            Self::Openai => Some(Format::OpenAiChat),
            Self::OpenaiResponses => Some(Format::OpenAiResponses),
            Self::Anthropic => Some(Format::AnthropicMessages),
            Self::Scripted => None,
        }
    }

    /// The address where none is written.
    pub(crate) const fn base_url(self) -> &'static str {
        match self {
            Self::Openai | Self::OpenaiResponses => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com/v1",
            Self::Scripted => "",
        }
    }
}

/// A server of models.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenProvider {
    /// What the server speaks.
    pub(crate) kind: Kind,
    /// The address before `/chat/completions`, `/responses` or `/messages`; by default the one of OpenAI or
    /// Anthropic, by kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base_url: Option<String>,
    /// The key, as `env:NAME`: it is taken from that environment variable. A key in the file is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Kind `openai` only: the field that carries the most tokens of an answer; by default
    /// `max_completion_tokens` at OpenAI itself and `max_tokens` elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output_limit: Option<WrittenOutputLimit>,
    /// How long to wait for what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeouts: Option<WrittenTimeouts>,
}

/// The field that carries the most tokens of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WrittenOutputLimit {
    /// Every server of the format knows it.
    MaxTokens,
    /// OpenAI's reasoning models insist on it.
    MaxCompletionTokens,
}

impl From<WrittenOutputLimit> for OutputLimit {
    fn from(written: WrittenOutputLimit) -> Self {
        match written {
            WrittenOutputLimit::MaxTokens => Self::MaxTokens,
            WrittenOutputLimit::MaxCompletionTokens => Self::MaxCompletionTokens,
        }
    }
}

/// How long to wait for what, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "the keys of the file, and each is a time")]
pub(crate) struct WrittenTimeouts {
    /// Until the connection stands, in milliseconds.
    pub(crate) connect_ms: u64,
    /// From sending to the first byte of a streamed answer, in milliseconds.
    pub(crate) first_byte_ms: u64,
    /// Between two pieces of an answer, in milliseconds.
    pub(crate) stall_ms: u64,
    /// From beginning to end, in milliseconds.
    pub(crate) total_ms: u64,
}

impl Default for WrittenTimeouts {
    fn default() -> Self {
        let Timeouts { connect, first_byte, stall, total } = Timeouts::default();
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            connect_ms: ms(connect),
            first_byte_ms: ms(first_byte),
            stall_ms: ms(stall),
            total_ms: ms(total),
        }
    }
}

/// A model. It names its provider; or, in short, it says `kind`, `base_url` and `key` itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenModel {
    /// The provider's name, as under `providers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    /// Without a provider: what the server speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<Kind>,
    /// Without a provider: the server's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base_url: Option<String>,
    /// The model's id at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// Without a provider: the key, as `env:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Whether the answer is streamed, by default yes; without it there are no live tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<bool>,
    /// The aliases that stand in, best first, while this model is overloaded, too slow or unreachable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) fallback: Vec<String>,
    /// What tokens cost; by default the built-in price of a well known model, else nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) price: Option<WrittenPrice>,
    /// The model's window: tokens of a request and its answer together. By default the built-in one of a well known
    /// model; without one nothing is left out of a request because of its length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) context_tokens: Option<u32>,
    /// The most tokens of an answer that the model gives, by default as built in; `engine.output_tokens_max` and half
    /// of the window bound it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output_tokens_max: Option<u32>,
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
    pub(crate) tenant: Option<Handle>,
    /// The agent that answers.
    #[schemars(with = "String")]
    pub(crate) agent: Handle,
    /// The address to which answers are posted.
    pub(crate) url: String,
    /// What signs in both directions, as `env:NAME`: it is taken from that environment variable, and is `whsec_` with
    /// 24 to 64 bytes in base64. A secret in the file is refused.
    pub(crate) secret: String,
    /// Whether the receiver counts each `webhook-id` once, by default yes. One that does not is sent no message twice:
    /// what it refused is given up, and what it did not answer is `unknown_after_send`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idempotent: Option<bool>,
    /// The most attempts at one message, by default 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempts_max: Option<u32>,
    /// The pause after the first failed attempt, by default 1000 milliseconds; it doubles with each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backoff_ms: Option<u64>,
    /// The longest pause, by default 300000 milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backoff_max_ms: Option<u64>,
    /// The oldest message that is sent, by default of a day, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) age_max_ms: Option<u64>,
    /// The most messages that a start sends of those which were left, the newest, by default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recovery_max: Option<u64>,
    /// How long the receiver may take to answer, by default 15000 milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
    /// How far the time of an event may be from now, by default 300000 milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tolerance_ms: Option<u64>,
}

/// What tokens cost, in millionths of the currency unit per million tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenPrice {
    /// A million tokens of requests, in millionths of the currency unit.
    pub(crate) input: u64,
    /// A million tokens of answers, in millionths of the currency unit.
    pub(crate) output: u64,
    /// A million tokens that the provider had in its cache, in millionths; by default as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cache_read: Option<u64>,
    /// A million tokens that the provider put into its cache, in millionths; by default as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cache_write: Option<u64>,
}

impl From<Price> for WrittenPrice {
    fn from(price: Price) -> Self {
        let Price { input, output, cache_read, cache_write } = price;
        Self { input, output, cache_read: Some(cache_read), cache_write: Some(cache_write) }
    }
}

/// How runs are worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "the keys of the file, and each is a bound")]
pub(crate) struct WrittenEngine {
    /// The most runs at work at once.
    pub(crate) active_max: usize,
    /// The most model calls of one run, where its agent sets none; then it yields.
    pub(crate) model_calls_max: u32,
    /// The most tokens of one answer.
    pub(crate) output_tokens_max: u32,
}

impl Default for WrittenEngine {
    fn default() -> Self {
        let engine = EngineConfig::default();
        Self {
            active_max: engine.active_max,
            model_calls_max: engine.model_calls_max,
            output_tokens_max: engine.output_tokens_max,
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
}

impl Default for WrittenContext {
    fn default() -> Self {
        let TailLimits { items, bytes } = EngineConfig::default().context;
        Self { items_max: items, bytes_max: bytes }
    }
}

/// By which names and with what keys the TCP address is served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenHttp {
    /// Host names that requests may ask for, without port, beside loopback names and the server's own address.
    pub(crate) hosts: Vec<String>,
    /// Origins of web pages that may ask, such as `https://app.example`; all others are refused.
    pub(crate) origins: Vec<String>,
    /// The certificate and its key; both or neither.
    #[serde(skip_serializing_if = "WrittenTls::is_absent")]
    pub(crate) tls: WrittenTls,
}

/// The certificate and its key; both or neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenTls {
    /// The PEM file of the certificate and those that vouch for it; a relative path is taken from the home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert: Option<String>,
    /// The PEM file of the certificate's private key; a relative path is taken from the home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
}

impl WrittenTls {
    fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}

/// Bounds of the HTTP edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenLimits {
    /// The most connections at a time from one peer address to the TCP address; more are closed. An IPv6 address counts
    /// with its /64, and all who come through one proxy have its address.
    pub(crate) address_connections_max: usize,
    /// The longest request body, in bytes.
    pub(crate) body_bytes_max: usize,
    /// How long a client may take for the body of a request, in milliseconds.
    pub(crate) body_ms: u64,
    /// The most connections at a time, at the TCP address and at the socket each; more wait to be accepted.
    pub(crate) connections_max: usize,
    /// How long a stop waits for what is at work, in milliseconds.
    pub(crate) drain_ms: u64,
    /// How long a client may take for the headers of a request, and rest between two requests, in milliseconds.
    pub(crate) header_ms: u64,
    /// The most streams of one HTTP/2 connection at a time.
    pub(crate) http2_streams_max: u32,
    /// The most requests at a time.
    pub(crate) requests_max: usize,
    /// The most streams of events at a time.
    pub(crate) streams_max: usize,
    /// The most requests of one token at once, before `token_rate_max` counts.
    pub(crate) token_burst_max: u32,
    /// The most requests of one token per second in the long run; 0 sets no bound.
    pub(crate) token_rate_max: u32,
    /// The most requests of one token at a time, those that wait for an answer included.
    pub(crate) token_requests_max: usize,
    /// The most streams of events of one token at a time.
    pub(crate) token_streams_max: usize,
    /// How long a client may leave an answer unread before it is dropped, in milliseconds.
    pub(crate) write_ms: u64,
}

impl Default for WrittenLimits {
    fn default() -> Self {
        let gateway = GatewayConfig::default();
        Self {
            address_connections_max: gateway.address_connections_max,
            body_bytes_max: gateway.body_bytes_max,
            body_ms: gateway.body_ms,
            connections_max: gateway.connections_max,
            drain_ms: 4_000,
            header_ms: gateway.header_ms,
            http2_streams_max: gateway.http2_streams_max,
            requests_max: gateway.requests_max,
            streams_max: gateway.streams_max,
            token_burst_max: gateway.token_burst_max,
            token_rate_max: gateway.token_rate_max,
            token_requests_max: gateway.token_requests_max,
            token_streams_max: gateway.token_streams_max,
            write_ms: gateway.write_ms,
        }
    }
}

/// The walls around programs that agents run. Where there are none that are strong enough, nothing runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenSandbox {
    /// The weakest walls that will do.
    pub(crate) minimum: Minimum,
    /// A Docker engine whose containers may be used; both keys or neither.
    #[serde(skip_serializing_if = "WrittenDocker::is_absent")]
    pub(crate) docker: WrittenDocker,
    /// The parts of virtual machines of Firecracker; the first four keys, or none.
    #[serde(skip_serializing_if = "WrittenFirecracker::is_absent")]
    pub(crate) firecracker: WrittenFirecracker,
    /// Directories of control groups that belong to this server: one of cgroup v2, or one for each controller of cgroup
    /// v1. A program behind `native` or `bubblewrap` gets a group of its own in each, so that the kernel bounds what all
    /// its processes use together; without, that is looked at every 25 ms.
    pub(crate) control_groups: Vec<String>,
}

/// A Docker engine whose containers may be used; both keys or neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenDocker {
    /// The Unix socket of a rootless or dedicated engine, an absolute path. Whoever reaches it may do what the engine may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) socket: Option<String>,
    /// The image that programs see, which the engine must have; nothing is pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
}

impl WrittenDocker {
    fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}

/// The parts of virtual machines of Firecracker; the first four keys, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenFirecracker {
    /// The program `firecracker`, an absolute path; its name has `firecracker` in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) binary: Option<String>,
    /// The program `jailer` of the same release, an absolute path. Without it nothing is started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jailer: Option<String>,
    /// The guest's kernel, uncompressed, an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel: Option<String>,
    /// The image of the guest's root file system, an absolute path; it holds this program as `/sbin/dromia-guest`, and is
    /// not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rootfs: Option<String>,
    /// The number of the user and group that machine monitors run as, 60999 if it is not named. Nobody else should be it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<u32>,
}

impl WrittenFirecracker {
    fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}

/// What is said about a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenTenant {
    /// How far its agents and whoever speaks to them are trusted.
    pub(crate) trust: Trust,
}

/// How far a tenant is trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trust {
    /// Its programs run behind the walls that `sandbox.minimum` asks for.
    #[default]
    Standard,
    /// Its programs run behind a kernel of their own (T2: gVisor; T3: Firecracker), or not at all.
    Hostile,
}

/// How strong walls must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Minimum {
    /// Landlock, a filter of system calls and limits; programs see the names of this machine's files, and can change
    /// what programs outside execute from a workspace.
    Base,
    /// The same inside namespaces with a file system of their own.
    #[default]
    Strict,
}

/// The built-in tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenTools {
    /// Slows every call down by so many milliseconds, for demonstrations.
    pub(crate) pace_ms: u64,
    /// The most messages between agents in a row.
    pub(crate) message_hops_max: u32,
    /// What counts for `exec`.
    #[serde(skip_serializing_if = "ProgramFlags::is_absent")]
    pub(crate) exec: ProgramFlags,
    /// What counts for `shell.execute`.
    #[serde(rename = "shell.execute", skip_serializing_if = "ProgramFlags::is_absent")]
    pub(crate) shell_execute: ProgramFlags,
    /// What counts for `http.request`.
    #[serde(rename = "http.request", skip_serializing_if = "ReachFlags::is_absent")]
    pub(crate) http_request: ReachFlags,
    /// What counts for `message.send`.
    #[serde(rename = "message.send", skip_serializing_if = "PlainFlags::is_absent")]
    pub(crate) message_send: PlainFlags,
}

impl Default for WrittenTools {
    fn default() -> Self {
        let WrittenFlags { exec, shell_execute, http_request, message_send } = WrittenFlags::default();
        Self { pace_ms: 0, message_hops_max: 16, exec, shell_execute, http_request, message_send }
    }
}

impl WrittenTools {
    /// What is said about single tools.
    pub(crate) fn flags(&self) -> WrittenFlags {
        let Self { exec, shell_execute, http_request, message_send, .. } = self.clone();
        WrittenFlags { exec, shell_execute, http_request, message_send }
    }
}

/// What may be reached on other hosts, and within which bounds. An agent reaches what its `net:` grants cover, and of
/// that only what is public, unless it is opened here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenEgress {
    /// Networks, addresses and names (`10.0.0.0/8`, `wiki`, `*.corp.example`) that tools may reach though they are not
    /// public, where an agent's grants name the host.
    pub(crate) private_tools: Vec<String>,
    /// The same for servers that this file names by a name, such as a `base_url`; an address, or `localhost`, opens
    /// itself for that server only.
    pub(crate) private_servers: Vec<String>,
    /// Whether tools make encrypted connections only.
    pub(crate) https_only: bool,
    /// How long a tool's request may take to connect, in milliseconds.
    pub(crate) connect_ms: u64,
    /// How long a tool's request may wait for the head of an answer, in milliseconds.
    pub(crate) first_byte_ms: u64,
    /// How long an answer may pause, in milliseconds.
    pub(crate) stall_ms: u64,
    /// How long a tool's request may take from beginning to end, redirects included, in milliseconds.
    pub(crate) total_ms: u64,
    /// The most redirects that a tool's request follows; with 0 a redirect is an answer.
    pub(crate) redirects_max: usize,
    /// The most bytes that a tool's request carries.
    pub(crate) request_bytes_max: usize,
    /// The most bytes of an answer that a tool reads.
    pub(crate) response_bytes_max: u64,
    /// The most bytes of headers, of a request and of an answer.
    pub(crate) header_bytes_max: usize,
    /// The most requests of tools at once, and half of them of one tenant; more of them wait.
    pub(crate) requests_max: usize,
}

impl Default for WrittenEgress {
    fn default() -> Self {
        Self {
            private_tools: Vec::new(),
            private_servers: Vec::new(),
            https_only: false,
            connect_ms: 5_000,
            first_byte_ms: 30_000,
            stall_ms: 15_000,
            total_ms: 60_000,
            redirects_max: 5,
            request_bytes_max: 256 << 10,
            response_bytes_max: 8 << 20,
            header_bytes_max: 32 << 10,
            requests_max: 64,
        }
    }
}
