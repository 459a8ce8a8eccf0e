//! Every document that the binary prints with `--json`, and which command it belongs to: `docs/schemas` is made here.

use clap::ArgMatches;
use dromia_api::List;
use dromia_cli::Context;
use dromia_cli::schema::Published;

use crate::change::Edited;
use crate::{
    audit, configure, doctor, migrate, model, policy, provider, sandbox, shell, status_all, terminal,
    tooltest, world,
};

/// All documents, the client's and those of the local commands.
pub(crate) fn published() -> Vec<Published> {
    let mut all = dromia_cli::published();
    all.extend([
        Published::of::<status_all::Page>("status --all"),
        Published::of::<crate::init::Made>("init"),
        Published::of::<doctor::Report>("doctor"),
        Published::of::<migrate::Plan>("migrate state"),
        Published::of::<configure::Validated>("config validate"),
        Published::of::<configure::Configuration>("config show"),
        Published::of::<configure::Origins>("config show --origin"),
        Published::of::<List<configure::Explained>>("config explain"),
        Published::of::<Edited>("provider add"),
        Published::of::<List<provider::Provider>>("provider list"),
        Published::of::<provider::Tested>("provider test"),
        Published::of::<Edited>("provider remove"),
        Published::of::<model::Listing>("model list"),
        Published::of::<Edited>("model set"),
        Published::of::<model::Trial>("model test"),
        Published::of::<List<model::Routed>>("model route show"),
        Published::of::<policy::Shown>("policy show"),
        Published::of::<policy::Tested>("policy test"),
        Published::of::<policy::Explained>("policy explain"),
        Published::of::<sandbox::Tried>("sandbox test"),
        Published::of::<List<tooltest::Tested>>("tool test"),
        Published::of::<audit::Verified>("audit verify"),
        Published::of::<shell::About>("version"),
        Published::of::<List<shell::Row>>("help commands"),
    ]);
    all
}

/// The command that a line names, by the canonical words of its nouns and verbs.
pub(crate) fn command(matches: &ArgMatches) -> String {
    let mut words = Vec::new();
    let mut at = matches;
    while let Some((word, below)) = at.subcommand() {
        words.push(word);
        at = below;
    }
    words.join(" ")
}

/// Takes the surroundings of this process for a command.
pub(crate) fn context(command: &str) -> Context {
    let mut context = Context::of_process(world::request_key());
    let found = published().into_iter().find(|one| one.command == command);
    if context.out_is_terminal {
        // The variable goes first: whoever sets it means it.
        context.columns = context.columns.or_else(|| terminal::columns(std::io::stdout()));
    }
    if context.input_is_terminal {
        context.hide = Some(Box::new(terminal::hide));
    }
    context.fields = found.map(|one| one.fields()).unwrap_or_default();
    context
}

/// The name of a document's file in `docs/schemas`.
#[cfg(test)]
fn file(command: &str) -> String {
    format!("{}.json", command.replace(" --", "-").replace(' ', "-"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_published_schemas_are_those_of_the_types() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas");
        let is_written = std::env::var_os("DROMIA_WRITE_DOCS").is_some();
        if is_written {
            // Everything in the directory is made here, so what is not made any more goes.
            drop(fs::remove_dir_all(&dir));
            fs::create_dir_all(&dir).expect("the directory is made");
        }
        let mut known = BTreeSet::new();
        for one in published() {
            let path = dir.join(file(one.command));
            let text = serde_json::to_string_pretty(&one.schema()).expect("a schema is JSON") + "\n";
            if is_written {
                fs::write(&path, &text).expect("the schema is written");
            }
            let found = fs::read_to_string(&path).unwrap_or_default();
            assert!(found == text, "{} is old; write it anew with `make docs`", path.display());
            assert!(known.insert(file(one.command)), "{} has two documents", one.command);
        }
        for entry in fs::read_dir(&dir).expect("the directory is there") {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            assert!(known.contains(&name), "no command prints {name}");
        }
    }
}
