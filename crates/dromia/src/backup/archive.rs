//! The form of a backup: a tar file that other programs can list, with a manifest of digests as its last member.
//!
//! The first member says which form and which home it is. The manifest is one line of JSON for each member and a last line
//! with their number and the digest of the lines before. A file without its last line was cut off. A reader refuses a form
//! that is newer than it, a name that leads out of the backup, a second member of one name, and what no manifest names.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tar::{EntryType, Header};

use super::paced_file::PacedFile;

/// The form that this program writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;
const FIRST: &str = "dromia-backup.json";
const MANIFEST: &str = "manifest.jsonl";
/// The most members, and the most bytes of their manifest and of the first member.
pub(super) const MEMBERS_MAX: u64 = 2_000_000;
const MANIFEST_BYTES_MAX: u64 = 1 << 30;
const FIRST_BYTES_MAX: u64 = 1 << 16;

/// What a backup is, as its first member says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BackupHeader {
    /// The form of the file.
    pub(super) dromia_backup: u32,
    /// The version of the program that wrote it.
    pub(super) program: String,
    /// The home that it is of: the id of its first tenant; empty if it had none.
    pub(super) home_id: String,
    /// When the database was copied.
    pub(super) created_at: Timestamp,
    /// Whether the files of agents are in it.
    pub(super) has_workspaces: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MemberKind {
    File,
    Directory,
    Link,
}

/// A member, as the manifest has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BackupMember {
    pub(super) path: String,
    pub(super) kind: MemberKind,
    pub(super) mode: u32,
    pub(super) bytes: u64,
    /// The digest of what it contains; of a link, of where it leads.
    pub(super) blake3: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct ManifestEnd {
    members: u64,
    blake3: String,
}

/// Why a file is not taken for a backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error("it is not a backup of dromia")]
    Foreign,
    #[error("it has form {0}, and this program reads up to {FORMAT}; use the newer program")]
    Newer(u32),
    #[error("it was cut off after {0} members")]
    Truncated(u64),
    #[error("its member {0:?} is not one of a backup")]
    Member(String),
    #[error("its manifest is damaged")]
    Manifest,
    #[error("it has more than {MEMBERS_MAX} members")]
    TooMany,
}

fn digest_text(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Writes a backup.
pub(super) struct BackupWriter {
    tar: tar::Builder<BufWriter<PacedFile>>,
    manifest: Vec<u8>,
    pub(super) members: u64,
    pub(super) bytes: u64,
}

impl BackupWriter {
    /// Begins a file with what it is.
    pub(super) fn begin(file: File, header: &BackupHeader) -> io::Result<Self> {
        let tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, PacedFile::new(file)));
        let mut writer = Self { tar, manifest: Vec::new(), members: 0, bytes: 0 };
        let text = serde_json::to_vec(header)?;
        writer.add_file(FIRST, 0o600, None, &mut text.as_slice())?;
        Ok(writer)
    }

    /// Adds a file, as long as it turns out to be: one that is written meanwhile may grow or shrink.
    pub(super) fn add_file(
        &mut self,
        path: &str,
        mode: u32,
        modified: Option<u64>,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let mut header = member_header(EntryType::Regular, mode);
        header.set_mtime(modified.unwrap_or_default());
        let mut entry = self.tar.append_writer(&mut header, path)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 17];
        let mut bytes = 0;
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hasher.update(&buffer[..count]);
            entry.write_all(&buffer[..count])?;
            bytes += count as u64;
        }
        entry.finish()?;
        let blake3 = hasher.finalize().to_hex().to_string();
        self.note(&BackupMember { path: path.to_owned(), kind: MemberKind::File, mode, bytes, blake3 })
    }

    pub(super) fn add_directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        let mut header = member_header(EntryType::Directory, mode);
        self.tar.append_data(&mut header, path, io::empty())?;
        let blake3 = digest_text(b"");
        self.note(&BackupMember {
            path: path.to_owned(),
            kind: MemberKind::Directory,
            mode,
            bytes: 0,
            blake3,
        })
    }

    pub(super) fn add_link(&mut self, path: &str, target: &str) -> io::Result<()> {
        let mut header = member_header(EntryType::Symlink, 0o777);
        self.tar.append_link(&mut header, path, target)?;
        let blake3 = digest_text(target.as_bytes());
        self.note(&BackupMember {
            path: path.to_owned(),
            kind: MemberKind::Link,
            mode: 0o777,
            bytes: 0,
            blake3,
        })
    }

    fn note(&mut self, member: &BackupMember) -> io::Result<()> {
        serde_json::to_writer(&mut self.manifest, member)?;
        self.manifest.push(b'\n');
        self.members += 1;
        self.bytes += member.bytes;
        if self.members > MEMBERS_MAX || self.manifest.len() as u64 > MANIFEST_BYTES_MAX - 1_024 {
            return Err(io::Error::other(ArchiveError::TooMany));
        }
        Ok(())
    }

    /// Writes the manifest, and returns the file when all of it is on the disk.
    pub(super) fn finish(mut self) -> io::Result<File> {
        let end = ManifestEnd { members: self.members, blake3: digest_text(&self.manifest) };
        serde_json::to_writer(&mut self.manifest, &end)?;
        self.manifest.push(b'\n');
        let mut header = member_header(EntryType::Regular, 0o600);
        header.set_size(self.manifest.len() as u64);
        self.tar.append_data(&mut header, MANIFEST, self.manifest.as_slice())?;
        let file = self.tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        let file = file.into_file();
        file.sync_all()?;
        Ok(file)
    }
}

