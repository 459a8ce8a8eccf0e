//! The policy workers of a server: a bounded number of processes that evaluate what operators and tenants wrote.
//!
//! Each has a thread here that hands it one question at a time and ends it where it gives no answer in time; the next question
//! starts another. Tenants take turns, and what one of them waits for holds no worker that is the first of another
//! ([`queue`]). An idle worker ends. What it refuses to do: decide anything, and try a question again that a worker died of.

mod process;
mod queue;

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dromia_contracts::id::TenantId;
use serde_json::Value;
use tokio::sync::oneshot;

pub use self::process::{GRACE, LOAD_TIME_MAX};
use self::queue::QuestionQueue;
pub use self::queue::{TENANT_WORKERS_MAX, WAITING_MAX, WORKERS_MAX};
use super::PolicyLayers;
use super::layer::{PolicyLayer, PolicyText, RuleVerdict};
use super::policy_tests::TestEnd;
use super::problem::PolicyProblem;
use super::samples;

/// How long an idle worker is kept.
pub const IDLE_MAX: Duration = Duration::from_mins(1);
/// How long a question waits for a worker.
pub const WAIT_MAX: Duration = Duration::from_secs(5);

/// What each of the layers says, in their order; one that broke is the last.
pub(super) type SaidByEach = Vec<Result<Vec<RuleVerdict>, PolicyProblem>>;

/// The workers. A clone is a handle to the same ones.
#[derive(Debug, Clone)]
pub struct PolicyWorkers {
    shared: Arc<WorkerPool>,
}

#[derive(Debug)]
struct WorkerPool {
    program: PathBuf,
    state: Mutex<WorkerPoolState>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct WorkerPoolState {
    turns: QuestionQueue<QueuedQuestion>,
    threads: usize,
    idle: usize,
}

/// A question that waits for a worker.
#[derive(Debug)]
struct QueuedQuestion {
    layers: Arc<PolicyLayers>,
    tenant: TenantId,
    asked: Value,
    since: Instant,
    answer: oneshot::Sender<SaidByEach>,
}

impl PolicyWorkers {
    /// Workers that are this program started again; `main` must call [`enter_worker`](super::enter_worker).
    pub fn of_this_program() -> Self {
        Self::from_program("/proc/self/exe")
    }

