//! What is known of the files of agents' workspaces: for a path and a content, the label of all that led to it.
//!
//! Invariant: a label belongs to bytes, not to a name. Where a file's content is not the one recorded for its path, its
//! writer gave no label, and it is a file of unknown origin. So a writer that forgets the label makes a file less
//! trusted and never more. And trust belongs to one actor: a label that follows from one actor's typed text is
//! untrusted for every other actor.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::label::{IntegrityLevel, Label};
use crate::scope::Actor;

/// The most files of an agent of which anything is known. What is said of a further one is joined to what counts for every
/// file of which nothing is known.
pub const FILE_LABELS_MAX: usize = 4_096;

/// The longest path of a file, in bytes.
pub const FILE_PATH_BYTES_MAX: usize = 4_096;

/// The label of one content of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLabel {
    /// BLAKE3 of what the file held when it was labelled.
    pub content: Digest,
    /// The join of the labels of all that led to it.
    pub label: Label,
    /// Whose input led to it.
    pub author: Actor,
}

impl FileLabel {
    /// The label for a run that works on the input of `author`.
    pub fn label_for(&self, author: &Actor) -> Label {
        label_for(self.label, &self.author, author)
    }
}

/// The label, for a run that works on one actor's input, of what another one's input led to: not trusted.
pub fn label_for(label: Label, of: &Actor, reader: &Actor) -> Label {
    if of == reader { label } else { Label { integrity: IntegrityLevel::Untrusted, ..label } }
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    /// Its content and label; nothing for a file without a label.
    pub file: Option<FileLabel>,
    /// What counts for every file of which nothing is known, beside [`Label::UNKNOWN_FILE`].
    pub rest: Label,
}

impl KnownFile {
    /// The label of a content of the file, for a run that works on the input of `reader`; an unknown content has that
    /// of a file of unknown origin.
    pub fn label_of(&self, content: Option<Digest>, reader: &Actor) -> Label {
        match &self.file {
            Some(file) if content == Some(file.content) => file.label_for(reader),
            Some(_) | None => Label::UNKNOWN_FILE.join(self.rest),
        }
    }
}

impl Default for KnownFile {
    fn default() -> Self {
        Self { file: None, rest: Label::PUBLIC_FACT }
    }
}

/// What a call says of the files that it changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileLabels {
    /// What files hold now, by their paths below the workspace in clean components; nothing for a file that is gone.
    pub files: BTreeMap<String, Option<FileLabel>>,
    /// Joined to what counts for every file of which nothing is known.
    pub rest: Option<Label>,
}

impl FileLabels {
    /// Says of one file what it holds, or that it is gone.
    pub fn for_file(path: impl Into<String>, holds: Option<FileLabel>) -> Self {
        Self { files: BTreeMap::from([(path.into(), holds)]), rest: None }
    }

    /// Returns whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.rest.is_none()
    }

    /// Adds what was said later.
    pub fn extend(&mut self, later: Self) {
        self.files.extend(later.files);
        self.rest = match (self.rest, later.rest) {
            (Some(one), Some(other)) => Some(one.join(other)),
            (one, other) => one.or(other),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Digest = Digest::from_bytes([1; 32]);
    const OTHER: Digest = Digest::from_bytes([2; 32]);

    fn holds(content: Digest, label: Label) -> FileLabel {
        FileLabel { content, label, author: Actor::new("cli:ada") }
    }

    #[test]
    fn a_label_applies_only_to_its_own_content() {
        let ada = Actor::new("cli:ada");
        let known = KnownFile { file: Some(holds(ONE, Label::ACTOR_TEXT)), rest: Label::PUBLIC_FACT };
        assert_eq!(known.label_of(Some(ONE), &ada), Label::ACTOR_TEXT);
        for content in [Some(OTHER), None] {
            assert_eq!(known.label_of(content, &ada), Label::UNKNOWN_FILE);
            assert_eq!(KnownFile::default().label_of(content, &ada), Label::UNKNOWN_FILE);
        }
        let tainted = KnownFile { rest: Label::CLAIM, ..known };
        assert_eq!(tainted.label_of(Some(ONE), &ada), Label::ACTOR_TEXT, "what is known stays known");
        assert_eq!(tainted.label_of(Some(OTHER), &ada), Label::CLAIM);
    }

    #[test]
    fn a_label_counts_only_for_its_own_actor() {
        let known = KnownFile { file: Some(holds(ONE, Label::ACTOR_TEXT)), ..KnownFile::default() };
        assert_eq!(known.label_of(Some(ONE), &Actor::new("cli:eve")), Label::CLAIM);
        let theirs = holds(ONE, Label::OUTSIDE);
        assert_eq!(theirs.label_for(&Actor::new("cli:eve")), Label::OUTSIDE);
    }

    #[test]
    fn later_file_labels_win_and_rest_labels_join() {
        let mut said = FileLabels::for_file("a", Some(holds(ONE, Label::ACTOR_TEXT)));
        said.extend(FileLabels { rest: Some(Label::UNKNOWN_FILE), ..FileLabels::for_file("a", None) });
        let later = FileLabels::for_file("b", Some(holds(OTHER, Label::CLAIM)));
        said.extend(FileLabels { rest: Some(Label::ACTOR_TEXT), ..later });
        let files = [("a".to_owned(), None), ("b".to_owned(), Some(holds(OTHER, Label::CLAIM)))];
        assert_eq!(said, FileLabels { files: BTreeMap::from(files), rest: Some(Label::CLAIM) });
        assert!(FileLabels::default().is_empty() && !said.is_empty());
    }
}
