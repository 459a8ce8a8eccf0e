//! Does what a person asks of the chat itself, through the API of the server.
//!
//! Nothing here is sent to the agent. What an action lists has numbers, by which the next one names it.

use dromia_api::agent::AgentResource;
use dromia_api::approval::{AnswerApproval, ApprovalResource, ReachKind};
use dromia_api::run::RunResource;
use dromia_api::session::{SessionResource, SessionTurn, TranscriptPage};
use dromia_api::{AgentPatch, ConfigPatch, ListPage, RunId, SessionId, escape_hidden};

use super::slash::{SlashCommand, help_page};
use super::state::ChatState;
use crate::args::{ExportSession, IdReference, SessionCommand};
use crate::client::percent_encode;
use crate::commands::activity::call_text;
use crate::commands::agent_change::{list_models, send_patch};
use crate::commands::session::window;
use crate::commands::{Cli, file, session, worker};
use crate::error::{Error, Outcome};
use crate::output::{CommandOutput, draw_pairs, draw_table, format_short_cost, format_time};

/// How many sessions, or approvals, are listed to choose from.
const CHOICES_MAX: usize = 8;

/// How many characters of a session's first message are shown.
const FIRST_WORDS: usize = 48;

/// How many runs of a session are asked for at a time, and how many times.
const RUNS_PAGE: u32 = 256;
const RUN_PAGES_MAX: u32 = 16;

/// Does a command; `/quit` is not done here.
pub(super) async fn run_slash_command(
    cli: &Cli<'_>,
    command: SlashCommand,
    argument: &str,
    state: &mut ChatState,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    match command {
        SlashCommand::Help | SlashCommand::Quit => output.print_notice(&help_page()),
        SlashCommand::Model if argument.is_empty() => show_model(cli, state, output).await,
        SlashCommand::Model => set_model(cli, argument, state, output).await,
        SlashCommand::Agent if argument.is_empty() => list_agents(cli, state, output).await,
        SlashCommand::Agent => switch_agent(cli, argument, state, output).await,
        SlashCommand::New => {
            state.enter_session(None);
            output.print_notice("the next message begins a new session")
        }
        SlashCommand::Resume if argument.is_empty() => list_sessions(cli, state, output).await,
        SlashCommand::Resume => resume_session(cli, argument, state, output).await,
        SlashCommand::Cost => show_cost(cli, state, output).await,
        SlashCommand::Context => show_context(cli, state, output).await,
        SlashCommand::Compact => compact_session(cli, state, output).await,
        SlashCommand::Workers => worker::show_children(cli, begun_session(state)?, output).await,
        SlashCommand::Files => {
            let agent = fetch_agent(cli, state).await?;
            file::list_directory(cli, agent.id, argument, output).await
        }
        SlashCommand::Approve if argument.is_empty() => list_approvals(cli, state, output).await,
        SlashCommand::Approve => answer_approval(cli, argument, state, output).await,
        SlashCommand::Export => export_session(cli, argument, state, output).await,
        SlashCommand::Output => show_output(argument, state, output),
    }
}

/// The session, of which something can be shown once a message was sent.
fn begun_session(state: &ChatState) -> Outcome<SessionId> {
    state.session.ok_or_else(|| Error::Usage("the session begins with your first message".to_owned()))
}

/// Finds the agent of the chat.
async fn fetch_agent(cli: &Cli<'_>, state: &ChatState) -> Outcome<AgentResource> {
    let name = match (&state.handle, &state.agent) {
        (Some(name), _) | (None, Some(name)) => name.clone(),
        (None, None) => cli.some_agent().await?,
    };
    cli.client.get(&format!("/v1/agents/{}", percent_encode(&name))).await
}

async fn show_model(cli: &Cli<'_>, state: &ChatState, output: &mut CommandOutput<'_>) -> Outcome {
    let agent = fetch_agent(cli, state).await?;
    let model = agent.config.map(|config| config.model).unwrap_or_default();
    let rows = list_models(cli).await?.into_iter().map(|known| {
        let here = if known == model { "here" } else { "" };
        vec![known, here.to_owned()]
    });
    let columns = output.context_mut().columns;
    let table = draw_table(columns, &["model", ""], rows.collect());
    output.print_line(&table)?;
    output.print_notice(&format!("{} uses the model {model}; set another one with /model NAME", agent.handle))
}

/// Has the agent use another model from its next turn on, for everyone who talks to it.
async fn set_model(cli: &Cli<'_>, name: &str, state: &ChatState, output: &mut CommandOutput<'_>) -> Outcome {
    let seen = fetch_agent(cli, state).await?;
    let key = format!("{}-model-{}", output.context_mut().request_key, seen.revision);
    let config = ConfigPatch { model: Some(name.to_owned()), ..ConfigPatch::default() };
    let patch = AgentPatch { config, ..AgentPatch::default() };
    let changed = send_patch(cli, &seen, &patch, &key).await?;
    let (handle, revision) = (changed.handle, changed.revision);
    if revision == seen.revision {
        return output.print_notice(&format!("{handle} uses the model {name} already"));
    }
    output.print_notice(&format!(
        "{handle} uses the model {name} from its next turn on (revision {revision})"
    ))?;
    output.print_notice(&format!("hint: `dromia agent revert {handle} {}` takes it back", seen.revision))
}

