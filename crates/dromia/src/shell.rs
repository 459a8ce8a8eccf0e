//! What a newcomer reads and a shell loads: help and its topics, completions, error codes, the version, the doctor.
//!
//! All of it is made from the command tree and from tables of the program; only names that exist are asked of a server,
//! if one answers (`live`).

mod bare;
mod color;
mod completion;
mod docs;
pub(crate) mod json_output;
mod page;
mod topic;
mod usage;

use std::process::ExitCode;

use clap::{ArgMatches, Command, CommandFactory, Subcommand};
use dromia_api::ListPage;
use dromia_cli::nearest_word;
use dromia_cli::{CommandContext, CommandExit, CommandOutput, Error, GlobalOptions, Outcome};

use crate::home::Home;
use crate::{ProgramArguments, doctor, schemas};

use self::json_output::{CommandRow, VersionInfo};

pub(crate) use self::bare::run_bare;
pub(crate) use self::color::set_color_choice as choose_color;
pub(crate) use self::completion::{completion_words as words_to_complete, print_completions};
pub(crate) use self::docs::DocsPage;
pub(crate) use self::page::program_command;
pub(crate) use self::usage::report_usage_error;

/// Commands about this program itself.
#[derive(Debug, Subcommand)]
pub(crate) enum ShellCommand {
    /// Find problems with a home and suggest fixes
    Doctor(doctor::DoctorArguments),
    /// Explain an error code or a rule
    #[command(
        after_help = "Examples:\n  dromia explain overloaded\n  dromia explain policy-broken\n  dromia explain --json=code,retry"
    )]
    Explain {
        /// The code that an error prints, or the rule that `dromia policy explain` names [default: list all]
        code: Option<String>,
    },
    /// Read the documentation
    #[command(after_help = "Examples:\n  dromia docs\n  dromia docs budgets\n  dromia docs policy | less")]
    Docs {
        /// The page [default: list all]
        page: Option<String>,
    },
    /// Print a completion script for a shell
    #[command(
        after_help = "The scripts of bash, zsh and fish also complete names and ids that exist.\n\nExamples:\n  dromia completions bash > ~/.local/share/bash-completion/completions/dromia\n  dromia completions zsh > ~/.zfunc/_dromia\n  dromia completions fish > ~/.config/fish/completions/dromia.fish"
    )]
    Completions {
        /// The shell that loads the script
        shell: clap_complete::Shell,
    },
    /// Print the version
    #[command(after_help = "Examples:\n  dromia version\n  dromia version --json")]
    Version,
    /// Print help for a command or a topic
    #[command(
        after_help = "Topics:\n  options      the options that every command takes\n  commands     every command with what it does\n  environment  the variables that dromia reads\n  exit-codes   what a script learns from the exit code\n  schemas      the commands that print JSON, and the schema of each\n\nExamples:\n  dromia help run watch\n  dromia help options\n  dromia help schemas run list"
    )]
    Help {
        /// The command or the topic
        #[arg(value_name = "COMMAND|TOPIC")]
        words: Vec<String>,
    },
}

/// Runs one of the commands.
pub(crate) fn run(
    command: ShellCommand,
    home: &Home,
    global: &GlobalOptions,
    matches: &ArgMatches,
) -> anyhow::Result<ExitCode> {
    let mut path = schemas::canonical_command(matches);
    if let ShellCommand::Help { words } = &command {
        // A topic is no command of the tree, but it has a document of its own.
        path.extend(words.first().map(|word| format!(" {word}")));
    }
    let context = &mut schemas::context_for_command(&path);
    let told = match command {
        ShellCommand::Doctor(arguments) => return doctor::run(home, &arguments, global, context),
        ShellCommand::Explain { code } => {
            return Ok(ExitCode::from(
                dromia_cli::explain::run_explain(code.as_deref(), global, context).exit_code(),
            ));
        }
        ShellCommand::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut ProgramArguments::command(), "dromia", &mut script);
            let script =
                completion::add_completion_hook(shell, String::from_utf8_lossy(&script).into_owned());
            print_with(global, context, |output| output.print_line(script.trim_end()))
        }
        ShellCommand::Docs { page } => {
            print_with(global, context, |output| docs::print_docs(page.as_deref(), output))
        }
        ShellCommand::Version => print_with(global, context, |output| {
            let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
            let about = VersionInfo { name: "dromia", version: env!("CARGO_PKG_VERSION"), system };
            output.print_result(&about, |about| format!("{} {}", about.name, about.version))
        }),
        ShellCommand::Help { words } => print_with(global, context, |output| print_help(&words, output)),
    };
    Ok(ExitCode::from(told.exit_code()))
}

