//! The files of `audit/`: the key, and the checkpoints, which are appended and synced line by line.
//!
//! A crash in the middle of a line leaves a piece without a line end; the next start cuts it off, because it was never
//! acknowledged.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use dromia_guard::audit::{AuditKey, LINE_BYTES_MAX, PublicKey};

use crate::home::Home;
use crate::system::{self, ExitError};

/// The directory.
#[derive(Debug, Clone)]
pub(crate) struct AuditDirectory {
    dir: PathBuf,
}

impl AuditDirectory {
    pub(crate) fn for_home(home: &Home) -> Self {
        Self { dir: home.audit_dir() }
    }

    fn key_path(&self) -> PathBuf {
        self.dir.join("key")
    }

    fn public_path(&self) -> PathBuf {
        self.dir.join("public.key")
    }

    pub(crate) fn checkpoints_path(&self) -> PathBuf {
        self.dir.join("checkpoints.jsonl")
    }

    /// Reads the key of a home, or makes one of these secret bytes where nothing was signed yet.
    pub(crate) fn load_or_create_key(&self, seed: [u8; 32]) -> anyhow::Result<AuditKey> {
        let path = self.key_path();
        match fs::read_to_string(&path) {
            Ok(text) => AuditKey::from_text(&text).map_err(|problem| {
                ExitError::usage_error(format!(
                    "{} is not a key of the audit log: {problem}; restore it, or move {} aside to start a new \
                     log, which `dromia audit verify` will report",
                    path.display(),
                    self.dir.display()
                ))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => self.new_key(seed),
            Err(error) => Err(ExitError::usage_error(format!(
                "failed to read {}: {error}; its owner must be able to read it",
                path.display()
            ))),
        }
    }

    fn new_key(&self, seed: [u8; 32]) -> anyhow::Result<AuditKey> {
        let checkpoints = self.checkpoints_path();
        if fs::metadata(&checkpoints).is_ok_and(|found| found.len() > 0) {
            return Err(ExitError::failed_error(format!(
                "the key of the audit log is missing from {0}, but it signed {1}; restore the key, or move \
                 {0} aside to start a new log, which `dromia audit verify` will report",
                self.dir.display(),
                checkpoints.display()
            )));
        }
        let key = AuditKey::from_seed(seed)?;
        system::private_dir(&self.dir)?;
        system::replace_file(&self.public_path(), &format!("{}\n", key.public_key()), 0o644)?;
        system::private_file(&self.key_path(), &key.to_text())?;
        Ok(key)
    }

    /// Returns the public key of a home, if it has one.
    pub(super) fn public_key(&self) -> anyhow::Result<Option<PublicKey>> {
        let path = self.public_path();
        match fs::read_to_string(&path) {
            Ok(text) => {
                let key: Result<PublicKey, _> = text.trim_end().parse();
                key.map(Some)
                    .map_err(|problem| ExitError::usage_error(format!("{}: {problem}", path.display())))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ExitError::usage_error(format!("failed to read {}: {error}", path.display()))),
        }
    }
}

/// The file of checkpoints, open for its one writer.
#[derive(Debug)]
pub(super) struct CheckpointFile {
    path: PathBuf,
    /// What of the file was written and synced whole.
    length: u64,
}

impl CheckpointFile {
    /// Opens the file, cuts off what a crash left, and returns its last line.
    pub(super) fn open(path: PathBuf) -> anyhow::Result<(Self, Option<String>)> {
        let opened = || -> io::Result<(u64, Option<String>)> {
            let mut file = append_options().open(&path)?;
            let length = file.metadata()?.len();
            let bound = LINE_BYTES_MAX as u64 * 2;
            file.seek(SeekFrom::Start(length.saturating_sub(bound)))?;
            let mut end = Vec::new();
            file.take(bound).read_to_end(&mut end)?;
            let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let torn = (end.len() - whole) as u64;
            let lines = &end[..whole];
            let last = lines.strip_suffix(b"\n").map(|lines| {
                let last = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
                String::from_utf8_lossy(last).into_owned()
            });
            Ok((length - torn, last))
        };
        let (length, last) = opened().with_context(|| format!("failed to open {}", path.display()))?;
        Ok((Self { path, length }, last))
    }

    /// Moves a file aside that cannot be gone on with, and begins another.
    pub(super) fn begin_anew(&mut self) -> io::Result<PathBuf> {
        let mut aside = self.path.with_extension("damaged.jsonl");
        for number in 1..1_000 {
            if !aside.exists() {
                break;
            }
            aside = self.path.with_extension(format!("damaged-{number}.jsonl"));
        }
        fs::rename(&self.path, &aside)?;
        self.length = 0;
        Ok(aside)
    }

    /// Appends a line and syncs it. A failure leaves the file as it was, or with a piece that the next append removes.
    pub(super) fn append_line(&mut self, line: &str) -> io::Result<()> {
        let is_new = !self.path.exists();
        let mut file = append_options().open(&self.path)?;
        file.set_len(self.length)?;
        file.seek(SeekFrom::Start(self.length))?;
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        if is_new || self.length == 0 {
            let dir = self.path.parent().unwrap_or_else(|| Path::new("."));
            File::open(dir)?.sync_all()?;
        }
        self.length += line.len() as u64 + 1;
        Ok(())
    }
}

fn append_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

/// Reads a file line by line, each with its line end, none longer than a bound.
#[derive(Debug)]
pub(crate) struct BoundedLines {
    file: BufReader<File>,
    path: PathBuf,
}

impl BoundedLines {
    /// Opens a file; nothing if it is not there.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self { file: BufReader::new(file), path: path.to_owned() })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ExitError::failed_error(format!("failed to read {}: {error}", path.display()))),
        }
    }

