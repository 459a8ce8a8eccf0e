//! The registry: alias to adapter, with the aliases that stand in for it.
//!
//! It is built once from resolved settings and never changes; another configuration makes another one. An alias without a configuration is a `model_rejected`,
//! not a fallback to some other model. One call is one attempt at one adapter: a model that is overloaded, unreachable
//! or too slow is left to cool down, and the next attempt, which the engine journals as such, goes to the first of the
//! chain that is not cooling and whose window takes the request. Who is asked is chosen when the attempt is prepared,
//! so that the journal names them before anything is sent, and what is left out is what does not fit that very model.
//! A failure names the alias that was asked and its provider, and nothing of the address: tenants read it too.
//! What is sent is our own form of the conversation, so a switch never leaves a transcript that the next provider would
//! refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::egress::Egress;
use dromia_contracts::encoded_request::RequestEncoding;
use dromia_contracts::model::{
    DeltaSink, LanguageModel, ModelError, ModelReply, ModelRequest, PreparedAttempt,
};
use dromia_contracts::model_route::{ModelRouteRule, RouteFacts, choose_alias};
use dromia_contracts::runtime::Clock;
use dromia_contracts::{BoxFuture, ErrorCode};
use jiff::{SignedDuration, Timestamp};

use crate::encoded_request;
use crate::http::{HttpConfig, HttpError, HttpModel, KeysOf};
use crate::scripted::ScriptedModel;
use crate::unusable::UnusableModel;

/// How long a model cools down where its provider names no time.
const COOL_DOWN: SignedDuration = SignedDuration::from_secs(30);

/// Resolved settings of every model of the node.
#[derive(Debug, Clone, Default)]
pub struct ModelsConfig {
    /// The provider of each alias; `scripted` is there even if it is not named.
    pub models: BTreeMap<String, ModelProvider>,
    /// The aliases that stand in for an alias, best first.
    pub fallbacks: BTreeMap<String, Vec<String>>,
    /// The rules of each alias that has some, in order.
    pub routes: BTreeMap<String, Vec<ModelRouteRule>>,
    /// Whose secrets the keys are that are in the vault; every [`VaultKey`](crate::VaultKey) of the models has the same.
    pub keys_of: KeysOf,
}

/// Who answers under an alias.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one of each alias, and it is moved once")]
pub enum ModelProvider {
    /// The built-in scripted model.
    Scripted,
    /// A server that is reached over HTTP.
    Http(HttpConfig),
    /// A server that cannot be used, and what an operator can do about it. Its models are known; a call fails with this.
    Unusable(String),
}

/// Says why the registry cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// The settings of one alias do not make an adapter.
    #[error("model {alias:?} cannot be used")]
    Adapter {
        /// The alias.
        alias: String,
        /// What is wrong with its settings.
        #[source]
        source: HttpError,
    },
    /// An alias names itself, or one that is not there, as its stand-in.
    #[error("model {alias:?} cannot fall back to {fallback:?}, which is not another configured model")]
    Fallback {
        /// The alias.
        alias: String,
        /// What it names.
        fallback: String,
    },
}

/// Every configured model, found by its alias.
#[derive(Debug, Clone)]
pub struct ModelRegistry {
    shared: Arc<RegistryState>,
}

#[derive(Debug)]
struct RegistryState {
    adapters: BTreeMap<String, Arc<dyn LanguageModel>>,
    /// The provider of each alias that is reached over HTTP.
    providers: BTreeMap<String, String>,
    fallbacks: BTreeMap<String, Vec<String>>,
    routes: BTreeMap<String, Vec<ModelRouteRule>>,
    clock: Arc<dyn Clock>,
    /// Until when a model is left alone; at most one entry per alias.
    cooling: Mutex<BTreeMap<String, Timestamp>>,
}

