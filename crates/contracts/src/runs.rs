//! The port to the engine: submit input, watch and steer runs, register agents, carry sessions in and out.
//!
//! The gateway speaks to these traits and never to the engine. Every call carries the scope of who asks.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use futures_core::Stream;
use jiff::Timestamp;
use std::pin::Pin;

use crate::BoxFuture;
use crate::agent::{
    AgentConfig, AgentRecord, AgentState, ErasureCounts, HandleSlug, TenantErasureCounts, TenantRecord,
};
use crate::approval::{ApprovalRequest, ApprovalRuleRecord, DeclaredRule, RuleAnswer};
use crate::budget::BudgetDefinition;
use crate::busy_policy::BusyPolicy;
use crate::client::{ClientOptions, ClientToolResults};
use crate::compaction::{CompactionAnswer, ContextUse};
use crate::content::ContentPart;
use crate::encoded_request::SentEncoding;
use crate::fault::Fault;
use crate::id::{AgentId, ApprovalId, CallId, ItemId, RunId, SessionId, TenantId, TokenId};
use crate::input::{InputBody, ManualCall};
use crate::retention::{IdleSession, RetentionPolicy, SessionHold};
use crate::revision::AgentChange;
use crate::run::{RunHead, RunStatus};
use crate::scope::{Actor, OperatorScope, Scope};
use crate::session::SessionKey;
use crate::store::ItemKey;
use crate::task::TaskCounts;
use crate::token::{TokenRecord, TokenScopes};
use crate::transcript::TranscriptTurn;
use crate::usage::UsageRow;
use crate::workspace::WorkspaceReference;

pub use crate::approval::ApprovalReach;

/// Whether the labels in the file of a session are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportLabels {
    /// They are not believed: nothing of the file gets a better one than a claim has.
    Doubted,
    /// The importer vouches for them, which is an act: they stay what they were in the original session.
    Believed,
}

/// A session as a file, and what of the session is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionExport {
    /// The file.
    pub file: Vec<u8>,
    /// Runs that had not ended; each is left out with what it took.
    pub open_runs: u64,
    /// Inputs that no run had taken.
    pub waiting_inputs: u64,
}

/// Which session an input is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputTarget {
    /// The session that the key finds; it is opened if there is none.
    Key {
        /// The agent that answers.
        agent: AgentId,
        /// The key.
        key: SessionKey,
    },
    /// A session of its own, under a key that was made up for it: no lookup comes first.
    Fresh {
        /// The agent that answers.
        agent: AgentId,
        /// The key.
        key: SessionKey,
    },
    /// A session that is there.
    Session(SessionId),
}

/// An input on its way to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInput {
    /// For whom.
    pub target: InputTarget,
    /// Who says it.
    pub author: Actor,
    /// Earlier turns that the caller supplies; labelled as claims, in whole units.
    pub history: Vec<TranscriptTurn>,
    /// What the caller's tools gave, if a run of the session ended with calls for them. Such an input is its own
    /// idempotency key: the calls of a run are answered once.
    pub answers: Option<ClientToolResults>,
    /// What the caller offers to the model.
    pub offer: ClientOptions,
    /// The one call that is asked for, if no model is to be.
    pub call: Option<ManualCall>,
    /// The directory that its run works in, in the place of the agent's workspace.
    pub workspace: Option<WorkspaceReference>,
    /// What it does while a turn of its session runs; the agent's own policy where it does not say.
    pub when_busy: Option<BusyPolicy>,
    /// What is said; nothing where results are the last word.
    pub parts: Vec<ContentPart>,
    /// The caller's idempotency key.
    pub key: Option<ItemKey>,
    /// Whether the caller waits for the answer.
    pub wait: bool,
}

/// An input that is durable.
pub struct InputReceipt {
    /// Its id.
    pub item: ItemId,
    /// Its session.
    pub session: SessionId,
    /// Its position in the session's inbox.
    pub position: u64,
    /// The run that took it, if one did at once.
    pub run: Option<RunId>,
    /// Whether an earlier request with the same key stored it.
    pub replayed: bool,
    /// Ends with the run that takes the input, if the caller waits.
    pub outcome: Option<BoxFuture<'static, Result<RunOutcome, Fault>>>,
}

impl fmt::Debug for InputReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitted")
            .field("item", &self.item)
            .field("session", &self.session)
            .field("position", &self.position)
            .field("run", &self.run)
            .field("replayed", &self.replayed)
            .finish_non_exhaustive()
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOutcome {
    /// The run.
    pub run: RunId,
    /// The number of its last entry.
    pub last_seq: u64,
    /// What its row says.
    pub head: RunHead,
    /// What it answered, where the gate let it leave; nothing of a run that ended otherwise.
    pub reply: Option<Vec<ContentPart>>,
    /// Why it failed, if it did.
    pub failure: Option<Fault>,
}

