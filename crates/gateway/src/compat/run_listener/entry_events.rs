//! What an entry, or a piece of live text, makes a listener say.

use dromia_contracts::client::ClientCallId;
use dromia_contracts::content::{AssistantMessage, parts_text};
use dromia_contracts::entry::{Entry, ModelReplied, ParkReason, RunYielded, repeated_text};
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::StoredEntry;
use dromia_contracts::{CallId, ErrorCode};

use super::{ListenerEvent, OpenStep, RunListener};
use crate::compat::run_answer::ClientCall;
use crate::compat::tool_names::client_name;
use crate::failure::{Answer, ApiError};

/// The separator between the texts of two model steps.
const BREAK: &str = "\n\n";

impl RunListener {
    /// Takes an entry.
    pub(super) fn take_entry(&mut self, stored: &StoredEntry) -> Answer<()> {
        let entry = stored
            .decode()
            .map_err(|error| ApiError::new(ErrorCode::JournalUnreadable, error.to_string()))?;
        (self.held, self.waits_for) = (None, None);
        if ends_without_answer(&entry) {
            // What the last step said was refused, or was not judged.
            self.rest = None;
        } else {
            // It was let out, or the run goes on from it.
            self.say_rest();
        }
        match entry {
            Entry::RunStarted(_) => {
                self.answered.started_at = stored.at;
                self.ready.push_back(ListenerEvent::Began(stored.at));
            }
            Entry::ModelReplied(replied) => self.take_reply(&replied, stored.body.as_deref())?,
            Entry::ModelFailed(failed) => {
                self.open.torn |= failed.attempt >= self.open.attempt && !self.open.said.is_empty();
                self.failed = Some(format!("{}: {}", failed.code, failed.message));
            }
            Entry::ModelCalled(called) => {
                if self.open.torn {
                    return Err(self.torn_error());
                }
                self.open.attempt = self.open.attempt.max(called.attempt);
            }
            Entry::ToolHanded(handed) => self.note_client_call(handed.call),
            Entry::RunHeld(held) => self.held = Some(held.detail),
            Entry::RunCompleted(_) | Entry::RunYielded(RunYielded { concluded: Some(_), .. }) => {
                self.ready.push_back(ListenerEvent::RunAnswer(Box::new(self.answered.clone())));
            }
            Entry::RunFailed(failed) => {
                let text = format!("{} failed: {}", self.run, failed.message);
                return Err(ApiError::new(failed.code, text).of_run(self.run, RunStatus::Failed));
            }
            Entry::RunCancelled(cancelled) => {
                let text = format!("{1} ended {0}", self.run, cancelled.by);
                return Err(self.unanswered_error(RunStatus::Cancelled, text));
            }
            Entry::RunYielded(RunYielded { budget: Some(exhausted), .. }) => {
                let text = format!("{} stopped: {}", self.run, exhausted.text());
                let hint = format!("raise the budget, then continue with `dromia run resume {}`", self.run);
                let failure = ApiError::new(ErrorCode::BudgetExhausted, text);
                return Err(failure.of_run(self.run, RunStatus::Yielded).with_hint(hint));
            }
            Entry::RunYielded(RunYielded { repeated: Some(told), .. }) => {
                let text = format!("{} stopped: {}", self.run, repeated_text(told));
                let hint = format!("ask in other words, or continue with `dromia run resume {}`", self.run);
                let failure = ApiError::new(ErrorCode::LoopDetected, text);
                return Err(failure.of_run(self.run, RunStatus::Yielded).with_hint(hint));
            }
            Entry::RunYielded(yielded) => {
                let text =
                    format!("{} stopped at its limit of {} model calls", self.run, yielded.model_calls);
                let hint = format!("continue it with `dromia run resume {}`", self.run);
                return Err(self.unanswered_error(RunStatus::Yielded, text).with_hint(hint));
            }
            Entry::CallAsked(_)
            | Entry::OpinionCalled(_)
            | Entry::OpinionGiven(_)
            | Entry::ToolStarted(_)
            | Entry::ToolFinished(_)
            | Entry::ToolRefused(_)
            | Entry::InputsTaken(_)
            | Entry::SignalTaken(_) => {}
            Entry::RunParked(parked) => self.note_park(&parked.park),
        }
        Ok(())
    }

