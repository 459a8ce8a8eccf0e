//! The shape that an answer must have: a JSON Schema from a file, sent to the model and checked here.
//!
//! The schema is written under the question, because that is what every model understands; nothing else makes a model
//! keep to it, so the answer is checked when it is there. Nothing is asked again. References to other documents are
//! refused: a schema is one file, and checking it reads no network and no further file.

use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

use crate::error::{Error, Outcome};
use crate::schema_violation::SchemaViolation;

/// The longest schema, as it is sent: the question needs space beside it.
const BYTES_MAX: usize = 64 * 1024;
/// How many places of an answer are reported.
const PLACES_MAX: usize = 16;
/// How many characters of one problem are shown; it quotes the answer.
const PROBLEM_CHARS_MAX: usize = 200;

/// The text between the question and the schema.
const REQUEST: &str = "Reply with exactly one JSON value, without any text before or after it. It must satisfy this JSON Schema:";

/// A schema, ready to be sent and to be checked against.
#[derive(Debug)]
pub(crate) struct AnswerSchema {
    text: String,
    validator: Validator,
}

impl AnswerSchema {
    /// Reads a schema from a file.
    pub(crate) fn from_file(file: &Path) -> Outcome<Self> {
        let text =
            std::fs::read_to_string(file).map_err(Error::io_error(format!("read {}", file.display())))?;
        Self::parse_schema(&text).map_err(|problem| Error::Usage(format!("{}{problem}", file.display())))
    }

    /// Reads a schema; what is wrong begins with its place.
    fn parse_schema(text: &str) -> Result<Self, String> {
        let schema: Value = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!(
                ":{line}:{column}: this is not JSON; `--schema` expects a file that contains a JSON Schema"
            )
        })?;
        let validator = jsonschema::options().offline().build(&schema).map_err(|error| {
            let place = match error.instance_path().as_str() {
                "" => "at its top".to_owned(),
                path => format!("at {path}"),
            };
            format!(": {place}: this is not a JSON Schema: {}", shorten_text(&error.to_string()))
        })?;
        let text = schema.to_string();
        if text.len() > BYTES_MAX {
            return Err(format!(": the file has {} bytes; a schema has at most {BYTES_MAX}", text.len()));
        }
        Ok(Self { text, validator })
    }

    /// Writes the schema under a question.
    pub(crate) fn asked_under(&self, question: &str) -> String {
        format!("{question}\n\n{REQUEST}\n\n{}", self.text)
    }

    /// Returns the JSON of an answer, or says where the answer does not satisfy the schema.
    pub(crate) fn check_answer(&self, answer: &str) -> Result<String, Vec<SchemaViolation>> {
        let json = strip_code_fence(answer.trim());
        let value: Value = serde_json::from_str(json).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let problem = format!("it is not JSON, from line {line}, column {column} on");
            vec![SchemaViolation { path: String::new(), problem }]
        })?;
        let problems: Vec<_> = self
            .validator
            .iter_errors(&value)
            .take(PLACES_MAX)
            .map(|error| SchemaViolation {
                path: error.instance_path().as_str().to_owned(),
                problem: shorten_text(&error.to_string()),
            })
            .collect();
        if problems.is_empty() { Ok(json.to_owned()) } else { Err(problems) }
    }
}

/// Takes off the one code fence around a whole answer that many models cannot leave out.
fn strip_code_fence(answer: &str) -> &str {
    let inner = answer.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let Some((info, inner)) = inner.and_then(|inner| inner.split_once('\n')) else { return answer };
    let is_plain = matches!(info.trim(), "" | "json");
    if is_plain && !inner.contains("```") { inner.trim() } else { answer }
}

fn shorten_text(text: &str) -> String {
    match text.char_indices().nth(PROBLEM_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema_violation::violations_line;

    const PERSON: &str = r#"{
        "type": "object",
        "required": ["name", "age"],
        "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}}
    }"#;

    #[test]
    fn an_answer_that_violates_its_schema_names_the_place() {
        let shape = AnswerSchema::parse_schema(PERSON).unwrap();
        assert_eq!(
            shape.check_answer(" {\"name\": \"Ada\", \"age\": 36}\n").unwrap(),
            r#"{"name": "Ada", "age": 36}"#
        );
        let unfit = shape.check_answer(r#"{"name": "Ada", "age": "old"}"#).unwrap_err();
        assert_eq!(unfit.iter().map(|unfit| unfit.path.as_str()).collect::<Vec<_>>(), ["/age"]);
        assert!(violations_line(&unfit).starts_with("at /age: "), "{}", violations_line(&unfit));
        let both = shape.check_answer("[]").unwrap_err();
        assert_eq!(both[0].path, "");
        let prose = shape.check_answer("Ada is 36.").unwrap_err();
        assert_eq!(violations_line(&prose), "it is not JSON, from line 1, column 1 on");
        assert!(shape.check_answer(r#"{"name": "Ada", "age": 36} Anything else?"#).is_err());
    }

    #[test]
    fn only_one_fence_around_the_whole_answer_is_removed() {
        let shape = AnswerSchema::parse_schema("true").unwrap();
        for fenced in ["```json\n{\"a\":1}\n```", "```\n{\"a\":1}\n```", "  ```json\r\n{\"a\":1}\r\n```  "] {
            assert_eq!(shape.check_answer(fenced).unwrap(), "{\"a\":1}", "{fenced:?}");
        }
        for bad in ["Here:\n```json\n1\n```", "```yaml\na: 1\n```", "```json\n1\n```\n```json\n2\n```", "```"]
        {
            assert!(shape.check_answer(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_invalid_schema_file_is_refused_with_its_place() {
        let problem = |text: &str| AnswerSchema::parse_schema(text).unwrap_err();
        assert!(
            problem("{\n  \"type\": }").starts_with(":2:11: this is not JSON"),
            "{}",
            problem("{\n  \"type\": }")
        );
        let text = r#"{"properties": {"a": {"type": 5}}}"#;
        assert!(problem(text).starts_with(": at /properties/a"), "{}", problem(text));
        assert!(problem("[]").contains("this is not a JSON Schema"), "{}", problem("[]"));
        let elsewhere = r#"{"$ref": "https://example.com/schema.json"}"#;
        assert!(problem(elsewhere).contains("this is not a JSON Schema"), "{}", problem(elsewhere));
        let long = format!("{{\"description\": \"{}\"}}", "x".repeat(BYTES_MAX));
        assert!(problem(&long).contains("a schema has at most"), "{}", problem(&long));
    }

    #[test]
    fn many_and_long_problems_are_shortened() {
        let shape = AnswerSchema::parse_schema(r#"{"items": {"type": "integer"}}"#).unwrap();
        let answer = serde_json::to_string(&vec!["x".repeat(5_000); 100]).unwrap();
        let unfit = shape.check_answer(&answer).unwrap_err();
        assert_eq!(unfit.len(), PLACES_MAX);
        assert!(unfit.iter().all(|unfit| unfit.problem.chars().count() <= PROBLEM_CHARS_MAX + 1));
        assert!(violations_line(&unfit).ends_with("(and 15 more)"), "{}", violations_line(&unfit));
    }

    #[test]
    fn the_schema_is_appended_to_the_question() {
        let shape = AnswerSchema::parse_schema("{\"type\": \"integer\"}").unwrap();
        assert_eq!(
            shape.asked_under("how many?"),
            format!("how many?\n\n{REQUEST}\n\n{{\"type\":\"integer\"}}")
        );
    }
}
