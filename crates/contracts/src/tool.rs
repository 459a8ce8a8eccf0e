//! Tools: what a tool declares about itself, and the port through which the engine calls one.
//!
//! What a tool declares decides how a crash is repaired (the effect class) and what the gate looks at (the
//! argument roles). Foreign tools are [`EffectClass::Unkeyed`] unless the operator says otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BoxFuture;
use crate::approval::{BoundFiles, Contents};
use crate::content::{Part, ToolCall};
use crate::digest::Digest;
use crate::egress::{Decision, Reaches};
use crate::file::FileLabels;
use crate::id::{AgentId, CallId, RunId, SessionId};
use crate::label::Label;
use crate::past::Past;
use crate::sandbox::{Limits, Network};
use crate::scope::{Actor, Scope};
use crate::store::InboxPut;
use crate::terms::ToolTerms;

/// What may happen when a call whose result is missing runs a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EffectClass {
    /// Looks, changes nothing: recovery runs it again.
    Pure,
    /// Doing it twice leaves what doing it once leaves: recovery runs it again.
    Idempotent,
    /// The receiver takes our key and acts once per key: recovery runs it again with the same key.
    Keyed,
    /// Its mutations commit together with its result, so it cannot be torn: recovery runs it again.
    Transactional,
    /// Doing it twice may do harm: after a crash its outcome is unknown, and it is never run again by itself.
    Unkeyed,
}

impl EffectClass {
    /// Tells whether recovery may run a started call again.
    pub fn may_repeat(self) -> bool {
        match self {
            Self::Pure | Self::Idempotent | Self::Keyed | Self::Transactional => true,
            Self::Unkeyed => false,
        }
    }
}

/// What an argument means to the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArgumentRole {
    /// How much of it: a sum of money, a number of things.
    Amount,
    /// What lets somebody in: a password, a key.
    Credential,
    /// Where something goes: a session, the URL of a request.
    Destination,
    /// What is acted upon: a path.
    Object,
    /// What is carried: a text.
    Payload,
}

impl ArgumentRole {
    /// Tells whether an argument says where a call aims: at whom, at what, with whose key. A rule that allows calls without a
    /// person says what such an argument must be.
    pub const fn aims(self) -> bool {
        match self {
            Self::Credential | Self::Destination | Self::Object => true,
            Self::Amount | Self::Payload => false,
        }
    }
}

/// Where what a tool does is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sink {
    /// With the tenant only, where it can be looked at and undone.
    Inside,
    /// With others, or where it cannot be undone.
    #[default]
    Outside,
}

/// What is known of a tool beside its calls, for a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// Where what it does is seen.
    pub sink: Sink,
    /// The role of each argument, by its name.
    pub roles: BTreeMap<String, ArgumentRole>,
}

/// What a tool says about itself, to the model and to the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolDescriptor {
    /// The name, such as `file.read`.
    pub name: String,
    /// One or two sentences for the model.
    pub description: String,
    /// The JSON Schema of the arguments.
    pub parameters: serde_json::Value,
    /// What a repeated call may do.
    pub effect: EffectClass,
    /// The role of each argument, by its name.
    pub roles: Vec<(String, ArgumentRole)>,
    /// The label of what it returns, where nothing else is known of it; files have labels of their own.
    pub result_label: Label,
}

/// A call in canonical form: what the gate judges is, byte for byte, what [`ToolHost::call`] executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedCall {
    /// Which call it is.
    pub id: CallId,
    /// The tool's name as its host knows it.
    pub tool: String,
    /// What a repeated call may do.
    pub effect: EffectClass,
    /// The canonical arguments: JSON with sorted keys, paths as clean components.
    pub arguments: String,
    /// BLAKE3 of tool name, a NUL byte and the canonical arguments.
    pub action: Digest,
    /// Where it would reach out to, if it would.
    pub reaches: Option<Reaches>,
    /// What the program would be given that it starts. It depends on whose call it is, so whoever has it judged says it,
    /// and the host gives no more than was judged. Without it nobody looked, or it starts none.
    pub network: Option<Network>,
    /// The files to which somebody holds it who allowed it: its program starts with them or not at all.
    pub contents: Option<Contents>,
}

/// Says why a call cannot be prepared; the model is told, nothing ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// No tool of the agent has this name.
    #[error("there is no tool named {name:?}")]
    UnknownTool {
        /// The name as the model wrote it.
        name: String,
    },
    /// The arguments do not fit the tool's schema.
    #[error("the arguments of {tool} do not fit its schema: {problem}")]
    Arguments {
        /// The tool's name.
        tool: String,
        /// What is wrong, with the place.
        problem: String,
    },
}

