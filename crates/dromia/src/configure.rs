//! `dromia config`: check, show and explain the configuration, and go back in its history. No server is needed.

pub(crate) mod history;
mod served;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dromia_api::ListPage;
use dromia_cli::output::{count_noun, draw_pairs, draw_table};
use dromia_cli::{CommandContext, CommandOutput, GlobalOptions, Outcome};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::config::reference::{self, yaml_value};
use crate::config::{
    self, ConfigFlag, ConfigKey, ConfigProblem, ConfigProblems, EnvironmentVariables, KeyEffect,
    LoadedConfig, SetArguments, did_you_mean, references, show,
};
use crate::home::Home;
use crate::policy;
use crate::system::ExitError;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the configuration and print each mistake with line and column.
    #[command(
        visible_alias = "check",
        after_help = "Examples:\n  dromia config validate\n  dromia config validate --file ./dromia.yaml --json"
    )]
    Validate {
        /// The file [default: dromia.yaml in the home]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        set: SetArguments,
    },
    /// Print every effective value; keys of providers only by reference.
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  dromia config show\n  dromia config show --origin\n  dromia config show --origin --json"
    )]
    Show {
        /// Also print where each value comes from.
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        set: SetArguments,
    },
    /// List the configurations that counted, the newest first.
    #[command(after_help = "Examples:\n  dromia config history\n  dromia config history --json")]
    History,
    /// Show which values differ between two revisions, or between one and the file.
    #[command(
        after_help = "Examples:\n  dromia config diff\n  dromia config diff 3\n  dromia config diff 3 5 --json"
    )]
    Diff {
        /// The first revision [default: the newest]
        first: Option<u64>,
        /// The second revision [default: the file]
        second: Option<u64>,
    },
    /// Write the text of a revision back into dromia.yaml, after a check; a running server takes it.
    #[command(after_help = "Examples:\n  dromia config revert 3 --dry-run\n  dromia config revert 3")]
    Revert {
        /// The revision, as `dromia config history` lists it
        revision: u64,
        /// Show what would change, and write nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Print the JSON Schema of dromia.yaml.
    #[command(after_help = "Examples:\n  dromia config schema > dromia.schema.json")]
    Schema {
        /// Print a page for people instead of the schema.
        #[arg(long)]
        markdown: bool,
    },
    /// Explain a key: its meaning, default, variable, value and origin.
    #[command(
        after_help = "Examples:\n  dromia config explain engine.active_max\n  dromia config explain models.default.price\n  dromia config explain"
    )]
    Explain {
        /// The key, such as engine.active_max or models.ALIAS.fallback [default: list all keys]
        key: Option<String>,
        #[command(flatten)]
        set: SetArguments,
    },
}

/// What a check of the configuration found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigValidation {
    /// The file.
    file: String,
    /// Whether it can be served.
    valid: bool,
    /// Everything that is wrong with it.
    problems: Vec<ConfigMistake>,
    /// Names in it that nothing has, as far as the file alone tells; `dromia doctor --only config` looks into the store too.
    warnings: Vec<ConfigMistake>,
    /// The keys whose values wait for the next start of the server that runs on this home.
    pending: Vec<String>,
}

/// One mistake in the configuration.
#[derive(Debug, Serialize, JsonSchema)]
struct ConfigMistake {
    /// The file with line and column, the environment variable, or the flag.
    at: String,
    /// What is wrong, and with which key.
    message: String,
}

impl From<ConfigProblem> for ConfigMistake {
    fn from(ConfigProblem { at, message, .. }: ConfigProblem) -> Self {
        Self { at, message }
    }
}

/// Every value that counts.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigDocument {
    /// The file.
    file: String,
    /// The values, with every default filled in; a key to a provider only as its reference.
    configuration: Value,
}

/// Every value that counts, key by key.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigValueList {
    /// The file.
    file: String,
    /// The values, in the order of the alphabet.
    items: Vec<ConfigValueRow>,
}

/// One value and where it comes from.
#[derive(Debug, Serialize, JsonSchema)]
struct ConfigValueRow {
    /// The key.
    key: String,
    /// Its value; a key to a provider only as its reference.
    value: Value,
    /// The flag, the variable, the line of the file, the built-in prices of a day, or `default`.
    origin: String,
}

impl From<show::ShownValue> for ConfigValueRow {
    fn from(shown: show::ShownValue) -> Self {
        Self { key: shown.key, value: shown.value, origin: shown.origin.to_string() }
    }
}

