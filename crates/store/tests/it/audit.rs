//! The chain of seals: what is read off it, and that nothing is taken out of a history or changed in it unnoticed.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use tempfile::TempDir;

use dromia_contracts::agent::AgentState;
use dromia_contracts::audit::{
    AuditChange, AuditCursor, AuditFilter, AuditItem, AuditLog as _, AuditMark, AuditWhat,
};
use dromia_contracts::store::{
    AgentStateSet, Mutation, PageRequest, Store as _, TokenCreate, TokenRevoke, WriteBatch,
};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::{Actor, AgentId, Digest, RunId, Scope, ScopeAuthority, SessionId, TenantId, TokenId};
use dromia_store::{AuditChecked, AuditProblem, SqliteStore, StoreConfig, StoreInspector, TenantCheckpoint};

use crate::rights::Folded;
use crate::scene::{AGENT, SESSION, Scene, TENANT, agent_create, at, session_open};

/// Turns with bodies of every place, and changes by somebody.
async fn history(scene: &Scene) -> Vec<RunId> {
    let mut runs = Vec::new();
    for (after, size) in (0..).zip([5, 3_000, 300_000, 40]) {
        runs.push(scene.turn_done(SESSION, after, vec![b'a'; size]).await);
    }
    let token = TokenId::from_bytes([8; 16]);
    let create = TokenCreate {
        token,
        hash: Digest::from_bytes([8; 32]),
        name: "ci".to_owned(),
        scopes: TokenScopes::ADMIN,
        expires_at: None,
        at: at(5),
    };
    let by = Actor::new("cli:0");
    scene
        .done(WriteBatch::new(TENANT).wanted_by(&by, at(5)).with_mutation(Mutation::TokenCreate(create)))
        .await;
    let revoke = TokenRevoke { token, at: at(6) };
    scene
        .done(WriteBatch::new(TENANT).wanted_by(&by, at(6)).with_mutation(Mutation::TokenRevoke(revoke)))
        .await;
    runs.push(scene.turn_done(SESSION, 4, "last").await);
    runs
}

async fn all(scene: &Scene, scope: &Scope, filter: AuditFilter, by: usize) -> Vec<AuditItem> {
    let (mut items, mut after) = (Vec::new(), AuditCursor::default());
    loop {
        let page = scene.store.audit_items(scope, filter, after, by).await.expect("a page");
        items.extend(page.items);
        after = page.next;
        if page.is_last {
            return items;
        }
    }
}

fn kinds(items: &[AuditItem]) -> Vec<String> {
    let kind = |item: &AuditItem| match &item.what {
        AuditWhat::Act { act, .. } => act.change.kind().to_owned(),
        AuditWhat::Entry { entry, .. } => entry.kind.clone(),
        AuditWhat::Unknown { .. } => "unknown".to_owned(),
    };
    items.iter().map(kind).collect()
}

#[tokio::test]
async fn the_audit_is_read_in_order_from_any_place() {
    let scene = Scene::open().await;
    history(&scene).await;
    let scope = Scene::scope();
    let whole = all(&scene, &scope, AuditFilter::default(), 256).await;
    let turn = ["run_started", "model_called", "model_replied", "run_completed"];
    let mut expected = vec!["tenant_created", "agent_created"];
    expected.extend([turn; 4].concat());
    expected.extend(["token_created", "token_revoked"]);
    expected.extend(turn);
    assert_eq!(kinds(&whole), expected);
    assert!(whole.is_sorted_by_key(|item| item.place), "places grow");
    for by in 1..=5 {
        assert_eq!(all(&scene, &scope, AuditFilter::default(), by).await, whole, "by {by}");
    }
    for (index, item) in whole.iter().enumerate() {
        let page = scene.store.audit_items(&scope, AuditFilter::default(), item.place, 256).await;
        assert_eq!(page.expect("a page").items, whole[index + 1..], "after {}", item.place);
    }
    let AuditWhat::Act { act, .. } = &whole[18].what else { panic!("a token was made there") };
    assert_eq!(act.by.as_ref().map(Actor::as_str), Some("cli:0"));
}

