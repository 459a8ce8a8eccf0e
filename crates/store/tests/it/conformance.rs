//! The promises of the port: the suite, and random sequences against the oracle.

use std::sync::Arc;

use dromia_contracts::store::Store;
use dromia_store::{SqliteStore, StoreConfig};
use dromia_testkit::FaultyStore;
use dromia_testkit::conformance;
use dromia_testkit::conformance::acts::{Sealed, equal_acts, every_act_leaves_one_record};
use dromia_testkit::conformance::compare::{equal_receipts_and_reads, equals_the_reference};
use dromia_testkit::conformance::random::{Writer, sequences};
use dromia_testkit::faulty::CommitFault;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use tempfile::TempDir;

fn fresh() -> (TempDir, Arc<dyn Store>) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(StoreConfig::new(dir.path())).expect("the store opens");
    (dir, Arc::new(store))
}

/// A fresh store, as what takes batches and as what reads its chains.
fn sealed() -> (TempDir, Arc<dyn Store>, Sealed) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(SqliteStore::open(StoreConfig::new(dir.path())).expect("the store opens"));
    (dir, store.clone(), Sealed(store))
}

#[tokio::test]
async fn whatever_somebody_changes_leaves_one_record_in_its_commit() {
    let (_dir, store, read) = sealed();
    assert_eq!(every_act_leaves_one_record(store, &read).await, Ok(()));
}

#[tokio::test]
async fn sqlite_passes_the_suite() {
    // A claim's directory must outlive its store, so all of them go at the end.
    let dirs = std::sync::Mutex::new(Vec::new());
    conformance::store(|| {
        let (dir, store) = fresh();
        dirs.lock().expect("no claim panics with the lock").push(dir);
        std::future::ready(store)
    })
    .await;
}

#[tokio::test]
async fn sqlite_answers_random_sequences_as_the_reference_does() {
    let mut runner = TestRunner::deterministic();
    for sequence in 0..24 {
        let ops = sequences(60).new_tree(&mut runner).expect("a strategy without filters").current();
        let (_dir, store) = fresh();
        let compared = equals_the_reference(store, &ops).await;
        assert_eq!(compared, Ok(()), "sequence {sequence}: {ops:?}");
        let (_dir, store, read) = sealed();
        assert_eq!(equal_acts(store, &read, &ops).await, Ok(()), "acts of sequence {sequence}: {ops:?}");
    }
}

#[tokio::test]
async fn an_sqlite_store_that_loses_a_batch_is_caught() {
    let ((_honest, honest), (_lossy, lossy)) = (fresh(), fresh());
    let lossy = FaultyStore::new(lossy);
    lossy.fail(2, CommitFault::Lost);
    let lossy: Arc<dyn Store> = Arc::new(lossy);
    assert!(equal_receipts_and_reads(&honest, &lossy, Writer::world()).await.is_err());
}
