//! What `engine.retention` and `tenants.NAME.retention` mean.

use std::collections::BTreeMap;

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::retention::{KEEP_MIN, RetentionPolicy};
use dromia_engine::RetentionConfig;
use jiff::SignedDuration;

use super::file::{WrittenConfig, WrittenRetention};
use super::problem_collector::ProblemCollector;

/// The longest time that can be written: more than anyone keeps anything, and no time overflows by it.
const DAYS_MAX: i64 = 36_500;

/// Resolves how long the sessions of each tenant are kept.
pub(super) fn resolve_retention(
    written: &WrittenConfig,
    check: &mut ProblemCollector<'_>,
) -> RetentionConfig {
    let mut policy = |key: String, written: &WrittenRetention| {
        let text = written.sessions.as_ref()?;
        match parse_period(text) {
            Ok(sessions) => Some(RetentionPolicy { sessions }),
            Err(problem) => {
                check.add_problem(&key, problem);
                None
            }
        }
    };
    let default =
        policy("engine.retention.sessions".to_owned(), &written.engine.retention).unwrap_or_default();
    let mut of_tenants = BTreeMap::new();
    for (name, tenant) in &written.tenants {
        let policy = policy(format!("tenants.{name}.retention.sessions"), &tenant.retention);
        // A name that is no handle is reported where tenants are resolved.
        if let (Ok(handle), Some(policy)) = (name.parse::<HandleSlug>(), policy) {
            of_tenants.insert(handle, policy);
        }
    }
    RetentionConfig { default, of_tenants }
}

/// Reads a number of hours, days or weeks, or that there is no end.
fn parse_period(text: &str) -> Result<Option<SignedDuration>, String> {
    if text == "forever" {
        return Ok(None);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let hours = match &text[digits.len()..] {
        "h" => Some(1),
        "d" => Some(24),
        "w" => Some(7 * 24),
        _ => None,
    };
    let number = digits.parse::<u32>().ok();
    let (Some(hours), Some(number)) = (hours, number) else {
        return Err(format!("is not a time such as 90d, 26w or 48h, and not `forever`: {text:?}"));
    };
    let period = SignedDuration::from_hours(hours * i64::from(number));
    if period < KEEP_MIN {
        return Err(format!("must be at least 1d, and is {text}"));
    }
    if period > SignedDuration::from_hours(24 * DAYS_MAX) {
        return Err(format!("must be at most {DAYS_MAX}d, and is {text}"));
    }
    Ok(Some(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_hours_days_or_weeks_of_at_least_a_day() {
        let hours = |hours| Ok(Some(SignedDuration::from_hours(hours)));
        for (text, expected) in
            [("forever", Ok(None)), ("24h", hours(24)), ("90d", hours(2160)), ("26w", hours(4368))]
        {
            assert_eq!(parse_period(text), expected, "{text}");
        }
        for text in
            ["", "d", "90", "23h", "0d", "-1d", "1.5d", "90 d", "3m", "Forever", "99999999999d", "36501d"]
        {
            assert!(parse_period(text).is_err(), "{text}");
        }
    }
}
