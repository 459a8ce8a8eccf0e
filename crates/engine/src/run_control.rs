//! What people do to a run from outside: watch it, end it, resume it, ask why.
//!
//! Nothing here appends to a journal. A decision is a signal in the run's inbox or an item in the session's;
//! the owner journals what it takes.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::budget::BudgetExhaustion;
use dromia_contracts::client::HandedCall;
use dromia_contracts::entry::{Entry, HoldReason, ParkReason};
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::runs::{InputReceipt, InputTarget, LiveEvent, RunEndMode, RunStatusReason, Watch};
use dromia_contracts::session::{InboxOwner, ItemKind, ResumeBody};
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, InboxPut, ItemKey, KeyLifetime, Mutation, WriteBatch,
};
use dromia_contracts::{Digest, ErrorCode, Fault, RunId, Scope};
use tokio::sync::broadcast::error::RecvError;

use crate::agents::read_fault;
use crate::core::EngineCore;
use crate::journal_reads::read_journal;
use crate::refusal::commit_fault;
use crate::scheduler::ReadyWork;
use crate::state::{CallStage, Opined, RestReason, RunPhase, RunState};
use crate::submit::NewItem;

impl EngineCore {
    /// Finds a run that the scope sees.
    pub(crate) async fn find_run(&self, scope: &Scope, run: RunId) -> Result<RunRecord, Fault> {
        let found = self.ports.store.run(scope, run).await.map_err(read_fault)?;
        found.ok_or_else(|| run_not_found(run))
    }

    /// Watches a run from now on.
    pub(crate) async fn watch_run(&self, scope: Scope, run: RunId) -> Result<Watch, Fault> {
        // Watch first and look then, so that nothing falls between.
        let receiver = self.hub.watch_run(run);
        let row = self.find_run(&scope, run).await?;
        let first = LiveEvent::Committed { seq: row.last_seq, status: row.head.status };
        let rest = futures_util::stream::unfold(receiver, |mut receiver| async move {
            match receiver.recv().await {
                Ok(live) => Some((live, receiver)),
                Err(RecvError::Lagged(_)) => Some((LiveEvent::Lagged, receiver)),
                Err(RecvError::Closed) => None,
            }
        });
        Ok(Box::pin(futures_util::StreamExt::chain(futures_util::stream::iter([first]), rest)))
    }

    /// Puts a signal into a run's inbox and notifies its owner.
    pub(crate) async fn signal_run(
        self: &Arc<Self>,
        scope: &Scope,
        run: RunId,
        kind: ItemKind,
    ) -> Result<(), Fault> {
        let _step = self.begin_step(scope.tenant()).await;
        let put = InboxPut {
            owner: InboxOwner::Run(run),
            item: self.ports.runtime.item_id(),
            at: self.ports.runtime.clock.now(),
            kind,
            author: scope.actor().clone(),
            body: Bytes::new(),
            key: None,
        };
        let answer = self
            .ports
            .store
            .commit(WriteBatch::new(scope.tenant()).with_mutation(Mutation::InboxPut(put)))
            .await;
        let result = match answer {
            CommitOutcome::Done(_) => Ok(()),
            CommitOutcome::Refused(CommitRefusal::NotFound(_)) => return Err(run_not_found(run)),
            // It may be durable, so the owner must look all the same.
            CommitOutcome::Unknown { .. } => Err(commit_fault(answer)),
            other @ CommitOutcome::Refused(_) => return Err(commit_fault(other)),
        };
        if !self.hub.signal_run(run) {
            self.enqueue_ready(scope.tenant(), ReadyWork::Run(run));
        }
        result
    }

