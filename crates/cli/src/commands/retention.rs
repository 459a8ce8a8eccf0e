//! `retention`: how long sessions are kept, what is due, and its deletion.
//!
//! The server looks at a bounded number of sessions for each request, so this asks page by page. A deletion that is interrupted
//! stays as far as it came; the next one goes on.

use std::time::Duration;

use dromia_api::SessionId;
use dromia_api::retention::{DuePage, DueSession, HeldSession, RetentionRun, RetentionState};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::Cli;
use super::agent_names::AgentHandles;
use crate::args;
use crate::error::{Outcome, PendingStatus};
use crate::exit::CommandExit;
use crate::output::{CommandOutput, RowStyle, count_noun, draw_pairs, draw_table};

/// How long one request may delete.
const PATIENCE: Duration = Duration::from_mins(5);
/// The most sessions that are listed.
const LISTED_MAX: usize = 256;
/// The most requests that `show` and `--dry-run` make; what they did not look at, they say.
const LOOKS_MAX: usize = 1024;

/// What is due now.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct DueSums {
    /// Sessions.
    sessions: u64,
    /// Branches, workers and tasks that go with them.
    children: u64,
    /// Runs.
    runs: u64,
    /// Bytes in the database, about.
    bytes: u64,
    /// When the session that rests longest was used last.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<Timestamp>,
    /// Whether every session of the tenant was looked at.
    complete: bool,
}

/// How long sessions are kept, and what is due.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RetentionOverview {
    /// Hours for which a session stays; absent where sessions stay for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions_hours: Option<u64>,
    /// Sessions that were used last before this time are due.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_before: Option<Timestamp>,
    /// What is due now.
    due: DueSums,
    /// Sessions on hold, newest first; at most 256.
    held: Vec<HeldSession>,
}

/// What was deleted, or would be.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RetentionReport {
    /// Whether nothing was deleted, because it was only asked for.
    dry_run: bool,
    /// The sessions; at most 256 of them.
    items: Vec<DueSession>,
    /// The sums over all of them.
    sums: DueSums,
}

impl DueSums {
    fn add_sessions(&mut self, sessions: &[DueSession]) {
        for due in sessions {
            self.sessions += 1;
            self.children += due.children;
            self.runs += due.runs;
            self.bytes += due.bytes;
            self.oldest = Some(self.oldest.map_or(due.last_at, |oldest| oldest.min(due.last_at)));
        }
    }

    fn text(&self) -> String {
        let counted = |number: u64, noun| count_noun(usize::try_from(number).unwrap_or(usize::MAX), noun);
        let mut parts = vec![counted(self.sessions, "session")];
        if self.children > 0 {
            parts.push(format!("{} below them", self.children));
        }
        if self.sessions > 0 {
            parts.push(counted(self.runs, "run"));
            parts.push(format!("about {} KiB", self.bytes.div_ceil(1024)));
        }
        if !self.complete {
            parts.push("and there are sessions that were not looked at".to_owned());
        }
        parts.join(", ")
    }
}

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::RetentionCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::RetentionCommand::Show => show_retention(cli, output).await,
        args::RetentionCommand::Run(wanted) => run_retention(cli, wanted.dry_run, output).await,
    }
}

async fn show_retention(cli: &Cli<'_>, output: &mut CommandOutput<'_>) -> Outcome<CommandExit> {
    let RetentionState { sessions_hours, due_before, held } = cli.client.get("/v1/retention").await?;
    let mut due = DueSums { complete: sessions_hours.is_none(), ..DueSums::default() };
    if sessions_hours.is_some() {
        look_through(cli, &mut due, |_| ()).await?;
    }
    let style = output.row_style();
    output.print_result(&RetentionOverview { sessions_hours, due_before, due, held }, |shown| {
        shown_text(shown, &style)
    })?;
    if sessions_hours.is_none() {
        output.print_notice(
            "set `engine.retention.sessions`, or `tenants.NAME.retention.sessions`, in dromia.yaml to have old sessions deleted",
        )?;
    }
    Ok(CommandExit::Done)
}

