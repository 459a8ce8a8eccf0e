//! The escape battery against every backend of this machine, and against a hole that was planted.

use dromia_sandbox::battery::{Battery, Hole, Outcome, Row};

use crate::support::{backends, helper};

/// The fewest attempts that must be shown to work without walls.
const PROVEN_MIN: usize = 60;

fn battery(scratch: &tempfile::TempDir) -> Battery {
    let program = helper().canonicalize().expect("it is there");
    Battery { program, scratch: scratch.path().to_owned(), classes: Vec::new() }
}

fn named(rows: &[Row], outcome: Outcome) -> Vec<&'static str> {
    rows.iter().filter(|row| row.outcome == outcome).map(|row| row.name).collect()
}

/// Makes every attempt at one backend.
async fn holds(name: &str) {
    let scratch = tempfile::tempdir().expect("a directory");
    let backend = backends().into_iter().find(|backend| backend.name() == name).expect("it is here");
    let rows = battery(&scratch).run(&*backend, name == "native/base", Hole::None).await.expect("it runs");
    assert_eq!(named(&rows, Outcome::Escaped), [""; 0], "{rows:#?}");
    let held = named(&rows, Outcome::Held).len();
    assert!(held >= PROVEN_MIN, "{held} held, {:?}", named(&rows, Outcome::Unproven));
}

#[tokio::test]
async fn nothing_escapes_from_the_strict_walls() {
    holds("native/strict").await;
}

#[tokio::test]
async fn nothing_escapes_from_the_base_walls() {
    holds("native/base").await;
}

#[tokio::test]
async fn nothing_escapes_from_bubblewrap() {
    holds("bubblewrap").await;
}

#[tokio::test]
async fn a_planted_hole_is_caught() {
    let scratch = tempfile::tempdir().expect("a directory");
    for backend in backends() {
        let is_shared = backend.name() == "native/base";
        let rows = battery(&scratch).run(&*backend, is_shared, Hole::Planted).await.expect("it runs");
        let escaped = named(&rows, Outcome::Escaped);
        assert!(escaped.contains(&"files.read") && escaped.contains(&"files.append"), "{rows:#?}");
    }
}
