//! How much of a conversation a model takes: its window, and what is left out so that a request fits.
//!
//! A request is system text, tools, conversation and the longest answer, and all of it must fit the window. What is
//! left out is left out at the beginning and in whole pieces: an input with everything that the agent said and did
//! until the next input. The newest piece always stays; where even that does not fit, there is no request. Tokens are
//! counted by [`tokens::count_window_tokens`], on the safe side; nothing here asks a provider.

use dromia_contracts::ErrorCode;
use dromia_contracts::model::{ModelError, ModelRequest};
use dromia_contracts::transcript::TranscriptTurn;

use crate::tokens;

/// What a model takes and gives at most, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContextWindow {
    /// Tokens of a request and its answer together. Nothing is left out for a model without a known window.
    pub context_tokens: Option<u32>,
    /// Tokens of an answer.
    pub output_tokens_max: Option<u32>,
}

/// What of a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FittedRequest {
    /// How many turns are left out at the beginning.
    pub(crate) left_out: usize,
    /// Bytes of what stays, framing included.
    pub(crate) bytes: usize,
    /// The most tokens of the answer.
    pub(crate) output_tokens_max: u32,
}

/// Says that not even the newest piece fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong {
    input_tokens: u32,
    output_tokens: u32,
    window: u32,
}

impl ContextWindow {
    /// Finds how much of a request fits. The answer gets no more than half of the window, so that a small one has room
    /// for a question.
    pub(crate) fn fit_request(&self, request: &ModelRequest) -> Result<FittedRequest, TooLong> {
        let turns = request.transcript.turns();
        let half = self.context_tokens.map(|window| window / 2);
        let bounds = [self.output_tokens_max, half].into_iter().flatten();
        let output_tokens_max = bounds.fold(request.output_tokens_max, u32::min);
        let mut kept =
            FittedRequest { left_out: turns.len(), bytes: tokens::fixed_bytes(request), output_tokens_max };
        let mut piece = 0;
        for (at, turn) in turns.iter().enumerate().rev() {
            piece += tokens::turn_bytes(turn);
            if at > 0 && !matches!(turn, TranscriptTurn::Input(_)) {
                continue;
            }
            let longer = FittedRequest { left_out: at, bytes: kept.bytes + piece, ..kept };
            let is_newest = kept.left_out == turns.len();
            if !is_newest && self.check_fits(&longer).is_err() {
                break;
            }
            (kept, piece) = (longer, 0);
        }
        self.check_fits(&kept)?;
        Ok(kept)
    }

    fn check_fits(&self, fitted: &FittedRequest) -> Result<(), TooLong> {
        let Some(window) = self.context_tokens else { return Ok(()) };
        let (input_tokens, output_tokens) = (fitted.input_tokens(), fitted.output_tokens_max);
        if input_tokens.saturating_add(output_tokens) <= window {
            Ok(())
        } else {
            Err(TooLong { input_tokens, output_tokens, window })
        }
    }
}

impl FittedRequest {
    /// Counts what stays against the window.
    pub(crate) fn input_tokens(&self) -> u32 {
        tokens::count_window_tokens(self.bytes)
    }
}

impl TooLong {
    /// Converts it to the error of a model.
    pub(crate) fn into_model_error(self, model: &str) -> ModelError {
        let Self { input_tokens, output_tokens, window } = self;
        let need = u64::from(input_tokens) + u64::from(output_tokens);
        ModelError {
            code: ErrorCode::ContextExceeded,
            message: format!(
                "the newest part of the conversation needs {need} tokens ({input_tokens} for the request, \
                 {output_tokens} for the longest answer), but {model} has a window of {window}"
            ),
            retry_after: None,
        }
    }
}

#[cfg(test)]
mod tests;