    /// Keeps the part of an answer that was not in the live text until the next entry, which says whether it was let
    /// out. Nothing is said of a withheld one: the end of the run says why.
    fn take_reply(&mut self, replied: &ModelReplied, body: Option<&[u8]>) -> Answer<()> {
        let message: AssistantMessage = match body {
            Some(body) => serde_json::from_slice(body).map_err(|error| {
                ApiError::new(ErrorCode::JournalUnreadable, "a body does not match its entry")
                    .with_cause(error.to_string())
            })?,
            None => AssistantMessage::default(),
        };
        let text = parts_text(&message.parts);
        let is_aside = self.patience.last_only && !replied.tools.is_empty();
        let rest = match (&replied.withheld, text.strip_prefix(self.open.said.as_str())) {
            (Some(_), _) => "",
            (None, _) if is_aside => "",
            (None, Some(rest)) => rest,
            (None, None) => return Err(self.torn_error()),
        };
        self.rest = (!rest.is_empty()).then(|| self.joined_text(rest));
        self.open = OpenStep::default();
        self.closed_step = replied.step;
        self.asked = message.calls;
        let answered = &mut self.answered;
        answered.finish = replied.finish;
        answered.stopped_at.clone_from(&replied.stopped_at);
        answered.usage.input_tokens = answered.usage.input_tokens.saturating_add(replied.usage.input_tokens);
        answered.usage.output_tokens =
            answered.usage.output_tokens.saturating_add(replied.usage.output_tokens);
        let (all, one) = (&mut answered.detail, replied.detail);
        all.cache_read_tokens = all.cache_read_tokens.saturating_add(one.cache_read_tokens);
        all.cache_write_tokens = all.cache_write_tokens.saturating_add(one.cache_write_tokens);
        all.reasoning_tokens = all.reasoning_tokens.saturating_add(one.reasoning_tokens);
        Ok(())
    }

    /// Says what the run waits for, and keeps it for a wait that ends before the run goes on.
    fn note_park(&mut self, park: &ParkReason) {
        let what = match park {
            ParkReason::Retry { until } => {
                let cause = self.failed.take().unwrap_or_default();
                format!("another attempt at the model, at {until}, after {cause}")
            }
            ParkReason::AgentPaused => "its agent, which is paused".to_owned(),
            ParkReason::Approval { approval, call, .. } => {
                format!("the approval {approval} of its call {call}")
            }
        };
        self.ready.push_back(ListenerEvent::Waiting(what.clone()));
        self.waits_for = Some(what);
    }

    /// Notes a call that leaves with the answer. An erased one leaves nothing to hand over.
    fn note_client_call(&mut self, call: CallId) {
        let Some(asked) = self.asked.iter().find(|asked| asked.id == call) else { return };
        self.answered.calls.push(ClientCall {
            id: ClientCallId { run: self.run, call }.to_string(),
            tool: client_name(&asked.tool),
            arguments: asked.arguments.clone(),
        });
    }

    fn push_text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let piece = self.joined_text(text);
        self.open.said.push_str(text);
        self.say_piece(piece);
    }

    /// Says what was kept of the last step.
    fn say_rest(&mut self) {
        if let Some(piece) = self.rest.take() {
            self.say_piece(piece);
        }
    }

    fn say_piece(&mut self, piece: String) {
        self.answered.text.push_str(&piece);
        self.ready.push_back(ListenerEvent::Text(piece));
    }

    /// Writes a text of the open step as it follows on what was said.
    fn joined_text(&self, text: &str) -> String {
        let first = self.open.said.is_empty() && !self.answered.text.is_empty();
        if first { format!("{BREAK}{text}") } else { text.to_owned() }
    }

    /// Takes live text. Text that does not continue what was sent is left to the entry.
    pub(super) fn take_delta(&mut self, step: u32, attempt: u32, offset: u64, text: &str) -> Answer<()> {
        // What is kept comes first.
        if self.rest.is_some()
            || !self.patience.live
            || step != self.closed_step + 1
            || attempt < self.open.attempt
        {
            return Ok(());
        }
        if attempt > self.open.attempt {
            if !self.open.said.is_empty() {
                return Err(self.torn_error());
            }
            self.open.attempt = attempt;
        }
        if offset == self.open.said.len() as u64 {
            self.push_text(text);
        }
        Ok(())
    }
}

/// Returns whether an entry ends a run whose last text was not let out.
fn ends_without_answer(entry: &Entry) -> bool {
    match entry {
        Entry::RunYielded(yielded) => yielded.concluded.is_none(),
        entry => matches!(entry, Entry::RunFailed(_) | Entry::RunCancelled(_)),
    }
}
