//! Files that an answer of the server is written into. The answer is written piece by piece, so its length does not
//! matter; only the owner may read the file; and it gets its name once it is whole, so a download that breaks off
//! leaves the old file.
//!
//! A path that is no plain file (a pipe, a device, a link) is written directly.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hyper::HeaderMap;

use crate::client::ApiClient;
use crate::error::{Error, Outcome};
use crate::output::{CommandOutput, count_noun};

/// Only the owner may read and write it.
const MODE: u32 = 0o600;

/// A file that is being written. Dropped before it is kept, it leaves nothing.
#[derive(Debug)]
pub(crate) struct DownloadFile {
    file: File,
    path: PathBuf,
    /// Where it is written until it is whole.
    part: Option<PathBuf>,
    bytes: u64,
}

/// Writes what a path of the server gives into a file, or without one to stdout, as it comes; `look` sees every piece. The
/// answer's headers are returned with the file, which is there once it is [kept](Saved::keep).
pub(crate) async fn save_response(
    client: &ApiClient,
    path: &str,
    file: Option<&Path>,
    output: &mut CommandOutput<'_>,
    mut look: impl FnMut(&[u8]),
) -> Outcome<(HeaderMap, Option<DownloadFile>)> {
    let (head, mut body) = client.get_streaming(path).await?.into_parts();
    let begun = |file: &Path| {
        DownloadFile::create_temporary(file).map_err(Error::io_error(format!("write {}", file.display())))
    };
    let mut saved = file.map(begun).transpose()?;
    while let Some(piece) = client.next_body_chunk(&mut body).await? {
        look(&piece);
        match &mut saved {
            Some(saved) => saved.write_chunk(&piece)?,
            None => output.write_bytes(&piece)?,
        }
    }
    Ok((head.headers, saved))
}

impl DownloadFile {
    fn create_temporary(path: &Path) -> io::Result<Self> {
        let is_plain = match fs::symlink_metadata(path) {
            Ok(found) => found.is_file(),
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        let part = if is_plain { Some(temporary_path(path)?) } else { None };
        let mut options = OpenOptions::new();
        options.write(true).mode(MODE);
        let file = match &part {
            // The part is always created, so it cannot be a link that was put in its place.
            Some(part) => options.create_new(true).open(part)?,
            None => options.create(true).truncate(true).open(path)?,
        };
        let saved = Self { file, path: path.to_owned(), part, bytes: 0 };
        if saved.file.metadata()?.is_file() {
            saved.file.set_permissions(Permissions::from_mode(MODE))?;
        }
        Ok(saved)
    }

    fn write_chunk(&mut self, piece: &[u8]) -> Outcome {
        self.bytes += piece.len() as u64;
        self.file.write_all(piece).map_err(Error::io_error(format!("write {}", self.path.display())))
    }

    /// Puts it under its name, and tells how long it is.
    pub(crate) fn finish_download(mut self, output: &mut CommandOutput<'_>) -> Outcome {
        if let Some(part) = &self.part {
            // The part is on the disk before it replaces the old file: a power cut leaves one of the two.
            let moved = self.file.sync_all().and_then(|()| fs::rename(part, &self.path));
            moved.map_err(Error::io_error(format!("write {}", self.path.display())))?;
            self.part = None;
        }
        let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        output.print_notice(&format!("wrote {} to {}", count_noun(bytes, "byte"), self.path.display()))
    }
}

impl Drop for DownloadFile {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            // It did not become whole; what cannot be removed is found by its name.
            drop(fs::remove_file(part));
        }
    }
}

/// Names the file that becomes another one.
fn temporary_path(path: &Path) -> io::Result<PathBuf> {
    let name =
        path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "the path names no file"))?;
    let part = format!(".{}.{}.part", name.to_string_lossy(), std::process::id());
    Ok(path.with_file_name(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_download_is_private_and_appears_only_when_complete() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("export");
        fs::write(&path, "of before").expect("it is written");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("it is changed");
        let mut broken = DownloadFile::create_temporary(&path).expect("it begins");
        broken.write_chunk(b"half").expect("it is written");
        let part = broken.part.clone().expect("it is written beside");
        assert_eq!(mode(&part), MODE);
        drop(broken);
        assert_eq!(fs::read_to_string(&path).expect("it is read"), "of before");
        assert_eq!(names(directory.path()), ["export"]);
        let mut whole = DownloadFile::create_temporary(&path).expect("it begins");
        whole.write_chunk(b"whole").expect("it is written");
        let part = whole.part.take().expect("it is written beside");
        fs::rename(part, &path).expect("it is moved");
        assert_eq!((fs::read_to_string(&path).expect("it is read").as_str(), mode(&path)), ("whole", MODE));
    }

    #[test]
    fn a_link_or_device_is_written_in_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        fs::write(&target, "of before").expect("it is written");
        std::os::unix::fs::symlink(&target, &link).expect("it is linked");
        let mut saved = DownloadFile::create_temporary(&link).expect("it begins");
        saved.write_chunk(b"through").expect("it is written");
        drop(saved);
        assert_eq!(fs::read_to_string(&target).expect("it is read"), "through");
        assert_eq!(mode(&target), MODE);
        assert!(DownloadFile::create_temporary(Path::new("/dev/null")).expect("a device").part.is_none());
        assert!(DownloadFile::create_temporary(&directory.path().join("nowhere").join("file")).is_err());
    }
}
