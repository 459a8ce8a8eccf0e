//! Budgets and their use. They belong to the tenant, so a view of one agent finds none.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row};

use dromia_contracts::budget::{BudgetDefinition, BudgetUse};
use dromia_contracts::id::TenantId;

use super::{Found, ScopeView};
use crate::check_value;
use crate::column_codes;

/// Reads `name, per, about, measure, period, most, declared`, beginning at the first.
pub(crate) fn read_budget(row: &Row<'_>) -> rusqlite::Result<BudgetDefinition> {
    Ok(BudgetDefinition {
        name: row.get(0)?,
        per: column_codes::read_enum(row, 1)?,
        of: row.get(2)?,
        measure: column_codes::read_enum(row, 3)?,
        period: column_codes::read_enum(row, 4)?,
        limit: column_codes::read_counter(row, 5)?,
        declared: row.get(6)?,
    })
}

/// Reads all budgets of a tenant, by name.
pub(crate) fn all_budgets(db: &Connection, tenant: TenantId) -> rusqlite::Result<Vec<BudgetDefinition>> {
    let mut select = db.prepare_cached(
        "SELECT name, per, about, measure, period, most, declared FROM budgets WHERE tenant = ?1 ORDER BY name",
    )?;
    let budgets = select.query_map([tenant.as_bytes()], read_budget)?;
    budgets.collect()
}

pub(crate) fn list_budgets(db: &Connection, view: ScopeView, at: Timestamp) -> Found<Vec<BudgetUse>> {
    if view.only.is_some() {
        return Ok(Vec::new());
    }
    // Later periods are those of a clock that went back; almost always there is none.
    let most_of = |begins: &str| {
        let select = check_value::USED.select_sql();
        let order = "ORDER BY used DESC, subject LIMIT 1";
        db.prepare_cached(&format!(
            "{select} WHERE tenant = ?1 AND budget = ?2 AND begins {begins} ?3 {order}"
        ))
    };
    let (mut present, mut later) = (most_of("=")?, most_of(">")?);
    let mut list = Vec::new();
    for budget in all_budgets(db, view.tenant)? {
        let keys = (view.tenant.as_bytes(), &budget.name, budget.period.period_start(at));
        let mut most: Option<(String, u64)> = None;
        for select in [&mut present, &mut later] {
            let read = |row: &Row<'_>| {
                check_value::USED.check_row(row)?;
                Ok((row.get(1)?, column_codes::read_counter(row, 4)?))
            };
            let found: Option<(String, u64)> = select.query_row(keys, read).optional()?;
            most =
                [most, found].into_iter().flatten().max_by(|(one, a), (other, b)| (a, other).cmp(&(b, one)));
        }
        let (subject, used) = most.unwrap_or_default();
        list.push(BudgetUse { budget, subject, used });
    }
    Ok(list)
}