/// What a watcher of a run sees. It is a hint to read the journal, which is the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveEvent {
    /// Entries up to this number are durable.
    Committed {
        /// The number of the last one.
        seq: u64,
        /// The run's status.
        status: RunStatus,
    },
    /// Live text of a model attempt. It carries no cursor and gives way to the entry.
    Delta {
        /// The model step.
        step: u32,
        /// The attempt.
        attempt: u32,
        /// Bytes of the attempt's text before this piece.
        offset: u64,
        /// The piece.
        text: String,
    },
    /// Live output of a running call. It carries no cursor and gives way to the call's result.
    Output {
        /// The call.
        call: CallId,
        /// Bytes of the call's output before this piece.
        offset: u64,
        /// Bytes of the output that the piece covers.
        bytes: u64,
        /// The piece, with what is no UTF-8 replaced.
        text: String,
    },
    /// The watcher was too slow and missed pieces; entries are still complete in the journal.
    Lagged,
}

/// A watch of a run; bounded, and it ends when no task works on the run any more.
pub type Watch = Pin<Box<dyn Stream<Item = LiveEvent> + Send>>;

/// Why a run has the status that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStatusReason {
    /// Its status.
    pub status: RunStatus,
    /// What it waits for, or how it ended.
    pub waits_for: String,
    /// Since when.
    pub since: Timestamp,
    /// Who can change that.
    pub unblocked_by: String,
    /// The command that does.
    pub command: Option<String>,
    /// The budget that stopped it, where the configuration sets that budget: no command gives it more.
    pub declared: Option<String>,
}

/// A request as it was sent to a model's server, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentRequest {
    /// The model step.
    pub step: u32,
    /// The attempt at it.
    pub attempt: u32,
    /// The alias under which the model was asked: the run's own, or a fallback.
    pub alias: String,
    /// How it was written, and the digest that its bytes have.
    pub sent: SentEncoding,
    /// Its body.
    pub body: Bytes,
}

/// How to end a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEndMode {
    /// At the next unit border.
    Cancel,
    /// Now; a call that began becomes `unknown` if it may not be repeated.
    Terminate,
}

/// What of an agent to end now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillTarget {
    /// One of its runs.
    Run(RunId),
    /// The open run of one of its sessions and, where the session is a task's, what no run took yet.
    Session(SessionId),
    /// Every open run of it, and every task that no run took yet.
    All,
}

/// What an operator wants to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAgent {
    /// Its handle, unique in its tenant.
    pub handle: HandleSlug,
    /// The name that people see.
    pub display_name: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// Its configuration.
    pub config: AgentConfig,
}

/// A credential that a tenant wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// What it is called, as [`crate::token::is_name`] allows.
    pub name: String,
    /// What it may do; at least one scope.
    pub scopes: TokenScopes,
    /// From when on it is refused, if ever.
    pub expires_at: Option<Timestamp>,
}

/// The answer to an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApprovalDecision {
    /// The call may begin.
    Approve(ApprovalReach),
    /// It may not.
    Deny {
        /// Why, for the model and the person; may be empty.
        reason: String,
    },
}

/// A rule to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRule {
    /// Its name, unique in the tenant.
    pub name: String,
    /// What it answers.
    pub answer: RuleAnswer,
    /// Which calls it answers, as [`ParsedRule`](crate::approval::ParsedRule) reads it.
    pub rule: String,
    /// The one agent whose calls it answers.
    pub agent: Option<AgentId>,
    /// The one session in which it answers.
    pub session: Option<SessionId>,
    /// From when on it answers nothing; without one, after the longest time that a rule may have.
    pub expires_at: Option<Timestamp>,
}

/// The port to the engine.
///
/// A call that may write is carried through once its future was polled ([`Runtime::carried_through`]): a caller that drops it
/// hears nothing and takes nothing back. The outcome of an input is waited for apart from that, and that wait ends with its caller.
///
/// [`Runtime::carried_through`]: crate::runtime::Runtime::carried_through
pub trait EnginePort: Send + Sync + fmt::Debug {
    /// Stores an input; when the future ends well, the input is durable. Never refused because a turn runs.
    fn submit_input(&self, scope: Scope, input: NewInput) -> BoxFuture<'_, Result<InputReceipt, Fault>>;

    /// Counts the tokens of the request that an input would begin in a session of its own: as many as decide whether it
    /// fits the model's window, and of what would be sent. Nothing is written and no model is asked.
    fn count_tokens(
        &self,
        scope: Scope,
        agent: AgentId,
        body: InputBody,
    ) -> BoxFuture<'_, Result<u32, Fault>>;

