//! Bodies: what was said, beside the rows that say it.
//!
//! A body is named by its BLAKE3 hash under its tenant's key, so equal bodies of two tenants differ. Up to
//! 1 KiB it lies in its row; above, in `bodies`; above 256 KiB, in the file `blobs/TENANT/HASH`, which is written
//! and synced before the batch enters its transaction. A crash in between leaves a file that no row names; the
//! sweeper removes it.
//!
//! A file that is there already is compared with what is to be written and replaced where it differs, so a body that
//! was damaged and is sent again is whole. A call that fails removes only a name that it gave itself.
//!
//! Only the writer's thread writes and removes these files, so a removal never crosses a batch that needs the
//! file: the batch finds it gone and writes it again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dromia_contracts::digest::Digest;
use dromia_contracts::id::TenantId;

use crate::config::{INLINE_MAX, TABLE_MAX};
use crate::obstacle::is_transient;

/// The directory of files that are being written, within that of their tenant.
const INCOMING: &str = "incoming";

/// Where a body lies. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyLocation {
    /// There is none.
    Nowhere,
    /// In its row.
    Row,
    /// In `bodies`.
    Table,
    /// In a file.
    File,
    /// It was erased; its hash stays.
    Erased,
}

impl BodyLocation {
    pub(crate) fn for_length(length: usize) -> Self {
        if length <= INLINE_MAX {
            Self::Row
        } else if length <= TABLE_MAX {
            Self::Table
        } else {
            Self::File
        }
    }

    pub(crate) fn stored_code(self) -> i64 {
        match self {
            Self::Row => 0,
            Self::Nowhere => 1,
            Self::Table => 2,
            Self::File => 3,
            Self::Erased => 4,
        }
    }

    pub(crate) fn from_code(code: i64) -> Option<Self> {
        [Self::Row, Self::Nowhere, Self::Table, Self::File, Self::Erased]
            .into_iter()
            .find(|place| place.stored_code() == code)
    }
}

/// Hashes a body under its tenant's key.
pub(crate) fn hash_body(key: &[u8; 32], body: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(key, body).as_bytes()
}

/// The bodies that are files.
#[derive(Debug, Clone)]
pub(crate) struct FileBodies {
    dir: PathBuf,
    sync: SyncDir,
    read: ReadFile,
    known: Arc<Mutex<KnownDirectories>>,
}

/// How a directory is made durable; a test gives one that fails.
type SyncDir = fn(&File, &Path) -> io::Result<()>;

/// How a file is read; a test gives one that fails.
type ReadFile = fn(&Path) -> io::Result<Vec<u8>>;

/// How many files are known to have a durable name.
const WRITTEN_MAX: usize = 4096;

/// What this process knows of the directories.
#[derive(Debug, Default)]
struct KnownDirectories {
    /// Tenants whose directory has a durable name.
    named: BTreeSet<TenantId>,
    /// Files whose names are durable: those that were written last. Who sends the same again waits for no disk, nor does
    /// anyone behind it.
    written: BTreeSet<(TenantId, [u8; 32])>,
    /// Whether a sync failed. A second one could succeed without effect, so from then on no file is taken for durable
    /// because it is there.
    is_doubtful: bool,
}

impl KnownDirectories {
    fn note_written(&mut self, tenant: TenantId, hash: [u8; 32]) {
        if self.written.len() >= WRITTEN_MAX {
            self.written.clear();
        }
        self.written.insert((tenant, hash));
    }
}

