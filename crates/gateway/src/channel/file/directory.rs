//! Files beneath a directory's handle: regular ones, reached by no link.

use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};

const NO_LINK: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

/// Opens the directory of a channel; makes it where it is missing, for its owner only.
pub(super) fn open_directory(path: &Path) -> io::Result<File> {
    let open = || rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | NO_LINK, Mode::empty());
    match open() {
        Err(rustix::io::Errno::NOENT) => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            Ok(File::from(open()?))
        }
        opened => Ok(File::from(opened?)),
    }
}

/// Opens a file of the directory; nothing where it is missing and is not to be made.
pub(super) fn open_file(directory: &File, name: &str, flags: OFlags) -> io::Result<Option<File>> {
    // A pipe would have its opener wait for the other end.
    let flags = flags | NO_LINK | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Err(io::Error::other(format!("{name} is a link"))),
        Err(error) => return Err(error.into()),
    };
    let found = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(io::Error::other(format!("{name} is no regular file")));
    }
    if found.st_nlink > 1 {
        return Err(io::Error::other(format!("{name} has another name, so it may be another file")));
    }
    Ok(Some(file))
}

/// Puts a whole file in the place of another, durably.
pub(super) fn replace_file(directory: &File, name: &str, content: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let fresh = format!("{name}.new");
    match rustix::fs::unlinkat(directory, &fresh, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let file = open_file(directory, &fresh, flags)?;
    let mut file = file.ok_or_else(|| io::Error::other(format!("{fresh} cannot be made")))?;
    file.write_all(content)?;
    file.sync_data()?;
    rustix::fs::renameat(directory, &fresh, directory, name)?;
    directory.sync_all()
}
