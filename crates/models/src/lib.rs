//! Adapters to language models behind the [`LanguageModel`](dromia_contracts::model::LanguageModel) port.
//!
//! [`ModelRegistry`] finds the adapter of an alias. [`HttpModel`] reaches a server in one of three wire formats;
//! [`ScriptedModel`] is built in, works offline and is a pure function of the transcript. An adapter makes one
//! attempt per call: retries, fallback and charging belong to the engine, which journals each attempt. This
//! crate reads no configuration file and no environment; it is given resolved settings.

pub mod built_in;
pub mod chat;
pub mod context_window;
pub mod http;
pub mod names;
pub mod scripted;
pub mod tokens;

mod anthropic;
mod encoded_request;
mod image;
mod registry;
mod responses;
mod secret;
mod sent_turns;
mod unusable;

pub use crate::built_in::KnownModels;
pub use crate::context_window::ContextWindow;
pub use crate::http::{
    HttpConfig, HttpError, HttpModel, HttpTimeouts, KeysOf, OutputLimit, TokenPrice, VaultKey, WireFormat,
};
pub use crate::registry::{ModelProvider, ModelRegistry, ModelsConfig, ModelsError};
pub use crate::scripted::ScriptedModel;
pub use crate::secret::ProviderApiKey;
