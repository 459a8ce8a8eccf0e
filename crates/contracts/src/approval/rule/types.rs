//! Whether what a rule says of an argument is of a type that its tool takes: a text never matches a list.
//!
//! It looks at the types that the JSON Schema of the arguments names, and at nothing else of it. Where the schema names none,
//! any value may be there, and nothing is refused.

use serde_json::Value;

use super::{ArgumentPattern, ParsedRule};
use crate::approval::RuleRejection;

impl ParsedRule {
    /// Says which argument is never what the rule says of it, by the JSON Schema of the tool's arguments, and what to write
    /// instead.
    pub fn find_mistyped(&self, parameters: &Value) -> Option<RuleRejection> {
        let properties = parameters.get("properties")?;
        self.arguments.iter().find_map(|(name, wanted)| {
            let schema = properties.get(name)?;
            if wanted.may_be(schema) {
                return None;
            }
            let taken = schema_types(schema).unwrap_or_default();
            let kinds: Vec<&str> = taken.iter().map(|kind| type_name(kind)).collect();
            let said = match wanted {
                ArgumentPattern::Same(Value::Array(_)) if taken.contains(&"array") => {
                    "has other elements than the rule names".to_owned()
                }
                wanted => format!("is {}, which {} never is", kinds.join(" or "), wanted.describe_pattern()),
            };
            let problem = format!("{name} of {} {said}, so the rule would match no call", self.tool);
            let first = taken.iter().find(|kind| **kind != "null").or(taken.first());
            Some(RuleRejection { problem, hint: first.map(|kind| suggest_spelling(name, kind, schema)) })
        })
    }
}

impl ArgumentPattern {
    /// Returns whether some value that a schema takes may be what is wanted.
    fn may_be(&self, schema: &Value) -> bool {
        match self {
            Self::Like(text) => is_taken(&Value::from(text.as_str()), schema),
            Self::Same(value) => is_taken(value, schema),
        }
    }

    /// What it is, in words.
    fn describe_pattern(&self) -> String {
        match self {
            Self::Like(_) | Self::Same(Value::String(_)) => "a text".to_owned(),
            Self::Same(Value::Null) => "null".to_owned(),
            Self::Same(Value::Bool(_)) => "true or false".to_owned(),
            Self::Same(Value::Number(number)) => format!("the number {number}"),
            Self::Same(Value::Array(_)) => "a list".to_owned(),
            Self::Same(Value::Object(_)) => "an object".to_owned(),
        }
    }
}

/// Returns whether a value is of a type that a schema takes, and what a list holds of one that its items take.
fn is_taken(value: &Value, schema: &Value) -> bool {
    let Some(types) = schema_types(schema) else { return true };
    if !types.iter().any(|kind| is_of(value, kind)) {
        return false;
    }
    match (value, schema.get("items")) {
        (Value::Array(values), Some(items)) => values.iter().all(|value| is_taken(value, items)),
        _ => true,
    }
}

/// Returns whether a value is of a type of JSON Schema. Every value is of an unknown type.
fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        // 3.0 is a whole number, too.
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    }
}

/// Lists the types that a schema takes; nothing where it takes any, or does not say it so plainly.
fn schema_types(schema: &Value) -> Option<Vec<&str>> {
    match schema.get("type") {
        Some(Value::String(kind)) => Some(vec![kind.as_str()]),
        Some(Value::Array(kinds)) => kinds.iter().map(Value::as_str).collect(),
        Some(_) => None,
        None => {
            let ways = schema.get("anyOf").or_else(|| schema.get("oneOf"))?.as_array()?;
            let each: Option<Vec<Vec<&str>>> = ways.iter().map(schema_types).collect();
            each.map(|each| each.concat())
        }
    }
}

/// What people call a type of JSON Schema.
fn type_name(kind: &str) -> &str {
    match kind {
        "boolean" => "true or false",
        "string" => "a text",
        "array" => "a list",
        "object" => "an object",
        "number" => "a number",
        "integer" => "a whole number",
        kind => kind,
    }
}

