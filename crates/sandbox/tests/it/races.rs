//! Races of two programs for every name that a helper touches, at every backend; and the same with a helper that looks names
//! up twice, which must be noticed.
//!
//! `DROMIA_SANDBOX_RACES` says how many programs are started for each name; a guest takes seconds, so fewer of it are.

use std::path::{Path, PathBuf};

use dromia_contracts::sandbox::SandboxBackend;
use dromia_sandbox::battery::{AttackBattery, BatteryPace, RACED_NAMES, RaceRow, RacedName};
use dromia_sandbox::{BubblewrapSandbox, NativeLevel, NativeSandbox};

use crate::support::{gvisor, helper, helper_by_path};

/// How many programs are started for each name.
const TRIES: usize = 30;

/// How many guests.
const GUEST_TRIES: usize = 3;

/// After how many starts a planted fault must have shown. Most show in the first ten.
const PLANTED_TRIES: usize = 1_000;

pub(crate) fn battery(scratch: &tempfile::TempDir) -> AttackBattery {
    let program = helper().canonicalize().expect("it is there");
    AttackBattery {
        program,
        scratch: scratch.path().to_owned(),
        classes: Vec::new(),
        pace: BatteryPace::Quick,
    }
}

/// How many programs are started: what is asked for, else so many.
pub(crate) fn tries(by_default: usize) -> usize {
    let asked = std::env::var("DROMIA_SANDBOX_RACES").ok();
    asked.map_or(by_default, |asked| asked.parse().expect("DROMIA_SANDBOX_RACES is a number"))
}

/// Races for these names, and says what became of it.
pub(crate) async fn raced(
    backend: &dyn SandboxBackend,
    names: impl Iterator<Item = RacedName>,
    tries: usize,
) -> Vec<RaceRow> {
    let scratch = tempfile::tempdir().expect("a directory");
    let battery = battery(&scratch);
    let mut rows = Vec::new();
    for name in names {
        let row = battery.race_name(backend, name, tries).await.expect("the race is run");
        #[expect(clippy::print_stdout, reason = "whoever counts the tries looks here")]
        {
            println!(
                "{} {}: {} tries, {} begun, {} escaped, exchanged {} times",
                backend.backend_name(),
                row.name,
                row.tries,
                row.begun,
                row.escaped,
                row.exchanged
            );
        }
        rows.push(row);
    }
    rows
}

/// Nothing got out, and the races were real: names were exchanged, and programs began all the same.
pub(crate) fn assert_held(rows: &[RaceRow]) {
    assert!(rows.iter().all(|row| row.escaped == 0), "{rows:#?}");
    assert!(rows.iter().all(|row| row.exchanged > 0), "{rows:#?}");
    assert!(rows.iter().map(|row| row.begun).sum::<usize>() > 0, "{rows:#?}");
}

fn bubblewrap(helper: &Path) -> BubblewrapSandbox {
    BubblewrapSandbox::new(helper.to_owned(), PathBuf::from("/usr/bin/bwrap"), Vec::new())
}

#[tokio::test]
async fn no_race_for_a_name_leads_out_of_strict_isolation() {
    let backend = NativeSandbox::new(helper().to_owned(), NativeLevel::Strict, Vec::new());
    assert_held(&raced(&backend, RACED_NAMES.into_iter(), tries(TRIES)).await);
}

#[tokio::test]
async fn no_race_for_a_name_leads_out_of_bubblewrap() {
    let backend = bubblewrap(helper());
    assert_held(&raced(&backend, RACED_NAMES.into_iter(), tries(TRIES)).await);
}

/// These walls guard nothing in a workspace, but begin in it and are given other directories.
#[tokio::test]
async fn no_race_for_a_name_leads_out_of_base_isolation() {
    let backend = NativeSandbox::new(helper().to_owned(), NativeLevel::Base, Vec::new());
    let names = RACED_NAMES.into_iter().filter(|raced| matches!(raced.name, "start" | "given"));
    assert_held(&raced(&backend, names, tries(TRIES)).await);
}

#[tokio::test]
async fn no_race_for_a_name_leads_out_from_a_guest() {
    let backend = gvisor(helper());
    assert_held(&raced(&backend, RACED_NAMES.into_iter(), tries(GUEST_TRIES)).await);
}

/// A backend with the fault planted loses a race for one of the directories that are guarded.
pub(crate) async fn is_caught(backend: &dyn SandboxBackend) {
    for name in RACED_NAMES.into_iter().filter(|raced| matches!(raced.name, ".vscode" | ".dromia" | ".git")) {
        if raced(backend, [name].into_iter(), PLANTED_TRIES).await[0].escaped > 0 {
            return;
        }
    }
    panic!("{} was not caught", backend.backend_name());
}

#[tokio::test]
async fn guards_that_are_bound_by_path_are_caught() {
    is_caught(&NativeSandbox::new(helper_by_path().to_owned(), NativeLevel::Strict, Vec::new())).await;
    is_caught(&bubblewrap(helper_by_path()).binding_by_path()).await;
}

#[tokio::test]
async fn guards_bound_by_path_are_caught_from_a_guest() {
    is_caught(&gvisor(helper_by_path())).await;
}