    /// Asks a run to end.
    pub(crate) async fn end_run(
        self: &Arc<Self>,
        scope: Scope,
        run: RunId,
        end: RunEndMode,
    ) -> Result<(), Fault> {
        let kind = match end {
            RunEndMode::Cancel => ItemKind::Cancel,
            RunEndMode::Terminate => ItemKind::Terminate,
        };
        let status = self.find_run(&scope, run).await?.head.status;
        if status.is_terminal() {
            return ended_already(run, status);
        }
        match self.signal_run(&scope, run, kind).await {
            // It ended between the look and the commit; the store took nothing.
            Err(fault) if fault.code == ErrorCode::RunTerminal => {
                ended_already(run, self.find_run(&scope, run).await?.head.status)
            }
            told => told,
        }
    }

    /// Continues a yielded run with a new one, or releases a held one.
    pub(crate) async fn resume_run(
        self: &Arc<Self>,
        scope: Scope,
        run: RunId,
    ) -> Result<InputReceipt, Fault> {
        let row = self.find_run(&scope, run).await?;
        match row.head.status {
            RunStatus::Yielded => {
                let body = serde_json::to_vec(&ResumeBody { run })
                    .map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
                // A run is resumed once: a repeated request joins the new run.
                let key = ItemKey {
                    key: resume_key(run),
                    request: Digest::from_bytes(*blake3::hash(&body).as_bytes()),
                    lifetime: KeyLifetime::Forever,
                };
                let item = NewItem {
                    kind: ItemKind::Resume,
                    author: scope.actor().clone(),
                    body: Bytes::from(body),
                    key: Some(key),
                    wait: false,
                };
                self.admit_item(&scope, InputTarget::Session(row.session), item).await
            }
            RunStatus::Held => {
                self.signal_run(&scope, run, ItemKind::Release).await?;
                Ok(InputReceipt {
                    item: self.ports.runtime.item_id(),
                    session: row.session,
                    position: 0,
                    run: Some(run),
                    replayed: false,
                    outcome: None,
                })
            }
            status => Err(Fault::new(
                ErrorCode::RunNotResumable,
                format!("{run} is {}; only a yielded or held run can be resumed", status.as_str()),
            )
            .with_hint(format!("see what it does with `dromia run why {run}`"))),
        }
    }

