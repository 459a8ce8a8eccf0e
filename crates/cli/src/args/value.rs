//! Values as they are typed: times, labels and words of a closed set. What is wrong is said with the form expected.

use std::time::Duration;

use dromia_api::cost::CostBy;
use dromia_api::token::EXPIRES_IN_SECONDS_MAX;
use dromia_api::{RuleAnswer, RunStatus, TaskState};

/// Reads what cost is grouped by.
pub(super) fn parse_cost_grouping(text: &str) -> Result<CostBy, String> {
    CostBy::ALL.into_iter().find(|by| by.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = CostBy::ALL.iter().map(|by| by.as_str()).collect();
        format!("expected one of {}", known.join(", "))
    })
}

/// Reads how long to wait.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 =
        digits.parse().map_err(|_| format!("expected a time such as 500ms, 30s or 5m, found {text:?}"))?;
    let duration = match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        "h" => Duration::from_secs(number.saturating_mul(3600)),
        unit => return Err(format!("the unit {unit:?} is not ms, s, m or h")),
    };
    if duration.is_zero() { Err("the time must be longer than zero".to_owned()) } else { Ok(duration) }
}

/// Reads a life of days and weeks, in seconds.
pub(super) fn parse_lifetime(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 =
        digits.parse().map_err(|_| format!("expected a time such as 12h, 30d or 8w, found {text:?}"))?;
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        unit => return Err(format!("the unit {unit:?} is not s, m, h, d or w")),
    };
    match number.saturating_mul(unit) {
        0 => Err("the time must be longer than zero".to_owned()),
        seconds => Ok(seconds),
    }
}

/// Reads a life that the server bounds, as of a token or a capability.
pub(super) fn bounded_lifetime(text: &str) -> Result<u64, String> {
    let seconds = parse_lifetime(text)?;
    if seconds > EXPIRES_IN_SECONDS_MAX {
        return Err(format!("the time must not be longer than {}d", EXPIRES_IN_SECONDS_MAX / (24 * 60 * 60)));
    }
    Ok(seconds)
}

/// Reads a label.
pub(super) fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("expected KEY=VALUE, found {text:?}"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Reads what a rule answers.
pub(super) fn rule_answer(text: &str) -> Result<RuleAnswer, String> {
    match text {
        "allow" => Ok(RuleAnswer::Allow),
        "deny" => Ok(RuleAnswer::Deny),
        _ => Err("expected allow or deny".to_owned()),
    }
}

/// Parses the status of a run.
pub(super) fn parse_run_status(text: &str) -> Result<RunStatus, String> {
    RunStatus::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = RunStatus::ALL.iter().map(|status| status.as_str()).collect();
        format!("expected one of {}", known.join(", "))
    })
}

/// Parses the state of a task.
pub(super) fn task_state(text: &str) -> Result<TaskState, String> {
    TaskState::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = TaskState::ALL.iter().map(|state| state.as_str()).collect();
        format!("expected one of {}", known.join(", "))
    })
}
