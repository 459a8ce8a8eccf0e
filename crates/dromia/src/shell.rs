//! What a newcomer reads and a shell loads: help and its topics, completions, error codes, the version, the doctor.
//!
//! All of it is made from the command tree and from tables of the program; only names that exist are asked of a server,
//! if one answers (`live`).

mod color;
mod live;
mod topic;
mod usage;

use std::process::ExitCode;

use clap::{ArgMatches, Command, CommandFactory, Subcommand};
use dromia_api::List;
use dromia_cli::explain::nearest;
use dromia_cli::{Context, Error, Exit, Global, Outcome, Output};
use schemars::JsonSchema;
use serde::Serialize;

use crate::home::Home;
use crate::{Arguments, doctor, schemas};

pub(crate) use self::color::choose as choose_color;
pub(crate) use self::live::{complete, wanted as words_to_complete};
pub(crate) use self::usage::refused;

/// Commands about this program itself.
#[derive(Debug, Subcommand)]
pub(crate) enum ShellCommand {
    /// Look for what keeps a home from working, and say how to mend it
    Doctor(doctor::DoctorArguments),
    /// Say what an error code or a rule means and what to do; list them all without one
    #[command(
        after_help = "Examples:\n  dromia explain overloaded\n  dromia explain policy-broken\n  dromia explain --json=code,retry"
    )]
    Explain {
        /// The code, as an error prints it, or the rule, as a refusal or `dromia policy explain` names it
        code: Option<String>,
    },
    /// Print completions for a shell; bash, zsh and fish ask for names and ids that exist too
    #[command(
        after_help = "Examples:\n  dromia completions bash > ~/.local/share/bash-completion/completions/dromia\n  dromia completions zsh > ~/.zfunc/_dromia\n  dromia completions fish > ~/.config/fish/completions/dromia.fish"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    #[command(after_help = "Examples:\n  dromia version\n  dromia version --json")]
    Version,
    /// Print help about a command or a topic: exit-codes, environment, commands, schemas
    #[command(
        after_help = "Examples:\n  dromia help run watch\n  dromia help exit-codes\n  dromia help environment\n  dromia help commands\n  dromia help schemas run list"
    )]
    Help {
        /// The command, or the topic
        words: Vec<String>,
    },
}

/// What `dromia version` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct About {
    /// The program's name.
    name: &'static str,
    /// Its version.
    version: &'static str,
    /// The system it was made for.
    system: String,
}

/// One command of the tree.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Row {
    /// The command as it is typed.
    command: String,
    /// What it does.
    about: String,
    /// Other words for its last one.
    aliases: Vec<String>,
    /// Whether it does something itself, and is no group of commands.
    is_leaf: bool,
    /// Whether `dromia help schemas COMMAND` knows what it prints with `--json`.
    has_schema: bool,
}

/// Runs one of the commands.
pub(crate) fn run(
    command: ShellCommand,
    home: &Home,
    global: &Global,
    matches: &ArgMatches,
) -> anyhow::Result<ExitCode> {
    let mut path = schemas::command(matches);
    if let ShellCommand::Help { words } = &command {
        // A topic is no command of the tree, but it has a document of its own.
        path.extend(words.first().map(|word| format!(" {word}")));
    }
    let context = &mut schemas::context(&path);
    let told = match command {
        ShellCommand::Doctor(arguments) => return doctor::run(home, &arguments, global, context),
        ShellCommand::Explain { code } => {
            return Ok(ExitCode::from(dromia_cli::explain::run(code.as_deref(), global, context).code()));
        }
        ShellCommand::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "dromia", &mut script);
            let script = live::hooked(shell, String::from_utf8_lossy(&script).into_owned());
            print(global, context, |output| output.line(script.trim_end()))
        }
        ShellCommand::Version => print(global, context, |output| {
            let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
            let about = About { name: "dromia", version: env!("CARGO_PKG_VERSION"), system };
            output.show(&about, |about| format!("{} {}", about.name, about.version))
        }),
        ShellCommand::Help { words } => print(global, context, |output| help(&words, output)),
    };
    Ok(ExitCode::from(told.code()))
}

