//! Adapters to language models behind the [`Model`](dromia_contracts::model::Model) port.
//!
//! [`Models`] finds the adapter of an alias. [`OpenAiChat`] speaks the chat completions format over HTTP;
//! [`ScriptedModel`] is built in, works offline and is a pure function of the transcript. An adapter makes one
//! attempt per call: retries, fallback and charging belong to the engine, which journals each attempt. This
//! crate reads no configuration file and no environment; it is given resolved settings.

pub mod openai;
pub mod scripted;
pub mod tokens;

mod registry;
mod secret;

pub use crate::openai::{OpenAiChat, OpenAiConfig, OpenAiError, OutputLimit, Price, Timeouts};
pub use crate::registry::{Models, ModelsConfig, ModelsError, Provider};
pub use crate::scripted::ScriptedModel;
pub use crate::secret::Secret;
