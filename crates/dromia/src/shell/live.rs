//! Completion of names and ids that exist: the shell hands over the words typed so far, and gets what can follow.
//!
//! What goes at a place is read off the command tree and one table. Names of a server are asked of it over its socket
//! with a short deadline; names of models and providers stand in the configuration. Whatever goes wrong gives nothing
//! and says nothing: a completion must not disturb a command line, and the shell then offers what it knows by itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use dromia_api::{List, TENANT_DEFAULT};
use dromia_cli::Client;
use dromia_tools::Toolbox;
use serde::Deserialize;

use crate::Arguments;
use crate::config::{self, SCRIPTED};
use crate::home::Home;

/// The word that asks for completions; it is no command of the tree, so no help and no script names it.
const WORD: &str = "__complete";
/// How long the server may take; a person waits.
const DEADLINE: Duration = Duration::from_millis(300);
/// Among how many rows the server's names are looked for.
const ROWS: usize = 256;
/// How many names are offered.
const NAMES_MAX: usize = 100;

/// What goes at a place of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
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
const PLACES: [(&str, &str, Kind); 26] = [
    ("agent create", "model", Kind::Model),
    ("agent show", "name", Kind::Agent),
    ("agent status", "name", Kind::Agent),
    ("agent delete", "name", Kind::Agent),
    ("agent pause", "name", Kind::Agent),
    ("agent resume", "name", Kind::Agent),
    ("agent terminate", "name", Kind::Agent),
    ("agent switch", "name", Kind::Agent),
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

/// Returns the words to complete, if that is what this process was started for.
pub(crate) fn wanted(arguments: impl IntoIterator<Item = OsString>) -> Option<Vec<String>> {
    let mut words = arguments.into_iter().skip(1);
    if words.next()? != WORD {
        return None;
    }
    Some(words.skip_while(|word| word == "--").map(|word| word.to_string_lossy().into_owned()).collect())
}

/// Prints what can stand in place of the last word, one per line.
pub(crate) fn complete(words: &[String]) {
    let Some((typed, before)) = words.split_last() else { return };
    let Some(place) = place(before, typed) else { return };
    // Of `--agent=` bash hands over the `=` as the word to complete.
    let names = names(&place, if typed == "=" { "" } else { typed.as_str() });
    let mut out = std::io::stdout().lock();
    for name in names.iter().filter(|name| is_word(name)).take(NAMES_MAX) {
        if writeln!(out, "{name}").is_err() {
            return;
        }
    }
}

/// Adds to a shell's script what asks this program for names; scripts of other shells stay as they are.
pub(crate) fn hooked(shell: Shell, script: String) -> String {
    match shell {
        Shell::Bash => script + BASH,
        Shell::Fish => script + FISH,
        Shell::Zsh => script.replacen(ZSH_ANCHOR, &format!("{ZSH_ANCHOR}{ZSH}"), 1),
        _ => script,
    }
}

const BASH: &str = r#"
# Names and ids that exist, from `dromia __complete`; everything else from above.
_dromia_live() {
    local found name
    found=$("${COMP_WORDS[0]}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ -z $found ]]; then
        _dromia "$@"
        return
    fi
    COMPREPLY=()
    while IFS= read -r name; do
        COMPREPLY+=("$name")
    done <<< "$found"
}
complete -F _dromia_live -o nosort -o bashdefault -o default dromia 2>/dev/null ||
    complete -F _dromia_live -o bashdefault -o default dromia
"#;

const FISH: &str = r#"
# Names and ids that exist.
function __dromia_live
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    command $words[1] __complete -- $words[2..-1] "$current" 2>/dev/null
end
complete -c dromia -k -a '(__dromia_live)'
"#;

const ZSH_ANCHOR: &str = "_dromia() {\n";

const ZSH: &str = r#"    # Names and ids that exist, from `dromia __complete`; everything else from below.
    local -a found
    found=("${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n ${found[1]} ]]; then
        compadd -V names -a found
        return
    fi

"#;

/// A place of the command line, and what stands before it that matters there.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    kind: Kind,
    /// Values of options, by their ids.
    given: BTreeMap<String, String>,
}

/// Finds what goes where `typed` stands.
fn place(before: &[String], typed: &str) -> Option<Place> {
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

/// Finds the names of a kind that begin so.
fn names(place: &Place, typed: &str) -> Vec<String> {
    let given = |id: &str| place.given.get(id).map(PathBuf::from);
    let home = Home::find(given("home").as_deref());
    let mut names = match place.kind {
        Kind::Model | Kind::Provider => configured(&home, place.kind),
        Kind::Agent => {
            listed(&home, place, "agents", if typed.starts_with("agt_") { "id" } else { "handle" })
        }
        Kind::Tenant => listed(&home, place, "tenants", "handle"),
        Kind::Token => listed(&home, place, "tokens", "name"),
        Kind::Session => listed(&home, place, "sessions", "id"),
        Kind::Run => listed(&home, place, "runs", "id"),
        Kind::Tool => Toolbox::names().map(str::to_owned).into(),
    };
    names.retain(|name| name.starts_with(typed));
    names
}

/// Reads the names that stand in the configuration.
fn configured(home: &Home, kind: Kind) -> Vec<String> {
    let text = config::text(home).unwrap_or_default();
    let Ok(written) = config::parse(&home.config(), &text) else { return Vec::new() };
    if kind == Kind::Provider {
        return written.providers.into_keys().collect();
    }
    let mut aliases: Vec<_> = written.models.into_keys().collect();
    if !aliases.iter().any(|alias| alias == SCRIPTED) {
        aliases.push(SCRIPTED.to_owned());
    }
    aliases
}

/// Asks the server for the names of one page, in its order.
fn listed(home: &Home, place: &Place, what: &str, field: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Row {
        #[serde(flatten)]
        fields: serde_json::Map<String, serde_json::Value>,
    }
    let socket = place.given.get("socket").map_or_else(|| home.socket(), PathBuf::from);
    let tenant = place.given.get("tenant").map_or(TENANT_DEFAULT, String::as_str);
    let client = Client::new(socket, tenant.to_owned(), Some(DEADLINE));
    let Ok(tokio) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let path = format!("/v1/{what}?limit={ROWS}");
    let rows = tokio.block_on(client.get::<List<Row>>(&path)).map(|list| list.items).unwrap_or_default();
    tokio.shutdown_background();
    // What was taken back cannot be taken back again.
    let rows = rows.into_iter().filter(|row| row.fields.get("state").is_none_or(|state| state != "revoked"));
    rows.filter_map(|row| row.fields.get(field)?.as_str().map(str::to_owned)).collect()
}

/// Whether a name can stand on a command line as it is.
fn is_word(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| !c.is_whitespace() && !c.is_control())
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

    #[test]
    fn the_scripts_of_the_three_shells_ask_this_program() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "dromia", &mut script);
            let script = String::from_utf8(script).expect("a script is text");
            assert!(!script.contains(WORD), "{shell}");
            assert_eq!(hooked(shell, script).matches("__complete -- ").count(), 1, "{shell}");
        }
    }

    #[test]
    fn only_the_word_of_completions_is_taken() {
        let words = |line: &str| wanted(line.split(' ').map(OsString::from));
        assert_eq!(
            words("dromia __complete -- run show "),
            Some(["run", "show", ""].map(str::to_owned).into())
        );
        assert_eq!(words("dromia run show __complete"), None);
        assert_eq!(words("dromia"), None);
    }
}
