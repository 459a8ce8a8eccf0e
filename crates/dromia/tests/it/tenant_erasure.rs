//! The erasure of a tenant with a fault at each of its writes, against the real SQLite file: it comes to its end in this life
//! or in the next, and the neighbour keeps every row.
//!
//! Planted faults: a row that is left, and a row of the neighbour that goes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use dromia_contracts::agent::AgentConfig;
use dromia_contracts::runs::{EnginePort as _, NewAgent};
use dromia_contracts::store::{CommitOutcome, Mutation, Store as _, TokenCreate, WriteBatch};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::{Digest, ErrorCode, TenantId, TokenId};
use dromia_testkit::faulty::CommitFault;
use jiff::Timestamp;
use rusqlite::Connection;

use crate::home::DEADLINE;
use crate::mutations::process::TestProcess;

/// Tokens of each tenant: more than a page has rows.
const TOKENS: u16 = 300;

/// How many rows each table has of a tenant.
type RowCounts = BTreeMap<String, i64>;

/// Two tenants of a closed store, and what the neighbour has.
struct ErasureScene {
    dir: tempfile::TempDir,
    gone: TenantId,
    kept: TenantId,
    rows: RowCounts,
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

impl ErasureScene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let tokio = runtime();
        let [gone, kept] = tokio.block_on(async {
            let process = TestProcess::open(dir.path(), |_| {});
            [Self::fill(&process, 1).await, Self::fill(&process, 2).await]
        });
        tokio.shutdown_timeout(Duration::from_secs(10));
        let rows = count_rows(dir.path(), kept);
        Self { dir, gone, kept, rows }
    }

    /// Makes a tenant with two agents and many tokens.
    async fn fill(process: &TestProcess, seed: u8) -> TenantId {
        let (handle, operator) =
            (format!("t{seed}").parse().expect("a handle"), process.authority.issue_operator());
        let made = process.engine.tenant_create(operator.clone(), handle, "first".to_owned()).await;
        let (tenant, _) = made.expect("is made");
        for name in ["ada", "bob"] {
            let config = AgentConfig {
                model: "scripted".to_owned(),
                grants: vec!["reply".to_owned()],
                ..AgentConfig::default()
            };
            let handle = name.parse().expect("a handle");
            let new = NewAgent { handle, display_name: name.to_owned(), labels: BTreeMap::new(), config };
            process.engine.agent_create(process.scope(tenant.id), new).await.expect("is made");
        }
        for first in (0..TOKENS).step_by(100) {
            let mut batch = WriteBatch::new(tenant.id);
            for number in first..first + 100 {
                let mut id = [seed; 16];
                id[..2].copy_from_slice(&number.to_be_bytes());
                let create = TokenCreate {
                    token: TokenId::from_bytes(id),
                    hash: Digest::from_bytes(*blake3::hash(&id).as_bytes()),
                    name: "many".to_owned(),
                    scopes: TokenScopes::ADMIN,
                    expires_at: None,
                    at: Timestamp::UNIX_EPOCH,
                };
                batch = batch.with_mutation(Mutation::TokenCreate(create));
            }
            assert!(matches!(process.store.commit(batch).await, CommitOutcome::Done(_)));
        }
        process.engine.tenant_suspend(operator, tenant.clone(), true).await.expect("is suspended");
        tenant.id
    }

    /// Copies the store, and erases the tenant there with a fault at one write, in as many lives as it takes. Returns how many
    /// writes the first life tried.
    fn erase(&self, fault: Option<(u64, CommitFault)>) -> (tempfile::TempDir, u64) {
        let dir = tempfile::tempdir().expect("a directory");
        copy_directory(self.dir.path(), dir.path());
        let first = self.live(dir.path(), fault);
        if first.is_none() {
            assert!(self.live(dir.path(), None).is_some(), "a life without a fault ends");
        }
        (dir, first.unwrap_or_default())
    }

    /// One life: nothing if it died. Otherwise the tenant is gone at its end.
    fn live(&self, root: &Path, fault: Option<(u64, CommitFault)>) -> Option<u64> {
        let tokio = runtime();
        let lived = tokio.block_on(async {
            let process = TestProcess::open(root, |store| {
                if let Some((nth, fault)) = fault {
                    store.fail_nth(nth, fault);
                }
            });
            let ended = async {
                loop {
                    let operator = process.authority.issue_operator();
                    let tenants = process.store.tenants(&operator, page()).await.expect("a read");
                    let left = process.store.deleting_tenants(&operator).await.expect("a read");
                    if tenants.iter().any(|tenant| tenant.id == self.gone) {
                        // Nobody heard of a mark, so somebody asks again.
                        let deleted = process.engine.tenant_delete(operator, self.gone).await;
                        let is_known = |code| matches!(code, ErrorCode::OutcomeUnknown | ErrorCode::StoreUnavailable);
                        assert!(deleted.as_ref().map_or_else(|fault| is_known(fault.code), |_| true), "{deleted:?}");
                    } else if left.is_empty() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                () = ended => Some(process.store.commit_count()),
                () = process.store.wait_for_crash() => None,
                () = tokio::time::sleep(DEADLINE) => panic!("the erasure does not end: {:?}", process.store.commit_log()),
            }
        });
        tokio.shutdown_timeout(Duration::from_secs(10));
        lived
    }

    /// Says what is wrong with a store in which the tenant was erased.
    fn check(&self, root: &Path) -> Result<(), String> {
        let left = count_rows(root, self.gone);
        let expected = RowCounts::from([("audit".to_owned(), 1), ("audit_heads".to_owned(), 1)]);
        if left != expected {
            return Err(format!("the erasure left {left:?}"));
        }
        let neighbour = count_rows(root, self.kept);
        if neighbour != self.rows {
            return Err(format!("the neighbour had {:?} and has {neighbour:?}", self.rows));
        }
        if root.join("store/blobs").join(self.gone.to_string()).exists() {
            return Err("the directory of its bodies is left".to_owned());
        }
        Ok(())
    }
}

