//! How an approval is answered: by a person, or by its time.
//!
//! An answer is one commit: how the approval stands from now on, and the signal or the item by which somebody goes on.
//! Where the run that asked still waits, that is a signal in its inbox; where it went on, an approved call is a session of
//! its own with that one item, and a refusal is an input of the session that asked. Which of the two it is the store
//! decides: an approval that moved meanwhile is looked at again. A delayed call is answered by the engine in the same way, once
//! its time to cool is over; it carries one hop more than the run that asked, as a message between agents does, so that agents
//! cannot go on for ever by it.
//!
//! What an answer writes is in `batch`, several of them at once in `together`, the rules that answer ahead in `rules`. No call
//! is executed here: whoever goes on judges it again.

mod batch;
mod rules;
mod together;

use std::sync::Arc;

use dromia_contracts::approval::{Answered, Approval, ApprovalState, REASON_BYTES_MAX};
use dromia_contracts::capability;
use dromia_contracts::content::ToolCall;
use dromia_contracts::runs::{Answer, Reach};
use dromia_contracts::store::{ApprovalAnswer, Batch, Commit, Mutation, Refusal};
use dromia_contracts::{
    Actor, ApprovalId, CapabilityId, ErrorCode, Fault, RunId, Scope, SessionId, TenantId,
};
use futures_util::future::{Either, select};
use jiff::{SignedDuration, Timestamp};

use crate::agents::read_fault;
use crate::core::Core;
use crate::refusal::{agent_terminated, commit_fault, session_not_found};
use crate::scheduler::Ready;

use self::batch::reach_of;
use self::together::{check_also, distinct};

/// How long an answer looks at the files of the programs that it allows, all together.
const LOOK_TIME: SignedDuration = SignedDuration::from_secs(10);

/// How often an approval that moves while it is answered is looked at again.
const TRIES: u32 = 4;

/// Who goes on once an answer is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Run(RunId),
    Session(SessionId),
}

impl Core {
    /// Answers an approval for a person, and others of the same run with it: all of them, or none.
    pub(crate) async fn approval_answer(
        self: &Arc<Self>,
        scope: &Scope,
        id: ApprovalId,
        also: &[ApprovalId],
        answer: &Answer,
    ) -> Result<Approval, Fault> {
        let reach = reach_of(answer)?;
        check_also(id, also, answer)?;
        if let Answer::Deny { reason } = answer
            && reason.len() > REASON_BYTES_MAX
        {
            let text = format!("a reason has at most {REASON_BYTES_MAX} bytes");
            return Err(Fault::new(ErrorCode::InvalidRequest, text));
        }
        let looked_until = self.ports.runtime.clock.now().checked_add(LOOK_TIME).unwrap_or(Timestamp::MAX);
        for _ in 0..TRIES {
            let found = self.ports.store.approval(scope, id).await.map_err(read_fault)?;
            let mut found = found.ok_or_else(|| approval_not_found(id))?;
            let others = self.others(scope, &found, also).await?;
            let now = self.ports.runtime.clock.now();
            let open = to_answer(scope, std::iter::once(&found).chain(&others), reach.as_ref(), now)?;
            if open.is_empty() {
                return Ok(found);
            }
            if matches!(answer, Answer::Approve(_)) {
                for asked in &open {
                    self.check_files(asked, looked_until).await?;
                }
            }
            let bound = self.bound_of(scope, &found).await?;
            let mut batch = Batch::new(scope.tenant()).wanted_by(scope.actor(), now);
            let mut nexts = Vec::with_capacity(open.len());
            for asked in &open {
                let (part, next) = self.answer_batch(scope, asked, answer, bound, now)?;
                batch.mutations.extend(part.mutations);
                nexts.push(next);
            }
            let commit = self.ports.store.commit(batch.clone()).await;
            match commit {
                Commit::Done(_) => {
                    self.all_answered(scope, &nexts);
                    // What the store did, done to what was read before.
                    let given = batch.mutations.iter().find_map(|mutation| match mutation {
                        Mutation::ApprovalAnswer(given) if given.approval == id => Some(given),
                        _ => None,
                    });
                    if let Some(given) = given {
                        let moved = found.answer(given.from, given.approved, &given.answered);
                        moved.map_err(|state| closed(&found, state))?;
                    }
                    return Ok(found);
                }
                Commit::Refused(Refusal::ApprovalMoved { .. } | Refusal::RunTerminal) => {}
                Commit::Refused(Refusal::AgentState { .. }) => return Err(agent_terminated(found.agent)),
                Commit::Unknown { .. } => {
                    // It may be durable, so whoever goes on must look all the same.
                    self.all_answered(scope, &nexts);
                    self.request_rescan();
                    return Err(commit_fault(commit));
                }
                other @ Commit::Refused(_) => return Err(commit_fault(other)),
            }
        }
        Err(Fault::new(ErrorCode::StoreUnavailable, "the approval changed too often while it was answered")
            .with_hint("look at it with `dromia approval show`"))
    }

