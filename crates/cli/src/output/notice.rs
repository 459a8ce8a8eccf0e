//! What is printed to stderr beside the result: notices, errors with their hints, and what goes on once the command has
//! ended.
//!
//! The result is never printed here. A command that is proposed names the home and the tenant that were named, so that
//! it looks at the same ones.

use std::borrow::Cow;
use std::io::Write;

use anstyle::{AnsiColor, Style};

use super::words::{strip_control_characters, wrap_text};
use super::{CommandOutput, ServerPresence, cut_to_columns, paint_word};
use crate::context::CommandContext;
use crate::error::{Error, Outcome, PendingStatus};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();
const ASIDE: Style = Style::new().dimmed();

/// The commands that look at one tenant, by their first word.
const OF_A_TENANT: [&str; 17] = [
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
    "file",
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

/// The indentation of the further lines of a text.
const FURTHER: &str = "  ";

/// Breaks a text for stderr between words, if that is a terminal.
pub fn wrap_beside(context: &CommandContext, text: String) -> String {
    match context.err_columns() {
        Some(columns) => wrap_text(&text, columns, FURTHER),
        None => text,
    }
}

impl CommandOutput<'_> {
    /// Tells something beside the result. A text that is longer than its line is broken between words on a terminal; one of
    /// several lines is laid out already.
    pub fn print_notice(&mut self, text: &str) -> Outcome {
        let text = self.add_global_flags(text).into_owned();
        let is_laid_out = text.trim_matches('\n').contains('\n');
        let text = if is_laid_out { text } else { wrap_beside(self.context, text) };
        self.print_painted(&strip_control_characters(&text))
    }

    /// Tells a piece of a line beside the result, dimmed where there is colour; a line break at its end ends the line.
    pub(crate) fn print_dimmed(&mut self, text: &str) -> Outcome {
        self.erase_live()?;
        self.live.is_beside_open = !text.ends_with('\n');
        let (text, end) = text.strip_suffix('\n').map_or((text, ""), |text| (text, "\n"));
        let text = paint_word(self.err_is_colored, ASIDE, &strip_control_characters(text));
        let err = &mut self.context.err;
        write!(err, "{text}{end}").and_then(|()| err.flush()).map_err(Error::io_error("write to stderr"))
    }

    /// Tells how something ended beside the result: a mark or a word in colour, and the rest dimmed and cut to the line.
    pub(crate) fn print_marked(&mut self, mark: &str, style: Style, text: &str) -> Outcome {
        let text = strip_control_characters(text);
        let columns = self.context.err_columns().filter(|_| !self.is_plain());
        let room = |columns: usize| columns.saturating_sub(mark.chars().count() + 1);
        let text = columns.map_or_else(|| text.to_string(), |columns| cut_to_columns(&text, room(columns)));
        let mark = paint_word(self.err_is_colored, style, mark);
        self.print_painted(&format!("{mark} {}", paint_word(self.err_is_colored, ASIDE, &text)))
    }

    /// Writes a word in colour for stderr. The word must have nothing that drives a terminal.
    pub(crate) fn paint_err(&self, style: Style, word: &str) -> String {
        paint_word(self.err_is_colored, style, word)
    }

    /// Asks something at the end of stderr: what is typed follows on the line.
    pub(crate) fn print_prompt(&mut self, text: &str) -> Outcome {
        self.erase_live()?;
        self.live.is_beside_open = true;
        let err = &mut self.context.err;
        write!(err, "{text} ").and_then(|()| err.flush()).map_err(Error::io_error("write to stderr"))
    }

    /// Tells something beside the result, dimmed where there is colour.
    pub(crate) fn print_aside(&mut self, text: &str) -> Outcome {
        let text = wrap_beside(self.context, self.add_global_flags(text).into_owned());
        self.print_painted(&paint_word(self.err_is_colored, ASIDE, &strip_control_characters(&text)))
    }

    /// Prints an error and its next step, and with JSON as a document too; a failure of that is ignored.
    pub fn print_error(&mut self, error: &Error) {
        let code = error
            .server_problem()
            .map(|problem| format!(" ({}, {})", problem.code, problem.request_id))
            .unwrap_or_default();
        let said = format!("{error}{code}");
        let said = self.add_global_flags(&said).into_owned();
        let mut told = print_labelled(self, "error:", ERROR, &said);
        if let Some(hint) = error.next_step() {
            let hint = self.add_global_flags(&hint).into_owned();
            told = told.and_then(|()| print_labelled(self, "hint:", HINT, &hint));
        }
        if self.is_json() {
            told = told.and_then(|()| self.print_failure(error));
        }
        drop(told);
    }

    /// Prints that no server answers and that the command waits for one: once, until one was there again.
    pub(crate) fn note_server_away(&mut self) -> Outcome {
        if std::mem::replace(&mut self.server, ServerPresence::Away) == ServerPresence::Away {
            return Ok(());
        }
        self.print_notice("no server answers; waiting for it to come back")?;
        self.print_notice("hint: start it with `dromia up`")
    }

    /// Ends the line of the terminal on which a part of the result, or the `^C` of a person, may be.
    pub(crate) fn begin_notice_line(&mut self) -> Outcome {
        self.is_open = false;
        if self.context.err_is_terminal { self.print_painted("") } else { Ok(()) }
    }

    /// Notes that a server answered, for [`CommandOutput::note_server_away`].
    pub(crate) fn note_server_back(&mut self) {
        self.server = ServerPresence::Answers;
    }

    /// Notes what goes on in the server, for [`CommandOutput::report_interrupt`].
    pub(crate) fn note_pending(&mut self, status: Option<PendingStatus>) {
        self.left = status;
    }

    /// What was noted last.
    pub(crate) fn noted_status(&self) -> Option<PendingStatus> {
        self.left.clone()
    }

    /// Tells a person who pressed Ctrl-C what goes on without the command.
    pub(crate) fn report_interrupt(&mut self) {
        let Some(PendingStatus { known, next }) = self.left.take() else { return };
        // What was printed last may have no end of its line yet.
        let told = self.print_notice(&format!("\n{known}"));
        let next = self.add_global_flags(&next).into_owned();
        drop(told.and_then(|()| print_labelled(self, "hint:", HINT, &next)));
    }

    /// Writes the home and the tenant that were named into the commands of a text of ours: without them they look at
    /// others. A command is recognized in backticks, after a colon, and at the beginning of a line.
    pub fn add_global_flags<'text>(&self, text: &'text str) -> Cow<'text, str> {
        const NAME: &str = "dromia ";
        if self.place.is_none() && self.tenant.is_none() {
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
            if let Some(place) = self.place.as_deref().filter(|_| of_a_home) {
                told.extend([place, " "]);
            }
            if let Some(tenant) = self.tenant.as_deref().filter(|_| of_a_tenant) {
                told.extend(["-T ", tenant, " "]);
            }
            told.push_str(piece);
        }
        Cow::Owned(told)
    }

    /// Tells lines of ours beside the result, which may be painted.
    pub(crate) fn print_painted(&mut self, text: &str) -> Outcome {
        self.erase_live()?;
        self.live.is_beside_open = false;
        // A piece of an answer may be on the line of the same terminal.
        let is_shared = self.context.out_is_terminal && self.context.err_is_terminal;
        let end = if std::mem::take(&mut self.is_open) && is_shared { "\n" } else { "" };
        writeln!(self.context.err, "{end}{text}").map_err(Error::io_error("write to stderr"))
    }
}

