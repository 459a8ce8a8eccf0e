//! Schemas in words that generators and linters of other languages know: no schema that is `true`, and no choice among
//! constants where a list of values says the same. What each value means moves to a member of its own.

use serde_json::{Map, Value, json};

/// The members that hold one schema.
const ONE: [&str; 6] = ["schema", "items", "additionalProperties", "not", "contains", "propertyNames"];
/// The members that hold a list of schemas.
const LISTS: [&str; 4] = ["anyOf", "oneOf", "allOf", "prefixItems"];
/// The members that hold schemas by name.
const MAPS: [&str; 3] = ["properties", "patternProperties", "schemas"];

/// Rewrites every schema of a document.
pub(super) fn simplify_schemas(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in &mut *fields {
                let key = key.as_str();
                let schemas: Vec<&mut Value> = match inner {
                    Value::Bool(true) if ONE.contains(&key) => vec![inner],
                    Value::Array(list) if LISTS.contains(&key) => list.iter_mut().collect(),
                    Value::Object(map) if MAPS.contains(&key) => map.values_mut().collect(),
                    _ => Vec::new(),
                };
                for schema in schemas.into_iter().filter(|schema| **schema == Value::Bool(true)) {
                    *schema = json!({});
                }
            }
            list_constants(fields);
            fields.values_mut().for_each(simplify_schemas);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify_schemas),
        _ => {}
    }
}

/// Turns a choice among constants of one type into the list of them.
fn list_constants(fields: &mut Map<String, Value>) {
    let Some(choices) = fields.get("oneOf").and_then(Value::as_array) else { return };
    let (mut values, mut meanings) = (Vec::new(), Map::new());
    for choice in choices {
        let known = match (choice.get("const"), choice.get("enum").and_then(Value::as_array)) {
            (Some(value), _) => vec![value.clone()],
            (None, Some(listed)) => listed.clone(),
            (None, None) => return,
        };
        if !known.iter().all(Value::is_string) {
            return;
        }
        if let (Some(means), [Value::String(value)]) = (choice.get("description"), known.as_slice()) {
            meanings.insert(value.clone(), means.clone());
        }
        values.extend(known);
    }
    fields.remove("oneOf");
    fields.insert("type".to_owned(), json!("string"));
    fields.insert("enum".to_owned(), Value::Array(values));
    if !meanings.is_empty() {
        fields.insert("x-enum-descriptions".to_owned(), Value::Object(meanings));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_among_constants_become_lists_and_true_becomes_empty() {
        let mut document = json!({"schema": true, "required": true, "schemas": {"A": true, "B": {
            "oneOf": [{"const": "a", "type": "string", "description": "An a."}, {"enum": ["b", "c"], "type": "string"}],
        }, "C": {"oneOf": [{"const": "a"}, {"type": "object"}]}}});
        simplify_schemas(&mut document);
        assert_eq!((&document["schema"], &document["required"]), (&json!({}), &json!(true)));
        let listed =
            json!({"type": "string", "enum": ["a", "b", "c"], "x-enum-descriptions": {"a": "An a."}});
        assert_eq!((&document["schemas"]["A"], &document["schemas"]["B"]), (&json!({}), &listed));
        assert!(document["schemas"]["C"].get("oneOf").is_some(), "it is more than constants");
    }
}
