//! The directory: one owner, known files, read-only homes.

use std::fs;

use dromia_contracts::store::Store as _;
use dromia_store::{OpenError, SqliteStore, StoreConfig};

use crate::scene::{SESSION, Scene};

#[tokio::test]
async fn a_second_start_is_refused_and_names_the_owner() {
    let scene = Scene::open().await;
    let refused = SqliteStore::open(StoreConfig::new(scene.dir.path())).expect_err("the store is open");
    assert!(matches!(refused, OpenError::HomeLocked { pid: Some(pid) } if pid == std::process::id()));
    let scene = scene.reopen(|_| {});
    assert!(scene.store.session(&Scene::scope(), SESSION).await.expect("a read").is_some());
}

#[test]
fn a_file_of_another_program_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let foreign = Scene::sql(dir.path());
    foreign.execute_batch("CREATE TABLE notes (text)").expect("is written");
    drop(foreign);
    let before = fs::read(dir.path().join("dromia.db")).expect("is readable");
    let refused = SqliteStore::open(StoreConfig::new(dir.path())).expect_err("the file is foreign");
    assert!(matches!(refused, OpenError::NotOurs), "{refused}");
    assert_eq!(fs::read(dir.path().join("dromia.db")).expect("is readable"), before);
}

#[test]
fn a_file_that_is_no_database_is_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("dromia.db"), "x".repeat(9_000)).expect("is written");
    let refused = SqliteStore::open(StoreConfig::new(dir.path())).expect_err("the file is no database");
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
}

#[tokio::test]
async fn a_plan_of_a_current_store_has_no_step() {
    let scene = Scene::open().await;
    let plan = SqliteStore::plan_migration(&StoreConfig::new(scene.dir.path())).expect("is planned");
    assert_eq!((plan.found, plan.known, plan.steps.len(), plan.backup), (1, 1, 0, None));
}

#[tokio::test]
async fn the_store_is_private_to_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().join("a/b");
    drop(SqliteStore::open(StoreConfig::new(&home)).expect("opens"));
    assert_eq!(fs::metadata(&home).expect("is there").permissions().mode() & 0o777, 0o700);
}