    /// Workers that are another program, which must do the same.
    pub fn from_program(program: impl Into<PathBuf>) -> Self {
        let shared = WorkerPool { program: program.into(), state: Mutex::default(), wake: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Asks the layers of a tenant below the built-in one.
    pub(super) async fn ask_workers(
        &self,
        layers: Arc<PolicyLayers>,
        tenant: TenantId,
        question: Value,
    ) -> SaidByEach {
        let (answer, answered) = oneshot::channel();
        let question = QueuedQuestion { layers, tenant, asked: question, since: Instant::now(), answer };
        if let Err(problem) = self.enqueue_question(question) {
            return vec![Err(problem)];
        }
        let lost = |_| vec![Err(PolicyProblem::in_file("policy", "its worker was lost"))];
        answered.await.unwrap_or_else(lost)
    }

    /// Asks layers every sample in a worker of its own, and says what one of them cannot answer.
    fn probe_layers<'layer>(
        &self,
        mut layers: impl Iterator<Item = &'layer PolicyLayer>,
    ) -> Result<(), PolicyProblem> {
        let mut process = None;
        layers.try_for_each(|layer| {
            samples::all_samples().iter().try_for_each(|sample| {
                let said = process::ask_layer(&mut process, &self.shared.program, layer, &sample.question);
                said.map(drop).map_err(|problem| sample.with_subject(problem))
            })
        })
    }

    /// Runs the tests of a layer in a worker of their own, in the order of their names.
    pub fn run_tests(&self, name: &str, files: &[PolicyText]) -> Result<Vec<TestEnd>, PolicyProblem> {
        process::run_tests(&self.shared.program, name, files)
    }

    /// Puts a question in its tenant's row, and makes a worker for it where none is idle.
    fn enqueue_question(&self, question: QueuedQuestion) -> Result<(), PolicyProblem> {
        let mut state = self.shared.lock_state();
        if !state.turns.push_question(question.tenant, question) {
            let problem = format!("{WAITING_MAX} questions of this tenant already wait for it");
            return Err(PolicyProblem::in_file("policy", problem));
        }
        if state.turns.ready_count() > state.idle && state.threads < WORKERS_MAX {
            let shared = Arc::clone(&self.shared);
            let named = std::thread::Builder::new().name("policy-worker".to_owned());
            match named.spawn(move || work_questions(&shared)) {
                Ok(_) => state.threads += 1,
                // Those that are there take it in their turn.
                Err(_) if state.threads > 0 => {}
                Err(error) => {
                    return Err(PolicyProblem::in_file(
                        "policy",
                        format!("failed to start a thread for its worker: {error}"),
                    ));
                }
            }
        }
        drop(state);
        self.shared.wake.notify_one();
        Ok(())
    }
}

/// Hands questions to one worker until there is none for a while.
fn work_questions(shared: &WorkerPool) {
    let mut process = None;
    while let Some(question) = shared.next() {
        let QueuedQuestion { layers, tenant, asked, since, answer } = question;
        let turn = WorkerLease { shared, tenant };
        let said = if since.elapsed() > WAIT_MAX {
            let problem = "no worker was free in time, because earlier questions of this tenant are still \
                           running";
            vec![Err(PolicyProblem::in_file("policy", problem))]
        } else if answer.is_closed() {
            Vec::new()
        } else {
            ask_each(layers.for_tenant(tenant), |layer| {
                process::ask_layer(&mut process, &shared.program, layer, &asked)
            })
        };
        drop(turn);
        // The caller may be gone.
        drop(answer.send(said));
    }
}

/// Asks layers one after the other; one that breaks is the last.
fn ask_each<'layer>(
    layers: impl Iterator<Item = &'layer PolicyLayer>,
    mut ask: impl FnMut(&'layer PolicyLayer) -> Result<Vec<RuleVerdict>, PolicyProblem>,
) -> SaidByEach {
    let mut said = Vec::new();
    for layer in layers {
        said.push(ask(layer));
        if said.last().is_some_and(Result::is_err) {
            break;
        }
    }
    said
}

/// A worker that is a tenant's for one question.
struct WorkerLease<'shared> {
    shared: &'shared WorkerPool,
    tenant: TenantId,
}

impl Drop for WorkerLease<'_> {
    fn drop(&mut self) {
        // What may begin by this is one question, and the thread that ends this one looks next.
        self.shared.lock_state().turns.finish_question(self.tenant);
    }
}

impl WorkerPool {
    fn lock_state(&self) -> MutexGuard<'_, WorkerPoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next question whose turn it is; nothing once none came for a while, and the thread is counted no more.
    fn next(&self) -> Option<QueuedQuestion> {
        let mut state = self.lock_state();
        let end = Instant::now() + IDLE_MAX;
        loop {
            if let Some(question) = state.turns.next() {
                return Some(question);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.threads -= 1;
                return None;
            }
            state.idle += 1;
            let (woken, _) = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
        }
    }
}

/// Where the layers below the built-in one are evaluated. A clone is a handle to the same.
#[derive(Debug, Clone, Default)]
pub enum PolicyEvaluator {
    /// In this process, which a policy can end or hold: for a caller's own policies, as in tests.
    #[default]
    Here,
    /// In workers.
    Apart(PolicyWorkers),
}

impl PolicyEvaluator {
    /// Asks every layer the samples, and says what one of them cannot answer.
    pub fn probe_samples(&self, layers: &PolicyLayers) -> Result<(), PolicyProblem> {
        match self {
            Self::Here => layers.all_layers().try_for_each(PolicyLayer::probe_samples),
            Self::Apart(workers) => workers.probe_layers(layers.all_layers()),
        }
    }

    /// Asks the layers of a tenant below the built-in one.
    pub(super) async fn evaluate_layers(
        &self,
        layers: Arc<PolicyLayers>,
        tenant: TenantId,
        question: Value,
    ) -> SaidByEach {
        match self {
            Self::Here => {
                let question = regorus::Value::from(question);
                ask_each(layers.for_tenant(tenant), |layer| layer.ask_question(&question))
            }
            Self::Apart(workers) => workers.ask_workers(layers, tenant, question).await,
        }
    }
}
