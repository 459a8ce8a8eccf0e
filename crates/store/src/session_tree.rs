//! A session with its children, as far as it may be erased: what keeps one, and the seal that would stay of it.
//!
//! The writer and the readers ask here, so what a list shows as due is what a commit accepts. Nothing is written.

use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::cost::CostTotals;
use dromia_contracts::digest::Digest;
use dromia_contracts::id::{AgentId, SessionId, TenantId};
use dromia_contracts::retention::{SessionObstacle, SessionSeal, TREE_CHECKED_MAX};
use dromia_contracts::store::CommitRefusal;
use jiff::Timestamp;

use crate::column_codes;
use crate::seal::JournalSpan;

/// A session of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeSession {
    pub(crate) session: SessionId,
    pub(crate) agent: AgentId,
    /// Whose child it is; `None` for the first of the tree.
    pub(crate) parent: Option<SessionId>,
}

/// What was found of a session of a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionState {
    /// What keeps it.
    pub(crate) obstacle: Option<SessionObstacle>,
    /// When it was opened, and when something happened in it last.
    opened_at: Timestamp,
    pub(crate) last_at: Timestamp,
    items: u64,
}

/// Lists a session and those below it, parents before their children; nothing if the session is not there.
pub(crate) fn list_tree(
    db: &Connection,
    tenant: TenantId,
    session: SessionId,
) -> rusqlite::Result<Vec<TreeSession>> {
    let mut select = db.prepare_cached(
        "WITH RECURSIVE tree (agent, session, parent) AS \
         (SELECT agent, session, NULL FROM session_heads WHERE tenant = ?1 AND session = ?2 \
          UNION ALL SELECT s.agent, s.session, s.parent_session FROM tree t \
          CROSS JOIN sessions s INDEXED BY sessions_parent ON s.tenant = ?1 AND s.parent_session = t.session \
          LIMIT ?3) SELECT agent, session, parent FROM tree",
    )?;
    let most = i64::try_from(TREE_CHECKED_MAX).unwrap_or(i64::MAX);
    let rows = select.query_map(params![tenant.as_bytes(), session.as_bytes(), most], |row| {
        Ok(TreeSession {
            agent: AgentId::from_bytes(column_codes::read_bytes(row, 0)?),
            session: SessionId::from_bytes(column_codes::read_bytes(row, 1)?),
            parent: column_codes::bytes_opt(row, 2)?.map(SessionId::from_bytes),
        })
    })?;
    rows.collect()
}

