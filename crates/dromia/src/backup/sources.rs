//! The files of a home beside its store, read without following a link.
//!
//! Programs of agents may write in their workspaces while these are read. So everything below the first level is opened
//! relative to a held directory, and the kernel refuses a name that became a link (`openat2`): else a program could have
//! a file of the machine copied into its own workspace by way of a restore. A link of the first level is the operator's
//! own, and is followed. Sockets, locks, logs and unfinished files are left out, and so is what cannot be read below
//! `agents`; the caller says so.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::archive::BackupWriter;
use super::progress::{CopyWatch, WatchedRead};
use crate::system::ExitError;

/// The directory of the agents' files.
const AGENTS: &str = "agents";
/// What is copied by other means, or belongs to a running server.
const LEFT_OUT: [&str; 4] = ["run", "store", "logs", "audit"];
/// Files that are no part of a home, by how their names end.
const LEFT_OUT_ENDS: [&str; 5] = [".new", ".partial", ".lock", ".log", ".sock"];
/// The most that the files of all agents may be, or of another directory of the home, and how deep they may lie.
const TREE_BYTES_MAX: u64 = 64 << 30;
const TREE_MEMBERS_MAX: u64 = 1_000_000;
const DEPTH_MAX: usize = 128;
/// How many of the files that were left out are named.
const SKIPPED_NAMED_MAX: usize = 20;
/// `openat2` asks to be called again when a rename elsewhere disturbed it.
const AGAIN_MAX: usize = 16;

/// Copies the files of a home into a backup.
pub(super) struct HomeFiles<'a> {
    pub(super) writer: &'a mut BackupWriter,
    pub(super) watch: &'a mut CopyWatch,
    pub(super) has_workspaces: bool,
    /// Files of agents that could not be copied, by name, and how many there are.
    pub(super) skipped: Vec<String>,
    pub(super) skipped_count: u64,
}

