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
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex()).offline();
        let validator = match options.build(&format.effective_schema()) {
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
}