fn page<T>() -> dromia_contracts::store::PageRequest<T> {
    dromia_contracts::store::PageRequest::first_page(99)
}

pub(crate) fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("is made");
    for entry in std::fs::read_dir(from).expect("is listed") {
        let entry = entry.expect("is listed");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("is known").is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("is copied");
        }
    }
}

/// Counts the rows of a tenant in every table that has some.
fn count_rows(root: &Path, tenant: TenantId) -> RowCounts {
    let db = Connection::open(root.join("store/dromia.db")).expect("opens");
    let mut tables = db
        .prepare(
            "SELECT t.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c ON c.name = 'tenant' \
             WHERE t.type = 'table'",
        )
        .expect("is prepared");
    let names: Vec<String> =
        tables.query_map([], |row| row.get(0)).expect("is read").map(|name| name.expect("a name")).collect();
    let count = |name: &String| {
        let sql = format!("SELECT count(*) FROM {name} WHERE tenant = ?1");
        db.query_row(&sql, [tenant.as_bytes()], |row| row.get::<_, i64>(0)).expect("is counted")
    };
    names.into_iter().map(|name| (name.clone(), count(&name))).filter(|(_, rows)| *rows > 0).collect()
}

#[test]
fn an_erasure_of_a_tenant_survives_a_fault_at_every_write() {
    let scene = ErasureScene::new();
    let (dir, writes) = scene.erase(None);
    assert_eq!(scene.check(dir.path()), Ok(()));
    assert!(writes >= 5, "the mark, two agents and two pages of rows at least, not {writes}");
    for nth in 1..=writes {
        for fault in CommitFault::ALL {
            let (dir, _) = scene.erase(Some((nth, fault)));
            assert_eq!(scene.check(dir.path()), Ok(()), "{fault:?} at write {nth}");
        }
    }
}

#[test]
fn a_row_that_an_erasure_leaves_is_caught() {
    let scene = ErasureScene::new();
    let (dir, _) = scene.erase(None);
    let db = Connection::open(dir.path().join("store/dromia.db")).expect("opens");
    let sql = "INSERT INTO feeds (tenant, last) VALUES (?1, 1)";
    db.execute(sql, [scene.gone.as_bytes()]).expect("is planted");
    assert!(scene.check(dir.path()).is_err_and(|found| found.contains("feeds")));
}

#[test]
fn an_erasure_that_takes_a_row_of_a_neighbour_is_caught() {
    let scene = ErasureScene::new();
    let (dir, _) = scene.erase(None);
    let db = Connection::open(dir.path().join("store/dromia.db")).expect("opens");
    let sql = "DELETE FROM tokens WHERE (tenant, token) IN (SELECT tenant, token FROM tokens WHERE tenant = ?1 LIMIT 1)";
    db.execute(sql, [scene.kept.as_bytes()]).expect("is planted");
    assert!(scene.check(dir.path()).is_err_and(|found| found.contains("the neighbour")));
}
