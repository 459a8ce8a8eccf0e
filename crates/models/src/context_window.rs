//! How much of a conversation a model takes: its window, and what is left out so that a request fits.
//!
//! A request is system text, tools, conversation and the longest answer, and all of it must fit the window. Where it does
//! not, handles take the place of long results, the oldest first. Then pieces are left out at the beginning: an input with
//! everything that the agent said and did until the next input. The newest piece always stays, if need be with handles in the
//! place of its long results; where even that does not fit, there is no request. Tokens are counted by
//! [`tokens::count_window_tokens`], on the safe side; nothing here asks a provider.

use dromia_contracts::ErrorCode;
use dromia_contracts::model::{ModelError, ModelRequest};
use dromia_contracts::transcript::TranscriptTurn;

use crate::sent_turns::count_head;
use crate::tokens;

/// How many turns get handles in the place of long results at once.
const SHORTENED_AT_ONCE: usize = 8;

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
    /// How many turns are left out at the beginning, behind a summary.
    pub(crate) left_out: u32,
    /// How many turns of the rest have handles in the place of long results.
    pub(crate) shortened: u32,
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
        let half = self.context_tokens.map(|window| window / 2);
        let bounds = [self.output_tokens_max, half].into_iter().flatten();
        let output_tokens_max = bounds.fold(request.output_tokens_max, u32::min);
        let sizes = TurnSizes::of_request(request);
        let mut smallest = None;
        for (left_out, shortened) in sizes.candidates() {
            let bytes = sizes.bytes_sent(left_out, shortened);
            let count = |turns: usize| u32::try_from(turns).unwrap_or(u32::MAX);
            let (left_out, shortened) = (count(left_out), count(shortened));
            let fitted = FittedRequest { left_out, shortened, bytes, output_tokens_max };
            match self.check_fits(&fitted) {
                Ok(()) => return Ok(fitted),
                Err(long) => smallest = Some(long),
            }
        }
        // There is always a candidate: the whole request.
        Err(smallest.unwrap_or(TooLong { input_tokens: 0, output_tokens: 0, window: 0 }))
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

/// How many bytes the turns of a conversation take.
struct TurnSizes {
    /// Bytes of system text, tools and the summary in front.
    fixed: usize,
    /// Bytes of each turn behind the summary, whole and with handles in the place of long results.
    turns: Vec<(usize, usize)>,
    /// Where each piece begins: at an input, the first one at the beginning.
    pieces: Vec<usize>,
}

impl TurnSizes {
    fn of_request(request: &ModelRequest) -> Self {
        let all = request.transcript.turns();
        let (head, rest) = all.split_at(count_head(all));
        let fixed = tokens::fixed_bytes(request) + head.iter().map(tokens::turn_bytes).sum::<usize>();
        let turns = rest.iter().map(|turn| (tokens::turn_bytes(turn), tokens::shortened_turn_bytes(turn)));
        let is_begin =
            |(at, turn): &(usize, &TranscriptTurn)| *at == 0 || matches!(turn, TranscriptTurn::Input(_));
        let pieces = rest.iter().enumerate().filter(is_begin).map(|(at, _)| at).collect();
        Self { fixed, turns: turns.collect(), pieces }
    }

    /// Lists what may be left out and shortened, the least first: long results of old units, then the oldest pieces, then
    /// long results of the newest piece.
    fn candidates(&self) -> impl Iterator<Item = (usize, usize)> {
        let newest = self.pieces.last().copied().unwrap_or_default();
        let results = self.shortening_steps(0, newest).map(|shortened| (0, shortened));
        let pieces = self.pieces.iter().skip(1).map(move |at| (*at, self.worth_shortening(*at, newest)));
        let own = self.shortening_steps(newest, self.turns.len()).map(move |shortened| (newest, shortened));
        std::iter::once((0, 0)).chain(results).chain(pieces).chain(own)
    }

    /// Lists how many turns from one to another to shorten: some at a time, so that the beginning of a conversation stays the
    /// same over several requests.
    fn shortening_steps(&self, from: usize, to: usize) -> impl Iterator<Item = usize> {
        let most = self.worth_shortening(from, to);
        let steps = (1..).map(|step| step * SHORTENED_AT_ONCE).take_while(move |shortened| *shortened < most);
        steps.chain((most > 0).then_some(most))
    }

    /// Counts the turns from one to another up to the last one that has a long result.
    fn worth_shortening(&self, from: usize, to: usize) -> usize {
        let turns = self.turns.get(from..to).unwrap_or_default();
        turns.iter().rposition(|(whole, short)| short < whole).map_or(0, |last| last + 1)
    }

    fn bytes_sent(&self, left_out: usize, shortened: usize) -> usize {
        let kept = self.turns.get(left_out..).unwrap_or_default();
        let (short, whole) = kept.split_at(shortened.min(kept.len()));
        let notice = if left_out > 0 { tokens::NOTICE_BYTES } else { 0 };
        self.fixed
            + notice
            + short.iter().map(|(_, short)| short).sum::<usize>()
            + whole.iter().map(|(whole, _)| whole).sum::<usize>()
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
