//! Somebody swaps a directory, or a file, for a link while the tools work: nothing outside is ever read or changed.
//!
//! The same attack against a check followed by an open does escape, which shows that the attack works.
//!
//! `DROMIA_RACES=1000000` makes that many tries of each operation, half of them at a directory on the way and half at
//! the file itself; `make races` does.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags};
use serde_json::json;

use crate::support::Bench;

/// Tries of an operation that looks, and of one that changes something, which waits for the disk.
const LOOKS: usize = 3_000;
const CHANGES: usize = 600;

/// What the file inside says, and what the one outside says, which nobody may learn.
const INSIDE: &str = "in";
const OUTSIDE: &str = "secret in im";

/// An operation: whether it changes something, its tool, and its arguments for a path and the number of the try.
type Operation = (bool, &'static str, fn(&str, usize) -> serde_json::Value);

const OPERATIONS: [Operation; 8] = [
    (false, "file.read", |path, _| json!({"path": path})),
    (false, "file.search", |path, _| json!({"path": path, "pattern": "e"})),
    // The walk meets what is swapped on its way.
    (false, "file.search", |_, _| json!({"pattern": "e"})),
    (false, "file.list", |path, _| json!({"path": parent(path)})),
    (true, "file.edit", |path, number| {
        let (old, new) = if number % 2 == 0 { ("in", "im") } else { ("im", "in") };
        json!({"path": path, "old": old, "new": new})
    }),
    (true, "file.append", |path, _| json!({"path": path, "content": "e"})),
    (true, "file.write", |path, _| json!({"path": path, "content": INSIDE})),
    (true, "file.delete", |path, _| json!({"path": path})),
];

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| parent)
}

fn tries(changes: bool) -> usize {
    match std::env::var("DROMIA_RACES") {
        Ok(tries) => tries.parse().expect("DROMIA_RACES is a number"),
        Err(_) if changes => CHANGES,
        Err(_) => LOOKS,
    }
}

/// Swaps until it is dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    /// Swaps `swapped`, a directory, with a link to a directory outside.
    fn of_directory(inside: &Path, outside: &Path) -> Self {
        let (swapped, link) = (inside.join("swapped"), inside.join("link"));
        std::fs::create_dir(&swapped).expect("made");
        std::fs::write(swapped.join("file"), INSIDE).expect("written");
        symlink(outside, &link).expect("linked");
        Self::start(move || {
            rustix::fs::renameat_with(CWD, &swapped, CWD, &link, RenameFlags::EXCHANGE).expect("swapped");
        })
    }

    /// Puts a file and a link to a file outside into one place, in turn; whatever was there is replaced.
    fn of_file(inside: &Path, outside: &Path) -> Self {
        let (place, spare) = (inside.join("file"), inside.join("spare"));
        let outside = outside.join("file");
        let mut is_link = false;
        Self::start(move || {
            is_link = !is_link;
            if is_link {
                symlink(&outside, &spare).expect("linked");
            } else {
                std::fs::write(&spare, INSIDE).expect("written");
            }
            std::fs::rename(&spare, &place).expect("swapped");
        })
    }

    fn start(mut swap: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                swap();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the swapper ends well");
        }
    }
}

fn outside(bench: &Bench) -> PathBuf {
    let outside = bench.home().join("outside");
    std::fs::create_dir(&outside).expect("made");
    std::fs::write(outside.join("file"), OUTSIDE).expect("written");
    outside
}

/// Makes the tries of one operation; returns how many were served and how many refused.
async fn race(bench: &Bench, operation: Operation, path: &str, tries: usize) -> (usize, usize) {
    let (_, tool, arguments) = operation;
    let (mut served, mut refused) = (0, 0);
    let listed = format!("file {}", OUTSIDE.len());
    for number in 0..tries {
        let told = bench.told(tool, &arguments(path, number).to_string()).await;
        assert!(!told.contains("secret") && !told.contains(&listed), "{tool} escaped: {told}");
        if told.starts_with("ok") { served += 1 } else { refused += 1 }
    }
    (served, refused)
}

#[expect(clippy::print_stdout, reason = "how many tries there were is what the race is for")]
#[tokio::test]
async fn no_swapped_link_leads_out_of_any_operation() {
    let (mut served, mut refused) = (0, 0);
    for (path, start) in [
        ("swapped/file", Swapper::of_directory as fn(&Path, &Path) -> Swapper),
        ("file", Swapper::of_file as fn(&Path, &Path) -> Swapper),
    ] {
        for operation in OPERATIONS {
            let (changes, tool, _) = operation;
            let bench = Bench::new().made();
            let outside = outside(&bench);
            let swapper = start(&bench.workspace(), &outside);
            let tries = tries(changes).div_ceil(2);
            let counts = race(&bench, operation, path, tries).await;
            drop(swapper);
            println!("{tool} {path}: {tries} tries, {} served, {} refused", counts.0, counts.1);
            served += counts.0;
            refused += counts.1;
            let left = std::fs::read_to_string(outside.join("file")).expect("there");
            assert_eq!(left, OUTSIDE, "{tool} changed what is outside");
            assert_eq!(
                std::fs::read_dir(&outside).expect("there").count(),
                1,
                "{tool} made something outside"
            );
        }
    }
    // Without both, the swapper and the tools never met.
    assert!(served > 100 && refused > 100, "{served} served, {refused} refused");
}

/// What the tools must not do: look first, open by the same text later.
fn check_then_open(path: &Path) -> Option<String> {
    let parent = path.parent().expect("a parent");
    let clean = std::fs::symlink_metadata(parent).is_ok_and(|found| found.is_dir());
    if clean { std::fs::read_to_string(path).ok() } else { None }
}

#[test]
fn a_check_followed_by_an_open_is_caught() {
    let bench = Bench::new().made();
    let outside = outside(&bench);
    let _swapper = Swapper::of_directory(&bench.workspace(), &outside);
    let path = bench.workspace().join("swapped/file");
    let deadline = Instant::now() + Duration::from_mins(1);
    let mut escaped = false;
    while !escaped && Instant::now() < deadline {
        escaped = check_then_open(&path).as_deref() == Some(OUTSIDE);
    }
    assert!(escaped, "the attack does not work, so surviving it shows nothing");
}