/// Looks for what keeps a session of a tree. What is found soonest is looked for first, so a session in use costs little.
pub(crate) fn find_state(
    db: &Connection,
    tenant: TenantId,
    one: &TreeSession,
    idle_before: Option<Timestamp>,
) -> rusqlite::Result<SessionState> {
    let (of, session) = (tenant.as_bytes(), one.session.as_bytes());
    let (last, taken, is_active, opened_at, is_held, is_hidden, has_parent) = db
        .prepare_cached(
            "SELECT h.last, h.taken, h.active IS NOT NULL, s.at, \
             EXISTS (SELECT 1 FROM session_holds k WHERE k.tenant = ?1 AND k.session = ?2), \
             EXISTS (SELECT 1 FROM hidden_sessions k WHERE k.tenant = ?1 AND k.session = ?2), \
             EXISTS (SELECT 1 FROM session_heads p WHERE p.tenant = ?1 AND p.session = s.parent_session) \
             FROM session_heads h JOIN sessions s ON s.tenant = h.tenant AND s.agent = h.agent AND s.session = h.session \
             WHERE h.tenant = ?1 AND h.session = ?2",
        )?
        .query_row(params![of, session], |row| {
            let (last, taken) = (column_codes::read_counter(row, 0)?, column_codes::read_counter(row, 1)?);
            let (active, at): (bool, _) = (row.get(2)?, column_codes::read_time(row, 3)?);
            Ok((last, taken, active, at, row.get(4)?, row.get(5)?, row.get(6)?))
        })?;
    let mut state = SessionState { obstacle: None, opened_at, last_at: opened_at, items: last };
    let is_recent = |at: Timestamp| idle_before.is_some_and(|before| at >= before);
    state.obstacle = match (has_parent, is_held) {
        (true, _) if one.parent.is_none() => Some(SessionObstacle::Parent),
        (_, true) => Some(SessionObstacle::Hold),
        _ if is_active => Some(SessionObstacle::OpenRun),
        _ if is_hidden => Some(SessionObstacle::Import),
        _ if last > taken => Some(SessionObstacle::WaitingItem),
        _ if is_recent(opened_at) => Some(SessionObstacle::Recent),
        _ => None,
    };
    if state.obstacle.is_some() {
        return Ok(state);
    }
    let item: Option<Timestamp> = db
        .prepare_cached("SELECT at FROM inbox WHERE tenant = ?1 AND owner = ?2 AND position = ?3")?
        .query_row(params![of, session, column_codes::stored_counter(last)], |row| {
            column_codes::read_time(row, 0)
        })
        .optional()?;
    state.last_at = item.map_or(opened_at, |at| at.max(opened_at));
    if is_recent(state.last_at) {
        state.obstacle = Some(SessionObstacle::Recent);
        return Ok(state);
    }
    let (run_at, is_open): (Option<Timestamp>, bool) = db
        .prepare_cached(
            "SELECT max(updated_at), coalesce(max(status <= 2), 0) \
             FROM runs INDEXED BY runs_session WHERE tenant = ?1 AND session = ?2",
        )?
        .query_row(params![of, session], |row| Ok((column_codes::time_opt(row, 0)?, row.get(1)?)))?;
    state.last_at = run_at.map_or(state.last_at, |at| at.max(state.last_at));
    // A child of an agent that has ended is never taken, so it keeps nothing.
    let open_child = "SELECT 1 FROM sessions s INDEXED BY sessions_open_parent \
                      CROSS JOIN agents a ON a.tenant = s.tenant AND a.agent = s.agent AND a.state IN (0, 1) \
                      WHERE s.tenant = ?1 AND s.parent_session = ?2 AND s.open = 1";
    let open_delivery = "SELECT 1 FROM deliveries INDEXED BY deliveries_session \
                         WHERE tenant = ?1 AND session = ?2 AND state <= 2";
    let open_approval = "SELECT 1 FROM approvals INDEXED BY approvals_open \
                         WHERE tenant = ?1 AND open = 1 AND json_extract(record, '$.session') = ?2";
    state.obstacle = if is_open {
        Some(SessionObstacle::OpenRun)
    } else if db.prepare_cached(open_child)?.exists(params![of, session])? {
        Some(SessionObstacle::OpenChild)
    } else if db.prepare_cached(open_approval)?.exists(params![of, one.session.to_string()])? {
        Some(SessionObstacle::OpenApproval)
    } else if db.prepare_cached(open_delivery)?.exists(params![of, session])? {
        Some(SessionObstacle::OpenDelivery)
    } else if is_recent(state.last_at) {
        Some(SessionObstacle::Recent)
    } else {
        None
    };
    Ok(state)
}

