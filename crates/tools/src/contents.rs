//! What a workspace holds that a program could execute, as one digest, so that an approval is bound to it.
//!
//! Invariant: whatever is written, moved, linked, removed or made executable makes another digest, as long as the look is
//! whole; where it is not, it says so. The look goes through names in their order, so the same files give the same digest, and
//! no link is followed: a link is what it points to. What is too large to be read stands for its inode, its size and the time
//! of its last change, which no program of an agent can set.
//!
//! A file may be written between the look and the start of the program, by another program of the same agent that runs at
//! that time. It refuses to judge: whoever asks compares.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};

use dromia_contracts::Digest;
use dromia_contracts::approval::{BoundFiles, Contents};
use rustix::fs::{AtFlags, Dir, FileType, Stat};

use crate::file_error::FileError;
use crate::path::WorkspacePath;
use crate::workspace::{Entry, Missing, Workspace};

/// The most names of one look.
const NAMES_MAX: usize = 65_536;
/// The most bytes that one look reads.
const BYTES_MAX: u64 = 64 << 20;
/// The deepest directory; a handle is held for each.
const DEPTH_MAX: usize = 64;

/// Looks at the files of a workspace: at all of them, or at those that these words name.
pub(crate) fn look(
    workspace: Option<&Workspace>,
    words: &[String],
    extent: BoundFiles,
) -> Result<Contents, FileError> {
    let mut look = Look { words, hasher: blake3::Hasher::new(), files: 0, names: 0, bytes: 0, is_cut: false };
    if let Some(workspace) = workspace
        && let Some(root) = workspace.directory(&WorkspacePath::default(), Missing::Leave)?
    {
        look.directory(
            workspace,
            &root,
            &mut Vec::new(),
            Depth { below: 0, is_named: extent == BoundFiles::All },
        );
    }
    let digest = Digest::from_bytes(*look.hasher.finalize().as_bytes());
    Ok(Contents { digest, files: look.files, extent, is_cut: look.is_cut })
}

struct Look<'a> {
    words: &'a [String],
    hasher: blake3::Hasher,
    files: u32,
    names: usize,
    bytes: u64,
    is_cut: bool,
}

/// Where in the workspace a directory lies.
#[derive(Debug, Clone, Copy)]
struct Depth {
    below: usize,
    /// Whether all that lies in it counts.
    is_named: bool,
}

