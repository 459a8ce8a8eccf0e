//! Why a request was not done, on its way to the one place that writes problems.
//!
//! A [`ApiError`] has two sides: the fault, which the tenant reads, and the cause, which only the log gets. It
//! travels as an extension of an empty response, because only the outermost station knows the request's id.

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use dromia_api::ProblemDetails;
use dromia_api::problem::http_status;
use dromia_contracts::retention::SessionObstacle;
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{CommitOutcome, CommitReceipt, CommitRefusal, ReadError};
use dromia_contracts::{ErrorCode, Fault, Recourse, RunId};

use crate::compat::Dialect;
use crate::hint_wording::{HintWording, word_for_http};

#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    fault: Fault,
    status: u16,
    cause: Option<Box<str>>,
    /// The field of the request that does not fit, as a path.
    place: Option<Box<str>>,
    /// The run that is concerned, and its status.
    run: Option<Box<(RunId, RunStatus)>>,
    /// In how many seconds the same request may succeed, where it may.
    again_s: u32,
    /// The name under which the clients of another API know the failure.
    word: Option<&'static str>,
}

/// The longest name that a failure repeats, in bytes.
const NAME_BYTES_SHOWN: usize = 256;

pub(crate) type Answer<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Fault::new(code, message).into()
    }

    pub(crate) fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// Says that nothing is called so. A name that is longer than any there is is not repeated.
    pub(crate) fn not_found(code: ErrorCode, noun: &str, name: &str) -> Self {
        Self::new(
            code,
            if name.len() > NAME_BYTES_SHOWN {
                format!("there is no {noun} with such a long name")
            } else {
                format!("there is no {noun} {name:?}")
            },
        )
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.fault.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into().into_boxed_str());
        self
    }

    /// Names the field of the request that does not fit.
    pub(crate) fn at_field(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into().into_boxed_str());
        self
    }

    /// Names the run that is concerned, and its status.
    pub(crate) fn of_run(mut self, run: RunId, status: RunStatus) -> Self {
        self.run = Some(Box::new((run, status)));
        self
    }

    /// Says in how many seconds the same request may succeed.
    pub(crate) fn again_in(mut self, seconds: u64) -> Self {
        self.again_s = u32::try_from(seconds).unwrap_or(u32::MAX);
        self
    }

    /// Names the failure as the clients of another API know it.
    pub(crate) fn with_foreign_word(mut self, word: &'static str) -> Self {
        self.word = Some(word);
        self
    }

    pub(crate) fn foreign_word(&self) -> Option<&'static str> {
        self.word
    }

    /// In how many seconds to ask again, if that may help.
    pub(crate) fn again_after(&self) -> Option<u32> {
        self.may_be_repeated().then_some(self.again_s)
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.fault.code
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn field_path(&self) -> Option<&str> {
        self.place.as_deref()
    }

    pub(crate) fn concerned_run(&self) -> Option<(RunId, RunStatus)> {
        self.run.as_deref().copied()
    }

    /// Tells whether the same request may succeed later. Where a run began, asking again begins another.
    pub(crate) fn may_be_repeated(&self) -> bool {
        self.fault.code.recourse() == Recourse::Retry && self.run.is_none()
    }

    /// What went wrong and what comes next, in one text.
    pub(crate) fn full_message(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{}; {hint}", self.fault.message),
            None => self.fault.message.clone(),
        }
    }

    fn hint(&self) -> Option<&str> {
        self.fault.hint.as_deref().or_else(|| next_step(self.fault.code))
    }

    /// Has the hint name routes in the place of commands.
    fn rewrite_hint_for_http(&mut self) {
        self.fault.hint = self.hint().map(|hint| word_for_http(hint).into_owned());
    }

    /// Describes the failure for the wire.
    pub(crate) fn problem_details(&self, request_id: &str) -> ProblemDetails {
        let mut problem = ProblemDetails::with_status(
            self.status,
            self.fault.code,
            self.fault.message.as_str(),
            request_id,
        );
        problem.hint = self.hint().map(str::to_owned);
        problem
    }

    /// Writes the failure into the log: its cause, and whatever is our own fault.
    pub(crate) fn write_log(&self, request_id: &str) {
        let code = self.fault.code.as_str();
        match &self.cause {
            Some(cause) => tracing::warn!(request_id, code, cause, "request failed"),
            None if self.status >= 500 => {
                tracing::warn!(request_id, code, detail = self.fault.message, "request failed");
            }
            None => {}
        }
    }
}

