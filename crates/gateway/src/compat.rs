//! The routes of other APIs, so that any OpenAI or Anthropic client can be pointed at this server: the model it names
//! is an agent's handle or id.
//!
//! One request is one input, stored in one commit like an event: the client's history travels inside the item. A
//! request without a session opens one of its own; with one, only its last message is taken. What the client says
//! that others said is a claim and labelled so, and its system text is the actor's text in front of the conversation:
//! it never takes the place of the agent's own.
//!
//! A client's own tools travel with the input, and a call to one ends the run: nothing of it runs here.
//!
//! Reading order: [`dialect`] (how failures look), [`other_fields`] (what no route reads), [`content`], [`image`] and
//! [`history`] (from messages to turns), [`client_tools`] and [`tool_names`] (a client's own tools), [`answer_format`] (the form of its answer), [`compat_request`] (what they
//! become), [`known_conversations`] and [`earlier_answers`] (which session holds a past that a client sends or names),
//! [`submission`], [`picture_fetch`] and [`turn`] (from a request to a run, and back), [`run_listener`] and [`run_answer`] (what a run says), then one
//! file per API.

mod answer_format;
mod client_tools;
mod compat_request;
mod content;
mod dialect;
mod earlier_answers;
mod field_error;
mod history;
mod image;
mod known_conversations;
mod other_fields;
mod picture_fetch;
mod request_heads;
mod run_answer;
mod run_listener;
mod submission;
mod tool_names;
mod turn;

pub(crate) mod chat;
pub(crate) mod messages;
pub(crate) mod models;
pub(crate) mod responses;

pub use self::dialect::Dialect;
pub(crate) use self::known_conversations::ConversationCache;