fn member_header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header.set_mtime(0);
    header
}

/// What a reader does with each member; what it does not read is read past.
pub(super) trait MemberSink {
    /// Learns what the backup is, before its members.
    fn begin(&mut self, header: &BackupHeader) -> anyhow::Result<()>;
    /// Takes a member.
    fn take_member(&mut self, member: &IncomingMember<'_>, content: &mut dyn Read) -> anyhow::Result<()>;
}

/// A member that is read.
pub(super) struct IncomingMember<'a> {
    pub(super) path: &'a str,
    pub(super) kind: MemberKind,
    pub(super) mode: u32,
    pub(super) bytes: u64,
    pub(super) modified: u64,
    /// Where a link leads.
    pub(super) target: Option<PathBuf>,
}

/// What was read.
#[derive(Debug)]
pub(super) struct ReadBackup {
    pub(super) header: BackupHeader,
    pub(super) members: u64,
    pub(super) bytes: u64,
    /// Members that differ from the manifest, or that only one of both has.
    pub(super) findings: Vec<String>,
}

/// Reads a backup to its end and compares each member with the manifest.
pub(super) fn read_backup(file: File, sink: &mut dyn MemberSink) -> anyhow::Result<ReadBackup> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, file));
    let mut found: Vec<BackupMember> = Vec::new();
    let mut names = HashSet::new();
    let mut header: Option<BackupHeader> = None;
    let cut_off = |found: &[BackupMember]| ArchiveError::Truncated(found.len() as u64);
    for entry in archive.entries()? {
        let is_first = found.is_empty();
        let unreadable = || if is_first { ArchiveError::Foreign } else { cut_off(&found) };
        let mut entry = entry.map_err(|_| unreadable())?;
        let path = entry.path_bytes().into_owned();
        let path = String::from_utf8(path).map_err(|_| ArchiveError::Foreign)?;
        let path = path.trim_end_matches('/').to_owned();
        if is_first && path != FIRST {
            return Err(ArchiveError::Foreign.into());
        }
        if path == MANIFEST {
            let mut text = Vec::new();
            entry
                .by_ref()
                .take(MANIFEST_BYTES_MAX + 1)
                .read_to_end(&mut text)
                .map_err(|_| cut_off(&found))?;
            if text.len() as u64 != entry.size() {
                return Err(cut_off(&found).into());
            }
            let header = header.ok_or(ArchiveError::Foreign)?;
            let findings = compare_manifest(&found, &text)?;
            let bytes = found.iter().map(|member| member.bytes).sum();
            return Ok(ReadBackup { header, members: found.len() as u64, bytes, findings });
        }
        if !(is_first || is_safe_path(&path)) || !names.insert(path.clone()) {
            return Err(ArchiveError::Member(path).into());
        }
        if found.len() as u64 >= MEMBERS_MAX {
            return Err(ArchiveError::TooMany.into());
        }
        let kind = match entry.header().entry_type() {
            EntryType::Regular => MemberKind::File,
            EntryType::Directory => MemberKind::Directory,
            EntryType::Symlink => MemberKind::Link,
            _ => return Err(ArchiveError::Member(path).into()),
        };
        let target = entry.link_name().ok().flatten().map(std::borrow::Cow::into_owned);
        let incoming = IncomingMember {
            path: &path,
            kind,
            mode: entry.header().mode().unwrap_or(0o600) & 0o777,
            bytes: entry.size(),
            modified: entry.header().mtime().unwrap_or_default(),
            target,
        };
        let mut content = HashedContent { inner: &mut entry, hasher: blake3::Hasher::new(), bytes: 0 };
        if is_first {
            let mut text = Vec::new();
            content
                .by_ref()
                .take(FIRST_BYTES_MAX)
                .read_to_end(&mut text)
                .map_err(|_| ArchiveError::Foreign)?;
            let read = read_header(&text)?;
            sink.begin(&read)?;
            header = Some(read);
        } else {
            sink.take_member(&incoming, &mut content)?;
        }
        io::copy(&mut content, &mut io::sink()).map_err(|_| cut_off(&found))?;
        let (bytes, read) = (content.bytes, content.hasher.finalize().to_hex().to_string());
        if bytes != incoming.bytes {
            return Err(cut_off(&found).into());
        }
        let blake3 = match (&incoming.target, kind) {
            (Some(target), MemberKind::Link) => digest_text(target.as_os_str().as_encoded_bytes()),
            _ => read,
        };
        let mode = incoming.mode;
        found.push(BackupMember { path, kind, mode, bytes, blake3 });
    }
    Err(if found.is_empty() { ArchiveError::Foreign } else { cut_off(&found) }.into())
}

