//! The OpenAI chat completions format: how a request is written and how an answer is read.

pub(crate) mod reply;
pub(crate) mod request;

pub use request::result_parts;
