//! Rows that sum up others, and rows that carry a check value, changed on the disk: the audit and the comparison of rows find each
//! change, and a rebuild repairs what journals and inboxes determine.

use std::path::Path;
use std::time::Duration;

use dromia_contracts::entry::{Entry, SignalTaken};
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::{Mutation, NewEntry, StatePut, StoredEntry, WriteBatch};
use dromia_contracts::{Actor, ItemId, WriteId};
use dromia_store::{RebuildReport, StoreConfig, StoreInspector, rebuild_projections};
use tempfile::TempDir;

use crate::rights::check;
use crate::scene::{SESSION, Scene, TENANT, at, head, put};

/// A store with two turns, an input that waits, custom state and a key.
async fn sound() -> TempDir {
    let scene = Scene::open().await;
    scene.turn_done(SESSION, 0, "hi").await;
    scene.turn_done(SESSION, 1, "hi again").await;
    let item = ItemId::from_bytes(scene.id());
    scene
        .done(WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(put(
            SESSION,
            item,
            "waits",
            Some("k"),
        ))))
        .await;
    let state = StatePut {
        session: SESSION,
        name: "mood".into(),
        expected: None,
        value: "1".into(),
        at: at(1),
        write: WriteId::from_bytes([1; 16]),
    };
    scene.done(WriteBatch::new(TENANT).with_mutation(Mutation::StatePut(state))).await;
    let Scene { dir, store, .. } = scene;
    drop(store);
    dir
}

/// A store with a run that took one signal, and has one more that came after its end.
async fn signalled() -> TempDir {
    let scene = Scene::open().await;
    let (run, begin, end) = scene.turn(SESSION, 0, "hi");
    assert!(scene.done(begin).await.claimed);
    let signal = || {
        let item = ItemId::from_bytes(scene.id());
        let mut signal = put(SESSION, item, "", None);
        (signal.owner, signal.kind) = (InboxOwner::Run(run), ItemKind::Cancel);
        (item, WriteBatch::new(TENANT).with_mutation(Mutation::InboxPut(signal)))
    };
    let (item, batch) = signal();
    scene.done(batch).await;
    scene.done(signal().1).await;
    let mut end = end;
    let Some(Mutation::RunAppend(append)) = end.mutations.first_mut() else { panic!("it ends a run") };
    let by = Actor::new("cli:ada");
    let taken = SignalTaken { item, position: 1, signal: ItemKind::Cancel, by, approval: None };
    append.entries.insert(0, NewEntry { at: at(3), entry: Entry::SignalTaken(taken), body: None });
    scene.done(end).await;
    let Scene { dir, store, .. } = scene;
    drop(store);
    dir
}

fn mismatches(dir: &Path) -> Vec<String> {
    let look = StoreInspector::new(StoreConfig::new(dir), Duration::from_mins(1));
    look.compare_rows().expect("is compared").mismatches
}

fn rebuilt(dir: &Path) -> RebuildReport {
    let fold = |entries: &[StoredEntry]| {
        let ended = entries.iter().any(|entry| entry.kind == "run_completed");
        Ok::<_, String>(head(if ended { RunStatus::Completed } else { RunStatus::Running }))
    };
    rebuild_projections(&StoreConfig::new(dir), &fold).expect("is rebuilt")
}

#[tokio::test]
async fn a_sound_store_is_found_sound() {
    let dir = sound().await;
    assert_eq!(check(dir.path()).findings, []);
    assert_eq!(mismatches(dir.path()), Vec::<String>::new());
    let made = rebuilt(dir.path());
    assert_eq!((made.items, made.counts, made.unread.len()), (0, 0, 0));
    assert_eq!(check(dir.path()).findings, []);
}

#[tokio::test]
async fn a_changed_summary_row_is_caught_and_rebuilt() {
    for (change, is_of_a_head) in [
        ("UPDATE session_heads SET last = 99", true),
        ("UPDATE session_heads SET last = 2", true),
        ("UPDATE session_heads SET taken = 0", true),
        ("UPDATE session_heads SET agent = zeroblob(16)", true),
        ("UPDATE session_heads SET active = zeroblob(16)", true),
        ("UPDATE session_heads SET session = zeroblob(16)", true),
        ("DELETE FROM session_heads", true),
        ("UPDATE inbox SET taken_by = NULL WHERE position = 2", true),
        ("UPDATE inbox SET taken_by = NULL WHERE position = 1", true),
        ("UPDATE inbox SET taken_by = zeroblob(16) WHERE position = 1", false),
        ("UPDATE inbox SET taken_by = (SELECT max(run) FROM runs) WHERE position = 3", true),
        ("UPDATE inbox SET taken_by = (SELECT max(run) FROM runs) WHERE position = 1", false),
        ("UPDATE runs SET cost_micros = cost_micros + 1", false),
        ("UPDATE runs SET model_calls = model_calls + 1", false),
        ("UPDATE runs SET input_tokens = input_tokens + 1", false),
    ] {
        let dir = sound().await;
        Scene::sql(dir.path()).execute_batch(change).expect("is changed");
        assert_ne!(check(dir.path()).findings, [], "{change}");
        if is_of_a_head {
            assert_ne!(mismatches(dir.path()), Vec::<String>::new(), "{change}");
        }
        rebuilt(dir.path());
        assert_eq!(check(dir.path()).findings, [], "{change}");
        assert_eq!(mismatches(dir.path()), Vec::<String>::new(), "{change}");
    }
}

