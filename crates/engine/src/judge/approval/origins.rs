//! The origin of each argument of a call, as far as the conversation shows it: an approver reads it beside the
//! argument.
//!
//! The origin of a text is the place that contains it: no verdict depends on it, and a text that the model changed,
//! even by one character, is the model's. A quote is short and has no value of a secret.

use dromia_contracts::approval::{ArgumentOrigin, OriginKind, QUOTE_BYTES_MAX};
use dromia_contracts::content::ContentPart;
use dromia_contracts::label::Label;
use dromia_contracts::tool::PreparedCall;
use dromia_contracts::transcript::{Transcript, TranscriptTurn};
use serde_json::Value;

use crate::default_arguments::default_arguments;
use crate::judge::CallJudge;
use crate::judge::quote_redaction::{LOOKED_BYTES_MAX, QuoteRedactor};

/// The shortest text that is searched in the conversation: a shorter one occurs everywhere.
const TEXT_CHARS_MIN: usize = 3;

/// The most texts of a call that are searched in the conversation. One beyond them gets the worst origin.
const TEXTS_MAX: usize = 64;

impl CallJudge<'_> {
    /// Finds the origin of each argument, as far as the conversation shows it, and quotes it without secrets.
    pub(super) async fn argument_origins(&mut self, call: &PreparedCall) -> Vec<ArgumentOrigin> {
        let Ok(Value::Object(fields)) = serde_json::from_str(&call.arguments) else { return Vec::new() };
        let tool = self.identity.agent.catalogue.find_tool(&call.tool);
        let roles = tool.map(|tool| &tool.roles[..]);
        let defaults = default_arguments(self.run_tools(), call);
        let (transcript, label) = (&self.story.transcript, self.story.taint.label);
        let mut room = TEXTS_MAX;
        let looked = LOOKED_BYTES_MAX.saturating_sub(*self.looked);
        let mut starred = QuoteRedactor::new(&*self.core.ports.leaks, &self.identity.scope, looked);
        let mut origins = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            let source = if defaults.contains(&name) {
                TextSource { origin: OriginKind::Default, label: Label::PUBLIC_FACT, place: None }
            } else {
                origin_of(transcript, &value, label, &mut room)
            };
            let role = roles.unwrap_or_default().iter().find(|(known, _)| *known == name);
            let TextSource { origin, label, place } = source;
            let place = match place {
                Some((whole, at, length)) => {
                    starred.redacted_text(whole).await.map(|whole| (whole, at, length))
                }
                None => None,
            };
            let (role, quote) =
                (role.map(|(_, role)| *role), TextSource { origin, label, place }.quote_context());
            origins.push(ArgumentOrigin { role, name, origin, label, quote });
        }
        *self.looked = LOOKED_BYTES_MAX - starred.bytes_left();
        origins
    }
}

/// Where a text of a call came from.
#[derive(Debug, Clone, Copy)]
struct TextSource<'t> {
    origin: OriginKind,
    label: Label,
    /// The text that contains it, its offset there, and its length.
    place: Option<(&'t str, usize, usize)>,
}

impl TextSource<'_> {
    /// Quotes its context.
    fn quote_context(self) -> Option<String> {
        let (whole, at, length) = self.place?;
        let before = QUOTE_BYTES_MAX.saturating_sub(length) / 2;
        let from = whole.ceil_char_boundary(at.saturating_sub(before));
        let to = whole.floor_char_boundary(whole.len().min(from + QUOTE_BYTES_MAX));
        let cut = |is_cut: bool| if is_cut { "…" } else { "" };
        Some(format!("{}{}{}", cut(from > 0), &whole[from..to], cut(to < whole.len())))
    }
}

/// Finds the origin of a value: of its texts, the one with the worst origin counts.
fn origin_of<'t>(
    transcript: &'t Transcript,
    value: &Value,
    context: Label,
    room: &mut usize,
) -> TextSource<'t> {
    let nowhere = |origin| TextSource { origin, label: context, place: None };
    let mut texts = Vec::new();
    collect_texts(value, &mut texts);
    let origins = texts.into_iter().filter(|text| text.chars().count() >= TEXT_CHARS_MIN);
    let origins = origins.map(|text| match room.checked_sub(1) {
        Some(left) => {
            *room = left;
            stands_in(transcript, text).unwrap_or(nowhere(OriginKind::Written))
        }
        None => nowhere(OriginKind::Found),
    });
    origins.max_by_key(|source| source.origin).unwrap_or(nowhere(OriginKind::Written))
}

/// Finds a text in the conversation. Typed text takes precedence over all other places.
fn stands_in<'t>(transcript: &'t Transcript, text: &str) -> Option<TextSource<'t>> {
    let mut found = None;
    for turn in transcript.turns() {
        let parts: Vec<&ContentPart> = match turn {
            TranscriptTurn::Input(message) => message.parts.iter().collect(),
            TranscriptTurn::Summary(parts) => parts.iter().collect(),
            // The model's own text is no source.
            TranscriptTurn::Unit(unit) => unit.results().iter().flat_map(|result| &result.parts).collect(),
        };
        for part in parts {
            let (whole, label) = (part.as_text(), part.label());
            let Some(at) = whole.find(text) else { continue };
            let source = |origin, at| TextSource { origin, label, place: Some((whole, at, text.len())) };
            let is_typed = label == Label::ACTOR_TEXT && matches!(turn, TranscriptTurn::Input(_));
            if !is_typed {
                found = Some(source(OriginKind::Found, at));
            } else if let Some(at) = whole_in(text, whole) {
                return Some(source(OriginKind::Said, at));
            }
            // A part of a longer word is not the same text.
        }
    }
    found
}

