//! Children in the reference store: which may be spawned, and which a run tree has.

use dromia_contracts::agent::AgentState;
use dromia_contracts::store::{CommitRefusal, PageRequest, SessionOpen};
use dromia_contracts::task::{self, ChildSession, RunOrigin};
use dromia_contracts::{RunId, Scope, SessionId};

use super::page::page_rows;
use super::rows::TenantRows;

impl TenantRows {
    /// Opens a session, after a look whether one more child may begin.
    pub(super) fn open_session(&mut self, open: &SessionOpen) -> Result<(), CommitRefusal> {
        let mut opened = self.sessions.clone();
        opened.open_session(open, &self.agents)?;
        if let Some(origin) = open.origin.as_ref().filter(|_| !self.sessions.rows.contains_key(&open.session))
        {
            self.check_origin(origin)?;
        }
        self.sessions = opened;
        Ok(())
    }

    fn check_origin(&self, origin: &RunOrigin) -> Result<(), CommitRefusal> {
        if !(1..=task::DEPTH_MAX).contains(&origin.depth) {
            return Err(CommitRefusal::ChildTooDeep { most: task::DEPTH_MAX });
        }
        if let Some(missing) = [origin.run, origin.root].iter().find(|run| !self.runs.rows.contains_key(run))
        {
            return Err(CommitRefusal::NotFound(missing.to_string()));
        }
        let is_open = |session: SessionId| self.is_open_child(session);
        let goes_on = |state: AgentState| matches!(state, AgentState::Running | AgentState::Paused);
        let open = self.sessions.rows.values().filter(|session| {
            session.origin.as_ref().is_some_and(|other| other.agent == origin.agent)
                && is_open(session.id)
                && self.agents.find_state(session.agent).is_some_and(goes_on)
        });
        if open.count() >= task::OPEN_MAX {
            return Err(CommitRefusal::ChildrenFull { most: task::OPEN_MAX });
        }
        let beside = self.sessions.rows.values().filter(|session| {
            let is_beside = |other: &RunOrigin| (other.session, other.kind) == (origin.session, origin.kind);
            session.origin.as_deref().is_some_and(is_beside)
                && is_open(session.id)
                && self.agents.find_state(session.agent).is_some_and(goes_on)
        });
        let (kind, most) = (origin.kind, origin.kind.open_max());
        if beside.count() >= most {
            return Err(CommitRefusal::SessionFull { kind, most });
        }
        Ok(())
    }

    pub(super) fn is_open_child(&self, session: SessionId) -> bool {
        self.child_run(session).is_none_or(|run| !self.runs.rows[&run].head.status.is_terminal())
    }

    /// Finds the child that a session was opened for.
    fn child_run(&self, session: SessionId) -> Option<RunId> {
        let takes = |run: &&dromia_contracts::run::RunRecord| run.session == session && run.kind.is_child();
        self.runs.rows.values().filter(takes).map(|run| run.id).next_back()
    }

    /// Lists the children of these parents.
    pub(super) fn list_children(
        &self,
        scope: &Scope,
        is_parent: impl Fn(&RunOrigin) -> bool,
        open: bool,
        asked: PageRequest<SessionId>,
    ) -> Vec<ChildSession> {
        let wanted = self.sessions.rows.values().filter(|session| {
            session.origin.as_deref().is_some_and(&is_parent)
                && self.agents.is_seen(scope, session.agent)
                && (!open || self.is_open_child(session.id))
        });
        let spawned = wanted.filter_map(|session| {
            let child = ChildSession {
                session: session.id,
                agent: session.agent,
                origin: RunOrigin::clone(session.origin.as_ref()?),
                run: self.child_run(session.id).and_then(|run| self.runs.rows.get(&run).cloned()),
            };
            Some((session.id, child))
        });
        page_rows(spawned, asked, false)
    }
}
