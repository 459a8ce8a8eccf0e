//! What earlier turns of a session told that nobody here vouches for, by the handles that stand for it in a request.
//!
//! A request of a later turn has the handle in the place of the content, so that one mail does not taint a session for
//! ever. The model reads the content again with [`READ`], and from then on its turn is as untrusted as it.
//!
//! Invariant: every part that is kept here has the label of the content, and whoever tells it again gives it no better
//! one. A [`Past`] is made for one run out of its own session, and holds what that run's requests have handles for: a
//! handle of another session, agent or tenant is in none, and is refused as one that nobody ever made.
//!
//! It is bounded by what a request may hold of the past, and is no record: whoever takes a run over makes it anew.

use std::collections::BTreeMap;
use std::fmt;

use crate::content::Part;

/// The built-in tool by which a model reads what a handle stands for. It needs no grant: what it tells was told to this
/// very session before.
pub const READ: &str = "past.read";

/// Contents by their handles.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Past {
    bodies: BTreeMap<String, Vec<Part>>,
}

impl Past {
    /// Keeps a content under its handle. Its parts have the label that they are told with again.
    pub fn keep(&mut self, handle: String, parts: Vec<Part>) {
        self.bodies.insert(handle, parts);
    }

    /// Returns the content that a handle stands for.
    pub fn find(&self, handle: &str) -> Option<&[Part]> {
        self.bodies.get(handle).map(Vec::as_slice)
    }

    /// Tells whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }
}

impl fmt::Debug for Past {
    /// Names the handles; what they stand for is long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.bodies.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::Label;

    #[test]
    fn a_content_is_found_by_its_own_handle_and_is_not_printed() {
        let mut past = Past::default();
        assert!(past.is_empty() && past.find("1/call_1_0").is_none());
        let parts = vec![Part::text("secret plans", Label::OUTSIDE)];
        past.keep("1/call_1_0".to_owned(), parts.clone());
        assert_eq!(past.find("1/call_1_0"), Some(&parts[..]));
        assert_eq!((past.find("1/call_1_1"), past.find("")), (None, None));
        assert_eq!(format!("{past:?}"), r#"{"1/call_1_0"}"#);
    }
}
