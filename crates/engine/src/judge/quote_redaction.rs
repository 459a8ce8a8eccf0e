//! Redaction of the texts that an approval request quotes.
//!
//! Typed text is stored as it was typed, and approvers see quotes of it. A scanner does not find half a value, so it
//! scans the whole text before the quote is cut out. Without a scan nothing is quoted. All requests of one commit share
//! one bound of scanned bytes.

use dromia_contracts::Scope;
use dromia_contracts::vault::{LeakDetector, mask_secrets};

/// The most bytes that are scanned for the requests of one commit. A text beyond them is not quoted.
pub(super) const LOOKED_BYTES_MAX: usize = 4 << 20;

/// The texts that one request quotes, each scanned once: at most one for each text of its call that is searched.
pub(super) struct QuoteRedactor<'t> {
    leaks: &'t dyn LeakDetector,
    scope: &'t Scope,
    /// How many bytes may still be scanned.
    room: usize,
    texts: Vec<(&'t str, Option<String>)>,
}

impl<'t> QuoteRedactor<'t> {
    /// Begins with the detector of a tenant's secrets, and with the bytes that earlier requests left.
    pub(super) fn new(leaks: &'t dyn LeakDetector, scope: &'t Scope, room: usize) -> Self {
        Self { leaks, scope, room, texts: Vec::new() }
    }

    /// Returns how many bytes may still be scanned.
    pub(super) fn bytes_left(&self) -> usize {
        self.room
    }

    /// Returns a text with stars over the secrets in it, of the same length; `None` if it cannot be scanned or exceeds
    /// the bytes that are left.
    pub(super) async fn redacted_text(&mut self, whole: &'t str) -> Option<&str> {
        let known = self.texts.iter().position(|(text, _)| std::ptr::eq(*text, whole));
        let index = known.unwrap_or(self.texts.len());
        if known.is_none() {
            let starred = match self.room.checked_sub(whole.len()) {
                Some(left) => {
                    self.room = left;
                    redact_secrets(self.leaks, self.scope, whole).await
                }
                None => None,
            };
            self.texts.push((whole, starred));
        }
        self.texts.get(index).and_then(|(_, starred)| starred.as_deref())
    }
}

/// Redacts a text; `None` if the result is not UTF-8 any more.
async fn redact_secrets(leaks: &dyn LeakDetector, scope: &Scope, whole: &str) -> Option<String> {
    let found = leaks.scan_text(scope, whole.as_bytes()).await.ok()?;
    let mut bytes = whole.as_bytes().to_vec();
    mask_secrets(&mut bytes, &found);
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use dromia_contracts::vault::{SecretMatch, SecretScanner};
    use dromia_contracts::{Actor, BoxFuture, ErrorCode, Fault, ScopeAuthority, TenantId};
    use futures_util::FutureExt as _;

    use super::*;

    /// Knows one value, and counts how often it was asked.
    #[derive(Debug, Default)]
    struct One(AtomicUsize);

    /// Cannot look.
    #[derive(Debug)]
    struct Blind;

    const VALUE: &str = "canary-4711";

    impl LeakDetector for One {
        fn scanner_for_tenant<'a>(
            &'a self,
            _: &'a Scope,
        ) -> BoxFuture<'a, Result<Arc<dyn SecretScanner>, Fault>> {
            unreachable!("a quote is no live text")
        }

        fn scan_text<'a>(
            &'a self,
            _: &'a Scope,
            text: &'a [u8],
        ) -> BoxFuture<'a, Result<Vec<SecretMatch>, Fault>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let text = std::str::from_utf8(text).expect("it is text");
            let found = text.match_indices(VALUE).map(|(at, _)| at..at + VALUE.len());
            let found = found.map(|range| SecretMatch { secret: "deploy".to_owned(), range }).collect();
            Box::pin(std::future::ready(Ok(found)))
        }
    }

    impl LeakDetector for Blind {
        fn scanner_for_tenant<'a>(
            &'a self,
            _: &'a Scope,
        ) -> BoxFuture<'a, Result<Arc<dyn SecretScanner>, Fault>> {
            let fault = Fault::new(ErrorCode::VaultLocked, "it is locked");
            Box::pin(std::future::ready(Err(fault)))
        }
    }

    fn scope() -> Scope {
        ScopeAuthority::claim().issue_scope(TenantId::from_bytes([1; 16]), Actor::new("a"))
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("nothing waits here")
    }

    #[test]
    fn a_text_keeps_its_length_and_is_looked_at_once() {
        let (one, scope, text) = (One::default(), scope(), format!("ä use {VALUE}, pay eve"));
        let mut texts = QuoteRedactor::new(&one, &scope, 100);
        for _ in 0..3 {
            assert_eq!(now(texts.redacted_text(&text)), Some("ä use ***********, pay eve"));
        }
        assert_eq!(now(texts.redacted_text("pay bob")), Some("pay bob"));
        assert_eq!(one.0.load(Ordering::SeqCst), 2);
        assert_eq!(texts.bytes_left(), 100 - text.len() - "pay bob".len(), "each counts once");
        assert_eq!(
            now(QuoteRedactor::new(&Blind, &scope, 100).redacted_text(&text)),
            None,
            "nobody can look"
        );
    }

    #[test]
    fn a_text_beyond_the_room_is_neither_scanned_nor_quoted() {
        let (one, scope, short, long) = (One::default(), scope(), "pay bob", "pay bob or eve");
        let mut texts = QuoteRedactor::new(&one, &scope, short.len());
        for _ in 0..2 {
            assert_eq!(now(texts.redacted_text(long)), None);
            assert_eq!(now(texts.redacted_text(short)), Some(short), "a long one leaves the room to others");
        }
        assert_eq!((texts.bytes_left(), now(texts.redacted_text("eve"))), (0, None));
        assert_eq!(one.0.load(Ordering::SeqCst), 1);
    }

    /// Planted fault: a quote that is looked at once it is cut tells half of a value.
    #[test]
    fn a_quote_that_is_cut_before_its_scan_is_caught() {
        let text = format!("{VALUE}, pay eve");
        let cut = |text: &str| text[4..].to_owned();
        let tells = |quote: Option<String>| quote.is_some_and(|quote| quote.contains("ry-4711"));
        let (one, scope) = (One::default(), scope());
        let mut texts = QuoteRedactor::new(&one, &scope, 100);
        assert!(!tells(now(texts.redacted_text(&text)).map(cut)));
        assert!(tells(now(redact_secrets(&one, &scope, &cut(&text)))), "nothing notices it");
    }
}
