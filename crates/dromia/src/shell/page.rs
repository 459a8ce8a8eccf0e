//! The pages of help: bare `dromia`, the options that every command takes, and the layout of a command's page.
//!
//! Bare help groups the commands and prints the `about` of each, so that no two pages describe a command in different
//! words. It is laid out for 80 columns and does not wrap; the tests refuse a line or a page that is too long.

use std::fmt::Write as _;

use clap::builder::StyledStr;
use clap::builder::styling::Style;
use clap::{Arg, ArgAction, Args, Command, CommandFactory};
use dromia_cli::GlobalOptions;

use crate::ProgramArguments;

/// The commands in the order in which a newcomer needs them; a row may name several.
const GROUPS: [(&str, &[&str]); 8] = [
    ("Start", &["init", "up", "demo", "service"]),
    ("Talk", &["ask", "chat", "event"]),
    ("Agents", &["agent", "template, role", "tool", "file"]),
    ("Runs", &["run", "session", "retention", "worker", "delivery"]),
    ("Safety", &["approval", "policy", "capability", "secret", "sandbox"]),
    ("Money", &["cost, budget"]),
    (
        "Operate",
        &[
            "status", "whoami", "context", "doctor", "config", "provider", "model", "tenant", "token",
            "audit", "backup", "migrate",
        ],
    ),
    ("Help", &["docs, explain", "completions", "version, help"]),
];

/// The widths of the columns with the heading and with the command.
const HEADING_WIDTH: usize = 9;
const NAME_WIDTH: usize = 15;

/// The page of a command: examples come last, because they are what a reader copies.
const LAYOUT: &str = "{about-with-newline}\n{usage-heading} {usage}\n\n{all-args}\n\n\
                      `dromia help options` lists the options that every command takes.{after-help}";

/// Returns the command tree with the pages that `--help` prints.
pub(crate) fn program_command() -> Command {
    let command = ProgramArguments::command().mut_subcommands(lay_out);
    let page = overview_page(&command);
    command.override_help(page)
}

/// Returns a command whose help lists the options that every command takes.
pub(super) fn options_command() -> Command {
    GlobalOptions::augment_args(Command::new("dromia"))
        .mut_args(|option| option.hide_short_help(false))
        .about("The options that every command takes, before or after its name")
        .version(env!("CARGO_PKG_VERSION"))
        // The flag that clap adds promises a longer page.
        .disable_help_flag(true)
        .arg(Arg::new("help").short('h').long("help").action(ArgAction::HelpShort).help("Print help"))
        .help_template("{about-with-newline}\n{all-args}{after-help}")
        .after_help("Examples:\n  dromia run list --json=id,status\n  dromia run list --jq '.items[].id'\n  dromia -T acme agent list -o jsonl")
}

fn lay_out(command: Command) -> Command {
    command.help_template(LAYOUT).mut_subcommands(lay_out)
}

/// Writes the page of bare `dromia`.
fn overview_page(command: &Command) -> StyledStr {
    let (heading_style, name_style) = (Style::new().bold().underline(), Style::new().bold());
    let styled = |text: &str, style: Style, width: usize| {
        let padding = " ".repeat(width.saturating_sub(text.len()));
        format!("{style}{text}{style:#}{padding}")
    };
    let mut page = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = write!(
        page,
        "\n{} dromia <COMMAND> [OPTIONS] (dromia help options lists them)",
        styled("Usage:", heading_style, 0)
    );
    for (heading, names) in GROUPS {
        page.push('\n');
        let mut heading = styled(heading, heading_style, HEADING_WIDTH);
        let rows = names.iter().map(|names| {
            let about = row_about(command, names);
            let name = styled(names, name_style, NAME_WIDTH);
            format!("{}{name}{about}", std::mem::replace(&mut heading, " ".repeat(HEADING_WIDTH)))
        });
        page.push_str(&rows.collect::<Vec<_>>().join("\n"));
    }
    page.push_str("\nExample: dromia init && dromia up. Topics: dromia help --help");
    page.into()
}

