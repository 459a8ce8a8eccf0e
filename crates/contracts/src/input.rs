//! The body of an input item: what was said, and what its sender says was said before.
//!
//! Two forms, each read for ever. An input without a past is stored as its [`InputMessage`] alone, as it always was;
//! one with a past says `version` 2 first. A program of before refuses that form, holds the run and loses nothing.

use serde::{Deserialize, Serialize};

use crate::content::InputMessage;
use crate::transcript::Turn;

/// What an input item holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputBody {
    /// What was said before, as the sender tells it, in whole units.
    pub history: Vec<Turn>,
    /// What is said now.
    pub message: InputMessage,
}

/// The form of a body with a past. The version comes first: it is how the form is told apart.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithPast {
    version: u32,
    history: Vec<Turn>,
    message: InputMessage,
}

/// The same, borrowed for writing.
#[derive(Serialize)]
struct WithPastRef<'a> {
    version: u32,
    history: &'a [Turn],
    message: &'a InputMessage,
}

const VERSION: u32 = 2;

/// How a body with a past begins; no [`InputMessage`] has such a field.
const MARK: &[u8] = br#"{"version":"#;

impl InputBody {
    /// Writes the body.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        if self.history.is_empty() {
            return serde_json::to_vec(&self.message);
        }
        serde_json::to_vec(&WithPastRef { version: VERSION, history: &self.history, message: &self.message })
    }

    /// Reads a body of any form that this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        if !bytes.starts_with(MARK) {
            return Ok(Self { history: Vec::new(), message: serde_json::from_slice(bytes)? });
        }
        let WithPast { version, history, message } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            let text = format!("this version knows no input of version {version}");
            return Err(serde::de::Error::custom(text));
        }
        Ok(Self { history, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{AssistantMessage, Part};
    use crate::label::Label;
    use crate::scope::Actor;
    use crate::transcript::OpenUnit;

    fn message(text: &str) -> InputMessage {
        InputMessage {
            author: Actor::new("cli:ada"),
            parts: vec![Part::text(text, Label::ACTOR_TEXT)],
            hops: 0,
        }
    }

    #[test]
    fn an_input_without_a_past_keeps_the_bytes_it_always_had() {
        let old = r#"{"author":"cli:ada","parts":[{"type":"text","text":"hi","label":"trusted/actor"}]}"#;
        let body = InputBody::decode(old.as_bytes()).expect("the form of before is read");
        assert_eq!(body, InputBody { history: vec![], message: message("hi") });
        assert_eq!(body.encode().expect("it is JSON"), old.as_bytes());
    }

    #[test]
    fn a_past_comes_back_in_whole_units_and_a_program_of_before_refuses_it() {
        let said = AssistantMessage { parts: vec![Part::text("hello", Label::CLAIM)], calls: vec![] };
        let unit = OpenUnit::new(said).close().expect("it has no calls");
        let history = vec![Turn::Input(message("hi")), Turn::Unit(unit)];
        let body = InputBody { history, message: message("and now?") };
        let bytes = body.encode().expect("it is JSON");
        assert!(bytes.starts_with(MARK));
        assert_eq!(InputBody::decode(&bytes).expect("it was just written"), body);
        assert!(serde_json::from_slice::<InputMessage>(&bytes).is_err());
    }

    #[test]
    fn a_version_of_tomorrow_and_an_orphaned_call_are_refused() {
        let newer = r#"{"version":3,"history":[],"message":{"author":"a","parts":[]}}"#;
        let error = InputBody::decode(newer.as_bytes()).expect_err("version 3 does not exist");
        assert!(error.to_string().contains("version 3"), "{error}");
        let torn = r#"{"version":2,"history":[{"role":"unit","message":{"calls":[{"id":"call_1_0","tool":"t","arguments":"{}"}]}}],"message":{"author":"a","parts":[]}}"#;
        let error = InputBody::decode(torn.as_bytes()).expect_err("the call has no result");
        assert!(error.to_string().contains("call_1_0 has no result"), "{error}");
    }
}
