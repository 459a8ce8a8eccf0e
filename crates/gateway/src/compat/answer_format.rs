//! The form that a client wants its answer in, in the words of each API, and what a schema may be.
//!
//! A schema is one document: a reference elsewhere and one that unfolds to too much are refused, because each answer is
//! checked against it here. So is one that leads back to itself at the same place of an answer; deeper in the answer it may,
//! since an answer ends. So is what is no JSON Schema at all.

use dromia_contracts::TenantId;
use dromia_contracts::answer_format::AnswerFormat;
use jsonschema::PatternOptions;
use serde_json::Value;

use super::client_tools::{SCHEMA_DEPTH_MAX, nesting_depth};
use super::content::is_empty;
use super::field_error::invalid_field;
use crate::core::GatewayCore;
use crate::failure::Answer;

/// The longest schema, in bytes.
const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// The most values that a schema may have once each reference is replaced with what it names.
const UNFOLDED_MAX: usize = 20_000;

/// The longest name.
const NAME_CHARS_MAX: usize = 64;

/// Reads the form of an answer: nothing, text, any JSON object, or what satisfies a schema. The schema lies beside the type
/// or, for chat completions, in a map of its own.
pub(super) fn read_answer_format(field: &str, format: Option<&Value>) -> Answer<Option<AnswerFormat>> {
    let Some(format) = format.filter(|format| !is_empty(format)) else { return Ok(None) };
    match format["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(AnswerFormat { name: String::new(), schema: None, strict: false })),
        Some("json_schema") => {
            let (place, described) = match format.get("json_schema") {
                Some(inner) => (format!("{field}.json_schema"), inner),
                None => (field.to_owned(), format),
            };
            let place = format!("{place}.schema");
            let schema = described.get("schema").unwrap_or(&Value::Null);
            check_bounds(&place, schema)?;
            let name = described["name"].as_str().unwrap_or("answer");
            Ok(Some(AnswerFormat {
                name: name.chars().take(NAME_CHARS_MAX).collect(),
                schema: Some(schema.clone()),
                strict: described["strict"] == true,
            }))
        }
        _ => Err(invalid_field(&format!("{field}.type"), "it must be text, json_object or json_schema")),
    }
}

/// Checks what can be said of a schema without reading it as one.
fn check_bounds(place: &str, schema: &Value) -> Answer<()> {
    let wrong = |problem: String| Err(invalid_field(place, &problem));
    if !schema.is_object() {
        return wrong("a JSON Schema must be an object".to_owned());
    }
    if nesting_depth(schema) > SCHEMA_DEPTH_MAX {
        return wrong(format!("its nesting is deeper than {SCHEMA_DEPTH_MAX} levels"));
    }
    let bytes = schema.to_string().len();
    if bytes > SCHEMA_BYTES_MAX {
        return wrong(format!("it has {bytes} bytes, more than {SCHEMA_BYTES_MAX}"));
    }
    let mut left = UNFOLDED_MAX;
    match unfold(schema, schema, &mut vec![("", 0)], (0, &mut left)) {
        Ok(()) => Ok(()),
        Err(problem) => wrong(problem),
    }
}

