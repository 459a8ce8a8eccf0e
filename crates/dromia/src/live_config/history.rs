//! The configurations that counted, each with its number, time, author and text: one file for each in `config-history/` of
//! the home, readable by its owner only. A text holds references to keys and no key.
//!
//! Bound: the newest [`REVISIONS_MAX`]. A record is written whole or not at all; one whose text is not the one that was
//! recorded is passed over. It refuses nothing else: what a text means is decided where it is read again.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use dromia_contracts::Digest;
use dromia_contracts::runtime::Clock as _;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::home::Home;
use crate::runtime;
use crate::system;

/// The most configurations that are kept; the oldest goes first.
pub(crate) const REVISIONS_MAX: usize = 100;

/// A configuration that counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConfigRecord {
    /// Its number, counted from 1.
    pub(crate) number: u64,
    /// When it was recorded.
    pub(crate) at: Timestamp,
    /// Who changed the file, as far as that is known.
    pub(crate) author: String,
    /// The digest of the text.
    pub(crate) digest: Digest,
    /// The text of the file.
    pub(crate) text: String,
}

/// The configurations of one home.
#[derive(Debug, Clone)]
pub(crate) struct ConfigHistory {
    dir: PathBuf,
}

/// The digest of a text, by which it is known again.
pub(crate) fn text_digest(text: &str) -> Digest {
    Digest::from_bytes(*blake3::hash(text.as_bytes()).as_bytes())
}

impl ConfigHistory {
    /// The history of a home, which may not exist yet.
    pub(crate) fn of_home(home: &Home) -> Self {
        Self { dir: home.root_dir().join("config-history") }
    }

    /// Lists the records, the newest first.
    pub(crate) fn list_records(&self) -> Vec<ConfigRecord> {
        let mut numbers = self.list_numbers();
        numbers.reverse();
        numbers.into_iter().filter_map(|number| self.find_record(number)).collect()
    }

    /// Finds a record, if it is there and sound.
    pub(crate) fn find_record(&self, number: u64) -> Option<ConfigRecord> {
        let bytes = fs::read(self.record_path(number)).ok()?;
        let record: ConfigRecord = serde_json::from_slice(&bytes).ok()?;
        (record.number == number && record.digest == text_digest(&record.text)).then_some(record)
    }

    /// Finds the newest record that is sound.
    pub(crate) fn newest_record(&self) -> Option<ConfigRecord> {
        self.list_numbers().into_iter().rev().find_map(|number| self.find_record(number))
    }

    /// Records a text that counts from now on. Where the newest record has this text, that one is returned.
    pub(crate) fn record_text(&self, text: &str, author: &str) -> anyhow::Result<ConfigRecord> {
        system::private_dir(&self.dir)?;
        let held = fs::File::open(&self.dir).context("failed to open the history of the configuration")?;
        flock(&held, FlockOperation::LockExclusive)
            .context("failed to lock the history of the configuration")?;
        let digest = text_digest(text);
        if let Some(newest) = self.newest_record().filter(|newest| newest.digest == digest) {
            return Ok(newest);
        }
        let numbers = self.list_numbers();
        let number = numbers.last().copied().unwrap_or_default() + 1;
        let at = runtime::real_clock().now();
        let record = ConfigRecord { number, at, author: author.to_owned(), digest, text: text.to_owned() };
        system::private_file(&self.record_path(number), &serde_json::to_string(&record)?)?;
        for old in numbers.iter().rev().skip(REVISIONS_MAX - 1) {
            // What stays is removed by the next record.
            drop(fs::remove_file(self.record_path(*old)));
        }
        Ok(record)
    }

    /// The same where a server must go on: what cannot be recorded counts all the same, and the log says so.
    pub(crate) fn record_or_warn(&self, text: &str, author: &str) -> ConfigRecord {
        self.record_text(text, author).unwrap_or_else(|problem| {
            let problem = format!("{problem:#}");
            tracing::warn!(
                problem,
                "failed to record the configuration, so no later start can go back to it"
            );
            let number = self.list_numbers().last().copied().unwrap_or_default() + 1;
            let (at, digest) = (runtime::real_clock().now(), text_digest(text));
            ConfigRecord { number, at, author: author.to_owned(), digest, text: text.to_owned() }
        })
    }

    fn record_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:08}.json"))
    }

    /// Lists the numbers that are taken, in order.
    fn list_numbers(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let number =
            |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".json")?.parse::<u64>().ok();
        let mut numbers: Vec<_> = entries.filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn history() -> (tempfile::TempDir, ConfigHistory) {
        let dir = tempfile::tempdir().expect("a directory");
        let history = ConfigHistory::of_home(&Home::locate_home(Some(dir.path())));
        (dir, history)
    }

    #[test]
    fn the_newest_hundred_configurations_are_kept_privately() {
        let (_dir, history) = history();
        for number in 1..=103 {
            let record = history.record_text(&format!("# {number}\n"), "ada").expect("is recorded");
            assert_eq!(record.number, number);
        }
        let kept = history.list_records();
        assert_eq!((kept.len(), kept[0].number, kept[99].number), (REVISIONS_MAX, 103, 4));
        let mode = fs::metadata(history.record_path(103)).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::metadata(&history.dir).expect("is there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_same_text_is_recorded_once_in_a_row() {
        let (_dir, history) = history();
        let number = |text: &str| history.record_text(text, "ada").expect("is recorded").number;
        assert_eq!([number("a"), number("a"), number("b"), number("a")], [1, 1, 2, 3]);
    }

    /// Returns whether a record that was changed behind our back is passed over, where it is found so.
    fn passes_over_changed(find: impl Fn(&ConfigHistory) -> Option<ConfigRecord>) -> bool {
        let (_dir, history) = history();
        history.record_text("good", "ada").expect("is recorded");
        history.record_text("newer", "ada").expect("is recorded");
        let path = history.record_path(2);
        let changed = fs::read_to_string(&path).expect("is there").replace("newer", "other");
        fs::write(&path, changed).expect("is written");
        find(&history).is_some_and(|found| found.text == "good")
    }

    #[test]
    fn a_record_that_was_changed_is_passed_over() {
        assert!(passes_over_changed(ConfigHistory::newest_record));
    }

    /// Planted fault: the digest of a record is not compared.
    #[test]
    fn a_record_that_is_trusted_unread_is_caught() {
        let unread = |history: &ConfigHistory| {
            serde_json::from_slice(&fs::read(history.record_path(2)).expect("is there")).ok()
        };
        assert!(!passes_over_changed(unread), "nothing notices it");
    }
}
