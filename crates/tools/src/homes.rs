//! Wiping the homes of agents.
//!
//! Invariant: no link is followed, and no more than a few handles are held however deep the tree is: a directory
//! that is met is moved up to the home's top before it is emptied. Wiping again after a crash goes on where the
//! crash cut it off.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use dromia_contracts::fault::{ErrorCode, Fault};
use dromia_contracts::runs::Homes;
use dromia_contracts::{AgentId, BoxFuture, TenantId};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::workspace::AGENTS;

/// How often the home is looked through because something was still in it. A look goes one level down, and no
/// path that an agent can write has more levels.
const LOOKS_MAX: usize = 4096;
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The homes of agents below the instance's home.
#[derive(Debug, Clone)]
pub struct AgentHomes {
    root: PathBuf,
}

impl AgentHomes {
    /// Names the instance's home. Nothing is made.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }
}

impl Homes for AgentHomes {
    fn wipe(&self, _tenant: TenantId, agent: AgentId) -> BoxFuture<'_, Result<u64, Fault>> {
        let root = self.root.clone();
        Box::pin(async move {
            let wiped = tokio::task::spawn_blocking(move || wipe(&root, &agent.to_string())).await;
            match wiped {
                Ok(Ok(files)) => Ok(files),
                Ok(Err(errno)) => Err(incomplete(agent, &errno.to_string())),
                Err(_) => Err(incomplete(agent, "the work broke down")),
            }
        })
    }
}

fn incomplete(agent: AgentId, problem: &str) -> Fault {
    Fault::new(ErrorCode::Internal, format!("the home of {agent} could not be wiped: {problem}"))
        .with_hint("deleting the agent again goes on where this stopped")
}

fn wipe(root: &std::path::Path, name: &str) -> Result<u64, Errno> {
    let agents = match rustix::fs::open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|root| rustix::fs::openat(&root, AGENTS, DIRECTORY, Mode::empty()))
    {
        Ok(agents) => agents,
        Err(Errno::NOENT) => return Ok(0),
        Err(errno) => return Err(errno),
    };
    let home = match rustix::fs::openat(&agents, name, DIRECTORY, Mode::empty()) {
        Ok(home) => home,
        Err(Errno::NOENT) => return Ok(0),
        // Not a directory but a link or a file in its place: that one name is removed, and nothing behind it.
        Err(Errno::NOTDIR | Errno::LOOP) => {
            rustix::fs::unlinkat(&agents, name, AtFlags::empty())?;
            rustix::fs::fsync(&agents)?;
            return Ok(1);
        }
        Err(errno) => return Err(errno),
    };
    let mut wipe = Wipe { home, files: 0, moved: 0 };
    for _ in 0..LOOKS_MAX {
        if wipe.look()? {
            continue;
        }
        match rustix::fs::unlinkat(&agents, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {
                rustix::fs::fsync(&agents)?;
                return Ok(wipe.files);
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::NOTEMPTY)
}

struct Wipe {
    home: OwnedFd,
    files: u64,
    moved: u64,
}

impl Wipe {
    /// Removes what is at the top and moves up what is one level below; tells whether it found anything.
    fn look(&mut self) -> Result<bool, Errno> {
        let mut found = false;
        for entry in Dir::read_from(&self.home)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            found = true;
            match rustix::fs::openat(&self.home, name, DIRECTORY, Mode::empty()) {
                Ok(directory) => {
                    self.empty(&directory)?;
                    match rustix::fs::unlinkat(&self.home, name, AtFlags::REMOVEDIR) {
                        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
                        Err(errno) => return Err(errno),
                    }
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    rustix::fs::unlinkat(&self.home, name, AtFlags::empty())?;
                    self.files += 1;
                }
                // The listing may still name what was removed while it was read.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(found)
    }

    /// Unlinks the files of a directory and moves its directories up to the home's top.
    fn empty(&mut self, directory: &OwnedFd) -> Result<(), Errno> {
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if is_directory(directory.as_fd(), name, entry.file_type())? {
                self.move_up(directory.as_fd(), name)?;
            } else {
                match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
                    Ok(()) => self.files += 1,
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(())
    }

    fn move_up(&mut self, from: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<(), Errno> {
        loop {
            self.moved += 1;
            let to = format!(".dromia-wipe-{}", self.moved);
            match rustix::fs::renameat(from, name, &self.home, to.as_str()) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // An earlier wipe that was cut off left this name; the next number is free sooner or later.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

fn is_directory(directory: BorrowedFd<'_>, name: &std::ffi::CStr, listed: FileType) -> Result<bool, Errno> {
    // Some file systems do not say in the listing.
    if listed != FileType::Unknown {
        return Ok(listed == FileType::Directory);
    }
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}
