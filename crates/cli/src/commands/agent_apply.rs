//! `agent apply -f FILE`: agents as a file says them, created, changed or left as they are.
//!
//! The whole file is read before anything is sent. Agents are erased only where `--prune` asks for it and a person confirms.

use std::collections::BTreeMap;

use dromia_api::agent::{AgentResource, DeletionReport};
use dromia_api::list::LIMIT_MAX;
use dromia_api::{AgentState, ErrorCode, ListPage};
use schemars::JsonSchema;
use serde::Serialize;

use super::agent_change::{agent_url, send_patch};
use super::agent_document::{AgentDocument, FILE_BYTES_MAX, line_diff, parse_documents};
use super::{Cli, terminal_input};
use crate::args::ApplyAgents;
use crate::client::percent_encode;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::CommandOutput;

/// What became, or would become, of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ApplyResult {
    /// It was registered.
    Created,
    /// It has another revision.
    Changed,
    /// It was so already.
    Unchanged,
    /// It was erased.
    Deleted,
}

impl ApplyResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

/// What a file did to one agent.
#[derive(Debug, Serialize, JsonSchema)]
struct AppliedAgent {
    /// The agent's handle.
    name: String,
    /// What became of it; with `--dry-run`, what would.
    result: ApplyResult,
    /// The number of its revision then.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// The lines that differ.
    diff: Vec<String>,
}

/// What a file did.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ApplyReport {
    /// Whether nothing was sent.
    dry_run: bool,
    /// Each agent, in the order of the file.
    agents: Vec<AppliedAgent>,
}

pub(super) async fn apply_file(
    cli: &Cli<'_>,
    apply: &ApplyAgents,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let documents = read_file(apply, output).await?;
    let mut plans = Vec::new();
    for document in documents {
        let name = document.name.clone().unwrap_or_default();
        let found: Option<AgentResource> = match cli.client.get(&agent_url(&name)).await {
            Err(Error::Problem(problem)) if problem.error_code() == Some(ErrorCode::AgentNotFound) => None,
            found => Some(found?),
        };
        if found.as_ref().is_some_and(|agent| agent.state == AgentState::Terminated) {
            return Err(Error::Usage(format!(
                "{name} is terminated and cannot be changed; nothing was changed"
            )));
        }
        plans.push((name, document, found));
    }
    let gone = if apply.prune { list_unnamed(cli, &plans).await? } else { Vec::new() };
    if !gone.is_empty() && !apply.dry_run {
        let names: Vec<_> = gone.iter().map(|agent| agent.handle.as_str()).collect();
        let question = format!(
            "Erase {} with all sessions, runs and files? The file does not name {}.",
            names.join(", "),
            if names.len() == 1 { "it" } else { "them" }
        );
        cli.confirm(&question, output).await?;
    }
    let mut agents = Vec::new();
    for (place, (name, document, found)) in plans.into_iter().enumerate() {
        let key = format!("{}-{place}", output.context_mut().request_key);
        let applied = apply_document(cli, name.clone(), &document, found, apply.dry_run, &key).await;
        agents.push(applied.map_err(|error| say_progress(error, &name, &agents))?);
    }
    for agent in gone {
        if !apply.dry_run {
            let _: DeletionReport = cli.client.delete(&agent_url(&agent.id.to_string())).await?;
        }
        let name = agent.handle.to_string();
        agents.push(AppliedAgent { name, result: ApplyResult::Deleted, revision: None, diff: Vec::new() });
    }
    output.print_result(&ApplyReport { dry_run: apply.dry_run, agents }, report_text)?;
    Ok(CommandExit::Done)
}