/// Looks at every session for those that are due, and adds them up.
async fn look_through(cli: &Cli<'_>, sums: &mut DueSums, mut each: impl FnMut(Vec<DueSession>)) -> Outcome {
    let mut after: Option<SessionId> = None;
    for _ in 0..LOOKS_MAX {
        let page: DuePage = cli.client.get(&paged("/v1/retention/due", after)).await?;
        sums.add_sessions(&page.items);
        each(page.items);
        after = page.next;
        if after.is_none() {
            sums.complete = true;
            break;
        }
    }
    Ok(())
}

async fn run_retention(cli: &Cli<'_>, dry_run: bool, output: &mut CommandOutput<'_>) -> Outcome<CommandExit> {
    let mut sums = DueSums::default();
    let mut items = Vec::new();
    if dry_run {
        look_through(cli, &mut sums, |page| items.extend(page)).await?;
    } else {
        cli.confirm("Delete every session that is due now, with its runs?", output).await?;
        delete_due(cli, &mut sums, &mut items, output).await?;
    }
    items.truncate(LISTED_MAX);
    let handles = AgentHandles::fetch_page(cli, output).await;
    let style = output.row_style();
    let columns = output.context_mut().columns;
    output.print_result(&RetentionReport { dry_run, items, sums }, |report| {
        report_text(report, &handles, &style, columns)
    })?;
    Ok(CommandExit::Done)
}

/// Deletes page by page, and says how far it is where a person looks on.
async fn delete_due(
    cli: &Cli<'_>,
    sums: &mut DueSums,
    items: &mut Vec<DueSession>,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    let mut after: Option<SessionId> = None;
    loop {
        output.note_pending(Some(PendingStatus {
            known: format!("{} sessions were deleted so far, each as a whole", sums.sessions),
            next: "run the same command again: it goes on".to_owned(),
        }));
        let path = paged("/v1/retention/run", after);
        let page: RetentionRun =
            cli.client.post_bytes(&path, Vec::new(), cli.answer_timeout(PATIENCE)).await?;
        sums.add_sessions(&page.items);
        if !page.items.is_empty() && page.next.is_some() && output.context_mut().err_is_terminal {
            output.print_notice(&format!("deleted {} sessions so far", sums.sessions))?;
        }
        items.extend(page.items.into_iter().take(LISTED_MAX.saturating_sub(items.len())));
        after = page.next;
        if after.is_none() {
            output.note_pending(None);
            sums.complete = true;
            return Ok(());
        }
    }
}

fn paged(path: &str, after: Option<SessionId>) -> String {
    after.map_or_else(|| path.to_owned(), |after| format!("{path}?after={after}"))
}

fn shown_text(shown: &RetentionOverview, style: &RowStyle) -> String {
    let kept = match shown.sessions_hours {
        None => "for ever".to_owned(),
        Some(hours) if hours.is_multiple_of(24) => format!("{} days after they were used last", hours / 24),
        Some(hours) => format!("{hours} hours after they were used last"),
    };
    let mut text = draw_pairs(&[
        ("sessions are kept", kept),
        ("due now", if shown.sessions_hours.is_some() { shown.due.text() } else { String::new() }),
        ("oldest due", shown.due.oldest.map(|at| style.format_moment(at)).unwrap_or_default()),
        ("on hold", shown.held.len().to_string()),
    ]);
    for held in &shown.held {
        let HeldSession { session, hold } = held;
        let since = style.format_moment(hold.since);
        text.extend(["\n  ", &session.to_string(), ", by ", &hold.by, " since ", &since]);
    }
    text
}

fn report_text(
    report: &RetentionReport,
    handles: &AgentHandles,
    style: &RowStyle,
    columns: Option<u16>,
) -> String {
    let sums = report.sums.text();
    let said = if report.dry_run { format!("would be deleted: {sums}") } else { format!("deleted: {sums}") };
    if report.items.is_empty() {
        return said;
    }
    let rows = report.items.iter().map(|due| {
        vec![
            style.format_id(due.session),
            handles.display_name(due.agent),
            due.children.to_string(),
            due.runs.to_string(),
            due.bytes.div_ceil(1024).to_string(),
            style.format_time(due.last_at),
        ]
    });
    let table = draw_table(columns, &["id", "agent", "children", "runs", "KiB", "last used"], rows.collect());
    format!("{table}\n{said}")
}
