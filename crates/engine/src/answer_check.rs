//! Whether the last answer of a run has the form that its client asked for.
//!
//! A pure function of the schema and the answer: it reads no reference to another document, and its patterns take time in
//! proportion to the text. It may take longer than a worker should be kept, so its caller runs it beside the tasks.

use dromia_contracts::answer_format::AnswerFormat;
use jsonschema::PatternOptions;
use serde_json::Value;

/// How many violations are named, and how much of each: a violation quotes the answer.
const VIOLATIONS_MAX: usize = 8;
const VIOLATION_CHARS_MAX: usize = 200;

/// How often parts of an answer are looked at, and how deep one look leads into the next.
const VISITS_MAX: usize = 200_000;
const FRAMES_MAX: usize = 1_000;

/// What checking an answer gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AnswerCheck {
    /// It satisfies its schema; this is its JSON, without a fence around it.
    Fit(String),
    /// It does not; this is what is wrong, for the model.
    Unfit(String),
}

impl AnswerCheck {
    /// Checks an answer.
    pub(crate) fn of_answer(format: &AnswerFormat, answer: &str) -> Self {
        let json = strip_code_fence(answer.trim());
        let value: Value = match serde_json::from_str(json) {
            Ok(value) => value,
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                return Self::Unfit(format!(
                    "it is not one JSON value, from line {line}, column {column} on"
                ));
            }
        };
        let schema = format.effective_schema();
        let mut visits = VISITS_MAX;
        if spend_fuel(&schema, (&schema, &value), (FRAMES_MAX, &mut visits)).is_none() {
            return Self::Unfit("it is nested too deeply to be checked against its schema".to_owned());
        }
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex()).offline();
        let validator = match options.build(&schema) {
            Ok(validator) => validator,
            Err(error) => return Self::Unfit(shorten(&format!("its schema cannot be used: {error}"))),
        };
        let violations: Vec<_> = validator
            .iter_errors(&value)
            .take(VIOLATIONS_MAX)
            .map(|error| match error.instance_path().as_str() {
                "" => shorten(&error.to_string()),
                path => shorten(&format!("at {path}: {error}")),
            })
            .collect();
        if violations.is_empty() { Self::Fit(json.to_owned()) } else { Self::Unfit(violations.join("; ")) }
    }
}

/// Counts how often a validator would look at a part of an answer by a part of its schema; nothing where that is too often
/// or too deep. A recursive schema is bounded by the depth of the answer alone, and where two of its branches lead to the
/// same place, each level doubles the work.
fn spend_fuel(
    root: &Value,
    (schema, value): (&Value, &Value),
    (frames, left): (usize, &mut usize),
) -> Option<()> {
    *left = left.checked_sub(1)?;
    let frames = frames.checked_sub(1)?;
    let mut apply = |schema: &Value, value: &Value| spend_fuel(root, (schema, value), (frames, &mut *left));
    let fields = match schema {
        Value::Array(schemas) => return schemas.iter().try_for_each(|schema| apply(schema, value)),
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Some(()),
    };
    let within: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(members) => members.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    fields.iter().try_for_each(|(key, schema)| match (key.as_str(), schema) {
        ("$defs" | "definitions" | "const" | "enum" | "default" | "examples" | "propertyNames", _) => {
            Some(())
        }
        ("$ref", Value::String(target)) => match target.strip_prefix('#').and_then(|at| root.pointer(at)) {
            Some(named) => apply(named, value),
            None => Some(()),
        },
        ("dependentSchemas" | "dependencies", Value::Object(named)) => {
            named.values().try_for_each(|schema| apply(schema, value))
        }
        ("properties", Value::Object(named)) => named
            .iter()
            .try_for_each(|(name, schema)| value.get(name).map_or(Some(()), |value| apply(schema, value))),
        ("patternProperties", Value::Object(named)) => {
            named.values().try_for_each(|schema| within.iter().try_for_each(|value| apply(schema, value)))
        }
        (
            "items"
            | "prefixItems"
            | "contains"
            | "additionalItems"
            | "unevaluatedItems"
            | "additionalProperties"
            | "unevaluatedProperties",
            _,
        ) => within.iter().try_for_each(|value| apply(schema, value)),
        _ => apply(schema, value),
    })
}

