//! `agent`: register, look at, steer and erase agents, and choose the default one.

use std::collections::BTreeMap;

use dromia_api::agent::{AgentResource, CreateAgent, DeletionReport};
use dromia_api::list::LIMIT_MAX;
use dromia_api::run::RunResource;
use dromia_api::session::SessionResource;
use dromia_api::template::RenderedTemplate;
use dromia_api::{AgentConfig, AgentMind, AgentState, BusyPolicy, ErasureCounts, ListPage, RunStatus};
use schemars::JsonSchema;
use serde::Serialize;

use super::agent_document::AgentDocument;
use super::template::{render_template, suggest_first_question};
use super::{Cli, agent_apply, agent_change, agent_edit, listing_path, print_narrow};
use crate::args::{self, AgentName};
use crate::client::percent_encode;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{ColumnShrink, CommandOutput, draw_fitted_table, draw_pairs, format_time};
use crate::settings::UserSettings;

/// The columns of a listing, and how it shrinks on a narrow terminal.
const HEADS: [&str; 5] = ["handle", "name", "state", "created", "id"];
const WAYS: [ColumnShrink; 5] = [
    ColumnShrink::Short("created"),
    ColumnShrink::Cut("name", 6),
    ColumnShrink::Without("name"),
    ColumnShrink::Without("created"),
    ColumnShrink::Cut("handle", 12),
];

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::AgentCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::AgentCommand::Create(new) => create_agent(cli, new, output).await,
        args::AgentCommand::List(page) => {
            let list: ListPage<AgentResource> =
                cli.client.get(&listing_path("/v1/agents", &page, &[])).await?;
            let chosen = cli.selected_agent();
            let is_chosen = |agent: &AgentResource| {
                chosen.as_ref().is_some_and(|chosen| {
                    agent.handle.as_str() == chosen.as_str() || agent.id.to_string() == *chosen
                })
            };
            let ended = print_narrow(output, &list, &HEADS, &WAYS, |agent| {
                let mut row = agent_row(agent);
                if is_chosen(agent) {
                    row[0].push_str(" *");
                }
                row
            })?;
            if !output.is_json() && list.items.iter().any(is_chosen) {
                output.print_notice("* marks the agent that commands use when you name none")?;
            }
            Ok(ended)
        }
        args::AgentCommand::Show(shown) => {
            let agent: AgentResource = cli.client.get(&agent_path(&shown.agent, "")).await?;
            if shown.yaml {
                output.print_text(&AgentDocument::of_agent(&agent).to_yaml())?;
            } else {
                output.print_result(&agent, agent_text)?;
            }
            Ok(CommandExit::Done)
        }
        args::AgentCommand::Set(set) => agent_change::set_fields(cli, &set, output).await,
        args::AgentCommand::Edit(agent) => agent_edit::edit_agent(cli, &agent, output).await,
        args::AgentCommand::Apply(apply) => agent_apply::apply_file(cli, &apply, output).await,
        args::AgentCommand::Diff(diff) => agent_change::show_diff(cli, &diff, output).await,
        args::AgentCommand::History(history) => agent_change::list_history(cli, &history, output).await,
        args::AgentCommand::Identity(command) => super::agent_identity::run(cli, command, output).await,
        args::AgentCommand::Revert(revert) => agent_change::revert_agent(cli, &revert, output).await,
        args::AgentCommand::Rename(rename) => agent_change::rename_agent(cli, &rename, output).await,
        args::AgentCommand::Status(agent) => show_status(cli, &agent, output).await,
        args::AgentCommand::Delete(agent) => delete_agent(cli, &agent, output).await,
        args::AgentCommand::Pause(agent) => steer_agent(cli, &agent, "/pause", output).await,
        args::AgentCommand::Resume(agent) => steer_agent(cli, &agent, "/resume", output).await,
        args::AgentCommand::Terminate(agent) => {
            let question =
                format!("Terminate {} for good? Its runs end, and it accepts no more input.", agent.name);
            cli.confirm(&question, output).await?;
            steer_agent(cli, &agent, "/terminate", output).await
        }
        args::AgentCommand::Switch(agent) => switch_agent(cli, &agent, output).await,
        args::AgentCommand::Spawn(task) => super::task::spawn_agent(cli, task, output).await,
        args::AgentCommand::Tasks(list) => super::task::list_tasks(cli, &list, output).await,
        args::AgentCommand::Kill(kill) => super::task::kill_agent(cli, &kill, output).await,
    }
}