    /// Explains why a run has its status.
    pub(crate) async fn explain_run(&self, scope: Scope, run: RunId) -> Result<RunStatusReason, Fault> {
        let row = self.find_run(&scope, run).await?;
        let mut why = RunStatusReason {
            status: row.head.status,
            waits_for: String::new(),
            since: row.updated_at,
            unblocked_by: "nobody; it has ended".to_owned(),
            command: None,
            declared: None,
        };
        if row.head.status == RunStatus::Held {
            let last = self.ports.store.journal_entries(&scope, run, row.last_seq.saturating_sub(1), 1).await;
            let detail = last.ok().and_then(|entries| entries.first().and_then(|entry| entry.decode().ok()));
            let (detail, mover) = match detail {
                Some(Entry::RunHeld(held)) => (held.detail, held_mover(held.reason)),
                _ => ("its journal cannot be read".to_owned(), held_mover(HoldReason::Damaged)),
            };
            why.waits_for = format!("a person to look: {detail}");
            mover.clone_into(&mut why.unblocked_by);
            why.command = Some(format!("dromia run resume {run}"));
            return Ok(why);
        }
        let journal = read_journal(&*self.ports.store, &scope, run).await.map_err(read_fault)?;
        let mut state = RunState::default();
        let (mut handed, mut stopped, mut cancelled) = (Vec::new(), None, None);
        for stored in &journal {
            let entry = stored.decode();
            let entry = entry.map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))?;
            crate::state::apply_entry(&mut state, &entry);
            match entry {
                Entry::ToolHanded(call) => {
                    handed.push(format!("{} ({})", call.tool, HandedCall { run, call: call.call }));
                }
                Entry::RunYielded(yielded) => stopped = yielded.budget,
                Entry::RunCancelled(ended) => cancelled = Some(ended),
                _ => {}
            }
        }
        self.explain_state(run, &state, &mut why);
        if let Some(RestReason::Parked(ParkReason::AgentPaused)) = &state.rest
            && let Some(agent) = self.ports.store.agent(&scope, row.agent).await.map_err(read_fault)?
        {
            why.command = Some(format!("dromia agent resume {}", agent.handle));
        }
        if let Some(ended) = cancelled {
            let how = if ended.signal == ItemKind::Terminate { "terminated" } else { "cancelled" };
            why.waits_for = format!("it was {how} by {}", ended.by);
        }
        if let Some(exhausted) = stopped {
            let known = self.list_budgets(&scope).await?;
            let mut same = known.iter().filter(|known| known.budget.name == exhausted.budget).peekable();
            if same.peek().is_some() {
                let is_declared = same.any(|known| known.budget.declared);
                explain_budget(run, exhausted, is_declared, &mut why);
            } else {
                explain_gone(run, &exhausted, &mut why);
            }
        }
        if let Some(RestReason::Parked(ParkReason::Approval { approval, cools_until: None, .. })) =
            &state.rest
            && let Some(asked) = self.ports.store.approval(&scope, *approval).await.map_err(read_fault)?
        {
            // The run goes on before that; a later approval makes the call run in a run of its own.
            why.waits_for = format!("{}; an answer counts until {:.0}", why.waits_for, asked.expires_at);
        }
        self.explain_asked(&scope, &row, &state, &mut why).await?;
        if row.head.status == RunStatus::Completed && !handed.is_empty() {
            let handed = handed.join(", ");
            why.waits_for = format!("it ended with calls that it handed to its client: {handed}");
            "nobody; it has ended, and a new run goes on with the client's results"
                .clone_into(&mut why.unblocked_by);
        }
        Ok(why)
    }

    /// Reports an earlier request to end or resume a run, so that the hint does not repeat it.
    async fn explain_asked(
        &self,
        scope: &Scope,
        row: &RunRecord,
        state: &RunState,
        why: &mut RunStatusReason,
    ) -> Result<(), Fault> {
        let item =
            |owner, position: u64| self.ports.store.inbox_items(scope, owner, position.saturating_sub(1), 1);
        if !state.is_ended() && row.signals_last > 0 {
            let signals = item(InboxOwner::Run(row.id), row.signals_last).await.map_err(read_fault)?;
            let ends = |kind: ItemKind| matches!(kind, ItemKind::Cancel | ItemKind::Terminate);
            if signals.first().is_some_and(|last| last.taken_by.is_none() && ends(last.kind)) {
                why.waits_for.push_str("; it was told to end");
                "nobody needs to; it ends by itself".clone_into(&mut why.unblocked_by);
                why.command = None;
            }
        }
        if row.head.status == RunStatus::Yielded {
            let (store, at) = (&self.ports.store, self.ports.runtime.clock.now());
            let known = store.find_keyed_item(scope, &resume_key(row.id), at).await.map_err(read_fault)?;
            let Some(known) = known else { return Ok(()) };
            let taken = item(known.owner, known.position).await.map_err(read_fault)?;
            (why.unblocked_by, why.command) = match taken.first().and_then(|item| item.taken_by) {
                Some(next) => {
                    (format!("nobody; {next} went on from it"), Some(format!("dromia run why {next}")))
                }
                None => {
                    ("nobody needs to; it was resumed, and a run goes on from it by itself".to_owned(), None)
                }
            };
        }
        Ok(())
    }

    fn explain_state(&self, run: RunId, state: &RunState, why: &mut RunStatusReason) {
        let goes_on = "nobody needs to; it goes on by itself".to_owned();
        let cancel = Some(format!("dromia run cancel {run}"));
        match (&state.phase, &state.rest) {
            (RunPhase::Ended(status), _) => {
                why.waits_for = match (&state.failure, status) {
                    (Some(failure), RunStatus::Yielded) => {
                        "whoever asks in other words, or for more of the same"
                            .clone_into(&mut why.unblocked_by);
                        why.command = Some(format!("dromia run resume {run}"));
                        format!("it stopped: {}", failure.message)
                    }
                    (Some(failure), _) => {
                        format!("it failed with {}: {}", failure.code, failure.message)
                    }
                    (None, RunStatus::Yielded) => {
                        "whoever asks for more iterations".clone_into(&mut why.unblocked_by);
                        why.command = Some(format!("dromia run resume {run}"));
                        format!("it stopped at its limit of {} model calls", state.model_calls)
                    }
                    (None, status) => format!("it is {}", status.as_str()),
                };
            }
            (_, Some(RestReason::Parked(park))) => {
                (why.waits_for, why.unblocked_by) = park_text(*park);
                let asked: Vec<String> =
                    state.unanswered_calls().map(|(_, asked)| asked.to_string()).collect();
                if let (ParkReason::Approval { approval, .. }, 2..) = (park, asked.len()) {
                    let first = approval.to_string();
                    let others: Vec<&str> =
                        asked.iter().map(String::as_str).filter(|id| *id != first).collect();
                    why.waits_for = format!("{}; of the same step wait {}", why.waits_for, others.join(", "));
                }
                why.command = match (park, &state.started) {
                    (ParkReason::AgentPaused, Some(started)) => {
                        Some(format!("dromia agent resume {}", started.agent))
                    }
                    // The hint shows nothing of the call: the approver first opens it, with the other calls of its
                    // step.
                    (ParkReason::Approval { approval, .. }, _) => {
                        Some(format!("dromia approval show {approval}"))
                    }
                    _ => cancel,
                };
            }
            (_, Some(RestReason::Held { detail })) => why.waits_for = format!("a person to look: {detail}"),
            (RunPhase::ModelOpen { step, attempt, .. }, None) => {
                why.waits_for = format!("its model: step {step}, attempt {attempt}");
                (why.unblocked_by, why.command) = (goes_on, cancel);
            }
            (RunPhase::UnitOpen { .. }, None) => {
                why.waits_for = match state.next_call() {
                    Some((call, known)) if matches!(known.progress, CallStage::Started { .. }) => {
                        format!("its tool {}, {call}", known.tool)
                    }
                    Some((call, known)) if matches!(known.opined, Opined::Open { .. }) => {
                        format!("a second model's opinion about {} ({call})", known.tool)
                    }
                    Some((call, known)) => format!("the gate, for {} ({call})", known.tool),
                    None => "its next model step".to_owned(),
                };
                (why.unblocked_by, why.command) = (goes_on, cancel);
            }
            (RunPhase::New | RunPhase::StepDue { .. } | RunPhase::Answered { .. }, None) => {
                why.waits_for = if self.hub.is_active(run) {
                    "its next step".to_owned()
                } else {
                    "a free slot to be taken over".to_owned()
                };
                (why.unblocked_by, why.command) = (goes_on, cancel);
            }
        }
    }
}

