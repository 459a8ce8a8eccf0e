//! Budgets: how much may be spent, by whom, in which time; and the fold that charges the entries of a journal.
//!
//! A budget is reserved before a call and settled after it. Both happen in the commit of the entry that says so, and the
//! store is who does it: [`charge`] reads what a batch appends, and whoever keeps rows keeps what it returns. So no caller
//! can forget to charge, two runs at once cannot both spend the last of a budget, and a crash leaves the reservation of a
//! call that was lost where it is: a lost call stays charged.
//!
//! What is counted is one of four measures. Money, tokens and calls are reserved whole before a call; of time nobody knows
//! how much a call will take, so a call begins while there is some left. Hence a budget is overshot by what one call takes
//! beyond its reservation, and by no second call.
//!
//! Nothing here reads rows, knows prices or tells what to do about a budget that is used up.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::Offset;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::content::CallStatus;
use crate::entry::Entry;
use crate::fault::ErrorCode;
use crate::id::{AgentId, RunId, SessionId};
use crate::scope::Actor;
use crate::store::NewEntry;

/// The most budgets of a tenant: each of them is looked at before every call.
pub const BUDGETS_MAX: usize = 64;
/// The longest name of a budget, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// What a call that was lost is charged of time at most: how long it really ran, nobody knows.
pub const LOST_MS_MAX: u64 = 10 * 60 * 1000;
/// The rule of calls that a budget refused. They are not counted as calls.
pub const RULE: &str = "budget";

/// Whose spending is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// That of the whole tenant.
    Tenant,
    /// That of each agent.
    Agent,
    /// That of what each actor asks for.
    Actor,
    /// That of each session.
    Session,
    /// That of each run.
    Run,
}

impl Per {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tenant, Self::Agent, Self::Actor, Self::Session, Self::Run];

    /// Returns the word as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Agent => "agent",
            Self::Actor => "actor",
            Self::Session => "session",
            Self::Run => "run",
        }
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Tokens of requests and answers.
    Tokens,
    /// What models cost, in millionths of the currency unit.
    Money,
    /// How long calls of models and tools took, in milliseconds.
    Time,
    /// Calls of models and of tools; a call that the gate refused counts too.
    Calls,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tokens, Self::Money, Self::Time, Self::Calls];

    /// Returns the word as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Money => "money",
            Self::Time => "time",
            Self::Calls => "calls",
        }
    }

    /// Reads a limit as people write it: `5.00` of money, `90s`, `30m`, `12h` or `7d` of time, else a whole number.
    pub fn limit(self, text: &str) -> Option<u64> {
        match self {
            Self::Tokens | Self::Calls => text.parse().ok(),
            Self::Money => micros(text),
            Self::Time => {
                let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
                let ms = match unit {
                    "s" => 1000,
                    "m" => 60_000,
                    "h" => 3_600_000,
                    "d" => 86_400_000,
                    _ => return None,
                };
                number.parse::<u64>().ok()?.checked_mul(ms)
            }
        }
    }

    /// Says how a limit is written.
    pub const fn limit_rule(self) -> &'static str {
        match self {
            Self::Tokens | Self::Calls => "a whole number",
            Self::Money => "an amount with at most six decimals, such as 5.00",
            Self::Time => "a number of seconds, minutes, hours or days, such as 90s, 30m, 12h or 7d",
        }
    }

    /// Writes an amount for people.
    pub fn show(self, amount: u64) -> String {
        match self {
            Self::Tokens | Self::Calls => amount.to_string(),
            Self::Money => format!("{}.{:06}", amount / 1_000_000, amount % 1_000_000),
            Self::Time => format!("{}.{:03} s", amount / 1000, amount % 1000),
        }
    }
}

/// Says that a word is none of a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is none of {}", .known.join(", "))]
pub struct UnknownWord {
    known: Vec<&'static str>,
}

macro_rules! words {
    ($($word:ident),+) => {
        $(
            impl FromStr for $word {
                type Err = UnknownWord;

                fn from_str(text: &str) -> Result<Self, UnknownWord> {
                    let found = Self::ALL.into_iter().find(|word| word.as_str() == text);
                    found.ok_or_else(|| UnknownWord { known: Self::ALL.map(Self::as_str).to_vec() })
                }
            }

            impl fmt::Display for $word {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(self.as_str())
                }
            }
        )+
    };
}

words!(Per, Measure, Period);

/// Reads `5`, `5.00` or `0.000001` as millionths.
fn micros(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}

/// After which time the count begins anew, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Every hour.
    Hour,
    /// Every day.
    Day,
    /// Every month.
    Month,
    /// Never.
    Total,
}

