//! The key of an instance in a file of its home: what the keys of tenants' secrets are sealed with.
//!
//! `init` makes the file, and a home without one gets it with its first secret: where the store has anything that was
//! sealed, a file that is missing is elsewhere, and only the owner of the home can give that one up and have another
//! one made. It is read each time that a tenant's key is opened and is not kept. A file that others may read is
//! refused. The file and the store together give the secrets; without the file all of them are lost.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::runtime::IdSource;
use dromia_contracts::vault::{KeyBytes, KeyError, KeyProvider};
use dromia_contracts::{BoxFuture, Digest};
use dromia_guard::vault::seal;
use dromia_store::{StoreConfig, StoreInspector};

use crate::system;

/// The word in front of the key; another version is another word.
const FORM: &str = "dromia-vault-key-1 ";

/// How long the store may take to tell whether it has anything that was sealed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A key in a file.
#[derive(Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    ids: Arc<dyn IdSource>,
    /// What is sealed with it.
    store: Option<StoreConfig>,
}

impl KeyFile {
    /// Names the file; nothing is read or made.
    pub(crate) fn new(path: PathBuf, ids: Arc<dyn IdSource>) -> Self {
        Self { path, ids, store: None }
    }

    /// Names the store whose tenants' keys are sealed with it. Without one, no first secret makes the file.
    pub(crate) fn for_store(self, store: StoreConfig) -> Self {
        Self { store: Some(store), ..self }
    }

    /// Makes the file if it is not there.
    pub(crate) fn create_if_missing(&self) -> Result<(), KeyError> {
        if self.is_there()? {
            return Ok(());
        }
        // It is no digest, and is written like one.
        let digits = Digest::from_bytes(self.ids.random_secret());
        let written = system::private_file(&self.path, &format!("{FORM}{digits}\n"));
        written.map_err(|error| self.unusable_error(&format!("cannot be created: {error:#}")))
    }

    /// Opens what was sealed.
    pub(crate) fn open_sealed(&self, context: &[u8], sealed: &[u8]) -> Result<KeyBytes, KeyError> {
        let own = self.read_key()?;
        let key = seal::open_sealed(&own, context, sealed).map_err(|_| self.wrong_key_error())?;
        Ok(KeyBytes::new(key.as_slice().try_into().map_err(|_| self.wrong_key_error())?))
    }

    /// Says what is wrong with the file, if anything is.
    pub(crate) fn check_file(&self) -> Result<(), KeyError> {
        self.read_key().map(drop)
    }

    fn is_there(&self) -> Result<bool, KeyError> {
        match fs::symlink_metadata(&self.path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.unusable_error(&format!("cannot be examined: {error}"))),
        }
    }

    /// Tells whether the store has nothing that was sealed, so that no other key belongs here. What cannot be read is not taken
    /// for nothing.
    async fn is_first(&self) -> Result<bool, KeyError> {
        let Some(store) = self.store.clone() else { return Ok(false) };
        let look = move || StoreInspector::new(store, PATIENCE).vault_keys(1);
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(sealed)) => Ok(sealed.is_empty()),
            Ok(Err(error)) => Err(self.unusable_error(&format!(
                "is missing, and the store, which says whether it is needed, cannot be read: {error}"
            ))),
            Err(_) => Err(self.unusable_error("is missing, and the check whether it is needed failed")),
        }
    }

    fn read_key(&self) -> Result<KeyBytes, KeyError> {
        let (text, mode) = read_with_retry(|| {
            let text = fs::read_to_string(&self.path)?;
            Ok((text, fs::metadata(&self.path)?.permissions().mode()))
        })
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => self.missing_error(),
            _ if is_transient(&error) => {
                KeyError::Unread { problem: format!("{} cannot be read: {error}", self.path.display()) }
            }
            _ => self.unusable_error(&format!("cannot be read: {error}")),
        })?;
        if mode & 0o077 != 0 {
            return Err(self.unusable_error("is readable by other users; run `chmod 600` on it"));
        }
        let digits = text.strip_prefix(FORM).map(str::trim_end).filter(|digits| digits.len() == 64);
        let key = digits.and_then(|digits| {
            let mut key = [0; 32];
            for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks(2)) {
                *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
            }
            Some(KeyBytes::new(key))
        });
        key.ok_or_else(|| self.unusable_error("contains no vault key; restore the right file"))
    }

    fn missing_error(&self) -> KeyError {
        KeyError::Missing { place: self.path.display().to_string() }
    }

    fn unusable_error(&self, problem: &str) -> KeyError {
        KeyError::Unusable { problem: format!("{} {problem}", self.path.display()) }
    }

    fn wrong_key_error(&self) -> KeyError {
        KeyError::Wrong { place: self.path.display().to_string() }
    }
}

