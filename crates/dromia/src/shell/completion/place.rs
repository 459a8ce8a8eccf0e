//! What goes at a place of the command line, read off the command tree and one table.

use std::collections::BTreeMap;

use clap::{Arg, Command, CommandFactory};

use crate::ProgramArguments;

/// What goes at a place of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompletionKind {
    Agent,
    Session,
    Run,
    Tenant,
    Token,
    Model,
    Provider,
    Tool,
    Approval,
    ApprovalRule,
    Budget,
    Secret,
    Delivery,
    Capability,
    Page,
    Template,
    Role,
}

/// Options that mean the same at every place.
const OPTIONS: [(&str, CompletionKind); 3] = [
    ("agent", CompletionKind::Agent),
    ("tenant", CompletionKind::Tenant),
    ("session", CompletionKind::Session),
];

/// Arguments of one command each.
const PLACES: [(&str, &str, CompletionKind); 62] = [
    ("docs", "page", CompletionKind::Page),
    ("agent create", "model", CompletionKind::Model),
    ("agent create", "template", CompletionKind::Template),
    ("template show", "name", CompletionKind::Template),
    ("role show", "name", CompletionKind::Role),
    ("agent show", "name", CompletionKind::Agent),
    ("agent status", "name", CompletionKind::Agent),
    ("agent delete", "name", CompletionKind::Agent),
    ("agent pause", "name", CompletionKind::Agent),
    ("agent resume", "name", CompletionKind::Agent),
    ("agent terminate", "name", CompletionKind::Agent),
    ("agent switch", "name", CompletionKind::Agent),
    ("agent spawn", "name", CompletionKind::Agent),
    ("agent tasks", "name", CompletionKind::Agent),
    ("agent identity list", "name", CompletionKind::Agent),
    ("agent identity show", "name", CompletionKind::Agent),
    ("agent identity edit", "name", CompletionKind::Agent),
    ("agent identity remove", "name", CompletionKind::Agent),
    ("agent identity diff", "name", CompletionKind::Agent),
    ("agent identity history", "name", CompletionKind::Agent),
    ("agent kill", "name", CompletionKind::Agent),
    ("agent kill", "run", CompletionKind::Run),
    ("session show", "id", CompletionKind::Session),
    ("worker show", "id", CompletionKind::Session),
    ("worker send", "id", CompletionKind::Session),
    ("worker cancel", "id", CompletionKind::Session),
    ("worker list", "session", CompletionKind::Session),
    ("session delete", "id", CompletionKind::Session),
    ("session hold", "id", CompletionKind::Session),
    ("session export", "id", CompletionKind::Session),
    ("run show", "id", CompletionKind::Run),
    ("run watch", "id", CompletionKind::Run),
    ("run tree", "id", CompletionKind::Run),
    ("run why", "id", CompletionKind::Run),
    ("run resume", "id", CompletionKind::Run),
    ("run cancel", "id", CompletionKind::Run),
    ("run terminate", "id", CompletionKind::Run),
    ("run export", "id", CompletionKind::Run),
    ("cost show", "id", CompletionKind::Run),
    ("token revoke", "name", CompletionKind::Token),
    ("model test", "alias", CompletionKind::Model),
    ("model route show", "alias", CompletionKind::Model),
    ("provider test", "name", CompletionKind::Provider),
    ("provider remove", "name", CompletionKind::Provider),
    ("tool show", "name", CompletionKind::Tool),
    ("tool call", "name", CompletionKind::Tool),
    ("tool test", "name", CompletionKind::Tool),
    ("approval show", "id", CompletionKind::Approval),
    ("approval approve", "ids", CompletionKind::Approval),
    ("approval deny", "ids", CompletionKind::Approval),
    ("approval rule remove", "name", CompletionKind::ApprovalRule),
    ("budget set", "name", CompletionKind::Budget),
    ("budget remove", "name", CompletionKind::Budget),
    ("secret rotate", "name", CompletionKind::Secret),
    ("secret delete", "name", CompletionKind::Secret),
    ("delivery show", "id", CompletionKind::Delivery),
    ("delivery redrive", "id", CompletionKind::Delivery),
    ("capability grant", "name", CompletionKind::Agent),
    ("capability check", "name", CompletionKind::Agent),
    ("capability delegate", "capability", CompletionKind::Capability),
    ("capability delegate", "to", CompletionKind::Agent),
    ("capability revoke", "capability", CompletionKind::Capability),
];

/// A place of the command line, and the options before it that matter there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CompletionPlace {
    pub(super) kind: CompletionKind,
    /// Values of options, by their ids.
    pub(super) given: BTreeMap<String, String>,
}

