//! Keys of the instance in memory: one that is there, one that is lost for another one, one that is put back, and one that nobody
//! can read. Nothing of them is kept anywhere.

use std::sync::atomic::{AtomicU8, Ordering};

use dromia_contracts::BoxFuture;
use dromia_contracts::vault::{KeyBytes, KeyError, KeyProvider};
use dromia_guard::vault::seal;

/// A key of the instance in memory.
#[derive(Debug)]
pub(crate) struct Keys(pub(crate) u8);

impl KeyProvider for Keys {
    fn ensure_key(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        self.make_key()
    }

    fn make_key(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn seal_key<'a>(
        &'a self,
        context: &'a [u8],
        key: &'a KeyBytes,
    ) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        let sealed = seal::seal_text(&KeyBytes::new([self.0; 32]), [1; 32], context, key.expose_key());
        Box::pin(std::future::ready(sealed.map_err(|_| KeyError::Wrong { place: "memory".to_owned() })))
    }

    fn open_key<'a>(
        &'a self,
        context: &'a [u8],
        sealed: &'a [u8],
    ) -> BoxFuture<'a, Result<KeyBytes, KeyError>> {
        let opened = seal::open_sealed(&KeyBytes::new([self.0; 32]), context, sealed);
        let key = opened.map(|key| KeyBytes::new(key.as_slice().try_into().expect("32 bytes")));
        Box::pin(std::future::ready(key.map_err(|_| KeyError::Wrong { place: "memory".to_owned() })))
    }
}

/// A key of the instance in memory that is lost for another one, or is not there.
#[derive(Debug)]
pub(crate) struct Changing(AtomicU8);

/// What stands for no key in a [`Changing`] one.
pub(super) const ABSENT: u8 = 0;

/// The key that is made where there is none.
pub(super) const MADE: u8 = 99;

impl Changing {
    pub(crate) fn new(key: u8) -> Self {
        Self(AtomicU8::new(key))
    }

    pub(crate) fn becomes(&self, key: u8) {
        self.0.store(key, Ordering::SeqCst);
    }

    pub(super) fn now(&self) -> Result<Keys, KeyError> {
        match self.0.load(Ordering::SeqCst) {
            ABSENT => Err(KeyError::Missing { place: "memory".to_owned() }),
            key => Ok(Keys(key)),
        }
    }
}

impl KeyProvider for Changing {
    fn ensure_key(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        Box::pin(std::future::ready(self.now().map(drop)))
    }

    fn make_key(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        let _made = self.0.compare_exchange(ABSENT, MADE, Ordering::SeqCst, Ordering::SeqCst);
        Box::pin(std::future::ready(Ok(())))
    }

    fn seal_key<'a>(
        &'a self,
        context: &'a [u8],
        key: &'a KeyBytes,
    ) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        Box::pin(async move {
            let keys = self.now()?;
            keys.seal_key(context, key).await
        })
    }

    fn open_key<'a>(
        &'a self,
        context: &'a [u8],
        sealed: &'a [u8],
    ) -> BoxFuture<'a, Result<KeyBytes, KeyError>> {
        Box::pin(async move {
            let keys = self.now()?;
            keys.open_key(context, sealed).await
        })
    }
}

/// A key that the operator puts back while something is sealed.
#[derive(Debug)]
pub(super) struct PutBack {
    pub(super) keys: Changing,
    pub(super) right: u8,
}

impl KeyProvider for PutBack {
    fn ensure_key(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        self.keys.ensure_key()
    }

    fn make_key(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        self.keys.make_key()
    }

    fn seal_key<'a>(
        &'a self,
        context: &'a [u8],
        key: &'a KeyBytes,
    ) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        Box::pin(async move {
            let sealed = self.keys.seal_key(context, key).await;
            self.keys.becomes(self.right);
            sealed
        })
    }

    fn open_key<'a>(
        &'a self,
        context: &'a [u8],
        sealed: &'a [u8],
    ) -> BoxFuture<'a, Result<KeyBytes, KeyError>> {
        self.keys.open_key(context, sealed)
    }
}

/// A key that is there and that nobody can read as it is.
#[derive(Debug)]
pub(super) struct Unreadable;

fn unreadable() -> KeyError {
    KeyError::Unusable { problem: "it can be read by others".to_owned() }
}

impl KeyProvider for Unreadable {
    fn ensure_key(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        self.make_key()
    }

    fn make_key(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        Box::pin(std::future::ready(Err(unreadable())))
    }

    fn seal_key<'a>(&'a self, _: &'a [u8], _: &'a KeyBytes) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        Box::pin(std::future::ready(Err(unreadable())))
    }

    fn open_key<'a>(&'a self, _: &'a [u8], _: &'a [u8]) -> BoxFuture<'a, Result<KeyBytes, KeyError>> {
        Box::pin(std::future::ready(Err(unreadable())))
    }
}