/// Sums up what the runs of a session were.
pub(crate) fn seal_session(
    db: &Connection,
    tenant: TenantId,
    one: &TreeSession,
    state: &SessionState,
) -> rusqlite::Result<SessionSeal> {
    let mut seal = SessionSeal {
        runs: 0,
        entries: 0,
        items: state.items,
        spent: CostTotals::default(),
        opened_at: state.opened_at,
        last_at: state.last_at,
        heads: Digest::default(),
    };
    let mut heads = HeadsHasher::default();
    let mut select = db.prepare_cached(
        "SELECT run, last_seq, chain, model_calls, input_tokens, output_tokens, cost_micros, unpriced \
         FROM runs INDEXED BY runs_session WHERE tenant = ?1 AND session = ?2 ORDER BY run",
    )?;
    let mut rows = select.query(params![tenant.as_bytes(), one.session.as_bytes()])?;
    while let Some(row) = rows.next()? {
        let (run, seq) = (column_codes::read_bytes(row, 0)?, column_codes::read_counter(row, 1)?);
        heads.add_run(&JournalSpan::new(run, None, seq, &column_codes::read_bytes(row, 2)?));
        seal.runs += 1;
        seal.entries += seq;
        seal.spent.add(CostTotals {
            model_calls: column_codes::read_counter(row, 3)?,
            input_tokens: column_codes::read_counter(row, 4)?,
            output_tokens: column_codes::read_counter(row, 5)?,
            cost_micros: column_codes::read_counter(row, 6)?,
            unpriced_calls: column_codes::read_counter(row, 7)?,
        });
    }
    seal.heads = heads.digest();
    Ok(seal)
}

/// Finds what refuses the erasure of an agent, or without one of the tenant: a session of it that is on hold.
pub(crate) fn find_hold_refusal(
    db: &Connection,
    tenant: &[u8],
    agent: Option<AgentId>,
) -> rusqlite::Result<Option<CommitRefusal>> {
    let held: Option<[u8; 16]> = db
        .prepare_cached(
            "SELECT session FROM session_holds WHERE tenant = ?1 AND (?2 IS NULL OR agent = ?2) ORDER BY session LIMIT 1",
        )?
        .query_row(params![tenant, agent.as_ref().map(AgentId::as_bytes)], |row| {
            column_codes::read_bytes(row, 0)
        })
        .optional()?;
    Ok(held.map(|session| CommitRefusal::SessionKept {
        session: SessionId::from_bytes(session),
        obstacle: SessionObstacle::Hold,
    }))
}

/// Counts the bytes of a session's journals and inbox that lie in their rows, and its runs.
pub(crate) fn measure_session(
    db: &Connection,
    tenant: TenantId,
    session: SessionId,
) -> rusqlite::Result<(u64, u64)> {
    let runs: (u64, u64) = db
        .prepare_cached(
            "SELECT count(DISTINCT r.run), coalesce(sum(length(e.fields) + coalesce(length(e.packed), 0) + \
             coalesce(length(e.body), 0) + coalesce((SELECT length(b.bytes) FROM bodies b \
             WHERE b.tenant = ?1 AND b.hash = e.body_hash), 0)), 0) \
             FROM runs r INDEXED BY runs_session CROSS JOIN entries e ON e.tenant = r.tenant AND e.run = r.run \
             WHERE r.tenant = ?1 AND r.session = ?2",
        )?
        .query_row(params![tenant.as_bytes(), session.as_bytes()], |row| {
            Ok((column_codes::read_counter(row, 0)?, column_codes::read_counter(row, 1)?))
        })?;
    let items: u64 = db
        .prepare_cached(
            "SELECT coalesce(sum(coalesce(length(i.body), 0) + coalesce((SELECT length(b.bytes) FROM bodies b \
             WHERE b.tenant = ?1 AND b.hash = i.body_hash), 0)), 0) FROM inbox i WHERE i.tenant = ?1 AND i.owner = ?2",
        )?
        .query_row(params![tenant.as_bytes(), session.as_bytes()], |row| column_codes::read_counter(row, 0))?;
    Ok((runs.0, runs.1 + items))
}

/// Makes the digest of the heads of runs, which are added in the order of their ids.
#[derive(Default)]
pub(crate) struct HeadsHasher(blake3::Hasher);

impl HeadsHasher {
    /// Adds a run with its journal up to the last entry.
    pub(crate) fn add_run(&mut self, head: &JournalSpan) {
        self.0.update(&head.run);
        self.0.update(&head.to.to_be_bytes());
        self.0.update(head.chain_bytes());
    }

    /// Returns the digest of those that were added.
    pub(crate) fn digest(&self) -> Digest {
        Digest::from_bytes(*self.0.finalize().as_bytes())
    }
}
