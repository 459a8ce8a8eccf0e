//! What a person sent before, for the arrow keys and the search: one file per home, which only its owner reads.
//!
//! A line of the file is one message as a JSON string. It has at most [`MESSAGES_MAX`] messages; the oldest go first, and a
//! message above [`MESSAGE_BYTES_MAX`] is not remembered. A file that cannot be read or written only forgets: it never keeps a
//! person from a chat.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The most messages that are kept.
const MESSAGES_MAX: usize = 1_000;

/// The longest message that is remembered.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// The longest file that is read: every message at its longest, each byte spelled out.
const FILE_BYTES_MAX: u64 = (MESSAGES_MAX * MESSAGE_BYTES_MAX * 2) as u64;

/// The messages, oldest first, and where the person is in them.
#[derive(Debug, Default)]
pub(super) struct MessageHistory {
    file: Option<PathBuf>,
    messages: Vec<String>,
    /// The message that is shown; none is the one that is being written.
    shown: Option<usize>,
    /// What was being written when the first older message was shown.
    draft: String,
}

impl MessageHistory {
    /// Reads the file, and shortens it if it has grown too long.
    pub(super) fn open(file: PathBuf) -> Self {
        let mut messages = read_messages(&file).unwrap_or_default();
        if messages.len() > MESSAGES_MAX {
            messages.drain(..messages.len() - MESSAGES_MAX);
            // The next start tries again.
            drop(write_messages(&file, &messages));
        }
        Self { file: Some(file), messages, ..Self::default() }
    }

    /// Remembers a message, unless it is the last one again.
    pub(super) fn add_message(&mut self, message: &str) {
        self.shown = None;
        let is_worth = !message.trim().is_empty() && message.len() <= MESSAGE_BYTES_MAX;
        if !is_worth || self.messages.last().is_some_and(|last| last == message) {
            return;
        }
        self.messages.push(message.to_owned());
        if self.messages.len() > MESSAGES_MAX {
            self.messages.remove(0);
        }
        if let Some(file) = &self.file {
            drop(append_message(file, message));
        }
    }

    /// The message before the one that is shown.
    pub(super) fn older_message(&mut self, draft: impl FnOnce() -> String) -> Option<&str> {
        let older = self.shown.unwrap_or(self.messages.len()).checked_sub(1)?;
        if self.shown.is_none() {
            self.draft = draft();
        }
        self.shown = Some(older);
        self.messages.get(older).map(String::as_str)
    }

    /// The message after it; behind the newest is the draft.
    pub(super) fn newer_message(&mut self) -> Option<&str> {
        let newer = self.shown? + 1;
        self.shown = (newer < self.messages.len()).then_some(newer);
        Some(self.messages.get(newer).unwrap_or(&self.draft))
    }

    /// The newest message before a place that has the text in it, with its own place.
    pub(super) fn find_message(&self, text: &str, before: usize) -> Option<(usize, &str)> {
        let older = self.messages.iter().enumerate().take(before).rev();
        older.map(|(place, message)| (place, message.as_str())).find(|(_, message)| message.contains(text))
    }

    /// The number of messages.
    pub(super) fn count(&self) -> usize {
        self.messages.len()
    }
}

fn read_messages(file: &Path) -> io::Result<Vec<String>> {
    let mut text = String::new();
    File::open(file)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Opens the file for its owner alone, also where it was readable for others.
fn open_private(options: &mut OpenOptions, file: &Path) -> io::Result<File> {
    let opened = options.create(true).mode(0o600).open(file)?;
    opened.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(opened)
}

fn append_message(file: &Path, message: &str) -> io::Result<()> {
    // In one write, so that two chats mix no lines.
    open_private(OpenOptions::new().append(true), file)?.write_all(message_line(message)?.as_bytes())
}

fn write_messages(file: &Path, messages: &[String]) -> io::Result<()> {
    let beside = file.with_extension(format!("{}.new", std::process::id()));
    let lines: io::Result<String> = messages.iter().map(|message| message_line(message)).collect();
    let written = open_private(OpenOptions::new().write(true).truncate(true), &beside)
        .and_then(|mut new| new.write_all(lines?.as_bytes()))
        .and_then(|()| std::fs::rename(&beside, file));
    if written.is_err() {
        drop(std::fs::remove_file(&beside));
    }
    written
}

fn message_line(message: &str) -> io::Result<String> {
    Ok(serde_json::to_string(message)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_kept_in_a_private_file() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("chat_history");
        std::fs::write(&file, "no JSON\n").unwrap();
        let mut history = MessageHistory::open(file.clone());
        for message in ["one", "two\nlines", "two\nlines", "  ", &"x".repeat(MESSAGE_BYTES_MAX + 1)] {
            history.add_message(message);
        }
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let mut again = MessageHistory::open(file);
        assert_eq!(again.older_message(|| "draft".to_owned()), Some("two\nlines"));
        assert_eq!(again.older_message(String::new), Some("one"));
        assert_eq!(again.older_message(String::new), None);
        assert_eq!(again.newer_message(), Some("two\nlines"));
        assert_eq!(again.newer_message(), Some("draft"));
        assert_eq!(again.newer_message(), None);
    }

    #[test]
    fn the_file_keeps_a_bounded_number_of_messages() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("chat_history");
        let lines: Vec<_> = (0..MESSAGES_MAX + 5).map(|number| format!("\"m{number}\"\n")).collect();
        std::fs::write(&file, lines.concat()).unwrap();
        assert_eq!(MessageHistory::open(file.clone()).count(), MESSAGES_MAX);
        let kept = std::fs::read_to_string(&file).unwrap();
        assert_eq!((kept.lines().count(), kept.lines().next()), (MESSAGES_MAX, Some("\"m5\"")));
    }

    #[test]
    fn a_search_goes_from_the_newest_to_the_oldest() {
        let mut history = MessageHistory::default();
        for message in ["cargo test", "ls", "cargo build"] {
            history.add_message(message);
        }
        assert_eq!(history.find_message("cargo", history.count()), Some((2, "cargo build")));
        assert_eq!(history.find_message("cargo", 2), Some((0, "cargo test")));
        assert_eq!(history.find_message("cargo", 0), None);
    }
}
