//! Agents and their configurations.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use dromia_contracts::agent::{AgentRecord, AgentRevision, AgentState, HandleSlug};
use dromia_contracts::digest::Digest;
use dromia_contracts::id::{AgentId, TenantId};
use dromia_contracts::revision::{AgentField, RevisionRecord};
use dromia_contracts::scope::Actor;
use dromia_contracts::store::PageRequest;

use super::{FIRST, Found, ScopeView, page_limit};
use crate::column_codes::{self, StoredEnum as _};
use crate::reader::ReadFailure;

const COLUMNS: &str = "agent, handle, display_name, labels, at, state, revision, number";

fn read_agent(row: &Row<'_>) -> rusqlite::Result<AgentRecord> {
    let labels: Option<String> = row.get(3)?;
    let labels = labels
        .map(|labels| serde_json::from_str(&labels))
        .transpose()
        .map_err(|error| column_codes::unreadable_column(3, Type::Text, error.to_string()))?;
    Ok(AgentRecord {
        id: AgentId::from_bytes(column_codes::read_bytes(row, 0)?),
        handle: read_handle(row, 1)?,
        display_name: row.get(2)?,
        labels: labels.unwrap_or_default(),
        created_at: column_codes::read_time(row, 4)?,
        state: column_codes::read_enum(row, 5)?,
        revision: column_codes::read_digest(row, 6)?,
        revision_number: column_codes::read_counter(row, 7)?,
    })
}

pub(super) fn read_handle(row: &Row<'_>, column: usize) -> rusqlite::Result<HandleSlug> {
    let text: String = row.get(column)?;
    text.parse()
        .map_err(|_| column_codes::unreadable_column(column, Type::Text, format!("{text:?} is no handle")))
}

/// Lists agents. One that is being erased is not found.
pub(crate) fn list_agents(
    db: &Connection,
    view: ScopeView,
    state: Option<AgentState>,
    page: PageRequest<AgentId>,
) -> Found<Vec<AgentRecord>> {
    if let Some(only) = view.only {
        let agent = by_id(db, view, only)?;
        let wanted = |agent: &AgentRecord| {
            page.after.is_none_or(|after| agent.id > after) && state.is_none_or(|state| state == agent.state)
        };
        return Ok(agent.filter(wanted).into_iter().take(page.limit).collect());
    }
    let after = page.after.as_ref().map_or(&FIRST[..], |id| &id.as_bytes()[..]);
    // The first two walk the table in its own order, the last a partial index: agents that do not run are few.
    let filter = match state {
        None => "state <> 3",
        Some(AgentState::Running) => "state = 0",
        Some(AgentState::Deleting) => return Ok(Vec::new()),
        Some(AgentState::Paused | AgentState::Terminated) => "state = ?4 AND state <> 0",
    };
    let mut select = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM agents WHERE tenant = ?1 AND agent > ?2 AND {filter} ORDER BY agent LIMIT ?3"
    ))?;
    let limit = page_limit(&page);
    let tenant = view.tenant.as_bytes();
    let agents = match state {
        None | Some(AgentState::Running) => {
            select.query_map(params![tenant, after, limit], read_agent)?.collect::<Result<_, _>>()
        }
        Some(state) => select
            .query_map(params![tenant, after, limit, state.stored_code()], read_agent)?
            .collect::<Result<_, _>>(),
    };
    Ok(agents?)
}

pub(crate) fn by_id(db: &Connection, view: ScopeView, agent: AgentId) -> Found<Option<AgentRecord>> {
    if !view.sees_agent(agent) {
        return Ok(None);
    }
    let mut select = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM agents WHERE tenant = ?1 AND agent = ?2 AND state <> 3"
    ))?;
    Ok(select.query_row(params![view.tenant.as_bytes(), agent.as_bytes()], read_agent).optional()?)
}