impl Look<'_> {
    fn directory(&mut self, workspace: &Workspace, directory: &OwnedFd, path: &mut Vec<u8>, depth: Depth) {
        let Some(names) = self.names(directory, depth.below) else { return self.cut(directory, path) };
        for name in names {
            let Ok(stat) = rustix::fs::statat(directory, &*name, AtFlags::SYMLINK_NOFOLLOW) else {
                // It is gone, or cannot be looked at: then no program of the agent can make it out either.
                continue;
            };
            let is_named = depth.is_named || self.is_named(&name);
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => match workspace.entry(directory.as_fd(), &*name) {
                    Ok(Entry::Directory(child)) => {
                        let below = Depth { below: depth.below + 1, is_named };
                        self.directory(workspace, &child, path, below);
                    }
                    // What is not opened now may be made readable again by whoever shut it.
                    Ok(Entry::File(_)) | Err(_) => {
                        self.is_cut = true;
                        self.stand(path, &stat);
                    }
                },
                kind if is_named => {
                    self.files = self.files.saturating_add(1);
                    self.file(workspace, directory, &name, kind, &stat, path);
                }
                _ => {}
            }
            path.truncate(length);
        }
    }

    /// Leaves out what a directory holds; that it is the same one still counts.
    fn cut(&mut self, directory: &OwnedFd, path: &[u8]) {
        self.is_cut = true;
        if let Ok(stat) = rustix::fs::fstat(directory) {
            self.stand(path, &stat);
        }
    }

    /// Takes its inode, its size and the time of its last change for what cannot be read.
    fn stand(&mut self, path: &[u8], stat: &Stat) {
        self.begin(path, stat);
        self.hasher
            .update(&[0])
            .update(&stat.st_ino.to_le_bytes())
            .update(&stat.st_size.to_le_bytes())
            .update(&stat.st_ctime.to_le_bytes())
            .update(&stat.st_ctime_nsec.to_le_bytes());
    }

    /// Says what it is called, what kind it is, and who may execute it.
    fn begin(&mut self, path: &[u8], stat: &Stat) {
        self.hasher.update(&(path.len() as u64).to_le_bytes()).update(path);
        self.hasher.update(&(stat.st_mode & 0o170_111).to_le_bytes());
    }

    /// Lists a directory in the order of its names; nothing if that would be too much, or cannot be done.
    fn names(&mut self, directory: &OwnedFd, depth: usize) -> Option<Vec<CString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).ok().filter(|_| depth < DEPTH_MAX)? {
            let entry = entry.ok()?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.names += 1;
            if self.names > NAMES_MAX {
                return None;
            }
            names.push(name.to_owned());
        }
        names.sort_unstable();
        Some(names)
    }

    /// Tells whether a word names it. One that is no text may be named in ways that nobody foresees.
    fn is_named(&self, name: &CString) -> bool {
        match name.to_str() {
            Ok(name) => self.words.iter().any(|word| word.contains(name)),
            Err(_) => true,
        }
    }

    fn file(
        &mut self,
        workspace: &Workspace,
        directory: &OwnedFd,
        name: &CString,
        kind: FileType,
        stat: &Stat,
        path: &[u8],
    ) {
        let held = match kind {
            FileType::RegularFile => self.content(workspace, directory, name),
            FileType::Symlink => rustix::fs::readlinkat(directory, &**name, Vec::new())
                .ok()
                .map(|to| *blake3::hash(to.as_bytes()).as_bytes()),
            _ => None,
        };
        match held {
            Some(held) => {
                self.begin(path, stat);
                self.hasher.update(&[1]).update(&held);
            }
            None => self.stand(path, stat),
        }
    }

    /// The digest of what a file holds; nothing if it cannot be read, or the look has read enough.
    fn content(&mut self, workspace: &Workspace, directory: &OwnedFd, name: &CString) -> Option<[u8; 32]> {
        let Ok(Entry::File(file)) = workspace.entry(directory.as_fd(), &**name) else { return None };
        let mut hasher = blake3::Hasher::new();
        let left = BYTES_MAX.saturating_sub(self.bytes);
        let read = read(&file, left, &mut hasher).unwrap_or(left + 1);
        // Those behind one that is too large are read all the same, so that it does not hide them.
        (read <= left).then(|| {
            self.bytes += read;
            *hasher.finalize().as_bytes()
        })
    }
}

