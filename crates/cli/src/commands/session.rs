//! `session`: look at conversations, export and import them.

pub(super) mod window;

use std::time::Duration;

use dromia_api::agent::{AgentResource, DeletionReport};
use dromia_api::retention::HoldResource;
use dromia_api::session::{SessionImport, SessionResource, SessionTurn, TranscriptPage};
use dromia_api::{AgentState, ListPage, OPEN_RUNS_HEADER, WAITING_INPUTS_HEADER};
use hyper::HeaderMap;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::agent::erased_pairs;
use super::agent_names::AgentHandles;
use super::{Cli, listing_path, print_narrow, terminal_input};
use crate::args;
use crate::client::percent_encode;
use crate::download::save_response;
use crate::error::{Error, Outcome, PendingStatus};
use crate::exit::CommandExit;
use crate::output::{ColumnShrink, CommandOutput, RowStyle, draw_pairs};

/// How long a file may take to be read in; a large one is written in many parts.
const IMPORT: Duration = Duration::from_mins(10);

/// Importing a longer file takes so long that a notice says so.
const LARGE_BYTES: usize = 4 << 20;
/// The columns of a listing, and how it shrinks on a narrow terminal. A channel may be an id of the server's own.
const HEADS: [&str; 9] =
    ["id", "agent", "opened", "waiting", "active", "platform", "actor", "channel", "question"];
const WAYS: [ColumnShrink; 11] = [
    ColumnShrink::Cut("question", 48),
    ColumnShrink::Without("channel"),
    ColumnShrink::Short("opened"),
    ColumnShrink::Without("platform"),
    ColumnShrink::Without("actor"),
    ColumnShrink::WithoutNought("active"),
    ColumnShrink::WithoutNought("waiting"),
    ColumnShrink::Cut("question", 32),
    ColumnShrink::Cut("agent", 8),
    ColumnShrink::Cut("question", 12),
    ColumnShrink::Without("opened"),
];

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::SessionCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::SessionCommand::List(page) => {
            let path = listing_path("/v1/sessions", &page, &[("agent", cli.global.agent.clone())]);
            let list: ListPage<SessionResource> = cli.client.get(&path).await?;
            let handles = AgentHandles::fetch_page(cli, output).await;
            let style = output.row_style();
            print_narrow(output, &list, &HEADS, &WAYS, |session| session_row(session, &handles, &style))
        }
        args::SessionCommand::Show(session) => show_session(cli, &session, output).await,
        args::SessionCommand::Context(session) => window::show_context(cli, &session, output).await,
        args::SessionCommand::Compact(compact) => window::compact_session(cli, compact, output).await,
        args::SessionCommand::Archive(archive) => window::run_archive(cli, archive, output).await,
        args::SessionCommand::Delete(named) => {
            let session = cli.resolve_id(named.id, output).await?;
            cli.confirm(&format!("Delete {session} with its runs, branches and workers?"), output).await?;
            let deleted: DeletionReport = cli.client.delete(&format!("/v1/sessions/{session}")).await?;
            output.print_result(&deleted, |DeletionReport { erased }| draw_pairs(&erased_pairs(erased)))?;
            Ok(CommandExit::Done)
        }
        args::SessionCommand::Hold(hold) => {
            let session = cli.resolve_id(hold.id, output).await?;
            let path = format!("/v1/sessions/{session}/hold");
            let shown: SessionResource =
                if hold.off { cli.client.delete(&path).await? } else { cli.client.post(&path).await? };
            output.print_result(&shown, |shown| match &shown.hold {
                Some(hold) => format!("{session} is on hold: it is not deleted (set by {})", hold.by),
                None => format!("{session} is not on hold"),
            })?;
            Ok(CommandExit::Done)
        }
        args::SessionCommand::Export(export) => {
            if export.file.is_none() && output.context_mut().out_is_terminal {
                return Err(Error::Usage("the export is binary; name a file for it with --file".to_owned()));
            }
            if let Some(file) = export.file.as_ref().filter(|file| !export.force && file.is_file()) {
                let question =
                    format!("{} exists. Overwrite it? (--force overwrites without asking)", file.display());
                cli.confirm(&question, output).await?;
            }
            let session = cli.resolve_or_newest(export.id, output).await?;
            let path = format!("/v1/sessions/{session}/export");
            let (head, saved) =
                save_response(&cli.client, &path, export.file.as_deref(), output, |_| ()).await?;
            saved.map_or(Ok(()), |saved| saved.finish_download(output))?;
            left_out(&head).map_or(Ok(()), |text| output.print_notice(&text))?;
            Ok(CommandExit::Done)
        }
        args::SessionCommand::Import(import) => {
            let agent = cli.some_agent().await?;
            let file = if import.file.as_os_str() == "-" {
                terminal_input::read_all_bytes("read stdin", output).await?
            } else {
                std::fs::read(&import.file)
                    .map_err(Error::io_error(format!("read {}", import.file.display())))?
            };
            let trust = if import.trust_labels { "&trust_labels=true" } else { "" };
            let copy = import
                .copy
                .as_deref()
                .map_or_else(String::new, |name| format!("&copy={}", percent_encode(name)));
            let path = format!("/v1/sessions/import?agent={}{trust}{copy}", percent_encode(&agent));
            if file.len() > LARGE_BYTES && output.context_mut().err_is_terminal {
                output.print_notice(&format!("importing {} MiB; this may take a while", file.len() >> 20))?;
            }
            output.note_pending(Some(import_status()));
            let imported = cli.client.post_bytes(&path, file, cli.answer_timeout(IMPORT)).await;
            let imported: SessionImport = imported.map_err(add_import_hint)?;
            output.print_result(&imported, |imported| imported.session.to_string())?;
            Ok(CommandExit::Done)
        }
    }
}

