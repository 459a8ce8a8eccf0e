//! The port to process isolation: what a process may have, what it says, how it ended.
//!
//! A [`ProcessSpec`] names everything that a process gets; what it does not name, the process does not have. No process
//! gets a network; one with a way out gets a socket to a proxy ([`NetworkAccess::Proxy`]), which its starter serves. No
//! shell is involved: the words of `argv` are executed as they are. Without a backend that can keep the spec nothing
//! runs ([`SandboxError::Unavailable`]).

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::label::Label;
use crate::{AgentId, BoxFuture, RunId, TenantId};

/// How strongly a process is isolated from this machine. A tier comes with its first backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IsolationTier {
    /// The kernel's own isolation: a defect of the kernel breaks it.
    Process,
    /// A kernel of its own answers the process's calls, and is itself isolated by this machine's kernel: a defect of
    /// one of the two is not enough.
    Guest,
    /// A virtual machine: the processor isolates its kernel, and this machine's kernel isolates what emulates its
    /// devices.
    Machine,
}

impl IsolationTier {
    /// Returns the short name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "T1",
            Self::Guest => "T2",
            Self::Machine => "T3",
        }
    }
}

/// How strong the isolation of a backend is, for tools that ask for more than any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IsolationLevel {
    /// Isolation within this machine's own file system and process numbers.
    Base,
    /// A file system and process numbers of their own, or more than that.
    Strict,
}

impl IsolationLevel {
    /// Returns the short name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Strict => "strict",
        }
    }

    /// Returns how strong a backend is: only the lowest level of the native one is weaker than strict.
    pub fn of_backend(sandbox: &dyn SandboxBackend) -> Self {
        if sandbox.backend_name().ends_with("/base") { Self::Base } else { Self::Strict }
    }
}

/// What one process, and all that it starts, may use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessLimits {
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

impl ProcessLimits {
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
pub struct SandboxMount {
    /// Where it lies on this machine.
    pub source: PathBuf,
    /// Where the process finds it, if the backend gives it a file system of its own; see [`SandboxBackend::mount_path`].
    pub target: PathBuf,
    /// Whether the process may change it.
    pub writable: bool,
}

/// What a process may reach.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NetworkAccess {
    /// Nothing.
    #[default]
    None,
    /// One proxy for HTTP, at a loopback address of its own: the starter of the process accepts its connections (see
    /// [`SandboxProcess::take_proxy_socket`]). Variables of its environment name it.
    Proxy,
}

impl NetworkAccess {
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
pub struct SandboxFamily {
    /// The run. What it has others do are runs of their own.
    pub run: RunId,
    /// The agent.
    pub agent: AgentId,
    /// The label of everything that the run has seen.
    pub label: Label,
}

/// A directory by what the kernel knows it by: its path may lead elsewhere by the time that it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferencedDirectory {
    /// The device that it lies on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Whether nothing may be changed in it.
    pub read_only: bool,
}

/// Everything that a process gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    /// The program and its arguments, executed as they are.
    pub argv: Vec<String>,
    /// The whole environment beside the few names that the backend sets: `PATH`, `HOME`, `LANG`, `TMPDIR`.
    pub env: Vec<(String, String)>,
    /// The directory of this machine that the process works in and may change.
    pub workspace: PathBuf,
    /// Which directory `workspace` must be, where it lies outside of the server's home. A backend that cannot see to it
    /// refuses to start.
    pub reference: Option<ReferencedDirectory>,
    /// Where in the workspace it starts; empty for the workspace itself.
    pub cwd: PathBuf,
    /// What else it may see.
    pub mounts: Vec<SandboxMount>,
    /// What it may use.
    pub limits: ProcessLimits,
    /// What it may reach. A backend that cannot keep it apart from everything else refuses to start.
    pub network: NetworkAccess,
    /// Whose it is, if a backend may keep a sandbox warm for the next program of the same.
    pub family: Option<SandboxFamily>,
}

/// Which limit ended a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
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

