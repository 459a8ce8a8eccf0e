//! Completion of names and ids that exist: the shell hands over the words typed so far, and gets what can follow.
//!
//! What goes at a place is read off the command tree (`place`). Names of a server are asked of it over its socket
//! with a short deadline; names of models and providers are in the configuration. Whatever goes wrong gives nothing
//! and says nothing: a completion must not disturb a command line, and the shell then offers what it knows by itself.

mod place;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap_complete::Shell;
use dromia_api::{ListPage, TENANT_DEFAULT};
use dromia_cli::ApiClient;
use dromia_tools::Toolbox;
use serde::Deserialize;

use self::place::{CompletionKind, CompletionPlace, find_place};
use crate::config::{self, SCRIPTED};
use crate::home::Home;

/// The word that asks for completions; it is no command of the tree, so no help and no script names it.
const WORD: &str = "__complete";
/// How long the server may take; a person waits.
const DEADLINE: Duration = Duration::from_millis(150);
/// Among how many rows the server's names are looked for.
const ROWS: usize = 256;
/// How many names are offered.
const NAMES_MAX: usize = 100;

/// Returns the words to complete, if that is what this process was started for.
pub(crate) fn completion_words(arguments: impl IntoIterator<Item = OsString>) -> Option<Vec<String>> {
    let mut words = arguments.into_iter().skip(1);
    if words.next()? != WORD {
        return None;
    }
    Some(words.skip_while(|word| word == "--").map(|word| word.to_string_lossy().into_owned()).collect())
}

/// Prints what can replace the last word, one per line.
pub(crate) fn print_completions(words: &[String]) {
    let Some((typed, before)) = words.split_last() else { return };
    let Some(place) = find_place(before, typed) else { return };
    // Of `--agent=` bash hands over the `=` as the word to complete.
    let names = matching_names(&place, if typed == "=" { "" } else { typed.as_str() });
    let mut out = std::io::stdout().lock();
    for name in names.iter().filter(|name| is_word(name)).take(NAMES_MAX) {
        if writeln!(out, "{name}").is_err() {
            return;
        }
    }
}

/// Adds to a shell's script what asks this program for names; scripts of other shells stay as they are.
pub(crate) fn add_completion_hook(shell: Shell, script: String) -> String {
    match shell {
        Shell::Bash => script + BASH,
        Shell::Fish => script + FISH,
        Shell::Zsh => script.replacen(ZSH_ANCHOR, &format!("{ZSH_ANCHOR}{ZSH}"), 1),
        _ => script,
    }
}

const BASH: &str = include_str!("completion/hook.bash");

const FISH: &str = include_str!("completion/hook.fish");

const ZSH_ANCHOR: &str = "_dromia() {\n";

const ZSH: &str = include_str!("completion/hook.zsh");

/// Finds the names of a kind that begin so.
fn matching_names(place: &CompletionPlace, typed: &str) -> Vec<String> {
    let given = |id: &str| place.given.get(id).map(PathBuf::from);
    let home = Home::locate_home(given("home").as_deref());
    let mut names = match place.kind {
        CompletionKind::Model | CompletionKind::Provider => configured_names(&home, place.kind),
        CompletionKind::Agent => {
            listed_names(&home, place, "agents", if typed.starts_with("agt_") { "id" } else { "handle" })
        }
        CompletionKind::Tenant => listed_names(&home, place, "tenants", "handle"),
        CompletionKind::Token => listed_names(&home, place, "tokens", "name"),
        CompletionKind::Session => listed_names(&home, place, "sessions", "id"),
        CompletionKind::Run => listed_names(&home, place, "runs", "id"),
        CompletionKind::Approval => listed_names(&home, place, "approvals", "id"),
        CompletionKind::ApprovalRule => listed_names(&home, place, "approval-rules", "name"),
        CompletionKind::Template => listed_names(&home, place, "templates", "name"),
        CompletionKind::Role => listed_names(&home, place, "worker-roles", "name"),
        CompletionKind::Budget => listed_names(&home, place, "budgets", "name"),
        CompletionKind::Secret => listed_names(&home, place, "secrets", "name"),
        CompletionKind::Delivery => listed_names(&home, place, "deliveries", "id"),
        CompletionKind::Capability => listed_names(&home, place, "capabilities", "id"),
        CompletionKind::Page => super::docs::page_names().map(str::to_owned).collect(),
        CompletionKind::Tool => {
            let mut names = configured_names(&home, place.kind);
            names.extend(Toolbox::builtin_names().map(str::to_owned));
            names
        }
    };
    names.retain(|name| name.starts_with(typed));
    names
}

/// Reads the names that are in the configuration.
fn configured_names(home: &Home, kind: CompletionKind) -> Vec<String> {
    let text = config::read_config_text(home).unwrap_or_default();
    let Ok(written) = config::parse_config(&home.config_path(), &text) else { return Vec::new() };
    if kind == CompletionKind::Provider {
        return written.providers.into_keys().collect();
    }
    if kind == CompletionKind::Tool {
        return written.tools.external.into_keys().collect();
    }
    let mut aliases: Vec<_> = written.models.into_keys().collect();
    if !aliases.iter().any(|alias| alias == SCRIPTED) {
        aliases.push(SCRIPTED.to_owned());
    }
    aliases
}

/// Asks the server for the names of one page, in its order.
fn listed_names(home: &Home, place: &CompletionPlace, what: &str, field: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct CompletionRow {
        #[serde(flatten)]
        fields: serde_json::Map<String, serde_json::Value>,
    }
    let socket = place.given.get("socket").map_or_else(|| home.socket_path(), PathBuf::from);
    let tenant = place.given.get("tenant").map_or(TENANT_DEFAULT, String::as_str);
    let client = ApiClient::new(socket, tenant.to_owned(), Some(DEADLINE));
    let Ok(tokio) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let path = format!("/v1/{what}?limit={ROWS}");
    let rows = tokio
        .block_on(client.get::<ListPage<CompletionRow>>(&path))
        .map(|list| list.items)
        .unwrap_or_default();
    tokio.shutdown_background();
    // What was taken back cannot be taken back again.
    let rows = rows.into_iter().filter(|row| row.fields.get("state").is_none_or(|state| state != "revoked"));
    rows.filter_map(|row| row.fields.get(field)?.as_str().map(str::to_owned)).collect()
}

/// Whether a name is one word of a command line.
fn is_word(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| !c.is_whitespace() && !c.is_control())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::ProgramArguments;

    #[test]
    fn the_scripts_of_the_three_shells_ask_this_program() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut ProgramArguments::command(), "dromia", &mut script);
            let script = String::from_utf8(script).expect("a script is text");
            assert!(!script.contains(WORD), "{shell}");
            assert_eq!(add_completion_hook(shell, script).matches("__complete -- ").count(), 1, "{shell}");
        }
    }

    #[test]
    fn only_the_word_of_completions_is_taken() {
        let words = |line: &str| completion_words(line.split(' ').map(OsString::from));
        assert_eq!(
            words("dromia __complete -- run show "),
            Some(["run", "show", ""].map(str::to_owned).into())
        );
        assert_eq!(words("dromia run show __complete"), None);
        assert_eq!(words("dromia"), None);
    }
}
