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
    /// What it is for, as models see it.
    pub(crate) description: String,
    /// The address to which each call is posted, with its arguments as JSON. An address, or `localhost`, opens itself for
    /// this tool; a name that is not public is opened by `egress.private_servers`.
    pub(crate) url: String,
    /// The JSON Schema of its arguments, an object; by default there are none. What it does not name is refused, unless it
    /// says `additionalProperties` itself.
    #[serde(default)]
    pub(crate) arguments: BTreeMap<String, Value>,
    /// What a call may do that runs twice, because a crash took its result: `pure`, `idempotent`, `keyed` (the server acts
    /// once for each `idempotency-key`) or `unkeyed`, the default, which is never run again by itself.
    #[serde(default = "unkeyed")]
    pub(crate) effect: EffectClass,
    /// Where what it does is seen, for policies: `inside` the tenant, where it can be undone, or `outside`, the default.
    #[serde(default)]
    pub(crate) sink: EffectSink,
    /// What its arguments mean, for policies: `destination`, `object`, `amount`, `credential` or `payload`, each under its
    /// name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) roles: BTreeMap<String, ArgumentRole>,
    /// The label of what it answers, integrity and readers; by default `untrusted/agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) result_label: Option<String>,
    /// How much it matters who learns what it answers: `low`, or `high` for somebody's own, as mail and accounts are. By default
    /// `low`, and `high` with a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sensitivity: Option<Sensitivity>,
    /// Where its answers are JSON records: the fields that are `keys`, by which calls say a record, first the one that every
    /// record has for itself, and the `names`, by which people do. Of keys that others choose none belongs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) records: Option<RecordFields>,
    /// The name of the secret of the calling tenant that is sent along; its own rule must name this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<String>,
    /// Where in a request the secret goes, as its own rule says: `bearer`, the default, or `header:NAME`, or
    /// `query:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) placement: Option<SecretPlacement>,
    /// How long a call may take from beginning to end, in milliseconds; by default what `egress.total_ms` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

fn unkeyed() -> EffectClass {
    EffectClass::Unkeyed
}
