//! Bodies: what was said, beside the rows that say it.
//!
//! A body is named by its BLAKE3 hash under its tenant's key, so equal bodies of two tenants differ. Up to
//! 1 KiB it lies in its row; above, in `bodies`; above 256 KiB, in the file `blobs/TENANT/HASH`, which is written
//! and synced before the batch enters its transaction. A crash in between leaves a file that no row names; the
//! sweeper removes it.
//!
//! Only the writer's thread writes and removes these files, so a removal never crosses a batch that needs the
//! file: the batch finds it gone and writes it again.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use dromia_contracts::digest::Digest;
use dromia_contracts::id::TenantId;

use crate::config::{INLINE_MAX, TABLE_MAX};

/// Where a body lies. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
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

impl Place {
    pub(crate) fn of(length: usize) -> Self {
        if length <= INLINE_MAX {
            Self::Row
        } else if length <= TABLE_MAX {
            Self::Table
        } else {
            Self::File
        }
    }

    pub(crate) fn code(self) -> i64 {
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
            .find(|place| place.code() == code)
    }
}

/// Hashes a body under its tenant's key.
pub(crate) fn hash(key: &[u8; 32], body: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(key, body).as_bytes()
}

/// The bodies that are files.
#[derive(Debug, Clone)]
pub(crate) struct FileBodies {
    dir: PathBuf,
}

impl FileBodies {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Makes a file durable. One that has its name already was synced before it got it.
    pub(crate) fn write(&self, tenant: TenantId, hash: &[u8; 32], bytes: &[u8]) -> io::Result<()> {
        let dir = self.tenant_dir(tenant);
        if !dir.is_dir() {
            fs::create_dir_all(&dir)?;
            sync_dir(&self.dir)?;
            if let Some(home) = self.dir.parent() {
                sync_dir(home)?;
            }
        }
        let path = self.path(tenant, hash);
        if !path.exists() {
            // One name per tenant: a crash leaves at most one such file, and the next body writes over it.
            let incoming = dir.join("incoming");
            let mut file = File::create(&incoming)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&incoming, &path)?;
        }
        sync_dir(&dir).inspect_err(|_| {
            // A second sync could succeed without effect; without the name the body is written anew.
            if let Err(error) = fs::remove_file(&path) {
                tracing::error!(%error, "a body whose directory could not be synced stays");
            }
        })
    }

    pub(crate) fn read(&self, tenant: TenantId, hash: &[u8; 32]) -> io::Result<Vec<u8>> {
        fs::read(self.path(tenant, hash))
    }

    /// Removes a file, after the row that named it is durably gone. Tells whether it was there.
    pub(crate) fn remove(&self, tenant: TenantId, hash: &[u8; 32]) -> io::Result<bool> {
        match fs::remove_file(self.path(tenant, hash)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lists the tenants that have a directory, as far as their names are ours.
    pub(crate) fn tenants(&self) -> io::Result<Vec<TenantId>> {
        Ok(names(&self.dir)?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Lists the files of a tenant, as far as their names are ours.
    pub(crate) fn list(&self, tenant: TenantId) -> io::Result<Vec<[u8; 32]>> {
        let names = names(&self.tenant_dir(tenant))?;
        Ok(names.iter().filter_map(|name| name.parse::<Digest>().ok()).map(|hash| *hash.as_bytes()).collect())
    }

    fn path(&self, tenant: TenantId, hash: &[u8; 32]) -> PathBuf {
        self.tenant_dir(tenant).join(Digest::from_bytes(*hash).to_string())
    }

    fn tenant_dir(&self, tenant: TenantId) -> PathBuf {
        self.dir.join(tenant.to_string())
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Lists a directory; one that is not there is empty. Names that are no text are nobody's of ours.
fn names(dir: &Path) -> io::Result<Vec<String>> {
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
