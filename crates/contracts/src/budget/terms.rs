//! The words of a budget: whose spending is added up, what is counted, and after which time the count starts again.
//!
//! They are read and written here and nowhere else, limits too. No clock is asked: a period is that of a time that is given.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::Offset;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose spending is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
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

impl BudgetScope {
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
pub enum BudgetMeasure {
    /// Tokens of requests and answers.
    Tokens,
    /// What models cost, in millionths of the currency unit.
    Money,
    /// How long calls of models and tools took, in milliseconds.
    Time,
    /// Calls of models and of tools; a call that the gate refused counts too.
    Calls,
}

impl BudgetMeasure {
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
    pub fn parse_limit(self, text: &str) -> Option<u64> {
        match self {
            Self::Tokens | Self::Calls => text.parse().ok(),
            Self::Money => parse_micros(text),
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
    pub fn format_amount(self, amount: u64) -> String {
        match self {
            Self::Tokens | Self::Calls => amount.to_string(),
            Self::Money => format!("{}.{:06}", amount / 1_000_000, amount % 1_000_000),
            Self::Time => format!("{}.{:03} s", amount / 1000, amount % 1000),
        }
    }
}

/// After which time the count starts again from zero, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetPeriod {
    /// Every hour.
    Hour,
    /// Every day.
    Day,
    /// Every month.
    Month,
    /// Never.
    Total,
}

impl BudgetPeriod {
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
    pub fn period_start(self, at: Timestamp) -> i64 {
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
    pub fn period_end(self, at: Timestamp) -> Option<Timestamp> {
        let next = match self {
            Self::Hour => self.period_start(at).checked_add(HOUR_MS)?,
            Self::Day => self.period_start(at).checked_add(24 * HOUR_MS)?,
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

/// Reads `5`, `5.00` or `0.000001` as millionths.
fn parse_micros(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
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

words!(BudgetScope, BudgetMeasure, BudgetPeriod);
