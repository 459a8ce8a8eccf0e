//! The escape battery against every backend of this machine, and against a hole that was planted.

use dromia_sandbox::battery::{Battery, Class, Hole, Outcome, Pace, Row};
use dromia_sandbox::probe::{self, Kind};

use crate::support::{backends, helper, machine};

/// The fewest attempts that must be shown to work without walls.
const PROVEN_MIN: usize = 60;

fn battery(scratch: &tempfile::TempDir) -> Battery {
    let program = helper().canonicalize().expect("it is there");
    Battery { program, scratch: scratch.path().to_owned(), classes: Vec::new(), pace: Pace::Whole }
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

/// One attempt of each class: a guest takes seconds to start. `dromia sandbox test` makes all.
#[tokio::test]
async fn nothing_escapes_from_a_guest_and_a_planted_hole_is_caught() {
    let backend = probe::one(&machine(None), Kind::Gvisor).state.expect("what is installed works");
    let scratch = tempfile::tempdir().expect("a directory");
    let battery = Battery { pace: Pace::Quick, ..battery(&scratch) };
    let mut told = Vec::new();
    let rows = battery.run_told(&*backend, false, Hole::None, &mut |progress| told.push(progress)).await;
    let rows = rows.expect("it runs");
    assert_eq!(named(&rows, Outcome::Escaped), [""; 0], "{rows:#?}");
    assert_eq!(rows.len(), Class::ALL.len());
    assert!(told.iter().all(|progress| progress.of == rows.len()), "{told:?}");
    assert!(told.iter().all(|progress| rows[progress.done].class == progress.class), "{told:?}");
    assert!(told.is_sorted_by_key(|progress| progress.done) && told.len() > 1, "{told:?}");
    assert!(named(&rows, Outcome::Held).len() >= Class::ALL.len() - 2, "{rows:#?}");
    let rows = battery.run(&*backend, false, Hole::Planted).await.expect("it runs");
    let escaped = named(&rows, Outcome::Escaped);
    assert_eq!(escaped, ["files.read", "files.list", "files.append"], "{rows:#?}");
}