/// How a rule says something of an argument of a type.
fn suggest_spelling(name: &str, kind: &str, schema: &Value) -> String {
    let items = schema.get("items").and_then(schema_types).unwrap_or_default();
    match kind {
        "array" if items.iter().any(|kind| *kind == "integer" || *kind == "number") => {
            format!("write the whole list, such as {name}=[1,2]")
        }
        "array" => format!(r#"write the whole list, such as {name}=["git","push"]"#),
        "object" => format!(r#"write the whole object, such as {name}={{"key":"value"}}"#),
        "boolean" => format!("write {name}:=true or {name}:=false"),
        "integer" => format!("write a number after :=, such as {name}:=3"),
        "number" => format!("write a number after :=, such as {name}:=1.5"),
        "null" => format!("write {name}:=null"),
        _ => format!("write {name}=PATTERN; {name}=** matches anything"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::approval::{RuleAnswer, RuleTool};

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "argv": {"type": "array", "items": {"type": "string"}},
                "on": {"type": "array", "items": {"type": "integer"}},
                "cwd": {"type": "string"},
                "timeout_s": {"type": "integer"},
                "share": {"type": "number"},
                "loud": {"type": "boolean"},
                "head": {"type": "object"},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "limit": {"type": ["integer", "null"]},
                "any": {},
                "either": {"oneOf": [{"type": "string"}, {}]},
            },
        })
    }

    #[test]
    fn a_rule_whose_values_no_call_can_have_is_caught() {
        for (text, hint) in [
            ("exec argv=git*", r#"write the whole list, such as argv=["git","push"]"#),
            ("exec argv=**push**", r#"write the whole list, such as argv=["git","push"]"#),
            ("exec argv=ls", r#"write the whole list, such as argv=["git","push"]"#),
            (r#"exec cwd=. argv="ls""#, r#"write the whole list, such as argv=["git","push"]"#),
            (r#"exec argv={"a":"b"}"#, r#"write the whole list, such as argv=["git","push"]"#),
            (r#"exec argv=["sleep",5]"#, r#"write the whole list, such as argv=["git","push"]"#),
            (r#"exec on=["a"]"#, "write the whole list, such as on=[1,2]"),
            (r#"exec cwd=["a"]"#, "write cwd=PATTERN; cwd=** matches anything"),
            ("exec cwd:=3", "write cwd=PATTERN; cwd=** matches anything"),
            ("exec timeout_s=*", "write a number after :=, such as timeout_s:=3"),
            (r#"exec timeout_s="60""#, "write a number after :=, such as timeout_s:=3"),
            ("exec timeout_s:=1.5", "write a number after :=, such as timeout_s:=3"),
            ("exec share=a", "write a number after :=, such as share:=1.5"),
            ("exec loud=yes", "write loud:=true or loud:=false"),
            ("exec head=a", r#"write the whole object, such as head={"key":"value"}"#),
            ("exec note:=3", "write note=PATTERN; note=** matches anything"),
            ("exec limit=3x", "write a number after :=, such as limit:=3"),
        ] {
            let rule = ParsedRule::parse(text).expect("it is read");
            let parameters = schema();
            let tool = RuleTool { parameters: &parameters, roles: &[], runs_programs: true };
            // One that denies would be trusted, and keep nothing out.
            for answer in [RuleAnswer::Allow, RuleAnswer::Deny] {
                let barred = rule.find_rejection(answer, &tool).expect(text);
                assert!(barred.problem.ends_with("so the rule would match no call"), "{text}: {barred:?}");
                assert_eq!(barred.hint.as_deref(), Some(hint), "{text}");
            }
        }
        let told = ParsedRule::parse("exec argv=git*")
            .expect("it is read")
            .find_mistyped(&schema())
            .expect("it is caught");
        assert_eq!(
            told.problem,
            "argv of exec is a list, which a text never is, so the rule would match no call"
        );
    }

    #[test]
    fn a_rule_that_some_call_can_match_is_valid() {
        for text in [
            r#"exec argv=["git","push"] cwd=notes/**"#,
            "exec argv=[]",
            "exec on=[1,2.0]",
            r#"exec cwd:="a*""#,
            "exec timeout_s:=60",
            "exec timeout_s:=60.0",
            "exec share:=2",
            "exec share:=0.5",
            "exec loud:=true",
            r#"exec head={"a":1}"#,
            "exec note=a",
            "exec note:=null",
            "exec limit:=3",
            "exec any=a",
            "exec any:=3",
            "exec either:=3",
            "exec other=a",
        ] {
            assert_eq!(ParsedRule::parse(text).expect("it is read").find_mistyped(&schema()), None, "{text}");
        }
        let nothing_said = ParsedRule::parse("exec argv=git*").expect("it is read");
        assert_eq!(nothing_said.find_mistyped(&json!({"type": "object"})), None);
    }
}
