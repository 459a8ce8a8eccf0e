//! A toolbox on a temporary home, with a clock that stands still and a store that knows two sessions.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::agent::{
    AgentRecord, AgentRevision, AgentState, ErasureCounts, HandleSlug, TenantRecord,
};
use dromia_contracts::approval::{ApprovalRequest, ApprovalRuleRecord};
use dromia_contracts::budget::BudgetUse;
use dromia_contracts::capability::CapabilityRecord;
use dromia_contracts::compute::ComputeHere;
use dromia_contracts::content::{ToolCall, parts_text};
use dromia_contracts::delivery::{DeliveryRecord, DeliverySummary, FeedItem, FeedState, OpenDelivery};
use dromia_contracts::egress::{
    EgressBody, EgressClient, EgressError, EgressFault, EgressRequest, EgressResponse, EgressTunnel,
    TunnelRequest,
};
use dromia_contracts::file::{FileLabel, FileLabels, KnownFile};
use dromia_contracts::label::Label;
use dromia_contracts::run::RunRecord;
use dromia_contracts::runtime::{Clock, IdSource, Runtime, TaskSpawner};
use dromia_contracts::sandbox::SandboxSelector;
use dromia_contracts::scope::{Actor, OperatorScope, Scope, ScopeAuthority};
use dromia_contracts::session::{InboxItem, InboxOwner, SessionHead, SessionKey, SessionRecord};
use dromia_contracts::store::{
    ApprovalFilter, CommitOutcome, CoolingApproval, DeliveryFilter, OpenRun, PageRequest, PendingSession,
    Read, ReadError, RunFilter, RunSpending, SessionTail, StateEntry, Store, StoreHealth, StoreStats,
    StoredEntry, TailLimits, TokenOwner, WriteBatch,
};
use dromia_contracts::token::TokenRecord;
use dromia_contracts::tool::{
    CallProgressSink, DiscardProgress, PreparedCall, ToolContext, ToolHost, ToolOutput,
};
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::vault::{LeakDetector, NoSecrets, SealedSecret, SecretMatch, SecretScanner};
use dromia_contracts::{
    AgentId, ApprovalId, BoxFuture, CallId, CapabilityId, DeliveryId, Digest, Fault, RunId, SessionId,
    TenantId, TokenId,
};
use dromia_tools::{Toolbox, ToolsConfig};
use jiff::Timestamp;
use uuid::Uuid;

use crate::programs::Played;

pub(crate) const TENANT: TenantId = TenantId::from_bytes([1; 16]);
pub(crate) const OTHER_TENANT: TenantId = TenantId::from_bytes([2; 16]);
pub(crate) const AGENT: AgentId = AgentId::from_bytes([3; 16]);
pub(crate) const COLLEAGUE: AgentId = AgentId::from_bytes([4; 16]);
pub(crate) const COLLEAGUE_SESSION: SessionId = SessionId::from_bytes([5; 16]);
pub(crate) const STRANGER_SESSION: SessionId = SessionId::from_bytes([6; 16]);
pub(crate) const CALL: CallId = CallId { step: 1, index: 0 };

