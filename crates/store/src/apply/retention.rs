//! Erasing sessions with their children, and the holds that keep them.
//!
//! The commit that erases a session takes its row, its head and its key, hides what is left and leaves the seal, all at once;
//! `crate::erase` takes what is hidden, page by page. So a crash between two of those finds a session that is erased or none.

use rusqlite::params;

use dromia_contracts::agent::AgentState;
use dromia_contracts::audit::AuditChange;
use dromia_contracts::id::{AgentId, SessionId};
use dromia_contracts::retention::{SessionHold, SessionSeal, TREE_ERASED_MAX};
use dromia_contracts::store::{CommitRefusal, SessionErase, SessionHoldSet, WriteBatch};

use super::agent::AgentDrafts;
use super::audit::ActList;
use super::session::SessionDrafts;
use super::{Checked, TableDraft, TenantDb};
use crate::session_tree::{self, SessionState, TreeSession};

/// The holds that the batch sets or ends, and the sessions that it erases.
#[derive(Debug, Default)]
pub(super) struct RetentionDrafts<'b> {
    holds: Vec<HoldDraft<'b>>,
    erased: Option<TreeErasure<'b>>,
}

#[derive(Debug)]
struct HoldDraft<'b> {
    session: SessionId,
    agent: AgentId,
    hold: Option<&'b SessionHold>,
}

#[derive(Debug)]
struct TreeErasure<'b> {
    erase: &'b SessionErase,
    sessions: Vec<(TreeSession, SessionSeal)>,
}

impl<'b> RetentionDrafts<'b> {
    /// Sets a session on hold, or ends its hold; a repetition changes nothing.
    pub(super) fn set_hold(
        &mut self,
        db: TenantDb<'_>,
        set: &'b SessionHoldSet,
        sessions: &mut SessionDrafts<'b>,
        agents: &mut AgentDrafts<'b>,
    ) -> Checked {
        let (session, agent) = (set.session, sessions.find_session(db, set.session)?.agent);
        if matches!(agents.find_state(db, agent)?, None | Some(AgentState::Deleting)) {
            return Err(CommitRefusal::NotFound(session.to_string()).into());
        }
        let is_held = match self.holds.iter().rfind(|draft| draft.session == session) {
            Some(draft) => draft.hold.is_some(),
            None => db
                .prepare_cached("SELECT 1 FROM session_holds WHERE tenant = ?1 AND session = ?2")?
                .exists(params![db.tenant.as_bytes(), session.as_bytes()])?,
        };
        if is_held != set.hold.is_some() {
            self.holds.push(HoldDraft { session, agent, hold: set.hold.as_ref() });
        }
        Ok(())
    }

    /// Erases a session and those below it.
    pub(super) fn erase_session(
        &mut self,
        db: TenantDb<'_>,
        erase: &'b SessionErase,
        batch: &WriteBatch,
    ) -> Checked {
        if batch.mutations.len() > 1 || batch.claim.is_some() {
            let text = "a batch that erases a session does nothing else";
            return Err(CommitRefusal::Malformed(text.into()).into());
        }
        let tree = session_tree::list_tree(&db, db.tenant, erase.session)?;
        if tree.is_empty() {
            let is_erased = db
                .prepare_cached(
                    "SELECT 1 FROM hidden_sessions WHERE tenant = ?1 AND session = ?2 AND erased_agent IS NOT NULL",
                )?
                .exists(params![db.tenant.as_bytes(), erase.session.as_bytes()])?;
            return if is_erased {
                Ok(())
            } else {
                Err(CommitRefusal::NotFound(erase.session.to_string()).into())
            };
        }
        let mut sessions = Vec::new();
        for one in tree {
            let state = session_tree::find_state(&db, db.tenant, &one, erase.idle_before)?;
            if let Some(obstacle) = state.obstacle {
                return Err(CommitRefusal::SessionKept { session: one.session, obstacle }.into());
            }
            sessions.push((one, state));
        }
        // Children before their parents, so that no commit leaves a child without one.
        let sessions = sessions.split_off(sessions.len().saturating_sub(TREE_ERASED_MAX));
        let sealed = |(one, state): (TreeSession, SessionState)| {
            session_tree::seal_session(&db, db.tenant, &one, &state).map(|seal| (one, seal))
        };
        let sessions = sessions.into_iter().map(sealed).collect::<rusqlite::Result<Vec<_>>>()?;
        self.erased = Some(TreeErasure { erase, sessions });
        Ok(())
    }
}

impl TableDraft for RetentionDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        let tenant = db.tenant.as_bytes();
        for HoldDraft { session, agent, hold } in &self.holds {
            match hold {
                Some(hold) => db
                    .prepare_cached(
                        "INSERT INTO session_holds (tenant, session, agent, author, at) VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![
                        tenant,
                        session.as_bytes(),
                        agent.as_bytes(),
                        hold.by.as_str(),
                        hold.since.as_millisecond(),
                    ])?,
                None => db
                    .prepare_cached("DELETE FROM session_holds WHERE tenant = ?1 AND session = ?2")?
                    .execute(params![tenant, session.as_bytes()])?,
            };
        }
        for (TreeSession { session, agent, .. }, _) in self.erased.iter().flat_map(|tree| &tree.sessions) {
            db.prepare_cached(
                "INSERT INTO hidden_sessions (tenant, session, erased_agent) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![tenant, session.as_bytes(), agent.as_bytes()])?;
            db.prepare_cached("DELETE FROM session_heads WHERE tenant = ?1 AND session = ?2")?
                .execute(params![tenant, session.as_bytes()])?;
            db.prepare_cached("DELETE FROM sessions WHERE tenant = ?1 AND agent = ?2 AND session = ?3")?
                .execute(params![tenant, agent.as_bytes(), session.as_bytes()])?;
        }
        Ok(())
    }

    fn note_acts(&self, acts: &mut ActList<'_>) {
        for HoldDraft { session, agent, hold } in &self.holds {
            let held = hold.is_some();
            acts.note_wanted(AuditChange::SessionHoldSet { session: *session, agent: *agent, held });
        }
        let Some(TreeErasure { erase, sessions }) = &self.erased else { return };
        for (TreeSession { session, agent, parent }, seal) in sessions {
            let (session, agent, with, seal) = (*session, *agent, *parent, seal.clone());
            let idle_before = erase.idle_before;
            acts.note_change(
                erase.at,
                AuditChange::SessionErased { session, agent, with, idle_before, seal },
            );
        }
    }
}
