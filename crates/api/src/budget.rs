//! Budgets on the wire. Amounts are whole numbers: tokens, millionths of the currency unit, milliseconds or calls.

use dromia_contracts::budget::{Measure, Per, Period};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sets a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetBudget {
    /// Whose spending is added up.
    pub per: Per,
    /// The one agent (id or handle), actor, session or run that it is about; without it each has the whole limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What is counted.
    pub measure: Measure,
    /// After which time the count begins anew, in UTC.
    pub period: Period,
    /// The most of it: tokens, millionths of the currency unit, milliseconds or calls.
    pub limit: u64,
}

/// A budget, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Budget {
    /// What it is called.
    pub name: String,
    /// Whose spending is added up.
    pub per: Per,
    /// The one that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What is counted.
    pub measure: Measure,
    /// After which time the count begins anew.
    pub period: Period,
    /// The most of it.
    pub limit: u64,
    /// How much is used or reserved in the present period, by whoever used most.
    pub used: u64,
    /// Who that is; absent for the tenant, or if nobody used any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Whether the configuration file sets it.
    pub declared: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_below_nothing_and_a_word_nobody_knows_are_refused() {
        let good = r#"{"per":"tenant","measure":"money","period":"day","limit":5000000}"#;
        assert!(serde_json::from_str::<SetBudget>(good).is_ok());
        for (from, to) in [("5000000", "-1"), ("money", "gold"), ("limit", "most"), ("day", "week")] {
            assert!(serde_json::from_str::<SetBudget>(&good.replace(from, to)).is_err(), "{to}");
        }
    }
}
