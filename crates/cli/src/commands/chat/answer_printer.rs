//! Which part of an answer is on the screen, and what is still to print of it.
//!
//! Deltas are hints; the journal's entry settles them. If a lost attempt was printed, the whole answer is printed again under
//! it. What is left of an answer is printed once the next entry says that it was let out; of one that is withheld nothing is.
//! Nothing is written here.

use dromia_api::run::{JournalEntryResource, TextDelta};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::client::parse_answer;
use crate::commands::answer::is_conclusion;
use crate::error::Outcome;

/// The part of the current step that is on the screen.
#[derive(Debug, Default)]
pub(in crate::commands) struct PrintedAnswer {
    attempt: Option<(u32, u32)>,
    text: String,
    /// What is left to print of the last answer.
    rest: String,
    /// Whether part of that answer is on the screen, in a line that has no end yet.
    stands: bool,
}

impl PrintedAnswer {
    /// Returns what to print for a live piece.
    pub(in crate::commands) fn text_for_delta(&mut self, delta: &TextDelta) -> String {
        let mut out = String::new();
        if !self.rest.is_empty() {
            // What is left of the answer before comes first; the entry will settle this one.
            return out;
        }
        if self.attempt != Some((delta.step, delta.attempt)) {
            if !self.text.is_empty() {
                out.push('\n');
            }
            self.attempt = Some((delta.step, delta.attempt));
            self.text.clear();
        }
        // A piece that does not follow what is printed was lost in between; the entry will settle it.
        if delta.offset == self.text.len() as u64 {
            self.text.push_str(&delta.text);
            out.push_str(&delta.text);
        }
        out
    }

    /// Returns what is left to print of the answer before an entry, which says whether it was let out.
    pub(in crate::commands) fn text_before_entry(&mut self, entry: &JournalEntryResource) -> Outcome<String> {
        let stands = std::mem::take(&mut self.stands);
        let out = match entry.kind.as_str() {
            // The answer was refused, or never judged.
            "run_failed" | "run_cancelled" | "run_yielded" if !is_conclusion(entry)? => {
                self.rest.clear();
                if stands { "\n".to_owned() } else { String::new() }
            }
            _ => self.remaining_text(),
        };
        if entry.kind == "model_replied" {
            self.rest = self.settle_reply(entry)?;
        }
        Ok(out)
    }

    /// Returns what is left to print of an answer that was let out.
    pub(in crate::commands) fn remaining_text(&mut self) -> String {
        std::mem::take(&mut self.rest)
    }

    /// Settles the live text with an entry; returns what is left to print if the answer is let out.
    fn settle_reply(&mut self, entry: &JournalEntryResource) -> Outcome<String> {
        let Some(body) = &entry.body else { return Ok(String::new()) };
        let text = parse_answer::<AssistantReplyBody>(body.get().as_bytes())?.joined_text();
        let live = std::mem::take(self).text;
        self.stands = !live.is_empty();
        let ModelRepliedFields { withheld } = parse_answer(entry.fields.get().as_bytes())?;
        if withheld.is_some() {
            // What may be shown of it is on the screen already.
            return Ok(if live.is_empty() { String::new() } else { "\n".to_owned() });
        }
        Ok(match text.strip_prefix(&live) {
            Some("") if live.is_empty() => String::new(),
            Some(rest) => format!("{rest}\n"),
            None => format!("\n{text}\n"),
        })
    }
}

/// Returns the interim reply that an entry is, as a paragraph, if it is one.
pub(in crate::commands) fn interim_reply(entry: &JournalEntryResource) -> Outcome<Option<String>> {
    let ToolFinishedFields { reply } = match entry.kind.as_str() {
        "tool_finished" => parse_answer(entry.fields.get().as_bytes())?,
        _ => return Ok(None),
    };
    let Some(body) = entry.body.as_ref().filter(|_| reply) else { return Ok(None) };
    let said = parse_answer::<AssistantReplyBody>(body.get().as_bytes())?.joined_text();
    Ok(Some(format!("{said}\n")))
}

/// What is read of the fields of a `tool_finished`.
#[derive(Debug, Deserialize)]
struct ToolFinishedFields {
    #[serde(default)]
    reply: bool,
}

