//! Bodies of the three sizes, the sweep and its race.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dromia_contracts::store::{Batch, Commit, Mutation, Store as _};
use dromia_contracts::{ItemId, RunId};

use crate::scene::{SESSION, Scene, TENANT, put};

fn files(dir: &Path) -> usize {
    let Ok(tenants) = std::fs::read_dir(dir.join("blobs")) else { return 0 };
    tenants
        .map(|tenant| std::fs::read_dir(tenant.expect("is listed").path()).expect("is listed").count())
        .sum()
}

fn table(dir: &Path) -> (i64, i64) {
    Scene::sql(dir)
        .query_row("SELECT (SELECT count(*) FROM bodies), (SELECT count(*) FROM body_refs)", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .expect("is counted")
}

#[tokio::test]
async fn bodies_lie_where_their_size_says_and_are_read_back() {
    let scene = Scene::open().await;
    let sizes = [0, 1, 1_024, 1_025, 262_144, 262_145, 900_000];
    let mut runs = Vec::new();
    for (after, size) in (0..).zip(sizes) {
        runs.push((scene.turn_done(SESSION, after, vec![b'r'; size]).await, size));
    }
    assert_eq!(table(scene.dir.path()), (4, 4));
    assert_eq!(files(scene.dir.path()), 2);
    let scene = scene.reopen(|_| {});
    for (run, size) in runs {
        let journal = scene.store.journal(&Scene::scope(), run, 0, 256).await.expect("a read");
        let body = journal[2].body.as_ref().expect("the reply has a body");
        assert!(body.len() == size && body.iter().all(|byte| *byte == b'r'), "{size}");
    }
}

#[tokio::test]
async fn equal_bodies_are_kept_once_and_go_with_their_last_reference() {
    let scene = Scene::open().await;
    scene.turn_done(SESSION, 0, vec![b'r'; 300_000]).await;
    scene.turn_done(SESSION, 1, vec![b'r'; 300_000]).await;
    assert_eq!(table(scene.dir.path()), (1, 2));
    assert_eq!(files(scene.dir.path()), 1);
}

#[tokio::test]
async fn a_sweep_removes_what_no_row_names_and_nothing_else() {
    let scene = Scene::open().await;
    let kept = scene.turn_done(SESSION, 0, vec![b'k'; 300_000]).await;
    // A refused batch leaves no row; its file was synced before.
    let (_, _, mut refused) = scene.turn(SESSION, 9, vec![b'o'; 300_000]);
    if let Some(Mutation::RunAppend(append)) = refused.mutations.first_mut() {
        append.run = RunId::from_bytes([0xcc; 16]);
    }
    assert!(matches!(scene.store.commit(refused).await, Commit::Refused(_)));
    assert_eq!(files(scene.dir.path()), 2);
    assert_eq!(scene.store.sweep().await, Ok(1));
    assert_eq!(files(scene.dir.path()), 1);
    assert_eq!(scene.store.sweep().await, Ok(0));
    assert!(scene.store.journal(&Scene::scope(), kept, 0, 9).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweeper_never_wins_against_a_batch() {
    let scene = Arc::new(Scene::open().await);
    let over = Arc::new(AtomicBool::new(false));
    let sweeper = tokio::spawn({
        let (scene, over) = (scene.clone(), over.clone());
        async move {
            let mut sweeps = 0;
            while !over.load(Ordering::Relaxed) {
                scene.store.sweep().await.expect("the sweep runs");
                sweeps += 1;
            }
            sweeps
        }
    });
    // Each body is first written by a batch that is refused, so the sweeper always has a file to remove, and then
    // by one that stands.
    for round in 0..20_u8 {
        let body = vec![round; 270_000];
        let (_, _, mut refused) = scene.turn(SESSION, 0, body.clone());
        if let Some(Mutation::RunAppend(append)) = refused.mutations.first_mut() {
            append.run = RunId::from_bytes([0xcc; 16]);
        }
        let refused = scene.store.commit(refused);
        let mut item = put(SESSION, ItemId::from_bytes(scene.id()), "", None);
        item.body = body.into();
        scene.done(Batch::new(TENANT).with(Mutation::InboxPut(item))).await;
        assert!(matches!(refused.await, Commit::Refused(_)));
    }
    over.store(true, Ordering::Relaxed);
    assert!(sweeper.await.expect("the sweeper ends") > 0);
    let owner = dromia_contracts::session::InboxOwner::Session(SESSION);
    let inbox = scene.store.inbox(&Scene::scope(), owner, 0, 256).await.expect("every body is there");
    assert_eq!(inbox.len(), 20);
}
