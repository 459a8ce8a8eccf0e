//! `ask`: one question, and nothing but the answer on stdout.
//!
//! With a schema the answer is JSON that satisfies it, or the command failed (`shape`).
//!
//! With `--jsonl` the entries of the run come as they are made, and the answer is the last line. A person who looks on
//! sees on stderr what programs say while they run; otherwise one request waits for the answer, and the run is looked at
//! where that takes longer. The usage file is written before anything is sent, so that a path which cannot be written
//! costs nothing, and again at the end, however that comes about. A server that goes away meanwhile costs no second turn
//! (`sending`).

use std::path::Path;
use std::time::Duration;

use dromia_api::event::{EventAccepted, EventAnswered, SendEvent};
use dromia_api::run::RunResource;
use dromia_api::{RunId, RunStatus, TokenUsage};
use serde::Serialize;

use super::answer::{ProgressView, follow_run};
use super::event::{
    EventWaitResult, PATIENCE, PLATFORM, print_answer, report_run_end, report_wait_end, send_and_wait,
};
use super::followed_run::{FollowedRun, InterruptAction};
use super::submit::{self, EventSubmission};
use super::{Cli, chat, read_text_argument};
use crate::answer_schema::AnswerSchema;
use crate::args::AskArguments;
use crate::client::parse_answer;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::CommandOutput;

pub(super) async fn run(
    cli: &Cli<'_>,
    ask: AskArguments,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    cli.check_session(ask.session)?;
    let shape = ask.schema.as_deref().map(AnswerSchema::from_file).transpose()?;
    let text = read_text_argument(ask.text, output).await?;
    let text = match &shape {
        Some(shape) => shape.asked_under(&text),
        None => text,
    };
    let event = match ask.session {
        Some(_) => SendEvent { text, session: ask.session, ..SendEvent::default() },
        None => SendEvent {
            text,
            agent: cli.selected_agent(),
            platform: Some(PLATFORM.to_owned()),
            ..SendEvent::default()
        },
    };
    let asked = AskRequest {
        event,
        by_line: ask.jsonl,
        shape,
        sending: EventSubmission::of_command(ask.idempotency_key, output),
    };
    let mut used = UsageReport::default();
    let Some(file) = ask.usage_file else {
        return ask_and_answer(cli, asked, &mut used, output).await;
    };
    used.write_file(&file)?;
    let ended = ask_and_answer(cli, asked, &mut used, output).await;
    used.fetch_missing_usage(cli).await;
    used.error = ended.as_ref().err().map(|error| error.error_document().error);
    used.write_file(&file)?;
    ended
}

/// What is asked, and how.
struct AskRequest {
    event: SendEvent,
    by_line: bool,
    shape: Option<AnswerSchema>,
    sending: EventSubmission,
}

async fn ask_and_answer(
    cli: &Cli<'_>,
    asked: AskRequest,
    used: &mut UsageReport,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    if asked.by_line || output.is_jsonl() {
        let answered = stream_answer(cli, &asked, ProgressView::Entries, used, output).await?;
        let line = AnswerLine { kind: "answer", answered: &answered };
        let line = serde_json::to_string(&line).map_err(|error| Error::Broken(error.to_string()))?;
        output.print_line(&line)?;
        return report_end(cli, &answered, output);
    }
    let context = output.context_mut();
    let (shows_text, is_seen) = (context.out_is_terminal, context.out_is_terminal || context.err_is_terminal);
    if !output.is_json() && is_seen {
        // What must satisfy a schema is printed once it does.
        let streams = shows_text && asked.shape.is_none();
        let answered = stream_answer(cli, &asked, ProgressView::Person { streams }, used, output).await?;
        if !streams {
            print_answer(&answered, output)?;
        }
        return report_end(cli, &answered, output);
    }
    let interrupt = InterruptAction::CancelsRun;
    let mut waited = send_and_wait(cli, asked.event, &asked.sending, interrupt, output).await?;
    match &waited {
        EventWaitResult::Answered(answered) => used.take_answer(answered),
        EventWaitResult::Accepted(accepted) => used.run = accepted.run,
    }
    if let (Some(shape), EventWaitResult::Answered(answered)) = (&asked.shape, &mut waited) {
        fit_to_schema(shape, answered)?;
    }
    match &waited {
        EventWaitResult::Answered(answered) => {
            print_answer(answered, output)?;
            report_end(cli, answered, output)
        }
        EventWaitResult::Accepted(accepted) => report_wait_end(accepted, output),
    }
}