#[tokio::test]
async fn a_repeated_batch_seals_nothing_and_a_stranger_sees_nothing() {
    let scene = Scene::open().await;
    let (run, begin, end) = scene.turn(SESSION, 0, "hi");
    for _ in 0..2 {
        scene.done(begin.clone()).await;
        scene.done(end.clone()).await;
        scene.done(crate::scene::world()).await;
    }
    let bob = AgentId::from_bytes([0x20; 16]);
    scene.done(WriteBatch::new(TENANT).with_mutation(agent_create(bob, "bob"))).await;
    let whole = all(&scene, &Scene::scope(), AuditFilter::default(), 256).await;
    assert_eq!(whole.len(), 2 + 4 + 1, "{:?}", kinds(&whole));

    let of = |agent, run| AuditFilter { agent, run, since: None };
    assert_eq!(kinds(&all(&scene, &Scene::scope(), of(Some(bob), None), 256).await), ["agent_created"]);
    assert_eq!(all(&scene, &Scene::scope(), of(None, Some(run)), 256).await.len(), 4);
    let since = AuditFilter { since: Some(at(1)), ..AuditFilter::default() };
    assert_eq!(all(&scene, &Scene::scope(), since, 256).await.len(), 4, "what came before is skipped");

    let narrowed = Scene::scope().narrowed_to(AGENT);
    assert_eq!(all(&scene, &narrowed, AuditFilter::default(), 256).await.len(), 4, "only what it did");
    assert!(all(&scene, &Scene::scope().narrowed_to(bob), AuditFilter::default(), 256).await.is_empty());
    let stranger =
        ScopeAuthority::claim().issue_scope(TenantId::from_bytes([0xaa; 16]), Actor::new("test:stranger"));
    for filter in [AuditFilter::default(), of(Some(AGENT), None), of(None, Some(run))] {
        assert!(all(&scene, &stranger, filter, 256).await.is_empty());
    }
    assert_eq!(scene.store.audit_end(&stranger).await.expect("an end").seal, 1);
}

#[tokio::test]
async fn a_configuration_is_sealed_once_and_a_mark_only_grows() {
    let scene = Scene::open().await;
    let operator = ScopeAuthority::claim().issue_operator();
    let config = |byte: u8| Digest::from_bytes([byte; 32]);
    for (byte, time) in [(1, 10), (1, 11), (2, 12), (1, 13)] {
        scene.store.audit_config(&operator, TENANT, config(byte), at(time)).await.expect("is noted");
    }
    let nobody = TenantId::from_bytes([0xaa; 16]);
    scene.store.audit_config(&operator, nobody, config(1), at(14)).await.expect("there is nothing to note");
    let applied: Vec<_> = all(&scene, &Scene::scope(), AuditFilter::default(), 256)
        .await
        .into_iter()
        .filter_map(|item| match item.what {
            AuditWhat::Act { act, .. } => match act.change {
                AuditChange::ConfigApplied { config } => Some((item.at, config)),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(applied, [(at(10), config(1)), (at(12), config(2)), (at(13), config(1))]);

    assert_eq!(scene.store.audit_mark(&operator).await.expect("is read"), None);
    let mark = |number| AuditMark { number, digest: config(9) };
    for number in [1, 3, 2] {
        scene.store.audit_marked(&operator, mark(number)).await.expect("is remembered");
    }
    let scene = scene.reopen(|_| {});
    assert_eq!(scene.store.audit_mark(&operator).await.expect("is read"), Some(mark(3)));
    scene.turn_done(SESSION, 0, "the chain goes on").await;
    assert_eq!(check(scene.dir.path(), &[]).findings, []);
}

#[tokio::test]
async fn an_export_is_sealed_under_its_actor() {
    let scene = Scene::open().await;
    let of = |tenant| ScopeAuthority::claim().issue_scope(tenant, Actor::new("token:ci"));
    scene.store.audit_exported(&of(TENANT), SESSION, at(7)).await.expect("is noted");
    let nobody = TenantId::from_bytes([0xaa; 16]);
    scene.store.audit_exported(&of(nobody), SESSION, at(8)).await.expect("there is nothing to note");
    let whole = all(&scene, &Scene::scope(), AuditFilter::default(), 256).await;
    assert_eq!(kinds(&whole), ["tenant_created", "agent_created", "session_exported"]);
    let AuditWhat::Act { act, .. } = &whole[2].what else { panic!("an act was sealed") };
    assert_eq!((whole[2].at, act.by.as_ref().map(Actor::as_str)), (at(7), Some("token:ci")));
    assert_eq!(act.change, AuditChange::SessionExported { session: SESSION });
    assert_eq!(check(scene.dir.path(), &[]).findings, []);
}

pub(crate) fn check(dir: &Path, checkpoints: &[TenantCheckpoint]) -> AuditChecked {
    let inspector = StoreInspector::new(StoreConfig::new(dir), Duration::from_mins(1));
    inspector.audit_tenant(TENANT, checkpoints, &mut Folded::default()).expect("is checked")
}

/// A closed store with a history, its runs, and the checkpoint that was made at its end.
struct Kept {
    dir: TempDir,
    runs: Vec<RunId>,
    checkpoint: TenantCheckpoint,
}

fn kept() -> &'static Kept {
    static KEPT: OnceLock<Kept> = OnceLock::new();
    KEPT.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let scene = Scene::open().await;
            let runs = history(&scene).await;
            let heads = scene
                .store
                .audit_heads(&ScopeAuthority::claim().issue_operator(), PageRequest::first_page(9))
                .await;
            let head = heads.expect("is read")[0];
            let checkpoint = TenantCheckpoint { checkpoint: 1, seal: head.seal, chain: head.chain };
            let Scene { dir, store, .. } = scene;
            drop(store);
            Kept { dir, runs, checkpoint }
        })
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("is made");
    for entry in fs::read_dir(from).expect("is listed") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("is copied");
        }
    }
}

