//! What is told beside the result, on stderr: notices, errors with their hints, and what goes on once the command has ended.
//!
//! The result is never told here. A hint names the tenant that was named, so that its command looks at the same one.

use std::borrow::Cow;
use std::io::Write;

use anstyle::{AnsiColor, Style};

use super::words::printable;
use super::{Output, Server, painted};
use crate::error::{Error, Outcome, Standing};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();
const ASIDE: Style = Style::new().dimmed();

/// The commands that look at one tenant, by their first word.
const OF_A_TENANT: [&str; 16] = [
    "agent",
    "approval",
    "ask",
    "audit",
    "budget",
    "capability",
    "chat",
    "cost",
    "delivery",
    "event",
    "run",
    "secret",
    "session",
    "token",
    "tool",
    "whoami",
];

/// What stands before the further lines of a text.
const FURTHER: &str = "  ";

impl Output<'_> {
    /// Tells something beside the result.
    pub fn notice(&mut self, text: &str) -> Outcome {
        let text = self.hinted(text);
        self.err_line(&printable(&text))
    }

    /// The same for what is longer than a line: on a terminal it is broken between words, and no command is.
    pub(crate) fn notice_wrapped(&mut self, text: &str) -> Outcome {
        let text = self.hinted(text);
        let columns = self.context.columns.filter(|_| self.context.err_is_terminal);
        let text = columns.map_or_else(|| text.to_string(), |columns| wrapped(&text, columns.into()));
        self.err_line(&printable(&text))
    }

    /// A notice with the tenant in the commands of its hint.
    fn hinted<'text>(&self, text: &'text str) -> Cow<'text, str> {
        match text.strip_prefix("hint: ") {
            Some(hint) => Cow::Owned(format!("hint: {}", self.in_tenant(hint))),
            None => Cow::Borrowed(text),
        }
    }

    /// Tells a piece of a line beside the result, dimmed where there is colour; a line break at its end ends the line.
    pub(crate) fn aside(&mut self, text: &str) -> Outcome {
        let (text, end) = text.strip_suffix('\n').map_or((text, ""), |text| (text, "\n"));
        let text = painted(self.err_is_colored, ASIDE, &printable(text));
        let err = &mut self.context.err;
        write!(err, "{text}{end}").and_then(|()| err.flush()).map_err(Error::io("write to stderr"))
    }

    /// Tells an error in at most two lines, and with JSON as a document too; nobody is left to tell if that fails.
    pub fn tell(&mut self, error: &Error) {
        let code = error
            .problem()
            .map(|problem| format!(" ({}, {})", problem.code, problem.request_id))
            .unwrap_or_default();
        let mut told = self.labelled("error:", ERROR, &format!("{error}{code}"));
        if let Some(hint) = error.hint().map(|hint| self.in_tenant(&hint)) {
            told = told.and_then(|()| self.labelled("hint:", HINT, &hint));
        }
        if self.is_json() {
            told = told.and_then(|()| self.failure(error));
        }
        drop(told);
    }

    /// Tells whoever waits that no server is there and that it is waited for: once, until one was there again.
    pub(crate) fn away(&mut self) -> Outcome {
        if std::mem::replace(&mut self.server, Server::Away) == Server::Away {
            return Ok(());
        }
        // A piece of an answer may stand there.
        let end = if self.is_open && self.context.out_is_terminal { "\n" } else { "" };
        self.notice(&format!("{end}no server answers; waiting for it to come back"))?;
        self.notice("hint: start it with `dromia up`")
    }

    /// Notes that a server was heard, for [`Output::away`].
    pub(crate) fn back(&mut self) {
        self.server = Server::Answers;
    }

    /// Notes what goes on in the server, for [`Output::leave`].
    pub(crate) fn goes_on(&mut self, standing: Option<Standing>) {
        self.left = standing;
    }

    /// Tells a person who pressed Ctrl-C what goes on without the command.
    pub(crate) fn leave(&mut self) {
        let Some(Standing { known, next }) = self.left.take() else { return };
        // What was printed last may have no end of its line yet.
        let told = self.notice(&format!("\n{known}"));
        let next = self.in_tenant(&next);
        drop(told.and_then(|()| self.labelled("hint:", HINT, &next)));
    }

    /// Writes the tenant that was named into the commands of a hint: without it they look at another one.
    fn in_tenant(&self, hint: &str) -> String {
        const MARK: &str = "`dromia ";
        let Some(tenant) = &self.tenant else { return hint.to_owned() };
        let mut pieces = hint.split(MARK);
        let mut told = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let word = piece.split([' ', '`']).next().unwrap_or_default();
            told.push_str(MARK);
            if OF_A_TENANT.contains(&word) {
                told.extend(["-T ", tenant, " "]);
            }
            told.push_str(piece);
        }
        told
    }

    fn labelled(&mut self, label: &str, style: Style, text: &str) -> Outcome {
        let label = painted(self.err_is_colored, style, label);
        self.err_line(&format!("{label} {}", printable(text)))
    }

    fn err_line(&mut self, text: &str) -> Outcome {
        writeln!(self.context.err, "{text}").map_err(Error::io("write to stderr"))
    }
}

