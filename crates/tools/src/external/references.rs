//! The references of a schema: each leads to a part of the schema itself, and none back to itself without a step into the value,
//! because a check by such a schema never ends.

use std::collections::BTreeMap;

use serde_json::Value;

/// The most subschemas that are applied to one value, counted as often as they are.
const APPLIED_MAX: u64 = 10_000;

/// Keywords whose subschemas apply to the very value.
const IN_PLACE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];

/// Says what is wrong with the references of a schema, if anything is.
pub(super) fn check_references(schema: &Value) -> Result<(), String> {
    let mut counts = BTreeMap::new();
    let mut left = vec![schema];
    while let Some(node) = left.pop() {
        if let Value::Object(fields) = node {
            if fields.get("$dynamicRef").or(fields.get("$recursiveRef")).is_some_and(Value::is_string) {
                return Err("write `$ref` in place of a dynamic reference".to_owned());
            }
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                let applied = count_applied(schema, reference, &mut counts)?;
                if applied > APPLIED_MAX {
                    return Err(format!("{reference} applies more than {APPLIED_MAX} schemas to one value"));
                }
            }
        }
        match node {
            Value::Object(fields) => left.extend(fields.values()),
            Value::Array(items) => left.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    Ok(())
}

/// Counts the subschemas that a reference applies to one value. `counts` holds what is known; nothing for what is being counted.
fn count_applied<'s>(
    schema: &'s Value,
    reference: &'s str,
    counts: &mut BTreeMap<&'s str, Option<u64>>,
) -> Result<u64, String> {
    match counts.get(reference) {
        Some(Some(known)) => return Ok(*known),
        Some(None) => return Err(format!("the reference {reference} leads back to itself")),
        None => {}
    }
    let target = reference.strip_prefix('#').and_then(|pointer| schema.pointer(pointer));
    let target = target.ok_or_else(|| {
        format!("the reference {reference} leads to no part of this schema; write #/$defs/NAME")
    })?;
    counts.insert(reference, None);
    let (mut applied, mut left) = (0_u64, vec![target]);
    while let Some(node) = left.pop() {
        applied = applied.saturating_add(1);
        let Value::Object(fields) = node else { continue };
        if let Some(next) = fields.get("$ref").and_then(Value::as_str) {
            applied = applied.saturating_add(count_applied(schema, next, counts)?);
        }
        for key in IN_PLACE {
            match fields.get(key) {
                Some(Value::Array(branches)) => left.extend(branches),
                Some(branch) => left.push(branch),
                None => {}
            }
        }
        if let Some(Value::Object(branches)) = fields.get("dependentSchemas") {
            left.extend(branches.values());
        }
    }
    counts.insert(reference, Some(applied));
    Ok(applied)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reference_that_never_ends_is_refused() {
        let doubling: serde_json::Map<String, Value> = (0..40)
            .map(|level| {
                let next = json!({"$ref": format!("#/$defs/a{}", level + 1)});
                (format!("a{level}"), json!({"allOf": [next, next]}))
            })
            .chain([("a40".to_owned(), json!({}))])
            .collect();
        for (schema, says) in [
            (json!({"properties": {"a": {"$ref": "#/properties/a"}}}), "leads back to itself"),
            (json!({"$ref": "#"}), "leads back to itself"),
            (
                json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}}),
                "leads back to itself",
            ),
            (json!({"$defs": doubling, "properties": {"x": {"$ref": "#/$defs/a0"}}}), "more than 10000"),
            (json!({"properties": {"a": {"$ref": "#/$defs/none"}}}), "leads to no part"),
            (json!({"properties": {"a": {"$ref": "https://example.com/s.json"}}}), "leads to no part"),
            (json!({"properties": {"a": {"$ref": "#anchor"}}}), "leads to no part"),
            (json!({"properties": {"a": {"$dynamicRef": "#a"}}}), "dynamic reference"),
        ] {
            let problem = check_references(&schema).expect_err(says);
            assert!(problem.contains(says), "{schema}: {problem}");
        }
    }

    #[test]
    fn a_reference_that_steps_into_the_value_is_taken() {
        let tree = json!({
            "properties": {"root": {"$ref": "#/$defs/node"}, "$ref": {"type": "string"}},
            "$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}, "all": {"items": {"$ref": "#"}}}}},
        });
        assert_eq!(check_references(&tree), Ok(()));
    }
}