#[tokio::test]
async fn a_changed_row_that_carries_a_check_value_is_caught() {
    for change in [
        "UPDATE state SET value = CAST('2' AS BLOB)",
        "UPDATE state SET version = 7",
        "UPDATE keys SET position = 9",
        "UPDATE keys SET expires_at = 1",
        "INSERT INTO budget_used VALUES ((SELECT tenant FROM tenants), '', 'b', 0, 1, zeroblob(8))",
        "INSERT INTO delivery_attempts VALUES ((SELECT tenant FROM tenants), zeroblob(16), 1, zeroblob(32), 1, \
         NULL, NULL, NULL, NULL, NULL, zeroblob(8))",
    ] {
        let dir = sound().await;
        Scene::sql(dir.path()).execute_batch(change).expect("is changed");
        assert_ne!(check(dir.path()).findings, [], "{change}");
        assert_eq!(mismatches(dir.path()).len(), 1, "{change}");
    }
}

#[tokio::test]
async fn a_damaged_count_of_a_budget_counts_as_used_up() {
    let dir = sound().await;
    let db = Scene::sql(dir.path());
    db.execute_batch(
        "INSERT INTO budgets SELECT tenant, 'b', 0, NULL, 3, 3, 5, 0 FROM tenants;
         INSERT INTO budget_used SELECT tenant, '', 'b', 0, 0, zeroblob(8) FROM tenants;",
    )
    .expect("is damaged");
    drop(db);
    assert_eq!(rebuilt(dir.path()).counts, 1);
    assert_eq!(mismatches(dir.path()), Vec::<String>::new());
    let used: i64 = Scene::sql(dir.path())
        .query_row("SELECT used FROM budget_used", [], |row| row.get(0))
        .expect("is read");
    assert_eq!(used, 5, "no budget is spent twice");
}

#[tokio::test]
async fn rebuilding_keeps_runs_with_unreadable_journals() {
    let dir = sound().await;
    let change =
        "UPDATE entries SET fields = '{}', packed = NULL WHERE seq = 2 AND run = (SELECT min(run) FROM runs);
                  UPDATE session_heads SET last = 99";
    Scene::sql(dir.path()).execute_batch(change).expect("is damaged");
    let made = rebuilt(dir.path());
    assert_eq!((made.runs, made.unread.len(), made.items), (1, 1, 0));
    assert_eq!(mismatches(dir.path()), Vec::<String>::new(), "the head is rebuilt all the same");
}

#[tokio::test]
async fn inputs_of_a_run_without_journal_get_no_other_run() {
    let dir = sound().await;
    Scene::sql(dir.path())
        .execute_batch("DELETE FROM entries WHERE run = (SELECT min(run) FROM runs)")
        .expect("is damaged");
    let made = rebuilt(dir.path());
    assert_eq!((made.runs, made.unread.len(), made.items), (1, 1, 0));
    let [runs, taken] = ["SELECT count(*) FROM runs", "SELECT count(taken_by) FROM inbox"]
        .map(|sql| Scene::sql(dir.path()).query_row(sql, [], |row| row.get::<_, i64>(0)).expect("is read"));
    assert_eq!((runs, taken), (2, 2));
}

#[tokio::test]
async fn a_row_of_a_run_that_never_was_goes() {
    let dir = sound().await;
    Scene::sql(dir.path())
        .execute_batch("UPDATE runs SET run = zeroblob(16) WHERE run = (SELECT min(run) FROM runs)")
        .expect("is damaged");
    assert_ne!(check(dir.path()).findings, []);
    assert_eq!(rebuilt(dir.path()).unread, []);
    assert_eq!(check(dir.path()).findings, []);
    assert_eq!(mismatches(dir.path()), Vec::<String>::new());
}

/// A run that was cancelled: it took a signal out of its inbox.
#[tokio::test]
async fn a_signal_whose_taker_was_changed_is_caught_and_rebuilt() {
    for change in [
        "UPDATE inbox SET taken_by = NULL WHERE owner IN (SELECT run FROM runs)",
        "UPDATE inbox SET taken_by = zeroblob(16) WHERE owner IN (SELECT run FROM runs)",
        "UPDATE inbox SET taken_by = owner WHERE owner IN (SELECT run FROM runs)",
    ] {
        let dir = signalled().await;
        assert_eq!(check(dir.path()).findings, [], "{change}");
        Scene::sql(dir.path()).execute_batch(change).expect("is changed");
        assert_ne!(check(dir.path()).findings, [], "{change}");
        rebuilt(dir.path());
        assert_eq!(check(dir.path()).findings, [], "{change}");
    }
}
