//! What agents may use: the built-in tools, the sandbox around their programs, and how far tenants are trusted with
//! them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budgets::WrittenBudget;
use super::external::WrittenExternal;
use super::retention::WrittenRetention;
use crate::config::prompts::WrittenPrompts;
use crate::config::tools::{ProgramFlags, SandboxMinimum, WrittenFlags};

/// The sandbox around programs that agents run. Where none is strong enough, nothing runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenSandbox {
    /// Weakest sandbox that may be used. `strict`: namespaces with a file system of their own. `base`: Landlock, a
    /// system call filter and limits only; programs then see the names of this machine's files. If no sandbox is strong
    /// enough, no program runs.
    pub(crate) minimum: SandboxMinimum,
    /// Docker engine whose containers may be used as a sandbox; set both keys or neither.
    #[serde(skip_serializing_if = "WrittenDocker::is_absent")]
    pub(crate) docker: WrittenDocker,
    /// Files of Firecracker microVMs that may be used as a sandbox; set the first four keys or none.
    #[serde(skip_serializing_if = "WrittenFirecracker::is_absent")]
    pub(crate) firecracker: WrittenFirecracker,
    /// Control group directories that belong to this server: one of cgroup v2, or one for each controller of cgroup v1.
    /// Each program in the `native` or `bubblewrap` sandbox gets a group of its own in them, so that the kernel limits
    /// all its processes together. Without them the server measures the use every 25 ms.
    pub(crate) control_groups: Vec<String>,
}

/// A Docker engine whose containers may be used; both keys or neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenDocker {
    /// Absolute path of the Unix socket of a rootless or dedicated Docker engine. A process that can open the socket
    /// can do everything that the engine can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) socket: Option<String>,
    /// Image that programs run in. The engine must have it already; nothing is pulled.
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
    /// Absolute path of the program `firecracker`. The file name must contain `firecracker`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) binary: Option<String>,
    /// Absolute path of the program `jailer` of the same release. No microVM starts without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jailer: Option<String>,
    /// Absolute path of the uncompressed guest kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel: Option<String>,
    /// Absolute path of the guest's root file system image. It must contain this program as `/sbin/dromia-guest`, and
    /// is not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rootfs: Option<String>,
    /// Number of the user and group that the microVM monitors run as. Default: 60999. No other process should use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<u32>,
}

impl WrittenFirecracker {
    fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}

/// Directories outside of the home that agents may work in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenWorkspaces {
    /// Directories at or below which agents may have workspaces (`dromia agent create NAME --workspace DIR`), as absolute
    /// paths. A tenant beside `default` gets only roots that have its handle in the place of `{tenant}`, such as
    /// `/srv/work/{tenant}`; without any, no agent gets a directory.
    pub(crate) roots: Vec<String>,
}

/// What is said about a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenTenant {
    /// How far the tenant's agents and users are trusted. `standard`: its programs run in the sandbox that
    /// `sandbox.minimum` allows. `hostile`: its programs run only behind a kernel of their own (gVisor or Firecracker),
    /// or not at all.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) trust: TenantTrust,
    /// Spending limits of the tenant. A budget of this list is changed only here; `dromia budget` manages further ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) budgets: Vec<WrittenBudget>,
    /// What each kind of run of the tenant reads first. A document `prompts/KIND.md` of an agent comes before it.
    #[serde(skip_serializing_if = "WrittenPrompts::is_absent")]
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) prompts: WrittenPrompts,
    /// How long the tenant's sessions are kept.
    #[serde(skip_serializing_if = "WrittenRetention::is_absent")]
    pub(crate) retention: WrittenRetention,
}

/// How far a tenant is trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TenantTrust {
    /// Its programs run in the sandbox that `sandbox.minimum` asks for.
    #[default]
    Standard,
    /// Its programs run behind a kernel of their own (T2: gVisor; T3: Firecracker), or not at all.
    Hostile,
}

/// The built-in tools, and those of the operator's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenTools {
    /// Delay before each tool call, in milliseconds, for demonstrations.
    pub(crate) pace_ms: u64,
    /// Most messages between agents, and delayed calls that began without a person, in one chain. It stops agents that
    /// answer each other endlessly.
    pub(crate) message_hops_max: u32,
    /// HTTP tools of your own, each under the tool's name, such as `bank.pay`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) external: BTreeMap<String, WrittenExternal>,
    /// Limits of the programs that the tools `exec` and `shell.execute` run.
    #[serde(skip_serializing_if = "ProgramFlags::is_absent")]
    pub(crate) exec: ProgramFlags,
    /// Hosts that every agent may reach, in addition to its `net:` grants and in the same notation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) net: Vec<String>,
    /// Tools that need an extra permission: an agent may call one only if `agents.NAME.tools.privileged` lists it too
    /// and its grants cover it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) privileged: Vec<String>,
}

impl Default for WrittenTools {
    fn default() -> Self {
        let WrittenFlags { exec, net, privileged } = WrittenFlags::default();
        let external = BTreeMap::new();
        Self { pace_ms: 0, message_hops_max: 16, external, exec, net, privileged }
    }
}

impl WrittenTools {
    /// What is said about single tools.
    pub(crate) fn tool_flags(&self) -> WrittenFlags {
        let Self { exec, net, privileged, .. } = self.clone();
        WrittenFlags { exec, net, privileged }
    }
}
