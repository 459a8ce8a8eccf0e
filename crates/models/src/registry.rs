//! The registry: alias to adapter.
//!
//! It is built once from resolved settings and never changes. An alias that nobody configured is a
//! `model_rejected`, not a fallback to some other model.

use std::collections::BTreeMap;
use std::sync::Arc;

use dromia_contracts::model::{Deltas, Model, ModelError, ModelReply, ModelRequest, Reservation};
use dromia_contracts::runtime::Clock;
use dromia_contracts::{BoxFuture, ErrorCode};

use crate::http::{HttpConfig, HttpError, HttpModel};
use crate::scripted::ScriptedModel;
use crate::tokens;

/// Resolved settings of every model of the node.
#[derive(Debug, Clone, Default)]
pub struct ModelsConfig {
    /// The provider of each alias; `scripted` is there even if it is not named.
    pub models: BTreeMap<String, Provider>,
}

/// Who answers under an alias.
#[derive(Debug, Clone)]
pub enum Provider {
    /// The built-in scripted model.
    Scripted,
    /// A server that is reached over HTTP.
    Http(HttpConfig),
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
}

/// Every configured model, found by its alias.
#[derive(Debug, Clone)]
pub struct Models {
    adapters: BTreeMap<String, Arc<dyn Model>>,
}

impl Models {
    /// Builds the adapters of all aliases; nothing is connected yet.
    pub fn new(config: ModelsConfig, clock: &Arc<dyn Clock>) -> Result<Self, ModelsError> {
        let scripted: Arc<dyn Model> = Arc::new(ScriptedModel::new(Arc::clone(clock)));
        let mut adapters = BTreeMap::from([(ScriptedModel::ALIAS.to_owned(), Arc::clone(&scripted))]);
        for (alias, provider) in config.models {
            let adapter: Arc<dyn Model> = match provider {
                Provider::Scripted => Arc::clone(&scripted),
                Provider::Http(settings) => match HttpModel::new(settings) {
                    Ok(adapter) => Arc::new(adapter),
                    Err(source) => return Err(ModelsError::Adapter { alias, source }),
                },
            };
            adapters.insert(alias, adapter);
        }
        Ok(Self { adapters })
    }

    /// Lists the aliases in order.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        self.adapters.keys().map(String::as_str)
    }
}

impl Model for Models {
    fn knows(&self, alias: &str) -> bool {
        self.adapters.contains_key(alias)
    }

    fn reserve(&self, request: &ModelRequest) -> Reservation {
        match self.adapters.get(&request.model) {
            Some(adapter) => adapter.reserve(request),
            // The call will be rejected before anything is sent, so it costs nothing.
            None => Reservation { input_tokens: tokens::estimate_request(request), micros: 0 },
        }
    }

    fn call<'a>(
        &'a self,
        request: &'a ModelRequest,
        deltas: &'a dyn Deltas,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        match self.adapters.get(&request.model) {
            Some(adapter) => adapter.call(request, deltas),
            None => Box::pin(std::future::ready(Err(ModelError {
                code: ErrorCode::ModelRejected,
                message: format!("no model is configured under the alias {:?}", request.model),
                retry_after: None,
            }))),
        }
    }
}
