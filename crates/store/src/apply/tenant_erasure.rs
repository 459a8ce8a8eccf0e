//! Erasing a tenant, a page of rows at a time.
//!
//! The mark is one commit with the act. It sets the tenant's agents to `deleting`, as every page does with those that are
//! left, and they are erased like any other agent; their homes and the files of their bodies go with them. Only when no
//! agent is left does a page take other rows. The tenant's own row goes last, because it holds the mark by which a restart
//! finds the erasure again. So a crash between two pages loses nothing, and any page may be repeated.
//!
//! The act stays, and what was sealed in its commit: by its chain, which checkpoints sign, an erasure is told from a removal.

use jiff::Timestamp;
use rusqlite::params;

use dromia_contracts::agent::AgentState;
use dromia_contracts::store::WriteBatch;

use super::TenantDb;
use crate::column_codes::StoredEnum as _;

/// The tables of a tenant with what identifies a row, but for `tenants`, `agents` and the audit.
const TABLES: &[(&str, &str)] = &[
    ("tokens", "tenant, token"),
    ("answers", "tenant, key"),
    ("delivery_attempts", "tenant, delivery, number"),
    ("deliveries", "tenant, delivery"),
    ("feeds", "tenant"),
    ("subscribers", "tenant, name"),
    ("approvals", "tenant, approval"),
    ("approval_rules", "tenant, name"),
    ("capabilities", "tenant, capability"),
    ("file_labels", "tenant, agent, path"),
    ("budget_open", "tenant, run, budget"),
    ("budget_used", "tenant, subject, budget, begins"),
    ("budgets", "tenant, name"),
    ("secrets", "tenant, name"),
    ("vault_keys", "tenant"),
    ("state", "tenant, session, name"),
    ("hidden_sessions", "tenant, session"),
    ("session_holds", "tenant, session"),
    ("keys", "tenant, key"),
    ("inbox", "tenant, owner, position"),
    ("entries", "tenant, run, seq"),
    ("claims", "tenant, run, epoch"),
    ("run_checkpoints", "tenant, run"),
    ("runs", "tenant, run"),
    ("body_refs", "tenant, hash, owner, inbox, seq"),
    ("bodies", "tenant, hash"),
    ("pin_refs", "tenant, digest, agent"),
    ("pins", "tenant, digest"),
    ("session_heads", "tenant, session"),
    ("sessions", "tenant, agent, session"),
    ("revisions", "tenant, agent, number"),
];

/// Marks the tenant as being erased, and a page of its agents.
pub(super) fn mark_tenant(db: TenantDb<'_>, at: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE tenants SET erased_at = ?2 WHERE tenant = ?1")?
        .execute(params![db.tenant.as_bytes(), at.as_millisecond()])?;
    mark_agents(db, WriteBatch::ROWS_MAX - 1)?;
    Ok(())
}

/// Erases a page of a marked tenant.
pub(super) fn erase_page(db: TenantDb<'_>) -> rusqlite::Result<()> {
    let mut left = WriteBatch::ROWS_MAX - mark_agents(db, WriteBatch::ROWS_MAX)?;
    let tenant = db.tenant.as_bytes();
    let mut agents = db.prepare_cached("SELECT 1 FROM agents WHERE tenant = ?1 LIMIT 1")?;
    if agents.exists([tenant])? {
        return Ok(());
    }
    for (table, key) in TABLES {
        left -= db
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE tenant = ?1 LIMIT ?2)"
            ))?
            .execute(params![tenant, row_limit(left)])?;
        if left == 0 {
            return Ok(());
        }
    }
    left -= db
        .prepare_cached(
            "DELETE FROM audit WHERE (tenant, number) IN (SELECT tenant, number FROM audit WHERE tenant = ?1 \
             AND number < (SELECT max(number) FROM audit WHERE tenant = ?1 AND kind = 1) LIMIT ?2)",
        )?
        .execute(params![tenant, row_limit(left)])?;
    if left > 0 {
        db.prepare_cached("DELETE FROM tenants WHERE tenant = ?1")?.execute([tenant])?;
    }
    Ok(())
}

/// Sets agents of the tenant to `deleting`, at most so many. Returns how many.
fn mark_agents(db: TenantDb<'_>, most: usize) -> rusqlite::Result<usize> {
    db.prepare_cached(
        "UPDATE agents SET state = ?2 WHERE (tenant, agent) IN \
         (SELECT tenant, agent FROM agents WHERE tenant = ?1 AND state <> ?2 LIMIT ?3)",
    )?
    .execute(params![db.tenant.as_bytes(), AgentState::Deleting.stored_code(), row_limit(most)])
}

fn row_limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rusqlite::Connection;

    use super::*;

    #[test]
    fn every_table_of_a_tenant_is_erased() {
        let db = Connection::open_in_memory().expect("opened");
        db.execute_batch(include_str!("../schema/0001_first.sql")).expect("made");
        let mut select = db
            .prepare(
                "SELECT t.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c ON c.name = 'tenant' \
                 WHERE t.type = 'table'",
            )
            .expect("is prepared");
        let of_tenants = select.query_map([], |row| row.get(0)).expect("is read");
        let of_tenants: BTreeSet<String> = of_tenants.collect::<Result<_, _>>().expect("is read");
        // The first two have steps of their own; what the audit keeps is said above.
        let apart = ["tenants", "agents", "audit", "audit_heads"];
        let listed = TABLES.iter().map(|(table, _)| *table).chain(apart);
        assert_eq!(of_tenants, listed.map(str::to_owned).collect(), "say what an erasure takes");
    }
}
