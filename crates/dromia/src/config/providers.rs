//! What the providers and models of the file mean: who answers under an alias, where, with which key, at what price,
//! and with which fallbacks.
//!
//! [`route_for_alias`] says it in words that can be shown, without any secret; [`resolve_models`] makes the settings of
//! the crate `dromia_models` of it, for which the keys must be in the environment; those in the vault are only named.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dromia_api::TENANT_DEFAULT;
use dromia_contracts::model_route::ModelRouteRule;
use dromia_contracts::vault::{self, GRANT};
use dromia_guard::egress::target::RequestTarget;
use dromia_models::{
    ContextWindow, HttpConfig, HttpError, HttpTimeouts, KeysOf, KnownModels, ModelProvider, ModelsConfig,
    OutputLimit, ProviderApiKey, ScriptedModel, TokenPrice, VaultKey,
};

use super::environment::EnvironmentVariables;
use super::file::{
    ProviderKind, WrittenConfig, WrittenModel, WrittenOutputLimit, WrittenPrice, WrittenProvider,
};
use super::problem::did_you_mean;
use super::problem_collector::ProblemCollector;
use crate::secret_command::placement_for_slot;

/// How long an answer may take, where the file does not say it, in milliseconds: a model that reasons takes minutes.
const TIMEOUT_MS: u64 = 600_000;

/// The provider and alias that need no entry.
pub(crate) const SCRIPTED: &str = ScriptedModel::ALIAS;

/// A mistake with the key that has it.
type Wrong = (String, String);

/// Who answers under an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelRoute {
    /// The provider's name; none where the model says it all itself.
    pub(crate) provider: Option<String>,
    /// What is spoken there.
    pub(crate) kind: ProviderKind,
    /// Where that is; nowhere for the scripted model.
    pub(crate) target: Option<ModelTarget>,
}

/// A model at a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelTarget {
    /// Where the server is, and how it is spoken to.
    pub(crate) server: WrittenProvider,
    /// The key of the configuration that describes the server.
    pub(crate) server_key: String,
    /// The model's id there.
    pub(crate) model: String,
    /// Whether answers are streamed.
    pub(crate) stream: bool,
    /// What tokens cost, if it is known.
    pub(crate) price: Option<TokenPrice>,
    /// What the model takes and gives at most, as far as it is known.
    pub(crate) window: ContextWindow,
}

/// Finds out who answers under an alias of the file.
pub(crate) fn route_for_alias(
    written: &WrittenConfig,
    alias: &str,
    model: &WrittenModel,
) -> Result<ModelRoute, Wrong> {
    let here = format!("models.{alias}");
    let wrong = |key: &str, message: String| {
        let key = if key.is_empty() { here.clone() } else { format!("{here}.{key}") };
        Err((key, message))
    };
    let (server, server_key) = match (&model.provider, model.kind) {
        (Some(_), Some(_)) => return wrong("kind", "has `provider` and `kind`; keep one of them".to_owned()),
        (None, None) => return wrong("", "needs `provider`, or `kind`".to_owned()),
        (Some(name), None) => {
            for (key, is_set) in [("base_url", model.base_url.is_some()), ("key", model.key.is_some())] {
                if is_set {
                    return wrong(key, format!("belongs to the provider: move it to providers.{name}"));
                }
            }
            let Some(server) = written.providers.get(name) else {
                let near = did_you_mean(name, written.providers.keys().map(String::as_str));
                return wrong("provider", format!("there is no provider `{name}`{near}"));
            };
            (server.clone(), format!("providers.{name}"))
        }
        (None, Some(kind)) => {
            let server = WrittenProvider {
                kind,
                base_url: model.base_url.clone(),
                key: model.key.clone(),
                ..WrittenProvider::default()
            };
            (server, here.clone())
        }
    };
    let kind = server.kind;
    let answer = |target| ModelRoute { provider: model.provider.clone(), kind, target };
    if server.kind == ProviderKind::Scripted {
        let set = [
            ("base_url", model.base_url.is_some()),
            ("model", model.model.is_some()),
            ("key", model.key.is_some()),
            ("stream", model.stream.is_some()),
            ("price", model.price.is_some()),
            ("context_tokens", model.context_tokens.is_some()),
            ("output_tokens_max", model.output_tokens_max.is_some()),
        ];
        return match set.into_iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => wrong(key, "has no effect on the scripted model; remove it".to_owned()),
            None => Ok(answer(None)),
        };
    }
    let Some(id) = model.model.clone() else {
        return wrong("", "needs `model`, the model's id at the provider".to_owned());
    };
    let server = fill_provider_defaults(&server);
    let price = model
        .price
        .as_ref()
        .map_or_else(|| builtin_price(&server, &id), |price| Some(price_from_written(price)));
    let known = builtin_window(&server, &id);
    let window = ContextWindow {
        context_tokens: model.context_tokens.or(known.context_tokens),
        output_tokens_max: model.output_tokens_max.or(known.output_tokens_max),
    };
    let stream = model.stream.unwrap_or(true);
    Ok(answer(Some(ModelTarget { server, server_key, model: id, stream, price, window })))
}

