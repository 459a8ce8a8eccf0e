//! The log stays short, with and without a reader that does not leave, and has a second bound while a copy is made.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dromia_contracts::ItemId;
use dromia_contracts::store::{CommitOutcome, CommitRefusal, Mutation, Store as _, WriteBatch};
use dromia_store::{
    CopyError, LogLoss, OpenError, SqliteStore, StoreConfig, StoreHold, StoreInspector, copy_database,
};

use crate::scene::{SESSION, Scene, TENANT, put};

const MIB: u64 = 1 << 20;

fn filler(scene: &Scene) -> WriteBatch {
    let body = "x".repeat(250_000);
    (0..4).fold(WriteBatch::new(TENANT), |batch, n| {
        let item = ItemId::from_bytes(scene.id());
        batch.with_mutation(Mutation::InboxPut(put(SESSION, item, &format!("{n}{item}{body}"), None)))
    })
}

#[tokio::test]
async fn the_log_restarts_when_no_reader_holds_it() {
    let scene = Scene::open().await;
    let mut longest = 0;
    for _ in 0..40 {
        scene.done(filler(&scene)).await;
        longest = longest.max(scene.store.store_health().wal_bytes);
    }
    assert!(scene.store.store_health().file_bytes > 30 * MIB, "the bodies are in the main file");
    assert!(longest < 12 * MIB, "{longest} bytes of log");
}

#[tokio::test]
async fn a_stuck_reader_stops_writes_before_64_mib_of_log() {
    let scene = Scene::open().await;
    // A reader of another process, which nobody here can interrupt.
    let stuck = Scene::sql(scene.dir.path());
    stuck.execute_batch("BEGIN").expect("begins");
    let _: i64 = stuck.query_row("SELECT count(*) FROM inbox", [], |row| row.get(0)).expect("is read");
    let mut refused = false;
    for _ in 0..80 {
        match scene.store.commit(filler(&scene)).await {
            CommitOutcome::Done(_) => {}
            CommitOutcome::Refused(CommitRefusal::ReadOnly { .. }) => {
                refused = true;
                break;
            }
            other => panic!("unexpected {other:?}"),
        }
        assert!(scene.store.store_health().wal_bytes < 64 * MIB);
    }
    assert!(refused, "the writes are stopped");
    assert!(scene.store.store_health().read_only.is_some());
    let session =
        scene.store.session(&Scene::scope(), SESSION).await.expect("reads go on").expect("a session");
    assert!(session.head.last > 100);
    stuck.execute_batch("COMMIT").expect("ends");
    let deadline = Instant::now() + Duration::from_mins(1);
    while scene.store.store_health().read_only.is_some() {
        assert!(Instant::now() < deadline, "the writes come back");
        tokio::task::yield_now().await;
    }
    scene.turn_begin_after_wait(session.head.last).await;
    assert!(scene.store.store_health().wal_bytes < 8 * MIB);
}

/// Copies the database in a thread. The copy rests in its first step until the sender is dropped.
fn copy_with_rest(config: StoreConfig, to: PathBuf) -> (JoinHandle<Result<(), CopyError>>, mpsc::Sender<()>) {
    let (let_go, held) = mpsc::channel::<()>();
    let (begun, rests) = mpsc::channel();
    let copying = std::thread::spawn(move || {
        let hold = StoreHold::acquire(&config).expect("is tried");
        copy_database(&config, &hold, &to, &mut |_| {
            let _begun = begun.send(());
            // Without a word: the sender was dropped.
            let _let_go = held.recv();
            ControlFlow::Continue(())
        })
    });
    rests.recv().expect("the copy has begun");
    (copying, let_go)
}

fn count_inputs(database: &Path) -> i64 {
    let db = rusqlite::Connection::open(database).expect("opens");
    let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("is checked");
    assert_eq!(sound, "ok");
    db.query_row("SELECT count(*) FROM inbox", [], |row| row.get(0)).expect("is counted")
}

/// Writes behind a copy that has gone until the log is looked at, and says that it is short.
async fn is_short_again(scene: &Scene) {
    for _ in 0..6 {
        scene.done(filler(scene)).await;
    }
    assert!(scene.store.store_health().wal_bytes < 12 * MIB);
    assert!(std::fs::metadata(scene.dir.path().join(LOG)).expect("is there").len() < 12 * MIB);
}

