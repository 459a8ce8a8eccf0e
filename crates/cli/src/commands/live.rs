//! Shows people at a terminal what a program of an agent prints while it runs.
//!
//! It goes to stderr, every line behind a bar and dimmed where there is colour, so that results on stdout stay what they
//! are. It is a hint: how much was left out on the way is said, and the call's result settles it.

use dromia_api::CallId;
use dromia_api::run::{CallOutput as Piece, JournalEntryResource};
use serde::Deserialize;

use crate::client::parse_answer;
use crate::error::Outcome;
use crate::output::CommandOutput;

/// The prefix of each line.
const BAR: &str = "  | ";

/// The part of a running call's output that is on the screen.
#[derive(Debug, Default)]
pub(super) struct LiveCallOutput {
    call: Option<CallId>,
    /// Where the next piece begins if nothing is left out.
    next: u64,
    /// Whether the last line has no end yet.
    is_open: bool,
}

impl LiveCallOutput {
    /// Shows a piece.
    pub(super) fn print_piece(&mut self, piece: &Piece, output: &mut CommandOutput<'_>) -> Outcome {
        if self.call != Some(piece.call) || piece.offset < self.next {
            self.end_open_line(output)?;
            *self = Self { call: Some(piece.call), ..Self::default() };
        }
        let missed = piece.offset - self.next;
        if missed > 0 {
            self.end_open_line(output)?;
            output.print_dimmed(&format!("{BAR}[{missed} bytes not shown]\n"))?;
        }
        self.next = piece.offset.saturating_add(piece.bytes);
        // A program that draws over its line gets a line for each drawing.
        let text = piece.text.replace("\r\n", "\n").replace('\r', "\n");
        for line in text.split_inclusive('\n') {
            let bar = if self.is_open { "" } else { BAR };
            output.print_dimmed(&format!("{bar}{line}"))?;
            self.is_open = !line.ends_with('\n');
        }
        Ok(())
    }

    /// Ends the line that is open, before something else is shown.
    pub(super) fn end_open_line(&mut self, output: &mut CommandOutput<'_>) -> Outcome {
        if std::mem::take(&mut self.is_open) { output.print_dimmed("\n") } else { Ok(()) }
    }

    /// Shows how the followed call ended, with its limits: the first line of its result.
    pub(super) fn print_entry(
        &mut self,
        entry: &JournalEntryResource,
        output: &mut CommandOutput<'_>,
    ) -> Outcome {
        self.end_open_line(output)?;
        if self.call.is_none() || entry.kind != "tool_finished" {
            return Ok(());
        }
        let ended: ToolFinishedFields = parse_answer(entry.fields.get().as_bytes())?;
        if self.call != Some(ended.call) {
            return Ok(());
        }
        self.call = None;
        let Some(body) = &entry.body else { return Ok(()) };
        let told: ToolFinishedBody = parse_answer(body.get().as_bytes())?;
        match told.parts.first().and_then(|part| part.text.lines().next()) {
            Some(line) => output.print_dimmed(&format!("{BAR}{line}\n")),
            None => Ok(()),
        }
    }
}

/// What is read of the fields of a `tool_finished`.
#[derive(Debug, Deserialize)]
struct ToolFinishedFields {
    call: CallId,
}

/// What is read of its body.
#[derive(Debug, Deserialize)]
struct ToolFinishedBody {
    #[serde(default)]
    parts: Vec<ToolOutputPart>,
}

#[derive(Debug, Deserialize)]
struct ToolOutputPart {
    #[serde(default)]
    text: String,
}
