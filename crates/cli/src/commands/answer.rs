//! The answer of a run that is followed to its end, put together from what its entries say, as the server would answer.
//!
//! The `waits` module prints to stderr what the run waits for meanwhile, whatever else is shown of it.

use dromia_api::event::{EventAccepted, EventAnswered, RunFailureDetails};
use dromia_api::run::JournalEntryResource;
use dromia_api::{BudgetExhaustion, ErrorCode, RunId, RunStatus, repeated_text};
use serde::Deserialize;

use super::activity::RunActivity;
use super::answer_text::AnswerText;
use super::chat;
use super::followed_run::FollowedRun;
use super::live::LiveCallOutput;
use crate::client::parse_answer;
use crate::error::Outcome;
use crate::output::{CommandOutput, print_json_row};
use crate::sse::RunUpdate;

/// What is shown of a run before its answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum ProgressView {
    /// Its entries, a line each, for a program.
    Entries,
    /// What its programs say, for a person; its text too, as it is made, where it streams.
    Person {
        /// Whether the text goes to stdout as it is made.
        streams: bool,
    },
    /// Nothing but what it waits for.
    Waits,
}

/// Follows a run to its end and returns its answer to an input.
pub(super) async fn follow_run(
    accepted: &EventAccepted,
    run: RunId,
    mut followed: FollowedRun<'_>,
    sight: ProgressView,
    output: &mut CommandOutput<'_>,
) -> Outcome<EventAnswered> {
    let (mut said, mut heard, mut printed) =
        (AnswerCollector::default(), LiveCallOutput::default(), chat::PrintedAnswer::default());
    let streams = matches!(sight, ProgressView::Person { streams: true });
    let (mut text, mut activity) = (AnswerText::begin(None, output), RunActivity::default());
    if matches!(sight, ProgressView::Person { .. }) {
        followed.leave_retries();
    }
    let end = loop {
        match followed.next(output).await? {
            RunUpdate::Entry(entry) => {
                match sight {
                    ProgressView::Entries => print_json_line(&entry, output)?,
                    ProgressView::Person { .. } => {
                        heard.print_entry(&entry, output)?;
                        if streams {
                            let piece = printed.text_before_entry(&entry)?;
                            text.print_last_piece(&piece, output)?;
                        }
                        match chat::interim_reply(&entry)? {
                            Some(reply) if streams => text.print_last_piece(&reply, output)?,
                            // Only the answer is for stdout there.
                            Some(reply) => output.print_dimmed(&reply)?,
                            None => {}
                        }
                        activity.take_entry(&entry, output)?;
                    }
                    ProgressView::Waits => {}
                }
                followed.report_entry(&entry, output).await?;
                said.take_entry(&entry)?;
            }
            RunUpdate::Output(piece) if matches!(sight, ProgressView::Person { .. }) => {
                heard.print_piece(&piece, output)?;
            }
            RunUpdate::Delta(delta) if streams => {
                heard.end_open_line(output)?;
                let columns = output.context_mut().err_columns().and_then(|columns| columns.try_into().ok());
                if let Some(columns) = columns {
                    text.set_columns(columns);
                }
                let piece = printed.text_for_delta(&delta);
                text.print_piece(&piece, output)?;
            }
            // Live text has no cursor and is replaced by its entry: a program waits for the entry.
            RunUpdate::Delta(_) | RunUpdate::Output(_) => {}
            // It says all that the answer has beside the entries: a server that stops takes no other request.
            RunUpdate::End(end) => break end,
        }
    };
    output.show_live(None)?;
    if streams && said.is_let_out(end.status) {
        let piece = printed.remaining_text();
        text.print_last_piece(&piece, output)?;
    }
    text.end(output)?;
    Ok(EventAnswered {
        item: accepted.item,
        session: accepted.session,
        position: accepted.position,
        run,
        replayed: accepted.replayed,
        status: end.status,
        // The last words of any other run were refused, or never judged.
        reply: said.is_let_out(end.status).then_some(said.reply),
        last_seq: end.last_seq,
        model_calls: end.model_calls,
        usage: end.usage,
        cost_micros: end.cost_micros,
        unpriced_calls: end.unpriced_calls,
        failure: said.failure,
    })
}

/// What the entries of a run said so far that belongs to the answer.
#[derive(Debug, Default)]
pub(super) struct AnswerCollector {
    reply: String,
    failure: Option<RunFailureDetails>,
    /// Whether the run concluded at its limit of model calls.
    concluded: bool,
}