fn read_header(text: &[u8]) -> Result<BackupHeader, ArchiveError> {
    #[derive(Deserialize)]
    struct FormOnly {
        dromia_backup: u32,
    }
    let form: FormOnly = serde_json::from_slice(text).map_err(|_| ArchiveError::Foreign)?;
    if form.dromia_backup > FORMAT {
        return Err(ArchiveError::Newer(form.dromia_backup));
    }
    serde_json::from_slice(text).map_err(|_| ArchiveError::Foreign)
}

/// Says how what was found differs from the manifest: nothing if it does not.
fn compare_manifest(found: &[BackupMember], text: &[u8]) -> Result<Vec<String>, ArchiveError> {
    let bare = text.strip_suffix(b"\n").ok_or(ArchiveError::Manifest)?;
    let at = bare.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let end: ManifestEnd = serde_json::from_slice(&bare[at..]).map_err(|_| ArchiveError::Manifest)?;
    if end.blake3 != digest_text(&text[..at]) {
        return Err(ArchiveError::Manifest);
    }
    let mut findings = Vec::new();
    let mut members = found.iter().peekable();
    let mut listed = 0;
    for line in text[..at].split_inclusive(|byte| *byte == b'\n') {
        let wanted: BackupMember = serde_json::from_slice(line).map_err(|_| ArchiveError::Manifest)?;
        listed += 1;
        match members.next_if(|member| member.path == wanted.path) {
            Some(member) if *member == wanted => {}
            Some(_) => findings.push(format!("{} differs from the manifest", wanted.path)),
            None => findings.push(format!("{} is missing", wanted.path)),
        }
    }
    findings.extend(members.map(|member| format!("{} is not in the manifest", member.path)));
    if listed == end.members { Ok(findings) } else { Err(ArchiveError::Manifest) }
}

/// Whether a name lies below `home` and leads nowhere else.
fn is_safe_path(path: &str) -> bool {
    let mut names = Path::new(path).components();
    names.next() == Some(Component::Normal("home".as_ref()))
        && names.all(|name| matches!(name, Component::Normal(_)))
}

/// Hashes what is read through it.
struct HashedContent<'a> {
    inner: &'a mut dyn Read,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Read for HashedContent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}