    /// Reads the next line; what is no UTF-8 in it is replaced, so that it is no line of ours.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<String>> {
        let mut bytes = Vec::new();
        let mut bounded = (&mut self.file).take(LINE_BYTES_MAX as u64 + 1);
        let read = bounded.read_until(b'\n', &mut bytes);
        read.with_context(|| format!("failed to read {}", self.path.display()))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_checkpoint_line_is_removed_and_the_others_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("checkpoints.jsonl");
        let (mut file, last) = CheckpointFile::open(path.clone()).expect("opens");
        assert_eq!(last, None);
        file.append_line("one").expect("is appended");
        file.append_line("two").expect("is appended");
        fs::write(&path, "one\ntwo\nthr").expect("is torn");
        let (mut file, last) = CheckpointFile::open(path.clone()).expect("opens");
        assert_eq!(last.as_deref(), Some("two"));
        file.append_line("three").expect("is appended");
        assert_eq!(fs::read_to_string(&path).expect("is read"), "one\ntwo\nthree\n");
        let aside = file.begin_anew().expect("is moved");
        file.append_line("four").expect("is appended");
        assert_eq!(fs::read_to_string(&path).expect("is read"), "four\n");
        assert_eq!(fs::read_to_string(aside).expect("is read"), "one\ntwo\nthree\n");
    }

    #[test]
    fn an_audit_key_is_made_once_privately_and_never_replaced() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let book = AuditDirectory { dir: dir.path().join("audit") };
        let key = book.load_or_create_key([7; 32]).expect("is made");
        assert_eq!(book.load_or_create_key([8; 32]).expect("is read").public_key(), key.public_key());
        assert_eq!(book.public_key().expect("is read"), Some(key.public_key()));
        let mode = fs::metadata(book.key_path()).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(book.checkpoints_path(), "signed\n").expect("is written");
        fs::remove_file(book.key_path()).expect("is removed");
        let refused = book.load_or_create_key([9; 32]).expect_err("it was signed with another").to_string();
        assert!(refused.contains("restore the key"), "{refused}");
        fs::write(book.key_path(), "something").expect("is written");
        assert!(
            book.load_or_create_key([9; 32])
                .expect_err("it is no key")
                .to_string()
                .contains("is not a key of the audit log")
        );
    }
}
