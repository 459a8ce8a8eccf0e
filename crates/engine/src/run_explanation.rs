//! Why a run has its status: what it waits for, who can unblock it, and with which command.

use dromia_contracts::budget::BudgetExhaustion;
use dromia_contracts::client::ClientCallId;
use dromia_contracts::content::CallStatus;
use dromia_contracts::entry::{Entry, HoldReason, ModelFailed, ParkReason};
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::runs::RunStatusReason;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::{ErrorCode, Fault, RunId, Scope};

use crate::agents::read_fault;
use crate::budgets::BudgetBook;
use crate::core::EngineCore;
use crate::journal_reads::{find_run, read_journal};
use crate::run_control::resume_key;
use crate::state::{CallStage, OpinionState, RestReason, RunPhase, RunState};

/// Explains the status of runs.
pub(crate) struct RunExplanation<'a> {
    core: &'a EngineCore,
}

impl<'a> RunExplanation<'a> {
    /// Begins with the engine's shared parts.
    pub(crate) fn new(core: &'a EngineCore) -> Self {
        Self { core }
    }

    /// Explains why a run has its status.
    pub(crate) async fn explain_run(&self, scope: Scope, run: RunId) -> Result<RunStatusReason, Fault> {
        let row = find_run(&*self.core.ports.store, &scope, run).await?;
        let mut why = RunStatusReason {
            status: row.head.status,
            waits_for: String::new(),
            since: row.updated_at,
            unblocked_by: "no action; it has ended".to_owned(),
            command: None,
            declared: None,
        };
        if row.head.status == RunStatus::Held {
            let last =
                self.core.ports.store.journal_entries(&scope, run, row.last_seq.saturating_sub(1), 1).await;
            let detail = last.ok().and_then(|entries| entries.first().and_then(|entry| entry.decode().ok()));
            let (detail, mover) = match detail {
                Some(Entry::RunHeld(held)) => (held.detail, held_mover(held.reason)),
                _ => ("its journal cannot be read".to_owned(), held_mover(HoldReason::Damaged)),
            };
            why.waits_for = format!("a person to check it: {detail}");
            mover.clone_into(&mut why.unblocked_by);
            why.command = Some(format!("dromia run resume {run}"));
            return Ok(why);
        }
        let journal = read_journal(&*self.core.ports.store, &scope, run).await.map_err(read_fault)?;
        let mut state = RunState::default();
        let (mut handed, mut stopped, mut cancelled) = (Vec::new(), None, None);
        let (mut asked_model, mut failed) = (None, None);
        let mut calls = CallTally::default();
        for stored in &journal {
            let entry = stored.decode();
            let entry = entry.map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))?;
            crate::state::apply_entry(&mut state, &entry);
            match entry {
                Entry::ToolHanded(call) => {
                    handed.push(format!("{} ({})", call.tool, ClientCallId { run, call: call.call }));
                }
                Entry::ToolFinished(ended) => calls.count_call(ended.status),
                Entry::ToolRefused(refused) => calls.count_call(refused.status),
                Entry::ModelCalled(called) => asked_model = Some(called.model),
                Entry::ModelFailed(attempt) => failed = Some(attempt),
                Entry::RunYielded(yielded) => stopped = yielded.budget,
                Entry::RunCancelled(ended) => cancelled = Some(ended),
                _ => {}
            }
        }
        self.explain_state(run, &state, &mut why);
        explain_failure(&state, asked_model.as_deref(), failed, &mut why);
        if row.head.status == RunStatus::Completed {
            why.waits_for = completion_text(row.head.model_calls, calls);
            why.command = Some(format!("dromia run show {run}"));
        }
        if let Some(RestReason::Parked(ParkReason::AgentPaused)) = &state.rest
            && let Some(agent) = self.core.ports.store.agent(&scope, row.agent).await.map_err(read_fault)?
        {
            why.command = Some(format!("dromia agent resume {}", agent.handle));
            let tenant = self.core.ports.store.tenant_record(&scope).await.map_err(read_fault)?;
            if let Some(tenant) = tenant.filter(|tenant| tenant.suspended_at.is_some()) {
                why.waits_for = format!("its tenant {}, which is suspended", tenant.handle);
                "the operator of the server, who resumes the tenant".clone_into(&mut why.unblocked_by);
                why.command = Some(format!("dromia tenant resume {}", tenant.handle));
            }
        }
        if let Some(ended) = cancelled {
            let how = if ended.signal == ItemKind::Terminate { "terminated" } else { "cancelled" };
            why.waits_for = format!("it was {how} by {}", ended.by);
        }
        if let Some(exhausted) = stopped {
            let known = BudgetBook::new(&self.core.ports).list_budgets(&scope).await?;
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
            && let Some(asked) =
                self.core.ports.store.approval(&scope, *approval).await.map_err(read_fault)?
        {
            // The run goes on before that; a later approval makes the call run in a run of its own.
            why.waits_for =
                format!("{}; an answer is valid until {:.0}", why.waits_for, asked.deadlines.expires_at);
        }
        self.explain_asked(&scope, &row, &state, &mut why).await?;
        if row.head.status == RunStatus::Completed && !handed.is_empty() {
            let handed = handed.join(", ");
            why.waits_for = format!("it ended with client tool calls: {handed}");
            "no action; it has ended, and a new run continues with the client's results"
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
        let item = |owner, position: u64| {
            self.core.ports.store.inbox_items(scope, owner, position.saturating_sub(1), 1)
        };
        if !state.is_ended() && row.signals_last > 0 {
            let signals = item(InboxOwner::Run(row.id), row.signals_last).await.map_err(read_fault)?;
            let ends = |kind: ItemKind| matches!(kind, ItemKind::Cancel | ItemKind::Terminate);
            if signals.first().is_some_and(|last| last.taken_by.is_none() && ends(last.kind)) {
                why.waits_for.push_str("; it is ending");
                "no action is needed; it ends by itself".clone_into(&mut why.unblocked_by);
                why.command = None;
            }
        }
        if row.head.status == RunStatus::Yielded {
            let (store, at) = (&self.core.ports.store, self.core.ports.runtime.clock.now());
            let known = store.find_keyed_item(scope, &resume_key(row.id), at).await.map_err(read_fault)?;
            let Some(known) = known else { return Ok(()) };
            let taken = item(known.owner, known.position).await.map_err(read_fault)?;
            (why.unblocked_by, why.command) = match taken.first().and_then(|item| item.taken_by) {
                Some(next) => {
                    (format!("no action; {next} continued it"), Some(format!("dromia run why {next}")))
                }
                None => {
                    ("no action is needed; it was resumed, and a run continues it by itself".to_owned(), None)
                }
            };
        }
        Ok(())
    }

    fn explain_state(&self, run: RunId, state: &RunState, why: &mut RunStatusReason) {
        let goes_on = "no action is needed; it continues by itself".to_owned();
        let cancel = Some(format!("dromia run cancel {run}"));
        match (&state.phase, &state.rest) {
            (RunPhase::Ended(status), _) => {
                why.waits_for = match (&state.failure, status) {
                    (Some(failure), RunStatus::Yielded) => {
                        "a person who asks in other words, or who allows more repetitions"
                            .clone_into(&mut why.unblocked_by);
                        why.command = Some(format!("dromia run resume {run}"));
                        format!("it stopped: {}", failure.message)
                    }
                    (Some(failure), _) => {
                        format!("it failed with {}: {}", failure.code, failure.message)
                    }
                    (None, RunStatus::Yielded) if state.overdue => {
                        "a person who gives it more time".clone_into(&mut why.unblocked_by);
                        why.command = Some(format!("dromia run resume {run}"));
                        "it reached its deadline".to_owned()
                    }
                    (None, RunStatus::Yielded) => {
                        "a person who allows more model calls".clone_into(&mut why.unblocked_by);
                        why.command = Some(format!("dromia run resume {run}"));
                        format!("it reached its limit of {} model calls", state.model_calls)
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
                    why.waits_for =
                        format!("{}; calls of the same step also wait: {}", why.waits_for, others.join(", "));
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
            (_, Some(RestReason::Held { detail })) => {
                why.waits_for = format!("a person to check it: {detail}");
            }
            (RunPhase::ModelOpen { step, attempt, .. }, None) => {
                why.waits_for = format!("its model: step {step}, attempt {attempt}");
                (why.unblocked_by, why.command) = (goes_on, cancel);
            }
            (RunPhase::UnitOpen { .. }, None) => {
                why.waits_for = match state.next_call() {
                    Some((call, known)) if matches!(known.progress, CallStage::Started { .. }) => {
                        format!("its tool {}, {call}", known.tool)
                    }
                    Some((call, known)) if matches!(known.opined, OpinionState::Open { .. }) => {
                        format!("a second model's opinion about {} ({call})", known.tool)
                    }
                    Some((call, known)) => format!("the gate, for {} ({call})", known.tool),
                    None => "its next model step".to_owned(),
                };
                (why.unblocked_by, why.command) = (goes_on, cancel);
            }
            (RunPhase::New | RunPhase::StepDue { .. } | RunPhase::Answered { .. }, None) => {
                why.waits_for = if self.core.hub.is_active(run) {
                    "its next step".to_owned()
                } else {
                    "a free slot to be taken over".to_owned()
                };
                (why.unblocked_by, why.command) = (goes_on, cancel);
            }
        }
    }
}

/// Names the cause of a failed attempt that is repeated, and the next command after a failure.
fn explain_failure(
    state: &RunState,
    model: Option<&str>,
    attempt: Option<ModelFailed>,
    why: &mut RunStatusReason,
) {
    match (&state.rest, attempt, &state.failure) {
        (Some(RestReason::Parked(ParkReason::Retry { .. })), Some(ModelFailed { code, message, .. }), _) => {
            why.waits_for = format!("{}; the last one failed with {code}: {message}", why.waits_for);
        }
        (_, attempt, Some(failure)) if why.status == RunStatus::Failed => {
            // The entry of an attempt that began says that it was cut, whatever ended it and so the run.
            let ends_run = |attempt: &ModelFailed| {
                let same = [failure.code, ErrorCode::ModelCut].contains(&attempt.code);
                same && failure.message.ends_with(&attempt.message)
            };
            let asked = attempt.filter(ends_run).and(model);
            "a person who corrects the cause and asks again".clone_into(&mut why.unblocked_by);
            why.command = Some(match asked {
                // A test of the model says nothing of a conversation that is too long for it.
                _ if failure.code == ErrorCode::ContextExceeded => {
                    "a person who begins a new session (`/new` in a chat), sends less at a time, or chooses a model \
                     with a larger window"
                        .clone_into(&mut why.unblocked_by);
                    "dromia model list".to_owned()
                }
                Some(model) => format!("dromia model test {model}"),
                None => format!("dromia explain {}", failure.code),
            });
        }
        _ => {}
    }
}

/// How the calls of a run ended.
#[derive(Debug, Clone, Copy, Default)]
struct CallTally {
    all: u32,
    denied: u32,
    failed: u32,
}

impl CallTally {
    fn count_call(&mut self, status: CallStatus) {
        self.all += 1;
        match status {
            CallStatus::Ok => {}
            CallStatus::Denied => self.denied += 1,
            CallStatus::Error | CallStatus::Unknown | CallStatus::Cancelled | CallStatus::Awaiting => {
                self.failed += 1;
            }
        }
    }
}

/// The text of `run why` for a run that gave its answer.
fn completion_text(model_calls: u32, calls: CallTally) -> String {
    let count = |number: u32, noun: &str| match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    };
    let mut tools = match calls.all {
        0 => "no tool call".to_owned(),
        all => count(all, "tool call"),
    };
    let odd = [(calls.denied, "denied"), (calls.failed, "without success")];
    let odd: Vec<_> = odd.iter().filter(|(number, _)| *number > 0).collect();
    let odd: Vec<_> = odd.iter().map(|(number, how)| format!("{number} {how}")).collect();
    if !odd.is_empty() {
        tools = format!("{tools} ({})", odd.join(", "));
    }
    if model_calls == 0 {
        return format!("it did all that it was for, after {tools}");
    }
    format!("its model gave the answer, after {} and {tools}", count(model_calls, "model call"))
}

/// The text of `run why` for a parked run.
fn park_text(park: ParkReason) -> (String, String) {
    match park {
        ParkReason::Retry { until } => (
            format!("the next attempt at its model, due at {until:.0}"),
            "time; the engine continues it by itself".to_owned(),
        ),
        ParkReason::Approval { approval, cools_until: Some(cools_until), .. } => (
            format!("the end of a delay, {cools_until:.0}, at which a call starts by itself: {approval}"),
            "time; or a person who may approve the call, and who may also deny it".to_owned(),
        ),
        ParkReason::Approval { approval, until, .. } => (
            format!(
                "a person to approve a call: {approval}; the run continues without the call at {until:.0}"
            ),
            "a person who may approve it".to_owned(),
        ),
        ParkReason::AgentPaused => {
            ("its agent, which is paused".to_owned(), "a person who resumes the agent".to_owned())
        }
    }
}

/// Explains which budget stopped a run, who can change that and how.
fn explain_budget(run: RunId, exhausted: BudgetExhaustion, is_declared: bool, why: &mut RunStatusReason) {
    why.waits_for = format!("it stopped because {}", exhausted.text());
    let BudgetExhaustion { budget, measure, limit, needed, until, unpriced, .. } = exhausted;
    if unpriced {
        "an operator who gives the model a `price` in dromia.yaml; then it can be resumed"
            .clone_into(&mut why.unblocked_by);
        why.command = Some(format!("dromia run resume {run}"));
        return;
    }
    let later = if needed > limit {
        // The next period's budget does not suffice for it either.
        format!(", at least {}: the next call alone needs that much", measure.format_amount(needed))
    } else {
        until.map_or_else(String::new, |until| format!("; its count restarts at {until}"))
    };
    if is_declared {
        why.unblocked_by = format!(
            "an operator who raises the limit of {budget} in dromia.yaml and restarts the server{later}; then \
             it can be resumed"
        );
        // The caller knows which section of the configuration declares it.
        why.declared = Some(budget);
        return;
    }
    why.unblocked_by = format!("an admin who raises the limit of {budget}{later}; then it can be resumed");
    why.command = Some(format!("dromia budget set {budget} --limit MORE && dromia run resume {run}"));
}

/// Explains that the budget which stopped a run was removed, so that the run can be resumed.
fn explain_gone(run: RunId, exhausted: &BudgetExhaustion, why: &mut RunStatusReason) {
    let budget = &exhausted.budget;
    why.waits_for = format!("it stopped because {}; {budget} was removed since then", exhausted.text());
    "a person who resumes it".clone_into(&mut why.unblocked_by);
    why.command = Some(format!("dromia run resume {run}"));
}

/// Who gets a held run going, and what must come first.
const fn held_mover(reason: HoldReason) -> &'static str {
    match reason {
        HoldReason::Claims | HoldReason::LostAttempts => "an operator who lets it try again or ends it",
        HoldReason::Unreadable => "an operator who starts a newer program on this home and lets it try again",
        HoldReason::Damaged => {
            "an operator who restores a backup and lets it try again; other sessions are not affected"
        }
    }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::budget::{BudgetMeasure, BudgetScope};

    use super::*;

    #[test]
    fn a_completed_run_says_what_led_to_its_answer() {
        let calls = |statuses: &[CallStatus]| {
            let mut tally = CallTally::default();
            for status in statuses {
                tally.count_call(*status);
            }
            tally
        };
        for (model_calls, statuses, text) in [
            (1, &[][..], "its model gave the answer, after 1 model call and no tool call"),
            (
                3,
                &[CallStatus::Ok, CallStatus::Denied, CallStatus::Error, CallStatus::Unknown],
                "its model gave the answer, after 3 model calls and 4 tool calls (1 denied, 2 without success)",
            ),
            (0, &[CallStatus::Ok], "it did all that it was for, after 1 tool call"),
        ] {
            assert_eq!(completion_text(model_calls, calls(statuses)), text);
        }
    }

    #[test]
    fn a_call_over_its_whole_budget_is_never_affordable_later() {
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
            assert!(small.contains("at least 5073") && !small.contains("restarts at"), "{small}");
            let later = told(6_000, is_declared);
            assert!(!later.contains("at least") && later.contains("restarts at 2026-11-23"), "{later}");
        }
    }
}