async fn create_agent(
    cli: &Cli<'_>,
    new: args::CreateAgent,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let instructions = match (new.instructions, new.instructions_file) {
        (Some(text), _) => text,
        (None, Some(file)) => std::fs::read_to_string(&file)
            .map_err(Error::io_error(format!("read the instructions in {}", file.display())))?,
        (None, None) => String::new(),
    };
    let RenderedTemplate { config: basis, mut labels } = if let Some(template) = &new.template {
        render_template(cli, template, new.variables, Some(new.model)).await?
    } else {
        let config = AgentConfig { model: new.model, instructions, ..AgentConfig::default() };
        RenderedTemplate { config, labels: BTreeMap::new() }
    };
    let mut grants = basis.grants;
    if grants.is_empty() && new.grants.is_empty() {
        grants.extend(["model", "reply"].map(str::to_owned));
    }
    let added: Vec<_> = new.grants.into_iter().filter(|grant| !grants.contains(grant)).collect();
    grants.extend(added);
    let config = AgentConfig {
        grants,
        model_calls_max: new.model_calls_max,
        workspace: new.workspace,
        when_busy: new.when_busy.map(BusyPolicy::from),
        mind: new.mind.map(AgentMind::from).or(basis.mind),
        ..basis
    };
    labels.extend(new.labels);
    let template = new.template;
    let new = CreateAgent { handle: new.handle, display_name: new.display_name, labels, config };
    let agent: AgentResource = cli.client.post_json("/v1/agents", &new).await?;
    output.print_result(&agent, agent_text)?;
    if let Some(template) = &template {
        suggest_first_question(cli, template, &agent, output).await?;
    }
    let is_heard = |grant: &String| grant == "model" || grant.starts_with("model:");
    if !new.config.grants.iter().any(is_heard) {
        output.print_notice(
            "the agent has no grant of a model, so each of its runs will fail; add `--grant model`",
        )?;
    }
    Ok(CommandExit::Done)
}

async fn steer_agent(
    cli: &Cli<'_>,
    agent: &AgentName,
    verb: &str,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let agent: AgentResource = cli.client.post(&agent_path(agent, verb)).await?;
    output.print_result(&agent, |agent| format!("{} is {}", agent.handle, agent.state.as_str()))?;
    Ok(CommandExit::Done)
}

async fn delete_agent(
    cli: &Cli<'_>,
    agent: &AgentName,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let question = format!("Erase {} with all its sessions, runs and files?", agent.name);
    cli.confirm(&question, output).await?;
    let deleted: DeletionReport = cli.client.delete(&agent_path(agent, "")).await?;
    output.print_result(&deleted, |DeletionReport { erased }| draw_pairs(&erased_pairs(erased)))?;
    Ok(CommandExit::Done)
}

