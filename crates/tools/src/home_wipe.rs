//! Wiping the homes of agents.
//!
//! Invariant: no link is followed, and no more than a few handles are held however deep the tree is: a directory
//! that is met is moved up to the home's top before it is emptied. Wiping again after a crash goes on where the
//! crash cut it off. A directory that its owner may not enter is opened to the owner first: programs of an agent are the
//! server's user, who is its owner, and leave any mode.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use dromia_contracts::fault::{ErrorCode, Fault};
use dromia_contracts::runs::HomeDirectories;
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

impl HomeDirectories for AgentHomes {
    fn wipe_home(&self, _tenant: TenantId, agent: AgentId) -> BoxFuture<'_, Result<u64, Fault>> {
        let root = self.root.clone();
        Box::pin(async move {
            let wiped = tokio::task::spawn_blocking(move || wipe_home(&root, &agent.to_string())).await;
            match wiped {
                Ok(Ok(files)) => Ok(files),
                Ok(Err(errno)) => Err(wipe_fault(agent, &errno.to_string())),
                Err(_) => Err(wipe_fault(agent, "the work failed")),
            }
        })
    }
}

fn wipe_fault(agent: AgentId, problem: &str) -> Fault {
    Fault::new(ErrorCode::Internal, format!("the home of {agent} could not be wiped: {problem}"))
        .with_hint("delete the agent again to continue the erasure")
}

fn wipe_home(root: &std::path::Path, name: &str) -> Result<u64, Errno> {
    let agents = match rustix::fs::open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|root| rustix::fs::openat(&root, AGENTS, DIRECTORY, Mode::empty()))
    {
        Ok(agents) => agents,
        Err(Errno::NOENT) => return Ok(0),
        Err(errno) => return Err(errno),
    };
    let home = match open_own(&agents, name) {
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
    let mut wipe = HomeWipe { home, files: 0, moved: 0 };
    for _ in 0..LOOKS_MAX {
        if wipe.sweep_top()? {
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

struct HomeWipe {
    home: OwnedFd,
    files: u64,
    moved: u64,
}

impl HomeWipe {
    /// Removes what is at the top and moves up what is one level below; returns whether it found anything.
    fn sweep_top(&mut self) -> Result<bool, Errno> {
        let mut found = false;
        for entry in Dir::read_from(&self.home)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            found = true;
            match open_own(&self.home, name) {
                Ok(directory) => {
                    self.empty_directory(&directory)?;
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
    fn empty_directory(&mut self, directory: &OwnedFd) -> Result<(), Errno> {
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
        let mut is_usable = false;
        loop {
            self.moved += 1;
            let to = format!(".dromia-wipe-{}", self.moved);
            match rustix::fs::renameat(from, name, &self.home, to.as_str()) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // Moving a directory writes to it, so it must be writable.
                Err(Errno::ACCESS) if !is_usable => {
                    make_usable(from, name)?;
                    is_usable = true;
                }
                // An earlier wipe that was cut off left this name; the next number is free sooner or later.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Opens a directory so that what is in it can be listed and removed.
fn open_own(parent: &OwnedFd, name: impl rustix::path::Arg + Copy) -> Result<OwnedFd, Errno> {
    let open = || rustix::fs::openat(parent, name, DIRECTORY, Mode::empty());
    let directory = match open() {
        Err(Errno::ACCESS) => {
            make_usable(parent.as_fd(), name)?;
            open()?
        }
        opened => opened?,
    };
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&directory)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        rustix::fs::fchmod(&directory, Mode::RWXU)?;
    }
    Ok(directory)
}

/// Lets the owner of a directory use it. It is held before its mode is changed, so that no link takes its place.
fn make_usable(parent: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    // A handle that only names it takes no mode but over its own path.
    rustix::fs::chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), Mode::RWXU)
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

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use rustix::process::{Gid, Uid};

    use super::*;

    const NOBODY: u32 = 65_534;

    /// Does something as an ordinary user, whose rights are those of one thread.
    fn as_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        let user = move || {
            if rustix::process::geteuid().is_root() {
                let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
                rustix::thread::set_thread_res_gid(group, group, group).expect("root may");
                rustix::thread::set_thread_res_uid(user, user, user).expect("root may");
            }
            work()
        };
        std::thread::scope(|scope| scope.spawn(user).join().expect("it ends"))
    }

    /// A home with a directory in a directory, each with its mode.
    fn home(root: &Path, outer: u32, inner: u32) {
        let workspace = root.join("agents/one/workspace");
        fs::create_dir_all(workspace.join("outer/inner")).expect("made");
        fs::write(workspace.join("outer/inner/file"), "x").expect("written");
        for (path, mode) in [("outer/inner", inner), ("outer", outer)] {
            fs::set_permissions(workspace.join(path), Permissions::from_mode(mode)).expect("set");
        }
    }

    #[test]
    fn an_ordinary_user_wipes_directories_without_permissions() {
        as_user(|| {
            for (outer, inner) in [(0o000, 0o700), (0o700, 0o000), (0o500, 0o400), (0o300, 0o300)] {
                let root = tempfile::tempdir().expect("a directory");
                home(root.path(), outer, inner);
                assert_eq!(wipe_home(root.path(), "one"), Ok(1), "{outer:o} {inner:o}");
                assert!(!root.path().join("agents/one").exists(), "{outer:o} {inner:o}");
            }
        });
    }

    /// Without a change of its mode such a directory stays, so the test above is of something.
    #[test]
    fn a_wipe_that_leaves_modes_as_they_are_is_caught() {
        as_user(|| {
            let root = tempfile::tempdir().expect("a directory");
            home(root.path(), 0o000, 0o700);
            let refused =
                fs::remove_dir_all(root.path().join("agents/one")).map_err(|problem| problem.kind());
            assert_eq!(refused, Err(std::io::ErrorKind::PermissionDenied));
            wipe_home(root.path(), "one").expect("it is wiped");
        });
    }
}
