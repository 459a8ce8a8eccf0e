//! What the file tools do: read, write, append, delete, in blocking code on held handles.
//!
//! Invariant: an effect is durable before it is reported: the file is synced, and so is the directory whose
//! entry changed. Each outcome text says exactly what happened. Nothing here follows a link, and nothing that programs
//! outside would execute is changed (the list is [`dromia_contracts::guarded`], which sandboxes use too).
//!
//! Crash windows. Write: a crash before the rename leaves a temporary file, whose name belongs to the call, so
//! that the repeated call removes it; after the rename, repeating leaves the same content. Append: after a crash it
//! is unknown whether it happened, which is why it is never repeated by itself.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use dromia_contracts::content::ContentPart;
use dromia_contracts::guarded_paths::is_guarded;
use dromia_contracts::label::{IntegrityLevel, Label, ReaderSet};
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use crate::arguments::{FileContent, FileDelete, FileRead};
use crate::file_error::FileError;
use crate::file_labels::{FileAccess, LabelledContent};
use crate::path::{FilePath, TEMPORARY_PREFIX};
use crate::workspace::{MissingDirectory, Workspace, create_new, entry_kind};
use crate::workspace_scan::{content_digest, read_comparable};

/// The largest file that an append may leave.
pub(crate) const FILE_BYTES_MAX: u64 = 64 << 20;

/// The label of what a file tool states by itself: true, and nobody's business but the agent's.
pub(crate) const WORKSPACE_FACT: Label =
    Label { integrity: IntegrityLevel::Trusted, readers: ReaderSet::Agent };

/// What a file tool returns to the model, or why it did not do it.
pub(crate) type Told = Result<Vec<ContentPart>, FileError>;

/// What a change returns, and the new content of the file with its label, as long as nothing else writes to it.
pub(crate) type Changed = Result<(Vec<ContentPart>, Option<LabelledContent>), FileError>;

/// Reads a piece of a file, which has the label of the content that it is a piece of.
pub(crate) fn read_file(workspace: Option<&Workspace>, arguments: &FileRead, mark: &FileAccess) -> Told {
    let file = workspace.ok_or(FileError::Missing)?.open_for_reading(&arguments.path)?;
    // The result shows the very bytes that are compared, even if the file is written meanwhile.
    let content = read_comparable(&file)?;
    let label = mark.label_of(content.as_deref().map(content_digest));
    let size = match &content {
        Some(content) => content.len() as u64,
        None => file.metadata()?.len(),
    };
    // An offset past what the kernel can count is refused by it, and there is nothing to read there anyway.
    let limit = if arguments.offset < size { arguments.limit } else { 0 };
    let mut bytes = match content {
        Some(content) => slice_content(content, arguments.offset, limit),
        None => read_at_most(&file, arguments.offset, limit)?,
    };
    bytes.truncate(whole_characters(&bytes));
    let end = arguments.offset.saturating_add(bytes.len() as u64);
    let more = size.saturating_sub(end);
    let mut parts = Vec::new();
    if bytes.is_empty() {
        parts.push(fact_part(format!("[nothing here: the file has {size} bytes]")));
    } else {
        if std::str::from_utf8(&bytes).is_err() {
            parts.push(fact_part("[not UTF-8: unreadable bytes are shown as \u{fffd}]"));
        }
        parts.push(ContentPart::new_text(String::from_utf8_lossy(&bytes), label));
        if more > 0 {
            parts.push(fact_part(format!("[{more} more bytes; read on with offset {end}]")));
        }
    }
    Ok(parts)
}

/// Replaces a file as a whole. `key` is the call's, so that a repeated call finds what it left half-done.
pub(crate) fn write_file(workspace: &Workspace, arguments: &FileContent, key: &str) -> Told {
    replace_file(workspace, &arguments.path, arguments.content.as_bytes(), key, None)?;
    let bytes = arguments.content.len();
    Ok(vec![fact_part(format!("wrote {bytes} byte{}", if bytes == 1 { "" } else { "s" }))])
}

/// Puts a file with this content in a path's place; `mode` is that of the file before, where it shall stay.
pub(crate) fn replace_file(
    workspace: &Workspace,
    path: &FilePath,
    content: &[u8],
    key: &str,
    mode: Option<Mode>,
) -> Result<(), FileError> {
    check_guarded(path)?;
    let (parent, name) = path.split_file_name();
    let parent = workspace.open_directory(&parent, MissingDirectory::Make)?.ok_or(FileError::Missing)?;
    let mode = match entry_kind(parent.as_fd(), name)? {
        // A script of the operator's stays one.
        Some(FileType::RegularFile) if mode.is_none() && workspace.is_referenced() => {
            let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Some(Mode::from_raw_mode(found.st_mode))
        }
        None | Some(FileType::RegularFile) => mode,
        Some(FileType::Directory) => return Err(FileError::Directory),
        Some(FileType::Symlink) => return Err(FileError::Symlink),
        Some(_) => return Err(FileError::Special),
    };
    let temporary = format!("{TEMPORARY_PREFIX}{}", &blake3::hash(key.as_bytes()).to_hex()[..16]);
    unlink_entry(parent.as_fd(), &temporary)?;
    let written = create_new(parent.as_fd(), &temporary).and_then(|mut file| {
        file.write_all(content)?;
        if let Some(mode) = mode {
            rustix::fs::fchmod(&file, mode)?;
        }
        file.sync_all()?;
        // Whatever took the name since it was looked at is replaced, not followed.
        Ok(rustix::fs::renameat(&parent, &temporary, &parent, name)?)
    });
    if let Err(error) = written {
        // The first error is the one to report; a temporary file that stays is invisible to the agent.
        let _: Result<(), FileError> = unlink_entry(parent.as_fd(), &temporary);
        return Err(error);
    }
    rustix::fs::fsync(&parent).map_err(|_| FileError::NotConfirmed)
}

