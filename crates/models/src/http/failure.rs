//! How an attempt fails: status codes, transport errors and deadlines as the three codes of the port.
//!
//! The dividing line is the charge. Before the request went out, or when the provider says it did nothing, the
//! attempt is `model_unavailable` and may be repeated; once it may be working on an answer, a loss is
//! `model_cut`. A provider's own words are passed on without credentials and cut short.

use std::time::Duration;

use dromia_contracts::ErrorCode;
use dromia_contracts::egress::{EgressError, EgressFault, TimeoutPhase, find_header};
use dromia_contracts::model::ModelError;
use dromia_sse::SseError;
use jiff::fmt::rfc2822;
use serde_json::Value;

/// The longest wait that a provider can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);
/// The most characters of a provider's message that are passed on.
const MESSAGE_CHARS_MAX: usize = 200;

/// An answer that broke off or makes no sense.
pub(crate) fn cut_error(what: impl Into<String>) -> ModelError {
    ModelError { code: ErrorCode::ModelCut, message: what.into(), retry_after: None }
}

/// An answer that the provider has and does not give.
pub(crate) fn withheld_error(reason: &str) -> ModelError {
    let message = format!("the model's server withheld the answer ({reason})");
    ModelError { code: ErrorCode::ModelRejected, message, retry_after: None }
}

/// A request that got no answer.
pub(super) fn unanswered_error(error: &EgressError) -> ModelError {
    match &error.failure {
        EgressFault::Refused { rule, reason } if rule == "secret" => {
            let message = format!("the key of the model's server cannot be used: {reason}");
            ModelError { code: ErrorCode::ModelRejected, message, retry_after: None }
        }
        // Nothing was sent, and nothing will be until an operator changes it.
        EgressFault::Refused { reason, .. } => {
            let message = format!("the egress rules refuse the model's server: {reason}");
            ModelError { code: ErrorCode::ModelRejected, message, retry_after: None }
        }
        _ if !error.is_sent => {
            let message = "the model's server cannot be reached".to_owned();
            ModelError { code: ErrorCode::ModelUnavailable, message, retry_after: None }
        }
        EgressFault::Late(TimeoutPhase::Total) => cut_error(UNFINISHED),
        EgressFault::Late(TimeoutPhase::FirstByte) => cut_error("the model did not start its answer in time"),
        EgressFault::Broken => {
            // The request may have gone out, and the provider may be at work on it.
            cut_error("the connection to the model's server broke before it answered")
        }
        other => cut_error(format!("the model gave no answer: {other}")),
    }
}

/// An answer that does not go on.
pub(super) fn interrupted_error(failure: &EgressFault) -> ModelError {
    match failure {
        EgressFault::Late(TimeoutPhase::Stall) => cut_error("the model's answer stalled"),
        EgressFault::Late(TimeoutPhase::Total) => cut_error(UNFINISHED),
        EgressFault::TooLarge { .. } => cut_error("the model's answer is longer than allowed"),
        _ => cut_error("the connection broke in the middle of the model's answer"),
    }
}

const UNFINISHED: &str = "the model did not finish its answer in time";

/// What ends the reading of a streamed answer.
pub(super) struct StreamError(pub(super) ModelError);

impl From<SseError> for StreamError {
    fn from(error: SseError) -> Self {
        Self(cut_error(format!("the model's stream is malformed: {error}")))
    }
}

/// The words by which servers say that a request is longer than the model's window.
const TOO_LONG_WORDS: [&str; 10] = [
    // OpenAI and the servers that speak as it does; vLLM has the first words, too.
    "maximum context length",
    "context_length_exceeded",
    "exceeds the context window",
    // vLLM, of later versions.
    "longer than the maximum model length",
    // Anthropic.
    "prompt is too long",
    "exceed context limit",
    // llama.cpp.
    "exceed_context_size",
    "exceeds the available context size",
    // Ollama.
    "exceeds the context length",
    "max context length",
];

/// Tells whether a server refuses a request because it is longer than the model's window.
pub(super) fn says_too_long(status: u16, body: &[u8]) -> bool {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    matches!(status, 400 | 413 | 422 | 500) && names_too_long(&said)
}

/// The object in which a server says what went wrong; some have its fields at the top.
fn reported_object(said: &Value) -> &Value {
    let inner = said.get("response").unwrap_or(said);
    inner.get("error").filter(|error| !error.is_null()).unwrap_or(inner)
}

