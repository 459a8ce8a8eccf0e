//! In whose words a route answers: how a failure looks, and which header the official clients read with it.
//!
//! Every dialect carries the stable code, and the run where one is concerned, as members that its clients do not know
//! and pass on.

use axum::http::{HeaderMap, HeaderValue};
use dromia_contracts::ErrorCode;
use serde::Serialize;

use crate::failure::ApiError;

/// In whose words a route answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Our own: problem details.
    #[default]
    Dromia,
    /// That of the OpenAI API.
    OpenAi,
    /// That of the Anthropic API.
    Anthropic,
    /// A route of both: the Anthropic one where the request says its version, else the OpenAI one.
    ByHeader,
}

/// The header with which every official Anthropic client says which version it speaks.
const VERSION_HEADER: &str = "anthropic-version";

/// The header that tells the official clients of both APIs whether to try again.
const RETRY_HEADER: &str = "x-should-retry";

#[derive(Serialize)]
struct OpenAiFailure<'a> {
    error: OpenAiError<'a>,
}

/// The error object of the OpenAI API.
#[derive(Serialize)]
pub(super) struct OpenAiError<'a> {
    message: String,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'static str,
    #[serde(flatten)]
    run: RunNamed,
}

impl<'a> OpenAiError<'a> {
    pub(super) fn from_error(failure: &'a ApiError) -> Self {
        Self {
            message: failure.full_message(),
            r#type: match (failure.code(), Dialect::OpenAi.status(failure)) {
                (ErrorCode::BudgetExhausted, _) => "insufficient_quota",
                (_, 429) => "rate_limit_error",
                (_, 500..) => "server_error",
                _ => "invalid_request_error",
            },
            param: failure.field_path(),
            code: failure.foreign_word().unwrap_or_else(|| openai_code(failure.code())),
            run: RunNamed::from_error(failure),
        }
    }
}

#[derive(Serialize)]
struct AnthropicFailure<'a> {
    r#type: &'static str,
    error: AnthropicError<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    r#type: &'static str,
    message: String,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<AnthropicErrorDetails>,
    #[serde(flatten)]
    run: RunNamed,
}

/// What its clients decide by beside the type.
#[derive(Serialize)]
struct AnthropicErrorDetails {
    error_code: &'static str,
}

/// The run that a failure concerns.
#[derive(Serialize)]
struct RunNamed {
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<dromia_contracts::RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_status: Option<dromia_contracts::run::RunStatus>,
}

impl RunNamed {
    fn from_error(failure: &ApiError) -> Self {
        let (run, run_status) = failure.concerned_run().unzip();
        Self { run, run_status }
    }
}

impl Dialect {
    /// Settles a dialect that depends on the request.
    pub(crate) fn for_request(self, headers: &HeaderMap) -> Self {
        match self {
            Self::ByHeader if headers.contains_key(VERSION_HEADER) => Self::Anthropic,
            Self::ByHeader => Self::OpenAi,
            Self::Dromia | Self::OpenAi | Self::Anthropic => self,
        }
    }

    /// The status of a failure, where the clients of an API expect another one than ours.
    pub(crate) fn status(self, failure: &ApiError) -> u16 {
        match (self, failure.code()) {
            (Self::OpenAi | Self::Anthropic, ErrorCode::ContextExceeded) => 400,
            (Self::OpenAi, ErrorCode::BudgetExhausted) => 429,
            _ => failure.status(),
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Dromia => dromia_api::problem::CONTENT_TYPE,
            Self::OpenAi | Self::Anthropic | Self::ByHeader => "application/json",
        }
    }

    /// Writes a failure.
    pub(crate) fn error_body(self, failure: &ApiError, request_id: &str) -> Vec<u8> {
        let body = match self {
            Self::Dromia => serde_json::to_vec(&failure.problem_details(request_id)),
            Self::OpenAi | Self::ByHeader => {
                serde_json::to_vec(&OpenAiFailure { error: OpenAiError::from_error(failure) })
            }
            Self::Anthropic => serde_json::to_vec(&AnthropicFailure {
                r#type: "error",
                error: AnthropicError {
                    r#type: anthropic_type(self.status(failure)),
                    message: anthropic_message(failure),
                    code: failure.code().as_str(),
                    param: failure.field_path(),
                    details: failure.foreign_word().map(|error_code| AnthropicErrorDetails { error_code }),
                    run: RunNamed::from_error(failure),
                },
                request_id,
            }),
        };
        // Strings, numbers and ids only, so serialization has no failing case.
        body.unwrap_or_default()
    }

    /// Tells the clients of other APIs whether to try again. By themselves they repeat what answers 409 or 5xx, and
    /// where a run began that would begin another.
    pub(crate) fn set_retry_headers(self, headers: &mut HeaderMap, failure: &ApiError) {
        if self != Self::Dromia {
            let again = if failure.may_be_repeated() { "true" } else { "false" };
            headers.insert(RETRY_HEADER, HeaderValue::from_static(again));
        }
    }

