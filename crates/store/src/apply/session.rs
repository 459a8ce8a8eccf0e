//! Sessions and how far their inboxes have come.

use rusqlite::{OptionalExtension as _, params};

use dromia_contracts::agent::AgentState;
use dromia_contracts::audit::AuditChange;
use dromia_contracts::id::{AgentId, RunId, SessionId};
use dromia_contracts::session::{SessionHead, SessionKey};
use dromia_contracts::store::{CommitRefusal, SessionOpen};
use dromia_contracts::task::{self, RunOrigin};

use super::agent::AgentDrafts;
use super::audit::ActList;
use super::{Checked, TableDraft, TenantDb};
use crate::column_codes::{self, StoredEnum as _, stored_counter};

/// A session that the batch touches.
#[derive(Debug)]
pub(super) struct SessionDraft<'b> {
    pub(super) session: SessionId,
    pub(super) agent: AgentId,
    pub(super) head: SessionHead,
    pub(super) changed: bool,
    open: Option<&'b SessionOpen>,
    /// Whether the batch ends the import that fills it.
    import_ended: bool,
    /// The run of its task that the batch begins or ends, and whether that run is open.
    pub(super) child_run: Option<(RunId, bool)>,
}

/// The sessions that the batch touches.
#[derive(Debug, Default)]
pub(super) struct SessionDrafts<'b> {
    rows: Vec<SessionDraft<'b>>,
}

