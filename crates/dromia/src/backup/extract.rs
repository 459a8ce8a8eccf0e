//! Unpacking members into a new directory. Links are made last, so no file is written through one.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;

use super::archive::{BackupHeader, IncomingMember, MemberKind, MemberSink};
use super::progress::{CopyWatch, WatchedRead};

/// Which members are wanted, by their names below the home.
type IsWanted = fn(&str) -> bool;
/// What is asked of a backup before anything of it is unpacked.
type CheckHeader<'a> = &'a dyn Fn(&BackupHeader) -> anyhow::Result<()>;

/// Unpacks a home.
pub(super) struct HomeUnpacker<'a> {
    pub(super) root: &'a Path,
    pub(super) is_wanted: IsWanted,
    pub(super) check: CheckHeader<'a>,
    pub(super) watch: &'a mut CopyWatch,
    bytes: u64,
    links: Vec<(PathBuf, PathBuf)>,
    directories: Vec<(PathBuf, u32)>,
}

impl<'a> HomeUnpacker<'a> {
    pub(super) fn new(
        root: &'a Path,
        is_wanted: IsWanted,
        check: CheckHeader<'a>,
        watch: &'a mut CopyWatch,
    ) -> Self {
        Self { root, is_wanted, check, watch, bytes: 0, links: Vec::new(), directories: Vec::new() }
    }

    /// Makes the links, and gives directories the rights that they had: one without the right to write gets it last.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        for (path, target) in &self.links {
            symlink(target, path).with_context(|| format!("failed to create {}", path.display()))?;
        }
        for (path, mode) in self.directories.iter().rev() {
            fs::set_permissions(path, fs::Permissions::from_mode(*mode))
                .with_context(|| format!("failed to set the rights of {}", path.display()))?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        path: &Path,
        member: &IncomingMember<'_>,
        content: &mut dyn Read,
        before: u64,
    ) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        match (member.kind, &member.target) {
            (MemberKind::File, _) => {
                let mode = member.mode;
                let mut file =
                    OpenOptions::new().write(true).create_new(true).mode(mode | 0o200).open(path)?;
                let watch = &mut *self.watch;
                let mut content = WatchedRead { inner: content, watch, what: "unpacked", bytes: before };
                io::copy(&mut content, &mut file)?;
                file.set_permissions(fs::Permissions::from_mode(mode))?;
                file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(member.modified))?;
            }
            (MemberKind::Directory, _) => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
                self.directories.push((path.to_owned(), member.mode));
            }
            (MemberKind::Link, Some(target)) => self.links.push((path.to_owned(), target.clone())),
            (MemberKind::Link, None) => return Err(io::Error::other("the link leads nowhere")),
        }
        Ok(())
    }
}

impl MemberSink for HomeUnpacker<'_> {
    fn begin(&mut self, header: &BackupHeader) -> anyhow::Result<()> {
        (self.check)(header)
    }

    fn take_member(&mut self, member: &IncomingMember<'_>, content: &mut dyn Read) -> anyhow::Result<()> {
        let before = self.bytes;
        self.bytes += member.bytes;
        let Some(below) = member.path.strip_prefix("home/").filter(|below| (self.is_wanted)(below)) else {
            return Ok(());
        };
        let path = self.root.join(below);
        let taken = self.take(&path, member, content, before);
        self.watch.note_step("unpacked", self.bytes, None)?;
        taken.with_context(|| format!("failed to unpack {}", member.path))
    }
}
