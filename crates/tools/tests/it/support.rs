//! A toolbox on a temporary home, with a clock that moves by hand.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::compute::ComputeHere;
use dromia_contracts::content::{ToolCall, parts_text};
use dromia_contracts::egress::{
    EgressBody, EgressClient, EgressError, EgressFault, EgressRequest, EgressResponse, EgressTunnel,
    TunnelRequest,
};
use dromia_contracts::label::Label;
use dromia_contracts::lease::NodeLife;
use dromia_contracts::runtime::{Clock, IdSource, Runtime, TaskSpawner};
use dromia_contracts::sandbox::SandboxSelector;
use dromia_contracts::scope::{Actor, Scope, ScopeAuthority};
use dromia_contracts::tool::{
    CallProgressSink, DiscardProgress, PreparedCall, ToolContext, ToolHost, ToolOutput,
};
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::vault::{LeakDetector, NoSecrets, SecretMatch, SecretScanner};
use dromia_contracts::workspace::RunWorkspace;
use dromia_contracts::{AgentId, BoxFuture, CallId, Fault, RunId, SessionId, TenantId};
use dromia_tools::{CallSettings, Toolbox, ToolsConfig};
use jiff::Timestamp;
use uuid::Uuid;

use crate::index::IndexStore;
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
    pub(crate) index: Arc<IndexStore>,
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
        Self::on(Some(machine), AgentState::Running, None, (ToolTerms::default(), Vec::new()), leaks)
    }

    /// A bench whose operator lists a root for workspaces.
    pub(crate) fn rooted(root: &std::path::Path) -> Self {
        let said = (ToolTerms::default(), vec![root.to_owned()]);
        Self::on(None, AgentState::Running, None, said, Arc::new(NoSecrets))
    }

    fn built(
        colleague: AgentState,
        pace: Option<Duration>,
        terms: ToolTerms,
        leaks: Arc<dyn LeakDetector>,
    ) -> Self {
        Self::on(None, colleague, pace, (terms, Vec::new()), leaks)
    }

    /// Without a machine, sandboxes are played.
    fn on(
        machine: Option<Arc<dyn SandboxSelector>>,
        colleague: AgentState,
        pace: Option<Duration>,
        (terms, roots): (ToolTerms, Vec<PathBuf>),
        leaks: Arc<dyn LeakDetector>,
    ) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let clock = Arc::new(StillClock::default());
        let runtime = Runtime {
            clock: clock.clone(),
            ids: Arc::new(Counter::default()),
            spawn: Arc::new(Nowhere),
            compute: Arc::new(ComputeHere),
            life: Arc::new(NodeLife::new("test", [1; 32])),
        };
        let sandboxes = Arc::new(Played::default());
        let line = Arc::new(ToldLine::default());
        let config = ToolsConfig {
            root: home.path().to_owned(),
            calls: CallSettings {
                pace,
                hops_max: HOPS_MAX,
                granted: Arc::clone(&line) as _,
                programs: Arc::clone(&line) as _,
            },
            sandboxes: machine.unwrap_or_else(|| Arc::clone(&sandboxes) as _),
            terms: Arc::new(terms.clone()),
            leaks,
            workspace_roots: Arc::new(roots),
        };
        let index = Arc::new(IndexStore::with_colleague(colleague));
        let toolbox = Toolbox::new(config, Arc::clone(&index) as _, runtime);
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
        let call = self
            .toolbox
            .prepare_call(&self.toolbox.shared_catalogue(), &call)
            .unwrap_or_else(|error| panic!("{tool} {arguments}: {error}"));
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
        origin: None,
        position: 1,
        label: Label::ACTOR_TEXT,
        past: Arc::default(),
        key: CALL.idempotency_key(run),
        workspace: RunWorkspace::Home,
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