/// For whom and under which key a call runs.
#[derive(Debug, Clone)]
pub struct ToolContext {
    /// The tenant and who asked; not narrowed to the agent, so that other sessions of the tenant can be named.
    pub scope: Scope,
    /// The agent that calls.
    pub agent: AgentId,
    /// Whose input the run works on.
    pub author: Actor,
    /// What the agent is granted now, for what is judged while the call runs.
    pub grants: Vec<String>,
    /// How many agents in a row led to that input.
    pub hops: u32,
    /// The run that calls.
    pub run: RunId,
    /// The session of that run.
    pub session: SessionId,
    /// The label of everything that the run has seen.
    pub label: Label,
    /// What stands behind the handles of the run's requests.
    pub past: Arc<Past>,
    /// The idempotency key, the same for every attempt of the call.
    pub key: String,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolOutput {
    /// Whether it did what was asked.
    pub failed: bool,
    /// What the model is told.
    pub parts: Vec<Part>,
    /// Inbox items that become durable together with the result; only transactional tools send any.
    pub sends: Vec<InboxPut>,
    /// What was judged about the requests that left this process, or did not.
    pub egress: Vec<Decision>,
    /// What files of the agent's workspace hold now; it becomes durable together with the result. Transactional tools
    /// change no file.
    pub files: FileLabels,
}

/// The longest text of one piece of live output, in bytes.
pub const LIVE_PIECE_BYTES_MAX: usize = 4 << 10;

/// Where the live output of a call goes while it runs, for whoever looks on. It may drop pieces and never makes the
/// call wait; the call's result is the truth.
pub trait Pieces: Send + Sync {
    /// Takes a piece: how many bytes of the output come before it, how many it stands for, and their text, at most
    /// [`LIVE_PIECE_BYTES_MAX`] bytes of it. Where a piece does not begin at the end of the last one, some was left out.
    fn push(&self, offset: u64, bytes: u64, text: &str);
}

/// Nobody looks on.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Pieces for Unwatched {
    fn push(&self, _: u64, _: u64, _: &str) {}
}

/// The port to tools.
///
/// Guarantee: [`ToolHost::call`] does exactly what the [`PreparedCall`] says, at most once per invocation, and
/// never fails: what goes wrong is told in the output. The engine makes `ToolStarted` durable before it calls. What it
/// says while it runs goes to the pieces, and is in the output as well, as far as the output tells it.
pub trait ToolHost: Send + Sync + fmt::Debug {
    /// Lists every tool, sorted by name.
    fn descriptors(&self) -> &[ToolDescriptor];

    /// Checks a model's call against the schema and puts it in canonical form. Pure.
    fn prepare(&self, call: &ToolCall) -> Result<PreparedCall, PrepareError>;

    /// Executes a prepared call.
    fn call<'a>(
        &'a self,
        context: ToolContext,
        call: PreparedCall,
        pieces: &'a dyn Pieces,
    ) -> BoxFuture<'a, ToolOutput>;

    /// Tells the most that one call of a tool may use under these terms; nothing for a tool that runs no program.
    fn limits(&self, tool: &str, terms: &ToolTerms) -> Option<Limits>;

    /// Looks at the files that a call's program could execute. Nothing for a call that runs no program, which is every call of
    /// most hosts; an error says why there is no holding it to them, in words that name none of them.
    fn contents<'a>(
        &'a self,
        _agent: AgentId,
        _call: &'a PreparedCall,
        _extent: BoundFiles,
    ) -> BoxFuture<'a, Result<Option<Contents>, String>> {
        Box::pin(async { Ok(None) })
    }

    /// Lets go of whatever is kept for the next call of a run, which has come to rest. Most hosts keep nothing.
    fn let_go(&self, _run: RunId) {}
}

/// How a call ended, for whoever counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// It did what was asked.
    Done,
    /// It did not.
    Failed,
    /// Somebody ended its run first.
    Cut,
}

impl CallEnd {
    /// Every end.
    pub const ALL: [Self; 3] = [Self::Done, Self::Failed, Self::Cut];

    /// Returns the short name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cut => "cut",
        }
    }
}

/// Why a call did not begin, for whoever counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallRefusal {
    /// The gate denied it.
    Denied,
    /// It is no call of a tool: no such tool, or arguments that do not fit.
    Malformed,
}

impl CallRefusal {
    /// Every reason.
    pub const ALL: [Self; 2] = [Self::Denied, Self::Malformed];

    /// Returns the short name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Malformed => "malformed",
        }
    }
}

/// Whoever counts calls. Nothing waits for it and nothing depends on it.
pub trait CallMeter: Send + Sync + fmt::Debug {
    /// Counts a call that began.
    fn called(&self, tool: &str, end: CallEnd, took: Duration);

    /// Counts a call that did not begin. The name is as the model wrote it, so it may be anything.
    fn refused(&self, tool: &str, refusal: CallRefusal);
}