async fn list_agents(cli: &Cli<'_>, state: &ChatState, output: &mut CommandOutput<'_>) -> Outcome {
    let agents: ListPage<AgentResource> = cli.client.get("/v1/agents?limit=256").await?;
    let rows = agents.items.iter().map(|agent| {
        let is_here = state.handle.as_deref() == Some(agent.handle.as_str());
        let here = if is_here { "here" } else { "" };
        vec![agent.handle.to_string(), format!("{:?}", agent.state).to_lowercase(), here.to_owned()]
    });
    let columns = output.context_mut().columns;
    let table = draw_table(columns, &["agent", "state", ""], rows.collect());
    output.print_line(&table)
}

async fn switch_agent(
    cli: &Cli<'_>,
    name: &str,
    state: &mut ChatState,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    let agent: AgentResource = cli.client.get(&format!("/v1/agents/{}", percent_encode(name))).await?;
    let handle = agent.handle.to_string();
    (state.agent, state.handle) = (Some(handle.clone()), Some(handle));
    state.enter_session(None);
    output.print_notice(&format!("your next message begins a new session of {}", agent.handle))
}

async fn list_sessions(cli: &Cli<'_>, state: &mut ChatState, output: &mut CommandOutput<'_>) -> Outcome {
    let agent = fetch_agent(cli, state).await?;
    let path = format!("/v1/sessions?agent={}&limit={CHOICES_MAX}", agent.id);
    let sessions: ListPage<SessionResource> = cli.client.get(&path).await?;
    if sessions.items.is_empty() {
        return output.print_notice(&format!("{} has no session yet", agent.handle));
    }
    let mut rows = Vec::new();
    for (index, session) in sessions.items.iter().enumerate() {
        let here = if state.session == Some(session.id) { "here" } else { "" };
        let first = first_words(cli, session.id).await?;
        rows.push(vec![(index + 1).to_string(), format_time(session.opened_at), first, here.to_owned()]);
    }
    state.listed = sessions.items.iter().map(|session| session.id).collect();
    let columns = output.context_mut().columns;
    let table = draw_table(columns, &["n", "opened", "first message", ""], rows);
    output.print_line(&table)?;
    output.print_notice("continue one with /resume N")
}

/// The beginning of what was said first, as far as a page of the transcript goes back.
async fn first_words(cli: &Cli<'_>, session: SessionId) -> Outcome<String> {
    let page: TranscriptPage = cli.client.get(&format!("/v1/sessions/{session}/transcript")).await?;
    let first = page.turns.iter().find_map(|turn| match turn {
        SessionTurn::Input { text, .. } => text.as_deref(),
        SessionTurn::Unit { .. } => None,
    });
    let line = first.unwrap_or_default().trim().lines().next().unwrap_or_default();
    Ok(line.chars().take(FIRST_WORDS).collect())
}

async fn resume_session(
    cli: &Cli<'_>,
    name: &str,
    state: &mut ChatState,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    let listed = name.parse::<usize>().ok().and_then(|number| state.listed.get(number.checked_sub(1)?));
    let id = match (listed, name.parse::<SessionId>()) {
        (Some(id), _) => *id,
        (None, Ok(id)) => id,
        (None, Err(_)) => {
            let text = format!("{name:?} is no number of the last /resume and no id of a session");
            return Err(Error::Usage(text));
        }
    };
    let session: SessionResource = cli.client.get(&format!("/v1/sessions/{id}")).await?;
    let agent: AgentResource = cli.client.get(&format!("/v1/agents/{}", session.agent)).await?;
    state.handle = Some(agent.handle.to_string());
    enter_known_session(cli, id, state).await?;
    output.print_notice(&format!("continuing {id} of {}", agent.handle))
}

/// Goes on in a session that has runs, whose cost counts.
pub(super) async fn enter_known_session(cli: &Cli<'_>, id: SessionId, state: &mut ChatState) -> Outcome {
    state.enter_session(Some(id));
    for run in fetch_runs(cli, id).await? {
        state.spent.add_run(&run);
    }
    Ok(())
}

/// The runs of a session, newest first, up to a bound.
async fn fetch_runs(cli: &Cli<'_>, session: SessionId) -> Outcome<Vec<RunResource>> {
    let (mut runs, mut after): (Vec<RunResource>, Option<RunId>) = (Vec::new(), None);
    for _ in 0..RUN_PAGES_MAX {
        let after_query = after.map(|after| format!("&after={after}")).unwrap_or_default();
        let path = format!("/v1/runs?session={session}&limit={RUNS_PAGE}{after_query}");
        let page: ListPage<RunResource> = cli.client.get(&path).await?;
        after = page.items.last().map(|run| run.id);
        runs.extend(page.items);
        if page.next.is_none() {
            break;
        }
    }
    Ok(runs)
}

