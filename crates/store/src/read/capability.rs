//! Capabilities. A view of one agent finds those that it holds; no view finds those of an agent that is being erased.

use rusqlite::{Connection, Row, params};

use dromia_contracts::capability::CapabilityRecord;
use dromia_contracts::id::{AgentId, CapabilityId};
use dromia_contracts::scope::Actor;
use dromia_contracts::store::PageRequest;

use super::{FIRST, Found, ScopeView, page_limit};
use crate::column_codes;

macro_rules! columns {
    () => {
        "capability, holder, parent, used_as, rights, until, wall_ms, token, author, at, revoked_at"
    };
}

/// Finds one of a tenant by its id.
pub(crate) const BY_ID: &str =
    concat!("SELECT ", columns!(), " FROM capabilities WHERE tenant = ?1 AND capability = ?2");

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM capabilities WHERE tenant = ?1 AND capability > ?2 AND (?4 IS NULL OR holder = ?4) \
     AND EXISTS (SELECT 1 FROM agents a \
     WHERE a.tenant = ?1 AND a.agent = capabilities.holder AND a.state <> 3) \
     ORDER BY capability LIMIT ?3"
);

/// Reads the columns, beginning at the first.
pub(crate) fn read_capability(row: &Row<'_>) -> rusqlite::Result<CapabilityRecord> {
    let (rights, token, by): (String, Vec<u8>, String) = (row.get(4)?, row.get(7)?, row.get(8)?);
    Ok(CapabilityRecord {
        id: CapabilityId::from_bytes(column_codes::read_bytes(row, 0)?),
        holder: AgentId::from_bytes(column_codes::read_bytes(row, 1)?),
        parent: column_codes::bytes_opt(row, 2)?.map(CapabilityId::from_bytes),
        usage: column_codes::read_enum(row, 3)?,
        rights: rights.lines().map(str::to_owned).collect(),
        until: column_codes::time_opt(row, 5)?,
        wall_ms_max: row.get(6)?,
        token: token.into(),
        by: Actor::new(&by),
        created_at: column_codes::read_time(row, 9)?,
        revoked_at: column_codes::time_opt(row, 10)?,
    })
}

pub(crate) fn list_capabilities(
    db: &Connection,
    view: ScopeView,
    page: PageRequest<CapabilityId>,
) -> Found<Vec<CapabilityRecord>> {
    let mut select = db.prepare_cached(LIST)?;
    let after = page.after.as_ref().map_or(&FIRST[..], |id| &id.as_bytes()[..]);
    let holder = view.only.as_ref().map(|agent| &agent.as_bytes()[..]);
    let rows = select
        .query_map(params![view.tenant.as_bytes(), after, page_limit(&page), holder], read_capability)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
