//! The rules of Landlock: which paths may be read, executed and changed; nothing else of the file system, no TCP but to
//! a proxy socket, no signal and no abstract socket outside the sandbox.
//!
//! Landlock only takes away, and what a kernel does not know it does not take away. [`MINIMUM`] is what must be there;
//! the rest is stated by the doctor.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use dromia_contracts::sandbox::{NetworkAccess, ProcessSpec};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, PathBeneath,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::fs::FileType;

use super::root::{DEVICES, SYSTEM};
use super::tree;
use crate::proxy_socket;

/// What must be there: without it a file could be cut to nothing though it cannot be written (before 3), or moved out
/// of its directory (before 2).
pub(crate) const MINIMUM: libc::c_long = 3;

/// The newest version whose every rule this program knows.
const NEWEST: ABI = ABI::V7;

/// The version of Landlock that this kernel has; nothing if it has none.
pub(crate) fn abi_version() -> Option<libc::c_long> {
    const VERSION: libc::c_long = 1;
    crate::sys::raw_syscall(libc::SYS_landlock_create_ruleset, [0, 0, VERSION, 0, 0])
        .ok()
        .filter(|version| *version > 0)
}

/// The places of a process, as it sees them.
#[derive(Debug)]
pub(crate) struct LandlockPaths {
    /// May be read and executed.
    pub(crate) read: Vec<PathBuf>,
    /// May be changed, too.
    pub(crate) write: Vec<PathBuf>,
    /// Ports that may be connected to.
    pub(crate) ports: Vec<u16>,
}

impl LandlockPaths {
    /// The places of a process that sees this machine's own file system.
    pub(crate) fn on_host(spec: &ProcessSpec) -> Self {
        let system = SYSTEM.into_iter().map(PathBuf::from);
        let (write, read): (Vec<_>, Vec<_>) = spec.mounts.iter().partition(|mount| mount.writable);
        Self {
            read: system.chain(read.into_iter().map(|mount| mount.source.clone())).collect(),
            write: write
                .into_iter()
                .map(|mount| mount.source.clone())
                .chain([spec.workspace.clone()])
                .collect(),
            ports: Vec::new(),
        }
    }

    /// The places of a process that has a file system of its own.
    pub(crate) fn in_own_root(spec: &ProcessSpec) -> Self {
        let system = SYSTEM.into_iter().map(PathBuf::from).chain(["/etc".into(), "/proc".into()]);
        let (write, read): (Vec<_>, Vec<_>) = spec.mounts.iter().partition(|mount| mount.writable);
        let own = [crate::spec::WORKSPACE, "/tmp", "/dev/shm"].map(PathBuf::from);
        Self {
            read: system.chain(read.into_iter().map(|mount| mount.target.clone())).collect(),
            write: write.into_iter().map(|mount| mount.target.clone()).chain(own).collect(),
            ports: match spec.network {
                NetworkAccess::None => Vec::new(),
                NetworkAccess::Proxy => vec![proxy_socket::ADDRESS.port()],
            },
        }
    }
}

/// Takes everything else from this process, for ever.
pub(crate) fn restrict_paths(places: &LandlockPaths) -> io::Result<()> {
    let refused = |problem: landlock::RulesetError| io::Error::other(problem.to_string());
    let read = AccessFs::from_read(NEWEST);
    // Device files and sockets of others are not made; ioctl on devices is not allowed anywhere.
    let write = AccessFs::from_all(NEWEST) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let ports = places.ports.iter().map(|port| Ok(NetPort::new(*port, AccessNet::ConnectTcp)));
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.add_rules(path_rules(&places.read, read)))
        .and_then(|rules| rules.add_rules(path_rules(&places.write, write)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(DEVICES, device)))
        .and_then(|rules| rules.add_rules(ports))
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(refused)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(io::Error::other("Landlock is not enforced")),
    }
}

/// The rules for paths, where something is. What the spec names is found over no link: an agent may have put one there.
fn path_rules(
    paths: &[PathBuf],
    access: BitFlags<AccessFs>,
) -> impl Iterator<Item = Result<PathBeneath<OwnedFd>, landlock::RulesetError>> {
    let opened = move |path: &PathBuf| {
        let is_system = SYSTEM.iter().any(|system| path == Path::new(system));
        let opened = if is_system {
            path.canonicalize().and_then(|path| tree::open_no_links(&path))
        } else {
            tree::open_no_links(path)
        };
        let handle = opened.ok()?;
        let is_directory = tree::file_type(&handle).ok()? == FileType::Directory;
        let access = if is_directory { access } else { access & AccessFs::from_file(NEWEST) };
        Some(Ok(PathBeneath::new(handle, access)))
    };
    paths.iter().filter_map(opened)
}