async fn read_file(apply: &ApplyAgents, output: &mut CommandOutput<'_>) -> Outcome<Vec<AgentDocument>> {
    let file = apply.file.display().to_string();
    let text = if file == "-" {
        terminal_input::read_all_text("read stdin", output).await?
    } else {
        let failed = || format!("read the agents in {file}");
        let size = std::fs::metadata(&apply.file).map_err(Error::io_error(failed()))?.len();
        if size > FILE_BYTES_MAX as u64 {
            return Err(Error::Usage(format!("{file} has {size} bytes; at most {FILE_BYTES_MAX} are read")));
        }
        std::fs::read_to_string(&apply.file).map_err(Error::io_error(failed()))?
    };
    let wrong = |problem: String| Error::Usage(format!("{file}: {problem}; nothing was changed"));
    let documents = parse_documents(&text).map_err(wrong)?;
    if documents.is_empty() {
        return Err(wrong("there is no agent in it".to_owned()));
    }
    let mut named = BTreeMap::new();
    for (place, document) in (1..).zip(&documents) {
        let Some(name) = &document.name else {
            return Err(wrong(format!("agent {place} has no name; add `name:` and its handle")));
        };
        if let Some(first) = named.insert(name.clone(), place) {
            return Err(wrong(format!("agents {first} and {place} are both called {name}")));
        }
    }
    Ok(documents)
}

/// Lists agents that no document names.
async fn list_unnamed(
    cli: &Cli<'_>,
    plans: &[(String, AgentDocument, Option<AgentResource>)],
) -> Outcome<Vec<AgentResource>> {
    let (mut gone, mut after) = (Vec::new(), String::new());
    loop {
        let page: ListPage<AgentResource> =
            cli.client.get(&format!("/v1/agents?limit={LIMIT_MAX}{after}")).await?;
        let is_named = |agent: &AgentResource| plans.iter().any(|(name, _, _)| agent.handle.as_str() == name);
        gone.extend(page.items.into_iter().filter(|agent| !is_named(agent)));
        match page.next {
            Some(next) => after = format!("&after={}", percent_encode(&next)),
            None => return Ok(gone),
        }
    }
}

async fn apply_document(
    cli: &Cli<'_>,
    name: String,
    document: &AgentDocument,
    found: Option<AgentResource>,
    is_dry: bool,
    key: &str,
) -> Outcome<AppliedAgent> {
    let Some(before) = found else {
        let new = document.to_create().map_err(Error::Usage)?;
        let diff = line_diff("", &document.to_yaml());
        let revision = if is_dry {
            None
        } else {
            Some(cli.client.post_json::<AgentResource>("/v1/agents", &new).await?.revision)
        };
        return Ok(AppliedAgent { name, result: ApplyResult::Created, revision, diff });
    };
    let wanted = document.applied_to(&before);
    let yaml = |agent: &AgentResource| AgentDocument::of_agent(agent).to_yaml();
    let diff = line_diff(&yaml(&before), &yaml(&wanted));
    if wanted == before {
        let revision = Some(before.revision);
        return Ok(AppliedAgent { name, result: ApplyResult::Unchanged, revision, diff });
    }
    let revision =
        if is_dry { before.revision } else { send_patch(cli, &before, &document.patch, key).await?.revision };
    Ok(AppliedAgent { name, result: ApplyResult::Changed, revision: Some(revision), diff })
}

/// Says of a failure what the command did before it.
fn say_progress(error: Error, name: &str, agents: &[AppliedAgent]) -> Error {
    let done = agents.iter().filter(|agent| agent.result != ApplyResult::Unchanged);
    let done: Vec<_> = done.map(|agent| format!("{} {}", agent.name, agent.result.as_str())).collect();
    let before = if done.is_empty() { "nothing was changed".to_owned() } else { done.join(", ") };
    match error {
        Error::Problem(mut problem) => {
            problem.detail = format!("{name}: {}; before it: {before}", problem.detail);
            Error::Problem(problem)
        }
        Error::Usage(text) => Error::Usage(format!("{name}: {text}; before it: {before}")),
        error => error,
    }
}

fn report_text(report: &ApplyReport) -> String {
    let mut lines = Vec::new();
    for AppliedAgent { name, result, revision, diff } in &report.agents {
        let at = revision.map(|revision| format!(" (revision {revision})")).unwrap_or_default();
        let would = if report.dry_run && *result != ApplyResult::Unchanged { "would be " } else { "" };
        lines.push(format!("{name} {would}{}{at}", result.as_str()));
        if report.dry_run {
            lines.extend(diff.iter().map(|line| format!("  {line}")));
        }
    }
    lines.join("\n")
}