#[tokio::test]
async fn a_copy_beside_much_writing_is_of_one_moment() {
    let scene = Scene::open().await;
    for _ in 0..3 {
        scene.done(filler(&scene)).await;
    }
    let copy = scene.dir.path().join("copy.db");
    let (copying, let_go) = copy_with_rest(StoreConfig::new(scene.dir.path()), copy.clone());
    for _ in 0..90 {
        scene.done(filler(&scene)).await;
    }
    assert!(scene.store.store_health().wal_bytes > 80 * MIB, "no copy would have been made");
    drop(let_go);
    copying.join().expect("no panic").expect("is copied");
    assert_eq!(count_inputs(&copy), 12, "what was committed before, and nothing later");
    is_short_again(&scene).await;
}

#[tokio::test]
async fn a_killed_copy_gives_the_log_back() {
    const COPY_OF: &str = "DROMIA_TEST_COPY_OF";
    // This test is the process that is killed, too.
    if let Some(dir) = std::env::var_os(COPY_OF) {
        let (copying, _let_go) = copy_with_rest(StoreConfig::new(&dir), Path::new(&dir).join("copy.db"));
        std::fs::write(Path::new(&dir).join("begun"), "").expect("is written");
        std::thread::sleep(Duration::from_mins(1));
        return drop(copying);
    }
    let scene = Scene::open().await;
    for _ in 0..3 {
        scene.done(filler(&scene)).await;
    }
    let mut copying = Command::new(std::env::current_exe().expect("this test has a path"))
        .args(["--exact", "wal::a_killed_copy_gives_the_log_back"])
        .env(COPY_OF, scene.dir.path())
        .spawn()
        .expect("starts");
    let deadline = Instant::now() + Duration::from_mins(1);
    while !scene.dir.path().join("begun").exists() {
        assert!(Instant::now() < deadline, "the copy begins");
        std::thread::sleep(Duration::from_millis(10));
    }
    for _ in 0..70 {
        scene.done(filler(&scene)).await;
    }
    assert!(scene.store.store_health().wal_bytes > 60 * MIB, "the copy held the log");
    copying.kill().and_then(|()| copying.wait()).expect("is killed");
    is_short_again(&scene).await;
}

/// How long the log gets beside a copy that does not go on, until writes are stopped or the log has 160 MiB.
async fn log_beside_stuck_copy(held_log_max: Option<u64>) -> u64 {
    let change = |config: StoreConfig| StoreConfig {
        held_log_max: held_log_max.unwrap_or(config.held_log_max),
        ..config
    };
    let scene = Scene::open_with(change).await;
    for _ in 0..3 {
        scene.done(filler(&scene)).await;
    }
    let config = change(StoreConfig::new(scene.dir.path()));
    let (copying, let_go) = copy_with_rest(config, scene.dir.path().join("copy.db"));
    let mut longest = 0;
    while longest < 160 * MIB && matches!(scene.store.commit(filler(&scene)).await, CommitOutcome::Done(_)) {
        longest = longest.max(scene.store.store_health().wal_bytes);
    }
    drop(let_go);
    let copied = copying.join().expect("no panic");
    assert!(matches!(copied, Ok(()) | Err(CopyError::Outrun(_))), "{copied:?}");
    let deadline = Instant::now() + Duration::from_mins(1);
    while scene.store.store_health().read_only.is_some() {
        assert!(Instant::now() < deadline, "the writes come back");
        tokio::task::yield_now().await;
    }
    is_short_again(&scene).await;
    longest
}

#[tokio::test]
async fn a_copy_gives_up_before_it_stops_writes() {
    let scene = Scene::open().await;
    for _ in 0..3 {
        scene.done(filler(&scene)).await;
    }
    let config = StoreConfig { held_log_max: 80 * MIB, ..StoreConfig::new(scene.dir.path()) };
    let (copying, let_go) = copy_with_rest(config, scene.dir.path().join("copy.db"));
    while scene.store.store_health().wal_bytes < 72 * MIB {
        scene.done(filler(&scene)).await;
    }
    drop(let_go);
    let copied = copying.join().expect("no panic");
    assert!(matches!(copied, Err(CopyError::Outrun(most)) if most == 70 * MIB), "{copied:?}");
    is_short_again(&scene).await;
}

#[tokio::test]
async fn a_stuck_copy_stops_writes_at_the_second_bound() {
    let longest = log_beside_stuck_copy(Some(80 * MIB)).await;
    assert!((100 * MIB..112 * MIB).contains(&longest), "{longest}");
}