impl FileBodies {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, sync: |dir, _| dir.sync_all(), read: |path| fs::read(path), known: Arc::default() }
    }

    /// The same with another way to read a file.
    #[cfg(test)]
    pub(crate) fn reading(dir: PathBuf, read: ReadFile) -> Self {
        Self { read, ..Self::new(dir) }
    }

    /// Makes a file durable. One that is there already and holds these bytes was synced before it got its name; one that
    /// holds others is damaged and is replaced.
    pub(crate) fn write(&self, tenant: TenantId, hash: &[u8; 32], bytes: &[u8]) -> io::Result<()> {
        // Open before anything is renamed: without a descriptor for its sync no name may change.
        let dir = self.open_dir(tenant)?;
        let path = self.body_path(tenant, hash);
        let was_there = path.try_exists()?;
        if was_there && !self.lock_known().is_doubtful && file_holds(&path, bytes) {
            if self.lock_known().written.contains(&(tenant, *hash)) {
                return Ok(());
            }
        } else {
            // One name per tenant: a crash leaves at most one such file, and the next body writes over it.
            let incoming = self.tenant_dir(tenant).join(INCOMING);
            let mut file = File::create(&incoming)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&incoming, &path)?;
        }
        let synced = self.sync_path(&dir, &self.tenant_dir(tenant));
        if synced.is_ok() {
            self.lock_known().note_written(tenant, *hash);
        }
        synced.inspect_err(|_| {
            // Rows may name a file that was there before, so it stays. A name that came just now goes: no row has it.
            if !was_there && let Err(error) = fs::remove_file(&path) {
                tracing::error!(%error, "a body stays because its directory could not be synced");
            }
        })
    }

    /// Opens a tenant's directory, and makes it if it is not there. Its name is made durable once in each process, also where
    /// it is there: a process that ended between making and syncing it left a name that a power cut takes.
    fn open_dir(&self, tenant: TenantId) -> io::Result<File> {
        let path = self.tenant_dir(tenant);
        fs::create_dir_all(&path)?;
        let dir = File::open(&path)?;
        if !self.lock_known().named.contains(&tenant) {
            for parent in path.ancestors().skip(1).take(2) {
                self.sync_path(&File::open(parent)?, parent)?;
            }
            self.lock_known().named.insert(tenant);
        }
        Ok(dir)
    }

    fn sync_path(&self, dir: &File, path: &Path) -> io::Result<()> {
        (self.sync)(dir, path).inspect_err(|_| self.lock_known().is_doubtful = true)
    }

    fn lock_known(&self) -> MutexGuard<'_, KnownDirectories> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a file, and once more where the first read failed for a reason that may be gone at once.
    pub(crate) fn read(&self, tenant: TenantId, hash: &[u8; 32]) -> io::Result<Vec<u8>> {
        let path = self.body_path(tenant, hash);
        match (self.read)(&path) {
            Err(error) if is_transient(&error) => (self.read)(&path),
            read => read,
        }
    }

    /// Returns whether a file has its name.
    pub(crate) fn is_there(&self, tenant: TenantId, hash: &[u8; 32]) -> bool {
        self.body_path(tenant, hash).exists()
    }

    /// Removes a file, after the row that named it is durably gone. Returns whether it was there.
    pub(crate) fn remove(&self, tenant: TenantId, hash: &[u8; 32]) -> io::Result<bool> {
        self.lock_known().written.remove(&(tenant, *hash));
        match fs::remove_file(self.body_path(tenant, hash)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the files of a tenant that is durably gone, and its directory unless somebody put other files there.
    pub(crate) fn remove_tenant(&self, tenant: TenantId) -> io::Result<()> {
        let mut known = self.lock_known();
        known.named.remove(&tenant);
        known.written.retain(|(of, _)| *of != tenant);
        drop(known);
        for hash in self.list_hashes(tenant)? {
            self.remove(tenant, &hash)?;
        }
        let directory = self.tenant_dir(tenant);
        for removed in [fs::remove_file(directory.join(INCOMING)), fs::remove_dir(directory)] {
            match removed {
                Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                    return Err(error);
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Lists the tenants that have a directory, as far as their names are ours.
    pub(crate) fn list_tenants(&self) -> io::Result<Vec<TenantId>> {
        Ok(list_file_names(&self.dir)?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Lists the files of a tenant, as far as their names are ours.
    pub(crate) fn list_hashes(&self, tenant: TenantId) -> io::Result<Vec<[u8; 32]>> {
        let names = list_file_names(&self.tenant_dir(tenant))?;
        Ok(names.iter().filter_map(|name| name.parse::<Digest>().ok()).map(|hash| *hash.as_bytes()).collect())
    }

    pub(crate) fn body_path(&self, tenant: TenantId, hash: &[u8; 32]) -> PathBuf {
        self.tenant_dir(tenant).join(Digest::from_bytes(*hash).to_string())
    }

    fn tenant_dir(&self, tenant: TenantId) -> PathBuf {
        self.dir.join(tenant.to_string())
    }
}

/// Returns whether a file holds these bytes. One that cannot be read holds others.
fn file_holds(path: &Path, bytes: &[u8]) -> bool {
    let is_as_long = fs::metadata(path).is_ok_and(|found| found.len() == bytes.len() as u64);
    is_as_long && fs::read(path).is_ok_and(|found| found == bytes)
}

/// Lists a directory; one that is not there is empty. Names that are no text are nobody's of ours.
fn list_file_names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