/// Finds a text in another with word borders on both sides: `bob@example.com.evil` does not contain `bob@example.com`.
fn whole_in(text: &str, whole: &str) -> Option<usize> {
    let mut places = whole.match_indices(text).map(|(at, _)| at);
    places.find(|at| {
        let (before, after) = (&whole[..*at], &whole[at + text.len()..]);
        !goes_on(before.chars().rev()) && !goes_on(after.chars())
    })
}

/// Tells whether a word goes on here: by one of its characters, or by a sign that joins two of them.
fn goes_on(mut chars: impl Iterator<Item = char>) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '@' | '-' | '%' | '+' | '\\');
    match chars.next() {
        Some('.' | '/' | ':' | '=' | '&' | '?' | '#') => chars.next().is_some_and(is_word),
        Some(c) => is_word(c),
        None => false,
    }
}

fn collect_texts<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect_texts(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| collect_texts(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::content::{AssistantMessage, CallStatus, InputMessage, ToolCall, ToolResult};
    use dromia_contracts::transcript::OpenUnit;
    use dromia_contracts::{Actor, CallId};

    use super::*;

    #[test]
    fn an_argument_shows_the_origin_of_its_text() {
        let mut transcript = Transcript::default();
        let said = |text: &str, label| InputMessage {
            author: Actor::new("cli:ada"),
            parts: vec![ContentPart::new_text(text, label)],
            hops: 0,
        };
        transcript.push_input(said("Send it to bob@example.com.", Label::ACTOR_TEXT));
        let call = CallId { step: 1, index: 0 };
        let asked = ToolCall { id: call, tool: "t".into(), arguments: "{}".into() };
        let mut open = OpenUnit::new(AssistantMessage { parts: vec![], calls: vec![asked] });
        let parts = vec![ContentPart::new_text("pay to eve@example.com", Label::UNKNOWN_FILE)];
        open.add_result(ToolResult { call, status: CallStatus::Ok, parts }).expect("it is open");
        transcript.push_unit(open.close().expect("its call has a result"));
        let context = Label::UNKNOWN_FILE;
        let of = |json: Value| {
            let source = origin_of(&transcript, &json, context, &mut { TEXTS_MAX });
            (source.origin, source.label)
        };
        assert_eq!(of(Value::from("bob@example.com")), (OriginKind::Said, Label::ACTOR_TEXT));
        assert_eq!(of(Value::from("eve@example.com")), (OriginKind::Found, Label::UNKNOWN_FILE));
        assert_eq!(of(Value::from("somebody else")), (OriginKind::Written, context));
        for part in ["bob@example.co", "ob@example.com"] {
            assert_eq!(of(Value::from(part)), (OriginKind::Written, context), "{part}");
        }
        assert_eq!(of(serde_json::json!(["bob@example.com", "eve@example.com"])).0, OriginKind::Found);
        assert_eq!(of(serde_json::json!(7)), (OriginKind::Written, context));
        let many = vec!["bob@example.com"; TEXTS_MAX + 1];
        assert_eq!(of(Value::from(many[1..].to_vec())).0, OriginKind::Said);
        assert_eq!(of(Value::from(many)).0, OriginKind::Found, "nobody looks for more");
        transcript.push_input(said("eve@example.com is fine", Label::ACTOR_TEXT));
        let now = origin_of(&transcript, &Value::from("eve@example.com"), context, &mut { TEXTS_MAX });
        assert_eq!(now.origin, OriginKind::Said);
        assert_eq!(now.quote_context().as_deref(), Some("eve@example.com is fine"));
    }

    #[test]
    fn a_quote_is_short_and_marks_where_it_is_cut() {
        let quote = |before: &str, text: &str, after: &str| {
            let whole = format!("{before}{text}{after}");
            let place = Some((whole.as_str(), before.len(), text.len()));
            let source = TextSource { origin: OriginKind::Found, label: Label::CLAIM, place };
            source.quote_context().expect("it stands somewhere")
        };
        assert_eq!(quote("pay to ", "eve", " now"), "pay to eve now");
        let long = "ä".repeat(400);
        for (before, text, after) in [
            (long.as_str(), "eve", long.as_str()),
            ("", long.as_str(), ""),
            ("", "eve", long.as_str()),
            (long.as_str(), "eve", ""),
        ] {
            let quoted = quote(before, text, after);
            assert!(quoted.len() <= QUOTE_BYTES_MAX + 2 * "…".len(), "{quoted}");
            assert!(text == long || quoted.contains(text), "{quoted}");
            assert_eq!(quoted.starts_with('…'), !before.is_empty(), "{quoted}");
            assert_eq!(quoted.ends_with('…'), text == long || !after.is_empty(), "{quoted}");
        }
        let nowhere = TextSource { origin: OriginKind::Written, label: Label::CLAIM, place: None };
        assert_eq!(nowhere.quote_context(), None);
    }
}