/// A key of the configuration.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigKeyHelp {
    /// Its path; `NAME` and `ALIAS` stand for names that the operator chooses.
    key: String,
    /// What it is.
    description: String,
    /// What it takes, in words.
    takes: String,
    /// What it is where nothing is said, as far as that does not depend on other keys.
    default: Option<Value>,
    /// The environment variable that sets it.
    variable: Option<String>,
    /// When a change of it in the file counts in a running server: `live`, within two seconds, or `restart`, at the next
    /// start.
    effect: Option<&'static str>,
    /// Where one key was asked for: its value, or those of the keys below it.
    values: Vec<ConfigValueRow>,
}

impl ConfigKeyHelp {
    fn from_key(key: &ConfigKey, values: Vec<ConfigValueRow>) -> Self {
        Self {
            key: key.path.clone(),
            description: key.description.clone(),
            takes: key.takes.clone(),
            default: key.default.clone(),
            variable: key.variable.clone(),
            effect: key.effect.filter(|_| !key.is_group).map(KeyEffect::as_str),
            values,
        }
    }
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    command: &ConfigCommand,
    global: &GlobalOptions,
    context: &mut CommandContext,
) -> anyhow::Result<ExitCode> {
    let output = &mut CommandOutput::of_local(context, global);
    output.check_format()?;
    match command {
        ConfigCommand::Validate { file, set } => {
            return validate_config(home, file.as_deref(), &set.config_flags(), global, output);
        }
        ConfigCommand::Show { origin: true, set } => {
            show_with_origin(home, &load_layers(home, &set.config_flags())?, output)?;
        }
        ConfigCommand::Show { origin: false, set } => {
            show_plain(home, &load_layers(home, &set.config_flags())?, output)?;
        }
        ConfigCommand::History => history::list_history(home, output)?,
        ConfigCommand::Diff { first, second } => history::show_difference(home, *first, *second, output)?,
        ConfigCommand::Revert { revision, dry_run } => {
            return history::revert_to(home, *revision, *dry_run, output);
        }
        ConfigCommand::Schema { markdown } => {
            let text = if *markdown { reference::reference_page() } else { config::schema_text() };
            output.print_line(text.trim_end())?;
        }
        ConfigCommand::Explain { key: Some(key), set } => {
            explain_key(home, key, &set.config_flags(), output)?;
        }
        ConfigCommand::Explain { key: None, .. } => print_keys(output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn load_layers(home: &Home, flags: &[ConfigFlag]) -> anyhow::Result<LoadedConfig> {
    let environment = EnvironmentVariables::of_process();
    config::parse_layered(&home.config_path(), &config::read_config_text(home)?, &environment, flags)
        .map_err(ExitError::usage_of)
}

fn validate_config(
    home: &Home,
    file: Option<&Path>,
    flags: &[ConfigFlag],
    global: &GlobalOptions,
    output: &mut CommandOutput<'_>,
) -> anyhow::Result<ExitCode> {
    let environment = EnvironmentVariables::of_process();
    let (path, text) = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                ExitError::usage_error(format!("failed to read {}: {error}", file.display()))
            })?;
            (file.to_owned(), text)
        }
        None => (home.config_path(), config::read_config_text(home)?),
    };
    let checked = config::parse_and_resolve(&path, &text, &environment, flags).map(|(loaded, resolved)| {
        let mut warnings = references::unmatched_names(&resolved.references.mentions, None);
        warnings.extend(config::misspelt_variables(&environment, &text));
        warnings.extend(resolved.references.missing_keys);
        (loaded, warnings)
    });
    // A home is served with its policies, so what is wrong with them is said too.
    let checked = match (checked, file) {
        (Ok(found), None) => policy::check_policies(home).map(|()| found).map_err(|problem| {
            let at = problem.position_text();
            ConfigProblems(vec![ConfigProblem::new(at, problem.problem)])
        }),
        (checked, _) => checked,
    };
    let served = if file.is_none() { served::ask_served(home, global)? } else { None };
    let pending = served::tell_served(served, output)?;
    let file = path.display().to_string();
    match checked {
        Ok((loaded, warnings)) => {
            let providers = count_noun(loaded.written.providers.len(), "provider");
            let models = count_noun(loaded.written.models.len(), "model");
            for warning in &warnings {
                output.print_notice(&format!("warning: {warning}"))?;
            }
            let warnings = warnings.into_iter().map(ConfigMistake::from).collect();
            let validated = ConfigValidation { file, valid: true, problems: Vec::new(), warnings, pending };
            output.print_result(&validated, |validated| {
                format!("{} is valid: {providers}, {models}", validated.file)
            })?;
            Ok(ExitCode::SUCCESS)
        }
        // The document of this command says more than that of a failure.
        Err(problems) if output.is_json() => {
            output.print_notice(&format!("error: {problems}"))?;
            let problems = problems.0.into_iter().map(ConfigMistake::from).collect();
            output.print_document(&ConfigValidation {
                file,
                valid: false,
                problems,
                warnings: Vec::new(),
                pending,
            })?;
            Ok(dromia_cli::CommandExit::Usage.into())
        }
        Err(problems) => Err(ExitError::usage_of(problems)),
    }
}