    /// Tells whoever waits for some of the answers, each once.
    fn all_answered(self: &Arc<Self>, scope: &Scope, nexts: &[Next]) {
        for next in distinct(nexts) {
            self.answered(scope, next);
        }
    }

    /// Lets a delayed call begin whose time to cool is over, unless somebody answered it meanwhile. One whose agent has
    /// ended is refused.
    pub(crate) async fn approval_cooled(
        self: &Arc<Self>,
        tenant: TenantId,
        id: ApprovalId,
    ) -> Result<(), Fault> {
        let scope = self.recovery_scope(tenant);
        let mut ended = false;
        for _ in 0..TRIES {
            let found = self.ports.store.approval(&scope, id).await.map_err(read_fault)?;
            let now = self.ports.runtime.clock.now();
            let Some(found) = found.filter(|found| found.has_cooled(now)) else { return Ok(()) };
            let (batch, next) = if ended {
                let reason = "its agent has ended".to_owned();
                let answered = Answered { by: scope.actor().clone(), at: now, reason, reach: None };
                let answer = ApprovalAnswer { approval: id, from: found.state, approved: false, answered };
                (Batch::new(tenant).with(Mutation::ApprovalAnswer(answer)), None)
            } else {
                let bound = self.bound_of(&scope, &found).await?;
                // What begins by itself is one more step without a person: what it leads to says so.
                let by_time = Approval { hops: found.hops.saturating_add(1), ..found.clone() };
                let (mut batch, next) =
                    self.answer_batch(&scope, &by_time, &Answer::Approve(Reach::Once), bound, now)?;
                if let Some(Mutation::ApprovalAnswer(answer)) = batch.mutations.first_mut() {
                    "nobody refused it in time".clone_into(&mut answer.answered.reason);
                }
                (batch, Some(next))
            };
            match self.ports.store.commit(batch).await {
                Commit::Done(_) => {
                    self.all_answered(&scope, next.as_slice());
                    return Ok(());
                }
                Commit::Refused(Refusal::ApprovalMoved { .. } | Refusal::RunTerminal) => {}
                Commit::Refused(Refusal::AgentState { .. }) => ended = true,
                Commit::Unknown { cause } => {
                    // It may be durable, so whoever goes on must look all the same.
                    self.all_answered(&scope, next.as_slice());
                    self.request_rescan();
                    return Err(commit_fault(Commit::Unknown { cause }));
                }
                other @ Commit::Refused(_) => return Err(commit_fault(other)),
            }
        }
        Err(Fault::new(ErrorCode::StoreUnavailable, "the approval changed too often while it was answered"))
    }

