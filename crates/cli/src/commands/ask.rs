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
use dromia_api::run::Run;
use dromia_api::{RunId, RunStatus, Usage};
use serde::Serialize;

use super::answer::{Sight, follow};
use super::event::{PATIENCE, PLATFORM, Waited, ended, print, wait};
use super::sending::{self, Sending};
use super::{Cli, chat, said};
use crate::args::Ask;
use crate::client::parse;
use crate::error::{Error, Outcome};
use crate::exit::Exit;
use crate::output::Output;
use crate::shape::Shape;

pub(super) async fn run(cli: &Cli<'_>, ask: Ask, output: &mut Output<'_>) -> Outcome<Exit> {
    cli.check_session(ask.session)?;
    let shape = ask.schema.as_deref().map(Shape::read).transpose()?;
    let text = said(ask.text, output).await?;
    let text = match &shape {
        Some(shape) => shape.asked_under(&text),
        None => text,
    };
    let event = match ask.session {
        Some(_) => SendEvent { text, session: ask.session, ..SendEvent::default() },
        None => SendEvent {
            text,
            agent: cli.agent(),
            platform: Some(PLATFORM.to_owned()),
            ..SendEvent::default()
        },
    };
    let asked =
        Asked { event, by_line: ask.jsonl, shape, sending: Sending::of_command(ask.idempotency_key, output) };
    let mut used = Used::default();
    let Some(file) = ask.usage_file else {
        return answer(cli, asked, &mut used, output).await;
    };
    used.write(&file)?;
    let ended = answer(cli, asked, &mut used, output).await;
    used.settle(cli).await;
    used.error = ended.as_ref().err().map(|error| error.document().error);
    used.write(&file)?;
    ended
}

/// What is asked, and how.
struct Asked {
    event: SendEvent,
    by_line: bool,
    shape: Option<Shape>,
    sending: Sending,
}

async fn answer(cli: &Cli<'_>, asked: Asked, used: &mut Used, output: &mut Output<'_>) -> Outcome<Exit> {
    if asked.by_line || output.is_jsonl() {
        let answered = stream(cli, &asked, Sight::Entries, used, output).await?;
        let line = Answer { kind: "answer", answered: &answered };
        let line = serde_json::to_string(&line).map_err(|error| Error::Broken(error.to_string()))?;
        output.line(&line)?;
        return ended(&answered, output);
    }
    if !output.is_json() && output.context().err_is_terminal {
        let answered = stream(cli, &asked, Sight::Output, used, output).await?;
        return print(&Waited::Answered(answered), output);
    }
    let mut waited = wait(cli, asked.event, &asked.sending, output).await?;
    used.run = match &waited {
        Waited::Answered(answered) => Some(answered.run),
        Waited::Accepted(accepted) => accepted.run,
    };
    if let (Some(shape), Waited::Answered(answered)) = (&asked.shape, &mut waited) {
        fit(shape, answered)?;
    }
    print(&waited, output)
}

/// Leaves only the JSON of an answer, which satisfies its schema. A run that did not complete has no answer to check.
fn fit(shape: &Shape, answered: &mut EventAnswered) -> Outcome {
    if answered.status == RunStatus::Completed {
        let run = answered.run;
        let reply = answered.reply.as_deref().unwrap_or_default();
        let fit = shape.check(reply).map_err(|problems| Error::Unfit { run, problems })?;
        answered.reply = Some(fit);
    }
    Ok(())
}

/// Shows a run as it goes on, and returns its answer.
async fn stream(
    cli: &Cli<'_>,
    asked: &Asked,
    sight: Sight,
    used: &mut Used,
    output: &mut Output<'_>,
) -> Outcome<EventAnswered> {
    let patience = cli.patience(PATIENCE);
    let (_, bytes) = asked.sending.post(cli, &asked.event, patience, Duration::ZERO, output).await?;
    let accepted: EventAccepted = parse(&bytes)?;
    output.goes_on(Some(sending::stored(&accepted, accepted.run)));
    used.run = accepted.run;
    let late = Error::TimedOut { next: format!("dromia session show {}", accepted.session) };
    let streamed = async {
        let run = match accepted.run {
            Some(run) => run,
            None => chat::taker(cli, accepted.session, accepted.item, output).await?,
        };
        used.run = Some(run);
        output.goes_on(Some(sending::stored(&accepted, Some(run))));
        follow(cli, &accepted, run, sight, output).await
    };
    let ended = tokio::time::timeout(patience, streamed).await;
    let mut answered = sending::waited(cli, &accepted, used.run, ended).await?.ok_or(late)?;
    if let Some(shape) = &asked.shape {
        fit(shape, &mut answered)?;
    }
    Ok(answered)
}

/// The last line of a stream; its kind stands where an entry has its own.
#[derive(Debug, Serialize)]
struct Answer<'answer> {
    kind: &'static str,
    #[serde(flatten)]
    answered: &'answer EventAnswered,
}

/// What a question used, for `--usage-file`.
#[derive(Debug, Default, Serialize)]
struct Used {
    /// The run, once there is one.
    run: Option<RunId>,
    /// How it stands; nothing while nobody knows.
    status: Option<RunStatus>,
    usage: Usage,
    cost_micros: u64,
    model_calls: u32,
    /// Why the command failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<crate::error::Failure>,
}

impl Used {
    /// Asks what the run used until now. If nobody answers, the file says so by its empty status.
    async fn settle(&mut self, cli: &Cli<'_>) {
        let Some(run) = self.run else { return };
        if let Ok(run) = cli.client.get::<Run>(&format!("/v1/runs/{run}")).await {
            self.status = Some(run.status);
            self.usage = run.usage;
            self.cost_micros = run.cost_micros;
            self.model_calls = run.model_calls;
        }
    }

    fn write(&self, file: &Path) -> Outcome {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::Broken(error.to_string()))?;
        std::fs::write(file, text + "\n").map_err(Error::io(format!("write {}", file.display())))
    }
}
