//! The line under an answer, for a person: what it used, how long it took, and how the conversation continues.
//!
//! A price that is not known is never 0: where a model has no price, the line says so.

use std::time::Duration;

use dromia_api::event::EventAnswered;

use crate::commands::activity::{seconds_text, short_id};
use crate::error::Outcome;
use crate::output::{CommandOutput, format_short_cost};

/// Prints it where a person reads stderr.
pub(super) fn print_summary(
    answered: &EventAnswered,
    took: Duration,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    if !output.context_mut().err_is_terminal {
        return Ok(());
    }
    let between = if output.is_plain() { ", " } else { " · " };
    let tokens = u64::from(answered.usage.input_tokens) + u64::from(answered.usage.output_tokens);
    let session = answered.session.to_string();
    let parts = [
        format!("{} tokens", group_digits(tokens)),
        format_short_cost(answered.cost_micros, answered.unpriced_calls.into()),
        seconds_text(took),
        format!("session {} (continue with: dromia ask -c \"...\")", short_id(&session)),
    ];
    output.print_aside(&parts.join(between))
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
    fn digits_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_234, "1,234"), (1_234_567, "1,234,567")] {
            assert_eq!(group_digits(number), text);
        }
    }
}
