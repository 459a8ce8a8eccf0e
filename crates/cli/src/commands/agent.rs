//! `agent`: register, look at, steer and erase agents, and choose the default one.

use dromia_api::agent::{Agent, CreateAgent, Deleted};
use dromia_api::list::LIMIT_MAX;
use dromia_api::run::Run;
use dromia_api::session::Session;
use dromia_api::{AgentConfig, AgentState, List, RunStatus};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Cli, listing, print_narrow};
use crate::args::{self, AgentName};
use crate::client::encoded;
use crate::error::{Error, Outcome};
use crate::exit::Exit;
use crate::output::{Output, Way, fitted, pairs, time};
use crate::settings::Settings;

/// The columns of a listing, and how it gives way on a narrow terminal.
const HEADS: [&str; 5] = ["handle", "name", "state", "created", "id"];
const WAYS: [Way; 5] = [
    Way::Short("created"),
    Way::Cut("name", 6),
    Way::Without("name"),
    Way::Without("created"),
    Way::Cut("handle", 12),
];

pub(super) async fn run(cli: &Cli<'_>, command: args::Agent, output: &mut Output<'_>) -> Outcome<Exit> {
    match command {
        args::Agent::Create(new) => create(cli, new, output).await,
        args::Agent::List(page) => {
            let list: List<Agent> = cli.client.get(&listing("/v1/agents", &page, &[])).await?;
            let chosen = cli.agent();
            let is_chosen = |agent: &Agent| {
                chosen.as_ref().is_some_and(|chosen| {
                    agent.handle.as_str() == chosen.as_str() || agent.id.to_string() == *chosen
                })
            };
            let ended = print_narrow(output, &list, &HEADS, &WAYS, |agent| {
                let mut row = row(agent);
                if is_chosen(agent) {
                    row[0].push_str(" *");
                }
                row
            })?;
            if !output.is_json() && list.items.iter().any(is_chosen) {
                output.notice("* is the agent that commands mean which name none")?;
            }
            Ok(ended)
        }
        args::Agent::Show(agent) => {
            let agent: Agent = cli.client.get(&path(&agent, "")).await?;
            output.show(&agent, text)?;
            Ok(Exit::Done)
        }
        args::Agent::Status(agent) => status(cli, &agent, output).await,
        args::Agent::Delete(agent) => delete(cli, &agent, output).await,
        args::Agent::Pause(agent) => steer(cli, &agent, "/pause", output).await,
        args::Agent::Resume(agent) => steer(cli, &agent, "/resume", output).await,
        args::Agent::Terminate(agent) => {
            let question =
                format!("End {} for good? Its runs end, and it takes no input any more.", agent.name);
            cli.confirm(&question, output).await?;
            steer(cli, &agent, "/terminate", output).await
        }
        args::Agent::Switch(agent) => switch(cli, &agent, output).await,
        args::Agent::Spawn(task) => super::task::spawn(cli, task, output).await,
        args::Agent::Tasks(list) => super::task::list(cli, &list, output).await,
        args::Agent::Kill(kill) => super::task::kill(cli, &kill, output).await,
    }
}

async fn create(cli: &Cli<'_>, new: args::CreateAgent, output: &mut Output<'_>) -> Outcome<Exit> {
    let instructions = match (new.instructions, new.instructions_file) {
        (Some(text), _) => text,
        (None, Some(file)) => std::fs::read_to_string(&file)
            .map_err(Error::io(format!("read the instructions in {}", file.display())))?,
        (None, None) => String::new(),
    };
    let config = AgentConfig {
        model: new.model,
        instructions,
        grants: new.grants,
        model_calls_max: new.model_calls_max,
    };
    let labels = new.labels.into_iter().collect();
    let new = CreateAgent { handle: new.handle, display_name: new.display_name, labels, config };
    let agent: Agent = cli.client.post_json("/v1/agents", &new).await?;
    output.show(&agent, text)?;
    let is_heard = |grant: &String| grant == "model" || grant.starts_with("model:");
    if !new.config.grants.iter().any(is_heard) {
        output.notice("it is granted no model, so every run of it will fail; add `--grant model`")?;
    }
    Ok(Exit::Done)
}

async fn steer(cli: &Cli<'_>, agent: &AgentName, verb: &str, output: &mut Output<'_>) -> Outcome<Exit> {
    let agent: Agent = cli.client.post(&path(agent, verb)).await?;
    output.show(&agent, |agent| format!("{} is {}", agent.handle, agent.state.as_str()))?;
    Ok(Exit::Done)
}

async fn delete(cli: &Cli<'_>, agent: &AgentName, output: &mut Output<'_>) -> Outcome<Exit> {
    let question = format!("Erase {} with all its sessions, runs and files?", agent.name);
    cli.confirm(&question, output).await?;
    let deleted: Deleted = cli.client.delete(&path(agent, "")).await?;
    output.show(&deleted, |Deleted { erased }| {
        pairs(&[
            ("sessions", erased.sessions.to_string()),
            ("runs", erased.runs.to_string()),
            ("entries", erased.entries.to_string()),
            ("items", erased.items.to_string()),
            ("bodies", erased.bodies.to_string()),
            ("messages", erased.deliveries.to_string()),
            ("files", erased.files.to_string()),
        ])
    })?;
    Ok(Exit::Done)
}

