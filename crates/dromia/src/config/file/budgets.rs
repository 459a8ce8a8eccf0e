//! How much may be spent, as it is written of a tenant.

use dromia_contracts::budget::{BudgetMeasure, BudgetPeriod, BudgetScope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much may be spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenBudget {
    /// Name of the budget: lower-case letters, digits and hyphens.
    pub(crate) name: String,
    /// Whose use is added up: that of the `tenant`, or of each `agent`, `actor`, `session` or `run`.
    pub(crate) per: BudgetScope,
    /// The one agent (handle or id), actor, session or run that the budget applies to. Default: each of them gets the
    /// whole limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) of: Option<String>,
    /// What is counted: `money`, `tokens`, `calls` (of models and tools) or `time` (of these calls).
    pub(crate) measure: BudgetMeasure,
    /// When the count starts again, in UTC: every `hour`, `day` or `month`, or never (`total`).
    pub(crate) period: BudgetPeriod,
    /// The limit, in quotes: an amount of money such as "5.00", a time such as "90s", "30m", "12h" or "7d", or a number
    /// of tokens or calls.
    pub(crate) limit: String,
}