/// Prints by `what`, or tells why not.
fn print_with(
    global: &GlobalOptions,
    context: &mut CommandContext,
    what: impl FnOnce(&mut CommandOutput<'_>) -> Outcome,
) -> CommandExit {
    let mut output = CommandOutput::of_local(context, global);
    match output.check_format().and_then(|()| what(&mut output)) {
        Ok(()) => CommandExit::Done,
        Err(error) => {
            output.print_error(&error);
            error.command_exit()
        }
    }
}

fn print_help(words: &[String], output: &mut CommandOutput<'_>) -> Outcome {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["options"] => print_page(&mut page::options_command(), output),
        ["exit-codes"] => output.print_line(&CommandExit::help_topic()),
        ["environment"] => output.print_line(&topic::environment_page()),
        ["commands"] => list_commands(output),
        ["schemas", ref command @ ..] => print_schema(&command.join(" "), output),
        _ => help_of(&words, output),
    }
}

/// The whole tree, hidden commands apart.
fn command_tree() -> Vec<CommandRow> {
    fn collect_subcommands(command: &Command, path: &str, documents: &[&str], rows: &mut Vec<CommandRow>) {
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let path = if path.is_empty() {
                command.get_name().to_owned()
            } else {
                format!("{path} {}", command.get_name())
            };
            rows.push(CommandRow {
                about: command.get_about().map(ToString::to_string).unwrap_or_default(),
                aliases: command.get_visible_aliases().map(str::to_owned).collect(),
                // A command whose only subcommands are hidden does its work itself.
                is_leaf: command.get_subcommands().all(Command::is_hide_set),
                has_schema: documents.contains(&path.as_str()),
                command: path.clone(),
            });
            collect_subcommands(command, &path, documents, rows);
        }
    }
    let published = schemas::published_schemas();
    let documents: Vec<_> = published.iter().map(|one| one.command).collect();
    let mut rows = Vec::new();
    collect_subcommands(&ProgramArguments::command(), "", &documents, &mut rows);
    rows
}

fn list_commands(output: &mut CommandOutput<'_>) -> Outcome {
    let rows = command_tree();
    if output.is_json() {
        return output.print_document(&ListPage { items: rows, next: None });
    }
    let rows = rows.into_iter().map(|row| vec![row.command, row.about]);
    output.print_table(&["command", "about"], rows.collect())
}

fn print_schema(command: &str, output: &mut CommandOutput<'_>) -> Outcome {
    let published = schemas::published_schemas();
    if command.is_empty() {
        let names: Vec<_> = published.iter().map(|one| one.command).collect();
        return output.print_line(&names.join("\n"));
    }
    if let Some(one) = published.iter().find(|one| one.command == command) {
        return output.print_document(&one.json_schema());
    }
    let hint = nearest_word(command, published.iter().map(|one| one.command));
    let hint = hint.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Err(Error::Usage(format!("no command {command:?} prints a document{hint}")))
}

/// Prints the help of a command, as `COMMAND --help` does.
fn help_of(words: &[&str], output: &mut CommandOutput<'_>) -> Outcome {
    let mut root = program_command();
    root.build();
    let mut at = &mut root;
    for word in words {
        let names: Vec<_> = at.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        let topics = topic::NAMES.iter().copied().filter(|_| words.len() == 1);
        let Some(below) = at.find_subcommand_mut(word) else {
            let hint = nearest_word(word, names.iter().map(String::as_str).chain(topics));
            let hint = hint.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(Error::Usage(format!("there is no command or topic {word:?}{hint}")));
        };
        at = below;
    }
    print_page(at, output)
}

fn print_page(command: &mut Command, output: &mut CommandOutput<'_>) -> Outcome {
    let help = command.render_help();
    let help = if output.is_colored() { help.ansi().to_string() } else { help.to_string() };
    output.painted_lines(help.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_prints_a_document_is_in_the_tree() {
        let rows = command_tree();
        for one in schemas::published_schemas() {
            let known = rows.iter().any(|row| row.is_leaf && row.command == one.command);
            let apart = ["error", "status --all", "status --node", "config show --origin", "help commands"]
                .contains(&one.command);
            assert!(known != apart, "{}", one.command);
        }
    }
}