/// What is read of the fields of a `model_replied`.
#[derive(Debug, Deserialize)]
struct ModelRepliedFields {
    #[serde(default)]
    withheld: Option<IgnoredAny>,
}

/// What an assistant message says.
#[derive(Debug, Default, Deserialize)]
pub(in crate::commands) struct AssistantReplyBody {
    #[serde(default)]
    parts: Vec<AssistantTextPart>,
}

#[derive(Debug, Deserialize)]
struct AssistantTextPart {
    #[serde(default)]
    text: String,
}

impl AssistantReplyBody {
    pub(in crate::commands) fn joined_text(&self) -> String {
        self.parts.iter().map(|piece| piece.text.as_str()).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(attempt: u32, offset: u64, text: &str) -> TextDelta {
        TextDelta { step: 1, attempt, offset, text: text.to_owned() }
    }

    fn reply(text: &str) -> JournalEntryResource {
        entry("model_replied", &serde_json::json!({}), text)
    }

    fn entry(kind: &str, fields: &serde_json::Value, text: &str) -> JournalEntryResource {
        let body = serde_json::json!({"parts": [{"type": "text", "text": text, "label": "untrusted/actor"}]});
        let entry = serde_json::json!({
            "seq": 3, "at": "2026-01-01T00:00:00Z", "epoch": 1, "kind": kind, "version": 1,
            "fields": fields, "body": body, "chain": "0".repeat(64),
        });
        serde_json::from_str(&entry.to_string()).unwrap()
    }

    #[test]
    fn the_screen_ends_with_the_settled_answer() {
        for (pieces, screen) in [
            (vec![delta(1, 0, "Hel"), delta(1, 3, "lo")], "Hello\n"),
            (vec![delta(1, 0, "Hel")], "Hello\n"),
            (vec![], "Hello\n"),
            // A lost piece.
            (vec![delta(1, 0, "He"), delta(1, 3, "lo")], "Hello\n"),
            // A lost attempt.
            (vec![delta(1, 0, "Good d"), delta(2, 0, "Hel")], "Good d\nHello\n"),
            (vec![delta(1, 0, "Good d")], "Good d\nHello\n"),
        ] {
            let mut printed = PrintedAnswer::default();
            let mut out: String = pieces.iter().map(|piece| printed.text_for_delta(piece)).collect();
            out.push_str(&printed.text_before_entry(&reply("Hello")).unwrap());
            out.push_str(
                &printed.text_before_entry(&entry("run_completed", &serde_json::json!({}), "")).unwrap(),
            );
            assert_eq!(out, screen, "{pieces:?}");
        }
    }

    #[test]
    fn an_interim_reply_is_a_paragraph_and_another_result_is_none() {
        let told =
            |kind: &str, fields: serde_json::Value| interim_reply(&entry(kind, &fields, "On it.")).unwrap();
        let sent = serde_json::json!({"call": "call_1_0", "status": "ok", "reply": true});
        assert_eq!(told("tool_finished", sent.clone()).as_deref(), Some("On it.\n"));
        assert_eq!(told("tool_finished", serde_json::json!({"call": "call_1_0", "status": "ok"})), None);
        assert_eq!(told("model_replied", sent), None);
    }

    #[test]
    fn a_withheld_answer_is_never_printed() {
        let none = serde_json::json!({});
        let withheld = serde_json::json!({"withheld": {"rule": "leak scan", "reason": "no"}});
        for (pieces, fields, end, screen) in [
            (vec![], &withheld, "run_failed", ""),
            (vec![], &withheld, "tool_started", ""),
            (vec![delta(1, 0, "*****")], &withheld, "run_failed", "*****\n"),
            (vec![delta(1, 0, "*****")], &withheld, "model_called", "*****\n"),
            (vec![], &none, "run_failed", ""),
            (vec![delta(1, 0, "Hel")], &none, "run_failed", "Hel\n"),
        ] {
            let mut printed = PrintedAnswer::default();
            let mut out: String = pieces.iter().map(|piece| printed.text_for_delta(piece)).collect();
            out.push_str(&printed.text_before_entry(&entry("model_replied", fields, "Hello")).unwrap());
            out.push_str(&printed.text_before_entry(&entry(end, &none, "")).unwrap());
            assert_eq!(out, screen, "{pieces:?} {fields} {end}");
        }
    }
}
