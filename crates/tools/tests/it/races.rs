//! Somebody swaps a directory for a link while the tools work: nothing outside is ever read or changed.
//!
//! The same attack against a check followed by an open does escape, which shows that the attack works.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags};
use serde_json::json;

use crate::support::Bench;

const READS: usize = 18_000;
const CHANGES: usize = 2_000;

/// Swaps `swapped`, a directory, with `link`, a link to a directory outside, until it is dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    fn start(inside: &Path, outside: &Path) -> Self {
        let (swapped, link) = (inside.join("swapped"), inside.join("link"));
        std::fs::create_dir(&swapped).expect("made");
        std::fs::write(swapped.join("file"), "in").expect("written");
        symlink(outside, &link).expect("linked");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &swapped, CWD, &link, RenameFlags::EXCHANGE).expect("swapped");
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
    std::fs::write(outside.join("file"), "secret").expect("written");
    outside
}

#[tokio::test]
async fn no_swapped_link_leads_out_in_20000_tries() {
    let bench = Bench::new().made();
    let outside = outside(&bench);
    let _swapper = Swapper::start(&bench.workspace(), &outside);
    let (mut served, mut refused) = (0, 0);
    let mut count = |told: &str| if told.starts_with("ok") { served += 1 } else { refused += 1 };
    for _ in 0..READS {
        let told = bench.told("file.read", r#"{"path":"swapped/file"}"#).await;
        assert!(!told.contains("secret"), "the read escaped");
        count(&told);
    }
    for number in 0..CHANGES {
        let content = json!({"path": "swapped/file", "content": "changed"}).to_string();
        let told = match number % 4 {
            0 => bench.told("file.append", &content).await,
            1 => bench.told("file.write", &content).await,
            2 => bench.told("file.delete", r#"{"path":"swapped/file"}"#).await,
            _ => bench.told("file.list", r#"{"path":"swapped"}"#).await,
        };
        // Six bytes are the secret's size, thirteen the size it would have with one append.
        assert!(!told.contains("file 6") && !told.contains("has 13"), "it saw the file outside: {told}");
        count(&told);
    }
    assert_eq!(std::fs::read_to_string(outside.join("file")).expect("there"), "secret");
    assert_eq!(std::fs::read_dir(&outside).expect("there").count(), 1);
    // Without both, the swapper and the tools never met.
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
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
    let _swapper = Swapper::start(&bench.workspace(), &outside);
    let path = bench.workspace().join("swapped/file");
    let deadline = Instant::now() + Duration::from_mins(1);
    let mut escaped = false;
    while !escaped && Instant::now() < deadline {
        escaped = check_then_open(&path).as_deref() == Some("secret");
    }
    assert!(escaped, "the attack does not work, so surviving it shows nothing");
}
