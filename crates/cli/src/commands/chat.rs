//! `chat`: a conversation with an agent, each answer printed as it is made.
//!
//! A person at a terminal has a line editor, commands that begin with `/`, and answers that are rendered; a pipe gives one
//! message per line and gets the raw text. What is printed is never drawn again. Ctrl-C cancels a turn and leaves where
//! nothing is under way.

mod answer_printer;
mod call_log;
mod queued_input;
mod slash;
mod slash_action;
mod state;
mod turn;

use std::time::Duration;

use dromia_api::agent::AgentResource;
use dromia_api::event::{EventAccepted, SendEvent};
use dromia_api::session::SessionResource;
use dromia_api::{ListPage, SessionId};
use tokio::task::yield_now;

use super::Cli;
use super::agent_change::list_models;
use super::submit::{EventSubmission, PLATFORM, stored_status, wait_result};
use super::terminal_input::{self, EndSignals};
use crate::args::ChatArguments;
use crate::client::{parse_answer, percent_encode};
use crate::error::{Error, Outcome, PendingStatus};
use crate::exit::CommandExit;
use crate::message_editor::CompletionWords;
use crate::output::CommandOutput;

pub(super) use self::answer_printer::{AssistantReplyBody, PrintedAnswer, interim_reply};
pub(super) use self::queued_input::{TakingRun, find_taking_run};

use self::slash::{COMMANDS, SlashCommand, TypedLine, parse_line, unknown_word_text};
use self::slash_action::{enter_known_session, run_slash_command};
use self::state::ChatState;
use self::turn::{show_background, show_turn};

/// How long one answer may take when the command line does not say.
const PATIENCE: Duration = Duration::from_mins(10);

/// The longest message: what the server takes of one input. A person hears of it before anything is sent.
const MESSAGE_BYTES_MAX: usize = 512 << 10;

/// The file of the home that has what a person sent before.
const HISTORY_FILE: &str = "chat_history";

pub(super) async fn run(
    cli: &Cli<'_>,
    chat: ChatArguments,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    if output.is_json() {
        return Err(Error::Usage("chat prints no JSON; use `dromia event send --wait --json`".to_owned()));
    }
    let session = cli.resolve_option(chat.session, output).await?;
    cli.check_session(session)?;
    let mut state = ChatState { agent: cli.selected_agent(), ..ChatState::default() };
    let is_edited = output.context_mut().open_editor.is_some();
    let session = if chat.continue_last { Some(cli.last_session().await?) } else { session };
    let begun = begin_state(cli, session, is_edited, &mut state).await;
    begun.map_err(|error| match session.filter(|_| chat.continue_last) {
        Some(session) => Cli::blame_continue(error, session),
        None => error,
    })?;
    state.editor = match &output.context_mut().open_editor {
        // A terminal that cannot be edited on is read line by line.
        Some(open) => open(&cli.home.join(HISTORY_FILE)).ok(),
        None => None,
    };
    // The yield lets the caller's `select!` register Ctrl-C before the first prompt.
    yield_now().await;
    if state.editor.is_none() {
        return talk(cli, &mut state, output).await;
    }
    offer_completions(cli, &mut state).await;
    let mut ends = EndSignals::listen().map_err(Error::io_error("install the signal handlers"))?;
    // Dropped, the editor restores the terminal, which a signal would leave as it is.
    let ended = tokio::select! {
        ended = talk(cli, &mut state, output) => ended,
        () = ends.wait_for_any() => {
            Err(Error::Local { exit: CommandExit::Failed, message: "a signal ended the chat".to_owned() })
        }
    };
    for unsent in state.ahead.drain(..) {
        output.print_notice(&format!("not sent: {}", unsent.trim()))?;
    }
    ended
}

/// Finds the session and the agent that are meant, so that a wrong name fails before the first prompt. All else is looked
/// up only for the prompt.
async fn begin_state(
    cli: &Cli<'_>,
    session: Option<SessionId>,
    is_edited: bool,
    state: &mut ChatState,
) -> Outcome {
    let fetch = async |name: &str| {
        cli.client.get::<AgentResource>(&format!("/v1/agents/{}", percent_encode(name))).await
    };
    let agent = if let Some(id) = session {
        let session: SessionResource = cli.client.get(&format!("/v1/sessions/{id}")).await?;
        state.enter_session(Some(id));
        if !is_edited {
            return Ok(());
        }
        enter_known_session(cli, id, state).await?;
        Some(fetch(&session.agent.to_string()).await?)
    } else if let Some(name) = &state.agent {
        Some(fetch(name).await?)
    } else if !is_edited {
        None
    } else {
        match cli.agent_or_default().await {
            Ok(Some(name)) => fetch(&name).await.ok(),
            Ok(None) | Err(_) => None,
        }
    };
    state.handle = agent.map(|agent| agent.handle.to_string());
    Ok(())
}

