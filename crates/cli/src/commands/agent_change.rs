//! `agent set`, `revert`, `rename`, `history` and `diff`: revisions of an agent.
//!
//! A change is sent with the revision that it was made from, so that it never undoes another one unseen. Whether it may be
//! made is the server's to say.

use std::collections::BTreeMap;

use dromia_api::agent::{AgentResource, ModelAlias, RenameAgent, RevertAgent, RevisionResource};
use dromia_api::{
    AgentConfig, AgentField, AgentPatch, ErrorCode, ListPage, ParseWorkspaceError, UnknownBusyPolicy,
    UnknownMind,
};
use hyper::Method;
use schemars::JsonSchema;
use serde::Serialize;

use super::agent_document::{AgentDocument, DOCUMENTS_ALONE, line_diff};
use super::{Cli, listing_path, print_list};
use crate::args::{self, AgentSetting, SettingMode};
use crate::client::percent_encode;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::nearest_word::nearest_word;
use crate::output::{CommandOutput, format_time};

/// The longest file of a value, in bytes; the server takes no longer instructions.
const VALUE_BYTES_MAX: u64 = 64 * 1024;

/// How often a change is made again because another one came first.
const ATTEMPTS_MAX: u32 = 4;

/// An agent after a change, and what the change did.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct AgentChanged {
    /// Whether anything changed.
    pub(super) changed: bool,
    /// The fields that changed.
    pub(super) fields: Vec<AgentField>,
    /// The agent as it is now.
    pub(super) agent: AgentResource,
}

impl AgentChanged {
    /// Compares an agent before and after a change.
    pub(super) fn from_agents(before: &AgentResource, agent: AgentResource) -> Self {
        let fields = changed_fields(before, &agent);
        Self { changed: before.revision != agent.revision, fields, agent }
    }

    /// Says it in a line or two.
    pub(super) fn summary(&self) -> String {
        let AgentResource { handle, revision, .. } = &self.agent;
        if !self.changed {
            return format!("no change; {handle} is at revision {revision}");
        }
        let fields: Vec<_> = self.fields.iter().map(|field| field.as_str()).collect();
        format!(
            "{handle} is at revision {revision}: changed {}\nruns that began before keep the earlier revision, except \
             for\ngrants and directories that were taken away",
            fields.join(", ")
        )
    }
}

fn changed_fields(before: &AgentResource, after: &AgentResource) -> Vec<AgentField> {
    let (old, new) = (known_config(before), known_config(after));
    let differs = |field: &AgentField| match field {
        AgentField::Model => old.model != new.model,
        AgentField::Instructions => old.instructions != new.instructions,
        AgentField::Grants => old.grants != new.grants,
        AgentField::ModelCallsMax => old.model_calls_max != new.model_calls_max,
        AgentField::Description => old.description != new.description,
        AgentField::Workspace => old.workspace != new.workspace,
        AgentField::WhenBusy => old.when_busy != new.when_busy,
        AgentField::Mind => old.mind.unwrap_or_default() != new.mind.unwrap_or_default(),
        AgentField::Identity => old.identity != new.identity,
        AgentField::DisplayName => before.display_name != after.display_name,
        AgentField::Labels => before.labels != after.labels,
    };
    AgentField::ALL.into_iter().filter(differs).collect()
}

/// The configuration of an agent that was asked for by itself, which has one.
fn known_config(agent: &AgentResource) -> AgentConfig {
    agent.config.clone().unwrap_or_default()
}

pub(super) fn agent_url(name: &str) -> String {
    format!("/v1/agents/{}", percent_encode(name))
}

/// Sends a patch of an agent that was seen at a revision.
pub(super) async fn send_patch(
    cli: &Cli<'_>,
    seen: &AgentResource,
    patch: &AgentPatch,
    key: &str,
) -> Outcome<AgentResource> {
    let path = agent_url(&seen.id.to_string());
    let sent = cli.client.change_json(Method::PATCH, &path, patch, key, Some(seen.revision)).await;
    match (&patch.config.model, sent) {
        (Some(model), Err(Error::Problem(mut problem))) if problem.detail.starts_with("config.model") => {
            problem.hint = Some(suggest_model(model, &list_models(cli).await?));
            Err(Error::Problem(problem))
        }
        (_, sent) => sent,
    }
}

/// Lists the models that an agent may use.
pub(super) async fn list_models(cli: &Cli<'_>) -> Outcome<Vec<String>> {
    let page: ListPage<ModelAlias> = cli.client.get("/v1/model-aliases").await?;
    Ok(page.items.into_iter().map(|model| model.alias).collect())
}