/// The next step after a failure whose maker named none. `None` where the message names what to fix.
const fn next_step(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::InvalidRequest
        | ErrorCode::AgentTerminated
        | ErrorCode::RunNotResumable
        | ErrorCode::CallNotOpen
        | ErrorCode::DeliveryUncertain
        // The gate's words name the rule, and the grant only where one is missing: none lets a secret through.
        | ErrorCode::ActionDenied => None,
        ErrorCode::RouteNotFound => Some("`GET /openapi.json` lists the routes"),
        ErrorCode::BodyTooLarge => Some("send less at a time; put long text into a file of the agent"),
        ErrorCode::Unauthorized => Some(
            "send `Authorization: Bearer TOKEN`; `dromia init` wrote a token to the file `token` in the home, \
             and `dromia --tenant HANDLE token create NAME` creates another",
        ),
        ErrorCode::Forbidden => Some("ask the operator of this server"),
        ErrorCode::TenantNotFound => Some("list the tenants with `dromia tenant list`"),
        ErrorCode::TenantSuspended => {
            Some("an operator has it go on with `dromia tenant resume HANDLE`; reads are answered meanwhile")
        }
        ErrorCode::TenantActive => Some("suspend the tenant first with `dromia tenant suspend HANDLE`"),
        ErrorCode::SessionHeld => Some("see who set the hold with `dromia session show SESSION`"),
        ErrorCode::SessionInUse => Some("wait for the end of its run, or cancel it with `dromia run cancel`"),
        ErrorCode::AgentNotFound => Some("list the agents with `dromia agent list`"),
        ErrorCode::RevisionNotFound => Some("list the revisions with `dromia agent history`"),
        ErrorCode::DocumentNotFound => Some("list the documents with `dromia agent identity list AGENT`"),
        ErrorCode::TemplateNotFound => Some("list the templates with `dromia template list`"),
        ErrorCode::RoleNotFound => Some("list the roles with `dromia role list`"),
        ErrorCode::SessionNotFound => Some("list the sessions with `dromia session list`"),
        ErrorCode::RunNotFound => Some("list the runs with `dromia run list`"),
        ErrorCode::StateNotFound => Some("list the session's state entries"),
        ErrorCode::FileNotFound => Some("list the files with `dromia file list`"),
        ErrorCode::TokenNotFound => Some("list the tokens with `dromia token list`"),
        ErrorCode::CapabilityNotFound | ErrorCode::CapabilityRefused => {
            Some("list the capabilities with `dromia capability list`")
        }
        ErrorCode::CapabilityUnreadable => Some("copy the token exactly as `dromia capability grant` printed \
                                                 it"),
        ErrorCode::CapabilityForeign => Some("the token comes from another tenant or home; have a capability \
                                              granted here"),
        ErrorCode::SecretNotFound => Some("list the secrets with `dromia secret list`"),
        ErrorCode::VaultLocked => Some("restore the key of this home; the operator keeps it in `vault.key`"),
        ErrorCode::ToolNotFound => Some("list the tools with `dromia tool list`"),
        ErrorCode::BudgetNotFound => Some("list the budgets with `dromia budget list`"),
        ErrorCode::BudgetDeclared => {
            Some("change `tenants.NAME.budgets` in dromia.yaml")
        }
        ErrorCode::BudgetExhausted => {
            Some("`dromia run why` names the budget and says how to raise it; then `dromia run resume`")
        }
        ErrorCode::ApprovalNotFound => Some("list the approvals with `dromia approval list --all`"),
        ErrorCode::ApprovalClosed => Some("see what happened with `dromia approval show`"),
        ErrorCode::ApprovalOutdated => {
            Some(
                "restore the files, or deny the call with `dromia approval deny`; the agent may ask again \
                 with the current files",
            )
        }
        ErrorCode::ApprovalRuleNotFound => Some("list the rules with `dromia approval rule list`"),
        ErrorCode::AnswerSchemaUnsatisfied => {
            Some("see the answers with `dromia run show`, then simplify the schema or use a stronger model")
        }
        ErrorCode::LoopDetected => Some("see its calls with `dromia run show`, then ask in other words"),
        ErrorCode::RecordNotFound => Some("list the records with `dromia audit query`"),
        ErrorCode::DeliveryNotFound => Some("list the deliveries with `dromia delivery list`"),
        ErrorCode::SignatureRefused => {
            Some("sign id, time and body with the channel's secret, as Standard Webhooks describes")
        }
        ErrorCode::RequestNotFound => Some("see the run's model calls with `dromia run show`"),
        ErrorCode::RequestUnavailable => Some("read the conversation in its journal: `dromia run export`"),
        ErrorCode::ContextExceeded => {
            Some("begin a new session, send less at a time, or choose a model with a larger window with `dromia model set`")
        }
        ErrorCode::HandleTaken => Some("choose another handle"),
        ErrorCode::IdempotencyConflict => Some("use a new key for a new request"),
        ErrorCode::CursorInFuture => Some("continue after the last entry that you have seen"),
        ErrorCode::VersionConflict => Some("read the value again, then write with its version"),
        ErrorCode::RunTerminal => Some("see how it ended with `dromia run show`"),
        ErrorCode::RunUnanswered => Some("see why with `dromia run why`; a new message starts another run"),
        ErrorCode::ModelRejected => {
            Some("correct the model's entry in dromia.yaml; `dromia model test ALIAS` tests it")
        }
        ErrorCode::RunUnfinished => Some("see how to continue with `dromia run why`"),
        ErrorCode::Overloaded | ErrorCode::StoreUnavailable | ErrorCode::ModelUnavailable => {
            Some("send the request again later")
        }
        ErrorCode::RateLimited => {
            Some("send the request again after Retry-After; an operator can raise limits.token_rate_max or limits.requests_max in dromia.yaml")
        }
        ErrorCode::ActorRateLimited => Some(
            "send the input again after Retry-After, with the same idempotency key; an operator can raise the \
             limits.actor_inputs_* in dromia.yaml",
        ),
        ErrorCode::ShuttingDown => Some("send the request again when the server is back"),
        ErrorCode::StoreReadOnly => Some("free disk space or repair the disk; the server retries by itself"),
        ErrorCode::OutcomeUnknown => Some("check whether it happened, or repeat the request with the same \
                                           idempotency key"),
        ErrorCode::JournalDamaged => Some(
            "the server still answers requests for other data. Restore a backup to repair this: `dromia \
             explain journal_damaged`",
        ),
        ErrorCode::JournalUnreadable => Some("start the newer program that wrote the entry"),
        ErrorCode::ModelCut => Some("see the run before you ask again"),
        ErrorCode::Internal => Some("the server's log has more under this request's id"),
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        Self {
            status: http_status(fault.code),
            fault,
            cause: None,
            place: None,
            run: None,
            again_s: 1,
            word: None,
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let cause = error.to_string();
        match error {
            ReadError::Unavailable { .. } => {
                Self::new(ErrorCode::StoreUnavailable, "the store did not answer").with_cause(cause)
            }
            ReadError::Damaged { place, .. } => Self::new(
                ErrorCode::JournalDamaged,
                format!("{place} is damaged, so the server does not return it"),
            )
            .with_cause(cause),
        }
    }
}

