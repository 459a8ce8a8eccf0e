//! The page of one run: what was asked and answered, what it took, and its steps; and why it is as it is.
//!
//! The text of a page is for people; its document has the same and the newest page of the journal.

use dromia_api::approval::ApprovalResource;
use dromia_api::run::{JournalPage, RunExplanation, RunResource};
use dromia_api::{CURRENCY, RunId, RunStatus};
use schemars::JsonSchema;
use serde::Serialize;

use super::steps::{HEADS as STEP_HEADS, RunStep, WAYS as STEP_WAYS, steps_from_entries};
use super::{PAGE_ENTRIES, run_state_text};
use crate::commands::Cli;
use crate::commands::agent_names::AgentHandles;
use crate::commands::answer::AnswerCollector;
use crate::error::Outcome;
use crate::exit::CommandExit;
use crate::output::{
    CommandOutput, RowStyle, count_noun, draw_fitted_table, draw_pairs, format_duration, format_known_cost,
    wrap_text,
};

/// For how many waiting calls the state of the approval is fetched: the newest ones.
const WAITING_TOLD: usize = 16;

/// A run, its steps, and the newest page of what happened in it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RunShown")]
pub(in crate::commands) struct RunDetails {
    /// The run.
    run: RunResource,
    /// What it answered; absent unless it completed with words.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    /// Why it ended otherwise, as far as that page tells of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// Its model calls and its tools, as far as that page tells of them.
    steps: Vec<RunStep>,
    /// The newest page of its journal.
    journal: JournalPage,
}

pub(super) async fn show_run(
    cli: &Cli<'_>,
    id: RunId,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let run: RunResource = cli.client.get(&format!("/v1/runs/{id}")).await?;
    let after = run.last_seq.saturating_sub(u64::from(PAGE_ENTRIES));
    let path = format!("/v1/runs/{id}/journal?after={after}&limit={PAGE_ENTRIES}");
    let journal: JournalPage = cli.client.get(&path).await?;
    let mut steps = steps_from_entries(&journal.entries);
    for step in steps.iter_mut().rev().filter(|step| step.approval.is_some()).take(WAITING_TOLD) {
        let Some(approval) = step.approval else { continue };
        // If the approval is gone or may not be read, the step shows its id alone.
        if let Ok(approval) = cli.client.get::<ApprovalResource>(&format!("/v1/approvals/{approval}")).await {
            step.apply_approval(approval);
        }
    }
    let mut said = AnswerCollector::default();
    for entry in &journal.entries {
        // What a newer server writes is in the journal all the same.
        drop(said.take_entry(entry));
    }
    let answer = said.completed_answer(run.status).map(str::to_owned);
    let failure = said.failure_text().filter(|_| run.status != RunStatus::Completed);
    let handles = AgentHandles::fetch_page(cli, output).await;
    let style = output.row_style();
    let shown = RunDetails { run, answer, failure, steps, journal };
    let rows = shown.steps.iter().map(|step| step.table_row(&style)).collect();
    let table = draw_fitted_table(output.context_mut(), &STEP_HEADS, &STEP_WAYS, rows);
    let context = output.context_mut();
    let columns = context.columns.filter(|_| context.out_is_terminal);
    output.print_result(&shown, |shown| {
        format!("{}\n\n{table}", run_summary(shown, &handles, &style, columns))
    })?;
    if after > 0 && !output.is_json() {
        output.print_notice(&format!(
            "showing the {PAGE_ENTRIES} newest of {} entries; `dromia run export {id}` prints all",
            shown.run.last_seq
        ))?;
    }
    Ok(CommandExit::Done)
}

/// How many lines of an answer a summary shows.
const ANSWER_LINES: usize = 12;

/// How far the values of a summary are from the edge.
const VALUES_AT: usize = "model calls".len() + 2;

