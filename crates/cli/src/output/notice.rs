//! What is told beside the result, on stderr: notices, errors with their hints, and what goes on once the command has ended.
//!
//! The result is never told here. A command that is proposed names the home and the tenant that were named, so that it looks at
//! the same ones.

use std::borrow::Cow;
use std::io::Write;

use anstyle::{AnsiColor, Style};

use super::words::{printable, wrapped};
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

/// The other commands that look at a home.
const OF_A_HOME: [&str; 11] = [
    "config", "doctor", "init", "migrate", "model", "policy", "provider", "sandbox", "status", "tenant", "up",
];

/// What stands before the further lines of a text.
const FURTHER: &str = "  ";

impl Output<'_> {
    /// Tells something beside the result.
    pub fn notice(&mut self, text: &str) -> Outcome {
        let text = self.placed(text);
        self.err_line(&printable(&text))
    }

    /// The same for what is longer than a line: on a terminal it is broken between words, and no command is.
    pub(crate) fn notice_wrapped(&mut self, text: &str) -> Outcome {
        let text = self.placed(text);
        let columns = self.context.columns.filter(|_| self.context.err_is_terminal);
        let text =
            columns.map_or_else(|| text.to_string(), |columns| wrapped(&text, columns.into(), FURTHER));
        self.err_line(&printable(&text))
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
        let said = format!("{error}{code}");
        let said = self.placed(&said).into_owned();
        let mut told = self.labelled("error:", ERROR, &said);
        if let Some(hint) = error.hint() {
            let hint = self.placed(&hint).into_owned();
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
        let next = self.placed(&next).into_owned();
        drop(told.and_then(|()| self.labelled("hint:", HINT, &next)));
    }

    /// Writes the home and the tenant that were named into the commands of a text of ours: without them they look at others. A
    /// command stands in backticks, after a colon, or at the beginning of a line.
    pub fn placed<'text>(&self, text: &'text str) -> Cow<'text, str> {
        const NAME: &str = "dromia ";
        if self.home.is_none() && self.tenant.is_none() {
            return Cow::Borrowed(text);
        }
        let mut pieces = text.split(NAME);
        let mut told = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let is_command = told.is_empty() || told.ends_with(['`', '\n']) || told.ends_with(": ");
            let word = piece.split([' ', '`']).next().unwrap_or_default();
            let of_a_tenant = is_command && OF_A_TENANT.contains(&word);
            let of_a_home = of_a_tenant || (is_command && (OF_A_HOME.contains(&word) || word == "-T"));
            told.push_str(NAME);
            if let Some(home) = self.home.as_deref().filter(|_| of_a_home) {
                told.extend(["--home ", home, " "]);
            }
            if let Some(tenant) = self.tenant.as_deref().filter(|_| of_a_tenant) {
                told.extend(["-T ", tenant, " "]);
            }
            told.push_str(piece);
        }
        Cow::Owned(told)
    }

    fn labelled(&mut self, label: &str, style: Style, text: &str) -> Outcome {
        let label = painted(self.err_is_colored, style, label);
        self.err_line(&format!("{label} {}", printable(text)))
    }

    fn err_line(&mut self, text: &str) -> Outcome {
        writeln!(self.context.err, "{text}").map_err(Error::io("write to stderr"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Global;
    use crate::context::Context;

    #[test]
    fn a_command_that_is_proposed_names_the_tenant_and_the_home_where_it_looks_at_one() {
        let mut context = Context::of_process(String::new());
        let hint = "`dromia agent list`, `dromia up`, `dromia whoami` or `dromia -T x run list`";
        assert_eq!(Output::new(&mut context, &Global::default()).placed(hint), hint);
        let global = Global { tenant: Some("acme".parse().expect("a handle")), ..Global::default() };
        assert_eq!(
            Output::new(&mut context, &global).placed(hint),
            "`dromia -T acme agent list`, `dromia up`, `dromia -T acme whoami` or `dromia -T x run list`"
        );
        let global = Global { home: Some("my home".into()), ..global };
        assert_eq!(
            Output::new(&mut context, &global).placed(hint),
            "`dromia --home 'my home' -T acme agent list`, `dromia --home 'my home' up`, \
             `dromia --home 'my home' -T acme whoami` or `dromia --home 'my home' -T x run list`"
        );
        let global = Global { home: Some("/h".into()), ..Global::default() };
        let output = Output::new(&mut context, &global);
        for (text, told) in [
            ("approve it: dromia approval approve a", "approve it: dromia --home /h approval approve a"),
            ("dromia run why x", "dromia --home /h run why x"),
            // What is about no home, and what is no command.
            ("`dromia explain x` and `dromia help`", "`dromia explain x` and `dromia help`"),
            ("this dromia up there", "this dromia up there"),
        ] {
            assert_eq!(output.placed(text), told);
        }
    }

    #[test]
    fn a_long_notice_is_broken_between_words_and_never_in_a_command() {
        let hint =
            "hint: `dromia approval show apr_1` shows all of it; answer with `dromia approval deny apr_1`";
        insta::assert_snapshot!(wrapped(hint, 40, FURTHER), @r"
        hint: `dromia approval show apr_1` shows
          all of it; answer with
          `dromia approval deny apr_1`
        ");
        // A command that is longer than the line is still one.
        let narrow = wrapped(hint, 10, FURTHER);
        assert!(narrow.contains("\n  `dromia approval show apr_1`\n"), "{narrow}");
        assert_eq!(
            narrow.split_whitespace().collect::<Vec<_>>(),
            hint.split_whitespace().collect::<Vec<_>>()
        );
        assert_eq!(wrapped(hint, 400, FURTHER), hint);
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
