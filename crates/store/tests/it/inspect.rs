//! A look from outside sees what there is, finds planted damage, and leaves no trace.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use dromia_contracts::store::{Mutation, WriteBatch};
use dromia_contracts::{ItemId, TenantId};
use dromia_store::{IntegrityStatus, OpenError, StoreConfig, StoreInspector};

use crate::scene::{SESSION, Scene, TENANT, at, put};

fn inspector(dir: &Path) -> StoreInspector {
    StoreInspector::new(StoreConfig::new(dir), Duration::from_secs(5))
}

fn files(dir: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(dir).expect("is listed").map(|entry| entry.expect("an entry").file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn inspecting_a_closed_store_sees_all_and_changes_nothing() {
    let scene = Scene::open().await;
    scene.turn_done(SESSION, 0, "hi").await;
    let waiting = put(SESSION, ItemId::from_bytes([0xee; 16]), "and now?", None);
    scene.done(WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(waiting))).await;
    let Scene { dir, store, .. } = scene;
    drop(store);
    let before = files(dir.path());
    let look = inspector(dir.path());
    look.open().expect("opens");
    assert_eq!(look.check_integrity().expect("is checked"), IntegrityStatus::Sound);
    assert_eq!(look.count_held_runs().expect("is counted"), Some(0));
    assert_eq!(look.oldest_waiting_at().expect("is found"), Some(at(1)));
    assert_eq!(look.newest_change_at().expect("is found"), Some(at(4)));
    assert_eq!(look.has_agent("acme", "ada").expect("is found"), Some(true));
    assert_eq!(look.has_agent("acme", "bob").expect("is looked for"), Some(false));
    assert_eq!(look.has_agent("other", "ada").expect("is looked for"), Some(false));
    assert_eq!(look.tenant_handle(TENANT).expect("is found").as_deref(), Some("acme"));
    let nobody = TenantId::from_bytes([0xdd; 16]);
    assert_eq!(look.tenant_handle(nobody).expect("is looked for"), None);
    let asked = ["cli", "slak"].map(str::to_owned);
    let names = look.list_names(&asked).expect("are listed").expect("there was time");
    let acme = names.tenants.get("acme").expect("the tenant");
    assert!(acme.agents.contains("ada") && !acme.agents.contains("bob"), "{acme:?}");
    assert_eq!(names.platforms, BTreeSet::from(["cli".to_owned()]));
    assert_eq!(look.unnamed_bodies().expect("are counted"), 0);
    assert_eq!(files(dir.path()), before, "a look leaves no file");
}

#[tokio::test]
async fn an_open_store_is_seen_too_and_goes_on() {
    let scene = Scene::open().await;
    scene.turn_done(SESSION, 0, "hi").await;
    let look = inspector(scene.dir.path());
    assert_eq!(look.newest_change_at().expect("is found"), Some(at(4)));
    scene.turn_done(SESSION, 1, "again").await;
}

#[tokio::test]
async fn a_damaged_page_is_found() {
    let scene = Scene::open().await;
    for turn in 0..40 {
        scene.turn_done(SESSION, turn, "x".repeat(900)).await;
    }
    let Scene { dir, store, .. } = scene;
    drop(store);
    let file = dir.path().join("dromia.db");
    let mut bytes = fs::read(&file).expect("is read");
    for page in bytes.chunks_mut(4096).skip(2) {
        page[..64].fill(0xaa);
    }
    fs::write(&file, bytes).expect("is written");
    let found = inspector(dir.path()).check_integrity().expect("is checked");
    assert!(matches!(found, IntegrityStatus::Damaged(_)), "{found:?}");
}

#[tokio::test]
async fn an_index_that_contradicts_its_rows_is_found() {
    let scene = Scene::open().await;
    for turn in 0..4 {
        scene.turn_done(SESSION, turn, "hi").await;
    }
    let Scene { dir, store, .. } = scene;
    drop(store);
    let db = Scene::sql(dir.path());
    // The index keeps the entries of its first order.
    db.execute_batch(
        "PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET sql = 'CREATE INDEX runs_agent ON runs (tenant, run, agent)' WHERE name = 'runs_agent'; \
         PRAGMA writable_schema = RESET;",
    )
    .expect("is changed");
    let quick: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).expect("is checked");
    assert_eq!(quick, "ok", "it is found by the longer check only");
    drop(db);
    let found = inspector(dir.path()).check_integrity().expect("is checked");
    assert!(matches!(found, IntegrityStatus::Damaged(_)), "{found:?}");
}

#[tokio::test]
async fn a_held_run_and_what_a_crash_left_are_counted() {
    let scene = Scene::open().await;
    scene.turn_done(SESSION, 0, "hi").await;
    let Scene { dir, store, .. } = scene;
    drop(store);
    Scene::sql(dir.path()).execute("UPDATE runs SET status = 2", []).expect("is changed");
    let blobs = dir.path().join("blobs").join(TENANT.to_string());
    fs::create_dir_all(&blobs).expect("is made");
    fs::write(blobs.join("ab".repeat(32)), "nobody's").expect("is written");
    fs::write(blobs.join("incoming"), "half").expect("is written");
    fs::write(dir.path().join("backup-schema-1.partial"), "half").expect("is written");
    let look = inspector(dir.path());
    assert_eq!(look.count_held_runs().expect("is counted"), Some(1));
    assert_eq!(look.unnamed_bodies().expect("are counted"), 1);
    assert_eq!(look.leftover_files().expect("are listed").len(), 2);
}

#[test]
fn a_store_that_is_not_there_is_not_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let refused = inspector(dir.path()).open().expect_err("there is none");
    assert!(matches!(refused, OpenError::Io(_)), "{refused}");
    assert_eq!(files(dir.path()).len(), 0);
}
