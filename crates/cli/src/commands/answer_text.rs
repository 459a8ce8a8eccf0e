//! Prints the text of an answer while it comes: rendered as Markdown on a terminal, where no word is broken at the last
//! column, and as it is elsewhere.

use crate::error::Outcome;
use crate::output::{CommandOutput, MarkdownLook, MarkdownPrinter, strip_control_characters};

/// The columns of a terminal that does not know its own.
const COLUMNS_DEFAULT: u16 = 80;

/// The text of one answer on its way to the screen.
#[derive(Debug)]
pub(super) struct AnswerText {
    /// Renders it for a person; `None` where no terminal shows it.
    markdown: Option<MarkdownPrinter>,
}

impl AnswerText {
    /// Begins an answer in lines of so many columns, else of as many as the terminal had when the command began.
    pub(super) fn begin(columns: Option<u16>, output: &mut CommandOutput<'_>) -> Self {
        let (is_painted, is_plain) = (output.is_colored(), output.is_plain());
        let context = output.context_mut();
        let columns = columns.or(context.columns).unwrap_or(COLUMNS_DEFAULT);
        let look = MarkdownLook { columns, is_painted, is_plain };
        Self { markdown: context.out_is_terminal.then(|| MarkdownPrinter::new(look)) }
    }

    /// Whether a person sees it rendered.
    pub(super) const fn is_rendered(&self) -> bool {
        self.markdown.is_some()
    }

    /// Breaks the lines that come from now on at another width: the terminal has changed its own.
    pub(super) fn set_columns(&mut self, columns: u16) {
        if let Some(markdown) = &mut self.markdown {
            markdown.set_columns(columns);
        }
    }

    /// Prints a piece.
    pub(super) fn print_piece(&mut self, piece: &str, output: &mut CommandOutput<'_>) -> Outcome {
        match &mut self.markdown {
            _ if piece.is_empty() => Ok(()),
            Some(markdown) => {
                let text = markdown.push_text(&strip_control_characters(piece));
                output.write_bytes(text.as_bytes())
            }
            None => output.print_text(piece),
        }
    }

    /// Prints the last piece of a step's answer, if anything is left of it.
    pub(super) fn print_last_piece(&mut self, piece: &str, output: &mut CommandOutput<'_>) -> Outcome {
        self.print_piece(piece, output)?;
        if piece.is_empty() { Ok(()) } else { self.end(output) }
    }

    /// Ends the line for something else that is printed now; the answer goes on below it.
    pub(super) fn leave_line(&mut self, output: &mut CommandOutput<'_>) -> Outcome {
        match &mut self.markdown {
            Some(markdown) if output.has_open_line() => {
                let text = markdown.leave_line();
                output.write_bytes(text.as_bytes())
            }
            _ => Ok(()),
        }
    }

    /// Ends the line of an answer that goes on no more: it has an end, or its run was cancelled in the middle of it.
    pub(super) fn end(&mut self, output: &mut CommandOutput<'_>) -> Outcome {
        let Some(markdown) = &mut self.markdown else { return Ok(()) };
        let text = markdown.finish();
        output.write_bytes(text.as_bytes())
    }
}