/// Tells the editor which commands there are, and the names of agents and models.
async fn offer_completions(cli: &Cli<'_>, state: &mut ChatState) {
    let agents = cli.client.get::<ListPage<AgentResource>>("/v1/agents?limit=256").await;
    let names = agents.map(|page| page.items).unwrap_or_default();
    let names = names.iter().map(|agent| agent.handle.to_string()).collect();
    let models = list_models(cli).await.unwrap_or_default();
    let commands = COMMANDS.iter().map(|row| row.name.to_owned()).collect();
    if let Some(editor) = &mut state.editor {
        let arguments = [("/agent".to_owned(), names), ("/model".to_owned(), models)].into();
        editor.set_completion_words(CompletionWords { commands, arguments });
    }
}

/// Takes messages until the person leaves, or the pipe ends.
async fn talk(cli: &Cli<'_>, state: &mut ChatState, output: &mut CommandOutput<'_>) -> Outcome<CommandExit> {
    let typed_in = output.context_mut().input_is_terminal;
    let prompts = typed_in && output.context_mut().out_is_terminal;
    if prompts {
        output.print_notice("type /quit or press Ctrl-D to leave, /help to list the commands")?;
    }
    let mut last = CommandExit::Done;
    loop {
        output.note_pending(state.session.map(idle_status));
        if state.editor.is_some() && state.ahead.is_empty() {
            watch_background(cli, state, output).await?;
        }
        let Some(line) = next_line(state, prompts, output).await? else { break };
        let message = match parse_line(&line) {
            TypedLine::Nothing => continue,
            TypedLine::Command(SlashCommand::Quit, _) => break,
            TypedLine::Command(command, argument) if typed_in || command == SlashCommand::Help => {
                do_slash_command(cli, command, argument, state, output).await?;
                continue;
            }
            TypedLine::Unknown(word) if typed_in => {
                output.print_notice(&unknown_word_text(word))?;
                output.print_notice(&format!(
                    "hint: to send the line to the agent, type /{}",
                    line.trim_end()
                ))?;
                continue;
            }
            TypedLine::Message(message) => message,
            // What comes from a pipe is no slip of the fingers.
            TypedLine::Unknown(_) | TypedLine::Command(..) => line.trim_end(),
        };
        if message.len() > MESSAGE_BYTES_MAX {
            let told = format!(
                "the message has {} bytes, and the server takes at most {MESSAGE_BYTES_MAX} (512 KiB) of one input: \
                 nothing was sent. Send a part of it, or put it into a file of the agent's workspace",
                message.len()
            );
            if state.editor.is_none() {
                return Err(Error::Usage(told));
            }
            output.print_notice(&told)?;
            continue;
        }
        state.lines += 1;
        match play_turn(cli, message, state, output).await {
            Ok(exit) => {
                if exit != CommandExit::Done {
                    last = exit;
                }
                // The journal named the agent, so the server is asked for nothing.
                if let Some((agent, session)) = state.played
                    && state.remembered != Some(session)
                {
                    cli.remember_session_of(agent, session, output)?;
                    state.remembered = Some(session);
                }
            }
            // The server refused the message; a person can send another one.
            Err(error) if state.editor.is_some() && error.server_problem().is_some() => {
                output.print_error(&error);
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(session) = state.session {
        let session = output.row_style().format_id(session);
        output.print_notice(&format!("continue with `dromia chat --session {session}`"))?;
    }
    // A person has seen which turn failed and went on; a script sees only this.
    Ok(if typed_in { CommandExit::Done } else { last })
}

/// Shows what goes on beside the conversation before the next prompt. Ctrl-C leaves it to itself.
async fn watch_background(cli: &Cli<'_>, state: &mut ChatState, output: &mut CommandOutput<'_>) -> Outcome {
    let mut interrupt = cli.interrupts.catch_next();
    let watched = tokio::select! {
        watched = show_background(cli, state, output) => Some(watched),
        () = interrupt.caught() => None,
    };
    match watched {
        Some(Err(error)) if error.is_unread() => Err(error),
        // What goes on goes on; the next message says what is wrong with the server.
        Some(Ok(()) | Err(_)) => Ok(()),
        None => {
            output.set_live_aside(String::new());
            output.show_live(None)?;
            output.print_notice("branches and workers go on; /workers lists them")
        }
    }
}

/// Takes the next message: one that was typed ahead, else what a person or a pipe sends now.
async fn next_line(
    state: &mut ChatState,
    prompts: bool,
    output: &mut CommandOutput<'_>,
) -> Outcome<Option<String>> {
    let prompt = state.prompt(output.is_plain());
    if let Some(message) = state.ahead.pop_front() {
        output.print_line(&format!("{prompt}{message}"))?;
        return Ok(Some(message));
    }
    if let Some(editor) = &mut state.editor {
        return editor.read_message(&prompt).await.map_err(Error::io_error("read the terminal"));
    }
    if prompts {
        output.print_text(&prompt)?;
    }
    let line = terminal_input::read_line("read the line", output).await?;
    Ok((!line.is_empty()).then_some(line))
}

/// Does a command of the chat. What goes wrong is printed, and Ctrl-C ends it alone.
async fn do_slash_command(
    cli: &Cli<'_>,
    command: SlashCommand,
    argument: &str,
    state: &mut ChatState,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    if let Some(editor) = &mut state.editor {
        editor.release_terminal().map_err(Error::io_error("restore the terminal"))?;
    }
    let mut interrupt = cli.interrupts.catch_next();
    let done = tokio::select! {
        done = run_slash_command(cli, command, argument, state, output) => done,
        () = interrupt.caught() => Ok(()),
    };
    match done {
        Err(error) if error.is_unread() => Err(error),
        Err(error) => {
            output.print_error(&error);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// The status of a conversation in which nothing is under way.
fn idle_status(session: SessionId) -> PendingStatus {
    PendingStatus {
        known: format!("no run is active in {session}"),
        next: format!("continue with `dromia chat --session {session}`"),
    }
}

/// The same of an answer, whose conversation goes on too.
fn conversation_status(PendingStatus { known, next }: PendingStatus, session: SessionId) -> PendingStatus {
    PendingStatus {
        known,
        next: format!("{next}; continue the conversation with `dromia chat --session {session}`"),
    }
}

/// Sends one message and prints the answer to it.
async fn play_turn(
    cli: &Cli<'_>,
    text: &str,
    state: &mut ChatState,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let (text, session) = (text.to_owned(), state.session);
    let event = match session {
        Some(_) => SendEvent { text, session, ..SendEvent::default() },
        None => SendEvent {
            text,
            agent: state.agent.clone(),
            platform: Some(PLATFORM.to_owned()),
            ..SendEvent::default()
        },
    };
    let patience = cli.answer_timeout(PATIENCE);
    let sending = EventSubmission::of_line(state.lines, session, output);
    let (_, bytes) = sending.post_with_retries(cli, &event, patience, Duration::ZERO, output).await?;
    let accepted: EventAccepted = parse_answer(&bytes)?;
    state.session = Some(accepted.session);
    if state.editor.is_some() && state.remembered != Some(accepted.session) {
        // Now, so that `--continue` of another terminal reaches the turn that runs.
        cli.remember_session(accepted.session, output).await?;
        state.remembered = Some(accepted.session);
    }
    output.note_pending(Some(conversation_status(stored_status(&accepted, accepted.run), accepted.session)));
    let mut taken = accepted.run;
    let late = Error::TimedOut { next: format!("dromia session show {}", accepted.session) };
    let answer = async {
        let run = match accepted.run {
            Some(run) => run,
            None => find_taking_run(cli, accepted.session, accepted.item, output).await?.run,
        };
        taken = Some(run);
        output.note_pending(Some(conversation_status(stored_status(&accepted, taken), accepted.session)));
        show_turn(cli, run, accepted.session, state, output).await
    };
    let ended = tokio::time::timeout(patience, answer).await;
    let ended = wait_result(cli, &accepted, taken, ended).await.map_err(|error| match error {
        Error::UnderWay { why, known, next } => {
            Error::under_way(*why, conversation_status(PendingStatus { known, next }, accepted.session))
        }
        error => error,
    });
    ended?.ok_or(late)
}