impl<'b> SessionDrafts<'b> {
    /// Finds a session of the tenant.
    pub(super) fn find_session(
        &mut self,
        db: TenantDb<'_>,
        session: SessionId,
    ) -> Checked<&mut SessionDraft<'b>> {
        let missing = || CommitRefusal::NotFound(session.to_string());
        let index = self.session_index(db, session)?.ok_or_else(missing)?;
        self.rows.get_mut(index).ok_or_else(|| missing().into())
    }

    fn session_index(&mut self, db: TenantDb<'_>, session: SessionId) -> Checked<Option<usize>> {
        if let Some(index) = self.rows.iter().position(|draft| draft.session == session) {
            return Ok(Some(index));
        }
        let found = db
            .prepare_cached(
                "SELECT agent, last, taken, active FROM session_heads WHERE tenant = ?1 AND session = ?2",
            )?
            .query_row(params![db.tenant.as_bytes(), session.as_bytes()], |row| {
                Ok(SessionDraft {
                    session,
                    agent: AgentId::from_bytes(column_codes::read_bytes(row, 0)?),
                    head: SessionHead {
                        last: column_codes::read_counter(row, 1)?,
                        taken: column_codes::read_counter(row, 2)?,
                        active: column_codes::bytes_opt(row, 3)?.map(RunId::from_bytes),
                    },
                    changed: false,
                    open: None,
                    import_ended: false,
                    child_run: None,
                })
            })
            .optional()?;
        Ok(found.map(|draft| {
            self.rows.push(draft);
            self.rows.len() - 1
        }))
    }

    pub(super) fn open_session(
        &mut self,
        db: TenantDb<'_>,
        open: &'b SessionOpen,
        agents: &mut AgentDrafts<'b>,
    ) -> Checked {
        if let Some(index) = self.session_index(db, open.session)? {
            let same = match self.rows[index].open {
                Some(drafted) => drafted == open,
                None => session_stands(db, open)?,
            };
            if same {
                return Ok(());
            }
            return Err(CommitRefusal::Malformed(format!("{} is another session", open.session)).into());
        }
        match agents.find_state(db, open.agent)? {
            None | Some(AgentState::Deleting) => {
                return Err(CommitRefusal::NotFound(open.agent.to_string()).into());
            }
            Some(AgentState::Running | AgentState::Paused | AgentState::Terminated) => {}
        }
        if let Some(session) = self.session_of_key(db, open.agent, &open.key)? {
            return Err(CommitRefusal::SessionExists { session }.into());
        }
        if let Some(origin) = &open.origin {
            self.check_origin(db, origin)?;
        }
        self.rows.push(SessionDraft {
            session: open.session,
            agent: open.agent,
            head: SessionHead::default(),
            changed: true,
            open: Some(open),
            import_ended: false,
            child_run: None,
        });
        Ok(())
    }

    /// Checks that one more task may be spawned below a run.
    fn check_origin(&self, db: TenantDb<'_>, origin: &RunOrigin) -> Checked {
        if origin.depth == 0 || origin.depth > task::DEPTH_MAX {
            return Err(CommitRefusal::ChildTooDeep { most: task::DEPTH_MAX }.into());
        }
        for run in [origin.run, origin.root] {
            let is_known = db
                .prepare_cached("SELECT 1 FROM runs WHERE tenant = ?1 AND run = ?2")?
                .exists(params![db.tenant.as_bytes(), run.as_bytes()])?;
            if !is_known {
                return Err(CommitRefusal::NotFound(run.to_string()).into());
            }
        }
        // A task of an agent that has ended is never taken, so it does not count.
        let stored: u32 = db
            .prepare_cached(
                "SELECT count(*) FROM sessions s JOIN agents a ON a.tenant = s.tenant AND a.agent = s.agent \
                 WHERE s.tenant = ?1 AND s.parent_agent = ?2 AND s.open = 1 AND a.state IN (0, 1)",
            )?
            .query_row(params![db.tenant.as_bytes(), origin.agent.as_bytes()], |row| row.get(0))?;
        let drafted = self.rows.iter().filter_map(|draft| draft.open?.origin.as_ref());
        let open = stored as usize + drafted.filter(|other| other.agent == origin.agent).count();
        if open >= task::OPEN_MAX {
            return Err(CommitRefusal::ChildrenFull { most: task::OPEN_MAX }.into());
        }
        let stored: u32 = db
            .prepare_cached(
                "SELECT count(*) FROM sessions s JOIN agents a ON a.tenant = s.tenant AND a.agent = s.agent \
                 WHERE s.tenant = ?1 AND s.parent_session = ?2 AND s.child_kind = ?3 AND s.open = 1 \
                 AND a.state IN (0, 1)",
            )?
            .query_row(
                params![db.tenant.as_bytes(), origin.session.as_bytes(), origin.kind.stored_code()],
                |row| row.get(0),
            )?;
        let is_beside = |other: &&RunOrigin| (other.session, other.kind) == (origin.session, origin.kind);
        let drafted = self.rows.iter().filter_map(|draft| draft.open?.origin.as_deref());
        let (kind, most) = (origin.kind, origin.kind.open_max());
        if stored as usize + drafted.filter(is_beside).count() >= most {
            return Err(CommitRefusal::SessionFull { kind, most }.into());
        }
        Ok(())
    }

    pub(super) fn end_import(&mut self, db: TenantDb<'_>, session: SessionId) -> Checked {
        let draft = self.find_session(db, session)?;
        let is_importing = match draft.open {
            Some(open) => open.importing && !draft.import_ended,
            None => db
                .prepare_cached("SELECT 1 FROM hidden_sessions WHERE tenant = ?1 AND session = ?2")?
                .exists(params![db.tenant.as_bytes(), session.as_bytes()])?,
        };
        if !is_importing {
            return Ok(());
        }
        if draft.head.active.is_some() || draft.head.last > draft.head.taken {
            return Err(CommitRefusal::Malformed(format!("the import of {session} is not whole")).into());
        }
        draft.import_ended = true;
        draft.changed = true;
        Ok(())
    }

    fn session_of_key(
        &self,
        db: TenantDb<'_>,
        agent: AgentId,
        key: &SessionKey,
    ) -> Checked<Option<SessionId>> {
        let drafted = self
            .rows
            .iter()
            .find(|draft| draft.agent == agent && draft.open.is_some_and(|open| open.key == *key));
        if let Some(draft) = drafted {
            return Ok(Some(draft.session));
        }
        let found = db
            .prepare_cached(
                "SELECT session FROM sessions \
                 WHERE tenant = ?1 AND agent = ?2 AND platform = ?3 AND channel = ?4 AND actor = ?5",
            )?
            .query_row(
                params![
                    db.tenant.as_bytes(),
                    agent.as_bytes(),
                    key.platform,
                    key.channel,
                    key.actor.as_str()
                ],
                |row| column_codes::read_bytes(row, 0),
            )
            .optional()?;
        Ok(found.map(SessionId::from_bytes))
    }
}

