//! The words of a chat that begin with `/`: which there are, and what a typed line is.
//!
//! A line that only looks like one is not sent; a path is no command.

use crate::nearest_word::nearest_word;

/// What a person may ask of the chat itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlashCommand {
    Help,
    Model,
    Agent,
    New,
    Resume,
    Cost,
    Context,
    Compact,
    Workers,
    Files,
    Approve,
    Export,
    Output,
    Quit,
}

/// A command with its argument and what it does.
pub(super) struct SlashRow {
    pub(super) name: &'static str,
    argument: &'static str,
    about: &'static str,
    command: SlashCommand,
}

const fn row(
    name: &'static str,
    argument: &'static str,
    about: &'static str,
    command: SlashCommand,
) -> SlashRow {
    SlashRow { name, argument, about, command }
}

/// All of them, as `/help` lists them.
pub(super) const COMMANDS: [SlashRow; 14] = [
    row("/help", "", "show this page", SlashCommand::Help),
    row("/model", "[NAME]", "list the models, or set another one for the agent", SlashCommand::Model),
    row("/agent", "[NAME]", "list the agents, or talk to another one", SlashCommand::Agent),
    row("/new", "", "begin a new session", SlashCommand::New),
    row("/resume", "[N|SESSION]", "list sessions of the agent, or continue one", SlashCommand::Resume),
    row("/cost", "", "show the tokens and the cost of the session", SlashCommand::Cost),
    row("/context", "", "show how full the model's window is, and with what", SlashCommand::Context),
    row("/compact", "", "have the oldest half of the session summarized", SlashCommand::Compact),
    row("/workers", "", "list the branches and workers of the session", SlashCommand::Workers),
    row("/files", "[DIRECTORY]", "list the files of the agent's workspace", SlashCommand::Files),
    row("/approve", "[N|ID] [deny]", "list calls that wait, or approve or deny one", SlashCommand::Approve),
    row("/export", "FILE", "write the session to a file", SlashCommand::Export),
    row("/output", "[N]", "show all that the last call gave; 2 is the one before", SlashCommand::Output),
    row("/quit", "", "leave; Ctrl-D does the same", SlashCommand::Quit),
];

const KEYS: [(&str, &str); 7] = [
    ("Enter", "send"),
    ("Alt-Enter, \\ Enter", "begin a new line"),
    ("Tab", "complete a command or its argument"),
    ("Up, Down", "show what you sent before"),
    ("Ctrl-R", "search in what you sent before"),
    ("Ctrl-C", "clear the line, or cancel the turn; twice, leave"),
    ("Ctrl-Z", "suspend; `fg` comes back"),
];

/// What a person typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TypedLine<'line> {
    Nothing,
    Message(&'line str),
    Command(SlashCommand, &'line str),
    /// A word that begins like a command and is none.
    Unknown(&'line str),
}

/// Reads a line.
pub(super) fn parse_line(line: &str) -> TypedLine<'_> {
    let text = line.trim_end();
    if text.trim().is_empty() {
        return TypedLine::Nothing;
    }
    if let Some(rest) = text.strip_prefix('/').filter(|rest| rest.starts_with('/')) {
        return TypedLine::Message(rest);
    }
    let (word, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let known = COMMANDS.iter().find(|row| row.name == word || (word == "/exit" && row.name == "/quit"));
    if let Some(row) = known {
        return TypedLine::Command(row.command, argument.trim());
    }
    match word.strip_prefix('/') {
        Some(name) if !name.is_empty() && name.chars().all(char::is_alphabetic) => TypedLine::Unknown(word),
        _ => TypedLine::Message(text),
    }
}

/// Says that a word is no command, and which one may be meant.
pub(super) fn unknown_word_text(word: &str) -> String {
    let near = nearest_word(word, COMMANDS.iter().map(|row| row.name));
    let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    format!("{word} is not a command, and the line was not sent{near}; /help lists the commands")
}

/// The page of `/help`.
pub(super) fn help_page() -> String {
    let mut page = "dromia sends what you type to the agent, except".to_owned();
    for SlashRow { name, argument, about, .. } in &COMMANDS {
        page.extend(["\n  ", &format!("{:<22} {about}", format!("{name} {argument}"))]);
    }
    page.push_str("\nto send a line that begins with /, type // instead\nkeys");
    for (keys, about) in KEYS {
        page.extend(["\n  ", &format!("{keys:<22} {about}")]);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_unless_it_begins_with_a_command() {
        for (line, expected) in [
            ("  \n", TypedLine::Nothing),
            ("hello\n", TypedLine::Message("hello")),
            ("  fn f()\n    g()", TypedLine::Message("  fn f()\n    g()")),
            ("/output 2", TypedLine::Command(SlashCommand::Output, "2")),
            ("/exit", TypedLine::Command(SlashCommand::Quit, "")),
            ("//help", TypedLine::Message("/help")),
            ("/etc/hosts is odd", TypedLine::Message("/etc/hosts is odd")),
            ("/quti", TypedLine::Unknown("/quti")),
        ] {
            assert_eq!(parse_line(line), expected, "{line:?}");
        }
        assert!(unknown_word_text("/quti").contains("did you mean /quit?"));
        assert!(!unknown_word_text("/zzzzzzz").contains("mean"));
    }

    #[test]
    fn the_help_page_fits_eighty_columns() {
        let page = help_page();
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
        assert!(COMMANDS.iter().all(|row| page.contains(row.name)));
    }
}
