//! `agent spawn`, `agent tasks` and `agent kill`: work that is given to an agent without talking with it.

use std::time::Duration;

use dromia_api::event::{EventAccepted, EventAnswered};
use dromia_api::task::{KillReceipt, KillRuns, SpawnTask, TaskEnded, TaskResource, TaskSpawned};
use dromia_api::{ListPage, TaskState};
use tokio::time::Instant;

use super::event::{MARGIN, PATIENCE, follow_to_answer, moment_ms};
use super::followed_run::InterruptAction;
use super::submit::EventSubmission;
use super::{Cli, listing_path, print_list, read_text_argument};
use crate::args::{KillAgent, ListTasks, SpawnAgent};
use crate::client::{parse_answer, percent_encode};
use crate::error::Outcome;
use crate::exit::CommandExit;
use crate::output::{CommandOutput, draw_pairs, format_time};

pub(super) async fn spawn_agent(
    cli: &Cli<'_>,
    asked: SpawnAgent,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let path = format!("/v1/agents/{}/spawn", percent_encode(&asked.name));
    let task = read_text_argument(asked.task, output).await?;
    let (patience, began) = (cli.answer_timeout(PATIENCE), Instant::now());
    let (times, wait_ms) = if asked.wait {
        ((patience, MARGIN), Some(moment_ms(patience)))
    } else {
        ((cli.answer_timeout(MARGIN), Duration::ZERO), None)
    };
    let new = SpawnTask { task, wait: asked.wait, wait_ms, rights: asked.rights, under: asked.under };
    let sending = EventSubmission::of_task(asked.idempotency_key, output);
    let (_, bytes) = sending.post_to(&path, &new, cli, times, output).await?;
    let mut spawned: TaskSpawned = parse_answer(&bytes)?;
    if asked.wait && spawned.ended.is_none() {
        let left = patience.saturating_sub(began.elapsed());
        follow_task(cli, &mut spawned, left, output).await?;
    }
    match &spawned.ended {
        Some(ended) => print_ended(&spawned, ended, output),
        None if asked.wait => {
            if output.is_json() {
                output.print_document(&spawned)?;
            }
            output.print_notice("the wait ended before the task did; the task continues by itself")?;
            output.print_notice(&format!("hint: {}", next_step(&spawned)))?;
            Ok(CommandExit::TimedOut)
        }
        None => {
            output.print_result(&spawned, spawned_text)?;
            if spawned.state == TaskState::Pending {
                output.print_notice(
                    "no run has taken the task yet: it starts when a slot is free and the agent is running",
                )?;
            }
            Ok(CommandExit::Done)
        }
    }
}

/// Follows the run of a task to its end, if that comes in time.
async fn follow_task(
    cli: &Cli<'_>,
    spawned: &mut TaskSpawned,
    left: Duration,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    let TaskSpawned { session, item, run, replayed, .. } = *spawned;
    // The position in the inbox of the task's own session is not needed here.
    let mut accepted = EventAccepted { item, session, position: 0, run, replayed };
    let answered = follow_to_answer(cli, &mut accepted, left, InterruptAction::EndsCommand, output).await?;
    spawned.run = accepted.run;
    let Some(answered) = answered else { return Ok(()) };
    let EventAnswered { status, reply, last_seq, model_calls, usage, cost_micros, failure, .. } = answered;
    (spawned.state, spawned.status) = (TaskState::of_run(status), Some(status));
    spawned.ended = Some(TaskEnded { reply, last_seq, model_calls, usage, cost_micros, failure });
    Ok(())
}

/// Prints what came of a task, and on stderr why it did not complete.
fn print_ended(
    spawned: &TaskSpawned,
    ended: &TaskEnded,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    if ended.reply.is_some() || output.is_json() {
        output.print_result(spawned, |_| ended.reply.clone().unwrap_or_default())?;
    }
    if spawned.state == TaskState::Completed {
        return Ok(CommandExit::Done);
    }
    let why = ended.failure.as_ref();
    let why = why.map(|failure| format!(": {} ({})", failure.message, failure.code)).unwrap_or_default();
    output.print_notice(&format!("the task is {}{why}", spawned.state.as_str()))?;
    output.print_notice(&format!("hint: {}", next_step(spawned)))?;
    let unfunded = super::event::is_unfunded(ended.failure.as_ref());
    Ok(if unfunded { CommandExit::Budget } else { CommandExit::RunFailed })
}

/// Where to look next.
fn next_step(spawned: &TaskSpawned) -> String {
    match spawned.run {
        Some(run) => format!("see `dromia run why {run}`"),
        None => format!("see `dromia agent tasks {}`", spawned.agent),
    }
}

fn spawned_text(spawned: &TaskSpawned) -> String {
    draw_pairs(&[
        ("state", spawned.state.as_str().to_owned()),
        ("run", spawned.run.map(|run| run.to_string()).unwrap_or_default()),
        ("session", spawned.session.to_string()),
    ])
}

pub(super) async fn list_tasks(
    cli: &Cli<'_>,
    asked: &ListTasks,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let path = format!("/v1/agents/{}/tasks", percent_encode(&asked.name));
    let state = asked.state.map(|state| state.as_str().to_owned());
    let list: ListPage<TaskResource> =
        cli.client.get(&listing_path(&path, &asked.page, &[("state", state)])).await?;
    print_list(output, &list, &["state", "given", "run", "session"], task_row)
}

fn task_row(task: &TaskResource) -> Vec<String> {
    vec![
        task.state.as_str().to_owned(),
        format_time(task.opened_at),
        task.run.map(|run| run.to_string()).unwrap_or_default(),
        task.session.to_string(),
    ]
}

pub(super) async fn kill_agent(
    cli: &Cli<'_>,
    asked: &KillAgent,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let path = format!("/v1/agents/{}/kill", percent_encode(&asked.name));
    let all = asked.run.is_none() && asked.session.is_none();
    let wanted = KillRuns { run: asked.run, session: asked.session, all };
    let killed: KillReceipt = cli.client.post_json(&path, &wanted).await?;
    if killed.runs.is_empty() && !output.is_json() {
        output.print_notice("there was nothing to end")?;
        return Ok(CommandExit::Done);
    }
    output.print_result(&killed, |killed| {
        let runs: Vec<_> = killed.runs.iter().map(ToString::to_string).collect();
        runs.join("\n")
    })?;
    Ok(CommandExit::Done)
}

#[cfg(test)]
mod tests {
    use dromia_api::{AgentId, ItemId, RunId, SessionId};

    use super::*;

    #[test]
    fn a_spawned_task_is_printed_with_its_ids() {
        let spawned = TaskSpawned {
            agent: AgentId::from_bytes([1; 16]),
            session: SessionId::from_bytes([2; 16]),
            item: ItemId::from_bytes([3; 16]),
            run: Some(RunId::from_bytes([4; 16])),
            state: TaskState::Running,
            status: None,
            replayed: false,
            ended: None,
        };
        insta::assert_snapshot!(spawned_text(&spawned), @r"
        state    running
        run      run_04040404040404040404040404040404
        session  ses_02020202020202020202020202020202
        ");
        let pending = TaskSpawned { run: None, state: TaskState::Pending, ..spawned };
        insta::assert_snapshot!(spawned_text(&pending), @r"
        state    pending
        session  ses_02020202020202020202020202020202
        ");
        assert_eq!(next_step(&pending), format!("see `dromia agent tasks {}`", pending.agent));
    }
}
