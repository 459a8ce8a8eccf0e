//! Makes the names of directories durable.
//!
//! A name that `mkdir` made is lost in a power cut until the directory above it is synced. Whether an earlier process did that
//! before it ended is not known, so the parents of a directory are synced at each start, also where the directory is there. Nothing
//! is created here.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Syncs one directory.
pub fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Syncs every directory above a path, nearest first, in a given way. One that this user may not read, or whose file system syncs
/// no directories, is skipped: no process of this user made a name in it, or nothing can be done about it.
pub fn sync_parents(path: &Path, mut sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for parent in std::path::absolute(path)?.ancestors().skip(1) {
        match sync(parent) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied
                        | ErrorKind::InvalidInput
                        | ErrorKind::Unsupported
                        | ErrorKind::ReadOnlyFilesystem
                ) => {}
            synced => synced?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_syncs_skip_unreadable_directories_and_report_disk_failures() {
        let mut synced = Vec::new();
        let noted = |dir: &Path| {
            synced.push(dir.to_owned());
            Err(ErrorKind::PermissionDenied.into())
        };
        sync_parents(Path::new("/a/b/c"), noted).expect("what may not be read is skipped");
        assert_eq!(synced, ["/a/b", "/a", "/"].map(Path::new));
        let failed = sync_parents(Path::new("/a"), |_| Err(io::Error::other("a disk that failed")));
        assert!(failed.is_err());
    }
}
