//! The scripted model: built in, offline, and a pure function of the conversation.
//!
//! It makes the whole system usable and testable without a provider, and says in every answer of its own that
//! it is no language model. Directives in the last input, one per line, are carried out in order:
//!
//! | line | what happens |
//! |---|---|
//! | `@tool NAME {json}` | asks for that call, the agent's or a client's; lines joined by a trailing ` &` are one step's parallel calls |
//! | `@slow 1500` | the next step's answer takes that many milliseconds |
//! | `@say TEXT` | ends the turn with that text |
//! | `@loop NAME {json}` | asks for that call for ever |
//! | `@fail unavailable\|rejected\|cut` | the attempt fails |
//!
//! It derives its progress from the units after the last input, so a crash between two steps changes nothing. After an
//! append whose outcome is `unknown` it looks before it acts again, and says what it found.

mod directive;
mod model;
mod play;

pub use directive::{ScriptDirective, ScriptStep, ScriptedCall, ScriptedFailure, parse_steps};
pub use model::ScriptedModel;
pub use play::{CallOutcome, Done, ScriptInput, ScriptMove, next_move, status_of, status_word};
