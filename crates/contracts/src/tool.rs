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
use crate::content::{ContentPart, ToolCall};
use crate::digest::Digest;
use crate::egress::{EgressDecision, EgressTarget};
use crate::executable_files::{BoundFiles, ExecutableFiles};
use crate::file::FileLabels;
use crate::id::{AgentId, CallId, RunId, SessionId, TenantId};
use crate::label::Label;
use crate::redacted_history::RedactedHistory;
use crate::run_origin::RunOrigin;
use crate::sandbox::{NetworkAccess, ProcessLimits};
use crate::scope::{Actor, Scope};
use crate::store::{InboxPut, Read, SessionOpen};
use crate::tool_catalogue::ToolCatalogue;
use crate::tool_policy::ToolTerms;
use crate::workspace::{RunWorkspace, WorkspaceReference};

/// The built-in tool that sends a message to another session. It is offered where the context names one.
pub const SEND: &str = "message.send";

/// The built-in tool that sends an interim reply of a run to the actor of its session. The grant for answers does not cover it:
/// it is offered under [`REPLY_GRANT`].
pub const REPLY: &str = "reply";

/// The grant of [`REPLY`], spelled as capabilities spell a tool.
pub const REPLY_GRANT: &str = "tool:reply";

/// The longest interim reply, in bytes.
pub const REPLY_BYTES_MAX: usize = 16 << 10;

/// The most interim replies of a run.
pub const RUN_REPLIES_MAX: u32 = 8;

/// The built-in tool that begins a branch.
pub const BRANCH: &str = "branch";

/// The built-in tool that says more to a worker.
pub const ROUTE: &str = "worker.route";

/// The tool that ends a worker or a branch of the conversation.
pub const CANCEL: &str = "worker.cancel";

/// The built-in tool that begins a worker.
pub const SPAWN: &str = "worker.spawn";

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
    /// Returns whether recovery may run a started call again.
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
    /// What authenticates its bearer: a password, a key.
    Credential,
    /// Where something goes: a session, the URL of a request.
    Destination,
    /// What is acted upon: a path.
    Object,
    /// What is carried: a text.
    Payload,
}

impl ArgumentRole {
    /// Returns whether an argument says where a call aims: at whom, at what, with whose key. A rule that allows calls
    /// without a person says what such an argument must be.
    pub const fn selects_target(self) -> bool {
        match self {
            Self::Credential | Self::Destination | Self::Object => true,
            Self::Amount | Self::Payload => false,
        }
    }
}

/// Where what a tool does is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EffectSink {
    /// With the tenant only, where it can be looked at and undone.
    Inside,
    /// With others, or where it cannot be undone.
    #[default]
    Outside,
}

/// How sensitive the results of a tool are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sensitivity {
    /// Any person may know it.
    #[default]
    Low,
    /// It belongs to one person: mail, accounts, what a secret opens.
    High,
}

impl Sensitivity {
    /// Returns whether it is the lower one.
    pub fn is_low(&self) -> bool {
        *self == Self::Low
    }
}

/// Which fields of a tool's results say what its records are called. The tool makes the keys; a person who types a record's
/// name means what its keys say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordFields {
    /// The fields by which calls say a record: first the one that every record has for itself.
    pub keys: Vec<String>,
    /// The fields by which people say it.
    pub names: Vec<String>,
}

/// What is known of a tool beside its calls, for a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolManifest {
    /// Where what it does is seen.
    pub sink: EffectSink,
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
    /// How sensitive its results are.
    #[serde(default, skip_serializing_if = "Sensitivity::is_low")]
    pub sensitivity: Sensitivity,
    /// What the records in its results are called, where it returns any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordFields>,
}

