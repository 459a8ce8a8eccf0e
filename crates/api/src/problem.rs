//! Problem details (RFC 9457): the one shape of every failure, and the status that each code travels under.

use dromia_contracts::ErrorCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The content type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemDetails {
    /// Where the code is explained: a place on the page that the same server gives, without a credential. `dromia explain`
    /// says more of it, without a server.
    #[serde(rename = "type")]
    #[schemars(extend("format" = "uri-reference"))]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code; a newer server may send one that [`ProblemDetails::error_code`] does not know.
    #[schemars(with = "ErrorCode")]
    pub code: String,
    /// What went wrong.
    pub detail: String,
    /// The next step, if the detail does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The request's id, which the server's log carries too.
    pub request_id: String,
}

impl ProblemDetails {
    /// Describes a failure under the status of its code.
    pub fn new(code: ErrorCode, detail: impl Into<String>, request_id: impl Into<String>) -> Self {
        Self::with_status(http_status(code), code, detail, request_id)
    }

    /// Describes a failure under a status of its own.
    pub fn with_status(
        status: u16,
        code: ErrorCode,
        detail: impl Into<String>,
        request_id: impl Into<String>,
    ) -> Self {
        Self {
            kind: format!("/docs#ErrorCode-{code}"),
            title: status_title(status).to_owned(),
            status,
            code: code.as_str().to_owned(),
            detail: detail.into(),
            hint: None,
            request_id: request_id.into(),
        }
    }

    /// Returns the code, if this version knows it.
    pub fn error_code(&self) -> Option<ErrorCode> {
        ErrorCode::ALL.iter().copied().find(|code| code.as_str() == self.code)
    }
}

/// Returns the HTTP status under which a code travels.
pub const fn http_status(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::InvalidRequest | ErrorCode::CursorInFuture | ErrorCode::CapabilityUnreadable => 400,
        ErrorCode::Unauthorized | ErrorCode::SignatureRefused => 401,
        ErrorCode::Forbidden
        | ErrorCode::TenantSuspended
        | ErrorCode::ActionDenied
        | ErrorCode::CapabilityForeign => 403,
        ErrorCode::RouteNotFound
        | ErrorCode::TenantNotFound
        | ErrorCode::AgentNotFound
        | ErrorCode::RevisionNotFound
        | ErrorCode::DocumentNotFound
        | ErrorCode::TemplateNotFound
        | ErrorCode::RoleNotFound
        | ErrorCode::SessionNotFound
        | ErrorCode::RunNotFound
        | ErrorCode::StateNotFound
        | ErrorCode::FileNotFound
        | ErrorCode::TokenNotFound
        | ErrorCode::ToolNotFound
        | ErrorCode::SecretNotFound
        | ErrorCode::CapabilityNotFound
        | ErrorCode::DeliveryNotFound
        | ErrorCode::BudgetNotFound
        | ErrorCode::RecordNotFound
        | ErrorCode::ApprovalNotFound
        | ErrorCode::ApprovalRuleNotFound
        | ErrorCode::RequestNotFound => 404,
        ErrorCode::TenantActive
        | ErrorCode::SessionHeld
        | ErrorCode::SessionInUse
        | ErrorCode::HandleTaken
        | ErrorCode::IdempotencyConflict
        | ErrorCode::AgentTerminated
        | ErrorCode::RunTerminal
        | ErrorCode::RunNotResumable
        | ErrorCode::RunUnanswered
        | ErrorCode::RequestUnavailable
        | ErrorCode::DeliveryUncertain
        | ErrorCode::CallNotOpen
        | ErrorCode::BudgetDeclared
        | ErrorCode::CapabilityRefused
        | ErrorCode::ApprovalClosed
        | ErrorCode::ApprovalOutdated
        | ErrorCode::LoopDetected => 409,
        ErrorCode::AnswerSchemaUnsatisfied => 422,
        ErrorCode::BudgetExhausted => 402,
        ErrorCode::VersionConflict => 412,
        ErrorCode::Overloaded | ErrorCode::RateLimited | ErrorCode::ActorRateLimited => 429,
        ErrorCode::BodyTooLarge | ErrorCode::ContextExceeded => 413,
        ErrorCode::JournalDamaged
        | ErrorCode::JournalUnreadable
        | ErrorCode::OutcomeUnknown
        | ErrorCode::Internal => 500,
        ErrorCode::ModelRejected | ErrorCode::ModelCut => 502,
        ErrorCode::RunUnfinished => 504,
        ErrorCode::ShuttingDown
        | ErrorCode::StoreReadOnly
        | ErrorCode::StoreUnavailable
        | ErrorCode::ModelUnavailable
        | ErrorCode::VaultLocked => 503,
    }
}

const fn status_title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Failure",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_status_and_title_and_is_parsed() {
        for &code in ErrorCode::ALL {
            let problem = ProblemDetails::new(code, "x", "req");
            assert!((400..600).contains(&problem.status), "{code}: {}", problem.status);
            assert_ne!(problem.title, "Failure", "{code} has no title");
            assert_eq!(problem.error_code(), Some(code));
        }
    }

    #[test]
    fn an_unknown_error_code_is_read_as_text() {
        let text = r#"{"type":"about:blank","title":"T","status":409,"code":"moon_full","detail":"d","request_id":"r"}"#;
        let problem: ProblemDetails = serde_json::from_str(text).expect("the shape is known");
        assert_eq!((problem.code.as_str(), problem.error_code()), ("moon_full", None));
    }
}
