//! Sessions, inboxes, pins and custom state.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use dromia_contracts::digest::Digest;
use dromia_contracts::id::{AgentId, ItemId, RunId, SessionId, TenantId};
use dromia_contracts::scope::Actor;
use dromia_contracts::session::{InboxItem, InboxOwner, ItemKind, Session, SessionHead, SessionKey};
use dromia_contracts::store::{Page, PendingSession, StateEntry};

use super::journal::{Bodies, StoredBody};
use super::{FIRST, Found, LAST, View, limit, rows};
use crate::code::{self, Code as _, stored};
use crate::reader::{Problem, Reading};
use crate::row::{ItemSeal, item_seal};

const COLUMNS: &str = "h.session, h.agent, s.platform, s.channel, s.actor, s.at, h.last, h.taken, h.active";

/// Holds for the heads of sessions that no import fills. Few sessions are ever being filled, so that is a look into an
/// empty table.
const THERE: &str =
    "NOT EXISTS (SELECT 1 FROM imports i WHERE i.tenant = h.tenant AND i.session = h.session)";

/// Tells whether an import fills a session, so that nobody sees it yet.
pub(super) fn is_importing(db: &Connection, tenant: TenantId, session: SessionId) -> Found<bool> {
    let mut select = db.prepare_cached("SELECT 1 FROM imports WHERE tenant = ?1 AND session = ?2")?;
    Ok(select.exists(params![tenant.as_bytes(), session.as_bytes()])?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        id: SessionId::from_bytes(code::bytes(row, 0)?),
        agent: AgentId::from_bytes(code::bytes(row, 1)?),
        key: SessionKey {
            platform: row.get(2)?,
            channel: row.get(3)?,
            actor: Actor::new(row.get_ref(4)?.as_str()?),
        },
        opened_at: code::time(row, 5)?,
        head: SessionHead {
            last: code::number(row, 6)?,
            taken: code::number(row, 7)?,
            active: code::bytes_opt(row, 8)?.map(RunId::from_bytes),
        },
    })
}

pub(crate) fn by_id(db: &Connection, view: View, session: SessionId) -> Found<Option<Session>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM session_heads h \
         JOIN sessions s ON s.tenant = h.tenant AND s.agent = h.agent AND s.session = h.session \
         WHERE h.tenant = ?1 AND h.session = ?2 AND {THERE}"
    ))?;
    let found = select.query_row(params![view.tenant.as_bytes(), session.as_bytes()], read).optional()?;
    match found {
        Some(session) if view.finds(db, session.agent)? => Ok(Some(session)),
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
    view: View,
    agent: AgentId,
    key: &SessionKey,
) -> Found<Option<Session>> {
    if !view.finds(db, agent)? {
        return Ok(None);
    }
    let mut select = db.prepare_cached(&by_key_sql())?;
    let found = select.query_row(
        params![view.tenant.as_bytes(), agent.as_bytes(), key.platform, key.channel, key.actor.as_str()],
        read,
    );
    Ok(found.optional()?)
}

pub(crate) fn list(
    db: &Connection,
    view: View,
    agent: Option<AgentId>,
    page: Page<SessionId>,
) -> Found<Vec<Session>> {
    if view.excludes(agent) {
        return Ok(Vec::new());
    }
    let agent = view.agent(agent);
    let before = page.after.as_ref().map_or(&LAST[..], |id| &id.as_bytes()[..]);
    let tenant = view.tenant.as_bytes();
    let sessions = match agent {
        Some(agent) if !view.finds(db, agent)? => Vec::new(),
        Some(agent) => db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM sessions s \
                 JOIN session_heads h ON h.tenant = s.tenant AND h.session = s.session \
                 WHERE s.tenant = ?1 AND s.agent = ?4 AND s.session < ?2 AND {THERE} \
                 ORDER BY s.session DESC LIMIT ?3"
            ))?
            .query_map(params![tenant, before, limit(&page), agent.as_bytes()], read)?
            .collect::<Result<_, _>>()?,
        None => db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM session_heads h \
                 JOIN sessions s ON s.tenant = h.tenant AND s.agent = h.agent AND s.session = h.session \
                 JOIN agents a ON a.tenant = h.tenant AND a.agent = h.agent AND a.state <> 3 \
                 WHERE h.tenant = ?1 AND h.session < ?2 AND {THERE} \
                 ORDER BY h.session DESC LIMIT ?3"
            ))?
            .query_map(params![tenant, before, limit(&page)], read)?
            .collect::<Result<_, _>>()?,
    };
    Ok(sessions)
}