fn names_too_long(said: &Value) -> bool {
    let error = reported_object(said);
    let fields = ["code", "type", "message"].map(|field| error.get(field).and_then(Value::as_str));
    let words = error.as_str().into_iter().chain(fields.into_iter().flatten());
    let words = words.collect::<Vec<_>>().join(" ").to_lowercase();
    TOO_LONG_WORDS.iter().any(|known| words.contains(known))
}

/// An error that a server reports within an answer that began with 200; its words are not bounded yet. It means
/// what it means with a status of its own: a request that is too long is no shorter the next time.
pub(crate) fn reported_error(json: &[u8]) -> ModelError {
    let said: Value = serde_json::from_slice(json).unwrap_or_default();
    let words = provider_words(&said).map(|words| format!(": {words}")).unwrap_or_default();
    let message = format!("the model's server reported an error in its answer{words}");
    let code = if names_too_long(&said) { ErrorCode::ContextExceeded } else { ErrorCode::ModelCut };
    ModelError { code, message, retry_after: None }
}

/// The refusal of a request that is longer than the model's window.
pub(super) fn too_long_error(refused: &ModelError, model: &str, window: Option<u32>) -> ModelError {
    let window = window.map_or_else(
        || "whose window the configuration does not say (models.ALIAS.context_tokens)".to_owned(),
        |tokens| format!("whose window is configured as {tokens} tokens"),
    );
    let message =
        format!("the conversation does not fit {model}, {window}: {}", refused.message.trim_end_matches('.'));
    ModelError { code: ErrorCode::ContextExceeded, message, retry_after: None }
}

/// An answer with a status other than 200.
pub(super) fn status_error(
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
    key: Option<&str>,
) -> ModelError {
    let words = serde_json::from_slice(body).ok().and_then(|said| provider_words(&said));
    let words = words.map(|words| format!(": {words}")).unwrap_or_default();
    // It is busy, or broken for now.
    let passes = matches!(status, 408 | 429 | 500..=599);
    let message = match status {
        // Providers repeat parts of the key in these.
        401 | 403 => format!("the model's server refused the credentials ({status})"),
        300..=399 => format!("the model's server answered {status}, and redirects are not followed"),
        _ => format!("the model's server answered {status}{words}"),
    };
    let code = if passes { ErrorCode::ModelUnavailable } else { ErrorCode::ModelRejected };
    let error = ModelError { code, message, retry_after: retry_after(headers).filter(|_| passes) };
    bound_words(error, |words| key.is_some_and(|key| words.contains(key)))
}

/// Cuts a provider's words short, and leaves them out where they could hold the key.
pub(super) fn bound_words(mut error: ModelError, holds_key: impl Fn(&str) -> bool) -> ModelError {
    if let Some((ours, words)) = error.message.split_once(": ") {
        let kept: String = words.chars().take(MESSAGE_CHARS_MAX).collect();
        error.message = if holds_key(words) { ours.to_owned() } else { format!("{ours}: {kept}") };
    }
    error
}

/// Reads how long to wait: seconds, or a date, which is compared with the answer's own `Date`.
fn retry_after(headers: &[(String, String)]) -> Option<Duration> {
    let value = find_header(headers, "retry-after")?.trim();
    let seconds = if let Ok(seconds) = value.parse::<f64>() {
        seconds
    } else {
        let at = |text: &str| rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
        let now = at(find_header(headers, "date")?)?;
        at(value)?.duration_since(now).as_secs_f64()
    };
    Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(RETRY_AFTER_MAX))
}

