//! `past.read`: reads again the result of an earlier turn for which a later request has a handle.
//!
//! Pure, and it reads nothing but what the engine put beside the call: the contents behind the handles of this very
//! run's requests. So a handle of another session, agent or tenant is refused as one that was never made.
//!
//! Invariant: a piece has the label of the whole content that it is a piece of, never a better one.

use dromia_contracts::content::{ContentPart, parts_text};
use dromia_contracts::label::Label;
use dromia_contracts::redacted_history::RedactedHistory;

use crate::arguments::PastRead;
use crate::file_labels::label_of;

/// What the model gets if there is nothing to read.
const NOT_FOUND: &str = "no earlier turn in your context has this handle";

/// Reads a piece of a content. Its pictures, which have no bytes to count, come with the first one.
pub(crate) fn read_past(past: &RedactedHistory, arguments: &PastRead) -> Result<Vec<ContentPart>, String> {
    let content = past.find_content(&arguments.handle).ok_or(NOT_FOUND)?;
    let label = label_of(content, Label::PUBLIC_FACT);
    let text = parts_text(content);
    let (from, to) = piece_bounds(&text, arguments.offset, arguments.limit);
    let mut told = Vec::new();
    if from < to {
        told.push(ContentPart::new_text(&text[from..to], label));
    }
    if arguments.offset == 0 {
        told.extend(content.iter().filter(|part| part.is_image()).cloned());
    }
    let more = text.len() - to;
    if more > 0 {
        told.push(past_fact(format!("[{more} more bytes; read on with offset {to}]")));
    }
    if told.is_empty() {
        told.push(past_fact(format!("[nothing here: there are {} bytes]", text.len())));
    }
    Ok(told)
}

/// Where a piece begins and ends: at whole characters, one of them at least as long as there are any.
fn piece_bounds(text: &str, offset: u64, limit: u32) -> (usize, usize) {
    let boundary = |at: usize| (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let from = boundary(usize::try_from(offset).unwrap_or(usize::MAX));
    let most = from.saturating_add(limit as usize).min(text.len());
    let to = (from..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(from);
    let to = if to == from { boundary(from.saturating_add(1)) } else { to };
    (from, to)
}

fn past_fact(text: String) -> ContentPart {
    ContentPart::new_text(text, Label::PUBLIC_FACT)
}

#[cfg(test)]
mod tests {
    use dromia_contracts::content::ImageMediaType;

    use super::*;

    fn past() -> RedactedHistory {
        let mut past = RedactedHistory::default();
        let text = |text: &str, label| ContentPart::new_text(text, label);
        past.insert_content(
            "1/call_1_0".into(),
            vec![text("gräße", Label::OUTSIDE), text("ok", Label::ACTOR_TEXT)],
        );
        let image =
            ContentPart::Image { media: ImageMediaType::Png, data: "iVBORw0K".into(), label: Label::CLAIM };
        past.insert_content("1/call_1_1".into(), vec![image, text("seen", Label::PUBLIC_FACT)]);
        past
    }

    fn told(handle: &str, offset: u64, limit: u32) -> Vec<ContentPart> {
        read_past(&past(), &PastRead { handle: handle.into(), limit, offset }).expect("it is there")
    }

    #[test]
    fn a_piece_has_the_label_of_the_whole_content() {
        let label = Label::OUTSIDE.join(Label::ACTOR_TEXT);
        assert_eq!(told("1/call_1_0", 0, 100), [ContentPart::new_text("gräße\nok", label)]);
        // The trusted end of it came with the rest.
        assert_eq!(told("1/call_1_0", 8, 100), [ContentPart::new_text("ok", label)]);
        let more = ContentPart::new_text("[2 more bytes; read on with offset 8]", Label::PUBLIC_FACT);
        assert_eq!(told("1/call_1_0", 0, 8), [ContentPart::new_text("gräße\n", label), more]);
    }

    #[test]
    fn pieces_end_at_characters_and_come_to_an_end() {
        for limit in 1..12 {
            let (mut offset, mut whole) = (0, String::new());
            loop {
                let parts = told("1/call_1_0", offset, limit);
                let text = parts[0].as_text();
                if text.starts_with("[nothing here") {
                    break;
                }
                whole.push_str(text);
                offset += text.len() as u64;
            }
            assert_eq!(whole, "gräße\nok", "{limit} bytes at a time");
        }
        for offset in [10, 11, u64::MAX] {
            assert_eq!(told("1/call_1_0", offset, 5)[0].as_text(), "[nothing here: there are 10 bytes]");
        }
    }

    #[test]
    fn pictures_come_with_the_first_piece() {
        let parts = told("1/call_1_1", 0, 2);
        assert_eq!(parts[0], ContentPart::new_text("se", Label::CLAIM));
        assert!(parts[1].is_image() && parts[1].label() == Label::CLAIM, "{parts:?}");
        assert!(told("1/call_1_1", 2, 2).iter().all(|part| !part.is_image()));
    }

    #[test]
    fn every_invalid_handle_is_refused_in_the_same_words() {
        for handle in ["", "2/call_1_0", "1/call_1_2", "1/step_1", "run_0/call_1_0", " 1/call_1_0"] {
            let asked = PastRead { handle: handle.into(), limit: 10, offset: 0 };
            assert_eq!(read_past(&past(), &asked), Err(NOT_FOUND.to_owned()), "{handle:?}");
        }
    }
}
