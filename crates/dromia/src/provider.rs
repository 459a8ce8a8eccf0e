//! `dromia provider`: the servers of models that `dromia.yaml` names. Edits go through [`config_change`].

use std::process::ExitCode;
use std::time::Duration;

use dromia_api::{ListPage, TENANT_DEFAULT};
use dromia_cli::{CommandContext, CommandOutput, GlobalOptions, Outcome};
use dromia_contracts::vault::{self, GRANT};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::edit::{double_quote, name_text};
use crate::config::{self, LoadedConfig, ProviderKeyError, ProviderKind, WrittenConfig, WrittenProvider};
use crate::config_change::{self, ConfigEdit, ConfigEditResult, LockedConfig};
use crate::egress_client;
use crate::home::Home;
use crate::provider_probe::{self, ProbeError, ProbeRequest};
use crate::redact::Redactor;
use crate::secret_command;
use crate::system::ExitError;

/// How long a server may take for its list where nothing else is said.
const WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ProviderCommand {
    /// Add a model provider to dromia.yaml.
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
    /// Ask a provider for its models, in one real request.
    #[command(
        after_help = "Examples:\n  dromia provider test openai\n  dromia provider test local --timeout 2s"
    )]
    Test {
        /// The provider.
        name: String,
    },
    /// Remove a provider that no model uses.
    #[command(visible_alias = "rm", after_help = "Examples:\n  dromia provider remove local")]
    Remove {
        /// The provider.
        name: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct AddArguments {
    /// The name that models use for it.
    #[arg(value_parser = config_change::checked_name)]
    name: String,
    /// The API that it speaks: openai also for Ollama, vLLM, llama.cpp and most gateways.
    #[arg(long, value_enum)]
    kind: ProviderKind,
    /// Its address [default: that of OpenAI or Anthropic, by kind]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Read its key from this environment variable; the file never contains the key.
    #[arg(long, value_name = "VAR", conflicts_with = "key_secret")]
    key_env: Option<String>,
    /// Read its key from this secret of the vault, on each request; a new value needs no restart.
    #[arg(long, value_name = "NAME")]
    key_secret: Option<String>,
}

/// A server of models, as `dromia.yaml` names it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ProviderRow {
    /// The name that models use for it.
    name: String,
    /// The API that it speaks.
    kind: ProviderKind,
    /// Its address; the scripted model has none.
    base_url: Option<String>,
    /// Where its key comes from, and whether it is there; `none` where it wants none.
    key: String,
    /// The models that refer to it, by their aliases.
    used_by: Vec<String>,
}

/// What a server of models answered.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ProviderTest {
    /// The provider.
    provider: String,
    /// The API that it speaks.
    kind: ProviderKind,
    /// How long its answer took, in milliseconds; the scripted model is part of the program and not asked.
    latency_ms: Option<u64>,
    /// The ids of its models.
    models: Vec<String>,
    /// The models of `dromia.yaml` that refer to it.
    aliases: Vec<ProviderModelRow>,
}

