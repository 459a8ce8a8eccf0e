//! `dromia provider`: the servers of models that `dromia.yaml` names. Edits go through [`change`].

use std::process::ExitCode;
use std::time::Duration;

use dromia_api::{List, TENANT_DEFAULT};
use dromia_cli::{Context, Global, Outcome, Output};
use dromia_contracts::vault::{self, GRANT};
use schemars::JsonSchema;
use serde::Serialize;

use crate::change::{self, Edit, Edited, Held};
use crate::config::edit::{name_text, quoted};
use crate::config::{self, Kind, Loaded, Refused, Written, WrittenProvider};
use crate::home::Home;
use crate::keys;
use crate::outside;
use crate::probe::{self, Failure, Question};
use crate::redact::Redactor;
use crate::system::Exit;

/// How long a server may take for its list where nothing else is said.
const WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ProviderCommand {
    /// Add a server of models to dromia.yaml.
    #[command(
        visible_alias = "new",
        after_help = "Examples:\n  dromia provider add openai --kind openai --key-env OPENAI_API_KEY\n  dromia provider add anthropic --kind anthropic --key-secret anthropic\n  dromia provider add local --kind openai --base-url http://127.0.0.1:11434/v1"
    )]
    Add(AddArguments),
    /// List the providers.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia provider list\n  dromia providers ls --json"
    )]
    List,
    /// Ask a provider for its models: one real request.
    #[command(
        after_help = "Examples:\n  dromia provider test openai\n  dromia provider test local --timeout 2s"
    )]
    Test {
        /// The provider.
        name: String,
    },
    /// Remove a provider that no model uses.
    #[command(visible_alias = "rm", after_help = "Example:\n  dromia provider remove local")]
    Remove {
        /// The provider.
        name: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct AddArguments {
    /// The name under which models refer to it.
    #[arg(value_parser = change::checked_name)]
    name: String,
    /// What it speaks.
    #[arg(long, value_enum)]
    kind: Kind,
    /// Its address [default: the one of OpenAI or Anthropic, by kind]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// The environment variable that holds its key; the key itself never stands in the file.
    #[arg(long, value_name = "VAR", conflicts_with = "key_secret")]
    key_env: Option<String>,
    /// The secret of the vault that is its key; the server opens it for each request, so it is renewed without a restart.
    #[arg(long, value_name = "NAME")]
    key_secret: Option<String>,
}

/// A server of models, as `dromia.yaml` names it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Provider {
    /// The name under which models refer to it.
    name: String,
    /// What it speaks.
    kind: Kind,
    /// Its address; the scripted model has none.
    base_url: Option<String>,
    /// Where its key comes from, and whether it is there; `none` where it wants none.
    key: String,
    /// The models that refer to it, by their aliases.
    used_by: Vec<String>,
}

/// What a server of models answered.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Tested {
    /// The provider.
    provider: String,
    /// What it speaks.
    kind: Kind,
    /// How long its answer took, in milliseconds; the scripted model is part of the program and not asked.
    latency_ms: Option<u64>,
    /// The ids of its models.
    models: Vec<String>,
    /// The models of `dromia.yaml` that refer to it.
    aliases: Vec<User>,
}

