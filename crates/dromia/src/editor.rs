//! The person's editor: the program that `$VISUAL` or `$EDITOR` names, with a text in a file of its own.
//!
//! The file can be read by its owner only, and is removed when the editor has ended, whatever it did.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest text that is read back, in bytes.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Has the person edit a text. `name` is a part of the file's name that no other process has.
pub(crate) fn edit_text(name: &str, text: &str) -> io::Result<String> {
    let file = EditedFile::create(env::temp_dir().join(format!("dromia-{name}.yaml")), text)?;
    // The variable may hold arguments, as in `code --wait`; the shell splits them, and the path is none of its text.
    let status = Command::new("sh")
        .args(["-c", &format!("{} \"$1\"", editor_command()), "sh"])
        .arg(&file.0)
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("the editor failed: {status}; nothing was changed")));
    }
    file.read()
}

fn editor_command() -> String {
    let named = |name| env::var(name).ok().filter(|value: &String| !value.trim().is_empty());
    named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".to_owned())
}

/// A file that is removed with its value.
struct EditedFile(PathBuf);

impl EditedFile {
    fn create(path: PathBuf, text: &str) -> io::Result<Self> {
        // A link or a file that someone put there is refused.
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let edited = Self(path);
        file.write_all(text.as_bytes())?;
        Ok(edited)
    }

    fn read(&self) -> io::Result<String> {
        let path: &Path = &self.0;
        if fs::metadata(path)?.len() > TEXT_BYTES_MAX {
            return Err(io::Error::other(format!("the text is longer than {TEXT_BYTES_MAX} bytes")));
        }
        fs::read_to_string(path)
    }
}

impl Drop for EditedFile {
    fn drop(&mut self) {
        // The editor may have removed it; nothing else can be done about a file that stays.
        let _gone = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_edited_file_is_its_owners_and_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.yaml");
        let file = EditedFile::create(path.clone(), "name: a\n").expect("a file");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!((mode & 0o777, file.read().expect("it is read").as_str()), (0o600, "name: a\n"));
        assert!(EditedFile::create(path.clone(), "").is_err(), "a file that is there is not taken");
        drop(file);
        assert!(!path.exists());
    }
}