fn print_labelled(output: &mut CommandOutput<'_>, label: &str, style: Style, text: &str) -> Outcome {
    let text = wrap_beside(output.context, format!("{label} {}", strip_control_characters(text)));
    output.print_painted(&text.replacen(label, &paint_word(output.err_is_colored, style, label), 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::GlobalOptions;
    use crate::format::ColorHints;

    #[test]
    fn a_proposed_command_repeats_the_tenant_and_home_flags() {
        let mut context = CommandContext::of_process(String::new());
        let hint = "`dromia agent list`, `dromia up`, `dromia whoami` or `dromia -T x run list`";
        assert_eq!(CommandOutput::new(&mut context, &GlobalOptions::default()).add_global_flags(hint), hint);
        let global =
            GlobalOptions { tenant: Some("acme".parse().expect("a handle")), ..GlobalOptions::default() };
        assert_eq!(
            CommandOutput::new(&mut context, &global).add_global_flags(hint),
            "`dromia -T acme agent list`, `dromia up`, `dromia -T acme whoami` or `dromia -T x run list`"
        );
        let global = GlobalOptions { home: Some("my home".into()), ..global };
        assert_eq!(
            CommandOutput::new(&mut context, &global).add_global_flags(hint),
            "`dromia --home 'my home' -T acme agent list`, `dromia --home 'my home' up`, \
             `dromia --home 'my home' -T acme whoami` or `dromia --home 'my home' -T x run list`"
        );
        let global = GlobalOptions { home: Some("/h".into()), ..GlobalOptions::default() };
        let output = CommandOutput::new(&mut context, &global);
        for (text, told) in [
            ("approve it: dromia approval approve a", "approve it: dromia --home /h approval approve a"),
            ("dromia run why x", "dromia --home /h run why x"),
            // What is about no home, and what is no command.
            ("`dromia explain x` and `dromia help`", "`dromia explain x` and `dromia help`"),
            ("this dromia up there", "this dromia up there"),
        ] {
            assert_eq!(output.add_global_flags(text), told);
        }
    }

    #[test]
    fn a_long_notice_wraps_but_never_splits_a_command() {
        let hint =
            "hint: `dromia approval show apr_1` shows all of it; answer with `dromia approval deny apr_1`";
        insta::assert_snapshot!(wrap_text(hint, 40, FURTHER), @r"
        hint: `dromia approval show apr_1` shows
          all of it; answer with
          `dromia approval deny apr_1`
        ");
        // A command that is longer than the line is still one.
        let narrow = wrap_text(hint, 10, FURTHER);
        assert!(narrow.contains("\n  `dromia approval show apr_1`\n"), "{narrow}");
        assert_eq!(
            narrow.split_whitespace().collect::<Vec<_>>(),
            hint.split_whitespace().collect::<Vec<_>>()
        );
        assert_eq!(wrap_text(hint, 400, FURTHER), hint);
    }

    #[derive(Clone, Default)]
    struct SharedBytes(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl Write for SharedBytes {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no writer panicked").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is on stderr, which is a terminal of so many columns if any, after something was printed there.
    fn printed(columns: Option<u16>, print: impl FnOnce(&mut CommandOutput<'_>)) -> String {
        let kept = SharedBytes::default();
        let mut context = CommandContext::of_process(String::new());
        context.err = Box::new(kept.clone());
        context.err_is_terminal = columns.is_some();
        context.color_hints = ColorHints::default();
        context.terminal.err_columns = Some(Box::new(move || columns));
        let tenant = Some("acme".parse().expect("a handle"));
        let color = crate::format::ColorMode::Never;
        print(&mut CommandOutput::new(
            &mut context,
            &GlobalOptions { tenant, color, ..GlobalOptions::default() },
        ));
        let bytes = kept.0.lock().expect("no writer panicked").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_notice_is_broken_on_a_terminal_alone() {
        for (columns, lines) in [(Some(40), 2), (None, 1)] {
            let text = printed(columns, |output| {
                output.print_notice("hint: `dromia run list` and `dromia run why x`").expect("it is written");
            });
            assert_eq!(text.lines().count(), lines, "{text}");
            assert!(text.contains("`dromia -T acme run why x`"), "{text}");
        }
    }

    const PATH: &str = "/srv/agents/of-the-team/releases/.dromia/token";
    const RUN: &str = "run_0199c0de000000000000000000000000";
    const URL: &str = "https://models.example.com/v1/chat/completions";

    fn long_error() -> Error {
        let message = format!(
            "the provider hub answered 503 Service Unavailable at {URL} for {RUN}, whose token is read from \
             {PATH}; the next attempt is at 14:02 and continue with: dromia run resume {RUN}"
        );
        Error::UnderWay {
            why: Box::new(Error::Usage(message)),
            known: "the input is stored".to_owned(),
            next: format!(
                "run `dromia provider test hub`, and then `dromia run why {RUN}` says why it waits"
            ),
        }
    }

    #[test]
    fn an_error_is_broken_between_words_and_keeps_what_is_copied() {
        let at = |columns| printed(columns, |output| output.print_error(&long_error()));
        insta::assert_snapshot!(at(Some(80)), @r"
        error: the provider hub answered 503 Service Unavailable at
          https://models.example.com/v1/chat/completions for
          run_0199c0de000000000000000000000000, whose token is read from
          /srv/agents/of-the-team/releases/.dromia/token; the next attempt is at 14:02
          and continue with:
          dromia -T acme run resume run_0199c0de000000000000000000000000; the input is stored
        hint: run `dromia provider test hub`, and then
          `dromia -T acme run why run_0199c0de000000000000000000000000` says why it
          waits
        ");
        insta::assert_snapshot!(at(Some(120)), @r"
        error: the provider hub answered 503 Service Unavailable at https://models.example.com/v1/chat/completions for
          run_0199c0de000000000000000000000000, whose token is read from /srv/agents/of-the-team/releases/.dromia/token; the
          next attempt is at 14:02 and continue with:
          dromia -T acme run resume run_0199c0de000000000000000000000000; the input is stored
        hint: run `dromia provider test hub`, and then `dromia -T acme run why run_0199c0de000000000000000000000000` says why it
          waits
        ");
        for columns in [1, 20, 40, 80, 120, 400] {
            let text = at(Some(columns));
            assert!(keeps_whole(&text), "{columns}: {text}");
        }
        assert_eq!(at(None).lines().count(), 2, "a pipe gets each in one line");
    }

    /// Whether what a person copies from [`long_error`] is on one line each.
    fn keeps_whole(text: &str) -> bool {
        [PATH, URL, "dromia -T acme run resume run_0199", "`dromia -T acme run why run_0199"]
            .iter()
            .all(|whole| text.contains(whole))
    }

    #[test]
    fn an_error_broken_at_the_last_column_is_caught() {
        let plain = printed(None, |output| output.print_error(&long_error()));
        assert!(keeps_whole(&plain));
        let by_bytes =
            plain.as_bytes().chunks(80).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
        assert!(!keeps_whole(&by_bytes));
    }
}
