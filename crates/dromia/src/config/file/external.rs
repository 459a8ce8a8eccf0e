//! Tools of the operator's own: servers to which calls are posted.

use std::collections::BTreeMap;

use dromia_contracts::tool::{ArgumentRole, EffectClass, EffectSink, RecordFields, Sensitivity};
use dromia_contracts::vault::SecretPlacement;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A tool behind an HTTP server: each call is posted to it. An agent needs a grant for the tool, and none for the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenExternal {
    /// What the tool does, in words for the model.
    pub(crate) description: String,
    /// URL to which each call is posted, with its arguments as JSON. A URL with an IP address or `localhost` is reached
    /// without further settings; a private host name needs `egress.private_servers`.
    pub(crate) url: String,
    /// JSON Schema of the arguments, an object. Default: no arguments. Arguments that it does not name are refused,
    /// unless it sets `additionalProperties`.
    #[serde(default)]
    pub(crate) arguments: BTreeMap<String, Value>,
    /// What may happen if a call runs twice, because a crash lost its result. `pure`: it only reads. `idempotent`:
    /// twice is the same as once. `keyed`: the server acts once for each `idempotency-key` header. `unkeyed`: it may do
    /// harm, so it is never repeated automatically.
    #[serde(default = "unkeyed")]
    pub(crate) effect: EffectClass,
    /// Where the effect of a call is visible, for policies. `inside`: within the tenant, where it can be undone.
    /// `outside`: for others, or where it cannot be undone.
    #[serde(default)]
    pub(crate) sink: EffectSink,
    /// What single arguments mean, for policies: argument name and `destination`, `object`, `amount`, `credential` or
    /// `payload`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) roles: BTreeMap<String, ArgumentRole>,
    /// Label of the result: integrity and readers. Default: `untrusted/agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) result_label: Option<String>,
    /// How private the result is. `low`: any person may know it. `high`: it belongs to one person, as mail and accounts
    /// do. Default: `low`, or `high` for a tool with a `secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sensitivity: Option<Sensitivity>,
    /// For a tool that returns JSON records: which fields identify a record. A request of a person that uses a name is
    /// matched to the record's key. Do not list a key field whose value other people can choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) records: Option<RecordFields>,
    /// Name of the secret in the calling tenant's vault that is sent with each call. The secret must be bound to the
    /// server in `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<String>,
    /// Where the secret is placed in the request: `bearer` (the `authorization` header), `header:NAME` or `query:NAME`.
    /// It must agree with the placement of the secret. Default: `bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) placement: Option<SecretPlacement>,
    /// Handles of the tenants whose agents may be given the tool. For all others it does not exist. Default, if `agents` is
    /// not set either: every tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenants: Option<Vec<String>>,
    /// Agents that may be given the tool, beside those of `tenants`: handle, or TENANT/HANDLE for an agent of a tenant other
    /// than `default`. For all others it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agents: Option<Vec<String>>,
    /// Time that one call may take, in milliseconds. Default: the value of `egress.total_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

fn unkeyed() -> EffectClass {
    EffectClass::Unkeyed
}