fn show_plain(home: &Home, loaded: &LoadedConfig, output: &mut CommandOutput<'_>) -> Outcome {
    if output.is_json() {
        let file = home.config_path().display().to_string();
        return output.print_document(&ConfigDocument { file, configuration: show::config_document(loaded) });
    }
    let rows = show::list_values(loaded).into_iter().map(|shown| vec![shown.key, yaml_value(&shown.value)]);
    output.print_table(&["key", "value"], rows.collect())
}

fn show_with_origin(home: &Home, loaded: &LoadedConfig, output: &mut CommandOutput<'_>) -> Outcome {
    let items: Vec<_> = show::list_values(loaded).into_iter().map(ConfigValueRow::from).collect();
    if output.is_json() {
        return output
            .print_document(&ConfigValueList { file: home.config_path().display().to_string(), items });
    }
    let rows = items.into_iter().map(|valued| vec![valued.key, yaml_value(&valued.value), valued.origin]);
    output.print_table(&["key", "value", "origin"], rows.collect())
}

fn print_keys(output: &mut CommandOutput<'_>) -> Outcome {
    let items: Vec<_> =
        config::list_keys().iter().map(|key| ConfigKeyHelp::from_key(key, Vec::new())).collect();
    if output.is_json() {
        return output.print_document(&ListPage { items, next: None });
    }
    let rows = items.into_iter().map(|one| vec![one.key, one.description]);
    output.print_table(&["key", "what it is"], rows.collect())
}

fn explain_key(
    home: &Home,
    path: &str,
    flags: &[ConfigFlag],
    output: &mut CommandOutput<'_>,
) -> anyhow::Result<()> {
    let keys = config::list_keys();
    let Some(key) = keys.iter().find(|key| key.is_meant_by(path)) else {
        let near = did_you_mean(path, keys.iter().map(|key| key.path.as_str()));
        let near = if near.is_empty() { "; `dromia config explain` lists all keys".to_owned() } else { near };
        return Err(ExitError::usage_error(format!("there is no key `{path}`{near}")));
    };
    // Without a home there are still the environment and the defaults.
    let loaded = if home.config_path().exists() {
        load_layers(home, flags)?
    } else {
        config::parse_layered(&home.config_path(), "", &EnvironmentVariables::of_process(), flags)
            .map_err(ExitError::usage_of)?
    };
    let below = format!("{path}.");
    let values = show::list_values(&loaded)
        .into_iter()
        .filter(|shown| shown.key == path || shown.key.starts_with(&below))
        .map(ConfigValueRow::from)
        .collect();
    let explained = ConfigKeyHelp::from_key(key, values);
    if output.is_json() {
        output.print_document(&ListPage { items: vec![explained], next: None })?;
        return Ok(());
    }
    let mut text = explained_text(&explained, path, key.is_group);
    if key.is_group {
        let prefix = format!("{}.", key.path);
        let rows = keys.iter().filter(|other| other.path.starts_with(&prefix));
        let rows = rows.map(|key| vec![key.path.clone(), key.description.clone()]).collect();
        let columns = output.context_mut().columns;
        text = format!("{text}\n\n{}", draw_table(columns, &["key", "what it is"], rows));
    }
    output.print_line(&text)?;
    Ok(())
}

/// Says when a change of a key counts.
fn effect_text(effect: &str) -> String {
    if effect == KeyEffect::Live.as_str() { "within two seconds" } else { "at the next start" }.to_owned()
}

/// Writes what is known about a key; a group has no value of its own.
fn explained_text(explained: &ConfigKeyHelp, path: &str, is_group: bool) -> String {
    let mut told = vec![
        ("key", path.to_owned()),
        ("what it is", explained.description.clone()),
        ("takes", explained.takes.clone()),
        ("default", explained.default.as_ref().map(yaml_value).unwrap_or_default()),
        ("variable", explained.variable.clone().unwrap_or_default()),
        ("a change counts", explained.effect.map(effect_text).unwrap_or_default()),
    ];
    if !is_group {
        match explained.values.iter().find(|valued| valued.key == path) {
            Some(valued) => {
                told.extend([("value", yaml_value(&valued.value)), ("from", valued.origin.clone())]);
            }
            None => told.push(("value", "(not set)".to_owned())),
        }
    }
    draw_pairs(&told)
}
