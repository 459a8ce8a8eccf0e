//! The port to process isolation: what a process may have, what it says, how it ended.
//!
//! A [`ProcessSpec`] names everything that a process gets; what it does not name, the process does not have. No process
//! gets a network; one that is to have a way out gets a door ([`Network::Proxy`]), behind which whoever started it
//! answers. No shell is involved: the words of `argv` are executed as they stand. Without a backend that can keep the spec nothing runs ([`SandboxError::Unavailable`]).

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::label::Label;
use crate::{AgentId, BoxFuture, RunId, TenantId};

/// How much stands between a process and this machine. A tier comes with its first backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// The kernel's own walls: a defect of the kernel crosses them.
    Process,
    /// A kernel of its own answers the process's calls, and is itself behind the walls of this machine's kernel: a defect
    /// of one of the two is not enough.
    Guest,
    /// A virtual machine: its kernel runs on a processor's own walls, and what emulates its devices is behind the walls
    /// of this machine's kernel.
    Machine,
}

impl Tier {
    /// Returns the short name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "T1",
            Self::Guest => "T2",
            Self::Machine => "T3",
        }
    }
}

/// How strong the walls of a backend are, for whoever asks for stronger ones than any that will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Walls inside of this machine's own file system and process numbers.
    Base,
    /// A file system and process numbers of their own, or more than that.
    Strict,
}

impl Level {
    /// Returns the short name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Strict => "strict",
        }
    }

    /// Tells how strong a backend is: only the lowest level of the native one is weaker than strict.
    pub fn of(sandbox: &dyn Sandbox) -> Self {
        if sandbox.name().ends_with("/base") { Self::Base } else { Self::Strict }
    }
}

/// What one process, and all that it starts, may use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Processor time in milliseconds.
    pub cpu_ms: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Wall time in milliseconds.
    pub wall_ms: u64,
    /// Bytes of standard output and standard error together.
    pub output_bytes: u64,
    /// Processes and threads at a time.
    pub processes: u32,
    /// Bytes that may lie in the workspace, and in each directory for temporary files.
    pub disk_bytes: u64,
}

impl Limits {
    /// What a call gets that asks for nothing else.
    pub const DEFAULT: Self = Self {
        cpu_ms: 60_000,
        memory_bytes: 1 << 30,
        wall_ms: 120_000,
        output_bytes: 4 << 20,
        processes: 128,
        disk_bytes: 1 << 30,
    };
}

/// A file or directory of this machine that the process may read and execute beside the system's programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Where it lies on this machine.
    pub source: PathBuf,
    /// Where the process finds it, if the backend gives it a file system of its own; see [`Sandbox::place`].
    pub target: PathBuf,
    /// Whether the process may change it.
    pub writable: bool,
}

/// What a process may reach.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nothing.
    #[default]
    None,
    /// One proxy for HTTP, at a loopback address of its own: whoever started the process accepts its connections (see
    /// [`Process::take_door`]). Variables of its environment name it.
    Proxy,
}

impl Network {
    /// Returns the short name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Proxy => "proxy",
        }
    }
}

/// Whose programs may meet what earlier ones left in their directories for temporary files: those of one run of one agent,
/// as long as the label of what the run has seen stays the same. Nothing that runs is ever met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// The run. What it has others do are runs of their own.
    pub run: RunId,
    /// The agent.
    pub agent: AgentId,
    /// The label of everything that the run has seen.
    pub label: Label,
}

/// Everything that a process gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    /// The program and its arguments, executed as they stand.
    pub argv: Vec<String>,
    /// The whole environment beside the few names that the backend sets: `PATH`, `HOME`, `LANG`, `TMPDIR`.
    pub env: Vec<(String, String)>,
    /// The directory of this machine that the process works in and may change.
    pub workspace: PathBuf,
    /// Where in the workspace it starts; empty for the workspace itself.
    pub cwd: PathBuf,
    /// What else it may see.
    pub mounts: Vec<Mount>,
    /// What it may use.
    pub limits: Limits,
    /// What it may reach. A backend that cannot keep it apart from everything else refuses to start.
    pub network: Network,
    /// Whose it is, if a backend may keep walls warm for the next program of the same.
    pub family: Option<Family>,
}

/// Which limit ended a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
    /// Wall time.
    Time,
    /// Output.
    Output,
    /// Number of processes.
    Processes,
    /// Bytes in the workspace, or of one file.
    Disk,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "processor time",
            Self::Memory => "memory",
            Self::Time => "time",
            Self::Output => "output",
            Self::Processes => "number of processes",
            Self::Disk => "disk",
        })
    }
}

