//! What the channels of the configuration mean: whose they are, where answers go, and with which secret.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::channel::DeliveryClass;
use dromia_contracts::vault::SecretPlacement;
use dromia_gateway::{ChannelConfig, ChannelKey, ChannelSet, DeliveryTerms, FileChannel, WebhookChannel};

use super::environment::EnvironmentVariables;
use super::file::{WrittenChannel, WrittenChannelKind, WrittenConfig};
use super::problem::did_you_mean;
use super::problem_collector::ProblemCollector;
use super::providers::vault_name;

/// The longest time that a receiver may be given to answer, in milliseconds.
const TIMEOUT_MS_MAX: u64 = 300_000;
/// How far the time of an event may be from now, as Standard Webhooks recommends.
const TOLERANCE: Duration = Duration::from_mins(5);
/// The pause after the first failed attempt; it doubles with each.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_mins(5);
/// The oldest message that is sent.
const AGE_MAX: Duration = Duration::from_hours(24);
/// The most messages that a start sends of those which were left, the newest.
const RECOVERY_MAX: u64 = 1_000;

/// Makes the channels of the gateway.
pub(crate) fn resolve_channels(
    written: &WrittenConfig,
    environment: &EnvironmentVariables,
    check: &mut ProblemCollector<'_>,
) -> ChannelSet {
    let mut directories = BTreeMap::new();
    let mut resolved = Vec::new();
    for (name, channel) in &written.channels {
        let here = format!("channels.{name}");
        if let Err(error) = name.parse::<HandleSlug>() {
            check.add_problem(
                &here,
                format!("a channel's name follows the rule of an agent's handle: {error}"),
            );
        }
        let config = match channel.kind {
            WrittenChannelKind::Webhook => {
                resolve_webhook(&here, channel, environment, check).map(ChannelConfig::from)
            }
            WrittenChannelKind::File => resolve_file(&here, name, channel, check).map(ChannelConfig::from),
        };
        if let Some(ChannelConfig::File(file)) = &config
            && let Some(other) =
                directories.insert(real_directory(&check.home_dir().join(&file.directory)), name)
        {
            let problem =
                format!("is the directory of the channel {other}; each channel needs one of its own");
            check.add_problem(&format!("{here}.path"), problem);
        }
        resolved.extend(config.map(|config| (name.clone(), config)));
    }
    resolved.into_iter().collect()
}

fn resolve_webhook(
    here: &str,
    written: &WrittenChannel,
    environment: &EnvironmentVariables,
    check: &mut ProblemCollector<'_>,
) -> Option<WebhookChannel> {
    refuse_keys(here, "webhook", &[("path", written.path.is_some())], check);
    let terms = resolve_terms(here, written, check);
    for (key, value) in [("url", &written.url), ("secret", &written.secret)] {
        if value.is_none() {
            check.add_problem(here, format!("needs `{key}`, because it is a webhook"));
        }
    }
    let (url, secret) = (written.url.as_ref()?, written.secret.as_ref()?);
    if let Err(problem) = plain_url(url) {
        check.add_problem(&format!("{here}.url"), problem);
    }
    let key = channel_key(here, secret, environment, check)?;
    let tenant = channel_tenant(written)?;
    if let ChannelKey::InVault(secret) = &key {
        let place = (url.as_str(), &SecretPlacement::Signature);
        check.note_vault_key(&format!("{here}.secret"), &tenant, secret, place);
    }
    Some(WebhookChannel {
        tenant,
        agent: written.agent.clone(),
        when_busy: written.when_busy,
        url: url.clone(),
        key,
        idempotent: written.idempotent.unwrap_or(true),
        tolerance: TOLERANCE,
        attempts_max: terms.attempts_max,
        backoff: terms.backoff,
        backoff_max: terms.backoff_max,
        age_max: terms.age_max,
        recovery_max: terms.recovery_max,
        timeout: terms.timeout,
    })
}

