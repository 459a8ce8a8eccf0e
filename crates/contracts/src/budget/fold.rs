//! The fold that charges the entries of a journal: what a call reserves, and what it is settled with.
//!
//! It reads counts through its caller and writes none: the store keeps what it returns, in the same commit.
//!
//! A count is that of a period, and each subject has one: of the latest period in which it was charged. A clock that goes
//! back over the end of a period charges to that one, so that no budget is given twice; and what a call took whose period is
//! over concerns none.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{BudgetDefinition, BudgetExhaustion, BudgetMeasure, BudgetSpender, LOST_MS_MAX, RULE};
use crate::content::CallStatus;
use crate::entry::Entry;
use crate::fault::ErrorCode;
use crate::store::NewEntry;

/// Reads the count of the latest period of a budget and a subject.
pub type ReadCount<'a, E> = dyn FnMut(&str, &str) -> Result<Option<BudgetCount>, E> + 'a;

/// Charges the entries that a batch appends to a run's journal: settles calls that end, and reserves for those that
/// begin. `open` is what is reserved for the run, `read` returns the count of the latest period of a budget and a
/// subject. Fails, and changes nothing, with the first budget that has too little left.
pub fn charge_entries<E: From<BudgetExhaustion>>(
    budgets: &[BudgetDefinition],
    spender: &BudgetSpender<'_>,
    open: Vec<BudgetReservation>,
    entries: &[NewEntry],
    read: &mut ReadCount<'_, E>,
) -> Result<BudgetCharges, E> {
    let mut book =
        BudgetLedger { budgets, spender, read, charged: BudgetCharges { open, ..BudgetCharges::default() } };
    for new in entries {
        match &new.entry {
            Entry::ModelCalled(called) => {
                book.settle(new.at, &SettledCost::Lost)?;
                let tokens = u64::from(called.input_tokens) + u64::from(called.output_tokens_max);
                book.reserve(new.at, &CostCeiling::for_model_calls(1, tokens, called.reserved_micros))?;
            }
            Entry::OpinionCalled(called) => {
                book.settle(new.at, &SettledCost::Lost)?;
                let one = u64::from(called.input_tokens) + u64::from(called.output_tokens_max);
                let samples = u64::from(called.samples);
                let tokens = one.saturating_mul(samples);
                book.reserve(new.at, &CostCeiling::for_model_calls(samples, tokens, called.reserved_micros))?;
            }
            Entry::OpinionGiven(given) => {
                let known = SettledCost::Known { tokens: given.tokens, micros: given.cost_micros };
                book.settle(new.at, if given.opinion.is_some() { &known } else { &SettledCost::Lost })?;
            }
            Entry::ToolStarted(_) => {
                book.settle(new.at, &SettledCost::Lost)?;
                book.reserve(new.at, &CostCeiling { calls: 1, spends: None })?;
            }
            Entry::ModelReplied(replied) => {
                let usage = replied.usage;
                let tokens = u64::from(usage.input_tokens) + u64::from(usage.output_tokens);
                book.settle(new.at, &SettledCost::Known { tokens, micros: replied.cost_micros })?;
            }
            Entry::ModelFailed(failed) => match failed.code {
                // It was not made, or the provider refused it or never took it.
                ErrorCode::ModelUnavailable
                | ErrorCode::ModelRejected
                | ErrorCode::ContextExceeded
                | ErrorCode::ActionDenied => {
                    book.settle(new.at, &SettledCost::Known { tokens: 0, micros: failed.charged_micros })?;
                }
                _ => book.settle(new.at, &SettledCost::Lost)?,
            },
            Entry::ToolFinished(finished) => {
                let unknown = finished.status == CallStatus::Unknown;
                let took =
                    if unknown { SettledCost::Lost } else { SettledCost::Known { tokens: 0, micros: 0 } };
                book.settle(new.at, &took)?;
            }
            Entry::ToolRefused(refused) => {
                let judged = matches!(refused.status, CallStatus::Denied | CallStatus::Error);
                if judged && refused.rule.as_deref() != Some(RULE) {
                    book.count_refused(new.at)?;
                }
            }
            Entry::RunCompleted(_) | Entry::RunYielded(_) | Entry::RunFailed(_) | Entry::RunCancelled(_) => {
                book.settle(new.at, &SettledCost::Lost)?;
                book.charged.ended = true;
            }
            Entry::RunStarted(_)
            | Entry::CallAsked(_)
            | Entry::ToolHanded(_)
            | Entry::InputsTaken(_)
            | Entry::SignalTaken(_)
            | Entry::RunParked(_)
            | Entry::RunHeld(_) => {}
        }
    }
    Ok(book.charged)
}