/// Does something to a copy of the kept store and checks it.
fn after(change: impl FnOnce(&Connection)) -> (AuditChecked, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    copy(kept().dir.path(), dir.path());
    let db = Scene::sql(dir.path());
    change(&db);
    drop(db);
    (check(dir.path(), &[kept().checkpoint]), dir)
}

#[test]
fn an_unedited_history_is_sound() {
    let (checked, _) = after(|_| {});
    assert_eq!(checked.findings, []);
    assert_eq!((checked.runs, checked.entries, checked.seals, checked.acts), (5, 20, 14, 4));
}

#[test]
fn any_row_that_is_removed_is_missed_where_it_was() {
    for run in &kept().runs {
        for seq in 1..=4_u64 {
            let (checked, _) = after(|db| {
                let sql = "DELETE FROM entries WHERE run = ?1 AND seq = ?2";
                assert_eq!(db.execute(sql, (run.as_bytes(), seq.cast_signed())).expect("is removed"), 1);
            });
            let found = checked.findings.iter().any(|finding| {
                (finding.run, finding.seq) == (Some(*run), Some(seq))
                    && finding.session == Some(SESSION)
                    && finding.problem == AuditProblem::EntryRemoved
            });
            assert!(found, "entry {seq} of {run}: {:?}", checked.findings);
        }
        let (checked, _) = after(|db| {
            for table in ["runs", "entries"] {
                db.execute(&format!("DELETE FROM {table} WHERE run = ?1"), [run.as_bytes()])
                    .expect("is removed");
            }
        });
        let found = checked.findings.iter().any(|finding| {
            (finding.run, finding.session, finding.problem)
                == (Some(*run), Some(SESSION), AuditProblem::EntryRemoved)
        });
        assert!(found, "{run} is gone: {:?}", checked.findings);
    }
    for seal in 1..=kept().checkpoint.seal {
        let (checked, _) = after(|db| {
            let sql = "DELETE FROM audit WHERE number = ?1";
            assert_eq!(db.execute(sql, [seal.cast_signed()]).expect("is removed"), 1);
        });
        assert!(checked.findings.iter().any(|finding| finding.seal == Some(seal)), "seal {seal}");
    }
}

#[test]
fn an_item_taken_by_a_run_is_missed_or_differs() {
    for position in 1..=5_i64 {
        for (sql, problem) in [
            ("DELETE FROM inbox WHERE position = ?1", AuditProblem::RowRemoved),
            ("UPDATE inbox SET item = zeroblob(16) WHERE position = ?1", AuditProblem::RowChanged),
        ] {
            let (checked, _) = after(|db| assert_eq!(db.execute(sql, [position]).expect("is done"), 1));
            let row = format!("item {position} of the inbox of {SESSION}");
            let found = checked.findings.iter().any(|finding| {
                finding.problem == problem
                    && finding.row.as_ref() == Some(&row)
                    && finding.detail.as_ref().is_some_and(|detail| detail.contains(" took "))
            });
            assert!(found, "{sql} {position}: {:?}", checked.findings);
        }
    }
}

