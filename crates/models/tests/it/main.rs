//! The adapters against a server that speaks the format, and against one that misbehaves.

#![expect(clippy::unwrap_used, reason = "a test may fail at once, in its helpers too")]

mod canned;
mod formats;
mod openai;
mod registry;
mod scene;
mod scripted;
