//! Listings: one page, and where the next one begins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rows of a page when the request names no limit.
pub const LIMIT_DEFAULT: u32 = 50;

/// The most rows of a page.
pub const LIMIT_MAX: u32 = 256;

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub struct ListPage<T> {
    /// The rows.
    pub items: Vec<T>,
    /// What to send as `after` for the page that follows; absent after the last one.
    pub next: Option<String>,
}

impl<T> ListPage<T> {
    /// Makes a page that is full at `limit` rows; a full page names its last row as the next place.
    pub fn from_limited(items: Vec<T>, limit: usize, id: impl Fn(&T) -> String) -> Self {
        let next = if items.len() >= limit { items.last().map(id) } else { None };
        Self { items, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_page_names_a_next_one() {
        assert_eq!(ListPage::from_limited(vec![1, 2], 2, ToString::to_string).next.as_deref(), Some("2"));
        assert_eq!(ListPage::from_limited(vec![1], 2, ToString::to_string).next, None);
        assert_eq!(ListPage::<u8>::from_limited(vec![], 2, ToString::to_string).next, None);
    }
}