/// Appends to a file. What it holds then was led to by what it held as well.
pub(crate) fn append_file(workspace: &Workspace, arguments: &FileContent, mark: &FileAccess) -> Changed {
    check_guarded(&arguments.path)?;
    let more = arguments.content.as_bytes();
    let holds = match workspace.open_for_reading(&arguments.path) {
        Ok(file) => read_comparable(&file)?.map(|before| {
            let after = [before.as_slice(), more].concat();
            if before.is_empty() { mark.label_replaced(&after) } else { mark.label_changed(&before, &after) }
        }),
        // Opening it for writing reports why it cannot be read.
        Err(_) => Some(mark.label_replaced(more)),
    };
    let (parent, name) = arguments.path.split_file_name();
    let parent = workspace.open_directory(&parent, MissingDirectory::Make)?.ok_or(FileError::Missing)?;
    let mut file = workspace.open_for_appending(parent.as_fd(), name)?;
    let before = file.metadata()?.len();
    let after = before.saturating_add(arguments.content.len() as u64);
    if after > FILE_BYTES_MAX {
        return Err(FileError::WouldGrowBeyond { limit: FILE_BYTES_MAX });
    }
    if let Err(error) = file.write_all(arguments.content.as_bytes()) {
        // Agents of one home are one writer, so cutting back removes nothing but this call's own bytes.
        return Err(file.set_len(before).map_or(FileError::Torn, |()| error.into()));
    }
    file.sync_all().map_err(|_| FileError::NotConfirmed)?;
    if before == 0 {
        rustix::fs::fsync(&parent).map_err(|_| FileError::NotConfirmed)?;
    }
    let told = vec![fact_part(format!("appended {} bytes; the file has {after}", arguments.content.len()))];
    Ok((told, holds))
}

/// Deletes a file or an empty directory. What is gone already is deleted.
pub(crate) fn delete_file(workspace: Option<&Workspace>, arguments: &FileDelete) -> Told {
    check_guarded(&arguments.path)?;
    let gone = || Ok(vec![fact_part("it is not there (any more)")]);
    let Some(workspace) = workspace else { return gone() };
    let (parent, name) = arguments.path.split_file_name();
    let Some(parent) = workspace.open_directory(&parent, MissingDirectory::Leave)? else { return gone() };
    let flags = match entry_kind(parent.as_fd(), name)? {
        None => return gone(),
        Some(FileType::RegularFile) => AtFlags::empty(),
        Some(FileType::Directory) => AtFlags::REMOVEDIR,
        Some(FileType::Symlink) => return Err(FileError::Symlink),
        Some(_) => return Err(FileError::Special),
    };
    match rustix::fs::unlinkat(&parent, name, flags) {
        Ok(()) => {}
        Err(Errno::NOENT) => return gone(),
        Err(errno) => return Err(errno.into()),
    }
    rustix::fs::fsync(&parent).map_err(|_| FileError::NotConfirmed)?;
    Ok(vec![fact_part("deleted")])
}

/// Refuses to change what programs outside would execute, whether it is there or not.
pub(crate) fn check_guarded(path: &FilePath) -> Result<(), FileError> {
    if is_guarded(Path::new(&path.to_string())) { Err(FileError::Guarded) } else { Ok(()) }
}

/// Makes a part that states a fact about the workspace.
pub(crate) fn fact_part(text: impl Into<String>) -> ContentPart {
    ContentPart::new_text(text, WORKSPACE_FACT)
}

fn unlink_entry(parent: BorrowedFd<'_>, name: &str) -> Result<(), FileError> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes a piece out of a content.
fn slice_content(mut content: Vec<u8>, offset: u64, limit: u32) -> Vec<u8> {
    let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
    content.drain(..begin);
    content.truncate(limit as usize);
    content
}

fn read_at_most(file: &File, offset: u64, limit: u32) -> Result<Vec<u8>, FileError> {
    let mut bytes = vec![0; limit as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Counts the bytes up to the last whole character, so that a piece never ends inside one; all of them where the
/// cut is not the problem, or where nothing would be left to make progress with.
pub(crate) fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        Ok(_) | Err(_) => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_ends_between_characters() {
        for (bytes, whole) in [
            (&b"abc"[..], 3),
            ("aé".as_bytes(), 3),
            (&"aé".as_bytes()[..2], 1),
            (&"a😀".as_bytes()[..4], 1),
            (&"😀".as_bytes()[..3], 3),
            (&b"a\xff"[..], 2),
            (b"", 0),
        ] {
            assert_eq!(whole_characters(bytes), whole, "{bytes:?}");
        }
    }
}
