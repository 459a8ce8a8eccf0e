//! What a person types: a line or all of it, so that Ctrl-C ends the command while nothing is typed; and a secret
//! value, as one line at a terminal that does not show it.
//!
//! The terminal is not touched here. The [`CommandContext`](crate::CommandContext) has a function that hides the
//! typing, and the guard that it returns is held while the line is read: however the reading ends, by the line, by
//! Ctrl-C, by a signal that ends this process or by an error, the guard is dropped and the terminal shows again what is
//! typed. Without that function nothing is read at all.

use std::io::{self, BufRead, Read as _};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{spawn_blocking, yield_now};

use crate::context::EchoGuard;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{CommandOutput, count_noun};

/// The most bytes that Linux takes of one line; what is typed or pasted behind them it drops without a word.
const LINE_BYTES_MAX: usize = 4095;

/// Reads one line, with its line break; nothing of it is the end of the input.
///
/// A read of a terminal cannot be ended, so it has a thread of its own and signals are heard meanwhile. A caller that
/// drops this future before the line is there ends the command: that thread keeps the input, and what is typed later is
/// lost.
pub(super) async fn read_line(action: &str, output: &mut CommandOutput<'_>) -> Outcome<String> {
    bytes_to_text(read_interruptibly(action, |input, bytes| input.read_until(b'\n', bytes), output).await?)
}

/// Reads all that there is, in the same way.
pub(super) async fn read_all_text(action: &str, output: &mut CommandOutput<'_>) -> Outcome<String> {
    bytes_to_text(read_all_bytes(action, output).await?)
}

/// The same of what need not be a text.
pub(super) async fn read_all_bytes(action: &str, output: &mut CommandOutput<'_>) -> Outcome<Vec<u8>> {
    read_interruptibly(action, |input, bytes| input.read_to_end(bytes), output).await
}

/// Reads all that there is; `None` if that is more than so many bytes.
pub(super) async fn read_limited_text(most: u64, output: &mut CommandOutput<'_>) -> Outcome<Option<String>> {
    let how = move |input: &mut dyn BufRead, bytes: &mut Vec<u8>| {
        input.take(most.saturating_add(1)).read_to_end(bytes)
    };
    let bytes = read_interruptibly("read stdin", how, output).await?;
    if bytes.len() as u64 > most { Ok(None) } else { bytes_to_text(bytes).map(Some) }
}

/// Waits until there is something to read, or the end of it. A caller that drops this future gives the input up.
pub(super) async fn wait_for_input(output: &mut CommandOutput<'_>) -> Outcome {
    let how = |input: &mut dyn BufRead, _: &mut Vec<u8>| input.fill_buf().map(<[u8]>::len);
    read_interruptibly("read stdin", how, output).await.map(drop)
}

/// Takes what was read as text; what is none is no question that anybody meant.
fn bytes_to_text(bytes: Vec<u8>) -> Outcome<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = match error.as_bytes()[..at].split(|byte| *byte == b'\n').count() {
            1 => String::new(),
            line => format!(", in line {line}"),
        };
        Error::Usage(format!("stdin is not UTF-8 from byte {} on{line}; the command sent nothing", at + 1))
    })
}

async fn read_interruptibly(
    action: &str,
    how: impl FnOnce(&mut dyn BufRead, &mut Vec<u8>) -> io::Result<usize> + Send + 'static,
    output: &mut CommandOutput<'_>,
) -> Outcome<Vec<u8>> {
    let mut input = std::mem::replace(&mut output.context_mut().input, Box::new(io::empty()));
    let reading = spawn_blocking(move || {
        let mut bytes = Vec::new();
        let read = how(&mut *input, &mut bytes);
        (input, read.map(|_| bytes))
    });
    let read = output.draw_live_while(reading).await;
    let (input, bytes) = read.map_err(|error| Error::io_error(action)(error.into()))?;
    output.context_mut().input = input;
    bytes.map_err(Error::io_error(action))
}

/// Reads one line that is not shown, without its line break, and says how many bytes it took.
pub async fn read_hidden_line(prompt: &str, output: &mut CommandOutput<'_>) -> Outcome<String> {
    // The yield lets the caller's `select!` register Ctrl-C before the terminal is changed.
    yield_now().await;
    let mut ends = EndSignals::listen().map_err(Error::io_error("install the signal handlers"))?;
    let shown_again = hide_typing(output)?;
    output.print_notice(&format!("{prompt}:"))?;
    let mut line = tokio::select! {
        line = read_line("read the value", output) => line?,
        () = ends.wait_for_any() => {
            let message = "the command was stopped before you typed the value; it sent nothing".to_owned();
            return Err(Error::Local { exit: CommandExit::Failed, message });
        }
    };
    drop(shown_again);
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    match line.len() {
        0 => Err(Error::Usage("you typed no value; the command sent nothing".to_owned())),
        LINE_BYTES_MAX.. => {
            let text =
                format!("a terminal accepts lines of at most {LINE_BYTES_MAX} bytes and drops the rest");
            Err(Error::Usage(format!("{text}: pipe the value in with --stdin")))
        }
        length => {
            output.print_notice(&format!("{} taken", count_noun(length, "byte")))?;
            Ok(line)
        }
    }
}

/// Has the terminal show nothing of what is typed until what this returns is dropped.
fn hide_typing(output: &mut CommandOutput<'_>) -> Outcome<EchoGuard> {
    let Some(hide) = &output.context_mut().hide else {
        let text = "This terminal would show the value: pipe it in with --stdin";
        return Err(Error::Usage(text.to_owned()));
    };
    hide().map_err(Error::io_error("turn off the echo of the terminal"))
}

/// The signals that end a process, Ctrl-C apart, which ends every command.
#[derive(Debug)]
pub(super) struct EndSignals {
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

impl EndSignals {
    /// From here on these signals end nothing by themselves, so they must be waited for until the command ends.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for the first of them.
    pub(super) async fn wait_for_any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}
