//! Names that people gave: of tenants, agents and tokens, and of the platforms that sessions are on. A comparison of a
//! configuration with a store reads them; the contents of sessions are not read.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension as _};

use super::{StoreInspector, is_late};
use crate::open_error::OpenError;

/// The most names of one kind that are listed.
const NAMES_MAX: usize = 65_536;

/// Names that people gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameInventory {
    /// Those within each tenant, by its handle.
    pub tenants: BTreeMap<String, TenantNames>,
    /// Those of the platforms asked for that some session is on.
    pub platforms: BTreeSet<String>,
}

/// Names within a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantNames {
    /// The handles of its agents.
    pub agents: BTreeSet<String>,
    /// The names of its tokens that were not revoked.
    pub tokens: BTreeSet<String>,
}

impl StoreInspector {
    /// Lists the names of all tenants, and which of some platforms a session is on. Nothing if there was no time for all of
    /// them, or there are more than are listed: what is left out would look as if it were not there.
    pub fn list_names(&self, platforms: &[String]) -> Result<Option<NameInventory>, OpenError> {
        match query_names(&self.connect()?, platforms) {
            Ok(names) => Ok(names),
            Err(error) if is_late(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn query_names(db: &Connection, platforms: &[String]) -> rusqlite::Result<Option<NameInventory>> {
    let mut names = NameInventory::default();
    let Some(tenants) = query_pairs(db, "SELECT handle, '' FROM tenants WHERE erased_at IS NULL")? else {
        return Ok(None);
    };
    names.tenants.extend(tenants.into_iter().map(|(tenant, _)| (tenant, TenantNames::default())));
    let agents = "SELECT tenants.handle, agents.handle FROM agents JOIN tenants ON tenants.tenant = agents.tenant \
                  WHERE tenants.erased_at IS NULL";
    let tokens = "SELECT tenants.handle, tokens.name FROM tokens JOIN tenants ON tenants.tenant = tokens.tenant \
                  WHERE tokens.revoked_at IS NULL AND tenants.erased_at IS NULL";
    let (Some(agents), Some(tokens)) = (query_pairs(db, agents)?, query_pairs(db, tokens)?) else {
        return Ok(None);
    };
    for (tenant, agent) in agents {
        names.tenants.entry(tenant).or_default().agents.insert(agent);
    }
    for (tenant, token) in tokens {
        names.tenants.entry(tenant).or_default().tokens.insert(token);
    }
    // Agent by agent, as the index of sessions goes.
    let mut look = db.prepare(
        "SELECT 1 FROM agents CROSS JOIN sessions ON sessions.tenant = agents.tenant \
         AND sessions.agent = agents.agent AND sessions.platform = ?1 LIMIT 1",
    )?;
    for platform in platforms {
        if look.query_row([platform], |_| Ok(())).optional()?.is_some() {
            names.platforms.insert(platform.clone());
        }
    }
    Ok(Some(names))
}

/// Reads two texts of each row; nothing if there are too many rows.
fn query_pairs(db: &Connection, sql: &str) -> rusqlite::Result<Option<Vec<(String, String)>>> {
    let mut select = db.prepare(sql)?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows = rows.take(NAMES_MAX + 1).collect::<rusqlite::Result<Vec<_>>>()?;
    Ok((rows.len() <= NAMES_MAX).then_some(rows))
}
