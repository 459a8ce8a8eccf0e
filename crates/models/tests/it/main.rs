//! The adapters against a server that speaks the format, and against one that misbehaves.

mod canned;
mod openai;
mod registry;
mod scene;
mod scripted;
