//! `event send`, and the sending that `ask` and `chat` share.

use std::time::Duration;

use dromia_api::event::{EventAccepted, EventAnswered, Failure, SendEvent, WAIT_MS_MAX};
use dromia_api::{ErrorCode, RunStatus};
use hyper::StatusCode;
use schemars::JsonSchema;
use tokio::time::{Instant, timeout};

use super::answer::{self, Sight};
use super::sending::{Sending, stored, waited};
use super::{Cli, chat, said};
use crate::args::{self, Event};
use crate::client::parse;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::output::Output;

/// How long to wait for an agent when the command line does not say.
pub(super) const PATIENCE: Duration = Duration::from_mins(5);

/// How long a request waits itself.
const MOMENT: Duration = Duration::from_secs(2);

/// What the server may take beyond the wait itself.
pub(super) const MARGIN: Duration = Duration::from_secs(10);

/// The platform of events from the command line.
pub(super) const PLATFORM: &str = "cli";

pub(super) async fn run(cli: &Cli<'_>, event: Event, output: &mut Output<'_>) -> Outcome<Exit> {
    let Event::Send(send) = event;
    cli.check_session(send.session)?;
    let event = event_of(cli, send.clone(), output).await?;
    let sending = Sending::of_command(send.idempotency_key, output);
    if send.wait {
        let answer = wait(cli, event, &sending, output).await?;
        return print(&answer, output);
    }
    let patience = cli.patience(MARGIN);
    let (_, bytes) = sending.post(cli, &event, patience, Duration::ZERO, output).await?;
    let accepted: EventAccepted = parse(&bytes)?;
    output.show(&accepted, accepted_text)?;
    Ok(Exit::Done)
}

async fn event_of(cli: &Cli<'_>, send: args::SendEvent, output: &mut Output<'_>) -> Outcome<SendEvent> {
    let text = said(send.text, output).await?;
    if send.session.is_some() {
        return Ok(SendEvent { text, session: send.session, ..SendEvent::default() });
    }
    let platform = send.platform.or_else(|| Some(PLATFORM.to_owned()));
    let (channel, actor) = (send.channel, send.actor);
    Ok(SendEvent { text, agent: cli.agent(), platform, channel, actor, ..SendEvent::default() })
}

/// What a wait gave.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Waited {
    /// The run has ended.
    Answered(EventAnswered),
    /// Nobody waited, or the wait ended first.
    Accepted(EventAccepted),
}

/// Sends an event and waits for its answer.
pub(super) async fn wait(
    cli: &Cli<'_>,
    mut event: SendEvent,
    sending: &Sending,
    output: &mut Output<'_>,
) -> Outcome<Waited> {
    let (patience, began) = (cli.patience(PATIENCE), Instant::now());
    event.wait = true;
    event.wait_ms = Some(moment_ms(patience));
    let (status, bytes) = sending.post(cli, &event, patience, MARGIN, output).await?;
    if status == StatusCode::OK {
        return Ok(Waited::Answered(parse(&bytes)?));
    }
    let mut accepted: EventAccepted = parse(&bytes)?;
    let left = patience.saturating_sub(began.elapsed());
    let answered = followed(cli, &mut accepted, left, output).await?;
    Ok(answered.map_or(Waited::Accepted(accepted), Waited::Answered))
}

/// How long the request itself waits, of what somebody waits. It is enough for most answers; a run that takes longer is
/// [`followed`], so that whoever waits hears what it waits for. Half of a short patience is left for that.
pub(super) fn moment_ms(patience: Duration) -> u64 {
    u64::try_from((patience / 2).min(MOMENT).as_millis()).unwrap_or(WAIT_MS_MAX).clamp(1, WAIT_MS_MAX)
}

/// Follows the run that takes an input to its end, and tells what it waits for. If the time is up first there is nothing; the
/// run is known then if one took the input.
pub(super) async fn followed(
    cli: &Cli<'_>,
    accepted: &mut EventAccepted,
    left: Duration,
    output: &mut Output<'_>,
) -> Outcome<Option<EventAnswered>> {
    if left.is_zero() {
        return Ok(None);
    }
    let input = accepted.clone();
    output.goes_on(Some(stored(&input, input.run)));
    let answered = async {
        let run = match input.run {
            Some(run) => run,
            None => chat::taker(cli, input.session, input.item, output).await?,
        };
        accepted.run = Some(run);
        output.goes_on(Some(stored(&input, Some(run))));
        answer::follow(cli, &input, run, Sight::Waits, output).await
    };
    let ended = timeout(left, answered).await;
    waited(cli, &input, accepted.run, ended).await
}

/// Prints the answer only; whatever else there is to say goes to stderr.
pub(super) fn print(waited: &Waited, output: &mut Output<'_>) -> Outcome<Exit> {
    match waited {
        Waited::Answered(answered) => {
            if answered.reply.is_some() || output.is_json() {
                output.show(answered, |answered| answered.reply.clone().unwrap_or_default())?;
            }
            ended(answered, output)
        }
        Waited::Accepted(accepted) => {
            if output.is_json() {
                output.document(accepted)?;
            }
            let next = match accepted.run {
                Some(run) => format!("dromia run watch {run}"),
                None => format!("dromia session show {}", accepted.session),
            };
            output.notice("the answer did not come in time; the input is stored")?;
            output.notice(&format!("hint: go on with `{next}`"))?;
            Ok(Exit::TimedOut)
        }
    }
}

/// Tells whether a budget stopped the run.
pub(super) fn is_unfunded(failure: Option<&Failure>) -> bool {
    failure.is_some_and(|failure| failure.code == ErrorCode::BudgetExhausted.as_str())
}

/// Says on stderr how a run ended that did not complete.
pub(super) fn ended(answered: &EventAnswered, output: &mut Output<'_>) -> Outcome<Exit> {
    let run = answered.run;
    match answered.status {
        RunStatus::Completed => return Ok(Exit::Done),
        RunStatus::Yielded if is_unfunded(answered.failure.as_ref()) => {
            let why = answered.failure.as_ref().map(|failure| failure.message.as_str()).unwrap_or_default();
            output.notice(&format!("{run} stopped: {why}"))?;
            output.notice(&format!("hint: `dromia run why {run}` says how to go on"))?;
            return Ok(Exit::Budget);
        }
        RunStatus::Yielded => {
            output.notice(&format!("{run} stopped at its limit of model calls"))?;
            output.notice(&format!("hint: go on with `dromia run resume {run}`"))?;
        }
        RunStatus::Running
        | RunStatus::Parked
        | RunStatus::Held
        | RunStatus::Failed
        | RunStatus::Cancelled => {
            let why = answered.failure.as_ref();
            let why =
                why.map(|failure| format!(": {} ({})", failure.message, failure.code)).unwrap_or_default();
            output.notice(&format!("{run} is {}{why}", answered.status.as_str()))?;
            output.notice(&format!("hint: `dromia run why {run}`"))?;
        }
    }
    Ok(Exit::RunFailed)
}

fn accepted_text(accepted: &EventAccepted) -> String {
    let run = accepted.run.map(|run| run.to_string()).unwrap_or_default();
    crate::output::pairs(&[
        ("item", accepted.item.to_string()),
        ("session", accepted.session.to_string()),
        ("position", accepted.position.to_string()),
        ("run", run),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_patience_leaves_time_to_hear_what_is_waited_for() {
        for (patience, moment) in [(300_000, 2_000), (4_000, 2_000), (2_000, 1_000), (200, 100), (1, 1)] {
            assert_eq!(moment_ms(Duration::from_millis(patience)), moment, "{patience} ms");
        }
    }
}
