//! Whether `dromia.yaml` is another one than before: by the identity of the file, which must be the same in two looks, so
//! that a text that is still being written is not taken. It refuses what is no regular file and what is too large, unread.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use crate::config;
use crate::home::Home;

/// How often a server looks. A change counts after two looks, and within two seconds.
pub(super) const LOOK: Duration = Duration::from_millis(400);

/// The largest file that is read while the server runs.
const BYTES_MAX: u64 = 4 << 20;

/// What makes a file another one: its device, number, size, and the times of its text and of its entry.
type FileIdentity = (u64, u64, u64, (i64, i64), (i64, i64));

/// What the looks have seen.
#[derive(Debug, Default)]
pub(super) struct ConfigFileWatch {
    seen: Option<Result<FileIdentity, String>>,
    is_settled: bool,
}

/// A text that was found, and who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundText {
    /// The text.
    pub(super) text: String,
    /// The owner of the file.
    pub(super) author: String,
}

impl ConfigFileWatch {
    /// Looks once. Returns the text where the file changed and has not changed since the last look, or why there is none.
    pub(super) fn look(&mut self, home: &Home) -> Option<Result<FoundText, String>> {
        let path = home.config_path();
        let (identity, author) = match file_identity(&path) {
            Ok((identity, owner)) => (Ok(identity), format!("file of user {owner}")),
            Err(problem) => (Err(problem), String::new()),
        };
        if self.seen.as_ref() != Some(&identity) {
            self.seen = Some(identity);
            self.is_settled = false;
            return None;
        }
        if std::mem::replace(&mut self.is_settled, true) {
            return None;
        }
        Some(identity.and_then(|_| {
            let text = config::read_config_text(home).map_err(|problem| format!("{problem:#}"))?;
            Ok(FoundText { text, author })
        }))
    }
}

/// Names the owner of the file: the author of a text, where the history has no better one.
pub(super) fn file_author(home: &Home) -> String {
    match file_identity(&home.config_path()) {
        Ok((_, owner)) => format!("file of user {owner}"),
        Err(_) => "file".to_owned(),
    }
}

fn file_identity(path: &Path) -> Result<(FileIdentity, u32), String> {
    let place = path.display();
    let found = fs::metadata(path).map_err(|error| format!("{place} cannot be read: {error}"))?;
    if !found.is_file() {
        return Err(format!("{place} is not a file"));
    }
    if found.len() > BYTES_MAX {
        return Err(format!("{place} has more than {} MiB", BYTES_MAX >> 20));
    }
    let times = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    Ok(((found.dev(), found.ino(), found.len(), times.0, times.1), found.uid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_when_two_looks_agree() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::locate_home(Some(dir.path()));
        let (path, mut watch) = (home.config_path(), ConfigFileWatch::default());
        let write = |text: &str| fs::write(&path, text).expect("is written");
        write("a: 1");
        assert_eq!(watch.look(&home), None, "it may still be written");
        write("a: 1\nb: 2");
        assert_eq!(watch.look(&home), None, "it is still written");
        let found = watch.look(&home).expect("it rests").expect("it is there");
        assert_eq!(found.text, "a: 1\nb: 2");
        assert_eq!(watch.look(&home), None, "it is known");
        fs::remove_file(&path).expect("is removed");
        assert_eq!(watch.look(&home), None, "an editor may be replacing it");
        assert!(
            watch.look(&home).expect("it is gone").expect_err("nothing is there").contains("cannot be read")
        );
        fs::create_dir(&path).expect("is made");
        assert_eq!((watch.look(&home), watch.look(&home).is_some_and(|found| found.is_err())), (None, true));
    }
}