impl ModelRegistry {
    /// Builds the adapters of all aliases; nothing is connected yet.
    pub fn new(
        config: ModelsConfig,
        clock: &Arc<dyn Clock>,
        egress: &dyn Egress,
    ) -> Result<Self, ModelsError> {
        let scripted: Arc<dyn LanguageModel> = Arc::new(ScriptedModel::new(Arc::clone(clock)));
        let mut adapters = BTreeMap::from([(ScriptedModel::ALIAS.to_owned(), Arc::clone(&scripted))]);
        let mut providers = BTreeMap::new();
        for (alias, provider) in config.models {
            let adapter: Arc<dyn LanguageModel> = match provider {
                ModelProvider::Scripted => Arc::clone(&scripted),
                ModelProvider::Unusable(reason) => Arc::new(UnusableModel { reason }),
                ModelProvider::Http(settings) => {
                    providers.extend(settings.provider.clone().map(|name| (alias.clone(), name)));
                    match HttpModel::new(settings, egress) {
                        Ok(adapter) => Arc::new(adapter),
                        Err(source) => return Err(ModelsError::Adapter { alias, source }),
                    }
                }
            };
            adapters.insert(alias, adapter);
        }
        for (alias, fallbacks) in &config.fallbacks {
            let mut seen = BTreeSet::from([alias]);
            if let Some(bad) =
                fallbacks.iter().find(|name| !adapters.contains_key(*name) || !seen.insert(name))
            {
                return Err(ModelsError::Fallback { alias: alias.clone(), fallback: bad.clone() });
            }
        }
        let shared = RegistryState {
            adapters,
            providers,
            fallbacks: config.fallbacks,
            routes: config.routes,
            clock: Arc::clone(clock),
            cooling: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Lists the aliases in order.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        self.shared.adapters.keys().map(String::as_str)
    }
}

impl RegistryState {
    fn lock_delays(&self) -> MutexGuard<'_, BTreeMap<String, Timestamp>> {
        // No code panics while it holds the lock.
        self.cooling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The alias and its fallbacks; `None` if the alias is not configured.
    fn fallback_chain<'a>(&'a self, alias: &str) -> impl Iterator<Item = &'a str> {
        let first = self.adapters.get_key_value(alias).map(|(name, _)| name.as_str());
        let rest = self.fallbacks.get(alias).into_iter().flatten().map(String::as_str);
        first.into_iter().chain(rest)
    }

    /// The chain with those first that are not cooling, and then those that are ready soonest.
    fn by_readiness<'a>(&'a self, alias: &str, now: Timestamp) -> Vec<&'a str> {
        let cooling = self.lock_delays();
        let mut chain: Vec<_> = self.fallback_chain(alias).collect();
        chain.sort_by_key(|name| cooling.get(*name).copied().filter(|until| *until > now));
        chain
    }

    fn prepare_first_ready(&self, request: &ModelRequest) -> Result<PreparedAttempt, ModelError> {
        let mut refused = None;
        for name in self.by_readiness(&request.model, self.clock.now()) {
            let Some(adapter) = self.adapters.get(name) else { continue };
            match adapter.prepare_attempt(request) {
                Ok(mut prepared) => {
                    prepared.wording.by = (name != request.model).then(|| name.to_owned());
                    return Ok(prepared);
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| unknown_alias_error(&request.model)))
    }

    async fn make_attempt(
        &self,
        request: &ModelRequest,
        prepared: &PreparedAttempt,
        deltas: &dyn DeltaSink,
    ) -> Result<ModelReply, ModelError> {
        let name = prepared.wording.by.as_deref().unwrap_or(&request.model);
        let Some(adapter) = self.adapters.get(name) else { return Err(unknown_alias_error(name)) };
        match adapter.call_model(request, prepared, deltas).await {
            Ok(reply) => {
                self.lock_delays().remove(name);
                Ok(reply)
            }
            Err(error) => {
                let provider = self.providers.get(name).map(|it| format!(" ({it})")).unwrap_or_default();
                let error = ModelError { message: format!("{name}{provider}: {}", error.message), ..error };
                Err(self.cool_down(&request.model, name, error))
            }
        }
    }

    /// Leaves a model alone that did not answer. Where another of the chain is ready, the next attempt need not wait.
    fn cool_down(&self, alias: &str, name: &str, error: ModelError) -> ModelError {
        if matches!(error.code, ErrorCode::ModelRejected | ErrorCode::ContextExceeded) {
            return error;
        }
        let now = self.clock.now();
        let asked = error.retry_after.and_then(|wait| SignedDuration::try_from(wait).ok());
        let until = now.checked_add(asked.unwrap_or(COOL_DOWN)).unwrap_or(now);
        self.lock_delays().insert(name.to_owned(), until);
        let cooling = self.lock_delays();
        let ready = |name: &str| cooling.get(name).is_none_or(|until| *until <= now);
        if self.fallback_chain(alias).any(ready) {
            tracing::warn!(
                model = name,
                alias,
                "a model does not answer; the next attempt goes to its fallback"
            );
            return ModelError { retry_after: Some(Duration::ZERO), ..error };
        }
        error
    }
}

impl LanguageModel for ModelRegistry {
    fn knows_alias(&self, alias: &str) -> bool {
        self.shared.adapters.contains_key(alias)
    }

    fn list_aliases(&self) -> Vec<String> {
        self.aliases().map(str::to_owned).collect()
    }

    fn context_window(&self, alias: &str) -> Option<u32> {
        self.shared.adapters.get(alias)?.context_window(alias)
    }

    fn route_alias(&self, alias: &str, facts: &RouteFacts<'_>) -> Option<String> {
        choose_alias(self.shared.routes.get(alias)?, facts).map(str::to_owned)
    }

    fn prepare_attempt(&self, request: &ModelRequest) -> Result<PreparedAttempt, ModelError> {
        self.shared.prepare_first_ready(request)
    }

    fn encode_request(&self, wording: &RequestEncoding, request: &ModelRequest) -> Result<Bytes, ModelError> {
        encoded_request::encode_request(wording, request, request.output_tokens_max)
    }

    fn call_model<'a>(
        &'a self,
        request: &'a ModelRequest,
        prepared: &'a PreparedAttempt,
        deltas: &'a dyn DeltaSink,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(self.shared.make_attempt(request, prepared, deltas))
    }
}

fn unknown_alias_error(alias: &str) -> ModelError {
    ModelError {
        code: ErrorCode::ModelRejected,
        message: format!(
            "there is no model with the alias {alias:?}; an operator sets one with `dromia model set \
             {alias}=PROVIDER/MODEL`"
        ),
        retry_after: None,
    }
}
