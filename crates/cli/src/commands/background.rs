//! What goes on beside a session: its branches and workers, and the turns that their conclusions begin.
//!
//! It polls. Nothing is missed between two looks: a turn is found by its id, which comes after those known.

use std::time::Duration;

use dromia_api::child::ChildResource;
use dromia_api::run::RunResource;
use dromia_api::session::SessionResource;
use dromia_api::{ListPage, RunId, RunKind, SessionId};
use tokio::time::Instant;

use super::Cli;
use crate::error::Outcome;
use crate::output::{CommandOutput, LiveClock, LiveText};

/// How long to rest between two looks.
pub(super) const LOOK_REST: Duration = Duration::from_millis(250);

/// How many looks a conclusion that no turn takes is waited for. One that a later branch replaced waits for the next message.
const QUIET_LOOKS: u32 = 4;

/// How many children, and how many runs, one look reads.
const PAGE: u32 = 256;

/// What a look finds.
#[derive(Debug)]
pub(super) enum BackgroundWork {
    /// A turn has begun that nobody asked for.
    Turn(RunId),
    /// Branches and workers go on, and what they do.
    GoesOn(LiveText),
    /// Nothing goes on.
    Idle,
}

/// Looks at what goes on beside a session.
#[derive(Debug)]
pub(super) struct BackgroundWatch {
    session: SessionId,
    /// The newest turn that is known.
    turn: RunId,
    began: Instant,
    quiet: u32,
}

impl BackgroundWatch {
    /// Looks for what comes after a turn.
    pub(super) fn after_turn(session: SessionId, turn: RunId) -> Self {
        Self { session, turn, began: Instant::now(), quiet: 0 }
    }

    pub(super) async fn look(
        &mut self,
        cli: &Cli<'_>,
        output: &mut CommandOutput<'_>,
    ) -> Outcome<BackgroundWork> {
        let session = self.session;
        // Before the runs: the turn that a conclusion begins is there once its child has ended, or soon.
        let path = format!("/v1/sessions/{session}/children?open=true&limit={PAGE}");
        let children: ListPage<ChildResource> = cli.client.poll_json(&path, output).await?;
        let path = format!("/v1/runs?session={session}&limit={PAGE}");
        let runs: ListPage<RunResource> = cli.client.poll_json(&path, output).await?;
        let later = runs.items.iter().filter(|run| run.kind == RunKind::Turn && run.id > self.turn);
        if let Some(run) = later.min_by_key(|run| run.id) {
            (self.turn, self.quiet) = (run.id, 0);
            return Ok(BackgroundWork::Turn(run.id));
        }
        if !children.items.is_empty() {
            self.quiet = 0;
            return Ok(BackgroundWork::GoesOn(self.describe(&children.items)));
        }
        let found: SessionResource = cli.client.poll_json(&format!("/v1/sessions/{session}"), output).await?;
        let is_idle = found.active.is_none() && found.waiting == 0;
        self.quiet += 1;
        if is_idle || self.quiet > QUIET_LOOKS {
            return Ok(BackgroundWork::Idle);
        }
        let text = "the next turn begins".to_owned();
        Ok(BackgroundWork::GoesOn(LiveText { before: text, clock: LiveClock::Still, after: String::new() }))
    }

    /// Says how many there are, and what the newest one is about.
    fn describe(&self, children: &[ChildResource]) -> LiveText {
        let count = |kind: RunKind, one: &str, more: &str| {
            let found = children.iter().filter(|child| child.kind == kind).count();
            (found > 0).then(|| if found == 1 { one.to_owned() } else { format!("{found} {more}") })
        };
        let counts =
            [count(RunKind::Branch, "1 branch", "branches"), count(RunKind::Worker, "1 worker", "workers")];
        let counts: Vec<_> = counts.into_iter().flatten().collect();
        let task = children.last().and_then(|child| child.task.as_deref()).unwrap_or_default();
        let task = if task.is_empty() { String::new() } else { format!(": {task}") };
        LiveText { before: counts.join(" and "), clock: LiveClock::Since(self.began), after: task }
    }
}