/// Says which model may be meant, and which there are.
fn suggest_model(typed: &str, known: &[String]) -> String {
    let near = nearest_word(typed, known.iter().map(String::as_str));
    let near = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
    format!("{near}this server has the models {}", known.join(", "))
}

pub(super) async fn set_fields(
    cli: &Cli<'_>,
    set: &args::SetAgent,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let settings = read_values(&set.settings)?;
    let mut attempt = 0;
    let changed = loop {
        attempt += 1;
        let before: AgentResource = cli.client.get(&agent_url(&set.name)).await?;
        let patch = build_patch(&before, &settings)?;
        let key = format!("{}-{attempt}", output.context_mut().request_key);
        match send_patch(cli, &before, &patch, &key).await {
            // What was typed says how to change whatever is there.
            Err(Error::Problem(problem))
                if problem.error_code() == Some(ErrorCode::VersionConflict) && attempt < ATTEMPTS_MAX => {}
            after => break AgentChanged::from_agents(&before, after?),
        }
    };
    output.print_result(&changed, AgentChanged::summary)?;
    Ok(CommandExit::Done)
}

/// Reads the values that are in files, at once.
fn read_values(settings: &[AgentSetting]) -> Outcome<Vec<AgentSetting>> {
    let read = |setting: &AgentSetting| {
        let value = match setting.value.strip_prefix('@') {
            None => setting.value.clone(),
            Some(text) if text.starts_with('@') => text.to_owned(),
            Some(file) => {
                let size = std::fs::metadata(file).map(|known| known.len());
                let failed = || format!("read the value of {} in {file}", setting.field.as_str());
                let size = size.map_err(Error::io_error(failed()))?;
                if size > VALUE_BYTES_MAX {
                    return Err(Error::Usage(format!(
                        "{file} has {size} bytes; a value has at most {VALUE_BYTES_MAX}"
                    )));
                }
                std::fs::read_to_string(file).map_err(Error::io_error(failed()))?
            }
        };
        Ok(AgentSetting { value, ..setting.clone() })
    };
    settings.iter().map(read).collect()
}

/// Makes the patch that settings are for an agent as it is.
fn build_patch(before: &AgentResource, settings: &[AgentSetting]) -> Outcome<AgentPatch> {
    let mut patch = AgentPatch::default();
    let mut grants = known_config(before).grants;
    for AgentSetting { field, mode, value } in settings {
        let text = value.clone();
        match (field, mode) {
            (AgentField::Model, _) => patch.config.model = Some(text),
            (AgentField::Instructions, _) => patch.config.instructions = Some(Some(text)),
            (AgentField::Description, _) => patch.config.description = Some(Some(text)),
            (AgentField::Workspace, _) => {
                let workspace = (!value.is_empty()).then(|| value.parse()).transpose();
                patch.config.workspace = Some(
                    workspace
                        .map_err(|error: ParseWorkspaceError| Error::Usage(format!("workspace: {error}")))?,
                );
            }
            (AgentField::WhenBusy, _) => {
                let policy = (!value.is_empty()).then(|| value.parse()).transpose();
                patch.config.when_busy = Some(
                    policy.map_err(|error: UnknownBusyPolicy| Error::Usage(format!("when_busy: {error}")))?,
                );
            }
            (AgentField::Mind, _) => {
                let mind = (!value.is_empty()).then(|| value.parse()).transpose();
                patch.config.mind =
                    Some(mind.map_err(|error: UnknownMind| Error::Usage(format!("mind: {error}")))?);
            }
            (AgentField::Identity, _) => {
                return Err(Error::Usage(format!("identity: {DOCUMENTS_ALONE}")));
            }
            (AgentField::DisplayName, _) => patch.display_name = Some(text),
            (AgentField::ModelCallsMax, _) => {
                let number = (!value.is_empty()).then(|| value.parse()).transpose();
                patch.config.model_calls_max = Some(number.map_err(|_| {
                    Error::Usage(format!("model_calls_max is a whole number, or empty; found {value:?}"))
                })?);
            }
            (AgentField::Grants, SettingMode::Replace) => grants = list_words(value),
            (AgentField::Grants, SettingMode::Add) => {
                for word in list_words(value) {
                    if !grants.contains(&word) {
                        grants.push(word);
                    }
                }
            }
            (AgentField::Grants, SettingMode::Remove) => {
                for word in list_words(value) {
                    let kept = grants.len();
                    grants.retain(|grant| *grant != word);
                    if grants.len() == kept {
                        return Err(Error::Usage(format!(
                            "{} has no grant {word:?}; it has {}",
                            before.handle,
                            if grants.is_empty() { "none".to_owned() } else { grants.join(" ") }
                        )));
                    }
                }
            }
            (AgentField::Labels, SettingMode::Remove) => {
                patch.labels.extend(list_words(value).into_iter().map(|name| (name, None)));
            }
            (AgentField::Labels, mode) => {
                if *mode == SettingMode::Replace {
                    patch.labels.extend(before.labels.keys().map(|name| (name.clone(), None)));
                }
                patch.labels.extend(parse_labels(value)?);
            }
        }
        if *field == AgentField::Grants {
            patch.config.grants = Some(Some(grants.clone()));
        }
    }
    Ok(patch)
}

