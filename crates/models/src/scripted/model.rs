//! The scripted model behind the port: sees a transcript, plays the script, takes its time.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::content::{CallStatus, ContentPart};
use dromia_contracts::encoded_request::{RequestEncoding, TaintedPast};
use dromia_contracts::model::{
    DeltaSink, FinishReason, LanguageModel, ModelError, ModelReply, ModelRequest, PreparedAttempt,
    ProposedCall, TokenUsage, UsageDetail,
};
use dromia_contracts::runtime::Clock;
use dromia_contracts::transcript::{AssistantUnit, Transcript, TranscriptTurn};
use dromia_contracts::{BoxFuture, ErrorCode};
use jiff::Timestamp;

use super::directive::ScriptedFailure;
use super::play::{CallOutcome, ScriptInput, ScriptMove, next_move};
use crate::context_window::ContextWindow;
use crate::encoded_request;
use crate::tokens;

/// The built-in model that needs no network. It costs nothing.
#[derive(Debug, Clone)]
pub struct ScriptedModel {
    clock: Arc<dyn Clock>,
}

impl ScriptedModel {
    /// The alias under which it is always there.
    pub const ALIAS: &'static str = "scripted";

    /// The form in which its requests are written down. Nothing is sent anywhere: it reads the conversation itself.
    pub(crate) const FORM: &'static str = "scripted/1";

    /// Makes it; the clock is asked only for `@slow`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }

    async fn play_step(
        &self,
        request: &ModelRequest,
        deltas: &dyn DeltaSink,
    ) -> Result<ModelReply, ModelError> {
        let input_tokens = tokens::estimate_request(request);
        let played = next_move(&script_of(&request.transcript));
        let began_at = self.clock.now();
        let ScriptMove { slow_ms, text, calls } = played;
        let mut text = match text {
            Ok(text) => text,
            Err(failing) => {
                self.delay_reply(began_at, slow_ms).await;
                return Err(scripted_error(failing));
            }
        };
        let stopped_at = stop_at(&mut text, &request.wishes.stop);
        let cut = cut_to(&mut text, request.output_tokens_max);
        let pieces = split_pieces(&text);
        for (index, piece) in pieces.iter().enumerate() {
            // A piece goes out at the beginning of its share of the wait, the rest of the wait comes last.
            let share = slow_ms * (index as u64) / (pieces.len() as u64);
            self.delay_reply(began_at, share).await;
            deltas.push_delta(piece);
        }
        self.delay_reply(began_at, slow_ms).await;
        let calls: Vec<_> = calls
            .into_iter()
            .map(|call| ProposedCall { tool: call.tool, arguments: call.arguments })
            .collect();
        let asked: usize = calls.iter().map(|call| call.tool.len() + call.arguments.len()).sum();
        let finish = match (cut, calls.is_empty()) {
            (true, _) => FinishReason::Length,
            (false, true) => FinishReason::Stop,
            (false, false) => FinishReason::ToolCalls,
        };
        Ok(ModelReply {
            usage: TokenUsage { input_tokens, output_tokens: tokens::estimate_tokens(text.len() + asked) },
            calls: if cut { Vec::new() } else { calls },
            text,
            detail: UsageDetail::default(),
            cost_micros: 0,
            finish,
            stopped_at: stopped_at.filter(|_| finish == FinishReason::Stop),
        })
    }

    async fn delay_reply(&self, began_at: Timestamp, ms: u64) {
        if ms == 0 {
            return;
        }
        if let Ok(at) = began_at.checked_add(Duration::from_millis(ms)) {
            self.clock.sleep_until(at).await;
        }
    }
}

impl LanguageModel for ScriptedModel {
    fn knows_alias(&self, alias: &str) -> bool {
        alias == Self::ALIAS
    }

    fn prepare_attempt(&self, request: &ModelRequest) -> Result<PreparedAttempt, ModelError> {
        // It has no window, so everything fits.
        let fitted = ContextWindow::default()
            .fit_request(request)
            .map_err(|long| long.into_model_error(Self::ALIAS))?;
        let wording = RequestEncoding {
            by: None,
            form: Self::FORM.to_owned(),
            model: String::new(),
            whole: false,
            limit: None,
            left_out: 0,
            shortened: 0,
            tainted_past: TaintedPast::Whole,
            answer_field: false,
            concludes: false,
        };
        Ok(PreparedAttempt {
            body: encoded_request::encode_request(&wording, request, request.output_tokens_max)?,
            wording,
            input_tokens: fitted.input_tokens(),
            output_tokens_max: request.output_tokens_max,
            reserved_micros: 0,
            priced: true,
            window: None,
        })
    }

