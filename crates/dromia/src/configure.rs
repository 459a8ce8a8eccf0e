//! `dromia config`: check, show and explain the configuration. No server is needed.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use dromia_cli::Global;
use serde_json::{Value, json};

use crate::config::reference::{self, plain};
use crate::config::{self, Environment, Flag, Key, Loaded, SetArguments, did_you_mean, show};
use crate::home::Home;
use crate::screen;
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

/// Runs the command.
pub(crate) fn run(home: &Home, command: &ConfigCommand, global: &Global) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Validate { file, set } => validate(home, file.clone(), &set.flags(), global),
        ConfigCommand::Show { origin, set } => {
            let loaded = load(home, &set.flags())?;
            if *origin { show_with_origin(home, &loaded, global) } else { show_plain(&loaded, global) }
        }
        ConfigCommand::Schema { markdown } => {
            let text = if *markdown { reference::page() } else { config::schema_text() };
            anstream::print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        ConfigCommand::Explain { key: Some(key), set } => explain(home, key, &set.flags(), global),
        ConfigCommand::Explain { key: None, .. } => list(global),
    }
}

fn load(home: &Home, flags: &[Flag]) -> anyhow::Result<Loaded> {
    let environment = Environment::of_process();
    config::read(&home.config(), &config::text(home)?, &environment, flags).map_err(Exit::usage_of)
}

fn validate(home: &Home, file: Option<PathBuf>, flags: &[Flag], global: &Global) -> anyhow::Result<ExitCode> {
    let environment = Environment::of_process();
    let (path, text) = match file {
        Some(file) => {
            let text = std::fs::read_to_string(&file)
                .map_err(|error| Exit::usage(format!("failed to read {}: {error}", file.display())))?;
            (file, text)
        }
        None => (home.config(), config::text(home)?),
    };
    let checked = config::read(&path, &text, &environment, flags).and_then(|loaded| {
        loaded.resolve(&environment)?;
        Ok(loaded)
    });
    match checked {
        Ok(loaded) => {
            let (providers, models) = (loaded.written.providers.len(), loaded.written.models.len());
            let line = format!("{} is good: {providers} providers, {models} models", path.display());
            screen::show(global, &json!({"file": path, "valid": true, "problems": []}), &line)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) if global.json.is_some() => {
            let told = problems.0.iter().map(|problem| json!({"at": problem.at, "message": problem.message}));
            let told: Vec<Value> = told.collect();
            screen::show(global, &json!({"file": path, "valid": false, "problems": told}), "")?;
            Err(Exit::usage_of(problems))
        }
        Err(problems) => Err(Exit::usage_of(problems)),
    }
}

fn show_plain(loaded: &Loaded, global: &Global) -> anyhow::Result<ExitCode> {
    let rows: Vec<_> =
        show::values(loaded).into_iter().map(|shown| vec![shown.key, plain(&shown.value)]).collect();
    screen::show(global, &show::document(loaded), &screen::columns(&["key", "value"], &rows))?;
    Ok(ExitCode::SUCCESS)
}

fn show_with_origin(home: &Home, loaded: &Loaded, global: &Global) -> anyhow::Result<ExitCode> {
    let values = show::values(loaded);
    let documents = values
        .iter()
        .map(|shown| json!({"key": shown.key, "value": shown.value, "origin": shown.origin.to_string()}));
    let document = json!({"file": home.config(), "values": documents.collect::<Vec<_>>()});
    let rows =
        values.iter().map(|shown| vec![shown.key.clone(), plain(&shown.value), shown.origin.to_string()]);
    let rows: Vec<_> = rows.collect();
    screen::show(global, &document, &screen::columns(&["key", "value", "origin"], &rows))?;
    Ok(ExitCode::SUCCESS)
}

fn list(global: &Global) -> anyhow::Result<ExitCode> {
    let keys = config::keys();
    let documents: Vec<_> = keys.iter().map(document).collect();
    let rows: Vec<_> = keys.iter().map(|key| vec![key.path.clone(), key.description.clone()]).collect();
    screen::show(global, &json!({"keys": documents}), &screen::columns(&["key", "what it is"], &rows))?;
    Ok(ExitCode::SUCCESS)
}

fn document(key: &Key) -> Value {
    json!({
        "key": key.path,
        "description": key.description,
        "takes": key.takes,
        "default": key.default,
        "variable": key.variable,
    })
}

fn explain(home: &Home, path: &str, flags: &[Flag], global: &Global) -> anyhow::Result<ExitCode> {
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
    let values: Vec<_> = show::values(&loaded)
        .into_iter()
        .filter(|shown| shown.key == path || shown.key.starts_with(&below))
        .collect();
    let mut pairs = vec![
        ("key", path.to_owned()),
        ("what it is", key.description.clone()),
        ("takes", key.takes.clone()),
        ("default", key.default.as_ref().map(plain).unwrap_or_default()),
        ("variable", key.variable.clone().unwrap_or_default()),
    ];
    let single = values.iter().find(|shown| shown.key == path && !key.is_group);
    if let Some(shown) = single {
        pairs.push(("value", plain(&shown.value)));
        pairs.push(("from", shown.origin.to_string()));
    } else if !key.is_group {
        pairs.push(("value", "(not set)".to_owned()));
    }
    let mut text = screen::pairs(&pairs);
    if key.is_group {
        let prefix = format!("{}.", key.path);
        let rows = keys.iter().filter(|other| other.path.starts_with(&prefix));
        let rows: Vec<_> = rows.map(|key| vec![key.path.clone(), key.description.clone()]).collect();
        text = format!("{text}\n\n{}", screen::columns(&["key", "what it is"], &rows));
    }
    let mut document = document(key);
    document["values"] = values
        .iter()
        .map(|shown| json!({"key": shown.key, "value": shown.value, "origin": shown.origin.to_string()}))
        .collect();
    screen::show(global, &document, &text).context("failed to print")?;
    Ok(ExitCode::SUCCESS)
}