/// The text of `run why` for a parked run.
fn park_text(park: ParkReason) -> (String, String) {
    match park {
        ParkReason::Retry { until } => (
            format!("the next attempt at its model, due at {until:.0}"),
            "time; the engine goes on by itself".to_owned(),
        ),
        ParkReason::Approval { approval, cools_until: Some(cools_until), .. } => (
            format!("the time after which a call begins by itself, {cools_until:.0}: {approval}"),
            "time; or whoever may approve it, who may also refuse it".to_owned(),
        ),
        ParkReason::Approval { approval, until, .. } => (
            format!("a person to allow a call: {approval}; it goes on without the call at {until:.0}"),
            "whoever may approve it".to_owned(),
        ),
        ParkReason::AgentPaused => {
            ("its agent, which is paused".to_owned(), "whoever resumes the agent".to_owned())
        }
    }
}

/// The key of the one input that resumes a yielded run.
fn resume_key(run: RunId) -> String {
    format!("resume:{run}")
}

/// Explains which budget stopped a run, who can change that and how.
fn explain_budget(run: RunId, exhausted: BudgetExhaustion, is_declared: bool, why: &mut RunStatusReason) {
    why.waits_for = format!("it stopped because {}", exhausted.text());
    let BudgetExhaustion { budget, measure, limit, needed, until, unpriced, .. } = exhausted;
    if unpriced {
        "an operator, who gives the model a `price` in dromia.yaml; then it can be resumed"
            .clone_into(&mut why.unblocked_by);
        why.command = Some(format!("dromia run resume {run}"));
        return;
    }
    let later = if needed > limit {
        // The next period's budget does not suffice for it either.
        format!(", {} at least: the next call alone takes that much", measure.format_amount(needed))
    } else {
        until.map_or_else(String::new, |until| format!("; its count begins anew at {until}"))
    };
    if is_declared {
        why.unblocked_by = format!(
            "an operator, who gives {budget} a higher limit in dromia.yaml and starts the server anew{later}; then it can be \
             resumed"
        );
        // The caller knows which section of the configuration declares it.
        why.declared = Some(budget);
        return;
    }
    why.unblocked_by = format!("an admin, who gives {budget} a higher limit{later}; then it can be resumed");
    why.command = Some(format!("dromia budget set {budget} --limit MORE && dromia run resume {run}"));
}

