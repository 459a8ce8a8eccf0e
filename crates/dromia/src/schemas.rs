//! Every document that the binary prints with `--json`, and which command it belongs to: `docs/schemas` is made here.

use clap::ArgMatches;
use dromia_api::ListPage;
use dromia_cli::schema::PublishedSchema;
use dromia_cli::{CommandContext, LocalTime};
use jiff::tz::TimeZone;

use crate::config_change::ConfigEditResult;
use crate::shell::{DocsPage, json_output};
use crate::{
    audit, backup, chat_terminal, configure, doctor, editor, migrate, model, policy, provider, runtime,
    sandbox, service, status_all, terminal, tooltest,
};

/// All documents, the client's and those of the local commands.
pub(crate) fn published_schemas() -> Vec<PublishedSchema> {
    let mut all = dromia_cli::published_schemas();
    all.extend([
        PublishedSchema::for_command::<status_all::StatusPage>("status --all"),
        PublishedSchema::for_command::<crate::init::InitResult>("init"),
        PublishedSchema::for_command::<doctor::DoctorReport>("doctor"),
        PublishedSchema::for_command::<migrate::StateMigrationPlan>("migrate state"),
        PublishedSchema::for_command::<backup::BackupResult>("backup create"),
        PublishedSchema::for_command::<backup::BackupReport>("backup verify"),
        PublishedSchema::for_command::<backup::RestoreResult>("backup restore"),
        PublishedSchema::for_command::<service::ServiceChange>("service install"),
        PublishedSchema::for_command::<service::ServiceChange>("service uninstall"),
        PublishedSchema::for_command::<service::ServiceChange>("service start"),
        PublishedSchema::for_command::<service::ServiceChange>("service stop"),
        PublishedSchema::for_command::<service::ServiceChange>("service restart"),
        PublishedSchema::for_command::<service::UnitState>("service status"),
        PublishedSchema::for_command::<configure::ConfigValidation>("config validate"),
        PublishedSchema::for_command::<configure::ConfigDocument>("config show"),
        PublishedSchema::for_command::<configure::ConfigValueList>("config show --origin"),
        PublishedSchema::for_command::<ListPage<configure::ConfigKeyHelp>>("config explain"),
        PublishedSchema::for_command::<ListPage<configure::history::ConfigRevisionRow>>("config history"),
        PublishedSchema::for_command::<ListPage<configure::history::ConfigDifference>>("config diff"),
        PublishedSchema::for_command::<configure::history::ConfigRevert>("config revert"),
        PublishedSchema::for_command::<ConfigEditResult>("provider add"),
        PublishedSchema::for_command::<ListPage<provider::ProviderRow>>("provider list"),
        PublishedSchema::for_command::<provider::ProviderTest>("provider test"),
        PublishedSchema::for_command::<ConfigEditResult>("provider remove"),
        PublishedSchema::for_command::<model::AliasListing>("model list"),
        PublishedSchema::for_command::<ConfigEditResult>("model set"),
        PublishedSchema::for_command::<model::ModelTrial>("model test"),
        PublishedSchema::for_command::<ListPage<model::RouteRow>>("model route show"),
        PublishedSchema::for_command::<policy::PolicyDocument>("policy show"),
        PublishedSchema::for_command::<policy::PolicyTestReport>("policy test"),
        PublishedSchema::for_command::<policy::DecisionExplanation>("policy explain"),
        PublishedSchema::for_command::<sandbox::EscapeTestReport>("sandbox test"),
        PublishedSchema::for_command::<ListPage<tooltest::ToolTestRow>>("tool test"),
        PublishedSchema::for_command::<audit::AuditVerification>("audit verify"),
        PublishedSchema::for_command::<ListPage<DocsPage>>("docs"),
        PublishedSchema::for_command::<json_output::VersionInfo>("version"),
        PublishedSchema::for_command::<ListPage<json_output::CommandRow>>("help commands"),
    ]);
    all
}

/// The command that a line names, by the canonical words of its nouns and verbs.
pub(crate) fn canonical_command(matches: &ArgMatches) -> String {
    let mut words = Vec::new();
    let mut at = matches;
    while let Some((word, below)) = at.subcommand() {
        words.push(word);
        at = below;
    }
    words.join(" ")
}

/// Takes the surroundings of this process for a command.
pub(crate) fn context_for_command(command: &str) -> CommandContext {
    let mut context = CommandContext::of_process(runtime::request_key());
    let found = published_schemas().into_iter().find(|one| one.command == command);
    context.local_time = Some(LocalTime { now: runtime::wall_clock_now(), zone: TimeZone::system() });
    if context.out_is_terminal {
        // The variable goes first: it is set on purpose.
        context.columns = context.columns.or_else(|| terminal::terminal_columns(std::io::stdout()));
    }
    if context.input_is_terminal {
        context.hide = Some(Box::new(terminal::hide_typing));
        // A terminal that cannot move its cursor gets plain lines.
        let is_plain = std::env::var_os("TERM").is_none_or(|name| name == "dumb");
        if context.out_is_terminal && !is_plain {
            let is_ascii_only = context.terminal.is_ascii_only;
            let open = move |history: &std::path::Path| chat_terminal::open_editor(history, is_ascii_only);
            context.open_editor = Some(Box::new(open));
        }
        let name = runtime::request_key();
        context.editor = Some(Box::new(move |text| editor::edit_text(&name, text)));
        context.terminal.keys = Some(Box::new(terminal::open_keys));
    }
    if context.err_is_terminal {
        context.terminal.err_columns = Some(Box::new(|| terminal::terminal_columns(std::io::stderr())));
    }
    context.terminal.input = terminal::input_kind();
    context.remote.roots = Some(std::sync::Arc::new(read_system_roots));
    context.fields = found.map(|one| one.field_names()).unwrap_or_default();
    context
}

/// Reads the certificates of the authorities that this system trusts. One that cannot be read leaves the others.
fn read_system_roots() -> std::io::Result<Vec<Vec<u8>>> {
    let mut found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() && !found.errors.is_empty() {
        return Err(std::io::Error::other(found.errors.swap_remove(0)));
    }
    Ok(found.certs.into_iter().map(|certificate| certificate.to_vec()).collect())
}

/// The name of a document's file in `docs/schemas`.
#[cfg(test)]
fn schema_file_name(command: &str) -> String {
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
        for one in published_schemas() {
            let path = dir.join(schema_file_name(one.command));
            let text = serde_json::to_string_pretty(&one.json_schema()).expect("a schema is JSON") + "\n";
            if is_written {
                fs::write(&path, &text).expect("the schema is written");
            }
            let found = fs::read_to_string(&path).unwrap_or_default();
            assert!(found == text, "{} is old; write it anew with `make docs`", path.display());
            assert!(known.insert(schema_file_name(one.command)), "{} has two documents", one.command);
        }
        for entry in fs::read_dir(&dir).expect("the directory is there") {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            assert!(known.contains(&name), "no command prints {name}");
        }
    }
}