#[tokio::test]
async fn a_stuck_copy_without_that_bound_is_caught() {
    assert!(log_beside_stuck_copy(None).await > 112 * MIB, "nothing notices it");
}

#[tokio::test]
async fn a_start_is_refused_while_a_reader_holds_the_log() {
    let scene = Scene::open().await;
    // A reader of another process, and behind it a batch that cannot be copied before that one has gone.
    let stuck = Scene::sql(scene.dir.path());
    stuck.execute_batch("BEGIN").expect("begins");
    let _: i64 = stuck.query_row("SELECT count(*) FROM inbox", [], |row| row.get(0)).expect("is read");
    scene.turn_done(SESSION, 0, "hi").await;
    let Scene { dir, store, .. } = scene;
    drop(store);
    let config = StoreConfig::new(dir.path());
    assert!(std::fs::metadata(dir.path().join("dromia.db-wal")).expect("a log is left").len() > 0);
    let refused = SqliteStore::open(config.clone()).expect_err("nothing may be acknowledged behind that log");
    assert!(matches!(refused, OpenError::LogHeld), "{refused}");
    stuck.execute_batch("COMMIT").expect("ends");
    let store = SqliteStore::open(config).expect("the store opens");
    let session = store.session(&Scene::scope(), SESSION).await.expect("a read").expect("a session");
    assert_eq!(session.head.last, 1, "what the log held is there");
}

const RECORD: &str = "dromia.db-acknowledged";
const LOG: &str = "dromia.db-wal";
const INDEX: &str = "dromia.db-shm";

/// Copies a store that is in the middle of its work, as a kill leaves it. Returns the directory, and how many inputs were
/// acknowledged; the last of them are in the log only.
async fn killed() -> (tempfile::TempDir, u64) {
    let scene = Scene::open().await;
    for turn in 1..10_000 {
        let item = ItemId::from_bytes(scene.id());
        scene
            .done(
                WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(put(SESSION, item, "hello", None))),
            )
            .await;
        let copy = tempfile::tempdir().expect("a directory");
        for name in [RECORD, "dromia.db", LOG, INDEX] {
            std::fs::copy(scene.dir.path().join(name), copy.path().join(name)).expect("is copied");
        }
        let record = std::fs::read(copy.path().join(RECORD)).expect("is read");
        // Once an idle writer has copied all of the log, nothing of it is needed.
        if turn >= 8 && record.iter().any(|byte| *byte != 0) {
            return (copy, turn);
        }
    }
    panic!("the log is never in use");
}

/// Damages the first frame of the log: behind the last one may lie what an earlier log left.
fn damage_first_frame(dir: &Path) {
    let log = dir.join(LOG);
    let mut bytes = std::fs::read(&log).expect("is read");
    bytes[32 + 24 + 100] ^= 1;
    std::fs::write(log, bytes).expect("is written");
}

async fn inputs(dir: &Path) -> Result<u64, OpenError> {
    let store = SqliteStore::open(StoreConfig::new(dir))?;
    // A log that is lost early took the session too.
    let session = store.session(&Scene::scope(), SESSION).await.expect("a read");
    Ok(session.map_or(0, |session| session.head.last))
}

/// Looks at the log as `doctor` does.
fn loss(dir: &Path) -> Option<LogLoss> {
    StoreInspector::new(StoreConfig::new(dir), Duration::from_mins(1)).log_loss().expect("is read")
}