fn list_words(value: &str) -> Vec<String> {
    value.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn parse_labels(value: &str) -> Outcome<BTreeMap<String, Option<String>>> {
    let label = |word: String| match word.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None => {
            Err(Error::Usage(format!("a label is NAME=VALUE, such as labels+=team=infra; found {word:?}")))
        }
    };
    list_words(value).into_iter().map(label).collect()
}

pub(super) async fn revert_agent(
    cli: &Cli<'_>,
    back: &args::RevertAgent,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let before: AgentResource = cli.client.get(&agent_url(&back.name)).await?;
    let (path, body) =
        (format!("{}/revert", agent_url(&before.id.to_string())), RevertAgent { revision: back.revision });
    let key = output.context_mut().request_key.clone();
    let after = cli.client.change_json(Method::POST, &path, &body, &key, Some(before.revision)).await?;
    output.print_result(&AgentChanged::from_agents(&before, after), AgentChanged::summary)?;
    Ok(CommandExit::Done)
}

pub(super) async fn rename_agent(
    cli: &Cli<'_>,
    rename: &args::RenameAgent,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let path = format!("{}/rename", agent_url(&rename.name));
    let agent: AgentResource =
        cli.client.post_json(&path, &RenameAgent { handle: rename.handle.clone() }).await?;
    output.print_result(&agent, |agent| format!("{} is now {}", rename.name, agent.handle))?;
    if cli.settings.agents.get(&cli.tenant).is_some_and(|chosen| *chosen == rename.name) {
        output.print_notice(&format!(
            "commands still use {} when you name no agent; choose it again with `dromia agent switch {}`",
            rename.name, rename.handle
        ))?;
    }
    Ok(CommandExit::Done)
}

pub(super) async fn list_history(
    cli: &Cli<'_>,
    history: &args::AgentHistory,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let path = format!("{}/revisions", agent_url(&history.name));
    let list: ListPage<RevisionResource> = cli.client.get(&listing_path(&path, &history.page, &[])).await?;
    print_revisions(output, &list)
}

pub(super) fn print_revisions(
    output: &mut CommandOutput<'_>,
    list: &ListPage<RevisionResource>,
) -> Outcome<CommandExit> {
    print_list(output, list, &["revision", "made", "by", "changed"], |revision| {
        let changed: Vec<_> = revision.changed.iter().map(|field| field.as_str()).collect();
        let first = if revision.number == 1 { "created" } else { "" };
        vec![
            revision.number.to_string(),
            format_time(revision.at),
            revision.by.clone().unwrap_or_else(|| "the server".to_owned()),
            if changed.is_empty() { first.to_owned() } else { changed.join(", ") },
        ]
    })
}

/// Two revisions of an agent.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RevisionDiff {
    /// The one that is compared.
    from: RevisionResource,
    /// With this one.
    to: RevisionResource,
}

pub(super) async fn show_diff(
    cli: &Cli<'_>,
    diff: &args::DiffAgent,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let agent: AgentResource = cli.client.get(&agent_url(&diff.name)).await?;
    let to = diff.to.unwrap_or(agent.revision);
    let from = diff.from.unwrap_or_else(|| agent.revision.saturating_sub(1).max(1));
    let path = |number: u64| format!("{}/revisions/{number}", agent_url(&agent.id.to_string()));
    let from: RevisionResource = cli.client.get(&path(from)).await?;
    let to: RevisionResource = cli.client.get(&path(to)).await?;
    output.print_result(&RevisionDiff { from, to }, |RevisionDiff { from, to }| {
        let yaml = |revision: &RevisionResource| {
            let config = revision.config.as_ref();
            let yaml = config.map(|config| AgentDocument::of_config(config).to_yaml()).unwrap_or_default();
            let documents = config.into_iter().flat_map(|config| &config.identity);
            let documents = documents.map(|(name, document)| format!("# {name}: {}\n", document.digest));
            yaml + &documents.collect::<String>()
        };
        let lines = line_diff(&yaml(from), &yaml(to));
        if lines.is_empty() {
            return format!("revisions {} and {} have the same configuration", from.number, to.number);
        }
        format!("--- revision {}\n+++ revision {}\n{}", from.number, to.number, lines.join("\n"))
    })?;
    Ok(CommandExit::Done)
}
