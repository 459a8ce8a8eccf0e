//! What a right covers, in canonical components: a place below which, hosts under a domain, a tool or its family.
//!
//! Nothing is compared as the beginning of a text. A resource that is asked for lists every place that it lies within
//! ([`Resource::enclosing_places`]), and a right covers it if its own place is one of them.

use std::fmt;

use jiff::Timestamp;

/// The longest place, in bytes.
pub const PLACE_BYTES_MAX: usize = 1024;
/// The most components of a path or a name.
pub const COMPONENTS_MAX: usize = 64;

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileAccessMode {
    /// It is read.
    Read,
    /// It is written.
    Write,
}

/// What a right is about, or what a call asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    kind: &'static str,
    place: String,
}

impl Resource {
    /// A file of a workspace, or everything below a directory; an empty path is the whole workspace.
    pub fn file(access: FileAccessMode, path: &str) -> Result<Self, RightError> {
        let kind = match access {
            FileAccessMode::Read => "file:read",
            FileAccessMode::Write => "file:write",
        };
        let is_clean = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(char::is_control);
        if !path.is_empty() && !path.split('/').all(is_clean) {
            return Err(RightError::Malformed { problem: "a path has clean components with / between them" });
        }
        Self::new(kind, path, '/')
    }

    /// A host that is reached, or with `*.` before it every host below it.
    pub fn host(host: &str) -> Result<Self, RightError> {
        let (name, labels_min) = host.strip_prefix("*.").map_or((host, 1), |name| (name, 2));
        let is_label = |label: &str| {
            let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !label.is_empty() && label.bytes().all(is_plain)
        };
        if !name.split('.').all(is_label) {
            let problem = "a host is written without scheme, port or path, in lower case";
            return Err(RightError::Malformed { problem });
        }
        if name.split('.').count() < labels_min {
            return Err(RightError::Malformed { problem: "a host has at least two labels behind *." });
        }
        Self::new("net:http", host, '.')
    }

    /// A tool, or with `.*` behind it every tool of a family.
    pub fn tool(tool: &str) -> Result<Self, RightError> {
        let name = tool.strip_suffix(".*").unwrap_or(tool);
        let is_word = |word: &str| {
            let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
            !word.is_empty() && word.bytes().all(is_plain)
        };
        if !name.split('.').all(is_word) {
            return Err(RightError::Malformed { problem: "a tool is words of a-z, 0-9, - and _ with dots" });
        }
        Self::new("tool", tool, '.')
    }

    /// Reads what a person writes and [`fmt::Display`] spells: `file:read:PATH`, `file:write:PATH`, `net:http:HOST`,
    /// `tool:NAME`. Without a path the whole workspace is meant.
    pub fn parse(text: &str) -> Result<Self, RightError> {
        if let Some(tool) = text.strip_prefix("tool:") {
            return Self::tool(tool);
        }
        if let Some(host) = text.strip_prefix("net:http:") {
            return Self::host(host);
        }
        for (kind, access) in [("file:read", FileAccessMode::Read), ("file:write", FileAccessMode::Write)] {
            if let Some(rest) = text.strip_prefix(kind) {
                match rest.strip_prefix(':') {
                    Some(path) => return Self::file(access, path),
                    None if rest.is_empty() => return Self::file(access, ""),
                    None => {}
                }
            }
        }
        let problem = "it is file:read:PATH, file:write:PATH, net:http:HOST or tool:NAME";
        Err(RightError::Malformed { problem })
    }

    /// Tells whether everything that lies within the other one lies within this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.kind == other.kind && other.enclosing_places().contains(&self.place)
    }

    fn new(kind: &'static str, place: &str, between: char) -> Result<Self, RightError> {
        if place.len() > PLACE_BYTES_MAX || place.split(between).count() > COMPONENTS_MAX {
            return Err(RightError::TooLong);
        }
        Ok(Self { kind, place: place.to_owned() })
    }

    /// What is done, as a token spells it.
    pub(crate) fn kind_name(&self) -> &'static str {
        self.kind
    }

    /// Where, as a token spells it.
    pub(super) fn place_text(&self) -> &str {
        &self.place
    }

    /// Tells whether it is a pattern for more than itself, so that no call can ask for it.
    pub(super) fn is_pattern(&self) -> bool {
        self.place.starts_with("*.") || self.place.ends_with(".*")
    }

    /// Every place that it lies within, itself included.
    pub(super) fn enclosing_places(&self) -> Vec<String> {
        let place = &self.place;
        let mut places = vec![place.clone()];
        match self.kind {
            "net:http" => places.extend(place.match_indices('.').map(|(at, _)| format!("*{}", &place[at..]))),
            "tool" => places.extend(place.match_indices('.').map(|(at, _)| format!("{}.*", &place[..at]))),
            _ if place.is_empty() => {}
            _ => {
                places.push(String::new());
                places.extend(place.match_indices('/').map(|(at, _)| place[..at].to_owned()));
            }
        }
        places
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.place)
    }
}

/// A resource, how long it may be used, and how long one call of it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// What it covers.
    pub resource: Resource,
    /// The second from which it does not count any more.
    pub until: Option<Timestamp>,
    /// The most time of one call, in milliseconds.
    pub wall_ms_max: Option<u32>,
}

impl Right {
    /// The right to a resource, without an end or a limit.
    pub fn unlimited(resource: Resource) -> Self {
        Self { resource, until: None, wall_ms_max: None }
    }
}

/// Says why a text names no resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RightError {
    /// It is spelled like none.
    #[error("the right cannot be read: {problem}")]
    Malformed {
        /// What is wrong.
        problem: &'static str,
    },
    /// It is too long.
    #[error("a right may have at most 1024 bytes and 64 components")]
    TooLong,
}