/// A toolbox and its home.
pub(crate) struct Bench {
    pub(crate) toolbox: Toolbox,
    pub(crate) clock: Arc<StillClock>,
    pub(crate) line: Arc<ToldLine>,
    pub(crate) sandboxes: Arc<Played>,
    pub(crate) index: Arc<Index>,
    terms: ToolTerms,
    home: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(AgentState::Running, None)
    }

    pub(crate) fn with(colleague: AgentState, pace: Option<Duration>) -> Self {
        Self::under(colleague, pace, ToolTerms::default())
    }

    /// A bench whose operator says this about every tool.
    pub(crate) fn under(colleague: AgentState, pace: Option<Duration>, terms: ToolTerms) -> Self {
        Self::built(colleague, pace, terms, Arc::new(NoSecrets))
    }

    /// A bench whose tenant has a secret with this value.
    pub(crate) fn hiding(value: &'static str) -> Self {
        Self::built(AgentState::Running, None, ToolTerms::default(), Arc::new(Hidden(value)))
    }

    /// A bench on a machine with these sandboxes.
    pub(crate) fn running(machine: Arc<dyn SandboxSelector>) -> Self {
        let leaks = Arc::new(NoSecrets);
        Self::on(Some(machine), AgentState::Running, None, ToolTerms::default(), leaks)
    }

    fn built(
        colleague: AgentState,
        pace: Option<Duration>,
        terms: ToolTerms,
        leaks: Arc<dyn LeakDetector>,
    ) -> Self {
        Self::on(None, colleague, pace, terms, leaks)
    }

    /// Without a machine, sandboxes are played.
    fn on(
        machine: Option<Arc<dyn SandboxSelector>>,
        colleague: AgentState,
        pace: Option<Duration>,
        terms: ToolTerms,
        leaks: Arc<dyn LeakDetector>,
    ) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let clock = Arc::new(StillClock::default());
        let runtime = Runtime {
            clock: clock.clone(),
            ids: Arc::new(Counter::default()),
            spawn: Arc::new(Nowhere),
            compute: Arc::new(ComputeHere),
        };
        let sandboxes = Arc::new(Played::default());
        let line = Arc::new(ToldLine::default());
        let config = ToolsConfig {
            root: home.path().to_owned(),
            pace,
            hops_max: HOPS_MAX,
            sandboxes: machine.unwrap_or_else(|| Arc::clone(&sandboxes) as _),
            terms: Arc::new(terms.clone()),
            way_out: Arc::clone(&line) as _,
            leaks,
        };
        let index = Arc::new(Index::default());
        let store = Arc::new(TwoSessions { colleague, index: Arc::clone(&index) });
        let toolbox = Toolbox::new(config, store, runtime, Arc::clone(&line) as _);
        Self { toolbox, clock, line, sandboxes, index, terms, home }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.home().join("agents").join(AGENT.to_string()).join("workspace")
    }

    /// Makes the workspace as the operator would, by hand.
    pub(crate) fn made(self) -> Self {
        std::fs::create_dir_all(self.workspace()).expect("the workspace is made");
        self
    }

    /// Prepares a call, and says of a program what it would be given, as whoever has it judged does.
    pub(crate) fn prepare(&self, tool: &str, arguments: &str) -> PreparedCall {
        let call = ToolCall { id: CALL, tool: tool.to_owned(), arguments: arguments.to_owned() };
        let call =
            self.toolbox.prepare_call(&call).unwrap_or_else(|error| panic!("{tool} {arguments}: {error}"));
        let runs_programs = self.toolbox.process_limits(&call.tool, &self.terms).is_some();
        let network = runs_programs.then(|| self.terms.network_for(&context().grants));
        PreparedCall { network, ..call }
    }

    pub(crate) async fn call(&self, tool: &str, arguments: &str) -> ToolOutput {
        self.heard(tool, arguments, &DiscardProgress).await
    }

    /// Calls a tool while somebody looks on.
    pub(crate) async fn heard(
        &self,
        tool: &str,
        arguments: &str,
        pieces: &dyn CallProgressSink,
    ) -> ToolOutput {
        self.toolbox.execute_call(context(), self.prepare(tool, arguments), pieces).await
    }

    /// Calls a tool and returns what it tells, after `ok: ` or `failed: `.
    pub(crate) async fn told(&self, tool: &str, arguments: &str) -> String {
        let output = self.call(tool, arguments).await;
        let verdict = if output.failed { "failed" } else { "ok" };
        format!("{verdict}: {}", parts_text(&output.parts))
    }
}

/// Finds one value as it is.
#[derive(Debug, Clone, Copy)]
struct Hidden(&'static str);

impl SecretScanner for Hidden {
    fn find_secrets(&self, text: &[u8]) -> Vec<SecretMatch> {
        let value = self.0.as_bytes();
        let places = text.windows(value.len()).enumerate().filter(|(_, window)| *window == value);
        places.map(|(at, _)| SecretMatch { secret: "mail".to_owned(), range: at..at + value.len() }).collect()
    }

    fn open_from(&self, text: &[u8]) -> usize {
        text.len()
    }
}

impl LeakDetector for Hidden {
    fn scanner_for_tenant<'a>(
        &'a self,
        _: &'a Scope,
    ) -> BoxFuture<'a, Result<Arc<dyn SecretScanner>, Fault>> {
        Box::pin(std::future::ready(Ok(Arc::new(*self) as Arc<dyn SecretScanner>)))
    }
}

