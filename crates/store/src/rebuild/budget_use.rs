//! Sets each damaged count of a budget to the budget's limit. No journal says how much was used, and a budget must not be spent
//! twice, so it counts as used up until its period ends or until a person changes the budget.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::check_value::USED;
use crate::column_codes::read_bytes;

/// Sets damaged counts to the limit of their budget, removes those of no budget, and returns how many there were.
pub(super) fn repair_counts(db: &Connection) -> rusqlite::Result<u64> {
    let mut select = db.prepare(USED.select_sql())?;
    let mut rows = select.query([])?;
    let mut damaged: Vec<([u8; 16], String, String, i64)> = Vec::new();
    while let Some(row) = rows.next()? {
        if USED.check_row(row).is_err() {
            damaged.push((read_bytes(row, 0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        }
    }
    drop(rows);
    for (tenant, subject, budget, begins) in &damaged {
        let limit: Option<i64> = db
            .query_row(
                "SELECT most FROM budgets WHERE tenant = ?1 AND name = ?2",
                params![tenant, budget],
                |row| row.get(0),
            )
            .optional()?;
        match limit {
            Some(limit) => USED.put_row(db, params![tenant, subject, budget, begins, limit])?,
            None => db
                .execute(
                    "DELETE FROM budget_used WHERE tenant = ?1 AND subject = ?2 AND budget = ?3 AND begins = ?4",
                    params![tenant, subject, budget, begins],
                )
                .map(drop)?,
        }
    }
    Ok(damaged.len() as u64)
}
