//! How results are written: the format, the fields that are wanted, and whether there is colour.
//!
//! Only values and one pure decision; [`CommandOutput`](crate::output::CommandOutput) is the one place that acts on
//! them.

use std::convert::Infallible;
use std::str::FromStr;

use clap::ValueEnum;

/// The form of what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// Tables and texts, for people
    #[default]
    Table,
    /// The same with whole ids and times
    Wide,
    /// One JSON document
    Json,
    /// One line of JSON per row; a document that has no rows is one line
    Jsonl,
    /// One YAML document
    Yaml,
    /// The bare ids or names, one per line
    Name,
}

/// The fields that are wanted of a document, or of each row of a listing; none means all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelection(Vec<String>);

impl FieldSelection {
    /// The names, in the order in which they were asked for.
    pub fn field_names(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for FieldSelection {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(Self(names.map(str::to_owned).collect()))
    }
}

/// When there is colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorMode {
    /// On a terminal, unless NO_COLOR is set or CLICOLOR_FORCE asks for it everywhere
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What the environment says about colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one variable, and they are independent")]
pub struct ColorHints {
    /// `NO_COLOR` is set and not empty.
    pub no_color: bool,
    /// `CLICOLOR_FORCE` is set and not `0`.
    pub force: bool,
    /// `CLICOLOR` is `0`.
    pub off: bool,
    /// `TERM` is `dumb`.
    pub dumb: bool,
}

impl ColorHints {
    /// Reads the variables of this process.
    pub fn of_process() -> Self {
        let read = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            no_color: read("NO_COLOR").is_some(),
            force: read("CLICOLOR_FORCE").is_some_and(|value| value != "0"),
            off: read("CLICOLOR").is_some_and(|value| value == "0"),
            dumb: read("TERM").is_some_and(|value| value == "dumb"),
        }
    }

    /// Decides for one stream: the flag, then `NO_COLOR`, then `CLICOLOR_FORCE`, then whether it is a terminal.
    pub fn is_colored(self, color: ColorMode, is_terminal: bool) -> bool {
        match color {
            ColorMode::Always => true,
            ColorMode::Never => false,
            ColorMode::Auto if self.no_color => false,
            ColorMode::Auto if self.force => true,
            ColorMode::Auto => is_terminal && !self.off && !self.dumb,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_cut_at_commas_and_keep_their_order() {
        let names = |text: &str| text.parse::<FieldSelection>().unwrap().field_names().join("|");
        assert_eq!(names("id, handle,,state"), "id|handle|state");
        assert_eq!(names(""), "");
    }

    #[test]
    fn colour_follows_flag_then_environment_then_terminal() {
        let none = ColorHints::default();
        let no_color = ColorHints { no_color: true, ..none };
        let force = ColorHints { force: true, ..none };
        let both = ColorHints { no_color: true, force: true, ..none };
        let off = ColorHints { off: true, ..none };
        let dumb = ColorHints { dumb: true, ..none };
        // hints, flag, on a terminal, in a pipe
        for (hints, color, terminal, pipe) in [
            (none, ColorMode::Auto, true, false),
            (none, ColorMode::Always, true, true),
            (none, ColorMode::Never, false, false),
            (no_color, ColorMode::Auto, false, false),
            (no_color, ColorMode::Always, true, true),
            (force, ColorMode::Auto, true, true),
            (force, ColorMode::Never, false, false),
            (both, ColorMode::Auto, false, false),
            (off, ColorMode::Auto, false, false),
            (dumb, ColorMode::Auto, false, false),
        ] {
            let found = (hints.is_colored(color, true), hints.is_colored(color, false));
            assert_eq!(found, (terminal, pipe), "{hints:?} {color:?}");
        }
    }
}