/// The most messages in a row that the bench's tools send.
pub(crate) const HOPS_MAX: u32 = 3;

pub(crate) fn context() -> ToolContext {
    let run = RunId::from_bytes([7; 16]);
    ToolContext {
        scope: ScopeAuthority::claim().issue_scope(TENANT, Actor::new("engine")),
        agent: AGENT,
        author: Actor::new("cli:ada"),
        grants: vec!["http.request".to_owned(), "net:example.com".to_owned()],
        hops: 0,
        run,
        session: SessionId::from_bytes([8; 16]),
        label: Label::ACTOR_TEXT,
        past: Arc::default(),
        key: CALL.idempotency_key(run),
    }
}

/// A line that answers what it was told to, and keeps what it was sent.
#[derive(Debug, Default)]
pub(crate) struct ToldLine {
    answer: Mutex<Option<Answer>>,
    sent: Mutex<Vec<EgressRequest>>,
}

/// What a [`ToldLine`] answers: a status, headers and pieces of a body, or why there is none.
pub(crate) type Answer = Result<(u16, Vec<(String, String)>, Vec<Result<Bytes, EgressFault>>), EgressError>;

impl ToldLine {
    pub(crate) fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    pub(crate) fn sent(&self) -> Vec<EgressRequest> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl EgressClient for ToldLine {
    fn send_request(&self, request: EgressRequest) -> BoxFuture<'_, Result<EgressResponse, EgressError>> {
        let url = request.url.clone();
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let answer = answer.expect("the test tells the line what to answer");
        let response = answer.map(|(status, headers, mut pieces)| {
            pieces.reverse();
            EgressResponse { status, headers, url, decisions: Vec::new(), body: Box::new(Chunks(pieces)) }
        });
        Box::pin(std::future::ready(response))
    }

    fn request_tunnel(&self, _: TunnelRequest) -> BoxFuture<'_, Result<EgressTunnel, EgressError>> {
        let error = EgressError { failure: EgressFault::Unreachable, is_sent: false, decisions: Vec::new() };
        Box::pin(std::future::ready(Err(error)))
    }
}

/// The pieces of a body, the last one first.
struct Chunks(Vec<Result<Bytes, EgressFault>>);

impl EgressBody for Chunks {
    fn next_chunk(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, EgressFault>> {
        Box::pin(std::future::ready(self.0.pop().transpose()))
    }
}

/// Time that moves only when somebody sleeps, or, if it is told to hurry, whenever somebody looks.
#[derive(Debug, Default)]
pub(crate) struct StillClock(AtomicU64, AtomicU64);

impl StillClock {
    /// Lets so many milliseconds pass between two looks.
    pub(crate) fn hurry(&self, milliseconds: u64) {
        self.1.store(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        let now = self.0.fetch_add(self.1.load(Ordering::SeqCst), Ordering::SeqCst);
        let milliseconds = i64::try_from(now).expect("a small number");
        Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).expect("a time of this century")
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let slept = at.as_millisecond() - self.now().as_millisecond();
        self.0.fetch_add(u64::try_from(slept).unwrap_or(0), Ordering::SeqCst);
        Box::pin(std::future::ready(()))
    }

    fn monotonic_now(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn sleep(&self, wait: std::time::Duration) -> BoxFuture<'static, ()> {
        self.0.fetch_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
        Box::pin(std::future::ready(()))
    }
}

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl IdSource for Counter {
    fn new_uuid(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::SeqCst)))
    }

    fn random_secret(&self) -> [u8; 32] {
        [9; 32]
    }
}

#[derive(Debug)]
struct Nowhere;