/// What is read of the fields of a `run_yielded`.
#[derive(Debug, Deserialize)]
struct RunYieldedFields {
    /// The exhausted budget, if that is why.
    #[serde(default)]
    budget: Option<BudgetExhaustion>,
    /// In how many steps the model was warned that it repeats calls, if that is why.
    #[serde(default)]
    repeated: Option<u32>,
    /// How its conclusion was let out, if it gave one.
    #[serde(default)]
    concluded: Option<serde_json::Value>,
}

impl AnswerCollector {
    /// The answer of a run that ended so, if it gave one.
    pub(super) fn completed_answer(&self, status: RunStatus) -> Option<&str> {
        (self.is_let_out(status) && !self.reply.is_empty()).then_some(self.reply.as_str())
    }

    /// Returns whether the last words of a run that ended so are its answer.
    fn is_let_out(&self, status: RunStatus) -> bool {
        status == RunStatus::Completed || (status == RunStatus::Yielded && self.concluded)
    }

    /// Why the run failed, as far as its entries say so.
    pub(super) fn failure_text(&self) -> Option<String> {
        self.failure.as_ref().map(|failure| format!("{} ({})", failure.message, failure.code))
    }

    pub(super) fn take_entry(&mut self, entry: &JournalEntryResource) -> Outcome {
        if let ("model_replied", Some(body)) = (entry.kind.as_str(), &entry.body) {
            self.reply = parse_answer::<chat::AssistantReplyBody>(body.get().as_bytes())?.joined_text();
        } else {
            self.concluded |= is_conclusion(entry)?;
            self.failure = failure_from_entry(entry, self.failure.take())?;
        }
        Ok(())
    }
}

/// Why a run ended that did not complete, as far as an entry says so; else what was known before it.
pub(super) fn failure_from_entry(
    entry: &JournalEntryResource,
    before: Option<RunFailureDetails>,
) -> Outcome<Option<RunFailureDetails>> {
    Ok(match entry.kind.as_str() {
        "run_failed" => Some(parse_answer(entry.fields.get().as_bytes())?),
        "run_yielded" => {
            let yielded: RunYieldedFields = parse_answer(entry.fields.get().as_bytes())?;
            let unfunded = yielded.budget.map(|exhausted| (ErrorCode::BudgetExhausted, exhausted.text()));
            let repeated = yielded.repeated.map(|told| (ErrorCode::LoopDetected, repeated_text(told)));
            let failure = unfunded.or(repeated);
            failure.map(|(code, message)| RunFailureDetails { code: code.as_str().to_owned(), message })
        }
        _ => before,
    })
}

/// Returns whether an entry ends a run that concluded at its limit of model calls: its last words are its answer.
pub(super) fn is_conclusion(entry: &JournalEntryResource) -> Outcome<bool> {
    if entry.kind != "run_yielded" {
        return Ok(false);
    }
    let yielded: RunYieldedFields = parse_answer(entry.fields.get().as_bytes())?;
    Ok(yielded.concluded.is_some())
}

/// Prints an entry as one line of JSON.
pub(super) fn print_json_line(entry: &JournalEntryResource, output: &mut CommandOutput<'_>) -> Outcome {
    let value: serde_json::Value =
        crate::client::parse_answer(&serde_json::to_vec(entry).unwrap_or_default())?;
    print_json_row(&value, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_stopped_a_run_is_its_failure() {
        let fields = serde_json::json!({"model_calls": 2, "budget": {
            "budget": "small", "per": "tenant", "measure": "tokens", "limit": 10, "used": 9, "needed": 5,
        }});
        for (fields, is_unfunded) in [(fields, true), (serde_json::json!({"model_calls": 2}), false)] {
            let entry = serde_json::json!({
                "seq": 3, "at": "2026-01-01T00:00:00Z", "epoch": 1, "kind": "run_yielded", "version": 1,
                "fields": fields, "body": null, "chain": "0".repeat(64),
            });
            let mut said = AnswerCollector::default();
            said.take_entry(&serde_json::from_str(&entry.to_string()).expect("an entry"))
                .expect("it is read");
            assert_eq!(super::super::event::is_unfunded(said.failure.as_ref()), is_unfunded, "{entry}");
        }
    }
}
