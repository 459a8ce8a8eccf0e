//! The fields of a request that its route does not read: which are passed over, and which are refused by their names.
//!
//! A field that no route knows yet may be passed over as long as the answer stays an answer to the same conversation. What
//! may stand for earlier turns, or change which of them are sent, is refused: a client that sends only what is new would
//! get an answer without its past, and no error.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::content::is_empty;
use crate::failure::{Answer, ApiError};

/// A field that would change the meaning of the answer and is not done here, or one within a field, and the values that
/// ask for nothing.
pub(super) type FieldRule = (&'static str, fn(&Value) -> bool);

/// What to do instead of what a field asks for; the others have no way on but to be left out.
fn way_on(field: &str) -> &'static str {
    match field {
        "n" => "send the request as often as you want answers",
        "functions" | "function_call" => "declare functions as `tools`, and choose with `tool_choice`",
        "background" => "stream the answer, or send the input to POST /v1/events without waiting",
        "mcp_servers" | "web_search_options" => "give the agent tools on the server: `dromia tool list`",
        "conversation" => "continue with `previous_response_id` or the header X-Dromia-Session",
        "prompt" => "write the instructions into `instructions` or into the agent",
        "compaction" => "leave it out: the server leaves out what does not fit the model's window",
        _ => "leave it out; an agent's answer has nothing of it",
    }
}

/// What a name contains that may stand for earlier turns.
const PAST_PARTS: [&str; 7] =
    ["previous", "conversation", "thread", "session", "history", "compaction", "prefill"];

/// What a name is that may stand for earlier turns.
const PAST_NAMES: [&str; 6] =
    ["messages", "input", "items", "prompt", "parent_message_id", "parentmessageid"];

/// The fields that a route does not read, by their names.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct OtherFields(BTreeMap<String, Value>);

impl OtherFields {
    /// Takes a field that is read after all.
    pub(super) fn take(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field)
    }

    /// Refuses what the rules name, and whatever may stand for earlier turns.
    pub(super) fn refuse_unsupported(&self, rules: &[FieldRule]) -> Answer<()> {
        for (field, means_nothing) in rules {
            let value = match field.split_once('.') {
                Some((outer, inner)) => self.0.get(outer).and_then(|value| value.get(inner)),
                None => self.0.get(*field),
            };
            if value.is_some_and(|value| !value.is_null() && !means_nothing(value)) {
                let text = format!("this value of `{field}` is not supported");
                return Err(ApiError::invalid_request(text).at_field(*field).with_hint(way_on(field)));
            }
        }
        let is_known = |field: &str| rules.iter().any(|(known, _)| *known == field);
        let past =
            self.0.iter().find(|(field, value)| may_hold_past(field) && !is_known(field) && !is_empty(value));
        let Some((field, _)) = past else { return Ok(()) };
        let text = format!(
            "`{field}` may stand for earlier turns of the conversation, and this route does not know it"
        );
        let hint = "send the whole conversation, or continue its session with the header X-Dromia-Session";
        Err(ApiError::invalid_request(text).at_field(field.as_str()).with_hint(hint))
    }
}

fn may_hold_past(field: &str) -> bool {
    let field = field.to_ascii_lowercase();
    PAST_NAMES.contains(&field.as_str()) || PAST_PARTS.iter().any(|part| field.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn others(value: Value) -> OtherFields {
        serde_json::from_value(value).expect("it is a map")
    }

    const RULES: &[FieldRule] = &[("n", |n| *n == 1), ("audio", is_empty)];

    #[test]
    fn a_field_that_asks_for_nothing_is_let_pass() {
        for nothing in [json!(null), json!([]), json!({}), json!(""), json!(false)] {
            assert!(others(json!({"audio": nothing, "thread": nothing})).refuse_unsupported(RULES).is_ok());
        }
        let refused = others(json!({"audio": ["x"]})).refuse_unsupported(RULES).expect_err("it asks");
        assert_eq!(refused.field_path(), Some("audio"));
    }

    #[test]
    fn only_fields_that_cannot_hold_the_past_are_passed_over() {
        for known in
            ["metadata", "thinking", "context_management", "prompt_cache_key", "store", "tomorrow", "user"]
        {
            let others = others(json!({known: {"mode": "on"}}));
            assert!(others.refuse_unsupported(RULES).is_ok(), "{known}");
        }
        for past in [
            "previous_turn_id",
            "conversationId",
            "thread",
            "session_id",
            "chat_history",
            "messages",
            "prompt",
        ] {
            let others = others(json!({past: {"mode": "on"}}));
            let refused = others.refuse_unsupported(RULES).expect_err(past);
            assert_eq!(refused.field_path(), Some(past));
        }
    }

    /// Planted fault: a field that nobody knows is passed over. A request that names its past in one is then answered
    /// without it.
    #[test]
    fn a_past_that_is_passed_over_is_caught() {
        let sent = json!({"thread": {"type": "continue", "previous_message_id": "msg_1"}});
        let pass_over = |_: &Value| Ok::<_, ApiError>(());
        assert!(pass_over(&sent).is_ok(), "nothing notices it");
        assert!(others(sent).refuse_unsupported(RULES).is_err());
    }
}