/// Lists sessions of running agents with waiting items and no active turn.
pub(crate) fn pending(db: &Connection, page: Page<(TenantId, SessionId)>) -> Found<Vec<PendingSession>> {
    let (tenant, session) = match &page.after {
        Some((tenant, session)) => (&tenant.as_bytes()[..], &session.as_bytes()[..]),
        None => (&FIRST[..], &FIRST[..]),
    };
    let mut select = db.prepare_cached(&format!(
        "SELECT h.tenant, h.agent, h.session FROM session_heads h INDEXED BY heads_pending \
         CROSS JOIN agents a ON a.tenant = h.tenant AND a.agent = h.agent \
         WHERE h.last > h.taken AND h.active IS NULL AND a.state = 0 AND (h.tenant, h.session) > (?1, ?2) \
         AND {THERE} ORDER BY h.tenant, h.session LIMIT ?3"
    ))?;
    let sessions = select
        .query_map(params![tenant, session, limit(&page)], |row| {
            Ok(PendingSession {
                tenant: TenantId::from_bytes(code::bytes(row, 0)?),
                agent: AgentId::from_bytes(code::bytes(row, 1)?),
                session: SessionId::from_bytes(code::bytes(row, 2)?),
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(sessions)
}

/// An item's row; its body may lie elsewhere.
pub(crate) struct StoredItem {
    pub(crate) item: InboxItem,
    pub(super) body: StoredBody,
    pub(super) seal: [u8; 8],
}

pub(crate) const ITEM_COLUMNS: &str =
    "position, item, at, kind, author, digest, taken_by, place, body, body_hash";

pub(crate) fn read_item(row: &Row<'_>) -> rusqlite::Result<StoredItem> {
    let kind: ItemKind = code::coded(row, 3)?;
    Ok(StoredItem {
        item: InboxItem {
            id: ItemId::from_bytes(code::bytes(row, 1)?),
            position: code::number(row, 0)?,
            at: code::time(row, 2)?,
            kind,
            author: Actor::new(row.get_ref(4)?.as_str()?),
            body: None,
            taken_by: code::bytes_opt(row, 6)?.map(RunId::from_bytes),
        },
        seal: code::bytes(row, 5)?,
        body: StoredBody::read(row, 7)?,
    })
}

/// Completes an item with its body, and checks it.
pub(crate) fn complete_item(bodies: &Bodies<'_>, owner: InboxOwner, row: StoredItem) -> Found<InboxItem> {
    let StoredItem { mut item, body, seal } = row;
    let place = || format!("item {} of the inbox of {}", item.position, owner_name(owner));
    let (body, hash) = bodies.resolve(body, place)?;
    let Some(hash) = hash else { return Err(Problem::damaged(place(), "it has no body")) };
    let expected = item_seal(&ItemSeal {
        owner: owner.as_bytes(),
        position: item.position,
        item: item.id,
        at_ms: item.at.as_millisecond(),
        kind: item.kind.code(),
        author: item.author.as_str(),
        body_hash: &hash,
    });
    if expected != seal {
        return Err(Problem::damaged(place(), "it does not match its digest"));
    }
    item.body = body;
    Ok(item)
}

fn owner_name(owner: InboxOwner) -> String {
    match owner {
        InboxOwner::Session(session) => session.to_string(),
        InboxOwner::Run(run) => run.to_string(),
    }
}

pub(crate) fn inbox(
    reading: &mut Reading,
    view: View,
    owner: InboxOwner,
    after: u64,
    limit: usize,
) -> Found<Vec<InboxItem>> {
    let Reading { db, keys, files, .. } = reading;
    let last = match owner {
        InboxOwner::Session(session) => by_id(db, view, session)?.map(|session| session.head.last),
        InboxOwner::Run(run) => super::run::by_id(db, view, run)?.map(|run| run.signals_last),
    };
    let (Some(last), Some(key)) = (last, keys.get(db, view.tenant)?) else { return Ok(Vec::new()) };
    let bodies = Bodies { db, files, tenant: view.tenant, key: &key };
    let mut select = db.prepare_cached(&format!(
        "SELECT {ITEM_COLUMNS} FROM inbox WHERE tenant = ?1 AND owner = ?2 AND position > ?3 \
         ORDER BY position LIMIT ?4"
    ))?;
    let found = select.query_map(
        params![view.tenant.as_bytes(), owner.as_bytes(), stored(after), rows(limit)],
        read_item,
    )?;
    let mut items: Vec<InboxItem> = Vec::new();
    for row in found {
        let item = complete_item(&bodies, owner, row?)?;
        let expected = items.last().map_or(after, |before| before.position) + 1;
        if item.position != expected {
            return Err(Problem::damaged(
                format!("the inbox of {}", owner_name(owner)),
                format!("item {expected} is missing"),
            ));
        }
        items.push(item);
    }
    let reached = items.last().map_or(after, |item| item.position);
    if items.len() < limit.min(Page::<()>::LIMIT_MAX) && reached < last {
        return Err(Problem::damaged(
            format!("the inbox of {}", owner_name(owner)),
            format!("it ends at {reached}, its head says {last}"),
        ));
    }
    Ok(items)
}

pub(crate) fn pin(db: &Connection, view: View, digest: Digest) -> Found<Option<Bytes>> {
    let mut select = db.prepare_cached("SELECT bytes FROM pins WHERE tenant = ?1 AND digest = ?2")?;
    let bytes: Option<Vec<u8>> =
        select.query_row(params![view.tenant.as_bytes(), digest.as_bytes()], |row| row.get(0)).optional()?;
    let Some(bytes) = bytes else { return Ok(None) };
    if blake3::hash(&bytes).as_bytes() != digest.as_bytes() {
        return Err(Problem::damaged(format!("pin {digest}"), "it does not match its digest"));
    }
    Ok(Some(Bytes::from(bytes)))
}

pub(crate) fn state(
    db: &Connection,
    view: View,
    session: SessionId,
    after: Option<&str>,
    limit: usize,
) -> Found<Vec<StateEntry>> {
    if by_id(db, view, session)?.is_none() {
        return Ok(Vec::new());
    }
    let mut select = db.prepare_cached(
        "SELECT name, version, value FROM state \
         WHERE tenant = ?1 AND session = ?2 AND (?3 IS NULL OR name > ?3) ORDER BY name LIMIT ?4",
    )?;
    let entries = select
        .query_map(params![view.tenant.as_bytes(), session.as_bytes(), after, rows(limit)], read_state_entry)?
        .collect::<Result<_, _>>()?;
    Ok(entries)
}

pub(crate) fn state_entry(
    db: &Connection,
    view: View,
    session: SessionId,
    name: &str,
) -> Found<Option<StateEntry>> {
    if by_id(db, view, session)?.is_none() {
        return Ok(None);
    }
    let mut select = db.prepare_cached(
        "SELECT name, version, value FROM state WHERE tenant = ?1 AND session = ?2 AND name = ?3",
    )?;
    let found = select.query_row(params![view.tenant.as_bytes(), session.as_bytes(), name], read_state_entry);
    Ok(found.optional()?)
}

fn read_state_entry(row: &Row<'_>) -> rusqlite::Result<StateEntry> {
    Ok(StateEntry {
        name: row.get(0)?,
        version: code::number(row, 1)?,
        value: Bytes::from(row.get::<_, Vec<u8>>(2)?),
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