/// Fills in what depends on the kind and the address.
pub(crate) fn fill_provider_defaults(server: &WrittenProvider) -> WrittenProvider {
    if server.kind == ProviderKind::Scripted {
        return server.clone();
    }
    let base_url = server.base_url.clone().unwrap_or_else(|| server.kind.base_url().to_owned());
    let host = host_of_url(&base_url);
    let at_openai = host.as_deref() == Some("api.openai.com");
    let at_maker = at_openai || host.as_deref() == Some("api.anthropic.com");
    let usual =
        if at_openai { WrittenOutputLimit::MaxCompletionTokens } else { WrittenOutputLimit::MaxTokens };
    WrittenProvider {
        output_limit: (server.kind == ProviderKind::Openai).then(|| server.output_limit.unwrap_or(usual)),
        answer_schemas: Some(server.answer_schemas.unwrap_or(at_maker)),
        timeout_ms: Some(server.timeout_ms.unwrap_or(TIMEOUT_MS)),
        base_url: Some(base_url),
        ..server.clone()
    }
}

/// The price of the built-in table.
fn builtin_price(server: &WrittenProvider, model: &str) -> Option<TokenPrice> {
    let host = host_of_url(server.base_url.as_deref()?)?;
    KnownModels::builtin_table().model_price(&host, model)
}

/// The window of the built-in table.
fn builtin_window(server: &WrittenProvider, model: &str) -> ContextWindow {
    let host = server.base_url.as_deref().and_then(host_of_url).unwrap_or_default();
    KnownModels::builtin_table().model_window(&host, model)
}

/// The host of an address, as far as it can be read.
pub(crate) fn host_of_url(base_url: &str) -> Option<String> {
    reqwest::Url::parse(base_url).ok()?.host_str().map(str::to_owned)
}

fn price_from_written(written: &WrittenPrice) -> TokenPrice {
    let WrittenPrice { input, output, cache_read, cache_write } = *written;
    TokenPrice {
        input,
        output,
        cache_read: cache_read.unwrap_or(input),
        cache_write: cache_write.unwrap_or(input),
    }
}

/// Makes the settings of the crate `dromia_models`.
pub(crate) fn resolve_models(
    written: &WrittenConfig,
    environment: &EnvironmentVariables,
    check: &mut ProblemCollector<'_>,
) -> ModelsConfig {
    let mut secrets = BTreeMap::new();
    for (name, server) in &written.providers {
        let key = format!("providers.{name}");
        secrets.insert(key.clone(), resolve_provider(&key, server, environment, check));
    }
    let mut config = ModelsConfig::default();
    for (alias, model) in &written.models {
        for (key, tokens) in
            [("context_tokens", model.context_tokens), ("output_tokens_max", model.output_tokens_max)]
        {
            if let Some(tokens) = tokens {
                check.at_least_one(&format!("models.{alias}.{key}"), tokens.into());
            }
        }
        match route_for_alias(written, alias, model) {
            Ok(ModelRoute { target: None, .. }) => {
                config.models.insert(alias.clone(), ModelProvider::Scripted);
            }
            Ok(ModelRoute { target: Some(target), .. }) => {
                let own = format!("models.{alias}");
                let secret = if target.server_key == own {
                    resolve_provider(&own, &target.server, environment, check)
                } else {
                    secrets.get(&target.server_key).cloned().flatten()
                };
                if let Some(ProviderKey::Missing(reason)) = secret {
                    config.models.insert(alias.clone(), ModelProvider::Unusable(reason));
                } else if let Some(http) = http_config(&target, secret, &config.keys_of) {
                    config.models.insert(alias.clone(), ModelProvider::Http(http));
                }
            }
            Err((key, message)) => check.add_problem(&key, message),
        }
        if !model.fallback.is_empty() {
            config.fallbacks.insert(alias.clone(), model.fallback.clone());
        }
        if !model.routes.is_empty() {
            let rules = model.routes.iter().map(ModelRouteRule::from).collect();
            config.routes.insert(alias.clone(), rules);
        }
    }
    check_fallbacks(written, check);
    check_routes(written, check);
    config
}

