//! What runs and model calls came to since the start, by tenant, agent and model: for metrics, and for no decision.
//!
//! The number of rows is bounded where they are counted ([`ROWS_OF_TENANT_MAX`], [`TENANTS_MAX`]); what comes after the bound is
//! in a row whose agent or tenant is absent.

use crate::id::{AgentId, TenantId};
use crate::run::RunStatus;

/// The most pairs of agent and model that are counted apart in one tenant.
pub const ROWS_OF_TENANT_MAX: usize = 128;

/// The most tenants that are counted apart.
pub const TENANTS_MAX: usize = 256;

/// The most outcomes of model calls that are counted apart in one row.
pub const OUTCOMES_MAX: usize = 16;

/// Upper bounds of how long model calls took, in seconds.
pub const SECONDS: [f64; 8] = [0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0];

/// What is counted of one agent and one model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UsageRow {
    /// The tenant; absent where the tenants after the bound are counted together.
    pub tenant: Option<TenantId>,
    /// The agent; absent where the pairs after the bound are counted together.
    pub agent: Option<AgentId>,
    /// The alias of the model; empty where runs are counted.
    pub model: String,
    /// What was counted.
    pub counts: UsageCounts,
}

/// The counters of a row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UsageCounts {
    /// Runs that came to rest or ended, by status, in the order of [`RunStatus::ALL`].
    pub runs: [u64; RunStatus::ALL.len()],
    /// Model calls by outcome: `ok`, or the code of the failure, or `other` after the bound.
    pub calls: Vec<(&'static str, u64)>,
    /// Tokens of requests.
    pub input_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
    /// What answers cost, in millionths of the currency unit.
    pub cost_micros: u64,
    /// Calls of which no price is known.
    pub unpriced_calls: u64,
    /// How many calls took at most as long as each of [`SECONDS`], and longer than the bound before.
    pub took: [u64; SECONDS.len()],
    /// How long all calls took together, in seconds.
    pub took_seconds: f64,
    /// Attempts that were delayed before they were repeated.
    pub retries: u64,
    /// How long they were delayed together, in milliseconds.
    pub retry_delay_ms: u64,
}

impl UsageCounts {
    /// Counts a call by how it ended.
    pub fn count_outcome(&mut self, outcome: &'static str) {
        let is_full = self.calls.len() >= OUTCOMES_MAX;
        let known = self.calls.iter().position(|(known, _)| *known == outcome);
        let other = || self.calls.iter().position(|(known, _)| *known == "other");
        match known.or_else(|| if is_full { other() } else { None }) {
            Some(at) => self.calls[at].1 += 1,
            // The row after the bound is `other`, and the only one after it.
            None => self.calls.push((if is_full { "other" } else { outcome }, 1)),
        }
    }

    /// Counts how long a call took.
    pub fn count_seconds(&mut self, seconds: f64) {
        if let Some(at) = SECONDS.iter().position(|bound| seconds <= *bound) {
            self.took[at] += 1;
        }
        self.took_seconds += seconds;
    }

    /// Returns how many calls were made.
    pub fn call_count(&self) -> u64 {
        self.calls.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_after_the_bound_are_counted_as_other() {
        const CODES: [&str; 20] = [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s",
            "t",
        ];
        let mut counts = UsageCounts::default();
        for code in CODES.into_iter().chain(["a", "t"]) {
            counts.count_outcome(code);
        }
        assert_eq!(counts.calls.len(), OUTCOMES_MAX + 1);
        assert_eq!(counts.calls[0], ("a", 2));
        assert_eq!(counts.calls[OUTCOMES_MAX], ("other", 5));
        assert_eq!(counts.call_count(), 22);
    }
}

#[cfg(test)]
mod duration_tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bound_that_holds_it() {
        let mut counts = UsageCounts::default();
        for seconds in [0.5, 0.75, 1.0, 180.0, 181.0] {
            counts.count_seconds(seconds);
        }
        assert_eq!((counts.took[0], counts.took[1], counts.took[7]), (1, 2, 1));
        assert_eq!(counts.took.iter().sum::<u64>(), 4, "one is beyond them");
        assert!((counts.took_seconds - 363.25).abs() < f64::EPSILON);
    }
}