impl HomeFiles<'_> {
    /// Copies everything of the home that is copied as it is.
    pub(super) fn copy_home(&mut self, home: &Path) -> anyhow::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(home).with_context(|| format!("failed to list {}", home.display()))? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        for name in names {
            let is_left_out = LEFT_OUT.contains(&name.as_str())
                || LEFT_OUT_ENDS.iter().any(|end| name.ends_with(end))
                || (name == AGENTS && !self.has_workspaces);
            if is_left_out {
                continue;
            }
            let path = home.join(&name);
            let found = match fs::metadata(&path) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("failed to read {}", path.display()));
                }
            };
            let member = format!("home/{name}");
            if found.is_file() {
                let file = File::open(&path).with_context(|| format!("failed to read {}", path.display()))?;
                self.copy_file(file, &member)?;
            } else if found.is_dir() {
                let root = rustix::fs::openat(CWD, &path, directory_flags(), Mode::empty())
                    .with_context(|| format!("failed to read {}", path.display()))?;
                self.copy_directory(&root, &member, name == AGENTS)?;
            }
        }
        Ok(())
    }

    /// Copies the files of `audit/` beside the checkpoints.
    pub(super) fn copy_audit(&mut self, dir: &Path) -> anyhow::Result<()> {
        for name in ["key", "public.key"] {
            match File::open(dir.join(name)) {
                Ok(file) => self.copy_file(file, &format!("home/audit/{name}"))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("failed to read {name} of the audit log"));
                }
            }
        }
        Ok(())
    }

    /// Copies an open file under a name.
    pub(super) fn copy_file(&mut self, mut file: File, member: &str) -> anyhow::Result<()> {
        let found = file.metadata()?;
        let modified = u64::try_from(found.mtime()).ok();
        let bytes = self.writer.bytes;
        let mut content = WatchedRead { inner: &mut file, watch: self.watch, what: "files", bytes };
        let copied = self.writer.add_file(member, found.mode() & 0o777, modified, &mut content);
        // A read that was ended by a signal failed for that reason.
        self.watch.note_step("files", self.writer.bytes, None)?;
        copied.with_context(|| format!("failed to copy {member}"))
    }

    /// Copies a directory and everything below it.
    fn copy_directory(&mut self, root: &OwnedFd, member: &str, is_of_agents: bool) -> anyhow::Result<()> {
        let before = (self.writer.bytes, self.writer.members);
        // Directories that are to be read, as their names below the root.
        let mut waiting = vec![String::new()];
        while let Some(below) = waiting.pop() {
            let place = join_names(member, &below);
            let entries = match read_directory(root, &below) {
                Ok(entries) => entries,
                Err(error) => {
                    self.skip(is_of_agents, &place, error)?;
                    continue;
                }
            };
            self.writer.add_directory(&place, entries.mode)?;
            for (name, kind) in entries.names {
                let path = join_names(&below, &name);
                let place = join_names(member, &path);
                if kind == FileType::Directory {
                    if path.matches('/').count() >= DEPTH_MAX {
                        self.skip(is_of_agents, &place, Errno::NAMETOOLONG)?;
                    } else {
                        waiting.push(path);
                    }
                } else if let Err(error) = self.copy_entry(root, &path, &place, kind)? {
                    self.skip(is_of_agents, &place, error)?;
                }
                self.check_bounds(before, &place)?;
            }
            self.skipped_count += entries.unnamed;
        }
        Ok(())
    }

    /// Refuses more files of one directory of the home than a backup takes.
    fn check_bounds(&self, before: (u64, u64), place: &str) -> anyhow::Result<()> {
        let (bytes, members) = (self.writer.bytes - before.0, self.writer.members - before.1);
        if bytes <= TREE_BYTES_MAX && members <= TREE_MEMBERS_MAX {
            return Ok(());
        }
        Err(ExitError::failed_error(format!(
            "{place} is beyond {} GiB or {TREE_MEMBERS_MAX} files of one directory of the home; remove some, or \
             leave out those of agents with --without-workspaces",
            TREE_BYTES_MAX >> 30
        )))
    }

    /// Copies a file or a link; the inner error is one of opening it.
    fn copy_entry(
        &mut self,
        root: &OwnedFd,
        path: &str,
        member: &str,
        kind: FileType,
    ) -> anyhow::Result<Result<(), Errno>> {
        match kind {
            FileType::RegularFile => match open_below(root, path, file_flags()) {
                Ok(file) => {
                    let file = File::from(file);
                    // What the listing called a file may be another thing by now.
                    if file.metadata()?.is_file() {
                        self.copy_file(file, member)?;
                    }
                    Ok(Ok(()))
                }
                Err(error) => Ok(Err(error)),
            },
            FileType::Symlink => match read_link_below(root, path) {
                Ok(target) => Ok(self.writer.add_link(member, &target).map(Ok)?),
                Err(error) => Ok(Err(error)),
            },
            // Sockets, pipes and devices.
            _ => Ok(Ok(())),
        }
    }

    /// Leaves something out that cannot be read: below `agents` it is counted, elsewhere it is an error.
    fn skip(&mut self, is_of_agents: bool, member: &str, error: Errno) -> anyhow::Result<()> {
        if error == Errno::NOENT {
            return Ok(());
        }
        if !is_of_agents {
            return Err(io::Error::from(error)).with_context(|| format!("failed to read {member}"));
        }
        self.skipped_count += 1;
        if self.skipped.len() < SKIPPED_NAMED_MAX {
            self.skipped.push(format!("{member}: {}", io::Error::from(error)));
        }
        Ok(())
    }
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn file_flags() -> OFlags {
    // A pipe must not block, a terminal must not become ours.
    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
}

fn join_names(parent: &str, name: &str) -> String {
    match (parent.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => parent.to_owned(),
        _ => format!("{parent}/{name}"),
    }
}

/// Opens something beneath a directory; no link is followed.
fn open_below(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { "." } else { path };
    let bounds = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut again = 0;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), bounds) {
            Err(Errno::AGAIN) if again < AGAIN_MAX => again += 1,
            opened => return opened,
        }
    }
}

/// Reads where a link leads. Its directory is opened first, so that no name before it is followed either.
fn read_link_below(root: &OwnedFd, path: &str) -> Result<String, Errno> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = open_below(root, parent, directory_flags())?;
    let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
    target.into_string().map_err(|_| Errno::ILSEQ)
}

/// What a directory has.
struct DirectoryEntries {
    mode: u32,
    names: Vec<(String, FileType)>,
    /// How many names are no text, which are left out.
    unnamed: u64,
}

fn read_directory(root: &OwnedFd, path: &str) -> Result<DirectoryEntries, Errno> {
    let dir = open_below(root, path, directory_flags())?;
    let mode = rustix::fs::fstat(&dir)?.st_mode & 0o777;
    let mut found = DirectoryEntries { mode, names: Vec::new(), unnamed: 0 };
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        if found.names.len() as u64 > TREE_MEMBERS_MAX {
            // More than a backup takes, and the caller says so.
            break;
        }
        let Ok(name) = entry.file_name().to_str() else {
            found.unnamed += 1;
            continue;
        };
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Not every file system says it in the listing.
            FileType::Unknown => {
                let found = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(found.st_mode)
            }
            kind => kind,
        };
        found.names.push((name.to_owned(), kind));
    }
    found.names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}