/// Finds what kind of value completes `typed`.
pub(super) fn find_place(before: &[String], typed: &str) -> Option<CompletionPlace> {
    if typed.starts_with('-') {
        return None;
    }
    let mut root = ProgramArguments::command();
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
        } else if let Some((option, value)) = find_option(at, word) {
            match value {
                Some(value) => drop(given.insert(option.get_id().to_string(), value.to_owned())),
                None if takes_next(option) => open = Some(option),
                None => {}
            }
        } else if word.starts_with('-') {
            // An unknown option.
        } else if let Some(below) = at.find_subcommand(word) {
            (at, positionals) = (below, 0);
            path.push(below.get_name());
        } else {
            positionals += 1;
        }
    }
    let kind = match open {
        Some(option) => kind_for_argument(&path.join(" "), option.get_id().as_str(), true)?,
        None => {
            kind_for_argument(&path.join(" "), find_positional(at, positionals)?.get_id().as_str(), false)?
        }
    };
    Some(CompletionPlace { kind, given })
}

/// Finds the argument at a position; the last one may take several words.
fn find_positional(command: &Command, position: usize) -> Option<&Arg> {
    let takes_several = |last: &&Arg| last.get_num_args().is_some_and(|count| count.max_values() > 1);
    command.get_positionals().nth(position).or_else(|| command.get_positionals().last().filter(takes_several))
}

fn kind_for_argument(path: &str, argument: &str, is_option: bool) -> Option<CompletionKind> {
    let own = PLACES.iter().find(|(command, id, _)| (*command, *id) == (path, argument));
    let common = OPTIONS.iter().find(|(id, _)| is_option && *id == argument);
    own.map(|(.., kind)| *kind).or(common.map(|(_, kind)| *kind))
}

/// Finds the option that a word is, with the value that is written into it.
fn find_option<'tree, 'word>(
    at: &'tree Command,
    word: &'word str,
) -> Option<(&'tree Arg, Option<&'word str>)> {
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

    fn at(line: &str) -> Option<CompletionKind> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (typed, before) = words.split_last().expect("a word");
        find_place(before, typed).map(|place| place.kind)
    }

    #[test]
    fn the_completion_kind_follows_from_the_previous_words() {
        let table = [
            ("agent show ", Some(CompletionKind::Agent)),
            ("agents get as", Some(CompletionKind::Agent)),
            ("agent create ", None),
            ("agent create ops --model ", Some(CompletionKind::Model)),
            ("agent show ops ", None),
            ("--agent ", Some(CompletionKind::Agent)),
            ("ask hello --agent ", Some(CompletionKind::Agent)),
            ("ask --agent ops ", None),
            ("ask --json --session ", Some(CompletionKind::Session)),
            ("ask ", None),
            ("-T ", Some(CompletionKind::Tenant)),
            ("-T acme run show ", Some(CompletionKind::Run)),
            ("-Tacme runs get run_", Some(CompletionKind::Run)),
            ("run list --tenant=acme ", None),
            ("ask --agent =", Some(CompletionKind::Agent)),
            ("ask --agent = o", Some(CompletionKind::Agent)),
            ("--tenant = acme run show ", Some(CompletionKind::Run)),
            ("ask = ", None),
            ("cost show ", Some(CompletionKind::Run)),
            ("tokens rm ", Some(CompletionKind::Token)),
            ("token create ", None),
            ("model route show ", Some(CompletionKind::Model)),
            ("provider remove ", Some(CompletionKind::Provider)),
            ("approval approve apr_1 ", Some(CompletionKind::Approval)),
            ("approvals deny apr_", Some(CompletionKind::Approval)),
            ("budget remove ", Some(CompletionKind::Budget)),
            ("agent create scout --template ", Some(CompletionKind::Template)),
            ("role show ", Some(CompletionKind::Role)),
            ("secret rotate ", Some(CompletionKind::Secret)),
            ("run show --ou", None),
            ("", None),
            ("no such command ", None),
            ("docs ", Some(CompletionKind::Page)),
            ("ask -- ", None),
        ];
        for (line, kind) in table {
            assert_eq!(at(line), kind, "{line:?}");
        }
    }

    #[test]
    fn every_place_of_the_table_is_in_the_tree() {
        let mut root = ProgramArguments::command();
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
            let place = find_place(&words, "").expect("a run goes there");
            let given: Vec<_> = place.given.iter().map(|(id, value)| (id.as_str(), value.as_str())).collect();
            assert_eq!(given, [("home", "/h"), ("tenant", "acme")], "{line}");
        }
    }
}
