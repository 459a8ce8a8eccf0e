//! The texts and numbers in a JSON value.

use serde_json::Value;

/// Lists the texts and numbers in a value.
pub(crate) fn collect_leaves(value: &Value, leads: &mut Vec<String>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => leads.push(number.to_string()),
        Value::String(text) => leads.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| collect_leaves(value, leads)),
        Value::Object(fields) => fields.values().for_each(|value| collect_leaves(value, leads)),
    }
}
