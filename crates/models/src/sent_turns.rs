//! Which turns of a conversation a request holds: without what is left out, with handles in the place of long results,
//! and with a line of the runtime that says so.
//!
//! It follows from the encoding alone, so a request that is written again has the same turns.

use std::borrow::Cow;

use dromia_contracts::content::{ContentPart, ToolCall};
use dromia_contracts::encoded_request::RequestEncoding;
use dromia_contracts::label::Label;
use dromia_contracts::redacted_history::{READ, turn_handle};
use dromia_contracts::transcript::{AssistantUnit, TranscriptTurn};

use crate::tokens;

/// Counts the turns in front of a conversation that are always sent: what the runtime says of what came before.
pub(crate) fn count_head(turns: &[TranscriptTurn]) -> usize {
    turns.iter().take_while(|turn| matches!(turn, TranscriptTurn::Summary(_))).count()
}

/// Returns the turns that are sent, with calls named after the index of their unit in the conversation, including the units
/// that are left out, so that a call keeps its name while the conversation grows. In the runs that made them two calls may
/// have one name, which providers refuse. `None` if more is left out than there is.
pub(crate) fn sent_turns<'a>(
    wording: &RequestEncoding,
    turns: &'a [TranscriptTurn],
) -> Option<Cow<'a, [TranscriptTurn]>> {
    let (head, left_out) = (count_head(turns), wording.left_out as usize);
    let kept = turns.get(head.checked_add(left_out)?..)?;
    if !wording.leaves_words_out() && !kept.iter().any(has_calls) {
        return Some(Cow::Borrowed(turns));
    }
    let mut sent = turns.get(..head)?.to_vec();
    if left_out > 0 {
        sent.push(TranscriptTurn::Summary(vec![left_out_notice(head, left_out)]));
    }
    let places = (head + left_out + 1)..;
    sent.extend(kept.iter().zip(places).enumerate().map(|(index, (turn, place))| match turn {
        TranscriptTurn::Unit(unit) => {
            let unit = unit.renamed_for_step(u32::try_from(place).unwrap_or(u32::MAX));
            let is_short = index < wording.shortened as usize;
            TranscriptTurn::Unit(if is_short { shortened_unit(&unit) } else { unit })
        }
        other @ (TranscriptTurn::Input(_) | TranscriptTurn::Summary(_)) => other.clone(),
    }));
    Some(Cow::Owned(sent))
}

/// The line in the place of what is left out.
fn left_out_notice(head: usize, left_out: usize) -> ContentPart {
    let (first, last) = (turn_handle(head + 1), turn_handle(head + left_out));
    let which = if left_out == 1 { format!("handle {first}") } else { format!("handles {first} to {last}") };
    let text = format!(
        "[The {left_out} oldest messages of this conversation do not fit here and are left out; {READ} reads them, {which}]"
    );
    ContentPart::new_text(text, Label::PUBLIC_FACT)
}

/// The unit with a handle in the place of each long result.
fn shortened_unit(unit: &AssistantUnit) -> AssistantUnit {
    let call = |call: &ToolCall| (call.tool.clone(), call.arguments.clone());
    unit.map_content(unit.message().parts.clone(), call, |result| {
        if !tokens::is_long(result) {
            return result.parts.clone();
        }
        let bytes: usize = result.parts.iter().map(ContentPart::byte_count).sum();
        let text = format!(
            "[{bytes} bytes of this result do not fit here any more; {READ} reads them, handle {}]",
            result.call
        );
        vec![ContentPart::new_text(text, Label::PUBLIC_FACT)]
    })
}

fn has_calls(turn: &TranscriptTurn) -> bool {
    matches!(turn, TranscriptTurn::Unit(unit) if !unit.message().calls.is_empty())
}