/// Prints by `what`, or tells why not.
fn print(global: &Global, context: &mut Context, what: impl FnOnce(&mut Output<'_>) -> Outcome) -> Exit {
    let mut output = Output::of_local(context, global);
    match output.check().and_then(|()| what(&mut output)) {
        Ok(()) => Exit::Done,
        Err(error) => {
            output.tell(&error);
            error.exit()
        }
    }
}

fn help(words: &[String], output: &mut Output<'_>) -> Outcome {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["exit-codes"] => output.line(&Exit::topic()),
        ["environment"] => output.line(&topic::environment()),
        ["commands"] => commands(output),
        ["schemas", ref command @ ..] => schema(&command.join(" "), output),
        _ => help_of(&words, output),
    }
}

/// The whole tree, hidden commands apart.
fn tree() -> Vec<Row> {
    fn below(command: &Command, path: &str, documents: &[&str], rows: &mut Vec<Row>) {
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let path = if path.is_empty() {
                command.get_name().to_owned()
            } else {
                format!("{path} {}", command.get_name())
            };
            rows.push(Row {
                about: command.get_about().map(ToString::to_string).unwrap_or_default(),
                aliases: command.get_visible_aliases().map(str::to_owned).collect(),
                // A command whose only subcommands are hidden does its work itself.
                is_leaf: command.get_subcommands().all(Command::is_hide_set),
                has_schema: documents.contains(&path.as_str()),
                command: path.clone(),
            });
            below(command, &path, documents, rows);
        }
    }
    let published = schemas::published();
    let documents: Vec<_> = published.iter().map(|one| one.command).collect();
    let mut rows = Vec::new();
    below(&Arguments::command(), "", &documents, &mut rows);
    rows
}

fn commands(output: &mut Output<'_>) -> Outcome {
    let rows = tree();
    if output.is_json() {
        return output.document(&List { items: rows, next: None });
    }
    let rows = rows.into_iter().map(|row| vec![row.command, row.about]);
    output.table(&["command", "about"], rows.collect())
}

fn schema(command: &str, output: &mut Output<'_>) -> Outcome {
    let published = schemas::published();
    if command.is_empty() {
        let names: Vec<_> = published.iter().map(|one| one.command).collect();
        return output.line(&names.join("\n"));
    }
    if let Some(one) = published.iter().find(|one| one.command == command) {
        return output.document(&one.schema());
    }
    let hint = nearest(command, published.iter().map(|one| one.command));
    let hint = hint.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Err(Error::Usage(format!("no command {command:?} prints a document{hint}")))
}

/// Prints the help of a command, as `COMMAND --help` does.
fn help_of(words: &[&str], output: &mut Output<'_>) -> Outcome {
    let mut root = Arguments::command();
    root.build();
    let mut at = &mut root;
    for word in words {
        let names: Vec<_> = at.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        let topics = topic::NAMES.iter().copied().filter(|_| words.len() == 1);
        let Some(below) = at.find_subcommand_mut(word) else {
            let hint = nearest(word, names.iter().map(String::as_str).chain(topics));
            let hint = hint.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(Error::Usage(format!("there is no command or topic {word:?}{hint}")));
        };
        at = below;
    }
    let help = at.render_long_help();
    let help = if output.is_colored() { help.ansi().to_string() } else { help.to_string() };
    output.painted_lines(help.trim_end())
}

/// The foot of `dromia --help`.
pub(crate) fn foot() -> String {
    format!(
        "Start here:\n  \
         dromia demo              see a turn survive kill -9, offline, in half a minute\n  \
         dromia init && dromia up make a home and serve it\n  \
         dromia ask \"hello\"       ask its agent\n  \
         dromia doctor            find what is wrong, and how to mend it\n\n\
         {}\nMore: dromia help exit-codes, environment, commands, schemas",
        Exit::footer()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_prints_a_document_is_in_the_tree() {
        let rows = tree();
        for one in schemas::published() {
            let known = rows.iter().any(|row| row.is_leaf && row.command == one.command);
            let apart =
                ["error", "status --all", "config show --origin", "help commands"].contains(&one.command);
            assert!(known != apart, "{}", one.command);
        }
    }

    #[test]
    fn the_foot_of_the_help_names_what_a_newcomer_needs() {
        insta::assert_snapshot!(foot(), @r#"
        Start here:
          dromia demo              see a turn survive kill -9, offline, in half a minute
          dromia init && dromia up make a home and serve it
          dromia ask "hello"       ask its agent
          dromia doctor            find what is wrong, and how to mend it

        Exit codes: 0 done, 1 failed, 2 not valid, 4 denied, 5 no server, 6 conflict,
                    7 the run failed, 9 budget, 124 not in time, 130 interrupted
        More: dromia help exit-codes, environment, commands, schemas
        "#);
    }
}