/// A damage of the log by its name.
type NamedDamage = (&'static str, fn(&Path));

#[tokio::test]
async fn a_log_that_lost_acknowledged_commits_is_refused() {
    let damages: [NamedDamage; 4] = [
        ("a frame", damage_first_frame),
        ("the header", |dir| {
            let mut bytes = std::fs::read(dir.join(LOG)).expect("is read");
            bytes[9] ^= 1;
            std::fs::write(dir.join(LOG), bytes).expect("is written");
        }),
        ("removed", |dir| std::fs::remove_file(dir.join(LOG)).expect("is removed")),
        ("emptied", |dir| std::fs::write(dir.join(LOG), "").expect("is emptied")),
    ];
    for (name, damage) in damages {
        let (dir, acknowledged) = killed().await;
        assert_eq!(loss(dir.path()), None, "{name}");
        damage(dir.path());
        assert!(matches!(loss(dir.path()), Some(LogLoss::Lost(_))), "{name}");
        for start in 1..=2 {
            let refused = inputs(dir.path()).await.expect_err("an acknowledged commit is missing");
            assert!(
                matches!(&refused, OpenError::Damaged { problem } if problem.contains("acknowledged")),
                "{name}, start {start}: {refused}"
            );
        }
        std::fs::remove_file(dir.path().join(RECORD)).expect("the way on that the message names");
        assert!(inputs(dir.path()).await.expect("the store opens") < acknowledged, "{name}");
    }
}

#[tokio::test]
async fn a_damaged_log_without_its_record_is_caught() {
    let (dir, acknowledged) = killed().await;
    std::fs::remove_file(dir.path().join(RECORD)).expect("is removed");
    damage_first_frame(dir.path());
    let found = inputs(dir.path()).await.expect("SQLite reports nothing");
    assert!(found < acknowledged, "what the test above would miss: {found} of {acknowledged}");
}

#[tokio::test]
async fn kills_power_cuts_and_other_programs_raise_no_alarm() {
    let (dir, acknowledged) = killed().await;
    assert_eq!(inputs(dir.path()).await.expect("a kill"), acknowledged);
    assert_eq!(inputs(dir.path()).await.expect("a clean end"), acknowledged);

    let (dir, acknowledged) = killed().await;
    let record = dir.path().join(RECORD);
    let mut bytes = std::fs::read(&record).expect("is read");
    bytes[11] ^= 1;
    std::fs::write(&record, bytes).expect("is torn");
    assert_eq!(inputs(dir.path()).await.expect("a power cut in the record"), acknowledged);

    // The record of a log that was begun anew since: a power cut may leave it, because no commit syncs it.
    let (dir, _) = killed().await;
    let older = std::fs::read(dir.path().join(RECORD)).expect("is read");
    let (other, acknowledged) = killed().await;
    std::fs::write(other.path().join(RECORD), older).expect("is older");
    assert_eq!(inputs(other.path()).await.expect("an older record"), acknowledged);

    // Another program that closes the database last copies the log and removes it together with its index.
    let (dir, acknowledged) = killed().await;
    let foreign = Scene::sql(dir.path());
    let _: i64 = foreign.query_row("SELECT count(*) FROM inbox", [], |row| row.get(0)).expect("is read");
    drop(foreign);
    assert!(!dir.path().join(LOG).exists() && !dir.path().join(INDEX).exists());
    assert!(matches!(loss(dir.path()), Some(LogLoss::Unproven(_))));
    assert_eq!(inputs(dir.path()).await.expect("another program"), acknowledged);
    assert_eq!(loss(dir.path()), None, "and it is said once");
}

#[tokio::test]
async fn a_log_of_which_nothing_was_copied_is_kept_in_mind() {
    // A reader of an empty log, behind which nothing can be copied.
    let scene = Scene::open().await.reopen(|_| ());
    let stuck = Scene::sql(scene.dir.path());
    stuck.execute_batch("BEGIN").expect("begins");
    let _: i64 = stuck.query_row("SELECT count(*) FROM inbox", [], |row| row.get(0)).expect("is read");
    scene.done(filler(&scene)).await;
    // Longer than the writer waits before it copies what is left.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let copy = tempfile::tempdir().expect("a directory");
    for name in [RECORD, "dromia.db", LOG, INDEX] {
        std::fs::copy(scene.dir.path().join(name), copy.path().join(name)).expect("is copied");
    }
    damage_first_frame(copy.path());
    assert!(matches!(loss(copy.path()), Some(LogLoss::Lost(_))));
}

#[tokio::test]
async fn a_store_that_emptied_its_log_asks_for_nothing() {
    let (dir, _) = killed().await;
    assert!(std::fs::read(dir.path().join(RECORD)).expect("is read").iter().any(|byte| *byte != 0));
    let store = SqliteStore::open(StoreConfig::new(dir.path())).expect("opens");
    let record = std::fs::read(dir.path().join(RECORD)).expect("is read");
    assert!(record.iter().all(|byte| *byte == 0), "a kill now leaves an empty log");
    drop(store);
    let record = std::fs::read(dir.path().join(RECORD)).expect("is read");
    assert!(record.iter().all(|byte| *byte == 0), "a clean end leaves no log");
}

impl Scene {
    async fn turn_begin_after_wait(&self, last: u64) {
        let item = ItemId::from_bytes(self.id());
        let receipt = self
            .done(WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(put(SESSION, item, "x", None))))
            .await;
        assert_eq!(receipt.positions, [last + 1], "a refused batch left no row");
    }
}
