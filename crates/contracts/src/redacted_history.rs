//! Untrusted content of earlier turns of a session, by the handles that replace it in a request.
//!
//! A request of a later turn has the handle in the place of the content, so that one mail does not taint a session for
//! ever. The model reads the content again with [`READ`], and from then on its turn is as untrusted as it.
//!
//! Invariant: every part that is kept here has the label of the content, and a tool that returns it gives it no better
//! one. A [`RedactedHistory`] is made for one run out of its own session, and holds what that run's requests have
//! handles for: a handle of another session, agent or tenant is refused like one that never existed.
//!
//! It is bounded by what a request may hold of the past, and is no record: a takeover of the run makes it again.

use std::collections::BTreeMap;
use std::fmt;

use crate::content::ContentPart;

/// The built-in tool by which a model reads the content of a handle. It needs no grant: this very session got the
/// content before.
pub const READ: &str = "past.read";

/// Returns the handle of a turn of the conversation by its place, counted from 1, which the runtime names where a turn is left
/// out.
pub fn turn_handle(place: usize) -> String {
    format!("{TURN}{place}")
}

/// Returns the place of a turn that a handle names.
pub fn turn_of_handle(handle: &str) -> Option<usize> {
    handle.strip_prefix(TURN)?.parse().ok()
}

/// How the handle of a turn begins.
const TURN: &str = "turn_";

/// Contents by their handles.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RedactedHistory {
    bodies: BTreeMap<String, Vec<ContentPart>>,
}

impl RedactedHistory {
    /// Keeps a content under its handle. Its parts already have the label with which they are returned.
    pub fn insert_content(&mut self, handle: String, parts: Vec<ContentPart>) {
        self.bodies.insert(handle, parts);
    }

    /// Returns the content of a handle.
    pub fn find_content(&self, handle: &str) -> Option<&[ContentPart]> {
        self.bodies.get(handle).map(Vec::as_slice)
    }

    /// Returns how many bytes the handles and their contents have.
    pub fn content_bytes(&self) -> usize {
        let bytes = |part: &ContentPart| match part {
            ContentPart::Text { text, .. } => text.len(),
            ContentPart::Image { data, .. } => data.len(),
        };
        self.bodies.iter().map(|(handle, parts)| handle.len() + parts.iter().map(bytes).sum::<usize>()).sum()
    }

    /// Returns whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }
}

impl fmt::Debug for RedactedHistory {
    /// Names the handles; their contents are long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.bodies.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::Label;

    #[test]
    fn redacted_content_is_found_by_handle_and_never_printed() {
        let mut past = RedactedHistory::default();
        assert!(past.is_empty() && past.find_content("1/call_1_0").is_none());
        let parts = vec![ContentPart::new_text("secret plans", Label::OUTSIDE)];
        past.insert_content("1/call_1_0".to_owned(), parts.clone());
        assert_eq!(past.find_content("1/call_1_0"), Some(&parts[..]));
        assert_eq!((past.find_content("1/call_1_1"), past.find_content("")), (None, None));
        assert_eq!(format!("{past:?}"), r#"{"1/call_1_0"}"#);
    }
}