/// A model of `dromia.yaml`, beside what its server lists.
#[derive(Debug, Serialize, JsonSchema)]
struct ProviderModelRow {
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
    global: &GlobalOptions,
    context: &mut CommandContext,
) -> anyhow::Result<ExitCode> {
    let output = &mut CommandOutput::of_local(context, global);
    output.check_format()?;
    let held = LockedConfig::lock_home(home)?;
    match command {
        ProviderCommand::Add(arguments) => add_provider(&held, arguments, output)?,
        ProviderCommand::List => list_providers(&held, output)?,
        ProviderCommand::Test { name } => test_provider(held, name, global.timeout.unwrap_or(WAIT), output)?,
        ProviderCommand::Remove { name } => remove_provider(&held, name, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn add_provider(
    held: &LockedConfig,
    arguments: &AddArguments,
    output: &mut CommandOutput<'_>,
) -> anyhow::Result<()> {
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
            output.print_result(&ConfigEditResult::unchanged_entry("providers", name), |_| {
                format!("{name} already exists with these settings.")
            })?;
            return Ok(());
        }
        Some(_) => {
            let at = held.loaded.origins.location_text(&format!("providers.{name}"));
            return Err(ExitError::conflict_error(format!(
                "the provider {name} already exists at {at}; remove it first with `dromia provider remove \
                 {name}`"
            )));
        }
        None => {}
    }
    let mut lines = vec![format!("{}:", name_text(name)), format!("  kind: {}", kind.as_str())];
    lines.extend(server.base_url.as_ref().map(|base_url| format!("  base_url: {}", double_quote(base_url))));
    lines.extend(server.key.as_ref().map(|key| format!("  key: {}", double_quote(key))));
    let edit = ConfigEdit { block: "providers", name, lines: Some(lines) };
    let steps = match key_secret.as_ref().and_then(|secret| set_command(&server, secret)) {
        // Nothing but a running server opens the vault, so the provider is tried by asking a model of it.
        Some(set) => {
            format!("`dromia model set default={name}/MODEL`, then, while the server runs, `{set}`.")
        }
        None => format!("`dromia provider test {name}`, then `dromia model set default={name}/MODEL`."),
    };
    let changed = held.apply_edit(&edit, output, |written| {
        written.providers.insert(name.clone(), server);
    })?;
    let next = format!("{name} is now in dromia.yaml. {}\n\nNext: {steps}", config_change::HEARD);
    let next = output.add_global_flags(&next).into_owned();
    output.print_result(&changed, |_| next)?;
    Ok(())
}

/// Refuses what names no secret. A key that is given here by mistake comes into no file and is not repeated.
fn check_secret(name: &str) -> anyhow::Result<()> {
    let looks_secret = Redactor::default().redact_text(name) != name;
    if vault::is_name(name) && !looks_secret {
        return Ok(());
    }
    let rule = vault::NAME_RULE;
    Err(ExitError::usage_error(format!(
        "--key-secret takes the name of a secret, which is {rule}; store the key itself with `dromia secret \
         set`"
    )))
}

/// The command that puts the key of a provider where it is looked for; the scripted model has none.
fn set_command(server: &WrittenProvider, secret: &str) -> Option<String> {
    let placement = secret_command::placement_for_slot(server.kind.wire_format()?.key_slot());
    Some(secret_command::set_command(
        TENANT_DEFAULT,
        secret,
        &config::fill_provider_defaults(server).base_url?,
        &placement,
    ))
}

fn remove_provider(held: &LockedConfig, name: &str, output: &mut CommandOutput<'_>) -> anyhow::Result<()> {
    find_provider(&held.loaded, name)?;
    let users = aliases_using(&held.loaded.written, name);
    if !users.is_empty() {
        return Err(ExitError::conflict_error(format!(
            "{name} is used by {}; give those another provider first with `dromia model set`",
            users.join(", ")
        )));
    }
    let edit = ConfigEdit { block: "providers", name, lines: None };
    let changed = held.apply_edit(&edit, output, |written| {
        written.providers.remove(name);
    })?;
    output.print_result(&changed, |_| {
        format!("{name} is no longer in dromia.yaml. {}", config_change::HEARD)
    })?;
    Ok(())
}

fn list_providers(held: &LockedConfig, output: &mut CommandOutput<'_>) -> Outcome {
    let written = &held.loaded.written;
    let provider = |(name, server): (&String, &WrittenProvider)| ProviderRow {
        name: name.clone(),
        kind: server.kind,
        base_url: config::fill_provider_defaults(server).base_url,
        key: key_state(held, server),
        used_by: aliases_using(written, name),
    };
    let items: Vec<_> = written.providers.iter().map(provider).collect();
    if output.is_json() {
        return output.print_document(&ListPage { items, next: None });
    }
    if items.is_empty() {
        return output
            .print_notice("There is no provider. Add one with `dromia provider add NAME --kind KIND`.");
    }
    let rows = items.into_iter().map(|one| {
        let kind = one.kind.as_str().to_owned();
        vec![one.name, kind, one.base_url.unwrap_or_default(), one.key, one.used_by.join(", ")]
    });
    output.print_table(&["name", "kind", "base url", "key", "used by"], rows.collect())
}

/// Says where a key comes from, and whether it is there.
fn key_state(held: &LockedConfig, server: &WrittenProvider) -> String {
    let Some(reference) = &server.key else { return "none".to_owned() };
    match config::secret_from_environment(reference, &held.environment) {
        Ok(_) | Err(ProviderKeyError::InVault(_)) => reference.clone(),
        Err(ProviderKeyError::Literal) => "(not shown: write env:NAME)".to_owned(),
        Err(ProviderKeyError::Unset(_)) => format!("{reference} (not set here)"),
        Err(ProviderKeyError::Bad(_)) => format!("{reference} (no key)"),
    }
}

fn aliases_using(written: &WrittenConfig, name: &str) -> Vec<String> {
    let users = written.models.iter().filter(|(_, model)| model.provider.as_deref() == Some(name));
    users.map(|(alias, _)| alias.clone()).collect()
}

fn find_provider<'held>(loaded: &'held LoadedConfig, name: &str) -> anyhow::Result<&'held WrittenProvider> {
    loaded.written.providers.get(name).ok_or_else(|| {
        let near = config::did_you_mean(name, loaded.written.providers.keys().map(String::as_str));
        ExitError::usage_error(format!("there is no provider {name}{near}"))
    })
}