/// What an erasure took, line by line.
pub(super) fn erased_pairs(erased: &ErasureCounts) -> [(&'static str, String); 7] {
    [
        ("sessions", erased.sessions.to_string()),
        ("runs", erased.runs.to_string()),
        ("entries", erased.entries.to_string()),
        ("items", erased.items.to_string()),
        ("bodies", erased.bodies.to_string()),
        ("messages", erased.deliveries.to_string()),
        ("files", erased.files.to_string()),
    ]
}

/// An agent and its runs that have not ended.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AgentStatus")]
pub(super) struct AgentOverview {
    /// The agent.
    agent: AgentResource,
    /// Its runs that have not ended.
    open_runs: Vec<RunResource>,
    /// Inputs of its sessions that no run has taken yet.
    waiting: u64,
}

/// The most pages of sessions in which inputs that wait are looked for.
const PAGES_MAX: usize = 16;

/// Counts the inputs of an agent that no run has taken yet.
async fn count_waiting_inputs(cli: &Cli<'_>, agent: &AgentResource) -> Outcome<u64> {
    let (mut waiting, mut after) = (0, String::new());
    for _ in 0..PAGES_MAX {
        let path = format!("/v1/sessions?agent={}&limit={LIMIT_MAX}{after}", agent.id);
        let page: ListPage<SessionResource> = cli.client.get(&path).await?;
        waiting += page.items.iter().map(|session| session.waiting).sum::<u64>();
        match page.next {
            Some(next) => after = format!("&after={}", percent_encode(&next)),
            None => break,
        }
    }
    Ok(waiting)
}

/// Says how many inputs wait, and what they wait for; nothing if none does.
fn waiting_text(agent: &AgentResource, waiting: u64) -> String {
    let handle = &agent.handle;
    let inputs = match waiting {
        0 => return String::new(),
        1 => "; 1 input waits".to_owned(),
        waiting => format!("; {waiting} inputs wait"),
    };
    match agent.state {
        AgentState::Paused => format!("{inputs} until you run `dromia agent resume {handle}`"),
        AgentState::Running => inputs,
        AgentState::Terminated | AgentState::Deleting => {
            format!("{inputs}, but the agent takes no more input")
        }
    }
}

async fn show_status(
    cli: &Cli<'_>,
    agent: &AgentName,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let agent: AgentResource = cli.client.get(&agent_path(agent, "")).await?;
    let mut open_runs = Vec::new();
    for status in RunStatus::ALL.into_iter().filter(|status| !status.is_terminal()) {
        let path = format!("/v1/runs?agent={}&status={}", agent.id, status.as_str());
        open_runs.extend(cli.client.get::<ListPage<RunResource>>(&path).await?.items);
    }
    let waiting = count_waiting_inputs(cli, &agent).await?;
    let style = output.row_style();
    let rows = open_runs.iter().map(|run| super::run::run_row(run, &style)).collect();
    let table = draw_fitted_table(output.context_mut(), &super::run::HEADS, &super::run::WAYS, rows);
    output.print_result(
        &AgentOverview { agent, open_runs, waiting },
        |AgentOverview { agent, open_runs, waiting }| {
            let state = format!("{} is {}", agent.handle, agent.state.as_str());
            let inputs = waiting_text(agent, *waiting);
            if open_runs.is_empty() {
                return format!("{state}; no open runs{inputs}");
            }
            format!("{state}{inputs}\n\n{table}")
        },
    )?;
    Ok(CommandExit::Done)
}

async fn switch_agent(
    cli: &Cli<'_>,
    agent: &AgentName,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    // Asked first, so that a misspelt name is not remembered.
    let agent: AgentResource = cli.client.get(&agent_path(agent, "")).await?;
    if agent.state == dromia_api::AgentState::Terminated {
        let message =
            format!("{} is terminated and accepts no more input; choose another agent", agent.handle);
        return Err(Error::Local {
            exit: CommandExit::from(dromia_api::ErrorCode::AgentTerminated),
            message,
        });
    }
    UserSettings::update(&cli.home, |settings| {
        settings.agents.insert(cli.tenant.clone(), agent.handle.to_string());
    })?;
    output.print_result(&agent, |agent| {
        format!("commands in the tenant {1} now use {0} when you name no agent", agent.handle, cli.tenant)
    })?;
    Ok(CommandExit::Done)
}

fn agent_path(agent: &AgentName, verb: &str) -> String {
    format!("/v1/agents/{}{verb}", percent_encode(&agent.name))
}

fn agent_row(agent: &AgentResource) -> Vec<String> {
    vec![
        agent.handle.to_string(),
        agent.display_name.clone(),
        agent.state.as_str().to_owned(),
        format_time(agent.created_at),
        agent.id.to_string(),
    ]
}

fn agent_text(agent: &AgentResource) -> String {
    let labels: Vec<_> = agent.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let config = agent.config.as_ref();
    let workspace = config.and_then(|config| config.workspace.as_ref());
    let calls = config.and_then(|config| config.model_calls_max).map(|max| max.to_string());
    draw_pairs(&[
        ("handle", agent.handle.to_string()),
        ("id", agent.id.to_string()),
        ("name", agent.display_name.clone()),
        ("state", agent.state.as_str().to_owned()),
        ("created", format_time(agent.created_at)),
        ("revision", agent.revision.to_string()),
        ("labels", labels.join(" ")),
        ("description", config.map(|config| config.description.clone()).unwrap_or_default()),
        ("model", config.map(|config| config.model.clone()).unwrap_or_default()),
        ("grants", config.map(|config| config.grants.join(" ")).unwrap_or_default()),
        ("workspace", workspace.map(ToString::to_string).unwrap_or_default()),
        (
            "when busy",
            config.and_then(|config| config.when_busy).map(|policy| policy.to_string()).unwrap_or_default(),
        ),
        ("mind", config.and_then(|config| config.mind).unwrap_or_default().to_string()),
        ("model calls", calls.unwrap_or_default()),
        ("instructions", config.map(|config| config.instructions.clone()).unwrap_or_default()),
    ])
}
