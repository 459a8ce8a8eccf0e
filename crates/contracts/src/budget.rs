//! Budgets: how much may be spent, by whom, in which time; and the fold that charges the entries of a journal.
//!
//! A budget is reserved before a call and settled after it. Both happen in the commit of the entry that says so, and
//! the store does it: [`charge_entries`] reads what a batch appends, and the store writes what it returns. So no caller
//! can forget to charge, two runs at once cannot both spend the last of a budget, and a crash leaves the reservation of
//! a lost call in place: a lost call stays charged.
//!
//! There are four measures. Money, tokens and calls are reserved whole before a call; the time of a call is unknown
//! before it ends, so a call begins while there is some left. Hence a budget is overshot by what one call takes beyond
//! its reservation, and by no second call.
//!
//! This module reads no rows, knows no prices and does not decide what happens when a budget is used up.

mod fold;
mod terms;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{AgentId, RunId, SessionId};
use crate::scope::Actor;

pub use self::fold::{
    BudgetCharges, BudgetCount, BudgetCounter, BudgetReservation, ReadCount, charge_entries,
};
pub use self::terms::{BudgetMeasure, BudgetPeriod, BudgetScope, UnknownWord};

/// The most budgets of a tenant: each of them is looked at before every call.
pub const BUDGETS_MAX: usize = 64;

/// The longest name of a budget, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The most time that a lost call is charged: how long it really ran is unknown.
pub const LOST_MS_MAX: u64 = 10 * 60 * 1000;

/// The rule of calls that a budget refused. They are not counted as calls.
pub const RULE: &str = "budget";

/// How much may be spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetDefinition {
    /// What it is called, unique in its tenant.
    pub name: String,
    /// Whose spending is added up.
    pub per: BudgetScope,
    /// The one agent, actor, session or run that it is about; without it each has the whole limit for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What is counted.
    pub measure: BudgetMeasure,
    /// After which time the count starts again from zero.
    pub period: BudgetPeriod,
    /// The most of it: tokens, millionths of the currency unit, milliseconds or calls.
    pub limit: u64,
    /// Whether the configuration file sets it, which then is the only one who changes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub declared: bool,
}

impl BudgetDefinition {
    /// Says what is wrong with it, if anything is.
    pub fn validation_problem(&self) -> Option<&'static str> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.chars().all(plain) {
            return Some("a budget's name has 1 to 64 lower-case letters, digits and hyphens");
        }
        if self.limit > i64::MAX.unsigned_abs() {
            return Some("a limit is at most 9223372036854775807");
        }
        let Some(of) = &self.of else { return None };
        let known = match self.per {
            BudgetScope::Tenant => {
                return Some("a budget per tenant covers the whole tenant; leave out `of`");
            }
            BudgetScope::Agent => of.parse::<AgentId>().is_ok(),
            BudgetScope::Session => of.parse::<SessionId>().is_ok(),
            BudgetScope::Run => of.parse::<RunId>().is_ok(),
            BudgetScope::Actor => (1..=512).contains(&of.len()),
        };
        (!known).then_some("name an agent, session or run by its id, an actor by its name")
    }

    /// Returns whether what was counted for the other counts for this one.
    pub fn counts_as(&self, other: &Self) -> bool {
        (&self.name, self.per, &self.of, self.measure, self.period)
            == (&other.name, other.per, &other.of, other.measure, other.period)
    }

    /// Returns under which subject a run's spending is added up, if it concerns the budget.
    fn matching_subject(&self, spender: &BudgetSpender<'_>) -> Option<String> {
        let subject = match self.per {
            BudgetScope::Tenant => String::new(),
            BudgetScope::Agent => spender.agent.to_string(),
            BudgetScope::Actor => spender.payer.actor.as_str().to_owned(),
            BudgetScope::Session => spender.session.to_string(),
            BudgetScope::Run => spender.run.to_string(),
        };
        self.of.as_ref().is_none_or(|of| *of == subject).then_some(subject)
    }
}

/// A budget and how much of it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetUse {
    /// The budget.
    pub budget: BudgetDefinition,
    /// Who used most of it in the present period; empty for the tenant, and while nothing is used.
    pub subject: String,
    /// How much that is, with what is reserved. Where a clock went back over the end of a period, that of the latest period.
    pub used: u64,
}

/// Who pays for the entries of a batch, as far as the store does not know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetPayer {
    /// Whose input the run answers.
    pub actor: Actor,
    /// Whether the price of the model is known; else no budget of money lets the call begin.
    pub priced: bool,
}

/// Who spends.
#[derive(Debug, Clone, Copy)]
pub struct BudgetSpender<'a> {
    /// Who pays.
    pub payer: &'a BudgetPayer,
    /// The agent.
    pub agent: AgentId,
    /// The session.
    pub session: SessionId,
    /// The run.
    pub run: RunId,
}

/// Which budget has too little left, and for how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetExhaustion {
    /// The budget's name.
    pub budget: String,
    /// Whose spending it adds up.
    pub per: BudgetScope,
    /// What is counted.
    pub measure: BudgetMeasure,
    /// The most of it.
    pub limit: u64,
    /// What was used, with what is reserved.
    pub used: u64,
    /// What the call would have reserved.
    pub needed: u64,
    /// When the count starts again from zero, if it ever does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whether the reason is that the price of the model is unknown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unpriced: bool,
}

impl BudgetExhaustion {
    /// Says it in words.
    pub fn text(&self) -> String {
        let (per, measure) = (self.per.as_str(), self.measure.as_str());
        if self.unpriced {
            return format!(
                "the budget {} ({measure} per {per}) refused a model that has no price",
                self.budget
            );
        }
        format!(
            "the budget {} ({measure} per {per}) {}: {} of {} used, {} more needed",
            self.budget,
            // Where nothing is used, the next call alone is larger than all of it.
            if self.used == 0 { "does not cover the next call" } else { "is used up" },
            self.measure.format_amount(self.used),
            self.measure.format_amount(self.limit),
            self.measure.format_amount(self.needed),
        )
    }
}

#[cfg(test)]
mod tests;
