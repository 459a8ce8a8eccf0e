//! Which capabilities of tasks give way when their tenant is at its bound: those of tasks that have finished.
//!
//! A task has finished when no run of its session is open, nothing waits in its inbox, and no call that it asked
//! approval for may still happen. One that stopped at its limit of model calls can be resumed, so it gives way only
//! where no other does. A task that is open never gives way: where nothing else is left, the request for one more is
//! refused. Neither does one whose session is not there yet, until [`UNBEGUN`] has passed; after that its spawn ended
//! half-way.
//!
//! The state of a task is read at this moment and kept nowhere, so nothing is read while the tenant is below its bound.
//! Input that comes for a task that has given way is worked on by a run that may do nothing any more; it never has more
//! rights.
//!
//! Bounds: [`AT_ONCE`] give way together, so that the next ones need no scan; [`PAGES_MAX`] pages of an agent's
//! approvals are read, and of an agent with more of them none gives way.

use std::collections::HashMap;

use dromia_contracts::agent::AgentState;
use dromia_contracts::approval::{self, ApprovalState};
use dromia_contracts::capability::{CapabilityRecord, CapabilityUse, approved_at};
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::{SessionKey, SessionRecord};
use dromia_contracts::store::{ApprovalFilter, PageRequest, ReadError, RunFilter, Store};
use dromia_contracts::task::{self, PendingInput, TaskState};
use dromia_contracts::{Actor, AgentId, ApprovalId, CapabilityId, Scope, SessionId};
use jiff::{SignedDuration, Timestamp};

use super::live::TenantCapabilities;

/// The most capabilities that give way together.
pub(super) const AT_ONCE: usize = 16;

/// How long a capability may be without the session of its task; longer than any request goes on.
const UNBEGUN: SignedDuration = SignedDuration::from_hours(1);

/// The most pages of an agent's approvals that are read.
const PAGES_MAX: usize = 64;

/// The state of a task, as far as its capability is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskDisposition {
    /// It does nothing more without new input.
    Finished,
    /// It stopped at its limit and may be resumed.
    Resumable,
    /// It goes on, or will.
    Open,
}

/// Lists the capabilities that give way, those of the oldest tasks first; none where every task is open.
///
/// # Errors
/// If the store does not answer: then nothing gives way.
pub(super) async fn giving_way(
    store: &dyn Store,
    scope: &Scope,
    held: &TenantCapabilities,
    now: Timestamp,
) -> Result<Vec<CapabilityId>, ReadError> {
    if scope.agent().is_some() {
        // It does not see every task, and one that it does not see is not one that has finished.
        return Ok(Vec::new());
    }
    let mut tasks: Vec<&CapabilityRecord> = held.rows.values().map(|row| &row.capability).collect();
    tasks.retain(|capability| capability.usage == CapabilityUse::Task);
    tasks.sort_by_key(|capability| (capability.created_at, capability.id));
    let mut look = TaskScan { store, scope, now, asked: HashMap::new() };
    let (mut finished, mut resumable) = (Vec::new(), Vec::new());
    for capability in tasks {
        match look.task_disposition(capability).await? {
            TaskDisposition::Finished => finished.push(capability.id),
            TaskDisposition::Resumable => resumable.push(capability.id),
            TaskDisposition::Open => {}
        }
        if finished.len() == AT_ONCE {
            break;
        }
    }
    if finished.is_empty() {
        // A caller may still resume each of these tasks, so no more of them go than must.
        resumable.truncate(1);
        return Ok(resumable);
    }
    Ok(finished)
}

/// A request for approval, as far as it says whether its call may still happen.
#[derive(Debug)]
struct TaskApproval {
    id: ApprovalId,
    agent: AgentId,
    session: SessionId,
    author: Actor,
    state: ApprovalState,
}

