//! What a person types: a line or all of it, so that Ctrl-C ends the command while nothing is typed; and what nobody else may
//! read, as one line at a terminal that does not show it.
//!
//! The terminal is not touched here. Whoever made the [`Context`](crate::Context) hands in how it is told to show nothing,
//! and what it gives is held while the line is read: however the reading ends, by the line, by Ctrl-C, by a signal that ends
//! this process or by an error, it is dropped and the terminal shows again what is typed. Where nobody handed it in, nothing
//! is read at all.

use std::io::{self, BufRead};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{spawn_blocking, yield_now};

use crate::context::Hidden;
use crate::error::{Error, Outcome};
use crate::exit::Exit;
use crate::output::{Output, counted};

/// The most bytes that Linux takes of one line; what is typed or pasted behind them it drops without a word.
const LINE_BYTES_MAX: usize = 4095;

/// Reads one line, with its line break; nothing of it is the end of the input.
///
/// A read of a terminal cannot be ended, so it has a thread of its own and signals are heard meanwhile. Whoever drops this
/// before the line is there ends the command: that thread keeps the input, and nobody gets what is typed later.
pub(super) async fn line(action: &str, output: &mut Output<'_>) -> Outcome<String> {
    text(read(action, |input, bytes| input.read_until(b'\n', bytes), output).await?)
}

/// Reads all that there is, in the same way.
pub(super) async fn whole(action: &str, output: &mut Output<'_>) -> Outcome<String> {
    text(bytes(action, output).await?)
}

/// The same of what need not be a text.
pub(super) async fn bytes(action: &str, output: &mut Output<'_>) -> Outcome<Vec<u8>> {
    read(action, |input, bytes| input.read_to_end(bytes), output).await
}

/// Takes what was read as text; what is none is no question that anybody meant.
fn text(bytes: Vec<u8>) -> Outcome<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = match error.as_bytes()[..at].split(|byte| *byte == b'\n').count() {
            1 => String::new(),
            line => format!(", in line {line}"),
        };
        Error::Usage(format!(
            "what stdin says is not UTF-8 from byte {} on{line}; none of it was sent",
            at + 1
        ))
    })
}

async fn read(
    action: &str,
    how: impl FnOnce(&mut dyn BufRead, &mut Vec<u8>) -> io::Result<usize> + Send + 'static,
    output: &mut Output<'_>,
) -> Outcome<Vec<u8>> {
    let mut input = std::mem::replace(&mut output.context().input, Box::new(io::empty()));
    let reading = spawn_blocking(move || {
        let mut bytes = Vec::new();
        let read = how(&mut *input, &mut bytes);
        (input, read.map(|_| bytes))
    });
    let (input, bytes) = reading.await.map_err(|error| Error::io(action)(error.into()))?;
    output.context().input = input;
    bytes.map_err(Error::io(action))
}

/// Reads one line that is not shown, without its line break, and says how many bytes it took.
pub(super) async fn hidden(what: &str, output: &mut Output<'_>) -> Outcome<String> {
    // Whoever waits for this command listens for Ctrl-C from the next look at it on, and so before the terminal is changed.
    yield_now().await;
    let mut ends = Ends::listen().map_err(Error::io("listen for signals"))?;
    let shown_again = hide(output)?;
    output.notice(&format!("{what}, which does not show (with --stdin a pipe gives it):"))?;
    let mut line = tokio::select! {
        line = line("read the value", output) => line?,
        () = ends.any() => {
            let message = "asked to end before the value was typed; nothing was sent".to_owned();
            return Err(Error::Local { exit: Exit::Failed, message });
        }
    };
    drop(shown_again);
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    match line.len() {
        0 => Err(Error::Usage("nothing was typed; nothing was sent".to_owned())),
        LINE_BYTES_MAX.. => {
            let text =
                format!("a terminal takes {LINE_BYTES_MAX} bytes of a line at most and drops the rest");
            Err(Error::Usage(format!("{text}: pipe the value in with --stdin")))
        }
        length => {
            output.notice(&format!("{} taken", counted(length, "byte")))?;
            Ok(line)
        }
    }
}

/// Has the terminal show nothing of what is typed until what this returns is dropped.
fn hide(output: &mut Output<'_>) -> Outcome<Hidden> {
    let Some(hide) = &output.context().hide else {
        let text = "Nothing keeps this terminal from showing the value: pipe it in with --stdin";
        return Err(Error::Usage(text.to_owned()));
    };
    hide().map_err(Error::io("have the terminal show nothing"))
}

/// The signals that end a process, Ctrl-C apart, which ends every command.
struct Ends {
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

impl Ends {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for the first of them.
    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}
