//! The answer of a run that is followed to its end, put together from what its entries say, as the server would answer.
//!
//! What the run waits for meanwhile is told on stderr (`waits`), whatever else is shown of it.

use dromia_api::event::{EventAccepted, EventAnswered, Failure};
use dromia_api::run::{Entry, Run};
use dromia_api::{ErrorCode, Exhausted, RunId, RunStatus};
use serde::Deserialize;

use super::live::Heard;
use super::waits::Waits;
use super::{Cli, chat};
use crate::client::parse;
use crate::error::Outcome;
use crate::output::Output;
use crate::sse::{Follow, Seen};

/// What is shown of a run before its answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sight {
    /// Its entries, a line each, for a program.
    Entries,
    /// What its programs say, for a person.
    Output,
    /// Nothing but what it waits for.
    Waits,
}

/// Follows a run to its end and returns its answer to an input.
pub(super) async fn follow(
    cli: &Cli<'_>,
    accepted: &EventAccepted,
    run: RunId,
    sight: Sight,
    output: &mut Output<'_>,
) -> Outcome<EventAnswered> {
    let mut follow = Follow::new(&cli.client, run, 0);
    let (mut said, mut heard, mut waits) = (Said::default(), Heard::default(), Waits::of(run));
    loop {
        match follow.next(output).await? {
            Seen::Entry(entry) => {
                match sight {
                    Sight::Entries => super::run::print_json_line(&entry, output)?,
                    Sight::Output => heard.entry(&entry, output)?,
                    Sight::Waits => {}
                }
                waits.entry(cli, &entry, output).await?;
                said.take(&entry)?;
            }
            Seen::Output(piece) if matches!(sight, Sight::Output) => heard.piece(&piece, output)?,
            // Live text has no cursor and gives way to its entry: a program waits for the entry.
            Seen::Delta(_) | Seen::Output(_) => {}
            Seen::End(_) => break,
        }
    }
    let run: Run = cli.client.look(&format!("/v1/runs/{run}"), output).await?;
    Ok(EventAnswered {
        item: accepted.item,
        session: accepted.session,
        position: accepted.position,
        run: run.id,
        replayed: accepted.replayed,
        status: run.status,
        // The last words of any other run were refused, or nobody judged them.
        reply: (run.status == RunStatus::Completed).then_some(said.reply),
        last_seq: run.last_seq,
        model_calls: run.model_calls,
        usage: run.usage,
        cost_micros: run.cost_micros,
        failure: said.failure,
    })
}

/// What the entries of a run said so far that belongs to the answer.
#[derive(Debug, Default)]
pub(super) struct Said {
    reply: String,
    failure: Option<Failure>,
}

/// What is read of the fields of a `run_yielded`.
#[derive(Debug, Deserialize)]
struct Yielded {
    /// The budget that has no room, if that is why.
    #[serde(default)]
    budget: Option<Exhausted>,
}

impl Said {
    /// The answer of a run that ended so, if it gave one.
    pub(super) fn answer(&self, status: RunStatus) -> Option<&str> {
        let is_answer = status == RunStatus::Completed && !self.reply.is_empty();
        is_answer.then_some(self.reply.as_str())
    }

    pub(super) fn take(&mut self, entry: &Entry) -> Outcome {
        match (entry.kind.as_str(), &entry.body) {
            ("model_replied", Some(body)) => {
                self.reply = parse::<chat::Message>(body.get().as_bytes())?.text();
            }
            _ => self.failure = failure(entry, self.failure.take())?,
        }
        Ok(())
    }
}

/// Why a run ended that did not complete, as far as an entry says so; else what was known before it.
pub(super) fn failure(entry: &Entry, before: Option<Failure>) -> Outcome<Option<Failure>> {
    Ok(match entry.kind.as_str() {
        "run_failed" => Some(parse(entry.fields.get().as_bytes())?),
        "run_yielded" => {
            let yielded: Yielded = parse(entry.fields.get().as_bytes())?;
            yielded.budget.map(|exhausted| Failure {
                code: ErrorCode::BudgetExhausted.as_str().to_owned(),
                message: exhausted.text(),
            })
        }
        _ => before,
    })
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
                "seq": 3, "at": "2026-01-01T00:00:00Z", "epoch": 1, "kind": "run_yielded", "version": 2,
                "fields": fields, "body": null, "chain": "0".repeat(64),
            });
            let mut said = Said::default();
            said.take(&serde_json::from_str(&entry.to_string()).expect("an entry")).expect("it is read");
            assert_eq!(super::super::event::is_unfunded(said.failure.as_ref()), is_unfunded, "{entry}");
        }
    }
}
