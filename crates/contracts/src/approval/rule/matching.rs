//! Whether a rule answers a call: whether its arguments are what the rule wants.
//!
//! It looks at the canonical arguments alone, and its cost is bounded. What cannot be read fits nothing.

use std::cmp::Ordering;

use serde_json::Value;

use super::{ArgumentPattern, ParsedRule};

/// The longest text that a pattern with stars is tried on, in bytes. A longer one matches none.
const TEXT_BYTES_MAX: usize = 4096;

impl ParsedRule {
    /// Returns whether it answers a call with these canonical arguments. No rule answers what is not a JSON object.
    pub fn matches_call(&self, tool: &str, arguments: &str) -> bool {
        let Ok(Value::Object(fields)) = serde_json::from_str(arguments) else { return false };
        let fits = |(name, wanted): &(String, ArgumentPattern)| match (fields.get(name), wanted) {
            (Some(Value::String(text)), ArgumentPattern::Like(pattern)) => matches_glob(pattern, text),
            (Some(value), ArgumentPattern::Same(same)) => are_same(value, same),
            (Some(_), ArgumentPattern::Like(_)) | (None, _) => false,
        };
        // Each is named once, so as many are the same ones.
        let has_others = fields.len() > self.arguments.len();
        self.tool == tool && !(self.only && has_others) && self.arguments.iter().all(fits)
    }
}

/// Returns whether two values are the same; 3 and 3.0 are one number, however they are written.
fn are_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let whole = |number: &serde_json::Number| {
                number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
            };
            match (whole(one), whole(other)) {
                (Some(one), Some(other)) => one == other,
                _ => one.as_f64().partial_cmp(&other.as_f64()) == Some(Ordering::Equal),
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| are_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let fits =
                |(name, one): (&String, &Value)| other.get(name).is_some_and(|other| are_same(one, other));
            one.len() == other.len() && one.iter().all(fits)
        }
        _ => one == other,
    }
}

/// Returns whether a text fits a pattern. Its cost is bounded by the product of both lengths, which are bounded.
fn matches_glob(pattern: &str, text: &str) -> bool {
    if !pattern.contains('*') {
        return pattern == text;
    }
    if text.len() > TEXT_BYTES_MAX {
        return false;
    }
    let text = text.as_bytes();
    // For each place of the text, whether the pattern so far fits what is before it.
    let mut fits = vec![false; text.len() + 1];
    fits[0] = true;
    let mut rest = pattern.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'*' {
            let deep = after.first() == Some(&b'*');
            rest = if deep { &after[1..] } else { after };
            let mut before = fits[0];
            for (fit, byte) in fits.iter_mut().skip(1).zip(text) {
                *fit = *fit || (before && (deep || *byte != b'/'));
                before = *fit;
            }
        } else {
            rest = after;
            let mut before = std::mem::take(&mut fits[0]);
            for (fit, byte) in fits.iter_mut().skip(1).zip(text) {
                before = std::mem::replace(fit, before && byte == first);
            }
        }
    }
    fits.last().copied().unwrap_or(false)
}