/// How a process ended. Nothing that it started outlives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Ending {
    /// It ended by itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal ended it.
    Signalled {
        /// The number of the signal.
        signal: i32,
    },
    /// It was ended because it reached a limit.
    Killed {
        /// Which one.
        limit: Limit,
    },
    /// It was ended because its handle asked for it or is gone.
    Stopped,
    /// The program could not be started; nothing of it ran.
    NotStarted {
        /// Why, for the model and for people.
        problem: String,
    },
    /// What watched over it is gone; all of it was ended, and what it had done is not known.
    Lost,
}

/// Which of its two outputs a process wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// What a process tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEvent {
    /// It wrote something; at most [`PIECE_BYTES_MAX`] bytes at a time.
    Output {
        /// Where to.
        stream: Stream,
        /// What.
        bytes: Bytes,
    },
    /// It ended; the last event.
    Ended(Ending),
}

/// The longest piece of output in one event.
pub const PIECE_BYTES_MAX: usize = 16 << 10;

/// Why nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// This machine cannot keep the spec, so nothing runs.
    #[error("no sandbox, so nothing runs: {missing}; {fix}")]
    Unavailable {
        /// What is missing.
        missing: String,
        /// What adds it.
        fix: String,
    },
    /// The spec asks for something that no process gets.
    #[error("{place}: {problem}")]
    Spec {
        /// The part of the spec.
        place: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The process that watches over the other one could not be started.
    #[error("failed to start the sandbox: {problem}")]
    Start {
        /// What the system said.
        problem: String,
    },
}

/// A running process.
///
/// Guarantee: dropping it ends the process and everything that it started.
pub trait Process: Send + fmt::Debug {
    /// Waits for the next event; nothing after [`ProcessEvent::Ended`]. A process that writes faster than this is
    /// called is made to wait. Dropping the future loses nothing.
    fn next(&mut self) -> BoxFuture<'_, Option<ProcessEvent>>;

    /// Asks for the end; the next events are what it still wrote, and its end.
    fn stop(&mut self);

    /// Gives the socket away at which the process finds its proxy, once, if its spec asks for one. It does not block,
    /// and nothing but the process can reach it.
    fn take_door(&mut self) -> Option<TcpListener>;
}

/// The port to one backend of process isolation.
///
/// Guarantee: a process started here has what its spec names and nothing else, reaches no network but the door that its
/// spec asks for, and dies with this program, however this program ends.
pub trait Sandbox: Send + Sync + fmt::Debug {
    /// Returns the backend's name with its level, such as `native/strict`.
    fn name(&self) -> &'static str;

    /// Returns how much stands between a process and this machine.
    fn tier(&self) -> Tier;

    /// Returns where the process finds its workspace.
    fn workspace(&self, spec: &ProcessSpec) -> PathBuf;

    /// Returns where the process finds a mount.
    fn place<'mount>(&self, mount: &'mount Mount) -> &'mount Path;

    /// Starts a process.
    fn start(&self, spec: ProcessSpec) -> BoxFuture<'_, Result<Box<dyn Process>, SandboxError>>;

    /// Takes down whatever is kept warm for a run, which has come to rest. Most backends keep nothing.
    fn let_go(&self, _run: RunId) {}
}

/// Whoever knows which backends this machine has, and which of them are strong enough for whom.
pub trait Sandboxes: Send + Sync + fmt::Debug {
    /// Picks a backend that is strong enough for programs of a tenant's agents; without one nothing runs.
    fn pick(&self, tenant: TenantId) -> BoxFuture<'_, Result<Arc<dyn Sandbox>, SandboxError>>;

    /// Takes down whatever is kept warm for a run, which has come to rest.
    fn let_go(&self, _run: RunId) {}

    /// Picks as [`Sandboxes::pick`] does, but nothing weaker than `least`.
    fn pick_at_least(
        &self,
        tenant: TenantId,
        least: Level,
    ) -> BoxFuture<'_, Result<Arc<dyn Sandbox>, SandboxError>> {
        Box::pin(async move {
            let sandbox = self.pick(tenant).await?;
            if Level::of(&*sandbox) >= least {
                return Ok(sandbox);
            }
            Err(SandboxError::Unavailable {
                missing: format!(
                    "{} is weaker than {}, which this tool asks for",
                    sandbox.name(),
                    least.as_str()
                ),
                fix: "look for what adds stronger walls with `dromia doctor --only sandbox`".to_owned(),
            })
        })
    }
}
