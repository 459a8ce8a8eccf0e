//! How much may be spent, as it is written of a tenant.

use dromia_contracts::budget::{BudgetMeasure, BudgetPeriod, BudgetScope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much may be spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenBudget {
    /// What it is called: lower-case letters, digits and hyphens.
    pub(crate) name: String,
    /// Whose spending is added up.
    pub(crate) per: BudgetScope,
    /// The one agent (handle or id), actor, session or run that it is about; without it each has the whole limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) of: Option<String>,
    /// What is counted.
    pub(crate) measure: BudgetMeasure,
    /// How often the count restarts, in UTC.
    pub(crate) period: BudgetPeriod,
    /// The most of it: an amount of money such as "5.00", a time such as "90s", "30m", "12h" or "7d", or a number of tokens
    /// or calls, in quotes.
    pub(crate) limit: String,
}
