//! The OpenAI responses format: how a request is written and how an answer is read.

pub(crate) mod reply;
pub(crate) mod request;
