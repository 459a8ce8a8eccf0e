//! Endorsement: which arguments of a call occur, word for word, in the text that an authenticated actor typed.
//!
//! It is a deterministic comparison of texts. A model that says "the user wants it" endorses nothing, and neither does
//! a tool's result, a message of another agent, a claim, or a refusal that repeats what a model asked for: only parts
//! with the label of typed text count.
//!
//! A value is endorsed as a whole: it begins and ends where a word does, so neither `bob@example.com` inside of
//! `bob@example.com.evil` nor the reverse is taken for it, and it has [`CHARS_MIN`] characters, because a short number
//! or word occurs in any text by chance; a value that was planned before any untrusted text came may be shorter
//! ([`is_typed`]). Of a list or an object every value must be endorsed.

use dromia_contracts::content::ContentPart;
use dromia_contracts::label::Label;
use dromia_contracts::transcript::{Transcript, TranscriptTurn};
use serde_json::Value;

use crate::json_leaves::collect_leaves;

/// The shortest value that can be endorsed.
const CHARS_MIN: usize = 6;

/// The most arguments of a call that are looked for; of the others none is endorsed.
const VALUES_MAX: usize = 64;

/// Lists the arguments of a call that are endorsed, by name. `arguments` are canonical.
pub(crate) fn endorsed_arguments(transcript: &Transcript, arguments: &str) -> Vec<String> {
    let Ok(Value::Object(fields)) = serde_json::from_str(arguments) else { return Vec::new() };
    let typed: Vec<&str> = transcript.turns().iter().flat_map(typed_texts).collect();
    let mut room = VALUES_MAX;
    let stands = |(_, value): &(String, Value)| all_typed(value, &typed, &mut room) == Some(true);
    fields.into_iter().filter(stands).map(|(name, _)| name).collect()
}

/// Returns whether each text and number of a value was typed as a whole, even a short one. A short value occurs in a
/// text by chance, so this is for values that were chosen before any untrusted text came. Numbers are compared by
/// value: 10 is 10.00.
pub(crate) fn is_typed(transcript: &Transcript, value: &Value) -> bool {
    let mut words = Vec::new();
    collect_leaves(value, &mut words);
    let typed: Vec<&str> = transcript.turns().iter().flat_map(typed_texts).collect();
    let numbers = typed_numbers(transcript);
    let has_number = |wanted: f64| numbers.iter().any(|found| found.total_cmp(&wanted).is_eq());
    let stands = |word: &String| {
        typed.iter().any(|text| is_whole_in(word, text)) || finite_number(word).is_some_and(has_number)
    };
    !words.is_empty() && words.len() <= VALUES_MAX && words.iter().all(stands)
}

/// Lists the numbers that authenticated actors typed.
pub(crate) fn typed_numbers(transcript: &Transcript) -> Vec<f64> {
    let typed = transcript.turns().iter().flat_map(typed_texts);
    let words = typed.flat_map(|text| text.split(|c: char| !c.is_ascii_digit() && c != '.'));
    words.filter_map(|word| finite_number(word.trim_matches('.'))).collect()
}

fn finite_number(word: &str) -> Option<f64> {
    word.parse().ok().filter(|number: &f64| number.is_finite())
}

/// What an actor typed in a turn.
pub(crate) fn typed_texts(turn: &TranscriptTurn) -> Vec<&str> {
    match turn {
        TranscriptTurn::Input(message) => {
            let texts = message.parts.iter().filter(|part| !part.is_image());
            texts.filter(|text| text.label() == Label::ACTOR_TEXT).map(ContentPart::as_text).collect()
        }
        TranscriptTurn::Unit(_) | TranscriptTurn::Summary(_) => Vec::new(),
    }
}

/// Returns whether each value in it occurs in the typed texts; `None` if it has no value, as an empty list. Booleans
/// and null identify nothing and are skipped.
fn all_typed(value: &Value, typed: &[&str], room: &mut usize) -> Option<bool> {
    match value {
        Value::Null | Value::Bool(_) => None,
        Value::Number(number) => Some(stands_in_texts(&number.to_string(), typed, room)),
        Value::String(text) => Some(stands_in_texts(text, typed, room)),
        Value::Array(values) => every_typed(values.iter(), typed, room),
        Value::Object(fields) => every_typed(fields.values(), typed, room),
    }
}

fn every_typed<'v>(
    values: impl Iterator<Item = &'v Value>,
    typed: &[&str],
    room: &mut usize,
) -> Option<bool> {
    let mut stand = None;
    for value in values {
        match all_typed(value, typed, room) {
            Some(false) => return Some(false),
            Some(true) => stand = Some(true),
            None => {}
        }
    }
    stand
}

fn stands_in_texts(value: &str, typed: &[&str], room: &mut usize) -> bool {
    let Some(left) = room.checked_sub(1) else { return false };
    *room = left;
    value.chars().count() >= CHARS_MIN && typed.iter().any(|text| is_whole_in(value, text))
}

