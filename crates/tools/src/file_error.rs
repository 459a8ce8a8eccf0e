//! Why a file tool did not do what was asked, in words for the model.
//!
//! Invariant: the text names no path of the machine and repeats nothing of the arguments, so that it may carry a
//! trusted label even when an argument came from an untrusted text.

use std::io;

use rustix::io::Errno;

/// Why a file tool did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileError {
    #[error("refused: there is no such file or directory in the workspace")]
    Missing,
    #[error("refused: the path goes through a symbolic link, which file tools do not follow")]
    Symlink,
    #[error("refused: the path leads out of the workspace")]
    Outside,
    #[error(
        "refused: programs outside the sandbox would execute this file, so no agent may change it: most of \
         .git, editor tasks, and files that shells read"
    )]
    Guarded,
    #[error("refused: it is a directory, not a file")]
    Directory,
    #[error("refused: a part of the path is a file, not a directory")]
    NotADirectory,
    #[error("refused: it is a pipe, a socket or a device, not a file or a directory")]
    Special,
    #[error("refused: the directory is not empty")]
    NotEmpty,
    #[error("refused: the file would be larger than {limit} bytes; nothing was appended")]
    WouldGrowBeyond { limit: u64 },
    #[error(
        "refused: the file has, or would have, more than the {limit} bytes that can be edited; nothing was \
         changed"
    )]
    TooLongToEdit { limit: usize },
    #[error("refused: the file has neither the old text nor the new one; read the file before trying again")]
    OldAbsent,
    #[error(
        "refused: the file has the old text {found} times, not {expected}; nothing was changed. Include more \
         of the text around it, or set that count"
    )]
    OldOccurs { found: usize, expected: usize },
    #[error(
        "refused: the new text would contain the old one again, so a repeat could not tell whether it was \
         replaced; nothing was changed. Include more of the text around it"
    )]
    OldAgain,
    #[error(
        "refused: the workspace would have more than its {limit} bytes; nothing was changed. Delete something \
         first"
    )]
    OverQuota { limit: u64 },
    #[error(
        "refused: file tools have added {limit} bytes to this directory since the server started, which is the \
         most; nothing was changed. Have a person look at what is there and raise tools.exec.disk_quota"
    )]
    GrownTooMuch { limit: u64 },
    #[error("failed: the disk is full; nothing was changed")]
    DiskFull,
    #[error(
        "failed: the disk did not take all of it; part of it may have been appended. Read the end of the file \
         before trying again"
    )]
    Torn,
    #[error("failed: the change was made, but the disk did not confirm that it would survive a power cut")]
    NotConfirmed,
    #[error("failed: the operating system answered: {}", io::Error::from_raw_os_error(.0.raw_os_error()))]
    System(Errno),
}

impl From<Errno> for FileError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Missing,
            Errno::LOOP => Self::Symlink,
            // What openat2 says when a resolution would leave the directory it must stay beneath.
            Errno::XDEV => Self::Outside,
            Errno::ISDIR => Self::Directory,
            Errno::NOTDIR => Self::NotADirectory,
            // A pipe without a reader, a socket, a device without a driver.
            Errno::NXIO | Errno::NODEV => Self::Special,
            Errno::NOTEMPTY => Self::NotEmpty,
            Errno::NOSPC | Errno::DQUOT => Self::DiskFull,
            other => Self::System(other),
        }
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::from(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}
