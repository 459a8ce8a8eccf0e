//! How an attempt fails: status codes, transport errors and deadlines as the three codes of the port.
//!
//! The dividing line is the charge. Before the request went out, or when the provider says it did nothing, the
//! attempt is `model_unavailable` and may be repeated; once it may be working on an answer, a loss is
//! `model_cut`. A provider's own words are passed on without credentials and cut short.

use std::time::Duration;

use dromia_contracts::ErrorCode;
use dromia_contracts::model::ModelError;
use jiff::fmt::rfc2822;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde::Deserialize;

use super::sse::SseError;

/// The longest wait that a provider can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);
/// The most characters of a provider's message that are passed on.
const MESSAGE_CHARS_MAX: usize = 200;

/// An answer that broke off or makes no sense.
pub(crate) fn cut(what: impl Into<String>) -> ModelError {
    ModelError { code: ErrorCode::ModelCut, message: what.into(), retry_after: None }
}

/// An answer that the provider has and does not give.
pub(crate) fn withheld(reason: &str) -> ModelError {
    let message = format!("the model's server withheld the answer ({reason})");
    ModelError { code: ErrorCode::ModelRejected, message, retry_after: None }
}

/// A request that never got as far as the provider.
pub(super) fn unreachable_host() -> ModelError {
    let message = "the model's server cannot be reached".to_owned();
    ModelError { code: ErrorCode::ModelUnavailable, message, retry_after: None }
}

impl From<SseError> for ModelError {
    fn from(error: SseError) -> Self {
        cut(format!("the model's stream is malformed: {error}"))
    }
}

/// An answer with a status other than 200.
pub(super) fn status(status: StatusCode, headers: &HeaderMap, body: &[u8], key: Option<&str>) -> ModelError {
    let busy = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    if busy {
        return ModelError {
            code: ErrorCode::ModelUnavailable,
            message: format!("the model's server answered {}", status.as_u16()),
            retry_after: retry_after(headers),
        };
    }
    let message = match status {
        // Providers repeat parts of the key in these.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            format!("the model's server refused the credentials ({})", status.as_u16())
        }
        status if status.is_redirection() => {
            format!("the model's server answered {}, and redirects are not followed", status.as_u16())
        }
        status => match provider_message(body, key) {
            Some(words) => format!("the model's server answered {}: {words}", status.as_u16()),
            None => format!("the model's server answered {}", status.as_u16()),
        },
    };
    ModelError { code: ErrorCode::ModelRejected, message, retry_after: None }
}

/// Reads how long to wait: seconds, or a date, which is compared with the answer's own `Date`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = if let Ok(seconds) = value.parse::<f64>() {
        seconds
    } else {
        let at = |text: &str| rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
        let now = at(headers.get(DATE)?.to_str().ok()?)?;
        at(value)?.duration_since(now).as_secs_f64()
    };
    Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(RETRY_AFTER_MAX))
}

/// Reads the provider's own words; none where they could hold the key.
fn provider_message(body: &[u8], key: Option<&str>) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        error: Error,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Error {
        Object { message: String },
        Text(String),
    }
    let (Error::Object { message } | Error::Text(message)) = serde_json::from_slice::<Body>(body).ok()?.error;
    if key.is_some_and(|key| message.contains(key)) || message.contains("://") {
        return None;
    }
    let printable = message.chars().map(|c| if c.is_control() { ' ' } else { c });
    Some(printable.take(MESSAGE_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
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
            let failure = status(StatusCode::from_u16(number).unwrap(), &headers(&[]), b"", None);
            assert_eq!(failure.code, code, "{number}");
        }
    }

    #[test]
    fn a_key_or_an_address_in_the_providers_words_is_not_repeated() {
        let said = |number: u16, body: &[u8]| {
            status(StatusCode::from_u16(number).unwrap(), &headers(&[]), body, Some("sk-canary")).message
        };
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