/// A model of `dromia.yaml`, beside what its server lists.
#[derive(Debug, Serialize, JsonSchema)]
struct User {
    /// The alias that agents name.
    alias: String,
    /// The model's id at the provider.
    model: String,
    /// Whether the provider lists that id.
    listed: bool,
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    command: &ProviderCommand,
    global: &Global,
    context: &mut Context,
) -> anyhow::Result<ExitCode> {
    let output = &mut Output::of_local(context, global);
    output.check()?;
    let held = Held::of(home)?;
    match command {
        ProviderCommand::Add(arguments) => add(&held, arguments, output)?,
        ProviderCommand::List => list(&held, output)?,
        ProviderCommand::Test { name } => test(held, name, global.timeout.unwrap_or(WAIT), output)?,
        ProviderCommand::Remove { name } => remove(&held, name, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn add(held: &Held, arguments: &AddArguments, output: &mut Output<'_>) -> anyhow::Result<()> {
    let AddArguments { name, kind, base_url, key_env, key_secret } = arguments;
    if let Some(secret) = key_secret {
        check_secret(secret)?;
    }
    let in_vault = key_secret.as_ref().map(|name| format!("{GRANT}{name}"));
    let server = WrittenProvider {
        kind: *kind,
        base_url: base_url.clone(),
        key: in_vault.or_else(|| key_env.as_ref().map(|name| format!("env:{name}"))),
        ..WrittenProvider::default()
    };
    match held.loaded.written.providers.get(name) {
        Some(there) if *there == server => {
            output.show(&Edited::nothing("providers", name), |_| format!("{name} is there already."))?;
            return Ok(());
        }
        Some(_) => {
            let at = held.loaded.origins.at(&format!("providers.{name}"));
            return Err(Exit::conflict(format!(
                "there is another provider {name} at {at}; remove it first with `dromia provider remove {name}`"
            )));
        }
        None => {}
    }
    let mut lines = vec![format!("{}:", name_text(name)), format!("  kind: {}", kind.as_str())];
    lines.extend(server.base_url.as_ref().map(|base_url| format!("  base_url: {}", quoted(base_url))));
    lines.extend(server.key.as_ref().map(|key| format!("  key: {}", quoted(key))));
    let edit = Edit { block: "providers", name, lines: Some(lines) };
    let steps = match key_secret.as_ref().and_then(|secret| set_command(&server, secret)) {
        // Nothing but a running server opens the vault, so the provider is tried by asking a model of it.
        Some(set) => {
            format!("`dromia model set default={name}/MODEL`, then, while the server runs, `{set}`.")
        }
        None => format!("`dromia provider test {name}`, then `dromia model set default={name}/MODEL`."),
    };
    let changed = held.change(&edit, output, |written| {
        written.providers.insert(name.clone(), server);
    })?;
    let next = format!("{name} is in dromia.yaml. {}\n\nNext: {steps}", change::HEARD);
    let next = output.placed(&next).into_owned();
    output.show(&changed, |_| next)?;
    Ok(())
}

/// Refuses what names no secret. A key that somebody writes here by mistake comes into no file and is not repeated.
fn check_secret(name: &str) -> anyhow::Result<()> {
    let looks_secret = Redactor::default().text(name) != name;
    if vault::is_name(name) && !looks_secret {
        return Ok(());
    }
    let rule = vault::NAME_RULE;
    Err(Exit::usage(format!(
        "--key-secret takes the name of a secret, which is {rule}; the key itself goes in with `dromia secret set`"
    )))
}

/// The command that puts the key of a provider where it is looked for; the scripted model has none.
fn set_command(server: &WrittenProvider, secret: &str) -> Option<String> {
    let placement = keys::placement(server.kind.format()?.key_slot());
    Some(keys::set_command(TENANT_DEFAULT, secret, &config::filled(server).base_url?, &placement))
}

fn remove(held: &Held, name: &str, output: &mut Output<'_>) -> anyhow::Result<()> {
    known(&held.loaded, name)?;
    let users = users(&held.loaded.written, name);
    if !users.is_empty() {
        return Err(Exit::conflict(format!(
            "{name} is used by {}; point them elsewhere first with `dromia model set`",
            users.join(", ")
        )));
    }
    let edit = Edit { block: "providers", name, lines: None };
    let changed = held.change(&edit, output, |written| {
        written.providers.remove(name);
    })?;
    output.show(&changed, |_| format!("{name} is gone from dromia.yaml. {}", change::HEARD))?;
    Ok(())
}

fn list(held: &Held, output: &mut Output<'_>) -> Outcome {
    let written = &held.loaded.written;
    let provider = |(name, server): (&String, &WrittenProvider)| Provider {
        name: name.clone(),
        kind: server.kind,
        base_url: config::filled(server).base_url,
        key: key_state(held, server),
        used_by: users(written, name),
    };
    let items: Vec<_> = written.providers.iter().map(provider).collect();
    if output.is_json() {
        return output.document(&List { items, next: None });
    }
    if items.is_empty() {
        return output.notice("There is no provider. Add one with `dromia provider add NAME --kind KIND`.");
    }
    let rows = items.into_iter().map(|one| {
        let kind = one.kind.as_str().to_owned();
        vec![one.name, kind, one.base_url.unwrap_or_default(), one.key, one.used_by.join(", ")]
    });
    output.table(&["name", "kind", "base url", "key", "used by"], rows.collect())
}

/// Says where a key comes from, and whether it is there.
fn key_state(held: &Held, server: &WrittenProvider) -> String {
    let Some(reference) = &server.key else { return "none".to_owned() };
    match config::secret(reference, &held.environment) {
        Ok(_) | Err(Refused::InVault(_)) => reference.clone(),
        Err(Refused::Literal) => "(not shown: write env:NAME)".to_owned(),
        Err(Refused::Unset(_)) => format!("{reference} (not set here)"),
        Err(Refused::Bad(_)) => format!("{reference} (no key)"),
    }
}

fn users(written: &Written, name: &str) -> Vec<String> {
    let users = written.models.iter().filter(|(_, model)| model.provider.as_deref() == Some(name));
    users.map(|(alias, _)| alias.clone()).collect()
}

fn known<'held>(loaded: &'held Loaded, name: &str) -> anyhow::Result<&'held WrittenProvider> {
    loaded.written.providers.get(name).ok_or_else(|| {
        let near = config::did_you_mean(name, loaded.written.providers.keys().map(String::as_str));
        Exit::usage(format!("there is no provider {name}{near}"))
    })
}

fn test(held: Held, name: &str, wait: Duration, output: &mut Output<'_>) -> anyhow::Result<()> {
    let server = config::filled(known(&held.loaded, name)?);
    let mut tested = Tested {
        provider: name.to_owned(),
        kind: server.kind,
        latency_ms: None,
        models: Vec::new(),
        aliases: Vec::new(),
    };
    let Some(base_url) = server.base_url.as_deref() else {
        output.show(&tested, |_| {
            format!("{name} is the built-in scripted model: it is part of the program and always answers.")
        })?;
        return Ok(());
    };
    let key = match server
        .key
        .as_deref()
        .map(|reference| (reference, config::secret(reference, &held.environment)))
    {
        None => None,
        Some((reference, Ok(_))) => {
            reference.strip_prefix("env:").and_then(|name| held.environment.get(name))
        }
        Some((_, Err(refused))) => return Err(no_key(&held, name, &refused)),
    };
    let key = key.map(str::to_owned);
    let aliases: Vec<(String, String)> = held
        .loaded
        .written
        .models
        .iter()
        .filter(|(_, model)| model.provider.as_deref() == Some(name))
        .filter_map(|(alias, model)| Some((alias.clone(), model.model.clone()?)))
        .collect();
    let egress = outside::egress(held.loaded.reachable().map_err(Exit::usage_of)?.opened);
    // The answer may take its time; nobody else needs to wait for it.
    drop(held);
    let question = Question { kind: server.kind, base_url, key: key.as_deref(), wait };
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let host = config::host(base_url).unwrap_or_default();
    let answer = tokio.block_on(probe::models(&egress, &question)).map_err(|failure| {
        let next = next_step(name, &server, &failure);
        Exit::failed(format!("{name} at {host} does not serve: {failure}; {next}"))
    })?;
    tested.latency_ms = Some(u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX));
    let listed = aliases.into_iter().map(|(alias, model)| {
        let listed = answer.models.contains(&model);
        User { alias, model, listed }
    });
    tested.aliases = listed.collect();
    tested.models = answer.models;
    let text = output.placed(&tested_text(&tested, &host)).into_owned();
    output.show(&tested, |_| text)?;
    Ok(())
}