/// Counts the values of a schema with each reference replaced once, as far as the count is left. `open` has the references
/// that lead here, each with how deep in the answer it was met.
fn unfold<'a>(
    root: &'a Value,
    schema: &'a Value,
    open: &mut Vec<(&'a str, usize)>,
    (deep, left): (usize, &mut usize),
) -> Result<(), String> {
    *left = left.checked_sub(1).ok_or("its references unfold to too many values")?;
    match schema {
        Value::Array(items) => items.iter().try_for_each(|item| unfold(root, item, open, (deep, &mut *left))),
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| match (key.as_str(), value) {
            ("$dynamicRef" | "$recursiveRef", _) => Err(format!("`{key}` is not supported; use `$ref`")),
            ("$ref", Value::String(target)) => {
                let pointer = target.strip_prefix('#');
                let named = pointer.and_then(|pointer| Some((pointer, root.pointer(pointer)?)));
                let (pointer, named) =
                    named.ok_or_else(|| format!("{target:?} names no part of this schema"))?;
                match open.iter().rev().find(|(known, _)| *known == pointer) {
                    Some((_, met)) if *met == deep => Err(format!(
                        "{target:?} leads back to itself at the same place of the answer; put it below a property or an item"
                    )),
                    Some(_) => Ok(()),
                    None => {
                        open.push((pointer, deep));
                        unfold(root, named, open, (deep, &mut *left))?;
                        open.pop();
                        Ok(())
                    }
                }
            }
            // What only references lead to counts where they do.
            ("$defs" | "definitions", _) => Ok(()),
            // Their names are names, whatever keyword they look like.
            (
                "properties" | "patternProperties" | "dependentSchemas" | "dependencies",
                Value::Object(named),
            ) => {
                let deep = deep + usize::from(key.ends_with("roperties"));
                named.values().try_for_each(|schema| unfold(root, schema, open, (deep, &mut *left)))
            }
            (
                "additionalProperties" | "unevaluatedProperties" | "items" | "prefixItems"
                | "additionalItems" | "unevaluatedItems" | "contains" | "propertyNames",
                _,
            ) => unfold(root, value, open, (deep + 1, &mut *left)),
            ("$id" | "id", Value::String(_)) if !std::ptr::eq(root, schema) => {
                Err(format!("`{key}` may only be at the top of a schema: references lead to parts of one document"))
            }
            _ => unfold(root, value, open, (deep, &mut *left)),
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Checks that a form's schema can be used. It may take long, so it is done beside the tasks.
pub(super) async fn check_answer_format(
    core: &GatewayCore,
    tenant: TenantId,
    (place, format): (&str, &AnswerFormat),
) -> Answer<()> {
    let schema = format.effective_schema();
    let built = core.ports.runtime.run_compute(tenant, move || {
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex()).offline();
        options
            .build(&schema)
            .map(|_| ())
            .map_err(|error| error.to_string().chars().take(200).collect::<String>())
    });
    match built.await {
        Some(Ok(())) => Ok(()),
        Some(Err(problem)) => Err(invalid_field(place, &format!("it is no JSON Schema: {problem}"))),
        None => Err(invalid_field(place, "it could not be read as a JSON Schema")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema_problem(schema: &Value) -> Option<String> {
        let format = json!({"type": "json_schema", "schema": schema});
        read_answer_format("text.format", Some(&format)).err().map(|failure| {
            assert_eq!(failure.field_path(), Some("text.format.schema"));
            failure.full_message()
        })
    }

    #[test]
    fn each_api_names_the_same_form_in_its_own_words() {
        let schema = json!({"type": "object"});
        let beside = json!({"type": "json_schema", "name": "a", "schema": schema, "strict": true});
        let within =
            json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": true}});
        let known = AnswerFormat { name: "a".into(), schema: Some(schema.clone()), strict: true };
        for format in [beside, within] {
            assert_eq!(read_answer_format("f", Some(&format)).expect("it is fine"), Some(known.clone()));
        }
        let unnamed = json!({"type": "json_schema", "schema": schema});
        let read = read_answer_format("f", Some(&unnamed)).expect("it is fine").expect("a form");
        assert_eq!((read.name.as_str(), read.strict), ("answer", false));
        let object = read_answer_format("f", Some(&json!({"type": "json_object"}))).expect("it is fine");
        assert_eq!(object.expect("a form").schema, None);
        for nothing in [json!({"type": "text"}), json!(null), json!({})] {
            assert_eq!(read_answer_format("f", Some(&nothing)).expect("it is fine"), None);
        }
        let refused = read_answer_format("f", Some(&json!({"type": "grammar"}))).expect_err("no such form");
        assert_eq!(refused.field_path(), Some("f.type"));
    }

    #[test]
    fn a_schema_is_bounded_and_one_document() {
        let deep = (0..SCHEMA_DEPTH_MAX).fold(json!({}), |inner, _| json!({"not": inner}));
        let long = json!({"description": "x".repeat(SCHEMA_BYTES_MAX)});
        let twice = |name: &str| json!({"allOf": [{"$ref": format!("#/$defs/{name}")}, {"$ref": format!("#/$defs/{name}")}]});
        let names: Vec<_> = (0..30).map(|at| format!("n{at}")).collect();
        let defs: serde_json::Map<_, _> =
            names.iter().zip(&names[1..]).map(|(name, next)| (name.clone(), twice(next))).collect();
        let mut flood = json!({"$ref": "#/$defs/n0", "$defs": defs});
        flood["$defs"]["n29"] = json!({"type": "string"});
        for (schema, says) in [
            (json!([]), "must be an object"),
            (deep, "nesting"),
            (long, "bytes"),
            (json!({"$ref": "https://example.com/s.json"}), "names no part of this schema"),
            (json!({"anyOf": [{"$ref": "#"}]}), "leads back to itself at the same place"),
            (
                json!({"$defs": {"A": {"not": {"$ref": "#/$defs/A"}}}, "items": {"$ref": "#/$defs/A"}}),
                "leads back",
            ),
            (json!({"$dynamicRef": "#a"}), "not supported"),
            (json!({"dependentSchemas": {"items": {"$ref": "#"}}}), "leads back to itself at the same place"),
            (json!({"dependentSchemas": {"$defs": {"$ref": "#"}}}), "leads back to itself at the same place"),
            (json!({"not": {"$id": "https://b", "$ref": "#/x"}, "x": {}}), "only be at the top"),
            (flood, "unfold to too many"),
        ] {
            let problem = schema_problem(&schema).unwrap_or_else(|| panic!("it was let pass: {says}"));
            assert!(problem.contains(says), "{problem}");
        }
        let fine = json!({"$defs": {"P": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/P"}, "b": {"$ref": "#/$defs/P"}}});
        assert_eq!(schema_problem(&fine), None);
        let tree = json!({"properties": {"children": {"type": "array", "items": {"$ref": "#"}}, "left": {"$ref": "#"}}});
        assert_eq!(schema_problem(&tree), None);
        let list = json!({"$defs": {"L": {"properties": {"next": {"anyOf": [{"$ref": "#/$defs/L"}, {"type": "null"}]}}}}, "$ref": "#/$defs/L"});
        assert_eq!(schema_problem(&list), None);
    }
}