    fn encode_request(&self, wording: &RequestEncoding, request: &ModelRequest) -> Result<Bytes, ModelError> {
        encoded_request::encode_request(wording, request, request.output_tokens_max)
    }

    fn call_model<'a>(
        &'a self,
        request: &'a ModelRequest,
        _prepared: &'a PreparedAttempt,
        deltas: &'a dyn DeltaSink,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(self.play_step(request, deltas))
    }
}

/// Reads the script off a transcript: the last input, and the units after it.
fn script_of(transcript: &Transcript) -> ScriptInput<'_> {
    let turns = transcript.turns();
    let start = turns.iter().rposition(|turn| matches!(turn, TranscriptTurn::Input(_)));
    let input = match start.map(|start| &turns[start]) {
        Some(TranscriptTurn::Input(input)) => text_of(&input.parts),
        Some(TranscriptTurn::Unit(_) | TranscriptTurn::Summary(_)) | None => Cow::Borrowed(""),
    };
    let since = &turns[start.map_or(0, |start| start + 1)..];
    let done = since.iter().filter_map(|turn| match turn {
        TranscriptTurn::Unit(unit) => Some(unit_outcomes(unit)),
        TranscriptTurn::Input(_) | TranscriptTurn::Summary(_) => None,
    });
    ScriptInput { input, done: done.collect() }
}

fn unit_outcomes(unit: &AssistantUnit) -> Vec<CallOutcome<'_>> {
    let calls = unit.message().calls.iter();
    calls
        .map(|call| {
            let result = unit.results().iter().find(|result| result.call == call.id);
            CallOutcome {
                tool: Cow::Borrowed(&call.tool),
                arguments: Cow::Borrowed(&call.arguments),
                // A unit holds a result for every call, by its type.
                status: result.map_or(CallStatus::Unknown, |result| result.status),
                text: result.map_or(Cow::Borrowed(""), |result| text_of(&result.parts)),
            }
        })
        .collect()
}

fn text_of(parts: &[ContentPart]) -> Cow<'_, str> {
    match parts {
        [] => Cow::Borrowed(""),
        [only] => Cow::Borrowed(only.as_text()),
        several => Cow::Owned(dromia_contracts::content::parts_text(several)),
    }
}

fn scripted_error(failing: ScriptedFailure) -> ModelError {
    let (code, message) = match failing {
        ScriptedFailure::Unavailable => {
            (ErrorCode::ModelUnavailable, "the scripted model was told to be unavailable")
        }
        ScriptedFailure::Rejected => {
            (ErrorCode::ModelRejected, "the scripted model was told to refuse the request")
        }
        ScriptedFailure::Cut => (ErrorCode::ModelCut, "the scripted model was told to break off its answer"),
    };
    ModelError { code, message: message.to_owned(), retry_after: None }
}

/// Ends a text before the first of the texts that end it, and tells which that was.
fn stop_at(text: &mut String, stops: &[String]) -> Option<String> {
    let found = stops.iter().filter_map(|stop| Some((text.find(stop.as_str())?, stop)));
    let (end, stop) = found.min_by_key(|(end, _)| *end)?;
    text.truncate(end);
    Some(stop.clone())
}

/// Cuts a text to so many tokens as [`tokens::estimate_tokens`] counts them; returns whether it was longer.
fn cut_to(text: &mut String, tokens_max: u32) -> bool {
    let bytes_max = (tokens_max as usize).saturating_mul(4);
    if text.len() <= bytes_max {
        return false;
    }
    text.truncate(text.floor_char_boundary(bytes_max));
    true
}

/// Splits a text into at most [`PIECES_MAX`] pieces for the live view.
fn split_pieces(text: &str) -> Vec<&str> {
    let size = text.len().div_ceil(PIECES_MAX).max(24);
    let mut rest = text;
    let mut pieces = Vec::with_capacity(PIECES_MAX);
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(rest.ceil_char_boundary(size.min(rest.len())));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

const PIECES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use dromia_contracts::encoded_request::FORM_WITHIN;

    use super::*;

    #[test]
    fn the_scripted_model_declares_a_form_within_the_process() {
        assert!(ScriptedModel::FORM.starts_with(FORM_WITHIN));
    }
}
