//! One turn on the screen: the answer as it is made, a line for each call, and what is typed meanwhile.
//!
//! What is printed live is settled by the journal (`answer_printer`). At a terminal answers are rendered and calls fold to one
//! line each; for a pipe the text is raw and what programs say goes to stderr. Ctrl-C cancels the run of a person.

use std::future::pending;
use std::io::Write as _;
use std::time::Duration;

use dromia_api::run::StreamEnd;
use dromia_api::{RunId, RunStatus, SessionId};
use tokio::time::{Instant, sleep_until};

use super::answer_printer::{PrintedAnswer, interim_reply};
use super::state::{AHEAD_MAX, ChatState};
use crate::commands::activity::RunActivity;
use crate::commands::answer_text::AnswerText;
use crate::commands::background::{BackgroundWatch, BackgroundWork, LOOK_REST};
use crate::commands::event::{is_unfunded, next_step};
use crate::commands::followed_run::{FollowedRun, InterruptAction};
use crate::commands::live::LiveCallOutput;
use crate::commands::{Cli, answer};
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::message_editor::TypedAhead;
use crate::output::CommandOutput;
use crate::sse::RunUpdate;

/// How many characters of a waiting message are shown.
const AHEAD_SHOWN: usize = 60;

/// What of a turn is on the screen.
struct TurnScreen {
    printed: PrintedAnswer,
    text: AnswerText,
    activity: RunActivity,
    heard: LiveCallOutput,
    /// The last line that a program printed.
    tail: String,
    draft: String,
    /// What is printed next, below the line of the answer.
    notices: Vec<String>,
}

/// Prints the answer of a run as it is made, and says how the run ended.
pub(super) async fn show_turn(
    cli: &Cli<'_>,
    run: RunId,
    session: SessionId,
    state: &mut ChatState,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let action = match state.editor {
        Some(_) => InterruptAction::CancelsRun,
        None => InterruptAction::EndsCommand,
    };
    let mut followed = FollowedRun::follow_from(cli, run, 0, action).in_conversation(session);
    let mut screen = TurnScreen::new(state, output);
    let (began, mut failure) = (Instant::now(), None);
    if screen.text.is_rendered() {
        // The line of what goes on shows them.
        followed.leave_retries();
    }
    let end = loop {
        // The keys of a question are no message.
        let is_asking = followed.is_asking();
        let update = tokio::select! {
            update = followed.next(output) => update?,
            typed = read_ahead(state), if !is_asking => {
                screen.take_typed(typed?, state, output)?;
                continue;
            }
        };
        screen.follow_width(state);
        match update {
            RunUpdate::Delta(delta) => {
                screen.heard.end_open_line(output)?;
                let piece = screen.printed.text_for_delta(&delta);
                screen.text.print_piece(&piece, output)?;
            }
            RunUpdate::Output(piece) if screen.text.is_rendered() => {
                let last = piece.text.lines().map(str::trim).rfind(|line| !line.is_empty());
                screen.tail = last.map_or_else(|| screen.tail.clone(), str::to_owned);
                screen.show_aside(output);
            }
            RunUpdate::Output(piece) => screen.heard.print_piece(&piece, output)?,
            RunUpdate::Entry(entry) => {
                state.take_entry(&entry);
                failure = answer::failure_from_entry(&entry, failure)?;
                let piece = screen.printed.text_before_entry(&entry)?;
                screen.text.print_last_piece(&piece, output)?;
                if let Some(reply) = interim_reply(&entry)? {
                    screen.text.print_last_piece(&reply, output)?;
                }
                if screen.text.is_rendered() {
                    screen.tail.clear();
                    screen.show_aside(output);
                    screen.activity.take_entry(&entry, output)?;
                } else {
                    screen.heard.print_entry(&entry, output)?;
                }
                followed.report_entry(&entry, output).await?;
            }
            RunUpdate::End(end) => break end,
        }
        screen.print_notices(output)?;
    };
    output.set_live_aside(String::new());
    output.show_live(None)?;
    state.last_turn = Some(run);
    state.spent.add_end(&end);
    let piece =
        if end.status == RunStatus::Completed { screen.printed.remaining_text() } else { String::new() };
    screen.text.print_last_piece(&piece, output)?;
    screen.text.end(output)?;
    screen.print_notices(output)?;
    if output.is_plain() {
        ring_bell(output)?;
    }
    if end.status == RunStatus::Completed {
        return Ok(CommandExit::Done);
    }
    report_bad_end(cli, run, &end, began.elapsed(), failure.as_ref(), output).await
}

