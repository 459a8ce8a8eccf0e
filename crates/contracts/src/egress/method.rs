//! What a request asks to be done, and whether that only looks.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a request asks to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// Carry bytes to it that are not inspected: a tunnel, which is no request.
    Connect,
    /// Remove it.
    Delete,
    /// Show it.
    #[default]
    Get,
    /// Show what is known about it.
    Head,
    /// Change a part of it.
    Patch,
    /// Do something with what is sent.
    Post,
    /// Replace it.
    Put,
}

impl HttpMethod {
    /// Every method of a request.
    pub const ALL: [Self; 6] = [Self::Delete, Self::Get, Self::Head, Self::Patch, Self::Post, Self::Put];

    /// Returns the method as it is written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }

    /// Returns whether the HTTP standard calls it safe: it only reads.
    pub const fn is_safe(self) -> bool {
        match self {
            Self::Get | Self::Head => true,
            Self::Connect | Self::Delete | Self::Patch | Self::Post | Self::Put => false,
        }
    }
}

impl fmt::Display for HttpMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
