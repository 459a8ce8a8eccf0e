//! The arrows between crates, as `docs/architecture.md` draws them, and what no build may contain.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Which rooms each shipped room may see.
const ARROWS: &[(&str, &[&str])] = &[
    ("dromia-contracts", &[]),
    ("dromia-engine", &["dromia-contracts"]),
    ("dromia-store", &["dromia-contracts"]),
    ("dromia-sse", &[]),
    ("dromia-models", &["dromia-contracts", "dromia-sse"]),
    ("dromia-guard", &["dromia-contracts"]),
    ("dromia-sandbox", &["dromia-contracts"]),
    ("dromia-templates", &["dromia-contracts"]),
    ("dromia-tools", &["dromia-contracts", "dromia-templates"]),
    ("dromia-api", &["dromia-contracts"]),
    ("dromia-gateway", &["dromia-api", "dromia-contracts", "dromia-templates"]),
    ("dromia-cli", &["dromia-api", "dromia-sse"]),
];

/// What can connect to other hosts.
const CONNECTS: &[&str] = &["reqwest", "hyper", "hyper-util", "hyper-rustls"];
/// Who may have it: the one way out, who serves and not asks, and who asks its own server.
const MAY_CONNECT: &[&str] = &["dromia-guard", "dromia-gateway", "dromia-cli"];

/// What the leaf must not know.
const NOT_IN_CONTRACTS: &[&str] = &["tokio", "rusqlite", "axum", "hyper", "reqwest", "tracing"];

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    let normal = |package: &Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        dependencies.iter().filter(|dependency| dependency["kind"].is_null()).map(name).collect()
    };
    packages.iter().map(|package| (name(package), normal(package))).collect()
}

#[test]
fn every_crate_depends_only_on_the_crates_it_may() {
    let dependencies = dependencies();
    for (room, allowed) in ARROWS {
        let seen = dependencies.get(*room).unwrap_or_else(|| panic!("there is no {room}"));
        let rooms: Vec<_> = seen.iter().filter(|name| name.starts_with("dromia-")).collect();
        assert!(rooms.iter().all(|name| allowed.contains(&name.as_str())), "{room} sees {rooms:?}");
    }
    for (room, seen) in &dependencies {
        let dev = ["dromia-testkit", "dromia-bench"];
        if !dev.contains(&room.as_str()) {
            assert!(!dev.iter().any(|name| seen.contains(*name)), "{room} ships a test room");
        }
        let known =
            ARROWS.iter().any(|(known, _)| known == room) || dev.contains(&room.as_str()) || room == "dromia";
        assert!(known, "{room} is not drawn");
    }
}

#[test]
fn the_contracts_crate_depends_on_no_runtime_sql_or_http() {
    let seen = &dependencies()["dromia-contracts"];
    assert!(!NOT_IN_CONTRACTS.iter().any(|name| seen.contains(*name)), "{seen:?}");
}

#[test]
fn only_the_guard_connects_to_other_hosts() {
    for (room, seen) in &dependencies() {
        let ships = ARROWS.iter().any(|(known, _)| known == room);
        let connects = CONNECTS.iter().any(|name| seen.contains(*name));
        assert!(
            !ships || !connects || MAY_CONNECT.contains(&room.as_str()),
            "{room} has a client of its own"
        );
    }
}

#[test]
fn no_dependency_needs_a_foreign_toolchain() {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"))
        .expect("the lock file");
    for banned in ["openssl-sys", "aws-lc-sys", "native-tls", "ort-sys"] {
        assert!(!lock.contains(&format!("name = \"{banned}\"")), "{banned} is in the lock file");
    }
}
