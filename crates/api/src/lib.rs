//! The wire contract of the HTTP interface, version 1: what a request may say and what an answer says.
//!
//! Requests refuse unknown fields, so a misspelt field is an error and never a silent default. Answers may gain
//! fields; a reader skips what it does not know. Ids travel in their text form, times as RFC 3339.
//!
//! This crate knows no HTTP library, no store and no engine: it is what server and clients must agree on, and
//! the words they share (ids, statuses, error codes) come from `dromia-contracts` as they are.

pub mod list;
pub mod problem;

pub mod agent;
pub mod approval;
pub mod audit;
pub mod budget;
pub mod capability;
pub mod child;
pub mod cost;
pub mod delivery;
pub mod event;
pub mod file;
pub mod id;
pub mod identity;
pub mod overview;
pub mod retention;
pub mod run;
pub mod secret;
pub mod session;
pub mod session_context;
pub mod status;
pub mod task;
pub mod template;
pub mod tenant;
pub mod token;
pub mod tool;

pub use dromia_contracts::agent::{AgentConfig, AgentState, ErasureCounts, HandleSlug};
pub use dromia_contracts::approval::{
    AnsweredCall, ApprovalState, BoundFiles, ExecutableFiles, OriginKind, ParsedRule, RuleAnswer, RuleError,
    RuleRejection, RuleSuggestion, RuleTool, escape_hidden, is_hidden_char, suggest_rules,
};
pub use dromia_contracts::budget::{BudgetExhaustion, BudgetMeasure, BudgetPeriod, BudgetScope};
pub use dromia_contracts::busy_policy::{BusyPolicy, UnknownBusyPolicy};
pub use dromia_contracts::capability::{CapabilityState, CapabilityUse};
pub use dromia_contracts::content::CallStatus;
pub use dromia_contracts::cost::{CURRENCY, ChargeBasis, CostTotals};
pub use dromia_contracts::delivery::{AttemptOutcome, DeadReason, DeliveryState};
pub use dromia_contracts::entry::repeated_text;
pub use dromia_contracts::id_fragment::{IdFragment, IdKind};
pub use dromia_contracts::identity_document::{DocumentDigest, DocumentName, ParseDocumentNameError};
pub use dromia_contracts::mind::{AgentMind, UnknownMind};
pub use dromia_contracts::model::TokenUsage;
pub use dromia_contracts::opinion::ModelOpinion;
pub use dromia_contracts::quantity;
pub use dromia_contracts::revision::{AgentField, AgentPatch, ConfigPatch};
pub use dromia_contracts::run::{RunKind, RunStatus};
pub use dromia_contracts::sandbox::{IsolationLevel, NetworkAccess};
pub use dromia_contracts::task::TaskState;
pub use dromia_contracts::token::{TokenScope, TokenScopes, TokenState, role_name};
pub use dromia_contracts::tool::{ArgumentRole, EffectClass, EffectSink, RecordFields, Sensitivity};
pub use dromia_contracts::vault::SecretPlacement;
pub use dromia_contracts::workspace::{ParseWorkspaceError, WorkspaceReference};
pub use dromia_contracts::workspace_files::FileKind;
pub use dromia_contracts::{
    AgentId, ApprovalId, CallId, CapabilityId, DeliveryId, Digest, ErrorCode, ItemId, Recourse, RunId,
    SessionId, TenantId, TokenId,
};

pub use crate::list::ListPage;
pub use crate::problem::ProblemDetails;

/// The header that picks the tenant on the Unix socket.
pub const TENANT_HEADER: &str = "x-dromia-tenant";

/// The tenant that is meant when the header is absent.
pub const TENANT_DEFAULT: &str = "default";

/// The header that makes a repeated request one request.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";

/// The header of an answer that a request with the same idempotency key got before.
pub const REPLAYED_HEADER: &str = "idempotency-replayed";

/// The header that names the revision of an agent that a change expects, as a number in quotes.
pub const EXPECTED_HEADER: &str = "if-match";

/// The header that names a request in the answer and in the server's log.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

/// The header that names the session of an answer, and in a request the session to go on with.
pub const SESSION_HEADER: &str = "x-dromia-session";

/// The header that names the run of an answer.
pub const RUN_HEADER: &str = "x-dromia-run";

/// The header that says how many runs of a session had not ended when it was written into a file, and are not in it.
pub const OPEN_RUNS_HEADER: &str = "x-dromia-open-runs";

/// The header that says how many inputs of a session no run had taken when it was written into a file; they are not in it.
pub const WAITING_INPUTS_HEADER: &str = "x-dromia-waiting-inputs";

/// The header that says what of a request in another API's form was left out of what was done.
pub const WARNING_HEADER: &str = "x-dromia-warning";

/// The header that says how many milliseconds a request of another API's form waits for its answer.
pub const WAIT_HEADER: &str = "x-dromia-wait-ms";

/// The header of a streamed request to a compatible API that says how the stream says what its run waits for: in a
/// `comment`, which is the default, or as `text` of the answer.
pub const WAITING_HEADER: &str = "x-dromia-waiting";

/// The header that names the step and the attempt of a model's request, as `2.1`.
pub const STEP_HEADER: &str = "x-dromia-step";

/// The header that names the alias under which a model was asked.
pub const ALIAS_HEADER: &str = "x-dromia-alias";

/// The header that names the model's id at its provider.
pub const MODEL_HEADER: &str = "x-dromia-model";

/// The header that names the form of a model's request and its version, as `chat/1`.
pub const FORM_HEADER: &str = "x-dromia-form";

/// The header that carries the digest of a model's request: the first 8 bytes of its BLAKE3, in hex.
pub const DIGEST_HEADER: &str = "x-dromia-digest";

/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