fn test_provider(
    held: LockedConfig,
    name: &str,
    wait: Duration,
    output: &mut CommandOutput<'_>,
) -> anyhow::Result<()> {
    let server = config::fill_provider_defaults(find_provider(&held.loaded, name)?);
    let mut tested = ProviderTest {
        provider: name.to_owned(),
        kind: server.kind,
        latency_ms: None,
        models: Vec::new(),
        aliases: Vec::new(),
    };
    let Some(base_url) = server.base_url.as_deref() else {
        output.print_result(&tested, |_| {
            format!("{name} is the built-in scripted model: it is part of the program and always available.")
        })?;
        return Ok(());
    };
    let key = match server
        .key
        .as_deref()
        .map(|reference| (reference, config::secret_from_environment(reference, &held.environment)))
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
    let egress =
        egress_client::guarded_egress(held.loaded.resolve_egress().map_err(ExitError::usage_of)?.opened);
    // The answer may take its time; no other command needs to wait for it.
    drop(held);
    let question = ProbeRequest { kind: server.kind, base_url, key: key.as_deref(), wait };
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let host = config::host_of_url(base_url).unwrap_or_default();
    let answer = tokio.block_on(provider_probe::probe_models(&egress, &question)).map_err(|failure| {
        let next = next_step(name, &server, &failure);
        ExitError::failed_error(format!("{name} at {host} does not work: {failure}; {next}"))
    })?;
    tested.latency_ms = Some(u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX));
    let listed = aliases.into_iter().map(|(alias, model)| {
        let listed = answer.models.contains(&model);
        ProviderModelRow { alias, model, listed }
    });
    tested.aliases = listed.collect();
    tested.models = answer.models;
    let text = output.add_global_flags(&tested_text(&tested, &host)).into_owned();
    output.print_result(&tested, |_| text)?;
    Ok(())
}

fn tested_text(tested: &ProviderTest, host: &str) -> String {
    let ProviderTest { provider, latency_ms, models, aliases, .. } = tested;
    let latency_ms = latency_ms.unwrap_or_default();
    let mut text = format!("{provider} at {host} answered in {latency_ms} ms with {} models.", models.len());
    for ProviderModelRow { alias, model, listed } in aliases {
        let state = if *listed { "is listed" } else { "is NOT listed; check its id" };
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

fn no_key(held: &LockedConfig, name: &str, refused: &ProviderKeyError) -> anyhow::Error {
    let at = held.loaded.origins.location_text(&format!("providers.{name}.key"));
    ExitError::usage_error(match refused {
        ProviderKeyError::InVault(secret) => format!(
            "the key of {name} is the secret {secret}, which only a running server can open; test it with \
             `dromia ask` and an agent that uses this model"
        ),
        ProviderKeyError::Literal => {
            format!("{at}: providers.{name}.key: write env:NAME, so that the file contains no key")
        }
        ProviderKeyError::Unset(variable) => format!(
            "{at}: providers.{name}.key: the variable {variable} is not set; set it with `export {variable}=…`"
        ),
        ProviderKeyError::Bad(variable) => {
            format!(
                "{at}: providers.{name}.key: {variable} is empty or has characters that a header cannot contain"
            )
        }
    })
}

/// Says what to do about a server that does not answer with a list.
fn next_step(name: &str, server: &WrittenProvider, failure: &ProbeError) -> String {
    let address = format!("correct providers.{name}.base_url in dromia.yaml");
    match (failure, &server.key) {
        (ProbeError::Forbidden(_), _) => {
            format!("if that is intended, allow it under egress.private_servers in dromia.yaml, or {address}")
        }
        (ProbeError::Unreachable, _) => format!("start it, or {address}"),
        (ProbeError::Late, _) => {
            "allow more time with --timeout 30s, or check whether the server is busy".to_owned()
        }
        (ProbeError::Refused(_), Some(key)) => {
            format!("set a valid key in {}", key.trim_start_matches("env:"))
        }
        (ProbeError::Refused(_), None) => {
            format!("it needs a key: add `key: \"env:NAME\"` to providers.{name} in dromia.yaml")
        }
        (ProbeError::NoList, _) => format!(
            "the address usually ends in /v1; {address}, or make a real call with `dromia model test ALIAS`"
        ),
        (ProbeError::Status(_) | ProbeError::Broken, _) => {
            "try again, and check the server's own log".to_owned()
        }
        (ProbeError::NotAList, _) => format!("another kind of server answers there; {address}"),
    }
}
