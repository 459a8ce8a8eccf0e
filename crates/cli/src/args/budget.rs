//! `dromia budget`: how much may be spent.

use clap::{Args, Subcommand};
use dromia_api::{BudgetMeasure, BudgetPeriod, BudgetScope};

/// What to do with budgets.
#[derive(Debug, Clone, Subcommand)]
pub enum BudgetCommand {
    /// Create a budget, or change only what you name of one
    #[command(
        after_help = "A new budget limits the money of the tenant for each day, unless you say otherwise. The limit of money is an amount such as 5.00, of time a number with s, m, h or d, of tokens and calls a whole number. Periods are in UTC.\n\nExamples:\n  dromia budget set daily --limit 5.00\n  dromia budget set callers --per actor --measure calls --period hour --limit 20\n  dromia budget set daily --limit 10.00"
    )]
    Set(SetBudget),
    /// List budgets and what is used of each
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia budget list\n  dromia budgets ls --json"
    )]
    List,
    /// Remove a budget and its count
    #[command(visible_alias = "rm", after_help = "Examples:\n  dromia budget remove daily")]
    Remove(BudgetName),
}

/// A budget to set.
#[derive(Debug, Clone, Args)]
pub struct SetBudget {
    /// Its name
    pub name: String,
    /// Allow at most this much
    #[arg(long, value_name = "AMOUNT")]
    pub limit: String,
    /// Add up the spending of each tenant, agent, actor, session or run
    #[arg(long, value_name = "WHOM")]
    pub per: Option<BudgetScope>,
    /// Limit only this agent, actor, session or run; without it each has the whole limit
    #[arg(long, value_name = "NAME|ID")]
    pub of: Option<String>,
    /// Count money, tokens, time or calls
    #[arg(long, value_name = "WHAT")]
    pub measure: Option<BudgetMeasure>,
    /// Restart the count every hour, day or month, or never with total
    #[arg(long, value_name = "TIME")]
    pub period: Option<BudgetPeriod>,
}

/// A budget, by name.
#[derive(Debug, Clone, Args)]
pub struct BudgetName {
    /// Its name
    pub name: String,
}
