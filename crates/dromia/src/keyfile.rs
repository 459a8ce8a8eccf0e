//! The key of an instance in a file of its home: what the keys of tenants' secrets are sealed with.
//!
//! `init` makes the file, and a home of before gets it with its first secret: where the store has anything that was sealed, a
//! file that is missing is elsewhere, and none is made in its place but by whoever owns the home and gives that one up. It is
//! read each time that a tenant's key is opened and is not kept. A file that others may read is refused. Whoever has the file
//! and the store has the secrets; whoever loses the file has none any more.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::runtime::IdSource;
use dromia_contracts::vault::{KeyBytes, KeyError, KeyProvider};
use dromia_contracts::{BoxFuture, Digest};
use dromia_guard::vault::seal;
use dromia_store::{Inspector, StoreConfig};

use crate::system;

/// What stands before the key; another version is another word.
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
    pub(crate) fn beside(self, store: StoreConfig) -> Self {
        Self { store: Some(store), ..self }
    }

    /// Makes the file if it is not there.
    pub(crate) fn made(&self) -> Result<(), KeyError> {
        if self.is_there()? {
            return Ok(());
        }
        // It is no digest, and is written like one.
        let digits = Digest::from_bytes(self.ids.secret());
        let written = system::private_file(&self.path, &format!("{FORM}{digits}\n"));
        written.map_err(|error| self.unusable(&format!("cannot be made: {error:#}")))
    }

    /// Opens what was sealed.
    pub(crate) fn opened(&self, context: &[u8], sealed: &[u8]) -> Result<KeyBytes, KeyError> {
        let own = self.read()?;
        let key = seal::open(&own, context, sealed).map_err(|_| self.wrong())?;
        Ok(KeyBytes::new(key.as_slice().try_into().map_err(|_| self.wrong())?))
    }

    /// Says what is wrong with the file, if anything is.
    pub(crate) fn check(&self) -> Result<(), KeyError> {
        self.read().map(drop)
    }

    fn is_there(&self) -> Result<bool, KeyError> {
        match fs::symlink_metadata(&self.path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.unusable(&format!("cannot be looked at: {error}"))),
        }
    }

    /// Tells whether the store has nothing that was sealed, so that no other key belongs here. What cannot be read is not taken
    /// for nothing.
    async fn is_first(&self) -> Result<bool, KeyError> {
        let Some(store) = self.store.clone() else { return Ok(false) };
        let look = move || Inspector::new(store, PATIENCE).vault_keys(1);
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(sealed)) => Ok(sealed.is_empty()),
            Ok(Err(error)) => {
                Err(self.unusable(&format!("is not there, and whether it should be cannot be read: {error}")))
            }
            Err(_) => Err(self.unusable("is not there, and whether it should be could not be looked at")),
        }
    }

    fn read(&self) -> Result<KeyBytes, KeyError> {
        let text = fs::read_to_string(&self.path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => self.missing(),
            _ => self.unusable(&format!("cannot be read: {error}")),
        })?;
        let mode =
            fs::metadata(&self.path).map_err(|error| self.unusable(&error.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(self.unusable("can be read by others; `chmod 600` it"));
        }
        let digits = text.strip_prefix(FORM).map(str::trim_end).filter(|digits| digits.len() == 64);
        let key = digits.and_then(|digits| {
            let mut key = [0; 32];
            for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks(2)) {
                *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
            }
            Some(KeyBytes::new(key))
        });
        key.ok_or_else(|| self.unusable("holds no key of this program; put the right one back"))
    }

    fn missing(&self) -> KeyError {
        KeyError::Missing { place: self.path.display().to_string() }
    }

    fn unusable(&self, problem: &str) -> KeyError {
        KeyError::Unusable { problem: format!("{} {problem}", self.path.display()) }
    }

    fn wrong(&self) -> KeyError {
        KeyError::Wrong { place: self.path.display().to_string() }
    }
}

impl KeyProvider for KeyFile {
    fn begin(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        Box::pin(async move {
            if self.is_there()? {
                return Ok(());
            }
            if self.is_first().await? { self.made() } else { Err(self.missing()) }
        })
    }

    fn make(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        Box::pin(async move { self.made() })
    }

    fn seal<'a>(&'a self, context: &'a [u8], key: &'a KeyBytes) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        Box::pin(async move {
            let own = self.read()?;
            seal::seal(&own, self.ids.secret(), context, key.expose()).map_err(|_| self.wrong())
        })
    }

    fn open<'a>(&'a self, context: &'a [u8], sealed: &'a [u8]) -> BoxFuture<'a, Result<KeyBytes, KeyError>> {
        Box::pin(async move { self.opened(context, sealed) })
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
    fn a_key_is_made_once_for_its_owner_alone_and_opens_what_it_sealed() {
        let dir = tempfile::tempdir().expect("a directory");
        let keys = file(&dir);
        let (mine, place) = (KeyBytes::new([7; 32]), &b"place"[..]);
        assert!(block_on(keys.open(place, b"x")).is_err(), "opening makes no key");
        assert!(block_on(keys.seal(place, &mine)).is_err(), "sealing makes no key");
        assert!(!keys.path.exists());
        assert!(block_on(keys.begin()).is_err(), "nobody knows whether another one belongs here");
        assert!(!keys.path.exists());
        block_on(keys.make()).expect("it is made");
        let sealed = block_on(keys.seal(place, &mine)).expect("it is sealed");
        let mode = fs::metadata(&keys.path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(&keys.path).expect("it is read");
        block_on(keys.make()).expect("it is there");
        assert_eq!(fs::read_to_string(&keys.path).expect("it is read"), text, "a key is never made anew");
        let opened = block_on(file(&dir).open(place, &sealed)).expect("it opens");
        assert_eq!(opened.expose(), mine.expose());
    }

    #[test]
    fn another_key_an_open_file_and_garbage_are_told_with_the_next_step() {
        let dir = tempfile::tempdir().expect("a directory");
        let keys = file(&dir);
        keys.made().expect("it is made");
        let sealed = block_on(keys.seal(b"", &KeyBytes::new([7; 32]))).expect("it is sealed");
        let told = || block_on(keys.open(b"", &sealed)).expect_err("it does not open").to_string();
        fs::set_permissions(&keys.path, fs::Permissions::from_mode(0o644)).expect("it is changed");
        assert!(told().contains("chmod 600"), "{}", told());
        fs::set_permissions(&keys.path, fs::Permissions::from_mode(0o600)).expect("it is changed");
        fs::write(&keys.path, "garbage").expect("it is written");
        assert!(told().contains("holds no key"), "{}", told());
        fs::write(&keys.path, format!("{FORM}{}\n", "0f".repeat(32))).expect("it is written");
        assert!(told().contains("is not the key that sealed"), "{}", told());
        fs::remove_file(&keys.path).expect("it goes");
        assert!(told().contains("put it back"), "{}", told());
    }
}
