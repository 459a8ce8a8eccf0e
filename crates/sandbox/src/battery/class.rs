//! The kinds of attempts.

/// The kinds of attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Reading and writing files that are not the process's.
    Files,
    /// The same over links and `..`.
    Symlinks,
    /// `/proc`, `/sys` and other processes' files there.
    ProcSys,
    /// Descriptors that were left open.
    Descriptors,
    /// Unix sockets of servers of this machine.
    UnixSockets,
    /// Sockets to the kernel.
    Netlink,
    /// Other processes.
    Ptrace,
    /// Mounts and namespaces.
    Namespaces,
    /// io_uring and other wide interfaces of the kernel.
    Kernel,
    /// Secrets of the environment.
    Environment,
    /// What programs outside would execute.
    Hooks,
    /// Processes, memory, disk, output, time.
    Bombs,
    /// Living on after the end.
    Timing,
    /// The network.
    Exfiltration,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Files,
        Self::Symlinks,
        Self::ProcSys,
        Self::Descriptors,
        Self::UnixSockets,
        Self::Netlink,
        Self::Ptrace,
        Self::Namespaces,
        Self::Kernel,
        Self::Environment,
        Self::Hooks,
        Self::Bombs,
        Self::Timing,
        Self::Exfiltration,
    ];

    /// Returns the name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Symlinks => "symlinks",
            Self::ProcSys => "proc_sys",
            Self::Descriptors => "descriptors",
            Self::UnixSockets => "unix_sockets",
            Self::Netlink => "netlink",
            Self::Ptrace => "ptrace",
            Self::Namespaces => "namespaces",
            Self::Kernel => "kernel",
            Self::Environment => "environment",
            Self::Hooks => "hooks",
            Self::Bombs => "bombs",
            Self::Timing => "timing",
            Self::Exfiltration => "exfiltration",
        }
    }
}
