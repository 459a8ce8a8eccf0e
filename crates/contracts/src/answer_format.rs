//! The form that a client wants the last answer of a run in: JSON that satisfies a schema.
//!
//! A model reads of it in words, because every model knows those; nothing makes a model keep to it, so the engine
//! checks the answer and has it repaired. What the schema itself may be is decided where it is taken in.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The form of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerFormat {
    /// The client's name of it.
    pub name: String,
    /// The JSON Schema; if it is absent, any JSON object will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Whether the client wants a provider to enforce it. Not every schema can be enforced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
}

impl AnswerFormat {
    /// How often a model is asked to repair an answer of one run.
    pub const REPAIRS_MAX: u32 = 2;

    /// The rule by which an answer is withheld that does not satisfy its schema.
    pub const RULE: &str = "answer-schema";

    /// Returns the schema that an answer must satisfy.
    pub fn effective_schema(&self) -> Value {
        self.schema.clone().unwrap_or_else(|| json!({"type": "object"}))
    }

    /// Returns whether every object of the schema is closed, which providers demand that enforce a schema; `whole` says
    /// whether each property must be required, too.
    pub fn is_closed(&self, whole: bool) -> bool {
        self.schema.as_ref().is_some_and(|schema| is_closed(schema, whole))
    }

    /// Tells a model what is expected of it.
    pub fn instruction(&self) -> String {
        let begins = "Your last answer, the one without tool calls, must be exactly one JSON";
        match &self.schema {
            None => format!("{begins} object, without any text before or after it."),
            Some(schema) => format!(
                "{begins} value, without any text before or after it. It must satisfy this JSON Schema:\n{schema}"
            ),
        }
    }

    /// Asks a model for another answer; `violations` says what is wrong with the one before.
    pub fn repair_request(violations: &str) -> String {
        format!(
            "Your answer does not satisfy the JSON Schema that it was asked for, so it was not sent: {violations}. \
             Reply again with the whole corrected JSON value and nothing else."
        )
    }
}

fn is_closed(schema: &Value, whole: bool) -> bool {
    match schema {
        Value::Object(fields) => {
            let properties = fields.get("properties").and_then(Value::as_object);
            let is_object = properties.is_some() || fields.get("type").is_some_and(|kind| kind == "object");
            let required = fields.get("required").and_then(Value::as_array);
            let requires =
                |name: &String| required.is_some_and(|names| names.iter().any(|known| known == name));
            let is_whole = !whole || properties.is_none_or(|properties| properties.keys().all(requires));
            let is_shut = fields.get("additionalProperties") == Some(&Value::Bool(false));
            (!is_object || (is_shut && is_whole)) && fields.values().all(|value| is_closed(value, whole))
        }
        Value::Array(items) => items.iter().all(|item| is_closed(item, whole)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_schema_has_no_open_object_at_any_depth() {
        let of = |schema: Value| AnswerFormat { name: "a".into(), schema: Some(schema), strict: true };
        let inner = json!({"type": "object", "properties": {"b": {}}, "additionalProperties": false});
        let outer = |inner: &Value| json!({"type": "array", "items": {"anyOf": [inner]}});
        assert!(of(outer(&inner)).is_closed(false) && !of(outer(&inner)).is_closed(true));
        let mut whole = inner.clone();
        whole["required"] = json!(["b"]);
        assert!(of(outer(&whole)).is_closed(true));
        whole["additionalProperties"] = json!(true);
        assert!(!of(outer(&whole)).is_closed(false));
        assert!(!AnswerFormat { name: String::new(), schema: None, strict: false }.is_closed(false));
    }
}
