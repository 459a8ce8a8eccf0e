//! The fold that charges the entries of a journal: what a call reserves, and what it is settled with.
//!
//! It reads counts through whoever calls it and writes none: what it returns is for the store to keep, in the same commit.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Budget, Exhausted, LOST_MS_MAX, Measure, RULE, Spender};
use crate::content::CallStatus;
use crate::entry::Entry;
use crate::fault::ErrorCode;
use crate::store::NewEntry;

/// Charges the entries that a batch appends to a run's journal: settles calls that end, and reserves for those that
/// begin. `open` is what is reserved for the run, `read` tells how far a count has come. Fails, and changes nothing, with the
/// first budget that has no room.
pub fn charge<E: From<Exhausted>>(
    budgets: &[Budget],
    spender: &Spender<'_>,
    open: Vec<Reserved>,
    entries: &[NewEntry],
    read: &mut dyn FnMut(&Counter) -> Result<u64, E>,
) -> Result<Charged, E> {
    let mut book = Book { budgets, spender, read, charged: Charged { open, ..Charged::default() } };
    for new in entries {
        match &new.entry {
            Entry::ModelCalled(called) => {
                book.settle(new.at, &Took::Lost)?;
                let tokens = u64::from(called.input_tokens) + u64::from(called.output_tokens_max);
                book.reserve(new.at, &Needs::model(1, tokens, called.reserved_micros))?;
            }
            Entry::OpinionCalled(called) => {
                book.settle(new.at, &Took::Lost)?;
                let one = u64::from(called.input_tokens) + u64::from(called.output_tokens_max);
                let samples = u64::from(called.samples);
                let tokens = one.saturating_mul(samples);
                book.reserve(new.at, &Needs::model(samples, tokens, called.reserved_micros))?;
            }
            Entry::OpinionGiven(given) => {
                let known = Took::Known { tokens: given.tokens, micros: given.cost_micros };
                book.settle(new.at, if given.opinion.is_some() { &known } else { &Took::Lost })?;
            }
            Entry::ToolStarted(_) => {
                book.settle(new.at, &Took::Lost)?;
                book.reserve(new.at, &Needs { calls: 1, spends: None })?;
            }
            Entry::ModelReplied(replied) => {
                let usage = replied.usage;
                let tokens = u64::from(usage.input_tokens) + u64::from(usage.output_tokens);
                book.settle(new.at, &Took::Known { tokens, micros: replied.cost_micros })?;
            }
            Entry::ModelFailed(failed) => match failed.code {
                // It was not made, or the provider refused it or never took it.
                ErrorCode::ModelUnavailable | ErrorCode::ModelRejected | ErrorCode::ActionDenied => {
                    book.settle(new.at, &Took::Known { tokens: 0, micros: failed.charged_micros })?;
                }
                _ => book.settle(new.at, &Took::Lost)?,
            },
            Entry::ToolFinished(finished) => {
                let unknown = finished.status == CallStatus::Unknown;
                let took = if unknown { Took::Lost } else { Took::Known { tokens: 0, micros: 0 } };
                book.settle(new.at, &took)?;
            }
            Entry::ToolRefused(refused) => {
                let judged = matches!(refused.status, CallStatus::Denied | CallStatus::Error);
                if judged && refused.rule.as_deref() != Some(RULE) {
                    book.count_refused(new.at)?;
                }
            }
            Entry::RunCompleted(_) | Entry::RunYielded(_) | Entry::RunFailed(_) | Entry::RunCancelled(_) => {
                book.settle(new.at, &Took::Lost)?;
                book.charged.ended = true;
            }
            Entry::RunStarted(_)
            | Entry::CallAsked(_)
            | Entry::ToolHanded(_)
            | Entry::SignalTaken(_)
            | Entry::RunParked(_)
            | Entry::RunHeld(_) => {}
        }
    }
    Ok(book.charged)
}

/// One count: of a budget, for a subject, in a period.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counter {
    /// The budget's name.
    pub budget: String,
    /// Whose spending it is.
    pub subject: String,
    /// When the period began.
    pub begins: i64,
}

/// What is reserved for a run's open call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// Where it is counted.
    pub counter: Counter,
    /// What is counted.
    pub measure: Measure,
    /// How much.
    pub amount: u64,
    /// When the call began.
    pub at: Timestamp,
}