/// Says what of the session is not in its file, as the headers of the answer have it.
fn left_out(head: &HeaderMap) -> Option<String> {
    let number = |name: &str| head.get(name).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let runs = match number(OPEN_RUNS_HEADER).unwrap_or_default() {
        0 => None,
        1 => Some("1 run is open".to_owned()),
        more => Some(format!("{more} runs are open")),
    };
    let inputs = match number(WAITING_INPUTS_HEADER).unwrap_or_default() {
        0 => None,
        1 => Some("1 input waits".to_owned()),
        more => Some(format!("{more} inputs wait")),
    };
    let told: Vec<_> = runs.into_iter().chain(inputs).collect();
    let rest = "the file does not contain them; export again when they are done";
    (!told.is_empty()).then(|| format!("{}: {rest}", told.join(" and ")))
}

/// The status of an import whose answer did not come.
fn import_status() -> PendingStatus {
    PendingStatus {
        known: "the import stores the whole session or nothing".to_owned(),
        next:
            "run the same command again: it continues where the import stopped and creates no second session"
                .to_owned(),
    }
}

/// Says so where the answer to an import did not come.
fn add_import_hint(why: Error) -> Error {
    match why {
        Error::Severed(_) | Error::Late { .. } => Error::under_way(why, import_status()),
        _ => why,
    }
}

/// A session and what was said in it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SessionShown")]
pub(super) struct SessionDetails {
    /// The session.
    session: SessionResource,
    /// The newest part of its conversation.
    transcript: TranscriptPage,
    /// What its input waits for, if any waits and something keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<String>,
}

/// Says what input waits for: an agent that takes none, or the turn before it.
async fn waits_for(cli: &Cli<'_>, session: &SessionResource) -> Outcome<Option<String>> {
    if session.waiting == 0 {
        return Ok(None);
    }
    let agent: AgentResource = cli.client.get(&format!("/v1/agents/{}", session.agent)).await?;
    let handle = &agent.handle;
    Ok(match (agent.state, session.active) {
        (AgentState::Paused, _) => {
            Some(format!("its agent {handle}, which is paused; run `dromia agent resume {handle}`"))
        }
        (AgentState::Terminated | AgentState::Deleting, _) => {
            Some(format!("nothing: its agent {handle} has ended, so no run takes the input"))
        }
        (AgentState::Running, Some(run)) => {
            Some(format!("{run}, which comes before it; see `dromia run why {run}`"))
        }
        (AgentState::Running, None) => None,
    })
}

async fn show_session(
    cli: &Cli<'_>,
    name: &args::SessionName,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let id = cli.resolve_or_newest(name.id, output).await?;
    let session: SessionResource = cli.client.get(&format!("/v1/sessions/{id}")).await?;
    let transcript: TranscriptPage = cli.client.get(&format!("/v1/sessions/{id}/transcript")).await?;
    let waits_for = waits_for(cli, &session).await?;
    let handles = AgentHandles::fetch_page(cli, output).await;
    let style = output.row_style();
    output.print_result(&SessionDetails { session, transcript, waits_for }, |details| {
        session_text(details, &handles, &style)
    })?;
    Ok(CommandExit::Done)
}

