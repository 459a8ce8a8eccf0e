//! The arguments of an external tool: checked against the operator's schema, and put into canonical form.
//!
//! Invariant: equal arguments have equal bytes. Keys are sorted at every depth; a key that occurs twice is refused;
//! what the schema does not name is refused too, unless it says `additionalProperties` itself. Patterns are matched in
//! time that is linear in the text, whatever they are.

use std::collections::BTreeMap;
use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::references::check_references;
use crate::arguments::REQUEST_BYTES_MAX;

/// The longest schema, as it is sent: every byte of it is sent with every request to a model.
const SCHEMA_BYTES_MAX: usize = 16 << 10;
/// How many characters of a problem are shown; it quotes the arguments.
const PROBLEM_CHARS_MAX: usize = 200;

/// A schema that arguments are checked against.
#[derive(Debug, Clone)]
pub(super) struct ArgumentSchema {
    validator: Validator,
}

impl ArgumentSchema {
    /// Compiles a schema; also returns it in the form that models get.
    pub(super) fn new(written: BTreeMap<String, Value>) -> Result<(Self, Value), String> {
        let mut schema: Map<String, Value> = written.into_iter().collect();
        if schema.get("type").is_some_and(|kind| kind != "object") {
            return Err("arguments must be an object; write `type: object` or leave it out".to_owned());
        }
        schema.insert("type".to_owned(), Value::from("object"));
        let properties = schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
        if !properties.is_object() {
            return Err("`properties` must give each argument a schema".to_owned());
        }
        schema.entry("additionalProperties").or_insert(Value::Bool(false));
        let schema = Value::Object(schema);
        let bytes = schema.to_string().len();
        if bytes > SCHEMA_BYTES_MAX {
            return Err(format!("the schema has {bytes} bytes; at most {SCHEMA_BYTES_MAX} are allowed"));
        }
        check_references(&schema)?;
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex()).offline();
        let validator = options.build(&schema).map_err(|error| {
            let place = match error.instance_path().as_str() {
                "" => "at its top".to_owned(),
                path => format!("at {path}"),
            };
            format!("{place}: this is not a JSON Schema: {}", shorten_problem(&error.to_string()))
        })?;
        Ok((Self { validator }, schema))
    }

    /// Puts arguments into canonical form; says what is wrong, and where.
    pub(super) fn canonical_arguments(&self, arguments: &str) -> Result<String, String> {
        // Some models send nothing at all where a tool needs no argument.
        let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
        if arguments.len() > REQUEST_BYTES_MAX {
            return Err(format!("{} bytes are more than the {REQUEST_BYTES_MAX} allowed", arguments.len()));
        }
        let SortedValue(value) = serde_json::from_str(arguments).map_err(|error| error.to_string())?;
        if !value.is_object() {
            return Err("expected a JSON object".to_owned());
        }
        if let Some(error) = self.validator.iter_errors(&value).next() {
            let problem = shorten_problem(&error.to_string());
            return Err(match error.instance_path().as_str() {
                "" => problem,
                path => format!("at {path}: {problem}"),
            });
        }
        serde_json::to_string(&value).map_err(|error| error.to_string())
    }
}

fn shorten_problem(problem: &str) -> String {
    problem.chars().filter(|c| !c.is_control()).take(PROBLEM_CHARS_MAX).collect()
}

/// A JSON value whose keys are sorted, each of which occurs there once.
struct SortedValue(Value);

impl<'de> Deserialize<'de> for SortedValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SortedValueVisitor).map(Self)
    }
}

struct SortedValueVisitor;