/// What charging a batch changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Charged {
    /// Counts with their new values.
    pub used: BTreeMap<Counter, u64>,
    /// What is reserved for the run from now on, in place of what was.
    pub open: Vec<Reserved>,
    /// Whether the run has ended, and nobody will spend for it any more.
    pub ended: bool,
}

/// What a call took.
enum Took {
    /// This much.
    Known { tokens: u64, micros: u64 },
    /// Nobody knows: what was reserved stays charged.
    Lost,
}

/// What a call would take at most.
struct Needs {
    calls: u64,
    /// Tokens and money; no tool takes any.
    spends: Option<(u64, u64)>,
}

impl Needs {
    /// What calls of a model would take together.
    fn model(calls: u64, tokens: u64, micros: u64) -> Self {
        Self { calls, spends: Some((tokens, micros)) }
    }
}

struct Book<'a, E> {
    budgets: &'a [Budget],
    spender: &'a Spender<'a>,
    read: &'a mut dyn FnMut(&Counter) -> Result<u64, E>,
    charged: Charged,
}

impl<E: From<Exhausted>> Book<'_, E> {
    fn used(&mut self, counter: &Counter) -> Result<u64, E> {
        match self.charged.used.get(counter) {
            Some(used) => Ok(*used),
            None => (self.read)(counter),
        }
    }

    fn reserve(&mut self, at: Timestamp, needs: &Needs) -> Result<(), E> {
        for budget in self.budgets {
            let Some(subject) = budget.subject(self.spender) else { continue };
            let needed = match (budget.measure, needs.spends) {
                (Measure::Tokens, Some((tokens, _))) => tokens,
                (Measure::Money, Some((_, micros))) => micros,
                (Measure::Tokens | Measure::Money, None) => continue,
                (Measure::Time, _) => 0,
                (Measure::Calls, _) => needs.calls,
            };
            let counter = counter_of(budget, subject, at);
            let used = self.used(&counter)?;
            let unpriced = budget.measure == Measure::Money && !self.spender.payer.priced;
            let full = match budget.measure {
                Measure::Time => used >= budget.limit,
                Measure::Tokens | Measure::Money | Measure::Calls => {
                    used.saturating_add(needed) > budget.limit
                }
            };
            if full || unpriced {
                return Err(E::from(Exhausted {
                    budget: budget.name.clone(),
                    per: budget.per,
                    measure: budget.measure,
                    limit: budget.limit,
                    used,
                    needed,
                    until: budget.period.ends(at).filter(|_| !unpriced),
                    unpriced,
                }));
            }
            self.charged.used.insert(counter.clone(), used.saturating_add(needed));
            self.charged.open.push(Reserved { counter, measure: budget.measure, amount: needed, at });
        }
        Ok(())
    }

    fn settle(&mut self, at: Timestamp, took: &Took) -> Result<(), E> {
        for Reserved { counter, measure, amount, at: began } in std::mem::take(&mut self.charged.open) {
            let elapsed = u64::try_from(at.as_millisecond() - began.as_millisecond()).unwrap_or(0);
            let actual = match (measure, took) {
                (Measure::Time, Took::Known { .. }) => elapsed,
                (Measure::Time, Took::Lost) => elapsed.min(LOST_MS_MAX),
                (Measure::Calls, _) | (_, Took::Lost) => amount,
                (Measure::Tokens, Took::Known { tokens, .. }) => *tokens,
                (Measure::Money, Took::Known { micros, .. }) => *micros,
            };
            let used = self.used(&counter)?.saturating_sub(amount).saturating_add(actual);
            self.charged.used.insert(counter, used);
        }
        Ok(())
    }

    /// Counts a call that was refused. It needs no room, because nothing runs.
    fn count_refused(&mut self, at: Timestamp) -> Result<(), E> {
        for budget in self.budgets.iter().filter(|budget| budget.measure == Measure::Calls) {
            let Some(subject) = budget.subject(self.spender) else { continue };
            let counter = counter_of(budget, subject, at);
            let used = self.used(&counter)?.saturating_add(1);
            self.charged.used.insert(counter, used);
        }
        Ok(())
    }
}

fn counter_of(budget: &Budget, subject: String, at: Timestamp) -> Counter {
    Counter { budget: budget.name.clone(), subject, begins: budget.period.begins(at) }
}