#[test]
fn a_cut_audit_tail_is_missed_with_and_without_checkpoint() {
    let last = kept().checkpoint.seal;
    for first in 1..=last {
        let (checked, dir) = after(|db| {
            db.execute("DELETE FROM audit WHERE number >= ?1", [first.cast_signed()]).expect("is cut");
        });
        let truncated = |checked: &AuditChecked| {
            checked.findings.iter().any(|finding| finding.problem == AuditProblem::SealsTruncated)
        };
        assert!(truncated(&checked), "from {first}: {:?}", checked.findings);
        let alone = check(dir.path(), &[]);
        assert!(!alone.findings.is_empty(), "from {first}, without a checkpoint");
    }
    // With all that they sealed, and all that knows of it: only the checkpoint is left to tell.
    let run = kept().runs[4];
    let (checked, dir) = after(|db| {
        for sql in [
            "DELETE FROM runs WHERE run = ?1",
            "DELETE FROM entries WHERE run = ?1",
            "UPDATE inbox SET taken_by = NULL WHERE taken_by = ?1",
        ] {
            db.execute(sql, [run.as_bytes()]).expect("is removed");
        }
        db.execute_batch("UPDATE session_heads SET taken = 4").expect("is set back");
        db.execute("DELETE FROM audit WHERE number > ?1", [(last - 2).cast_signed()]).expect("is cut");
    });
    assert_eq!(check(dir.path(), &[]).findings, [], "nothing inside knows of it any more");
    assert_eq!(checked.findings.len(), 1, "{:?}", checked.findings);
    assert_eq!(
        (checked.findings[0].problem, checked.findings[0].seal),
        (AuditProblem::SealsTruncated, Some(last - 1))
    );
}

#[test]
fn a_rewritten_history_contradicts_its_checkpoint() {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let scene = Scene::open().await;
        for after in 0..5 {
            scene.turn_done(SESSION, after, "something else").await;
        }
        let Scene { dir: made, store, .. } = scene;
        drop(store);
        copy(made.path(), dir.path());
    });
    assert_eq!(check(dir.path(), &[]).findings, []);
    let said = TenantCheckpoint { seal: 10, ..kept().checkpoint };
    let checked = check(dir.path(), &[said]);
    assert_eq!(checked.findings.len(), 1);
    assert_eq!(checked.findings[0].problem, AuditProblem::Rewritten);
}

#[tokio::test]
async fn lawful_erasure_is_distinguished_from_removal() {
    let scene = Scene::open().await;
    let (bob, bobs) = (AgentId::from_bytes([0x20; 16]), SessionId::from_bytes([0x30; 16]));
    scene
        .done(
            WriteBatch::new(TENANT)
                .with_mutation(agent_create(bob, "bob"))
                .with_mutation(session_open(bobs, bob, "b")),
        )
        .await;
    scene.turn_done(SESSION, 0, "hi").await;
    let set = |to| AgentStateSet { agent: AGENT, from: vec![AgentState::Running], to };
    scene
        .done(WriteBatch::new(TENANT).with_mutation(Mutation::AgentStateSet(set(AgentState::Deleting))))
        .await;
    while !scene.store.erase_agent_page(&Scene::scope(), AGENT).await.expect("is erased").1 {}
    let kinds = kinds(&all(&scene, &Scene::scope(), AuditFilter::default(), 256).await);
    assert_eq!(kinds, ["tenant_created", "agent_created", "agent_created", "agent_state_set"]);
    let checked = check(scene.dir.path(), &[]);
    assert_eq!((checked.findings.as_slice(), checked.erased, checked.runs), (&[][..], 2, 0));
}

