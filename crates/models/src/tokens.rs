//! Token counts, where no provider's tokenizer is at hand.
//!
//! Three counts of the same bytes serve three questions. [`estimate_tokens`] is the likely number and replaces a report
//! that a provider did not make. [`count_window_tokens`] is on the safe side of it and decides what fits a window. The
//! bytes themselves are the ceiling for money: a byte-level tokenizer never makes more tokens than bytes.

use dromia_contracts::content::{ContentPart, ToolResult};
use dromia_contracts::model::ModelRequest;
use dromia_contracts::transcript::TranscriptTurn;

use crate::image;

/// Bytes of wire framing around one message, call or tool; an upper bound for the formats spoken here.
const FRAME_BYTES: usize = 64;

/// The most bytes of a result that is never replaced by a handle; the text of the handle is shorter.
const RESULT_BYTES_KEPT: usize = 512;

/// The most bytes of the text in the place of a long result.
const HANDLE_BYTES: usize = 160;

/// The most bytes of the line in the place of what is left out, framing included.
pub(crate) const NOTICE_BYTES: usize = 256;

/// The most tokens as which one picture is charged: 2,833 and eight tiles of 5,667.
const IMAGE_TOKENS_MAX: usize = 48_169;

/// Counts the likely tokens of so many bytes of text: one per four bytes, rounded up.
pub fn estimate_tokens(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(4)).unwrap_or(u32::MAX)
}

/// Counts tokens against a window: one per three bytes, rounded up. Ordinary text has fewer; bytes that no tokenizer
/// knows in longer pieces, such as encoded ones, may have more, and then the provider refuses the request.
pub fn count_window_tokens(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(3)).unwrap_or(u32::MAX)
}

/// Counts the likely input tokens of a request that is sent whole.
pub fn estimate_request(request: &ModelRequest) -> u32 {
    estimate_sent(request, request.transcript.turns())
}

/// Counts the likely input tokens of a request of which these turns are sent.
pub(crate) fn estimate_sent(request: &ModelRequest, turns: &[TranscriptTurn]) -> u32 {
    estimate_tokens(fixed_text_bytes(request) + turns.iter().map(turn_text_bytes).sum::<usize>())
}

/// Counts the bytes that system text and tools may occupy at most in a provider's view of them.
pub(crate) fn fixed_bytes(request: &ModelRequest) -> usize {
    fixed_text_bytes(request) + FRAME_BYTES * (1 + request.tools.len())
}

/// Counts the bytes that a turn may occupy at most in a provider's view of it.
pub(crate) fn turn_bytes(turn: &TranscriptTurn) -> usize {
    let frames = match turn {
        TranscriptTurn::Input(_) | TranscriptTurn::Summary(_) => 1,
        TranscriptTurn::Unit(unit) => {
            // Pictures may follow the results in a message of their own, behind a line of two frames for each result.
            let shown = unit.results().iter().filter(|result| image::is_shown(result)).count();
            1 + unit.message().calls.len() + unit.results().len() + 3 * shown
        }
    };
    turn_text_bytes(turn) + FRAME_BYTES * frames
}

/// Counts the bytes that a turn may occupy at most with handles in the place of its long results.
pub(crate) fn shortened_turn_bytes(turn: &TranscriptTurn) -> usize {
    let whole = turn_bytes(turn);
    let TranscriptTurn::Unit(unit) = turn else { return whole };
    let saved = unit.results().iter().filter(|result| is_long(result));
    whole - saved.map(|result| result_bytes(result).saturating_sub(HANDLE_BYTES)).sum::<usize>()
}

fn fixed_text_bytes(request: &ModelRequest) -> usize {
    let tools = request
        .tools
        .iter()
        .map(|tool| tool.name.len() + tool.description.len() + json_bytes(&tool.parameters));
    request.system.len() + tools.sum::<usize>()
}