/// Says on stderr how a run ended; the one that Ctrl-C cancelled ended as it should.
fn report_end(
    cli: &Cli<'_>,
    answered: &EventAnswered,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    if answered.status == RunStatus::Cancelled && cli.interrupts.was_caught() {
        output.print_notice(&format!("cancelled {}", answered.run))?;
        return Ok(CommandExit::Interrupted);
    }
    report_run_end(answered, output)
}

/// Leaves only the JSON of an answer, which satisfies its schema. A run that did not complete has no answer to check.
fn fit_to_schema(shape: &AnswerSchema, answered: &mut EventAnswered) -> Outcome {
    if answered.status == RunStatus::Completed {
        let run = answered.run;
        let reply = answered.reply.as_deref().unwrap_or_default();
        let fit = shape.check_answer(reply).map_err(|problems| Error::Unfit { run, problems })?;
        answered.reply = Some(fit);
    }
    Ok(())
}

/// Shows a run as it goes on, and returns its answer.
async fn stream_answer(
    cli: &Cli<'_>,
    asked: &AskRequest,
    sight: ProgressView,
    used: &mut UsageReport,
    output: &mut CommandOutput<'_>,
) -> Outcome<EventAnswered> {
    let patience = cli.answer_timeout(PATIENCE);
    let (_, bytes) =
        asked.sending.post_with_retries(cli, &asked.event, patience, Duration::ZERO, output).await?;
    let accepted: EventAccepted = parse_answer(&bytes)?;
    output.goes_on(Some(submit::stored_status(&accepted, accepted.run)));
    used.run = accepted.run;
    let late = Error::TimedOut { next: format!("dromia session show {}", accepted.session) };
    let streamed = async {
        let run = match accepted.run {
            Some(run) => run,
            None => chat::find_taking_run(cli, accepted.session, accepted.item, output).await?,
        };
        used.run = Some(run);
        output.goes_on(Some(submit::stored_status(&accepted, Some(run))));
        let followed = FollowedRun::follow_from(cli, run, 0, InterruptAction::CancelsRun);
        follow_run(&accepted, run, followed, sight, output).await
    };
    let ended = tokio::time::timeout(patience, streamed).await;
    let mut answered = submit::wait_result(cli, &accepted, used.run, ended).await?.ok_or(late)?;
    used.take_answer(&answered);
    if let Some(shape) = &asked.shape {
        fit_to_schema(shape, &mut answered)?;
    }
    Ok(answered)
}

/// The last line of a stream; its `kind` is where an entry has its own.
#[derive(Debug, Serialize)]
struct AnswerLine<'answer> {
    kind: &'static str,
    #[serde(flatten)]
    answered: &'answer EventAnswered,
}

/// What a question used, for `--usage-file`.
#[derive(Debug, Default, Serialize)]
struct UsageReport {
    /// The run, once there is one.
    run: Option<RunId>,
    /// The status of the run; `None` while it is unknown.
    status: Option<RunStatus>,
    usage: TokenUsage,
    cost_micros: u64,
    model_calls: u32,
    /// Why the command failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<crate::error::CommandFailure>,
}

impl UsageReport {
    /// Takes what an answer says of its run.
    fn take_answer(&mut self, answered: &EventAnswered) {
        (self.run, self.status) = (Some(answered.run), Some(answered.status));
        (self.usage, self.cost_micros) = (answered.usage, answered.cost_micros);
        self.model_calls = answered.model_calls;
    }

    /// Asks the server what the run used until now, where no answer said it. If that fails, the file has no status.
    async fn fetch_missing_usage(&mut self, cli: &Cli<'_>) {
        let (Some(run), None) = (self.run, self.status) else { return };
        if let Ok(run) = cli.client.get::<RunResource>(&format!("/v1/runs/{run}")).await {
            self.status = Some(run.status);
            self.usage = run.usage;
            self.cost_micros = run.cost_micros;
            self.model_calls = run.model_calls;
        }
    }

    fn write_file(&self, file: &Path) -> Outcome {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::Broken(error.to_string()))?;
        std::fs::write(file, text + "\n").map_err(Error::io_error(format!("write {}", file.display())))
    }
}