/// A key as far as a configuration has it.
#[derive(Clone)]
enum ProviderKey {
    /// From the environment.
    Held(ProviderApiKey),
    /// The name of a secret in the vault.
    InVault(String),
    /// Nowhere: why, and what to do about it.
    Missing(String),
}

/// Checks a server and takes its key from the environment, or its name in the vault.
fn resolve_provider(
    here: &str,
    server: &WrittenProvider,
    environment: &EnvironmentVariables,
    check: &mut ProblemCollector<'_>,
) -> Option<ProviderKey> {
    let Some(format) = server.kind.wire_format() else {
        let set = [
            ("base_url", server.base_url.is_some()),
            ("key", server.key.is_some()),
            ("output_limit", server.output_limit.is_some()),
            ("answer_schemas", server.answer_schemas.is_some()),
            ("timeout_ms", server.timeout_ms.is_some()),
        ];
        for (key, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
            check.add_problem(&format!("{here}.{key}"), "has no effect on the scripted model; remove it");
        }
        return None;
    };
    if server.output_limit.is_some() && server.kind != ProviderKind::Openai {
        check
            .add_problem(&format!("{here}.output_limit"), "has an effect only with kind `openai`; remove it");
    }
    if let Some(ms) = server.timeout_ms {
        check.at_least_one(&format!("{here}.timeout_ms"), ms);
    }
    let base_url = server.base_url.clone().unwrap_or_else(|| server.kind.base_url().to_owned());
    match HttpConfig::new(format, base_url.clone(), "").endpoint_url() {
        Err(error) => check.add_problem(&format!("{here}.base_url"), without_key(&error)),
        // What no line could be opened to would stop a start later.
        Ok(url) => {
            if let Err(refused) = RequestTarget::parse_url(url.as_str()) {
                check.add_problem(&format!("{here}.base_url"), refused.reason);
            }
        }
    }
    let reference = server.key.as_deref()?;
    match secret_from_environment(reference, environment) {
        Ok(secret) => Some(ProviderKey::Held(secret)),
        Err(ProviderKeyError::InVault(name)) => {
            if let Ok(tenant) = TENANT_DEFAULT.parse() {
                let placement = placement_for_slot(format.key_slot());
                check.note_vault_key(&format!("{here}.key"), &tenant, &name, (&base_url, &placement));
            }
            Some(ProviderKey::InVault(name))
        }
        Err(ProviderKeyError::Literal) => {
            check.add_problem(
                &format!("{here}.key"),
                "write env:NAME, or secret:NAME for a secret of the vault, so that the file contains no key",
            );
            None
        }
        Err(ProviderKeyError::Unset(name)) => {
            let near = did_you_mean(&name, environment.variable_names());
            Some(missing_key(here, format!("the variable {name} is not set{near}"), name, check))
        }
        Err(ProviderKeyError::Bad(name)) => {
            let why = format!("the variable {name} is empty or has characters that a header cannot contain");
            Some(missing_key(here, why, name, check))
        }
    }
}

/// Notes that a provider is disabled until its variable is set.
fn missing_key(here: &str, why: String, variable: String, check: &mut ProblemCollector<'_>) -> ProviderKey {
    let of = here.strip_prefix("providers.").map_or_else(
        || format!("the model {}", here.trim_start_matches("models.")),
        |name| format!("the provider {name}"),
    );
    let reason = format!(
        "{of} has no key: {why}; set it with `export {variable}=…` where the server starts, and start it again \
         with `dromia up`"
    );
    check.add_missing_key(&format!("{here}.key"), why, variable);
    ProviderKey::Missing(reason)
}

fn without_key(error: &HttpError) -> String {
    let text = error.to_string();
    text.strip_prefix("base_url ").unwrap_or(&text).to_owned()
}

/// Why there is no key.
pub(crate) enum ProviderKeyError {
    /// The file holds the key itself.
    Literal,
    /// It is in the vault, under this name, which only a running server opens.
    InVault(String),
    /// The environment has no such variable.
    Unset(String),
    /// The variable's value is no key.
    Bad(String),
}

/// Takes a key from the environment.
pub(crate) fn secret_from_environment(
    reference: &str,
    environment: &EnvironmentVariables,
) -> Result<ProviderApiKey, ProviderKeyError> {
    if let Some(name) = vault_name(reference) {
        return Err(ProviderKeyError::InVault(name.to_owned()));
    }
    let name =
        reference.strip_prefix("env:").filter(|name| !name.is_empty()).ok_or(ProviderKeyError::Literal)?;
    let value = environment.get(name).ok_or_else(|| ProviderKeyError::Unset(name.to_owned()))?;
    if value.is_empty() || reqwest::header::HeaderValue::from_str(value).is_err() {
        return Err(ProviderKeyError::Bad(name.to_owned()));
    }
    Ok(ProviderApiKey::new(value))
}