/// Reads the provider's own words; none where they could hold an address.
fn provider_words(said: &Value) -> Option<String> {
    let error = reported_object(said);
    let message = error.get("message").unwrap_or(error).as_str()?;
    let printable = message.chars().map(|c| if c.is_control() { ' ' } else { c });
    (!message.contains("://")).then(|| printable.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn retry_after_takes_seconds_and_dates_and_nothing_else() {
        let date = ("date", "Sat, 21 Nov 2026 10:00:00 GMT");
        let table = [
            (vec![("retry-after", "7")], Some(7_000)),
            (vec![("retry-after", "0.5")], Some(500)),
            (vec![("retry-after", "999999")], Some(3_600_000)),
            (vec![("retry-after", "Sat, 21 Nov 2026 10:00:30 GMT"), date], Some(30_000)),
            (vec![("retry-after", "Sat, 21 Nov 2026 09:00:30 GMT"), date], None),
            (vec![("retry-after", "Sat, 21 Nov 2026 10:00:30 GMT")], None),
            (vec![("retry-after", "-1")], None),
            (vec![("retry-after", "NaN")], None),
            (vec![], None),
        ];
        for (pairs, millis) in table {
            assert_eq!(retry_after(&headers(&pairs)), millis.map(Duration::from_millis), "{pairs:?}");
        }
    }

    #[test]
    fn a_status_says_whether_trying_again_makes_sense() {
        let table = [
            (429, ErrorCode::ModelUnavailable),
            (408, ErrorCode::ModelUnavailable),
            (500, ErrorCode::ModelUnavailable),
            (503, ErrorCode::ModelUnavailable),
            (400, ErrorCode::ModelRejected),
            (401, ErrorCode::ModelRejected),
            (404, ErrorCode::ModelRejected),
            (302, ErrorCode::ModelRejected),
        ];
        for (number, code) in table {
            let failure = status_error(number, &headers(&[]), b"", None);
            assert_eq!(failure.code, code, "{number}");
        }
    }

    /// As the servers say it, by the recorded words of each.
    const TOO_LONG: [(u16, &str); 9] = [
        (
            400,
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
        ),
        (
            400,
            r#"{"error":{"message":"Your input exceeds the context window of this model.","type":"invalid_request_error","code":null}}"#,
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 201234 tokens > 200000 maximum"}}"#,
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"}}"#,
        ),
        (
            400,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":4096}}"#,
        ),
        (
            500,
            r#"{"error":{"code":500,"message":"the request exceeds the available context size. try increasing the context size","type":"server_error"}}"#,
        ),
        (
            400,
            r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","code":400}"#,
        ),
        (400, r#"{"error":"the input length exceeds the context length"}"#),
        (400, r#"{"error":{"message":"prompt too long; exceeded max context length by 12 tokens"}}"#),
    ];

    #[test]
    fn a_request_longer_than_the_window_is_known_by_the_servers_words() {
        for (status, body) in TOO_LONG {
            assert!(says_too_long(status, body.as_bytes()), "{body}");
        }
        for (status, body) in [
            (400, r#"{"error":{"message":"no such model","code":"model_not_found"}}"#),
            (429, r#"{"error":{"message":"maximum context length","code":"rate_limit_exceeded"}}"#),
            (400, "prompt is too long"),
            (400, r#"{"error":{"message":"bad","param":"prompt is too long"}}"#),
        ] {
            assert!(!says_too_long(status, body.as_bytes()), "{body}");
        }
        let refused = status_error(400, &[], TOO_LONG[2].1.as_bytes(), None);
        let error = too_long_error(&refused, "opus", Some(200_000));
        assert_eq!(error.code, ErrorCode::ContextExceeded);
        for word in ["opus", "200000 tokens", "201234"] {
            assert!(error.message.contains(word), "{word}: {}", error.message);
        }
    }

    #[test]
    fn unsent_requests_are_not_charged_nor_refused_ones_retried() {
        let error = |failure, is_sent| {
            unanswered_error(&EgressError { failure, is_sent, decisions: Vec::new() }).code
        };
        let refused = EgressFault::Refused { rule: "private address".to_owned(), reason: "r".to_owned() };
        assert_eq!(error(refused, false), ErrorCode::ModelRejected);
        let no_key = EgressFault::Refused { rule: "secret".to_owned(), reason: "r".to_owned() };
        assert_eq!(error(no_key, false), ErrorCode::ModelRejected);
        assert_eq!(error(EgressFault::Unreachable, false), ErrorCode::ModelUnavailable);
        assert_eq!(error(EgressFault::Late(TimeoutPhase::Connect), false), ErrorCode::ModelUnavailable);
        assert_eq!(error(EgressFault::Late(TimeoutPhase::FirstByte), true), ErrorCode::ModelCut);
        assert_eq!(error(EgressFault::Broken, true), ErrorCode::ModelCut);
        assert_eq!(error(EgressFault::Packed, true), ErrorCode::ModelCut);
    }

    #[test]
    fn a_provider_error_repeats_no_key_or_address() {
        let said =
            |number: u16, body: &[u8]| status_error(number, &headers(&[]), body, Some("sk-canary")).message;
        assert!(said(400, br#"{"error":{"message":"no such model"}}"#).ends_with("400: no such model"));
        assert!(said(400, br#"{"error":"no such model"}"#).ends_with("400: no such model"));
        for body in
            [&br#"{"error":{"message":"key sk-canary is bad"}}"#[..], br#"{"error":"see http://in.ternal"}"#]
        {
            assert!(said(400, body).ends_with("answered 400"));
        }
        assert!(!said(401, br#"{"error":{"message":"bad key sk-can*"}}"#).contains("sk-"));
    }
}