    /// Tells whoever waits for the answer.
    fn answered(self: &Arc<Self>, scope: &Scope, next: Next) {
        match next {
            Next::Run(run) => {
                if !self.hub.signal(run) {
                    self.ready(scope.tenant(), Ready::Run(run));
                }
            }
            Next::Session(session) => self.ready(scope.tenant(), Ready::Session(session)),
        }
    }

    /// Refuses to approve a call whose program would meet other files than when it was asked for: it would not begin, and who
    /// looks at them now looks at something else than what was asked for. Where nobody can look, or not in the time that whoever
    /// answers has, its start decides.
    async fn check_files(&self, asked: &Approval, until: Timestamp) -> Result<(), Fault> {
        let Some(known) = asked.bound.and_then(|bound| bound.contents) else { return Ok(()) };
        let (id, tool, arguments) = (asked.call, asked.tool.clone(), asked.arguments.clone());
        let Ok(call) = self.ports.tools.prepare(&ToolCall { id, tool, arguments }) else { return Ok(()) };
        let look = self.ports.tools.contents(asked.agent, &call, known.extent);
        let looked = match select(look, self.ports.runtime.clock.sleep_until(until)).await {
            Either::Left((looked, _)) => looked,
            Either::Right(_) => return Ok(()),
        };
        match looked {
            Ok(Some(now)) if now != known => {
                let text = format!(
                    "files that the program of {} could execute have changed since it was asked for ({}), so it would not \
                     begin; nothing was answered",
                    asked.id,
                    known.differs(&now)
                );
                Err(Fault::new(ErrorCode::ApprovalOutdated, text))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Finds the capability within which the run stays that asked: its call stays within it, also in a run of its own.
    async fn bound_of(&self, scope: &Scope, approval: &Approval) -> Result<Option<CapabilityId>, Fault> {
        let session = self.ports.store.session(scope, approval.session).await.map_err(read_fault)?;
        let session = session.ok_or_else(|| session_not_found(approval.session))?;
        Ok(capability::bound_of(&session.key))
    }
}

/// Lists those of the approvals that are to be answered; what somebody answered so already is none of them. Refused where he may
/// not answer one, or where one is closed.
fn to_answer<'a>(
    scope: &Scope,
    asked: impl Iterator<Item = &'a Approval>,
    reach: Option<&Reach>,
    now: Timestamp,
) -> Result<Vec<Approval>, Fault> {
    let mut open = Vec::new();
    for found in asked {
        if !found.may_be_answered_by(scope.actor()) {
            let who = found.approvers.iter().map(Actor::as_str).collect::<Vec<_>>().join(", ");
            let text = format!("{} may not answer {}; who may: {who}", scope.actor(), found.id);
            return Err(Fault::new(ErrorCode::Forbidden, text));
        }
        if found.is_answered_so(scope.actor(), reach) {
            continue;
        }
        let state = found.state_at(now);
        if !state.is_open() {
            return Err(closed(found, state));
        }
        open.push(found.clone());
    }
    Ok(open)
}

fn approval_not_found(id: ApprovalId) -> Fault {
    Fault::new(ErrorCode::ApprovalNotFound, format!("there is no approval {id}"))
        .with_hint("list the approvals with `dromia approval list`")
}

/// The fault for an answer that comes too late, or that is another one than the one which stands.
fn closed(approval: &Approval, state: ApprovalState) -> Fault {
    let by = approval.answer.as_ref().map(|answer| {
        let reach = answer.reach.as_ref().map(|reach| format!(" ({reach})"));
        format!(" by {}{}", answer.by, reach.unwrap_or_default())
    });
    let by = by.unwrap_or_default();
    let standing = match state {
        ApprovalState::Used => format!("was approved{by}, and its call has begun"),
        state => format!("is {state}{by}"),
    };
    let text = format!("{} {standing}; nothing was changed", approval.id);
    Fault::new(ErrorCode::ApprovalClosed, text)
        .with_hint(format!("see how it came to that with `dromia approval show {}`", approval.id))
}