impl fmt::Display for LimitKind {
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
pub enum ProcessExit {
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
        limit: LimitKind,
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
pub enum OutputStream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// What a process reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEvent {
    /// It wrote something; at most [`PIECE_BYTES_MAX`] bytes at a time.
    Output {
        /// Where to.
        stream: OutputStream,
        /// What.
        bytes: Bytes,
    },
    /// It ended; the last event.
    Ended(ProcessExit),
}

/// The longest piece of output in one event.
pub const PIECE_BYTES_MAX: usize = 16 << 10;

/// Why nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// This machine cannot keep the spec, so nothing runs.
    #[error("there is no sandbox, so nothing runs: {missing}; {fix}")]
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
pub trait SandboxProcess: Send + fmt::Debug {
    /// Waits for the next event; nothing after [`ProcessEvent::Ended`]. A process that writes faster than this is
    /// called is made to wait. Dropping the future loses nothing.
    fn next(&mut self) -> BoxFuture<'_, Option<ProcessEvent>>;

    /// Asks for the end; the next events are what it still wrote, and its end.
    fn stop(&mut self);

    /// Gives the socket away at which the process finds its proxy, once, if its spec asks for one. It does not block,
    /// and nothing but the process can reach it.
    fn take_proxy_socket(&mut self) -> Option<TcpListener>;
}

/// Where the workspace lies for backends with a file system of their own.
pub const WORKSPACE: &str = "/workspace";

/// The port to one backend of process isolation.
///
/// Guarantee: a process started here has what its spec names and nothing else, reaches no network but the proxy that
/// its spec asks for, and dies with this program, however this program ends.
pub trait SandboxBackend: Send + Sync + fmt::Debug {
    /// Returns the backend's name with its level, such as `native/strict`.
    fn backend_name(&self) -> &'static str;

    /// Returns how strongly a process is isolated from this machine.
    fn isolation_tier(&self) -> IsolationTier;

    /// Returns where the process finds its workspace: by default in a file system of its own.
    fn workspace_path(&self, _spec: &ProcessSpec) -> PathBuf {
        PathBuf::from(WORKSPACE)
    }

    /// Returns where the process finds a mount: by default in a file system of its own.
    fn mount_path<'mount>(&self, mount: &'mount SandboxMount) -> &'mount Path {
        &mount.target
    }

    /// Starts a process.
    fn start_process(
        &self,
        spec: ProcessSpec,
    ) -> BoxFuture<'_, Result<Box<dyn SandboxProcess>, SandboxError>>;

    /// Takes down whatever is kept warm for a run, which has come to rest. Most backends keep nothing.
    fn let_go(&self, _run: RunId) {}
}

/// The port that picks a backend: it knows which this machine has, and which are strong enough for a tenant.
pub trait SandboxSelector: Send + Sync + fmt::Debug {
    /// Picks a backend that is strong enough for programs of a tenant's agents; without one nothing runs.
    fn pick_backend(&self, tenant: TenantId) -> BoxFuture<'_, Result<Arc<dyn SandboxBackend>, SandboxError>>;

    /// Takes down whatever is kept warm for a run, which has come to rest.
    fn let_go(&self, _run: RunId) {}

    /// Picks as [`SandboxSelector::pick_backend`] does, but nothing weaker than `least`.
    fn pick_at_least(
        &self,
        tenant: TenantId,
        least: IsolationLevel,
    ) -> BoxFuture<'_, Result<Arc<dyn SandboxBackend>, SandboxError>> {
        Box::pin(async move {
            let sandbox = self.pick_backend(tenant).await?;
            if IsolationLevel::of_backend(&*sandbox) >= least {
                return Ok(sandbox);
            }
            Err(SandboxError::Unavailable {
                missing: format!(
                    "{} is weaker than {}, which this tool requires",
                    sandbox.backend_name(),
                    least.as_str()
                ),
                fix: "run `dromia doctor --only sandbox` to see how to add a stronger backend".to_owned(),
            })
        })
    }
}
