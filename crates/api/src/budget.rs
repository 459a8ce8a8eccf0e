//! Budgets on the wire. Amounts are whole numbers: tokens, millionths of the currency unit, milliseconds or calls.

use dromia_contracts::budget::{BudgetMeasure, BudgetPeriod, BudgetScope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sets a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetBudget {
    /// Whose spending is added up.
    pub per: BudgetScope,
    /// The one agent (id or handle), actor, session or run that it is about; without it each has the whole limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What is counted.
    pub measure: BudgetMeasure,
    /// After which time the count starts again from zero, in UTC.
    pub period: BudgetPeriod,
    /// The most of it: tokens, millionths of the currency unit, milliseconds or calls.
    pub limit: u64,
}

/// What one of an amount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetUnit {
    /// A token.
    Tokens,
    /// A millionth of the currency unit of the price table.
    Micros,
    /// A millisecond.
    Ms,
    /// A call.
    Calls,
}

impl From<BudgetMeasure> for BudgetUnit {
    fn from(measure: BudgetMeasure) -> Self {
        match measure {
            BudgetMeasure::Tokens => Self::Tokens,
            BudgetMeasure::Money => Self::Micros,
            BudgetMeasure::Time => Self::Ms,
            BudgetMeasure::Calls => Self::Calls,
        }
    }
}

/// A budget, and how much of it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetResource {
    /// What it is called.
    pub name: String,
    /// Whose spending is added up.
    pub per: BudgetScope,
    /// The one that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What is counted.
    pub measure: BudgetMeasure,
    /// After which time the count starts again from zero.
    pub period: BudgetPeriod,
    /// What one of `limit` and of `used` is.
    pub unit: BudgetUnit,
    /// The most of it.
    pub limit: u64,
    /// What the subject with the highest use in this period used or reserved; ended runs do not count.
    pub used: u64,
    /// That subject; absent for the tenant, and while nothing is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Whether the configuration file sets it.
    pub declared: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_document_has_its_unit() {
        let of = |measure| serde_json::to_value(BudgetUnit::from(measure)).expect("it is data");
        assert_eq!(BudgetMeasure::ALL.map(of), ["tokens", "micros", "ms", "calls"]);
        let text = r#"{"name":"a","per":"run","measure":"money","period":"total","unit":"micros","limit":5,"used":0,"declared":false}"#;
        let read: BudgetResource = serde_json::from_str(text).expect("it is one");
        assert_eq!(serde_json::to_string(&read).expect("it is data"), text);
    }

    #[test]
    fn a_negative_limit_and_an_unknown_word_are_refused() {
        let good = r#"{"per":"tenant","measure":"money","period":"day","limit":5000000}"#;
        assert!(serde_json::from_str::<SetBudget>(good).is_ok());
        for (from, to) in [("5000000", "-1"), ("money", "gold"), ("limit", "most"), ("day", "week")] {
            assert!(serde_json::from_str::<SetBudget>(&good.replace(from, to)).is_err(), "{to}");
        }
    }
}