/// One count: of a budget, for a subject, in a period.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BudgetCounter {
    /// The budget's name.
    pub budget: String,
    /// Whose spending it is.
    pub subject: String,
    /// When the period began.
    pub begins: i64,
}

/// How far a count has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetCount {
    /// When its period began.
    pub begins: i64,
    /// What was used in it, with what is reserved.
    pub used: u64,
}

/// What is reserved for a run's open call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetReservation {
    /// Where it is counted.
    pub counter: BudgetCounter,
    /// What is counted.
    pub measure: BudgetMeasure,
    /// How much.
    pub amount: u64,
    /// When the call began.
    pub at: Timestamp,
}

/// What charging a batch changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BudgetCharges {
    /// Counts with their new values, one of a budget and a subject. Those of earlier periods go.
    pub used: BTreeMap<BudgetCounter, u64>,
    /// What is reserved for the run from now on, in place of what was.
    pub open: Vec<BudgetReservation>,
    /// Whether the run has ended and spends nothing more.
    pub ended: bool,
}

/// What a call took.
enum SettledCost {
    /// This much.
    Known { tokens: u64, micros: u64 },
    /// Unknown: what was reserved stays charged.
    Lost,
}

/// What a call would take at most.
struct CostCeiling {
    calls: u64,
    /// Tokens and money; no tool takes any.
    spends: Option<(u64, u64)>,
}

impl CostCeiling {
    /// What calls of a model would take together.
    fn for_model_calls(calls: u64, tokens: u64, micros: u64) -> Self {
        Self { calls, spends: Some((tokens, micros)) }
    }
}

struct BudgetLedger<'a, E> {
    budgets: &'a [BudgetDefinition],
    spender: &'a BudgetSpender<'a>,
    read: &'a mut ReadCount<'a, E>,
    charged: BudgetCharges,
}

