//! Sessions, pins and custom state.

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use dromia_contracts::digest::Digest;
use dromia_contracts::id::{AgentId, RunId, SessionId, TenantId};
use dromia_contracts::scope::Actor;
use dromia_contracts::session::{SessionHead, SessionKey, SessionRecord};
use dromia_contracts::store::{PageRequest, PendingSession, StateEntry};
use dromia_contracts::task::RunOrigin;

use super::{FIRST, Found, LAST, ScopeView, page_limit};
use crate::check_value;
use crate::column_codes;
use crate::reader::ReadFailure;

const COLUMNS: &str =
    "h.session, h.agent, s.platform, s.channel, s.actor, s.at, h.last, h.taken, h.active, s.origin";

/// Holds for the heads of sessions that no import fills. Few sessions are ever being filled, so that is a look into an
/// empty table.
const THERE: &str =
    "NOT EXISTS (SELECT 1 FROM hidden_sessions i WHERE i.tenant = h.tenant AND i.session = h.session)";

/// Returns whether no reader sees a session: an import fills it, or it was erased.
pub(super) fn is_hidden(db: &Connection, tenant: TenantId, session: SessionId) -> Found<bool> {
    let mut select = db.prepare_cached("SELECT 1 FROM hidden_sessions WHERE tenant = ?1 AND session = ?2")?;
    Ok(select.exists(params![tenant.as_bytes(), session.as_bytes()])?)
}

/// Returns whether a session was erased and has rows left.
pub(super) fn is_erased(db: &Connection, tenant: TenantId, session: SessionId) -> Found<bool> {
    let mut select = db.prepare_cached(
        "SELECT 1 FROM hidden_sessions WHERE tenant = ?1 AND session = ?2 AND erased_agent IS NOT NULL",
    )?;
    Ok(select.exists(params![tenant.as_bytes(), session.as_bytes()])?)
}

fn read_session(row: &Row<'_>) -> rusqlite::Result<SessionRecord> {
    Ok(SessionRecord {
        id: SessionId::from_bytes(column_codes::read_bytes(row, 0)?),
        agent: AgentId::from_bytes(column_codes::read_bytes(row, 1)?),
        key: SessionKey {
            platform: row.get(2)?,
            channel: row.get(3)?,
            actor: Actor::new(row.get_ref(4)?.as_str()?),
        },
        opened_at: column_codes::read_time(row, 5)?,
        head: SessionHead {
            last: column_codes::read_counter(row, 6)?,
            taken: column_codes::read_counter(row, 7)?,
            active: column_codes::bytes_opt(row, 8)?.map(RunId::from_bytes),
        },
        origin: read_origin(row, 9)?,
    })
}

/// Reads which call opened a session for its child, from its JSON.
pub(super) fn read_origin(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Box<RunOrigin>>> {
    let Some(text) = row.get_ref(column)?.as_str_or_null()? else { return Ok(None) };
    let damaged = |error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error));
    serde_json::from_str(text).map(Some).map_err(damaged)
}

pub(crate) fn by_id(db: &Connection, view: ScopeView, session: SessionId) -> Found<Option<SessionRecord>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM session_heads h \
         JOIN sessions s ON s.tenant = h.tenant AND s.agent = h.agent AND s.session = h.session \
         WHERE h.tenant = ?1 AND h.session = ?2 AND {THERE}"
    ))?;
    let found =
        select.query_row(params![view.tenant.as_bytes(), session.as_bytes()], read_session).optional()?;
    match found {
        Some(session) if view.finds_agent(db, session.agent)? => Ok(Some(session)),
        _ => Ok(None),
    }
}

fn by_key_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM sessions s \
         JOIN session_heads h ON h.tenant = s.tenant AND h.session = s.session \
         WHERE s.tenant = ?1 AND s.agent = ?2 AND s.platform = ?3 AND s.channel = ?4 AND s.actor = ?5 \
         AND {THERE}"
    )
}

pub(crate) fn by_key(
    db: &Connection,
    view: ScopeView,
    agent: AgentId,
    key: &SessionKey,
) -> Found<Option<SessionRecord>> {
    if !view.finds_agent(db, agent)? {
        return Ok(None);
    }
    let mut select = db.prepare_cached(&by_key_sql())?;
    let found = select.query_row(
        params![view.tenant.as_bytes(), agent.as_bytes(), key.platform, key.channel, key.actor.as_str()],
        read_session,
    );
    Ok(found.optional()?)
}

pub(crate) fn list_sessions(
    db: &Connection,
    view: ScopeView,
    agent: Option<AgentId>,
    page: PageRequest<SessionId>,
) -> Found<Vec<SessionRecord>> {
    if view.excludes_agent(agent) {
        return Ok(Vec::new());
    }
    let agent = view.join_agent(agent);
    let before = page.after.as_ref().map_or(&LAST[..], |id| &id.as_bytes()[..]);
    let tenant = view.tenant.as_bytes();
    let sessions = match agent {
        Some(agent) if !view.finds_agent(db, agent)? => Vec::new(),
        Some(agent) => db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM sessions s \
                 JOIN session_heads h ON h.tenant = s.tenant AND h.session = s.session \
                 WHERE s.tenant = ?1 AND s.agent = ?4 AND s.session < ?2 AND {THERE} \
                 ORDER BY s.session DESC LIMIT ?3"
            ))?
            .query_map(params![tenant, before, page_limit(&page), agent.as_bytes()], read_session)?
            .collect::<Result<_, _>>()?,
        None => db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM session_heads h \
                 JOIN sessions s ON s.tenant = h.tenant AND s.agent = h.agent AND s.session = h.session \
                 JOIN agents a ON a.tenant = h.tenant AND a.agent = h.agent AND a.state <> 3 \
                 WHERE h.tenant = ?1 AND h.session < ?2 AND {THERE} \
                 ORDER BY h.session DESC LIMIT ?3"
            ))?
            .query_map(params![tenant, before, page_limit(&page)], read_session)?
            .collect::<Result<_, _>>()?,
    };
    Ok(sessions)
}

