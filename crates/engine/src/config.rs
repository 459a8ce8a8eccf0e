//! What the operator decides about the engine, with its defaults.

use std::collections::BTreeMap;

use dromia_contracts::Actor;
use dromia_contracts::agent::HandleSlug;
use dromia_contracts::approval::{BoundFiles, DeclaredRule};
use dromia_contracts::encoded_request::TaintedPast;
use dromia_contracts::retention::RetentionPolicy;
use jiff::SignedDuration;

/// Settings of the engine. Every one of them has a key in `dromia.yaml`, but for what the machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// The most runs that have a task at once.
    pub active_max: usize,
    /// How many processors the process may use, by which steps of runs are counted.
    pub processors: usize,
    /// The most model calls of one run, where its agent sets none.
    pub model_calls_max: u32,
    /// How long a run of a worker may begin model calls.
    pub worker_deadline: SignedDuration,
    /// The most tokens of one answer.
    pub output_tokens_max: u32,
    /// How often the same call may be made among the last `loop_window` calls, with nothing new in between or with the same
    /// result, before it is refused; 0 refuses none.
    pub loop_same: usize,
    /// How many of the last calls count, at most [`crate::state::RECENT_MAX`].
    pub loop_window: usize,
    /// How many consecutive messages between agents and delayed calls may lead to a call that is delayed.
    pub hops_max: u32,
    /// The window that a model is taken to have whose own is not known, in tokens.
    pub window_tokens: u32,
    /// How a new run gets the untrusted parts of earlier turns.
    pub tainted_past: TaintedPast,
    /// How calls that need a person's approval are asked for.
    pub approvals: ApprovalsConfig,
    /// How long sessions stay.
    pub retention: RetentionConfig,
    /// The second model that judges calls which cannot be undone before they begin, if one is configured.
    pub second_opinion: Option<SecondOpinion>,
}

/// How long sessions stay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionConfig {
    /// Those of tenants without a policy of their own.
    pub default: RetentionPolicy,
    /// Those of tenants with one, by handle.
    pub of_tenants: BTreeMap<HandleSlug, RetentionPolicy>,
}

/// A second model that is asked about calls that cannot be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondOpinion {
    /// The alias of the model.
    pub model: String,
    /// How many times it is asked about a call, at most [`dromia_contracts::opinion::SAMPLES_MAX`].
    pub samples: u32,
    /// How many of its answers must have nothing against the call; more than half of them in any case.
    pub agree: u32,
    /// What becomes of a call that it does not agree to.
    pub objection: ObjectionAction,
}

/// What becomes of a call that a second model does not agree to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectionAction {
    /// It begins after its delay, unless a person refuses it before.
    Delay,
    /// A person must allow it.
    Ask,
    /// It is refused.
    Abort,
}

/// How calls that need a person's approval are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalsConfig {
    /// How long a run waits for an answer before it goes on without the call.
    pub hold: SignedDuration,
    /// How long an approval may be answered; at least as long as a run waits.
    pub expire: SignedDuration,
    /// How long a delayed call may be refused before it begins by itself.
    pub cooling: SignedDuration,
    /// The actors who may answer; if empty, every actor with the scope.
    pub approvers: Vec<Actor>,
    /// The platforms of sessions without a person: a call that needs an approval there is refused.
    pub unattended: Vec<String>,
    /// Which files a call is bound to that runs a program.
    pub files: BoundFiles,
    /// The rules that answer for every tenant.
    pub rules: Vec<DeclaredRule>,
}

impl Default for ApprovalsConfig {
    fn default() -> Self {
        Self {
            hold: SignedDuration::from_mins(2),
            expire: SignedDuration::from_hours(24),
            cooling: SignedDuration::from_mins(10),
            approvers: Vec::new(),
            unattended: dromia_contracts::channel::CHANNEL_PLATFORMS.map(str::to_owned).to_vec(),
            files: BoundFiles::default(),
            rules: Vec::new(),
        }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            active_max: 1024,
            processors: 2,
            model_calls_max: 50,
            worker_deadline: SignedDuration::from_mins(30),
            output_tokens_max: 4096,
            loop_same: 12,
            loop_window: 24,
            hops_max: 16,
            window_tokens: 32_768,
            tainted_past: TaintedPast::Handle,
            approvals: ApprovalsConfig::default(),
            retention: RetentionConfig::default(),
            second_opinion: None,
        }
    }
}

/// The most bytes of one input.
pub const INPUT_BYTES_MAX: usize = 512 * 1024;
/// The most bytes of the arguments of a call by hand: they are in the input and in the entry, in one batch.
pub const CALL_BYTES_MAX: usize = 128 * 1024;
/// The most bytes of an agent's instructions: they are pinned by the batch that carries its first input.
pub const INSTRUCTIONS_BYTES_MAX: usize = 64 * 1024;
/// The most sessions and runs of one tenant that wait in memory; the rest wait in the store.
pub const READY_MAX: usize = 16 * 1024;
/// One part in so many of the active runs that no tenant takes alone; where there are fewer, there is no such part.
pub const ACTIVE_RESERVE_PART: usize = 8;
/// How many steps of runs and inputs a tenant takes that works alone, for each processor: enough that what is committed together
/// fills a group of the store.
pub const STEPS_ALONE: usize = 64;
/// How many tenants share that work at the same time, for each processor.
pub const STEPS_SHARED: usize = 4;
/// The most agent snapshots kept in memory.
pub const SNAPSHOTS_MAX: usize = 4096;
/// The most session keys kept in memory.
pub const SESSION_KEYS_MAX: usize = 16 * 1024;
/// Live pieces that a slow watcher may fall behind before it gets a lag notice.
pub const WATCH_BUFFER: usize = 256;
/// How long the answers of a second model are waited for, in seconds.
pub const OPINION_SECONDS: u64 = 60;
/// The most tokens of one answer of a second model: one word, and room for a model that thinks before it says it.
pub const OPINION_TOKENS_MAX: u32 = 1024;
/// The most bytes of what actors typed that a second model is shown, the newest first.
pub const OPINION_TYPED_BYTES_MAX: usize = 16 * 1024;
/// The most callers of one tenant that wait for answers.
pub const WAITERS_MAX: usize = 16 * 1024;
/// The most erasures at once that the engine goes on with by itself; a tenant has one of them.
pub const ERASURES_MAX: usize = 4;
/// The longest time between two looks at the store for parked runs and lost ones.
pub const JANITOR_SECONDS: i64 = 5;