/// Reads a file up to a bound and one byte beyond it, which tells that there is more.
fn read(file: &File, most: u64, hasher: &mut blake3::Hasher) -> io::Result<u64> {
    let is_larger = file.metadata()?.len() > most;
    if is_larger {
        return Ok(most + 1);
    }
    let (mut file, mut buffer, mut total) = (file.take(most + 1), vec![0; 64 << 10], 0);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        hasher.update(&buffer[..count]);
        total += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use dromia_contracts::AgentId;

    use super::*;
    use crate::workspace::{Resolver, workspace_path};

    const AGENT: AgentId = AgentId::from_bytes([3; 16]);

    struct Room {
        home: tempfile::TempDir,
        workspace: Workspace,
    }

    impl Room {
        fn new() -> Self {
            let home = tempfile::tempdir().expect("a directory");
            let made = Workspace::open(home.path(), AGENT, Resolver::probe(), Missing::Make);
            let room = Self { home, workspace: made.expect("made").expect("there") };
            room.write("build.sh", "make");
            room.write("lib/part.py", "x = 1");
            room.write("notes.md", "notes");
            room
        }

        fn path(&self, path: &str) -> PathBuf {
            workspace_path(self.home.path(), AGENT).join(path)
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.path(path);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            std::fs::write(path, text).expect("written");
        }

        fn look(&self, words: &[&str], extent: BoundFiles) -> Contents {
            let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
            look(Some(&self.workspace), &words, extent).expect("looked at")
        }

        fn all(&self) -> Contents {
            self.look(&[], BoundFiles::All)
        }
    }

    /// Each way in which what would be executed may become something else.
    const CHANGES: [fn(&Room); 10] = [
        |room| room.write("build.sh", "fake"),
        |room| room.write("lib/part.py", "x = 2"),
        |room| room.write("new", ""),
        |room| std::fs::remove_file(room.path("notes.md")).expect("removed"),
        |room| std::fs::rename(room.path("notes.md"), room.path("notes.txt")).expect("renamed"),
        |room| std::fs::rename(room.path("lib"), room.path("bil")).expect("renamed"),
        |room| symlink("build.sh", room.path("run.sh")).expect("linked"),
        |room| {
            let executable = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(room.path("build.sh"), executable).expect("set");
        },
        |room| {
            std::fs::remove_file(room.path("build.sh")).expect("removed");
            symlink("notes.md", room.path("build.sh")).expect("linked");
        },
        |room| {
            let name = std::ffi::OsString::from_vec(vec![b'a', 0xff]);
            std::fs::write(room.path("lib").join(name), "x").expect("written");
        },
    ];

    #[test]
    fn whatever_changes_makes_another_digest_and_no_two_changes_make_the_same() {
        let mut seen = vec![Room::new().all().digest];
        for (number, change) in CHANGES.into_iter().enumerate() {
            let room = Room::new();
            assert_eq!(room.all().digest, seen[0], "the same files give the same digest");
            change(&room);
            let now = room.all();
            assert!(!now.is_cut && !seen.contains(&now.digest), "change {number}");
            assert_eq!(room.all(), now);
            seen.push(now.digest);
        }
    }

    #[test]
    fn only_what_is_named_counts_where_only_that_should() {
        let named = |words: &[&str]| {
            let room = Room::new();
            let before = room.look(words, BoundFiles::Named);
            room.write("notes.md", "others");
            room.write("new", "");
            let besides = room.look(words, BoundFiles::Named) == before;
            room.write("build.sh", "fake");
            room.write("lib/part.py", "fake");
            (before.files, besides, room.look(words, BoundFiles::Named) == before)
        };
        for (words, expected) in [
            (&["./build.sh"][..], (1, true, false)),
            (&["sh", "-c", "cd . && 'build.sh'"], (1, true, false)),
            (&["python3", "lib"], (1, true, false)),
            (&["sh", "/workspace/lib/part.py", "build.sh"], (2, true, false)),
            (&["make"], (0, true, true)),
            (&["cat", "notes.md"], (1, false, false)),
        ] {
            assert_eq!(named(words), expected, "{words:?}");
        }
    }

    #[test]
    fn what_is_too_large_to_be_read_counts_by_its_last_change_and_hides_nothing() {
        let room = Room::new();
        let large = std::fs::File::create(room.path("a-large-one")).expect("made");
        large.set_len(BYTES_MAX + 1).expect("sparse");
        let before = room.all();
        assert!(!before.is_cut);
        assert_eq!(room.all(), before);
        room.write("build.sh", "fake");
        let changed = room.all();
        assert_ne!(changed.digest, before.digest);
        large.set_len(BYTES_MAX + 2).expect("sparse");
        assert_ne!(room.all().digest, changed.digest);
    }

    #[test]
    fn a_look_that_is_not_whole_says_so_and_no_workspace_holds_nothing() {
        let room = Room::new();
        std::fs::create_dir_all(room.path(&["d"; DEPTH_MAX].join("/"))).expect("made");
        assert!(room.all().is_cut);
        let nothing = look(None, &[], BoundFiles::All).expect("looked at");
        assert_eq!((nothing.files, nothing.is_cut), (0, false));
    }
}