/// Lists sessions of running agents with waiting items and no active turn.
pub(crate) fn list_pending(
    db: &Connection,
    page: PageRequest<(TenantId, SessionId)>,
) -> Found<Vec<PendingSession>> {
    let (tenant, session) = match &page.after {
        Some((tenant, session)) => (&tenant.as_bytes()[..], &session.as_bytes()[..]),
        None => (&FIRST[..], &FIRST[..]),
    };
    let mut select = db.prepare_cached(&format!(
        "SELECT h.tenant, h.agent, h.session FROM session_heads h INDEXED BY heads_pending \
         CROSS JOIN agents a ON a.tenant = h.tenant AND a.agent = h.agent \
         WHERE h.last > h.taken AND h.active IS NULL AND a.state = 0 \
         AND NOT EXISTS (SELECT 1 FROM tenants t WHERE t.tenant = h.tenant AND t.suspended_at IS NOT NULL) \
         AND (h.tenant, h.session) > (?1, ?2) \
         AND {THERE} ORDER BY h.tenant, h.session LIMIT ?3"
    ))?;
    let sessions = select
        .query_map(params![tenant, session, page_limit(&page)], |row| {
            Ok(PendingSession {
                tenant: TenantId::from_bytes(column_codes::read_bytes(row, 0)?),
                agent: AgentId::from_bytes(column_codes::read_bytes(row, 1)?),
                session: SessionId::from_bytes(column_codes::read_bytes(row, 2)?),
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(sessions)
}

pub(crate) fn find_pin(db: &Connection, view: ScopeView, digest: Digest) -> Found<Option<Bytes>> {
    let mut select = db.prepare_cached("SELECT bytes FROM pins WHERE tenant = ?1 AND digest = ?2")?;
    let bytes: Option<Vec<u8>> =
        select.query_row(params![view.tenant.as_bytes(), digest.as_bytes()], |row| row.get(0)).optional()?;
    let Some(bytes) = bytes else { return Ok(None) };
    if blake3::hash(&bytes).as_bytes() != digest.as_bytes() {
        return Err(ReadFailure::damaged_row(format!("pin {digest}"), "it does not match its digest"));
    }
    Ok(Some(Bytes::from(bytes)))
}

pub(crate) fn list_state(
    db: &Connection,
    view: ScopeView,
    session: SessionId,
    page: PageRequest<&str>,
) -> Found<Vec<StateEntry>> {
    if by_id(db, view, session)?.is_none() {
        return Ok(Vec::new());
    }
    let mut select = db.prepare_cached(&format!(
        "{} WHERE tenant = ?1 AND session = ?2 AND (?3 IS NULL OR name > ?3) ORDER BY name LIMIT ?4",
        check_value::STATE.select_sql()
    ))?;
    let entries = select
        .query_map(
            params![view.tenant.as_bytes(), session.as_bytes(), page.after, page_limit(&page)],
            read_state_entry,
        )?
        .collect::<Result<_, _>>()?;
    Ok(entries)
}

pub(crate) fn state_entry(
    db: &Connection,
    view: ScopeView,
    session: SessionId,
    name: &str,
) -> Found<Option<StateEntry>> {
    if by_id(db, view, session)?.is_none() {
        return Ok(None);
    }
    let mut select = db.prepare_cached(&format!(
        "{} WHERE tenant = ?1 AND session = ?2 AND name = ?3",
        check_value::STATE.select_sql()
    ))?;
    let found = select.query_row(params![view.tenant.as_bytes(), session.as_bytes(), name], read_state_entry);
    Ok(found.optional()?)
}

fn read_state_entry(row: &Row<'_>) -> rusqlite::Result<StateEntry> {
    check_value::STATE.check_row(row)?;
    Ok(StateEntry {
        name: row.get(2)?,
        version: column_codes::read_counter(row, 3)?,
        value: Bytes::from(row.get::<_, Vec<u8>>(4)?),
    })
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;
    use crate::config::StoreConfig;
    use crate::open;

    /// SQLite would plan some statements anew for each value, which costs more than running them.
    #[test]
    fn another_value_does_not_have_a_statement_parsed_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = StoreConfig::new(dir.path());
        open::open_writer(&config).expect("a store");
        let db = open::open_reader(&config).expect("a reader");
        let mut select = db.prepare(&by_key_sql()).expect("it is prepared");
        for value in 0..10_u8 {
            let (id, text) = ([value; 16], value.to_string());
            let found = select.exists(params![id, id, text, text, text]).expect("it runs");
            assert!(!found);
        }
        assert_eq!(select.get_status(StatementStatus::RePrepare), 0);
    }
}
