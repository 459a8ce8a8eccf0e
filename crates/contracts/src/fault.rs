//! What can go wrong across crates: a closed list of [`ErrorCode`]s, and [`Fault`], which carries one to a caller.
//!
//! A fault's message is for the tenant: it holds no SQL, no path of the machine and no secret. What the caller
//! can do about it is data ([`Recourse`]), never a matter of reading the text.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the caller can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recourse {
    /// Nothing happened, and the same request may succeed later.
    Retry,
    /// Nothing happened, and the same request will fail again.
    Change,
    /// It may or may not have happened: look, or repeat with the same idempotency key.
    Look,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $recourse:ident;)+) => {
        /// The stable code of a failure, the same in a journal, over HTTP and on the command line.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
        )]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $code)] $variant,)+
        }

        impl ErrorCode {
            /// All codes, in the order of their pages.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the code as it is written.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// Returns what the caller can do.
            pub const fn recourse(self) -> Recourse {
                match self { $(Self::$variant => Recourse::$recourse),+ }
            }
        }
    };
}

error_codes! {
    /// The request is not what the endpoint takes; the message names the place.
    InvalidRequest = "invalid_request", Change;
    /// The body is longer than the limit.
    BodyTooLarge = "body_too_large", Change;
    /// No credential, or one that was never issued, has expired or was revoked.
    Unauthorized = "unauthorized", Change;
    /// The credential is good, but not for this.
    Forbidden = "forbidden", Change;
    /// No such route.
    RouteNotFound = "route_not_found", Change;
    /// The tenant does not exist or cannot be seen.
    TenantNotFound = "tenant_not_found", Change;
    /// The tenant is suspended: it reads, and changes nothing.
    TenantSuspended = "tenant_suspended", Change;
    /// The tenant is not suspended, so it is not deleted.
    TenantActive = "tenant_active", Change;
    /// The session is on hold, so neither it nor what it belongs to is deleted.
    SessionHeld = "session_held", Change;
    /// The session is in use, or its parent is there, so it is not deleted.
    SessionInUse = "session_in_use", Change;
    /// The agent does not exist or cannot be seen.
    AgentNotFound = "agent_not_found", Change;
    /// The agent has no revision of this number, or no longer.
    RevisionNotFound = "revision_not_found", Change;
    /// The agent has no document of this name.
    DocumentNotFound = "document_not_found", Change;
    /// There is no template of this name.
    TemplateNotFound = "template_not_found", Change;
    /// There is no role of workers of this name.
    RoleNotFound = "role_not_found", Change;
    /// The session does not exist or cannot be seen.
    SessionNotFound = "session_not_found", Change;
    /// The run does not exist or cannot be seen.
    RunNotFound = "run_not_found", Change;
    /// The state entry does not exist or cannot be seen.
    StateNotFound = "state_not_found", Change;
    /// The token does not exist or cannot be seen.
    TokenNotFound = "token_not_found", Change;
    /// The delivery does not exist or cannot be seen.
    DeliveryNotFound = "delivery_not_found", Change;
    /// The secret does not exist or cannot be seen.
    SecretNotFound = "secret_not_found", Change;
    /// The key of this instance is missing, or it is another one than the secrets were sealed with.
    VaultLocked = "vault_locked", Change;
    /// No such record of the audit in this tenant.
    RecordNotFound = "record_not_found", Change;
    /// The capability does not exist or cannot be seen.
    CapabilityNotFound = "capability_not_found", Change;
    /// The bytes are no capability token, or not an unchanged one.
    CapabilityUnreadable = "capability_unreadable", Change;
    /// The capability token begins with a key that does not count in this tenant.
    CapabilityForeign = "capability_foreign", Change;
    /// The capability is no longer valid, or cannot be narrowed so.
    CapabilityRefused = "capability_refused", Change;
    /// No tool has this name.
    ToolNotFound = "tool_not_found", Change;
    /// The message may have arrived, and its receiver would count it twice.
    DeliveryUncertain = "delivery_uncertain", Change;
    /// No channel signed the message, or not now.
    SignatureRefused = "signature_refused", Change;
    /// The run made no such model call.
    RequestNotFound = "request_not_found", Change;
    /// The request was sent and cannot be written again exactly as it was.
    RequestUnavailable = "request_unavailable", Change;
    /// The workspace has no such file or directory.
    FileNotFound = "file_not_found", Change;
    /// Another tenant or agent carries the handle.
    HandleTaken = "handle_taken", Change;
    /// The idempotency key was used with another request.
    IdempotencyConflict = "idempotency_conflict", Change;
    /// The cursor names an entry that does not exist yet.
    CursorInFuture = "cursor_in_future", Change;
    /// The value changed since it was read.
    VersionConflict = "version_conflict", Change;
    /// The agent is terminated and takes no more input.
    AgentTerminated = "agent_terminated", Change;
    /// The run has ended.
    RunTerminal = "run_terminal", Change;
    /// The run can be neither resumed nor released.
    RunNotResumable = "run_not_resumable", Change;
    /// The call that a client gives a result for does not wait for one.
    CallNotOpen = "call_not_open", Change;
    /// The run goes on, or rests, and the answer did not wait for its end.
    RunUnfinished = "run_unfinished", Look;
    /// The run ended without an answer: an actor ended it, or it stopped at its limit.
    RunUnanswered = "run_unanswered", Change;
    /// A share of the tenant or of the node is used up.
    Overloaded = "overloaded", Retry;
    /// The token asks more at a time, or more often, than one token may.
    RateLimited = "rate_limited", Retry;
    /// The actor says more than one actor may.
    ActorRateLimited = "actor_rate_limited", Retry;
    /// The server is draining.
    ShuttingDown = "shutting_down", Retry;
    /// The store answers reads only, because a write failed.
    StoreReadOnly = "store_read_only", Retry;
    /// The store did not answer.
    StoreUnavailable = "store_unavailable", Retry;
    /// The store could not say whether the write is durable.
    OutcomeUnknown = "outcome_unknown", Look;
    /// A stored row does not match its digest.
    JournalDamaged = "journal_damaged", Change;
    /// The journal holds an entry that this version cannot read.
    JournalUnreadable = "journal_unreadable", Change;
    /// The model's server is overloaded or cannot be reached.
    ModelUnavailable = "model_unavailable", Retry;
    /// The model's server refused the request.
    ModelRejected = "model_rejected", Change;
    /// The model's answer was cut, malformed or never came; it may have been charged.
    ModelCut = "model_cut", Look;
    /// The newest part of the conversation does not fit the model's window.
    ContextExceeded = "context_exceeded", Change;
    /// A budget has too little left for the next call.
    BudgetExhausted = "budget_exhausted", Change;
    /// The run asked for the same call again and again and got the same result.
    LoopDetected = "loop_detected", Change;
    /// The answer does not satisfy the schema that it was asked for, and repairs did not help.
    AnswerSchemaUnsatisfied = "answer_schema_unsatisfied", Change;
    /// No budget has this name.
    BudgetNotFound = "budget_not_found", Change;
    /// The configuration file sets the budget.
    BudgetDeclared = "budget_declared", Change;
    /// The approval does not exist or cannot be seen.
    ApprovalNotFound = "approval_not_found", Change;
    /// The approval was answered, has expired or is not needed any more.
    ApprovalClosed = "approval_closed", Change;
    /// What would be approved is not what was asked for: files that the call's program could execute have changed.
    ApprovalOutdated = "approval_outdated", Change;
    /// No rule of approvals has this name.
    ApprovalRuleNotFound = "approval_rule_not_found", Change;
    /// The gate refused the action.
    ActionDenied = "action_denied", Change;
    /// A defect of this program.
    Internal = "internal", Look;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure on its way to a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The stable code.
    pub code: ErrorCode,
    /// What went wrong, with its nouns, in words a tenant may read.
    pub message: String,
    /// The next step, if the message alone does not say it.
    pub hint: Option<String>,
}

impl Fault {
    /// Makes a fault.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// Adds the next step.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
