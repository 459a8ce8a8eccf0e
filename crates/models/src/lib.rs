//! Adapters to language models behind the [`Model`](dromia_contracts::model::Model) port.
//!
//! [`Models`] finds the adapter of an alias. [`HttpModel`] reaches a server in one of three wire formats;
//! [`ScriptedModel`] is built in, works offline and is a pure function of the transcript. An adapter makes one
//! attempt per call: retries, fallback and charging belong to the engine, which journals each attempt. This
//! crate reads no configuration file and no environment; it is given resolved settings.

pub mod chat;
pub mod http;
pub mod known;
pub mod names;
pub mod scripted;
pub mod tokens;
pub mod window;

mod anthropic;
mod letter;
mod picture;
mod registry;
mod responses;
mod secret;

pub use crate::http::{
    Format, HttpConfig, HttpError, HttpModel, KeysOf, OutputLimit, Price, Timeouts, VaultKey,
};
pub use crate::known::KnownModels;
pub use crate::registry::{Models, ModelsConfig, ModelsError, Provider};
pub use crate::scripted::ScriptedModel;
pub use crate::secret::Secret;
pub use crate::window::Window;
