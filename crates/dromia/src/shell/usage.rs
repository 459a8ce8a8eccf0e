//! A command line that cannot be read: reported in the parser's words, and as a document where a program reads stdout.
//!
//! The parser has failed, so what was wanted is looked for among the words themselves. A number below zero is reported
//! here: no option takes one, and what the parser would advise (`-- -1`) makes a text of it.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use dromia_cli::format::OutputFormat;
use dromia_cli::{CommandExit, CommandOutput, Error, GlobalOptions, nearest_word};

use super::program_command;
use crate::schemas;

/// Tells what is wrong with the command line, and how the process ends. Help that was asked for is printed and is no failure.
pub(crate) fn report_usage_error(
    mut error: clap::Error,
    arguments: impl Iterator<Item = OsString>,
) -> ExitCode {
    if !error.use_stderr() {
        // A reader that closed stdout wants no more of it.
        drop(error.print());
        return CommandExit::Done.into();
    }
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(command) = nearest_command(&error, &words) {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![command]));
    }
    let global = GlobalOptions { output: json_format(&words), ..GlobalOptions::default() };
    let context = &mut schemas::context_for_command("");
    let mut output = CommandOutput::new(context, &global);
    if let Some((option, value)) = below_zero(&words) {
        let text = format!("{option} {value}: an option takes no number or time below zero");
        output.print_error(&Error::Usage(text));
        return CommandExit::Usage.into();
    }
    let plain = error.render().to_string();
    let wrapped = dromia_cli::wrap_beside(output.context_mut(), plain.clone());
    // What the parser lays out itself is in colour.
    drop(if wrapped == plain { error.print() } else { write!(std::io::stderr(), "{wrapped}") });
    if output.is_json() {
        let message = match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
                "a command is missing; --help lists the commands".to_owned()
            }
            _ => first_paragraph(&error.render().to_string()),
        };
        drop(output.print_failure(&Error::Usage(message)));
    }
    CommandExit::Usage.into()
}

/// The command that was probably meant where the parser proposes none: it compares beginnings, and misses swapped letters.
fn nearest_command(error: &clap::Error, words: &[String]) -> Option<String> {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    if typed.len() < 3 || error.get(ContextKind::SuggestedSubcommand).is_some() {
        return None;
    }
    let program = program_command();
    let mut command = &program;
    for word in option_words(words).take_while(|word| word != typed) {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    nearest_word(typed, names.into_iter()).map(str::to_owned)
}

/// The words before the one behind which everything is a text.
fn option_words(words: &[String]) -> impl Iterator<Item = &str> {
    words.iter().skip(1).map(String::as_str).take_while(|word| *word != "--")
}

/// The form of JSON that was asked for, if any was. Which fields were wanted says nothing of a failure.
fn json_format(words: &[String]) -> Option<OutputFormat> {
    let mut found = None;
    let mut before = "";
    for word in option_words(words) {
        let named = word.strip_prefix("--output=").or_else(|| word.strip_prefix("-o"));
        let named = match named {
            Some(value) if !value.is_empty() => value.trim_start_matches('='),
            _ if matches!(before, "-o" | "--output") => word,
            _ => "",
        };
        match named {
            "jsonl" => found = Some(OutputFormat::Jsonl),
            "json" => found = found.or(Some(OutputFormat::Json)),
            _ if word == "--jsonl" => found = Some(OutputFormat::Jsonl),
            _ if word == "--json" || word.starts_with("--json=") => {
                found = found.or(Some(OutputFormat::Json));
            }
            _ => {}
        }
        before = word;
    }
    found
}

/// The first option with a number or a time below zero behind it.
fn below_zero(words: &[String]) -> Option<(&str, &str)> {
    let words: Vec<&str> = option_words(words).collect();
    words.windows(2).find_map(|pair| {
        let [option, value] = pair else { return None };
        let number = value.strip_prefix('-')?;
        let is_option = option.starts_with("--") && !option.contains('=');
        (is_option && number.starts_with(|c: char| c.is_ascii_digit())).then_some((*option, *value))
    })
}

/// What a message says before it explains the usage, in one line.
fn first_paragraph(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let first = text.split("\n\n").next().unwrap_or_default();
    first.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn json_is_found_in_each_way_of_asking_for_it() {
        for (line, found) in [
            ("dromia ask --json", Some(OutputFormat::Json)),
            ("dromia ask --json=run,status", Some(OutputFormat::Json)),
            ("dromia nosuch -o json", Some(OutputFormat::Json)),
            ("dromia nosuch -ojson", Some(OutputFormat::Json)),
            ("dromia nosuch -o=json", Some(OutputFormat::Json)),
            ("dromia nosuch --output=jsonl", Some(OutputFormat::Jsonl)),
            ("dromia nosuch --output jsonl --json=id", Some(OutputFormat::Jsonl)),
            ("dromia nosuch --json=id --jsonl", Some(OutputFormat::Jsonl)),
            ("dromia nosuch -o table", None),
            ("dromia ask", None),
            ("dromia ask -- --json", None),
            ("dromia json", None),
        ] {
            assert_eq!(json_format(&words(line)), found, "{line}");
        }
    }

    #[test]
    fn only_a_number_behind_an_option_is_below_zero() {
        for (line, found) in [
            ("dromia run list --limit -1", Some(("--limit", "-1"))),
            ("dromia cost summary --since -5h --by day", Some(("--since", "-5h"))),
            ("dromia run list --limit=-1", None),
            ("dromia ask -1", None),
            ("dromia run list --json -T acme", None),
            ("dromia ask -- --limit -1", None),
        ] {
            assert_eq!(below_zero(&words(line)), found, "{line}");
        }
    }

    #[test]
    fn a_message_is_one_line_without_the_usage() {
        let text = "error: the following required arguments were not provided:\n  <TEXT>\n\nUsage: dromia ask <TEXT>\n";
        assert_eq!(first_paragraph(text), "the following required arguments were not provided: <TEXT>");
    }
}
