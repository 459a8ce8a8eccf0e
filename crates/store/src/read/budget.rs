//! Budgets and how they stand. They belong to the tenant, so a view of one agent finds none.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use dromia_contracts::budget::{Budget, BudgetUse};
use dromia_contracts::id::TenantId;

use super::{Found, View};
use crate::code;

/// Reads `name, per, about, measure, period, most, declared`, beginning at the first.
pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Budget> {
    Ok(Budget {
        name: row.get(0)?,
        per: code::coded(row, 1)?,
        of: row.get(2)?,
        measure: code::coded(row, 3)?,
        period: code::coded(row, 4)?,
        limit: code::number(row, 5)?,
        declared: row.get(6)?,
    })
}

/// Reads all budgets of a tenant, by name.
pub(crate) fn all(db: &Connection, tenant: TenantId) -> rusqlite::Result<Vec<Budget>> {
    let mut select = db.prepare_cached(
        "SELECT name, per, about, measure, period, most, declared FROM budgets WHERE tenant = ?1 ORDER BY name",
    )?;
    let budgets = select.query_map([tenant.as_bytes()], read)?;
    budgets.collect()
}

pub(crate) fn list(db: &Connection, view: View, at: Timestamp) -> Found<Vec<BudgetUse>> {
    if view.only.is_some() {
        return Ok(Vec::new());
    }
    let mut select = db.prepare_cached(
        "SELECT subject, used FROM budget_used WHERE tenant = ?1 AND budget = ?2 AND begins = ?3 \
         ORDER BY used DESC, subject LIMIT 1",
    )?;
    let mut list = Vec::new();
    for budget in all(db, view.tenant)? {
        let keys = params![view.tenant.as_bytes(), budget.name, budget.period.begins(at)];
        let most = select.query_row(keys, |row| Ok((row.get(0)?, code::number(row, 1)?))).optional()?;
        let (subject, used) = most.unwrap_or_default();
        list.push(BudgetUse { budget, subject, used });
    }
    Ok(list)
}