    /// Watches a run from now on.
    fn watch_run(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<Watch, Fault>>;

    /// Says why a run has the status that it has.
    fn explain_run(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<RunStatusReason, Fault>>;

    /// Says how the next request of a session would fill the window of its agent's model.
    fn session_context(&self, scope: Scope, session: SessionId) -> BoxFuture<'_, Result<ContextUse, Fault>>;

    /// Has the oldest half of a session summarized for its later requests, or only says what that half is.
    fn compact_session(
        &self,
        scope: Scope,
        session: SessionId,
        dry_run: bool,
    ) -> BoxFuture<'_, Result<CompactionAnswer, Fault>>;

    /// Writes the request of a model call again, from the journal and what it refers to, and proves by its digest that
    /// it is the one that was sent. Without an attempt the last one of the step is meant.
    fn rebuild_request(
        &self,
        scope: Scope,
        run: RunId,
        step: u32,
        attempt: Option<u32>,
    ) -> BoxFuture<'_, Result<SentRequest, Fault>>;

    /// Asks a run to end. Asking again, or asking a run that has ended that way, changes nothing.
    fn end_run(&self, scope: Scope, run: RunId, end: RunEndMode) -> BoxFuture<'_, Result<(), Fault>>;

    /// Ends runs of an agent now, as [`RunEndMode::Terminate`] does, and tasks that no run took yet, each by a run that takes
    /// it and ends at once. Returns the runs; one that had ended already is not among them. The agent takes input as
    /// before, and what waits in sessions of other platforms stays.
    fn agent_kill(
        &self,
        scope: Scope,
        agent: AgentId,
        what: KillTarget,
    ) -> BoxFuture<'_, Result<Vec<RunId>, Fault>>;

    /// Goes on from a yielded run with a new one, or releases a held one.
    fn resume_run(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<InputReceipt, Fault>>;

    /// Writes a session into one versioned file: transcript, tool history, bodies and custom state, as far as its runs have
    /// ended.
    fn export_session(&self, scope: Scope, session: SessionId)
    -> BoxFuture<'_, Result<SessionExport, Fault>>;

    /// Reads such a file into a new session of an agent, which is there whole or not at all. The same file, labels and
    /// name of a copy give the same session, so a try that broke off is repeated and goes on. The right to import
    /// includes the right to vouch for the file's labels; the caller checks that right.
    fn import_session(
        &self,
        scope: Scope,
        agent: AgentId,
        file: Vec<u8>,
        labels: ImportLabels,
        copy: Option<String>,
    ) -> BoxFuture<'_, Result<SessionId, Fault>>;

    /// Registers a tenant and its first credential, which may do everything in it, in one commit: there is never a
    /// tenant without a credential. Returns the credential too; it is shown this once.
    fn tenant_create(
        &self,
        operator: OperatorScope,
        handle: HandleSlug,
        token_name: String,
    ) -> BoxFuture<'_, Result<(TenantRecord, String), Fault>>;

    /// Suspends a tenant, or has it go on: its runs rest at their next safe point, and what waits begins when it goes on.
    /// Asking again changes nothing.
    fn tenant_suspend(
        &self,
        operator: OperatorScope,
        tenant: TenantRecord,
        suspended: bool,
    ) -> BoxFuture<'_, Result<TenantRecord, Fault>>;

    /// Erases a suspended tenant and everything that belongs to it; once it began, it goes on without the caller.
    fn tenant_delete(
        &self,
        operator: OperatorScope,
        tenant: TenantId,
    ) -> BoxFuture<'_, Result<TenantErasureCounts, Fault>>;

    /// Registers another credential of the tenant and returns it with what may be shown of it later; the credential
    /// itself is shown this once.
    fn token_create(
        &self,
        scope: Scope,
        token: NewToken,
    ) -> BoxFuture<'_, Result<(TokenRecord, String), Fault>>;

    /// Takes a credential back. Asking again changes nothing.
    fn token_revoke(&self, scope: Scope, token: TokenId) -> BoxFuture<'_, Result<TokenRecord, Fault>>;

    /// Sets a budget of the tenant. One that the configuration declares is changed there only.
    fn budget_set(
        &self,
        scope: Scope,
        budget: BudgetDefinition,
    ) -> BoxFuture<'_, Result<BudgetDefinition, Fault>>;

    /// Removes a budget of the tenant.
    fn budget_remove(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<BudgetDefinition, Fault>>;

    /// Answers an approval, and with it `also`, at most [`ALSO_MAX`](crate::approval::ALSO_MAX) others of the same run: all of
    /// them in one commit, or none. When the future ends well, the answers are durable. The same answer of the same person
    /// again changes nothing.
    fn approval_answer(
        &self,
        scope: Scope,
        approval: ApprovalId,
        also: Vec<ApprovalId>,
        answer: ApprovalDecision,
    ) -> BoxFuture<'_, Result<ApprovalRequest, Fault>>;

    /// Adds a rule that answers approvals, or changes the one of this name.
    fn approval_rule_add(
        &self,
        scope: Scope,
        rule: NewRule,
    ) -> BoxFuture<'_, Result<ApprovalRuleRecord, Fault>>;

    /// Lists the rules that the configuration declares for every tenant, in its order. They are no rows, and answer as those do.
    fn approval_rules_declared(&self) -> Vec<DeclaredRule>;

    /// Removes a rule. One that the configuration declares is refused.
    fn approval_rule_remove(
        &self,
        scope: Scope,
        name: String,
    ) -> BoxFuture<'_, Result<ApprovalRuleRecord, Fault>>;

    /// Registers an agent.
    fn agent_create(&self, scope: Scope, agent: NewAgent) -> BoxFuture<'_, Result<AgentRecord, Fault>>;

    /// Changes an agent: one revision more, or none where nothing would change. What it grants less counts at once, also for
    /// runs that go on; everything else counts for runs that begin afterwards.
    fn agent_change(
        &self,
        scope: Scope,
        agent: AgentId,
        change: AgentChange,
    ) -> BoxFuture<'_, Result<AgentRecord, Fault>>;

    /// Gives an agent another handle; the old one is free at once.
    fn agent_rename(
        &self,
        scope: Scope,
        agent: AgentId,
        handle: HandleSlug,
    ) -> BoxFuture<'_, Result<AgentRecord, Fault>>;

    /// Pauses, resumes or terminates an agent.
    fn agent_set_state(
        &self,
        scope: Scope,
        agent: AgentId,
        to: AgentState,
    ) -> BoxFuture<'_, Result<AgentRecord, Fault>>;

    /// Erases an agent and everything that belongs to it.
    fn agent_delete(&self, scope: Scope, agent: AgentId) -> BoxFuture<'_, Result<ErasureCounts, Fault>>;

    /// Erases a session with its children. Refused as long as something keeps one of them.
    fn session_delete(&self, scope: Scope, session: SessionId)
    -> BoxFuture<'_, Result<ErasureCounts, Fault>>;

    /// Sets a session on hold, or ends its hold. Returns the hold that lasts.
    fn session_hold_set(
        &self,
        scope: Scope,
        session: SessionId,
        held: bool,
    ) -> BoxFuture<'_, Result<Option<SessionHold>, Fault>>;

    /// Returns how long sessions of the scope's tenant stay.
    fn retention_policy(&self, scope: Scope) -> BoxFuture<'_, Result<RetentionPolicy, Fault>>;

    /// Looks at the next sessions of the scope's tenant for those that rested for so long, and erases them where it is asked to.
    fn retention_page(
        &self,
        scope: Scope,
        after: Option<SessionId>,
        erases: bool,
    ) -> BoxFuture<'_, Result<RetentionPage, Fault>>;

    /// Returns whether a run came with its session as a file, so that what it spent was spent elsewhere. Its id says
    /// so; nothing is looked up, and a run that is not there is none.
    fn is_imported(&self, session: SessionId, run: RunId) -> bool;

    /// Lists the aliases of models that an agent may be configured with, in order.
    fn model_aliases(&self) -> Vec<String>;

    /// Returns what runs and model calls came to since the start, of one tenant or of all.
    fn usage_rows(&self, only: Option<TenantId>) -> Vec<UsageRow>;

    /// Counts what the engine holds in memory.
    fn engine_load(&self) -> EngineLoad;
}

/// Sessions that are due, or were erased because they were.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionPage {
    /// Those sessions, without their children.
    pub due: Vec<IdleSession>,
    /// What was erased.
    pub erased: ErasureCounts,
    /// The last session that was looked at, if there may be more behind it.
    pub next: Option<SessionId>,
}

/// What the engine holds in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineLoad {
    /// Runs with a task.
    pub active: usize,
    /// Sessions and runs that wait for a task.
    pub ready: usize,
    /// The most runs with a task.
    pub active_max: usize,
    /// How often tasks came into each state.
    pub tasks: TaskCounts,
    /// How often a budget stopped a run.
    pub budget_stops: u64,
    /// How often a run was ended because it went in a circle.
    pub loops: u64,
    /// Tokens of the requests that models answered.
    pub input_tokens: u64,
    /// Tokens of their answers.
    pub output_tokens: u64,
}

/// The homes of agents on this machine: made at the first write, wiped on delete.
pub trait HomeDirectories: Send + Sync + fmt::Debug {
    /// Wipes the home of an agent and returns how many files it held. A home that is not there is no error.
    fn wipe_home(&self, tenant: TenantId, agent: AgentId) -> BoxFuture<'_, Result<u64, Fault>>;
}