async fn show_cost(cli: &Cli<'_>, state: &ChatState, output: &mut CommandOutput<'_>) -> Outcome {
    let session = begun_session(state)?;
    let runs = fetch_runs(cli, session).await?;
    let sum = |of: fn(&RunResource) -> u64| runs.iter().map(of).sum::<u64>();
    let text = draw_pairs(&[
        ("session", session.to_string()),
        ("turns", runs.len().to_string()),
        ("model calls", sum(|run| run.model_calls.into()).to_string()),
        ("tokens in", sum(|run| run.usage.input_tokens.into()).to_string()),
        ("tokens out", sum(|run| run.usage.output_tokens.into()).to_string()),
        ("cost", format_short_cost(sum(|run| run.cost_micros), sum(|run| run.unpriced_calls.into()))),
    ]);
    output.print_line(&text)
}

/// Shows how full the window of the model is, and with what.
async fn show_context(cli: &Cli<'_>, state: &ChatState, output: &mut CommandOutput<'_>) -> Outcome {
    let used = window::fetch_context(cli, begun_session(state)?).await?;
    output.print_line(&window::context_text(&used))
}

/// Has the oldest half of the session summarized for its later turns.
async fn compact_session(cli: &Cli<'_>, state: &ChatState, output: &mut CommandOutput<'_>) -> Outcome {
    let session = begun_session(state)?;
    let told = window::request_compaction(cli, session, false).await?;
    output.print_notice(&window::compaction_text(&told, session))
}

async fn list_approvals(cli: &Cli<'_>, state: &mut ChatState, output: &mut CommandOutput<'_>) -> Outcome {
    let path = format!("/v1/approvals?open=true&limit={CHOICES_MAX}");
    let open: ListPage<ApprovalResource> = cli.client.get(&path).await?;
    if open.items.is_empty() {
        return output.print_notice("no call waits for approval");
    }
    let rows = open.items.iter().enumerate().map(|(index, asked)| {
        let call = call_text(&asked.judged.tool, &asked.judged.arguments);
        vec![(index + 1).to_string(), asked.id.to_string(), call]
    });
    let rows: Vec<_> = rows.collect();
    state.approvals = open.items.iter().map(|asked| asked.id).collect();
    for row in rows {
        output.print_line(&row.join("  "))?;
    }
    output.print_notice("answer one with /approve N or /approve N deny; /approve shows only what waits")
}

async fn answer_approval(
    cli: &Cli<'_>,
    argument: &str,
    state: &ChatState,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    let (name, word) = argument.split_once(' ').unwrap_or((argument, ""));
    let approve = match word.trim() {
        "" => true,
        "deny" => false,
        other => {
            return Err(Error::Usage(format!("{other:?} is not known; use `deny`, or nothing to approve")));
        }
    };
    let listed = name.parse::<usize>().ok().and_then(|number| state.approvals.get(number.checked_sub(1)?));
    let id = match listed {
        Some(id) => id.to_string(),
        None if name.starts_with("apr_") => percent_encode(name),
        None => return Err(Error::Usage(format!("{name:?} is no number of the last /approve and no id"))),
    };
    let answer =
        AnswerApproval { approve, reach: ReachKind::Once, rule: None, reason: None, also: Vec::new() };
    let answered: ApprovalResource =
        cli.client.post_json(&format!("/v1/approvals/{id}/answer"), &answer).await?;
    let verb = if approve { "approved" } else { "denied" };
    output.print_notice(&format!(
        "{verb} {}",
        escape_hidden(&call_text(&answered.judged.tool, &answered.judged.arguments))
    ))
}

async fn export_session(
    cli: &Cli<'_>,
    file: &str,
    state: &ChatState,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    let id = begun_session(state)?;
    if file.is_empty() {
        return Err(Error::Usage("name the file: /export talk.session".to_owned()));
    }
    let id = Some(IdReference::Whole(id));
    let export = ExportSession { id, file: Some(file.into()), force: false };
    session::run(cli, SessionCommand::Export(export), output).await.map(drop)
}

fn show_output(argument: &str, state: &ChatState, output: &mut CommandOutput<'_>) -> Outcome {
    let back = if argument.is_empty() { Ok(1) } else { argument.parse() };
    let back = back.map_err(|_| Error::Usage(format!("{argument:?} is no number; 1 is the last call")))?;
    match (state.calls.ended_call(back), state.calls.count()) {
        (Some(call), _) => {
            output.print_line(&format!("{} ({})", call.text, call.status))?;
            output.print_line(call.result.trim_end())
        }
        (None, 0) => output.print_notice("no call of this chat has ended yet"),
        (None, count) => Err(Error::Usage(format!("this chat knows its last {count} calls"))),
    }
}
