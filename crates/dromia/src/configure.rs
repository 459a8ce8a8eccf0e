//! `dromia config`: check, show and explain the configuration. No server is needed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dromia_api::List;
use dromia_cli::output::{counted, pairs, table};
use dromia_cli::{Context, Global, Outcome, Output};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::config::reference::{self, plain};
use crate::config::{self, Environment, Flag, Key, Loaded, Problem, SetArguments, did_you_mean, names, show};
use crate::home::Home;
use crate::system::Exit;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether the configuration can be served, or what is wrong with line and column.
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
    /// Print every value that counts; keys to providers only as their reference.
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  dromia config show\n  dromia config show --origin\n  dromia config show --origin --json"
    )]
    Show {
        /// Also say where each value comes from.
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        set: SetArguments,
    },
    /// Print the JSON Schema of dromia.yaml.
    #[command(after_help = "Example:\n  dromia config schema > dromia.schema.json")]
    Schema {
        /// Print the page for people in place of the schema.
        #[arg(long)]
        markdown: bool,
    },
    /// Say what a key is, its default, its variable, its value and where that comes from.
    #[command(
        after_help = "Examples:\n  dromia config explain engine.active_max\n  dromia config explain models.default.price\n  dromia config explain"
    )]
    Explain {
        /// The key, such as engine.active_max or models.ALIAS.fallback; without it all keys are listed.
        key: Option<String>,
        #[command(flatten)]
        set: SetArguments,
    },
}

/// What a check of the configuration found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Validated {
    /// The file.
    file: String,
    /// Whether it can be served.
    valid: bool,
    /// Everything that is wrong with it.
    problems: Vec<Mistake>,
    /// Names in it that nothing has, as far as the file alone tells; `dromia doctor --only config` looks into the store too.
    warnings: Vec<Mistake>,
}

/// One mistake in the configuration.
#[derive(Debug, Serialize, JsonSchema)]
struct Mistake {
    /// The file with line and column, the environment variable, or the flag.
    at: String,
    /// What is wrong, and with which key.
    message: String,
}

impl From<Problem> for Mistake {
    fn from(Problem { at, message, .. }: Problem) -> Self {
        Self { at, message }
    }
}

/// Every value that counts.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Configuration {
    /// The file.
    file: String,
    /// The values, with every default filled in; a key to a provider only as its reference.
    configuration: Value,
}

/// Every value that counts, key by key.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Origins {
    /// The file.
    file: String,
    /// The values, in the order of the alphabet.
    items: Vec<Valued>,
}

/// One value and where it comes from.
#[derive(Debug, Serialize, JsonSchema)]
struct Valued {
    /// The key.
    key: String,
    /// Its value; a key to a provider only as its reference.
    value: Value,
    /// The flag, the variable, the line of the file, the built-in prices of a day, or `default`.
    origin: String,
}

impl From<show::Shown> for Valued {
    fn from(shown: show::Shown) -> Self {
        Self { key: shown.key, value: shown.value, origin: shown.origin.to_string() }
    }
}

/// A key of the configuration.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Explained {
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
    /// Where one key was asked for: its value, or those of the keys below it.
    values: Vec<Valued>,
}

impl Explained {
    fn of(key: &Key, values: Vec<Valued>) -> Self {
        Self {
            key: key.path.clone(),
            description: key.description.clone(),
            takes: key.takes.clone(),
            default: key.default.clone(),
            variable: key.variable.clone(),
            values,
        }
    }
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    command: &ConfigCommand,
    global: &Global,
    context: &mut Context,
) -> anyhow::Result<ExitCode> {
    let output = &mut Output::of_local(context, global);
    output.check()?;
    match command {
        ConfigCommand::Validate { file, set } => {
            return validate(home, file.as_deref(), &set.flags(), output);
        }
        ConfigCommand::Show { origin: true, set } => {
            show_with_origin(home, &load(home, &set.flags())?, output)?;
        }
        ConfigCommand::Show { origin: false, set } => show_plain(home, &load(home, &set.flags())?, output)?,
        ConfigCommand::Schema { markdown } => {
            let text = if *markdown { reference::page() } else { config::schema_text() };
            output.line(text.trim_end())?;
        }
        ConfigCommand::Explain { key: Some(key), set } => explain(home, key, &set.flags(), output)?,
        ConfigCommand::Explain { key: None, .. } => list(output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn load(home: &Home, flags: &[Flag]) -> anyhow::Result<Loaded> {
    let environment = Environment::of_process();
    config::read(&home.config(), &config::text(home)?, &environment, flags).map_err(Exit::usage_of)
}

fn validate(
    home: &Home,
    file: Option<&Path>,
    flags: &[Flag],
    output: &mut Output<'_>,
) -> anyhow::Result<ExitCode> {
    let environment = Environment::of_process();
    let (path, text) = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| Exit::usage(format!("failed to read {}: {error}", file.display())))?;
            (file.to_owned(), text)
        }
        None => (home.config(), config::text(home)?),
    };
    let checked = config::understand(&path, &text, &environment, flags).map(|(loaded, resolved)| {
        let mut warnings = names::unmatched(&resolved.mentions, None);
        warnings.extend(config::misspelt(&environment, &text));
        (loaded, warnings)
    });
    let file = path.display().to_string();
    match checked {
        Ok((loaded, warnings)) => {
            let providers = counted(loaded.written.providers.len(), "provider");
            let models = counted(loaded.written.models.len(), "model");
            for warning in &warnings {
                output.notice(&format!("warning: {warning}"))?;
            }
            let warnings = warnings.into_iter().map(Mistake::from).collect();
            let validated = Validated { file, valid: true, problems: Vec::new(), warnings };
            output
                .show(&validated, |validated| format!("{} is good: {providers}, {models}", validated.file))?;
            Ok(ExitCode::SUCCESS)
        }
        // The document of this command says more than that of a failure.
        Err(problems) if output.is_json() => {
            output.notice(&format!("error: {problems}"))?;
            let problems = problems.0.into_iter().map(Mistake::from).collect();
            output.document(&Validated { file, valid: false, problems, warnings: Vec::new() })?;
            Ok(dromia_cli::Exit::Usage.into())
        }
        Err(problems) => Err(Exit::usage_of(problems)),
    }
}

