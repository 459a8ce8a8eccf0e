//! The rows of tokens: looking for one is a walk of an index.

use dromia_contracts::TokenId;
use dromia_contracts::store::Store as _;

use crate::scene::Scene;

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
