//! What a run or a session was asked, in its first words: by these people know one among many.
//!
//! They are for reading and for nothing else: one line, without characters that do not show, and cut.

use dromia_contracts::Scope;
use dromia_contracts::approval::is_hidden_char;
use dromia_contracts::content::{ContentPart, parts_text};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::ReadError;

use crate::core::GatewayCore;
use crate::failure::Answer;

/// How many characters of a question are given.
const CHARS_MAX: usize = 160;

/// Reads the first words of what each of these was asked, in their order. Absent is a question without words, and one that
/// cannot be read: a list is no place to fail for that.
pub(crate) async fn read_questions(
    core: &GatewayCore,
    scope: &Scope,
    owners: &[InboxOwner],
) -> Answer<Vec<Option<String>>> {
    let store = &core.ports.store;
    let bodies = match store.opening_inputs(scope, owners).await {
        Err(ReadError::Damaged { .. }) => {
            let mut bodies = Vec::with_capacity(owners.len());
            for owner in owners {
                let read = store.opening_inputs(scope, std::slice::from_ref(owner)).await;
                bodies.push(read.ok().and_then(|read| read.into_iter().next().flatten()));
            }
            bodies
        }
        bodies => bodies?,
    };
    let questions = bodies.into_iter().map(|body| {
        let said = InputBody::decode(&body?).ok()?;
        if let Some(range) = said.compaction {
            return Some(format!("(summarize inputs {} to {} of {})", range.from, range.upto, range.session));
        }
        // What the runtime adds for the model is no part of the question.
        let is_said = |part: &&ContentPart| part.label() != Label::PUBLIC_FACT;
        let mut parts: Vec<_> = said.message.parts.iter().filter(is_said).cloned().collect();
        if parts.is_empty() {
            parts = said.message.parts;
        }
        Some(first_words(&parts_text(&parts))).filter(|words| !words.is_empty())
    });
    Ok(questions.collect())
}

/// Reads that of one run or session.
pub(crate) async fn read_question(
    core: &GatewayCore,
    scope: &Scope,
    owner: InboxOwner,
) -> Answer<Option<String>> {
    Ok(read_questions(core, scope, &[owner]).await?.into_iter().flatten().next())
}

/// Takes the first words of a text as one line.
pub(crate) fn first_words(text: &str) -> String {
    let mut words = String::new();
    let mut count = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let mut shown = word.chars().filter(|c| !is_hidden_char(*c)).peekable();
        if shown.peek().is_some() && !words.is_empty() {
            words.push(' ');
            count += 1;
        }
        for c in shown {
            if count >= CHARS_MAX {
                words.push('…');
                return words;
            }
            words.push(c);
            count += 1;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_are_one_line_without_hidden_characters() {
        assert_eq!(first_words("  what\nis\t\u{1b}[2Jdue\u{202e} today? \u{7}"), "what is [2Jdue today?");
        assert_eq!(first_words("\n\u{200b}\n"), "");
        let long = first_words(&"word ".repeat(1_000));
        assert!(long.chars().count() <= CHARS_MAX + 2 && long.ends_with('…'), "{long}");
        let one = first_words(&"ä".repeat(1_000));
        assert_eq!(one.chars().count(), CHARS_MAX + 1);
    }
}
