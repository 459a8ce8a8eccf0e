//! Fills the check values of rows that were there before rows had them: each is believed as it is.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::check_value::{self, SealedTable};

/// How many rows are read at a time.
const ROWS: usize = 256;

/// Seals every row of the tables that carry a seal.
pub(super) fn fill_seals(db: &Connection) -> rusqlite::Result<()> {
    check_value::TABLES.iter().try_for_each(|table| while_some(|| seal_page(db, *table)))
}

fn while_some(mut page: impl FnMut() -> rusqlite::Result<usize>) -> rusqlite::Result<()> {
    while page()? > 0 {}
    Ok(())
}

/// Seals some rows that have no seal, and returns how many.
fn seal_page(db: &Connection, table: SealedTable) -> rusqlite::Result<usize> {
    let SealedTable { name, columns, keys, .. } = table;
    let mut select = db.prepare_cached(&format!("{} WHERE seal IS NULL LIMIT {ROWS}", table.select_sql()))?;
    let found = select.query_map([], |row| {
        let key = (0..keys).map(|column| row.get::<_, Value>(column)).collect::<Result<Vec<_>, _>>()?;
        Ok((key, check_value::of_row(row, table.column_count())?))
    })?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let of_key = columns.split(", ").take(keys).enumerate();
    let of_key = of_key.map(|(place, column)| format!("{column} = ?{}", place + 1)).collect::<Vec<_>>();
    let sql = format!("UPDATE {name} SET seal = ?{} WHERE {}", keys + 1, of_key.join(" AND "));
    let mut update = db.prepare_cached(&sql)?;
    for (key, seal) in &found {
        let seal = Value::Blob(seal.to_vec());
        update.execute(params_from_iter(key.iter().chain([&seal])))?;
    }
    Ok(found.len())
}
