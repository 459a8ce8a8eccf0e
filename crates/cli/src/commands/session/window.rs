//! `session context`, `session compact` and `session archive`: how a session fills its model's window, and what summaries
//! took the place of.

use dromia_api::session::TranscriptPage;
use dromia_api::session_context::{CompactionResource, CompactionState, SessionContext, SummaryResource};
use dromia_api::{ListPage, SessionId};
use schemars::JsonSchema;
use serde::Serialize;

use super::super::agent_names::AgentHandles;
use super::super::{Cli, print_list};
use super::turn_text;
use crate::args;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{CommandOutput, count_noun, draw_pairs};

/// Reads how a session fills its model's window.
pub(in crate::commands) async fn fetch_context(cli: &Cli<'_>, session: SessionId) -> Outcome<SessionContext> {
    cli.client.get(&format!("/v1/sessions/{session}/context")).await
}

/// Asks the server to compact a session.
pub(in crate::commands) async fn request_compaction(
    cli: &Cli<'_>,
    session: SessionId,
    dry_run: bool,
) -> Outcome<CompactionResource> {
    let query = if dry_run { "?dry_run=true" } else { "" };
    cli.client.post(&format!("/v1/sessions/{session}/compaction{query}")).await
}

pub(super) async fn show_context(
    cli: &Cli<'_>,
    name: &args::SessionName,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let session = cli.resolve_or_newest(name.id, output).await?;
    let used = fetch_context(cli, session).await?;
    output.print_result(&used, context_text)?;
    Ok(CommandExit::Done)
}

/// Draws the parts of a request, largest bars first to the eye: each has a bar as long as its share of the window.
pub(in crate::commands) fn context_text(used: &SessionContext) -> String {
    let parts = [
        ("system text", used.system),
        ("tools", used.tools),
        ("summaries", used.summary),
        ("conversation", used.past),
        ("room for the answer", used.answer),
    ];
    let assumed = if used.window_known { "" } else { ", assumed: set models.ALIAS.context_tokens" };
    let whole: u64 = parts.iter().map(|(_, tokens)| u64::from(*tokens)).sum();
    let SessionContext { window, percent, model, session, compaction_percent, .. } = used;
    let mut lines =
        vec![format!("{whole} of {window} tokens, {percent} % full ({model}{assumed})"), String::new()];
    lines.extend(parts.map(|(name, tokens)| {
        format!("  {name:<20}{tokens:>9}  {}", bar(tokens, *window)).trim_end().to_owned()
    }));
    lines.push(String::new());
    if used.left_out > 0 {
        let count = count_noun(used.left_out as usize, "message");
        lines.push(format!("The {count} at the beginning do not fit and are left out of requests."));
    }
    lines.push(match used.summaries.last() {
        Some(last) => format!(
            "Inputs 1 to {} are summarized; `dromia session archive show {session}` prints the words.",
            last.upto
        ),
        None => format!("Nothing is summarized yet; that begins by itself at {compaction_percent} %."),
    });
    lines.join("\n")
}

/// The length of the bar of the whole window.
const BAR: u64 = 30;

fn bar(tokens: u32, window: u32) -> String {
    let length = (u64::from(tokens) * BAR).div_ceil(u64::from(window.max(1))).min(BAR);
    "#".repeat(usize::try_from(length).unwrap_or_default())
}

pub(super) async fn compact_session(
    cli: &Cli<'_>,
    compact: args::CompactSession,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let session = cli.resolve_or_newest(compact.id, output).await?;
    let told = request_compaction(cli, session, compact.dry_run).await?;
    output.print_result(&told, |told| compaction_text(told, session))?;
    Ok(CommandExit::Done)
}

/// Says what a request to compact a session led to, with the next step.
pub(in crate::commands) fn compaction_text(told: &CompactionResource, session: SessionId) -> String {
    let part = format!(
        "inputs {} to {} ({} bytes)",
        told.from.unwrap_or_default(),
        told.upto.unwrap_or_default(),
        told.bytes.unwrap_or_default()
    );
    match told.state {
        CompactionState::Planned => format!("{part} would be summarized"),
        CompactionState::Started => format!(
            "{part} are being summarized; the next turn that begins afterwards uses the summary. \
             `dromia session context {session}` shows it"
        ),
        CompactionState::UnderWay => "an earlier compaction of the session has not ended".to_owned(),
        CompactionState::NothingToDo => {
            "nothing to summarize: the session has no earlier turn that is worth it".to_owned()
        }
    }
}

/// A summary and the words behind it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SummaryShown")]
pub(in crate::commands) struct SummaryDetails {
    /// The summary.
    summary: SummaryResource,
    /// The words behind it.
    transcript: TranscriptPage,
}

pub(super) async fn run_archive(
    cli: &Cli<'_>,
    command: args::ArchiveCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::ArchiveCommand::List(name) => {
            let session = cli.resolve_or_newest(name.id, output).await?;
            let used = fetch_context(cli, session).await?;
            let list = ListPage { items: used.summaries, next: None };
            let style = output.row_style();
            print_list(output, &list, &["from", "upto", "run", "summary"], |summary| {
                let line = summary.text.lines().next().unwrap_or_default();
                vec![
                    summary.from.to_string(),
                    summary.upto.to_string(),
                    style.format_id(summary.run),
                    line.chars().take(60).collect(),
                ]
            })
        }
        args::ArchiveCommand::Show(show) => {
            let session = cli.resolve_or_newest(show.id, output).await?;
            let used = fetch_context(cli, session).await?;
            let count = used.summaries.len();
            let index = show.part.unwrap_or(count).checked_sub(1);
            let summary = index.and_then(|index| used.summaries.into_iter().nth(index));
            let Some(summary) = summary else {
                return Err(Error::Usage(match count {
                    0 => format!(
                        "nothing of {session} is summarized; `dromia session show {session}` prints it"
                    ),
                    _ => format!(
                        "{session} has {}; see `dromia session archive list {session}`",
                        count_noun(count, "summary")
                    ),
                }));
            };
            let path =
                format!("/v1/sessions/{session}/transcript?from={}&upto={}", summary.from, summary.upto);
            let transcript: TranscriptPage = cli.client.get(&path).await?;
            let handles = AgentHandles::fetch_page(cli, output).await;
            let style = output.row_style();
            let agent = handles.display_name(
                cli.client
                    .get::<dromia_api::session::SessionResource>(&format!("/v1/sessions/{session}"))
                    .await?
                    .agent,
            );
            output.print_result(&SummaryDetails { summary, transcript }, |details| {
                let SummaryDetails { summary, transcript } = details;
                let head = draw_pairs(&[
                    ("inputs", format!("{} to {}", summary.from, summary.upto)),
                    ("summarized by", summary.run.to_string()),
                ]);
                let words = transcript.turns.iter().map(|turn| turn_text(turn, &agent, &style));
                let parts = [head, summary.text.trim_end().to_owned(), "The words behind it:".to_owned()];
                parts.into_iter().chain(words).collect::<Vec<_>>().join("\n\n")
            })?;
            Ok(CommandExit::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_the_share_of_the_window() {
        for (tokens, length) in [(0, 0), (1, 1), (500, 15), (1_000, 30), (9_000, 30)] {
            assert_eq!(bar(tokens, 1_000).len(), length, "{tokens}");
        }
        assert_eq!(bar(5, 0).len(), 30, "a window of nothing is full");
    }
}
