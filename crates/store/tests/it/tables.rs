//! Every table of the schema: each belongs to tenants, down to its keys, or is on a short list with its reason.

use std::path::Path;

use dromia_store::{SqliteStore, StoreConfig};
use dromia_testkit::conformance::random::tenant_id;
use rusqlite::Connection;

/// Tables that belong to no tenant, each with its reason.
const OF_THE_NODE: [(&str, &str); 1] = [(
    "audit_mark",
    "a signed checkpoint names the heads of all tenants; it is one line of a file of the node",
)];

/// Unique keys that do not begin with the tenant, each with its reason.
const KEYS_OF_THE_NODE: [(&str, &str, &str); 3] = [
    ("tenants", "handle", "it names a tenant, so it is unique on the node; only the operator makes tenants"),
    (
        "tokens",
        "hash",
        "who has the token is not known before it is looked up; nobody has another's by chance",
    ),
    ("audit_mark", "one", "there is one mark"),
];

/// Opens the database of a store beside it.
fn open(dir: &Path) -> Connection {
    Connection::open(dir.join("dromia.db")).expect("the database opens")
}

fn texts(db: &Connection, sql: &str, of: &str) -> Vec<String> {
    let mut statement = db.prepare(sql).expect("a statement");
    let rows = statement.query_map((of,), |row| row.get::<_, String>(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("each row is a text")
}

fn tables(db: &Connection) -> Vec<String> {
    texts(
        db,
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
         AND ?1 = '' ORDER BY name",
        "",
    )
}

fn columns(db: &Connection, table: &str) -> Vec<String> {
    texts(db, "SELECT name FROM pragma_table_info(?1) WHERE \"notnull\" = 1 ORDER BY cid", table)
}

/// The first column of each unique key of a table, the primary key included.
fn keys(db: &Connection, table: &str) -> Vec<String> {
    let first = "SELECT info.name FROM pragma_index_list(?1) AS list, pragma_index_info(list.name) AS info
                 WHERE list.\"unique\" = 1 AND info.seqno = 0 ORDER BY list.seq";
    let mut keys = texts(db, first, table);
    // A primary key of one integer has no index of its own.
    keys.extend(texts(db, "SELECT name FROM pragma_table_info(?1) WHERE pk = 1", table));
    keys.sort();
    keys.dedup();
    keys
}

fn of_the_node(table: &str) -> bool {
    OF_THE_NODE.iter().any(|(known, _)| *known == table)
}

fn fresh() -> (tempfile::TempDir, Connection) {
    let dir = tempfile::tempdir().expect("a directory");
    drop(SqliteStore::open(StoreConfig::new(dir.path())).expect("the store opens"));
    let db = open(dir.path());
    (dir, db)
}

/// Lists the tables that hold rows of tenants.
pub(crate) fn of_tenants() -> Vec<String> {
    let (_dir, db) = fresh();
    tables(&db).into_iter().filter(|table| !of_the_node(table)).collect()
}

/// Lists the tables of a store that hold rows of both tenants of a world.
pub(crate) fn of_both_tenants(dir: &Path) -> Vec<String> {
    let db = open(dir);
    let tables = tables(&db).into_iter().filter(|table| !of_the_node(table));
    let holds = |table: &str, tenant: u8| {
        let sql = format!("SELECT count(*) FROM (SELECT 1 FROM \"{table}\" WHERE tenant = ?1 LIMIT 1)");
        let count: i64 =
            db.query_row(&sql, (tenant_id(tenant).as_bytes(),), |row| row.get(0)).expect("a number");
        count > 0
    };
    tables.filter(|table| holds(table, 0) && holds(table, 1)).collect()
}

/// Says which tables and keys belong to no tenant and are on no list, and which entries of the lists are no tables.
fn strays(db: &Connection) -> Vec<String> {
    let tables = tables(db);
    let mut strays = Vec::new();
    for table in &tables {
        let has_tenant = columns(db, table).iter().any(|column| column == "tenant");
        if has_tenant == of_the_node(table) {
            strays.push(format!("{table} has a column `tenant`: {has_tenant}"));
        }
        for key in keys(db, table) {
            let is_listed =
                KEYS_OF_THE_NODE.iter().any(|(of, first, _)| (*of, *first) == (table.as_str(), key.as_str()));
            if (key == "tenant") == is_listed {
                strays.push(format!("a key of {table} begins with {key}"));
            }
        }
    }
    for (table, key, reason) in KEYS_OF_THE_NODE {
        if !keys(db, table).iter().any(|found| found == key) || reason.is_empty() {
            strays.push(format!("{table} has no key {key}"));
        }
    }
    for (table, reason) in OF_THE_NODE {
        if !tables.iter().any(|found| found == table) || reason.is_empty() {
            strays.push(format!("{table} is no table"));
        }
    }
    strays
}

#[test]
fn every_table_and_key_has_a_tenant_or_a_reason() {
    let (_dir, db) = fresh();
    assert!(tables(&db).len() >= 30, "{:?} are too few", tables(&db));
    assert_eq!(strays(&db), Vec::<String>::new());
}

#[test]
fn a_table_without_a_tenant_is_caught() {
    let (_dir, db) = fresh();
    for (planted, found) in [
        (
            "CREATE TABLE hints (session BLOB NOT NULL, hint TEXT NOT NULL) STRICT",
            "hints has a column `tenant`: false",
        ),
        (
            "CREATE TABLE notes (note BLOB NOT NULL PRIMARY KEY, tenant BLOB NOT NULL) STRICT, WITHOUT ROWID",
            "a key of notes begins with note",
        ),
        ("CREATE UNIQUE INDEX agents_names ON agents (handle)", "a key of agents begins with handle"),
    ] {
        db.execute_batch(planted).expect("it is planted");
        assert_eq!(strays(&db).pop().as_deref(), Some(found), "{planted}");
        let name = planted.split_whitespace().skip_while(|word| !["TABLE", "INDEX"].contains(word)).nth(1);
        let kind = if planted.contains("INDEX") { "INDEX" } else { "TABLE" };
        db.execute_batch(&format!("DROP {kind} {}", name.expect("a name"))).expect("it is taken away");
    }
    assert_eq!(strays(&db), Vec::<String>::new());
}
