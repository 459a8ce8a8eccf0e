//! The backend with a machine of its own: Firecracker, through its jailer.
//!
//! A program gets a virtual machine with a kernel and a root image of the operator's choice. Its workspace goes in file by
//! file over one socket, and what changed comes back the same way when the program has ended; no file system that a guest
//! wrote is read by this machine's kernel. There is no network device. The monitor runs as a user that nobody else is, in
//! a jail that is in memory, in namespaces without a network.
//!
//! What it refuses to do: run without the jailer, run with a part that is missing (`parts` names it), keep what a program
//! wrote whose machine was ended by force.

pub(crate) mod parts;

use std::path::{Path, PathBuf};

use dromia_contracts::BoxFuture;
use dromia_contracts::sandbox::{Mount, Process, ProcessSpec, Sandbox, SandboxError, Tier};
use serde::{Deserialize, Serialize};

use crate::door;
use crate::order::{Order, VERSION, Walls};
use crate::running::Running;
use crate::spec::{self, WORKSPACE};

pub use crate::helper::{Rehearsed, rehearse};

/// Who the machine monitor is, if nobody says: a number that distributions give to nobody.
pub const UID_DEFAULT: u32 = 60_999;

/// The parts of a machine, all of them files of this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Monitor {
    /// The program `firecracker`.
    pub binary: PathBuf,
    /// The program `jailer` of the same release.
    pub jailer: PathBuf,
    /// The kernel of the guest, uncompressed.
    pub kernel: PathBuf,
    /// The root file system of the guest, which is not changed; it holds this program as [`crate::GUEST_NAME`].
    pub rootfs: PathBuf,
    /// The user and group that the monitor is outside. Nobody else should be it.
    pub uid: u32,
}

/// Machines of Firecracker.
#[derive(Debug, Clone)]
pub struct Firecracker {
    helper: PathBuf,
    monitor: Monitor,
}

impl Firecracker {
    /// Names the program that is the helper, and the parts of the machine. Nothing is looked at; [`crate::probe`] does
    /// that.
    pub fn new(helper: PathBuf, monitor: Monitor) -> Self {
        Self { helper, monitor }
    }

    /// The order for the helper, of a resolved spec.
    pub(crate) fn order(&self, spec: ProcessSpec) -> Order {
        let walls = Walls::Firecracker { monitor: self.monitor.clone() };
        Order { version: VERSION, walls, spec, groups: Vec::new() }
    }
}

impl Sandbox for Firecracker {
    fn name(&self) -> &'static str {
        "firecracker"
    }

    fn tier(&self) -> Tier {
        Tier::Machine
    }

    fn workspace(&self, _spec: &ProcessSpec) -> PathBuf {
        PathBuf::from(WORKSPACE)
    }

    fn place<'mount>(&self, mount: &'mount Mount) -> &'mount Path {
        &mount.target
    }

    fn start(&self, spec: ProcessSpec) -> BoxFuture<'_, Result<Box<dyn Process>, SandboxError>> {
        Box::pin(async move {
            spec::check(&spec)?;
            door::refuse(&spec, self.name())?;
            let order = self.order(spec::resolve(spec)?);
            let running = Running::start(&self.helper, &order).await?;
            Ok(Box::new(running) as Box<dyn Process>)
        })
    }
}