/// A call in canonical form: what the gate judges is, byte for byte, what [`ToolHost::execute_call`] executes.
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
    pub reaches: Option<EgressTarget>,
    /// What the program that it starts would be given. It depends on whose call it is, so the caller of the gate says
    /// it, and the host gives no more than was judged. Absent where it is not known yet, or the call starts none.
    pub network: Option<NetworkAccess>,
    /// The files to which its approval holds it: its program starts with them or not at all.
    pub contents: Option<ExecutableFiles>,
}

impl PreparedCall {
    /// Returns what would be sent to the actor of the session, if the call is an interim reply.
    pub fn interim_reply(&self) -> Option<String> {
        if self.tool != REPLY {
            return None;
        }
        let arguments: Option<serde_json::Value> = serde_json::from_str(&self.arguments).ok();
        let text = arguments.as_ref().and_then(|arguments| arguments["text"].as_str());
        // Canonical arguments have a text; other ones are judged as a whole.
        Some(text.unwrap_or(&self.arguments).to_owned())
    }
}

/// Says why a call cannot be prepared; the model gets this as the result, nothing ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// No tool of the agent has this name.
    #[error("there is no tool named {name:?}")]
    UnknownTool {
        /// The name as the model wrote it.
        name: String,
    },
    /// The arguments do not fit the tool's schema.
    #[error("the arguments of {tool} do not match its schema: {problem}")]
    Arguments {
        /// The tool's name.
        tool: String,
        /// What is wrong, with the place.
        problem: String,
    },
    /// The agent has no such tool now, although its run began with it.
    #[error(
        "there is no tool named {name:?} any more: the configuration removed it after this run began; nothing was done"
    )]
    RemovedTool {
        /// The tool's name.
        name: String,
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
    /// Which call of another run the run's session was opened for, if one did.
    pub origin: Option<Box<RunOrigin>>,
    /// The last input of its session that the run took.
    pub position: u64,
    /// The label of everything that the run has seen.
    pub label: Label,
    /// What the handles of the run's requests refer to.
    pub past: Arc<RedactedHistory>,
    /// The idempotency key, the same for every attempt of the call.
    pub key: String,
    /// Where the run works.
    pub workspace: RunWorkspace,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolOutput {
    /// Whether it did what was asked.
    pub failed: bool,
    /// What the model gets.
    pub parts: Vec<ContentPart>,
    /// Whether that is an interim reply to the actor of the session.
    pub reply: bool,
    /// Inbox items that become durable together with the result; only transactional tools send any.
    pub sends: Vec<InboxPut>,
    /// Sessions that are opened before these items are put, in the same commit.
    pub opens: Vec<SessionOpen>,
    /// What was judged about the requests that left this process, or did not.
    pub egress: Vec<EgressDecision>,
    /// What files of the agent's workspace hold now; it becomes durable together with the result. Transactional tools
    /// change no file.
    pub files: FileLabels,
}

/// The longest text of one piece of live output, in bytes.
pub const LIVE_PIECE_BYTES_MAX: usize = 4 << 10;

/// The port through which a running call reports its live output, for watchers, and that it waits. It may drop pieces
/// and never makes the call wait for a watcher; the call's result is the truth.
pub trait CallProgressSink: Send + Sync {
    /// Takes a piece: how many bytes of the output come before it, how many it covers, and their text, at most
    /// [`LIVE_PIECE_BYTES_MAX`] bytes of it. Where a piece begins beyond the last one's end, some was left out.
    fn push_piece(&self, offset: u64, bytes: u64, text: &str);

    /// Says that the call waits for something that others hold, which may take long: its run needs no slot meanwhile.
    fn note_waiting(&self) {}

    /// Says that the call has what it waited for, and waits until its run may go on.
    fn goes_on(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Drops every piece.
#[derive(Debug, Clone, Copy)]
pub struct DiscardProgress;

impl CallProgressSink for DiscardProgress {
    fn push_piece(&self, _: u64, _: u64, _: &str) {}
}

/// The port to tools.
///
/// Guarantee: [`ToolHost::execute_call`] does exactly what the [`PreparedCall`] says, at most once per invocation, and
/// never fails: the output says what went wrong. The engine makes `ToolStarted` durable before it calls. Live output
/// goes to the pieces, and is in the output as well, as far as that is not cut.
pub trait ToolHost: Send + Sync + fmt::Debug {
    /// Returns the tools that every agent of every tenant may be given. Its generation rises with each change of any tool, so a
    /// caller that keeps a catalogue knows by it whether there is another one.
    fn shared_catalogue(&self) -> ToolCatalogue;

    /// Returns the tools that an agent may be given now; without an agent, those that some agent of the tenant may. A tool that
    /// the operator gives to others is not in it.
    fn tool_catalogue<'a>(&'a self, _scope: &'a Scope, _agent: Option<AgentId>) -> Read<'a, ToolCatalogue> {
        Box::pin(std::future::ready(Ok(self.shared_catalogue())))
    }

    /// Returns whether an agent may be given a tool now.
    fn has_tool<'a>(&'a self, scope: &'a Scope, agent: AgentId, tool: &'a str) -> Read<'a, bool> {
        Box::pin(async move { Ok(self.tool_catalogue(scope, Some(agent)).await?.find_tool(tool).is_some()) })
    }

    /// Checks a model's call against the schema that these tools give it, and puts it in canonical form. Pure.
    fn prepare_call(&self, tools: &ToolCatalogue, call: &ToolCall) -> Result<PreparedCall, PrepareError>;

    /// Executes a prepared call.
    fn execute_call<'a>(
        &'a self,
        context: ToolContext,
        call: PreparedCall,
        pieces: &'a dyn CallProgressSink,
    ) -> BoxFuture<'a, ToolOutput>;

    /// Returns the most that one call of a tool may use under these terms; nothing for a tool that runs no program.
    fn process_limits(&self, tool: &str, terms: &ToolTerms) -> Option<ProcessLimits>;

    /// Looks at the files that a call's program could execute. Nothing for a call that runs no program, which is every call of
    /// most hosts; an error says why there is no holding it to them, in words that name none of them.
    fn executable_files<'a>(
        &'a self,
        _tenant: TenantId,
        _agent: AgentId,
        _workspace: &'a RunWorkspace,
        _call: &'a PreparedCall,
        _extent: BoundFiles,
    ) -> BoxFuture<'a, Result<Option<ExecutableFiles>, String>> {
        Box::pin(async { Ok(None) })
    }

    /// Looks whether agents of a tenant may work in a directory now. Hosts without workspaces refuse every one.
    fn check_workspace<'a>(
        &'a self,
        _tenant: TenantId,
        workspace: &'a WorkspaceReference,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move { Err(format!("{workspace}: this server has no workspaces")) })
    }

    /// Lets go of whatever is kept for the next call of a run, which has come to rest. Most hosts keep nothing.
    fn let_go(&self, _run: RunId) {}
}

/// How a call ended, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// It did what was asked.
    Done,
    /// It did not.
    Failed,
    /// Its run was ended first.
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

/// Why a call did not begin, for metrics.
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

/// The port that counts calls. Nothing waits for it and nothing depends on it.
pub trait CallMeter: Send + Sync + fmt::Debug {
    /// Counts a call that began.
    fn count_call(&self, tool: &str, end: CallEnd, took: Duration);

    /// Counts a call that did not begin, of a tool that its run has, or of none.
    fn count_refusal(&self, tool: Option<&str>, refusal: CallRefusal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unkeyed_effect_is_never_repeated() {
        use EffectClass::{Idempotent, Keyed, Pure, Transactional, Unkeyed};
        assert!([Pure, Idempotent, Keyed, Transactional].into_iter().all(EffectClass::may_repeat));
        assert!(!Unkeyed.may_repeat());
        assert!(Sensitivity::Low.is_low() && !Sensitivity::High.is_low());
    }
}
