//! The rows of tokens: those of the schema before keep working, and looking for one is a walk of an index.

use dromia_contracts::store::{Mutation, PageRequest, Store as _, TokenRevoke, WriteBatch};
use dromia_contracts::token::{TokenRecord, TokenScopes};
use dromia_contracts::{Digest, ScopeAuthority, TokenId};

use crate::scene::{Scene, TENANT, UNSEALED, at};

/// Takes a directory back to schema 2, with two tokens in it.
fn of_the_second_schema(dir: &std::path::Path) {
    let db = Scene::sql(dir);
    db.execute_batch(UNSEALED).expect("is taken back");
    db.execute_batch(
        "ALTER TABLE entries DROP COLUMN packed;
         DROP TABLE delivery_attempts;
         DROP TABLE deliveries;
         DROP TABLE feeds;
         DROP TABLE subscribers;
         DROP TABLE vault_keys;
         DROP TABLE secrets;
         DROP TABLE budgets;
         DROP TABLE budget_used;
         DROP TABLE budget_open;
         DROP TABLE audit;
         DROP TABLE audit_heads;
         DROP TABLE audit_mark;
         DROP TABLE audit_before;
         DROP TABLE capabilities;
         DROP TABLE file_labels;
         DROP TABLE pin_refs;
         DROP TABLE imports;
         DROP TABLE approvals;
         DROP TABLE approval_rules;
         DROP TABLE tokens;
         CREATE TABLE tokens (
             hash   BLOB NOT NULL PRIMARY KEY,
             tenant BLOB NOT NULL,
             name   TEXT NOT NULL,
             at     INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID;
         PRAGMA user_version = 2;",
    )
    .expect("is taken back");
    for (hash, name, ms) in [([7_u8; 32], "init", 2_000_i64), ([8; 32], "default", 1_000)] {
        db.execute("INSERT INTO tokens VALUES (?1, ?2, ?3, ?4)", (hash, TENANT.as_bytes(), name, ms))
            .expect("is put");
    }
}

#[tokio::test]
async fn a_token_of_the_second_schema_keeps_full_rights() {
    let scene = Scene::open().await.reopen(of_the_second_schema);
    assert!(scene.dir.path().join("backup-schema-2.db").exists(), "data is copied first");
    let operator = ScopeAuthority::claim().issue_operator();
    let found = scene.store.find_token_owner(&operator, Digest::from_bytes([7; 32])).await.expect("a read");
    let found = found.expect("the token works on");
    assert_eq!(found.tenant.id, TENANT);
    let old = TokenRecord {
        id: found.token.id,
        name: "init".to_owned(),
        scopes: TokenScopes::ADMIN,
        created_at: jiff::Timestamp::from_millisecond(2_000).expect("an instant"),
        expires_at: None,
        revoked_at: None,
    };
    assert_eq!(found.token, old);
    assert_eq!(old.id.as_bytes()[6] >> 4, 7, "{} is no UUIDv7", old.id);
    let listed = scene.store.tokens(&Scene::scope(), None, PageRequest::first_page(9)).await.expect("a read");
    let names: Vec<_> = listed.iter().map(|token| token.name.as_str()).collect();
    assert_eq!(names, ["default", "init"], "ids sort by the time of making");

    let scene = scene.reopen(|_| {});
    let again = scene.store.token_by_id(&Scene::scope(), old.id).await;
    assert_eq!(again, Ok(Some(old.clone())), "an id is given once");
    let revoke = TokenRevoke { token: old.id, at: at(5) };
    scene.done(WriteBatch::new(TENANT).with_mutation(Mutation::TokenRevoke(revoke))).await;
    let found = scene.store.token_by_id(&Scene::scope(), old.id).await;
    assert_eq!(found, Ok(Some(TokenRecord { revoked_at: Some(at(5)), ..old })));
}

#[tokio::test]
async fn looking_for_tokens_is_a_walk_of_an_index() {
    let scene = Scene::open().await;
    let db = Scene::sql(scene.dir.path());
    for (sql, index) in [
        ("SELECT name FROM tokens WHERE tenant = ?1 AND token > ?2 ORDER BY token LIMIT ?3", "tokens_id"),
        (
            "SELECT name FROM tokens WHERE tenant = ?1 AND token > ?2 AND name = ?4 ORDER BY token LIMIT ?3",
            "tokens_name (tenant=? AND name=? AND token>?)",
        ),
        (
            "SELECT name FROM tokens WHERE hash = ?1 OR (tenant = ?2 AND token = ?3)",
            "tokens_id (tenant=? AND token=?)",
        ),
    ] {
        let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("is prepared");
        let nulls = vec![rusqlite::types::Null; explain.parameter_count()];
        let plan = explain.query_map(rusqlite::params_from_iter(nulls), |row| row.get(3)).expect("runs");
        let plan: Vec<String> = plan.collect::<Result<_, _>>().expect("is read");
        let plan = plan.join("; ");
        assert!(plan.contains(index) && !plan.contains("SCAN") && !plan.contains("B-TREE"), "{sql}: {plan}");
    }
    assert_eq!(scene.store.token_by_id(&Scene::scope(), TokenId::from_bytes([1; 16])).await, Ok(None));
}
