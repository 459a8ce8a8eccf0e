//! `file.edit`: replacing exact text in a file, as often as is said and not otherwise.
//!
//! Invariant: idempotent. An edit changes nothing unless a repeat of it would then find itself done: the old text is
//! gone, and the new one is there. So a call that is repeated after a crash between the rename and its result says that
//! there is nothing to do, and a call that was never carried out is carried out. An old text inside of a new one counts
//! as replaced. Where the new text and the text around it would form the old one again, the edit is refused.
//!
//! The file is replaced as a whole, as by a write, and keeps its mode.

use std::io::Read as _;

use memchr::memmem;
use rustix::fs::Mode;

use crate::arguments::FileEdit;
use crate::file_error::FileError;
use crate::file_labels::FileAccess;
use crate::files::{Changed, check_guarded, fact_part, replace_file};
use crate::workspace::Workspace;

/// The largest file that is edited, before and after.
const FILE_BYTES_MAX: usize = 4 << 20;

/// Edits a file. `key` is the call's, so that a repeated call finds what it left half-done. What the file holds then has the
/// label of what it held, joined with that of what led to the edit.
pub(crate) fn edit_file(
    workspace: Option<&Workspace>,
    arguments: &FileEdit,
    key: &str,
    mark: &FileAccess,
) -> Changed {
    check_guarded(&arguments.path)?;
    let workspace = workspace.ok_or(FileError::Missing)?;
    let file = workspace.open_for_reading(&arguments.path)?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    let mut before = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut before)?;
    let (old, new) = (arguments.old.as_bytes(), arguments.new.as_bytes());
    let (text, holds) = match apply_edit(&before, old, new, arguments.count as usize)? {
        EditOutcome::Already => {
            ("nothing to do: the file has the new text and not the old one".to_owned(), None)
        }
        EditOutcome::Gone => ("nothing to do: the file no longer has the old text".to_owned(), None),
        EditOutcome::Now(after) => {
            replace_file(workspace, &arguments.path, &after, key, Some(mode))?;
            let text = format!("replaced {} times; the file has {} bytes", arguments.count, after.len());
            (text, Some(mark.label_changed(&before, &after)))
        }
    };
    Ok((vec![fact_part(text)], holds))
}

/// What an edit comes to.
#[derive(Debug, PartialEq, Eq)]
enum EditOutcome {
    /// It was done before.
    Already,
    /// There is nothing to remove.
    Gone,
    /// The file shall have this content.
    Now(Vec<u8>),
}

fn apply_edit(before: &[u8], old: &[u8], new: &[u8], count: usize) -> Result<EditOutcome, FileError> {
    if before.len() > FILE_BYTES_MAX {
        return Err(FileError::TooLongToEdit { limit: FILE_BYTES_MAX });
    }
    let found = find_replaceable(before, old, new).count();
    if found == 0 {
        return already_done(before, new, count).ok_or(FileError::OldAbsent);
    }
    if found != count {
        return Err(FileError::OldOccurs { found, expected: count });
    }
    let length = before.len() - count * old.len() + count.saturating_mul(new.len());
    if length > FILE_BYTES_MAX {
        return Err(FileError::TooLongToEdit { limit: FILE_BYTES_MAX });
    }
    let mut after = Vec::with_capacity(length);
    let mut from = 0;
    for at in find_replaceable(before, old, new) {
        after.extend_from_slice(&before[from..at]);
        after.extend_from_slice(new);
        from = at + old.len();
    }
    after.extend_from_slice(&before[from..]);
    if find_replaceable(&after, old, new).next().is_some() || already_done(&after, new, count).is_none() {
        return Err(FileError::OldAgain);
    }
    Ok(EditOutcome::Now(after))
}

/// Returns what a text without the old one means: that the edit is done, or `None` if it cannot have been.
fn already_done(text: &[u8], new: &[u8], count: usize) -> Option<EditOutcome> {
    if new.is_empty() {
        return Some(EditOutcome::Gone);
    }
    let there = memmem::find_iter(text, new).take(count).count();
    (there == count).then_some(EditOutcome::Already)
}

