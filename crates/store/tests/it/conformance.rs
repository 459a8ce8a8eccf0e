//! The promises of the port: the suite, and random sequences against the oracle.
//!
//! `DROMIA_SEQUENCES=FIRST..END` compares the sequences of other seeds, `DROMIA_SEQUENCES=N..` a single one.

use std::sync::Arc;

use dromia_contracts::store::Store;
use dromia_store::{SqliteStore, StoreConfig};
use dromia_testkit::FaultyStore;
use dromia_testkit::conformance;
use dromia_testkit::conformance::acts::{SealedActs, equal_acts, every_act_leaves_one_record};
use dromia_testkit::conformance::compare::{equal_receipts_and_reads, equals_the_reference};
use dromia_testkit::conformance::random::{BatchWriter, draw_sequence};
use dromia_testkit::faulty::CommitFault;
use tempfile::TempDir;

/// The seeds of the usual run; `make sequences` takes others.
const SEEDS: std::ops::Range<u64> = 0..24;
/// The most operations of a sequence.
const OPS_MAX: usize = 60;

/// Reads `DROMIA_SEQUENCES`.
fn seeds() -> std::ops::Range<u64> {
    let Ok(asked) = std::env::var("DROMIA_SEQUENCES") else { return SEEDS };
    let number = |text: &str| text.parse().expect("DROMIA_SEQUENCES is FIRST..END or N..");
    let (first, end) = asked.split_once("..").expect("DROMIA_SEQUENCES is FIRST..END or N..");
    let first = number(first);
    first..if end.is_empty() { first + 1 } else { number(end) }
}

fn fresh() -> (TempDir, Arc<dyn Store>) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(StoreConfig::new(dir.path())).expect("the store opens");
    (dir, Arc::new(store))
}

/// A fresh store, as what takes batches and as what reads its chains.
fn sealed() -> (TempDir, Arc<dyn Store>, SealedActs) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(SqliteStore::open(StoreConfig::new(dir.path())).expect("the store opens"));
    (dir, store.clone(), SealedActs(store))
}

#[tokio::test]
async fn every_store_change_leaves_one_record_in_its_commit() {
    let (_dir, store, read) = sealed();
    assert_eq!(every_act_leaves_one_record(store, &read).await, Ok(()));
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "`make conformance` shows the table")]
async fn sqlite_passes_the_suite() {
    // A claim's directory must outlive its store, so all of them go at the end.
    let dirs = std::sync::Mutex::new(Vec::new());
    let reports = conformance::report_store(|| {
        let (dir, store) = fresh();
        dirs.lock().expect("no claim panics with the lock").push(dir);
        std::future::ready(store)
    })
    .await;
    let table = conformance::conformance_table("store", "sqlite", &reports);
    print!("{table}");
    assert!(reports.iter().all(|report| report.problem.is_none()), "{table}");
}

#[tokio::test]
async fn sqlite_answers_random_sequences_as_the_reference_does() {
    for seed in seeds() {
        let ops = draw_sequence(seed, OPS_MAX);
        let again =
            format!("DROMIA_SEQUENCES={seed}.. cargo test --workspace --test it sqlite_answers_random");
        let (_dir, store) = fresh();
        let compared = equals_the_reference(store, &ops).await;
        assert_eq!(compared, Ok(()), "{again}\n{ops:?}");
        let (_dir, store, read) = sealed();
        assert_eq!(equal_acts(store, &read, &ops).await, Ok(()), "the acts: {again}\n{ops:?}");
    }
}

#[tokio::test]
async fn an_sqlite_store_that_loses_a_batch_is_caught() {
    let ((_honest, honest), (_lossy, lossy)) = (fresh(), fresh());
    let lossy = FaultyStore::new(lossy);
    lossy.fail_nth(2, CommitFault::Lost);
    let lossy: Arc<dyn Store> = Arc::new(lossy);
    assert!(equal_receipts_and_reads(&honest, &lossy, BatchWriter::world_batches()).await.is_err());
}

/// Tells whether a claim holds of a store whose file does something more, which is the planted fault.
async fn holds_with(claim: &str, fault: &str) -> bool {
    let (dir, store) = fresh();
    crate::scene::Scene::sql(dir.path()).execute_batch(fault).expect("the fault is planted");
    let (_, claim) = conformance::CLAIMS.iter().find(|(name, _)| *name == claim).expect("a claim");
    tokio::spawn(claim(store)).await.is_ok()
}

#[tokio::test]
async fn a_forgotten_period_after_a_clock_step_back_is_caught() {
    let claim = "a_wavering_clock_grants_no_period_budget_twice";
    let forgets = "CREATE TRIGGER fault AFTER INSERT ON budget_open BEGIN \
                   DELETE FROM budget_used WHERE begins > NEW.at; END";
    assert!(holds_with(claim, "").await);
    assert!(!holds_with(claim, forgets).await);
}

#[tokio::test]
async fn an_open_task_that_is_not_counted_is_caught() {
    let claim = "an_agent_has_so_many_open_tasks_and_one_more_is_refused";
    let forgets = "CREATE TRIGGER fault AFTER INSERT ON sessions BEGIN UPDATE sessions SET open = 0 \
                   WHERE tenant = NEW.tenant AND session = NEW.session AND NEW.open = 1; END";
    assert!(holds_with(claim, "").await);
    assert!(!holds_with(claim, forgets).await);
}

#[tokio::test]
async fn a_hold_that_is_forgotten_is_caught() {
    let claim = "a_hold_keeps_its_session_its_agent_and_its_tenant";
    let forgets = "CREATE TRIGGER fault AFTER INSERT ON session_holds BEGIN DELETE FROM session_holds; END";
    assert!(holds_with(claim, "").await);
    assert!(!holds_with(claim, forgets).await);
}

#[tokio::test]
async fn an_erased_session_that_is_not_hidden_is_caught() {
    let claim = "an_erased_session_is_hidden_at_once_with_its_children_and_goes_page_by_page";
    let shows = "CREATE TRIGGER fault AFTER INSERT ON hidden_sessions BEGIN DELETE FROM hidden_sessions; END";
    assert!(holds_with(claim, "").await);
    assert!(!holds_with(claim, shows).await);
}

#[tokio::test]
async fn a_late_settlement_that_deletes_newer_counts_is_caught() {
    let claim = "a_call_that_ends_in_a_later_period_leaves_the_count_of_that_period";
    let deletes = "CREATE TRIGGER fault AFTER DELETE ON budget_open BEGIN \
                   DELETE FROM budget_used WHERE begins > OLD.begins; END";
    assert!(holds_with(claim, "").await);
    assert!(!holds_with(claim, deletes).await);
}
