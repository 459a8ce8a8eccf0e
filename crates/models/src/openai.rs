//! The adapter to servers of the OpenAI chat completions format: OpenAI itself, vLLM, llama.cpp, Ollama and
//! many gateways.
//!
//! One call is one attempt. It ends by its own deadlines: connecting, first byte, stall between two chunks, and
//! the whole. Dropping the future drops the connection, which cancels the request. No message holds a key or
//! an address; the proxy variables of the environment are not read and redirects are not followed, because a
//! key must reach only the host that the operator named.
//!
//! The deadlines use the async runtime's monotonic timer and not the port `Clock`: a jump of the wall clock
//! must neither cut a request nor let one hang.

mod adapter;
mod config;
mod failure;
pub mod names;
mod reply;
mod request;
pub mod sse;

pub use adapter::OpenAiChat;
pub use config::{OpenAiConfig, OpenAiError, OutputLimit, Price, Timeouts};
pub use request::result_parts;