pub(crate) fn by_handle(db: &Connection, view: ScopeView, handle: &HandleSlug) -> Found<Option<AgentRecord>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM agents WHERE tenant = ?1 AND handle = ?2 AND state <> 3"
    ))?;
    let agent = select.query_row(params![view.tenant.as_bytes(), handle.as_str()], read_agent).optional()?;
    Ok(agent.filter(|agent| view.sees_agent(agent.id)))
}

pub(crate) fn find_revision(
    db: &Connection,
    view: ScopeView,
    agent: AgentId,
    digest: Digest,
) -> Found<Option<AgentRevision>> {
    if !view.finds_agent(db, agent)? {
        return Ok(None);
    }
    let mut select = db.prepare_cached(
        "SELECT config FROM revisions WHERE tenant = ?1 AND agent = ?2 AND digest = ?3 LIMIT 1",
    )?;
    let text: Option<String> = select
        .query_row(params![view.tenant.as_bytes(), agent.as_bytes(), digest.as_bytes()], |row| row.get(0))
        .optional()?;
    let Some(text) = text else { return Ok(None) };
    let place = || format!("revision {digest} of {agent}");
    // It holds the agent's rights, so no agent acts by a revision that was written past the store.
    if blake3::hash(text.as_bytes()).as_bytes() != digest.as_bytes() {
        return Err(ReadFailure::damaged_row(place(), "it does not match its digest"));
    }
    let config =
        serde_json::from_str(&text).map_err(|error| ReadFailure::damaged_row(place(), error.to_string()))?;
    Ok(Some(AgentRevision { digest, config }))
}

/// Lists the revisions of an agent, the newest first.
pub(crate) fn list_revisions(
    db: &Connection,
    view: ScopeView,
    agent: AgentId,
    page: PageRequest<u64>,
) -> Found<Vec<RevisionRecord>> {
    if !view.finds_agent(db, agent)? {
        return Ok(Vec::new());
    }
    let below = page.after.map_or(i64::MAX, column_codes::stored_counter);
    let mut select = db.prepare_cached(
        "SELECT number, at, author, digest, changed FROM revisions \
         WHERE tenant = ?1 AND agent = ?2 AND number < ?3 ORDER BY number DESC LIMIT ?4",
    )?;
    let bounds = params![view.tenant.as_bytes(), agent.as_bytes(), below, page_limit(&page)];
    let revisions = select.query_map(bounds, |row| {
        let (author, changed): (Option<String>, String) = (row.get(2)?, row.get(4)?);
        let changed = changed.split(',').filter(|name| !name.is_empty());
        let field = |name: &str| {
            let known = AgentField::ALL.into_iter().find(|field| field.as_str() == name);
            known.ok_or_else(|| {
                column_codes::unreadable_column(4, Type::Text, format!("{name:?} is no field of an agent"))
            })
        };
        Ok(RevisionRecord {
            number: column_codes::read_counter(row, 0)?,
            at: column_codes::read_time(row, 1)?,
            by: author.as_deref().map(Actor::new),
            digest: column_codes::read_digest(row, 3)?,
            changed: changed.map(field).collect::<rusqlite::Result<_>>()?,
        })
    })?;
    Ok(revisions.collect::<Result<_, _>>()?)
}

/// Lists agents of every tenant that are being erased, at most a page of them.
pub(crate) fn list_deleting(db: &Connection) -> Found<Vec<(TenantId, AgentId)>> {
    let mut select = db.prepare_cached(
        "SELECT tenant, agent FROM agents INDEXED BY agents_resting \
         WHERE state = 3 AND state <> 0 ORDER BY tenant, agent LIMIT ?1",
    )?;
    let agents = select
        .query_map([super::row_limit(PageRequest::<()>::LIMIT_MAX)], |row| {
            Ok((
                TenantId::from_bytes(column_codes::read_bytes(row, 0)?),
                AgentId::from_bytes(column_codes::read_bytes(row, 1)?),
            ))
        })?
        .collect::<Result<_, _>>()?;
    Ok(agents)
}
