//! Tasks of the reference store: which may be spawned, and which a run tree has.

use dromia_contracts::agent::AgentState;
use dromia_contracts::run::RunKind;
use dromia_contracts::store::{CommitRefusal, PageRequest, SessionOpen};
use dromia_contracts::task::{self, SpawnedTask, TaskOrigin};
use dromia_contracts::{RunId, Scope, SessionId};

use super::page::page_rows;
use super::rows::TenantRows;

impl TenantRows {
    /// Opens a session, after a look whether its task may be spawned.
    pub(super) fn open_session(&mut self, open: &SessionOpen) -> Result<(), CommitRefusal> {
        let mut opened = self.sessions.clone();
        opened.open_session(open, &self.agents)?;
        if let Some(task) = open.task.as_ref().filter(|_| !self.sessions.rows.contains_key(&open.session)) {
            self.check_task(task)?;
        }
        self.sessions = opened;
        Ok(())
    }

    fn check_task(&self, task: &TaskOrigin) -> Result<(), CommitRefusal> {
        if !(1..=task::DEPTH_MAX).contains(&task.depth) {
            return Err(CommitRefusal::TaskTooDeep { most: task::DEPTH_MAX });
        }
        if let Some(missing) = [task.run, task.root].iter().find(|run| !self.runs.rows.contains_key(run)) {
            return Err(CommitRefusal::NotFound(missing.to_string()));
        }
        let is_open = |session: SessionId| {
            self.task_run(session).is_none_or(|run| !self.runs.rows[&run].head.status.is_terminal())
        };
        let goes_on = |state: AgentState| matches!(state, AgentState::Running | AgentState::Paused);
        let open = self.sessions.rows.values().filter(|session| {
            session.task.as_ref().is_some_and(|other| other.agent == task.agent)
                && is_open(session.id)
                && self.agents.find_state(session.agent).is_some_and(goes_on)
        });
        if open.count() >= task::OPEN_MAX {
            return Err(CommitRefusal::TasksFull { most: task::OPEN_MAX });
        }
        Ok(())
    }

    /// Finds the run that took the task of a session.
    fn task_run(&self, session: SessionId) -> Option<RunId> {
        let takes =
            |run: &&dromia_contracts::run::RunRecord| run.session == session && run.kind == RunKind::Task;
        self.runs.rows.values().filter(takes).map(|run| run.id).next_back()
    }

    pub(super) fn list_spawned(
        &self,
        scope: &Scope,
        root: RunId,
        asked: PageRequest<SessionId>,
    ) -> Vec<SpawnedTask> {
        let wanted = self.sessions.rows.values().filter(|session| {
            session.task.as_ref().is_some_and(|task| task.root == root)
                && self.agents.is_seen(scope, session.agent)
        });
        let spawned = wanted.filter_map(|session| {
            let task = SpawnedTask {
                session: session.id,
                agent: session.agent,
                origin: TaskOrigin::clone(session.task.as_ref()?),
                run: self.task_run(session.id).and_then(|run| self.runs.rows.get(&run).cloned()),
            };
            Some((session.id, task))
        });
        page_rows(spawned, asked, false)
    }
}
