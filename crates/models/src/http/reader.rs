//! Readers of answers, streamed and whole, in any format. They never touch the network.

use dromia_contracts::model::{DeltaSink, ModelError, ModelReply};
use dromia_sse::SseParser;

use super::draft::ReplyDraft;
use super::failure::StreamError;
use super::format::WireFormat;

/// The most bytes of one line of a stream and of one event's data.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// Reads a streamed answer from pieces of any size; it never touches the network.
#[derive(Debug)]
pub struct StreamReader {
    format: WireFormat,
    events: SseParser,
    draft: ReplyDraft,
}

impl StreamReader {
    /// Begins an answer.
    pub fn new(format: WireFormat) -> Self {
        Self { format, events: SseParser::new(EVENT_BYTES_MAX), draft: ReplyDraft::default() }
    }

    /// Takes the next piece; tells whether the answer is complete.
    pub fn push_chunk(&mut self, chunk: &[u8], deltas: &dyn DeltaSink) -> Result<bool, ModelError> {
        let Self { format, events, draft } = self;
        let mut done = draft.done;
        let pushed = events.push_chunk(chunk, |event| {
            // Nothing follows the end, whatever comes in the same piece.
            if !done {
                format.take_event(draft, event.data, deltas).map_err(StreamError)?;
                done = draft.done;
            }
            Ok::<_, StreamError>(())
        });
        if done { Ok(true) } else { pushed.map(|()| false).map_err(|error| error.0) }
    }

    /// Closes the answer. `input_tokens` is asked where the provider counted nothing.
    pub fn into_reply(self, input_tokens: impl FnOnce() -> u32) -> Result<ModelReply, ModelError> {
        self.draft.into_reply(input_tokens)
    }

    pub(super) fn into_draft(self) -> ReplyDraft {
        self.draft
    }
}

/// Reads an answer that came whole; it never touches the network. `input_tokens` is asked where the provider counted
/// nothing.
pub fn whole_reply(
    format: WireFormat,
    json: &[u8],
    deltas: &dyn DeltaSink,
    input_tokens: impl FnOnce() -> u32,
) -> Result<ModelReply, ModelError> {
    let mut draft = ReplyDraft::default();
    format.take_whole(&mut draft, json, deltas)?;
    draft.into_reply(input_tokens)
}