impl TableDraft for SessionDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for draft in self.rows.iter().filter(|draft| draft.changed) {
            if let Some(open) = draft.open {
                db.prepare_cached(
                    "INSERT INTO sessions (tenant, agent, session, platform, channel, actor, at, origin, parent_agent, \
                     root, open, parent_session, child_kind) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
                )?
                .execute(params![
                    db.tenant.as_bytes(),
                    draft.agent.as_bytes(),
                    draft.session.as_bytes(),
                    open.key.platform,
                    open.key.channel,
                    open.key.actor.as_str(),
                    open.at.as_millisecond(),
                    open.origin.as_deref().map(origin_text),
                    open.origin.as_ref().map(|origin| origin.agent.as_bytes()),
                    open.origin.as_ref().map(|origin| origin.root.as_bytes()),
                    open.origin.as_ref().map(|_| 1),
                    open.origin.as_ref().map(|origin| origin.session.as_bytes()),
                    open.origin.as_ref().map(|origin| origin.kind.stored_code()),
                ])?;
            }
            if let Some((run, is_open)) = draft.child_run {
                db.prepare_cached(
                    "UPDATE sessions SET child_run = ?4, open = ?5 WHERE tenant = ?1 AND agent = ?2 AND session = ?3",
                )?
                .execute(params![
                    db.tenant.as_bytes(),
                    draft.agent.as_bytes(),
                    draft.session.as_bytes(),
                    run.as_bytes(),
                    i64::from(is_open),
                ])?;
            }
            let sql = match draft.open {
                Some(_) => {
                    "INSERT INTO session_heads (tenant, session, agent, last, taken, active) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
                }
                None => {
                    "UPDATE session_heads SET last = ?4, taken = ?5, active = ?6 \
                     WHERE tenant = ?1 AND session = ?2 AND agent = ?3"
                }
            };
            db.prepare_cached(sql)?.execute(params![
                db.tenant.as_bytes(),
                draft.session.as_bytes(),
                draft.agent.as_bytes(),
                stored_counter(draft.head.last),
                stored_counter(draft.head.taken),
                draft.head.active.as_ref().map(RunId::as_bytes),
            ])?;
            let import = match draft.open {
                Some(open) if open.importing && !draft.import_ended => {
                    "INSERT INTO hidden_sessions (tenant, session) VALUES (?1, ?2)"
                }
                None if draft.import_ended => {
                    "DELETE FROM hidden_sessions WHERE tenant = ?1 AND session = ?2"
                }
                Some(_) | None => continue,
            };
            db.prepare_cached(import)?.execute(params![db.tenant.as_bytes(), draft.session.as_bytes()])?;
        }
        Ok(())
    }

    fn note_acts(&self, acts: &mut ActList<'_>) {
        for open in self.rows.iter().filter_map(|draft| draft.open).filter(|open| open.believes) {
            let change = AuditChange::SessionTrusted { session: open.session, agent: open.agent };
            acts.note_change(open.at, change);
        }
    }
}

/// Returns whether a session was opened with exactly this content.
fn session_stands(db: TenantDb<'_>, open: &SessionOpen) -> Checked<bool> {
    let same = db
        .prepare_cached(
            "SELECT platform = ?4 AND channel = ?5 AND actor = ?6 AND at = ?7 AND origin IS ?8 \
             FROM sessions WHERE tenant = ?1 AND agent = ?2 AND session = ?3",
        )?
        .query_row(
            params![
                db.tenant.as_bytes(),
                open.agent.as_bytes(),
                open.session.as_bytes(),
                open.key.platform,
                open.key.channel,
                open.key.actor.as_str(),
                open.at.as_millisecond(),
                open.origin.as_deref().map(origin_text),
            ],
            |row| row.get(0),
        )
        .optional()?;
    Ok(same.unwrap_or(false))
}

/// Writes the origin of a run as it is stored. Strings, numbers and ids only, so serialization has no failing case.
fn origin_text(origin: &RunOrigin) -> String {
    serde_json::to_string(origin).unwrap_or_default()
}