impl TaskSpawner for Nowhere {
    fn spawn(&self, _: BoxFuture<'static, ()>) {}
}

/// Looks whether files are asked about for an agent that calls, in its tenant.
fn is_of_caller(scope: &Scope, agent: AgentId) {
    let callers = [(TENANT, AGENT), (OTHER_TENANT, COLLEAGUE)];
    assert!(callers.contains(&(scope.tenant(), agent)), "it is asked for the agent that calls: {agent}");
}

/// A store with a session of a colleague in the tenant and one of a stranger outside it.
#[derive(Debug)]
struct TwoSessions {
    colleague: AgentState,
    index: Arc<Index>,
}

/// What is known of files.
#[derive(Debug, Default)]
pub(crate) struct Index(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<String, FileLabel>,
    rest: Option<Label>,
    is_shut: bool,
    /// Where the files lie, for an index that takes what a file holds for what is known of it.
    lies_about: Option<PathBuf>,
    keeps_first: bool,
}

impl Index {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a call says, as the commit of its result does.
    pub(crate) fn keep(&self, said: &FileLabels) {
        let mut inner = self.inner();
        for (path, holds) in &said.files {
            match holds {
                Some(_) if inner.keeps_first && inner.files.contains_key(path) => {}
                Some(holds) => {
                    inner.files.insert(path.clone(), holds.clone());
                }
                None => {
                    inner.files.remove(path);
                }
            }
        }
        inner.rest = inner.rest.map_or(said.rest, |rest| Some(rest.join(said.rest.unwrap_or(rest))));
    }

    /// Answers nothing any more.
    pub(crate) fn shut(&self) {
        self.inner().is_shut = true;
    }

    /// From now on a file has the label of its path, whatever it holds.
    pub(crate) fn look_at_paths_alone(&self, workspace: PathBuf) {
        self.inner().lies_about = Some(workspace);
    }

    /// From now on what is known of a file stays.
    pub(crate) fn keep_the_first_word(&self) {
        self.inner().keeps_first = true;
    }
}

impl Inner {
    fn file(&self, path: &str) -> Option<FileLabel> {
        let known = self.files.get(path)?.clone();
        let lie = self.lies_about.as_ref().and_then(|workspace| std::fs::read(workspace.join(path)).ok());
        let lie = lie.map(|holds| Digest::from_bytes(*blake3::hash(&holds).as_bytes()));
        Some(FileLabel { content: lie.unwrap_or(known.content), ..known })
    }
}

fn session(id: SessionId) -> SessionRecord {
    SessionRecord {
        id,
        agent: COLLEAGUE,
        key: SessionKey { platform: "cli".into(), channel: "cli".into(), actor: Actor::new("cli:bob") },
        opened_at: Timestamp::UNIX_EPOCH,
        head: SessionHead::default(),
    }
}

fn found<T: Send + 'static>(value: T) -> Read<'static, T> {
    Box::pin(std::future::ready(Ok(value)))
}

fn not_asked<T: Send + fmt::Debug + 'static>() -> Read<'static, T> {
    let cause = "the tools have no business with this read".to_owned();
    Box::pin(std::future::ready(Err(ReadError::Unavailable { cause })))
}

impl Store for TwoSessions {
    fn session<'a>(&'a self, scope: &'a Scope, id: SessionId) -> Read<'a, Option<SessionRecord>> {
        let owner = match id {
            COLLEAGUE_SESSION => TENANT,
            STRANGER_SESSION => OTHER_TENANT,
            _ => return found(None),
        };
        found((scope.tenant() == owner && scope.sees_agent(COLLEAGUE)).then(|| session(id)))
    }

    fn agent<'a>(&'a self, scope: &'a Scope, id: AgentId) -> Read<'a, Option<AgentRecord>> {
        found((scope.tenant() == TENANT && id == COLLEAGUE).then(|| AgentRecord {
            id,
            handle: "colleague".parse().expect("a handle"),
            display_name: String::new(),
            labels: std::collections::BTreeMap::new(),
            created_at: Timestamp::UNIX_EPOCH,
            state: self.colleague,
            revision: Digest::default(),
        }))
    }

    fn commit(&self, _: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        Box::pin(std::future::ready(CommitOutcome::Unknown { cause: "the tools commit nothing".to_owned() }))
    }

    fn tenants<'a>(&'a self, _: &'a OperatorScope, _: PageRequest<TenantId>) -> Read<'a, Vec<TenantRecord>> {
        not_asked()
    }

