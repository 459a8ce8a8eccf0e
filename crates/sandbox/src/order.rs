//! What goes to the helper and what comes back: one order, one report, both JSON.
//!
//! The helper is the same program as the one that orders, so both sides always know the same words; the version is
//! there for a helper that was configured to be another program, which refuses what it does not know.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use dromia_contracts::sandbox::{ProcessExit, ProcessSpec};
use serde::{Deserialize, Serialize};

use crate::docker::engine::DockerEngine;
use crate::firecracker::parts::FirecrackerParts;

/// The version of [`HelperOrder`] and [`HelperReport`].
pub(crate) const VERSION: u32 = 1;

/// The longest order.
const ORDER_BYTES_MAX: usize = 4 << 20;

/// The longest report.
const REPORT_BYTES_MAX: u64 = 64 << 10;

/// The longest reason why nothing ran: a report must fit a pipe that is read only when all has ended.
const PROBLEM_CHARS_MAX: usize = 1_000;

/// Which sandbox the helper sets up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum BackendSpec {
    /// Landlock, the filter of system calls and limits; the file system stays where it is.
    Base,
    /// The same inside namespaces of its own.
    Strict,
    /// What another program builds, which gets these arguments; the helper only watches.
    Foreign {
        /// The program and its arguments, the tool's own included.
        argv: Vec<String>,
        /// What it shows inside.
        meant: Vec<MeantFile>,
    },
    /// What gVisor builds, from a bundle that the helper makes; this program counts inside of it, too.
    Gvisor {
        /// The program `runsc`.
        runsc: PathBuf,
        /// The helper, which is shown inside; a real path.
        helper: PathBuf,
        /// Who reports from inside.
        reporter: GuestReporter,
    },
    /// A container of an engine, which the helper asks for.
    Docker {
        /// Which engine, and which image.
        engine: DockerEngine,
        /// What is to be done there.
        work: DockerTask,
    },
    /// A virtual machine, which the helper has made.
    Firecracker {
        /// Its parts.
        monitor: FirecrackerParts,
    },
}

/// A path inside of what another program built, and the file of this machine that is meant there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MeantFile {
    /// Where it lies inside.
    pub(crate) path: PathBuf,
    /// The device that it lies on, and its number there.
    pub(crate) device: u64,
    pub(crate) number: u64,
}

/// Who the first process of a guest is, which counts what the program uses and says how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestReporter {
    /// Another user than the program, in another session: the program cannot touch it.
    Apart,
    /// The same user, in the same session. Only a test asks for it, to show that it would be seen.
    SameUser,
}

/// What a helper does at an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum DockerTask {
    /// It runs the program in a container of its own.
    Alone,
    /// It runs the program in a container that another helper keeps; in one of its own, if that is gone.
    Within {
        /// The container's name.
        container: String,
    },
    /// It makes a container for programs of one family, and keeps it.
    Keep {
        /// How long it keeps it while it is idle.
        idle_ms: u64,
    },
    /// It takes away what helpers left that are gone.
    Clear,
}

impl BackendSpec {
    /// Whether all processes behind them end with the first one; else the helper ends them by name.
    pub(crate) fn end_as_one(&self) -> bool {
        match self {
            Self::Strict | Self::Gvisor { .. } | Self::Docker { .. } | Self::Firecracker { .. } => true,
            Self::Base | Self::Foreign { .. } => false,
        }
    }

    /// How long the sandbox may take to start, before the time of the program begins.
    pub(crate) fn startup_time(&self) -> Duration {
        match self {
            Self::Base | Self::Strict | Self::Foreign { .. } => Duration::ZERO,
            // A busy machine takes seconds to begin a kernel or a container.
            Self::Gvisor { .. } | Self::Docker { .. } => Duration::from_secs(30),
            // A machine must boot, and its trees go there and come back.
            Self::Firecracker { .. } => Duration::from_secs(90),
        }
    }
}

/// What the helper shall do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HelperOrder {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The sandbox.
    pub(crate) walls: BackendSpec,
    /// What runs in it.
    pub(crate) spec: ProcessSpec,
    /// Directories of control groups in which the helper makes one for this program.
    pub(crate) groups: Vec<PathBuf>,
    /// Whether the kernel bounds the memory of all its processes together: in a group, or because a kernel of its own does.
    pub(crate) is_memory_bound: bool,
}

/// What the helper reports at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HelperReport {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// How it ended.
    pub(crate) ending: ProcessExit,
}

impl HelperOrder {
    /// Writes the order as it goes over the socket: its length in four bytes, then itself.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let text = serde_json::to_vec(self)?;
        let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= ORDER_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("the order is too long"))?;
        Ok([&length.to_le_bytes()[..], &text].concat())
    }

    /// Reads an order.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > ORDER_BYTES_MAX {
            return Err(io::Error::other("the order is too long"));
        }
        let mut text = vec![0; length];
        from.read_exact(&mut text)?;
        let order: Self = serde_json::from_slice(&text)?;
        if order.version != VERSION {
            return Err(io::Error::other("the order comes from another version of this program"));
        }
        Ok(order)
    }
}

impl HelperReport {
    /// Says how it ended. Why nothing ran may repeat what the program was to be, however long that is.
    pub(crate) fn new(mut ending: ProcessExit) -> Self {
        if let ProcessExit::NotStarted { problem } = &mut ending
            && let Some((end, _)) = problem.char_indices().nth(PROBLEM_CHARS_MAX)
        {
            problem.truncate(end);
        }
        Self { version: VERSION, ending }
    }

    /// Writes the report; its end is the end of the stream.
    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&serde_json::to_vec(self)?)
    }

    /// Understands a whole report; nothing if it is none.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok().filter(|report: &Self| report.version == VERSION)
    }

    /// Reads a report to the end of the stream; nothing if there is none.
    pub(crate) fn read(from: &mut impl Read) -> Option<Self> {
        let mut text = Vec::new();
        from.take(REPORT_BYTES_MAX).read_to_end(&mut text).ok()?;
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::sandbox::{NetworkAccess, ProcessLimits};

    use super::*;

    fn order() -> HelperOrder {
        let spec = ProcessSpec {
            argv: vec!["true".to_owned()],
            env: Vec::new(),
            workspace: PathBuf::from("/w"),
            reference: None,
            cwd: PathBuf::new(),
            mounts: Vec::new(),
            limits: ProcessLimits::DEFAULT,
            network: NetworkAccess::None,
            family: None,
        };
        HelperOrder {
            version: VERSION,
            walls: BackendSpec::Strict,
            spec,
            groups: vec!["/sys/fs/cgroup/own".into()],
            is_memory_bound: false,
        }
    }

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let bytes = order().encode().expect("an order is JSON");
        assert_eq!(HelperOrder::read(&mut &bytes[..]).expect("it is whole"), order());
        for cut in 0..bytes.len() {
            assert!(HelperOrder::read(&mut &bytes[..cut]).is_err(), "{cut} bytes are no order");
        }
    }

    #[test]
    fn a_wrong_version_or_overlong_order_is_refused() {
        let newer = HelperOrder { version: VERSION + 1, ..order() }.encode().expect("an order is JSON");
        assert!(HelperOrder::read(&mut &newer[..]).is_err());
        let long = u32::MAX.to_le_bytes();
        assert!(HelperOrder::read(&mut &long[..]).is_err());
    }
}
