//! A run that a command follows: what comes of its journal, what it waits for meanwhile, and what Ctrl-C does to it.
//!
//! `ask` has Ctrl-C end the run with the call that it works on; what only looks on leaves it running. Either way the second
//! Ctrl-C ends the command.

use std::future::pending;

use dromia_api::run::{JournalEntryResource, RunResource};
use dromia_api::{ErrorCode, RunId, SessionId};

use super::Cli;
use super::run_waits::{WaitReporter, parks_for_person};
use crate::error::{Error, Outcome, PendingStatus};
use crate::interrupt::InterruptCatch;
use crate::output::CommandOutput;
use crate::sse::{Follow, RunUpdate};

/// What the first Ctrl-C does while a run is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InterruptAction {
    /// It ends the command, and the run continues.
    EndsCommand,
    /// It cancels the run, and the command waits for the end of that.
    CancelsRun,
}

/// A run whose journal is read as it is written.
pub(super) struct FollowedRun<'cli> {
    cli: &'cli Cli<'cli>,
    run: RunId,
    follow: Follow<'cli>,
    waits: WaitReporter,
    interrupt: Option<InterruptCatch>,
    /// Whether a person pressed Ctrl-C, and the server has not answered yet.
    is_cancelling: bool,
    /// Whether Ctrl-C cancels the run. Such a command also ends with `--no-input` where the run waits for a person.
    cancels: bool,
    was_cancelled: bool,
    /// How the conversation of the run goes on, for a person who leaves it.
    talk: Option<String>,
}

impl<'cli> FollowedRun<'cli> {
    /// Follows a run from the entry behind `after`.
    pub(super) fn follow_from(cli: &'cli Cli<'cli>, run: RunId, after: u64, action: InterruptAction) -> Self {
        let interrupt = match action {
            InterruptAction::EndsCommand => None,
            InterruptAction::CancelsRun => Some(cli.interrupts.catch_next()),
        };
        let (follow, waits) = (Follow::new(&cli.client, run, after), WaitReporter::for_run(run));
        let cancels = action == InterruptAction::CancelsRun;
        Self {
            cli,
            run,
            follow,
            waits,
            interrupt,
            is_cancelling: false,
            cancels,
            was_cancelled: false,
            talk: None,
        }
    }

    /// The same for a turn of a conversation, which goes on after it.
    pub(super) fn in_conversation(mut self, session: SessionId) -> Self {
        self.talk = Some(format!("; continue the conversation with `dromia chat --session {session}`"));
        self
    }

    /// Waits for what comes next, and cancels the run if a person presses Ctrl-C first. It may be dropped and called again
    /// while no one is asked.
    pub(super) async fn next(&mut self, output: &mut CommandOutput<'_>) -> Outcome<RunUpdate> {
        loop {
            if self.is_cancelling {
                self.cancel_run(output).await?;
                self.is_cancelling = false;
            }
            let prompts = self.waits.prompts.get_or_insert_default();
            // Ctrl-C at a prompt ends the command and leaves the run waiting.
            if self.cancels && !self.was_cancelled {
                self.interrupt = match (prompts.is_open(), self.interrupt.take()) {
                    (true, _) => None,
                    (false, None) => Some(self.cli.interrupts.catch_next()),
                    (false, known) => known,
                };
            }
            let interrupt = &mut self.interrupt;
            tokio::select! {
                update = self.follow.next(output) => {
                    let update = update?;
                    match &update {
                        RunUpdate::Entry(entry) => prompts.take_entry(entry, output)?,
                        RunUpdate::End(_) => prompts.end(output)?,
                        RunUpdate::Delta(_) | RunUpdate::Output(_) => {}
                    }
                    return Ok(update);
                }
                event = prompts.next_event() => prompts.handle_event(self.cli, event, output).await?,
                () = wait_for_interrupt(interrupt) => {
                    (self.is_cancelling, self.was_cancelled) = (true, true);
                    self.interrupt = None;
                    output.begin_notice_line()?;
                    output.print_notice("cancelling the run; press Ctrl-C again to leave at once")?;
                }
            }
        }
    }

    /// Whether a person is or will be asked for an approval, and the keys of the terminal are answers. Such a question begins
    /// only in `report_entry`, so what is said here holds for one call of `next`, which must not be dropped then.
    pub(super) fn is_asking(&self) -> bool {
        self.waits.prompts.as_ref().is_some_and(super::approval_prompt::ApprovalPrompts::is_asking)
    }

    /// Has the caller show that a model is asked again later.
    pub(super) fn leave_retries(&mut self) {
        self.waits.leaves_retries = true;
    }

    /// Prints what the run waits for since an entry, if it waits for that now. A command that would have to answer by
    /// itself and may ask no one ends there.
    pub(super) async fn report_entry(
        &mut self,
        entry: &JournalEntryResource,
        output: &mut CommandOutput<'_>,
    ) -> Outcome {
        self.waits.report_entry(self.cli, entry, output).await?;
        let is_awaited = self.waits.has_open() && parks_for_person(entry);
        if is_awaited && self.cancels && self.cli.global.no_input {
            return Err(Error::AwaitsPerson { run: self.run });
        }
        Ok(())
    }

    async fn cancel_run(&mut self, output: &mut CommandOutput<'_>) -> Outcome {
        let run = self.run;
        let talk = self.talk.as_deref().unwrap_or_default();
        let asked = PendingStatus {
            known: format!("{run} was asked to end, and it is not known whether it has ended"),
            next: format!("look at it with `dromia run why {run}`{talk}"),
        };
        output.note_pending(Some(asked.clone()));
        // A person who presses Ctrl-C means the program that runs, too.
        match self.cli.client.post::<RunResource>(&format!("/v1/runs/{run}/terminate")).await {
            Ok(_) => Ok(()),
            // It ended first, as its journal says.
            Err(Error::Problem(problem)) if problem.error_code() == Some(ErrorCode::RunTerminal) => Ok(()),
            Err(why @ Error::Problem(_)) if !why.is_away() => Err(Error::under_way(
                why,
                PendingStatus {
                    known: format!("{run} was not cancelled, and continues by itself"),
                    next: format!("follow it with `dromia run watch {run}`"),
                },
            )),
            Err(why) => Err(Error::under_way(why, asked)),
        }
    }
}

async fn wait_for_interrupt(interrupt: &mut Option<InterruptCatch>) {
    match interrupt {
        Some(interrupt) => interrupt.caught().await,
        None => pending().await,
    }
}
