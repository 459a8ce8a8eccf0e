//! What is asked: the words of the command line, and what a pipe or a file on standard input adds.
//!
//! Standard input that is no terminal may still never end: a program that starts this one may have handed its own pipe
//! on. So a pipe that stays silent is left out where no person looks on. What is longer than the server takes is
//! refused before anything is sent.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::terminal_input::{read_limited_text, wait_for_input};
use crate::context::InputKind;
use crate::error::{Error, Outcome};
use crate::output::{CommandOutput, LiveClock, LiveText};

/// The longest question: what the server takes of one input.
const QUESTION_BYTES_MAX: usize = 512 << 10;

/// How long a pipe may be silent where no person looks on, before it is left out.
const QUIET_MAX: Duration = Duration::from_secs(3);

/// What to do about standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StdinUse {
    /// It is not read.
    Leave,
    /// It is read to its end.
    Read,
    /// It is read if it says something in time.
    ReadUnlessSilent,
}

/// Puts the question together.
pub(super) async fn read_question(
    words: &[String],
    no_stdin: bool,
    output: &mut CommandOutput<'_>,
) -> Outcome<String> {
    let (has_dash, words) = match words.split_last() {
        Some((last, rest)) if last == "-" => (true, rest),
        _ => (false, words),
    };
    if has_dash && no_stdin {
        let text = "`-` reads stdin, and --no-stdin excludes it; leave one out";
        return Err(Error::Usage(text.to_owned()));
    }
    let mut text = words.join(" ");
    let context = output.context_mut();
    let kind = if context.input_is_terminal { InputKind::Other } else { context.terminal.input };
    let stdin = match kind {
        _ if has_dash => StdinUse::Read,
        _ if no_stdin => StdinUse::Leave,
        InputKind::Other => StdinUse::Leave,
        InputKind::File => StdinUse::Read,
        InputKind::Pipe if text.is_empty() => StdinUse::Read,
        InputKind::Pipe => StdinUse::ReadUnlessSilent,
    };
    let is_there = match stdin {
        StdinUse::Leave => false,
        StdinUse::Read => true,
        StdinUse::ReadUnlessSilent => wait_for_pipe(output).await?,
    };
    if is_there {
        let room = QUESTION_BYTES_MAX.saturating_sub(text.len());
        let piped = read_limited_text(room as u64, output).await?.ok_or_else(too_long)?;
        if text.is_empty() {
            text = piped;
        } else if !piped.trim().is_empty() {
            text = format!("{text}\n\n{piped}");
        }
    }
    match text.len() {
        _ if text.trim().is_empty() => Err(Error::Usage(
            "there is no question: write it behind the command, as in `dromia ask what is due today`, or pipe \
             it in, as in `git diff | dromia ask review this`"
                .to_owned(),
        )),
        length if length > QUESTION_BYTES_MAX => Err(too_long()),
        _ => Ok(text),
    }
}

fn too_long() -> Error {
    Error::Usage(
        "the question is longer than 512 KiB, the most that the server takes at once; the command sent nothing. \
         Ask about a part of it, or put it into a file of the agent's workspace"
            .to_owned(),
    )
}

/// Waits until a pipe says something or ends; false if it stays silent and no person looks on.
async fn wait_for_pipe(output: &mut CommandOutput<'_>) -> Outcome<bool> {
    if output.context_mut().err_is_terminal {
        output.show_live(Some(LiveText {
            before: "waiting for text on stdin".to_owned(),
            clock: LiveClock::Since(Instant::now()),
            after: " (--no-stdin asks without it)".to_owned(),
        }))?;
        wait_for_input(output).await?;
        output.show_live(None)?;
        return Ok(true);
    }
    if let Ok(waited) = timeout(QUIET_MAX, wait_for_input(output)).await {
        return waited.map(|()| true);
    }
    output.print_notice(
        "stdin said nothing for 3 seconds, so the question goes without it; `-` behind the words waits for it, \
         --no-stdin never reads it",
    )?;
    Ok(false)
}
