//! What agents may use: the built-in tools, the sandbox around their programs, and how far tenants are trusted with
//! them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budgets::WrittenBudget;
use super::external::WrittenExternal;
use crate::config::tools::{ProgramFlags, SandboxMinimum, WrittenFlags};

/// The sandbox around programs that agents run. Where none is strong enough, nothing runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenSandbox {
    /// The weakest sandbox that will do.
    pub(crate) minimum: SandboxMinimum,
    /// A Docker engine whose containers may be used; both keys or neither.
    #[serde(skip_serializing_if = "WrittenDocker::is_absent")]
    pub(crate) docker: WrittenDocker,
    /// The parts of virtual machines of Firecracker; the first four keys, or none.
    #[serde(skip_serializing_if = "WrittenFirecracker::is_absent")]
    pub(crate) firecracker: WrittenFirecracker,
    /// Directories of control groups that belong to this server: one of cgroup v2, or one for each controller of cgroup
    /// v1. A program behind `native` or `bubblewrap` gets a group of its own in each, so that the kernel bounds what all
    /// its processes use together; without, that is looked at every 25 ms.
    pub(crate) control_groups: Vec<String>,
}

/// A Docker engine whose containers may be used; both keys or neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenDocker {
    /// The Unix socket of a rootless or dedicated engine, an absolute path. A process that reaches it may do what the
    /// engine may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) socket: Option<String>,
    /// The image that programs see, which the engine must have; nothing is pulled.
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
    /// The program `firecracker`, an absolute path; its name has `firecracker` in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) binary: Option<String>,
    /// The program `jailer` of the same release, an absolute path. Without it nothing is started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jailer: Option<String>,
    /// The guest's kernel, uncompressed, an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel: Option<String>,
    /// The image of the guest's root file system, an absolute path; it holds this program as `/sbin/dromia-guest`, and is
    /// not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rootfs: Option<String>,
    /// The number of the user and group that machine monitors run as, 60999 if it is not named. No other process should
    /// run as it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<u32>,
}

impl WrittenFirecracker {
    fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}

/// What is said about a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenTenant {
    /// How far its agents and those who speak to them are trusted.
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) trust: TenantTrust,
    /// How much may be spent in it. What is here is changed here only; `dromia budget` sets others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) budgets: Vec<WrittenBudget>,
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
    /// Slows every call down by so many milliseconds, for demonstrations.
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) pace_ms: u64,
    /// The most messages between agents, and delayed calls that began by themselves, in a row.
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) message_hops_max: u32,
    /// Servers that agents call as tools, each under the tool's name, such as `bank.pay`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) external: BTreeMap<String, WrittenExternal>,
    /// What programs may use that `exec` and `shell.execute` run.
    #[serde(skip_serializing_if = "ProgramFlags::is_absent")]
    pub(crate) exec: ProgramFlags,
    /// Hosts that every agent may reach beside those which its `net:` grants name, spelled as behind `net:`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) net: Vec<String>,
    /// Tools that only those agents may call which have them under `privileged` too, beside their own grant.
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