/// Says what the commands of a row do.
fn row_about(command: &Command, names: &str) -> String {
    let rows = names.split(", ").filter_map(|name| command.find_subcommand(name));
    let abouts: Vec<_> = rows.filter_map(|row| row.get_about()).map(ToString::to_string).collect();
    let first = abouts.first().cloned().unwrap_or_default();
    abouts.iter().skip(1).fold(first, |said, about| {
        let (head, rest) = about.split_at(about.char_indices().nth(1).map_or(about.len(), |(at, _)| at));
        format!("{said}; {}{rest}", head.to_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use clap::error::ErrorKind;

    use super::*;

    /// The most columns of a line of help that does not wrap.
    const COLUMNS_MAX: usize = 80;

    /// Every visible command below one, with the words that name it.
    fn below<'tree>(command: &'tree Command, path: &str) -> Vec<(String, &'tree Command)> {
        let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
        let named = visible.map(|command| (format!("{path} {}", command.get_name()), command));
        named
            .flat_map(|(path, command)| [vec![(path.clone(), command)], below(command, &path)].concat())
            .collect()
    }

    /// The lines of the examples, which are the last paragraph of a page.
    fn examples(command: &Command) -> Option<String> {
        let help = command.get_after_help()?.to_string();
        let last = help.rsplit("\n\n").next()?;
        let lines = last.strip_prefix("Examples:\n").or_else(|| last.strip_prefix("Example:\n"))?;
        lines.lines().all(|line| line.starts_with("  ")).then(|| lines.to_owned())
    }

    /// The words of the call of this program in a line for a shell.
    fn called(line: &str) -> Vec<String> {
        let begin = line.find("dromia").expect("an example calls this program");
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        let mut letters = line[begin..].chars();
        while let Some(letter) = letters.next() {
            match (letter, quote) {
                ('\\', Some('"') | None) => word.extend(letters.next().filter(|letter| *letter != '\n')),
                ('"' | '\'', None) => quote = Some(letter),
                (_, Some(open)) if letter == open => quote = None,
                ('|' | '<' | '>' | '&' | ';' | ')' | '\n', None) => break,
                ('#', None) if word.is_empty() => break,
                (' ', None) => words.push(std::mem::take(&mut word)),
                // An id that an example cuts short.
                ('…', _) => word.push_str("000000000000000000000000"),
                _ => word.push(letter),
            }
        }
        words.push(word);
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn bare_help_lists_every_command_once_on_lines_that_fit() {
        let command = program_command();
        let rows = GROUPS.iter().flat_map(|(_, names)| names.iter());
        let mut listed: Vec<_> = rows.flat_map(|names| names.split(", ")).collect();
        let mut known: Vec<_> =
            command.get_subcommands().filter(|one| !one.is_hide_set()).map(Command::get_name).collect();
        listed.sort_unstable();
        known.sort_unstable();
        assert_eq!(listed, known);
        let page = overview_page(&command).to_string();
        for line in page.lines() {
            assert!(line.chars().count() <= COLUMNS_MAX, "{line}");
        }
    }

    #[test]
    fn every_page_ends_with_examples_that_the_program_accepts() {
        let root = program_command();
        for (path, command) in below(&root, "dromia") {
            let examples = examples(command).unwrap_or_else(|| panic!("{path} does not end with an example"));
            for line in examples.lines() {
                assert!(line.chars().count() <= COLUMNS_MAX, "{path}: {line}");
            }
            for line in examples.replace("\\\n", "").lines() {
                let words = called(line);
                let read = program_command().try_get_matches_from(&words);
                assert!(read.is_ok(), "{path}: {words:?}: {}", read.unwrap_err());
            }
            let own: Vec<_> = path.split(' ').skip(1).collect();
            assert!(examples.contains(own[0]), "{path} has the examples of another command");
        }
    }

    /// The calls of this program in the blocks for a shell of a page, each from its line on.
    fn page_calls(page: &str) -> impl Iterator<Item = &str> {
        let blocks = page.split("\n```").filter_map(|block| block.strip_prefix("sh\n"));
        blocks.flat_map(|block| {
            let starts = block.match_indices("dromia ").map(|(at, _)| at);
            starts
                .filter(|at| {
                    *at == 0 || block[..*at].ends_with(['\n', '|', '(']) || block[..*at].ends_with("| ")
                })
                .map(|at| &block[at..])
        })
    }

    /// What is wrong with a call that a page shows; a word in capitals is a place for an id or a name.
    fn call_problem(call: &str) -> Option<String> {
        let words = called(call);
        let error = program_command().try_get_matches_from(&words).err()?;
        let is_capital =
            |word: &String| word.len() > 1 && word.chars().all(|letter| letter.is_ascii_uppercase());
        let is_fillable = error.kind() == ErrorKind::ValueValidation && words.iter().any(is_capital);
        (!is_fillable && error.kind() != ErrorKind::DisplayHelp).then(|| format!("{words:?}: {error}"))
    }

    #[test]
    fn the_program_accepts_every_command_of_every_page() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let docs = fs::read_dir(root.join("docs")).expect("the pages");
        let pages = docs.map(|page| page.expect("a page").path()).chain([root.join("README.md")]);
        let (mut calls, mut problems) = (0, Vec::new());
        for page in pages.filter(|page| page.extension().is_some_and(|ending| ending == "md")) {
            let text = fs::read_to_string(&page).expect("it is text");
            calls += page_calls(&text).count();
            let found = page_calls(&text).filter_map(call_problem);
            problems.extend(found.map(|problem| format!("{}: {problem}", page.display())));
        }
        assert!(calls > 100, "{calls} calls are too few");
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    #[test]
    fn a_page_with_a_command_that_is_gone_is_caught() {
        let page = "Text with `dromia gone`.\n\n```sh\necho x | dromia ask -   # dromia gone\ndromia gone RUN\n```\n";
        let problems: Vec<_> = page_calls(page).filter_map(call_problem).collect();
        assert!(problems.len() == 1 && problems[0].contains("\"gone\", \"RUN\""), "{problems:?}");
        assert_eq!(call_problem("dromia run show RUN"), None);
    }

    #[test]
    fn a_page_without_an_example_is_caught() {
        assert_eq!(examples(&Command::new("bare")), None);
        assert_eq!(examples(&Command::new("late").after_help("Examples:\n  dromia up\n\nA note.")), None);
        let good = Command::new("good").after_help("A note.\n\nExamples:\n  dromia up\n  dromia up -y");
        assert_eq!(examples(&good).as_deref(), Some("  dromia up\n  dromia up -y"));
    }

    #[test]
    fn an_example_line_is_cut_to_its_dromia_call() {
        assert_eq!(called("  git diff | dromia ask --agent r -"), ["dromia", "ask", "--agent", "r", "-"]);
        assert_eq!(called("  dromia ask \"a b\" > out"), ["dromia", "ask", "a b"]);
        assert_eq!(called("  dromia ask 'a=[\"b\"]' && echo"), ["dromia", "ask", "a=[\"b\"]"]);
    }
}