impl From<CommitRefusal> for ApiError {
    fn from(refusal: CommitRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            CommitRefusal::Malformed(_) => Self::invalid_request(message),
            CommitRefusal::NotFound(_) => Self::new(ErrorCode::SessionNotFound, "there is no such session"),
            CommitRefusal::HandleTaken(_) => Self::new(ErrorCode::HandleTaken, message),
            CommitRefusal::StateVersion { .. } => Self::new(ErrorCode::VersionConflict, message),
            CommitRefusal::KeyTaken { .. } | CommitRefusal::AnswerClaimed => {
                Self::new(ErrorCode::IdempotencyConflict, message)
            }
            CommitRefusal::AgentState { .. } => Self::new(ErrorCode::AgentTerminated, message),
            CommitRefusal::RunTerminal => Self::new(ErrorCode::RunTerminal, message),
            CommitRefusal::SessionKept { obstacle: SessionObstacle::Hold, .. } => {
                Self::new(ErrorCode::SessionHeld, message)
            }
            CommitRefusal::SessionKept { .. } => Self::new(ErrorCode::SessionInUse, message),
            CommitRefusal::TenantActive => Self::new(ErrorCode::TenantActive, message),
            CommitRefusal::Overloaded
            | CommitRefusal::ApprovalsFull { .. }
            | CommitRefusal::ChildrenFull { .. }
            | CommitRefusal::SessionFull { .. }
            | CommitRefusal::ChildTooDeep { .. } => Self::new(ErrorCode::Overloaded, message),
            CommitRefusal::ReadOnly { cause } => {
                Self::new(ErrorCode::StoreReadOnly, "the store only answers reads").with_cause(cause)
            }
            CommitRefusal::Damaged { problem } => Self::new(
                ErrorCode::JournalDamaged,
                "the data that the write touches is damaged, so the store wrote nothing",
            )
            .with_cause(problem),
            CommitRefusal::ApprovalMoved { .. } => Self::new(ErrorCode::ApprovalClosed, message),
            CommitRefusal::BudgetExhausted(_) => Self::new(ErrorCode::BudgetExhausted, message),
            CommitRefusal::AgentRevision { .. }
            | CommitRefusal::RevisionKey { .. }
            | CommitRefusal::SessionExists { .. }
            | CommitRefusal::EpochStale { .. }
            | CommitRefusal::LeaseLasts { .. }
            | CommitRefusal::SequenceMoved { .. }
            | CommitRefusal::DeliveryMoved { .. }
            | CommitRefusal::DeliveryBlocked { .. }
            | CommitRefusal::FeedMoved { .. }
            | CommitRefusal::SecretVersion { .. } => {
                Self::new(ErrorCode::Internal, "the store refused the write").with_cause(message)
            }
        }
    }
}

