//! Texts of the documents that count in a run, behind the system text that it is pinned to.
//!
//! A text is found by its digest and never changes, so what is in memory is right for good.

use std::sync::Arc;

use dromia_contracts::store::{ReadError, Store};
use dromia_contracts::{Digest, Scope, TenantId};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// The most bytes of documents in memory.
const CACHED_BYTES_MAX: u64 = 16 << 20;

/// How many documents are expected in memory.
const CACHED_ITEMS: usize = 1 << 10;

/// What a document weighs in memory.
#[derive(Debug, Clone)]
struct DocumentWeight;

impl Weighter<(TenantId, Digest), Arc<str>> for DocumentWeight {
    fn weight(&self, _: &(TenantId, Digest), text: &Arc<str>) -> u64 {
        // The key and the entry itself, roughly.
        128 + text.len() as u64
    }
}

/// Documents, from memory where possible.
#[derive(Debug)]
pub(super) struct DocumentTexts {
    known: Cache<(TenantId, Digest), Arc<str>, DocumentWeight>,
}

impl DocumentTexts {
    /// Begins with none in memory.
    pub(super) fn new() -> Self {
        Self { known: Cache::with_weighter(CACHED_ITEMS, CACHED_BYTES_MAX, DocumentWeight) }
    }

    /// Reads a document that a configuration or a run names.
    pub(super) async fn read_text(
        &self,
        store: &dyn Store,
        scope: &Scope,
        digest: Digest,
    ) -> Result<Arc<str>, ReadError> {
        let key = (scope.tenant(), digest);
        if let Some(text) = self.known.get(&key) {
            return Ok(text);
        }
        let text = read_document(store, scope, digest).await?;
        let text = text.ok_or_else(|| damaged_document(digest, "it is missing"))?;
        self.known.insert(key, Arc::clone(&text));
        Ok(text)
    }
}

/// Reads a document from the store; `None` if this home does not have it.
pub(crate) async fn read_document(
    store: &dyn Store,
    scope: &Scope,
    digest: Digest,
) -> Result<Option<Arc<str>>, ReadError> {
    let Some(bytes) = store.pinned_text(scope, digest).await? else { return Ok(None) };
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Some(Arc::from(text))),
        Err(_) => Err(damaged_document(digest, "it is not UTF-8")),
    }
}

fn damaged_document(digest: Digest, problem: &str) -> ReadError {
    ReadError::Damaged { place: format!("the document {digest}"), problem: problem.to_owned() }
}

/// Joins texts to one system text, with an empty line between two.
pub(crate) fn join_texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Arc<str> {
    let texts: Vec<_> = texts.into_iter().filter(|text| !text.trim().is_empty()).collect();
    match texts.as_slice() {
        [alone] => Arc::from(*alone),
        several => {
            let trimmed = several.iter().map(|text| text.trim_matches(['\n', '\r']));
            Arc::from(trimmed.collect::<Vec<_>>().join("\n\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_stays_as_it_is_and_several_are_parted_by_an_empty_line() {
        assert_eq!(&*join_texts([]), "");
        assert_eq!(&*join_texts(["", "Be kind.\n"]), "Be kind.\n");
        assert_eq!(&*join_texts(["\n# Soul\nkind\n\n", " ", "# User\nAda\n"]), "# Soul\nkind\n\n# User\nAda");
    }
}