#[test]
fn journals_with_removed_seals_after_the_last_checkpoint_are_found() {
    let dir = tempfile::tempdir().expect("a directory");
    copy(kept().dir.path(), dir.path());
    let db = Scene::sql(dir.path());
    // An author who writes to the database itself leaves what was signed at first.
    db.execute_batch(
        "DELETE FROM audit WHERE number > 2; UPDATE audit_heads SET number = 2; DELETE FROM tokens;",
    )
    .expect("is forged");
    let chain = db.query_row("SELECT chain FROM audit WHERE number = 2", [], |row| row.get(0));
    let signed =
        TenantCheckpoint { checkpoint: 1, seal: 2, chain: Digest::from_bytes(chain.expect("is there")) };
    drop(db);
    let checked = check(dir.path(), &[signed]);
    let found: Vec<_> = checked.findings.iter().map(|one| (one.run, one.seq, one.problem)).collect();
    let mut forged: Vec<_> =
        kept().runs.iter().map(|run| (Some(*run), Some(1), AuditProblem::Unsealed)).collect();
    forged.sort_by_key(|(run, ..)| run.map(|run| *run.as_bytes()));
    assert_eq!(found, forged);
}

/// The rows of a table, by its key, with the names of its columns.
fn rows(db: &Connection, table: &str) -> (Vec<String>, Vec<Vec<Value>>) {
    let mut select = db.prepare(&format!("SELECT * FROM {table}")).expect("is prepared");
    let names: Vec<String> = select.column_names().map(str::to_owned).collect();
    let count = names.len();
    let rows = select
        .query_map([], |row| (0..count).map(|column| row.get(column)).collect())
        .expect("runs")
        .collect::<Result<_, _>>()
        .expect("is read");
    (names, rows)
}

/// Changes one bit of a value; nothing where there is none.
fn flipped(value: &Value, bit: usize) -> Option<(Value, bool)> {
    let flip = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let at = bit % (bytes.len().max(1) * 8);
        *bytes.get_mut(at / 8)? ^= 1 << (at % 8);
        Some(Value::Blob(bytes))
    };
    match value {
        Value::Integer(number) => Some((Value::Integer(number ^ (1 << (bit % 64))), false)),
        Value::Blob(bytes) => flip(bytes).map(|value| (value, false)),
        Value::Text(text) => flip(text.as_bytes()).map(|value| (value, true)),
        Value::Null | Value::Real(_) => None,
    }
}

/// Everything that the store says of its journals; nothing where it refuses to.
fn told(dir: &Path) -> Option<Vec<String>> {
    let store = SqliteStore::open(StoreConfig::new(dir)).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut told = Vec::new();
        for run in &kept().runs {
            told.push(format!("{:?}", store.journal_entries(&Scene::scope(), *run, 0, 256).await.ok()?));
        }
        Some(told)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bit_that_changes_in_a_row_is_found(
        (table, row, column, bit) in (0..2_usize, any::<usize>(), any::<usize>(), any::<usize>())
    ) {
        let table = ["entries", "audit"][table];
        let mut was_changed = false;
        let (checked, dir) = after(|db| {
            let (names, rows) = rows(db, table);
            let values = &rows[row % rows.len()];
            let at = column % names.len();
            let Some((value, is_text)) = flipped(&values[at], bit) else { return };
            let keys: &[&str] = if table == "audit" { &["tenant", "number"] } else { &["tenant", "run", "seq"] };
            let of_key = |name: &&str| values[names.iter().position(|known| known == name).expect("a column")].clone();
            let place = if is_text { "CAST(?1 AS TEXT)" } else { "?1" };
            let wanted: Vec<_> = (2..).zip(keys).map(|(n, key)| format!("{key} = ?{n}")).collect();
            let sql = format!("UPDATE {table} SET {} = {place} WHERE {}", names[at], wanted.join(" AND "));
            let parameters = std::iter::once(value).chain(keys.iter().map(of_key));
            // A key that is taken by another row cannot be written at all.
            was_changed = db.execute(&sql, params_from_iter(parameters)).is_ok_and(|rows| rows == 1);
        });
        if was_changed && checked.findings.is_empty() {
            // The packed form of fields has several spellings of one text: what was said and done is the same.
            prop_assert_eq!(table, "entries");
            prop_assert_eq!(told(dir.path()), told_before());
        }
    }
}

fn told_before() -> Option<Vec<String>> {
    let dir = tempfile::tempdir().expect("a directory");
    copy(kept().dir.path(), dir.path());
    told(dir.path())
}