/// Breaks a text between words. What stands in backticks is to be copied, so it stays whole, whatever the width.
fn wrapped(text: &str, columns: usize) -> String {
    let mut is_command = false;
    let words = text.split(|c: char| {
        is_command ^= c == '`';
        c == ' ' && !is_command
    });
    let (mut told, mut column) = (String::with_capacity(text.len()), 0);
    for (index, word) in words.enumerate() {
        let length = word.chars().count();
        if index > 0 && column + 1 + length > columns {
            told.extend(["\n", FURTHER]);
            column = FURTHER.len();
        } else if index > 0 {
            told.push(' ');
            column += 1;
        }
        told.push_str(word);
        column += length;
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Global;
    use crate::context::Context;

    #[test]
    fn a_hint_names_the_tenant_where_its_command_looks_at_one() {
        let mut context = Context::of_process(String::new());
        let hint = "`dromia agent list`, `dromia up`, `dromia whoami` or `dromia -T x run list`";
        assert_eq!(Output::new(&mut context, &Global::default()).in_tenant(hint), hint);
        let global = Global { tenant: Some("acme".parse().expect("a handle")), ..Global::default() };
        assert_eq!(
            Output::new(&mut context, &global).in_tenant(hint),
            "`dromia -T acme agent list`, `dromia up`, `dromia -T acme whoami` or `dromia -T x run list`"
        );
    }

    #[test]
    fn a_long_notice_is_broken_between_words_and_never_in_a_command() {
        let hint =
            "hint: `dromia approval show apr_1` shows all of it; answer with `dromia approval deny apr_1`";
        insta::assert_snapshot!(wrapped(hint, 40), @r"
        hint: `dromia approval show apr_1` shows
          all of it; answer with
          `dromia approval deny apr_1`
        ");
        // A command that is longer than the line is still one.
        let narrow = wrapped(hint, 10);
        assert!(narrow.contains("\n  `dromia approval show apr_1`\n"), "{narrow}");
        assert_eq!(
            narrow.split_whitespace().collect::<Vec<_>>(),
            hint.split_whitespace().collect::<Vec<_>>()
        );
        assert_eq!(wrapped(hint, 400), hint);
    }

    #[test]
    fn a_notice_is_broken_on_a_terminal_alone() {
        #[derive(Clone, Default)]
        struct Kept(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().expect("nobody panicked").write(bytes)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        for (is_terminal, lines) in [(true, 2), (false, 1)] {
            let kept = Kept::default();
            let mut context = Context::of_process(String::new());
            context.err = Box::new(kept.clone());
            context.err_is_terminal = is_terminal;
            context.columns = Some(40);
            let global = Global { tenant: Some("acme".parse().expect("a handle")), ..Global::default() };
            let told = Output::new(&mut context, &global)
                .notice_wrapped("hint: `dromia run list` and `dromia run why x`");
            told.expect("it is written");
            let text = String::from_utf8(kept.0.lock().expect("nobody panicked").clone()).expect("text");
            assert_eq!(text.lines().count(), lines, "{text}");
            assert!(text.contains("`dromia -T acme run why x`"), "{text}");
        }
    }
}
