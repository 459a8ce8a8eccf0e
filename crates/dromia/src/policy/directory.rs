//! One directory of policies: what lies in it, and which directory it is.
//!
//! What cannot be read is reported with its name, and a link that leads nowhere is not taken for a directory that is
//! not there. What a file says is not looked into, and nothing is remembered here.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dromia_guard::policy::{BYTES_MAX, FILES_MAX, PolicyProblem, PolicyText};

/// How often a directory is read that is replaced by another meanwhile.
const READS_MAX: usize = 3;

/// The identity of a directory: its device, and its inode number there.
pub(super) type Place = (u64, u64);
/// Finds the identity of the directory at a path; nothing if there is none, or it cannot be read.
pub(super) type PlaceOf = fn(&Path) -> Option<Place>;
/// The policies of one directory, and which directory it is.
type Placed = (Vec<PolicyText>, Option<Place>);

/// The identity of the directory at a path, behind links.
pub(super) fn place_of(dir: &Path) -> Option<Place> {
    std::fs::metadata(dir).ok().map(|about| (about.dev(), about.ino()))
}

/// Reads the policies of one directory, and which directory it is. One that is replaced by another meanwhile is read
/// again; one that goes on to do so is refused where it is known which directory it was, and is none in particular
/// elsewhere: a start has nothing to compare it with.
pub(super) fn read_placed(
    dir: &Path,
    shown: &str,
    place_of: PlaceOf,
    is_placed: bool,
) -> Result<Option<Placed>, PolicyProblem> {
    let mut place = place_of(dir);
    let mut reads = 0;
    loop {
        let files = read_policies(dir, shown)?;
        let now = place_of(dir);
        reads += 1;
        if now == place {
            return Ok(files.map(|files| (files, place)));
        }
        if reads == READS_MAX {
            let problem = format!(
                "the folder was replaced during each of {READS_MAX} reads; try again when it stays unchanged"
            );
            return if is_placed {
                Err(policy_problem(shown, problem))
            } else {
                Ok(files.map(|files| (files, None)))
            };
        }
        place = now;
    }
}

/// Reads the policies of one directory, in the order of their names; nothing where there is no directory.
fn read_policies(dir: &Path, shown: &str) -> Result<Option<Vec<PolicyText>>, PolicyProblem> {
    let Some(entries) = list_if_present(dir, shown)? else { return Ok(None) };
    let mut texts = Vec::new();
    for (name, path) in entries {
        if path.extension().is_none_or(|extension| extension != "rego") {
            continue;
        }
        let name = format!("{shown}/{name}");
        if texts.len() == 2 * FILES_MAX {
            return Err(policy_problem(
                shown,
                format!("it has more than {FILES_MAX} policies and as many tests"),
            ));
        }
        let unreadable = |error: io::Error| policy_problem(&name, format!("it cannot be read: {error}"));
        let about = std::fs::metadata(&path).map_err(unreadable)?;
        if !about.is_file() || about.len() > BYTES_MAX as u64 {
            return Err(policy_problem(&name, format!("it is not a file of at most {BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        texts.push(PolicyText { name, text });
    }
    Ok(Some(texts))
}

/// Names and paths of what a directory holds.
type Entries = Vec<(String, PathBuf)>;

/// Lists a directory, sorted; one that is not there is empty.
pub(super) fn list_or_empty(dir: &Path, shown: &str) -> Result<Entries, PolicyProblem> {
    list_if_present(dir, shown).map(Option::unwrap_or_default)
}

/// Lists a directory, sorted, if it is there. A link that leads nowhere is not taken for one that is not.
fn list_if_present(dir: &Path, shown: &str) -> Result<Option<Entries>, PolicyProblem> {
    let unreadable = |error: io::Error| policy_problem(shown, format!("it cannot be read: {error}"));
    let listed = match std::fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match std::fs::symlink_metadata(dir) {
                Ok(about) if about.is_symlink() => {
                    Err(policy_problem(shown, "it cannot be read: it is a link to a missing file"))
                }
                Err(absent) if absent.kind() == io::ErrorKind::NotFound => Ok(None),
                Ok(_) | Err(_) => Err(unreadable(error)),
            };
        }
        Err(error) => return Err(unreadable(error)),
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry.map_err(unreadable)?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    found.sort();
    Ok(Some(found))
}

pub(super) fn policy_problem(file: &str, problem: impl Into<String>) -> PolicyProblem {
    PolicyProblem { file: file.to_owned(), place: None, problem: problem.into() }
}
