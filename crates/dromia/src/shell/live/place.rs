//! What goes at a place of the command line, read off the command tree and one table.

use std::collections::BTreeMap;

use clap::{Arg, Command, CommandFactory};

use crate::Arguments;

/// What goes at a place of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Agent,
    Session,
    Run,
    Tenant,
    Token,
    Model,
    Provider,
    Tool,
}

/// Options that mean the same wherever they stand.
const OPTIONS: [(&str, Kind); 3] =
    [("agent", Kind::Agent), ("tenant", Kind::Tenant), ("session", Kind::Session)];

/// Arguments of one command each.
const PLACES: [(&str, &str, Kind); 30] = [
    ("agent create", "model", Kind::Model),
    ("agent show", "name", Kind::Agent),
    ("agent status", "name", Kind::Agent),
    ("agent delete", "name", Kind::Agent),
    ("agent pause", "name", Kind::Agent),
    ("agent resume", "name", Kind::Agent),
    ("agent terminate", "name", Kind::Agent),
    ("agent switch", "name", Kind::Agent),
    ("agent spawn", "name", Kind::Agent),
    ("agent tasks", "name", Kind::Agent),
    ("agent kill", "name", Kind::Agent),
    ("agent kill", "run", Kind::Run),
    ("session show", "id", Kind::Session),
    ("session export", "id", Kind::Session),
    ("run show", "id", Kind::Run),
    ("run watch", "id", Kind::Run),
    ("run why", "id", Kind::Run),
    ("run resume", "id", Kind::Run),
    ("run cancel", "id", Kind::Run),
    ("run terminate", "id", Kind::Run),
    ("run export", "id", Kind::Run),
    ("cost show", "id", Kind::Run),
    ("token revoke", "name", Kind::Token),
    ("model test", "alias", Kind::Model),
    ("model route show", "alias", Kind::Model),
    ("provider test", "name", Kind::Provider),
    ("provider remove", "name", Kind::Provider),
    ("tool show", "name", Kind::Tool),
    ("tool call", "name", Kind::Tool),
    ("tool test", "name", Kind::Tool),
];

/// A place of the command line, and what stands before it that matters there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) kind: Kind,
    /// Values of options, by their ids.
    pub(super) given: BTreeMap<String, String>,
}

/// Finds what goes where `typed` stands.
pub(super) fn place(before: &[String], typed: &str) -> Option<Place> {
    if typed.starts_with('-') {
        return None;
    }
    let mut root = Arguments::command();
    root.build();
    let (mut at, mut path, mut positionals) = (&root, Vec::new(), 0);
    let mut given = BTreeMap::new();
    let mut open: Option<&Arg> = None;
    for word in before {
        if word == "=" && open.is_some() {
            // Bash takes `--agent=ops` apart into three words.
        } else if let Some(option) = open.take() {
            given.insert(option.get_id().to_string(), word.clone());
        } else if word == "--" {
            return None;
        } else if let Some((option, value)) = option(at, word) {
            match value {
                Some(value) => drop(given.insert(option.get_id().to_string(), value.to_owned())),
                None if takes_next(option) => open = Some(option),
                None => {}
            }
        } else if word.starts_with('-') {
            // An option that nobody knows.
        } else if let Some(below) = at.find_subcommand(word) {
            (at, positionals) = (below, 0);
            path.push(below.get_name());
        } else {
            positionals += 1;
        }
    }
    let kind = match open {
        Some(option) => kind(&path.join(" "), option.get_id().as_str(), true)?,
        None => kind(&path.join(" "), at.get_positionals().nth(positionals)?.get_id().as_str(), false)?,
    };
    Some(Place { kind, given })
}

fn kind(path: &str, argument: &str, is_option: bool) -> Option<Kind> {
    let own = PLACES.iter().find(|(command, id, _)| (*command, *id) == (path, argument));
    let common = OPTIONS.iter().find(|(id, _)| is_option && *id == argument);
    own.map(|(.., kind)| *kind).or(common.map(|(_, kind)| *kind))
}

/// Finds the option that a word is, with the value that is written into it.
fn option<'tree, 'word>(at: &'tree Command, word: &'word str) -> Option<(&'tree Arg, Option<&'word str>)> {
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let option = at.get_arguments().find(|option| option.get_long() == Some(name))?;
        return Some((option, value));
    }
    let mut letters = word.strip_prefix('-')?.chars();
    let (letter, rest) = (letters.next()?, letters.as_str());
    let option = at.get_arguments().find(|option| option.get_short() == Some(letter))?;
    Some((option, (!rest.is_empty()).then_some(rest)))
}

/// Whether the word after an option is its value.
fn takes_next(option: &Arg) -> bool {
    option.get_action().takes_values() && !option.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &str) -> Option<Kind> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (typed, before) = words.split_last().expect("a word");
        place(before, typed).map(|place| place.kind)
    }

    #[test]
    fn what_goes_at_a_place_is_known_from_the_words_before() {
        let table = [
            ("agent show ", Some(Kind::Agent)),
            ("agents get as", Some(Kind::Agent)),
            ("agent create ", None),
            ("agent create ops --model ", Some(Kind::Model)),
            ("agent show ops ", None),
            ("--agent ", Some(Kind::Agent)),
            ("ask hello --agent ", Some(Kind::Agent)),
            ("ask --agent ops ", None),
            ("ask --json --session ", Some(Kind::Session)),
            ("ask ", None),
            ("-T ", Some(Kind::Tenant)),
            ("-T acme run show ", Some(Kind::Run)),
            ("-Tacme runs get run_", Some(Kind::Run)),
            ("run list --tenant=acme ", None),
            ("ask --agent =", Some(Kind::Agent)),
            ("ask --agent = o", Some(Kind::Agent)),
            ("--tenant = acme run show ", Some(Kind::Run)),
            ("ask = ", None),
            ("cost show ", Some(Kind::Run)),
            ("tokens rm ", Some(Kind::Token)),
            ("token create ", None),
            ("model route show ", Some(Kind::Model)),
            ("provider remove ", Some(Kind::Provider)),
            ("run show --ou", None),
            ("", None),
            ("no such command ", None),
            ("ask -- ", None),
        ];
        for (line, kind) in table {
            assert_eq!(at(line), kind, "{line:?}");
        }
    }

    #[test]
    fn every_place_of_the_table_is_in_the_tree() {
        let mut root = Arguments::command();
        root.build();
        for (path, argument, _) in PLACES {
            let command = path.split(' ').try_fold(&root, |at, word| at.find_subcommand(word));
            let known = command.is_some_and(|at| at.get_arguments().any(|one| one.get_id() == argument));
            assert!(known, "{path} has no {argument}");
        }
    }

    #[test]
    fn options_before_the_place_say_where_to_look() {
        for line in ["--home /h --tenant=acme run show", "--home = /h --tenant = acme run show"] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let place = place(&words, "").expect("a run goes there");
            let given: Vec<_> = place.given.iter().map(|(id, value)| (id.as_str(), value.as_str())).collect();
            assert_eq!(given, [("home", "/h"), ("tenant", "acme")], "{line}");
        }
    }
}