/// One scan of the tasks of a tenant.
#[derive(Debug)]
struct TaskScan<'a> {
    store: &'a dyn Store,
    scope: &'a Scope,
    now: Timestamp,
    /// The approvals of each agent that was scanned; `None` for an agent with too many to be read.
    asked: HashMap<AgentId, Option<Vec<TaskApproval>>>,
}

impl TaskScan<'_> {
    async fn task_disposition(
        &mut self,
        capability: &CapabilityRecord,
    ) -> Result<TaskDisposition, ReadError> {
        let (agent, id) = (capability.holder, capability.id);
        let key = SessionKey {
            platform: task::PLATFORM.to_owned(),
            channel: id.to_string(),
            actor: capability.by.clone(),
        };
        let Some(session) = self.store.session_by_key(self.scope, agent, &key).await? else {
            let is_left = self.now.duration_since(capability.created_at) > UNBEGUN;
            return Ok(if is_left { TaskDisposition::Finished } else { TaskDisposition::Open });
        };
        let standing = self.of_session(&session).await?;
        if standing == TaskDisposition::Open || self.may_be_called(agent, session.id, id).await? {
            return Ok(TaskDisposition::Open);
        }
        Ok(standing)
    }

    async fn of_session(&self, session: &SessionRecord) -> Result<TaskDisposition, ReadError> {
        if session.head.active.is_some() {
            return Ok(TaskDisposition::Open);
        }
        let runs = RunFilter { session: Some(session.id), ..RunFilter::default() };
        let newest = self.store.runs(self.scope, runs, PageRequest::first_page(1)).await?.pop();
        let untaken = if session.head.last == session.head.taken {
            PendingInput::Nothing
        } else {
            match self.store.agent(self.scope, session.agent).await?.map(|agent| agent.state) {
                Some(AgentState::Terminated | AgentState::Deleting) | None => PendingInput::InVain,
                Some(_) => PendingInput::Waits,
            }
        };
        Ok(disposition_of(session, newest.map(|run| run.head.status), untaken))
    }

    /// Tells whether a call may still happen within a capability that a session asked approval for.
    async fn may_be_called(
        &mut self,
        agent: AgentId,
        session: SessionId,
        bound: CapabilityId,
    ) -> Result<bool, ReadError> {
        let asked = match self.asked.remove(&agent) {
            Some(known) => known,
            None => self.asked_by(agent).await?,
        };
        let told = match &asked {
            Some(asked) => self.is_called(asked, session, bound).await,
            None => Ok(true),
        };
        self.asked.insert(agent, asked);
        told
    }

    async fn is_called(
        &self,
        asked: &[TaskApproval],
        session: SessionId,
        bound: CapabilityId,
    ) -> Result<bool, ReadError> {
        for asked in asked.iter().filter(|asked| asked.session == session) {
            if asked.state.is_open() || asked.state == ApprovalState::Approved {
                return Ok(true);
            }
            // Its call may have begun in a session of its own, which tells the task how it ended.
            let key = SessionKey {
                platform: approval::PLATFORM.to_owned(),
                channel: approved_at(asked.id, Some(bound)),
                actor: asked.author.clone(),
            };
            if let Some(own) = self.store.session_by_key(self.scope, asked.agent, &key).await?
                && self.of_session(&own).await? != TaskDisposition::Finished
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn asked_by(&self, agent: AgentId) -> Result<Option<Vec<TaskApproval>>, ReadError> {
        let filter = ApprovalFilter { agent: Some(agent), ..ApprovalFilter::default() };
        let mut page = PageRequest::first_page(PageRequest::<ApprovalId>::LIMIT_MAX);
        let mut all = Vec::new();
        for _ in 0..PAGES_MAX {
            let some = self.store.approvals(self.scope, filter, page).await?;
            let is_last = some.len() < page.limit;
            page.after = some.last().map(|last| last.id);
            all.extend(some.into_iter().map(|approval| TaskApproval {
                id: approval.id,
                agent: approval.agent,
                session: approval.session,
                state: approval.state_at(self.now),
                author: approval.author,
            }));
            if is_last {
                return Ok(Some(all));
            }
        }
        Ok(None)
    }
}

/// Decides the state of a task from its session, its newest run's status and its inbox.
fn disposition_of(
    session: &SessionRecord,
    newest: Option<RunStatus>,
    untaken: PendingInput,
) -> TaskDisposition {
    if session.head.active.is_some() {
        return TaskDisposition::Open;
    }
    match TaskState::derive_state(newest, untaken) {
        TaskState::Completed | TaskState::Failed => TaskDisposition::Finished,
        TaskState::Paused if newest == Some(RunStatus::Yielded) => TaskDisposition::Resumable,
        TaskState::Pending | TaskState::Running | TaskState::Paused => TaskDisposition::Open,
    }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::RunId;
    use dromia_contracts::session::SessionHead;

    use super::*;

    type Decide = fn(&SessionRecord, Option<RunStatus>, PendingInput) -> TaskDisposition;

    fn session(active: bool) -> SessionRecord {
        let key = SessionKey {
            platform: task::PLATFORM.to_owned(),
            channel: "c".to_owned(),
            actor: Actor::new("a"),
        };
        let active = active.then(|| RunId::from_bytes([3; 16]));
        SessionRecord {
            id: SessionId::from_bytes([1; 16]),
            agent: AgentId::from_bytes([2; 16]),
            key,
            opened_at: Timestamp::UNIX_EPOCH,
            head: SessionHead { last: 1, taken: 1, active },
        }
    }

    /// Says of which task a decision is wrong.
    fn claims(decide: Decide) -> Result<(), String> {
        use RunStatus::{Cancelled, Completed, Failed, Held, Parked, Running, Yielded};
        use TaskDisposition::{Finished, Open, Resumable};
        let idle = [
            (Some(Completed), PendingInput::Nothing, Finished),
            (Some(Failed), PendingInput::Nothing, Finished),
            (Some(Cancelled), PendingInput::Nothing, Finished),
            (Some(Yielded), PendingInput::Nothing, Resumable),
            (Some(Completed), PendingInput::Waits, Open),
            (Some(Yielded), PendingInput::Waits, Open),
            (None, PendingInput::Waits, Open),
            (None, PendingInput::Nothing, Open),
            (Some(Completed), PendingInput::InVain, Finished),
            (None, PendingInput::InVain, Finished),
        ];
        let active = [Running, Parked, Held].into_iter().flat_map(|status| {
            [PendingInput::Nothing, PendingInput::Waits, PendingInput::InVain]
                .map(|untaken| (Some(status), untaken, Open))
        });
        // A newest run that was read before another one began says nothing.
        let late = [(Some(Completed), PendingInput::Nothing, Open), (None, PendingInput::InVain, Open)];
        let rows = idle.into_iter().map(|row| (false, row));
        let rows = rows.chain(active.chain(late).map(|row| (true, row)));
        for (is_active, (newest, untaken, expected)) in rows {
            let found = decide(&session(is_active), newest, untaken);
            if found != expected {
                return Err(format!("{is_active} {newest:?} {untaken:?}: {found:?} and not {expected:?}"));
            }
        }
        Ok(())
    }

    #[test]
    fn only_what_has_no_run_and_no_input_has_finished() {
        assert_eq!(claims(disposition_of), Ok(()));
    }

    #[test]
    fn a_reclaim_that_ignores_open_runs_or_input_is_caught() {
        let past_the_run: Decide = |known, newest, untaken| {
            let mut known = known.clone();
            known.head.active = None;
            disposition_of(&known, newest, untaken)
        };
        let past_the_input: Decide = |known, newest, _| disposition_of(known, newest, PendingInput::Nothing);
        for planted in [past_the_run, past_the_input] {
            assert!(claims(planted).is_err());
        }
    }
}
