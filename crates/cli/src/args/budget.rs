//! `dromia budget`: how much may be spent.

use clap::{Args, Subcommand};
use dromia_api::{Measure, Per, Period};

/// What to do with budgets.
#[derive(Debug, Clone, Subcommand)]
pub enum Budget {
    /// Set a budget, or change one: what is not named stays as it is
    #[command(
        after_help = "Examples:\n  dromia budget set daily --limit 5.00\n  dromia budget set strangers --per actor --measure calls --period hour --limit 20\n  dromia budget set daily --limit 10.00\n\nA new budget is of the tenant, of money and by day unless it is said otherwise. Of money the limit is\nan amount such as 5.00, of time a number with s, m, h or d, of tokens and calls a whole number.\nPeriods are in UTC."
    )]
    Set(SetBudget),
    /// List budgets, with what is used of them
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia budget list\n  dromia budgets ls --json"
    )]
    List,
    /// Remove a budget and what was counted for it
    #[command(visible_alias = "rm", after_help = "Examples:\n  dromia budget remove daily")]
    Remove(BudgetName),
}

/// A budget to set.
#[derive(Debug, Clone, Args)]
pub struct SetBudget {
    /// What it is called
    pub name: String,
    /// The most that may be spent
    #[arg(long, value_name = "AMOUNT")]
    pub limit: String,
    /// Whose spending is added up: tenant, agent, actor, session or run
    #[arg(long, value_name = "WHOM")]
    pub per: Option<Per>,
    /// The one agent, actor, session or run that it is about; without it each has the whole limit
    #[arg(long, value_name = "NAME|ID")]
    pub of: Option<String>,
    /// What is counted: money, tokens, time or calls
    #[arg(long, value_name = "WHAT")]
    pub measure: Option<Measure>,
    /// After which time the count begins anew: hour, day, month, or total for never
    #[arg(long, value_name = "TIME")]
    pub period: Option<Period>,
}

/// A budget, by name.
#[derive(Debug, Clone, Args)]
pub struct BudgetName {
    /// Its name
    pub name: String,
}