/// Finds the old text where it is not a part of the new one, from the front and without overlaps.
fn find_replaceable<'text>(
    text: &'text [u8],
    old: &'text [u8],
    new: &'text [u8],
) -> impl Iterator<Item = usize> + 'text {
    let may_hide = memmem::find(new, old).is_some();
    let mut hiding = may_hide.then(|| memmem::find_iter(text, new)).into_iter().flatten().peekable();
    memmem::find_iter(text, old).filter(move |&at| {
        while hiding.next_if(|&begin| begin + new.len() <= at).is_some() {}
        !hiding.peek().is_some_and(|&begin| begin <= at && at + old.len() <= begin + new.len())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(before: &str, old: &str, new: &str, count: usize) -> Result<String, FileError> {
        let edited = apply_edit(before.as_bytes(), old.as_bytes(), new.as_bytes(), count)?;
        Ok(match edited {
            EditOutcome::Already => "already".to_owned(),
            EditOutcome::Gone => "gone".to_owned(),
            EditOutcome::Now(after) => String::from_utf8(after).expect("it was text"),
        })
    }

    #[test]
    fn an_edit_replaces_exactly_the_expected_occurrences_or_nothing() {
        let again = Err(FileError::OldAgain);
        let occurs = |found, expected| Err(FileError::OldOccurs { found, expected });
        for (before, old, new, count, after) in [
            ("one two", "two", "three", 1, Ok("one three")),
            ("a a a", "a", "b", 3, Ok("b b b")),
            ("a a a", "a", "b", 1, occurs(3, 1)),
            ("a a", "a", "b", 3, occurs(2, 3)),
            ("b c", "a", "b", 1, Ok("already")),
            ("b c", "a", "b", 2, Err(FileError::OldAbsent)),
            ("c", "a", "b", 1, Err(FileError::OldAbsent)),
            ("c", "a", "", 1, Ok("gone")),
            ("abc", "b", "", 1, Ok("ac")),
            // The old text is a part of the new one.
            ("let x", "x", "xy", 1, Ok("let xy")),
            ("let xy", "x", "xy", 1, Ok("already")),
            ("let xy; x", "x", "xy", 1, Ok("let xy; xy")),
            ("x", "x", "(x+x)", 1, Ok("(x+x)")),
            ("(x+x)", "x", "(x+x)", 1, Ok("already")),
            // What is around it would make it anew.
            ("abb", "ab", "a", 1, again),
            ("aab", "ab", "", 1, Ok("a")),
            ("aabb", "ab", "", 1, again),
        ] {
            assert_eq!(
                text(before, old, new, count).as_deref(),
                after.as_deref(),
                "{before} {old} {new} {count}"
            );
        }
    }

    #[test]
    fn an_oversized_file_is_refused_before_and_after_edits() {
        let long = FileError::TooLongToEdit { limit: FILE_BYTES_MAX };
        let before = vec![b'x'; FILE_BYTES_MAX + 1];
        assert_eq!(apply_edit(&before, b"y", b"z", 1), Err(long));
        let new = vec![b'z'; FILE_BYTES_MAX];
        assert_eq!(apply_edit(b"ab ab", b"ab", &new, 2), Err(long));
    }

    proptest! {
        #[test]
        fn a_repeated_edit_finds_itself_done(
            before in "[ab]{0,12}",
            old in "[ab]{1,3}",
            new in "[ab]{0,4}",
            count in 1_usize..4,
        ) {
            prop_assume!(old != new);
            let (old, new) = (old.as_bytes(), new.as_bytes());
            if let Ok(EditOutcome::Now(after)) = apply_edit(before.as_bytes(), old, new, count) {
                let repeated = apply_edit(&after, old, new, count);
                prop_assert!(matches!(repeated, Ok(EditOutcome::Already | EditOutcome::Gone)), "{:?}", repeated);
            }
        }
    }
}
