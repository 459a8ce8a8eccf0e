//! The backend that needs nothing but the kernel.

use std::path::{Path, PathBuf};

use dromia_contracts::BoxFuture;
use dromia_contracts::sandbox::{Mount, Process, ProcessSpec, Sandbox, SandboxError, Tier};

use crate::door;
use crate::order::{Order, VERSION, Walls};
use crate::spec::{self, WORKSPACE};
use crate::standby::Standby;

/// How much of the kernel's walls is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Landlock, a filter of system calls, limits; the process sees this machine's own file system, as far as it is
    /// allowed, and other processes' numbers. Names, sizes and modes of files are not hidden, and what programs
    /// outside would execute from the workspace can be changed.
    Base,
    /// The same inside user, mount, process, network, IPC, host name and control group namespaces, with a file
    /// system of its own.
    Strict,
}

/// The kernel's own walls.
#[derive(Debug, Clone)]
pub struct Native {
    helper: PathBuf,
    level: Level,
    groups: Vec<PathBuf>,
    standby: Standby,
}

impl Native {
    /// Names the program that is the helper, the level, and the directories of control groups that programs get groups
    /// in. Nothing is looked at; [`crate::probe`] does that.
    pub fn new(helper: PathBuf, level: Level, groups: Vec<PathBuf>) -> Self {
        // A control group is joined from outside of the namespaces.
        let standby = Standby::new(level == Level::Strict && groups.is_empty());
        Self { helper, level, groups, standby }
    }
}

impl Sandbox for Native {
    fn name(&self) -> &'static str {
        match self.level {
            Level::Base => "native/base",
            Level::Strict => "native/strict",
        }
    }

    fn tier(&self) -> Tier {
        Tier::Process
    }

    fn workspace(&self, spec: &ProcessSpec) -> PathBuf {
        match self.level {
            Level::Base => spec.workspace.clone(),
            Level::Strict => PathBuf::from(WORKSPACE),
        }
    }

    fn place<'mount>(&self, mount: &'mount Mount) -> &'mount Path {
        match self.level {
            Level::Base => &mount.source,
            Level::Strict => &mount.target,
        }
    }

    fn start(&self, spec: ProcessSpec) -> BoxFuture<'_, Result<Box<dyn Process>, SandboxError>> {
        Box::pin(async move {
            spec::check(&spec)?;
            let walls = match self.level {
                // Its programs are in the network namespace of everybody else.
                Level::Base => {
                    door::refuse(&spec, self.name())?;
                    Walls::Base
                }
                Level::Strict => Walls::Strict,
            };
            let (spec, groups) = (spec::resolve(spec)?, self.groups.clone());
            let order = Order { version: VERSION, walls, spec, groups };
            let running = self.standby.start(&self.helper, &order).await?;
            Ok(Box::new(running) as Box<dyn Process>)
        })
    }
}