    fn tenant_by_handle<'a>(
        &'a self,
        _: &'a OperatorScope,
        _: &'a HandleSlug,
    ) -> Read<'a, Option<TenantRecord>> {
        not_asked()
    }

    fn find_token_owner<'a>(&'a self, _: &'a OperatorScope, _: Digest) -> Read<'a, Option<TokenOwner>> {
        not_asked()
    }

    fn tokens<'a>(
        &'a self,
        _: &'a Scope,
        _: Option<&'a str>,
        _: PageRequest<TokenId>,
    ) -> Read<'a, Vec<TokenRecord>> {
        not_asked()
    }

    fn approval<'a>(&'a self, _: &'a Scope, _: ApprovalId) -> Read<'a, Option<ApprovalRequest>> {
        not_asked()
    }

    fn cooling_approvals<'a>(
        &'a self,
        _: &'a OperatorScope,
        _: jiff::Timestamp,
        _: usize,
        _: usize,
    ) -> Read<'a, Vec<CoolingApproval>> {
        not_asked()
    }

    fn approvals<'a>(
        &'a self,
        _: &'a Scope,
        _: ApprovalFilter,
        _: PageRequest<ApprovalId>,
    ) -> Read<'a, Vec<ApprovalRequest>> {
        not_asked()
    }

    fn approval_rules<'a>(&'a self, _: &'a Scope) -> Read<'a, Vec<ApprovalRuleRecord>> {
        not_asked()
    }

    fn budgets<'a>(&'a self, _: &'a Scope, _: jiff::Timestamp) -> Read<'a, Vec<BudgetUse>> {
        not_asked()
    }

    fn token_by_id<'a>(&'a self, _: &'a Scope, _: TokenId) -> Read<'a, Option<TokenRecord>> {
        not_asked()
    }

    fn open_runs<'a>(
        &'a self,
        _: &'a OperatorScope,
        _: PageRequest<(TenantId, RunId)>,
    ) -> Read<'a, Vec<OpenRun>> {
        not_asked()
    }

    fn parked_runs<'a>(
        &'a self,
        _: &'a OperatorScope,
        _: PageRequest<(Timestamp, TenantId, RunId)>,
    ) -> Read<'a, Vec<OpenRun>> {
        not_asked()
    }

    fn pending_sessions<'a>(
        &'a self,
        _: &'a OperatorScope,
        _: PageRequest<(TenantId, SessionId)>,
    ) -> Read<'a, Vec<PendingSession>> {
        not_asked()
    }

    fn deleting_agents<'a>(&'a self, _: &'a OperatorScope) -> Read<'a, Vec<(TenantId, AgentId)>> {
        not_asked()
    }

    fn agents<'a>(
        &'a self,
        _: &'a Scope,
        _: Option<AgentState>,
        _: PageRequest<AgentId>,
    ) -> Read<'a, Vec<AgentRecord>> {
        not_asked()
    }

    fn agent_by_handle<'a>(&'a self, _: &'a Scope, _: &'a HandleSlug) -> Read<'a, Option<AgentRecord>> {
        not_asked()
    }

    fn agent_revision<'a>(&'a self, _: &'a Scope, _: AgentId, _: Digest) -> Read<'a, Option<AgentRevision>> {
        not_asked()
    }

    fn session_by_key<'a>(
        &'a self,
        _: &'a Scope,
        _: AgentId,
        _: &'a SessionKey,
    ) -> Read<'a, Option<SessionRecord>> {
        not_asked()
    }

    fn sessions<'a>(
        &'a self,
        _: &'a Scope,
        _: Option<AgentId>,
        _: PageRequest<SessionId>,
    ) -> Read<'a, Vec<SessionRecord>> {
        not_asked()
    }

    fn session_tail<'a>(
        &'a self,
        _: &'a Scope,
        _: SessionId,
        _: TailLimits,
    ) -> Read<'a, Option<SessionTail>> {
        not_asked()
    }

    fn run<'a>(&'a self, _: &'a Scope, _: RunId) -> Read<'a, Option<RunRecord>> {
        not_asked()
    }

    fn runs<'a>(&'a self, _: &'a Scope, _: RunFilter, _: PageRequest<RunId>) -> Read<'a, Vec<RunRecord>> {
        not_asked()
    }

    fn run_spending<'a>(
        &'a self,
        _: &'a Scope,
        _: RunFilter,
        _: PageRequest<RunId>,
    ) -> Read<'a, Vec<RunSpending>> {
        not_asked()
    }

    fn journal_entries<'a>(&'a self, _: &'a Scope, _: RunId, _: u64, _: usize) -> Read<'a, Vec<StoredEntry>> {
        not_asked()
    }

    fn inbox_items<'a>(&'a self, _: &'a Scope, _: InboxOwner, _: u64, _: usize) -> Read<'a, Vec<InboxItem>> {
        not_asked()
    }

    fn find_keyed_item<'a>(
        &'a self,
        _: &'a Scope,
        _: &'a str,
        _: Timestamp,
    ) -> Read<'a, Option<dromia_contracts::store::KeyedItem>> {
        not_asked()
    }

    fn pinned_text<'a>(&'a self, _: &'a Scope, _: Digest) -> Read<'a, Option<Bytes>> {
        not_asked()
    }

    fn session_state<'a>(
        &'a self,
        _: &'a Scope,
        _: SessionId,
        _: PageRequest<&'a str>,
    ) -> Read<'a, Vec<StateEntry>> {
        not_asked()
    }

    fn state_entry<'a>(&'a self, _: &'a Scope, _: SessionId, _: &'a str) -> Read<'a, Option<StateEntry>> {
        not_asked()
    }

    fn delivery_record<'a>(&'a self, _: &'a Scope, _: DeliveryId) -> Read<'a, Option<DeliveryRecord>> {
        not_asked()
    }

    fn deliveries<'a>(
        &'a self,
        _: &'a Scope,
        _: DeliveryFilter,
        _: PageRequest<DeliveryId>,
    ) -> Read<'a, Vec<DeliverySummary>> {
        not_asked()
    }

    fn open_deliveries<'a>(
        &'a self,
        _: &'a OperatorScope,
        _: PageRequest<(TenantId, String)>,
    ) -> Read<'a, Vec<OpenDelivery>> {
        not_asked()
    }

    fn outbox_waiting<'a>(&'a self, _: &'a OperatorScope, _: TenantId, _: &'a str) -> Read<'a, u64> {
        not_asked()
    }

    fn unnumbered_deliveries<'a>(
        &'a self,
        _: &'a OperatorScope,
        _: Option<TenantId>,
        _: usize,
    ) -> Read<'a, Vec<(TenantId, DeliveryId)>> {
        not_asked()
    }

    fn feed_items<'a>(&'a self, _: &'a Scope, _: u64, _: usize) -> Read<'a, Vec<FeedItem>> {
        not_asked()
    }

    fn feed_state<'a>(&'a self, _: &'a Scope) -> Read<'a, FeedState> {
        not_asked()
    }

    fn vault_key<'a>(&'a self, _: &'a Scope) -> Read<'a, Option<Bytes>> {
        not_asked()
    }

    fn secrets<'a>(&'a self, _: &'a Scope, _: PageRequest<&'a str>) -> Read<'a, Vec<SealedSecret>> {
        not_asked()
    }

    fn secret<'a>(&'a self, _: &'a Scope, _: &'a str) -> Read<'a, Option<SealedSecret>> {
        not_asked()
    }

    fn capabilities<'a>(
        &'a self,
        _: &'a Scope,
        _: PageRequest<CapabilityId>,
    ) -> Read<'a, Vec<CapabilityRecord>> {
        not_asked()
    }

    fn file_label<'a>(&'a self, scope: &'a Scope, agent: AgentId, path: &'a str) -> Read<'a, KnownFile> {
        is_of_caller(scope, agent);
        let inner = self.index.inner();
        if inner.is_shut {
            return not_asked();
        }
        found(KnownFile { file: inner.file(path), rest: inner.rest.unwrap_or(Label::PUBLIC_FACT) })
    }

    fn file_labels<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        page: PageRequest<&'a str>,
    ) -> Read<'a, Vec<(String, FileLabel)>> {
        is_of_caller(scope, agent);
        let inner = self.index.inner();
        if inner.is_shut {
            return not_asked();
        }
        let paths = inner.files.keys().filter(|path| page.after.is_none_or(|after| path.as_str() > after));
        let file = |path: &String| Some((path.clone(), inner.file(path)?));
        found(paths.take(page.limit).filter_map(file).collect())
    }

    fn erase_agent_page<'a>(&'a self, _: &'a Scope, _: AgentId) -> Read<'a, (ErasureCounts, bool)> {
        not_asked()
    }

    fn store_health(&self) -> StoreHealth {
        StoreHealth { read_only: None, damaged: None, wal_bytes: 0, file_bytes: 0 }
    }

    fn store_stats(&self) -> StoreStats {
        StoreStats::default()
    }
}
