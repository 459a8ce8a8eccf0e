//! `event send`, and the sending that `ask` and `chat` share.

use std::time::Duration;

use dromia_api::event::{EventAccepted, EventAnswered, RunFailureDetails, SendEvent, WAIT_MS_MAX};
use dromia_api::run::RunExplanation;
use dromia_api::{BusyPolicy, ErrorCode, RunId, RunStatus, SessionId};
use hyper::StatusCode;
use schemars::JsonSchema;
use tokio::time::{Instant, timeout};

use super::answer::{self, ProgressView};
use super::followed_run::{FollowedRun, InterruptAction};
use super::submit::{EventSubmission, PLATFORM, stored_status, wait_result};
use super::{Cli, chat, read_text_argument};
use crate::args::{self, EventCommand};
use crate::client::parse_answer;
use crate::error::Outcome;
use crate::exit::CommandExit;
use crate::output::CommandOutput;

/// How long to wait for an agent when the command line does not say.
pub(super) const PATIENCE: Duration = Duration::from_mins(5);

/// How long a request waits itself.
const MOMENT: Duration = Duration::from_secs(2);

/// What the server may take beyond the wait itself.
pub(super) const MARGIN: Duration = Duration::from_secs(10);

pub(super) async fn run(
    cli: &Cli<'_>,
    event: EventCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let EventCommand::Send(send) = event;
    let session = cli.resolve_option(send.session, output).await?;
    cli.check_session(session)?;
    let event = event_of(cli, send.clone(), session, output).await?;
    let sending = EventSubmission::of_command(send.idempotency_key, output);
    if send.wait {
        return match send_and_wait(cli, event, &sending, InterruptAction::EndsCommand, output).await? {
            EventWaitResult::Answered(answered) => {
                print_answer(&answered, output)?;
                report_run_end(cli, &answered, output).await
            }
            EventWaitResult::Accepted(accepted) => report_wait_end(&accepted, output),
        };
    }
    let patience = cli.answer_timeout(MARGIN);
    let (_, bytes) = sending.post_with_retries(cli, &event, patience, Duration::ZERO, output).await?;
    let accepted: EventAccepted = parse_answer(&bytes)?;
    output.print_result(&accepted, accepted_text)?;
    Ok(CommandExit::Done)
}

async fn event_of(
    cli: &Cli<'_>,
    send: args::SendEvent,
    session: Option<SessionId>,
    output: &mut CommandOutput<'_>,
) -> Outcome<SendEvent> {
    let text = read_text_argument(send.text, output).await?;
    let when_busy = send.when_busy.map(BusyPolicy::from);
    if session.is_some() {
        return Ok(SendEvent { text, session, when_busy, ..SendEvent::default() });
    }
    let platform = send.platform.or_else(|| Some(PLATFORM.to_owned()));
    let (channel, actor) = (send.channel, send.actor);
    Ok(SendEvent {
        text,
        agent: cli.selected_agent(),
        platform,
        channel,
        actor,
        when_busy,
        ..SendEvent::default()
    })
}

/// What a wait gave.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum EventWaitResult {
    /// The run has ended.
    Answered(EventAnswered),
    /// The command did not wait, or the wait ended first.
    Accepted(EventAccepted),
}

/// Sends an event and waits for its answer.
pub(super) async fn send_and_wait(
    cli: &Cli<'_>,
    mut event: SendEvent,
    sending: &EventSubmission,
    interrupt: InterruptAction,
    output: &mut CommandOutput<'_>,
) -> Outcome<EventWaitResult> {
    let (patience, began) = (cli.answer_timeout(PATIENCE), Instant::now());
    event.wait = true;
    event.wait_ms = Some(moment_ms(patience));
    let (status, bytes) = sending.post_with_retries(cli, &event, patience, MARGIN, output).await?;
    if status == StatusCode::OK {
        return Ok(EventWaitResult::Answered(parse_answer(&bytes)?));
    }
    let mut accepted: EventAccepted = parse_answer(&bytes)?;
    let left = patience.saturating_sub(began.elapsed());
    let answered = follow_to_answer(cli, &mut accepted, left, interrupt, output).await?;
    Ok(answered.map_or(EventWaitResult::Accepted(accepted), EventWaitResult::Answered))
}