/// Returns the name of the secret that a reference to the vault names: `secret:NAME`.
pub(crate) fn vault_name(reference: &str) -> Option<&str> {
    reference.strip_prefix(GRANT).filter(|name| vault::is_name(name))
}

fn http_config(target: &ModelTarget, key: Option<ProviderKey>, keys_of: &KeysOf) -> Option<HttpConfig> {
    let ModelTarget { server, model, stream, price, window, .. } = target;
    let base_url = server.base_url.clone().unwrap_or_default();
    let mut http = HttpConfig::new(server.kind.wire_format()?, base_url, model.clone());
    http.provider = target.server_key.strip_prefix("providers.").map(str::to_owned);
    match key {
        None | Some(ProviderKey::Missing(_)) => {}
        Some(ProviderKey::Held(secret)) => http.key = Some(secret),
        Some(ProviderKey::InVault(name)) => http.vault_key = Some(VaultKey { name, of: keys_of.clone() }),
    }
    http.stream = *stream;
    http.priced = price.is_some();
    http.price = price.unwrap_or_default();
    http.window = *window;
    http.output_limit = server.output_limit.map_or_else(OutputLimit::default, OutputLimit::from);
    http.answer_schemas = server.answer_schemas.unwrap_or_default();
    if let Some(total) = server.timeout_ms.map(Duration::from_millis) {
        let connect = http.timeouts.connect;
        http.timeouts = HttpTimeouts { connect, first_byte: total / 5, stall: total / 10, total };
    }
    Some(http)
}

/// Checks that every fallback is another model and that no chain is a cycle.
fn check_fallbacks(written: &WrittenConfig, check: &mut ProblemCollector<'_>) {
    for (alias, model) in &written.models {
        let mut seen = BTreeSet::from([alias.as_str()]);
        for (index, name) in model.fallback.iter().enumerate() {
            let key = format!("models.{alias}.fallback.{index}");
            if name == alias {
                check.add_problem(&key, "a model cannot be its own fallback");
            } else if name != SCRIPTED && !written.models.contains_key(name) {
                let known = written.models.keys().map(String::as_str).chain([SCRIPTED]);
                let near = did_you_mean(name, known.filter(|known| *known != alias));
                check.add_problem(&key, format!("there is no model `{name}`{near}"));
            } else if !seen.insert(name) {
                check.add_problem(&key, format!("`{name}` appears twice"));
            } else if let Some(cycle) = way_back(written, name, alias) {
                // One cycle is reported once, at its first alias.
                if cycle.iter().all(|other| other.as_str() >= alias.as_str()) {
                    check.add_problem(
                        &key,
                        format!("{alias} -> {} -> {alias} is a cycle", cycle.join(" -> ")),
                    );
                }
            }
        }
    }
}

/// The most rules of an alias.
const ROUTES_MAX: usize = 16;

/// Checks that every rule names a condition and another model.
fn check_routes(written: &WrittenConfig, check: &mut ProblemCollector<'_>) {
    for (alias, model) in &written.models {
        if model.routes.len() > ROUTES_MAX {
            check.add_problem(&format!("models.{alias}.routes"), format!("has more than {ROUTES_MAX} rules"));
        }
        for (index, route) in model.routes.iter().enumerate() {
            let key = format!("models.{alias}.routes.{index}");
            if ModelRouteRule::from(route).is_unconditional() {
                let what = "names no condition; add `kind`, `role`, `platform`, `input_bytes_min`, `pictures` or `untrusted`";
                check.add_problem(&key, what);
            }
            let key = format!("{key}.model");
            if route.model == *alias {
                check.add_problem(&key, "a rule chooses another model");
            } else if route.model != SCRIPTED && !written.models.contains_key(&route.model) {
                let known = written.models.keys().map(String::as_str).chain([SCRIPTED]);
                let near = did_you_mean(&route.model, known.filter(|known| *known != alias));
                check.add_problem(&key, format!("there is no model `{}`{near}", route.model));
            }
        }
    }
}

/// Finds the aliases on a way from one alias to another, without the last.
fn way_back(written: &WrittenConfig, from: &str, to: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![from.to_owned()]];
    let mut seen = BTreeSet::from([from.to_owned()]);
    while let Some(way) = ways.pop() {
        let last = way.last()?;
        for next in written.models.get(last).iter().flat_map(|model| &model.fallback) {
            if next == to {
                return Some(way);
            }
            if seen.insert(next.clone()) {
                ways.push(way.iter().chain([next]).cloned().collect());
            }
        }
    }
    None
}
