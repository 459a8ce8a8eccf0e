//! Colour for what is printed before or beside a command's own output: help pages, usage errors, the demo.
//!
//! Those printers ask one choice of the process, and a help page is printed while the command line is still being
//! read; so the flag is looked for ahead of the parser, which checks it properly afterwards.

use std::ffi::OsString;

use anstream::ColorChoice;

/// Sets the choice from the command line; without the flag the environment and the terminal decide.
pub(crate) fn set_color_choice(arguments: impl Iterator<Item = OsString>) {
    if let Some(choice) = color_flag(arguments) {
        choice.write_global();
    }
}

fn color_flag(mut arguments: impl Iterator<Item = OsString>) -> Option<ColorChoice> {
    let mut found = None;
    while let Some(argument) = arguments.next() {
        let argument = argument.into_string().unwrap_or_default();
        let value = match argument.split_once('=') {
            Some(("--color", value)) => Some(value.to_owned()),
            None if argument == "--color" => arguments.next().and_then(|value| value.into_string().ok()),
            // Everything after this is a text, not an option.
            None if argument == "--" => break,
            _ => None,
        };
        found = match value.as_deref() {
            Some("always") => Some(ColorChoice::Always),
            Some("never") => Some(ColorChoice::Never),
            Some("auto") => None,
            _ => found,
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_flag_before_the_texts_counts() {
        let wanted = |line: &str| color_flag(line.split(' ').map(OsString::from));
        assert_eq!(wanted("dromia --color always --help"), Some(ColorChoice::Always));
        assert_eq!(wanted("dromia --color=never run list"), Some(ColorChoice::Never));
        assert_eq!(wanted("dromia --color=never --color auto"), None);
        assert_eq!(wanted("dromia ask -- --color always"), None);
        assert_eq!(wanted("dromia ask hello"), None);
    }
}
