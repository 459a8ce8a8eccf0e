//! Upkeep that nobody asks for: what an earlier life left behind is gone soon after a start.

use std::time::{Duration, Instant};

use dromia_contracts::TenantId;

use crate::home::{DEADLINE, Home};

#[test]
fn an_orphaned_body_file_is_removed_after_the_start() {
    let home = Home::new();
    // What a crash between the sync of a large body and the commit of its batch leaves.
    let tenant = TenantId::from_bytes([5; 16]).to_string();
    let dir = home.path().join("store").join("blobs").join(tenant);
    std::fs::create_dir_all(&dir).expect("is made");
    let orphan = dir.join("ab".repeat(32));
    std::fs::write(&orphan, "nobody's").expect("is written");
    let stranger = dir.join("notes.txt");
    std::fs::write(&stranger, "not ours").expect("is written");
    let _server = home.serve();
    let until = Instant::now() + DEADLINE;
    while orphan.exists() {
        assert!(Instant::now() < until, "the file stays");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(stranger.exists(), "a name that is not ours is left alone");
}