fn tested_text(tested: &Tested, host: &str) -> String {
    let Tested { provider, latency_ms, models, aliases, .. } = tested;
    let latency_ms = latency_ms.unwrap_or_default();
    let mut text = format!("{provider} at {host} answered in {latency_ms} ms with {} models.", models.len());
    for User { alias, model, listed } in aliases {
        let state = if *listed { "is listed" } else { "is NOT listed; look at its id" };
        text.extend([format!("\n  {alias}: {model} {state}")]);
    }
    text.push_str("\n\nNext: ");
    if aliases.is_empty() {
        text.extend([format!("`dromia model set default={provider}/MODEL`.")]);
    } else {
        text.push_str("`dromia model test ALIAS` makes a real call.");
    }
    text
}

fn no_key(held: &Held, name: &str, refused: &Refused) -> anyhow::Error {
    let at = held.loaded.origins.at(&format!("providers.{name}.key"));
    Exit::usage(match refused {
        Refused::InVault(secret) => format!(
            "the key of {name} is the secret {secret}, which only a running server opens; `dromia ask` an agent whose model is there"
        ),
        Refused::Literal => {
            format!("{at}: providers.{name}.key: write env:NAME, so that no key stands in the file")
        }
        Refused::Unset(variable) => format!(
            "{at}: providers.{name}.key: the environment has no {variable}; set it with `export {variable}=…`"
        ),
        Refused::Bad(variable) => {
            format!("{at}: providers.{name}.key: {variable} is empty or holds what no header can carry")
        }
    })
}

/// Says what to do about a server that does not answer with a list.
fn next_step(name: &str, server: &WrittenProvider, failure: &Failure) -> String {
    let address = format!("mend providers.{name}.base_url in dromia.yaml");
    match (failure, &server.key) {
        (Failure::Forbidden(_), _) => {
            format!("open it under egress.private_servers in dromia.yaml if that is meant, or {address}")
        }
        (Failure::Unreachable, _) => format!("start it, or {address}"),
        (Failure::Late, _) => "wait longer with --timeout 30s, or look whether it is at work".to_owned(),
        (Failure::Refused(_), Some(key)) => {
            format!("set another key in {}", key.trim_start_matches("env:"))
        }
        (Failure::Refused(_), None) => {
            format!("it wants a key: add `key: \"env:NAME\"` to providers.{name} in dromia.yaml")
        }
        (Failure::NoList, _) => format!(
            "an address usually ends in /v1; {address}, or make a real call with `dromia model test ALIAS`"
        ),
        (Failure::Status(_) | Failure::Broken, _) => "try again, and look at the server's own log".to_owned(),
        (Failure::NotAList, _) => format!("something else answers there; {address}"),
    }
}