/// Takes off the one code fence around a whole answer that many models cannot leave out.
fn strip_code_fence(answer: &str) -> &str {
    let inner = answer.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let Some((info, inner)) = inner.and_then(|inner| inner.split_once('\n')) else { return answer };
    let is_plain = matches!(info.trim(), "" | "json");
    if is_plain && !inner.contains("```") { inner.trim() } else { answer }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(VIOLATION_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn format() -> AnswerFormat {
        let schema =
            json!({"type": "object", "required": ["age"], "properties": {"age": {"type": "integer"}}});
        AnswerFormat { name: "person".into(), schema: Some(schema), strict: false }
    }

    #[test]
    fn only_json_that_satisfies_its_schema_is_fit() {
        let fit = |json: &str| AnswerCheck::Fit(json.to_owned());
        assert_eq!(AnswerCheck::of_answer(&format(), " {\"age\":3}\n"), fit("{\"age\":3}"));
        assert_eq!(AnswerCheck::of_answer(&format(), "```json\n{\"age\":3}\n```"), fit("{\"age\":3}"));
        for (answer, says) in [
            ("{\"age\":\"old\"}", "at /age: "),
            ("{}", "\"age\" is a required property"),
            ("She is 3.", "it is not one JSON value"),
            ("{\"age\":3} {\"age\":4}", "it is not one JSON value"),
            ("", "it is not one JSON value"),
        ] {
            let AnswerCheck::Unfit(problem) = AnswerCheck::of_answer(&format(), answer) else {
                panic!("{answer} was let pass")
            };
            assert!(problem.contains(says), "{problem}");
        }
        let any = AnswerFormat { name: String::new(), schema: None, strict: false };
        assert_eq!(AnswerCheck::of_answer(&any, "{}"), fit("{}"));
        assert!(matches!(AnswerCheck::of_answer(&any, "[]"), AnswerCheck::Unfit(_)));
    }

    #[test]
    fn a_schema_elsewhere_is_not_fetched() {
        let elsewhere = json!({"$ref": "https://example.com/schema.json"});
        let format = AnswerFormat { schema: Some(elsewhere), ..format() };
        assert!(matches!(AnswerCheck::of_answer(&format, "{}"), AnswerCheck::Unfit(_)));
    }

    #[test]
    fn a_recursive_schema_is_checked_at_every_level_and_bounded() {
        let tree = json!({
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        });
        let format = |schema: &Value| AnswerFormat { schema: Some(schema.clone()), ..format() };
        let good = r#"{"name":"a","children":[{"name":"b","children":[{"name":"c"}]}]}"#;
        assert_eq!(AnswerCheck::of_answer(&format(&tree), good), AnswerCheck::Fit(good.to_owned()));
        let bad = good.replace(r#""c""#, "3");
        let AnswerCheck::Unfit(problem) = AnswerCheck::of_answer(&format(&tree), &bad) else {
            panic!("{bad}")
        };
        assert!(problem.contains("at /children/0/children/0/name"), "{problem}");
        // Each level of an answer doubles what these two branches look at.
        let both = json!({"anyOf": [{"properties": {"a": {"$ref": "#"}, "b": false}}, {"properties": {"a": {"$ref": "#"}, "c": false}}]});
        let deep = |levels: usize| {
            (0..levels).fold(json!({"b": 1, "c": 1}), |inner, _| json!({"a": inner})).to_string()
        };
        assert!(
            matches!(AnswerCheck::of_answer(&format(&both), &deep(4)), AnswerCheck::Unfit(text) if !text.contains("deeply"))
        );
        let AnswerCheck::Unfit(problem) = AnswerCheck::of_answer(&format(&both), &deep(60)) else {
            panic!("it ended")
        };
        assert!(problem.contains("nested too deeply"), "{problem}");
    }
}
