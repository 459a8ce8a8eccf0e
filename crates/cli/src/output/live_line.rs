//! One line at the end of stderr that says what goes on now, written over in place while nothing else is printed.
//!
//! It is drawn at most ten times a second, as wide as the terminal, and erased before anything else is printed. Where a
//! line cannot be written over, or a person asked for lines only, each new text is printed once, in plain words. It is
//! drawn for people at a terminal alone.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::time::Duration;

use anstyle::Style;
use tokio::time::{Instant, sleep};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::words::strip_control_characters;
use super::{CommandOutput, paint_word};
use crate::context::CommandContext;
use crate::error::{Error, Outcome};

/// How long the line stays before it is looked at again.
const REDRAW_REST: Duration = Duration::from_millis(100);

const ASIDE: Style = Style::new().dimmed();

/// Where no terminal says how wide it is.
pub(super) const COLUMNS_DEFAULT: u16 = 80;

/// How the line is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LiveMode {
    /// Not at all: a program reads stderr, or stdout is a document.
    Off,
    /// Written over in place.
    Rewrites,
    /// A line for each text, with no character beyond ASCII.
    Appends,
}

/// The time in the middle of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LiveClock {
    /// There is none.
    Still,
    /// How long something goes on.
    Since(Instant),
    /// How long it takes until something happens.
    Until(Instant),
}

/// What the line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveText {
    pub(crate) before: String,
    pub(crate) clock: LiveClock,
    pub(crate) after: String,
}

impl LiveText {
    /// Writes it as it is now.
    fn text_at(&self, now: Instant) -> String {
        let time = match self.clock {
            LiveClock::Still => String::new(),
            LiveClock::Since(began) => format!(" {} s", now.duration_since(began).as_secs()),
            LiveClock::Until(end) => {
                let left = end.duration_since(now);
                format!(" {} s", left.as_secs() + u64::from(left.subsec_nanos() > 0))
            }
        };
        format!("{}{time}{}", self.before, self.after)
    }

    /// Writes it for a line that stays: how long something has taken is not known yet.
    fn lasting_text(&self, now: Instant) -> String {
        match self.clock {
            LiveClock::Since(_) => format!("{}{}", self.before, self.after),
            LiveClock::Still | LiveClock::Until(_) => self.text_at(now),
        }
    }
}

/// The line of a command.
#[derive(Debug)]
pub(super) struct LiveLine {
    mode: LiveMode,
    text: Option<LiveText>,
    /// The text after it: what a program prints, what a person types meanwhile.
    aside: String,
    /// What is on the screen.
    drawn: Option<String>,
    /// Whether something else on stderr has no end of its line yet.
    pub(super) is_beside_open: bool,
}

impl LiveLine {
    pub(super) fn in_mode(mode: LiveMode) -> Self {
        Self { mode, text: None, aside: String::new(), drawn: None, is_beside_open: false }
    }
}

impl CommandOutput<'_> {
    /// Whether people get plain lines: no symbol beyond ASCII, and nothing is written over.
    pub(crate) fn is_plain(&self) -> bool {
        self.live.mode == LiveMode::Appends
    }

    /// Says what goes on from now on; `None` is nothing.
    pub(crate) fn show_live(&mut self, text: Option<LiveText>) -> Outcome {
        if self.live.text == text {
            return Ok(());
        }
        if let (LiveMode::Appends, Some(text)) = (self.live.mode, &text) {
            let line = text.lasting_text(Instant::now());
            self.print_notice(&line)?;
        }
        self.live.text = text;
        if self.live.text.is_none() { self.erase_live() } else { Ok(()) }
    }

    /// Sets the text that is drawn after the line from now on.
    pub(crate) fn set_live_aside(&mut self, aside: String) {
        self.live.aside = aside;
    }

    /// Does work, and draws the line meanwhile. Where it cannot be drawn, the work is done all the same.
    pub(crate) async fn draw_live_while<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        while self.live.mode == LiveMode::Rewrites && self.live.text.is_some() {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = sleep(REDRAW_REST) => {
                    if draw_live(self).is_err() {
                        self.live.mode = LiveMode::Off;
                    }
                }
            }
        }
        work.await
    }

    /// Takes the line from the screen, before something else is printed; what goes on is drawn again later.
    pub(super) fn erase_live(&mut self) -> Outcome {
        match self.live.drawn.take() {
            Some(drawn) => write_stderr(self.context, &erasure(&drawn, self.err_is_colored)),
            None => Ok(()),
        }
    }
}

/// Draws what goes on, if nothing else is open on its line.
fn draw_live(output: &mut CommandOutput<'_>) -> Outcome {
    // The result and the line may be on one terminal.
    let is_taken = output.live.is_beside_open || (output.is_open && output.context.out_is_terminal);
    let Some(text) = output.live.text.as_ref().filter(|_| !is_taken) else { return Ok(()) };
    let columns = output.context.err_columns().unwrap_or(COLUMNS_DEFAULT.into());
    let text = text.text_at(Instant::now()) + &output.live.aside;
    let text = cut_to_columns(&strip_control_characters(&text.replace(['\n', '\t'], " ")), columns);
    if output.live.drawn.as_ref() == Some(&text) {
        return Ok(());
    }
    let painted = paint_word(output.err_is_colored, ASIDE, &text);
    let line = match &output.live.drawn {
        Some(drawn) => format!("{}{painted}", erasure(drawn, output.err_is_colored)),
        None => painted,
    };
    output.live.drawn = Some(text);
    write_stderr(output.context, &line)
}

fn write_stderr(context: &mut CommandContext, text: &str) -> Outcome {
    let err = &mut context.err;
    let written: io::Result<()> = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    written.map_err(Error::io_error("write to stderr"))
}

/// What empties the line and goes back to its beginning; without colour there are no escapes either.
fn erasure(drawn: &str, has_escapes: bool) -> Cow<'static, str> {
    if has_escapes {
        Cow::Borrowed("\r\u{1b}[K")
    } else {
        Cow::Owned(format!("\r{}\r", " ".repeat(drawn.width())))
    }
}

/// Cuts a line so that it stays one: between characters, with a column left, and an ellipsis where it was cut.
pub(crate) fn cut_to_columns(text: &str, columns: usize) -> String {
    let room = columns.saturating_sub(1);
    if text.width() <= room {
        return text.to_owned();
    }
    let (mut cut, mut taken) = (String::new(), 0);
    for c in text.chars() {
        taken += c.width().unwrap_or(0);
        if taken + 1 > room {
            break;
        }
        cut.push(c);
    }
    if room > 0 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests;