impl<'de> Visitor<'de> for SortedValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is too large"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(SortedValue(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut sorted = BTreeMap::new();
        while let Some((key, SortedValue(value))) = entries.next_entry::<String, SortedValue>()? {
            let shown: String = key.chars().take(64).collect();
            if sorted.insert(key, value).is_some() {
                return Err(de::Error::custom(format!("the key {shown:?} appears twice")));
            }
        }
        Ok(Value::Object(sorted.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shape(schema: Value) -> Result<ArgumentSchema, String> {
        let written = serde_json::from_value(schema).expect("an object");
        ArgumentSchema::new(written).map(|(shape, _)| shape)
    }

    fn pay() -> ArgumentSchema {
        let schema = json!({
            "properties": {
                "recipient": {"type": "string", "pattern": "^[A-Z]{2}[0-9]+$"},
                "amount": {"type": "number", "exclusiveMinimum": 0},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "how": {"$ref": "#/$defs/How"},
            },
            "required": ["recipient", "amount"],
            "$defs": {"How": {"enum": ["now", "later"]}},
        });
        shape(schema).expect("a schema")
    }

    #[test]
    fn equal_arguments_have_equal_bytes() {
        let shape = pay();
        let canonical = r#"{"amount":1.5,"how":"now","note":null,"recipient":"DE1"}"#;
        for same in
            [canonical, r#" { "recipient" : "DE1", "note":null,"how":"\u006eow", "amount" : 15e-1 } "#]
        {
            assert_eq!(shape.canonical_arguments(same).as_deref(), Ok(canonical));
        }
        assert_eq!(shape.canonical_arguments(canonical).as_deref(), Ok(canonical));
        let open = ArgumentSchema::new(
            serde_json::from_value(json!({"additionalProperties": true})).expect("an object"),
        );
        let (open, told) = open.expect("a schema");
        assert_eq!(told["type"], "object");
        assert_eq!(
            open.canonical_arguments(r#"{"b":{"d":1,"c":[{"z":1,"y":2}]},"a":2}"#).as_deref(),
            Ok(r#"{"a":2,"b":{"c":[{"y":2,"z":1}],"d":1}}"#)
        );
    }

    #[test]
    fn unfit_external_arguments_are_refused_with_their_place() {
        let shape = pay();
        for (arguments, says) in [
            ("[]", "expected a JSON object"),
            ("1", "expected a JSON object"),
            ("{", "EOF"),
            ("{} {}", "trailing characters"),
            ("", "\"recipient\" is a required property"),
            (r#"{"recipient":"DE1"}"#, "\"amount\" is a required property"),
            (r#"{"recipient":"DE1","amount":0}"#, "at /amount: "),
            (r#"{"recipient":"de","amount":1}"#, "at /recipient: "),
            (r#"{"recipient":"DE1","amount":1,"how":"never"}"#, "at /how: "),
            (r#"{"recipient":"DE1","amount":1,"to":"x"}"#, "'to' was unexpected"),
            (r#"{"recipient":"DE1","amount":1,"amount":2}"#, "the key \"amount\" appears twice"),
        ] {
            let problem = shape.canonical_arguments(arguments).expect_err(arguments);
            assert!(problem.contains(says), "{arguments}: {problem}");
        }
        let long = format!("{{\"recipient\":\"{}\"}}", "x".repeat(REQUEST_BYTES_MAX));
        assert!(shape.canonical_arguments(&long).expect_err("too long").contains("allowed"));
    }

    #[test]
    fn a_schema_is_an_objects_and_refers_to_nothing_outside() {
        for (schema, says) in [
            (json!({"type": "array"}), "arguments must be an object"),
            (json!({"properties": []}), "must give each argument a schema"),
            (json!({"properties": {"a": {"type": "texts"}}}), "not a JSON Schema"),
            (
                json!({"properties": {"a": {"$ref": "https://example.com/s.json"}}}),
                "leads to no part of this schema",
            ),
            (json!({"properties": {"a": {"pattern": "(?=x)"}}}), "not a JSON Schema"),
            (json!({"title": "x".repeat(SCHEMA_BYTES_MAX)}), "the schema has"),
        ] {
            let problem = shape(schema).expect_err(says);
            assert!(problem.contains(says), "{problem}");
        }
    }
}