    /// Names the request where the clients of a dialect look for it.
    pub(crate) fn name_request(self, headers: &mut HeaderMap, request_id: &HeaderValue) {
        if self == Self::Anthropic {
            headers.insert("request-id", request_id.clone());
        }
    }
}

/// The words by which OpenAI's clients know a failure; the others keep ours.
const fn openai_code(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Unauthorized => "invalid_api_key",
        ErrorCode::AgentNotFound => "model_not_found",
        ErrorCode::ContextExceeded => "context_length_exceeded",
        ErrorCode::RateLimited | ErrorCode::ActorRateLimited => "rate_limit_exceeded",
        ErrorCode::BudgetExhausted => "insufficient_quota",
        code => code.as_str(),
    }
}

/// What went wrong, in words by which Anthropic's clients know that they must shorten the conversation.
fn anthropic_message(failure: &ApiError) -> String {
    match failure.code() {
        ErrorCode::ContextExceeded => format!("prompt is too long: {}", failure.full_message()),
        _ => failure.full_message(),
    }
}

const fn anthropic_type(status: u16) -> &'static str {
    match status {
        402 => "billing_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dromia_contracts::RunId;
    use dromia_contracts::run::RunStatus;
    use serde_json::{Value, json};

    fn shown(dialect: Dialect, failure: &ApiError) -> Value {
        serde_json::from_slice(&dialect.error_body(failure, "req_1")).expect("it is JSON")
    }

    #[test]
    fn each_dialect_has_its_own_shape_and_the_same_facts() {
        let failure = ApiError::new(ErrorCode::InvalidRequest, "no").at_field("messages[3].content");
        assert_eq!(
            shown(Dialect::OpenAi, &failure),
            json!({"error": {"message": "no", "type": "invalid_request_error", "param": "messages[3].content",
                "code": "invalid_request"}})
        );
        assert_eq!(
            shown(Dialect::Anthropic, &failure),
            json!({"type": "error", "request_id": "req_1", "error": {"type": "invalid_request_error",
                "message": "no", "code": "invalid_request", "param": "messages[3].content"}})
        );
        assert_eq!(shown(Dialect::Dromia, &failure)["code"], "invalid_request");
    }

    /// What each code looks like for the clients of either API, one line each.
    fn error_words() -> String {
        let line = |code: &ErrorCode| {
            let failure = ApiError::new(*code, "no");
            let (openai, anthropic) = (shown(Dialect::OpenAi, &failure), shown(Dialect::Anthropic, &failure));
            let word = |shown: &Value, field: &str| shown["error"][field].as_str().unwrap().to_owned();
            let ours = code.as_str();
            format!(
                "{ours}: {} {} {} | {} {}\n",
                Dialect::OpenAi.status(&failure),
                word(&openai, "type"),
                word(&openai, "code"),
                Dialect::Anthropic.status(&failure),
                word(&anthropic, "type"),
            )
        };
        ErrorCode::ALL.iter().map(line).collect()
    }

    #[test]
    fn every_code_has_its_words_in_every_dialect() {
        assert_eq!(error_words(), include_str!("dialect/error_words.txt"));
        let long = ApiError::new(ErrorCode::ContextExceeded, "no");
        let told = shown(Dialect::Anthropic, &long);
        assert!(told["error"]["message"].as_str().unwrap().starts_with("prompt is too long"));
        // The words that their clients decide by.
        for word in [
            "context_length_exceeded",
            "invalid_api_key",
            "rate_limit_exceeded",
            "insufficient_quota",
            "model_not_found",
            "authentication_error",
            "permission_error",
            "not_found_error",
            "rate_limit_error",
            "overloaded_error",
            "request_too_large",
            "invalid_request_error",
        ] {
            assert!(error_words().contains(word), "{word}");
        }
    }

    #[test]
    fn a_run_failure_names_the_run_and_forbids_a_retry() {
        let run = RunId::from_bytes([7; 16]);
        let failure = ApiError::new(ErrorCode::ModelUnavailable, "no").of_run(run, RunStatus::Failed);
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            let shown = shown(dialect, &failure);
            assert_eq!(shown["error"]["run"], json!(run));
            assert_eq!(shown["error"]["run_status"], "failed");
            let mut headers = HeaderMap::new();
            dialect.set_retry_headers(&mut headers, &failure);
            assert_eq!(headers[RETRY_HEADER], "false");
        }
        let overloaded = ApiError::new(ErrorCode::Overloaded, "no");
        let mut headers = HeaderMap::new();
        Dialect::Anthropic.set_retry_headers(&mut headers, &overloaded);
        assert_eq!(headers[RETRY_HEADER], "true");
    }
}
