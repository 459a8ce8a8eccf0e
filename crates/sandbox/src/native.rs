//! The backend that needs nothing but the kernel.

use std::path::{Path, PathBuf};

use dromia_contracts::BoxFuture;
use dromia_contracts::sandbox::{
    IsolationTier, ProcessSpec, SandboxBackend, SandboxError, SandboxMount, SandboxProcess,
};

use crate::order::{BackendSpec, HelperOrder, VERSION};
use crate::spec::{self, WORKSPACE};
use crate::standby::HelperStandby;
use crate::{helper, proxy_socket};

/// How many of the kernel's restrictions are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NativeLevel {
    /// Landlock, a filter of system calls, limits; the process sees this machine's own file system, as far as it is
    /// allowed, and other processes' numbers. Names, sizes and modes of files are not hidden, and what programs
    /// outside would execute from the workspace can be changed.
    Base,
    /// The same inside user, mount, process, network, IPC, host name and control group namespaces, with a file
    /// system of its own.
    Strict,
}

/// The backend that uses the kernel's own restrictions.
#[derive(Debug, Clone)]
pub struct NativeSandbox {
    helper: PathBuf,
    level: NativeLevel,
    groups: Vec<PathBuf>,
    standby: HelperStandby,
}

impl NativeSandbox {
    /// Names the program that is the helper, the level, and the directories of control groups that programs get groups
    /// in. Nothing is looked at; [`crate::probe`] does that.
    pub fn new(helper: PathBuf, level: NativeLevel, groups: Vec<PathBuf>) -> Self {
        // A control group is joined from outside of the namespaces.
        let standby = HelperStandby::new(level == NativeLevel::Strict && groups.is_empty());
        Self { helper, level, groups, standby }
    }
}

impl SandboxBackend for NativeSandbox {
    fn backend_name(&self) -> &'static str {
        match self.level {
            NativeLevel::Base => "native/base",
            NativeLevel::Strict => "native/strict",
        }
    }

    fn isolation_tier(&self) -> IsolationTier {
        IsolationTier::Process
    }

    fn workspace_path(&self, spec: &ProcessSpec) -> PathBuf {
        match self.level {
            NativeLevel::Base => spec.workspace.clone(),
            NativeLevel::Strict => PathBuf::from(WORKSPACE),
        }
    }

    fn mount_path<'mount>(&self, mount: &'mount SandboxMount) -> &'mount Path {
        match self.level {
            NativeLevel::Base => &mount.source,
            NativeLevel::Strict => &mount.target,
        }
    }

    fn start_process(
        &self,
        spec: ProcessSpec,
    ) -> BoxFuture<'_, Result<Box<dyn SandboxProcess>, SandboxError>> {
        Box::pin(async move {
            spec::check_spec(&spec)?;
            let walls = match self.level {
                // Its programs are in the network namespace of everybody else.
                NativeLevel::Base => {
                    proxy_socket::refuse_proxy(&spec, self.backend_name())?;
                    spec::refuse_reference(&spec, self.backend_name())?;
                    BackendSpec::Base
                }
                NativeLevel::Strict => BackendSpec::Strict,
            };
            let (spec, groups) = (spec::resolve_spec(spec)?, self.groups.clone());
            let is_memory_bound = helper::are_memory_bound(&groups);
            let order = HelperOrder { version: VERSION, walls, spec, groups, is_memory_bound };
            let running = self.standby.start_process(&self.helper, &order).await?;
            Ok(Box::new(running) as Box<dyn SandboxProcess>)
        })
    }
}