/// Explains that the budget which stopped a run was removed, so that the run can be resumed.
fn explain_gone(run: RunId, exhausted: &BudgetExhaustion, why: &mut RunStatusReason) {
    let budget = &exhausted.budget;
    why.waits_for = format!("it stopped because {}; {budget} was removed since", exhausted.text());
    "whoever resumes it".clone_into(&mut why.unblocked_by);
    why.command = Some(format!("dromia run resume {run}"));
}

/// Who gets a held run going, and what must come first.
const fn held_mover(reason: HoldReason) -> &'static str {
    match reason {
        HoldReason::Claims | HoldReason::LostAttempts => "an operator, who lets it try again or ends it",
        HoldReason::Unreadable => {
            "an operator, who serves this home with a newer program and lets it try again"
        }
        HoldReason::Damaged => {
            "an operator, who restores a backup and lets it try again; other sessions are not concerned"
        }
    }
}

/// The answer to a request to end a run that has ended. Asking twice is no mistake.
fn ended_already(run: RunId, status: RunStatus) -> Result<(), Fault> {
    if status == RunStatus::Cancelled {
        return Ok(());
    }
    let text = format!("{run} is {} already; nothing was changed", status.as_str());
    Err(Fault::new(ErrorCode::RunTerminal, text)
        .with_hint(format!("see how it ended with `dromia run show {run}`")))
}

/// The fault for a run that does not exist or cannot be seen.
pub(crate) fn run_not_found(run: RunId) -> Fault {
    Fault::new(ErrorCode::RunNotFound, format!("there is no run {run}"))
        .with_hint("list the runs with `dromia run list`")
}

#[cfg(test)]
mod tests {
    use dromia_contracts::budget::{BudgetMeasure, BudgetScope};

    use super::*;

    #[test]
    fn a_call_larger_than_its_budget_is_not_said_to_fit_later() {
        let run = RunId::from_bytes([1; 16]);
        let time = || "2026-11-23T00:00:00Z".parse().expect("a time");
        let told = |limit: u64, is_declared: bool| {
            let exhausted = BudgetExhaustion {
                budget: "one".to_owned(),
                per: BudgetScope::Run,
                measure: BudgetMeasure::Tokens,
                limit,
                used: 0,
                needed: 5_073,
                until: Some(time()),
                unpriced: false,
            };
            let mut why = RunStatusReason {
                status: RunStatus::Yielded,
                waits_for: String::new(),
                since: time(),
                unblocked_by: String::new(),
                command: None,
                declared: None,
            };
            explain_budget(run, exhausted, is_declared, &mut why);
            why.unblocked_by
        };
        for is_declared in [false, true] {
            let small = told(2_000, is_declared);
            assert!(small.contains("5073 at least") && !small.contains("anew at"), "{small}");
            let later = told(6_000, is_declared);
            assert!(!later.contains("at least") && later.contains("anew at 2026-11-23"), "{later}");
        }
    }
}
