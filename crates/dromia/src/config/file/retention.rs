//! How long sessions are kept, for all tenants or for one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long sessions are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenRetention {
    /// Time for which a session is kept after the last thing that happened in it, such as `90d`, `26w` or `48h`; at least
    /// `1d`. Then it is deleted with its runs, branches and workers, unless it is on hold or something of it is still open.
    /// `forever` keeps sessions until somebody deletes them. Default: `engine.retention.sessions`, else `forever`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) sessions: Option<String>,
}

impl WrittenRetention {
    pub(crate) fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}