fn turn_text_bytes(turn: &TranscriptTurn) -> usize {
    match turn {
        TranscriptTurn::Input(input) => input.parts.iter().map(part_bytes).sum::<usize>(),
        TranscriptTurn::Summary(parts) => parts.iter().map(part_bytes).sum::<usize>(),
        TranscriptTurn::Unit(unit) => {
            let said = unit.message().parts.iter().map(|part| part.as_text().len());
            let asked = unit.message().calls.iter().map(|call| call.tool.len() + call.arguments.len());
            let told = unit.results().iter().flat_map(|result| &result.parts).map(part_bytes);
            said.chain(asked).chain(told).sum()
        }
    }
}

/// Counts the text of a result.
pub(crate) fn result_bytes(result: &ToolResult) -> usize {
    result.parts.iter().map(part_bytes).sum()
}

/// Returns whether a handle takes less room than a result.
pub(crate) fn is_long(result: &ToolResult) -> bool {
    result_bytes(result) > RESULT_BYTES_KEPT
}

/// Counts a part as text. A picture is charged by its size on the screen and not by its bytes; the dearest way in which
/// a provider counts one comes to this many tokens.
fn part_bytes(part: &ContentPart) -> usize {
    match part {
        ContentPart::Text { text, .. } => text.len(),
        ContentPart::Image { .. } => IMAGE_TOKENS_MAX,
    }
}

/// Counts the bytes of a value as compact JSON without building the text.
fn json_bytes(value: &serde_json::Value) -> usize {
    struct ByteCounter(usize);
    impl std::io::Write for ByteCounter {
        fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
            self.0 += piece.len();
            Ok(piece.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = ByteCounter(0);
    // Counting cannot fail, and a `Value` has string keys only, so neither can the serializer.
    serde_json::to_writer(&mut count, value).map_or(0, |()| count.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dromia_contracts::CallId;
    use dromia_contracts::content::{AssistantMessage, CallStatus, ImageMediaType, ToolCall};
    use dromia_contracts::label::Label;
    use dromia_contracts::transcript::OpenUnit;

    #[test]
    fn an_estimate_rounds_up() {
        assert_eq!([0, 1, 4, 5].map(estimate_tokens), [0, 1, 1, 2]);
        assert_eq!([0, 1, 3, 4].map(count_window_tokens), [0, 1, 1, 2]);
    }

    #[test]
    fn a_picture_counts_the_same_however_many_bytes_it_has() {
        let image = |data: &str| ContentPart::Image {
            media: ImageMediaType::Png,
            data: data.into(),
            label: Label::CLAIM,
        };
        assert_eq!(part_bytes(&image("")), part_bytes(&image("iVBORw0K")));
        assert_eq!(part_bytes(&ContentPart::new_text("abc", Label::CLAIM)), 3);
    }

    #[test]
    fn a_picture_in_a_result_counts_like_a_users() {
        let unit = |parts: Vec<ContentPart>| {
            let call = CallId { step: 1, index: 0 };
            let asked = ToolCall { id: call, tool: "shot".into(), arguments: "{}".into() };
            let mut open = OpenUnit::new(AssistantMessage { parts: vec![], calls: vec![asked] });
            open.add_result(ToolResult { call, status: CallStatus::Ok, parts }).expect("it is open");
            TranscriptTurn::Unit(open.close().expect("its call has a result"))
        };
        let image =
            ContentPart::Image { media: ImageMediaType::Png, data: "iVBORw0K".into(), label: Label::CLAIM };
        let (without, with) = (unit(vec![]), unit(vec![image]));
        assert_eq!(turn_text_bytes(&with) - turn_text_bytes(&without), IMAGE_TOKENS_MAX);
        assert_eq!(turn_bytes(&with) - turn_bytes(&without), IMAGE_TOKENS_MAX + 3 * FRAME_BYTES);
    }

    #[test]
    fn counted_json_is_as_long_as_written_json() {
        let value =
            serde_json::json!({"type": "object", "properties": {"path": {"type": "string"}}, "n": [1, null]});
        assert_eq!(json_bytes(&value), value.to_string().len());
    }
}