impl<E: From<BudgetExhaustion>> BudgetLedger<'_, E> {
    /// The count of the latest period in which a subject was charged.
    fn latest(&mut self, budget: &str, subject: &str) -> Result<Option<BudgetCount>, E> {
        let mine = |counter: &BudgetCounter| {
            (counter.budget.as_str(), counter.subject.as_str()) == (budget, subject)
        };
        match self.charged.used.iter().find(|(counter, _)| mine(counter)) {
            Some((counter, used)) => Ok(Some(BudgetCount { begins: counter.begins, used: *used })),
            None => (self.read)(budget, subject),
        }
    }

    /// Returns what is charged at a time: the period that the time lies in, or a later one that is known of the subject.
    fn count_at(
        &mut self,
        budget: &BudgetDefinition,
        subject: String,
        at: Timestamp,
    ) -> Result<(BudgetCounter, u64), E> {
        let begins = budget.period.period_start(at);
        let latest = self.latest(&budget.name, &subject)?.filter(|latest| latest.begins >= begins);
        let BudgetCount { begins, used } = latest.unwrap_or(BudgetCount { begins, used: 0 });
        Ok((BudgetCounter { budget: budget.name.clone(), subject, begins }, used))
    }

    /// Writes down a count, in the place of that of an earlier period.
    fn put(&mut self, counter: BudgetCounter, used: u64) {
        self.charged
            .used
            .retain(|known, _| (&known.budget, &known.subject) != (&counter.budget, &counter.subject));
        self.charged.used.insert(counter, used);
    }

    fn reserve(&mut self, at: Timestamp, needs: &CostCeiling) -> Result<(), E> {
        for budget in self.budgets {
            let Some(subject) = budget.matching_subject(self.spender) else { continue };
            let needed = match (budget.measure, needs.spends) {
                (BudgetMeasure::Tokens, Some((tokens, _))) => tokens,
                (BudgetMeasure::Money, Some((_, micros))) => micros,
                (BudgetMeasure::Tokens | BudgetMeasure::Money, None) => continue,
                (BudgetMeasure::Time, _) => 0,
                (BudgetMeasure::Calls, _) => needs.calls,
            };
            let (counter, used) = self.count_at(budget, subject, at)?;
            let unpriced = budget.measure == BudgetMeasure::Money && !self.spender.payer.priced;
            let full = match budget.measure {
                BudgetMeasure::Time => used >= budget.limit,
                BudgetMeasure::Tokens | BudgetMeasure::Money | BudgetMeasure::Calls => {
                    used.saturating_add(needed) > budget.limit
                }
            };
            if full || unpriced {
                return Err(E::from(BudgetExhaustion {
                    budget: budget.name.clone(),
                    per: budget.per,
                    measure: budget.measure,
                    limit: budget.limit,
                    used,
                    needed,
                    until: period_end(budget, &counter).filter(|_| !unpriced),
                    unpriced,
                }));
            }
            self.put(counter.clone(), used.saturating_add(needed));
            self.charged.open.push(BudgetReservation {
                counter,
                measure: budget.measure,
                amount: needed,
                at,
            });
        }
        Ok(())
    }

    fn settle(&mut self, at: Timestamp, took: &SettledCost) -> Result<(), E> {
        for BudgetReservation { counter, measure, amount, at: began } in
            std::mem::take(&mut self.charged.open)
        {
            let elapsed = u64::try_from(at.as_millisecond() - began.as_millisecond()).unwrap_or(0);
            let actual = match (measure, took) {
                (BudgetMeasure::Time, SettledCost::Known { .. }) => elapsed,
                (BudgetMeasure::Time, SettledCost::Lost) => elapsed.min(LOST_MS_MAX),
                (BudgetMeasure::Calls, _) | (_, SettledCost::Lost) => amount,
                (BudgetMeasure::Tokens, SettledCost::Known { tokens, .. }) => *tokens,
                (BudgetMeasure::Money, SettledCost::Known { micros, .. }) => *micros,
            };
            let latest = self.latest(&counter.budget, &counter.subject)?;
            if latest.is_some_and(|latest| latest.begins > counter.begins) {
                // Its period is over, and the subject is counted in a later one.
                continue;
            }
            let used =
                latest.filter(|latest| latest.begins == counter.begins).map_or(0, |latest| latest.used);
            self.put(counter, used.saturating_sub(amount).saturating_add(actual));
        }
        Ok(())
    }

    /// Counts a call that was refused, without looking at the limit, because nothing runs.
    fn count_refused(&mut self, at: Timestamp) -> Result<(), E> {
        for budget in self.budgets.iter().filter(|budget| budget.measure == BudgetMeasure::Calls) {
            let Some(subject) = budget.matching_subject(self.spender) else { continue };
            let (counter, used) = self.count_at(budget, subject, at)?;
            self.put(counter, used.saturating_add(1));
        }
        Ok(())
    }
}

/// When the period of a count ends.
fn period_end(budget: &BudgetDefinition, counter: &BudgetCounter) -> Option<Timestamp> {
    budget.period.period_end(Timestamp::from_millisecond(counter.begins).ok()?)
}
