//! The erasure of a tenant in the file: what stays of it in the audit, and in the directory of bodies.

use dromia_contracts::audit::AuditLog as _;
use dromia_contracts::entry::Entry;
use dromia_contracts::run::{RunHead, RunStatus};
use dromia_contracts::store::{CommitOutcome, CommitRefusal, Mutation, PageRequest, Store as _, WriteBatch};
use dromia_contracts::{Actor, Digest, ScopeAuthority};
use dromia_store::{AuditProblem, JournalFold, StoreConfig, StoreInspector, TenantCheckpoint};
use jiff::Timestamp;
use rusqlite::Connection;
use std::time::Duration;

use crate::audit::check;
use crate::scene::{AGENT, SESSION, Scene, TENANT};

const AT: Timestamp = Timestamp::UNIX_EPOCH;

async fn head(scene: &Scene, number: u64) -> TenantCheckpoint {
    let operator = ScopeAuthority::claim().issue_operator();
    let heads = scene.store.audit_heads(&operator, PageRequest::first_page(9)).await.expect("is read");
    let head = heads.first().expect("what stays of a tenant is signed too");
    TenantCheckpoint { checkpoint: number, seal: head.seal, chain: head.chain }
}

fn erase() -> WriteBatch {
    let wanted = WriteBatch::new(TENANT).wanted_by(&Actor::new("operator"), AT);
    wanted.with_mutation(Mutation::TenantErase(AT))
}

/// A closed store whose tenant was erased, with a checkpoint of before and one of the mark.
async fn erased() -> (tempfile::TempDir, [TenantCheckpoint; 2]) {
    let scene = Scene::open().await;
    scene.turn_done(SESSION, 0, vec![b'k'; 300_000]).await;
    scene.done(WriteBatch::new(TENANT).with_mutation(Mutation::TenantSuspensionSet(Some(AT)))).await;
    let before = head(&scene, 1).await;
    scene.done(erase()).await;
    let marked = head(&scene, 2).await;
    assert_eq!(marked.seal, before.seal + 1);
    assert_eq!(check(scene.dir.path(), &[before, marked]).findings, [], "while it is being erased");
    while !scene.store.erase_agent_page(&Scene::scope(), AGENT).await.expect("a page").1 {}
    let blobs = scene.dir.path().join("blobs").join(TENANT.to_string());
    assert!(blobs.exists());
    std::fs::write(blobs.join("incoming"), "a write that a crash cut").expect("is written");
    loop {
        match scene.store.commit(erase()).await {
            CommitOutcome::Done(_) => {}
            CommitOutcome::Refused(CommitRefusal::NotFound(_)) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(!blobs.exists(), "the directory goes with the tenant");
    assert_eq!(head(&scene, 2).await, marked, "every later checkpoint signs the same");
    // What a crash before the removal leaves.
    let scene = scene.reopen(|_| std::fs::create_dir_all(&blobs).expect("is made"));
    assert_eq!(scene.store.sweep_bodies().await, Ok(0));
    assert!(!blobs.exists(), "the sweep of a start removes it, too");
    let Scene { dir, store, .. } = scene;
    drop(store);
    (dir, [before, marked])
}

fn problems(dir: &tempfile::TempDir, checkpoints: &[TenantCheckpoint]) -> Vec<AuditProblem> {
    check(dir.path(), checkpoints).findings.into_iter().map(|found| found.problem).collect()
}

#[tokio::test]
async fn a_deleted_tenant_is_distinguished_from_a_removed_one() {
    let (dir, signed) = erased().await;
    assert_eq!(problems(&dir, &signed), []);
    let db = Scene::sql(dir.path());
    let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("is counted");
    assert_eq!((count("SELECT count(*) FROM audit"), count("SELECT count(*) FROM tenants")), (1, 0));
    let later = TenantCheckpoint { checkpoint: 3, seal: signed[1].seal + 1, chain: Digest::default() };
    assert_eq!(problems(&dir, &[signed[0], signed[1], later]), [AuditProblem::SealsTruncated]);
    let forged = TenantCheckpoint { chain: Digest::default(), ..signed[1] };
    assert_eq!(problems(&dir, &[signed[0], forged]), [AuditProblem::Rewritten]);
}

/// Plants what somebody who edits the file could do, and says what is found.
async fn planted(plant: impl FnOnce(&Connection)) -> Vec<AuditProblem> {
    let (dir, signed) = erased().await;
    plant(&Scene::sql(dir.path()));
    problems(&dir, &signed)
}

#[tokio::test]
async fn a_tenant_removed_without_its_act_is_caught() {
    let found = planted(|db| {
        db.execute("DELETE FROM audit", []).expect("is planted");
    });
    assert_eq!(found.await, [AuditProblem::TenantRemoved]);
    let found = planted(|db| {
        let other = r#"{"kind":"tenant_suspension_set","suspended":true}"#;
        db.execute("UPDATE audit SET record = ?1", [other.as_bytes()]).expect("is planted");
    });
    assert_eq!(found.await, [AuditProblem::TenantRemoved]);
}

#[tokio::test]
async fn a_mark_without_its_act_is_caught() {
    let scene = Scene::open().await;
    scene.turn_done(SESSION, 0, "hi").await;
    let Scene { dir, store, .. } = scene;
    drop(store);
    assert_eq!(problems(&dir, &[]), []);
    let db = Scene::sql(dir.path());
    db.execute("UPDATE tenants SET suspended_at = 1, erased_at = 1", []).expect("is planted");
    drop(db);
    assert_eq!(problems(&dir, &[]), [AuditProblem::TenantRemoved]);
}

/// A reader of journals that deletes the tenant when it begins the first.
struct Deleting<'a>(&'a tokio::runtime::Runtime, &'a Scene);

impl JournalFold for Deleting<'_> {
    fn begin_run(&mut self) {
        self.0.block_on(async {
            self.1.done(erase()).await;
            while !self.1.store.erase_agent_page(&Scene::scope(), AGENT).await.expect("a page").1 {}
        });
    }

    fn take_entry(&mut self, _: &Entry) {}

    fn run_status(&self) -> Option<RunStatus> {
        None
    }

    fn run_head(&self) -> Option<RunHead> {
        None
    }
}

#[test]
fn a_tenant_deleted_while_it_is_verified_is_no_finding() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let scene = runtime.block_on(async {
        let scene = Scene::open().await;
        scene.turn_done(SESSION, 0, "hi").await;
        scene.turn_done(SESSION, 1, "hi").await;
        scene.done(WriteBatch::new(TENANT).with_mutation(Mutation::TenantSuspensionSet(Some(AT)))).await;
        scene
    });
    let inspector = StoreInspector::new(StoreConfig::new(scene.dir.path()), Duration::from_mins(1));
    let checked = inspector.audit_tenant(TENANT, &[], &mut Deleting(&runtime, &scene)).expect("is checked");
    assert_eq!((checked.findings.as_slice(), checked.acts), (&[][..], 1));
}
