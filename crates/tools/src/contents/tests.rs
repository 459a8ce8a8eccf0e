//! What a look holds to, and what it does not take for held.

use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use dromia_contracts::{AgentId, BoxFuture};

use super::*;
use crate::workspace::{PathResolver, workspace_path};

const AGENT: AgentId = AgentId::from_bytes([3; 16]);

/// A clock that goes by so many milliseconds with each look at it.
#[derive(Debug)]
struct Ticking(std::sync::atomic::AtomicI64, i64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        let at = self.0.fetch_add(self.1, std::sync::atomic::Ordering::Relaxed);
        Timestamp::from_millisecond(at).expect("a time")
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        unreachable!("nothing sleeps here")
    }

    fn monotonic_now(&self) -> std::time::Duration {
        unreachable!("nothing waits here")
    }

    fn sleep(&self, _: std::time::Duration) -> BoxFuture<'static, ()> {
        unreachable!("nothing sleeps here")
    }
}

fn standing() -> Ticking {
    Ticking(0.into(), 0)
}

struct Room {
    home: tempfile::TempDir,
    workspace: Workspace,
}

impl Room {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let made = Workspace::open(home.path(), AGENT, PathResolver::probe(), MissingDirectory::Make);
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

    fn mode(&self, path: &str, mode: u32) {
        std::fs::set_permissions(self.path(path), std::fs::Permissions::from_mode(mode)).expect("set");
    }

    fn look(&self, words: &[&str], extent: BoundFiles) -> Result<ExecutableFiles, FileBindingError> {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        scan_contents(Some(&self.workspace), &words, extent, &standing())
    }

    fn all(&self) -> ExecutableFiles {
        self.look(&[], BoundFiles::All).expect("held to")
    }

    fn named(&self, words: &[&str]) -> ExecutableFiles {
        self.look(words, BoundFiles::Named).expect("held to")
    }
}

type Change = fn(&Room);

/// Each way in which what would be executed may become something else.
const CHANGES: [Change; 13] = [
    |room| room.write("build.sh", "fake"),
    |room| room.write("lib/part.py", "x = 2"),
    |room| room.write("new", ""),
    |room| room.write("output/report.txt", "theirs"),
    |room| std::fs::create_dir(room.path("empty")).expect("made"),
    |room| std::fs::remove_file(room.path("notes.md")).expect("removed"),
    |room| std::fs::rename(room.path("notes.md"), room.path("notes.txt")).expect("renamed"),
    |room| std::fs::rename(room.path("lib"), room.path("bil")).expect("renamed"),
    |room| symlink("build.sh", room.path("run.sh")).expect("linked"),
    |room| room.mode("build.sh", 0o700),
    |room| room.mode("lib", 0o711),
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
fn every_change_of_a_directory_gives_a_distinct_digest() {
    let mut seen = vec![Room::new().all().digest];
    for (number, change) in CHANGES.into_iter().enumerate() {
        let room = Room::new();
        assert_eq!(room.all().digest, seen[0], "the same files give the same digest");
        change(&room);
        let now = room.all();
        assert!(!seen.contains(&now.digest), "change {number}");
        assert_eq!(room.all(), now);
        seen.push(now.digest);
    }
}

#[test]
fn a_change_that_hides_in_size_and_time_is_caught() {
    let room = Room::new();
    let before = room.all();
    let stat = std::fs::metadata(room.path("build.sh")).expect("there");
    room.write("build.sh", "fake");
    let file = File::options().append(true).open(room.path("build.sh")).expect("opened");
    file.set_modified(stat.modified().expect("it has a time")).expect("set");
    assert_ne!(room.all().digest, before.digest);
}

#[test]
fn only_what_is_named_counts_where_only_that_should() {
    let named = |words: &[&str]| {
        let room = Room::new();
        let before = room.named(words);
        room.write("notes.md", "others");
        room.write("new", "");
        let besides = room.named(words) == before;
        room.write("build.sh", "fake");
        room.write("lib/part.py", "fake");
        (before.files, besides, room.named(words) == before)
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
fn targets_of_named_links_are_bound_with_them() {
    let room = Room::new();
    room.write("far/away/code", "real");
    symlink("far/away", room.path("there")).expect("linked");
    symlink("there/code", room.path("run")).expect("linked");
    let before = room.named(&["sh", "./run"]);
    room.write("far/away/code", "fake");
    assert_ne!(room.named(&["sh", "./run"]).digest, before.digest);
    // However often links lead on, the look ends.
    for (links, expected) in [(3, Ok(3)), (ROUNDS_MAX, Err(FileBindingError::Links))] {
        let room = Room::new();
        let name = |number: usize| format!("{}-link", "x".repeat(number));
        for number in 0..links {
            symlink(name(number + 1), room.path(&name(number))).expect("linked");
        }
        assert_eq!(room.look(&["-link"], BoundFiles::Named).map(|held| held.files), expected);
    }
}

#[test]
fn result_files_are_bound_only_if_named_or_executable() {
    let room = Room::new();
    let before = room.all();
    room.write("output/0123456789abcdef.txt", "a long result");
    assert_eq!(room.all(), before, "a run that goes on keeps results");
    for words in
        [&["sh", "output/0123456789abcdef.txt"][..], &["ls", "output"], &["cat", "0123456789abcdef.txt"]]
    {
        let held = room.look(words, BoundFiles::All).expect("held to");
        assert_eq!(held.files, before.files + 1, "{words:?}");
    }
    room.write("output/.dromia-tmp-0123456789abcdef", "half of one");
    assert_eq!(room.all(), before, "one that is being written is one");
    room.mode("output/0123456789abcdef.txt", 0o755);
    assert_ne!(room.all(), before, "one that may be executed is no result");
    room.write("lib/output/0123456789abcdee.txt", "elsewhere");
    assert_eq!(room.all().files, before.files + 2);
}

#[test]
fn a_directory_that_cannot_be_read_whole_is_not_bound() {
    let large = |room: &Room| {
        let file = File::create(room.path("0")).expect("made");
        file.set_len(BYTES_MAX + 1).expect("sparse");
    };
    let deep = |room: &Room| {
        std::fs::create_dir_all(room.path(&["d"; DEPTH_MAX + 1].join("/"))).expect("made");
    };
    let pipe = |room: &Room| {
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, room.path("pipe"), FileType::Fifo, mode, 0).expect("made");
    };
    let cases: [(Change, FileBindingError); 3] = [
        (large, FileBindingError::Bytes),
        (deep, FileBindingError::DirectoryDepth),
        (pipe, FileBindingError::Special),
    ];
    for (make, problem) in cases {
        let room = Room::new();
        make(&room);
        assert_eq!(room.look(&[], BoundFiles::All), Err(problem));
        assert_eq!(
            room.look(&["./build.sh"], BoundFiles::Named).is_ok(),
            problem != FileBindingError::DirectoryDepth
        );
    }
    let room = Room::new();
    let _socket = UnixListener::bind(room.path("socket")).expect("bound");
    assert_eq!(room.all().files, 4, "what nothing reads by its name is no obstacle");
    let slow = Ticking(0.into(), 20_000);
    assert_eq!(
        scan_contents(Some(&room.workspace), &[], BoundFiles::All, &slow),
        Err(FileBindingError::Time)
    );
}

#[test]
fn no_workspace_holds_nothing() {
    let nothing = scan_contents(None, &[], BoundFiles::All, &standing()).expect("held to");
    assert_eq!(nothing.files, 0);
}
