//! How an approval is answered: by a person, or by its time.
//!
//! An answer is one commit: the approval's new state, and the signal or the item that continues the work. If the run
//! that asked still waits, that is a signal in its inbox; if it went on, an approved call is a session of its own with
//! that one item, and a refusal is an input of the session that asked. The store decides which of the two it is: the
//! engine reads an approval again that changed meanwhile. The engine answers a delayed call in the same way once its
//! delay is over; the call carries one hop more than the run that asked, as a message between agents does, so that
//! agents cannot continue for ever through delayed calls.
//!
//! What an answer writes is in `batch`, several of them at once in `together`, the rules that answer ahead in `rules`.
//! No call is executed here: the run that executes it judges it again.

mod batch;
pub(crate) mod rules;
mod together;

use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::approval::{
    AnswerRecord, ApprovalRequest, ApprovalState, CallSource, REASON_BYTES_MAX,
};
use dromia_contracts::capability;
use dromia_contracts::content::ToolCall;
use dromia_contracts::gate::{GateAction, GateVerdict, Principal};
use dromia_contracts::runs::{ApprovalDecision, ApprovalReach};
use dromia_contracts::store::{ApprovalAnswer, CommitOutcome, CommitRefusal, Mutation, WriteBatch};
use dromia_contracts::workspace::RunWorkspace;
use dromia_contracts::{
    Actor, ApprovalId, CapabilityId, ErrorCode, Fault, RunId, Scope, SessionId, TenantId,
};
use futures_util::future::{Either, select};
use jiff::Timestamp;

use crate::agents::read_fault;
use crate::core::EngineCore;
use crate::journal_reads::read_run_start;
use crate::refusal::{agent_terminated, commit_fault, session_not_found};
use crate::run_tools::RunTools;
use crate::scheduler::ReadyWork;

use self::batch::reach_of;
use self::together::{check_also, distinct_targets};

/// The time limit of an answer for hashing the files of all programs that it allows.
const LOOK_TIME: Duration = Duration::from_secs(10);

/// How often an approval that changes while it is answered is read again.
const TRIES: u32 = 4;

/// The run or session that continues once an answer is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WakeTarget {
    Run(RunId),
    Session(SessionId),
}

/// Answers approvals.
pub(crate) struct ApprovalAnswers<'a> {
    core: &'a Arc<EngineCore>,
}

impl<'a> ApprovalAnswers<'a> {
    /// Begins with the engine's shared parts.
    pub(crate) fn new(core: &'a Arc<EngineCore>) -> Self {
        Self { core }
    }

