//! The erasure of a session in the file: what the audit says of it while it goes and when it is gone, what a rebuild makes of it, and
//! what is found where somebody edits the file.
//!
//! Planted faults: a seal that is missing, one that says something else, a session that was on hold.

use dromia_contracts::Actor;
use dromia_contracts::retention::SessionHold;
use dromia_contracts::store::{Mutation, SessionErase, SessionHoldSet, Store as _, WriteBatch};
use dromia_store::{AuditProblem, StoreConfig, rebuild_projections};
use rusqlite::Connection;

use crate::audit::check;
use crate::scene::{AGENT, SESSION, Scene, TENANT, at, session_open};

const OTHER: dromia_contracts::SessionId = dromia_contracts::SessionId::from_bytes([0x31; 16]);

fn erase() -> WriteBatch {
    let erase = SessionErase { session: SESSION, idle_before: Some(at(90_000)), at: at(100_000) };
    WriteBatch::new(TENANT)
        .wanted_by(&Actor::new("engine"), at(100_000))
        .with_mutation(Mutation::SessionErase(erase))
}

fn hold(held: bool) -> WriteBatch {
    let hold = held.then(|| SessionHold { by: Actor::new("token:ops"), since: at(50) });
    let set = Mutation::SessionHoldSet(SessionHoldSet { session: SESSION, hold });
    WriteBatch::new(TENANT).wanted_by(&Actor::new("token:ops"), at(50)).with_mutation(set)
}

/// A store with two sessions of which one has two turns, one with a long answer.
async fn two_sessions() -> Scene {
    let scene = Scene::open().await;
    scene.done(WriteBatch::new(TENANT).with_mutation(session_open(OTHER, AGENT, "other"))).await;
    scene.turn_done(SESSION, 0, vec![b'k'; 300_000]).await;
    scene.turn_done(OTHER, 0, "stays").await;
    scene.turn_done(SESSION, 1, "hi").await;
    scene
}

/// A closed store whose session was erased, after it was on hold for a while.
async fn erased() -> tempfile::TempDir {
    let scene = two_sessions().await;
    scene.done(hold(true)).await;
    scene.done(hold(false)).await;
    scene.done(erase()).await;
    while !scene.store.erase_session_page(&Scene::scope(), SESSION).await.expect("a page").1 {}
    let Scene { dir, store, .. } = scene;
    drop(store);
    dir
}

fn problems(dir: &tempfile::TempDir) -> Vec<AuditProblem> {
    check(dir.path(), &[]).findings.into_iter().map(|found| found.problem).collect()
}

#[tokio::test]
async fn an_erased_session_leaves_a_seal_that_is_verified_at_every_page() {
    let scene = two_sessions().await;
    let blobs = scene.dir.path().join("blobs").join(TENANT.to_string());
    let files = || std::fs::read_dir(&blobs).map_or(0, Iterator::count);
    assert_eq!(files(), 1, "a long answer is a file");
    let config = StoreConfig::new(scene.dir.path());
    scene.done(erase()).await;
    let mut last = false;
    while !last {
        assert_eq!(check(scene.dir.path(), &[]).findings, [], "between two pages");
        last = scene.store.erase_session_page(&Scene::scope(), SESSION).await.expect("a page").1;
    }
    assert_eq!(files(), 0);
    let checked = check(scene.dir.path(), &[]);
    assert_eq!((checked.findings.as_slice(), checked.runs), (&[][..], 1));
    assert!(checked.erased > 0, "its spans are all that is left of its runs");
    let Scene { dir, store, .. } = scene;
    drop(store);
    // A rebuild takes its runs for neither lost nor new.
    let rebuilt = rebuild_projections(&config, &|_: &[_]| -> Result<_, String> {
        Ok(crate::scene::head(dromia_contracts::run::RunStatus::Completed))
    });
    assert_eq!(rebuilt.expect("is rebuilt").unread, []);
    assert_eq!(problems(&dir).iter().filter(|found| **found != AuditProblem::RunChanged).count(), 0);
}

/// The chain after an act.
fn seal_chain(before: &[u8], number: i64, at: i64, record: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before).update(TENANT.as_bytes());
    for number in [number, at, 1] {
        hasher.update(&number.to_be_bytes());
    }
    hasher.update(&u32::try_from(record.len()).expect("it is short").to_be_bytes()).update(record);
    *hasher.finalize().as_bytes()
}

/// Plants what somebody who edits the file could do, and says what is found.
async fn planted(plant: impl FnOnce(&Connection)) -> Vec<AuditProblem> {
    let dir = erased().await;
    assert_eq!(problems(&dir), []);
    plant(&Scene::sql(dir.path()));
    problems(&dir)
}

#[tokio::test]
async fn a_seal_that_is_missing_is_caught() {
    let found = planted(|db| {
        let gone = db.execute("DELETE FROM audit WHERE record LIKE '%session_erased%'", []);
        assert_eq!(gone, Ok(1));
    })
    .await;
    assert!(found.contains(&AuditProblem::SealsTruncated), "{found:?}");
    assert!(found.contains(&AuditProblem::EntryRemoved), "{found:?}");
}

#[tokio::test]
async fn a_seal_that_says_something_else_is_caught() {
    // Its chain is made again, as one could who knows how: only the seals of its runs contradict it.
    let found = planted(|db| {
        let (number, at, before, record): (i64, i64, Vec<u8>, Vec<u8>) = db
            .query_row(
                "SELECT number, at, (SELECT chain FROM audit p WHERE p.tenant = a.tenant AND p.number = a.number - 1), \
                 record FROM audit a WHERE record LIKE '%session_erased%'",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )
            .expect("it is there");
        let text = String::from_utf8(record).expect("JSON").replace("\"runs\":2", "\"runs\":1");
        let chain = seal_chain(&before, number, at, text.as_bytes());
        let changed = db.execute(
            "UPDATE audit SET record = ?2, chain = ?3 WHERE number = ?1",
            rusqlite::params![number, text.as_bytes(), chain],
        );
        assert_eq!(changed, Ok(1));
    })
    .await;
    assert_eq!(found, [AuditProblem::RowChanged]);
}

#[tokio::test]
async fn a_session_on_hold_that_is_removed_is_caught() {
    let scene = two_sessions().await;
    scene.done(hold(true)).await;
    let Scene { dir, store, .. } = scene;
    drop(store);
    assert_eq!(problems(&dir), []);
    Scene::sql(dir.path()).execute("DELETE FROM session_holds", []).expect("is deleted");
    assert_eq!(problems(&dir), [AuditProblem::RowRemoved], "the row of the hold");
    let store = dromia_store::SqliteStore::open(StoreConfig::new(dir.path())).expect("the store opens");
    let outcome = store.commit(erase()).await;
    assert!(matches!(outcome, dromia_contracts::store::CommitOutcome::Done(_)), "{outcome:?}");
    drop(store);
    let found = check(dir.path(), &[]).findings;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].row, Some(SESSION.to_string()));
    assert!(found[0].detail.as_ref().is_some_and(|detail| detail.contains("on hold")), "{found:?}");
}
