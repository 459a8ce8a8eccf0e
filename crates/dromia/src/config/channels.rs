//! What the channels of the file mean: whose they are, where answers go, and with which secret.

use std::time::Duration;

use dromia_contracts::vault::SecretPlacement;
use dromia_gateway::{ChannelKey, WebhookChannel, WebhookChannels};

use super::environment::EnvironmentVariables;
use super::file::{WrittenChannel, WrittenConfig};
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
) -> WebhookChannels {
    let found = written.channels.iter();
    found
        .filter_map(|(name, written)| {
            Some((name.clone(), resolve_channel(name, written, environment, check)?))
        })
        .collect()
}

fn resolve_channel(
    name: &str,
    written: &WrittenChannel,
    environment: &EnvironmentVariables,
    check: &mut ProblemCollector<'_>,
) -> Option<WebhookChannel> {
    let here = format!("channels.{name}");
    if let Err(error) = name.parse::<dromia_contracts::agent::HandleSlug>() {
        check.add_problem(&here, format!("a channel's name follows the rule of an agent's handle: {error}"));
    }
    if let Err(problem) = plain_url(&written.url) {
        check.add_problem(&format!("{here}.url"), problem);
    }
    let attempts_max = written.attempts_max.unwrap_or(8);
    let timeout_ms = written.timeout_ms.unwrap_or(15_000);
    for (key, value, max) in
        [("attempts_max", u64::from(attempts_max), 100), ("timeout_ms", timeout_ms, TIMEOUT_MS_MAX)]
    {
        if !(1..=max).contains(&value) {
            check.add_problem(&format!("{here}.{key}"), format!("must be from 1 to {max}, and is {value}"));
        }
    }
    let key = channel_key(&here, &written.secret, environment, check)?;
    let tenant = written.tenant.clone().or_else(|| dromia_api::TENANT_DEFAULT.parse().ok())?;
    if let ChannelKey::InVault(secret) = &key {
        let place = (written.url.as_str(), &SecretPlacement::Signature);
        check.note_vault_key(&format!("{here}.secret"), &tenant, secret, place);
    }
    Some(WebhookChannel {
        tenant,
        agent: written.agent.clone(),
        url: written.url.clone(),
        key,
        idempotent: written.idempotent.unwrap_or(true),
        tolerance: TOLERANCE,
        attempts_max,
        backoff: BACKOFF,
        backoff_max: BACKOFF_MAX,
        age_max: AGE_MAX,
        recovery_max: RECOVERY_MAX,
        timeout: Duration::from_millis(timeout_ms),
    })
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