/// Writes a text behind a name of [`draw_pairs`], so that each line begins below the first and none is wider than a terminal.
fn indent_lines(text: &str, columns: Option<u16>) -> String {
    let width = columns.map_or(usize::MAX, |columns| usize::from(columns).saturating_sub(VALUES_AT).max(20));
    let wrapped: Vec<_> = text.trim_end().lines().map(|line| wrap_text(line, width, "")).collect();
    let mut lines: Vec<&str> = wrapped.iter().flat_map(|line| line.lines()).collect();
    // What is no terminal gets all of it.
    let left_out = columns.map_or(0, |_| lines.len().saturating_sub(ANSWER_LINES));
    lines.truncate(lines.len() - left_out);
    let further = format!("\n{}", " ".repeat(VALUES_AT));
    let mut shown = lines.join(&further);
    if left_out > 0 {
        shown.extend([&further, "… ", &count_noun(left_out, "more line"), "; `dromia run watch` prints all"]);
    }
    shown
}

fn run_summary(shown: &RunDetails, handles: &AgentHandles, style: &RowStyle, columns: Option<u16>) -> String {
    let indented = |text: Option<&String>| text.map(|text| indent_lines(text, columns)).unwrap_or_default();
    let run = &shown.run;
    let mut models: Vec<&str> = shown.steps.iter().filter_map(RunStep::model_name).collect();
    models.dedup();
    let took = u64::try_from(run.updated_at.duration_since(run.started_at).as_millis());
    let took = run.status.is_terminal().then(|| format_duration(took.unwrap_or_default()));
    draw_pairs(&[
        ("id", run.id.to_string()),
        ("question", indented(run.question.as_ref())),
        ("answer", indented(shown.answer.as_ref())),
        ("failure", indented(shown.failure.as_ref())),
        ("status", run_state_text(run)),
        ("agent", handles.display_name(run.agent)),
        ("model", models.join(", ")),
        ("session", run.session.to_string()),
        ("workspace", run.workspace.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("started", style.format_moment(run.started_at)),
        ("took", took.unwrap_or_default()),
        (
            "updated",
            if run.status.is_terminal() { String::new() } else { style.format_moment(run.updated_at) },
        ),
        ("wakes", run.wake_at.map(|at| style.format_moment(at)).unwrap_or_default()),
        ("model calls", run.model_calls.to_string()),
        ("tokens", format!("{} in, {} out", run.usage.input_tokens, run.usage.output_tokens)),
        ("cost", format!("{} {CURRENCY}", format_known_cost(run.cost_micros, run.unpriced_calls.into()))),
    ])
}

/// Writes why a run is as it is.
pub(super) fn why_text(why: &RunExplanation, style: &RowStyle) -> String {
    draw_pairs(&[
        ("status", why.status.as_str().to_owned()),
        ("because", why.waits_for.clone()),
        ("since", style.format_moment(why.since)),
        ("needs", why.unblocked_by.clone()),
        ("next", why.command.clone().unwrap_or_default()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_is_broken_below_its_beginning_and_cut() {
        let answer = format!("one two three four five six\n{}", "line\n".repeat(20));
        let shown = indent_lines(&answer, Some(34));
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[..2], ["one two three four", "             five six"]);
        assert_eq!(lines.len(), ANSWER_LINES + 1);
        assert_eq!(lines[ANSWER_LINES], "             … 10 more lines; `dromia run watch` prints all");
        assert_eq!(indent_lines(&answer, None).lines().count(), 21);
    }

    #[test]
    fn why_names_the_cause_and_the_next_command() {
        let why = RunExplanation {
            status: RunStatus::Parked,
            waits_for: "its agent is paused".into(),
            since: "2026-01-02T03:04:05Z".parse().unwrap(),
            unblocked_by: "a person who resumes the agent".into(),
            command: Some("dromia agent resume ops".into()),
        };
        insta::assert_snapshot!(why_text(&why, &RowStyle::whole()), @r"
        status   parked
        because  its agent is paused
        since    2026-01-02 03:04:05Z
        needs    a person who resumes the agent
        next     dromia agent resume ops
        ");
    }
}
