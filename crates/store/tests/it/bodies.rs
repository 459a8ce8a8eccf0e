//! Bodies of the three sizes, the sweep and its race.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dromia_contracts::agent::AgentState;
use dromia_contracts::store::{AgentStateSet, CommitOutcome, Mutation, Store as _, WriteBatch};
use dromia_contracts::{ItemId, RunId};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::scene::{AGENT, SESSION, Scene, TENANT, put};

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
        let journal = scene.store.journal_entries(&Scene::scope(), run, 0, 256).await.expect("a read");
        let body = journal[2].body.as_ref().expect("the reply has a body");
        assert!(body.len() == size && body.iter().all(|byte| *byte == b'r'), "{size}");
    }
}

#[tokio::test]
async fn equal_bodies_are_stored_once_until_their_last_reference() {
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
    orphan(&scene).await;
    assert_eq!(files(scene.dir.path()), 2);
    assert_eq!(scene.store.sweep_bodies().await, Ok(1));
    assert_eq!(files(scene.dir.path()), 1);
    assert_eq!(scene.store.sweep_bodies().await, Ok(0));
    assert!(scene.store.journal_entries(&Scene::scope(), kept, 0, 9).await.is_ok());
}

#[tokio::test]
async fn the_last_page_of_an_erasure_sweeps_orphaned_bodies() {
    let scene = Scene::open().await;
    orphan(&scene).await;
    assert_eq!(files(scene.dir.path()), 1);
    let set = AgentStateSet { agent: AGENT, from: vec![AgentState::Running], to: AgentState::Deleting };
    scene.done(WriteBatch::new(TENANT).with_mutation(Mutation::AgentStateSet(set))).await;
    while !scene.store.erase_agent_page(&Scene::scope(), AGENT).await.expect("a page").1 {}
    assert_eq!(files(scene.dir.path()), 0);
}

/// Leaves a file that no row names: a refused batch leaves no row, and its file was synced before.
async fn orphan(scene: &Scene) {
    let (_, _, mut refused) = scene.turn(SESSION, 9, vec![b'o'; 300_000]);
    if let Some(Mutation::RunAppend(append)) = refused.mutations.first_mut() {
        append.run = RunId::from_bytes([0xcc; 16]);
    }
    assert!(matches!(scene.store.commit(refused).await, CommitOutcome::Refused(_)));
}

/// Reads every body of some journals; what a sweep must never take away.
async fn bodies_are_there(scene: &Scene, runs: &[RunId]) -> Result<(), String> {
    for run in runs {
        let journal = scene.store.journal_entries(&Scene::scope(), *run, 0, 256).await;
        let journal = journal.map_err(|error| error.to_string())?;
        if journal.iter().filter(|entry| entry.body.is_some()).count() != 1 {
            return Err(format!("{run} has lost its reply"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_sweep_leaves_every_live_body() {
    let scene = Scene::open().await;
    let mut runs = Vec::new();
    for after in 0..4_u8 {
        runs.push(scene.turn_done(SESSION, after.into(), vec![after; 300_000]).await);
    }
    orphan(&scene).await;
    assert_eq!(scene.store.sweep_bodies().await, Ok(1));
    assert_eq!(bodies_are_there(&scene, &runs).await, Ok(()));
}

#[tokio::test]
async fn a_sweep_of_a_live_body_is_caught() {
    let scene = Scene::open().await;
    let runs = [scene.turn_done(SESSION, 0, vec![b'r'; 300_000]).await];
    // The planted fault: a sweeper that believes in rows that are gone, and so finds a live file without one.
    let bodies = Scene::sql(scene.dir.path());
    bodies.execute_batch("CREATE TEMP TABLE kept AS SELECT * FROM bodies; DELETE FROM bodies").expect("runs");
    assert_eq!(scene.store.sweep_bodies().await, Ok(1));
    bodies.execute_batch("INSERT INTO bodies SELECT * FROM kept").expect("runs");
    assert!(bodies_are_there(&scene, &runs).await.is_err(), "the check sees the body that is missing");
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
                scene.store.sweep_bodies().await.expect("the sweep runs");
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
        scene.done(WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(item))).await;
        assert!(matches!(refused.await, CommitOutcome::Refused(_)));
    }
    over.store(true, Ordering::Relaxed);
    assert!(sweeper.await.expect("the sweeper ends") > 0);
    let owner = dromia_contracts::session::InboxOwner::Session(SESSION);
    let inbox = scene.store.inbox_items(&Scene::scope(), owner, 0, 256).await.expect("every body is there");
    assert_eq!(inbox.len(), 20);
}

#[tokio::test]
async fn a_body_survives_an_equal_write_without_free_descriptors() {
    let scene = Scene::open().await;
    let run = scene.turn_done(SESSION, 0, vec![b'r'; 300_000]).await;
    let limits = getrlimit(Resource::Nofile);
    let free = std::os::fd::AsRawFd::as_raw_fd(&File::open(scene.dir.path()).expect("opens"));
    // Every descriptor below the lowest free one is in use, so nothing more can be opened.
    let current = u64::try_from(free).ok();
    setrlimit(Resource::Nofile, Rlimit { current, ..limits }).expect("is lowered");
    let mut item = put(SESSION, ItemId::from_bytes(scene.id()), "", None);
    item.body = vec![b'r'; 300_000].into();
    let refused = scene.store.commit(WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(item))).await;
    setrlimit(Resource::Nofile, limits).expect("is raised");
    assert!(matches!(refused, CommitOutcome::Refused(_)), "{refused:?}");
    assert_eq!(bodies_are_there(&scene, &[run]).await, Ok(()));
}