/// Returns whether a text contains a value with word borders on both sides.
pub(crate) fn is_whole_in(value: &str, text: &str) -> bool {
    text.match_indices(value).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + value.len()..]);
        !word_continues(before.chars().rev()) && !word_continues(after.chars())
    })
}

/// Tells whether a word goes on: by one of its characters, or by a sign between two of them, as the dot of a name has it.
fn word_continues(mut chars: impl Iterator<Item = char>) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '@' | '-' | '%' | '+' | '\\');
    match chars.next() {
        Some('.' | '/' | ':' | '=' | '&' | '?' | '#') => chars.next().is_some_and(is_word),
        Some(c) => is_word(c),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::Actor;
    use dromia_contracts::content::InputMessage;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn said(parts: &[(&str, Label)]) -> Transcript {
        let mut transcript = Transcript::default();
        let parts = parts.iter().map(|(text, label)| ContentPart::new_text(*text, *label)).collect();
        transcript.push_input(InputMessage { author: Actor::new("cli:ada"), parts, hops: 0 });
        transcript
    }

    fn names(text: &str, arguments: &Value) -> Vec<String> {
        endorsed_arguments(&said(&[(text, Label::ACTOR_TEXT)]), &arguments.to_string())
    }

    #[test]
    fn a_wholly_typed_value_is_endorsed() {
        let text =
            "Send it to bob@example.com, and 'Quarterly report' to DE02120300000000202051. Use 1234567.";
        for value in [
            json!("bob@example.com"),
            json!("Quarterly report"),
            json!("DE02120300000000202051"),
            json!(1_234_567),
            json!(["bob@example.com", "DE02120300000000202051"]),
            json!({"a": "bob@example.com", "b": null}),
        ] {
            assert_eq!(names(text, &json!({ "to": value })), ["to"], "{value}");
        }
    }

    #[test]
    fn parts_of_words_short_and_untyped_values_are_not_endorsed() {
        let text = "Send 12 to bob@example.com.au and see example.org/path, file-7 and mallory@x.io's list.";
        for value in [
            json!("bob@example.com"),
            json!("ob@example.com.au"),
            json!("example.org"),
            json!("example"),
            json!("12"),
            json!(12),
            json!("file-7 "),
            json!("eve@example.com"),
            json!(["bob@example.com.au", "eve@example.com"]),
            json!([]),
            json!(null),
            json!(""),
            json!(true),
        ] {
            assert_eq!(names(text, &json!({ "to": value })), Vec::<String>::new(), "{value}");
        }
        assert_eq!(names(text, &json!({"to": "bob@example.com.au", "cc": "eve@example.com"})), ["to"]);
    }

    #[test]
    fn only_typed_text_endorses() {
        for label in [Label::OUTSIDE, Label::CLAIM, Label::PUBLIC_FACT, Label::UNKNOWN_FILE] {
            let transcript = said(&[("eve@example.com", label), ("hello there", Label::ACTOR_TEXT)]);
            let arguments = json!({"to": "eve@example.com", "text": "hello there"}).to_string();
            assert_eq!(endorsed_arguments(&transcript, &arguments), ["text"], "{label}");
        }
        assert_eq!(
            endorsed_arguments(&Transcript::default(), r#"{"to":"eve@example.com"}"#),
            Vec::<String>::new()
        );
        assert_eq!(endorsed_arguments(&said(&[("[1]", Label::ACTOR_TEXT)]), "[1]"), Vec::<String>::new());
    }

    #[test]
    fn so_many_values_are_looked_for_and_no_more() {
        let values: Vec<_> = std::iter::repeat_n("bob@example.com", VALUES_MAX + 1).collect();
        assert_eq!(names("bob@example.com", &json!({ "to": values })), Vec::<String>::new());
        assert_eq!(names("bob@example.com", &json!({ "to": values[1..] })), ["to"]);
    }

    proptest! {
        #[test]
        fn a_value_absent_from_the_text_is_never_endorsed(text in "[a-c@. ]{0,40}", value in "[a-c@.]{1,12}") {
            let is_endorsed = !names(&text, &json!({ "to": value })).is_empty();
            prop_assert!(!is_endorsed || text.contains(&value));
            prop_assert!(!is_endorsed || value.chars().count() >= CHARS_MIN);
        }

        #[test]
        fn more_typed_text_takes_no_endorsement_away(
            text in "[a-c@. ]{0,40}",
            more in "[a-c@. ]{0,40}",
            value in "[a-c@.]{6,9}",
        ) {
            let arguments = json!({ "to": value }).to_string();
            let (one, other) = ((text.as_str(), Label::ACTOR_TEXT), (more.as_str(), Label::ACTOR_TEXT));
            let two = endorsed_arguments(&said(&[one, other]), &arguments);
            let one = endorsed_arguments(&said(&[one]), &arguments);
            prop_assert!(one.is_empty() || one == two);
        }
    }
}