/// Tells whether an error may be over at the next look: one that says something of the file stays.
fn is_transient(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::InvalidData
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
    )
}

/// Reads, and once more where what went wrong may be over.
fn read_with_retry<T>(read: impl Fn() -> io::Result<T>) -> io::Result<T> {
    read().or_else(|error| if is_transient(&error) { read() } else { Err(error) })
}

impl KeyProvider for KeyFile {
    fn ensure_key(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        Box::pin(async move {
            if self.is_there()? {
                return Ok(());
            }
            if self.is_first().await? { self.create_if_missing() } else { Err(self.missing_error()) }
        })
    }

    fn make_key(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        Box::pin(async move { self.create_if_missing() })
    }

    fn seal_key<'a>(
        &'a self,
        context: &'a [u8],
        key: &'a KeyBytes,
    ) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        Box::pin(async move {
            let own = self.read_key()?;
            seal::seal_text(&own, self.ids.random_secret(), context, key.expose_key())
                .map_err(|_| self.wrong_key_error())
        })
    }

    fn open_key<'a>(
        &'a self,
        context: &'a [u8],
        sealed: &'a [u8],
    ) -> BoxFuture<'a, Result<KeyBytes, KeyError>> {
        Box::pin(async move { self.open_sealed(context, sealed) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let tokio = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        tokio.block_on(future)
    }

    fn file(dir: &tempfile::TempDir) -> KeyFile {
        KeyFile::new(dir.path().join("vault.key"), dromia_testkit::tokio_runtime().ids)
    }

    #[test]
    fn an_owner_only_key_is_made_once_and_unseals_values() {
        let dir = tempfile::tempdir().expect("a directory");
        let keys = file(&dir);
        let (mine, place) = (KeyBytes::new([7; 32]), &b"place"[..]);
        assert!(block_on(keys.open_key(place, b"x")).is_err(), "opening makes no key");
        assert!(block_on(keys.seal_key(place, &mine)).is_err(), "sealing makes no key");
        assert!(!keys.path.exists());
        assert!(block_on(keys.ensure_key()).is_err(), "nobody knows whether another one belongs here");
        assert!(!keys.path.exists());
        block_on(keys.make_key()).expect("it is made");
        let sealed = block_on(keys.seal_key(place, &mine)).expect("it is sealed");
        let mode = fs::metadata(&keys.path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(&keys.path).expect("it is read");
        block_on(keys.make_key()).expect("it is there");
        assert_eq!(fs::read_to_string(&keys.path).expect("it is read"), text, "a key is never made anew");
        let opened = block_on(file(&dir).open_key(place, &sealed)).expect("it opens");
        assert_eq!(opened.expose_key(), mine.expose_key());
    }

    /// How often a read is made that fails so often, with an error that passes or one that stays.
    fn reads(fails: u32, kind: ErrorKind) -> (u32, bool) {
        let made = std::cell::Cell::new(0);
        let read = || {
            made.set(made.get() + 1);
            if made.get() <= fails { Err(io::Error::from(kind)) } else { Ok(()) }
        };
        let is_read = read_with_retry(read).is_ok();
        (made.get(), is_read)
    }

    #[test]
    fn a_transient_key_read_error_is_retried_once() {
        assert_eq!(reads(1, ErrorKind::Other), (2, true));
        assert_eq!(reads(2, ErrorKind::OutOfMemory), (2, false));
        assert_eq!(reads(1, ErrorKind::PermissionDenied), (1, false));
        assert!(is_transient(&io::Error::from_raw_os_error(24)), "too many open files");
    }

    #[test]
    fn an_unusable_key_file_is_reported_with_the_next_step() {
        let dir = tempfile::tempdir().expect("a directory");
        let keys = file(&dir);
        keys.create_if_missing().expect("it is made");
        let sealed = block_on(keys.seal_key(b"", &KeyBytes::new([7; 32]))).expect("it is sealed");
        let told = || block_on(keys.open_key(b"", &sealed)).expect_err("it does not open").to_string();
        fs::set_permissions(&keys.path, fs::Permissions::from_mode(0o644)).expect("it is changed");
        assert!(told().contains("chmod 600"), "{}", told());
        fs::set_permissions(&keys.path, fs::Permissions::from_mode(0o600)).expect("it is changed");
        fs::write(&keys.path, "garbage").expect("it is written");
        assert!(told().contains("contains no vault key"), "{}", told());
        fs::write(&keys.path, format!("{FORM}{}\n", "0f".repeat(32))).expect("it is written");
        assert!(told().contains("is not the key that sealed"), "{}", told());
        fs::remove_file(&keys.path).expect("it goes");
        assert!(told().contains("restore it"), "{}", told());
    }
}
