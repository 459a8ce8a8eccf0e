//! What a program of an agent says while it runs, shown to people who look on.
//!
//! It goes to stderr, every line behind a bar and dimmed where there is colour, so that results on stdout stay what they
//! are. It is a hint: how much was left out on the way is said, and the call's result settles it.

use dromia_api::CallId;
use dromia_api::run::{Entry, Output as Piece};
use serde::Deserialize;

use crate::client::parse;
use crate::error::Outcome;
use crate::output::Output;

/// What stands before each line.
const BAR: &str = "  | ";

/// What of a running call stands on the screen.
#[derive(Debug, Default)]
pub(super) struct Heard {
    call: Option<CallId>,
    /// Where the next piece begins if nothing is left out.
    next: u64,
    /// Whether the last line has no end yet.
    is_open: bool,
}

impl Heard {
    /// Shows a piece.
    pub(super) fn piece(&mut self, piece: &Piece, output: &mut Output<'_>) -> Outcome {
        if self.call != Some(piece.call) || piece.offset < self.next {
            self.close(output)?;
            *self = Self { call: Some(piece.call), ..Self::default() };
        }
        let missed = piece.offset - self.next;
        if missed > 0 {
            self.close(output)?;
            output.aside(&format!("{BAR}[{missed} bytes are not shown]\n"))?;
        }
        self.next = piece.offset.saturating_add(piece.bytes);
        // A program that draws over its line gets a line for each drawing.
        let text = piece.text.replace("\r\n", "\n").replace('\r', "\n");
        for line in text.split_inclusive('\n') {
            let bar = if self.is_open { "" } else { BAR };
            output.aside(&format!("{bar}{line}"))?;
            self.is_open = !line.ends_with('\n');
        }
        Ok(())
    }

    /// Ends the line that is open, before something else is shown.
    pub(super) fn close(&mut self, output: &mut Output<'_>) -> Outcome {
        if std::mem::take(&mut self.is_open) { output.aside("\n") } else { Ok(()) }
    }

    /// Shows how the call ended that was heard, with its limits: the first line of its result.
    pub(super) fn entry(&mut self, entry: &Entry, output: &mut Output<'_>) -> Outcome {
        self.close(output)?;
        if self.call.is_none() || entry.kind != "tool_finished" {
            return Ok(());
        }
        let ended: Ended = parse(entry.fields.get().as_bytes())?;
        if self.call != Some(ended.call) {
            return Ok(());
        }
        self.call = None;
        let Some(body) = &entry.body else { return Ok(()) };
        let told: Told = parse(body.get().as_bytes())?;
        match told.parts.first().and_then(|part| part.text.lines().next()) {
            Some(line) => output.aside(&format!("{BAR}{line}\n")),
            None => Ok(()),
        }
    }
}

/// What is read of the fields of a `tool_finished`.
#[derive(Debug, Deserialize)]
struct Ended {
    call: CallId,
}

/// What is read of its body.
#[derive(Debug, Deserialize)]
struct Told {
    #[serde(default)]
    parts: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}