/// Shows what branches and workers of the session do, and the turns that their conclusions begin, until nothing goes on or the
/// person sends a message.
pub(super) async fn show_background(
    cli: &Cli<'_>,
    state: &mut ChatState,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    let (Some(session), Some(turn)) = (state.session, state.last_turn) else { return Ok(()) };
    let mut watch = BackgroundWatch::after_turn(session, turn);
    let mut screen = TurnScreen::new(state, output);
    while state.ahead.is_empty() {
        match watch.look(cli, output).await? {
            BackgroundWork::Turn(run) => {
                show_turn(cli, run, session, state, output).await?;
                continue;
            }
            BackgroundWork::GoesOn(text) => output.show_live(Some(text))?,
            // What is half typed goes on at the prompt.
            BackgroundWork::Idle => break,
        }
        let rest = Instant::now() + LOOK_REST;
        loop {
            let typed = read_ahead(state);
            let typed = tokio::select! {
                typed = typed => typed?,
                () = output.draw_live_while(sleep_until(rest)) => break,
            };
            match typed {
                TypedAhead::Draft(draft) => screen.draft = draft,
                TypedAhead::Message(message) if message.trim().is_empty() => screen.draft.clear(),
                TypedAhead::Message(message) => {
                    state.ahead.push_back(message);
                    break;
                }
            }
            screen.show_aside(output);
        }
    }
    output.set_live_aside(String::new());
    output.show_live(None)
}

/// Says how a turn ended that did not complete; one that a person cancelled needs no next step.
async fn report_bad_end(
    cli: &Cli<'_>,
    run: RunId,
    end: &StreamEnd,
    took: Duration,
    failure: Option<&dromia_api::event::RunFailureDetails>,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let is_unfunded = end.status == RunStatus::Yielded && is_unfunded(failure);
    let why = failure.map(|failure| format!(": {} ({})", failure.message, failure.code));
    let (status, seconds) = (end.status.as_str(), took.as_secs());
    output.print_notice(&format!("{status} after {seconds} s{}", why.unwrap_or_default()))?;
    if end.status != RunStatus::Cancelled {
        output.print_notice(&format!("hint: {}", next_step(cli, run).await))?;
    }
    Ok(if is_unfunded { CommandExit::Budget } else { CommandExit::RunFailed })
}

/// Waits for what a person types while the turn runs.
async fn read_ahead(state: &mut ChatState) -> Outcome<TypedAhead> {
    match &mut state.editor {
        Some(editor) => editor.read_ahead().await.map_err(Error::io_error("read the terminal")),
        None => pending().await,
    }
}

impl TurnScreen {
    fn new(state: &ChatState, output: &mut CommandOutput<'_>) -> Self {
        let columns = state.editor.as_ref().map(|editor| editor.columns());
        Self {
            printed: PrintedAnswer::default(),
            text: AnswerText::begin(columns, output),
            activity: RunActivity::default(),
            heard: LiveCallOutput::default(),
            tail: String::new(),
            draft: String::new(),
            notices: Vec::new(),
        }
    }

    /// Breaks the lines that come at the width that the terminal has now.
    fn follow_width(&mut self, state: &ChatState) {
        if let Some(editor) = &state.editor {
            self.text.set_columns(editor.columns());
        }
    }

    fn take_typed(
        &mut self,
        typed: TypedAhead,
        state: &mut ChatState,
        output: &mut CommandOutput<'_>,
    ) -> Outcome {
        match typed {
            TypedAhead::Draft(draft) => self.draft = draft,
            TypedAhead::Message(message) => {
                self.draft.clear();
                let first = message.trim().lines().next().unwrap_or_default();
                let shown: String = first.chars().take(AHEAD_SHOWN).collect();
                if state.ahead.len() >= AHEAD_MAX {
                    self.notices.push(format!("not taken, since {AHEAD_MAX} messages wait: {shown}"));
                } else if !shown.is_empty() {
                    let more = if shown.len() < message.trim().len() { "..." } else { "" };
                    self.notices.push(format!("waits for the end of this turn: {shown}{more}"));
                    state.ahead.push_back(message);
                }
            }
        }
        self.show_aside(output);
        self.print_notices(output)
    }

    /// Has the live line show the last line of a program, and what is being typed.
    fn show_aside(&self, output: &mut CommandOutput<'_>) {
        let mut aside = String::new();
        for (mark, text) in [("  | ", &self.tail), ("  > ", &self.draft)] {
            if !text.is_empty() {
                aside.extend([mark, text]);
            }
        }
        output.set_live_aside(aside);
    }

    fn print_notices(&mut self, output: &mut CommandOutput<'_>) -> Outcome {
        if !self.notices.is_empty() {
            self.text.leave_line(output)?;
        }
        self.notices.drain(..).try_for_each(|notice| output.print_aside(&notice))
    }
}

/// Has the terminal sound for a person who cannot see that something has ended.
fn ring_bell(output: &mut CommandOutput<'_>) -> Outcome {
    let err = &mut output.context_mut().err;
    err.write_all(b"\x07").and_then(|()| err.flush()).map_err(Error::io_error("write to stderr"))
}
