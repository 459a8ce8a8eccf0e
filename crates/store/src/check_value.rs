//! Rows that carry eight bytes over all their other columns, so that a read detects a damaged one.
//!
//! No journal repeats these rows, and they are believed as they are: custom state, keys of inputs, attempts of
//! deliveries, and what was used of budgets. The bytes guard against a disk, not against an author: they have no key.

use rusqlite::types::{ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, Row, ToSql, params_from_iter};

use crate::column_codes::{read_bytes, unreadable_column};

/// What is said of a row whose seal is another one.
pub(crate) const MISMATCH: &str = "the row does not match its check value";

/// A table whose last column, `seal`, covers the columns before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SealedTable {
    pub(crate) name: &'static str,
    /// The columns that the seal covers, in order.
    columns: &'static str,
    /// How many of them are the primary key; they are the first.
    pub(crate) keys: usize,
    insert: &'static str,
    select: &'static str,
}

/// Names a table, how many columns its key has, its columns, and their places in a statement with that of the seal.
macro_rules! sealed_table {
    ($name:literal, $keys:literal, $columns:literal, $places:literal) => {
        SealedTable {
            name: $name,
            columns: $columns,
            keys: $keys,
            insert: concat!(
                "INSERT OR REPLACE INTO ",
                $name,
                " (",
                $columns,
                ", seal) VALUES (",
                $places,
                ")"
            ),
            select: concat!("SELECT ", $columns, ", seal FROM ", $name),
        }
    };
}

/// Custom state of sessions.
pub(crate) const STATE: SealedTable = sealed_table!(
    "state",
    3,
    "tenant, session, name, version, value, at, write",
    "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8"
);
/// Keys of inputs.
pub(crate) const KEYS: SealedTable = sealed_table!(
    "keys",
    2,
    "tenant, key, item, owner, run, position, request, expires_at",
    "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9"
);
/// Attempts of deliveries.
pub(crate) const ATTEMPTS: SealedTable = sealed_table!(
    "delivery_attempts",
    3,
    "tenant, delivery, number, holder, began_at, ended_at, outcome, status, detail, receiver_id",
    "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11"
);
/// What was used of budgets.
pub(crate) const USED: SealedTable =
    sealed_table!("budget_used", 4, "tenant, subject, budget, begins, used", "?1, ?2, ?3, ?4, ?5, ?6");

/// All of them.
pub(crate) const TABLES: [SealedTable; 4] = [STATE, KEYS, ATTEMPTS, USED];

impl SealedTable {
    /// Writes a row, in the place of one of the same primary key. The values are those of the columns.
    pub(crate) fn put_row(&self, db: &Connection, values: &[&dyn ToSql]) -> rusqlite::Result<()> {
        let seal = of_values(values)?;
        let seal: [&dyn ToSql; 1] = [&seal];
        db.prepare_cached(self.insert)?.execute(params_from_iter(values.iter().chain(&seal))).map(drop)
    }

    /// A query of whole rows, whose condition follows.
    pub(crate) fn select_sql(&self) -> &'static str {
        self.select
    }

    /// Checks a row that begins with all columns of [`SealedTable::select_sql`].
    pub(crate) fn check_row(&self, row: &Row<'_>) -> rusqlite::Result<()> {
        let columns = self.column_count();
        if of_row(row, columns)? == read_bytes::<8>(row, columns)? {
            return Ok(());
        }
        Err(unreadable_column(columns, Type::Blob, MISMATCH.to_owned()))
    }

    /// How many columns the seal covers.
    pub(crate) fn column_count(&self) -> usize {
        self.columns.split(", ").count()
    }
}

/// Seals a row that begins with so many columns.
pub(crate) fn of_row(row: &Row<'_>, columns: usize) -> rusqlite::Result<[u8; 8]> {
    let mut seal = SealHasher::default();
    for column in 0..columns {
        seal.add_value(row.get_ref(column)?);
    }
    Ok(seal.finish())
}

fn of_values(values: &[&dyn ToSql]) -> rusqlite::Result<[u8; 8]> {
    let mut seal = SealHasher::default();
    for value in values {
        match value.to_sql()? {
            ToSqlOutput::Borrowed(value) => seal.add_value(value),
            ToSqlOutput::Owned(value) => seal.add_value(ValueRef::from(&value)),
            other => {
                let text = format!("{other:?} is no value of a column");
                return Err(rusqlite::Error::ToSqlConversionFailure(text.into()));
            }
        }
    }
    Ok(seal.finish())
}

#[derive(Default)]
struct SealHasher(blake3::Hasher);

impl SealHasher {
    /// Takes a value with its type and its length, so that no two rows give the same bytes.
    fn add_value(&mut self, value: ValueRef<'_>) {
        let (kind, bytes) = match &value {
            ValueRef::Null => (0_u8, &[][..]),
            ValueRef::Integer(number) => {
                self.0.update(&[1]);
                self.0.update(&number.to_le_bytes());
                return;
            }
            ValueRef::Real(number) => {
                self.0.update(&[2]);
                self.0.update(&number.to_le_bytes());
                return;
            }
            ValueRef::Text(bytes) => (3, *bytes),
            ValueRef::Blob(bytes) => (4, *bytes),
        };
        self.0.update(&[kind]);
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(self) -> [u8; 8] {
        let mut seal = [0; 8];
        self.0.finalize_xof().fill(&mut seal);
        seal
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::params;

    use super::*;

    #[test]
    fn a_sealed_row_shows_every_change() {
        let db = Connection::open_in_memory().expect("opens");
        db.execute_batch(
            "CREATE TABLE t (a BLOB, b ANY, c TEXT, d INTEGER, seal BLOB, PRIMARY KEY (a)) STRICT",
        )
        .expect("is made");
        let table = sealed_table!("t", 1, "a, b, c, d", "?1, ?2, ?3, ?4, ?5");
        let sealed = || {
            db.query_row(table.select_sql(), [], |row| table.check_row(row))
                .map_err(|error| error.to_string())
        };
        table.put_row(&db, params![[1_u8; 16], "key", "text", None::<i64>]).expect("is written");
        assert_eq!(sealed(), Ok(()));
        for change in [
            "a = x'02'",
            "b = x'6b6579'",
            "c = 'texu'",
            "d = 0",
            "b = 'keyt', c = 'ext'",
            "seal = x'0102030405060708'",
        ] {
            db.execute_batch("BEGIN").expect("begins");
            db.execute(&format!("UPDATE t SET {change}"), []).expect("is changed");
            assert!(sealed().is_err_and(|told| told.contains(MISMATCH)), "{change}");
            db.execute_batch("ROLLBACK").expect("is taken back");
        }
    }
}
