//! A file that is brought to the disk while it grows: synced at its end only, all of it would go there at once, and a server
//! whose commits wait for the same disk would wait behind it. It makes nothing durable that its owner does not sync.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// After so many bytes the file is synced.
const PACE_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct PacedFile {
    file: File,
    unsynced: usize,
}

impl PacedFile {
    pub(super) fn new(file: File) -> Self {
        Self { file, unsynced: 0 }
    }

    pub(super) fn into_file(self) -> File {
        self.file
    }
}

impl Write for PacedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.unsynced += count;
        if self.unsynced >= PACE_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for PacedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_synced_as_often_as_it_grows_by_the_pace() {
        let mut file = PacedFile::new(tempfile::tempfile().expect("a file"));
        file.write_all(&vec![1; PACE_BYTES - 1]).expect("is written");
        assert_eq!(file.unsynced, PACE_BYTES - 1);
        file.write_all(&[1]).expect("is written");
        assert_eq!(file.unsynced, 0, "what was written is on the disk");
        assert_eq!(file.into_file().metadata().expect("is there").len(), PACE_BYTES as u64);
    }
}