fn resolve_file(
    here: &str,
    name: &str,
    written: &WrittenChannel,
    check: &mut ProblemCollector<'_>,
) -> Option<FileChannel> {
    let WrittenChannel { url, secret, idempotent, .. } = written;
    let foreign =
        [("url", url.is_some()), ("secret", secret.is_some()), ("idempotent", idempotent.is_some())];
    refuse_keys(here, "file", &foreign, check);
    let path = written.path.clone().unwrap_or_else(|| format!("channels/{name}"));
    let directory: PathBuf = Path::new(&path).components().collect();
    if path.is_empty() || directory.components().any(|part| part == Component::ParentDir) {
        let problem = "must name a directory without `..`; write an absolute path for one outside the home";
        check.add_problem(&format!("{here}.path"), problem);
    }
    let terms = resolve_terms(here, written, check);
    Some(FileChannel {
        tenant: channel_tenant(written)?,
        agent: written.agent.clone(),
        when_busy: written.when_busy,
        directory,
        terms,
    })
}

/// Returns the directory that a path leads to now, whatever links lead there; below what exists, the path as it is written.
fn real_directory(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|known| Some((known, known.canonicalize().ok()?)));
    let Some((known, real)) = found else { return path.to_owned() };
    // An empty rest would end the path with a slash, which compares equal.
    path.strip_prefix(known).map_or_else(|_| path.to_owned(), |rest| real.join(rest))
}

/// Refuses keys that mean something for another kind only.
fn refuse_keys(here: &str, kind: &str, keys: &[(&str, bool)], check: &mut ProblemCollector<'_>) {
    for (key, _) in keys.iter().filter(|(_, is_written)| *is_written) {
        let problem = format!("a channel of kind {kind} has no `{key}`; remove it");
        check.add_problem(&format!("{here}.{key}"), problem);
    }
}

/// How messages are tried. What a repeat does is the channel's own.
fn resolve_terms(here: &str, written: &WrittenChannel, check: &mut ProblemCollector<'_>) -> DeliveryTerms {
    let attempts_max = written.attempts_max.unwrap_or(8);
    let timeout_ms = written.timeout_ms.unwrap_or(15_000);
    for (key, value, max) in
        [("attempts_max", u64::from(attempts_max), 100), ("timeout_ms", timeout_ms, TIMEOUT_MS_MAX)]
    {
        if !(1..=max).contains(&value) {
            check.add_problem(&format!("{here}.{key}"), format!("must be from 1 to {max}, and is {value}"));
        }
    }
    DeliveryTerms {
        class: DeliveryClass::Plain,
        attempts_max,
        backoff: BACKOFF,
        backoff_max: BACKOFF_MAX,
        age_max: AGE_MAX,
        recovery_max: RECOVERY_MAX,
        timeout: Duration::from_millis(timeout_ms),
    }
}

fn channel_tenant(written: &WrittenChannel) -> Option<HandleSlug> {
    written.tenant.clone().or_else(|| dromia_api::TENANT_DEFAULT.parse().ok())
}

/// Checks that a text is an address that a message can be posted to, with nothing secret in it.
pub(crate) fn plain_url(text: &str) -> Result<reqwest::Url, &'static str> {
    let url = reqwest::Url::parse(text).map_err(|_| "is not a URL; write it as https://host/path")?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("is not an HTTP URL; write it as https://host/path");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("contains a user name or a password; remove it, because a signature authenticates the \
                    message");
    }
    if url.fragment().is_some() {
        return Err("has a fragment, which is never sent; remove it");
    }
    Ok(url)
}

/// Takes a channel's secret from the environment, or its name in the vault.
fn channel_key(
    here: &str,
    reference: &str,
    environment: &EnvironmentVariables,
    check: &mut ProblemCollector<'_>,
) -> Option<ChannelKey> {
    let here = format!("{here}.secret");
    if let Some(name) = vault_name(reference) {
        return Some(ChannelKey::InVault(name.to_owned()));
    }
    let Some(name) = reference.strip_prefix("env:").filter(|name| !name.is_empty()) else {
        check.add_problem(
            &here,
            "write env:NAME, or secret:NAME for a secret of the vault, so that the file contains no secret",
        );
        return None;
    };
    let Some(value) = environment.get(name) else {
        let near = did_you_mean(name, environment.variable_names());
        let why = format!("the variable {name} is not set{near}");
        check.add_missing_key(&here, &why, name.to_owned());
        return Some(ChannelKey::Missing(format!(
            "{why}; set it with `export {name}=…` where the server starts, and start it again with `dromia up`"
        )));
    };
    match value.parse() {
        Ok(key) => Some(ChannelKey::Held(key)),
        Err(error) => {
            let how = "create one with: echo whsec_$(head -c 32 /dev/urandom | base64)";
            check.add_problem(&here, format!("{name} is not a signing secret: {error}; {how}"));
            None
        }
    }
}
