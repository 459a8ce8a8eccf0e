//! Compares each session's head with the inbox and the runs that it sums up, and each row that carries a check value with it.
//!
//! One query reads a head together with what it sums up, so a server that writes meanwhile causes no false finding. Rows of an
//! agent that is being erased are skipped. Nothing is repaired here: `rebuild` does that.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

use dromia_contracts::id::{RunId, SessionId, TenantId};

use crate::check_value::{self, MISMATCH, SealedTable};
use crate::column_codes;

/// How many sessions one query reads.
const SESSIONS: usize = 256;
/// How many rows of a tenant are named at most; the rest of a table that is damaged throughout adds nothing.
const MISMATCHES_MAX: usize = 1_000;

/// A row that contradicts the rows that it sums up, or its check value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowMismatch {
    /// The row, in words.
    pub(super) row: String,
    /// What differs.
    pub(super) detail: String,
}

/// What a head says, and what its session's inbox and runs say.
struct HeadComparison {
    session: [u8; 16],
    agent: Vec<u8>,
    head: Option<SessionHeadRow>,
    last: i64,
    taken: i64,
    untaken: i64,
    open: Option<Vec<u8>>,
}

struct SessionHeadRow {
    agent: Vec<u8>,
    last: i64,
    taken: i64,
    active: Option<Vec<u8>>,
}

/// Compares the heads of a tenant's sessions.
pub(super) fn compare_heads(db: &Connection, tenant: TenantId) -> rusqlite::Result<Vec<RowMismatch>> {
    let mut select = db.prepare_cached(
        "SELECT s.session, s.agent, h.agent, h.last, h.taken, h.active, \
         coalesce((SELECT max(i.position) FROM inbox i WHERE i.tenant = s.tenant AND i.owner = s.session), 0), \
         coalesce((SELECT i.position FROM inbox i WHERE i.tenant = s.tenant AND i.owner = s.session \
                   AND i.taken_by IS NOT NULL ORDER BY i.position DESC LIMIT 1), 0), \
         (SELECT count(*) FROM inbox i WHERE i.tenant = s.tenant AND i.owner = s.session \
          AND i.position <= h.taken AND i.taken_by IS NULL), \
         (SELECT r.run FROM runs r WHERE r.tenant = s.tenant AND r.session = s.session AND r.status <= 2) \
         FROM sessions s JOIN agents a ON a.tenant = s.tenant AND a.agent = s.agent AND a.state <> 3 \
         LEFT JOIN session_heads h ON h.tenant = s.tenant AND h.session = s.session \
         WHERE s.tenant = ?1 AND (s.agent, s.session) > (?2, ?3) ORDER BY s.agent, s.session LIMIT ?4",
    )?;
    let mut after = ([0_u8; 16].to_vec(), [0_u8; 16]);
    let mut found = Vec::new();
    loop {
        let limit = i64::try_from(SESSIONS).unwrap_or(i64::MAX);
        let page = select.query_map(params![tenant.as_bytes(), after.0, after.1, limit], read_comparison)?;
        let page = page.collect::<rusqlite::Result<Vec<_>>>()?;
        let Some(last) = page.last() else { break };
        after = (last.agent.clone(), last.session);
        found.extend(page.iter().filter_map(HeadComparison::mismatch));
        if found.len() >= MISMATCHES_MAX {
            break;
        }
    }
    found.extend(heads_without_session(db, tenant)?);
    found.truncate(MISMATCHES_MAX);
    Ok(found)
}

fn read_comparison(row: &Row<'_>) -> rusqlite::Result<HeadComparison> {
    let head = match row.get::<_, Option<Vec<u8>>>(2)? {
        Some(agent) => {
            Some(SessionHeadRow { agent, last: row.get(3)?, taken: row.get(4)?, active: row.get(5)? })
        }
        None => None,
    };
    Ok(HeadComparison {
        session: column_codes::read_bytes(row, 0)?,
        agent: row.get(1)?,
        head,
        last: row.get(6)?,
        taken: row.get(7)?,
        untaken: row.get(8)?,
        open: row.get(9)?,
    })
}

impl HeadComparison {
    fn mismatch(&self) -> Option<RowMismatch> {
        let row = format!("head of {}", SessionId::from_bytes(self.session));
        let Some(head) = &self.head else {
            return Some(RowMismatch {
                row,
                detail: "it is missing, so no list shows the session".to_owned(),
            });
        };
        let detail = if head.agent != self.agent {
            "it names a different agent than its session".to_owned()
        } else if head.last != self.last {
            format!(
                "it says that the inbox ends with item {}, but the inbox ends with {}",
                head.last, self.last
            )
        } else if head.taken != self.taken {
            format!("it says that item {} was taken last, but the inbox says item {}", head.taken, self.taken)
        } else if self.untaken > 0 {
            format!("{} items up to item {} were taken, but their rows name no run", self.untaken, head.taken)
        } else if head.active != self.open {
            let run = |run: &Option<Vec<u8>>| run.as_deref().map_or("none".to_owned(), run_name);
            format!(
                "it says that the open run is {}, but the open run is {}",
                run(&head.active),
                run(&self.open)
            )
        } else {
            return None;
        };
        Some(RowMismatch { row, detail })
    }
}

fn run_name(bytes: &[u8]) -> String {
    <[u8; 16]>::try_from(bytes).map_or("no run".to_owned(), |run| RunId::from_bytes(run).to_string())
}

/// Heads whose session is not there.
fn heads_without_session(db: &Connection, tenant: TenantId) -> rusqlite::Result<Vec<RowMismatch>> {
    let mut select = db.prepare_cached(
        "SELECT h.session FROM session_heads h WHERE h.tenant = ?1 AND NOT EXISTS \
         (SELECT 1 FROM sessions s WHERE s.tenant = h.tenant AND s.agent = h.agent AND s.session = h.session) \
         AND NOT EXISTS (SELECT 1 FROM agents a WHERE a.tenant = h.tenant AND a.agent = h.agent AND a.state = 3) \
         LIMIT 1000",
    )?;
    let found = select.query_map([tenant.as_bytes()], |row| column_codes::read_bytes(row, 0))?;
    found
        .map(|session| {
            let row = format!("head of {}", SessionId::from_bytes(session?));
            Ok(RowMismatch { row, detail: "its agent has no such session".to_owned() })
        })
        .collect()
}

/// Compares the rows that carry a check value with it.
pub(super) fn compare_sealed_rows(db: &Connection, tenant: TenantId) -> rusqlite::Result<Vec<RowMismatch>> {
    let mut found = Vec::new();
    for table in check_value::TABLES {
        let mut select = db.prepare(&format!("{} WHERE tenant = ?1", table.select_sql()))?;
        let mut rows = select.query([tenant.as_bytes()])?;
        while let Some(row) = rows.next()? {
            let seal = check_value::of_row(row, table.column_count())?;
            if row.get_ref(table.column_count())? != ValueRef::Blob(&seal) {
                found.push(RowMismatch { row: row_name(&table, row)?, detail: MISMATCH.to_owned() });
            }
            if found.len() >= MISMATCHES_MAX {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Names a row by its key.
fn row_name(table: &SealedTable, row: &Row<'_>) -> rusqlite::Result<String> {
    let mut name = format!("row of {}", table.name);
    for column in 1..table.keys {
        let key = match row.get_ref(column)? {
            ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Blob(bytes) => {
                use std::fmt::Write as _;
                bytes.iter().fold(String::new(), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                })
            }
            ValueRef::Null | ValueRef::Real(_) => "nothing".to_owned(),
        };
        name.push(' ');
        name.push_str(&key);
    }
    Ok(name)
}