fn show_plain(home: &Home, loaded: &Loaded, output: &mut Output<'_>) -> Outcome {
    if output.is_json() {
        let file = home.config().display().to_string();
        return output.document(&Configuration { file, configuration: show::document(loaded) });
    }
    let rows = show::values(loaded).into_iter().map(|shown| vec![shown.key, plain(&shown.value)]);
    output.table(&["key", "value"], rows.collect())
}

fn show_with_origin(home: &Home, loaded: &Loaded, output: &mut Output<'_>) -> Outcome {
    let items: Vec<_> = show::values(loaded).into_iter().map(Valued::from).collect();
    if output.is_json() {
        return output.document(&Origins { file: home.config().display().to_string(), items });
    }
    let rows = items.into_iter().map(|valued| vec![valued.key, plain(&valued.value), valued.origin]);
    output.table(&["key", "value", "origin"], rows.collect())
}

fn list(output: &mut Output<'_>) -> Outcome {
    let items: Vec<_> = config::keys().iter().map(|key| Explained::of(key, Vec::new())).collect();
    if output.is_json() {
        return output.document(&List { items, next: None });
    }
    let rows = items.into_iter().map(|one| vec![one.key, one.description]);
    output.table(&["key", "what it is"], rows.collect())
}

fn explain(home: &Home, path: &str, flags: &[Flag], output: &mut Output<'_>) -> anyhow::Result<()> {
    let keys = config::keys();
    let Some(key) = keys.iter().find(|key| key.is_meant_by(path)) else {
        let near = did_you_mean(path, keys.iter().map(|key| key.path.as_str()));
        let near = if near.is_empty() { "; `dromia config explain` lists all".to_owned() } else { near };
        return Err(Exit::usage(format!("there is no key `{path}`{near}")));
    };
    // Without a home there are still the environment and the defaults.
    let loaded = if home.config().exists() {
        load(home, flags)?
    } else {
        config::read(&home.config(), "", &Environment::of_process(), flags).map_err(Exit::usage_of)?
    };
    let below = format!("{path}.");
    let values = show::values(&loaded)
        .into_iter()
        .filter(|shown| shown.key == path || shown.key.starts_with(&below))
        .map(Valued::from)
        .collect();
    let explained = Explained::of(key, values);
    if output.is_json() {
        output.document(&List { items: vec![explained], next: None })?;
        return Ok(());
    }
    let mut text = explained_text(&explained, path, key.is_group);
    if key.is_group {
        let prefix = format!("{}.", key.path);
        let rows = keys.iter().filter(|other| other.path.starts_with(&prefix));
        let rows = rows.map(|key| vec![key.path.clone(), key.description.clone()]).collect();
        let columns = output.context().columns;
        text = format!("{text}\n\n{}", table(columns, &["key", "what it is"], rows));
    }
    output.line(&text)?;
    Ok(())
}

/// Writes what is known about a key; a group has no value of its own.
fn explained_text(explained: &Explained, path: &str, is_group: bool) -> String {
    let mut told = vec![
        ("key", path.to_owned()),
        ("what it is", explained.description.clone()),
        ("takes", explained.takes.clone()),
        ("default", explained.default.as_ref().map(plain).unwrap_or_default()),
        ("variable", explained.variable.clone().unwrap_or_default()),
    ];
    if !is_group {
        match explained.values.iter().find(|valued| valued.key == path) {
            Some(valued) => {
                told.extend([("value", plain(&valued.value)), ("from", valued.origin.clone())]);
            }
            None => told.push(("value", "(not set)".to_owned())),
        }
    }
    pairs(&told)
}
