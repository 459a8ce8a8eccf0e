//! A small check of a document against the part of JSON Schema that our own schemas use.

use serde_json::Value;

/// Says where a document is not what its schema says; nothing if it is.
pub(crate) fn mismatch(schema: &Value, document: &Value) -> Option<String> {
    at(schema, schema, document, "")
}

fn at(root: &Value, schema: &Value, value: &Value, path: &str) -> Option<String> {
    let wrong = |what: &str| Some(format!("{path}: {what}, found {value}"));
    let Value::Object(schema) = schema else {
        return if schema == &Value::Bool(false) { wrong("nothing is allowed") } else { None };
    };
    if let Some(named) = schema.get("$ref").and_then(Value::as_str) {
        let named = named.strip_prefix('#').expect("references are local");
        let named = root.pointer(named).unwrap_or_else(|| panic!("{path}: the schema has no {named}"));
        if let Some(found) = at(root, named, value, path) {
            return Some(found);
        }
    }
    for (word, all) in [("allOf", true), ("anyOf", false), ("oneOf", false)] {
        let Some(branches) = schema.get(word).and_then(Value::as_array) else { continue };
        let mut found = branches.iter().map(|branch| at(root, branch, value, path));
        let bad = if all { found.find_map(|found| found) } else { fewest(found) };
        if bad.is_some() {
            return bad;
        }
    }
    if let Some(expected) = schema.get("const").filter(|expected| *expected != value) {
        return wrong(&format!("must be {expected}"));
    }
    if let Some(expected) =
        schema.get("enum").filter(|all| !all.as_array().is_some_and(|all| all.contains(value)))
    {
        return wrong(&format!("must be one of {expected}"));
    }
    if let Some(expected) = schema.get("type").filter(|expected| !is_of_type(expected, value)) {
        return wrong(&format!("must be {expected}"));
    }
    match value {
        Value::Object(fields) => {
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            for name in required.filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    return wrong(&format!("has no {name}"));
                }
            }
            let known = schema.get("properties").and_then(Value::as_object);
            fields.iter().find_map(|(name, value)| {
                let path = format!("{path}/{name}");
                match known.and_then(|known| known.get(name)).or_else(|| schema.get("additionalProperties")) {
                    Some(schema) => at(root, schema, value, &path),
                    // Ours say every field they have, alternatives apart, which say their own.
                    None if known.is_some() => Some(format!("{path}: the schema does not know it")),
                    None => None,
                }
            })
        }
        Value::Array(items) => {
            let schema = schema.get("items")?;
            items
                .iter()
                .enumerate()
                .find_map(|(index, item)| at(root, schema, item, &format!("{path}/{index}")))
        }
        _ => None,
    }
}

/// None of the alternatives fits: tells the first one's reason. One that fits is enough.
fn fewest(found: impl Iterator<Item = Option<String>>) -> Option<String> {
    let mut reason = None;
    for found in found {
        let bad = found?;
        reason.get_or_insert(bad);
    }
    reason
}

fn is_of_type(expected: &Value, value: &Value) -> bool {
    match expected {
        Value::Array(any) => any.iter().any(|expected| is_of_type(expected, value)),
        Value::String(name) => match name.as_str() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => false,
        },
        _ => false,
    }
}

#[test]
fn a_document_of_another_shape_is_caught() {
    use serde_json::json;
    let schema = json!({
        "type": "object", "required": ["id"],
        "properties": { "id": { "type": "string" }, "next": { "type": ["string", "null"] },
                        "rows": { "type": "array", "items": { "$ref": "#/$defs/Row" } } },
        "$defs": { "Row": { "oneOf": [{ "const": "a" }, { "type": "integer" }] } },
    });
    assert_eq!(mismatch(&schema, &json!({"id": "x", "next": null, "rows": ["a", 1]})), None);
    for bad in [
        json!([]),
        json!({}),
        json!({"id": 1}),
        json!({"id": "x", "next": 1}),
        json!({"id": "x", "rows": ["b"]}),
        json!({"id": "x", "more": 1}),
    ] {
        assert!(mismatch(&schema, &bad).is_some(), "{bad}");
    }
}
