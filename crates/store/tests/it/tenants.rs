//! Two tenants on one SQLite store: each is answered as if it were alone, and so is whoever reads its audit.

use std::collections::BTreeSet;
use std::sync::Arc;

use dromia_contracts::audit::{AuditCursor, AuditFilter, AuditLog as _};
use dromia_contracts::store::Store;
use dromia_contracts::{Actor, ScopeAuthority};
use dromia_store::{SqliteStore, StoreConfig};
use dromia_testkit::conformance::random::tenant_id;
use dromia_testkit::conformance::tenants::{
    ForgetfulStore, PlayTally, READS, WORLD_OPS, WorldStores, play_world,
};
use tempfile::TempDir;

use crate::tables::{of_both_tenants, of_tenants};

/// How many operations are played, if nobody says it.
const OPERATIONS: usize = 10_000;

/// The most worlds that are played until each table held rows of both tenants: some need much to happen first.
const WORLDS_MAX: u64 = 64;

fn operations() -> usize {
    let asked = std::env::var("DROMIA_TENANT_OPS").ok();
    asked.map_or(OPERATIONS, |text| text.parse().expect("DROMIA_TENANT_OPS is a number"))
}

/// Three stores: the shared one, and one for each tenant.
fn fresh() -> (TempDir, [Arc<SqliteStore>; 3]) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = |name: &str| {
        let store = SqliteStore::open(StoreConfig::new(dir.path().join(name))).expect("the store opens");
        Arc::new(store)
    };
    let stores = [store("shared"), store("t0"), store("t1")];
    (dir, stores)
}

fn stores([shared, t0, t1]: &[Arc<SqliteStore>; 3]) -> WorldStores {
    WorldStores { shared: shared.clone(), alone: [t0.clone(), t1.clone()] }
}

/// Compares the audit of each tenant, item by item.
async fn equal_audits([shared, t0, t1]: &[Arc<SqliteStore>; 3]) -> u64 {
    let mut items = 0;
    for (tenant, alone) in [(0, t0), (1, t1)] {
        let scope = ScopeAuthority::claim().issue_scope(tenant_id(tenant), Actor::new("test:audit"));
        let mut after = AuditCursor::default();
        loop {
            let page = |store: &Arc<SqliteStore>| {
                let (store, scope) = (Arc::clone(store), scope.clone());
                async move { store.audit_items(&scope, AuditFilter::default(), after, 256).await }
            };
            let (beside, lonely) = (page(shared).await, page(alone).await);
            assert_eq!(beside, lonely, "the audit of tenant {tenant} after {after:?}");
            let lonely = lonely.expect("the audit is read");
            items += lonely.items.len() as u64;
            if lonely.is_last {
                break;
            }
            after = lonely.next;
        }
    }
    items
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a long run says how far it is, and what was played")]
async fn sqlite_answers_a_tenant_as_if_it_were_alone() {
    let wanted = operations();
    let (mut tally, mut audited, mut reached) = (PlayTally::default(), 0, BTreeSet::new());
    let left_out = |reached: &BTreeSet<String>| {
        of_tenants().into_iter().filter(|table| !reached.contains(table)).collect::<Vec<_>>()
    };
    for seed in 0..WORLDS_MAX.max(wanted.div_ceil(WORLD_OPS) as u64) {
        if tally.operation_count() >= wanted as u64 && left_out(&reached).is_empty() {
            break;
        }
        let (dir, opened) = fresh();
        let played = play_world(seed, WORLD_OPS, READS, &stores(&opened)).await;
        tally.add_tally(played.unwrap_or_else(|leak| panic!("{leak}")));
        audited += equal_audits(&opened).await;
        reached.extend(of_both_tenants(&dir.path().join("shared")));
        if seed % 25 == 24 {
            println!("SQLite: {tally}");
        }
    }
    println!(
        "SQLite: {tally}, {audited} items of audits; no answer of one tenant changed because of the other"
    );
    assert!(tally.operation_count() >= wanted as u64 && audited > 0);
    tally.says_something();
    // Each table held rows of both tenants, so none of them was left out.
    assert_eq!(left_out(&reached), Vec::<String>::new());
}

#[tokio::test]
async fn an_sqlite_store_that_forgets_a_scope_is_caught() {
    for leak in ["runs", "journal_entries", "find_keyed_item"] {
        let (_dir, opened) = fresh();
        let honest = stores(&opened);
        let shared: Arc<dyn Store> = Arc::new(ForgetfulStore::new(honest.shared, leak));
        let played = play_world(1, WORLD_OPS, &[leak], &WorldStores { shared, alone: honest.alone }).await;
        assert!(played.is_err(), "{leak} forgets its scope and nobody notices");
    }
}