/// An agent and its runs that have not ended.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AgentStatus")]
pub(super) struct Status {
    /// The agent.
    agent: Agent,
    /// Its runs that have not ended.
    open_runs: Vec<Run>,
    /// Inputs of its sessions that no run has taken yet.
    waiting: u64,
}

/// The most pages of sessions in which inputs that wait are looked for.
const PAGES_MAX: usize = 16;

/// Counts the inputs of an agent that no run has taken yet.
async fn waiting(cli: &Cli<'_>, agent: &Agent) -> Outcome<u64> {
    let (mut waiting, mut after) = (0, String::new());
    for _ in 0..PAGES_MAX {
        let path = format!("/v1/sessions?agent={}&limit={LIMIT_MAX}{after}", agent.id);
        let page: List<Session> = cli.client.get(&path).await?;
        waiting += page.items.iter().map(|session| session.waiting).sum::<u64>();
        match page.next {
            Some(next) => after = format!("&after={}", encoded(&next)),
            None => break,
        }
    }
    Ok(waiting)
}

/// Says how many inputs wait, and what they wait for; nothing if none does.
fn waiting_text(agent: &Agent, waiting: u64) -> String {
    let handle = &agent.handle;
    let inputs = match waiting {
        0 => return String::new(),
        1 => "; 1 input waits".to_owned(),
        waiting => format!("; {waiting} inputs wait"),
    };
    match agent.state {
        AgentState::Paused => format!("{inputs} until `dromia agent resume {handle}`"),
        AgentState::Running => inputs,
        AgentState::Terminated | AgentState::Deleting => format!("{inputs}, and nothing takes them any more"),
    }
}

async fn status(cli: &Cli<'_>, agent: &AgentName, output: &mut Output<'_>) -> Outcome<Exit> {
    let agent: Agent = cli.client.get(&path(agent, "")).await?;
    let mut open_runs = Vec::new();
    for status in RunStatus::ALL.into_iter().filter(|status| !status.is_terminal()) {
        let path = format!("/v1/runs?agent={}&status={}", agent.id, status.as_str());
        open_runs.extend(cli.client.get::<List<Run>>(&path).await?.items);
    }
    let waiting = waiting(cli, &agent).await?;
    let rows = open_runs.iter().map(super::run::row).collect();
    let table = fitted(output.context(), &super::run::HEADS, &super::run::WAYS, rows);
    output.show(&Status { agent, open_runs, waiting }, |Status { agent, open_runs, waiting }| {
        let state = format!("{} is {}", agent.handle, agent.state.as_str());
        let inputs = waiting_text(agent, *waiting);
        if open_runs.is_empty() {
            return format!("{state}; no open runs{inputs}");
        }
        format!("{state}{inputs}\n\n{table}")
    })?;
    Ok(Exit::Done)
}

async fn switch(cli: &Cli<'_>, agent: &AgentName, output: &mut Output<'_>) -> Outcome<Exit> {
    // Asked first, so that a misspelt name is not remembered.
    let agent: Agent = cli.client.get(&path(agent, "")).await?;
    if agent.state == dromia_api::AgentState::Terminated {
        let message = format!("{} is terminated and answers nothing any more", agent.handle);
        return Err(Error::Local { exit: Exit::from(dromia_api::ErrorCode::AgentTerminated), message });
    }
    let mut settings: Settings = cli.settings.clone();
    settings.agents.insert(cli.tenant.clone(), agent.handle.to_string());
    settings.write(&cli.home)?;
    output.show(&agent, |agent| {
        format!("{} now answers when no agent is named in {}", agent.handle, cli.tenant)
    })?;
    Ok(Exit::Done)
}

fn path(agent: &AgentName, verb: &str) -> String {
    format!("/v1/agents/{}{verb}", encoded(&agent.name))
}

fn row(agent: &Agent) -> Vec<String> {
    vec![
        agent.handle.to_string(),
        agent.display_name.clone(),
        agent.state.as_str().to_owned(),
        time(agent.created_at),
        agent.id.to_string(),
    ]
}

fn text(agent: &Agent) -> String {
    let labels: Vec<_> = agent.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let config = agent.config.as_ref();
    let calls = config.and_then(|config| config.model_calls_max).map(|max| max.to_string());
    pairs(&[
        ("handle", agent.handle.to_string()),
        ("id", agent.id.to_string()),
        ("name", agent.display_name.clone()),
        ("state", agent.state.as_str().to_owned()),
        ("created", time(agent.created_at)),
        ("labels", labels.join(" ")),
        ("model", config.map(|config| config.model.clone()).unwrap_or_default()),
        ("grants", config.map(|config| config.grants.join(" ")).unwrap_or_default()),
        ("model calls", calls.unwrap_or_default()),
        ("instructions", config.map(|config| config.instructions.clone()).unwrap_or_default()),
    ])
}