    /// Answers an approval for a person, and others of the same run with it: all of them, or none.
    pub(crate) async fn approval_answer(
        &self,
        scope: &Scope,
        id: ApprovalId,
        also: &[ApprovalId],
        answer: &ApprovalDecision,
    ) -> Result<ApprovalRequest, Fault> {
        let reach = reach_of(answer)?;
        check_also(id, also, answer)?;
        if let ApprovalDecision::Deny { reason } = answer
            && reason.len() > REASON_BYTES_MAX
        {
            let text = format!("a reason may have at most {REASON_BYTES_MAX} bytes");
            return Err(Fault::new(ErrorCode::InvalidRequest, text));
        }
        let looked_until = self.core.ports.runtime.clock.monotonic_now() + LOOK_TIME;
        for _ in 0..TRIES {
            let found = self.core.ports.store.approval(scope, id).await.map_err(read_fault)?;
            let mut found = found.ok_or_else(|| approval_not_found(id))?;
            let others = self.read_batch_approvals(scope, &found, also).await?;
            let now = self.core.ports.runtime.clock.now();
            let open = to_answer(scope, std::iter::once(&found).chain(&others), reach.as_ref(), now)?;
            if open.is_empty() {
                return Ok(found);
            }
            if matches!(answer, ApprovalDecision::Approve(_)) {
                for asked in &open {
                    self.check_rights(scope, asked).await?;
                    self.check_files(scope, asked, looked_until).await?;
                }
            }
            let bound = self.bound_of(scope, &found).await?;
            let mut batch = WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), now);
            let mut nexts = Vec::with_capacity(open.len());
            for asked in &open {
                let (part, next) = self.answer_batch(scope, asked, answer, bound, now).await?;
                batch.mutations.extend(part.mutations);
                nexts.push(next);
            }
            let commit = self.core.ports.store.commit(batch.clone()).await;
            match commit {
                CommitOutcome::Done(_) => {
                    self.all_answered(scope, &nexts);
                    // The change that the store made, applied to the row that was read before.
                    let given = batch.mutations.iter().find_map(|mutation| match mutation {
                        Mutation::ApprovalAnswer(given) if given.approval == id => Some(given),
                        _ => None,
                    });
                    if let Some(given) = given {
                        let moved = found.record_answer(given.from, given.approved, &given.answered);
                        moved.map_err(|state| closed_approval_fault(&found, state))?;
                    }
                    return Ok(found);
                }
                CommitOutcome::Refused(CommitRefusal::ApprovalMoved { .. } | CommitRefusal::RunTerminal) => {}
                CommitOutcome::Refused(CommitRefusal::AgentState { .. }) => {
                    return Err(agent_terminated(found.source.agent));
                }
                CommitOutcome::Unknown { .. } => {
                    // It may be durable, so the run or session must check all the same.
                    self.all_answered(scope, &nexts);
                    self.core.request_rescan();
                    return Err(commit_fault(commit));
                }
                other @ CommitOutcome::Refused(_) => return Err(commit_fault(other)),
            }
        }
        Err(Fault::new(ErrorCode::StoreUnavailable, "the approval changed too often during the answer")
            .with_hint("see it with `dromia approval show`, then answer again"))
    }

    /// Wakes each run or session that waits for one of the answers, once.
    fn all_answered(&self, scope: &Scope, nexts: &[WakeTarget]) {
        for next in distinct_targets(nexts) {
            self.wake_after_answer(scope, next);
        }
    }

    /// Approves a delayed call whose delay is over, unless a person answered it meanwhile. A call whose agent has ended
    /// is refused.
    pub(crate) async fn approval_cooled(&self, tenant: TenantId, id: ApprovalId) -> Result<(), Fault> {
        let scope = self.core.recovery_scope(tenant);
        let mut ended = false;
        for _ in 0..TRIES {
            let found = self.core.ports.store.approval(&scope, id).await.map_err(read_fault)?;
            let now = self.core.ports.runtime.clock.now();
            let has_cooled = |found: &ApprovalRequest| {
                self.core.delays.cools_until(found, now).is_some_and(|until| until <= now)
            };
            let Some(found) = found.filter(has_cooled) else { return Ok(()) };
            let (batch, next) = if ended {
                let reason = "its agent has ended".to_owned();
                let answered = AnswerRecord { by: scope.actor().clone(), at: now, reason, reach: None };
                let answer = ApprovalAnswer { approval: id, from: found.state, approved: false, answered };
                (WriteBatch::new(tenant).with_mutation(Mutation::ApprovalAnswer(answer)), None)
            } else {
                let bound = self.bound_of(&scope, &found).await?;
                // A call that begins without a person is one more hop, which its session's runs count.
                let by_time = ApprovalRequest {
                    source: CallSource { hops: found.source.hops.saturating_add(1), ..found.clone().source },
                    ..found.clone()
                };
                let once = ApprovalDecision::Approve(ApprovalReach::Once);
                let (mut batch, next) = self.answer_batch(&scope, &by_time, &once, bound, now).await?;
                if let Some(Mutation::ApprovalAnswer(answer)) = batch.mutations.first_mut() {
                    "the delay ended and no person denied it".clone_into(&mut answer.answered.reason);
                }
                (batch, Some(next))
            };
            match self.core.ports.store.commit(batch).await {
                CommitOutcome::Done(_) => {
                    self.all_answered(&scope, next.as_slice());
                    return Ok(());
                }
                CommitOutcome::Refused(CommitRefusal::ApprovalMoved { .. } | CommitRefusal::RunTerminal) => {}
                CommitOutcome::Refused(CommitRefusal::AgentState { .. }) => ended = true,
                CommitOutcome::Unknown { cause } => {
                    // It may be durable, so the run or session must check all the same.
                    self.all_answered(&scope, next.as_slice());
                    self.core.request_rescan();
                    return Err(commit_fault(CommitOutcome::Unknown { cause }));
                }
                other @ CommitOutcome::Refused(_) => return Err(commit_fault(other)),
            }
        }
        Err(Fault::new(ErrorCode::StoreUnavailable, "the approval changed too often during the answer"))
    }

    /// Wakes the run or session that waits for the answer.
    fn wake_after_answer(&self, scope: &Scope, next: WakeTarget) {
        match next {
            WakeTarget::Run(run) => {
                if !self.core.hub.signal_run(run) {
                    self.core.enqueue_ready(scope.tenant(), ReadyWork::Run(run));
                }
            }
            WakeTarget::Session(session) => {
                self.core.enqueue_ready(scope.tenant(), ReadyWork::Session(session));
            }
        }
    }

    /// Refuses to approve a call that the agent's rights do not cover any more: it would not begin. What a policy says of it
    /// is asked when it is about to.
    async fn check_rights(&self, scope: &Scope, asked: &ApprovalRequest) -> Result<(), Fault> {
        let (id, tool, arguments) =
            (asked.source.call, asked.judged.tool.clone(), asked.judged.arguments.clone());
        let agent = self.core.caches.agents.agent_snapshot(scope, asked.source.agent).await?;
        let now = RunTools { host: &*self.core.ports.tools, catalogue: &agent.catalogue };
        let Ok(call) = now.prepare_call(&ToolCall { id, tool, arguments }) else {
            return Ok(());
        };
        let principal = Principal {
            scope,
            author: &asked.source.author,
            grants: &agent.grants,
            context: asked.judged.context,
            endorsed: &asked.judged.provenance.endorsed,
            plan: asked.judged.provenance.plan_context(),
        };
        match self.core.ports.gate.evaluate_action(principal, GateAction::Tool(&call)).await {
            GateVerdict::Deny { policy: None, .. } => {
                let text = format!(
                    "the agent's grants do not cover {} any more, so {} is outdated; no answer was stored",
                    asked.judged.tool, asked.id
                );
                Err(Fault::new(ErrorCode::ApprovalOutdated, text)
                    .with_hint("grant the tool again, or deny the call with `dromia approval deny`"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses to approve a call whose executable files changed since the request: the call would not begin, and the
    /// approver would see other files than the request describes. If the files cannot be hashed in the time of the
    /// answer, the start of the call decides.
    async fn check_files(
        &self,
        scope: &Scope,
        asked: &ApprovalRequest,
        until: Duration,
    ) -> Result<(), Fault> {
        let Some(known) = asked.judged.bound.contents else { return Ok(()) };
        let (id, tool, arguments) =
            (asked.source.call, asked.judged.tool.clone(), asked.judged.arguments.clone());
        let Ok(agent) = self.core.caches.agents.agent_snapshot(scope, asked.source.agent).await else {
            return Ok(());
        };
        let by = RunTools { host: &*self.core.ports.tools, catalogue: &agent.catalogue };
        let Ok(call) = by.prepare_call(&ToolCall { id, tool, arguments }) else {
            return Ok(());
        };
        let store = &*self.core.ports.store;
        let began = read_run_start(store, scope, asked.source.run).await.map_err(read_fault)?;
        let workspace = began.and_then(|began| began.workspace).or_else(|| agent.config.workspace.clone());
        let workspace = workspace.map_or(RunWorkspace::Home, RunWorkspace::Directory);
        let tools = &self.core.ports.tools;
        let look =
            tools.executable_files(scope.tenant(), asked.source.agent, &workspace, &call, known.extent);
        let left = until.saturating_sub(self.core.ports.runtime.clock.monotonic_now());
        let looked = match select(look, self.core.ports.runtime.clock.sleep(left)).await {
            Either::Left((looked, _)) => looked,
            Either::Right(_) => return Ok(()),
        };
        match looked {
            Ok(Some(now)) if now != known => {
                let text = format!(
                    "files that the program of {} could execute changed after the request ({}), so the call \
                     could not start; no answer was stored",
                    asked.id,
                    known.describe_difference(&now)
                );
                Err(Fault::new(ErrorCode::ApprovalOutdated, text))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Finds the capability within which the run stays that asked: its call stays within it, also in a run of its own.
    async fn bound_of(
        &self,
        scope: &Scope,
        approval: &ApprovalRequest,
    ) -> Result<Option<CapabilityId>, Fault> {
        let session =
            self.core.ports.store.session(scope, approval.source.session).await.map_err(read_fault)?;
        let session = session.ok_or_else(|| session_not_found(approval.source.session))?;
        Ok(capability::bound_of(&session.key))
    }
}

/// Lists the approvals that are still to be answered, without those that the same actor has answered in the same way.
/// Refused if the actor may not answer one, or if one is closed.
fn to_answer<'a>(
    scope: &Scope,
    asked: impl Iterator<Item = &'a ApprovalRequest>,
    reach: Option<&ApprovalReach>,
    now: Timestamp,
) -> Result<Vec<ApprovalRequest>, Fault> {
    let mut open = Vec::new();
    for found in asked {
        if !found.may_be_answered_by(scope) {
            let who = found.approvers.iter().map(Actor::as_str).collect::<Vec<_>>().join(", ");
            let text = format!("{} may not answer {}; these may: {who}", scope.actor(), found.id);
            return Err(Fault::new(ErrorCode::Forbidden, text));
        }
        if found.is_answered_so(scope.actor(), reach) {
            continue;
        }
        let state = found.state_at(now);
        if !state.is_open() {
            return Err(closed_approval_fault(found, state));
        }
        open.push(found.clone());
    }
    Ok(open)
}

fn approval_not_found(id: ApprovalId) -> Fault {
    Fault::new(ErrorCode::ApprovalNotFound, format!("there is no approval {id}"))
        .with_hint("list the approvals with `dromia approval list`")
}

/// The fault for an answer that comes too late, or that differs from the recorded one.
fn closed_approval_fault(approval: &ApprovalRequest, state: ApprovalState) -> Fault {
    let by = approval.answer.as_ref().map(|answer| {
        let reach = answer.reach.as_ref().map(|reach| format!(" ({reach})"));
        format!(" by {}{}", answer.by, reach.unwrap_or_default())
    });
    let by = by.unwrap_or_default();
    let status = match state {
        ApprovalState::Used => format!("was approved{by}, and its call has started"),
        state => format!("is {state}{by}"),
    };
    let text = format!("{} {status}; no answer was stored", approval.id);
    Fault::new(ErrorCode::ApprovalClosed, text)
        .with_hint(format!("see what happened with `dromia approval show {}`", approval.id))
}
