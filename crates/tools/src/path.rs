//! Paths as agents write them, in canonical form.
//!
//! Invariant: a [`WorkspacePath`] is a list of names. It is relative, holds no `..`, no empty name and no control
//! character, and has at most 4096 bytes with at most 255 to a name. It says nothing about what the names lead to
//! on disk; that is decided when the kernel opens them beneath the workspace.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest path, in bytes.
const BYTES_MAX: usize = 4096;
/// The longest name in a path, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Where programs in a sandbox see the workspace; models that ran one write its paths so.
const MOUNTED_AT: &str = "/workspace";
/// What names of half-written files begin with; no agent can name one.
pub(crate) const TEMPORARY_PREFIX: &str = ".dromia-tmp-";

/// A clean path below the workspace; with no name at all it is the workspace itself, written `.`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct WorkspacePath {
    text: String,
}

/// A clean path that names something in the workspace, never the workspace itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct FilePath(WorkspacePath);

/// Says why a text is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error(
        "a path starts at the workspace, such as notes/today.md or /workspace/notes/today.md; no other path \
         may begin with /"
    )]
    Absolute,
    #[error("a path must not contain ..; it goes down from the workspace, such as notes/today.md")]
    Climbs,
    #[error(
        "a path must not contain an empty name; write names with one / between them, such as notes/today.md, \
         or . for the workspace"
    )]
    EmptyName,
    #[error("a path must not contain control characters")]
    ControlCharacter,
    #[error("a path has at most 4096 bytes, and each name in it at most 255")]
    TooLong,
    #[error("names that begin with .dromia-tmp- are reserved for half-written files")]
    Reserved,
    #[error("the workspace itself is not a file; name one in it, such as notes/today.md")]
    NoName,
}

impl WorkspacePath {
    /// Reads a path; names that are `.` are dropped, and so is one slash at the end. Where programs see the workspace is the
    /// workspace.
    pub(crate) fn parse(text: &str) -> Result<Self, PathError> {
        if text.len() > BYTES_MAX {
            return Err(PathError::TooLong);
        }
        let text = match text.strip_prefix(MOUNTED_AT) {
            Some("" | "/") => ".",
            Some(below) => below.strip_prefix('/').unwrap_or(text),
            None => text,
        };
        if text.starts_with('/') {
            return Err(PathError::Absolute);
        }
        let mut names = Vec::new();
        for name in text.strip_suffix('/').unwrap_or(text).split('/') {
            match name {
                "" => return Err(PathError::EmptyName),
                "." => {}
                ".." => return Err(PathError::Climbs),
                _ if name.len() > NAME_BYTES_MAX => return Err(PathError::TooLong),
                _ if name.chars().any(char::is_control) => return Err(PathError::ControlCharacter),
                _ if name.starts_with(TEMPORARY_PREFIX) => return Err(PathError::Reserved),
                _ => names.push(name),
            }
        }
        Ok(Self { text: names.join("/") })
    }

    /// Returns the names from the workspace down.
    pub(crate) fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.text.split('/').filter(|name| !name.is_empty())
    }

    /// Returns the directory that holds what the path names, and its name in it; nothing for the workspace itself.
    pub(crate) fn split_parent(&self) -> Option<(Self, &str)> {
        match self.text.rsplit_once('/') {
            Some((parent, name)) => Some((Self { text: parent.to_owned() }, name)),
            None if self.text.is_empty() => None,
            None => Some((Self::default(), &self.text)),
        }
    }

    /// Returns the path as it is given to the kernel.
    pub(crate) fn as_str(&self) -> &str {
        if self.text.is_empty() { "." } else { &self.text }
    }
}

impl FilePath {
    /// Returns the directory that holds the file, and the file's name in it.
    pub(crate) fn split_file_name(&self) -> (WorkspacePath, &str) {
        match self.0.text.rsplit_once('/') {
            Some((parent, name)) => (WorkspacePath { text: parent.to_owned() }, name),
            None => (WorkspacePath::default(), &self.0.text),
        }
    }
}

impl TryFrom<WorkspacePath> for FilePath {
    type Error = PathError;

    fn try_from(path: WorkspacePath) -> Result<Self, PathError> {
        if path.text.is_empty() { Err(PathError::NoName) } else { Ok(Self(path)) }
    }
}

impl fmt::Display for WorkspacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for WorkspacePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for WorkspacePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for FilePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        WorkspacePath::deserialize(deserializer)?.try_into().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_clean_or_refused() {
        for (text, clean) in [
            ("notes.txt", Ok("notes.txt")),
            ("./a/./b", Ok("a/b")),
            ("a/", Ok("a")),
            (".", Ok(".")),
            ("./", Ok(".")),
            ("...", Ok("...")),
            ("a\\..\\b", Ok("a\\..\\b")),
            ("/workspace", Ok(".")),
            ("/workspace/", Ok(".")),
            ("/workspace/a/./b/", Ok("a/b")),
            ("workspace/a", Ok("workspace/a")),
            ("/workspaces/a", Err(PathError::Absolute)),
            ("/workspace//a", Err(PathError::Absolute)),
            ("/workspace//etc/passwd", Err(PathError::Absolute)),
            ("/workspace/../a", Err(PathError::Climbs)),
            ("//workspace/a", Err(PathError::Absolute)),
            ("", Err(PathError::EmptyName)),
            ("/", Err(PathError::Absolute)),
            ("/etc/passwd", Err(PathError::Absolute)),
            ("a//b", Err(PathError::EmptyName)),
            ("a//", Err(PathError::EmptyName)),
            ("..", Err(PathError::Climbs)),
            ("a/../b", Err(PathError::Climbs)),
            ("a/..", Err(PathError::Climbs)),
            ("a\0b", Err(PathError::ControlCharacter)),
            ("a\nb", Err(PathError::ControlCharacter)),
            (".dromia-tmp-00", Err(PathError::Reserved)),
        ] {
            let parsed = WorkspacePath::parse(text);
            assert_eq!(parsed.as_ref().map(WorkspacePath::as_str).map_err(|error| *error), clean, "{text:?}");
        }
        assert_eq!(WorkspacePath::parse(&"n".repeat(256)), Err(PathError::TooLong));
        assert!(WorkspacePath::parse(&"n".repeat(255)).is_ok());
        assert_eq!(WorkspacePath::parse(&"n/".repeat(2049)), Err(PathError::TooLong));
        for workspace in ["./.", "/workspace", "/workspace/."] {
            let named = serde_json::from_str::<FilePath>(&format!("{workspace:?}"));
            assert!(named.is_err_and(|error| error.to_string().contains("such as notes/today.md")));
        }
    }

    #[test]
    fn a_refused_path_says_which_form_is_taken() {
        for text in ["/etc/passwd", "/workspaces/a", "a/../b", "a//b", ""] {
            let problem = WorkspacePath::parse(text).expect_err(text).to_string();
            let named = problem.split([' ', ',', ';']).filter(|word| word.ends_with("today.md"));
            let paths: Vec<_> = named.map(WorkspacePath::parse).collect();
            assert!(!paths.is_empty() && paths.iter().all(Result::is_ok), "{text:?}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn a_clean_path_stays_as_it_is_and_never_climbs(text in "[a./\\\\\0-]{0,12}") {
            if let Ok(path) = WorkspacePath::parse(&text) {
                prop_assert_eq!(WorkspacePath::parse(path.as_str()), Ok(path.clone()));
                prop_assert!(path.components().all(|name| name != ".." && name != "." && !name.contains('\0')));
                prop_assert!(!path.as_str().starts_with('/'));
            }
        }
    }
}
