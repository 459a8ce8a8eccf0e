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
    #[error("refused: the path leads through a symbolic link, and the file tools follow none")]
    Symlink,
    #[error("refused: the path leads out of the workspace")]
    Outside,
    #[error(
        "refused: programs outside of the sandbox would execute what lies there, so no agent changes it: in .git all but \
         what git works with, the tasks of editors, the files that shells read"
    )]
    Guarded,
    #[error("refused: it is a directory, not a file")]
    Directory,
    #[error("refused: a part of the path is a file, not a directory")]
    NotADirectory,
    #[error("refused: it is neither a file nor a directory but a pipe, a socket or a device")]
    Special,
    #[error("refused: the directory is not empty")]
    NotEmpty,
    #[error("refused: the file would grow beyond {limit} bytes; nothing was appended")]
    WouldGrowBeyond { limit: u64 },
    #[error(
        "refused: the file has, or would have, more than the {limit} bytes that are edited; nothing was changed"
    )]
    TooLongToEdit { limit: usize },
    #[error(
        "refused: the old text is not there, and neither is the new one; read the file before trying again"
    )]
    OldAbsent,
    #[error(
        "refused: the old text stands there {found} times, not {expected}; nothing was changed. Name more of what is \
         around it, or say that count"
    )]
    OldOccurs { found: usize, expected: usize },
    #[error(
        "refused: with the new text the old one would stand there again, so that nobody could tell whether it was \
         replaced; nothing was changed. Name more of what is around it"
    )]
    OldAgain,
    #[error(
        "refused: the workspace would hold more than its {limit} bytes; nothing was changed. Delete something first"
    )]
    OverQuota { limit: u64 },
    #[error("failed: the disk is full; nothing was changed")]
    DiskFull,
    #[error(
        "failed: the disk did not take all of it; a part may have been appended. Read the file's end before trying again"
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
