//! An example for every JSON body of the document, made from its schema: what must be there, and nothing else.
//!
//! An example is for readers, for mock servers and for generators. It names nothing that exists: its ids are zeros. What
//! the schema leaves open to another API has an example of its own beside the operation.

use serde_json::{Map, Value, json};

/// How deep references are followed.
const DEPTH_MAX: usize = 24;

/// Adds an example to every JSON body that has none.
pub(super) fn add_examples(document: &mut Value) {
    let components = document["components"]["schemas"].clone();
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        if let Some(body) = operation.get_mut("requestBody") {
            add_example(body, &components);
        }
        let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
        for response in responses.into_iter().flat_map(Map::values_mut) {
            add_example(response, &components);
        }
    }
}

fn add_example(body: &mut Value, components: &Value) {
    let contents = body.get_mut("content").and_then(Value::as_object_mut);
    for (media, content) in contents.into_iter().flatten() {
        let has_own = content.get("example").is_some();
        if has_own || !media.ends_with("json") {
            continue;
        }
        if let Some(schema) = content.get("schema") {
            content["example"] = example_of(schema, components, 0);
        }
    }
}

/// Makes a value that satisfies a schema, with what it requires and nothing else.
fn example_of(schema: &Value, components: &Value, depth: usize) -> Value {
    let Some(fields) = schema.as_object().filter(|fields| !fields.is_empty() && depth < DEPTH_MAX) else {
        return json!({});
    };
    if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
        let named = &components[name.rsplit('/').next().unwrap_or_default()];
        return example_of(named, components, depth + 1);
    }
    if let Some(value) = fields.get("const") {
        return value.clone();
    }
    if let Some(first) = fields.get("enum").and_then(|values| values.get(0)) {
        return first.clone();
    }
    let is_null = |schema: &&Value| schema["type"] == "null";
    let variants = fields.get("oneOf").or_else(|| fields.get("anyOf")).and_then(Value::as_array);
    let variant = variants.and_then(|variants| variants.iter().find(|schema| !is_null(schema)));
    let chosen = variant.map(|variant| example_of(variant, components, depth + 1));
    let own = typed_example(fields, components, depth);
    match (chosen, own) {
        (Some(Value::Object(mut chosen)), Value::Object(own)) => {
            chosen.extend(own);
            Value::Object(chosen)
        }
        (Some(chosen), _) => chosen,
        (None, own) => own,
    }
}

fn typed_example(fields: &Map<String, Value>, components: &Value, depth: usize) -> Value {
    let kind = fields.get("type").map_or("object", |kind| {
        let first = kind.as_array().and_then(|kinds| kinds.iter().find(|kind| *kind != "null"));
        first.unwrap_or(kind).as_str().unwrap_or("object")
    });
    match kind {
        "string" => string_example(fields),
        "integer" | "number" => fields.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        "boolean" => json!(true),
        "null" => Value::Null,
        "array" => {
            let most = fields.get("minItems").and_then(Value::as_u64).unwrap_or(0);
            let item = || example_of(fields.get("items").unwrap_or(&Value::Null), components, depth + 1);
            (0..most).map(|_| item()).collect()
        }
        _ => {
            let required = fields.get("required").and_then(Value::as_array).into_iter().flatten();
            let names = required.filter_map(Value::as_str);
            let properties = fields.get("properties").unwrap_or(&Value::Null);
            let named = |name: &str| (name.to_owned(), example_of(&properties[name], components, depth + 1));
            let mut made: Map<String, Value> = names.map(named).collect();
            let needs_one = fields.get("minProperties").is_some_and(|least| *least != 0);
            let first = properties.as_object().and_then(|all| all.iter().next());
            if let Some((name, schema)) = first.filter(|_| needs_one && made.is_empty()) {
                made.insert(name.clone(), example_of(schema, components, depth + 1));
            }
            Value::Object(made)
        }
    }
}

fn string_example(fields: &Map<String, Value>) -> Value {
    let pattern = fields.get("pattern").and_then(Value::as_str).unwrap_or_default();
    let id = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix("_[0-9a-f]{32}$"));
    match (id, pattern, fields.get("format").and_then(Value::as_str)) {
        (Some(prefix), ..) => json!(format!("{prefix}_{}", "0".repeat(32))),
        (_, "^[0-9a-f]{64}$", _) => json!("0".repeat(64)),
        (_, "^call_[0-9]+_[0-9]+$", _) => json!("call_1_0"),
        (_, pattern, _) if pattern.starts_with("^(bearer") => json!("bearer"),
        (_, _, Some("date-time")) => json!("2026-01-01T00:00:00Z"),
        (_, _, Some("uri-reference")) => json!("/docs#ErrorCode-invalid_request"),
        (_, _, Some("uuid")) => json!("00000000-0000-0000-0000-000000000000"),
        _ => json!("example"),
    }
}
