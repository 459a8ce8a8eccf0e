//! The line under an answer, for a person: what it used, how long it took, and how the conversation continues.
//!
//! A price that is not known is never 0: where a model has no price, the line says so.

use std::time::Duration;

use crate::commands::activity::{seconds_text, short_id};
use crate::commands::answer::FollowedAnswer;
use crate::error::Outcome;
use crate::output::CommandOutput;

/// Prints it where a person reads stderr.
pub(super) fn print_summary(
    followed: &FollowedAnswer,
    took: Duration,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    if !output.context_mut().err_is_terminal {
        return Ok(());
    }
    let between = if output.is_plain() { ", " } else { " · " };
    let answered = &followed.answered;
    let tokens = u64::from(answered.usage.input_tokens) + u64::from(answered.usage.output_tokens);
    let session = answered.session.to_string();
    let parts = [
        format!("{} tokens", group_digits(tokens)),
        cost_text(answered.cost_micros, followed.is_unpriced),
        seconds_text(took),
        format!("session {} (continue with: dromia ask -c \"...\")", short_id(&session)),
    ];
    output.print_aside(&parts.join(between))
}

/// Writes what was paid, as far as that is known.
fn cost_text(micros: u64, is_unpriced: bool) -> String {
    let paid = match micros % 100 {
        0 => format!("${}.{:04}", micros / 1_000_000, micros % 1_000_000 / 100),
        _ if micros >= 10_000 => {
            let rounded = (micros + 50) / 100;
            format!("${}.{:04}", rounded / 10_000, rounded % 10_000)
        }
        _ => format!("${}.{:06}", micros / 1_000_000, micros % 1_000_000),
    };
    match (micros, is_unpriced) {
        (0, _) => "unpriced".to_owned(),
        (_, true) => format!("{paid} and unpriced calls"),
        (_, false) => paid,
    }
}

/// Writes a number with a comma before each group of three digits.
fn group_digits(number: u64) -> String {
    let digits = number.to_string();
    let mut told = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_cost_is_never_zero() {
        for (micros, is_unpriced, text) in [
            (0, true, "unpriced"),
            (0, false, "unpriced"),
            (2_100, false, "$0.0021"),
            (2_100, true, "$0.0021 and unpriced calls"),
            (42, false, "$0.000042"),
            (1_234_567, false, "$1.2346"),
            (1_999_999, false, "$2.0000"),
        ] {
            assert_eq!(cost_text(micros, is_unpriced), text);
        }
    }

    #[test]
    fn digits_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_234, "1,234"), (1_234_567, "1,234,567")] {
            assert_eq!(group_digits(number), text);
        }
    }
}