/// Turns the three answers of a commit into two.
pub(crate) fn commit_receipt(commit: CommitOutcome) -> Answer<CommitReceipt> {
    match commit {
        CommitOutcome::Done(receipt) => Ok(receipt),
        CommitOutcome::Refused(refusal) => Err(refusal.into()),
        CommitOutcome::Unknown { cause } => Err(ApiError::new(
            ErrorCode::OutcomeUnknown,
            "the store does not know whether the write is durable",
        )
        .with_cause(cause)),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the failure that a response carries, in the words of its route, and names the request on every response.
pub(crate) fn finish_response(
    mut response: Response,
    request_id: HeaderValue,
    words: HintWording,
) -> Response {
    let dialect = response.extensions_mut().remove::<Dialect>().unwrap_or_default();
    if let Some(mut failure) = response.extensions_mut().remove::<ApiError>() {
        if words == HintWording::Routes {
            failure.rewrite_hint_for_http();
        }
        let id = request_id.to_str().unwrap_or_default();
        failure.write_log(id);
        *response.body_mut() = Body::from(dialect.error_body(&failure, id));
        if let Ok(status) = StatusCode::from_u16(dialect.status(&failure)) {
            *response.status_mut() = status;
        }
        let headers = response.headers_mut();
        // The router has announced the length of the empty body that this one replaces.
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(dialect.content_type()));
        if failure.code() == ErrorCode::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = failure.again_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        dialect.set_retry_headers(headers, &failure);
    }
    dialect.name_request(response.headers_mut(), &request_id);
    response.headers_mut().insert(dromia_api::REQUEST_ID_HEADER, request_id);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_of_every_code_names_no_command_that_has_a_route() {
        for code in ErrorCode::ALL {
            let mut failure = ApiError::new(*code, "it failed");
            failure.rewrite_hint_for_http();
            let hint = failure.hint().unwrap_or_default();
            for noun in ["agent", "approval", "budget", "capability", "delivery", "run", "session", "tool"] {
                assert!(!hint.contains(&format!("`dromia {noun} ")), "{code}: {hint}");
            }
        }
    }

    #[test]
    fn a_refusal_that_no_grant_lifts_advises_none() {
        let message = "the rule `leak-scan` denied the reply: the answer holds a secret, so it was not sent";
        let failure = ApiError::new(ErrorCode::ActionDenied, message);
        assert_eq!(failure.full_message(), message);
        assert_eq!(failure.problem_details("req_1").hint, None);
    }
}
