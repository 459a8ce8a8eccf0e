//! What a backup has to keep beside the database: the files of bodies, and by what it sees that an erasure went on meanwhile.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rusqlite::OptionalExtension as _;

use dromia_contracts::agent::AgentState;
use dromia_contracts::id::{AgentId, TenantId};

use super::StoreInspector;
use crate::body::FileBodies;
use crate::column_codes::{StoredEnum as _, read_bytes, read_counter};
use crate::open_error::OpenError;

impl StoreInspector {
    /// The files of bodies that rows name, as paths below the store's directory.
    pub fn body_files(&self) -> Result<Vec<PathBuf>, OpenError> {
        let db = self.connect()?;
        let mut select =
            db.prepare("SELECT tenant, hash FROM bodies WHERE bytes IS NULL ORDER BY tenant, hash")?;
        let files = FileBodies::new(PathBuf::from("blobs"));
        let rows = select.query_map([], |row| {
            Ok(files.body_path(TenantId::from_bytes(read_bytes(row, 0)?), &read_bytes(row, 1)?))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The agents of all tenants, each with whether it is being deleted.
    pub fn agents_kept(&self) -> Result<BTreeMap<AgentId, bool>, OpenError> {
        let db = self.connect()?;
        let mut select = db.prepare("SELECT agent, state FROM agents")?;
        let deleting = AgentState::Deleting.stored_code();
        let rows = select.query_map([], |row| {
            Ok((AgentId::from_bytes(read_bytes(row, 0)?), row.get::<_, i64>(1)? == deleting))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Counts the sessions of all tenants that were erased one by one, and those of them that have rows left. An act that only
    /// quotes the word counts too, so the numbers are for a comparison.
    pub fn erased_sessions(&self) -> Result<(u64, u64), OpenError> {
        let counts = self.connect()?.query_row(
            "SELECT (SELECT count(*) FROM audit WHERE kind = 1 AND instr(record, CAST('session_erased' AS BLOB)) > 0), \
             (SELECT count(*) FROM hidden_sessions WHERE erased_agent IS NOT NULL)",
            [],
            |row| Ok((read_counter(row, 0)?, read_counter(row, 1)?)),
        )?;
        Ok(counts)
    }

    /// The first tenant of the store, which no other store has; nothing while there is none.
    pub fn first_tenant(&self) -> Result<Option<TenantId>, OpenError> {
        let db = self.connect()?;
        let mut select = db.prepare("SELECT tenant FROM tenants ORDER BY tenant LIMIT 1")?;
        Ok(select.query_row([], |row| Ok(TenantId::from_bytes(read_bytes(row, 0)?))).optional()?)
    }
}