fn session_row(session: &SessionResource, handles: &AgentHandles, style: &RowStyle) -> Vec<String> {
    vec![
        style.format_id(session.id),
        handles.display_name(session.agent),
        style.format_time(session.opened_at),
        session.waiting.to_string(),
        // Which run it is, `session show` tells.
        session.active.map(|_| "yes".to_owned()).unwrap_or_default(),
        session.platform.clone(),
        session.actor.clone(),
        session.channel.clone(),
        session.question.clone().unwrap_or_default(),
    ]
}

fn session_text(details: &SessionDetails, handles: &AgentHandles, style: &RowStyle) -> String {
    let SessionDetails { session, transcript, waits_for } = details;
    let agent = handles.display_name(session.agent);
    let mut text = draw_pairs(&[
        ("id", session.id.to_string()),
        ("agent", agent.clone()),
        ("key", format!("{} {} {}", session.platform, session.channel, session.actor)),
        ("opened", style.format_moment(session.opened_at)),
        ("waiting", session.waiting.to_string()),
        ("waits for", waits_for.clone().unwrap_or_default()),
        ("active", session.active.map(|run| run.to_string()).unwrap_or_default()),
        ("on hold", session.hold.as_ref().map(|hold| hold_text(hold, style)).unwrap_or_default()),
    ]);
    if transcript.cut {
        text.push_str("\n\n(the oldest messages are not shown; `dromia session export` has them)");
    }
    for turn in &transcript.turns {
        text.push_str("\n\n");
        text.push_str(&turn_text(turn, &agent, style));
    }
    text
}

fn hold_text(hold: &HoldResource, style: &RowStyle) -> String {
    format!("by {} since {}; it is not deleted", hold.by, style.format_moment(hold.since))
}

/// Begins what one side says: who and when, and the words below it, moved in so that a turn is seen at a glance.
fn said_text(who: &str, at: Timestamp, words: &str, style: &RowStyle) -> String {
    let mut out = format!("{who}, {}", style.format_moment(at));
    for line in words.lines() {
        out.extend(["\n  ", line]);
    }
    out
}

pub(super) fn turn_text(turn: &SessionTurn, agent: &str, style: &RowStyle) -> String {
    match turn {
        SessionTurn::Input { at, author, text, images, results, .. } => {
            let mut words = String::new();
            for (count, what) in [(images, "pictures"), (results, "results of client tool calls")] {
                if *count > 0 {
                    words.extend(["(", what, ": ", &count.to_string(), ")\n"]);
                }
            }
            words.push_str(text.as_deref().unwrap_or("(erased)"));
            said_text(author, *at, &words, style)
        }
        SessionTurn::Unit { at, text, withheld, calls, handed, .. } => {
            let rule = withheld.as_ref().map(|withheld| format!(" (withheld by the rule {})", withheld.rule));
            let who = format!("{agent}{}", rule.unwrap_or_default());
            let mut out = said_text(&who, *at, text, style);
            for call in calls {
                let status = serde_json::to_string(&call.status).unwrap_or_default();
                let status = status.trim_matches('"');
                out.extend(["\n  ", &call.tool, " ", &call.arguments, " -> ", status]);
                if call.images > 0 {
                    out.extend([" (pictures: ", &call.images.to_string(), ")"]);
                }
            }
            for call in handed {
                out.extend(["\n  ", &call.tool, " ", &call.arguments, " -> client tool call  ", &call.id]);
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_counts_the_open_runs_and_waiting_inputs() {
        for (runs, inputs, told) in [
            ("0", "0", None),
            ("1", "0", Some("1 run is open: ")),
            ("0", "2", Some("2 inputs wait: ")),
            ("1", "1", Some("1 run is open and 1 input waits: ")),
        ] {
            let mut head = HeaderMap::new();
            head.insert(OPEN_RUNS_HEADER, runs.parse().expect("a value"));
            head.insert(WAITING_INPUTS_HEADER, inputs.parse().expect("a value"));
            let text = left_out(&head);
            assert_eq!(text.is_some(), told.is_some(), "{text:?}");
            assert!(text.unwrap_or_default().starts_with(told.unwrap_or_default()), "{runs} {inputs}");
        }
        assert_eq!(left_out(&HeaderMap::new()), None, "without the headers nothing is known");
    }
}
