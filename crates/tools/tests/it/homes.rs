//! Wiping removes everything of one agent's home and nothing behind a link.

use std::os::unix::fs::symlink;

use dromia_contracts::runs::HomeDirectories as _;
use dromia_tools::AgentHomes;

use crate::support::{AGENT, Bench, COLLEAGUE, TENANT};

#[tokio::test]
async fn a_wipe_counts_files_and_spares_targets_of_links() {
    let bench = Bench::new().made();
    let outside = bench.home().join("outside");
    std::fs::create_dir(&outside).expect("made");
    std::fs::write(outside.join("kept"), "kept").expect("written");
    let inside = bench.workspace();
    std::fs::create_dir_all(inside.join("a/b/c")).expect("made");
    std::fs::create_dir_all(inside.join("d/b/c")).expect("made");
    for file in ["one", "a/two", "a/b/c/three", "d/b/c/three"] {
        std::fs::write(inside.join(file), "x").expect("written");
    }
    symlink(&outside, inside.join("a/b/link")).expect("linked");
    let colleague = bench.home().join("agents").join(COLLEAGUE.to_string());
    std::fs::create_dir_all(colleague.join("workspace")).expect("made");

    let homes = AgentHomes::new(bench.home());
    assert_eq!(homes.wipe_home(TENANT, AGENT).await, Ok(5));
    assert_eq!(homes.wipe_home(TENANT, AGENT).await, Ok(0));
    assert!(!bench.home().join("agents").join(AGENT.to_string()).exists());
    assert!(colleague.is_dir() && outside.join("kept").is_file());
}

#[tokio::test]
async fn a_wipe_goes_on_where_a_crash_cut_it_off() {
    let bench = Bench::new().made();
    let home = bench.home().join("agents").join(AGENT.to_string());
    // What a crash left: a directory that was moved up and not emptied yet.
    std::fs::create_dir_all(home.join(".dromia-wipe-1/x/y")).expect("made");
    std::fs::write(home.join(".dromia-wipe-2"), "a file of that very name").expect("written");
    std::fs::create_dir_all(bench.workspace().join("a/b")).expect("made");
    assert_eq!(AgentHomes::new(bench.home()).wipe_home(TENANT, AGENT).await, Ok(1));
    assert!(!home.exists());
}

#[tokio::test]
async fn a_wipe_needs_no_handle_per_level() {
    let bench = Bench::new();
    // 1,500 levels: more than the open files that a process is usually allowed.
    let path = format!("{}leaf", "d/".repeat(1500));
    let arguments = serde_json::json!({"path": path, "content": "x"}).to_string();
    assert_eq!(bench.told("file.write", &arguments).await, "ok: wrote 1 byte");
    assert_eq!(AgentHomes::new(bench.home()).wipe_home(TENANT, AGENT).await, Ok(1));
}

#[tokio::test]
async fn a_link_in_place_of_a_home_is_only_removed() {
    let bench = Bench::new();
    let outside = bench.home().join("outside");
    std::fs::create_dir(&outside).expect("made");
    std::fs::write(outside.join("kept"), "kept").expect("written");
    std::fs::create_dir(bench.home().join("agents")).expect("made");
    symlink(&outside, bench.home().join("agents").join(AGENT.to_string())).expect("linked");
    assert_eq!(AgentHomes::new(bench.home()).wipe_home(TENANT, AGENT).await, Ok(1));
    assert!(outside.join("kept").is_file());
}

#[tokio::test]
async fn a_home_that_is_not_there_is_no_error() {
    let bench = Bench::new();
    assert_eq!(AgentHomes::new(bench.home()).wipe_home(TENANT, AGENT).await, Ok(0));
    assert_eq!(AgentHomes::new(bench.home().join("none")).wipe_home(TENANT, AGENT).await, Ok(0));
}
