//! The escape battery against every backend of this machine, and against a hole that was planted.

use dromia_sandbox::battery::{AttackBattery, BatteryPace, BatteryRow, Class, EscapeOutcome, PlantedHole};
use dromia_sandbox::probe::{self, BackendKind};

use crate::support::{as_ordinary_user, backends, helper, machine};

/// The fewest attempts that must be shown to work without walls.
const PROVEN_MIN: usize = 60;

fn battery(scratch: &tempfile::TempDir) -> AttackBattery {
    let program = helper().canonicalize().expect("it is there");
    AttackBattery {
        program,
        scratch: scratch.path().to_owned(),
        classes: Vec::new(),
        pace: BatteryPace::Whole,
    }
}

fn named(rows: &[BatteryRow], outcome: EscapeOutcome) -> Vec<&'static str> {
    rows.iter().filter(|row| row.outcome == outcome).map(|row| row.name).collect()
}

/// Makes every attempt at one backend.
async fn holds(name: &str) {
    let scratch = tempfile::tempdir().expect("a directory");
    let backend = backends().into_iter().find(|backend| backend.backend_name() == name).expect("it is here");
    let rows = battery(&scratch)
        .run_attempts(&*backend, name == "native/base", PlantedHole::None)
        .await
        .expect("it runs");
    assert_eq!(named(&rows, EscapeOutcome::Escaped), [""; 0], "{rows:#?}");
    let held = named(&rows, EscapeOutcome::Held).len();
    assert!(held >= PROVEN_MIN, "{held} held, {:?}", named(&rows, EscapeOutcome::Unproven));
}

#[tokio::test]
async fn nothing_escapes_from_strict_isolation() {
    holds("native/strict").await;
}

#[tokio::test]
async fn nothing_escapes_from_base_isolation() {
    holds("native/base").await;
}

#[tokio::test]
async fn nothing_escapes_from_bubblewrap() {
    holds("bubblewrap").await;
}

/// The same without root, whose rights are less: as this user if it is an ordinary one, else as one that is.
async fn holds_for_an_ordinary_user(name: &str, test: &str) {
    if rustix::process::geteuid().is_root() {
        tokio::task::block_in_place(|| as_ordinary_user(&format!("battery::{test}")));
    } else {
        holds(name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_escapes_from_strict_isolation_of_an_ordinary_user() {
    let test = "nothing_escapes_from_strict_isolation_of_an_ordinary_user";
    holds_for_an_ordinary_user("native/strict", test).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_escapes_from_base_isolation_of_an_ordinary_user() {
    let test = "nothing_escapes_from_base_isolation_of_an_ordinary_user";
    holds_for_an_ordinary_user("native/base", test).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_escapes_from_bubblewrap_of_an_ordinary_user() {
    let test = "nothing_escapes_from_bubblewrap_of_an_ordinary_user";
    holds_for_an_ordinary_user("bubblewrap", test).await;
}

#[tokio::test]
async fn a_planted_hole_is_caught() {
    let scratch = tempfile::tempdir().expect("a directory");
    for backend in backends() {
        let is_shared = backend.backend_name() == "native/base";
        let rows = battery(&scratch)
            .run_attempts(&*backend, is_shared, PlantedHole::Planted)
            .await
            .expect("it runs");
        let escaped = named(&rows, EscapeOutcome::Escaped);
        assert!(escaped.contains(&"files.read") && escaped.contains(&"files.append"), "{rows:#?}");
    }
}

/// One attempt of each class: a guest takes seconds to start. `dromia sandbox test` makes all.
#[tokio::test]
async fn nothing_escapes_from_a_guest_and_a_hole_is_caught() {
    let backend =
        probe::probe_one(&machine(None), BackendKind::Gvisor).state.expect("what is installed works");
    let scratch = tempfile::tempdir().expect("a directory");
    let battery = AttackBattery { pace: BatteryPace::Quick, ..battery(&scratch) };
    let mut told = Vec::new();
    let rows =
        battery.run_told(&*backend, false, PlantedHole::None, &mut |progress| told.push(progress)).await;
    let rows = rows.expect("it runs");
    assert_eq!(named(&rows, EscapeOutcome::Escaped), [""; 0], "{rows:#?}");
    assert_eq!(rows.len(), Class::ALL.len());
    assert!(told.iter().all(|progress| progress.of == rows.len()), "{told:?}");
    assert!(told.iter().all(|progress| rows[progress.done].class == progress.class), "{told:?}");
    assert!(told.is_sorted_by_key(|progress| progress.done) && told.len() > 1, "{told:?}");
    assert!(named(&rows, EscapeOutcome::Held).len() >= Class::ALL.len() - 2, "{rows:#?}");
    let rows = battery.run_attempts(&*backend, false, PlantedHole::Planted).await.expect("it runs");
    let escaped = named(&rows, EscapeOutcome::Escaped);
    assert_eq!(escaped, ["files.read", "files.list", "files.append"], "{rows:#?}");
}