impl Period {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Month, Self::Total];

    /// Returns the word as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// Returns when the period began that a time lies in, in milliseconds since 1970; 0 for one that never ends.
    pub fn begins(self, at: Timestamp) -> i64 {
        let ms = at.as_millisecond();
        match self {
            Self::Hour => ms - ms.rem_euclid(HOUR_MS),
            Self::Day => ms - ms.rem_euclid(24 * HOUR_MS),
            Self::Month => {
                let first = Offset::UTC.to_datetime(at).date().first_of_month();
                let first = Offset::UTC.to_timestamp(first.to_datetime(Time::midnight()));
                // The first day of a month of the calendar is in the calendar, but for its very first.
                first.map_or(ms, Timestamp::as_millisecond)
            }
            Self::Total => 0,
        }
    }

    /// Returns when the period ends that a time lies in; `None` for one that never does.
    pub fn ends(self, at: Timestamp) -> Option<Timestamp> {
        let next = match self {
            Self::Hour => self.begins(at).checked_add(HOUR_MS)?,
            Self::Day => self.begins(at).checked_add(24 * HOUR_MS)?,
            Self::Month => {
                let last = Offset::UTC.to_datetime(at).date().last_of_month();
                let first = last.tomorrow().ok()?.to_datetime(Time::midnight());
                return Offset::UTC.to_timestamp(first).ok();
            }
            Self::Total => return None,
        };
        Timestamp::from_millisecond(next).ok()
    }
}

const HOUR_MS: i64 = 3_600_000;

/// How much may be spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Budget {
    /// What it is called, unique in its tenant.
    pub name: String,
    /// Whose spending is added up.
    pub per: Per,
    /// The one agent, actor, session or run that it is about; without it each has the whole limit for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What is counted.
    pub measure: Measure,
    /// After which time the count begins anew.
    pub period: Period,
    /// The most of it: tokens, millionths of the currency unit, milliseconds or calls.
    pub limit: u64,
    /// Whether the configuration file sets it, which then is the only one who changes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub declared: bool,
}

impl Budget {
    /// Says what is wrong with it, if anything is.
    pub fn problem(&self) -> Option<&'static str> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.chars().all(plain) {
            return Some("a budget's name has 1 to 64 lower-case letters, digits and hyphens");
        }
        if self.limit > i64::MAX.unsigned_abs() {
            return Some("a limit is at most 9223372036854775807");
        }
        let Some(of) = &self.of else { return None };
        let known = match self.per {
            Per::Tenant => return Some("a budget of the tenant is about nobody else"),
            Per::Agent => of.parse::<AgentId>().is_ok(),
            Per::Session => of.parse::<SessionId>().is_ok(),
            Per::Run => of.parse::<RunId>().is_ok(),
            Per::Actor => (1..=512).contains(&of.len()),
        };
        (!known).then_some("what the budget is about is named by its id, an actor by its name")
    }

    /// Tells whether what was counted for the other counts for this one.
    pub fn counts_as(&self, other: &Self) -> bool {
        (&self.name, self.per, &self.of, self.measure, self.period)
            == (&other.name, other.per, &other.of, other.measure, other.period)
    }

    /// Returns under which subject a run's spending is added up, if it concerns the budget.
    fn subject(&self, spender: &Spender<'_>) -> Option<String> {
        let subject = match self.per {
            Per::Tenant => String::new(),
            Per::Agent => spender.agent.to_string(),
            Per::Actor => spender.payer.actor.as_str().to_owned(),
            Per::Session => spender.session.to_string(),
            Per::Run => spender.run.to_string(),
        };
        self.of.as_ref().is_none_or(|of| *of == subject).then_some(subject)
    }
}

/// A budget and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetUse {
    /// The budget.
    pub budget: Budget,
    /// Who used most of it in the present period; empty for the tenant, or if nobody used any.
    pub subject: String,
    /// How much that is, with what is reserved.
    pub used: u64,
}

/// Who pays for the entries of a batch, as far as the store does not know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payer {
    /// Whose input the run answers.
    pub actor: Actor,
    /// Whether the price of the model is known; else no budget of money lets the call begin.
    pub priced: bool,
}

/// Who spends.
#[derive(Debug, Clone, Copy)]
pub struct Spender<'a> {
    /// Who pays.
    pub payer: &'a Payer,
    /// The agent.
    pub agent: AgentId,
    /// The session.
    pub session: SessionId,
    /// The run.
    pub run: RunId,
}

/// Which budget has no room, and for how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exhausted {
    /// The budget's name.
    pub budget: String,
    /// Whose spending it adds up.
    pub per: Per,
    /// What is counted.
    pub measure: Measure,
    /// The most of it.
    pub limit: u64,
    /// What was used, with what is reserved.
    pub used: u64,
    /// What the call would have reserved.
    pub needed: u64,
    /// When the count begins anew, if it ever does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whether the reason is that nobody knows what the model costs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unpriced: bool,
}

impl Exhausted {
    /// Says it in words.
    pub fn text(&self) -> String {
        let (per, measure) = (self.per.as_str(), self.measure.as_str());
        if self.unpriced {
            return format!(
                "the budget {} ({measure} per {per}) refused a model whose price nobody knows",
                self.budget
            );
        }
        format!(
            "the budget {} ({measure} per {per}) is used up: {} of {} used, {} more needed",
            self.budget,
            self.measure.show(self.used),
            self.measure.show(self.limit),
            self.measure.show(self.needed),
        )
    }
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
                // The provider refused it or never took it.
                ErrorCode::ModelUnavailable | ErrorCode::ModelRejected => {
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

#[cfg(test)]
mod tests;