/// How long the request itself waits, as a part of the command's patience. It is enough for most answers;
/// [`follow_to_answer`] follows a run that takes longer, and prints what it waits for. Half of a short patience is left
/// for that.
pub(super) fn moment_ms(patience: Duration) -> u64 {
    u64::try_from((patience / 2).min(MOMENT).as_millis()).unwrap_or(WAIT_MS_MAX).clamp(1, WAIT_MS_MAX)
}

/// Follows the run that takes an input to its end, and tells what it waits for. If the time is up first there is nothing; the
/// run is known then if one took the input.
pub(super) async fn follow_to_answer(
    cli: &Cli<'_>,
    accepted: &mut EventAccepted,
    left: Duration,
    interrupt: InterruptAction,
    output: &mut CommandOutput<'_>,
) -> Outcome<Option<EventAnswered>> {
    if left.is_zero() {
        return Ok(None);
    }
    let input = accepted.clone();
    output.note_pending(Some(stored_status(&input, input.run)));
    let answered = async {
        let run = match input.run {
            Some(run) => run,
            None => chat::find_taking_run(cli, input.session, input.item, output).await?.run,
        };
        accepted.run = Some(run);
        output.note_pending(Some(stored_status(&input, Some(run))));
        let followed = FollowedRun::follow_from(cli, run, 0, interrupt);
        answer::follow_run(&input, run, followed, ProgressView::Waits, output).await
    };
    let ended = timeout(left, answered).await;
    wait_result(cli, &input, accepted.run, ended).await
}

/// Prints what a run answered, if it answered.
pub(super) fn print_answer(answered: &EventAnswered, output: &mut CommandOutput<'_>) -> Outcome {
    if answered.reply.is_some() || output.is_json() {
        output.print_result(answered, |answered| answered.reply.clone().unwrap_or_default())?;
    }
    Ok(())
}

/// Says that a wait ended before the run did.
pub(super) fn report_wait_end(
    accepted: &EventAccepted,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    if output.is_json() {
        output.print_document(accepted)?;
    }
    let next = match accepted.run {
        Some(run) => format!("dromia run watch {run}"),
        None => format!("dromia session show {}", accepted.session),
    };
    output.print_notice("the wait ended before the answer came; the server stored the input")?;
    output.print_notice(&format!("hint: continue with `{next}`"))?;
    Ok(CommandExit::TimedOut)
}

/// Tells whether a budget stopped the run.
pub(super) fn is_unfunded(failure: Option<&RunFailureDetails>) -> bool {
    failure.is_some_and(|failure| failure.code == ErrorCode::BudgetExhausted.as_str())
}

/// Says on stderr how a run ended that did not complete.
pub(super) async fn report_run_end(
    cli: &Cli<'_>,
    answered: &EventAnswered,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let (run, failure) = (answered.run, answered.failure.as_ref());
    let told = match (answered.status, failure) {
        (RunStatus::Completed, _) => return Ok(CommandExit::Done),
        (RunStatus::Yielded, Some(failure)) => format!("stopped: {}", failure.message),
        (RunStatus::Yielded, None) => "stopped at its limit of model calls".to_owned(),
        (status, Some(failure)) => format!("{}: {} ({})", status.as_str(), failure.message, failure.code),
        (status, None) => status.as_str().to_owned(),
    };
    output.print_notice(&format!("{run} {told}"))?;
    output.print_notice(&format!("hint: {}", next_step(cli, run).await))?;
    Ok(if is_unfunded(failure) { CommandExit::Budget } else { CommandExit::RunFailed })
}

/// Who can correct what ended a run, and with which command; the command that says so, where the server does not answer.
pub(super) async fn next_step(cli: &Cli<'_>, run: RunId) -> String {
    let why = cli.client.get::<RunExplanation>(&format!("/v1/runs/{run}/why")).await.ok();
    let next = why.and_then(|why| Some(format!("it needs {}; run `{}`", why.unblocked_by, why.command?)));
    next.unwrap_or_else(|| format!("see why with `dromia run why {run}`"))
}

pub(super) fn accepted_text(accepted: &EventAccepted) -> String {
    let run = accepted.run.map(|run| run.to_string()).unwrap_or_default();
    crate::output::draw_pairs(&[
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
    fn a_short_timeout_leaves_time_to_report_the_wait() {
        for (patience, moment) in [(300_000, 2_000), (4_000, 2_000), (2_000, 1_000), (200, 100), (1, 1)] {
            assert_eq!(moment_ms(Duration::from_millis(patience)), moment, "{patience} ms");
        }
    }
}
